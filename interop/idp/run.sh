#!/bin/sh
# Starts the provider; see provider.mjs for its variables. MODULES: where packages are installed (default: a cache).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=${MODULES:-${XDG_CACHE_HOME:-$HOME/.cache}/ript-interop-idp}
mkdir -p "$home"
cp "$here/provider.mjs" "$here/browser.mjs" "$here/package.json" "$here/package-lock.json" "$home/"
if ! cmp -s "$home/package-lock.json" "$home/node_modules/.installed"; then
    npm ci --prefix "$home" --no-audit --no-fund >&2
    cp "$home/package-lock.json" "$home/node_modules/.installed"
fi
exec node "$home/provider.mjs"
