#!/bin/sh
# Real Chromium, with the page of `web/`, calls and is called: by RIPT clients and by another Chromium. Tokens come from
# npm oidc-provider (../idp). Prints a line for each scenario; 0 only if all hold.
#
#     interop/chromium/run.sh [SCENARIO …]       # some: the first words of their lines
#
# RIPT: the binary (default: built here). MODULES: where packages are installed (default: a cache). KEEP: leave the recordings.
# CHECK: other scenarios than check.mjs. MORE: a file with more of the server's configuration. PORT: the server's; and one more.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${RIPT:-}" ]; then
    cd "$here/../.."
    RIPT=$(cargo build --bin ript --message-format=json | sed -n 's/.*"executable":"\([^"]*\/ript\)".*/\1/p' | tail -n 1)
fi
if ! command -v chromium >/dev/null; then
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >&2
fi
home=${MODULES:-${XDG_CACHE_HOME:-$HOME/.cache}/ript-interop-chromium}
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
# Packages are found beside the script that asks for them.
cp "$here"/*.mjs ${CHECK:+"$CHECK"} "$here/package.json" "$here/package-lock.json" "$home/"
if ! cmp -s "$home/package-lock.json" "$home/node_modules/.installed"; then
    npm ci --prefix "$home" --no-audit --no-fund >&2
    cp "$home/package-lock.json" "$home/node_modules/.installed"
fi

# Chromium opens no file by a path with `..` in it.
speech=$(cd "$here/../../src/client/audio/speech" && pwd)
P=${PORT:-14490}
work=$(mktemp -d)
pids=
tidy() {
    # shellcheck disable=SC2086
    kill $pids 2>/dev/null || :
    wait 2>/dev/null || :
    if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap tidy EXIT
trap 'exit 130' INT TERM
fail() { echo "FAIL: $*" >&2; tail -n 20 "$work"/*.log >&2; exit 1; }
wait_for() { # pattern log what
    n=0
    until grep -q "$1" "$2"; do
        n=$((n + 1)); [ $n -lt 1200 ] || fail "$3 did not start"
        sleep 0.1
    done
}
"$RIPT" certs --out "$work/data" >/dev/null
: >"$work/idp.log"
PORT=0 CERT="$work/data/server.pem" KEY="$work/data/server-key.pem" ACCESS_TTL=3600 MODULES="${IDP_MODULES:-}" \
    "$here/../idp/run.sh" >"$work/idp.log" 2>"$work/idp-errors.log" &
pids="$pids $!"
wait_for issuer "$work/idp.log" "the identity provider"
issuer=$(sed -n 's/.*"issuer":"\([^"]*\)".*/\1/p' "$work/idp.log")
cat >"$work/ript.toml" <<T
listen = ["127.0.0.1:$P"]
data = "data"
[camara.webrtc]
listen = "127.0.0.1:$((P + 1))"
[[issuer]]
issuer = "$issuer"
audience = "ript"
[fetch]
allow = ["127.0.0.0/8", "::1/128"]
ca = "$work/data/ca.pem"
T
[ -z "${MORE:-}" ] || cat "$MORE" >>"$work/ript.toml"
: >"$work/server.log"
"$RIPT" serve --dev --config "$work/ript.toml" >"$work/links" 2>"$work/server.log" &
server=$!
pids="$pids $server"
wait_for 'listening' "$work/server.log" "the server"

RIPT="$RIPT" WORK="$work" SERVER_PID="$server" ISSUER="$issuer" SERVER="https://127.0.0.1:$P" NODE_EXTRA_CA_CERTS="$work/data/ca.pem" \
    SPEECH="$speech" node "$home/$(basename "${CHECK:-check.mjs}")" "$@" || { tail -n 20 "$work/server.log" >&2; exit 1; }
