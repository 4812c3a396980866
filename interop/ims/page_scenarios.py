"""Chromium with the page of web/ calls, and is called by, a telephone of the core; by interop/chromium's server and driver."""
import os

from baresip import Phone
from lab import HERE, WORK, Failed, Process, hold, hss, is_registered, until
from ript import parts

NUMBER, BOBS = "+15550008", "+15550002"
# The first time, packages are installed.
LONG = 600


def page():
    sip = WORK / "page-sip.toml"
    sip.write_text("# " + parts()[1], encoding="utf-8")
    bob = Phone("bob", says="callee")
    more = {"MORE": sip, "CHECK": HERE / "page.mjs", "PORT": 14510, "TMPDIR": WORK, "KEEP": 1}
    driver = Process("page", HERE.parent / "chromium/run.sh", env={**os.environ, **{key: str(value) for key, value in more.items()}})

    def said(text):
        def found():
            lines = driver.said()
            if driver.process.poll() not in (None, 0) or "\nFAIL" in lines:
                raise Failed(lines[-1500:])
            return text in lines
        until(f"the page's driver says {text!r}", found, LONG)

    said("ok page to phone")
    bob.tells("CALL_DTMF_START", "5")
    bob.tells("CALL_CLOSED")
    heard = hold(("caller", bob.heard()))
    said("do dial")
    alice = Phone("alice", says="callee")
    alice.dial(NUMBER)
    said("do hang up")
    alice.do("hangup")
    said("do deregister")
    if not is_registered("page"):
        raise Failed("the page's number is not registered")
    hss("deregister page@ims.test 0")
    said("ok deregistered")
    heard += hold(("caller", alice.heard())).replace("correlation", ",")
    driver.wait(60)
    results = [line[3:] for line in driver.said().splitlines() if line.startswith("ok ")]
    return f"{heard} at the phones; " + "; ".join(results)


SCENARIOS = [page]
