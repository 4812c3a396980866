//! Several ways to telephone networks at one port: whose a call is, is told by who sends it and whom it calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ript::adapter::ims::{AccountSettings, Secret, Settings, TrunkSettings};
use ript::adapter::sip::ua::{Command, Event, Profile, Reliable};
use ript::adapter::sip::{Agent, Beginning, Hop, Listen, Stack, TlsFiles, answer};
use ript::client::Handler;
use ript::client::audio::AudioCodec;
use ript::identity::devca::DevCa;
use ript::identity::passport::Attest;
use ript::service::rate::Rate;
use rsipstack::sip::{Method, Transport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::mpsc;

use crate::client_calls::device;
use crate::common::soon;
use crate::sip_trunk::{free, rtp, trunk, world_with};

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9000 RTP/AVP 0\r\n";
const FROM: &str = "+442071838750";
const BOB: &str = "+14085550002";
const CAROL: &str = "+16505550003";
const DAVE: &str = "+493012345";

/// A SIP end of somebody else, at this address.
async fn somebody(address: &str) -> (Arc<Stack>, mpsc::Receiver<Beginning>) {
    certified(address, TlsFiles::default()).await
}

/// The same, with a certificate.
async fn certified(address: &str, files: TlsFiles) -> (Arc<Stack>, mpsc::Receiver<Beginning>) {
    let listen = Listen {
        address: format!("{address}:0").parse().unwrap(),
        public: None,
        tls: None,
        files,
        peers: vec!["127.0.0.1".parse().unwrap()],
        rate: Rate::per_second(100),
    };
    Stack::bind(&listen).await.unwrap()
}

/// Somebody calls this user at our server.
fn dial(stack: &Arc<Stack>, user: &str, at: SocketAddr) -> Agent {
    dial_by(stack, user, at, Transport::Udp)
}

fn dial_by(stack: &Arc<Stack>, user: &str, at: SocketAddr, transport: Transport) -> Agent {
    let own = stack.address(Transport::Udp);
    let suffix = if transport == Transport::Tls { ";transport=tls" } else { "" };
    let target = format!("sip:{user}@{at}{suffix}");
    let profile = Profile {
        from: format!("<sip:{FROM}@{own}>"),
        to: format!("<{target}>"),
        target: target.clone(),
        contact: format!("<{}>", stack.contact("x", Transport::Udp)),
        route: vec![],
        headers: vec![("P-Asserted-Identity".to_owned(), format!("<tel:{FROM}>"))],
        reliable: Reliable::Supported,
        session_expires: None,
        min_se: Duration::from_secs(90),
        credentials: None,
        product: "somebody".to_owned(),
        seed: uuid::Uuid::new_v4().as_u128(),
    };
    let hop = Hop { address: at, transport, name: at.ip().to_string() };
    Agent::place(stack, profile, Some(SDP.to_owned()), (&target, hop), None)
}

/// Rings here: what the call's caller is worth, as the way that it came by has it.
async fn rings(called: &Handler, mut agent: Agent) -> String {
    let mut listener = called.listen();
    let incoming = soon("the call", listener.next()).await.unwrap();
    let attest = incoming.call().verification().unwrap()["attest"].as_str().unwrap().to_owned();
    soon("ringing", incoming.alerting()).await.unwrap();
    soon("180", async {
        while !matches!(agent.events.recv().await, Some(Event::Provisional { code: 180, .. })) {}
    })
    .await;
    agent.end(Command::End { reason: None });
    soon("the end", incoming.call().ended()).await;
    attest
}

async fn refused(mut agent: Agent) -> Option<u16> {
    soon("the refusal", async {
        loop {
            if let Some(Event::Ended(ended)) = agent.events.recv().await {
                return ended.code;
            }
        }
    })
    .await
}

fn named(name: &str, own: u16, peer: &str, numbers: &str, attest: Attest) -> TrunkSettings {
    let mut trunk = trunk(own, &[format!("sip:{peer}")], numbers, "+99*");
    trunk.name = name.to_owned();
    trunk.attest = attest;
    trunk.way.peers = vec![peer.parse().unwrap()];
    trunk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_trunks_and_an_account_share_a_port() {
    let (one, _one) = somebody("127.0.0.2").await;
    let (other, _other) = somebody("127.0.0.3").await;
    let (registrar, mut registers) = somebody("127.0.0.4").await;
    let own = free();
    let at: SocketAddr = ([127, 0, 0, 1], own).into();
    let trunks = vec![
        named("first", own, "127.0.0.2", "+1408*", Attest::A),
        named("second", own, "127.0.0.2", "+1650*", Attest::B),
        named("third", own, "127.0.0.3", "+1408*", Attest::C),
    ];
    let account = AccountSettings {
        number: DAVE.parse().unwrap(),
        identity: "sip:dave@home.test".to_owned(),
        user: "dave@home.test".to_owned(),
        secret: Secret::Password("secret".to_owned()),
        registrar: format!("sip:{}", registrar.address(Transport::Udp)),
        proxy: None,
        expires: Duration::from_secs(600),
        ims: false,
        always: true,
        way: named("", own, "127.0.0.4", "+1*", Attest::C).way,
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { rtp: rtp(), dns: vec![], accounts: vec![account], trunks };
    let (ours, _telephony) = world_with(folder.path(), settings).await;
    let register = soon("REGISTER", registers.recv()).await.unwrap();
    assert_eq!(
        (register.request.method, register.from),
        (Method::Register, at),
        "by the port that all share"
    );
    let contact = register.request.headers.iter().find(|header| header.name() == "Contact").unwrap().value();
    assert!(contact.contains(&format!("sip:dave@{at}")), "{contact}");
    register.responder.respond(answer(&register.request, 200, vec![("Contact", contact.to_owned())]));

    let bob = device(&ours, "bob", BOB, &AudioCodec::ALL).await;
    let carol = device(&ours, "carol", CAROL, &AudioCodec::ALL).await;
    let dave = device(&ours, "dave", DAVE, &AudioCodec::ALL).await;
    // By who sends it, and of one sender by whom it calls.
    assert_eq!(rings(&bob, dial(&one, BOB, at)).await, "A");
    assert_eq!(rings(&carol, dial(&one, CAROL, at)).await, "B");
    assert_eq!(rings(&bob, dial(&other, BOB, at)).await, "C");
    // The account is called by its Contact, by its registrar.
    rings(&dave, dial(&registrar, "dave", at)).await;
    // Nobody's number there, and nobody's peer.
    assert_eq!(refused(dial(&other, CAROL, at)).await, Some(404));
    let (stranger, _none) = somebody("127.0.0.6").await;
    assert_eq!(refused(dial(&stranger, BOB, at)).await, Some(403));
}

/// A certificate of this name.
fn files(folder: &std::path::Path, ca: &DevCa, name: &str) -> TlsFiles {
    let cert = ca.issue_server(&[name], ript::clock::now()).unwrap();
    let file = |kind: &str, text: &str| {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let roots = vec![CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap()];
    TlsFiles { certificate: file("cert", &cert.cert_pem), key: file("key", &cert.key_pem), roots }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_tell_trunks_apart_whose_calls_come_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let ca = DevCa::generate(ript::clock::now()).unwrap();
    let (own, tls) = (free(), free());
    let at: SocketAddr = ([127, 0, 0, 1], tls).into();
    let shared = files(folder.path(), &ca, "ours.test");
    let of = |name: &str, attest| {
        let mut trunk = named(name, own, "127.0.0.9", "+1408*", attest);
        trunk.way.peers.clear();
        trunk.way.peer_names = vec![name.to_owned()];
        (trunk.way.tls_listen, trunk.way.files) = (Some(at), shared.clone());
        trunk
    };
    let trunks = vec![of("a.test", Attest::A), of("b.test", Attest::B)];
    let settings = Settings { rtp: rtp(), dns: vec![], accounts: vec![], trunks };
    let (ours, _telephony) = world_with(folder.path(), settings).await;
    let bob = device(&ours, "bob", BOB, &AudioCodec::ALL).await;
    for (name, attest) in [("b.test", "B"), ("a.test", "A")] {
        let (stack, _calls) = certified("127.0.0.2", files(folder.path(), &ca, name)).await;
        assert_eq!(rings(&bob, dial_by(&stack, BOB, at, Transport::Tls)).await, attest);
    }
    let (stack, _calls) = certified("127.0.0.2", files(folder.path(), &ca, "c.test")).await;
    assert_eq!(refused(dial_by(&stack, BOB, at, Transport::Tls)).await, Some(403));
}
