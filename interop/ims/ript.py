"""The server under test and its clients."""
import json
import os
import signal
import subprocess

from lab import HERE, RIPT, WORK, Failed, Process, until

SERVER = "https://127.0.0.1:14500"
DATA = WORK / "data"


def parts():
    """The template's two: what a server of its own gets, and what the page's server gets besides."""
    return (HERE / "ript.toml.in").read_text(encoding="utf-8").split("\n# ---- ")


def start_server():
    (WORK / "ript.toml").write_text(parts()[0], encoding="utf-8")
    server = Process("ript", RIPT, "--log", "info,ript=debug", "serve", "--dev", "--config", WORK / "ript.toml", cwd=WORK)
    server.says("listening")
    server.stays = True
    return server


class Client:
    """`ript call` or `ript listen`, of whoever has a number."""

    count = 0

    def __init__(self, number, *arguments):
        Client.count += 1
        self.name = f"client-{Client.count:02}-{arguments[0]}"
        self.number, self.heard = number, WORK / f"{self.name}.wav"
        token = subprocess.run([RIPT, "token", "--data", DATA, "--user", number, "--number", number],
                               capture_output=True, text=True, check=True).stdout.strip()
        self.out = WORK / f"{self.name}.json"
        environment = {**os.environ, "RIPT_SERVER": SERVER, "RIPT_CA": str(DATA / "ca.pem"), "RIPT_TOKEN": token}
        with open(self.out, "wb") as out:
            self.process = Process(self.name, RIPT, "--log", "warn", *arguments, "--json", "--record", self.heard,
                                   env=environment, stdout=out)

    def events(self):
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def says(self, name, **fits):
        """Waits for an event."""
        def found():
            # Whether it has left is asked first: what it wrote last must not be missed.
            left = self.process.process.poll()
            for one in self.events():
                if one["event"] == name and all(one.get(key) == value for key, value in fits.items()):
                    return one
            if left is not None:
                raise Failed(f"{self.name} left with {left} before {name} {fits or ''}: {self.last_words()}")
            return None
        return until(f"{self.name} says {name} {fits or ''}", found)

    def last_words(self):
        return f"{self.process.said()[-400:]} {[one for one in self.events() if one['event'] != 'client-stats'][-3:]}"

    def interrupt(self):
        """Ctrl-C: it hangs up, or declines, or no longer listens."""
        self.process.process.send_signal(signal.SIGINT)

    def ends(self, outcome="completed", *reasons):
        """Waits for its end, and compares how the call ended."""
        self.process.wait()
        result = next((one for one in self.events() if one["event"] == "client-result"), None)
        self.process.stop()
        if not result or result["outcome"] != outcome or reasons and result["reason"] not in reasons:
            raise Failed(f"{self.name} ended with {outcome} {reasons or ''}: no: {result or self.last_words()}")
        return result["reason"]

    def leaves(self):
        """Waits for its end, without a call that was answered."""
        self.process.wait()
        self.process.stop()
        if any(one["event"] == "answered" for one in self.events()):
            raise Failed(f"{self.name} has a call: {self.last_words()}")


def call(whom, number, *arguments):
    return Client(number, "call", whom, *arguments)


def listen(number, *arguments):
    client = Client(number, "listen", "--once", *arguments)
    client.says("client-listening")
    return client
