//! SIP ends of two servers on loopback: user agents call each other over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ript::adapter::sip::ua::{Command, Event, Profile, Reliable};
use ript::adapter::sip::{Agent, Beginning, Hop, Listen, Stack, TlsFiles, uri};
use ript::service::rate::Rate;
use rsipstack::sip::Transport;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::common::soon;

const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9000 RTP/AVP 0\r\n";
const ANSWER: &str =
    "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9002 RTP/AVP 0\r\n";

/// No two calls have the same Call-ID and tag.
static SEED: AtomicU64 = AtomicU64::new(7);

pub fn listen(peers: &[&str]) -> Listen {
    Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        public: None,
        tls: None,
        files: TlsFiles::default(),
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        rate: Rate { per_second: 50, burst: 100 },
    }
}

pub async fn end(peers: &[&str]) -> (Arc<Stack>, mpsc::Receiver<Beginning>) {
    Stack::bind(&listen(peers)).await.unwrap()
}

pub fn profile(own: SocketAddr, target: String, transport: &str) -> Profile {
    Profile {
        from: format!("<sip:alice@{own}>"),
        to: format!("<{target}>"),
        target,
        contact: format!("<sip:alice@{own}{transport}>"),
        route: vec![],
        headers: vec![],
        reliable: Reliable::Supported,
        session_expires: Some(Duration::from_secs(1_800)),
        min_se: Duration::from_secs(90),
        credentials: None,
        product: "test".to_owned(),
        seed: SEED.fetch_add(1, Ordering::Relaxed).into(),
    }
}

pub fn place(from: &Arc<Stack>, to: &Stack, transport: Transport) -> Agent {
    let at = to.address(transport);
    let suffix = if transport == Transport::Tcp { ";transport=tcp" } else { "" };
    let target = format!("sip:bob@{at}{suffix}");
    uri(&target).unwrap();
    let hop = Hop { address: at, transport, name: at.ip().to_string() };
    let profile = profile(from.address(transport), target.clone(), suffix);
    Agent::place(from, profile, Some(OFFER.to_owned()), (&target, hop), None)
}

async fn next(agent: &mut Agent) -> Event {
    soon("an event", agent.events.recv()).await.expect("the call is over")
}

/// Takes the next call in, and its offer.
pub async fn take(stack: &Arc<Stack>, calls: &mut mpsc::Receiver<Beginning>) -> Agent {
    let call = soon("a call", calls.recv()).await.unwrap();
    assert!(call.known);
    let suffix = if call.transport == Transport::Tcp { ";transport=tcp" } else { "" };
    let profile = profile(stack.address(Transport::Udp), String::new(), suffix);
    let mut agent = Agent::arrive(stack, call, profile).unwrap();
    assert_eq!(next(&mut agent).await, Event::Offered(OFFER.to_owned()));
    agent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_rings_is_answered_changed_and_ended_over_udp_and_tcp() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (ours, _none) = end(&["127.0.0.1"]).await;
        let (theirs, mut calls) = end(&["127.0.0.1"]).await;
        let mut alice = place(&ours, &theirs, transport);
        let mut bob = take(&theirs, &mut calls).await;
        assert!(bob.say(Command::Ring { answer: None }));
        assert!(matches!(next(&mut alice).await, Event::Provisional { code: 180, .. }));
        assert!(bob.say(Command::Accept { sdp: ANSWER.to_owned() }));
        assert_eq!(next(&mut alice).await, Event::Described(ANSWER.to_owned()));
        assert_eq!(next(&mut alice).await, Event::Answered);
        assert_eq!(next(&mut bob).await, Event::Answered);
        // A hold from the called side, and back.
        assert!(bob.say(Command::Offer(OFFER.to_owned())));
        assert_eq!(next(&mut alice).await, Event::Offered(OFFER.to_owned()));
        assert!(alice.say(Command::Answer(ANSWER.to_owned())));
        assert_eq!(next(&mut bob).await, Event::Described(ANSWER.to_owned()));
        let (own, other) = (alice.dialog().unwrap(), bob.dialog().unwrap());
        assert_eq!((&own.local_tag, &own.remote_tag), (&other.remote_tag, &other.local_tag));
        assert!(alice.say(Command::End { reason: Some("Q.850;cause=16".to_owned()) }));
        let Event::Ended(ended) = next(&mut bob).await else { panic!("not the end") };
        assert_eq!((ended.code, ended.reason.as_deref()), (None, Some("Q.850;cause=16")));
        assert!(matches!(next(&mut alice).await, Event::Ended(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_is_cancelled_and_one_that_is_refused_says_why() {
    let (ours, _none) = end(&["127.0.0.1"]).await;
    let (theirs, mut calls) = end(&["127.0.0.1"]).await;
    let mut alice = place(&ours, &theirs, Transport::Udp);
    let mut bob = take(&theirs, &mut calls).await;
    bob.say(Command::Ring { answer: None });
    assert!(matches!(next(&mut alice).await, Event::Provisional { .. }));
    alice.say(Command::End { reason: None });
    assert!(matches!(next(&mut bob).await, Event::Ended(_)));
    let Event::Ended(ended) = next(&mut alice).await else { panic!("not the end") };
    assert_eq!(ended.code, Some(487));
    let mut alice = place(&ours, &theirs, Transport::Udp);
    let bob = take(&theirs, &mut calls).await;
    bob.say(Command::Reject { code: 486, retry_after: None, reason: Some("Q.850;cause=17".to_owned()) });
    let Event::Ended(ended) = next(&mut alice).await else { panic!("not the end") };
    assert_eq!((ended.code, ended.reason.as_deref()), (Some(486), Some("Q.850;cause=17")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_a_503_over_tcp() {
    let (ours, _none) = end(&["127.0.0.1"]).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = format!("sip:bob@{free};transport=tcp");
    let hop = Hop { address: free, transport: Transport::Tcp, name: "127.0.0.1".to_owned() };
    let profile = profile(ours.address(Transport::Tcp), target.clone(), ";transport=tcp");
    let mut alice = Agent::place(&ours, profile, Some(OFFER.to_owned()), (&target, hop), None);
    let Event::Ended(ended) = next(&mut alice).await else { panic!("not the end") };
    assert_eq!(ended.code, Some(503));
}

fn options(n: usize) -> String {
    format!(
        "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:9;rport;branch=z9hG4bK{n}\r\n\
         From: <sip:a@b>;tag={n}\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: {n}\r\nCSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_strangers_and_of_a_peer_do_no_harm_to_a_call() {
    let (ours, _none) = end(&["127.0.0.1"]).await;
    let (theirs, mut calls) = end(&["127.0.0.1", "127.0.0.3"]).await;
    let at = theirs.address(Transport::Udp);
    let mut alice = place(&ours, &theirs, Transport::Udp);
    let mut bob = take(&theirs, &mut calls).await;
    bob.say(Command::Accept { sdp: ANSWER.to_owned() });
    soon("the answer", async { while next(&mut alice).await != Event::Answered {} }).await;
    assert_eq!(next(&mut bob).await, Event::Answered);
    let heard = tokio::spawn(async move {
        let mut count = 0;
        while calls.recv().await.is_some() {
            count += 1;
        }
        count
    });
    for from in ["127.0.0.2:0", "127.0.0.3:0"] {
        let socket = UdpSocket::bind(from).await.unwrap();
        for n in 0..10_000 {
            socket.send_to(options(n).as_bytes(), at).await.unwrap();
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    // The call goes on.
    bob.say(Command::Offer(OFFER.to_owned()));
    assert_eq!(next(&mut alice).await, Event::Offered(OFFER.to_owned()));
    alice.say(Command::Answer(ANSWER.to_owned()));
    assert_eq!(next(&mut bob).await, Event::Described(ANSWER.to_owned()));
    bob.say(Command::End { reason: None });
    assert!(matches!(next(&mut alice).await, Event::Ended(_)));
    let (ignored, refused) = theirs.counts();
    // The system drops some of them before anybody sees them.
    assert!(ignored > 1_000 && refused > 50, "{ignored} {refused}");
    drop((bob, theirs));
    let heard = soon("the end of the listening", heard).await.unwrap();
    assert!(heard < 2_000, "{heard} of 20,000 were heard");
}
