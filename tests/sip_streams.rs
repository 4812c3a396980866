//! Connections of SIP: keep-alives both ways, and what is no message.

use std::sync::Arc;
use std::time::Duration;

use ript::adapter::ims::{AccountSettings, Secret, Settings};
use ript::adapter::sip::{Habits, Hop, Listen, Stack, TlsFiles, answer};
use ript::service::rate::Rate;
use rsipstack::sip::{Method, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::soon;
use crate::sip_trunk::{free, rtp, trunk, world_with};

fn listen() -> Listen {
    Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        public: None,
        tls: None,
        files: TlsFiles::default(),
        peers: vec!["127.0.0.1".parse().unwrap()],
        rate: Rate::per_second(100),
    }
}

fn request(method: &str, line: &str) -> String {
    format!(
        "{method} sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;rport;branch=z9hG4bK1\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: tcp\r\nCSeq: 1 {method}\r\n\
         Max-Forwards: 70\r\n{line}\r\n\r\n"
    )
}

/// Reads until this has come, or the end; gives back all that came.
async fn until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut all = Vec::new();
    soon("more", async {
        while end.is_empty() || !all.ends_with(end) {
            match stream.read_buf(&mut all).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
    })
    .await;
    String::from_utf8(all).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_by_one_line_end_also_in_pieces() {
    let (stack, _beginnings) = Stack::bind(&listen()).await.unwrap();
    let mut stream = TcpStream::connect(stack.address(Transport::Tcp)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for pieces in [&[&b"\r\n\r\n"[..]][..], &[b"\r\n", b"\r\n"], &[b"\r", b"\n\r", b"\n"]] {
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
        }
        assert_eq!(until(&mut stream, b"\r\n").await, "\r\n");
    }
    // A message follows as if nothing had been.
    stream.write_all(request("OPTIONS", "Require: nothing\r\nContent-Length: 0").as_bytes()).await.unwrap();
    assert!(until(&mut stream, b"\r\n\r\n").await.starts_with("SIP/2.0 420 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_parsed_is_answered_by_400_and_where_framing_is_lost_that_is_the_last_word() {
    let (stack, _beginnings) = Stack::bind(&listen()).await.unwrap();
    let connect = async || TcpStream::connect(stack.address(Transport::Tcp)).await.unwrap();
    let mut stream = connect().await;
    // Whole, and no message: the stream goes on.
    for broken in ["Contact: \"\r\nContent-Length: 0", "no colon\r\nContent-Length: 2"] {
        let text = format!("{}{}", request("OPTIONS", broken), if broken.ends_with('2') { "xx" } else { "" });
        stream.write_all(text.as_bytes()).await.unwrap();
        let said = until(&mut stream, b"\r\n\r\n").await;
        assert!(said.starts_with("SIP/2.0 400 ") && said.contains("Call-ID: tcp\r\n"), "{broken}: {said}");
    }
    for lost in ["Content-Length: two", "Content-Length: -2", "Content-Length: 0\r\nl: 7", "Subject: none"] {
        let mut stream = connect().await;
        stream.write_all(request("INVITE", lost).as_bytes()).await.unwrap();
        let said = until(&mut stream, b"").await;
        assert!(said.starts_with("SIP/2.0 400 ") && said.contains("Call-ID: tcp\r\n"), "{lost}: {said}");
        assert_eq!(said.matches("SIP/2.0 ").count(), 1, "one answer: {said}");
    }
    // Nothing is to be read of that, and nothing answers an ACK or a response.
    for text in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        request("ACK", "Content-Length: x"),
        request("INVITE", "Content-Length: x").replacen(
            "INVITE sip:x@127.0.0.1 SIP/2.0",
            "SIP/2.0 200 OK",
            1,
        ),
    ] {
        let mut stream = connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(until(&mut stream, b"").await, "", "{text}");
    }
    assert!(stack.malformed().1 >= 6);
}

fn is_blank(text: &str) -> bool {
    text.len() >= 4 && text.chars().all(|c| c == '\r' || c == '\n')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_end_that_takes_nothing_is_given_up_and_nobody_waits_for_it() {
    let (stack, _beginnings) = Stack::bind(&listen()).await.unwrap();
    let at = stack.address(Transport::Tcp);
    let options = request("OPTIONS", "Require: nothing\r\nContent-Length: 0");
    let mut greedy = TcpStream::connect(at).await.unwrap();
    let many = options.repeat(100);
    let asking = tokio::spawn(async move { while greedy.write_all(many.as_bytes()).await.is_ok() {} });
    let mut other = TcpStream::connect(at).await.unwrap();
    soon("the end of it", async {
        while !asking.is_finished() {
            other.write_all(options.as_bytes()).await.unwrap();
            assert!(until(&mut other, b"\r\n\r\n").await.starts_with("SIP/2.0 420 "));
        }
    })
    .await;
}

/// A far end on TCP, and the connection that a stack makes to it.
async fn connected(habits: Habits) -> (Arc<Stack>, TcpListener, TcpStream, Hop) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stack, _beginnings) = Stack::bind_with(&listen(), habits).await.unwrap();
    let hop = Hop { address, transport: Transport::Tcp, name: address.ip().to_string() };
    let asking = ript::adapter::sip::Seat::new(&stack);
    let task = tokio::spawn({
        let hop = hop.clone();
        async move {
            let mut seat = asking;
            let uri = format!("sip:{address};transport=tcp");
            seat.prefer(&uri, hop);
            let text =
                request("OPTIONS", "Content-Length: 0").replace("sip:x@127.0.0.1 SIP", &format!("{uri} SIP"));
            let text = text.replace("Via: SIP/2.0/TCP 192.0.2.9;rport;branch=z9hG4bK1\r\n", "");
            seat.request(0, rsipstack::sip::Request::try_from(text.as_str()).unwrap()).await;
            seat
        }
    });
    let (mut stream, _) = soon("the connection", listener.accept()).await.unwrap();
    drop(soon("the request", task).await.unwrap());
    assert!(until(&mut stream, b"\r\n\r\n").await.starts_with("OPTIONS "));
    (stack, listener, stream, hop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_we_connect_to_is_pinged_and_whoever_answers_once_has_to_go_on() {
    let habits = Habits { keepalive: Some(Duration::from_millis(100)), ..Habits::default() };
    let (stack, _listener, mut stream, hop) = connected(habits).await;
    let flow = stack.flow(&hop).expect("a connection");
    // Whoever knows no pings answers none, and the connection stays.
    for _ in 0..3 {
        assert!(is_blank(&until(&mut stream, b"\r\n\r\n").await));
        assert!(!flow.is_cancelled());
    }
    stream.write_all(b"\r\n").await.unwrap();
    // Pings go on for ten seconds, and then it is given up.
    assert!(is_blank(&until(&mut stream, b"").await));
    soon("the end of it", flow.cancelled()).await;
    assert!(stack.flow(&hop).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_connection_is_lost_registers_anew() {
    let (registrar, mut registers) = Stack::bind(&listen()).await.unwrap();
    let at = registrar.address(Transport::Tcp);
    let account = AccountSettings {
        number: "+14085550002".parse().unwrap(),
        identity: "sip:bob@home.test".to_owned(),
        user: "bob@home.test".to_owned(),
        secret: Secret::Password("secret".to_owned()),
        registrar: "sip:home.test".to_owned(),
        proxy: Some(format!("sip:{at};transport=tcp")),
        expires: Duration::from_secs(3_600),
        ims: true,
        always: true,
        way: trunk(free(), &[], "+44*", "+1*").way,
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { rtp: rtp(), dns: vec![], accounts: vec![account], trunks: vec![] };
    let (_ours, _telephony) = world_with(folder.path(), settings).await;
    let mut sources = Vec::new();
    while sources.len() < 2 {
        let request = soon("a request", registers.recv()).await.unwrap();
        assert_eq!(request.transport, Transport::Tcp);
        let contact =
            request.request.headers.iter().find(|header| header.name() == "Contact").unwrap().value();
        let headers = vec![("Contact", contact.to_owned()), ("Expires", "3600".to_owned())];
        request.responder.respond(answer(&request.request, 200, headers));
        match request.request.method {
            Method::Register => sources.push(request.from),
            // It is sent by who is registered.
            Method::Subscribe => {
                let hop = Hop { address: request.from, transport: Transport::Tcp, name: String::new() };
                registrar.flow(&hop).expect("the connection that it came by").cancel();
            }
            other => panic!("{other}"),
        }
    }
    assert_ne!(sources[0], sources[1], "by another connection");
}
