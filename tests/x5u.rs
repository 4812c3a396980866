//! PASSporTs whose certificates lie elsewhere: fetched from named hosts, and from nowhere else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt as _, stream};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use ript::identity::canonical::Identity;
use ript::identity::certificate::Anchors;
use ript::identity::devca::DevCa;
use ript::identity::enrol::{Enroller, request};
use ript::identity::jwk::SigningKey;
use ript::identity::passport::PassportTrust;
use ript::service::fetch;
use ript::transport::{Limits, tcp, tls};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::common::user::{Answer, BOTH, User, encode};
use crate::common::{World, soon};

const ALICE: &str = "+14085550001";
const BOB: &str = "+14085550002";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A tree of certificates, and a key that they certify.
struct Ca {
    ca: DevCa,
    key: SigningKey,
}

impl Ca {
    fn new() -> Self {
        let ca = DevCa::generate(ript::clock::now()).unwrap();
        Self { ca, key: SigningKey::generate().unwrap() }
    }

    fn chain(&self, number: &str) -> String {
        let csr = request(&self.key, &Identity::from_number(number).unwrap()).unwrap();
        let enroller = Enroller::new(self.ca.cert_pem(), &self.ca.key_pem(), DAY).unwrap();
        enroller.enrol(&csr, |_| true, ript::clock::now()).unwrap()
    }
}

/// What lies at a path, and how often each was asked for.
#[derive(Default)]
struct Shelf {
    files: HashMap<&'static str, Vec<u8>>,
    asked: Mutex<HashMap<String, usize>>,
}

/// An https host.
struct Host {
    port: u16,
    root: CertificateDer<'static>,
    shelf: Arc<Shelf>,
    task: AbortHandle,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(State(shelf): State<Arc<Shelf>>, Path(name): Path<String>) -> Response {
    *shelf.asked.lock().unwrap().entry(name.clone()).or_default() += 1;
    let byte = || Ok::<_, Infallible>("x");
    match name.as_str() {
        "moved" => (http::StatusCode::FOUND, [("location", "/good.pem")]).into_response(),
        "slow" => {
            Body::from_stream(stream::once(async move { byte() }).chain(stream::pending())).into_response()
        }
        "endless" => Body::from_stream(stream::repeat_with(byte)).into_response(),
        name => match shelf.files.get(name) {
            Some(file) => file.clone().into_response(),
            None => http::StatusCode::NOT_FOUND.into_response(),
        },
    }
}

impl Host {
    async fn start(files: HashMap<&'static str, Vec<u8>>) -> Self {
        let (ca, folder) = (DevCa::generate(ript::clock::now()).unwrap(), tempfile::tempdir().unwrap());
        let server = ca.issue_server(&[], ript::clock::now()).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, &server.cert_pem).unwrap();
        std::fs::write(&key, &server.key_pem).unwrap();
        let keys = tls::TlsKeys::from_files(&cert, &key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shelf = Arc::new(Shelf { files, ..Shelf::default() });
        let router = Router::new().route("/{name}", get(serve)).with_state(shelf.clone());
        let settings =
            tcp::TcpSettings { tls: Some(Arc::new(tls::tcp_server(keys).unwrap())), alt_svc_port: None };
        let limits = Arc::new(Limits::default());
        let serving = tcp::serve_tcp(listener, settings, router, limits, CancellationToken::new());
        let root = CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).unwrap();
        Self { port, root, shelf, task: tokio::spawn(serving).abort_handle() }
    }

    fn url(&self, name: &str) -> String {
        format!("https://127.0.0.1:{}/{name}", self.port)
    }

    fn asked(&self, name: &str) -> usize {
        self.shelf.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

/// A port at which nobody may knock.
struct Trap {
    port: u16,
    knocks: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Trap {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, knocks) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counter = knocks.clone();
        let watching = async move {
            while listener.accept().await.is_ok() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        };
        Self { port, knocks, task: tokio::spawn(watching).abort_handle() }
    }

    /// Connections are accepted in their order: once ours has come, all before it have.
    async fn caught_nothing(&self) {
        let _own = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        soon("our own knock", async {
            while self.knocks.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(self.knocks.load(Ordering::SeqCst), 1, "an x5u led to a connection");
    }
}

/// A PASSporT by hand, as another implementation would make it.
fn passport(key: &SigningKey, x5u: &str, to: &str, changes: &[(&str, Value)]) -> String {
    let digits = |number: &str| number.trim_start_matches('+').to_owned();
    let header = json!({"alg": "ES256", "typ": "passport", "x5u": x5u});
    let mut claims = json!({
        "dest": {"tn": [digits(to)]}, "iat": ript::clock::now().as_secs(), "orig": {"tn": digits(ALICE)}
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.to_pem().as_bytes()).unwrap();
    let random = ring::rand::SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random).unwrap();
    format!("{input}.{}", b64(pair.sign(&random, input.as_bytes()).unwrap().as_ref()))
}

/// Callers with certificates by `ca`, which are fetched from `hosts`.
async fn world(ca: &Ca, hosts: &[String], fetch: fetch::Settings) -> World {
    let anchors = Anchors::from_pem(ca.ca.cert_pem()).unwrap();
    let x5u_hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    World::with(|settings| {
        settings.passports = PassportTrust { anchors, x5u_hosts, ..PassportTrust::default() };
        settings.oauth.fetch = fetch;
    })
    .await
}

struct Pair {
    alice: User,
    a1: String,
    bob: User,
    b1: String,
}

impl Pair {
    async fn of(world: &World) -> Self {
        let (alice, bob) = (world.user("alice", ALICE).await, world.user("bob", BOB).await);
        let (a1, b1) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
        Self { alice, a1, bob, b1 }
    }

    async fn call(&self, passport: String) -> Answer {
        let body = json!({"handler": self.a1, "destination": BOB, "passport": passport});
        self.alice.post("providertgs/test/calls", &body).await
    }

    async fn is_refused(&self, what: &str, passport: String, code: &str) {
        let answer = self.call(passport).await;
        assert_eq!(answer.problem(), (403, code.into()), "{what}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["field"], "passport", "{what}");
        let detail = problem["detail"].as_str().unwrap();
        let inside = ["127.0", "169.254", "10.0", "::1", "localhost"];
        assert!(!inside.iter().any(|address| detail.contains(address)), "{what}: {detail}");
        assert_eq!(self.bob.get("providertgs/test/calls").await.json(), json!({"calls": []}), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_fetched_from_a_named_host_and_checked_like_any_other() {
    let (ca, other) = (Ca::new(), Ca::new());
    let good = ca.chain(ALICE).into_bytes();
    let der = CertificateDer::from_pem_slice(&good).unwrap().to_vec();
    let host = Host::start(HashMap::from([
        ("good.pem", good.clone()),
        ("good.der", der),
        ("garbage", b"<html>".to_vec()),
        ("empty", vec![]),
        ("long", [good.as_slice(), &b"\n".repeat(fetch::MAX_BODY)].concat()),
        ("other-root", other.chain(ALICE).into_bytes()),
        ("other-number", ca.chain(BOB).into_bytes()),
    ]))
    .await;
    let trap = Trap::set().await;
    let fetch =
        fetch::Settings { allow: vec!["127.0.0.0/8".parse().unwrap()], roots: vec![host.root.clone()] };
    let world = world(&ca, &[format!("127.0.0.1:{}", host.port)], fetch).await;
    let pair = Pair::of(&world).await;
    let mut taps = pair.bob.stream(&format!("push?handler={}", encode(&pair.b1))).await;

    for (what, name, code) in [
        ("a redirect", "moved", "passport-x5u"),
        ("a body that does not end in time", "slow", "passport-x5u"),
        ("a body that does not end at all", "endless", "passport-x5u"),
        ("a chain with too much after it", "long", "passport-x5u"),
        ("no certificates", "garbage", "passport-x5u"),
        ("nothing", "empty", "passport-x5u"),
        ("what is not there", "none", "passport-x5u"),
        ("another root's", "other-root", "passport-signature"),
        ("another number's", "other-number", "passport-orig"),
    ] {
        pair.is_refused(what, passport(&ca.key, &host.url(name), BOB, &[]), code).await;
        assert_eq!(host.asked(name), 1, "{what}");
        pair.is_refused(what, passport(&ca.key, &host.url(name), BOB, &[]), code).await;
        assert_eq!(host.asked(name), 1, "{what}: what came is kept, failures too");
    }
    let theirs = passport(&other.key, &host.url("other-root"), BOB, &[]);
    pair.is_refused("another root's, by its key", theirs, "passport-chain").await;

    // What is refused without the chain leads to no fetch.
    let stale = [("iat", json!(ript::clock::now().as_secs() - 90))];
    pair.is_refused("stale", passport(&ca.key, &host.url("x"), BOB, &stale), "passport-stale").await;
    let elsewhere = passport(&ca.key, &host.url("x"), "+14085550003", &[]);
    pair.is_refused("for somebody else", elsewhere, "passport-dest").await;
    let formless = passport(&ca.key, &host.url("x"), BOB, &[("orig", json!({}))]);
    pair.is_refused("without orig", formless, "passport-form").await;
    assert_eq!(host.asked("x"), 0);

    // Connecting to the trap is allowed: only the list of hosts keeps the server from it.
    let (own, port) = (host.port, trap.port);
    for url in [
        format!("https://127.0.0.1:{port}/good.pem"),
        format!("https://localhost:{port}/good.pem"),
        format!("https://127.0.0.1:{own}@127.0.0.1:{port}/good.pem"),
        format!("https://127.0.0.1%3A{own}@localhost:{port}/good.pem"),
        format!("https://localhost:{port}\\@127.0.0.1:{own}/good.pem"),
        format!("https://127.0.0.1:{own}\\@localhost:{port}/good.pem"),
        format!("https://localhost:{port}#@127.0.0.1:{own}/good.pem"),
        format!("https://localhost:{port}/https://127.0.0.1:{own}/good.pem"),
        format!("https://user@127.0.0.1:{own}/good.pem"),
        format!("http://127.0.0.1:{own}/good.pem"),
        format!("http://127.0.0.1:{port}/good.pem"),
        format!("//127.0.0.1:{own}/good.pem"),
        format!("https://127.0.0.1.:{own}/good.pem"),
        format!("https://2130706433:{own}/good.pem"),
        "file:///etc/passwd".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        String::new(),
    ] {
        pair.is_refused(&url, passport(&ca.key, &url, BOB, &[]), "passport-x5u").await;
    }
    trap.caught_nothing().await;
    assert_eq!(host.asked("good.pem"), 0);

    let placed = pair.call(passport(&ca.key, &host.url("good.pem"), BOB, &[])).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    let list = pair.bob.get("providertgs/test/calls").await.json();
    assert_eq!(taps.next().await.unwrap()["call"], list["calls"][0]["uri"], "nothing rang before");
    let uri = list["calls"][0]["uri"].as_str().unwrap();
    let seen = pair.bob.get(&format!("{uri}?handler={}", encode(&pair.b1))).await.json();
    assert_eq!((&seen["from"], &seen["verification"]), (&json!(ALICE), &json!({"status": "verified"})));
    let placed = pair.call(passport(&ca.key, &host.url("good.der"), BOB, &[])).await;
    assert_eq!(placed.status, 201, "one certificate in DER: {placed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_one_x5u_make_one_fetch() {
    let ca = Ca::new();
    let host = Host::start(HashMap::from([("good.pem", ca.chain(ALICE).into_bytes())])).await;
    let fetch = fetch::Settings { allow: vec!["127.0.0.1".parse().unwrap()], roots: vec![host.root.clone()] };
    let world = world(&ca, &[format!("127.0.0.1:{}", host.port)], fetch).await;
    let pair = Pair::of(&world).await;
    let call = || pair.call(passport(&ca.key, &host.url("good.pem"), BOB, &[]));
    let (one, two, three) = tokio::join!(call(), call(), call());
    let four = call().await;
    for answer in [one, two, three, four] {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    assert_eq!(host.asked("good.pem"), 1);
    assert_eq!(pair.bob.calls().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_host_in_our_own_network_is_not_asked_unless_that_is_allowed() {
    let (ca, trap) = (Ca::new(), Trap::set().await);
    let port = trap.port;
    let inside = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "169.254.169.254".to_owned(),
        "10.0.0.1".to_owned(),
        "[fe80::1]".to_owned(),
        "[fd00::1]".to_owned(),
    ];
    let world = world(&ca, &inside, fetch::Settings::default()).await;
    let pair = Pair::of(&world).await;
    for host in &inside {
        let url = format!("https://{host}/good.pem");
        pair.is_refused(&url, passport(&ca.key, &url, BOB, &[]), "passport-x5u").await;
    }
    trap.caught_nothing().await;
}
