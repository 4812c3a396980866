//! What a relayed chunk costs the server, as a ratio to a bare quinn datagram relay in the same run.
//!
//! `cargo bench --bench relay [-- rounds=5 seconds=10 shape=legs|trunk only=ript|bare|bare+acks]`
//!
//! | process | is |
//! |---|---|
//! | this one | starts the others, a fresh pair for each figure, in turns, and prints the table |
//! | `ript` | the server: services, resources and transport, as the tests start them |
//! | `bare` | quinn with the same transport and TLS settings, on tokio's threads as it comes; a datagram goes on as it is, by the call at its front |
//! | load | the calls' devices; it also reads the relay's CPU time, at both ends of the window |
//!
//! `bare+acks` is the bare relay carrying small datagrams too, as many as `ript` has acks to take and send.

#![allow(missing_docs, unreachable_pub, unused_imports, reason = "a program has no outside")]

mod load;
#[path = "../process.rs"]
mod process;
mod relays;

#[path = "../../tests/common/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the tests use what the bench does not, and may fail loudly"
)]
mod common;

use process::Process;
use serde::{Deserialize, Serialize};

/// What relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relay {
    Ript,
    Bare,
    BareAcks,
}

/// How the calls' legs share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// 50 calls, each leg on a connection of its own.
    Legs,
    /// 200 calls over two connections.
    Trunk,
}

impl Shape {
    pub fn calls(self) -> usize {
        match self {
            Self::Legs => 50,
            Self::Trunk => 200,
        }
    }
}

/// Where a relay is, and what it takes to use it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    pub port: u16,
    pub ca: std::path::PathBuf,
    pub issuer: String,
    pub passports: String,
}

/// What the load is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub relay: Relay,
    pub shape: Shape,
    pub seconds: u64,
    pub pid: u32,
    pub place: Place,
}

/// What one window showed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// CPU time of the relay, all threads, user and kernel.
    pub cpu_ns: u64,
    /// Chunks that came out of it meanwhile.
    pub relayed: u64,
    /// Chunks sent since the beginning, less those that came by the end.
    pub lost: u64,
    /// QUIC datagrams in one UDP datagram that the load sent, on average.
    pub packed: f64,
    /// The same of what the relay sent.
    pub repacked: f64,
}

impl Figure {
    fn micros(&self) -> f64 {
        self.cpu_ns as f64 / 1000.0 / self.relayed.max(1) as f64
    }
}

fn main() {
    let all: Vec<String> = std::env::args().skip(1).collect();
    match all.first().map(String::as_str) {
        Some("as-ript") => relays::ript(),
        Some("as-bare") => relays::bare(),
        Some("as-load") => load::run(),
        _ => bench(&all),
    }
}

fn bench(options: &[String]) {
    let option = |name: &str| options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str, or: u64| option(name).map_or(or, |v| v.parse().expect("a number"));
    let (rounds, seconds) = (number("rounds", 5), number("seconds", 10));
    let shapes = [("legs", Shape::Legs), ("trunk", Shape::Trunk)];
    let relays = [("ript", Relay::Ript), ("bare", Relay::Bare), ("bare+acks", Relay::BareAcks)];
    println!(
        "CPU time of the relay per relayed chunk, µs; 50 chunks/s each way and call; {seconds} s a figure"
    );
    for (name, shape) in shapes.into_iter().filter(|(n, _)| option("shape").is_none_or(|s| s == *n)) {
        let about = match shape {
            Shape::Legs => "50 calls, each leg its own connection",
            Shape::Trunk => "200 calls over two connections",
        };
        println!("\n{name}: {about}");
        println!(
            "round      ript      bare bare+acks   ript/bare ript/bare+acks   lost   QUIC datagrams in a UDP datagram, in→out"
        );
        let (mut plain, mut acked) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let figure = |(name, relay): (&str, Relay)| {
                option("only").is_none_or(|o| o == name).then(|| measure(relay, shape, seconds))
            };
            let figures = relays.map(figure);
            let micros = figures.map(|f| f.map_or(f64::NAN, |f| f.micros()));
            let lost: Vec<_> = figures.iter().flatten().map(|f| f.lost.to_string()).collect();
            let packed = figures.iter().flatten().map(|f| format!("{:.1}→{:.1}", f.packed, f.repacked));
            let packed: Vec<_> = packed.collect();
            let [ript, bare, acks] = micros;
            println!(
                "{round:>5} {ript:>9.3} {bare:>9.3} {acks:>9.3} {:>11.3} {:>14.3}   {:<6} {}",
                ript / bare,
                ript / acks,
                lost.join(" "),
                packed.join(" ")
            );
            if figures.iter().flatten().any(|f| f.lost > 0) {
                println!("      void: chunks were lost");
                continue;
            }
            plain.push(ript / bare);
            acked.push(ript / acks);
        }
        println!("median {:>40.3} {:>14.3}", median(&mut plain), median(&mut acked));
    }
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn measure(relay: Relay, shape: Shape, seconds: u64) -> Figure {
    let role = if relay == Relay::Ript { "as-ript" } else { "as-bare" };
    let mut server = Process::start(role);
    let place = serde_json::from_str(&server.line()).expect("where the relay is");
    let job = Job { relay, shape, seconds, pid: server.id(), place };
    let mut load = Process::start("as-load");
    load.say(&serde_json::to_string(&job).expect("a job"));
    serde_json::from_str(&load.line()).expect("a figure")
}
