//! A server as a device at another operator's CAMARA APIs: RIPT clients on both sides, WebRTC in between.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ript::adapter::camara;
use ript::adapter::operator::{Access, AccountSettings, Operators, Settings};
use ript::client::audio::{AudioCodec, CALLEE, CALLER, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, Call, Handler};
use ript::protocol::event::{Outcome, State};
use ript::protocol::number::Destinations;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::client_calls::{device, says};
use crate::common::camara_calls::scopes;
use crate::common::user::token;
use crate::common::{World, ca, soon, vouching};

const EVENTS: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create \
                      webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create \
                      webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create";
const ALICE: &str = "+442071838750";
const ACCOUNT: &str = "+14085550009";
const BOB: &str = "+14085550002";

/// An account at a server whose token is in a file.
fn account(operator: &World, folder: &Path) -> AccountSettings {
    let file = folder.join("token");
    let scopes = format!("{} {EVENTS}", scopes());
    std::fs::write(&file, token(&operator.issuer, "ours", &[ACCOUNT], &["test"], &scopes)).unwrap();
    AccountSettings {
        url: operator.url(),
        number: ACCOUNT.parse().unwrap(),
        access: Access::File(file),
        destinations: Destinations::new(["+1*"]).unwrap(),
        device: None,
        roots: vec![CertificateDer::from_pem_slice(ca().cert_pem().as_bytes()).unwrap()],
    }
}

/// A server with an account at another one, the operator.
struct Two {
    ours: World,
    operator: World,
    _operators: Arc<Operators>,
    folder: tempfile::TempDir,
}

impl Two {
    async fn start(camara: camara::Settings) -> Self {
        let operator = World::with_camara(camara).await;
        let folder = tempfile::tempdir().unwrap();
        let account = account(&operator, folder.path());
        Self::with(operator, folder, account).await
    }

    async fn with(operator: World, folder: tempfile::TempDir, account: AccountSettings) -> Self {
        let settings = Settings { accounts: vec![account], folder: folder.path().join("operators") };
        let operators = Operators::new(&settings).unwrap();
        let ours = World::with(|settings| {
            vouching(settings);
            settings.gateway = Some(operators.clone());
        })
        .await;
        operators.start(&ours.service);
        Self { ours, operator, _operators: operators, folder }
    }

    /// A caller on our server and a callee at the operator.
    async fn devices(&self, codecs: &[AudioCodec]) -> (Handler, Handler) {
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

async fn until(call: &Call, state: State) {
    soon("a state", async {
        while call.state() != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn across(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let mut listener = bob.listen();
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

/// What each says is heard by the other.
async fn heard_both_ways(folder: &Path, calling: &Call, called: &Call) {
    let (at_caller, at_callee) = (folder.join("caller.wav"), folder.join("callee.wav"));
    let record = |path: &Path| Some(path.to_owned());
    let caller = AudioOptions { record: record(&at_caller), ..says(CALLER) };
    let callee = AudioOptions { record: record(&at_callee), ..says(CALLEE) };
    let audio = (AudioCall::start(calling, caller).unwrap(), AudioCall::start(called, callee).unwrap());
    crate::client_calls::flows(calling, called, 280).await;
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
