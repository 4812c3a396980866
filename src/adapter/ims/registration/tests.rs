mod watch;

use std::time::Instant;

use super::*;
use crate::adapter::ims::aka::{Aka, Keys};
use crate::adapter::sip::digest::Digest;
use crate::adapter::sip::value::value;
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
    // And comes back with the next try.
    let sent = world.sent.len();
    while world.sent.len() == sent {
        world.wait();
    }
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
        Profile { login: Some(Arc::new(Login::Sim(Box::new(aka)))), ..profile() }
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
}

#[test]
fn a_registrar_that_forgot_its_nonce_is_answered_once_more() {
    let mut world = World::new(profile());
    world.reply(401, &[CHALLENGE]);
    let other = CHALLENGE.1.replacen("n1", "n2", 1);
    world.reply(401, &[(CHALLENGE.0, &other)]);
    assert_eq!((world.sent.len(), world.events.len()), (3, 0));
    let third = CHALLENGE.1.replacen("n1", "n3", 1);
    world.reply(401, &[(CHALLENGE.0, &third)]);
    assert_eq!(world.sent.len(), 3);
    assert!(matches!(world.events[..], [Event::Failed { code: 401, .. }]));
}
