#!/bin/sh
# A trunk from nothing: an identity provider, a provider's server and an enterprise's server start; the enterprise logs in
# once, at the provider's domain; then a call from each side to the other is answered, with speech both ways. Debian's
# secsipidx verifies every caller's PASSporT of the run. RIPT: the binary (default: built here).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${RIPT:-}" ]; then
    cd "$here/../.."
    RIPT=$(cargo build --bin ript --message-format=json | sed -n 's/.*"executable":"\([^"]*\/ript\)".*/\1/p' | tail -n 1)
fi
need() { command -v "$1" >/dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "$1"; } >&2; }
need secsipidx
need curl
need python3
P=${PORT:-14480} E=$((${PORT:-14480} + 1))
work=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || :; wait 2>/dev/null || :; [ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
fail() { echo "FAIL: $*" >&2; tail -n 20 "$work"/*.log >&2; exit 1; }
now() { python3 -c 'import time; print("%.2f" % time.time())'; }

# What each party has before they know of each other: names, certificates, the public list of STIR authorities, and an
# identity provider. None of this is trunk configuration.
"$RIPT" certs --out "$work/ca" >/dev/null
ca="$work/ca/ca.pem"
cp "$work/ca/server.pem" "$work/cert.pem"
cp "$work/ca/server-key.pem" "$work/key.pem"
: >"$work/idp.log"
CERT="$work/cert.pem" KEY="$work/key.pem" MODULES="${MODULES:-$here/../../target/tmp/idp}" \
    "$here/../idp/run.sh" >"$work/idp.log" 2>"$work/idp-errors.log" &
pids="$pids $!"
n=0
until grep -q issuer "$work/idp.log"; do
    n=$((n + 1)); [ $n -lt 1200 ] || fail "the identity provider did not start"
    sleep 0.1
done
issuer=$(sed -n 's/.*"issuer":"\([^"]*\)".*/\1/p' "$work/idp.log")
server() { # name port extra
    mkdir -p "$work/$1"
    cat >"$work/$1/ript.toml" <<T
listen = ["127.0.0.1:$2"]
data = "data"
[tls]
certificate = "$work/cert.pem"
key = "$work/key.pem"
[[issuer]]
issuer = "$issuer"
audience = "ript"
login-client-id = "ript-cli"
[fetch]
allow = ["127.0.0.0/8", "::1/128"]
ca = "$ca"
[passport]
anchors = ["$ca"]
[[tg]]
id = "main"
name = "Main"
description = "$1"
destinations = "*"
inbound = "*"
$3
T
    "$RIPT" serve --config "$work/$1/ript.toml" >"$work/$1.log" 2>&1 &
    pids="$pids $!"
    n=0
    until grep -q listening "$work/$1.log"; do
        n=$((n + 1)); [ $n -lt 100 ] || fail "$1 did not start"
        sleep 0.1
    done
}
server provider "$P" "[certs]
certificate = \"$ca\"
key = \"$work/ca/ca-key.pem\""
server enterprise "$E" ""

# What a person does in a browser who was shown a code.
confirm() { # log account
    n=0
    until code=$(sed -n 's/.*type the code \([A-Z0-9-]*\).*/\1/p' "$1" 2>/dev/null) && [ -n "$code" ]; do
        n=$((n + 1)); [ $n -lt 200 ] || fail "no code in $1"
        sleep 0.05
    done
    curl -sS --cacert "$ca" -G "$issuer/test/device" --data-urlencode "user_code=$code" \
        --data-urlencode "account=$2" >/dev/null
}
login() { # domain account
    "$RIPT" login --device --ca "$ca" --tokens "$work/logins-$2" "$1" >"$work/login-$2.log" 2>&1 &
    one=$!
    confirm "$work/login-$2.log" "$2"
    wait $one || fail "no login of $2"
}
outside=+442071838750 inside=+14085550002
login "localhost:$P" $outside
login "localhost:$E" $inside

# The one thing that the enterprise's operator types: the provider's domain.
began=$(now)
typed="localhost:$P"
# shellcheck disable=SC2086
"$RIPT" trunk join --device --config "$work/enterprise/ript.toml" $typed >"$work/join.log" 2>&1 &
join=$!
confirm "$work/join.log" '+1408555*'
wait $join || fail "the enterprise did not join"
cat "$work/join.log"

call() { # caller caller-port callee callee-port
    "$RIPT" listen --once --json --server "https://localhost:$4" --tokens "$work/logins-$3" --ca "$ca" \
        --record "$work/at-$3.wav" --expect caller >"$work/listen-$3.log" 2>&1 &
    listener=$!
    n=0
    until grep -q client-listening "$work/listen-$3.log"; do
        n=$((n + 1)); [ $n -lt 100 ] || fail "$3 does not listen"
        sleep 0.05
    done
    "$RIPT" call --json --server "https://localhost:$2" --tokens "$work/logins-$1" --ca "$ca" --duration 5 \
        --record "$work/at-$1.wav" --expect callee "$3" >"$work/call-$1.log" 2>&1 &
    caller=$!
    n=0
    until grep -q '"event":"answered"' "$work/call-$1.log"; do
        n=$((n + 1)); [ $n -lt 400 ] || fail "$3 was not answered"
        sleep 0.05
    done
    answered=$(now)
    uri=$(sed -n 's/.*"call":"\([^"]*\)".*"event":"client-incoming".*/\1/p' "$work/listen-$3.log" | head -n 1)
    token=$(python3 -c 'import glob, json, sys
print(json.load(open(glob.glob(sys.argv[1] + "/*.json")[0]))["access_token"])' "$work/logins-$3")
    curl -sS --cacert "$ca" -H "Authorization: Bearer $token" "$uri" >"$work/call-of-$1.json"
    wait $caller || fail "$1 did not hear $3, or the call failed"
    wait $listener || fail "$3 did not hear $1, or the call failed"
    echo "ok: $1 called $3 on the other server, and each heard the other's speech:" \
        "$(sed -n 's/.*"correlation":\([0-9.]*\).*/\1/p' "$work/call-$1.log" "$work/listen-$3.log" | tr '\n' ' ')"
}
call $inside "$E" $outside "$P"
first=$answered
call $outside "$P" $inside "$E"

for of in $inside $outside; do
    python3 - "$work" "$of" <<'S'
import base64, json, sys
work, of = sys.argv[1:]
call = json.load(open(f"{work}/call-of-{of}.json"))
token = call["passport"]
assert call["from"] == of and call["verification"]["status"] == "verified", call
head, body, tail = token.split(".")
header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
leaf = header["x5c"][0]
lines = [leaf[at:at + 64] for at in range(0, len(leaf), 64)]
open(f"{work}/leaf-{of}.pem", "w").write("-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % "\n".join(lines))
claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
params = ";info=<https://127.0.0.1/leaf.pem>;alg=ES256"
def without_padding(data): return base64.urlsafe_b64encode(data).decode().rstrip("=")
def changed(**new): return without_padding(json.dumps({**claims, **new}, separators=(",", ":"), sort_keys=True).encode())
broken = {
    "good": token,
    "orig": ".".join([head, changed(orig={"tn": "14085550009"}), tail]),
    "dest": ".".join([head, changed(dest={"tn": ["14085550009"]}), tail]),
    "signature": ".".join([head, body, tail[:-8] + ("A" * 8 if tail[-8:] != "A" * 8 else "B" * 8)]),
}
for name, text in broken.items():
    open(f"{work}/{name}-{of}", "w").write(text + params)
S
    check() { secsipidx -check -fidentity "$work/$1-$of" -expire 300 -fpubkey "$work/leaf-$of.pem" -cert-verify 4 -ca-file "$ca" >>"$work/secsipidx.log" 2>&1; }
    check good || fail "secsipidx refuses the PASSporT of $of"
    for broken in orig dest signature; do
        if check $broken; then fail "secsipidx takes a PASSporT whose $broken was changed"; fi
    done
    echo "ok: secsipidx verifies the PASSporT of $of, and refuses it with another orig, dest or signature"
done
"$RIPT" trunk list --config "$work/enterprise/ript.toml"
"$RIPT" trunk leave --config "$work/enterprise/ript.toml" "$typed"
python3 -c 'import sys; began, first, typed = sys.argv[1:]
took = float(first) - float(began)
print(f"{took:.1f} s from the login to the first answered call; configuration fields typed, besides the domain {typed}: 0")
sys.exit(took >= 60)' "$began" "$first" "$typed"
