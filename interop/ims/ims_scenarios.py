"""RIPT clients on one side, telephones of the core on the other: baresip where it is about sound, sipp where about outcomes."""
from baresip import CODECS, Phone
from core_scenarios import ALICE, ROUTES
from lab import PCSCF, Failed, hold, hss, is_registered, talk, until
from peer import Peer, register
from ript import call, listen

RIPT, AKA = "+15550009", "+15550007"
ALICES, BOBS, CAROLS, NOBODYS = "+15550001", "+15550002", "+15550003", "+15559999"
# How the call ends for whoever called, by what the callee's side said.
REFUSALS = {
    486: (17, "declined", "busy"),
    603: (21, "declined", "rejected"),
    480: (20, "failed", "unreachable"),
    404: (1, "failed", "not-found"),
}

# What TS 24.229 wants in a call that leaves, and what the core makes of the identity that is preferred.
MARKS = ["P-Asserted-Identity: (ript|[+]15550009)@ims.test|tel:[+]15550009", "P-Access-Network-Info: .", "P-Early-Media: supported",
         "Accept-Contact: icsi-ref=.*mmtel", "Contact: icsi-ref=.*mmtel"]


def attached(number, user, *arguments):
    """Listens, until the core knows."""
    until(f"{user} of before is deregistered", lambda: not is_registered(user))
    client = listen(number, *arguments)
    until(f"{user} is registered", lambda: is_registered(user))
    return client


def speaks(codec):
    """A call each way at the same time; each side hears the other's voice, in one codec."""
    def scenario():
        bob = Phone("bob", says="callee", codec=codec)
        alice = Phone("alice", says="caller", codec=codec)
        called = attached(RIPT, "ript")
        calling = call(BOBS, RIPT)
        alice.dial(RIPT)
        called.says("client-incoming")
        for one in (calling, called):
            one.says("answered")
        for phone in (bob, alice):
            phone.tells("CALL_ESTABLISHED")
            phone.process.says(f"Set audio encoder: {codec}")
        talk()
        calling.interrupt()
        bob.tells("CALL_CLOSED")
        calling.ends()
        alice.do("hangup")
        called.ends()
        heard = hold(("caller", bob.heard()), ("callee", calling.heard), ("callee", alice.heard()), ("caller", called.heard))
        return f"{codec}: RIPT to baresip and baresip to RIPT, speech both ways in each ({heard})"
    scenario.__name__ = f"codec_{codec.replace('-', '_')}"
    return scenario


def keys_and_hold():
    bob = Phone("bob")
    calling = call(BOBS, RIPT, "--dtmf", "15#")
    bob.tells("CALL_ESTABLISHED")
    for key in "15#":
        bob.tells("CALL_DTMF_START", key)
    for key in "29*":
        bob.do("sndcode", key)
        calling.says("client-dtmf", digit=key)
    bob.do("hold")
    calling.says("hold")
    bob.do("resume")
    calling.says("resume")
    bob.do("hangup")
    calling.ends()
    return "keys 15# to baresip and 29* from it; baresip holds, resumes and hangs up"


def keys_and_hold_of_a_caller():
    alice = Phone("alice", says="caller")
    called = attached(RIPT, "ript")
    alice.dial(RIPT)
    who = called.says("client-incoming")["from"]
    if who != "alice@ims.test":
        raise Failed(f"alice@ims.test calls, as the core says, not {who}")
    called.says("answered")
    alice.tells("CALL_ESTABLISHED")
    alice.do("sndcode", "7")
    called.says("client-dtmf", digit="7")
    alice.do("hold")
    called.says("hold")
    alice.do("resume")
    called.says("resume")
    called.interrupt()
    alice.tells("CALL_CLOSED")
    called.ends()
    return "baresip calls, and is whom the core asserts; it presses 7, holds, resumes; RIPT hangs up"


def called_strictly():
    """The routes of PRACK, and of all that follows, lead through four servers."""
    register("alice", ALICE)
    alice = Peer("ims-called", at=ALICE, us="alice", more="\n    ".join(MARKS))
    calling = call(ALICES, RIPT)
    for event in ("progress", "answered", "hold", "resume"):
        calling.says(event)
    alice.finish()
    calling.ends()
    register("alice", ALICE, expires=0)
    return "RIPT to sipp through the core: what IMS wants in the INVITE, PRACK, UPDATE, hold, resume, BYE"


def calls_strictly():
    register("alice", ALICE)
    called = attached(RIPT, "ript", "--ring", "1")
    alice = Peer("caller-full", at=ALICE, to=PCSCF, us="alice", them=RIPT, domain="ims.test", routes=ROUTES, ringing=180)
    for event in ("answered", "hold", "resume"):
        called.says(event)
    alice.finish()
    called.ends()
    register("alice", ALICE, expires=0)
    return "sipp to RIPT through the core: 422, reliable 180, PRACK, UPDATE, hold, resume, BYE"


def refused():
    register("alice", ALICE)
    said = []
    for code in (486, 603, 480):
        cause, outcome, reason = REFUSALS[code]
        alice = Peer("callee-refused", at=ALICE, us="alice", code=code, cause=cause)
        calling = call(ALICES, RIPT)
        calling.says("alerting")
        alice.finish()
        said.append(f"{code}: {outcome}, {calling.ends(outcome, reason)}")
    register("alice", ALICE, expires=0)
    return f"alice refuses with {'; '.join(said)}"


def noanswer():
    register("alice", ALICE)
    alice = Peer("callee-cancelled", at=ALICE, us="alice")
    reason = call(ALICES, RIPT).ends("noanswer")
    alice.finish()
    register("alice", ALICE, expires=0)
    return f"alice rings until RIPT's time is over ({reason}), and gets CANCEL"


def absent():
    said = [f"{what}: {call(whom, RIPT).ends('failed', *reasons)}" for what, whom, reasons in (
        ("not registered", CAROLS, ["unreachable"]),
        ("no such number", NOBODYS, ["not-found"]),
    )]
    return "; ".join(said)


def refuses():
    """What baresip is told of a RIPT client that declines, that is in a call, that is not there."""
    alice = Phone("alice", says="caller")
    alice.dial(RIPT)
    alice.tells("CALL_CLOSED", "480")
    first = attached(RIPT, "ript", "--ring", "30")
    alice.dial(RIPT)
    alice.tells("CALL_RINGING")
    first.interrupt()
    alice.tells("CALL_CLOSED", "603")
    first.leaves()
    second = attached(RIPT, "ript")
    bob = Phone("bob", says="caller", answers=False)
    bob.dial(RIPT)
    second.says("answered")
    alice.dial(RIPT)
    alice.tells("CALL_CLOSED", "486")
    bob.do("hangup")
    second.ends()
    return "480 where nobody listens, 603 where RIPT declines, 486 where it is in a call"


def registers():
    """A handler's beginning and end are its registration's."""
    first = attached(RIPT, "ript")
    first.interrupt()
    first.leaves()
    until("the number is deregistered", lambda: not is_registered("ript"))
    return "a handler's number is registered by digest while it is there, and no longer"


def aka():
    """As a SIM: twice, and the network's sequence number falls back in between."""
    first = attached(AKA, "ript-aka")
    first.interrupt()
    first.leaves()
    until("the number is deregistered", lambda: not is_registered("ript-aka"))
    hss("sqn ript-aka@ims.test 0")
    bob = Phone("bob")
    second = attached(AKA, "ript-aka")
    bob.dial(AKA)
    second.says("answered")
    bob.do("hangup")
    second.ends()
    return "registered by AKAv1-MD5, again after re-synchronisation, and called"


def deregistered():
    """The network ends the registration: calls no longer come, and RIPT does not quietly register again."""
    client = attached(RIPT, "ript")
    hss("deregister ript@ims.test 0")
    alice = Phone("alice", says="caller")
    alice.dial(RIPT)
    alice.tells("CALL_CLOSED", "480")
    if is_registered("ript"):
        raise Failed("registered again")
    client.interrupt()
    client.leaves()
    return "the network deregisters the number (RTR, reg event): calls to it get 480, nobody registers it again"


SCENARIOS = [registers, *map(speaks, CODECS), keys_and_hold, keys_and_hold_of_a_caller, called_strictly, calls_strictly, refused,
             noanswer, absent, refuses, aka, deregistered]
