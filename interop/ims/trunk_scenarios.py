"""sipp as a strict trunk, with no core in between: it calls, and is called."""
import socket

from ims_scenarios import REFUSALS
from lab import Failed, hold
from peer import CARRIER, LONG_TRUNK, PATIENT, PINGED, SECOND, Peer, play
from ript import call, listen

OURS, PATIENTS = "+14085550001", "+14095550001"
THEIRS, LONG = "+442071838750", "+442171838750"
# What a caller of the trunk's is told.
ABSENT, DECLINED, BUSY = 480, 603, 486

# The call that takes longest goes on under the others.
longest = []


def refreshed_begins():
    peer = Peer("callee-refreshed", at=PATIENT, to=LONG_TRUNK, patience=80, us=LONG)
    calling = call(LONG, PATIENTS)
    calling.says("answered")
    longest.extend((peer, calling))
    for one in longest:
        one.process.stays = True
    return "a call begins whose session has to be refreshed within 45 s"


def refreshed():
    peer, calling = longest
    peer.finish()
    calling.ends()
    return "the session of that call was refreshed in time"


def callee_full():
    peer = Peer("callee-full")
    calling = call(THEIRS, OURS)
    calling.says("progress")
    calling.says("answered")
    calling.says("hold")
    calling.says("resume")
    peer.finish()
    calling.ends()
    return "422 with Min-SE, reliable 183 with Record-Route, PRACK, UPDATE before and after the answer, hold, resume, BYE"


def callee_early():
    peer = Peer("callee-early")
    calling = call(THEIRS, OURS)
    calling.says("progress")
    peer.finish()
    calling.ends("noanswer")
    return f"an announcement before the answer is heard ({hold(('callee', calling.heard))}), then 480 for no answer"


def callee_fork():
    peer = Peer("callee-fork")
    calling = call(THEIRS, OURS, "--duration", "2")
    calling.says("alerting")
    calling.says("answered")
    peer.finish()
    calling.ends()
    return "180 from two branches, 200 from the second; ACK and BYE go to it"


def callee_plain():
    peer = Peer("callee-plain", more="P-Asserted-Identity: [+]14085550001\n    Identity: ^ *eyJ")
    calling = call(THEIRS, OURS, "--duration", "9")
    peer.finish()
    calling.ends()
    heard = hold(("callee", calling.heard))
    return f"neither 100rel nor timers nor UPDATE; who calls is asserted and signed (Identity); it is heard ({heard}); RIPT hangs up"


def callee_cancelled():
    peer = Peer("callee-cancelled")
    calling = call(THEIRS, OURS)
    calling.says("alerting")
    calling.interrupt()
    peer.finish()
    calling.ends("cancelled")
    return "CANCEL while it rings, 487"


def callee_noanswer():
    peer = Peer("callee-cancelled")
    calling = call(THEIRS, OURS)
    peer.finish()
    calling.ends("noanswer")
    return "nobody answers: CANCEL after the time that is configured"


def callee_refused():
    said = []
    for code, (cause, outcome, reason) in REFUSALS.items():
        peer = Peer("callee-refused", code=code, cause=cause)
        calling = call(THEIRS, OURS)
        peer.finish()
        said.append(f"{code}: {outcome}, {calling.ends(outcome, reason)}")
    return "; ".join(said)


def callee_pinged():
    play("callee-pinged", at=PINGED)
    return "the trunk is asked by OPTIONS whether it is there"


def caller_full():
    called = listen(OURS, "--ring", "1")
    peer = Peer("caller-full", them=OURS, us=THEIRS, ringing=180)
    who = called.says("client-incoming")
    if who["from"] != THEIRS:
        raise Failed(f"{THEIRS} calls, not {who['from']}")
    called.says("answered")
    called.says("hold")
    called.says("resume")
    peer.finish()
    called.ends()
    return "422 to its interval, reliable 180, PRACK, UPDATE before and after the answer, hold, resume, BYE"


def caller_plain():
    called = listen(OURS)
    peer = Peer("caller-plain", them=OURS, us=THEIRS)
    called.says("client-media")
    called.interrupt()
    peer.finish()
    called.ends()
    return "an INVITE without SDP, answered in the ACK; RIPT hangs up"


def caller_cancels():
    called = listen(OURS, "--ring", "30")
    play("caller-cancels", them=OURS, us=THEIRS)
    called.leaves()
    return "CANCEL while RIPT rings: 487"


def caller_refused():
    play("caller-refused", them="+14085559999", us=THEIRS, code=ABSENT)
    called = listen(OURS, "--ring", "30")
    peer = Peer("caller-refused", them=OURS, us=THEIRS, code=DECLINED)
    peer.saw("SIP/2.0 180")
    called.interrupt()
    peer.finish()
    called.leaves()
    busy = listen(OURS)
    first = Peer("caller-plain", them=OURS, us=THEIRS)
    busy.says("answered")
    play("caller-refused", at=SECOND, them=OURS, us=THEIRS, code=BUSY)
    busy.interrupt()
    first.finish()
    busy.ends()
    return f"{ABSENT} for a number where nobody is registered, {DECLINED} where RIPT declines, {BUSY} where it is in a call"


def caller_pings():
    play("caller-pings", them=OURS, us=THEIRS)
    return "OPTIONS: 200, with what the gateway can do"


def caller_stranger():
    play("caller-stranger", at="127.0.0.199", them=OURS, us=THEIRS)
    return "from an address that is no peer's: 403"


def overloaded():
    """Last, for the first server is left alone for a while."""
    first, second = Peer("callee-overloaded"), Peer("callee-plain", at=SECOND)
    calling = call(THEIRS, OURS, "--duration", "1")
    for peer in (first, second):
        peer.finish()
    calling.ends()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as left_alone:
        left_alone.bind((CARRIER, 5070))
        left_alone.setblocking(False)
        second = Peer("callee-plain", at=SECOND)
        calling = call(THEIRS, OURS, "--duration", "1")
        second.finish()
        calling.ends()
        while True:
            try:
                if left_alone.recv(65535).startswith(b"INVITE"):
                    raise Failed("a call was tried at a server that had said Retry-After: 10")
            except BlockingIOError:
                break
    return "503 with Retry-After: the second server gets the call, and the next one at once"


SCENARIOS = [refreshed_begins, callee_full, callee_early, callee_fork, callee_plain, callee_cancelled, callee_noanswer,
             callee_refused, callee_pinged, caller_full, caller_plain, caller_cancels, caller_refused, caller_pings, caller_stranger, overloaded,
             refreshed]
