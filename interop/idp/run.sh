#!/bin/sh
# Starts the provider; see provider.mjs for its variables. MODULES: where packages are installed (default: a cache).
# A machine without Node.js 20 gets it: npm from Debian, and by that a newer node into the same folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=${MODULES:-${XDG_CACHE_HOME:-$HOME/.cache}/ript-interop-idp}
mkdir -p "$home"
PATH="$home/node/node_modules/node/bin:$PATH"
fits() { [ "$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)" -ge 20 ]; }
if ! fits; then
    if ! command -v npm >/dev/null; then
        apt-get update >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nodejs npm >&2
    fi
    fits || npm install --prefix "$home/node" --no-audit --no-fund node@22 >&2
fi
cp "$here/provider.mjs" "$here/browser.mjs" "$here/package.json" "$here/package-lock.json" "$home/"
if ! cmp -s "$home/package-lock.json" "$home/node_modules/.installed"; then
    npm ci --prefix "$home" --no-audit --no-fund >&2
    cp "$home/package-lock.json" "$home/node_modules/.installed"
fi
exec node "$home/provider.mjs"
