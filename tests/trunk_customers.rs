//! Customers register their own TGs, and calls to their numbers go there.

use std::sync::Arc;
use std::time::Duration;

use ript::client::audio::{AudioCodec, CALLEE, CALLER, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, Call, Handler, MediaPath};
use ript::identity::jwk::JwkSet;
use ript::identity::passport::PassportTrust;
use ript::protocol::event::{Outcome, Party, State};
use ript::protocol::resource::ROOT;
use ript::service::Settings;
use ript::trunk::{self, Trunks};
use serde_json::{Value, json};

use crate::client_calls::{device, says};
use crate::common::user::{ALL_SCOPES, User, token};
use crate::common::{World, ca, soon};

pub const ALICE: &str = "+442071838750";
pub const BOB: &str = "+14085550002";

/// Lets a server have trunks, to others on this machine.
pub fn trunks(folder: &std::path::Path) -> Arc<Trunks> {
    Trunks::start(trunk::Settings {
        folder: folder.to_owned(),
        roots: Some(ca().cert_pem().as_bytes().to_vec()),
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
    })
}

/// A provider, its customer's server, and the customer at the provider.
pub struct Two {
    pub provider: World,
    pub enterprise: World,
    pub customer: User,
    _folder: tempfile::TempDir,
}

impl Two {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// `change`: of the provider's settings; the enterprise believes whom the provider believes.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = World::with(|settings| {
            settings.gateway = Some(trunks(folder.path()));
            change(settings);
        })
        .await;
        // Both believe the key that the provider's callers sign with.
        let key = provider.passports.public().clone();
        let anchors = provider.settings.passports.anchors.clone();
        let enterprise = World::with(|settings: &mut Settings| {
            let keys = PassportTrust::any_number(JwkSet::new(vec![key]));
            settings.passports = PassportTrust { anchors, ..keys };
        })
        .await;
        let customer = token(&provider.issuer, "enterprise", &["+1408555*"], &["test"], ALL_SCOPES);
        let customer = User::connect(&provider, customer, BOB).await;
        Self { provider, enterprise, customer, _folder: folder }
    }

    pub fn target(&self) -> String {
        self.target_at(self.enterprise.address.port())
    }

    pub fn target_at(&self, port: u16) -> String {
        format!("https://localhost:{port}{ROOT}/providertgs/test")
    }

    /// What the enterprise gives the provider for the way back.
    fn way_back(&self) -> String {
        token(&self.enterprise.issuer, "provider", &["*"], &["test"], ALL_SCOPES)
    }

    pub fn wanted(&self) -> Value {
        json!({
            "target-uri": self.target(),
            "token": self.way_back(),
            "outbound": {"destinations": ["+1408555*", "!+14085559*"]},
        })
    }

    pub async fn register(&self) -> String {
        let answer = self.customer.post("consumertgs", &self.wanted()).await;
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.json());
        answer.header("location").to_owned()
    }

    /// A caller at the provider and a callee at the enterprise.
    pub async fn devices(&self, codecs: &[AudioCodec]) -> (Handler, Handler) {
        let alice = device(&self.provider, "alice", ALICE, codecs).await;
        let bob = device(&self.enterprise, "bob", BOB, &AudioCodec::ALL).await;
        (alice, bob)
    }
}

pub async fn across(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let mut listener = bob.listen();
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), ALICE);
    soon("ringing", incoming.alerting()).await.unwrap();
    soon("alerting", async {
        while placed.state() != State::Alerting {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_made_read_changed_and_ended() {
    let two = Two::start().await;
    let customer = &two.customer;
    let answer = customer.post("consumertgs", &two.wanted()).await;
    let made = answer.json();
    assert_eq!(answer.status.as_u16(), 201, "{made}");
    let uri = answer.header("location").to_owned();
    assert_eq!(made["uri"], uri);
    assert_eq!((made["target-uri"].as_str().unwrap(), made.get("token")), (two.target().as_str(), None));
    assert_eq!(made["outbound"]["destinations"], json!(["+1408555*", "!+14085559*"]));
    assert_eq!(customer.get(&uri).await.json(), made);
    assert_eq!(customer.get("consumertgs").await.json(), json!({"tgs": [made]}));
    // Every spelling, on the root and on a TG: the same TG at the same place is the same registration.
    for (method, path) in [
        ("POST", "customertgs"),
        ("PUT", "consumertgs"),
        ("POST", "providertgs/test/consumertgs"),
        ("PUT", "providertgs/test/customertgs"),
    ] {
        let answer = customer.with_body(method, path, two.wanted().to_string()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["uri"].as_str()),
            (200, Some(uri.as_str())),
            "{method} {path}"
        );
    }
    let mut less = two.wanted();
    less["outbound"]["destinations"] = json!("+14085551*");
    assert_eq!(customer.with_body("PUT", &uri, less.to_string()).await.status, 200);
    assert_eq!(customer.get(&uri).await.json()["outbound"]["destinations"], "+14085551*");
    let other = two.provider.user("other", "+14085550009").await;
    for method in ["GET", "DELETE"] {
        assert_eq!(other.with_body(method, &uri, "").await.problem(), (404, "not-found".into()));
    }
    assert_eq!(other.with_body("PUT", &uri, two.wanted().to_string()).await.problem().0, 404);
    assert_eq!(customer.delete(&uri).await.status, 204);
    assert_eq!(customer.get(&uri).await.problem(), (404, "not-found".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_cannot_verify_is_not_registered() {
    let two = Two::start().await;
    let own = format!("https://localhost:{}{ROOT}/providertgs/test", two.provider.address.port());
    let from_own = |uri: &str| uri.replace("localhost", "LOCALHOST");
    let nobody = format!("https://localhost:1{ROOT}/providertgs/test");
    let no_tg = two.target().replace("/test", "/nothing");
    let literal = two.target().replace("localhost", "127.0.0.1");
    let http = two.target().replace("https", "http");
    let unknown = format!("https://nowhere.invalid{ROOT}/providertgs/test");
    let rows = [
        ("target-uri", json!(http), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!(literal), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!("https://[::1]/x"), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!(nobody), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!(unknown), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!(no_tg), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!(own), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!(from_own(&own)), 422, "bad-target-uri", "target-uri"),
        ("target-uri", json!(7), 400, "bad-json", "target-uri"),
        ("token", json!("wrong"), 422, "bad-target-uri", "token"),
        ("token", json!(""), 400, "bad-json", "token"),
        ("token", json!("two words"), 400, "bad-json", "token"),
        ("token", json!(null), 400, "bad-json", "token"),
        ("outbound", json!({"destinations": "*"}), 403, "number-not-allowed", "outbound.destinations"),
        ("outbound", json!({"destinations": "+1408*"}), 403, "number-not-allowed", "outbound.destinations"),
        (
            "outbound",
            json!({"destinations": ["+1408555*", ALICE]}),
            403,
            "number-not-allowed",
            "outbound.destinations",
        ),
        ("outbound", json!({"destinations": ["!+1408555*"]}), 422, "bad-number", "outbound.destinations"),
        ("outbound", json!({}), 400, "bad-json", "destinations"),
    ];
    for (member, value, status, code, field) in rows {
        let mut wanted = two.wanted();
        wanted[member] = value.clone();
        let answer = two.customer.post("consumertgs", &wanted).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &problem["code"]),
            (status, &json!(code)),
            "{member} {value}: {problem}"
        );
        assert_eq!(problem["field"], field, "{member} {value}: {problem}");
    }
    assert_eq!(two.customer.get("consumertgs").await.json(), json!({"tgs": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uri_that_comes_back_to_the_provider_under_another_name_is_seen() {
    let two = Two::start().await;
    // The provider's own address, by a name under which it doesn't know itself, with a token that it takes.
    let uri = format!("https://localhost:{}{ROOT}/providertgs/test", two.provider.address.port());
    let mut wanted = two.wanted();
    (wanted["target-uri"], wanted["token"]) = (json!(uri), json!(two.customer.token));
    let answer = two.customer.post("consumertgs", &wanted).await;
    let problem = answer.json();
    assert_eq!((answer.status.as_u16(), &problem["field"]), (422, &json!("target-uri")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("points back"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_customers_number_is_answered_there_with_speech_both_ways() {
    let two = Two::start().await;
    two.register().await;
    let (alice, bob) = two.devices(&[AudioCodec::Opus]).await;
    let (placed, answered) = across(&alice, &bob).await;
    assert_eq!(answered.verification().unwrap()["status"], "verified");
    let folder = tempfile::tempdir().unwrap();
    let (at_alice, at_bob) = (folder.path().join("alice.wav"), folder.path().join("bob.wav"));
    let recorded =
        |file, record: &std::path::Path| AudioOptions { record: Some(record.to_owned()), ..says(file) };
    let a = AudioCall::start(&placed, recorded(CALLER, &at_alice)).unwrap();
    let b = AudioCall::start(&answered, recorded(CALLEE, &at_bob)).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let stats = (placed.stats(), answered.stats());
    println!("{stats:#?}");
    soon("the end", placed.end()).await.unwrap();
    let end = soon("ended", answered.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Caller));
    let (heard_a, heard_b) = (a.finish().await.unwrap(), b.finish().await.unwrap());
    assert_eq!((heard_a.hears, heard_b.hears), (Some(AudioCodec::Opus), Some(AudioCodec::Opus)));
    for stats in [&stats.0, &stats.1] {
        assert_eq!(stats.path, Some(MediaPath::WebTransport));
        assert!(stats.media.received > 250 && stats.media.lost <= 2, "{:?}", stats.media);
    }
    for (said, heard) in [(CALLER, &at_bob), (CALLEE, &at_alice)] {
        let correlation = correlate(&speech(said), &read_audio(heard).unwrap(), 48_000);
        assert!(correlation.holds_speech(), "{correlation:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_carriers_register_with_each_other_and_call_both_ways() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, key) = {
        let world = World::with(|settings| settings.gateway = Some(trunks(folders[0].path()))).await;
        let key = world.passports.public().clone();
        (world, key)
    };
    // One key for all callers' PASSporTs; whose they are is tested where certificates are.
    let two = World::with(|settings: &mut Settings| {
        settings.gateway = Some(trunks(folders[1].path()));
        settings.passports = PassportTrust::any_number(JwkSet::new(vec![key]));
    })
    .await;
    for (at, from, numbers) in [(&one, &two, "+1408555*"), (&two, &one, "+4420*")] {
        let carrier = token(&at.issuer, "carrier", &[numbers], &["test"], ALL_SCOPES);
        let carrier = User::connect(at, carrier, BOB).await;
        let wanted = json!({
            "target-uri": format!("https://localhost:{}{ROOT}/providertgs/test", from.address.port()),
            "token": token(&from.issuer, "carrier", &["*"], &["test"], ALL_SCOPES),
            "outbound": {"destinations": numbers},
        });
        let answer = carrier.post("consumertgs", &wanted).await;
        assert_eq!(answer.status, 201, "{}", answer.json());
    }
    let alice = device(&one, "alice", ALICE, &AudioCodec::ALL).await;
    across(&alice, &device(&two, "bob", BOB, &AudioCodec::ALL).await).await;
    // The other way round: a caller there, whose key is the same one.
    let bob = two.user("bob", BOB).await;
    let b1 = bob.register("b1", crate::common::user::BOTH).await;
    let mut listener = alice.listen();
    let passport = User::connect(&one, bob.token.clone(), BOB).await.passport(ALICE);
    let wanted = json!({"handler": b1, "destination": ALICE, "passport": passport});
    let answer = bob.post("providertgs/test/calls", &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), BOB);
    soon("the answer", incoming.answer()).await.unwrap();
    let uri = answer.json()["uri"].as_str().unwrap().to_owned();
    let mut events = bob.events(&uri, &b1, None).await;
    if bob.get(&uri).await.json()["state"] != "answered" {
        events.until("answered").await;
    }
}
