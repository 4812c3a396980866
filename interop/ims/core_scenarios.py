"""The core by itself: what the others stand on."""
import subprocess

from baresip import Phone
from lab import HERE, PCSCF, PYTHON, Failed, hold, is_registered, talk, until
from peer import Peer, play, register

ALICE, BOB = "127.0.0.101", "127.0.0.102"
# What a user sends by: the P-CSCF, then the Service-Route.
ROUTES = "Route: <sip:127.0.0.20:5060;lr>, <sip:orig@127.0.0.40:6060;lr>"


def core_aka():
    core = HERE / "core"
    done = subprocess.run([PYTHON, "-B", core / "ue.py", core / "users.json", "carol", "127.0.0.103:5070"],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(done.stdout + done.stderr)
    return f"carol {done.stdout.strip()}"


def core_call():
    register("alice", ALICE)
    register("bob", BOB)
    bob = Peer("ims-callee", at=BOB, us="bob")
    play("ims-caller", at=ALICE, to=PCSCF, us="alice", them="+15550002", domain="ims.test", routes=ROUTES)
    bob.finish()
    register("alice", ALICE, expires=0)
    register("bob", BOB, expires=0)
    until("both are deregistered", lambda: not is_registered("alice") and not is_registered("bob"))
    return "alice and bob registered by digest (sipp); PRACK, UPDATE, hold and BYE through all servers; both deregistered"


def core_refused():
    register("alice", ALICE)
    for whom, code in (("+15550002", 480), ("+15559999", 604)):
        play("caller-refused", at=ALICE, to=PCSCF, us="alice", them=whom, domain="ims.test", routes=ROUTES, code=code)
    register("alice", ALICE, expires=0)
    play("caller-refused", at="127.0.0.104", to=PCSCF, us="mallory", them="+15550002", domain="ims.test", routes=ROUTES, code=403)
    return "480 for who is not registered, 604 for who does not exist, 403 for a caller that is not registered"


def core_speech():
    bob, alice = Phone("bob", says="callee"), Phone("alice", says="caller", codec="AMR-WB")
    alice.dial("+15550002")
    bob.tells("CALL_ESTABLISHED")
    alice.tells("CALL_ESTABLISHED")
    talk()
    alice.do("hangup")
    bob.tells("CALL_CLOSED")
    heard = hold(("caller", bob.heard()), ("callee", alice.heard()))
    return f"baresip to baresip in AMR-WB, speech both ways ({heard})"


SCENARIOS = [core_aka, core_call, core_refused, core_speech]
