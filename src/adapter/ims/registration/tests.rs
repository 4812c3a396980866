use std::time::Instant;

use proptest::prelude::*;
use rsipstack::sip::SipMessage;

use super::*;
use crate::adapter::ims::aka::{Aka, Keys, Sequence};
use crate::adapter::sip::digest::Digest;
use crate::adapter::sip::value::{Address, value, values};
use crate::clock;

const CHALLENGE: (&str, &str) =
    ("WWW-Authenticate", "Digest realm=\"ims.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth,auth-int\"");
const STALE: (&str, &str) =
    ("WWW-Authenticate", "Digest realm=\"ims.test\", nonce=\"n2\", algorithm=MD5, qop=\"auth\", stale=true");
const CONTACT: (&str, &str) = (
    "Contact",
    "<sip:ript@127.0.0.77:5070>;expires=90, <sip:ript@127.0.0.109:5070;alias=1>;expires=540;q=0.5",
);
const ROUTE: (&str, &str) = ("Service-Route", "<sip:orig@127.0.0.40:6060;lr>, <sip:b@127.0.0.41;lr>");
const URIS: (&str, &str) =
    ("P-Associated-URI", "<sip:ript@ims.test>, <sip:+15550009@ims.test>, <tel:+15550009>");

struct World {
    now: Instant,
    it: Registration,
    sent: Vec<(ClientId, Request)>,
    answered: Vec<Response>,
    events: Vec<Event>,
}

fn profile() -> Profile {
    Profile {
        registrar: "sip:ims.test".into(),
        public: "sip:ript@ims.test".into(),
        contact: "sip:ript@127.0.0.109:5070".into(),
        instance: Some("urn:uuid:00000000-0000-1000-8000-000a95a0e128".into()),
        reg_id: None,
        expires: Duration::from_secs(600),
        route: vec!["<sip:127.0.0.20:5060;lr>".into()],
        access: Some("IEEE-802.3;eth-location=\"x\"".into()),
        ims: true,
        watch: false,
        login: Some(Arc::new(Login::Password(Digest::new("ript@ims.test", "riptpw", [3; 32])))),
        product: "ript".into(),
        seed: [5; 32],
    }
}

impl World {
    fn new(profile: Profile) -> Self {
        let now = clock::instant();
        let it = Registration::new(profile, now);
        let mut world = Self { now, it, sent: vec![], answered: vec![], events: vec![] };
        world.feed(Input::Tick);
        world
    }

    fn feed(&mut self, input: Input) {
        self.it.handle(self.now, input);
        while let Some(output) = self.it.poll() {
            match output {
                Output::Request(id, request) => self.sent.push((id, request)),
                Output::Respond(_, response) => self.answered.push(response),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn last(&self) -> &Request {
        &self.sent.last().unwrap().1
    }

    fn get(&self, name: &str) -> String {
        value(self.last(), name).unwrap_or_else(|| panic!("no {name} in\n{}", self.last())).to_owned()
    }

    /// Answers the newest request.
    fn reply(&mut self, code: u16, fields: &[(&str, &str)]) {
        let (id, request) = self.sent.last().unwrap();
        let id = *id;
        let mut response = message::response(request, code, fields);
        for header in response.headers.iter_mut() {
            if let rsipstack::sip::Header::To(to) = header {
                to.0 = format!("{};tag=far", to.0);
            }
        }
        self.feed(Input::Response(id, response));
    }

    /// Goes on to when a timer is due.
    fn wait(&mut self) -> Duration {
        let due = self.it.next_timeout().expect("a timer");
        let waited = due.saturating_duration_since(self.now);
        self.now = due;
        self.feed(Input::Tick);
        waited
    }

    fn registered() -> Self {
        Self::registered_as(profile())
    }

    fn registered_as(profile: Profile) -> Self {
        let mut world = Self::new(profile);
        world.reply(401, &[CHALLENGE]);
        world.reply(200, &[CONTACT, ROUTE, URIS]);
        assert!(world.it.is_registered());
        world
    }
}

#[test]
fn the_first_register_is_a_ue_s_and_the_challenge_is_answered() {
    let mut world = World::new(profile());
    let first = world.last().to_string();
    for line in [
        "REGISTER sip:ims.test SIP/2.0",
        "Max-Forwards: 70",
        "To: <sip:ript@ims.test>",
        "CSeq: 1 REGISTER",
        "Contact: <sip:ript@127.0.0.109:5070>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\";\
         +g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel\";audio",
        "Expires: 600",
        "Supported: path, gruu",
        "Route: <sip:127.0.0.20:5060;lr>",
        "P-Access-Network-Info: IEEE-802.3;eth-location=\"x\"",
        "Authorization: Digest username=\"ript@ims.test\", realm=\"ims.test\", uri=\"sip:ims.test\", nonce=\"\", response=\"\"",
        "Content-Length: 0",
    ] {
        assert!(first.lines().any(|it| it == line), "{line}\n{first}");
    }
    let (call_id, from) = (world.get("Call-ID"), world.get("From"));
    world.reply(100, &[]);
    world.reply(401, &[CHALLENGE]);
    assert_eq!(world.get("CSeq"), "2 REGISTER");
    assert_eq!((world.get("Call-ID"), world.get("From")), (call_id, from));
    let digest = world.get("Authorization");
    assert!(digest.contains("nonce=\"n1\"") && digest.contains("nc=00000001"), "{digest}");
    assert!(world.events.is_empty());
    world.reply(200, &[CONTACT, ROUTE, URIS]);
    assert_eq!(
        world.events,
        [Event::Registered {
            service_route: vec!["<sip:orig@127.0.0.40:6060;lr>".into(), "<sip:b@127.0.0.41;lr>".into()],
            associated: ["sip:ript@ims.test", "sip:+15550009@ims.test", "tel:+15550009"]
                .map(Into::into)
                .to_vec(),
            gruu: None,
            expires: Duration::from_secs(540),
            refreshed: false,
        }]
    );
}

#[test]
fn a_plain_registrar_gets_no_ims_headers_and_outbound_only_where_asked() {
    let plain = Profile { ims: false, access: None, reg_id: Some(1), ..profile() };
    let world = World::new(plain);
    assert_eq!(value(world.last(), "Authorization"), None);
    assert_eq!(value(world.last(), "P-Access-Network-Info"), None);
    assert_eq!(world.get("Supported"), "path, outbound");
    assert!(world.get("Contact").ends_with(";reg-id=1"));
}

#[test]
fn it_is_refreshed_at_half_or_ten_minutes_before_the_end_with_the_nonce_counted_on() {
    let mut world = World::registered();
    assert_eq!(world.wait(), Duration::from_secs(270));
    let digest = world.get("Authorization");
    assert!(digest.contains("nonce=\"n1\"") && digest.contains("nc=00000002"), "{digest}");
    // The registrar tells the next nonce itself.
    world.reply(
        200,
        &[
            ("Contact", "<sip:ript@127.0.0.109:5070>;expires=7200"),
            ("Authentication-Info", "nextnonce=\"n9\", qop=auth"),
        ],
    );
    assert!(matches!(world.events.last(), Some(Event::Registered { refreshed: true, .. })));
    assert_eq!(world.wait(), Duration::from_secs(6600));
    let digest = world.get("Authorization");
    assert!(digest.contains("nonce=\"n9\"") && digest.contains("nc=00000001"), "{digest}");
    // A nonce that is too old costs a round.
    world.reply(401, &[STALE]);
    assert!(world.get("Authorization").contains("nonce=\"n2\""));
    world.reply(200, &[("Expires", "3600")]);
    assert_eq!(world.wait(), Duration::from_secs(3000));
    assert_eq!(world.events.len(), 3);
}

#[test]
fn the_expiry_is_our_contact_s_then_the_header_s_then_what_was_asked() {
    for (fields, expires) in [
        (vec![CONTACT, ("Expires", "77")], 540),
        (vec![("Contact", "<sip:ript@127.0.0.109:5070>"), ("Expires", "77")], 77),
        (vec![("Contact", "<sip:other@127.0.0.9>;expires=5")], 600),
        (
            vec![(
                "Contact",
                "<sip:moved@10.0.0.1>;expires=300;+sip.instance=\"<URN:uuid:00000000-0000-1000-8000-000A95A0E128>\"",
            )],
            300,
        ),
        (vec![("Contact", "<sip:ript@127.0.0.109:5070>;expires=nonsense")], 600),
        (vec![("Contact", "<sip:ript@127.0.0.109:5070>;expires=99999999999")], 30 * 24 * 3600),
        (vec![], 600),
    ] {
        let mut world = World::new(profile());
        world.reply(200, &fields);
        let Some(Event::Registered { expires: got, .. }) = world.events.last() else { panic!("{fields:?}") };
        assert_eq!(got.as_secs(), expires, "{fields:?}");
    }
    let mut world = World::new(profile());
    world.reply(200, &[("Contact", "<sip:ript@127.0.0.109:5070>;expires=0")]);
    assert!(matches!(world.events[..], [Event::Failed { code: 200, .. }]));
    assert!(!world.it.is_registered());
}

#[test]
fn a_wrong_password_is_sent_once_and_tried_again_only_late() {
    let mut world = World::new(profile());
    world.reply(401, &[CHALLENGE]);
    world.reply(401, &[CHALLENGE]);
    assert_eq!(world.sent.len(), 2);
    let [Event::Failed { code: 401, why, retry: Some(retry) }] = world.events[..] else {
        panic!("{:?}", world.events)
    };
    assert!(why.contains("password") && retry >= Duration::from_secs(900), "{why} {retry:?}");
    // Somebody corrects it.
    world.feed(Input::Again);
    assert_eq!(world.sent.len(), 3);
    // A nonce that is stale each time does not go on for ever.
    for _ in 0..20 {
        world.reply(401, &[STALE]);
    }
    assert!(world.sent.len() < 10, "{}", world.sent.len());
    assert_eq!(world.events.len(), 2);
}

#[test]
fn refusals_are_told_in_words_and_what_passes_is_tried_sooner() {
    for (code, slow) in [
        (403, true),
        (404, true),
        (400, true),
        (494, true),
        (603, true),
        (305, true),
        (408, false),
        (480, false),
        (500, false),
        (503, false),
        (504, false),
    ] {
        let mut world = World::new(profile());
        world.reply(code, &[]);
        let [Event::Failed { code: told, why, retry: Some(retry) }] = world.events[..] else {
            panic!("{:?}", world.events)
        };
        assert_eq!((told, retry >= Duration::from_secs(900)), (code, slow));
        assert!(why.len() > 10 && retry >= Duration::from_secs(15));
        assert_eq!(world.wait(), retry);
        assert_eq!(world.sent.len(), 2);
    }
    for (challenge, word) in
        [("Digest realm=\"r\", nonce=\"n\", algorithm=AKAv1-MD5", "way to log in"), ("", "way to log in")]
    {
        let mut world = World::new(profile());
        world.reply(401, &[("WWW-Authenticate", challenge)]);
        assert!(matches!(world.events[..], [Event::Failed { code: 401, why, .. }] if why.contains(word)));
    }
    let mut world = World::new(Profile { login: None, ..profile() });
    world.reply(407, &[("Proxy-Authenticate", CHALLENGE.1)]);
    assert!(
        matches!(world.events[..], [Event::Failed { code: 407, why, .. }] if why.contains("none is configured"))
    );
}

#[test]
fn a_proxy_s_challenge_is_answered_in_its_own_header() {
    let mut world = World::new(profile());
    world.reply(407, &[("Proxy-Authenticate", CHALLENGE.1)]);
    assert!(world.get("Proxy-Authorization").contains("nonce=\"n1\""));
    assert_eq!(value(world.last(), "Authorization"), None);
}

#[test]
fn failures_in_a_row_wait_longer_and_retry_after_is_heeded() {
    let mut world = World::new(profile());
    for failures in 0..10_u32 {
        world.reply(503, &[]);
        let most = 30 * (1_u64 << failures.min(6));
        let waited = world.wait();
        assert!(waited >= Duration::from_secs(most.min(1800) / 2), "{failures} {waited:?}");
        assert!(waited <= Duration::from_secs(most.min(1800)), "{failures} {waited:?}");
    }
    world.reply(503, &[("Retry-After", "120 (maintenance);duration=5")]);
    let waited = world.wait();
    assert!((120..=132).contains(&waited.as_secs()), "{waited:?}");
    world.reply(503, &[("Retry-After", "4294967295")]);
    assert!(world.wait() <= Duration::from_secs(2 * 3600));
    world.reply(200, &[CONTACT]);
    assert_eq!(world.wait(), Duration::from_secs(270));
    world.reply(503, &[]);
    assert!(world.wait() <= Duration::from_secs(30));
}

#[test]
fn a_time_that_is_too_brief_is_raised_once() {
    let mut world = World::new(profile());
    world.reply(423, &[("Min-Expires", "1800")]);
    assert_eq!((world.get("Expires").as_str(), world.get("CSeq").as_str()), ("1800", "2 REGISTER"));
    world.reply(423, &[("Min-Expires", "3600")]);
    assert!(matches!(world.events[..], [Event::Failed { code: 423, .. }]));
    for fields in [vec![], vec![("Min-Expires", "1")], vec![("Min-Expires", "4000000000")]] {
        let mut world = World::new(profile());
        world.reply(423, &fields);
        assert!(matches!(world.events[..], [Event::Failed { code: 423, .. }]), "{fields:?}");
    }
}

#[test]
fn a_registration_outlives_failed_refreshes_until_it_runs_out() {
    let mut world = World::registered();
    world.wait();
    world.reply(503, &[]);
    assert!(world.it.is_registered());
    let mut over = false;
    for _ in 0..20 {
        world.wait();
        if world.events.contains(&Event::Deregistered { by: By::Timer, reason: Reason::Expired }) {
            over = true;
            break;
        }
        world.reply(408, &[]);
    }
    assert!(over && !world.it.is_registered());
    // And comes back.
    world.reply(200, &[CONTACT]);
    assert!(matches!(world.events.last(), Some(Event::Registered { refreshed: false, .. })));

    let mut world = World::registered();
    world.wait();
    world.reply(403, &[]);
    assert_eq!(world.events[1], Event::Deregistered { by: By::Network, reason: Reason::Refused });
    assert!(matches!(world.events[2], Event::Failed { code: 403, .. }));
    assert!(!world.it.is_registered());
}

#[test]
fn without_any_answer_a_try_ends_by_itself() {
    let mut world = World::new(profile());
    assert_eq!(world.wait(), Duration::from_secs(40));
    assert!(matches!(world.events[..], [Event::Failed { code: 408, .. }]));
    // The late answer counts no more.
    world.reply(200, &[CONTACT]);
    assert!(!world.it.is_registered());
}

#[test]
fn a_lost_connection_is_registered_anew_from_the_new_address() {
    let mut world = World::registered();
    world.it.move_to("sip:ript@127.0.0.9:5071".into(), vec![]);
    world.feed(Input::Again);
    assert!(world.get("Contact").starts_with("<sip:ript@127.0.0.9:5071>"));
    assert_eq!((world.get("CSeq").as_str(), value(world.last(), "Route")), ("3 REGISTER", None));
    // Also while one is on its way: its answer is not waited for.
    world.feed(Input::Again);
    assert_eq!(world.get("CSeq"), "4 REGISTER");
    world.reply(200, &[("Expires", "600")]);
    assert!(matches!(world.events.last(), Some(Event::Registered { refreshed: true, .. })));
}

#[test]
fn it_is_taken_back_at_the_end() {
    let mut world = World::registered();
    world.feed(Input::Stop);
    assert_eq!(world.get("Expires"), "0");
    assert!(world.get("Contact").ends_with(";expires=0"));
    world.reply(401, &[STALE]);
    assert!(world.get("Authorization").contains("nonce=\"n2\""));
    assert_eq!(world.get("Expires"), "0");
    // Without Service-Route.
    world.reply(200, &[]);
    assert_eq!(world.events.last(), Some(&Event::Unregistered));
    assert!(world.it.is_gone() && world.it.next_timeout().is_none());
    world.feed(Input::Again);
    world.feed(Input::Stop);
    assert_eq!((world.sent.len(), world.events.len()), (4, 2));

    // A first one that is on its way is waited for.
    let mut world = World::new(profile());
    world.feed(Input::Stop);
    assert_eq!(world.sent.len(), 1);
    world.reply(401, &[CHALLENGE]);
    world.reply(200, &[]);
    assert_eq!(world.events, [Event::Unregistered]);

    // Nobody answers, or the network refuses: it is over all the same.
    let mut world = World::registered();
    world.feed(Input::Stop);
    world.wait();
    assert_eq!(world.events.last(), Some(&Event::Unregistered));
    let mut world = World::registered();
    world.feed(Input::Stop);
    world.reply(503, &[]);
    assert_eq!(world.events.last(), Some(&Event::Unregistered));
    let mut world = World::new(profile());
    world.reply(403, &[]);
    world.feed(Input::Stop);
    assert_eq!((world.sent.len(), world.events.last()), (1, Some(&Event::Unregistered)));
}

/// The network's side of AKA, with TS 35.208's set 1.
fn aka_challenge(sqn: u64) -> String {
    use base64::Engine as _;
    let mut sim = milenage::Milenage::new_with_opc([1; 16], [2; 16]);
    let (rand, sqn) = ([9; 16], <[u8; 6]>::try_from(&sqn.to_be_bytes()[2..]).unwrap());
    let (_, _, _, ak) = sim.f2345(&rand);
    let mut nonce = rand.to_vec();
    nonce.extend(sqn.iter().zip(ak).map(|(a, b)| a ^ b));
    nonce.extend([0, 0]);
    nonce.extend(sim.f1(&rand, &sqn, &[0, 0]));
    let nonce = base64::engine::general_purpose::STANDARD.encode(nonce);
    format!("Digest realm=\"ims.test\", nonce=\"{nonce}\", algorithm=AKAv1-MD5, qop=\"auth\"")
}

#[test]
fn a_sim_registers_after_re_synchronisation_and_gives_up_on_a_network_without_its_keys() {
    let sim = || {
        let seen = [vec![100], vec![0; 31]].concat();
        let sequence = serde_json::from_value(serde_json::json!({ "seen": seen })).unwrap();
        let aka = Aka::new("c@ims.test", Keys::new([1; 16], [2; 16]), sequence, [1; 32]);
        Profile { login: Some(Arc::new(Login::Sim(aka))), ..profile() }
    };
    let mut world = World::new(sim());
    assert!(world.get("Authorization").ends_with("algorithm=AKAv1-MD5"));
    world.reply(401, &[("WWW-Authenticate", &aka_challenge(50 << 5))]);
    assert!(world.get("Authorization").contains("auts="));
    assert!(world.events.is_empty());
    world.reply(401, &[("WWW-Authenticate", &aka_challenge(101 << 5))]);
    assert!(!world.get("Authorization").contains("auts="));
    assert_eq!(world.events, [Event::Sequence]);
    world.reply(200, &[CONTACT]);
    assert!(world.it.is_registered());

    let mut world = World::new(sim());
    let mut forged = aka_challenge(101 << 5);
    forged = forged.replacen("nonce=\"", "nonce=\"AAAA", 1);
    for _ in 0..5 {
        world.reply(401, &[("WWW-Authenticate", &forged)]);
    }
    assert_eq!(world.sent.len(), 3);
    assert!(
        matches!(world.events[..], [Event::Failed { code: 401, why, .. }] if why.contains("MAC failure"))
    );
    let _ = Sequence::default();
}

/// A world that watches, its subscription answered.
fn watching() -> World {
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    assert_eq!(world.last().method.to_string(), "SUBSCRIBE");
    world.reply(
        200,
        &[
            ("Contact", "<sip:127.0.0.40:6060>"),
            ("Expires", "600000"),
            ("Record-Route", "<sip:a;lr>, <sip:b;lr>"),
        ],
    );
    world
}

/// A NOTIFY in the newest subscription's dialog.
fn notify(world: &World, cseq: u32, fields: &[(&str, &str)], body: &str) -> Input {
    let (_, subscribe) = world.sent.iter().rfind(|(_, it)| it.method.to_string() == "SUBSCRIBE").unwrap();
    let get = |name: &str| value(subscribe, name).unwrap().to_owned();
    let mut text = format!(
        "NOTIFY sip:ript@127.0.0.109:5070 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.40:6060;branch=z9hG4bK1\r\n\
         From: <sip:ript@ims.test>;tag=far\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} NOTIFY\r\n\
         Contact: <sip:127.0.0.40:6060>\r\nContent-Length: {}\r\n",
        get("From"),
        get("Call-ID"),
        body.len(),
    );
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let text = format!("{text}\r\n{body}");
    let Ok(SipMessage::Request(request)) = SipMessage::try_from(text.as_str()) else { panic!("{text}") };
    Input::Request(7, request)
}

const REG: &[(&str, &str)] = &[
    ("Event", "reg"),
    ("Subscription-State", "active;expires=600000"),
    ("Content-Type", "application/reginfo+xml"),
];

fn reginfo(version: u32, aor: &str, state: &str, contact: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" version=\"{version}\" state=\"full\">\
         <registration aor=\"tel:+15550009\" id=\"b\" state=\"active\"/>\
         <registration aor=\"{aor}\" id=\"a\" state=\"{state}\">{contact}</registration></reginfo>"
    )
}

fn contact(state: &str, event: &str, more: &str) -> String {
    format!(
        "<contact id=\"c\" state=\"{state}\" event=\"{event}\" {more}><uri>sip:ript@127.0.0.109:5070</uri></contact>"
    )
}

#[test]
fn a_registration_is_watched_by_way_of_its_service_route() {
    let world = watching();
    let subscribe = world.last().to_string();
    for line in [
        "SUBSCRIBE sip:ript@ims.test SIP/2.0",
        "Event: reg",
        "Accept: application/reginfo+xml",
        "Expires: 600000",
        "Route: <sip:127.0.0.20:5060;lr>",
        "Route: <sip:orig@127.0.0.40:6060;lr>",
        "P-Preferred-Identity: <sip:ript@ims.test>",
        "To: <sip:ript@ims.test>",
    ] {
        assert!(subscribe.lines().any(|it| it == line), "{line}\n{subscribe}");
    }
    assert_ne!(world.get("Call-ID"), value(&world.sent[0].1, "Call-ID").unwrap());
    // A refresh of the registration keeps it; it is itself refreshed in its dialog.
    let mut world = world;
    let sent = world.sent.len();
    while world.last().method.to_string() == "SUBSCRIBE" && world.sent.len() == sent {
        world.wait();
    }
    world.reply(200, &[("Expires", "7200000")]);
    assert_eq!(world.last().method.to_string(), "REGISTER");
    while world.last().method.to_string() == "REGISTER" {
        world.wait();
        if world.last().method.to_string() == "REGISTER" {
            world.reply(200, &[("Expires", "7200000")]);
        }
    }
    assert_eq!(world.get("To"), "<sip:ript@ims.test>;tag=far");
    assert_eq!(world.last().uri.to_string(), "sip:127.0.0.40:6060");
    assert_eq!(values(world.last(), "Route"), ["<sip:b;lr>", "<sip:a;lr>"]);
    // The far side forgot it: a new one.
    world.reply(481, &[]);
    world.wait();
    assert_eq!(world.get("To"), "<sip:ript@ims.test>");
}

#[test]
fn what_the_network_says_of_our_contact_is_done() {
    let active =
        reginfo(0, "sip:ript@ims.test", "active", &contact("active", "registered", "expires=\"540\""));
    for (event, more, reason, next) in [
        ("deactivated", "", Reason::Deactivated, Some(0)),
        ("expired", "", Reason::Expired, Some(0)),
        ("probation", "retry-after=\"70\"", Reason::Probation, Some(70)),
        ("unregistered", "", Reason::Unregistered, None),
        ("rejected", "", Reason::Rejected, None),
        ("what's this", "", Reason::Rejected, None),
    ] {
        let mut world = watching();
        world.feed(notify(&world, 1, REG, &active));
        assert_eq!(world.events.len(), 1, "an active contact is no news");
        let sent = world.sent.len();
        let text = reginfo(1, "sip:ript@ims.test", "terminated", &contact("terminated", event, more));
        world.feed(notify(&world, 2, REG, &text));
        assert!(world.answered.iter().all(|it| it.status_code.code() == 200));
        assert_eq!(world.events[1..], [Event::Deregistered { by: By::Network, reason }], "{event}");
        assert!(!world.it.is_registered());
        match next {
            Some(seconds) => {
                if seconds > 0 {
                    assert_eq!(world.wait().as_secs(), seconds);
                }
                assert_eq!(world.sent.len(), sent + 1);
                assert_eq!(world.last().method.to_string(), "REGISTER");
                world.reply(200, &[CONTACT, ROUTE]);
                assert_eq!(
                    world.last().method.to_string(),
                    "SUBSCRIBE",
                    "a new registration, a new subscription"
                );
            }
            None => {
                assert_eq!(world.it.next_timeout(), None);
                world.feed(Input::Again);
                assert_eq!(world.sent.len(), sent + 1);
            }
        }
    }
}

#[test]
fn a_network_that_ends_all_of_it_without_a_word_is_understood() {
    let mut world = watching();
    world.feed(notify(
        &world,
        1,
        &[("Event", "reg"), ("Subscription-State", "terminated;reason=noresource"), REG[2]],
        &reginfo(0, "sip:ript@ims.test", "terminated", ""),
    ));
    assert_eq!(world.events[1..], [Event::Deregistered { by: By::Network, reason: Reason::Rejected }]);
    assert_eq!(world.it.next_timeout(), None);
}

#[test]
fn a_shortened_registration_is_refreshed_in_time() {
    let mut world = watching();
    let text = reginfo(0, "sip:ript@ims.test", "active", &contact("active", "shortened", "expires=\"60\""));
    world.feed(notify(&world, 1, REG, &text));
    assert_eq!(world.wait(), Duration::from_secs(30));
    assert_eq!(world.last().method.to_string(), "REGISTER");
}

#[test]
fn others_contacts_old_versions_and_strangers_change_nothing() {
    let mut world = watching();
    let over =
        |version| reginfo(version, "sip:ript@ims.test", "active", &contact("terminated", "rejected", ""));
    let other = over(4).replace("127.0.0.109", "127.0.0.77");
    let codes = |world: &World| world.answered.iter().map(|it| it.status_code.code()).collect::<Vec<_>>();
    world.feed(notify(&world, 5, REG, &other));
    world.feed(notify(&world, 6, REG, &over(4)));
    world.feed(notify(&world, 7, REG, &over(3)));
    // Both at once: the binding that replaced the one that ended.
    let both = format!("{}{}", contact("terminated", "rejected", ""), contact("active", "created", ""));
    world.feed(notify(&world, 8, REG, &reginfo(5, "sip:ript@ims.test", "active", &both)));
    assert_eq!(codes(&world), [200; 4]);
    for (cseq, fields, body, code) in [
        (8, REG, over(9), 500),
        (2, REG, over(9), 500),
        (9, &[("Event", "presence"), REG[1], REG[2]][..], over(9), 489),
        (9, &[REG[0], REG[1], ("Content-Type", "text/plain")][..], over(9), 415),
        (9, REG, "<reginfo".to_owned(), 400),
    ] {
        world.answered.clear();
        world.feed(notify(&world, cseq, fields, &body));
        assert_eq!(codes(&world), [code]);
    }
    for (from, to) in [
        ("tag=far", "tag=near"),
        ("Call-ID: ", "Call-ID: x"),
        ("To: <sip:ript@ims.test>;tag=", "To: <sip:ript@ims.test>;tag=x"),
    ] {
        world.answered.clear();
        let Input::Request(_, request) = notify(&world, 9, REG, &over(9)) else { unreachable!() };
        let text = request.to_string().replace(from, to);
        world.feed(Input::Request(1, Request::try_from(text.as_str()).unwrap()));
        assert_eq!(codes(&world), [481], "{from}");
    }
    assert!(world.it.is_registered());
    assert_eq!(world.events.len(), 1);
}

#[test]
fn a_gap_in_the_versions_asks_for_all_of_it() {
    let mut world = watching();
    world.feed(notify(&world, 1, REG, &reginfo(0, "sip:ript@ims.test", "active", "")));
    let sent = world.sent.len();
    let partial = |version| reginfo(version, "sip:ript@ims.test", "active", "").replace("full", "partial");
    world.feed(notify(&world, 2, REG, &partial(1)));
    assert_eq!(world.sent.len(), sent);
    world.feed(notify(&world, 3, REG, &partial(3)));
    assert_eq!((world.sent.len(), world.last().method.to_string().as_str()), (sent + 1, "SUBSCRIBE"));
}

#[test]
fn a_registrar_without_the_package_is_told_of_and_the_registration_stands() {
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    world.reply(489, &[]);
    assert_eq!(world.events[1..], [Event::NotWatched(489)]);
    assert!(world.it.is_registered());
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    world.reply(407, &[("Proxy-Authenticate", CHALLENGE.1)]);
    assert!(world.get("Proxy-Authorization").contains("nonce=\"n1\""));
    world.reply(407, &[("Proxy-Authenticate", CHALLENGE.1)]);
    assert_eq!(world.events[1..], [Event::NotWatched(407)]);
}

#[test]
fn a_notify_may_come_before_the_200_and_a_subscription_that_ends_is_made_anew() {
    let mut world = World::registered_as(Profile { watch: true, ..profile() });
    world.feed(notify(
        &world,
        1,
        REG,
        &reginfo(0, "sip:ript@ims.test", "active", &contact("active", "created", "")),
    ));
    assert_eq!(world.answered[0].status_code.code(), 200);
    world.reply(200, &[("Contact", "<sip:127.0.0.40:6060>"), ("Expires", "3600")]);
    let old = world.get("Call-ID");
    world.feed(notify(&world, 2, &[REG[0], ("Subscription-State", "terminated;reason=timeout")], ""));
    assert!(world.wait() <= Duration::from_secs(30));
    assert_eq!(world.last().method.to_string(), "SUBSCRIBE");
    assert_ne!(world.get("Call-ID"), old);
    assert!(Address::read(&world.get("To")).unwrap().param("tag").is_none());
}

proptest! {
    #[test]
    fn whatever_is_answered_and_notified_nothing_piles_up(
        steps in prop::collection::vec((0..8_u8, 100..700_u16, "[ -~]{0,60}", any::<u32>()), 0..60),
    ) {
        let mut world = watching();
        for (what, code, text, number) in steps {
            let before = world.sent.len();
            let seconds = number.to_string();
            let contact = format!("<sip:ript@127.0.0.109:5070>;expires={number}");
            let fields = [
                ("WWW-Authenticate", text.as_str()),
                ("Contact", if what == 1 { &contact } else { &text }),
                ("Min-Expires", &seconds),
                ("Retry-After", if what == 2 { &seconds } else { &text }),
                ("Authentication-Info", &text),
                ("Service-Route", &text),
                ("Record-Route", &text),
                ("P-Associated-URI", &text),
                ("Expires", &seconds),
            ];
            match what {
                0..=3 => world.reply(code, &fields),
                4 => world.reply([200, 401, 407, 423][usize::from(code % 4)], &fields),
                5 => { if world.it.next_timeout().is_some() { world.wait(); } }
                6 => world.feed(notify(&world, number, REG, &text)),
                _ => world.feed(if number % 8 == 0 { Input::Stop } else { Input::Again }),
            }
            prop_assert!(world.sent.len() - before <= 3);
            prop_assert!(world.it.next_timeout().is_none_or(|at| at > world.now));
        }
    }
}
