//! A trunk by TLS between two servers: who is taken by their certificate, and media with keys that nobody else reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ript::adapter::ims::{Telephony, TrunkSettings};
use ript::adapter::sip::rtp::Srtp;
use ript::adapter::sip::ua::{Event, Profile, Reliable};
use ript::adapter::sip::{Agent, Beginning, Hop, Listen, Stack, TlsFiles, answer};
use ript::client::audio::AudioCodec;
use ript::client::{Call, Handler, IncomingCall};
use ript::identity::devca::DevCa;
use ript::protocol::event::{Outcome, Party, State};
use ript::service::rate::Rate;
use rsipstack::sip::Transport;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::client_calls::device;
use crate::common::{World, soon};
use crate::operator::{heard_both_ways, until};
use crate::sip_trunk::{free, trunk, world};

const ALICE: &str = "+442071838750";
const BOB: &str = "+14085550002";
/// Where the other server is: nothing but its certificate says whose the calls from here are.
const THERE: &str = "127.0.0.5";
const PLAIN: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9000 RTP/AVP 0\r\n";

/// A certificate of this CA, and whom its owner trusts.
fn files(folder: &Path, name: &str, ca: &DevCa, trusted: &DevCa) -> TlsFiles {
    let cert = ca.issue_server(&[THERE, "127.0.0.6"], ript::clock::now()).unwrap();
    let file = |kind: &str, text: &str| -> PathBuf {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        certificate: Some(file("cert", &cert.cert_pem)),
        key: Some(file("key", &cert.key_pem)),
        roots: roots(trusted),
    }
}

fn roots(ca: &DevCa) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap()]
}

/// Two servers. Ours calls theirs, which knows no address of ours.
struct Two {
    ours: World,
    theirs: World,
    /// Where theirs takes TLS.
    tls: u16,
    ca: DevCa,
    folder: tempfile::TempDir,
    _telephony: [Arc<Telephony>; 2],
}

impl Two {
    /// `server`: ours' way to theirs, with a port to be put in.
    async fn start(server: &str, change: impl Fn(&mut TrunkSettings, &mut TrunkSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevCa::generate(ript::clock::now()).unwrap();
        let tls = free();
        let server = server.replace("PORT", &tls.to_string());
        let mut one = trunk(free(), &[server], "+44*", "+1*");
        one.way.files = files(folder.path(), "one", &ca, &ca);
        one.way.tls_listen = Some(([127, 0, 0, 1], 0).into());
        let mut other = trunk(0, &["sip:127.0.0.9:5061;transport=tls".to_owned()], "+1*", "+44*");
        other.way.listen = format!("{THERE}:{}", free()).parse().unwrap();
        other.way.tls_listen = Some(format!("{THERE}:{tls}").parse().unwrap());
        other.way.files = files(folder.path(), "other", &ca, &ca);
        for trunk in [&mut one, &mut other] {
            trunk.way.peers.clear();
        }
        change(&mut one, &mut other);
        let (ours, first) = world(folder.path(), vec![one]).await;
        let (theirs, second) = world(folder.path(), vec![other]).await;
        Self { ours, theirs, tls, ca, folder, _telephony: [first, second] }
    }

    async fn devices(&self) -> (Handler, Handler) {
        let alice = device(&self.ours, "alice", ALICE, &AudioCodec::ALL).await;
        (alice, device(&self.theirs, "bob", BOB, &AudioCodec::ALL).await)
    }

    /// Somebody else calls bob by TLS, from another address.
    async fn intruder(&self, files: TlsFiles) -> u16 {
        let listen = Listen {
            address: "127.0.0.6:0".parse().unwrap(),
            public: None,
            tls: None,
            files,
            peers: vec![],
            rate: Rate::per_second(100),
        };
        let (stack, _none) = Stack::bind(&listen).await.unwrap();
        let target = format!("sip:{BOB}@{THERE}:{};transport=tls", self.tls);
        let address = format!("{THERE}:{}", self.tls).parse().unwrap();
        let hop = Hop { address, transport: Transport::Tls, name: THERE.to_owned() };
        let own = stack.address(Transport::Tls);
        let profile = Profile {
            from: format!("<sip:{ALICE}@{own}>"),
            to: format!("<{target}>"),
            target: target.clone(),
            contact: format!("<sip:x@{own};transport=tls>"),
            route: vec![],
            headers: vec![],
            reliable: Reliable::Supported,
            session_expires: None,
            min_se: Duration::from_secs(90),
            credentials: None,
            product: "intruder".to_owned(),
            seed: uuid::Uuid::new_v4().as_u128(),
        };
        let mut agent = Agent::place(&stack, profile, Some(PLAIN.to_owned()), (&target, hop), None);
        soon("the refusal", async {
            loop {
                if let Some(Event::Ended(ended)) = agent.events.recv().await {
                    return ended.code.expect("a code");
                }
            }
        })
        .await
    }
}

async fn ring(alice: &Handler, bob: &Handler) -> (Call, IncomingCall) {
    let mut listener = bob.listen();
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    assert_eq!(incoming.call().from().to_string(), ALICE);
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
async fn a_call_crosses_by_tls_and_both_hear_each_other_and_either_ends_it() {
    for server in ["sip:127.0.0.5:PORT;transport=tls", "sips:127.0.0.5:PORT"] {
        let two = Two::start(server, |_, _| {}).await;
        let (alice, bob) = two.devices().await;
        let (placed, answered) = across(&alice, &bob).await;
        heard_both_ways(two.folder.path(), &placed, &answered).await;
        let (placed, answered) = across(&alice, &bob).await;
        soon("the end", answered.end()).await.unwrap();
        let end = soon("the end over here", placed.ended()).await;
        assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Callee), "{server}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_certificate_or_a_foreign_one_rings_nobody() {
    let two = Two::start("sip:127.0.0.5:PORT;transport=tls", |_, _| {}).await;
    let (alice, bob) = two.devices().await;
    let mut listener = bob.listen();
    let without = TlsFiles { certificate: None, key: None, roots: roots(&two.ca) };
    assert_eq!(two.intruder(without).await, 403);
    let stranger = DevCa::generate(ript::clock::now()).unwrap();
    let foreign = files(two.folder.path(), "foreign", &stranger, &two.ca);
    assert_eq!(two.intruder(foreign).await, 503, "the connection is refused");
    // The first call that bob hears of is alice's, whom only her server's certificate lets in.
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    assert_eq!(answered.from().to_string(), ALICE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_cas_certificates_only_those_are_taken_that_name_a_peer() {
    for (name, code) in [("127.0.0.6", 488), ("sbc.test", 403)] {
        let two = Two::start("sip:127.0.0.5:PORT;transport=tls", |_, theirs| {
            theirs.way.peer_names = vec![name.to_owned()];
            // Whoever is known is refused for the offer, so that nobody has to be rung.
            theirs.way.srtp = Srtp::Required;
        })
        .await;
        let known = files(two.folder.path(), "known", &two.ca, &two.ca);
        assert_eq!(two.intruder(known).await, code, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn srtp_with_keys_from_the_description_goes_both_ways_by_tls() {
    let two = Two::start("sip:127.0.0.5:PORT;transport=tls", |ours, theirs| {
        ours.way.srtp = Srtp::Required;
        theirs.way.srtp = Srtp::Required;
    })
    .await;
    let (alice, bob) = two.devices().await;
    let (placed, answered) = across(&alice, &bob).await;
    heard_both_ways(two.folder.path(), &placed, &answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_rtp_is_refused_by_488_where_srtp_is_required() {
    let two =
        Two::start("sip:127.0.0.5:PORT;transport=tls", |_, theirs| theirs.way.srtp = Srtp::Required).await;
    let (alice, _bob) = two.devices().await;
    let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "no-common-codec"));
    let known = files(two.folder.path(), "known", &two.ca, &two.ca);
    assert_eq!(two.intruder(known).await, 488);
}

/// Refuses the next call, and gives back its offer.
async fn offer(calls: &mut tokio::sync::mpsc::Receiver<Beginning>) -> String {
    let call = soon("a call", calls.recv()).await.unwrap();
    call.responder.respond(answer(&call.request, 486, vec![]));
    String::from_utf8(call.request.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_by_udp_only_where_the_configuration_says_so() {
    for (srtp, in_clear, keys) in
        [(Srtp::Offered, false, false), (Srtp::Offered, true, true), (Srtp::Required, true, true)]
    {
        let listen = Listen {
            address: "127.0.0.1:0".parse().unwrap(),
            public: None,
            tls: None,
            files: TlsFiles::default(),
            peers: vec!["127.0.0.1".parse().unwrap()],
            rate: Rate::per_second(100),
        };
        let (stack, mut calls) = Stack::bind(&listen).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut way = trunk(free(), &[format!("sip:{}", stack.address(Transport::Udp))], "+44*", "+1*");
        (way.way.srtp, way.way.srtp_in_clear) = (srtp, in_clear);
        let (ours, _telephony) = world(folder.path(), vec![way]).await;
        let alice = device(&ours, "alice", ALICE, &AudioCodec::ALL).await;
        let placed = soon("the placing", alice.place(BOB, None)).await.unwrap();
        let offer = offer(&mut calls).await;
        assert_eq!(offer.contains("a=crypto:"), keys, "{srtp:?} {offer}");
        assert_eq!(offer.contains("RTP/SAVP"), srtp == Srtp::Required, "{offer}");
        assert_eq!(soon("the end", placed.ended()).await.outcome, Outcome::Declined);
    }
    // Where they are required and may not go, no call is placed.
    let folder = tempfile::tempdir().unwrap();
    let mut way = trunk(free(), &[format!("sip:127.0.0.1:{}", free())], "+44*", "+1*");
    way.way.srtp = Srtp::Required;
    let (ours, _telephony) = world(folder.path(), vec![way]).await;
    let alice = device(&ours, "alice", ALICE, &AudioCodec::ALL).await;
    match soon("the placing", alice.place(BOB, None)).await {
        Err(refused) => assert_eq!(refused.code(), "bad-gateway"),
        Ok(placed) => {
            let end = soon("the end", placed.ended()).await;
            assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "bad-gateway"));
        }
    }
}
