//! Whatever comes in whatever order: nothing panics, nothing grows without bound, and it ends.

use proptest::prelude::*;

use super::*;

const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "PRACK",
    "UPDATE",
    "INFO",
    "OPTIONS",
    "REFER",
    "NOTIFY",
    "MESSAGE",
    "SUBSCRIBE",
    "PUBLISH",
    "REGISTER",
];

const CODES: [u16; 30] = [
    100, 180, 183, 199, 200, 200, 200, 202, 299, 301, 302, 401, 407, 408, 415, 420, 422, 423, 481, 487, 488,
    491, 500, 503, 504, 580, 600, 699, 99, 999,
];

const LINES: [&str; 46] = [
    "Contact: <sip:far@192.0.2.9>",
    "Contact: *",
    "Contact: <>",
    "Contact: <sip:>;;,,",
    "Contact: \"",
    "Allow: UPDATE",
    "Record-Route: <sip:p;lr>",
    "Record-Route: <sip:strict>",
    "Record-Route: ,,,<",
    "Require: 100rel",
    "Require: foo",
    "Supported: 100rel, timer",
    "RSeq: 1",
    "RSeq: 2",
    "RSeq: 4294967295",
    "RSeq: 99999999999",
    "RSeq: x",
    "RAck: 1 1 INVITE",
    "RAck: 4294967295 4294967295 INVITE",
    "RAck:",
    "Session-Expires: 0",
    "Session-Expires: 4294967295",
    "Session-Expires: 90;refresher=uac",
    "Session-Expires: 120;refresher=uas",
    "Min-SE: 4294967295",
    "Min-SE: 0",
    "Min-SE: 100",
    "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"",
    "Proxy-Authenticate: x",
    "Proxy-Authenticate: Digest realm=\"",
    "Authentication-Info: nextnonce=\"abc\"",
    "Retry-After: 4294967295",
    "Reason: \"",
    "Event: refer",
    "Event: x",
    "Subscription-State: terminated",
    "Refer-To: <sip:a@b?Replaces=%>",
    "Refer-To: <sip:a@b?Replaces=x%3B>",
    "Refer-Sub: false",
    "Content-Type: message/sipfrag",
    "Content-Type: multipart/mixed;boundary=x",
    "Content-Type: application/dtmf-relay",
    "Expires: 1",
    "Expires: 4294967295",
    "P-Early-Media: sendrecv",
    "Content-Encoding: gzip",
];

const BODIES: [&str; 7] = [
    "",
    "",
    OFFER,
    ANSWER,
    "SIP/2.0 200 OK\r\n",
    "Signal=1\r\nDuration=99999999999\r\n",
    "--x\r\nContent-Type: application/sdp\r\n\r\nv=0",
];

const TAGS: [&str; 6] = ["far", "a", "b", "", "c;x=\"", "d"];

/// Accepts every challenge.
#[derive(Debug)]
struct Always;

impl Credentials for Always {
    fn authorize(&self, challenge: &str, _: &str, _: &str, _: &[u8], count: u32) -> Option<String> {
        Some(format!("Digest {count} {challenge}"))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Request { method: usize, tag: usize, seq: u32, lines: Vec<usize>, body: usize, cseq: String, odd: bool },
    Response { nth: usize, code: usize, tag: usize, lines: Vec<usize>, body: usize },
    Act(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let lines = || proptest::collection::vec(0..LINES.len(), 0..6);
    let seq = prop_oneof![8 => 0_u32..12, 1 => any::<u32>()];
    prop_oneof![
        4 => (0..METHODS.len(), 0..TAGS.len(), seq, lines(), 0..BODIES.len(), "\\PC{0,8}", prop::bool::weighted(0.05))
            .prop_map(|(method, tag, seq, lines, body, cseq, odd)| Step::Request { method, tag, seq, lines, body, cseq, odd }),
        5 => (0_usize..6, 0..CODES.len(), 0..TAGS.len(), lines(), 0..BODIES.len())
            .prop_map(|(nth, code, tag, lines, body)| Step::Response { nth, code, tag, lines, body }),
        4 => (0_usize..11).prop_map(Step::Act),
        2 => (0_u64..40_000).prop_map(Step::Pass),
    ]
}

fn command(n: usize) -> Command {
    match n {
        0 => Command::Ring { answer: None },
        1 => Command::Ring { answer: Some(ANSWER.into()) },
        2 => Command::Progress { answer: Some(ANSWER.into()) },
        3 => Command::Accept { sdp: ANSWER.into() },
        4 => Command::Offer(OTHER.into()),
        5 => Command::Answer(ANSWER.into()),
        6 => Command::RefuseOffer,
        7 => Command::Refer { to: "sip:x@y\r\nEvil: 1".into(), by: Some("<sip:z".into()) },
        8 => Command::ReferProgress(200),
        9 => Command::ReferProgress(180),
        _ => Command::End { reason: None },
    }
}

fn text(lines: &[usize], body: usize) -> String {
    let lines = lines.iter().map(|l| format!("{}\r\n", LINES[*l])).collect::<String>();
    let body = BODIES[body];
    let kind = if lines.contains("Content-Type") { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{lines}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl Desk {
    fn bounded(&self) {
        let ua = &self.ua;
        assert!(ua.dialogs.len() <= super::super::uac::BRANCHES);
        assert!(ua.clients.len() <= super::super::dispatch::CLIENTS + 8, "{}", ua.clients.len());
        assert!(ua.servers.len() <= super::super::uac::BRANCHES);
        assert!(ua.acks.len() <= 8);
        let ended = self.events.iter().filter(|e| matches!(e, Event::Ended(_))).count();
        assert!(ended <= 1);
        assert!(ended == 0 || matches!(self.events.last(), Some(Event::Ended(_))), "{:?}", self.events);
        for (_, request) in &self.requests {
            assert!(Request::try_from(request.to_bytes()).is_ok(), "{request}");
            assert_eq!(super::super::header::first(&request.headers, "Evil"), None);
        }
    }

    fn step(&mut self, step: &Step) {
        let input = match step {
            Step::Act(n) => {
                let _ = self.act(command(*n));
                return;
            }
            Step::Pass(ms) => return self.pass(Duration::from_millis(*ms)),
            Step::Request { method, tag, seq, lines, body, cseq, odd } => {
                let (method, tag) = (METHODS[*method], TAGS[*tag]);
                let cseq = if *odd { cseq.clone() } else { format!("{seq} {method}") };
                let text = format!(
                    "{method} sip:gw@x SIP/2.0\r\nVia: x\r\nFrom: <sip:f@x>;tag={tag}\r\nTo: <sip:n@y>;tag={}\r\nCall-ID: c1\r\nCSeq: {cseq}\r\n{}",
                    self.ua.local_tag(),
                    text(lines, *body)
                );
                let Ok(request) = Request::try_from(text.as_str()) else { return };
                self.server += 1;
                Input::Request(self.server, request)
            }
            Step::Response { nth, code, tag, lines, body } => {
                // One of the newest requests; or of none.
                let at = self.requests.len().checked_sub(nth + 1);
                let Some((id, request)) = at.map(|at| &self.requests[at]) else { return };
                let header = |name| super::super::header::first(&request.headers, name).unwrap_or_default();
                let text = format!(
                    "SIP/2.0 {} X\r\nFrom: {}\r\nTo: <sip:n@y>;tag={}\r\nCall-ID: c1\r\nCSeq: {}\r\n{}",
                    CODES[*code],
                    header("From"),
                    TAGS[*tag],
                    header("CSeq"),
                    text(lines, *body)
                );
                let Ok(response) = Response::try_from(text.as_str()) else { return };
                Input::Response(*id, response)
            }
        };
        self.feed(input).unwrap();
    }

    /// Our side ends it, and nobody says anything more: it must come to an end by itself.
    fn winds_up(&mut self) {
        let _ = self.act(Command::End { reason: None });
        for _ in 0..50 {
            if self.ua.is_over() {
                break;
            }
            let due = self.ua.next_timeout().expect("it waits for nothing");
            self.now = self.now.max(due);
            self.feed(Input::Tick).unwrap();
        }
        assert!(self.ua.is_over());
        self.bounded();
        assert!(matches!(self.events.last(), Some(Event::Ended(_))));
    }
}

fn own(credentials: bool) -> Profile {
    let credentials = credentials.then(|| std::sync::Arc::new(Always) as std::sync::Arc<dyn Credentials>);
    Profile { session_expires: Some(SECOND * 120), credentials, ..profile() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_call_of_ours_outlives_anything(
        steps in proptest::collection::vec(step(), 1..60),
        offer in any::<bool>(),
        credentials in any::<bool>(),
    ) {
        let mut desk = Desk::caller(own(credentials), offer.then_some(OFFER));
        for step in &steps {
            desk.step(step);
            desk.bounded();
        }
        desk.winds_up();
    }

    #[test]
    fn a_call_that_came_in_outlives_anything(
        steps in proptest::collection::vec(step(), 1..60),
        offer in any::<bool>(),
        reliable in any::<bool>(),
    ) {
        let lines = if reliable { "Supported: 100rel, timer\r\n" } else { "" };
        let mut desk = Desk::callee(own(true), lines, if offer { OFFER } else { "" });
        for step in &steps {
            desk.step(step);
            desk.bounded();
        }
        desk.winds_up();
    }

    #[test]
    fn an_answered_call_outlives_anything(steps in proptest::collection::vec(step(), 1..80), ours in any::<bool>()) {
        let mut desk = if ours { Desk::answered(own(true)) } else { Desk::accepted(own(true)) };
        desk.events.clear();
        for step in &steps {
            desk.step(step);
            desk.bounded();
        }
        desk.winds_up();
    }

    #[test]
    fn an_invite_of_anything_is_taken_or_refused(
        lines in proptest::collection::vec(0..LINES.len(), 0..10),
        body in 0..BODIES.len(),
        junk in "\\PC{0,40}",
        cut in 0_usize..12,
    ) {
        let full = format!(
            "INVITE sip:gw@x SIP/2.0\r\nVia: x\r\nFrom: {junk}\r\nTo: {junk}\r\nCall-ID: {junk}\r\nCSeq: 1 INVITE\r\n{}",
            text(&lines, body)
        );
        let without = full.split("\r\n").enumerate().filter(|(i, _)| *i == 0 || *i != cut).map(|(_, l)| l);
        let text = without.collect::<Vec<_>>().join("\r\n");
        if let Ok(invite) = Request::try_from(text.as_str()) {
            match Ua::arrive(crate::clock::instant(), own(true), 1, invite) {
                Ok(ua) => drop(ua),
                Err(response) => prop_assert!((400..500).contains(&response.status_code.code())),
            }
        }
    }
}
