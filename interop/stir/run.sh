#!/bin/sh
# An enrolled caller's PASSporT, as the callee reads it, before Debian's secsipidx: it has to verify against the chain, and a
# changed one must not. Starts a development server; RIPT: the binary (default: built here).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
port=${PORT:-14467}
if [ -z "${RIPT:-}" ]; then
    cd "$here/../.."
    RIPT=$(cargo build --bin ript --message-format=json | sed -n 's/.*"executable":"\([^"]*\/ript\)".*/\1/p' | tail -n 1)
fi
need() { command -v "$1" >/dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "$1"; } >&2; }
need secsipidx
need curl
need python3
data=$(mktemp -d)
pids=
: >"$data/log"
trap 'kill $pids 2>/dev/null || :; rm -rf "$data"' EXIT
trap 'exit 130' INT TERM
"$RIPT" serve --dev --data "$data" --listen "127.0.0.1:$port" >"$data/log" 2>&1 &
pids=$!
until grep -q listening "$data/log"; do
    kill -0 "$pids" 2>/dev/null || { cat "$data/log" >&2; exit 2; }
    sleep 0.1
done
export RIPT_DEV="$data" RIPT_SERVER="https://127.0.0.1:$port"
alice=$("$RIPT" token --data "$data" --user alice --number +14085550001)
bob=$("$RIPT" token --data "$data" --user bob --number +14085550002)
RIPT_TOKEN=$bob "$RIPT" listen --json >"$data/bob" 2>&1 &
pids="$pids $!"
RIPT_TOKEN=$alice "$RIPT" call --json --duration 20 +14085550002 >"$data/alice" 2>&1 &
pids="$pids $!"
get() { curl -sS --cacert "$data/ca.pem" -H "Authorization: Bearer $bob" "$1"; }
member() { python3 -c 'import json, sys
found = json.load(sys.stdin)
for name in sys.argv[1:]: found = (found[int(name)] if name.isdigit() else found[name])
print(found)' "$@" 2>/dev/null; }
n=0
until call=$(get "$RIPT_SERVER/.well-known/ript/v1/providertgs/dev/calls" | member calls 0 uri); do
    n=$((n + 1)); [ $n -lt 100 ] || { cat "$data/alice" "$data/bob" >&2; exit 1; }
    sleep 0.1
done
get "$call" | member passport | tr -d '\n' >"$data/identity"
# The leaf of the x5c, as PEM.
python3 - "$data" <<'P'
import base64, json, sys
data = sys.argv[1]
token = open(data + "/identity").read()
head, body, tail = token.split(".")
header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
leaf = header["x5c"][0]
lines = [leaf[at:at + 64] for at in range(0, len(leaf), 64)]
open(data + "/leaf.pem", "w").write("-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % "\n".join(lines))
claims = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).replace(b"14085550001", b"14085550009")
forged = ".".join([head, base64.urlsafe_b64encode(claims).decode().rstrip("="), tail])
params = ";info=<https://127.0.0.1/leaf.pem>;alg=ES256"
open(data + "/identity", "w").write(token + params)
open(data + "/forged", "w").write(forged + params)
P
check() { secsipidx -check -fidentity "$1" -expire 60 -fpubkey "$data/leaf.pem" -cert-verify 4 -ca-file "$2" 2>&1; }
check "$data/identity" "$data/ca.pem" || { echo "FAIL: secsipidx refuses the PASSporT"; exit 1; }
echo "ok: secsipidx verifies the caller's PASSporT against the server's CA"
if check "$data/forged" "$data/ca.pem"; then echo "FAIL: secsipidx takes a forged one"; exit 1; fi
echo "ok: it refuses one whose orig was changed"
"$RIPT" certs --out "$data/other" >/dev/null 2>&1
if check "$data/identity" "$data/other/ca.pem"; then echo "FAIL: secsipidx takes another root"; exit 1; fi
echo "ok: it refuses the chain under another root"
