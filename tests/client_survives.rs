//! The thick client when things go wrong: the server is killed under a call, a proxy loses datagrams or holds
//! requests back. The call goes on, and says what that cost.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, header};
use ript::client::audio::{AtEnd, CALLEE, CALLER, FrameSource, speech};
use ript::client::{
    AudioCall, AudioOptions, AudioSource, Call, CallEvent, Client, ForwardMode, Handler, HandlerSpec,
    MediaPath,
};
use ript::protocol::event::{Outcome, State};
use ript::resource;
use ript::transport::session::{Session, SessionSink};
use ript::transport::upgrade::WebTransportUpgrade;
use ript::transport::{Limits, h3, quic, tls};
use tokio_util::sync::CancellationToken;

use crate::client_calls::flows;
use crate::common::user::{ALL_SCOPES, token};
use crate::common::{World, soon};

const ALICE: &str = "+14085550001";
const BOB: &str = "+14085550002";

fn says(file: &'static [u8], byways_only: bool) -> AudioOptions {
    let source = AudioSource::Frames(FrameSource::new(speech(file), AtEnd::Loop));
    AudioOptions { source, byways_only, ..AudioOptions::default() }
}

async fn device(builder: ript::client::Builder) -> Handler {
    let client = soon("a connection", builder.connect()).await.unwrap();
    let tg = client.tgs().await.unwrap().remove(0);
    client.register(&tg.uri, HandlerSpec::audio()).await.unwrap()
}

async fn connected(alice: &Handler, bob: &Handler) -> (Call, Call) {
    let mut listener = bob.listen();
    let placed = alice.place(BOB, Some(ALICE)).await.unwrap();
    let incoming = soon("the call", listener.next()).await.unwrap();
    let answered = soon("the answer", incoming.answer()).await.unwrap();
    soon("answered", placed.answered()).await.unwrap();
    (placed, answered)
}

/// `ript serve --dev` as a process of its own; killed when dropped.
pub struct Server(Child);

impl Server {
    pub fn start(data: &Path, port: u16) -> Self {
        Self::with(data, port, &[])
    }

    /// With more arguments.
    pub fn with(data: &Path, port: u16, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
        command
            .args(["serve", "--dev", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .args(more);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Ends it in order: SIGTERM.
    pub fn stop(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(told.success() && self.0.wait().unwrap().success());
    }

    pub fn kill(mut self) {
        // SIGKILL on Unix.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn user(data: &Path, port: u16, name: &str, number: &str) -> Handler {
    let ready = async {
        while !data.join("ca.pem").exists() || !data.join("passport-key.pem").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the server's files", ready).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_ript"));
    let output =
        command.args(["token", "--user", name, "--number", number, "--data"]).arg(data).output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap();
    let builder = Client::builder(format!("https://127.0.0.1:{port}"))
        .token(token.trim())
        .roots(std::fs::read(data.join("ca.pem")).unwrap())
        .passport_key(std::fs::read_to_string(data.join("passport-key.pem")).unwrap());
    device(builder).await
}

async fn survives_kill_9(byways: bool) {
    let data = tempfile::tempdir().unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(data.path(), port);
    let alice = user(data.path(), port, "alice", ALICE).await;
    let bob = user(data.path(), port, "bob", BOB).await;
    let (placed, answered) = connected(&alice, &bob).await;
    let _a = AudioCall::start(&placed, says(CALLER, byways)).unwrap();
    let _b = AudioCall::start(&answered, says(CALLEE, byways)).unwrap();
    flows(&placed, &answered, 60).await;

    server.kill();
    let down = Duration::from_millis(700);
    tokio::time::sleep(down).await;
    let _server = Server::start(data.path(), port);
    let back = async {
        while placed.media_gaps().is_empty() || answered.media_gaps().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("media", back).await;
    for call in [&placed, &answered] {
        let gap = call.media_gaps()[0];
        println!("byways: {byways}, {gap:?}");
        let heard = gap.heard.expect("it was heard before");
        assert!(heard >= down, "{gap:?}");
        assert_eq!(call.state(), State::Answered);
        assert!(call.stats().connections >= Some(2), "{:?}", call.stats());
    }
    flows(&placed, &answered, 40).await;
    soon("hold", placed.hold()).await.unwrap();
    soon("the end", placed.end()).await.unwrap();
    assert_eq!(soon("ended", answered.ended()).await.outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_when_the_server_is_killed_and_comes_back() {
    survives_kill_9(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_byways_goes_on_when_the_server_is_killed_and_comes_back() {
    survives_kill_9(true).await;
}

/// A proxy before the world's server: it answers CONNECT with 200 and loses every datagram, and it holds back
/// every body whose end it hasn't seen.
pub async fn bad_proxy(world: &World) -> (u16, tokio::task::JoinHandle<()>) {
    struct Deaf(#[expect(dead_code, reason = "keeps the session open")] Session);
    impl SessionSink for Deaf {
        fn on_datagram(&self, _: u64, _: Bytes) {}
        fn on_stream(&self, _: u64, _: Bytes) {}
        fn on_closed(&self, _: u64) {}
    }
    let real = resource::router(world.service.clone(), resource::Settings::default());
    let worse = axum::middleware::from_fn(async |request: Request<Body>, next: axum::middleware::Next| {
        if let Some(upgrade) = request.extensions().get::<WebTransportUpgrade>() {
            upgrade.on_upgrade(|session| Arc::new(Deaf(session)));
            return http::Response::new(Body::empty());
        }
        let open = request.method() == Method::PUT && !request.headers().contains_key(header::CONTENT_LENGTH);
        if open {
            return http::Response::new(
                Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()),
            );
        }
        next.run(request).await
    });
    let router = real.layer(worse);
    let file = |name: &str| world.folder().join(name);
    let keys = tls::TlsKeys::from_files(&file("server.pem"), &file("server-key.pem")).unwrap();
    let settings = quic::QuicServerSettings::new(tls::quic_server(keys).unwrap(), [8; 32]);
    let endpoint = settings.bind(&[([127, 0, 0, 1], 0).into()]).unwrap().remove(0);
    let port = endpoint.local_addr().unwrap().port();
    let serving = async move {
        let limits = Arc::new(Limits::default());
        let _ = h3::serve_endpoint(endpoint, router, limits, CancellationToken::new()).await;
    };
    (port, tokio::spawn(serving))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_bad_proxy_media_takes_byways_and_events_go_one_by_one() {
    let world = World::start().await;
    let (port, _proxy) = bad_proxy(&world).await;
    let builder = |port: u16, name: &str, number: &str| {
        let token = token(&world.issuer, name, &[number], &["test"], ALL_SCOPES);
        let builder = Client::builder(format!("https://127.0.0.1:{port}")).token(token);
        builder.roots(std::fs::read(&world.ca).unwrap()).passport_key(world.passports.to_pem())
    };
    let alice = device(builder(port, "alice", ALICE)).await;
    let bob = device(builder(world.address.port(), "bob", BOB)).await;
    let (placed, answered) = connected(&alice, &bob).await;
    let mut events = placed.events();
    let _a = AudioCall::start(&placed, says(CALLER, false)).unwrap();
    let _b = AudioCall::start(&answered, says(CALLEE, false)).unwrap();
    flows(&placed, &answered, 90).await;
    let (a, b) = (placed.stats(), answered.stats());
    assert_eq!((a.path, b.path), (Some(MediaPath::Byways), Some(MediaPath::WebTransport)));
    soon("hold", placed.hold()).await.unwrap();
    soon("the end", placed.end()).await.unwrap();
    assert_eq!(soon("ended", answered.ended()).await.outcome, Outcome::Completed);
    let (mut why, mut finite) = (None, false);
    while let Some(happened) = events.next().await {
        match happened.event {
            CallEvent::Media { path: MediaPath::Byways, why: said } => why = said,
            CallEvent::Forward(mode) => finite |= mode == ForwardMode::Finite,
            _ => {}
        }
    }
    assert!(why.is_some_and(|why| why.contains("no probe came back")), "it says why");
    assert!(finite, "it says that events go one by one");
}
