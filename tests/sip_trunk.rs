//! A SIP trunk between two servers: RIPT clients at both ends, SIP and RTP in between.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ript::adapter::camara;
use ript::adapter::ims::{AccountSettings, Settings, Telephony, TrunkSettings, WaySettings};
use ript::adapter::sip::TlsFiles;
use ript::adapter::sip::rtp::{RtpSettings, Srtp};
use ript::client::audio::{AudioCodec, CALLER};
use ript::client::{AudioCall, Call, CallEvent, CallEvents, Handler, IncomingCall};
use ript::identity::passport::Attest;
use ript::media::audio::AudioCodec as Codec;
use ript::protocol::event::{Body, Outcome, Party, Scope, State};
use ript::protocol::number::Destinations;
use ript::service::gateways::Gateways;
use ript::service::rate::Rate;
use ript::store::memory::MemoryStore;

use crate::client_calls::{device, flows, says};
use crate::common::{World, keys, soon, vouching};
use crate::operator::{heard_both_ways, until};

const ALICE: &str = "+442071838750";
const BOB: &str = "+14085550002";

/// A port that was free a moment ago, for both.
pub fn free() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn rtp() -> RtpSettings {
    RtpSettings {
        listen: "127.0.0.1".parse().unwrap(),
        public: None,
        range: None,
        most: 100,
        srtp: Srtp::Off,
        codecs: RtpSettings::all_codecs(),
    }
}

pub fn trunk(own: u16, servers: &[String], ours: &str, theirs: &str) -> TrunkSettings {
    TrunkSettings {
        name: "trunk".to_owned(),
        servers: servers.to_vec(),
        numbers: Destinations::new([ours]).unwrap(),
        attest: Attest::B,
        trusted: true,
        x5u: None,
        ping: None,
        login: None,
        way: WaySettings {
            listen: ([127, 0, 0, 1], own).into(),
            tls_listen: None,
            public: None,
            files: TlsFiles::default(),
            peers: vec!["127.0.0.1".parse().unwrap()],
            peer_names: vec![],
            rate: Rate::per_second(500),
            keepalive: Duration::from_secs(120),
            destinations: Destinations::new([theirs]).unwrap(),
            codecs: RtpSettings::all_codecs(),
            srtp: Srtp::Off,
            srtp_in_clear: false,
            session_expires: None,
            emergency: None,
            access: None,
        },
    }
}

/// A server with these ways to telephone networks.
pub async fn world(folder: &Path, trunks: Vec<TrunkSettings>) -> (World, Arc<Telephony>) {
    let settings = Settings { rtp: rtp(), dns: Vec::new(), accounts: Vec::new(), trunks };
    world_with(folder, settings).await
}

/// The same, of all that may be set for telephone networks.
pub async fn world_with(folder: &Path, settings: Settings) -> (World, Arc<Telephony>) {
    world_on(folder, settings, vouching, camara::Settings::default()).await
}

/// The same with other settings of the server, and accounts.
pub async fn world_of(
    folder: &Path,
    accounts: Vec<AccountSettings>,
    trunks: Vec<TrunkSettings>,
    change: impl FnOnce(&mut ript::service::Settings),
    apis: camara::Settings,
) -> (World, Arc<Telephony>) {
    world_on(folder, Settings { rtp: rtp(), dns: Vec::new(), accounts, trunks }, change, apis).await
}

async fn world_on(
    folder: &Path,
    settings: Settings,
    change: impl FnOnce(&mut ript::service::Settings),
    apis: camara::Settings,
) -> (World, Arc<Telephony>) {
    let telephony = Telephony::bind(&settings, folder).await.unwrap();
    let gateways = Gateways::new(vec![telephony.clone()]);
    let keys = keys();
    let mut settings = crate::common::settings(&keys.0, &keys.1);
    change(&mut settings);
    settings.gateway = Some(gateways);
    let store = Arc::new(MemoryStore::new());
    let world = World::with_camara_on(settings, apis, store, keys, None).await;
    telephony.start(&world.service);
    (world, telephony)
}

/// Two servers, of which each is the other's telephone network.
pub struct Two {
    pub ours: World,
    pub theirs: World,
    pub folder: tempfile::TempDir,
    _telephony: [Arc<Telephony>; 2],
}

impl Two {
    /// `change`: of our trunk's settings.
    pub async fn start(change: impl Fn(&mut TrunkSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [free(), free()];
        let [at_ours, at_theirs] = ports.map(|port| format!("sip:127.0.0.1:{port}"));
        let mut one = trunk(ports[0], &[at_theirs], "+44*", "+1*");
        change(&mut one);
        let (ours, first) = world(folder.path(), vec![one]).await;
        let (theirs, second) = world(folder.path(), vec![trunk(ports[1], &[at_ours], "+1*", "+44*")]).await;
        Self { ours, theirs, folder, _telephony: [first, second] }
    }

    /// Alice at ours, bob at theirs.
    pub async fn devices(&self, alice: &[AudioCodec], bob: &[AudioCodec]) -> (Handler, Handler) {
        (device(&self.ours, "alice", ALICE, alice).await, device(&self.theirs, "bob", BOB, bob).await)
    }
}

/// Rings at bob's.
async fn ring(alice: &Handler, bob: &Handler) -> (Call, IncomingCall) {
    let mut listener = bob.listen();
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), ALICE);
    assert_eq!(incoming.call().verification().unwrap()["attest"], "B");
    soon("ringing", incoming.alerting()).await.unwrap();
    until(&placed, State::Alerting).await;
    (placed, incoming)
}

async fn across(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let (placed, incoming) = ring(alice, bob).await;
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_crosses_and_both_hear_each_other_with_each_codec() {
    for codec in [Codec::Opus, Codec::G722, Codec::Pcma, Codec::Pcmu] {
        let two = Two::start(|trunk| trunk.way.codecs = vec![codec]).await;
        let (alice, bob) = two.devices(&AudioCodec::ALL, &AudioCodec::ALL).await;
        let (placed, answered) = across(&alice, &bob).await;
        heard_both_ways(two.folder.path(), &placed, &answered).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_called_side_says_is_what_the_caller_hears_of_it() {
    let two = Two::start(|_| {}).await;
    let (alice, bob) = two.devices(&AudioCodec::ALL, &AudioCodec::ALL).await;
    for (reason, outcome, told) in
        [("rejected", Outcome::Declined, "rejected"), ("busy", Outcome::Declined, "busy")]
    {
        let (placed, incoming) = ring(&alice, &bob).await;
        soon("the refusal", incoming.decline(reason, Scope::All)).await.unwrap();
        let end = soon("the end", placed.ended()).await;
        assert_eq!((end.outcome, end.reason.as_str()), (outcome, told));
    }
    // Given up while it rings.
    let (placed, incoming) = ring(&alice, &bob).await;
    soon("the end", placed.end()).await.unwrap();
    let end = soon("the end over there", incoming.call().ended()).await;
    assert_eq!(end.outcome, Outcome::Cancelled);
    // Nobody is there.
    let placed = soon("the placing", alice.place("+14085559999", None)).await.unwrap();
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "unreachable"));
    // Bob hangs up.
    let (placed, answered) = across(&alice, &bob).await;
    soon("the end", answered.end()).await.unwrap();
    let end = soon("the end over here", placed.ended()).await;
    assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Callee));
}

/// Waits for an event of a call.
async fn saw(events: &mut CallEvents, wanted: impl Fn(&CallEvent) -> bool) {
    soon("an event", async { while !wanted(&events.next().await.expect("the call goes on").event) {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_and_digits_cross_both_ways() {
    let two = Two::start(|_| {}).await;
    let (alice, bob) = two.devices(&AudioCodec::ALL, &AudioCodec::ALL).await;
    let (placed, answered) = across(&alice, &bob).await;
    let audio = [&placed, &answered].map(|call| AudioCall::start(call, says(CALLER)).unwrap());
    flows(&placed, &answered, 20).await;
    for (one, other, held_by) in [(&placed, &answered, Party::Caller), (&answered, &placed, Party::Callee)] {
        let mut events = other.events();
        let said = |event: &CallEvent, body: Body| matches!(event, CallEvent::Server(event) if event.snapshot.is_none() && event.body == body);
        soon("the hold", one.hold()).await.unwrap();
        saw(&mut events, |event| said(event, Body::Hold { by: held_by })).await;
        soon("the resumption", one.resume()).await.unwrap();
        saw(&mut events, |event| said(event, Body::Resume { by: held_by })).await;
        soon("the key", one.dtmf('7')).await.unwrap();
        saw(&mut events, |event| matches!(event, CallEvent::Dtmf { digit: '7', .. })).await;
    }
    drop(audio);
}
