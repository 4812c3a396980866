"""Diameter messages (RFC 6733) as bytes: just what an HSS needs."""
import struct

TGPP = 10415
HEADER = 20
REQUEST, PROXIABLE = 0x80, 0x40


def avp(code, value, vendor=0):
    """One AVP; a number is an Unsigned32, a list is grouped."""
    if isinstance(value, int):
        value = struct.pack("!I", value)
    elif isinstance(value, str):
        value = value.encode()
    elif isinstance(value, list):
        value = b"".join(value)
    head = 12 if vendor else 8
    flags = (0x80 if vendor else 0) | 0x40
    packed = struct.pack("!II", code, flags << 24 | head + len(value))
    if vendor:
        packed += struct.pack("!I", vendor)
    return packed + value + bytes(-len(value) % 4)


class Avps:
    """The AVPs of a message or a group."""

    def __init__(self, data):
        self.found, at = {}, 0
        while at + 8 <= len(data):
            code, length = struct.unpack_from("!II", data, at)
            flags, length = length >> 24, length & 0xFFFFFF
            head, vendor = (12, struct.unpack_from("!I", data, at + 8)[0]) if flags & 0x80 else (8, 0)
            if length < head:
                raise ValueError(f"AVP {code} of {length} bytes")
            self.found.setdefault((code, vendor), data[at + head:at + length])
            at += length + -length % 4

    def bytes(self, code, vendor=0):
        return self.found.get((code, vendor))

    def text(self, code, vendor=0):
        return self.found.get((code, vendor), b"").decode()

    def number(self, code, vendor=0):
        return int.from_bytes(self.found.get((code, vendor), b""), "big")

    def group(self, code, vendor=0):
        return Avps(self.found.get((code, vendor), b""))


class Message:
    """A request or an answer."""

    def __init__(self, command, application, flags, ids, avps):
        self.command, self.application, self.flags, self.ids, self.avps = command, application, flags, ids, avps

    @property
    def is_request(self):
        return bool(self.flags & REQUEST)

    def answer(self, *avps):
        return pack(self.command, self.application, self.flags & PROXIABLE, self.ids, avps)


def pack(command, application, flags, ids, avps):
    body = b"".join(avps)
    return struct.pack("!IIIII", 1 << 24 | HEADER + len(body), flags << 24 | command, application, *ids) + body


async def read(stream):
    """The next message of a connection; raises IncompleteReadError at its end."""
    head = await stream.readexactly(HEADER)
    length, command, application, *ids = struct.unpack("!IIIII", head)
    body = await stream.readexactly((length & 0xFFFFFF) - HEADER)
    return Message(command & 0xFFFFFF, application, command >> 24, ids, Avps(body))
