"""sipp as the other end of a trunk, or as a user of the core: plays a flow (flow.py) once, and is strict."""
import re
import subprocess

from flow import Flow
from lab import PCSCF, WORK, SPEECH, Failed, Process, until

CARRIER, SECOND, PATIENT, PINGED = "127.0.0.110", "127.0.0.111", "127.0.0.112", "127.0.0.113"
# Where the servers' trunks listen, as ript.toml.in says.
TRUNK, LONG_TRUNK = "127.0.0.109:5072", "127.0.0.109:5073"


class Peer:
    """One run of a flow. A callee is ready when this returns."""

    count = 0

    def __init__(self, flow, at=CARRIER, to=TRUNK, patience=25, **words):
        Peer.count += 1
        self.flow = Flow(flow, speech=alaw("callee"), at=at, **words)
        self.name = f"sipp-{Peer.count:02}-{flow}"
        self.at, self.to, self.patience = at, to, patience
        self.scenario = WORK / f"{self.name}.xml"
        self.scenario.write_text(self.flow.xml(), encoding="latin-1")
        self.start()

    def start(self):
        log = WORK / self.name
        command = ["sipp", *([self.to] if self.flow.calls else []), "-sf", self.scenario, "-i", self.at, "-p", "5070",
                   "-mi", self.at, "-mp", "7000", "-m", "1", "-timeout", f"{self.patience}s", "-timeout_error", "-nostdin",
                   # What it hears it says, unless it has something to say.
                   *([] if self.flow.speaks else ["-rtp_echo"]),
                   "-trace_msg", "-message_file", f"{log}.msg", "-trace_err", "-error_file", f"{log}.err",
                   "-trace_logs", "-log_file", f"{log}.said"]
        self.process = Process(self.name, *command)
        if not self.flow.calls:
            until(f"{self.name} listens", self.listens)

    def listens(self):
        sockets = subprocess.run(["ss", "-Hlnu", f"src {self.at}:5070"], capture_output=True, text=True, check=True).stdout
        return sockets or self.process.process.poll() is not None

    def saw(self, text):
        """Waits for a message that was sent or came."""
        messages = WORK / f"{self.name}.msg"
        until(f"{self.name} sees {text}", lambda: messages.exists() and text in messages.read_text(errors="replace"))

    def finish(self):
        """Fails unless every message came, as it had to, and nothing else."""
        while True:
            code = self.process.wait(self.patience + 10)
            self.process.stop()
            if code:
                raise Failed(f"sipp, {self.flow.name}: left with {code}: {self.complaint()}")
            said = WORK / f"{self.name}.said"
            if not said.exists() or "pinged" not in said.read_text(errors="replace"):
                return
            # That was an OPTIONS, which sipp counts as a call. Whoever sends an INVITE meanwhile sends it again.
            said.unlink()
            self.start()

    def complaint(self):
        """What sipp did not like, without the messages; those are in the log."""
        errors = WORK / f"{self.name}.err"
        text = errors.read_text(errors="replace") if errors.exists() else self.process.said()
        said = [f"{first.split(chr(13))[0]} has to match {pattern}" for first, pattern in
                re.findall(r"looking in '([^\n]*).*?', with regexp '(.*?)'", text, re.S)]
        said += [f"{first.strip()} came, not {wanted}" for wanted, first in
                 re.findall(r"while expecting '(\w+)' \(index \d+\), received '([^\n]*)", text)]
        said += re.findall(r"timed out after '[0-9.]+' seconds|unexpected (?:CANCEL|BYE) for call", text)
        return f"{'; '.join(said) or text[-600:]}; see {errors}"


def play(flow, **how):
    """The whole of it."""
    peer = Peer(flow, **how)
    peer.finish()


def register(user, at, expires=600):
    """sipp takes the place of a user of the core, or leaves it."""
    shows = r"P-Associated-URI: tel:\+1555" if expires else "Contact: expires=0"
    how = {"at": at, "to": PCSCF, "us": user, "domain": "ims.test", "password": f"{user}pw", "expires": expires, "shows": shows}
    try:
        play("register", **how)
    except Failed as failed:
        # Now and then the S-CSCF has forgotten the nonce that it gave a moment ago.
        if "401" not in str(failed):
            raise
        play("register", **how)


def alaw(voice):
    """A voice as sipp streams it: raw G.711 A-law."""
    path = WORK / f"{voice}.alaw"
    if not path.exists():
        import audioop
        import wave
        with wave.open(str(SPEECH / f"{voice}.wav")) as sample:
            narrow, _ = audioop.ratecv(sample.readframes(sample.getnframes()), 2, 1, sample.getframerate(), 8000, None)
        path.write_bytes(audioop.lin2alaw(narrow, 2))
    return path
