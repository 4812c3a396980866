"""Turns a ladder of messages (sipp/*.flow) into a scenario of sipp's, which plays the peer and is strict about what it gets.

    # what it shows                     a comment
    < INVITE                            comes: a request, or a response (`< 183`)
        Supported: 100rel               a field of it that has to match (an extended regular expression) …
        not Require: .                  … or must not be there
        body a=sendonly                 the same for what is in its body
    <? UPDATE goto fresh                may come instead of what follows
    > 183 INVITE                        goes: a response to the last request of that method, or a request
        Require: 100rel                 a field of it
        sdp sendrecv                    its body
        tag two                         another end of a fork
    > REGISTER
        login                           with credentials for the challenge that came
    speak                               speech as RTP, from here on
    pause 300                           ms
    goto end / label end

`{name}` is filled in. Whoever a flow begins with `>` is the caller. A callee answers OPTIONS before the call, and logs that.
"""
import itertools
import re
from pathlib import Path
from xml.sax.saxutils import quoteattr

FOLDER = Path(__file__).resolve().parent / "sipp"
METHODS = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO"
REASONS = {"180": "Ringing", "183": "Session Progress", "200": "OK", "404": "Not Found", "422": "Session Interval Too Small",
           "480": "Temporarily Unavailable", "486": "Busy Here", "487": "Request Terminated", "503": "Service Unavailable",
           "603": "Decline"}
# The lines that a request begins with: every Via and Record-Route that proxies have left. All responses give them back.
HOPS = "SIP/2.0[[:cntrl:]]+(((Via|Record-Route):[^[:cntrl:]]*[[:cntrl:]]+)+)"
SDP = """v=0
o=peer 1 {version} IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [{port}] RTP/AVP 8 0 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a={direction}"""


class Flow:
    def __init__(self, name, **words):
        text = (FOLDER / f"{name}.flow").read_text(encoding="utf-8")
        self.words = {"them": "+14085550001", "us": "+442071838750", "domain": "[remote_ip]", "routes": "", "more": "", **words}
        for word, value in self.words.items():
            text = text.replace("{%s}" % word, str(value))
        self.name, self.steps = name, list(parse(text))
        self.calls = self.steps[0].kind == ">"
        self.speaks = any(step.kind == "speak" for step in self.steps)
        self.variables, self.used, self.out = itertools.count(), [], []
        self.sdp, self.transaction, self.cseq = 0, 0, 0 if self.calls else 100
        self.invite = self.invite_branch = None
        self.answered, self.last, self.end = False, None, "one"

    def xml(self):
        if not self.calls:
            self.answer_pings()
        for step in self.steps:
            getattr(self, {"<": "receive", "<?": "receive", ">": "send"}.get(step.kind, step.kind))(step)
        if not self.calls and self.steps[0].what != "OPTIONS":
            self.out.append('<nop next="over"/><label id="ping"/>')
            self.respond("200", "OPTIONS", [])
            self.out.append('<nop><action><log message="pinged"/></action></nop>')
            self.out.append('<label id="over"/>')
        if self.used:
            # sipp takes a variable that nobody reads for a mistake.
            self.out.append(f'<Reference variables="{",".join(dict.fromkeys(self.used))}"/>')
        text = "\n".join(self.out)
        for number, label in enumerate(dict.fromkeys(re.findall(r'label id="(\w+)"', text)), 1):
            text = re.sub(f'(label id|next)="{label}"', f'\\1="{number}"', text)
        return f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name={quoteattr(self.name)}>\n{text}\n</scenario>\n'

    def answer_pings(self):
        if self.steps[0].what != "OPTIONS":
            self.out.append('<recv request="OPTIONS" optional="true" next="ping"/>')

    # What comes.

    def receive(self, step):
        what, *then = step.what.split()
        attributes = ' optional="true"' if step.kind == "<?" else ""
        if then[:1] == ["goto"]:
            attributes += f' next="{then[1]}"'
        checks = [self.check(line) for line in step.lines if line != "login"]
        if what.isdigit():
            method = then[0] if then and then[0] != "goto" else self.last
            if method == "INVITE":
                self.out.append('<recv response="100" optional="true"/>')
            checks.append(self.check(f"CSeq: [0-9]+ {method}"))
            if what[0] == "1" and any(line.startswith("Require:") and "100rel" in line for line in step.lines):
                checks.append(self.keep("[0-9]+", "RSeq", "rseq"))
                self.used.append("rseq")
            if method == "INVITE" and what < "300":
                checks += [self.check("Contact: <sip:"), self.check("To: ;tag=")]
            attributes += ' rrs="true"' * (what < "300") + ' auth="true"' * ("login" in step.lines)
            self.answered |= what[0] == "2" and method == "INVITE"
            self.out.append(f'<recv response="{what}"{attributes}>{actions(checks)}</recv>')
            return
        if what == "INVITE" and not self.calls:
            kept = [f'<ereg regexp={quoteattr(HOPS)} search_in="msg" check_it="true" assign_to="all,hops"/>',
                    self.keep(".*", "CSeq", "cseq")]
            if not self.answered:
                kept += [self.keep(".*", "From", "from"), self.keep(".*", "To", "to")]
            # What an answer needs comes first: nothing is kept after a check that fails.
            checks = kept + checks + [self.check("Max-Forwards: [0-9]"), self.check("Contact: <sip:"), self.check("Allow: INVITE")]
            attributes += ' rrs="true"'
        elif what == "PRACK":
            checks.append(self.check("RAck: ^ *[0-9]+ +[0-9]+ +INVITE"))
        self.out.append(f'<recv request="{what}"{attributes}>{actions(checks)}</recv>')
        if what == "INVITE" and not self.calls:
            self.used += ["all", "hops", "from", "to", "cseq"]

    def check(self, line):
        """An action that fails the call."""
        how = "check_it"
        if line.startswith("not "):
            how, line = "check_it_inverse", line[4:]
        name = f"v{next(self.variables)}"
        self.used.append(name)
        if line.startswith("body "):
            return f'<ereg regexp={quoteattr(line[5:])} search_in="body" {how}="true" assign_to="{name}"/>'
        # sipp's own search for a field would find Contact in Accept-Contact.
        field, pattern = (part.strip() for part in line.split(":", 1))
        pattern = pattern[1:] if pattern.startswith("^") else f"[^[:cntrl:]]*({pattern})"
        regexp = quoteattr(f"[[:cntrl:]]{field}:{pattern}")
        return f'<ereg regexp={regexp} search_in="msg" {how}="true" assign_to="{name}"/>'

    def keep(self, pattern, field, name):
        return f'<ereg regexp="{pattern}" search_in="hdr" header="{field}:" check_it="true" assign_to="{name}"/>'

    # What goes.

    def send(self, step):
        what, *method = step.what.split()
        if what.isdigit():
            self.respond(what, method[0], step.lines)
        else:
            self.request(what, step.lines)

    def respond(self, status, method, lines):
        fields = [line for line in lines if not line.startswith(("sdp", "tag"))]
        self.end = next((line[4:] for line in lines if line.startswith("tag ")), self.end)
        if method == "INVITE" and not self.calls:
            head = ["[$hops]From:[$from]", f"To:[$to];tag=[pid]-[call_number]-{self.end}", "Call-ID: [call_id]", "CSeq:[$cseq]"]
            self.answered |= status[0] == "2"
        else:
            head = ["[last_Via:]", "[last_Record-Route:]", "[last_From:]", "[last_To:]", "[last_Call-ID:]", "[last_CSeq:]"]
        if status < "300":
            fields = ["Contact: <sip:{us}@[local_ip]:[local_port]>".format(**self.words), f"Allow: {METHODS}", *fields]
        again = ' retrans="500"' if method == "INVITE" and (status >= "200" or "RSeq" in str(lines)) else ""
        self.message([f"SIP/2.0 {status} {REASONS.get(status, 'Refused')}", *head, *fields], lines, again)

    def request(self, method, lines):
        if method not in ("ACK", "CANCEL"):
            self.cseq += 1
        if method == "INVITE":
            self.invite = self.cseq
        if not (method == "CANCEL" or method == "ACK" and not self.answered):
            self.transaction += 1
        if method == "INVITE":
            self.invite_branch = self.transaction
        branch = self.invite_branch if method in ("ACK", "CANCEL") and not self.answered else self.transaction
        number = self.invite if method in ("ACK", "CANCEL") else self.cseq
        fields = [line for line in lines if not line.startswith(("sdp", "login"))]
        within = self.answered or method in ("PRACK", "UPDATE")
        target = "[next_url]" if within else self.words.get("uri", "sip:{them}@{domain}".format(**self.words))
        if method in ("REGISTER", "OPTIONS") and not within:
            target = "sip:{domain}".format(**self.words)
        us, them = "<sip:{us}@{domain}>".format(**self.words), "<sip:{them}@{domain}>".format(**self.words)
        if not self.calls:
            ends = [f"From:[$to];tag=[pid]-[call_number]-{self.end}", "To:[$from]"]
        else:
            again = "[peer_tag_param]" if within or method == "ACK" else ""
            ends = [f"From: {us};tag=[pid]-[call_number]", f"To: {us if method == 'REGISTER' else them}{again}"]
        routes = ["[routes]"] if within else [line for line in [self.words["routes"]] if line]
        self.message([
            f"{method} {target} SIP/2.0",
            f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bK-[pid]-[call_number]-{branch}",
            *routes, "Max-Forwards: 70", *ends, "Call-ID: [call_id]", f"CSeq: {number} {method}",
            *(["Contact: <sip:{us}@[local_ip]:[local_port]>".format(**self.words)]
              if method not in ("ACK", "CANCEL", "BYE") else []),
            *([f"RAck:[$rseq] {self.invite} INVITE"] if method == "PRACK" else []),
            *([f"Allow: {METHODS}"] if method in ("INVITE", "UPDATE") else []),
            *(["[authentication username={us}@{domain} password={password}]".format(**self.words)] if "login" in lines else []),
            *fields,
        ], lines, "" if method == "ACK" else ' retrans="500"')
        self.last = method if method not in ("ACK", "CANCEL") else self.last

    def message(self, head, lines, again):
        direction = next((line[4:] for line in lines if line.startswith("sdp ")), None)
        body = ""
        if direction:
            self.sdp += 1
            port = "rtpstream_audio_port" if self.speaks else "media_port"
            body = SDP.format(version=self.sdp, direction=direction, port=port)
            head = [*head, "Content-Type: application/sdp"]
        text = "\n".join([*head, "Content-Length: [len]", "", body])
        self.out.append(f"<send{again}><![CDATA[\n\n{text}\n\n]]></send>")

    # The rest.

    def speak(self, step):
        self.out.append(f'<nop><action><exec rtp_stream="{self.words["speech"]},-1,8"/></action></nop>')

    def pause(self, step):
        self.out.append(f'<pause milliseconds="{step.what}"/>')

    def goto(self, step):
        self.out.append(f'<nop next="{step.what}"/>')

    def label(self, step):
        self.out.append(f'<label id="{step.what}"/>')


class Step:
    def __init__(self, kind, what):
        self.kind, self.what, self.lines = kind, what, []


def parse(text):
    step = None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith(" "):
            step.lines.append(line.strip())
            continue
        if step:
            yield step
        kind, _, what = line.partition(" ")
        step = Step(kind, what.strip())
    yield step


def actions(checks):
    return f"<action>{''.join(checks)}</action>" if checks else ""
