//! Calls between RIPT and a SIP trunk: whether each packet comes through, and what it costs the server beside rtpengine between
//! RTP and RTP; and what a call's set-up and end cost beside Kamailio as a stateful relay of the same ladder.
//!
//! `cargo bench --bench sip` lets 200 calls send 50 packets a second both ways for 60 s at each, then sets 500 calls up and ends
//! them at each, one after the other, and again 20 at once. It fails if the server lost, doubled or misrouted a packet.
//!
//! | variable | sets | else |
//! |---|---|---|
//! | `RIPT_LOAD_CALLS`, `RIPT_LOAD_SECONDS` | calls with media, and for how long; 0 calls: no media | 200, 60 |
//! | `RIPT_LOAD_SETUPS` | calls set up for a figure, up to 10,000; 0: none | 500 |
//! | `RIPT_LOAD_CONNECTIONS` | QUIC connections of the callers: one shared by all, or up to one for each call | one a call |
//! | `RIPT_LOAD_ROUNDS` | how often all is done | 1 |
//! | `RIPT_LOAD_ONLY=ript` | leaves the baselines out | |
//!
//! rtpengine is Debian's `rtpengine-daemon`, in user space; Kamailio is Debian's `kamailio`. What is not installed is left out,
//! and the bench says so.
//!
//! | process | is |
//! |---|---|
//! | this one | starts the others, fresh ones for each figure, in turns, and prints the tables |
//! | `ript` | the server: services, resources, a trunk and transport, as the tests start them |
//! | rtpengine, Kamailio | what the same load uses in its place |
//! | load | callers, the phones behind the trunk, and their packets; it also reads the relay's CPU time |

#![allow(missing_docs, unreachable_pub, unused_imports, reason = "a program has no outside")]

mod caller;
#[path = "../drops.rs"]
mod drops;
#[path = "../webrtc/ends.rs"]
#[allow(dead_code, reason = "here are no browsers")]
mod ends;
mod far;
mod kamailio;
mod media;
#[path = "../process.rs"]
mod process;
#[path = "../webrtc/rtpengine.rs"]
#[allow(dead_code, reason = "here are no browsers")]
mod rtpengine;
mod server;
mod setup;

#[path = "../../tests/common/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the tests use what the bench does not, and may fail loudly"
)]
mod common;

use std::io;
use std::net::{SocketAddr, UdpSocket};

use process::Process;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where a relay is, and what it takes to use it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Place {
    Ript {
        address: SocketAddr,
        ca: std::path::PathBuf,
        issuer: String,
        passports: String,
    },
    /// Where its ng protocol is spoken.
    Rtpengine(SocketAddr),
    Kamailio(SocketAddr),
}

/// What the load is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub place: Place,
    pub pid: u32,
    /// Where the phones' SIP is.
    pub far: SocketAddr,
    pub calls: u32,
    /// QUIC connections of the callers, at most.
    pub connections: u32,
    /// Of media.
    pub seconds: u64,
    /// Of calls that are set up and ended; 0: calls with media.
    pub at_once: u32,
}

/// How much of it.
struct Amount {
    calls: u32,
    seconds: u64,
    connections: u32,
    at_once: u32,
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("as-ript") => server::run(),
        Some("as-load") => load(),
        _ => bench(),
    }
}

fn load() {
    let mut line = String::new();
    io::stdin().read_line(&mut line).expect("a job");
    let job: Job = serde_json::from_str(&line).expect("a job");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let figure = runtime.block_on(async {
        match job.at_once {
            0 => serde_json::to_string(&media::Load::new(&job).run(&job).await),
            _ => serde_json::to_string(&setup::run(&job).await),
        }
    });
    println!("{}", figure.expect("a figure"));
}

fn setting(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().map_or(or, |text| text.parse().expect("a number"))
}

fn bench() {
    let (calls, setups) = (setting("RIPT_LOAD_CALLS", 200) as u32, setting("RIPT_LOAD_SETUPS", 500) as u32);
    let seconds = setting("RIPT_LOAD_SECONDS", 60);
    let rounds = setting("RIPT_LOAD_ROUNDS", 1);
    let connections = setting("RIPT_LOAD_CONNECTIONS", u32::MAX.into()) as u32;
    let mut whole = true;
    if calls > 0 {
        whole &= media_table(rounds, &Amount { calls, seconds, connections, at_once: 0 });
    }
    if setups > 0 {
        for at_once in [1, 20] {
            setup_table(rounds, &Amount { calls: setups, seconds, connections, at_once });
        }
    }
    std::process::exit(i32::from(!whole));
}

/// The machine's load in the last minute: what a figure is worth.
fn busy() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or_default().to_owned()
}

fn media_table(rounds: u64, amount: &Amount) -> bool {
    let Amount { calls, seconds, connections, .. } = amount;
    println!(
        "{calls} calls over {} QUIC connections, 50 packets/s each way, opus passed through; {seconds} s a figure; CPU time of the \
         relay per relayed packet, µs",
        connections.min(calls)
    );
    println!("round relay         µs  of a core       sent   received  lost  doubled  misrouted  load");
    let (mut all, mut whole) = ([Vec::new(), Vec::new()], true);
    for round in 1..=rounds {
        for (name, figures) in ["ript", "rtpengine"].into_iter().zip(&mut all) {
            let Some(figure) = measure::<media::Figure>(name, amount) else { continue };
            println!(
                "{round:>5} {name:<9} {:>6.2} {:>8.1} % {:>10} {:>10} {:>5} {:>8} {:>10} {:>5}",
                figure.micros(),
                figure.cpu_ns as f64 / *seconds as f64 / 1e7,
                figure.sent,
                figure.received,
                figure.lost(),
                figure.doubled,
                figure.misrouted,
                busy(),
            );
            whole &= name != "ript" || figure.is_whole();
            if figure.is_whole() {
                figures.push(figure.micros());
            } else {
                let media::Figure { lost_for_phones, late, relay_full, load_full, .. } = figure;
                println!(
                    "      void: not every packet came through once; {lost_for_phones} of the lost were for phones; {late} were \
                     too late for the load's own QUIC; {relay_full} found no room at the relay's sockets, {load_full} at the load's"
                );
            }
        }
    }
    let [ript, rtpengine] = all.map(median);
    println!("medians: ript {ript:.2}, rtpengine {rtpengine:.2}, ratio {:.2}", ript / rtpengine);
    whole
}

fn setup_table(rounds: u64, amount: &Amount) {
    let Amount { calls, at_once, .. } = amount;
    println!("{calls} calls set up and ended, {at_once} at once; CPU time of what is between, per call, µs");
    println!("round between       µs   ms a call  load");
    let mut all = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (name, figures) in ["ript", "kamailio"].into_iter().zip(&mut all) {
            let Some(figure) = measure::<setup::Figure>(name, amount) else { continue };
            let took = figure.took_ns as f64 / 1e6 / *calls as f64;
            println!("{round:>5} {name:<9} {:>6.0} {took:>11.2} {:>5}", figure.micros(), busy());
            figures.push(figure.micros());
        }
    }
    let [ript, kamailio] = all.map(median);
    println!("medians: ript {ript:.0}, kamailio {kamailio:.0}, ratio {:.2}", ript / kamailio);
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A figure of one that is to be had.
fn measure<Figure: DeserializeOwned>(name: &str, amount: &Amount) -> Option<Figure> {
    let only = std::env::var("RIPT_LOAD_ONLY").ok();
    if only.is_some_and(|only| only != name) {
        return None;
    }
    let far = free();
    let run = |place, pid| {
        let Amount { calls, seconds, connections, at_once } = *amount;
        let mut load = Process::start("as-load");
        load.say(&json(&Job { place, pid, far, calls, connections, seconds, at_once }));
        serde_json::from_str(&load.line()).expect("a figure")
    };
    let missing = |package: &str, error: io::Error| {
        println!("      {name} is not here ({error}): apt-get install {package}");
    };
    match name {
        "rtpengine" => {
            let engine = rtpengine::Engine::start().map_err(|e| missing("rtpengine-daemon", e)).ok()?;
            Some(run(Place::Rtpengine(engine.control), engine.id()))
        }
        "kamailio" => {
            let relay = kamailio::Relay::start(far).map_err(|e| missing("kamailio", e)).ok()?;
            Some(run(Place::Kamailio(relay.address), relay.id()))
        }
        _ => {
            let mut server = Process::start("as-ript");
            server.say(&json(&far));
            let place = serde_json::from_str(&server.line()).expect("where the server is");
            Some(run(place, server.id()))
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a UDP port")
}
