"""What the scenarios stand on: where things are, processes that end with the run, and the IMS core."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import wave
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPEECH = HERE.parent.parent / "src/client/audio/speech"
RIPT = os.environ["RIPT"]
# The same, or one that was built to be quick.
COMPARE = os.environ.get("COMPARE", RIPT)
WORK = Path(tempfile.mkdtemp(prefix="ript-ims-"))
PCSCF = "127.0.0.20:5060"
PYTHON = "/usr/bin/python3"
# How long anything may take: the machine is small, and others use it too.
PATIENCE = 30


class Failed(Exception):
    """A scenario did not go as it has to."""


def until(what, found, patience=PATIENCE):
    """Waits until `found` gives something."""
    end = time.monotonic() + patience
    while True:
        if result := found():
            return result
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {patience} s")
        time.sleep(0.05)


class Process:
    """A program with its output in a log; all that run are stopped at the end."""

    running = []

    def __init__(self, name, *command, **how):
        self.name, self.log = name, WORK / f"{name}.log"
        # Whether it outlives the scenario that started it.
        self.stays = False
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(one) for one in command], stdin=subprocess.DEVNULL, stdout=how.pop("stdout", log), stderr=log,
                # With a group of its own, it ends together with what it has started.
                start_new_session=True, **how)
        Process.running.append(self)

    def said(self):
        return self.log.read_text(errors="replace")

    def says(self, text):
        def found():
            if text in self.said():
                return True
            if self.process.poll() is not None:
                raise Failed(f"{self.name} left with {self.process.returncode} before it said {text!r}: {self.said()[-600:]}")
            return False
        until(f"{self.name} says {text!r}", found)

    def wait(self, patience=PATIENCE):
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} is not at its end after {patience} s: {self.said()[-600:]}") from None

    def stop(self):
        """Ends it, and waits for its end."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self in Process.running:
            Process.running.remove(self)


def stop_all(all_of_them=False):
    """The newest first."""
    for process in reversed(list(Process.running)):
        if all_of_them or not process.stays:
            process.stop()


# The core.

SERVERS = ("icscf", "scscf", "pcscf")


def kamailio(server, *options):
    # Where it starts, it finds its Diameter peer. Without the right to do so, ims_ipsec_pcscf cannot flush the machine's IPsec.
    core = HERE / "core"
    return ["setpriv", "--bounding-set=-net_admin", "kamailio", "-f", core / f"{server}.cfg", "-w", core,
            "-A", f'DB="text://{core}/icscf"', *options]


def check_configurations():
    """`kamailio -c` of each."""
    for server in SERVERS:
        done = subprocess.run(kamailio(server, "-c"), capture_output=True, text=True, check=False)
        if done.returncode or "config file ok" not in done.stdout + done.stderr:
            raise Failed(f"{server}.cfg: {done.stderr[-600:]}")


def start_core():
    """An HSS and three servers; returns them when registrations can begin."""
    core = HERE / "core"
    hss = Process("hss", PYTHON, "-B", core / "hss.py", core / "users.json")
    hss.says("users")
    servers = [Process(one, *kamailio(one, "-DD", "-E", "-m", "64", "-M", "8", "-Y", WORK)) for one in SERVERS]
    for peer in ("icscf", "scscf"):
        hss.says(f"peer {peer}")
    until("the P-CSCF answers OPTIONS", lambda: alive(PCSCF))
    for one in (hss, *servers):
        one.stays = True
    return [hss, *servers]


def alive(address):
    """Whether a SIP server answers OPTIONS."""
    host, port = address.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        asker.settimeout(0.3)
        here = "%s:%d" % asker.getsockname()
        asker.sendto("\r\n".join([
            f"OPTIONS sip:{address} SIP/2.0", f"Via: SIP/2.0/UDP {here};rport;branch=z9hG4bK{os.urandom(6).hex()}",
            "Max-Forwards: 10", f"From: <sip:check@{here}>;tag=1", f"To: <sip:{address}>", f"Call-ID: {os.urandom(6).hex()}",
            "CSeq: 1 OPTIONS", "Content-Length: 0", "", ""]).encode(), (host, int(port)))
        try:
            return asker.recv(65535).startswith(b"SIP/2.0 200")
        except (TimeoutError, ConnectionError):
            return False


def hss(line):
    """A line to the HSS's control port, and its answer."""
    with socket.create_connection(("127.0.0.10", 3869)) as control:
        control.sendall(f"{line}\n".encode())
        return control.makefile().readline().strip()


def is_registered(user):
    return json.loads(hss("show"))[f"{user}@ims.test"] is not None


# Speech.

def voice(name):
    """A file in which one of the two sample voices speaks for a minute."""
    path = WORK / f"{name}-minute.wav"
    if not path.exists():
        with wave.open(str(SPEECH / f"{name}.wav")) as sample, wave.open(str(path), "wb") as minute:
            minute.setparams(sample.getparams())
            once = sample.readframes(sample.getnframes())
            for _ in range(14):
                minute.writeframes(once)
    return path


def hold(*pairs):
    """How alike each recording is to a voice that was said over and over; fails where one is not. All at once: it takes a while."""
    runs = [(recording, subprocess.Popen([COMPARE, "compare", name, recording, "--within", "5"], text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)) for name, recording in pairs]
    said = [(recording, run.communicate()[0], run.returncode) for recording, run in runs]
    if bad := [f"{Path(recording).name}: {text.strip()}" for recording, text, code in said if code]:
        raise Failed("; ".join(bad))
    return "correlation " + " and ".join(text.split("correlation ")[1].split(",")[0] for _, text, _ in said)


def talk():
    """Long enough for a voice to be there as a whole, wherever the recording begins."""
    time.sleep(9)
