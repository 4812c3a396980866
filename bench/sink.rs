//! What a dead webhook costs callers: how long CAMARA calls take from `POST …/sessions` until they are Connected, for a
//! device whose subscription's sink takes connections and never says a word, and for one without a subscription.
//!
//! `cargo bench --bench sink` sets up 100 calls of each in turns, which all stand until the end; `RIPT_LOAD_CALLS` changes
//! that. It fails if the server never tried the sink: then nothing was measured.

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

use common::World;
use common::camara::{DEVICE, V03, create};
use common::camara_calls::{CALLS, OFFER, ask_as, scopes};
use common::events::{EVENT_SCOPES, EVENTS, STATUS, subscribe, wanted};
use common::user::{ALL_SCOPES, BOTH, EventStream, User, encode, token};
use process::{Process, serve};

type Place = (SocketAddr, PathBuf, String, String);

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

/// Takes connections and keeps them, and says nothing; how many there were.
async fn dead_sink() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://127.0.0.1:{}/hook", listener.local_addr().expect("an address").port());
    let count = Arc::new(AtomicUsize::new(0));
    let own = count.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
            own.fetch_add(1, Ordering::Relaxed);
        }
    });
    (url, count)
}

/// A caller.
struct Device {
    user: User,
    registration: String,
    taken: Vec<Duration>,
}

async fn bench() -> bool {
    let calls: usize = std::env::var("RIPT_LOAD_CALLS").map_or(100, |text| text.parse().expect("a number"));
    let mut server = Process::start("as-ript");
    let (address, ca, issuer, passports): Place = serde_json::from_str(&server.line()).expect("a place");
    let issuer = SigningKey::from_pem(&issuer).expect("a key");
    let user = async |name: &str, number: &str, scopes: &str| {
        let token = token(&issuer, name, &[number], &["test"], scopes);
        User::at(&ca, address, passports.clone(), token, number).await
    };
    let scopes = format!("{} {EVENT_SCOPES}", scopes());
    let mut devices = Vec::new();
    for (name, number) in [("alice", "+14085550001"), ("carol", "+14085550003")] {
        let user = user(name, number, &scopes).await;
        let registration = create(&user, V03, DEVICE).await;
        devices.push(Device { user, registration, taken: Vec::new() });
    }
    let (sink, tried) = dead_sink().await;
    subscribe(&devices[1].user, EVENTS[0], &wanted(STATUS, &sink)).await;
    let bob = user("bob", "+14085550002", ALL_SCOPES).await;
    let handler = bob.register("phone", BOTH).await;
    let mut taps = bob.stream(&format!("push?handler={}", encode(&handler))).await;
    for n in 0..calls {
        // Who is first is last next time.
        for at in [n % 2, 1 - n % 2] {
            let device = &mut devices[at];
            let began = ript::clock::instant();
            call(&device.user, &device.registration, &bob, &handler, &mut taps).await;
            device.taken.push(ript::clock::instant() - began);
        }
    }
    let [mut plain, mut dead] = [0, 1].map(|n| std::mem::take(&mut devices[n].taken));
    let tried = tried.load(Ordering::Relaxed);
    let [(plain, plain_late), (dead, dead_late)] = [&mut plain, &mut dead].map(|all| {
        all.sort();
        (all[all.len() / 2].as_secs_f64() * 1e3, all[all.len() * 9 / 10].as_secs_f64() * 1e3)
    });
    println!("{calls} calls each, in turns, all standing; POST …/sessions until Connected, ms");
    println!("without a subscription: median {plain:.2}, 90 % within {plain_late:.2}");
    println!(
        "with a dead sink:       median {dead:.2}, 90 % within {dead_late:.2}; it was tried {tried} times"
    );
    println!("ratio of the medians:   {:.2}", dead / plain);
    tried > 0
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
