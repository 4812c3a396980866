#!/usr/bin/env python3
"""A phone that authenticates by AKA (RFC 3310): registers with re-synchronisation, watches its registration (RFC 3680), and
is deregistered by the network. Exits 0 only if all went as it has to.

ue.py USERS.json NAME ADDRESS:PORT
"""
import base64
import hashlib
import json
import os
import re
import socket
import sys

from hss import CONTROL, HOST, REALM
from milenage import Sim

PCSCF = ("127.0.0.20", 5060)


def md5(text):
    return hashlib.md5(text if isinstance(text, bytes) else text.encode()).hexdigest()


def say(line):
    """One line to the HSS's control port."""
    with socket.create_connection((HOST, CONTROL)) as control:
        control.sendall(f"{line}\n".encode())
        answer = control.makefile().readline().strip()
    must(answer == "ok", f"the HSS to {line}: {answer}")


def must(holds, what):
    if not holds:
        sys.exit(f"FAIL: {what}")


def field(message, name):
    found = re.search(rf"^{name}:[ \t]*(.*?)\r$", message, re.M | re.I)
    return found[1] if found else ""


class Phone:
    def __init__(self, user, address):
        self.private, self.public = f"{user['name']}@{REALM}", f"sip:{user['name']}@{REALM}"
        self.sim = Sim(user["k"], user["opc"])
        self.here = "%s:%d" % address
        self.contact = f"<sip:{user['name']}@{self.here}>"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(8)
        self.call_id, self.sequence = os.urandom(8).hex(), 0

    def send(self, method, uri, *fields):
        self.sequence += 1
        lines = [f"{method} {uri} SIP/2.0",
                 f"Via: SIP/2.0/UDP {self.here};rport;branch=z9hG4bK{os.urandom(6).hex()}", "Max-Forwards: 70",
                 f"From: <{self.public}>;tag={method}", f"To: <{self.public}>", f"Call-ID: {method}-{self.call_id}",
                 f"CSeq: {self.sequence} {method}", f"Contact: {self.contact}", *fields, "Content-Length: 0", "", ""]
        self.socket.sendto("\r\n".join(lines).encode(), PCSCF)

    def next(self, wanted):
        """The next message that begins so; whatever else comes is left out."""
        while True:
            try:
                data, sender = self.socket.recvfrom(65535)
            except TimeoutError:
                sys.exit(f"FAIL: no {wanted} came")
            message = data.decode()
            if message.startswith(wanted):
                if not message.startswith("SIP/2.0"):
                    back = [line for line in message.split("\r\n") if re.match("(Via|From|To|Call-ID|CSeq):", line)]
                    self.socket.sendto("\r\n".join(["SIP/2.0 200 OK", *back, "Content-Length: 0", "", ""]).encode(), sender)
                return message
            must(not re.match("SIP/2.0 [3-6]", message), f"{wanted} was to come, not {message.splitlines()[0]}")

    def register(self, status, nonce="", password=None, more=""):
        response = ""
        if password is not None:
            first = md5(f"{self.private}:{REALM}:".encode() + password)
            response = md5(f"{first}:{nonce}:00000001:0a4f113b:auth:" + md5(f"REGISTER:sip:{REALM}"))
            more = f', qop=auth, nc=00000001, cnonce="0a4f113b"{more}'
        self.send("REGISTER", f"sip:{REALM}", f'Authorization: Digest username="{self.private}", realm="{REALM}", '
                  f'uri="sip:{REALM}", nonce="{nonce}", response="{response}", algorithm=AKAv1-MD5{more}',
                  "Supported: path", "Expires: 600")
        return self.next(f"SIP/2.0 {status}")

    def challenge(self, message):
        said = field(message, "WWW-Authenticate")
        must("AKAv1-MD5" in said and not re.search(r"\b[ci]k=", said), f"a challenge of AKA without its keys: {said}")
        nonce = re.search('nonce="([^"]+)"', said)[1]
        return nonce, base64.b64decode(nonce)

    def state(self):
        """What the next NOTIFY says of the registration."""
        message = self.next("NOTIFY")
        found = re.search(f'<registration aor="{self.public}"[^>]* state="([a-z]+)"', message)
        must(found, f"a registration in {message}")
        return found[1]


def main():
    path, name, here = sys.argv[1:]
    host, port = here.split(":")
    with open(path, encoding="utf-8") as file:
        phone = Phone(next(one for one in json.load(file) if one["name"] == name), (host, int(port)))
    nonce, challenge = phone.challenge(phone.register(401))
    res, sequence = phone.sim.answer(challenge)
    must(res, "an AUTN of the network")
    # As if another network had used the SIM.
    phone.sim.sqn = sequence + (1 << 20)
    auts = base64.b64encode(phone.sim.auts(challenge[:16])).decode()
    nonce, challenge = phone.challenge(phone.register(401, nonce, b"", f', auts="{auts}"'))
    res, sequence = phone.sim.answer(challenge)
    must(res and sequence > phone.sim.sqn, f"an AUTN after ours, not {sequence}")
    registered = phone.register(200, nonce, res)
    route = field(registered, "Service-Route")
    must("orig@" in route and "tel:+" in field(registered, "P-Associated-URI"), f"Service-Route, tel URI: {registered}")
    phone.send("SUBSCRIBE", phone.public, f"Route: <sip:{PCSCF[0]}:{PCSCF[1]};lr>, {route}", "Event: reg",
               "Accept: application/reginfo+xml", f"P-Preferred-Identity: <{phone.public}>", "Expires: 600")
    active = phone.state()
    must(active == "active", f"active, not {active}")
    say(f"deregister {phone.private}")
    ended = phone.state()
    must(ended == "terminated", f"terminated, not {ended}")
    print("registered by AKA after re-synchronisation; its state was told: active, then terminated by the network")


if __name__ == "__main__":
    main()
