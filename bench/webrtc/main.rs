//! What a relayed packet costs the server between WebRTC and RIPT, beside rtpengine between WebRTC and plain RTP.
//!
//! `cargo bench --bench webrtc` sets up 100 calls at each and lets both ends of each send 50 packets a second for 60 s;
//! `RIPT_LOAD_CALLS`, `RIPT_LOAD_SECONDS` and `RIPT_LOAD_ROUNDS` change that, `RIPT_LOAD_ONLY=ript` leaves rtpengine out.
//! It fails if the server lost, doubled or misrouted a packet. rtpengine is Debian's `rtpengine-daemon`, in user space.
//!
//! | process | is |
//! |---|---|
//! | this one | starts the others, fresh ones for each figure, in turns, and prints the table |
//! | `ript` | the server: services, resources, CAMARA's APIs and transport, as the tests start them |
//! | rtpengine | the same str0m clients at its ICE and DTLS-SRTP, plain RTP on the other side |
//! | load | the calls' devices, with payloads made beforehand; it also reads the relay's CPU time |

#![allow(missing_docs, unreachable_pub, unused_imports, reason = "a program has no outside")]

#[path = "../drops.rs"]
mod drops;
mod ends;
mod load;
#[path = "../process.rs"]
mod process;
mod rtpengine;

#[path = "../../tests/common/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the tests use what the bench does not, and may fail loudly"
)]
mod common;

use std::net::SocketAddr;

use process::{Process, serve};
use serde::{Deserialize, Serialize};

use common::World;

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
}

/// What the load is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub place: Place,
    pub pid: u32,
    pub calls: u32,
    pub seconds: u64,
}

/// What one run showed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// CPU time of the relay in the window, all threads, user and kernel.
    pub cpu_ns: u64,
    /// Packets that came out of it meanwhile.
    pub relayed: u64,
    /// Packets sent since the beginning, and what became of them in the end.
    pub sent: u64,
    pub received: u64,
    pub doubled: u64,
    pub misrouted: u64,
    /// Of those sent, what did not come to browsers.
    pub unheard: u64,
    /// What was too old before the load's QUIC connections had room.
    pub late: u64,
    /// Datagrams that the relay's sockets had no room for, and the load's.
    pub relay_full: u64,
    pub load_full: u64,
}

impl Figure {
    fn micros(&self) -> f64 {
        self.cpu_ns as f64 / 1000.0 / self.relayed.max(1) as f64
    }

    fn lost(&self) -> u64 {
        self.sent - self.received
    }

    fn is_whole(&self) -> bool {
        (self.lost(), self.doubled, self.misrouted) == (0, 0, 0)
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("as-ript") => server(),
        Some("as-load") => load::run(),
        _ => bench(),
    }
}

fn server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let world = World::with_camara(ript::adapter::camara::Settings::default()).await;
        let (address, ca) = (world.address, world.ca.clone());
        let (issuer, passports) = (world.issuer.to_pem(), world.passports.to_pem());
        serve(&Place::Ript { address, ca, issuer, passports }).await;
    });
}

fn bench() {
    let setting =
        |name: &str, or: u64| std::env::var(name).ok().map_or(or, |text| text.parse().expect("a number"));
    let (calls, seconds) = (setting("RIPT_LOAD_CALLS", 100) as u32, setting("RIPT_LOAD_SECONDS", 60));
    let rounds = setting("RIPT_LOAD_ROUNDS", 1);
    let only = std::env::var("RIPT_LOAD_ONLY").ok();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    println!(
        "{calls} calls, 50 packets/s each way; {seconds} s a figure; CPU time of the relay per relayed packet, µs"
    );
    println!("round relay         µs  of a core       sent   received  lost  doubled  misrouted");
    let (mut all, mut whole) = ([Vec::new(), Vec::new()], true);
    for round in 1..=rounds {
        for (name, figures) in
            ["ript", "rtpengine"].into_iter().zip(&mut all).filter(|(name, _)| wanted(name))
        {
            let figure =
                if name == "ript" { with_ript(calls, seconds) } else { with_rtpengine(calls, seconds) };
            let Some(figure) = figure else { continue };
            println!(
                "{round:>5} {name:<9} {:>6.2} {:>8.1} % {:>10} {:>10} {:>5} {:>8} {:>10}",
                figure.micros(),
                figure.cpu_ns as f64 / seconds as f64 / 1e7,
                figure.sent,
                figure.received,
                figure.lost(),
                figure.doubled,
                figure.misrouted
            );
            whole &= name != "ript" || figure.is_whole();
            if figure.is_whole() {
                figures.push(figure.micros());
            } else {
                let Figure { unheard, late, relay_full, load_full, .. } = figure;
                println!(
                    "      void: not every packet came through once; {unheard} did not come to browsers; {late} \
                     were too late for the load's own QUIC; {relay_full} found no room at the relay's sockets, \
                     {load_full} at the load's"
                );
            }
        }
    }
    let [ript, rtpengine] = all.map(median);
    println!("medians: ript {ript:.2}, rtpengine {rtpengine:.2}, ratio {:.2}", ript / rtpengine);
    std::process::exit(i32::from(!whole));
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn with_ript(calls: u32, seconds: u64) -> Option<Figure> {
    let mut server = Process::start("as-ript");
    let place = serde_json::from_str(&server.line()).expect("where the relay is");
    Some(measure(&Job { place, pid: server.id(), calls, seconds }))
}

fn with_rtpengine(calls: u32, seconds: u64) -> Option<Figure> {
    let engine = match rtpengine::Engine::start() {
        Ok(engine) => engine,
        Err(error) => {
            println!("      rtpengine is not here ({error}): apt-get install rtpengine-daemon");
            return None;
        }
    };
    Some(measure(&Job { place: Place::Rtpengine(engine.control), pid: engine.id(), calls, seconds }))
}

fn measure(job: &Job) -> Figure {
    let mut load = Process::start("as-load");
    load.say(&serde_json::to_string(job).expect("a job"));
    serde_json::from_str(&load.line()).expect("a figure")
}
