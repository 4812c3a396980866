"""baresip as somebody's phone: registered with the core, answering by itself or not, with a voice; steered by its control port."""
import json
import socket
import subprocess
import threading
from functools import cache
from pathlib import Path

from lab import PCSCF, WORK, Failed, Process, until, voice

# As baresip names them, by the names of `ript call --codec`.
CODECS = {"PCMU": "PCMU/8000/1", "PCMA": "PCMA/8000/1", "G722": "G722/16000/1", "opus": "opus/48000/2", "AMR-WB": "AMR-WB/16000/1"}


@cache
def modules():
    files = subprocess.run(["dpkg", "-L", "baresip-core"], capture_output=True, text=True, check=True).stdout
    return next(Path(line).parent for line in files.splitlines() if line.endswith("/aufile.so"))


class Phone:
    """One baresip. `events` is what it has told; `said` a voice."""

    count = 0

    def __init__(self, user, says="callee", codec=None, answers=True):
        Phone.count += 1
        self.name = f"baresip-{Phone.count}-{user}"
        self.home = WORK / self.name
        (self.home / "heard").mkdir(parents=True)
        self.port = 4440 + Phone.count % 50
        codecs = CODECS[codec] if codec else ",".join(CODECS.values())
        account = (f'<sip:{user}@ims.test>;auth_user={user}@ims.test;auth_pass={user}pw;outbound="sip:{PCSCF};lr";regint=600;'
                   f"answermode={'auto' if answers else 'manual'};ptime=20;audio_codecs={codecs}")
        (self.home / "accounts").write_text(account + "\n")
        (self.home / "contacts").touch()
        (self.home / "config").write_text(self.configuration(says))
        self.process = Process(self.name, "baresip", "-4", "-s", "-f", self.home)
        self.events = []
        self.control = until(f"{self.name} listens", self.connect)
        threading.Thread(target=self.read, daemon=True).start()
        self.process.says("200 OK")

    def configuration(self, says):
        rtp = 10000 + Phone.count % 50 * 20
        settings = [
            "poll_method epoll", f"sip_listen 127.0.0.1:{5100 + Phone.count % 50 * 2}", "net_interface 127.0.0.1",
            f"audio_source aufile,{voice(says)}", f"audio_player aufile,{self.home}/played.wav",
            "audio_srate 16000", "audio_channels 1", "ausrc_srate 16000", "auplay_srate 16000", "ausrc_channels 1",
            "auplay_channels 1", "ausrc_format s16", "auplay_format s16", "auenc_format s16", "audec_format s16",
            "audio_buffer 20-160", f"rtp_ports {rtp}-{rtp + 18}", "rtcp_mux no", "jitter_buffer_delay 2-10",
            f"module_path {modules()}",
            *(f"module {one}.so" for one in ("opus", "g711", "g722", "amr", "aufile", "sndfile", "uuid")),
            *(f"module_app {one}.so" for one in ("account", "menu", "ctrl_tcp", "contact")),
            f"ctrl_tcp_listen 127.0.0.1:{self.port}", f"snd_path {self.home}/heard", f"sndfile_path {self.home}/heard",
            "opus_bitrate 28000",
        ]
        return "\n".join(settings) + "\n"

    # Its control port: JSON in netstrings.

    def connect(self):
        try:
            return socket.create_connection(("127.0.0.1", self.port))
        except ConnectionRefusedError:
            return None

    def read(self):
        pending = b""
        while data := self.control.recv(65536):
            pending += data
            while b":" in pending:
                length, rest = pending.split(b":", 1)
                if len(rest) <= int(length):
                    break
                message, pending = rest[:int(length)], rest[int(length) + 1:]
                self.events.append(json.loads(message))

    def do(self, command, parameters=""):
        body = json.dumps({"command": command, "params": parameters, "token": "scenario"}).encode()
        self.control.sendall(b"%d:%s," % (len(body), body))

    def tells(self, kind, param=""):
        """Waits for an event whose parameter has such a text in it."""
        def found():
            return next((one for one in list(self.events) if one.get("type") == kind and param in one.get("param", "")), None)
        try:
            return until(f"{self.name} tells {kind} {param}", found)
        except Failed as error:
            kinds = [(one.get("type"), one.get("param")) for one in self.events if one.get("event")]
            raise Failed(f"{error}; it told {kinds}") from None

    def dial(self, whom):
        self.do("dial", f"sip:{whom}@ims.test" if "@" not in whom else whom)

    def heard(self):
        """What it has decoded, in its latest call."""
        self.stop()
        files = sorted((self.home / "heard").glob("*-dec.wav"))
        if not files:
            raise Failed(f"{self.name} recorded nothing: {self.process.said()[-800:]}")
        return files[-1]

    def stop(self):
        """It forgets its registration; files are whole only now."""
        if self.process.process.poll() is None:
            self.do("quit")
            try:
                self.process.wait(8)
            except Failed:
                pass
        self.process.stop()
