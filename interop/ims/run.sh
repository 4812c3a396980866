#!/bin/sh
# Telephones and RIPT: a whole IMS core on loopback (Kamailio as P-, I- and S-CSCF, an HSS), baresip and sipp as telephones and as
# a strict trunk, and `ript` as the gateway. Prints a line for each scenario; 0 only if all hold. Debian 12, root.
#
#     interop/ims/run.sh                    # all
#     interop/ims/run.sh core               # only the core, checked with sipp and baresip; also: ims, trunk, page
#     interop/ims/run.sh callee-fork aka    # some: the first words of their names
#
# RIPT: the binary (default: built here, with `amr-wb`). COMPARE: one that compares recordings (default: that of
# target/release if there is one, for it is ten times as quick; else RIPT).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
missing=
for package in kamailio kamailio-ims-modules kamailio-presence-modules sip-tester baresip-core python3 python3-cryptography \
    iproute2 util-linux; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    # What is installed must not start a Kamailio of its own (invoke-rc.d, policy-rc.d).
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    else
        policy=
    fi
    # shellcheck disable=SC2086
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >&2
    [ -z "$policy" ] || rm -f "$policy"
fi
if [ -z "${RIPT:-}" ]; then
    RIPT=$(cd "$here/../.." && cargo build --bin ript --features amr-wb --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\/ript\)".*/\1/p' | tail -n 1)
fi
quick=$here/../../target/release/ript
if [ -z "${COMPARE:-}" ] && [ -x "$quick" ]; then COMPARE=$quick; fi
export RIPT COMPARE="${COMPARE:-$RIPT}"
/usr/bin/python3 -B "$here/check.py" "$@"
