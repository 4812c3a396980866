#!/bin/sh
# Starts a development server and runs every scenario against it; 0 only if all pass.
# RIPT: the binary (default: built here). VENV: the virtual environment. PORT: where the server listens.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}
venv=${VENV:-$cache/ript-interop-venv}
port=${PORT:-14466}

if [ -z "${RIPT:-}" ]; then
    cd "$here/../.."
    RIPT=$(cargo build --bin ript --message-format=json | sed -n 's/.*"executable":"\([^"]*\/ript\)".*/\1/p' | tail -n 1)
fi
[ -x "$RIPT" ] || { echo "no ript binary: '$RIPT'" >&2; exit 2; }
if ! "$venv/bin/python" -c 'import aioquic, jwt, cryptography' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" -q install -r "$here/requirements.txt"
fi

data=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || :; fi; rm -rf "$data"' EXIT
trap 'exit 130' INT TERM
"$RIPT" serve --dev --data "$data" --listen "127.0.0.1:$port" >"$data/log" 2>&1 &
server=$!
n=0
until [ -s "$data/passport-key.pem" ] && grep -q listening "$data/log"; do
    n=$((n + 1))
    if [ $n -gt 100 ] || ! kill -0 "$server" 2>/dev/null; then
        cat "$data/log" >&2
        exit 2
    fi
    sleep 0.1
done
"$venv/bin/python" "$here/check.py" --url "https://localhost:$port" --ca "$data/ca.pem" \
    --passport-key "$data/passport-key.pem" --token-cmd "$RIPT token --data $data" "$@"
