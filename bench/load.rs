//! 200 calls with media at 50 chunks a second each way, on one server and one load client in this process: what was sent,
//! what came, what was lost or misrouted, and the processor time that it took.
//!
//! `cargo bench --bench load` runs for 60 s; `RIPT_LOAD_SECONDS` and `RIPT_LOAD_CALLS` change that. It fails if a chunk is
//! lost, doubled or misrouted.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "a test with a clock"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::World;
use common::load::Load;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Seconds of processor time of the threads whose name begins so.
fn cpu(of: &str) -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let ticks = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut fields = rest.split(' ').skip(11);
        let (user, system) = (fields.next()?.parse::<f64>().ok()?, fields.next()?.parse::<f64>().ok()?);
        name.starts_with(of).then_some(user + system)
    });
    // USER_HZ is 100 on every Linux that has a name.
    ticks.sum::<f64>() / 100.0
}

fn runtime(name: &str) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name(name).enable_all().build().unwrap()
}

fn main() {
    let (seconds, calls) = (setting("RIPT_LOAD_SECONDS", 60), setting("RIPT_LOAD_CALLS", 200));
    let (server, client) = (runtime("server"), runtime("client"));
    let world = server.block_on(async { tokio::spawn(World::start()).await.unwrap() });
    let setup = Instant::now();
    let (load, world) = client.block_on(async {
        tokio::spawn(async move {
            let alice = world.user("alice", "+14085550001").await;
            let bob = world.user("bob", "+14085550002").await;
            (Load::of(alice, bob, calls as u32).await, world)
        })
        .await
        .unwrap()
    });
    println!("{calls} calls are up after {:.1?}", setup.elapsed());
    // The sides share the process's packet threads (transport::plane): their time can't be told apart.
    let spent = || ["ript-quic", "server", "client"].map(cpu);
    let (began, before) = (Instant::now(), spent());
    let (load, figures) = client.block_on(async {
        tokio::spawn(async move {
            load.run(Duration::from_secs(seconds), None).await;
            let figures = load.settle().await;
            (load, figures)
        })
        .await
        .unwrap()
    });
    let took = began.elapsed().as_secs_f64();
    let after = spent();
    let [packets, on_server, on_client] = std::array::from_fn(|i| after[i] - before[i]);
    let lost = figures.sent - figures.received;
    println!("{calls} calls for {took:.1} s: {figures:?}");
    println!(
        "lost {lost}; {:.0} chunks/s through the server; packet threads of both sides {:.1} % of a core, {:.1} µs a \
         chunk; besides, server {:.1} %, client {:.1} %",
        figures.received as f64 / took,
        100.0 * packets / took,
        1e6 * packets / figures.received as f64,
        100.0 * on_server / took,
        100.0 * on_client / took,
    );
    for (name, user) in [("callers", &load.callers), ("callees", &load.callees)] {
        let stats = user.client.stats();
        println!(
            "{name}: {:?}; path lost {} of {} packets, datagrams sent {}",
            user.client.counters(),
            stats.path.lost_packets,
            stats.path.sent_packets,
            stats.frame_tx.datagram
        );
    }
    let legs: Vec<_> = client.block_on(load.callers.calls());
    let drops = legs.iter().fold(ript::media::relay::Drops::default(), |mut sum, call| {
        let drops = world.port(call).drops();
        sum.repeated += drops.repeated;
        sum.garbage += drops.garbage;
        sum.unexpandable += drops.unexpandable;
        sum
    });
    println!("server's drops on the callers' legs: {drops:?}");
    let good = (lost, figures.doubled, figures.misrouted) == (0, 0, 0);
    drop(load);
    server.shutdown_background();
    client.shutdown_background();
    std::process::exit(i32::from(!good));
}
