//! What dead webhooks cost callers: how long CAMARA calls take from `POST …/sessions` until they are Connected where the
//! subscription of each caller has a sink of its own that is good, that takes connections and never says a word, or that
//! nobody listens at.
//!
//! `cargo bench --bench sink` sets up 100 such calls, which all stand until the end, at a fresh server for each kind, in
//! turns; `RIPT_LOAD_CALLS` and `RIPT_LOAD_ROUNDS` (3) change that. It fails if the server left one of the sinks that can
//! be seen untried: then nothing was measured.

#![allow(missing_docs, unreachable_pub, reason = "a program has no outside")]

#[path = "../tests/common/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the tests use what the bench does not, and may fail loudly"
)]
mod common;
#[path = "process.rs"]
#[allow(dead_code, reason = "the other benches use it all")]
mod process;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ript::identity::jwk::SigningKey;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};

use common::World;
use common::camara::{DEVICE, V03, create};
use common::camara_calls::{CALLS, OFFER, ask_as, scopes};
use common::events::{EVENT_SCOPES, EVENTS, STATUS, subscribe, wanted, webhook};
use common::user::{ALL_SCOPES, BOTH, EventStream, User, encode, token};
use common::webhook::Webhook;
use process::{Process, serve};

type Place = (SocketAddr, PathBuf, String, String);

/// What is wrong with the sinks.
#[derive(Clone, Copy)]
enum Kind {
    Good,
    Hanging,
    Refusing,
}

const KINDS: [Kind; 3] = [Kind::Good, Kind::Hanging, Kind::Refusing];

fn main() {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = threads.expect("a runtime");
    match std::env::args().nth(1).as_deref() {
        Some("as-ript") => runtime.block_on(async {
            let world = World::with_camara(common::events::settings()).await;
            let (address, ca) = (world.address, world.ca.clone());
            let place: Place = (address, ca, world.issuer.to_pem(), world.passports.to_pem());
            serve(&place).await;
        }),
        _ => {
            let tried = runtime.block_on(bench());
            runtime.shutdown_background();
            std::process::exit(i32::from(!tried));
        }
    }
}

/// A subscription's sink; dropped, it is no more.
enum Sink {
    Good(Webhook),
    /// Takes connections and keeps them, and says nothing.
    Hanging(String, Arc<AtomicUsize>, tokio::task::JoinHandle<()>),
    /// The port is taken, and nobody listens.
    Refusing(TcpSocket),
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Self::Hanging(_, _, task) = self {
            task.abort();
        }
    }
}

impl Sink {
    async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Good => Self::Good(webhook().await),
            Kind::Hanging => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let url = hook(listener.local_addr());
                let count = Arc::new(AtomicUsize::new(0));
                let own = count.clone();
                let task = tokio::spawn(async move {
                    let mut kept = Vec::new();
                    while let Ok((stream, _)) = listener.accept().await {
                        kept.push(stream);
                        own.fetch_add(1, Ordering::Relaxed);
                    }
                });
                Self::Hanging(url, count, task)
            }
            Kind::Refusing => {
                let socket = TcpSocket::new_v4().expect("a socket");
                socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
                Self::Refusing(socket)
            }
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Good(webhook) => webhook.url(),
            Self::Hanging(url, ..) => url.clone(),
            Self::Refusing(socket) => hook(socket.local_addr()),
        }
    }

    /// Whether the server has come, as far as that can be seen.
    fn is_tried(&self) -> bool {
        match self {
            Self::Good(webhook) => webhook.connections() > 0,
            Self::Hanging(_, count, _) => count.load(Ordering::Relaxed) > 0,
            Self::Refusing(..) => true,
        }
    }
}

fn hook(address: std::io::Result<SocketAddr>) -> String {
    format!("https://127.0.0.1:{}/hook", address.expect("an address").port())
}

async fn bench() -> bool {
    let setting =
        |name: &str, or: usize| std::env::var(name).ok().map_or(or, |text| text.parse().expect("a number"));
    let (calls, rounds) = (setting("RIPT_LOAD_CALLS", 100), setting("RIPT_LOAD_ROUNDS", 3));
    println!(
        "{calls} calls at a time, each with its own sink, all standing; POST …/sessions until Connected, ms"
    );
    println!("round sinks       median  90 % within");
    let (mut all, mut tried) = ([Vec::new(), Vec::new(), Vec::new()], true);
    for round in 0..rounds {
        // Who is first is last next time.
        for at in (0..KINDS.len()).map(|n| (n + round) % KINDS.len()) {
            let (mut taken, came) = calls_with(KINDS[at], calls).await;
            taken.sort();
            let [median, late] = [5, 9].map(|tenths| taken[taken.len() * tenths / 10].as_secs_f64() * 1e3);
            let name = ["good", "hanging", "refusing"][at];
            println!(
                "{:>5} {name:<9} {median:>8.2} {late:>12.2}{}",
                round + 1,
                if came { "" } else { "  not all tried" }
            );
            tried &= came;
            all[at].push(median);
        }
    }
    let [good, hanging, refusing] = all.map(|mut medians| {
        medians.sort_by(f64::total_cmp);
        medians[medians.len() / 2]
    });
    println!(
        "ratio to good ones, of the medians of all rounds: hanging {:.2}, refusing {:.2}",
        hanging / good,
        refusing / good
    );
    tried
}

/// How long each call took, and whether all sinks were tried.
async fn calls_with(kind: Kind, calls: usize) -> (Vec<Duration>, bool) {
    let mut server = Process::start("as-ript");
    let (address, ca, issuer, passports): Place = serde_json::from_str(&server.line()).expect("a place");
    let issuer = SigningKey::from_pem(&issuer).expect("a key");
    let user = async |name: &str, number: &str, scopes: &str| {
        let token = token(&issuer, name, &[number], &["test"], scopes);
        User::at(&ca, address, passports.clone(), token, number).await
    };
    let api = user("api", "+14085559999", ALL_SCOPES).await;
    let scopes = format!("{} {EVENT_SCOPES}", scopes());
    let mut callers = Vec::new();
    for n in 0..calls {
        let number = format!("+1408556{n:04}");
        let mut caller = api.with_token(token(&issuer, &format!("a{n}"), &[&number], &["test"], &scopes));
        caller.number = number;
        let registration = create(&caller, V03, DEVICE).await;
        let sink = Sink::new(kind).await;
        subscribe(&caller, EVENTS[0], &wanted(STATUS, &sink.url())).await;
        callers.push((caller, registration, sink));
    }
    let bob = user("bob", "+14085550002", ALL_SCOPES).await;
    let handler = bob.register("phone", BOTH).await;
    let mut taps = bob.stream(&format!("push?handler={}", encode(&handler))).await;
    let mut taken = Vec::new();
    for (caller, registration, _) in &callers {
        let began = ript::clock::instant();
        call(caller, registration, &bob, &handler, &mut taps).await;
        taken.push(ript::clock::instant() - began);
    }
    let tried = async {
        while !callers.iter().all(|(.., sink)| sink.is_tried()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let tried = tokio::time::timeout(Duration::from_secs(30), tried).await.is_ok();
    (taken, tried)
}

async fn call(alice: &User, registration: &str, bob: &User, handler: &str, taps: &mut EventStream) {
    let wanted = json!({
        "originatorAddress": format!("tel:{}", alice.number),
        "receiverAddress": format!("tel:{}", bob.number),
        "offer": {"sdp": OFFER},
    });
    let made = ask_as(alice, registration, "POST", &format!("{CALLS}/sessions"), &wanted.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let id = made["mediaSessionId"].as_str().expect("an id");
    let tap = taps.next().await.expect("a tap");
    let leg = tap["call"].as_str().expect("a call").to_owned();
    let claimed = bob.claim(&leg, handler, Some("answer")).await;
    assert_eq!(claimed.status, 200, "{claimed:?}");
    let answered = bob.event(&leg, handler, json!({"event": "answered"})).await;
    assert_eq!(answered.status, 200, "{answered:?}");
    while alice.get(&format!("{CALLS}/sessions/{id}")).await.json()["status"] != "Connected" {}
}
