#!/usr/bin/env python3
"""Runs the scenarios of the wire profile against a server and prints a table.

  check.py --url https://localhost:8443 --ca DIR/ca.pem --passport-key DIR/passport-key.pem \
           --token-cmd "ript token --data DIR" [--only NAME,…] [--markdown FILE]

`--token-cmd` is called with `--user U --number N` and prints a JWT.
"""
import argparse, asyncio, datetime, json, os, pathlib, re, shlex, ssl, subprocess, sys, time, traceback
import http.client
from urllib.parse import urljoin, urlsplit, quote

from cryptography.hazmat.primitives.asymmetric import ec
import jwt
import ript_peer as R
from ript_peer import Media, Phone, Leg, Http3, ROOT, with_query

OPUS = "1 in: opus; PCMU; PCMA;\n1 out: opus; PCMU; PCMA;"
OPUS_TE = "1 in: opus; PCMU; telephone-event;\n1 out: opus; PCMU; telephone-event;"
SCENARIOS = []


class Stop(Exception):
    """The scenario can't go on."""


def scenario(f):
    SCENARIOS.append(f)
    return f


class S:
    """One run of a scenario: its users (numbers of its own), its checks."""

    def __init__(self, args, index):
        self.args, self.index, self.phones, self.users = args, index, [], {}
        self.passed, self.failed, self.notes = 0, [], []

    def check(self, cond, what, *detail):
        if cond:
            self.passed += 1
        else:
            self.failed.append(what + "".join(f" | {d!r}" if not isinstance(d, str) else f" | {d}" for d in detail))
        return bool(cond)

    def must(self, cond, what, *detail):
        if not self.check(cond, what, *detail):
            raise Stop()

    def note(self, text):
        self.notes.append(text)

    def is_problem(self, r, status, code, what):
        ok = r.status == status and (code is None or r.code == code)
        self.check(ok, f"{what}: want {status} {code or ''}", r)
        if ok:
            self.check(r.headers.get("content-type", "").startswith("application/problem+json"),
                       f"{what}: problem+json", r.headers.get("content-type"))

    def number(self, user):
        if user not in self.users:
            self.users[user] = f"+1408{self.index:03d}{len(self.users) + 1:04d}"
        return self.users[user]

    def token(self, user):
        cmd = shlex.split(self.args.token_cmd) + ["--user", f"{user}{self.index}", "--number", self.number(user)]
        return subprocess.run(cmd, check=True, capture_output=True, text=True).stdout.strip()

    async def connect(self, user="alice", webtransport=True, token=None):
        p = Phone(self.args.url, self.args.ca, token or self.token(user), self.number(user), self.args.key)
        p.webtransport = webtransport
        self.phones.append(p)
        await p.open()
        r = await p.get(ROOT + "/providertgs")
        self.must(r.status == 200 and r.json["tgs"], "providertgs", r)
        p.tg = urljoin(p.url, r.json["tgs"][0]["uri"])
        return p

    async def phone(self, user, adv=OPUS, watch=True, handler_id=None):
        p = await self.connect(user)
        r = await p.register(adv, handler_id)
        self.must(r.status == 201, f"register {user}", r)
        if watch:
            await p.watch()
            self.must(p.taps.stream.status == 200, f"push of {user}", p.taps.refused)
        return p

    async def place(self, a, dest, **k):
        r = await a.call(dest, **k)
        self.must(r.status == 201 and "location" in r.headers, "POST calls: 201 + Location", r)
        leg = a.leg(r.headers["location"], handler=k.get("handler", True))
        return leg

    async def ring(self, a, b, **k):
        """a calls b: both legs, events open on both."""
        since = len(b.taps.items)
        la = await self.place(a, b.number, **k)
        await la.listen()
        lb = await b.incoming("incoming", since=since)
        self.must(lb, "the callee is tapped")
        r = await lb.describe()
        self.must(r.status == 200, "the callee reads the call", r)
        await lb.listen()
        return la, lb

    async def answer(self, la, lb, intent="answer"):
        r = await lb.claim(intent)
        self.must(r.status == 200, "claim", r)
        since = len(la.events.items)
        r = await lb.send("answered")
        self.must(r.status == 200, "answered is taken", r)
        e = await la.events.wait(lambda e: e["event"] == "answered")
        self.must(e, "the caller hears answered", la.events.items)
        e = await la.events.wait(lambda e: e["event"] == "directives")
        self.check(e and e.get("clientDirectives") and e.get("serverDirectives"), "the caller gets directives", e)
        await lb.events.wait(lambda e: e["event"] == "directives")

    async def established(self, a, b, **k):
        la, lb = await self.ring(a, b, **k)
        await self.answer(la, lb)
        return la, lb

    async def media(self, p, leg, **k):
        m = Media(p, leg, **k)
        ok = await m.connect()
        self.must(ok, "WebTransport session with a probe that came back", getattr(m, "connect_status", None),
                  getattr(m, "connect_response", None))
        m.start_acks()
        return m

    async def hang_up(self, leg, *others):
        r = await leg.send("end")
        self.check(r.status == 200, "end is taken", r)
        for l in (leg, *others):
            e = await l.events.wait(lambda e: e["event"] == "ended")
            self.check(e, "ended reaches everybody", l.events.items[-2:])

    async def close(self):
        for p in self.phones:
            try:
                await asyncio.wait_for(p.close(), 3)
            except Exception:
                pass


def streams(text):
    """[(source, sink, first codec)] of directives in text."""
    out = []
    for m in re.finditer(r"(\d+)\s+to\s+(\d+)\s*:\s*([^,;\s]+)", text or ""):
        out.append((int(m[1]), int(m[2]), m[3]))
    return out


def bodies(m, source=1, sink=1):
    r = m.receivers.get((source, sink))
    return {} if r is None else {s: c.media for s, c in r.got.items()}


# ---------------------------------------------------------------- scenarios

@scenario
async def vectors(s):
    "interop/vectors with this client's codec"
    v = pathlib.Path(__file__).resolve().parent.parent / "vectors"
    d = json.loads((v / "chunks.json").read_text())
    num = lambda p: None if p is None else (int(p[0]), p[1])
    kinds = {"ack": 1, "probe": 2, "probe-answer": 3, "need-whole": 4}
    for c in d["chunks"]:
        raw = bytes.fromhex(c["hex"])
        try:
            g = R.decode(raw)
        except R.Malformed as e:
            s.check(False, f"chunk {c['name']}", str(e))
            continue
        s.check(g.seq == num(c.get("seq")) and g.timestamp == num(c.get("timestamp")), f"chunk {c['name']}: numbers")
        s.check(g.control == kinds.get(c.get("control"), c.get("control")), f"chunk {c['name']}: control", g.control)
        for field in ("payload_type", "source", "sink", "reference", "spatial", "temporal", "audio_level", "sframe", "duration"):
            want = c.get(field.replace("_", "-"), R.DEFAULTS[field])
            s.check(getattr(g, field) == (int(want) if isinstance(want, str) else want), f"chunk {c['name']}: {field}", getattr(g, field))
        s.check([[t, x.hex()] for t, x in g.unknown] == c.get("unknown", []), f"chunk {c['name']}: unknown", g.unknown)
        if c.get("media") is not None:
            s.check(g.media == bytes.fromhex(c["media"]), f"chunk {c['name']}: media")
        if "package" in c:
            s.check(g.package == bytes.fromhex(c["package"]), f"chunk {c['name']}: package")
        if c.get("encodes"):
            s.check(g.encode() == raw, f"chunk {c['name']}: encodes", g.encode().hex())
    for c in d["invalid"]:
        try:
            R.decode(bytes.fromhex(c["hex"]))
            s.check(False, f"invalid chunk taken: {c['name']}")
        except R.Malformed:
            s.check(True, "")
    for c in d["expand"]:
        s.check(R.widen(int(c["value"]), c["bytes"], int(c["newest"])) == int(c["expanded"]), "expand", c)
    for c in d["frames"]:
        try:
            got = [x.hex() for x in R.unframe(bytes.fromhex(c["hex"]))]
        except R.Malformed:
            got = None
        s.check(got == c["chunks"], f"frames {c['name']}", got)
    d = json.loads((v / "acks.json").read_text())
    for c in d["acks"]:
        a = R.decode_ack(bytes.fromhex(c["hex"]))
        got, lost = a.ranges()
        s.check((a.source, a.sink, a.newest, a.delay, a.runs) == (c["source"], c["sink"], c["newest"], c["delay-ms"], c["runs"])
                and [list(x) for x in got] == c["received"] and [list(x) for x in lost] == c["missing"], f"ack {c['name']}", a.__dict__)
        if "longer" not in c["name"] and not c["hex"].startswith("0101403f"):
            s.check(a.encode().hex() == c["hex"], f"ack {c['name']} encodes", a.encode().hex())
    for c in d["invalid"]:
        try:
            R.decode_ack(bytes.fromhex(c["hex"]))
            s.check(False, f"invalid ack taken: {c['name']}")
        except R.Malformed:
            s.check(True, "")


@scenario
async def discovery(s):
    "TGs, statuses without a token, HTTP/1.1 with Alt-Svc"
    p = await s.connect()
    r = await p.get(ROOT + "/providertgs")
    s.check(r.headers.get("content-type", "").startswith("application/json"), "providertgs: application/json", r.headers)
    s.check("private" in r.headers.get("cache-control", "") and "max-age=300" in r.headers.get("cache-control", ""),
            "providertgs: Cache-Control: private, max-age=300", r.headers.get("cache-control"))
    t = r.json["tgs"][0]
    s.check({"uri", "name", "description"} <= set(t), "tgs have uri, name, description", t)
    s.check(urlsplit(t["uri"]).scheme == "https" and urlsplit(t["uri"]).netloc == p.authority, "URIs are absolute, from :authority", t["uri"])
    r = await p.get(p.tg)
    s.must(r.status == 200, "GET tg", r)
    j = r.json
    for k in ("uri", "name", "description", "outbound", "numbers", "advertisement", "retry-backoff", "media-timeout", "keepalive", "answer-timeout", "media-encodings"):
        s.check(k in j, f"tg has {k}", sorted(j))
    s.check("ript-chunk/1" in j.get("media-encodings", []), "media-encodings has ript-chunk/1", j.get("media-encodings"))
    s.check("destinations" in j.get("outbound", {}), "outbound has destinations", j.get("outbound"))
    s.check(p.number in j.get("numbers", []), "numbers are the token's", j.get("numbers"))
    for k in ("retry-backoff", "media-timeout", "keepalive", "answer-timeout"):
        s.check(isinstance(j.get(k), int) and j[k] >= 100, f"{k} in ms", j.get(k))
    r = await p.get(ROOT + "/providertgs", token=None)
    s.is_problem(r, 401, "unauthorized", "no token")
    s.check("www-authenticate" in r.headers, "401 has WWW-Authenticate", r.headers)
    s.check("date" in r.headers, "401 has Date", r.headers)
    s.is_problem(await p.get(ROOT + "/providertgs", token="x.y.z"), 401, "unauthorized", "bad token")
    good = p.token.split(".")
    bad = ".".join([good[0], good[1], good[2][:-6] + ("AAAAAA" if good[2][-6:] != "AAAAAA" else "BBBBBB")])
    s.is_problem(await p.get(ROOT + "/providertgs", token=bad), 401, "unauthorized", "tampered token")
    s.is_problem(await p.get(ROOT + "/providertgs/no-such-tg"), 404, "not-found", "unknown TG")
    s.is_problem(await p.get("/nothing-here"), 404, "not-found", "unknown path")
    s.is_problem(await p.delete(ROOT + "/providertgs"), 405, "method-not-allowed", "DELETE providertgs")
    # aioquic 1.7.2 takes the Content-Length of an answer to HEAD for an error, so HEAD goes over HTTP/1.1.
    def h1(method):
        ctx = ssl.create_default_context(cafile=s.args.ca)
        c = http.client.HTTPSConnection(p.host, p.port, context=ctx, timeout=5)
        c.request(method, ROOT + "/providertgs", headers={"authorization": f"Bearer {p.token}"})
        r = c.getresponse()
        return r.status, dict((k.lower(), v) for k, v in r.getheaders()), r.read()
    try:
        st, h, b = await asyncio.to_thread(h1, "HEAD")
        s.check(st == 200 and not b, "HTTP/1.1: HEAD", st, b)
        st, h, b = await asyncio.to_thread(h1, "GET")
        s.check(st == 200, "HTTP/1.1: 200", st, b)
        s.check(f'h3=":{p.port}"' in h.get("alt-svc", ""), "TCP answers carry Alt-Svc", h.get("alt-svc"))
    except OSError as e:
        s.check(False, "HTTP/1.1 over TLS on the same port", repr(e))


@scenario
async def handlers(s):
    "registration in text and JSON, change, delete, bad input"
    p = await s.connect()
    hid = "phone-" + os.urandom(4).hex()
    r = await p.register("1 in: opus; pcmu; 1 out: opus; PCMA", hid, "desk")
    s.must(r.status == 201, "POST handlers: 201", r)
    s.check(urljoin(p.url, r.headers.get("location", "")) == p.handler, "Location is the uri", r.headers.get("location"), p.handler)
    s.check(r.json.get("handler-id") == hid and r.json.get("name") == "desk", "the same comes back", r.json)
    s.check(r.json.get("advertisement") == "1 in: opus; PCMU;\n1 out: opus; PCMA;", "canonical advertisement", r.json.get("advertisement"))
    first = p.handler
    r = await p.register(OPUS, hid)
    s.check(r.status == 200 and p.handler == first, "the same handler-id again: 200, the existing one", r)
    s.check(r.json.get("advertisement") == "1 in: opus; PCMU;\n1 out: opus; PCMA;", "unchanged", r.json.get("advertisement"))
    r = await p.put(first, {"handler-id": hid, "advertisement": OPUS, "name": "other"})
    s.check(r.status == 200, "PUT changes it", r)
    r = await p.get(first)
    s.check(r.status == 200 and r.json.get("advertisement") == OPUS, "GET the changed one", r)
    r = await p.get(p.tg + "/handlers")
    s.check(r.status == 200 and first in [urljoin(p.url, h["uri"]) for h in r.json.get("handlers", [])], "the collection", r)
    twin = [{"id": 1, "direction": "in", "codecs": [{"name": "opus", "params": {"br": 32000}}, {"name": "PCMU", "params": {}}]},
            {"id": 1, "direction": "out", "codecs": [{"name": "opus", "params": {}}]}]
    r = await p.register(twin)
    s.check(r.status == 201 and r.json.get("advertisement") == twin, "JSON twin: the answer uses the form of the request", r)
    second = p.handler
    r = await p.get(second)
    s.check(r.json.get("advertisement") == twin, "and later too", r.json)
    for bad, what in ((7, "number"), ("1 sideways: opus;", "word"), ("1 in opus", "no colon"), ("0 in: opus;", "id 0"),
                      ("1 in: opus; 1 in: PCMU;", "an id twice"), ("1 in: opus,sr=x;", "a parameter that is no integer")):
        r = await p.post(p.tg + "/handlers", {"handler-id": "bad-" + os.urandom(3).hex(), "advertisement": bad})
        s.is_problem(r, 422, "bad-advertisement", f"advertisement: {what}")
        if r.status == 422:
            s.check(r.json.get("field"), f"field in the problem ({what})", r.json)
    r = await p.post(p.tg + "/handlers", {"handler-id": "big", "advertisement": "1 in: " + "x" * 17000 + ";"})
    s.check(r.status in (413, 422), "an advertisement over 16 KiB", r)
    s.is_problem(await p.request("POST", p.tg + "/handlers", body=b'{"handler-id":'), 400, "bad-json", "half a JSON")
    r = await p.post(p.tg + "/handlers", {"advertisement": OPUS})
    s.check(r.status in (400, 422), "no handler-id", r)
    r = await p.post(p.tg + "/handlers", {"handler-id": "u-" + hid, "advertisement": OPUS, "x-unknown": {"a": [1]}})
    s.check(r.status == 201, "unknown members are ignored", r)
    other = await s.connect("bob")
    s.is_problem(await other.get(first), 404, "not-found", "another user's handler")
    s.is_problem(await other.delete(first), 404, "not-found", "deleting another user's handler")
    r = await p.delete(first)
    s.check(r.status in (200, 204), "DELETE", r)
    s.is_problem(await p.get(first), 404, None, "after DELETE")


@scenario
async def basic_call(s):
    "call, tap, ring, claim, answer, end; descriptions, snapshots, end of the streams"
    a, b = await s.phone("alice"), await s.phone("bob")
    la = await s.place(a, b.number)
    ev = await la.listen()
    h = ev.stream.headers
    s.check("no-store" in h.get("cache-control", ""), "events: Cache-Control: no-store", h)
    s.check(h.get("x-accel-buffering") == "no", "events: X-Accel-Buffering: no", h)
    s.check(h.get("incremental") == "?1", "events: Incremental: ?1", h)
    first = await ev.wait(lambda e: True)
    s.must(first, "something comes at once")
    s.check(ev.parser.opened, "the stream is a JSON array")
    s.check(first.get("snapshot") is True and first["event"] in ("proceeding", "alerting"), "a new byway begins with a snapshot", first)
    for k in ("seq", "direction", "timestamp", "call", "clientDirectives", "serverDirectives", "held", "handler"):
        s.check(k in first, f"the snapshot has {k}", first)
    s.check(first.get("direction") == "s2c" and first.get("call") == la.uri, "direction and call", first)
    s.check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.get("timestamp", "")), "timestamp RFC 3339, UTC, ms", first.get("timestamp"))
    tap = await b.taps.wait(lambda t: "call" in t)
    s.must(tap, "tap")
    s.check(tap.get("reason") == "incoming", "reason incoming", tap)
    lb = b.leg(tap["call"])
    s.check(lb.uri != la.uri, "one call URI per leg")
    r = await la.describe()
    s.must(r.status == 200, "GET call", r)
    s.check("etag" in r.headers and "no-store" in r.headers.get("cache-control", ""), "ETag, no-store", r.headers)
    for k in ("uri", "state", "held", "direction", "from", "to", "passport", "verification", "clientDirectives", "serverDirectives", "media", "created"):
        s.check(k in r.json, f"call has {k}", sorted(r.json))
    s.check(r.json.get("direction") == "outbound" and r.json.get("from") == a.number and r.json.get("to") == b.number, "outbound, from, to", r.json)
    s.check({"webtransport", "byway"} <= set(r.json.get("media", {})), "media has webtransport, byway", r.json.get("media"))
    r = await lb.describe()
    s.must(r.status == 200, "the callee's GET", r)
    s.check(r.json.get("direction") == "inbound" and r.json.get("from") == a.number and r.json.get("to") == b.number, "inbound, from, to", r.json)
    s.check(r.json.get("verification", {}).get("status") == "verified", "verified", r.json.get("verification"))
    pp = jwt.decode(r.json.get("passport", "."), options={"verify_signature": False}) if r.json.get("passport") else {}
    s.check(pp.get("orig") == {"tn": a.number[1:]}, "the PASSporT itself", pp)
    await lb.listen()
    s.is_problem(await lb.send("answered"), 409, "illegal-event", "answered without a claim")
    lb.seq = 0
    r = await lb.send("alerting")
    s.check(r.status == 200 and r.json == {"accepted": 1}, "alerting: 200 {accepted}", r)
    s.check(await ev.wait(lambda e: e["event"] == "alerting"), "the caller hears alerting", ev.items)
    r = await la.describe()
    s.check(r.json["state"] == "alerting", "state alerting", r.json["state"])
    r = await b.get(b.tg + "/calls")
    s.check(r.status == 200 and lb.uri in [c["uri"] for c in r.json.get("calls", [])], "live calls", r)
    s.check(r.status == 200 and all({"uri", "state", "direction", "from", "to"} <= set(c) for c in r.json.get("calls", [])), "members of live calls", r)
    s.is_problem(await b.get(la.uri), 404, "not-found", "another user's leg")
    s.is_problem(await a.delete(la.uri), 405, "method-not-allowed", "DELETE call")
    s.is_problem(await a.get(la.uri, token=None), 401, "unauthorized", "GET call without token")
    await s.answer(la, lb)
    for l, who in ((la, "caller"), (lb, "callee")):
        d = l.events.last("directives")
        s.check(d and streams(d["clientDirectives"]) == [(1, 1, "opus")] and streams(d["serverDirectives"]) == [(1, 1, "opus")], f"{who}: directives 1 to 1: opus", d)
    s.check(lb.events.last("answered"), "answered on the callee's leg", lb.events.items)
    r = await la.describe()
    s.check(r.json["state"] == "answered" and "answered" in r.json and r.json["held"] is False, "state answered", r.json)
    r = await a.post(la.uri)
    s.check(r.status == 200 and r.json.get("uri") == la.uri and r.json.get("clientDirectives"), "POST, empty body: the description", r)
    await s.hang_up(lb, la)
    e = la.events.last("ended")
    s.check(e and e.get("by") == "callee", "ended by callee", e)
    s.check(await la.events.wait_end() and la.events.parser.closed, "] after ended", la.events.problem)
    s.check(la.events.items[-1]["event"] == "ended", "ended is the last one", la.events.items[-1])
    seqs = [e["seq"] for e in la.events.items if "seq" in e and not e.get("snapshot")]
    s.check(seqs == sorted(set(seqs)), "s2c seq rises", seqs)
    s.check(seqs == list(range(seqs[0], seqs[0] + len(seqs))), "s2c seq without gaps", seqs)
    r = await la.describe()
    s.check(r.status == 200 and r.json.get("state") == "ended" and r.json.get("outcome") == "completed" and r.json.get("ended-by") == "callee" and r.json.get("ended"), "the ended call", r.json)
    r = await a.get(a.tg + "/calls")
    s.check(la.uri not in [c["uri"] for c in r.json["calls"]], "no longer live", r.json)


@scenario
async def ended_call(s):
    "rules on ended and unknown calls"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    await s.hang_up(la, lb)
    s.check((lb.events.last("ended") or {}).get("by") == "caller", "ended by caller", lb.events.last("ended"))
    s.is_problem(await la.send("end"), 409, "call-ended", "PUT events")
    s.is_problem(await a.post(la.uri), 409, "call-ended", "POST, empty")
    s.is_problem(await lb.claim("pull"), 409, "call-ended", "POST pull")
    s.is_problem(await a.get(la.at("/media", n=1)), 410, "call-ended", "GET media")
    s.is_problem(await a.request("PUT", la.at("/media"), [("content-type", "application/vnd.ript.chunks")], R.frame(R.control(2, b"x"))), 410, "call-ended", "PUT media")
    m = Media(a, la)
    ok = await m.connect()
    s.check(not ok and m.connect_status == 410, "CONNECT media", m.connect_status)
    l2 = a.leg(la.uri)
    ev = await l2.listen()
    e = await ev.wait(lambda e: True)
    s.check(e and e["event"] == "ended" and e.get("snapshot") and e.get("outcome") == "completed", "events: snapshot of an ended call", e)
    s.check(await ev.wait_end() and ev.parser.closed, "and its end")
    ev = await l2.listen(after=0)
    await ev.wait_end()
    s.check(ev.items and ev.items[-1]["event"] == "ended", "history of an ended call", ev.items)
    s.is_problem(await a.get(la.uri + "-nope"), 404, "not-found", "unknown call")
    s.is_problem(await a.get(with_query(la.uri + "-nope/events", handler=a.handler)), 404, "not-found", "events of an unknown call")


@scenario
async def claims(s):
    "claim, answer, forking to two devices, If-Match"
    a, b1, b2 = await s.phone("alice"), await s.phone("bob"), await s.phone("bob")
    la, l1 = await s.ring(a, b1)
    l2 = await b2.incoming("incoming")
    s.must(l2, "the second device is tapped")
    s.check(l2.uri == l1.uri, "all devices of the leg share the URI", l1.uri, l2.uri)
    await l2.listen()
    d = await l1.describe()
    r = await l1.claim("answer", [("if-match", '"something-else"')])
    s.is_problem(r, 412, "precondition-failed", "If-Match that differs")
    s.is_problem(await l1.claim("pull"), 409, "illegal-event", "pull on an unanswered call")
    s.is_problem(await l1.claim("recover"), 409, "illegal-event", "recover on an unanswered call")
    d = await l1.describe()
    r = await l1.claim("answer", [("if-match", d.headers["etag"])])
    s.check(r.status == 200, "claim with the right If-Match", r)
    t = time.monotonic()
    s.is_problem(await l2.claim("answer"), 409, "already-claimed", "a second claim")
    s.is_problem(await l2.send("answered"), 409, None, "answered from the device without the claim")
    s.check((await l1.claim("answer")).status == 200, "the same claim again")
    t = time.monotonic()
    await asyncio.sleep(3.5)
    s.check((await l2.claim("answer")).status == 409, "after 3.5 s the claim still holds")
    await asyncio.sleep(max(0, t + 5.5 - time.monotonic()))
    r = await l2.claim("answer")
    s.check(r.status == 200, "it lapses after 5 s", r)
    r = await l1.send("answered")
    s.check(r.status == 409, "the first device's claim is gone", r)
    r = await l2.send("answered")
    s.must(r.status == 200, "the second answers", r)
    e = await l1.events.wait(lambda e: e["event"] == "answered")
    s.check(e and e.get("handler") == b2.handler, "the other device learns who answered", e)
    s.check(await la.events.wait(lambda e: e["event"] == "answered"), "the caller hears it")
    d = await l1.describe()
    s.check(d.json.get("handler") == b2.handler, "the call's handler", d.json.get("handler"))
    s.is_problem(await l1.claim("answer"), 409, None, "answer after the answer")
    await s.hang_up(la, l1, l2)


@scenario
async def claim_without_intent(s):
    "the draft's POST {handler}: answer, then 409 for 2 s, then pull"
    a, b1, b2 = await s.phone("alice"), await s.phone("bob"), await s.phone("bob")
    la, l1 = await s.ring(a, b1)
    l2 = await b2.incoming("incoming")
    s.must(l2, "second tap")
    await l2.listen()
    await s.answer(la, l1, None)
    s.is_problem(await l2.claim(), 409, None, "within 2 s of the answer")
    await asyncio.sleep(2.3)
    r = await l2.claim()
    s.check(r.status == 200, "after that a pull", r)
    e = await l1.events.wait(lambda e: e["event"] == "handler-changed")
    s.check(e and e.get("handler") == b2.handler, "handler-changed at the first", e)
    await s.hang_up(la, l2)


async def converse(s, a, b, la, lb, ma, mb, via_a="session", via_b="session", seconds=1.5, size=80):
    sa, sb = len(bodies(ma)), len(bodies(mb))
    na, nb = ma.sender().seq, mb.sender().seq
    await asyncio.gather(ma.talk(seconds, via=via_a, size=size), mb.talk(seconds, via=via_b, size=size))
    await asyncio.sleep(0.6)
    return bodies(mb), bodies(ma)


@scenario
async def media_session(s):
    "two-way media over WebTransport: sequence, acks, truncation, quality"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    ma, mb = await s.media(a, la), await s.media(b, lb, auto_ack=False)
    st = ma.settings
    s.check(st.get(0x08) == 1 and st.get(0x33) == 1 and st.get(0x2B603742) == 1, "SETTINGS of the server", {hex(k): v for k, v in st.items()})
    s.check(st.get(0x2C7CF000) == 1 or st.get(0xC671706A), "the newer drafts' SETTINGS", {hex(k): v for k, v in st.items()})
    # Alice talks; Bob does not acknowledge at first.
    t0 = time.monotonic()
    await ma.talk(1.0)
    await asyncio.sleep(0.15)
    snd, rcv = ma.sender(), mb.receiver()
    s.check(snd.acks, "the server acknowledges")
    s.check(snd.short, "a whole value was acknowledged, so Alice truncates")
    if snd.acks:
        gaps = [y[0] - x[0] for x, y in zip(snd.acks, snd.acks[1:])]
        s.check(8 <= len(snd.acks) <= 14, "an ack every 100 ms while media flows", len(snd.acks), [round(g, 3) for g in gaps])
        last = snd.acks[-1][1]
        s.check(last.newest == snd.seq - 1, "the newest sequence is acknowledged", last.newest, snd.seq - 1)
        s.check(last.ranges() == ([(0, snd.seq - 1)], []), "everything received, nothing missing", last.ranges())
        s.check(all(x[1].delay < 150 for x in snd.acks), "the delay since arrival", [x[1].delay for x in snd.acks])
    got = rcv.chunks
    s.check(len(got) == snd.seq, "every chunk reaches Bob", len(got), snd.seq)
    s.check(all(rcv.got.get(q) and rcv.got[q].media == m and rcv.got[q].whole_ts == t for q, (t, m) in snd.sent.items()),
            "sequence, timestamp and media pass through")
    s.check(all(c.seq[1] == 8 and c.timestamp[1] == 8 for c in got), "whole towards Bob until he acknowledged", [c.seq[1] for c in got])
    # Bob acknowledges now.
    mb.datagram(mb.ack_chunks()[0])
    mark = len(rcv.chunks)
    await asyncio.sleep(0.05)
    mb.auto_ack = True
    await ma.talk(0.6)
    await asyncio.sleep(0.1)
    later = rcv.chunks[mark + 2:]
    s.check(later and all(c.seq[1] == 2 and c.timestamp[1] == 2 for c in later), "two bytes after Bob's ack", [c.seq[1] for c in later])
    s.check(all(rcv.got.get(q) and rcv.got[q].media == m and rcv.got[q].whole_ts == t for q, (t, m) in snd.sent.items()), "all of it, widened right")
    # need-whole.
    mb.datagram(R.control(R.NEED_WHOLE, bytes([1, 1])))
    mb.auto_ack = False
    await asyncio.sleep(0.05)
    mark = len(rcv.chunks)
    await ma.talk(0.1)
    await asyncio.sleep(0.1)
    s.check(rcv.chunks[mark:] and all(c.seq[1] == 8 for c in rcv.chunks[mark:]), "whole again on need-whole", [c.seq[1] for c in rcv.chunks[mark:]])
    mb.auto_ack = True
    # A gap: the runs say so, and a late one fills it.
    lost = snd.seq
    late = snd.chunk(b"LATE")
    for _ in range(5):
        ma.datagram(snd.chunk(b"x" * 30))
    await asyncio.sleep(0.3)
    _, last = snd.acks[-1]
    s.check(last.newest == snd.seq - 1 and (lost, lost) in last.ranges()[1] and not last.has(lost), "a missing one shows in the runs", last.runs)
    ma.datagram(late)
    await asyncio.sleep(0.1)
    ma.datagram(snd.chunk(b"y" * 30))
    await asyncio.sleep(0.3)
    s.check(snd.acks[-1][1].has(lost), "missing means not yet: the late one is acknowledged", snd.acks[-1][1].runs)
    s.check(lost in rcv.got, "and it was passed on")
    # Duplicates are dropped or harmless; the other direction at the same time.
    x, y = await converse(s, a, b, la, lb, ma, mb, seconds=1.0)
    s.check(all(x.get(q) == m for q, (_, m) in snd.sent.items()), "Alice to Bob, complete", len(x), len(snd.sent))
    s.check(all(y.get(q) == m for q, (_, m) in mb.sender().sent.items()), "Bob to Alice, complete", len(y), len(mb.sender().sent))
    dup = snd.chunk(b"dup")
    before = rcv.duplicates
    for _ in range(3):
        ma.datagram(dup)
    await asyncio.sleep(0.2)
    s.note(f"a chunk sent three times arrives {1 + rcv.duplicates - before} times")
    # A large chunk.
    big = snd.chunk(os.urandom(6000), whole=True)
    ma.send(big)
    await asyncio.sleep(0.4)
    c = rcv.got.get(snd.seq - 1)
    s.check(c and c.media == snd.sent[snd.seq - 1][1] and c.path == "stream", "a large chunk goes on a stream of its own", c and (c.path, len(c.media)))
    # Unknown tags and fields pass through; audio level, duration.
    q = snd.seq
    ma.datagram(snd.chunk(b"z", audio_level=0x9E, duration=60, unknown=[(13, b"\xbe\xef"), (300, b"q")]))
    await asyncio.sleep(0.2)
    c = rcv.got.get(q)
    s.check(c and c.audio_level == 0x9E and c.duration == 60 and sorted(c.unknown) == [(13, b"\xbe\xef"), (300, b"q")], "known and unknown tags pass", c and c.__dict__)
    # A whole sequence far away resets the stream.
    snd.seq += 200_000
    far = snd.seq
    ma.datagram(snd.chunk(b"far", whole=True))
    await asyncio.sleep(0.3)
    # The page says that a reset is taken, not how it is passed on: under its own number, or in the row of the old one.
    c = next((c for c in rcv.chunks if c.media == b"far"), None)
    s.check(c, "a whole jump beyond 2^15 resets the stream, and it goes on")
    s.note(f"after a jump to {far} the far side sees {c and c.whole_seq}")
    s.check(snd.acks[-1][1].newest == far, "and is acknowledged", snd.acks[-1][1].__dict__)
    s.check(not mb.bad and not ma.bad, "every chunk from the server can be read", ma.bad, mb.bad)
    left = 5.6 - (time.monotonic() - t0)
    await asyncio.sleep(max(0, left))
    qa = await la.events.wait(lambda e: e["event"] == "quality", 1)
    s.check(qa, "quality every 5 s")
    if qa:
        s.check(qa.get("streams") and all({"source", "sink", "sent", "received", "lost"} <= set(x) for x in qa["streams"]), "members of quality", qa)
        s.check("seq" not in qa, "quality has no seq", qa)
    r = await la.send("quality", streams=[{"source": 1, "sink": 1, "sent": 1, "received": 1, "lost": 0, "late": 0, "jitter-ms": 1, "delay-ms": 5, "mos": 4.1}])
    s.check(r.status == 200, "our quality is taken", r)
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()


@scenario
async def truncated_start(s):
    "a stream that begins truncated; early media rules"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.ring(a, b)
    ma = await s.media(a, la)
    # Before the answer: acknowledged and dropped.
    await ma.talk(0.5)
    await asyncio.sleep(0.2)
    s.check(ma.acks, "media from the caller before answered is acknowledged")
    r = await lb.send("alerting")
    await s.answer(la, lb)
    mb = await s.media(b, lb)
    s.check(not bodies(mb), "and dropped", len(bodies(mb)))
    snd = mb.sender()
    mb.datagram(snd.chunk(b"short", whole=False))
    await asyncio.sleep(0.3)
    s.note(f"need-whole from the server on a stream that begins truncated: {mb.need_whole}")
    s.check(not bodies(ma), "a stream that begins truncated is not passed on with guessed numbers", bodies(ma))
    s.check((1, 1) in mb.need_whole, "the server asks for whole values", mb.need_whole)
    await asyncio.gather(ma.talk(0.6), mb.talk(0.6))
    await asyncio.sleep(0.2)
    s.check(len(bodies(ma)) == 30, "then it flows", len(bodies(ma)))
    s.check(len(bodies(mb)) == 30, "both ways", len(bodies(mb)))
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()


@scenario
async def early_media(s):
    "progress: media to the caller before the answer"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.ring(a, b)
    ma, mb = await s.media(a, la), await s.media(b, lb)
    await mb.talk(0.2)
    await asyncio.sleep(0.2)
    s.check(not bodies(ma), "nothing before progress", len(bodies(ma)))
    r = await lb.send("progress")
    s.check(r.status == 200, "progress is taken", r)
    s.check(await la.events.wait(lambda e: e["event"] == "progress"), "the caller hears progress", la.events.items)
    await mb.talk(0.4)
    await asyncio.sleep(0.2)
    s.check(len(bodies(ma)) >= 18, "then it flows to the caller", len(bodies(ma)))
    await ma.talk(0.2)
    await asyncio.sleep(0.2)
    s.check(not bodies(mb), "not from the caller", len(bodies(mb)))
    await s.answer(la, lb)
    await asyncio.gather(ma.talk(0.4), mb.talk(0.4))
    await asyncio.sleep(0.2)
    s.check(len(bodies(mb)) == 20, "both ways after the answer", len(bodies(mb)))
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()


@scenario
async def media_byways(s):
    "two-way media over PUT and GET"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    ma, mb = Media(a, la), Media(b, lb)
    ma.byways(); mb.byways()
    ma.start_acks(); mb.start_acks()
    await asyncio.sleep(0.2)
    ra, rb = await asyncio.gather(ma.talk(2.0, via="byway"), mb.talk(2.0, via="byway"))
    await asyncio.sleep(0.6)
    s.check(ra and all(r.status == 200 for r in ra), "PUT media: 200", [r for r in ra if r.status != 200][:2])
    s.check(ra and ra[0].headers.get("content-type", "").startswith("application/vnd.ript.chunks"), "the answer is application/vnd.ript.chunks", ra and ra[0].headers)
    s.check(any(r.body for r in ra), "acks in the answers to PUT")
    s.check(len(bodies(mb)) == ma.sender().seq, "Alice to Bob, complete", len(bodies(mb)), ma.sender().seq)
    s.check(len(bodies(ma)) == mb.sender().seq, "Bob to Alice, complete", len(bodies(ma)), mb.sender().seq)
    s.check(all(bodies(mb).get(q) == m for q, (_, m) in ma.sender().sent.items()), "unchanged")
    for who, m in (("Alice", ma), ("Bob", mb)):
        top = max((x[1] for x in m.sender().acks), key=lambda x: x.newest, default=None)
        s.note(f"{who} sent {m.sender().seq}, the server acknowledged {top and sum(h - l + 1 for l, h in top.ranges()[0])}; GETs: { {x: m.statuses.count(x) for x in set(m.statuses)} }")
    s.check(ma.sender().short, "acks let the sender truncate")
    s.check(ma.cookie and ma.cookie.startswith("ript-media="), "a media cookie", ma.cookie)
    if ma.cookie:
        c = ma.set_cookie.lower()
        s.check("httponly" in c and "secure" in c and f"path={urlsplit(la.uri).path}/media" in c.replace(" ", ""), "HttpOnly; Secure; Path", ma.set_cookie)
        r = await a.request("PUT", la.at("/media"), [("cookie", ma.cookie)], R.frame(R.control(R.PROBE, b"hi")), token=None)
        s.check(r.status == 200, "the cookie alone is enough", r)
        r = await b.request("PUT", lb.at("/media"), [("cookie", ma.cookie)], R.frame(R.control(R.PROBE, b"hi")), token=None)
        s.is_problem(r, 401, "unauthorized", "another leg's cookie")
    s.check(not ma.bad and not mb.bad, "everything can be read", ma.bad[:2], mb.bad[:2])
    s.is_problem(await a.request("PUT", la.at("/media"), body=b"\x05\x06\x12"), 400, "bad-chunk", "half a chunk")
    s.is_problem(await a.request("PUT", la.at("/media"), body=R.frame(ma.sender().chunk(b"1"), ma.sender().chunk(b"2"))), 400, "bad-chunk", "two media chunks in one PUT")
    r = await a.request("PUT", la.at("/media"), body=R.frame(R.control(R.PROBE, b"nonce"), ma.sender().chunk(b"1"), *ma.ack_chunks()[:1]))
    s.check(r.status == 200, "a probe, a media chunk and an ack in one PUT", r)
    if r.status == 200:
        s.note(f"a probe in a PUT is answered in the same answer: {any(R.decode(c).control == R.PROBE_ANSWER for c in R.unframe(r.body))}")
    # An idle GET.
    ma.fetching = mb.fetching = False
    await asyncio.sleep(0.3)
    for t in ma.tasks + mb.tasks:
        t.cancel()
    t = time.monotonic()
    st = [None]
    for _ in range(40):
        r = await a.get(la.at("/media", n=900 + _), timeout=13)
        if r.status == 204:
            break
    t = time.monotonic() - t
    s.check(r.status == 204 and 8 <= t <= 12, "an idle GET: 204 after 10 s", r.status, round(t, 1))
    await s.hang_up(la, lb)


@scenario
async def media_mixed(s):
    "one peer on a session, the other on byways; both paths at once"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    ma = await s.media(a, la)
    mb = Media(b, lb)
    mb.byways()
    mb.start_acks()
    await asyncio.sleep(0.2)
    x, y = await converse(s, a, b, la, lb, ma, mb, via_b="byway", seconds=2.0)
    s.check(all(x.get(q) == m for q, (_, m) in ma.sender().sent.items()), "session to byways, complete", len(x), ma.sender().seq)
    s.check(all(y.get(q) == m for q, (_, m) in mb.sender().sent.items()), "byways to session, complete", len(y), mb.sender().seq)
    # Bob opens a session too: the server goes over to it.
    s.must(await mb.connect(), "Bob's session")
    mark = len(mb.receiver().chunks)
    x, y = await converse(s, a, b, la, lb, ma, mb, seconds=1.0)
    paths = [c.path for c in mb.receiver().chunks[mark:]]
    s.check(all(x.get(q) == m for q, (_, m) in ma.sender().sent.items()), "complete on the session", len(x), ma.sender().seq)
    s.check(paths.count("datagram") >= len(paths) * 0.8, "with both open, the session is used", {p: paths.count(p) for p in set(paths)})
    # And loses it again.
    mb.close_session()
    await asyncio.sleep(0.3)
    mark = ma.sender().seq
    await ma.talk(1.5)
    await asyncio.sleep(0.8)
    x = bodies(mb)
    n = sum(q in x for q in range(mark, ma.sender().seq))
    s.check(n >= 60, "without it, the byways again (of 75)", n)
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()


@scenario
async def hold_resume(s):
    "hold, resume, both holding"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    ma, mb = await s.media(a, la), await s.media(b, lb)
    n = len(lb.events.items)
    r = await la.send("hold")
    s.must(r.status == 200, "hold is taken", r)
    e = await lb.events.wait(lambda e: e["event"] == "hold")
    s.check(e and e.get("by") == "caller", "Bob hears hold, by caller", e)
    for l, i in ((la, 0), (lb, n)):
        d = await l.events.wait(lambda e: e["event"] == "directives" and not streams(e["clientDirectives"]) and not streams(e["serverDirectives"]))
        s.check(d, "directives without streams", l.events.items[-2:])
    r = await la.describe()
    s.check(r.json["held"] is True, "held", r.json["held"])
    r = await lb.describe()
    s.check(r.json["held"] is False, "held is the asking leg's own flag", r.json["held"])
    s.is_problem(await la.send("hold"), 409, "illegal-event", "hold when held")
    s.is_problem(await lb.send("resume"), 409, "illegal-event", "resume when not held")
    await asyncio.sleep(2.1)
    await asyncio.gather(ma.talk(0.2), mb.talk(0.2))
    await asyncio.sleep(0.2)
    s.check(not bodies(ma) and not bodies(mb), "no media while held", len(bodies(ma)), len(bodies(mb)))
    r = await lb.send("hold")
    s.check(r.status == 200, "both may hold", r)
    r = await la.send("resume")
    s.check(r.status == 200, "resume", r)
    s.check(await lb.events.wait(lambda e: e["event"] == "resume"), "Bob hears resume")
    r = await a.post(la.uri)
    s.check(not streams(r.json["clientDirectives"]), "still no streams: Bob holds", r.json["clientDirectives"])
    n = len(la.events.items)
    r = await lb.send("resume")
    d = await la.events.wait(lambda e: e["event"] == "directives" and streams(e["clientDirectives"]), since=n)
    s.check(d, "streams again", la.events.items[n:])
    x, y = await converse(s, a, b, la, lb, ma, mb, seconds=0.6)
    s.check(len(x) >= 30 and len(y) >= 30, "media again", len(x), len(y))
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()


@scenario
async def dtmf_events(s):
    "DTMF as event"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    r = await la.send("dtmf", digit="5", duration=100)
    s.check(r.status == 200, "taken", r)
    e = await lb.events.wait(lambda e: e["event"] == "dtmf")
    s.check(e and e.get("digit") == "5" and e.get("duration") == 100 and e.get("direction") == "s2c", "passed on", e)
    for d in "#*D0":
        await lb.send("dtmf", digit=d, duration=80)
    await asyncio.sleep(0.3)
    s.check("".join(e["digit"] for e in la.events.items if e["event"] == "dtmf") == "#*D0", "in order", la.events.items[-4:])
    r = await la.send("dtmf", digit="55", duration=100)
    s.check(r.status in (400, 409), "two digits in one", r)
    await s.hang_up(la, lb)


@scenario
async def dtmf_telephone_event(s):
    "DTMF as telephone-event, and converted"
    a, b, c = await s.phone("alice", OPUS_TE), await s.phone("bob", OPUS_TE), await s.phone("carol", OPUS)
    la, lb = await s.established(a, b)
    d = la.events.last("directives")
    s.check("telephone-event" in d["clientDirectives"] and "telephone-event" in d["serverDirectives"], "telephone-event in directives", d)
    ma, mb = await s.media(a, la), await s.media(b, lb)
    await ma.talk(0.2)
    def digit(snd, n, ms=100):
        out, ts = [], R.now_ms()
        for k in (1, 2, 3, 4, 4, 4):
            end = k == 4
            dur = min(ms * 8, k * ms * 2)
            out.append(snd.chunk(bytes([n, (0x80 if end else 0) | 10]) + dur.to_bytes(2, "big"), timestamp=ts, payload_type=R.TELEPHONE_EVENT))
        return out
    q = ma.sender().seq
    for x in digit(ma.sender(), 7):
        ma.datagram(x)
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    got = [x for x in mb.receiver().chunks if x.payload_type == 6]
    s.check([x.media for x in got] == [ma.sender().sent[i][1] for i in range(q, q + 6)], "payload type 6 passes", len(got))
    s.check(not [e for e in lb.events.items if e["event"] == "dtmf"], "never both", lb.events.items)
    # Refuses neither: an event where telephone-event was agreed is converted.
    mark = len(mb.receiver().chunks)
    r = await la.send("dtmf", digit="3", duration=100)
    s.check(r.status == 200, "dtmf is not refused either", r)
    await asyncio.sleep(0.5)
    await ma.talk(0.3)
    await asyncio.sleep(0.2)
    got = [x for x in mb.receiver().chunks[mark:] if x.payload_type == 6]
    s.check(got and got[0].media[0] == 3 and any(x.media[1] & 0x80 for x in got), "it arrives as payload type 6", [x.media.hex() for x in got], [e for e in lb.events.items if e["event"] == "dtmf"])
    s.check(all(mb.receiver().got.get(i) and mb.receiver().got[i].media == m for i, (_, m) in ma.sender().sent.items()) or
            len([x for x in mb.receiver().chunks[mark:] if x.payload_type == 1]) == 15, "the audio around it arrives",
            len([x for x in mb.receiver().chunks[mark:] if x.payload_type == 1]))
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()
    # Towards one that has no telephone-event.
    la, lc = await s.established(a, c)
    ma, mc = await s.media(a, la), await s.media(c, lc)
    await ma.talk(0.2)
    for x in digit(ma.sender(), 11):
        ma.datagram(x)
        await asyncio.sleep(0.02)
    e = await lc.events.wait(lambda e: e["event"] == "dtmf", 1.5)
    s.check(e and e.get("digit") == "#", "telephone-event becomes a dtmf event", e)
    s.check(len([e for e in lc.events.items if e["event"] == "dtmf"]) <= 1, "once", lc.events.items[-4:])
    s.check(not [x for x in mc.receiver().chunks if x.payload_type == 6], "and no chunk of type 6")
    await s.hang_up(la, lc)
    ma.stop(); mc.stop()


@scenario
async def decline_busy_cancel(s):
    "declined by one and by all, busy, cancel"
    a, b1, b2 = await s.phone("alice"), await s.phone("bob"), await s.phone("bob")
    la, l1 = await s.ring(a, b1)
    l2 = await b2.incoming("incoming")
    await l2.listen()
    r = await l1.send("declined", reason="rejected")
    s.check(r.status == 200, "declined by one device", r)
    await asyncio.sleep(0.4)
    s.check(not la.events.last("declined"), "the others ring on", la.events.items)
    r = await l2.send("declined", reason="busy")
    e = await la.events.wait(lambda e: e["event"] == "declined")
    s.check(e and e.get("reason") == "busy", "declined when all declined; busy", e)
    e = await la.events.wait(lambda e: e["event"] == "ended")
    s.check(e, "ended after declined")
    r = await la.describe()
    s.check(r.json.get("outcome") == "declined" and r.json.get("reason") == "busy", "outcome declined", r.json)
    # scope all
    n = len(b2.taps.items)
    la, l1 = await s.ring(a, b1)
    l2 = await b2.incoming("incoming", since=n)
    s.must(l2, "tap")
    await l2.listen()
    await l1.send("declined", reason="rejected", scope="all")
    e = await la.events.wait(lambda e: e["event"] == "declined")
    s.check(e and e.get("reason") == "rejected", "scope all", e)
    s.check(await l2.events.wait(lambda e: e["event"] == "ended"), "the other device stops ringing")
    # cancel
    n = len(b1.taps.items)
    la, l1 = await s.ring(a, b1)
    await l1.send("alerting")
    r = await la.send("end")
    s.check(r.status == 200, "cancel", r)
    e = await l1.events.wait(lambda e: e["event"] == "ended")
    s.check(e and e.get("by") == "caller", "the ringing device hears ended", e)
    s.check((await la.describe()).json.get("outcome") == "cancelled", "outcome cancelled")
    s.is_problem(await l1.claim("answer"), 409, "call-ended", "a claim after that")
    # end, spelled `ended`
    la, l1 = await s.ring(a, b1)
    s.check((await la.send("ended")).status == 200, "`ended` is taken for `end`")
    s.check(await l1.events.wait(lambda e: e["event"] == "ended"), "and ends it")


@scenario
async def noanswer(s):
    "nobody answers within answer-timeout (run with a short one)"
    a, b = await s.phone("alice"), await s.phone("bob")
    t = (await a.get(a.tg)).json["answer-timeout"]
    if t > 70_000:
        s.note(f"answer-timeout is {t} ms: skipped")
        return
    la, lb = await s.ring(a, b)
    await lb.send("alerting")
    t0 = time.monotonic()
    for _ in range(int(t / 10_000) + 1):
        e = await la.events.wait(lambda e: e["event"] == "noanswer", 10)
        if e:
            break
        await la.send("ping", nonce="x")
        await lb.send("ping", nonce="x")
    took = time.monotonic() - t0
    s.check(e and abs(took - t / 1000) < 3, "noanswer after answer-timeout", e, round(took, 1))
    s.check(e and e.get("reason") == "answer-timeout", "reason answer-timeout", e)
    s.check(await la.events.wait(lambda e: e["event"] == "ended") and await lb.events.wait(lambda e: e["event"] == "ended"), "ended at both")
    s.check((await la.describe()).json.get("outcome") == "noanswer", "outcome noanswer")


@scenario
async def pull_and_recover(s):
    "a second device takes the call; a crashed one comes back"
    a, b1, b2 = await s.phone("alice"), await s.phone("bob"), await s.phone("bob")
    la, l1 = await s.ring(a, b1)
    l2 = await b2.incoming("incoming")
    await l2.listen()
    await s.answer(la, l1)
    ma, m1 = await s.media(a, la), await s.media(b1, l1)
    await asyncio.gather(ma.talk(0.6), m1.talk(0.6))
    await asyncio.sleep(0.2)
    n = len(la.events.items)
    r = await l2.claim("pull")
    s.must(r.status == 200, "pull", r)
    e = await l1.events.wait(lambda e: e["event"] == "handler-changed")
    s.check(e and e.get("handler") == b2.handler, "handler-changed names the new one", e)
    s.check(await la.events.wait(lambda e: e["event"] == "directives", since=n), "directives to the far leg", la.events.items[n:])
    m2 = await s.media(b2, l2)
    before = dict(bodies(ma))
    top = max(before) if before else -1
    await asyncio.gather(ma.talk(0.6), m2.talk(0.6))
    await asyncio.sleep(0.3)
    s.check(len(bodies(m2)) >= 28, "media to the new device", len(bodies(m2)))
    rc = ma.receiver()
    new = {q: c for q, c in rc.got.items() if q not in before}
    s.check(len(new) >= 28 and rc.duplicates == 0, "media from the new device", len(new), rc.duplicates)
    s.check(new and min(new) > top and min(new) - top < 200, "rebased into one continuous stream", top, sorted(new)[:3])
    ts = [rc.got[q].whole_ts for q in sorted(rc.got)]
    s.check(ts == sorted(ts), "timestamps rise", ts[:3], ts[-3:])
    m = len(bodies(m1))
    await ma.talk(0.2)
    await asyncio.sleep(0.2)
    s.check(len(bodies(m1)) == m, "no more to the old device", len(bodies(m1)) - m)
    # Crash of the new device: everything gone but handler and call.
    m2.stop()
    h = b2.handler
    await b2.close()
    s.phones.remove(b2)
    b3 = await s.connect("bob")
    b3.handler = h
    r = await b3.get(b3.tg + "/calls")
    s.check(l2.uri in [c["uri"] for c in r.json["calls"]], "the call is found again", r.json)
    l3 = b3.leg(l2.uri)
    r = await l3.claim("recover")
    s.must(r.status == 200, "recover", r)
    l3.seq = r.json.get("accepted", 0)
    s.note(f"accepted after recover: {r.json.get('accepted')}")
    await l3.listen()
    m3 = await s.media(b3, l3)
    k, j = len(bodies(m3)), len(rc.got)
    await asyncio.gather(ma.talk(0.6), m3.talk(0.6))
    await asyncio.sleep(0.3)
    s.check(len(bodies(m3)) - k >= 28 and len(rc.got) - j >= 28, "media both ways after recover", len(bodies(m3)) - k, len(rc.got) - j)
    ts = [rc.got[q].whole_ts for q in sorted(rc.got)]
    s.check(ts == sorted(ts), "timestamps still rise")
    await s.hang_up(l3, la)
    ma.stop(); m3.stop(); m1.stop()


@scenario
async def blind_transfer(s):
    "the callee sends the caller to a third"
    a, b, c = await s.phone("alice"), await s.phone("bob"), await s.phone("carol")
    la, lb = await s.established(a, b)
    ma = await s.media(a, la)
    n = len(la.events.items)
    r = await lb.send("transfer", target=c.number)
    s.must(r.status == 200, "transfer is taken", r)
    s.check(await lb.events.wait(lambda e: e["event"] == "transferring"), "transferring", lb.events.items[-2:])
    lc = await c.incoming("incoming")
    s.must(lc, "the target is tapped")
    d = await lc.describe()
    s.note(f"the target sees from={d.json.get('from')} to={d.json.get('to')}")
    s.check(d.json.get("verification", {}).get("status") == "verified", "the target's call carries an identity", d.json.get("verification"))
    await lc.listen()
    r = await lc.claim("answer")
    s.must(r.status == 200, "the target claims", r)
    r = await lc.send("answered")
    s.must(r.status == 200, "the target answers", r)
    e = await lb.events.wait(lambda e: e["event"] == "moved")
    s.check(e, "moved at the transferor", lb.events.items[-3:])
    e = await lb.events.wait(lambda e: e["event"] == "ended")
    s.check(e and e.get("reason") == "transferred", "then ended, reason transferred", e)
    s.check(await la.events.wait(lambda e: e["event"] == "directives", since=n), "directives to the one who was transferred", la.events.items[n:])
    s.check(not la.events.last("ended"), "who lives on", la.events.items[n:])
    mc = await s.media(c, lc)
    await asyncio.gather(ma.talk(0.5), mc.talk(0.5))
    await asyncio.sleep(0.3)
    s.check(len(bodies(ma)) >= 24 and len(bodies(mc)) >= 24, "media between the two", len(bodies(ma)), len(bodies(mc)))
    await s.hang_up(lc, la)
    ma.stop(); mc.stop()
    # Failure: an unreachable target.
    la, lb = await s.established(a, b)
    seq = lb.seq + 1
    r = await lb.send("transfer", target="+19995550000")
    e = await lb.events.wait(lambda e: e["event"] == "error", 3) if r.status == 200 else None
    s.check(r.status in (404, 409) or (e and e.get("ref-seq") == seq), "a target that nobody has: error with ref-seq", r, e)
    s.note(f"unreachable target: PUT {r.status} {r.code or ''}, event {e and e.get('code')}")
    s.check((await la.describe()).json["state"] == "answered", "the call lives on")
    # Failure: the target declines.
    n = len(c.taps.items)
    seq = lb.seq + 1
    r = await lb.send("transfer", target=c.number)
    lc = await c.incoming("incoming", since=n)
    s.must(lc, "second tap")
    await lc.listen()
    await lc.send("declined", reason="rejected")
    e = await lb.events.wait(lambda e: e["event"] == "error" and e.get("ref-seq") == seq)
    s.check(e, "declined: error with ref-seq", lb.events.items[-3:])
    s.check((await la.describe()).json["state"] == "answered" and (await lb.describe()).json["state"] == "answered", "both go on talking")
    # The caller hands on the callee: section 7 knows no caller id without a PASSporT.
    n = len(c.taps.items)
    await la.send("transfer", target=c.number)
    lc = await c.incoming("incoming", since=n)
    s.must(lc, "third tap")
    d = (await lc.describe()).json
    s.note(f"a callee who is handed on: from={d.get('from')!r} passport={bool(d.get('passport'))} verification={d.get('verification')}")
    s.check(not d.get("from") or (d.get("verification") or {}).get("status") == "verified", "no unauthenticated caller id at the target", d.get("from"), d.get("verification"))
    await lc.send("declined", reason="rejected")
    await la.events.wait(lambda e: e["event"] == "error", since=0)
    await s.hang_up(la, lb)


@scenario
async def attended_transfer(s):
    "transfer with replaces"
    a, b, c = await s.phone("alice"), await s.phone("bob"), await s.phone("carol")
    la, lb = await s.established(a, b)
    lb2, lc = await s.established(b, c)
    ma, mc = await s.media(a, la), await s.media(c, lc)
    na, nc = len(la.events.items), len(lc.events.items)
    r = await lb.send("transfer", target=c.number, replaces=lb2.uri)
    s.must(r.status == 200, "transfer with replaces", r)
    s.check(await lb.events.wait(lambda e: e["event"] == "moved"), "moved", lb.events.items[-3:])
    for l in (lb, lb2):
        s.check(await l.events.wait(lambda e: e["event"] == "ended"), "both of the transferor's legs end", l.events.items[-2:])
    for l, n in ((la, na), (lc, nc)):
        s.check(await l.events.wait(lambda e: e["event"] == "directives", since=n), "directives to the two", l.events.items[n:])
    await asyncio.gather(ma.talk(0.5), mc.talk(0.5))
    await asyncio.sleep(0.3)
    s.check(len(bodies(ma)) >= 24 and len(bodies(mc)) >= 24, "media between the two", len(bodies(ma)), len(bodies(mc)))
    await s.hang_up(la, lc)
    ma.stop(); mc.stop()


@scenario
async def third_party(s):
    "a call placed without a handler; tap: true"
    a, b = await s.phone("alice"), await s.phone("bob")
    ctl = await s.connect("alice")
    r = await ctl.call(b.number, handler=False)
    s.must(r.status == 201, "POST calls without handler", r)
    la = await a.incoming("outgoing")
    s.must(la, "the user's device is tapped, reason outgoing", a.taps.items)
    s.check(la.uri == urljoin(ctl.url, r.headers["location"]), "it is that call")
    r = await a.post(la.uri, {"handler": a.handler})
    s.must(r.status == 200, "POST {handler} alone takes it", r)
    await la.listen()
    lb = await b.incoming("incoming")
    s.must(lb, "the destination rings")
    await lb.describe()
    await lb.listen()
    await s.answer(la, lb)
    ma, mb = await s.media(a, la), await s.media(b, lb)
    await asyncio.gather(ma.talk(0.4), mb.talk(0.4))
    await asyncio.sleep(0.2)
    s.check(len(bodies(ma)) == 20 and len(bodies(mb)) == 20, "media both ways", len(bodies(ma)), len(bodies(mb)))
    # The controller asks that Alice's other device take the call.
    a2 = await s.phone("alice")
    n = len(a2.taps.items)
    r = await ctl.post(la.uri, {"handler": a2.handler, "tap": True})
    s.check(r.status == 202, "tap: true: 202", r)
    t = await a2.taps.wait(lambda t: t.get("reason") in ("take", "answer"), since=n)
    s.check(t and t["call"] == la.uri, "that device is tapped", a2.taps.items, a.taps.items)
    s.note(f"tap: {t}")
    ma.stop(); mb.stop()
    await s.hang_up(la, lb)


@scenario
async def events_resume(s):
    "after, Last-Event-ID, several byways, ping, x-ndjson"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    for d in "123":
        await lb.send("dtmf", digit=d, duration=50)
    await la.events.wait(lambda e: e.get("digit") == "3")
    ref = [e for e in la.events.items if "seq" in e and not e.get("snapshot")]
    at = next(e["seq"] for e in ref if e.get("digit") == "1")
    tail = [e["seq"] for e in ref if e["seq"] > at]
    e2 = await la.listen(after=at)
    await e2.wait(lambda e: e.get("digit") == "3")
    s.check([e["seq"] for e in e2.items] == tail and not any(e.get("snapshot") for e in e2.items), "?after: exactly what was missed", e2.items)
    s.check([{k: v for k, v in e.items()} for e in e2.items] == [e for e in ref if e["seq"] > at], "and unchanged", e2.items[:1])
    e3 = await la.listen([("last-event-id", str(at))])
    await e3.wait(lambda e: e.get("digit") == "3")
    s.check([e["seq"] for e in e3.items] == tail, "Last-Event-ID", e3.items[:2])
    e4 = await la.listen([("last-event-id", str(at))], after=at + 1)
    await e4.wait(lambda e: e.get("digit") == "3")
    s.check([e["seq"] for e in e4.items] == tail[1:], "the query wins", e4.items[:2])
    e5 = await la.listen(after=ref[-1]["seq"] + 1000)
    e = await e5.wait(lambda e: True)
    s.check(e and e.get("snapshot"), "?after above the newest: the snapshot", e)
    s.check(e and e["seq"] == ref[-1]["seq"], "its seq is the newest event's", e, ref[-1]["seq"])
    e6 = await la.listen(after=ref[-1]["seq"])
    await asyncio.sleep(0.2)
    s.check(e6.items == [] and not e6.ended, "?after = the newest: nothing yet", e6.items)
    nd = await la.listen([("accept", "application/x-ndjson")])
    e = await nd.wait(lambda e: True)
    s.check(e and not nd.parser.opened, "x-ndjson: one object a line", e)
    s.check(nd.stream.headers.get("content-type", "").startswith("application/x-ndjson"), "content-type", nd.stream.headers.get("content-type"))
    await lb.send("dtmf", digit="9", duration=50)
    for x, name in ((la.events, "first"), (e2, "after"), (e3, "last-event-id"), (e4, "both"), (e5, "snapshot"), (e6, "newest"), (nd, "ndjson")):
        s.check(await x.wait(lambda e: e.get("digit") == "9"), f"all byways get everything ({name})")
    r = await la.send("ping", nonce="n-1")
    s.check(r.status == 200, "ping", r)
    e = await la.events.wait(lambda e: e["event"] == "pong")
    s.check(e and e.get("nonce") == "n-1" and "seq" not in e, "pong with the nonce, without seq", e)
    await asyncio.sleep(0.2)
    s.check(not lb.events.last("pong"), "to that handler only")
    # An unknown event type is ignored.
    r = await la.send("x-future", anything={"a": 1})
    s.check(r.status == 200, "an unknown event type is no error", r)
    s.check((await la.describe()).json["state"] == "answered", "and changes nothing")
    await s.hang_up(la, lb)
    for x in (e2, nd):
        s.check(await x.wait_end(), "every byway ends")


@scenario
async def duplicates(s):
    "(handler, seq) seen again; illegal events; accepted on an open PUT"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    e = la.event("dtmf", digit="1", duration=50)
    r1, r2 = await la.put(e), await la.put(e)
    s.check(r1.status == 200 and r2.status == 200 and r1.json == r2.json == {"accepted": e["seq"]}, "a retry gets the same answer", r1, r2)
    r = await la.put(e, la.event("dtmf", digit="2", duration=50))
    s.check(r.status == 200, "a duplicate and a new one in one PUT", r)
    await lb.events.wait(lambda e: e.get("digit") == "2")
    await asyncio.sleep(0.2)
    s.check([e["digit"] for e in lb.events.items if e["event"] == "dtmf"] == ["1", "2"], "each once", lb.events.items)
    # illegal: does not use up its seq
    seq = la.seq + 1
    r = await la.send("answered")
    s.is_problem(r, 409, "illegal-event", "answered from the caller")
    r = await la.send("dtmf", seq=seq, digit="3", duration=50)
    s.check(r.status == 200 and r.json == {"accepted": seq}, "the illegal event did not use up its seq", r)
    s.check(await lb.events.wait(lambda e: e.get("digit") == "3"), "so a legal one with it counts")
    la.seq = seq + 10
    r = await la.send("dtmf", digit="4", duration=50)
    s.check(r.status == 200 and r.json == {"accepted": seq + 11}, "gaps are legal", r)
    # open PUT
    p = la.begin_put()
    st = await p.head(2)
    s.check(st == 200, "open PUT: 200 and headers at once", st)
    q = la.push("dtmf", digit="5", duration=50)
    t = time.monotonic()
    e = await la.events.wait(lambda e: e["event"] == "accepted" and e.get("accepted") == q)
    s.check(e and time.monotonic() - t < 0.35, "accepted within 200 ms", e, round(time.monotonic() - t, 3))
    s.check(e and "seq" not in e, "accepted has no seq", e)
    s.check(not lb.events.last("accepted"), "to that handler's byways only")
    la.push("answered")
    ref = la.seq
    e = await la.events.wait(lambda e: e["event"] == "error")
    s.check(e and e.get("code") == "illegal-event" and e.get("ref-seq") == ref and "seq" not in e, "error with ref-seq", e)
    q = la.push("dtmf", seq=ref, digit="6", duration=50)
    s.check(await lb.events.wait(lambda e: e.get("digit") == "6"), "and the seq is free")
    la.seq = ref
    la.push("dtmf", digit="7", duration=50)
    r = await la.finish_put()
    s.check(r.status == 200 and r.json == {"accepted": la.seq}, "{accepted} at the end of the open PUT", r)
    await lb.events.wait(lambda e: e.get("digit") == "7")
    s.check("".join(e["digit"] for e in lb.events.items if e["event"] == "dtmf") == "1234567", "all of it, once, in order")
    # bare objects, newlines, on an open PUT in pieces
    p = la.begin_put(array=False)
    await p.head(2)
    raw = json.dumps(la.event("dtmf", digit="8", duration=50)).encode() + b"\n" + json.dumps(la.event("dtmf", digit="9", duration=50)).encode()
    for i in range(0, len(raw), 50):
        p.send(raw[i:i + 50])
        await asyncio.sleep(0.005)
    p.send(b"\n", end=True)
    r = await p.response()
    s.check(r.json == {"accepted": la.seq}, "bare objects in pieces", r)
    r = await la.describe()
    s.check(r.json.get("accepted") == la.seq, "accepted in the call", r.json.get("accepted"), la.seq)
    e = await (await la.listen()).wait(lambda e: True)
    s.check(e and e.get("accepted") == la.seq, "and in the snapshot", e)
    # bad input
    put = lambda body: a.request("PUT", la.at("/events"), [("content-type", "application/json")], body)
    s.is_problem(await put(b'{"event":'), 400, None, "half an event")
    s.is_problem(await put(b'{"seq": 99}'), 400, "bad-event", "no event member")
    r = await put(json.dumps({"event": "dtmf", "digit": "1", "handler": a.handler}).encode())
    s.check(r.status == 400 or r.status == 200 and r.json == {"accepted": la.seq + 1}, "no seq: refused, or taken as the next", r)
    s.note(f"an event without seq: {r.status} {r.body.decode()[:40]}")
    la.seq += r.status == 200
    s.is_problem(await put(json.dumps(la.event("dtmf", digit="1", duration=50, pad="x" * 70000)).encode()), 413, "too-large", "an event over 64 KiB")
    la.seq -= 1
    s.is_problem(await put(b'{"event":"dtmf","seq":%d,"x":' % (la.seq + 1) + b"[" * 20 + b"]" * 20 + b"}"), 400, None, "nested 20 deep")
    s.is_problem(await put(json.dumps({**la.event("dtmf", digit="1"), "seq": -1}).encode()), 400, "bad-event", "negative seq")
    la.seq -= 1
    r = await put(b"[]")
    s.check(r.status == 200 and r.json == {"accepted": la.seq}, "no events at all", r, la.seq)
    bad = b.leg(la.uri)
    s.is_problem(await bad.send("end"), 404, "not-found", "an event on another's leg")
    await s.hang_up(la, lb)


@scenario
async def errors(s):
    "the codes of section 2 on POST calls"
    a, b = await s.phone("alice"), await s.phone("bob")
    post = lambda dest, passport, **m: a.post(a.tg + "/calls", {"handler": a.handler, "destination": dest, "passport": passport, **m})
    d = b.number
    P = lambda **k: R.passport(a.key, k.pop("orig", a.number), k.pop("dest", d), **k)
    r = await post(d, None)
    s.is_problem(r, 403, "passport-form", "passport null")
    s.check("date" in r.headers, "403 has Date", r.headers)
    s.is_problem(await a.post(a.tg + "/calls", {"handler": a.handler, "destination": d}), 403, "passport-form", "no passport")
    s.is_problem(await post(d, "abc"), 403, "passport-form", "no JWT")
    s.is_problem(await post(d, P(header={"typ": "JWT"})), 403, "passport-form", "typ JWT")
    s.is_problem(await post(d, P(header={"alg": "none"})), 403, "passport-form", "alg none")
    s.is_problem(await post(d, P(header={"ppt": "rph"})), 403, "passport-form", "unknown ppt")
    h, p, sig = P().split(".")
    s.is_problem(await post(d, f"{h}.{p}.{sig[:-8]}AAAAAAAA"), 403, "passport-signature", "tampered signature")
    s.is_problem(await post(d, R.passport(a.key, a.number, d).split(".")[0] + "." + R.passport(a.key, a.number, "+19995551111").split(".")[1] + "." + sig), 403, "passport-signature", "tampered payload")
    from cryptography.hazmat.primitives import serialization
    k = ec.generate_private_key(ec.SECP256R1()).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    r = await post(d, R.passport(k, a.number, d))
    s.check(r.status == 403 and r.code in ("passport-signature", "passport-chain"), "a key that nobody trusts", r)
    s.is_problem(await post(d, P(dest="+19995551111")), 403, "passport-dest", "another dest")
    s.is_problem(await post(d, P(iat=int(time.time()) - 120)), 403, "passport-stale", "iat two minutes ago")
    s.is_problem(await post(d, P(iat=int(time.time()) + 120)), 403, "passport-stale", "iat in two minutes")
    r = await post(d, P(orig="+14085559999"))
    s.check(r.status == 403 and r.code in ("number-not-allowed", "passport-orig"), "somebody else's number", r)
    s.note(f"orig that is not the token's: {r.code}")
    pp = P()
    r = await post(d, pp)
    s.must(r.status == 201, "a good one", r)
    first = r.headers["location"]
    s.is_problem(await post(d, pp), 403, "passport-replay", "the same again")
    h, p, sig = pp.split(".")
    raw = R.base64.urlsafe_b64decode(sig + "==")
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = raw[:32] + (n - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    r = await post(d, f"{h}.{p}.{R.b64(other)}")
    s.is_problem(r, 403, "passport-replay", "the other s of the same signature")
    await a.leg(first).send("end")
    # destinations
    s.is_problem(await post("+19995551111", P(dest="+19995551111")), 404, "unreachable", "nobody there")
    s.is_problem(await post("not a number", P()), 422, "bad-number", "no number")
    r = await a.post(a.tg + "/calls", {"handler": a.handler, "passport": P()})
    s.check(r.status in (400, 422), "no destination", r)
    s.is_problem(await a.post(a.tg + "/calls", {"handler": a.handler + "x", "destination": d, "passport": P()}), 404, "no-such-handler", "unknown handler")
    s.is_problem(await a.post(a.tg + "/calls", {"handler": b.handler, "destination": d, "passport": P()}), 404, "no-such-handler", "another's handler")
    s.is_problem(await a.request("POST", a.tg + "/calls", body=b"{"), 400, "bad-json", "half a JSON")
    s.is_problem(await a.request("POST", a.tg + "/calls", body=b"[1]"), 400, "bad-json", "no object")
    # no common codec
    c = await s.phone("carol", "1 in: EVS;\n1 out: EVS;")
    n = len(c.taps.items)
    r = await post(c.number, P(dest=c.number))
    s.is_problem(r, 422, "no-common-codec", "no common codec")
    await asyncio.sleep(0.3)
    s.check(len(c.taps.items) == n, "before anyone rings", c.taps.items)
    # reading with a handler that does not exist
    r = await post(d, P())
    leg = a.leg(r.headers["location"])
    s.is_problem(await a.get(with_query(leg.uri + "/events", handler=a.handler + "zz")), 404, "no-such-handler", "events with an unknown handler")
    r = await a.get(with_query(leg.uri, handler=a.handler.rsplit("/", 1)[1]))
    s.check(r.status in (200, 404), "handler by its last segment", r)
    big = b"{" + b" " * (3 << 20) + b"}"
    try:
        r = await a.request("POST", a.tg + "/calls", body=big)
        s.is_problem(r, 413, "too-large", "3 MiB of JSON")
    except ConnectionError as e:
        s.check(False, "3 MiB of JSON", str(e))
    await leg.send("end")


@scenario
async def idempotency(s):
    "Idempotency-Key"
    a, b = await s.phone("alice"), await s.phone("bob")
    body = {"handler": a.handler, "destination": b.number, "passport": a.passport(b.number)}
    k = [("idempotency-key", os.urandom(8).hex())]
    r1 = await a.post(a.tg + "/calls", body, headers=k)
    r2 = await a.post(a.tg + "/calls", body, headers=k)
    s.check(r1.status == 201 and r2.status == 201 and r1.headers.get("location") == r2.headers.get("location"), "the same key and body: the same 201", r1, r2)
    r3 = await a.post(a.tg + "/calls", {**body, "passport": a.passport(b.number, iat=int(time.time()) - 1)}, headers=k)
    s.is_problem(r3, 422, "idempotency-mismatch", "another body")
    await asyncio.sleep(0.3)
    s.check(len({t["call"] for t in b.taps.items}) == 1, "one call", b.taps.items)
    c = await s.phone("carol")
    r4 = await c.post(c.tg + "/calls", {"handler": c.handler, "destination": b.number, "passport": c.passport(b.number)}, headers=k)
    s.check(r4.status == 201 and r4.headers["location"] != r1.headers["location"], "keys are a user's own", r4)
    if r1.status == 201:
        await a.leg(r1.headers["location"]).send("end")


@scenario
async def tickets(s):
    "media and push tickets"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    r = await la.describe()
    wt = urljoin(a.url, r.json["media"]["webtransport"])
    s.check("ticket=" in wt, "webtransport URL with a ticket", wt)
    s.check(not any(k in json.dumps(r.json["media"]["byway"]) for k in ("ticket",)), "byway without", r.json["media"])
    m = Media(a, la)
    s.check(await m.connect(wt, token=None), "CONNECT by ticket alone", m.connect_status, getattr(m, "connect_response", None))
    m2 = Media(a, la)
    ok = await m2.connect(wt, token=None)
    s.check(not ok and m2.connect_status == 403 and m2.connect_response.code == "bad-ticket", "a ticket works once", m2.connect_status)
    m3 = Media(a, la)
    await m3.connect(with_query(la.uri + "/media", ticket="nonsense"), token=None)
    s.check(m3.connect_status == 403 and m3.connect_response.code == "bad-ticket", "a wrong one", m3.connect_status)
    await m3.connect(la.uri + "/media", token=None)
    s.check(m3.connect_status == 401, "neither ticket nor bearer", m3.connect_status)
    r2 = await la.describe()
    wt2 = urljoin(a.url, r2.json["media"]["webtransport"])
    s.check(wt2 != wt, "a fresh one in every GET", wt2)
    await m3.connect(with_query(wt2.split("&handler=")[0], handler=b.handler), token=None)
    s.check(m3.connect_status == 403 and m3.connect_response.code == "bad-ticket", "a handler in the query that differs", m3.connect_status)
    m.stop(); m.close_session()
    r = await a.post(with_query(ROOT + "/push/tickets", handler=a.handler))
    s.must(r.status == 201 and r.json.get("ticket"), "POST push/tickets", r)
    t = r.json["ticket"]
    p = await R.json_stream(a, with_query(ROOT + "/push", ticket=t), token=None)
    s.check(p.stream.status == 200, "push by ticket", p.refused)
    q = await R.json_stream(a, with_query(ROOT + "/push", ticket=t), token=None)
    s.check(q.stream.status == 403 and q.refused.code == "bad-ticket", "once", q.refused)
    q = await R.json_stream(a, with_query(ROOT + "/push", handler=a.handler), token=None)
    s.check(q.stream.status == 401, "push without anything", q.refused)
    q = await R.json_stream(a, with_query(ROOT + "/push", handler=b.handler))
    s.check(q.stream.status == 404, "push for another's handler", q.stream.status, q.refused)
    await s.hang_up(la, lb)


@scenario
async def push_rules(s):
    "late taps, a WebSocket, taps of calls that ring now"
    a = await s.phone("alice")
    b = await s.phone("bob", watch=False)
    la = await s.place(a, b.number)
    await la.listen()
    await asyncio.sleep(0.3)
    await b.watch()
    lb = await b.incoming("incoming")
    s.check(lb, "a push channel that is opened later gets a tap for the call that rings", b.taps.items)
    r = await b.post(with_query(ROOT + "/push/tickets", handler=b.handler))
    def ws():
        import base64, hashlib, socket
        ctx = ssl.create_default_context(cafile=s.args.ca)
        c = ctx.wrap_socket(socket.create_connection((b.host, b.port), 5), server_hostname=b.host)
        key = base64.b64encode(os.urandom(16)).decode()
        c.sendall((f"GET {ROOT}/push?ticket={quote(r.json['ticket'], safe='')} HTTP/1.1\r\nHost: {b.authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        buf = b""
        while b"\r\n\r\n" not in buf:
            x = c.recv(4096)
            if not x:
                return buf, None
            buf += x
        head, buf = buf.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            return head + buf, None
        while True:
            if len(buf) >= 2:
                n, o = buf[1] & 127, 2
                if n == 126:
                    n, o = int.from_bytes(buf[2:4], "big"), 4
                if len(buf) >= o + n:
                    op, msg, buf = buf[0] & 15, buf[o:o + n], buf[o + n:]
                    if op == 1:
                        return head, msg
                    continue
            x = c.recv(4096)
            if not x:
                return head, None
            buf += x
    try:
        head, msg = await asyncio.wait_for(asyncio.to_thread(ws), 6)
        t = json.loads(msg) if msg else None
        s.check(t and lb and t.get("call") == lb.uri, "WebSocket text messages on the same path", head[:200], msg)
    except Exception as e:
        s.check(False, "WebSocket push", repr(e))
    if lb:
        await lb.listen()
        await s.hang_up(la, lb)


@scenario
async def hostile_datagrams(s):
    "garbage never closes anything"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    ma, mb = await s.media(a, la), await s.media(b, lb)
    await ma.talk(0.3)
    good = R.Chunk(media=b"m", seq=(7, 8), timestamp=(R.now_ms(), 8)).encode()
    junk = [b"", b"\x00", b"\xff" * 8, b"\x40", os.urandom(1000), good[:5], good[:-1] + b"", bytes([0x12]) + good[1:6],
            R.control(R.ACK, b""), R.control(R.ACK, b"\x01\x01\x05\x00\x00"), R.control(R.ACK, b"\x01\x01" + b"\xff" * 8 + b"\x00" + b"\xff" * 8),
            R.control(R.ACK, b"\x01\x01\x05\x00" + b"\x01" * 200), R.control(R.PROBE, b""), R.control(R.PROBE, b"x" * 60), R.control(R.NEED_WHOLE, b"\x01"),
            R.control(77, b"future"), R.Chunk(media=b"m", seq=None, timestamp=(5, 8)).encode(), R.Chunk(media=b"m", seq=(5, 8), timestamp=None).encode(),
            b"\x08\x12\x00\x07\x12\x00\x07\x22\x00\x40", R.Chunk(media=b"m", seq=(9, 8), timestamp=(R.now_ms(), 8), source=9, sink=9).encode(),
            R.Chunk(media=b"m", seq=((1 << 62) - 1, 8), timestamp=((1 << 62) - 1, 8), source=3).encode()]
    for x in junk:
        if x is not None:
            ma.datagram(x)
        ma.uni(x)
        await asyncio.sleep(0.01)
    for _ in range(300):
        ma.datagram(os.urandom(1 + os.urandom(1)[0]))
    # A stream of the session that is never ended, and one that is reset.
    p = a.proto
    sid = p.h3.create_webtransport_stream(ma.session.sid, is_unidirectional=True)
    p._quic.send_stream_data(sid, good[:4])
    sid = p.h3.create_webtransport_stream(ma.session.sid, is_unidirectional=True)
    p._quic.send_stream_data(sid, good[:4])
    p.transmit()
    p._quic.reset_stream(sid, 1)
    p.transmit()
    # A datagram for a session that is none.
    p.h3.send_datagram(ma.session.sid + 400, b"zz")
    p.h3.send_datagram(0, b"zz")
    p.transmit()
    await asyncio.sleep(0.5)
    s.check(p.terminated is None, "the connection lives", p.terminated)
    s.check(await ma.probe(), "the session answers a probe")
    other = {k: len(r.chunks) for k, r in mb.receivers.items() if k != (1, 1)}
    s.check(not other, "streams that no directive names are not passed on", other)
    k, j = len(bodies(mb)), ma.sender().seq
    x, y = await converse(s, a, b, la, lb, ma, mb, seconds=0.6)
    s.check(sum(q in x for q in range(j, ma.sender().seq)) == 30, "media flows on", sum(q in x for q in range(j, ma.sender().seq)))
    s.check(all(y.get(q) == m for q, (_, m) in mb.sender().sent.items()), "and back")
    s.note(f"chunks at Bob that could not be read: {len(mb.bad)}")
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()


@scenario
async def no_datagrams(s):
    "CONNECT from a peer without datagrams"
    a, b = await s.phone("alice"), await s.phone("bob")
    la, lb = await s.established(a, b)
    p = Phone(s.args.url, s.args.ca, a.token, a.number, a.key)
    p.webtransport = False
    s.phones.append(p)
    await p.open()
    st = p.start("CONNECT", la.at("/media"), end=False, protocol="webtransport")
    r = await st.response()
    s.is_problem(r, 400, "no-datagrams", "CONNECT")
    r = await p.get(la.uri)
    s.check(r.status == 200, "the connection lives", r)
    st = a.start("CONNECT", la.at("/media"), end=False, protocol="websocket-nonsense")
    try:
        r = await st.response()
        s.check(400 <= r.status < 600, "another :protocol is refused", r)
    except (ConnectionError, asyncio.TimeoutError) as e:
        s.check("Reset" in repr(e), "another :protocol is refused", repr(e))
    s.check((await a.get(la.uri)).status == 200, "the connection lives", a.proto.terminated)
    await s.hang_up(la, lb)


@scenario
async def json_twin_call(s):
    "a device registered in JSON gets directives in JSON"
    twin = [{"id": 1, "direction": d, "codecs": [{"name": "opus", "params": {}}, {"name": "PCMU", "params": {}}]} for d in ("in", "out")]
    a, b = await s.phone("alice", twin), await s.phone("bob")
    la, lb = await s.established(a, b)
    e = la.events.last("directives")
    s.check(e and isinstance(e["clientDirectives"], list) and e["clientDirectives"][0].get("source") == 1 and e["clientDirectives"][0].get("sink") == 1
            and e["clientDirectives"][0]["codecs"][0]["name"] == "opus", "events in JSON", e)
    r = await la.describe()
    s.check(isinstance(r.json["clientDirectives"], list), "the call in JSON", r.json["clientDirectives"])
    s.check(isinstance(lb.events.last("directives")["clientDirectives"], str), "text for the other", lb.events.last("directives"))
    await s.hang_up(la, lb)


@scenario
async def codec_choice(s):
    "directives: the sender's order, ids, parameters"
    a = await s.phone("alice", "1 in: opus; PCMU; PCMA;\n2 out: PCMA; opus,br=64000,ptime=40; PCMU;")
    b = await s.phone("bob", "3 in: PCMU; opus,br=32000,sr=16000; 1 out: opus; PCMU;")
    la, lb = await s.established(a, b)
    e, f = la.events.last("directives"), lb.events.last("directives")
    norm = lambda d: re.sub(r"\s+", "", d)
    s.note(f"alice client={e['clientDirectives']!r} server={e['serverDirectives']!r}; bob client={f['clientDirectives']!r} server={f['serverDirectives']!r}")
    s.check(len(streams(e["clientDirectives"])) == 1 and streams(e["clientDirectives"])[0][0] == 2, "Alice sends from source 2", e)
    s.check("opus" in e["clientDirectives"] and "br=32000" in e["clientDirectives"] and "sr=16000" in e["clientDirectives"], "first of hers that Bob takes, both maxima", e["clientDirectives"])
    s.check(len(streams(e["serverDirectives"])) == 1 and streams(e["serverDirectives"])[0][1] == 1, "to her sink 1", e)
    s.check(len(streams(f["clientDirectives"])) == 1 and streams(f["clientDirectives"])[0][0] == 1, "Bob sends from source 1", f)
    s.check(len(streams(f["serverDirectives"])) == 1 and streams(f["serverDirectives"])[0][1] == 3, "to his sink 3", f)
    (xs, xk, _), (ys, yk, _) = streams(e["clientDirectives"])[0], streams(f["serverDirectives"])[0]
    ma, mb = await s.media(a, la), await s.media(b, lb)
    await ma.talk(0.4, source=xs, sink=xk)
    await asyncio.sleep(0.3)
    s.check(len(bodies(mb, ys, yk)) == 20, "source and sink are rewritten to Bob's directives", {k: len(v.chunks) for k, v in mb.receivers.items()}, (xs, xk), (ys, yk))
    acks = {(x.source, x.sink) for x in ma.acks}
    s.check(acks == {(xs, xk)}, "acks carry the ids as received", acks)
    await s.hang_up(la, lb)
    ma.stop(); mb.stop()


# ---------------------------------------------------------------- running

async def run_one(f, args, index):
    s = S(args, index)
    t = time.monotonic()
    try:
        await asyncio.wait_for(f(s), 150)
    except Stop:
        pass
    except Exception as e:
        tb = traceback.extract_tb(e.__traceback__)
        at = next((x for x in reversed(tb) if x.filename.endswith("check.py")), tb[-1])
        s.failed.append(f"{type(e).__name__}: {e} (line {at.lineno}: {at.line})")
    await s.close()
    return s, time.monotonic() - t


async def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--url", required=True)
    ap.add_argument("--ca")
    ap.add_argument("--passport-key", required=True)
    ap.add_argument("--token-cmd", required=True)
    ap.add_argument("--only", default="")
    ap.add_argument("--skip", default="")
    ap.add_argument("--markdown")
    args = ap.parse_args()
    args.key = pathlib.Path(args.passport_key).read_text()
    only, skip = [x for x in args.only.split(",") if x], args.skip.split(",")
    base = int(time.time()) % 400 + 200
    rows, bad = [], 0
    for i, f in enumerate(SCENARIOS):
        name = f.__name__.replace("_", "-")
        if (only and name not in only) or name in skip:
            continue
        s, took = await run_one(f, args, base + i)
        bad += bool(s.failed)
        rows.append((name, f.__doc__, s, took))
        print(f"{'FAIL' if s.failed else 'ok':4} {name:24} {s.passed:4} passed {len(s.failed):3} failed {took:6.1f} s  {f.__doc__}", flush=True)
        for x in s.failed:
            print(f"       - {x[:700]}", flush=True)
        for x in s.notes:
            print(f"       note: {x}", flush=True)
    print(f"\n{len(rows) - bad} of {len(rows)} scenarios pass")
    if args.markdown:
        with open(args.markdown, "w") as o:
            o.write("| scenario | what | result |\n|---|---|---|\n")
            for name, doc, s, _ in rows:
                o.write(f"| {name} | {doc} | {'pass' if not s.failed else f'FAIL ({len(s.failed)} of {s.passed + len(s.failed)} checks)'} |\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
