#!/usr/bin/env python3
"""An HSS for one realm: who its users are, how they authenticate, and who serves them (Cx: TS 29.228, TS 29.229).

hss.py USERS.json    A user with `k` and `opc` authenticates by AKAv1-MD5, others by digest with a password.
Its control port takes a line: `show` (who is served), `deregister PRIVATE-IDENTITY [REASON]`, `sqn PRIVATE-IDENTITY NUMBER`.
"""
import asyncio
import enum
import itertools
import json
import os
import socket
import sys

import milenage
from diameter import PROXIABLE, REQUEST, TGPP, Message, avp, pack, read

HOST, PORT, CONTROL = "127.0.0.10", 3868, 3869
REALM, SCSCF = "ims.test", "sip:127.0.0.40:6060"
CX = 16777216
ORIGIN = [avp(264, HOST), avp(296, REALM)]
SUCCESS = avp(268, 2001)


class Command(enum.IntEnum):
    CER, DWR, DPR = 257, 280, 282
    UAR, SAR, LIR, MAR, RTR = 300, 301, 302, 303, 304


def cx(code, value):
    return avp(code, value, TGPP)


def experimental(code):
    return avp(297, [avp(266, TGPP), avp(298, code)])


FIRST_REGISTRATION, SUBSEQUENT_REGISTRATION = experimental(2001), experimental(2002)
USER_UNKNOWN, IDENTITIES_DONT_MATCH, NOT_REGISTERED = experimental(5001), experimental(5002), experimental(5003)


class User:
    def __init__(self, name, number, password=None, k=None, opc=None):
        self.private = f"{name}@{REALM}"
        self.public = [f"sip:{name}@{REALM}", f"sip:{number}@{REALM}", f"tel:{number}"]
        self.password = password
        self.sim = milenage.Sim(k, opc) if k else None
        self.server = None

    def profile(self):
        """TS 29.228 Annex B: what an S-CSCF is told of a user."""
        identities = "".join(f"<PublicIdentity><Identity>{one}</Identity></PublicIdentity>" for one in self.public)
        return (f'<?xml version="1.0"?><IMSSubscription><PrivateID>{self.private}</PrivateID>'
                f"<ServiceProfile>{identities}</ServiceProfile></IMSSubscription>")

    def authentication(self, authorization):
        """SIP-Auth-Data-Item: a challenge and what answers it."""
        if not self.sim:
            return [cx(613, 1), cx(608, "Digest-MD5"), cx(609, os.urandom(16)), cx(610, self.password)]
        if authorization and len(authorization) >= 30:
            print("AUTS of", self.private, "good" if self.sim.follow(authorization[:16], authorization[16:30]) else "bad")
        challenge, res, ck, ik = self.sim.vector()
        return [cx(613, 1), cx(608, "Digest-AKAv1-MD5"), cx(609, challenge), cx(610, res), cx(625, ck), cx(626, ik)]


class Hss:
    def __init__(self, users):
        self.users = {user.private: user for user in users}
        self.public = {one: user for user in users for one in user.public}
        self.peers = {}
        self.ids = itertools.count(int.from_bytes(os.urandom(3), "big"))

    def answer(self, message: Message):
        """What answers a request of Cx."""
        avps = message.avps
        private, public = avps.text(1), avps.text(601, TGPP).split(";")[0]
        user = self.users.get(private) or self.public.get(public)
        if not user:
            return [USER_UNKNOWN]
        if public and public not in user.public:
            return [IDENTITIES_DONT_MATCH]
        match message.command:
            case Command.UAR:
                first = SUBSEQUENT_REGISTRATION if user.server else FIRST_REGISTRATION
                return [first, cx(602, user.server or SCSCF)]
            case Command.LIR:
                return [SUCCESS, cx(602, user.server)] if user.server else [NOT_REGISTERED]
            case Command.MAR:
                item = user.authentication(avps.group(612, TGPP).bytes(610, TGPP))
                return [SUCCESS, avp(1, user.private), cx(601, public), cx(607, 1), cx(612, item)]
            case Command.SAR:
                kind = avps.number(614, TGPP)
                if kind in (1, 2):
                    user.server = avps.text(602, TGPP)
                elif kind in (4, 5, 8, 9, 10):
                    user.server = None
                return [SUCCESS, avp(1, user.private)] + ([cx(606, user.profile())] if kind < 4 else [])
        return [avp(268, 3001)]

    async def serve(self, reader, writer):
        """One Diameter peer."""
        name = None
        try:
            while True:
                message = await read(reader)
                if not message.is_request:
                    print("answer to", message.command, "result", message.avps.number(268), flush=True)
                    continue
                if message.command == Command.CER:
                    name = message.avps.text(264)
                    self.peers[name] = writer
                    print("peer", name, flush=True)
                    about = [avp(257, b"\0\1" + socket.inet_aton(HOST)), avp(266, TGPP), avp(269, "hss"), avp(265, TGPP)]
                    answer = [SUCCESS, *ORIGIN, *about, APPLICATION]
                elif message.command in (Command.DWR, Command.DPR):
                    answer = [SUCCESS, *ORIGIN]
                else:
                    print(name, message.command, message.avps.text(1), message.avps.text(601, TGPP), flush=True)
                    session = avp(263, message.avps.bytes(263) or b"")
                    answer = [session, APPLICATION, avp(277, 1), *ORIGIN, *self.answer(message)]
                writer.write(message.answer(*answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if name and self.peers.get(name) is writer:
                del self.peers[name]
            writer.close()

    def deregister(self, user, reason):
        """RTR: the network ends all registrations of a user."""
        number = next(self.ids)
        name = next(one for one in self.peers if one.startswith("scscf"))
        avps = [avp(263, f"{HOST};1;{number}"), APPLICATION, avp(277, 1), *ORIGIN, avp(293, name), avp(283, REALM),
                avp(1, user.private), *(cx(601, one) for one in user.public),
                cx(615, [cx(616, reason), cx(617, "by the operator")])]
        self.peers[name].write(pack(Command.RTR, CX, REQUEST | PROXIABLE, (number, number), avps))
        user.server = None

    async def control(self, reader, writer):
        """One line, one answer."""
        try:
            match (await reader.readline()).decode().split():
                case ["show"]:
                    said = json.dumps({user.private: user.server for user in self.users.values()})
                case ["deregister", private, *reason]:
                    self.deregister(self.users[private], int(reason[0]) if reason else 0)
                    said = "ok"
                case ["sqn", private, number]:
                    self.users[private].sim.sqn = int(number)
                    said = "ok"
                case _:
                    said = __doc__
        except (KeyError, StopIteration, ValueError, AttributeError) as error:
            said = f"no: {error!r}"
        writer.write(f"{said}\n".encode())
        writer.close()


APPLICATION = avp(260, [avp(266, TGPP), avp(258, CX)])


async def main():
    milenage.check()
    with open(sys.argv[1], encoding="utf-8") as file:
        hss = Hss([User(**one) for one in json.load(file)])
    await asyncio.start_server(hss.control, HOST, CONTROL)
    server = await asyncio.start_server(hss.serve, HOST, PORT)
    print(len(hss.users), "users", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
