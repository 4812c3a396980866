//! What the server reports about streams: every 5 s, and at the end.

use std::collections::HashSet;
use std::time::Duration;

use ript::media::ledger::{Receiver, Verdict};
use ript::protocol::chunk::Chunk;
use ript::transport::client::H3Client;
use serde_json::Value;

use crate::common::World;
use crate::common::link::{Dice, Link, Weather};
use crate::common::media::{Media, Pair, audio};
use crate::common::user::{BOTH, EventStream};

const CHUNKS: u64 = 600;

/// The entry of a report for one direction.
fn entry<'a>(report: &'a Value, direction: &str) -> &'a Value {
    let streams = report["streams"].as_array().unwrap();
    let found = streams.iter().find(|s| s["direction"] == direction);
    found.unwrap_or_else(|| panic!("nothing of {direction} in {report}"))
}

/// The last report before the end.
async fn last_report(told: &mut EventStream) -> Value {
    let mut last = None;
    loop {
        let event = told.next().await.expect("an `ended` before the end");
        match event["event"].as_str() {
            Some("quality") => last = Some(event),
            Some("ended") => return last.expect("a report before the end"),
            _ => {}
        }
    }
}

fn percent(entry: &Value) -> f64 {
    100.0 * entry["lost"].as_f64().unwrap() / entry["sent"].as_f64().unwrap()
}

/// Acknowledges media as a receiver does that did not get what was lost.
fn acknowledge(media: &Media, receiver: &mut Receiver) {
    if let Some(ack) = receiver.ack_now(ript::clock::elapsed()) {
        let mut out = bytes::BytesMut::new();
        ack.encode(&mut out);
        media.send(&out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_percent_of_loss_is_reported_as_that_in_both_directions() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    let mut told_alice = pair.alice.events(&pair.mine, &pair.a1, None).await;
    let mut told_bob = pair.bob.events(&pair.theirs, &pair.b1, None).await;
    let mut dice = Dice::seeded("loss on the way to the server, and from it");
    let mut receiver = Receiver::new(1, 1);
    let (mut up, mut down, mut passed) = (0, 0, 0);
    for seq in 0..CHUNKS {
        // The first and the last are seen, so that all that is lost lies between.
        let edge = !(2..CHUNKS - 5).contains(&seq);
        if !edge && dice.roll() < 0.05 {
            up += 1;
            continue;
        }
        alice.send(&audio(seq, 50_000 + seq * 20, true, b"speech"));
        passed += 1;
        let bytes = bob.media().await;
        let chunk = Chunk::parse(&bytes).unwrap();
        if !edge && dice.roll() < 0.05 {
            down += 1;
        } else {
            let now = ript::clock::elapsed();
            let verdict = receiver.on_chunk(now, chunk.seq.unwrap(), chunk.timestamp.unwrap());
            assert!(matches!(verdict, Verdict::Fresh { .. }));
        }
        if seq % 5 == 0 || edge {
            acknowledge(&bob, &mut receiver);
        }
    }
    bob.settle().await;
    alice.settle().await;
    // One comes while the call stands.
    let report = told_alice.until("quality").await;
    for name in ["source", "sink", "sent", "received", "lost", "late", "jitter-ms", "delay-ms", "mos"] {
        assert!(entry(&report, "c2s")[name].is_number(), "{name} in {report}");
    }
    pair.by_alice("end").await;
    let report = last_report(&mut told_alice).await;
    let c2s = entry(&report, "c2s");
    assert_eq!((c2s["sent"].as_u64(), c2s["lost"].as_u64()), (Some(CHUNKS), Some(up)), "{report}");
    assert!((percent(c2s) - 100.0 * up as f64 / CHUNKS as f64).abs() < 0.5);
    assert!((1.0..4.3).contains(&c2s["mos"].as_f64().unwrap()), "{report}");

    let report = last_report(&mut told_bob).await;
    let s2c = entry(&report, "s2c");
    for name in ["source", "sink", "sent", "received", "lost", "late", "jitter-ms", "delay-ms", "mos"] {
        assert!(s2c[name].is_number(), "{name} in {report}");
    }
    assert_eq!(s2c["sent"].as_u64(), Some(passed));
    // What was lost on the first hop is missing in the acks of the second, but was never sent there.
    assert!((percent(s2c) - 100.0 * down as f64 / passed as f64).abs() < 0.5, "{down} of {passed}: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_of_a_lossy_link_is_what_the_far_side_missed() {
    let world = World::start().await;
    let mut pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let weather = Weather { loss: 0.05, delay: Duration::from_millis(10), jitter: Duration::from_millis(8) };
    let link = Link::to(world.address, weather, Dice::seeded("lossy link")).await;
    let limits = ript::transport::Limits { datagram_lifetime: Duration::from_secs(5), ..Default::default() };
    let name = "127.0.0.1";
    pair.alice.client =
        H3Client::connect(pair.alice.endpoint(), link.address, name, limits.into()).await.unwrap();
    let (mut alice, mut bob) = pair.media().await;
    let mut told = pair.bob.events(&pair.theirs, &pair.b1, None).await;
    let mut told_alice = pair.alice.events(&pair.mine, &pair.a1, None).await;
    told.next().await;
    let mut tick = tokio::time::interval(Duration::from_millis(4));
    for seq in 0..CHUNKS {
        tick.tick().await;
        alice.send(&audio(seq, 50_000 + seq * 20, true, b"speech"));
    }
    // The last come through for certain.
    link.set(Weather::default());
    let mut seen = HashSet::new();
    let mut extra = CHUNKS;
    link.drained().await;
    for _ in 0..5 {
        alice.send(&audio(extra, 50_000 + extra * 20, true, b"speech"));
        extra += 1;
    }
    alice.settle().await;
    let seqs = |bytes: &bytes::Bytes| Chunk::parse(bytes).unwrap().seq.map(|seq| seq.value);
    seen.extend(bob.settle().await.iter().filter_map(seqs));
    assert!(seen.contains(&(extra - 1)));
    pair.by_alice("end").await;
    let report = last_report(&mut told_alice).await;
    let c2s = entry(&report, "c2s");
    let first = *seen.iter().min().unwrap();
    let (sent, missed) = (extra - first, extra - first - seen.len() as u64);
    assert_eq!((c2s["sent"].as_u64(), c2s["lost"].as_u64()), (Some(sent), Some(missed)), "{report}");
    assert!(missed > 0, "the link lost {:?}", link.up());
    println!("link {:?}; {missed} of {sent} chunks missed; {report}", link.up());
}
