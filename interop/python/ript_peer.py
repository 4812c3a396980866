"""A RIPT peer on aioquic, written from the wire page alone: no code is shared with the server.

Layers, bottom up: varints, chunks, acks, truncation; PASSporTs; HTTP/3 with WebTransport; events;
media over a WebTransport session and over byways; a phone with a push channel.
"""
import asyncio, base64, contextlib, datetime, json, os, socket, time
from urllib.parse import quote, urljoin, urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, DatagramReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamReset
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

ROOT = "/.well-known/ript/v1"

# ---------------------------------------------------------------- chunks (section 5)

ACK, PROBE, PROBE_ANSWER, NEED_WHOLE = 1, 2, 3, 4
OPUS, PCMU, PCMA, G722, CN, TELEPHONE_EVENT = 1, 2, 3, 4, 5, 6


class Malformed(ValueError):
    pass


def varint(n):
    for i, bits in enumerate((6, 14, 30, 62)):
        if n < 1 << bits:
            return ((i << bits) | n).to_bytes(1 << i, "big")
    raise ValueError(n)


def take_varint(b, i):
    if i >= len(b):
        raise Malformed("varint")
    size = 1 << (b[i] >> 6)
    if i + size > len(b):
        raise Malformed("varint")
    return int.from_bytes(b[i:i + size], "big") & ((1 << (8 * size - 2)) - 1), i + size


def uint(n):
    return n.to_bytes(max(1, (n.bit_length() + 7) // 8), "big")


def tlv(tag, value=b""):
    nibble = min(len(value), 15)
    out = bytes([(min(tag, 15) << 4) | nibble])
    if tag >= 15:
        out += varint(tag)
    if nibble == 15:
        out += varint(len(value))
    return out + value


# Field name, tag, kind.
FIELDS = (("control", 0, "uint"), ("seq", 1, "raw"), ("timestamp", 2, "raw"), ("payload_type", 3, "uint"),
          ("source", 5, "byte"), ("sink", 6, "byte"), ("reference", 7, "flag"), ("spatial", 8, "byte"),
          ("temporal", 9, "byte"), ("audio_level", 10, "byte"), ("sframe", 11, "uint"), ("duration", 12, "uint"))
DEFAULTS = dict(control=None, seq=None, timestamp=None, payload_type=1, source=1, sink=1, reference=False, spatial=0,
                temporal=0, audio_level=None, sframe=None, duration=None)


class Chunk:
    """seq and timestamp are (value on the wire, bytes)."""

    def __init__(self, media=None, package=None, unknown=(), **fields):
        self.__dict__.update(DEFAULTS)
        self.__dict__.update(fields)
        self.media, self.package, self.unknown = media, package, list(unknown)

    def encode(self):
        env = b""
        for name, tag, kind in FIELDS:
            v = getattr(self, name)
            if v == DEFAULTS[name]:
                continue
            if kind == "raw":
                env += tlv(tag, (v[0] % (1 << 8 * v[1])).to_bytes(v[1], "big"))
            elif kind == "flag":
                env += tlv(tag)
            else:
                env += tlv(tag, uint(v) if kind == "uint" else bytes([v]))
        for tag, value in self.unknown:
            env += tlv(tag, value)
        return varint(len(env)) + env + (tlv(4) + self.media if self.control is None else self.package)


def decode(data):
    size, i = take_varint(data, 0)
    end = i + size
    if end > len(data):
        raise Malformed("envelope")
    c, seen = Chunk(), set()
    while i < end:
        tag, n = data[i] >> 4, data[i] & 15
        i += 1
        if tag == 15:
            tag, i = take_varint(data[:end], i)
        if n == 15:
            n, i = take_varint(data[:end], i)
        if i + n > end or tag in seen:
            raise Malformed("tlv")
        seen.add(tag)
        v, i = data[i:i + n], i + n
        field = next((f for f in FIELDS if f[1] == tag), None)
        if field is None:
            c.unknown.append((tag, v))
            continue
        name, _, kind = field
        if kind == "raw":
            if not 1 <= n <= 8:
                raise Malformed(name)
            setattr(c, name, (int.from_bytes(v, "big"), n))
        elif kind == "uint":
            if n > 8:
                raise Malformed(name)
            setattr(c, name, int.from_bytes(v, "big"))
        elif kind == "byte":
            if n != 1:
                raise Malformed(name)
            setattr(c, name, v[0])
        else:
            if n:
                raise Malformed(name)
            setattr(c, name, True)
    c.package = data[end:]
    if c.control is None:
        if c.seq is None or c.timestamp is None:
            raise Malformed("media without sequence or timestamp")
        if max(c.seq[0], c.timestamp[0]) >= 1 << 62:
            raise Malformed("range")
        # A package that cannot be read is the receiver's to drop: media stays None.
        c.media = c.package[1:] if c.package[:1] == b"\x40" else None
    return c


def widen(value, size, newest):
    """The whole value nearest to the newest, in 0..2^62; at exactly half, the higher."""
    if size == 8:
        return value
    m = 1 << (8 * size)
    d = (value - newest) % m
    if d > m // 2:
        d -= m
    v = newest + d
    return v + m if v < 0 else v - m if v >= 1 << 62 else v


class Ack:
    def __init__(self, source, sink, newest, delay, runs):
        self.source, self.sink, self.newest, self.delay, self.runs = source, sink, newest, delay, runs

    def ranges(self):
        """(received, missing), newest first, each (low, high)."""
        got, lost, at = [], [], self.newest
        for k, n in enumerate(self.runs):
            if n:
                (lost if k % 2 else got).append((at - n + 1, at))
            at -= n
        return got, lost

    def has(self, seq):
        return any(lo <= seq <= hi for lo, hi in self.ranges()[0])

    def encode(self):
        return bytes([self.source, self.sink]) + b"".join(map(varint, [self.newest, self.delay, *self.runs]))


def decode_ack(p):
    if len(p) < 2:
        raise Malformed("ack")
    i, out = 2, []
    while i < len(p):
        n, i = take_varint(p, i)
        out.append(n)
    if len(out) < 3 or out[2] < 1 or len(out) % 2 == 0 or len(out) - 2 > 64 or sum(out[2:]) > out[0] + 1:
        raise Malformed("ack")
    return Ack(p[0], p[1], out[0], out[1], out[2:])


def control(kind, package):
    return Chunk(control=kind, package=package).encode()


def frame(*chunks):
    """The body of a media byway."""
    return b"".join(varint(len(c)) + c for c in chunks)


def unframe(body):
    i, out = 0, []
    while i < len(body):
        n, i = take_varint(body, i)
        if i + n > len(body):
            raise Malformed("frame")
        out.append(body[i:i + n])
        i += n
    return out


def now_ms():
    return time.time_ns() // 1_000_000


class Sender:
    """One stream that we send: sequence, truncation, what was acknowledged."""

    def __init__(self, source=1, sink=1, payload_type=OPUS, seq=0):
        self.source, self.sink, self.payload_type, self.seq = source, sink, payload_type, seq
        self.short, self.wholes, self.sent, self.acks = False, set(), {}, []

    def chunk(self, media, whole=None, timestamp=None, **fields):
        seq, ts = self.seq, timestamp or now_ms()
        self.seq += 1
        whole = not self.short if whole is None else whole
        n = 8 if whole else 2
        if whole:
            self.wholes.add(seq)
        self.sent[seq] = (ts, bytes(media))
        fields.setdefault("payload_type", self.payload_type)
        return Chunk(media=bytes(media), seq=(seq, n), timestamp=(ts, n), source=self.source, sink=self.sink,
                     **fields).encode()

    def on_ack(self, ack):
        self.acks.append((time.monotonic(), ack))
        if not self.short and any(ack.has(s) for s in self.wholes):
            self.short = True

    def restart(self):
        self.short, self.wholes = False, set()


class Receiver:
    """One stream that we get: widening, what was received, acks."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.newest = self.newest_ts = None
        self.when, self.got, self.chunks, self.duplicates = 0.0, {}, [], 0
        self.lowest = 0

    def take(self, c, path):
        (s, sn), (t, tn) = c.seq, c.timestamp
        if (sn < 8 or tn < 8) and self.newest is None:
            return False
        if sn == 8 and (self.newest is None or abs(s - self.newest) > 1 << 15):
            self.newest, self.newest_ts, self.got, self.lowest = s, t, {}, s
        seq, ts = widen(s, sn, self.newest), widen(t, tn, self.newest_ts)
        if seq in self.got:
            self.duplicates += 1
            return True
        if seq >= self.newest:
            self.newest, self.newest_ts, self.when = seq, ts, time.monotonic()
        self.lowest = min(self.lowest, seq)
        c.whole_seq, c.whole_ts, c.path, c.at = seq, ts, path, time.monotonic()
        self.got[seq] = c
        self.chunks.append(c)
        return True

    def ack(self):
        runs, at = [], self.newest
        while at >= self.lowest and len(runs) < 63:
            n, want = 0, len(runs) % 2 == 0
            while at >= self.lowest and (at in self.got) == want:
                n, at = n + 1, at - 1
            runs.append(n)
        if len(runs) % 2 == 0:
            runs.pop()
        return Ack(self.source, self.sink, self.newest, int((time.monotonic() - self.when) * 1000), runs)


# ---------------------------------------------------------------- PASSporT (section 7)

def b64(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def identity(number, array):
    if number.startswith("+"):
        return {"tn": [number[1:]] if array else number[1:]}
    local, _, domain = number.partition("@")
    uri = f"tel:{local};phone-context={domain.lower()}" if local.isdigit() else f"mailto:{local}@{domain.lower()}"
    return {"uri": [uri] if array else uri}


def passport(key, orig, dest, iat=None, header=(), claims=()):
    if isinstance(key, (str, bytes)):
        key = serialization.load_pem_private_key(key if isinstance(key, bytes) else key.encode(), None)
    head = {"alg": "ES256", "typ": "passport", **dict(header)}
    body = {"dest": identity(dest, True), "iat": int(time.time()) if iat is None else iat,
            "orig": identity(orig, False), **dict(claims)}
    body = {k: v for k, v in body.items() if v is not None}
    signing = ".".join(b64(json.dumps(x, sort_keys=True, separators=(",", ":")).encode()) for x in (head, body))
    r, s = utils.decode_dss_signature(key.sign(signing.encode(), ec.ECDSA(hashes.SHA256())))
    return signing + "." + b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


# ---------------------------------------------------------------- HTTP/3

class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self):
        j = self.json
        return j.get("code") if isinstance(j, dict) else None

    def __repr__(self):
        return f"{self.status} {self.body[:200]!r}"


class Stream:
    """One request. `status` and `headers` after `head()`; then `read()` until b"" is the end."""

    def __init__(self, proto, sid):
        self.proto, self.sid, self.q = proto, sid, asyncio.Queue()
        self.status, self.headers, self.ended, self.reset = None, {}, False, None
        self.dgrams = asyncio.Queue()

    def put(self, ev):
        self.q.put_nowait(ev)

    async def head(self, timeout=5):
        while self.status is None:
            ev = await asyncio.wait_for(self.q.get(), timeout)
            if isinstance(ev, HeadersReceived):
                h = {k.decode(): v.decode() for k, v in ev.headers}
                if not h[":status"].startswith("1"):
                    self.status, self.headers = int(h[":status"]), h
                self.ended |= ev.stream_ended
            else:
                self.ended, self.reset = True, ev
                raise ConnectionError(f"stream {self.sid}: {ev}")
        return self.status

    async def read(self, timeout=None):
        if self.ended:
            return b""
        ev = await asyncio.wait_for(self.q.get(), timeout)
        if isinstance(ev, DataReceived):
            self.ended |= ev.stream_ended
            return ev.data if ev.data or self.ended else await self.read(timeout)
        if isinstance(ev, HeadersReceived):
            self.ended |= ev.stream_ended
            return b"" if self.ended else await self.read(timeout)
        self.ended, self.reset = True, ev
        return b""

    async def response(self, timeout=10):
        await self.head(timeout)
        body = b""
        while not self.ended:
            body += await self.read(timeout)
        if self.reset is not None:
            raise ConnectionError(f"stream {self.sid}: {self.reset}")
        return Response(self.status, self.headers, body)

    def send(self, data, end=False):
        self.proto.h3.send_data(self.sid, data, end_stream=end)
        self.proto.transmit()

    def close(self, code=0x10C):
        with contextlib.suppress(Exception):
            self.proto._quic.reset_stream(self.sid, code)
        with contextlib.suppress(Exception):
            self.proto._quic.stop_stream(self.sid, code)
        self.proto.transmit()


class Protocol(QuicConnectionProtocol):
    webtransport = True

    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.h3 = H3Connection(self._quic, enable_webtransport=self.webtransport)
        self.streams, self.wt, self.terminated = {}, {}, None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.terminated = event
            for s in self.streams.values():
                s.put(event)
        elif isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.streams[event.stream_id].put(event)
        for ev in self.h3.handle_event(event):
            if isinstance(ev, (HeadersReceived, DataReceived)) and ev.stream_id in self.streams:
                self.streams[ev.stream_id].put(ev)
            elif isinstance(ev, DatagramReceived) and ev.stream_id in self.streams:
                self.streams[ev.stream_id].dgrams.put_nowait((ev.data, "datagram"))
            elif isinstance(ev, WebTransportStreamDataReceived):
                buf = self.wt.setdefault(ev.stream_id, bytearray())
                buf += ev.data
                if ev.stream_ended and ev.session_id in self.streams:
                    self.streams[ev.session_id].dgrams.put_nowait((bytes(self.wt.pop(ev.stream_id)), "stream"))


class NoWebTransport(Protocol):
    webtransport = False


class Http3:
    """One QUIC connection. Targets may be absolute or relative URIs."""

    def __init__(self, url, ca=None, token=None, webtransport=True):
        self.url, self.ca, self.token, self.webtransport = url.rstrip("/"), ca, token, webtransport
        u = urlsplit(self.url)
        self.host, self.port, self.authority = u.hostname, u.port or 443, u.netloc
        self.stack, self.cookies = contextlib.AsyncExitStack(), {}

    async def open(self):
        c = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=self.host,
                              max_datagram_frame_size=65536 if self.webtransport else None, idle_timeout=120)
        if self.ca:
            c.load_verify_locations(self.ca)
        ip = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0]
        self.proto = await self.stack.enter_async_context(
            connect(ip, self.port, configuration=c, create_protocol=Protocol if self.webtransport else NoWebTransport))
        return self

    async def close(self):
        await self.stack.aclose()

    def start(self, method, target, headers=(), body=None, end=True, token=True, protocol=None):
        u = urlsplit(urljoin(self.url, target))
        path = u.path + ("?" + u.query if u.query else "")
        h = [(":method", method), (":scheme", "https"), (":authority", self.authority), (":path", path)]
        if protocol:
            h.append((":protocol", protocol))
        h.append(("user-agent", "ript-peer-python"))
        bearer = self.token if token is True else token
        given = {k.lower() for k, _ in headers}
        if bearer and "authorization" not in given:
            h.append(("authorization", f"Bearer {bearer}"))
        h += [(k.lower(), v) for k, v in headers]
        if body is not None and end:
            h.append(("content-length", str(len(body))))
        p = self.proto
        sid = p._quic.get_next_available_stream_id()
        s = p.streams[sid] = Stream(p, sid)
        p.h3.send_headers(sid, [(k.encode(), v.encode()) for k, v in h], end_stream=end and not body)
        if body:
            p.h3.send_data(sid, body, end_stream=end)
        p.transmit()
        return s

    async def request(self, method, target, headers=(), body=None, json_body=None, timeout=10, token=True):
        headers = list(headers)
        if json_body is not None:
            body = json.dumps(json_body).encode()
            headers.append(("content-type", "application/json"))
        return await self.start(method, target, headers, body, token=token).response(timeout)

    async def get(self, target, **k):
        return await self.request("GET", target, **k)

    async def post(self, target, json_body=None, **k):
        return await self.request("POST", target, json_body=json_body, **k)

    async def put(self, target, json_body=None, **k):
        return await self.request("PUT", target, json_body=json_body, **k)

    async def delete(self, target, **k):
        return await self.request("DELETE", target, **k)


def with_query(uri, **q):
    for k, v in q.items():
        if v is not None:
            uri += ("&" if "?" in uri else "?") + f"{k}={quote(str(v), safe='')}"
    return uri


# ---------------------------------------------------------------- events (section 4)

class EventParser:
    """Takes `[`, commas, white space, bare objects."""

    def __init__(self):
        self.buf, self.depth, self.string, self.escape, self.closed, self.opened = bytearray(), 0, False, False, False, False

    def feed(self, data):
        out = []
        for b in data:
            if self.depth == 0:
                if b == 0x7B:
                    self.depth, self.buf = 1, bytearray(b"{")
                elif b == 0x5D:
                    self.closed = True
                elif b == 0x5B:
                    self.opened = True
                elif b not in b", \r\n\t":
                    raise Malformed(f"event stream: byte {b:#x}")
                continue
            self.buf.append(b)
            if self.string:
                if self.escape:
                    self.escape = False
                elif b == 0x5C:
                    self.escape = True
                elif b == 0x22:
                    self.string = False
            elif b == 0x22:
                self.string = True
            elif b in b"{[":
                self.depth += 1
            elif b in b"}]":
                self.depth -= 1
                if self.depth == 0:
                    out.append(json.loads(bytes(self.buf)))
        return out


class Log:
    """What came, with waiting for something that may come or have come."""

    def __init__(self):
        self.items, self.ended, self.changed = [], False, asyncio.Event()

    def add(self, item):
        self.items.append(item)
        self.changed.set()

    def end(self):
        self.ended = True
        self.changed.set()

    async def wait(self, pred, timeout=3.0, since=0):
        deadline = time.monotonic() + timeout
        while True:
            for e in self.items[since:]:
                if pred(e):
                    return e
            left = deadline - time.monotonic()
            if left <= 0 or self.ended:
                return None
            self.changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed.wait(), left)

    async def wait_end(self, timeout=3.0):
        await self.wait(lambda _: False, timeout)
        return self.ended


class JsonStream(Log):
    """A streaming GET: events, or taps."""

    def __init__(self, stream):
        super().__init__()
        self.stream, self.parser, self.times, self.problem, self.refused = stream, EventParser(), [], None, None

    async def run(self):
        try:
            while not self.stream.ended:
                for e in self.parser.feed(await self.stream.read()):
                    self.times.append(time.monotonic())
                    self.add(e)
        except asyncio.CancelledError:
            raise
        except Exception as e:
            self.problem = e
        self.end()

    task = None

    def close(self):
        if self.task:
            self.task.cancel()
        self.stream.close()

    def last(self, event):
        return next((e for e in reversed(self.items) if e.get("event") == event), None)


async def json_stream(http, target, headers=(), **k):
    """Opened once the headers came; `refused` holds the answer if it is no stream."""
    s = JsonStream(http.start("GET", target, headers, **k))
    if await s.stream.head() == 200:
        s.task = asyncio.create_task(s.run())
    else:
        s.refused = await s.stream.response()
        s.end()
    return s


def rfc3339():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Leg:
    """A call URI as one handler sees it."""

    def __init__(self, http, uri, handler=None):
        self.http, self.uri, self.handler, self.seq, self.info = http, uri, handler, 0, None
        self.events = self.open_put = None

    def at(self, tail="", **q):
        return with_query(self.uri + tail, handler=self.handler, **q)

    async def describe(self):
        r = await self.http.get(self.at())
        if r.status == 200:
            self.info = r.json
        return r

    async def claim(self, intent=None, headers=()):
        body = {"handler": self.handler}
        if intent:
            body["intent"] = intent
        r = await self.http.post(self.uri, body, headers=headers)
        if r.status == 200:
            self.info = r.json
        return r

    async def listen(self, headers=(), **q):
        s = await json_stream(self.http, self.at("/events", **q), headers)
        if self.events is None:
            self.events = s
        return s

    def event(self, kind, seq=None, **members):
        if seq is None:
            self.seq += 1
            seq = self.seq
        e = {"event": kind, "direction": "c2s", "timestamp": rfc3339(), "call": self.uri, "seq": seq}
        if self.handler:
            e["handler"] = self.handler
        e.update(members)
        return e

    async def put(self, *events):
        """The finite byway: one request."""
        body = b"\n".join(json.dumps(e).encode() for e in events)
        return await self.http.request("PUT", self.at("/events"), [("content-type", "application/json"),
                                                                   ("incremental", "?1")], body)

    async def send(self, kind, seq=None, **members):
        return await self.put(self.event(kind, seq, **members))

    def begin_put(self, array=True):
        """The open byway. The answer's headers come at once, {"accepted"} at its end."""
        self.open_put = self.http.start("PUT", self.at("/events"), [("content-type", "application/json"),
                                                                    ("incremental", "?1")], end=False)
        self.first = True
        if array:
            self.open_put.send(b"[")
        return self.open_put

    def push(self, kind, seq=None, **members):
        e = self.event(kind, seq, **members)
        self.open_put.send((b"" if self.first else b",") + json.dumps(e).encode())
        self.first = False
        return e["seq"]

    async def finish_put(self):
        self.open_put.send(b"]", end=True)
        return await self.open_put.response()


# ---------------------------------------------------------------- media (section 5)

class Media:
    """Streams of one leg, over any number of paths. `auto_ack`: an ack every 100 ms while media flows."""

    def __init__(self, http, leg, auto_ack=True):
        self.http, self.leg, self.auto_ack = http, leg, auto_ack
        self.senders, self.receivers, self.raw, self.bad = {}, {}, [], []
        self.probes, self.need_whole, self.acks = {}, [], []
        self.session = None
        self.fetching, self.n, self.tasks, self.last_media = False, 0, [], 0.0
        self.heard = Log()
        self.cookie = None
        self.statuses = []

    def sender(self, source=1, sink=1, **k):
        return self.senders.setdefault((source, sink), Sender(source, sink, **k))

    def receiver(self, source=1, sink=1):
        return self.receivers.setdefault((source, sink), Receiver(source, sink))

    # -- paths

    async def connect(self, target=None, token=True, probe=True, headers=()):
        """The session. True only after the server's SETTINGS and a probe that came back."""
        target = target or self.leg.at("/media")
        s = self.http.start("CONNECT", target, headers, end=False, token=token, protocol="webtransport")
        self.connect_status = await s.head()
        if self.connect_status != 200:
            self.connect_response = await s.response()
            return False
        self.session = s
        self.tasks.append(asyncio.create_task(self.drain(s)))
        settings = self.http.proto.h3.received_settings or {}
        self.settings = settings
        if not (settings.get(0x33) or settings.get(0xFFD277)):
            return False
        return not probe or await self.probe()

    async def probe(self):
        nonce = os.urandom(8)
        done = self.probes[nonce] = asyncio.get_running_loop().create_future()
        for wait in (0.15, 0.15, 0.2):
            self.datagram(control(PROBE, nonce))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(done), wait)
                return True
        return False

    def datagram(self, data):
        self.http.proto.h3.send_datagram(self.session.sid, data)
        self.http.proto.transmit()

    def uni(self, data):
        p = self.http.proto
        sid = p.h3.create_webtransport_stream(self.session.sid, is_unidirectional=True)
        p._quic.send_stream_data(sid, data, end_stream=True)
        p.transmit()

    def send(self, chunk):
        (self.datagram if len(chunk) <= 1100 else self.uni)(chunk)

    def close_session(self):
        if self.session:
            self.session.close()
            self.session = None

    async def drain(self, s):
        while True:
            data, path = await s.dgrams.get()
            self.on_chunk(data, path)

    def byways(self, gets=20):
        self.fetching = True
        for _ in range(gets):
            self.tasks.append(asyncio.create_task(self.fetch()))

    def cookie_headers(self):
        return [("cookie", self.cookie)] if self.cookie else []

    def keep_cookie(self, headers):
        c = headers.get("set-cookie")
        if c:
            self.set_cookie = c
            self.cookie = c.split(";")[0]

    async def fetch(self):
        while self.fetching:
            self.n += 1
            try:
                r = await self.http.request("GET", self.leg.at("/media", n=self.n), self.cookie_headers(), timeout=15,
                                            token=None if self.cookie else True)
            except (ConnectionError, asyncio.TimeoutError) as e:
                self.bad.append(repr(e))
                return
            self.statuses.append(r.status)
            if r.status == 200:
                self.keep_cookie(r.headers)
                self.get_headers = r.headers
                try:
                    chunks = unframe(r.body)
                except Malformed as e:
                    self.bad.append((r.body, str(e)))
                    continue
                for c in chunks:
                    self.on_chunk(c, "byway")
            elif r.status == 401 and self.cookie:
                self.cookie = None
            elif r.status != 204:
                self.refused = r
                return

    async def put(self, *chunks, headers=()):
        r = await self.http.request("PUT", self.leg.at("/media"),
                                    [("content-type", "application/vnd.ript.chunks"), *self.cookie_headers(), *headers],
                                    frame(*chunks), token=None if self.cookie else True)
        if r.status == 200:
            self.keep_cookie(r.headers)
            for c in unframe(r.body):
                self.on_chunk(c, "byway")
        return r

    # -- receiving

    def on_chunk(self, data, path):
        try:
            c = decode(data)
            c.path = path
            if c.control == ACK:
                a = decode_ack(c.package)
                self.acks.append(a)
                if (a.source, a.sink) in self.senders:
                    self.senders[a.source, a.sink].on_ack(a)
            elif c.control == PROBE:
                if self.session:
                    self.datagram(control(PROBE_ANSWER, c.package))
            elif c.control == PROBE_ANSWER:
                f = self.probes.get(bytes(c.package))
                if f and not f.done():
                    f.set_result(True)
            elif c.control == NEED_WHOLE:
                self.need_whole.append(tuple(c.package))
                if tuple(c.package[:2]) in self.senders:
                    self.senders[tuple(c.package[:2])].restart()
            elif c.control is None:
                if c.media is None:
                    raise Malformed("package")
                self.last_media = time.monotonic()
                if not self.receiver(c.source, c.sink).take(c, path):
                    if self.session:
                        self.datagram(control(NEED_WHOLE, bytes([c.source, c.sink])))
            self.heard.add(c)
        except Malformed as e:
            self.bad.append((data, str(e)))

    def ack_chunks(self):
        return [control(ACK, r.ack().encode()) for r in self.receivers.values() if r.newest is not None]

    def start_acks(self):
        async def run():
            while True:
                await asyncio.sleep(0.1)
                if self.auto_ack and time.monotonic() - self.last_media < 0.3:
                    for c in self.ack_chunks():
                        if self.session:
                            self.datagram(c)
                        else:
                            await self.put(c)
        self.tasks.append(asyncio.create_task(run()))

    async def talk(self, seconds, source=1, sink=1, via="session", ptime=0.02, size=80, payload_type=OPUS):
        """Sends a frame every ptime; the first bytes say which."""
        s = self.sender(source, sink)
        t, puts = time.monotonic(), []
        for k in range(round(seconds / ptime)):
            media = b"F%06d" % s.seq
            c = s.chunk(media + bytes((k + i) & 255 for i in range(size - len(media))), payload_type=payload_type)
            if via == "session":
                self.send(c)
            else:
                puts.append(asyncio.create_task(self.put(c)))
                if not self.cookie:
                    await puts[-1]
            t += ptime
            await asyncio.sleep(max(0, t - time.monotonic()))
        return [p.result() for p in await asyncio.gather(*[asyncio.shield(p) for p in puts]) and puts] if puts else []

    def stop(self):
        self.fetching = False
        for t in self.tasks:
            t.cancel()
        self.tasks = []


# ---------------------------------------------------------------- a phone

class Phone(Http3):
    """A device: connection, handler, push channel."""

    def __init__(self, url, ca, token, number, key):
        super().__init__(url, ca, token)
        self.number, self.key, self.handler, self.taps, self.tg = number, key, None, None, None

    async def find_tg(self):
        r = await self.get(ROOT + "/providertgs")
        tgs = r.json["tgs"]
        self.tg = urljoin(self.url, tgs[0]["uri"])
        return r

    async def register(self, advertisement, handler_id=None, name=None):
        body = {"handler-id": handler_id or "dev-" + os.urandom(6).hex(), "advertisement": advertisement}
        if name:
            body["name"] = name
        r = await self.post(self.tg + "/handlers", body)
        if r.status in (200, 201):
            self.handler = urljoin(self.url, r.json["uri"])
        return r

    async def watch(self, **k):
        self.taps = await json_stream(self, with_query(ROOT + "/push", handler=self.handler), **k)
        return self.taps

    def passport(self, dest, **k):
        return passport(self.key, self.number, dest, **k)

    async def call(self, dest, handler=True, headers=(), **members):
        body = {"destination": dest, "passport": self.passport(dest), **members}
        if handler:
            body["handler"] = self.handler
        return await self.post(self.tg + "/calls", body, headers=headers)

    def leg(self, uri, handler=True):
        return Leg(self, urljoin(self.url, uri), self.handler if handler else None)

    async def incoming(self, reason=None, timeout=3, since=0):
        t = await self.taps.wait(lambda t: reason is None or t.get("reason") == reason, timeout, since)
        return t and self.leg(t["call"])
