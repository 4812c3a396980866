//! A server as a device at another operator's CAMARA APIs: RIPT clients on both sides, WebRTC in between.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ript::adapter::camara;
use ript::adapter::operator::{Access, AccountSettings, Operators, Settings};
use ript::client::audio::{AudioCodec, CALLEE, CALLER, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, Call, CallEvent, CallEvents, Handler};
use ript::protocol::event::{Body, Outcome, Party, Scope, State};
use ript::protocol::number::Destinations;
use ript::service::gateways::Gateways;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::client_calls::{device, flows, says};
use crate::common::camara_calls::scopes;
use crate::common::user::token;
use crate::common::{World, ca, soon, vouching};
use crate::trunk_customers::trunks;

const EVENTS: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create \
                      webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create \
                      webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create";
pub const DEVICE: &str = crate::common::camara::DEVICE;
const ALICE: &str = "+442071838750";
pub const ACCOUNT: &str = "+14085550009";
pub const BOB: &str = "+14085550002";

/// What the operator gives who has the account.
pub fn account_token(operator: &World) -> String {
    token(&operator.issuer, "ours", &[ACCOUNT], &["test"], &format!("{} {EVENTS}", scopes()))
}

/// An account at a server whose token is in a file.
pub fn account(operator: &World, folder: &Path) -> AccountSettings {
    let file = folder.join("token");
    std::fs::write(&file, account_token(operator)).unwrap();
    AccountSettings {
        url: operator.url(),
        number: ACCOUNT.parse().unwrap(),
        access: Access::File(file),
        destinations: Destinations::new(["+1*"]).unwrap(),
        device: Some(DEVICE.parse().unwrap()),
        roots: vec![CertificateDer::from_pem_slice(ca().cert_pem().as_bytes()).unwrap()],
    }
}

/// A server with an account at another one, the operator.
pub struct Two {
    pub ours: World,
    pub operator: World,
    folder: tempfile::TempDir,
}

/// The way to an operator, beside the one to other RIPT servers.
fn gateways(folder: &Path, account: AccountSettings) -> (Arc<Operators>, Arc<Gateways>) {
    let settings = Settings { accounts: vec![account], folder: folder.join("operators") };
    let operators = Operators::new(&settings).unwrap();
    let gateways = Gateways::new(vec![trunks(&folder.join("trunks")), operators.clone()]);
    (operators, gateways)
}

impl Two {
    pub async fn start(camara: camara::Settings) -> Self {
        let operator = World::with_camara(camara).await;
        let folder = tempfile::tempdir().unwrap();
        let account = account(&operator, folder.path());
        Self::with(operator, folder, account).await
    }

    pub async fn with(operator: World, folder: tempfile::TempDir, account: AccountSettings) -> Self {
        let (operators, gateways) = gateways(folder.path(), account);
        let ours = World::with(|settings| {
            vouching(settings);
            settings.gateway = Some(gateways);
        })
        .await;
        operators.start(&ours.service);
        Self { ours, operator, folder }
    }

    /// A caller on our server and a callee at the operator.
    pub async fn devices(&self, codecs: &[AudioCodec]) -> (Handler, Handler) {
        let alice = device(&self.ours, "alice", ALICE, codecs).await;
        (alice, device(&self.operator, "bob", BOB, &AudioCodec::ALL).await)
    }
}

/// Rings at bob's.
async fn ring(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let mut listener = bob.listen();
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), ACCOUNT);
    soon("ringing", incoming.alerting()).await.unwrap();
    until(&placed, State::Alerting).await;
    (placed, incoming.call().clone())
}

pub async fn until(call: &Call, state: State) {
    soon("a state", async {
        while call.state() != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A caller at the operator and a callee on our server.
async fn callee(two: &Two, codecs: &[AudioCodec]) -> (Handler, Handler) {
    let carol = device(&two.ours, "carol", ACCOUNT, codecs).await;
    (device(&two.operator, "bob", BOB, &AudioCodec::ALL).await, carol)
}

/// Calls the account's number, once the operator knows it.
async fn call_account(bob: &Handler) -> Call {
    soon("the placing", async {
        loop {
            match bob.place(ACCOUNT, None).await {
                Ok(placed) => return placed,
                Err(error) => assert_eq!(error.code(), "unreachable", "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// Rings here.
async fn rings_here(bob: &Handler, carol: &Handler) -> (Call, Call) {
    let mut listener = carol.listen();
    let placed = call_account(bob).await;
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), BOB);
    assert_eq!(incoming.call().verification().unwrap()["attest"], "C");
    soon("ringing", incoming.alerting()).await.unwrap();
    until(&placed, State::Alerting).await;
    (placed, incoming.call().clone())
}

pub async fn answered_here(bob: &Handler, carol: &Handler) -> (Call, Call) {
    let mut listener = carol.listen();
    let placed = call_account(bob).await;
    let incoming = soon("the call", listener.next()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

pub async fn across(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let mut listener = bob.listen();
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

/// What each says is heard by the other.
pub async fn heard_both_ways(folder: &Path, calling: &Call, called: &Call) {
    let (at_caller, at_callee) = (folder.join("caller.wav"), folder.join("callee.wav"));
    let record = |path: &Path| Some(path.to_owned());
    let caller = AudioOptions { record: record(&at_caller), ..says(CALLER) };
    let callee = AudioOptions { record: record(&at_callee), ..says(CALLEE) };
    let audio = (AudioCall::start(calling, caller).unwrap(), AudioCall::start(called, callee).unwrap());
    flows(calling, called, 280).await;
    soon("the end", calling.end()).await.unwrap();
    let end = soon("ended over there", called.ended()).await;
    assert_eq!(end.outcome, Outcome::Completed);
    audio.0.finish().await.unwrap();
    audio.1.finish().await.unwrap();
    let hears = |file, path: &Path| correlate(&speech(file), &read_audio(path).unwrap(), 48_000);
    let (at_caller, at_callee) = (hears(CALLEE, &at_caller), hears(CALLER, &at_callee));
    assert!(at_caller.holds_speech() && at_callee.holds_speech(), "{at_caller:?} {at_callee:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_leaves_by_an_operator_and_both_hear_each_other() {
    let two = Two::start(camara::Settings::default()).await;
    let (alice, bob) = two.devices(&AudioCodec::ALL).await;
    let (placed, answered) = across(&alice, &bob).await;
    heard_both_ways(two.folder.path(), &placed, &answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_operator_shares_no_codec_with_the_callers_device_ours_transcodes() {
    let two = Two::start(camara::Settings::default()).await;
    let alice = device(&two.ours, "alice", ALICE, &[AudioCodec::Pcma]).await;
    let bob = device(&two.operator, "bob", BOB, &[AudioCodec::Opus]).await;
    let (placed, answered) = across(&alice, &bob).await;
    heard_both_ways(two.folder.path(), &placed, &answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_the_accounts_number_rings_here_and_both_hear_each_other() {
    for offerless in [false, true] {
        let mut camara = camara::Settings::default();
        camara.webrtc.offerless = offerless;
        let two = Two::start(camara).await;
        let (bob, carol) = callee(&two, &AudioCodec::ALL).await;
        let (placed, answered) = answered_here(&bob, &carol).await;
        heard_both_ways(two.folder.path(), &placed, &answered).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_leaves_and_comes_to_nothing_ends_alike_on_both_sides() {
    let two = Two::start(camara::Settings::default()).await;
    let (alice, bob) = two.devices(&AudioCodec::ALL).await;
    for (said, outcome) in [("busy", Outcome::Declined), ("rejected", Outcome::Declined)] {
        let (placed, rings) = ring(&alice, &bob).await;
        soon("the decline", rings.decline(said, Scope::All)).await.unwrap();
        let end = soon("the end", placed.ended()).await;
        assert_eq!((end.outcome, end.reason.as_str()), (outcome, said));
    }
    let (placed, rings) = ring(&alice, &bob).await;
    soon("giving up", placed.end()).await.unwrap();
    let end = soon("the end", rings.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Cancelled, Party::Caller));

    let placed = soon("the placing", alice.place("+14085550007", None)).await.unwrap();
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "unreachable"));
    // Neither our own number nor one that no account is used for.
    for number in [ACCOUNT, "+442071838751"] {
        let refused = soon("the refusal", alice.place(number, None)).await.unwrap_err();
        assert_eq!(refused.code(), "unreachable", "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_arrives_and_comes_to_nothing_ends_alike_on_both_sides() {
    let two = Two::start(camara::Settings::default()).await;
    let bob = device(&two.operator, "bob", BOB, &AudioCodec::ALL).await;
    let placed = call_account(&bob).await;
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "unreachable"), "nobody is there");

    let carol = device(&two.ours, "carol", ACCOUNT, &AudioCodec::ALL).await;
    for said in ["busy", "rejected"] {
        let (placed, rings) = rings_here(&bob, &carol).await;
        soon("the decline", rings.decline(said, Scope::All)).await.unwrap();
        let end = soon("the end", placed.ended()).await;
        assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Declined, said));
    }
    let (placed, rings) = rings_here(&bob, &carol).await;
    soon("giving up", placed.end()).await.unwrap();
    let end = soon("the end", rings.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Cancelled, Party::Caller));
}

/// Waits until a side is to send, or not.
async fn sends(call: &Call, something: bool) {
    soon("other directives", async {
        while call.directives().0.audio().is_some() != something {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Who held and resumed, until the end.
async fn holds(mut events: CallEvents) -> Vec<(bool, Party)> {
    let mut all = Vec::new();
    soon("the end", async {
        loop {
            match events.next().await.expect("an end").event {
                CallEvent::Server(event) if event.snapshot.is_none() => match event.body {
                    Body::Hold { by } => all.push((true, by)),
                    Body::Resume { by } => all.push((false, by)),
                    _ => {}
                },
                CallEvent::Ended(_) => return,
                _ => {}
            }
        }
    })
    .await;
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_holds_and_resumes_whoever_called() {
    let two = Two::start(camara::Settings::default()).await;
    let (alice, bob) = two.devices(&[AudioCodec::Opus]).await;
    let carol = device(&two.ours, "carol", ACCOUNT, &[AudioCodec::Opus]).await;
    for (calling, called) in [across(&alice, &bob).await, answered_here(&bob, &carol).await] {
        let told = [tokio::spawn(holds(calling.events())), tokio::spawn(holds(called.events()))];
        for (by, other) in [(&calling, &called), (&called, &calling)] {
            sends(other, true).await;
            soon("hold", by.hold()).await.unwrap();
            sends(other, false).await;
            soon("resume", by.resume()).await.unwrap();
            sends(other, true).await;
        }
        soon("the end", called.end()).await.unwrap();
        for told in told {
            let (caller, callee) = (Party::Caller, Party::Callee);
            assert_eq!(
                told.await.unwrap(),
                [(true, caller), (false, caller), (true, callee), (false, callee)],
                "what a side asked for is told once, and not as the other's doing"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_pass_both_ways() {
    let two = Two::start(camara::Settings::default()).await;
    let (alice, bob) = two.devices(&AudioCodec::ALL).await;
    let (placed, answered) = across(&alice, &bob).await;
    let _audio = (
        AudioCall::start(&placed, says(CALLER)).unwrap(),
        AudioCall::start(&answered, says(CALLEE)).unwrap(),
    );
    flows(&placed, &answered, 20).await;
    for (by, other, key) in [(&placed, &answered, '5'), (&answered, &placed, '#')] {
        let mut events = other.events();
        soon("a key", by.dtmf(key)).await.unwrap();
        let digit = soon("the key over there", async {
            loop {
                if let CallEvent::Dtmf { digit, .. } = events.next().await.unwrap().event {
                    return digit;
                }
            }
        });
        assert_eq!(digit.await, key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_our_server_ends_its_calls_at_the_operator_on_both_sides() {
    let two = Two::start(camara::Settings::default()).await;
    let (alice, bob) = two.devices(&[AudioCodec::Opus]).await;
    let (placed, answered) = across(&alice, &bob).await;
    let Two { ours, operator, folder } = two;
    let (mut settings, store, issuer, passports, address) = ours.crash().await;
    let (operators, gateways) = gateways(folder.path(), account(&operator, folder.path()));
    settings.gateway = Some(gateways);
    let ours = World::on(settings, store, issuer, passports, Some(address)).await;
    operators.start(&ours.service);
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Completed, "lost"));
    assert_eq!(soon("the end over there", answered.ended()).await.outcome, Outcome::Completed);
    // The same device goes on.
    across(&alice, &bob).await;
}
