//! The torture messages of RFC 4475, each sent as it is written to an end on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ript::adapter::sip::ua::{Command, Event, Profile, Reliable};
use ript::adapter::sip::{Agent, Beginning, Listen, Stack, TlsFiles, answer};
use ript::service::rate::Rate;
use rsipstack::sip::{Method, Request, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use crate::common::soon;
use crate::torture::{Expect, Torture, all};

/// What reached the user: a request that is answered by 200, or a call's offer.
type Reached = (Request, Option<String>);

/// A user agent that answers whatever reaches it.
async fn user(
    stack: Arc<Stack>,
    mut beginnings: mpsc::Receiver<Beginning>,
    reached: mpsc::UnboundedSender<Reached>,
) {
    while let Some(beginning) = beginnings.recv().await {
        let request = beginning.request.clone();
        if request.method != Method::Invite {
            let _ = reached.send((request.clone(), None));
            beginning.responder.respond(answer(&request, 200, vec![]));
            continue;
        }
        let own = stack.address(Transport::Udp);
        let profile = Profile {
            from: String::new(),
            to: String::new(),
            target: String::new(),
            contact: format!("<sip:user@{own}>"),
            route: vec![],
            headers: vec![],
            reliable: Reliable::Supported,
            session_expires: None,
            min_se: std::time::Duration::from_secs(90),
            credentials: None,
            product: "test".to_owned(),
            seed: rand(&request),
        };
        // What a user agent doesn't take it has refused.
        let Some(mut agent) = Agent::arrive(&stack, beginning, profile) else { continue };
        if let Some(Event::Offered(offer)) = agent.events.recv().await {
            let _ = reached.send((request, Some(offer)));
            agent.end(Command::Reject { code: 486, retry_after: None, reason: None });
        }
    }
}

fn rand(request: &Request) -> u128 {
    request.to_string().bytes().fold(7, |sum, byte| sum * 31 % 1_000_000_007 + u128::from(byte))
}

/// Who sends the messages; answers come to the ports that they name.
struct Sender {
    /// RFC 3261 §18.1.1: the default port; no message names another one but quotbal.
    main: UdpSocket,
    second: UdpSocket,
    to: SocketAddr,
}

impl Sender {
    async fn new(to: SocketAddr) -> Self {
        // Other test programs on this machine have other addresses.
        let [.., a, b] = std::process::id().to_be_bytes();
        let own = Ipv4Addr::new(127, 75, a, b.max(1));
        let bind = async |port| {
            let bound = UdpSocket::bind((own, port)).await;
            bound.unwrap_or_else(|error| panic!("{own}:{port}, where answers go: {error}"))
        };
        Self { main: bind(5_060).await, second: bind(5_050).await, to }
    }

    async fn send(&self, message: &[u8]) {
        self.main.send_to(message, self.to).await.unwrap();
    }

    /// The final response that has this in it.
    async fn answered(&self, what: &str) -> (u16, String) {
        loop {
            let (mut main, mut second) = (vec![0; 65_536], vec![0; 65_536]);
            let text = tokio::select! {
                len = self.main.recv(&mut main) => String::from_utf8(main[..len.unwrap()].to_vec()).unwrap(),
                len = self.second.recv(&mut second) => String::from_utf8(second[..len.unwrap()].to_vec()).unwrap(),
            };
            let code: u16 = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
            if code >= 200 && text.contains(what) {
                return (code, text);
            }
        }
    }

    /// An ordinary request is answered; what came before it has been looked at.
    async fn ordinary(&self, n: &str) {
        let options = format!(
            "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{n}\r\n\
             From: <sip:a@b>;tag={n}\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: ordinary-{n}\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(options.as_bytes()).await;
        let (code, _) = soon("an ordinary answer", self.answered(&format!("Call-ID: ordinary-{n}\r"))).await;
        assert_eq!(code, 200);
    }
}

/// What an answer to a message has in it.
fn mark(torture: &Torture) -> &str {
    // Its Call-ID doesn't begin with its name.
    if torture.name == "mpart01" { "3d9485ad0c49859b" } else { torture.name }
}

/// The lines of an answer that say more than its status.
fn check(torture: &Torture, code: u16, answer: &str) {
    let name = torture.name;
    assert!(answer.contains("received=127.75."), "{name}: {answer}");
    if torture.name != "insuf" {
        let to = answer.lines().find(|line| line.starts_with("To:")).expect("To");
        assert!(to.contains("tag="), "{name}: {answer}");
    }
    let needed = match code {
        // RFC 3261 §21.5.2, §21.4.15, §21.4.13
        501 => "Allow: INVITE, ",
        420 => "Unsupported: nothingSupportsThis, nothingSupportsThisEither",
        415 => "Accept: application/sdp",
        _ => "",
    };
    assert!(answer.contains(needed), "{name}: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_torture_message_is_taken_refused_or_dropped_as_the_rfc_says() {
    let listen = Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        public: None,
        tls: None,
        files: TlsFiles::default(),
        peers: vec!["127.75.0.0/16".parse().unwrap()],
        rate: Rate { per_second: 1_000, burst: 1_000 },
    };
    let (stack, beginnings) = Stack::bind(&listen).await.unwrap();
    let (tell, mut reached) = mpsc::unbounded_channel();
    let user = tokio::spawn(user(stack.clone(), beginnings, tell));
    let sender = Sender::new(stack.address(Transport::Udp)).await;
    let messages = all();
    assert_eq!(messages.len(), 49, "all of the RFC's messages");
    let mut wrong = Vec::new();
    for torture in &messages {
        let Torture { section, name, message, expect } = torture;
        let before = stack.malformed();
        sender.send(message).await;
        let outcome = match expect {
            Expect::Dropped | Expect::Read => {
                // UDP on loopback keeps the order: who answers this has seen that.
                sender.ordinary(name).await;
                reached.recv().await.expect("the ordinary request");
                let (dropped, refused) = stack.malformed();
                match (dropped - before.0, refused - before.1) {
                    (1, 0) => Expect::Dropped,
                    (0, 0) => Expect::Read,
                    other => panic!("{name}: {other:?} dropped, refused"),
                }
            }
            _ => {
                let (code, answer) = soon(name, sender.answered(mark(torture))).await;
                check(torture, code, &answer);
                match reached.try_recv() {
                    Ok((request, None)) if code == 200 => {
                        assert_eq!(request.method, read(message).method, "{name}");
                        assert_eq!(request.body, body(message), "{name}");
                        Expect::Taken
                    }
                    Ok((_, Some(offer))) if code == 486 => {
                        assert_eq!(offer.as_bytes(), body(message), "{name}");
                        Expect::Call
                    }
                    Ok((request, _)) => panic!("{name}: answered {code}, and reached the user: {request}"),
                    Err(_) => Expect::Status(code),
                }
            }
        };
        println!("{section:9} {name:12} {outcome:?}");
        if outcome != *expect {
            wrong.push(format!("{section} {name}: {outcome:?} instead of {expect:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    sender.ordinary("last").await;
    assert!(reached.recv().await.is_some() && reached.try_recv().is_err(), "nothing else reached the user");
    user.abort();
}

/// What follows the first empty line, as long as the message says.
fn body(message: &[u8]) -> Vec<u8> {
    let request = read(message);
    let length = request.headers.iter().find(|header| header.name() == "Content-Length").unwrap();
    let begins = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    message[begins..][..length.value().parse().unwrap()].to_vec()
}

fn read(message: &[u8]) -> Request {
    Request::try_from(message).unwrap()
}

/// An end that listens to this host.
async fn end() -> (Arc<Stack>, mpsc::Receiver<Beginning>) {
    let listen = Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        public: None,
        tls: None,
        files: TlsFiles::default(),
        peers: vec!["127.0.0.1".parse().unwrap()],
        rate: Rate::per_second(100),
    };
    Stack::bind(&listen).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_by_tcp_is_held_to_the_same_rules() {
    let (stack, _beginnings) = end().await;
    let mut stream = TcpStream::connect(stack.address(Transport::Tcp)).await.unwrap();
    for (line, status) in [
        ("CSeq: 1 INVITE", "SIP/2.0 400 "),
        ("CSeq: 1 OPTIONS\r\nTo: <sip:z@127.0.0.1>", "SIP/2.0 400 "),
        ("CSeq: 1 OPTIONS\r\nRequire: nothing", "SIP/2.0 420 "),
    ] {
        let request = format!(
            "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;rport;branch=z9hG4bK1\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: tcp\r\n{line}\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = soon("an answer", stream.read_buf(&mut answer)).await.unwrap();
            assert!(read > 0, "closed after {line}");
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(status), "{line}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_by_two_ways_is_taken_once() {
    let (stack, mut beginnings) = end().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(stack.address(Transport::Udp)).await.unwrap();
    let options = |branch: &str, whom: &str| {
        format!(
            "OPTIONS sip:{whom}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;rport;branch=z9hG4bK{branch}\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: merged\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let received = async || {
        let mut buffer = vec![0; 4_096];
        let len = soon("an answer", socket.recv(&mut buffer)).await.unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    };
    socket.send(options("one", "x").as_bytes()).await.unwrap();
    let first = soon("the first", beginnings.recv()).await.unwrap();
    // RFC 3261 §8.2.2.2
    socket.send(options("two", "x").as_bytes()).await.unwrap();
    let answer_to_second = received().await;
    assert!(answer_to_second.starts_with("SIP/2.0 482 ") && answer_to_second.contains("z9hG4bKtwo"));
    // Another user agent of this end.
    socket.send(options("three", "y").as_bytes()).await.unwrap();
    let third = soon("the third", beginnings.recv()).await.unwrap();
    for beginning in [first, third] {
        beginning.responder.respond(answer(&beginning.request, 200, vec![]));
        assert!(received().await.starts_with("SIP/2.0 200 "));
    }
}
