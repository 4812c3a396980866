//! Speech over a link that loses one packet in twenty each way: what is heard, and what the ends report of it.

use std::time::Duration;

use ript::client::audio::{AudioCodec, CALLEE, CALLER, correlate, read_audio, speech};
use ript::client::{AudioCall, AudioOptions, Call, CallStats, MediaPath};

use crate::client_calls::{ALICE, BOB, connect, device, device_at, says};
use crate::common::link::{Dice, Link, Weather};
use crate::common::{World, soon};

/// The statistics once all that was sent is known to have come or to be lost. Of the last chunks the server takes none
/// that crosses the hold.
async fn settled(call: &Call) -> CallStats {
    let all = async {
        loop {
            let stats = call.stats();
            if stats.media.acknowledged + stats.media.lost_out + 2 >= stats.media.sent {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("an account of all chunks", all).await
}

/// Percent of what was sent.
fn percent(lost: u64, sent: u64) -> f64 {
    100.0 * lost as f64 / sent as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_is_heard_through_five_percent_of_loss_each_way() {
    let world = World::start().await;
    let weather = Weather { loss: 0.05, ..Weather::default() };
    let link = Link::to(world.address, weather, Dice::seeded("lossy call")).await;
    let through = format!("https://127.0.0.1:{}", link.address.port());
    let alice = device_at(&world, &through, "alice", ALICE, &[AudioCodec::Opus]).await;
    let bob = device(&world, "bob", BOB, &[AudioCodec::Opus]).await;
    let (placed, answered) = connect(&alice, &bob).await;
    let folder = tempfile::tempdir().unwrap();
    let (at_alice, at_bob) = (folder.path().join("alice.wav"), folder.path().join("bob.wav"));
    let recorded =
        |file, record: &std::path::Path| AudioOptions { record: Some(record.to_owned()), ..says(file) };
    // Signalling came through the loss. The first chunks and the last come for certain: what is lost lies between.
    link.set(Weather::default());
    let a = AudioCall::start(&placed, recorded(CALLER, &at_alice)).unwrap();
    let b = AudioCall::start(&answered, recorded(CALLEE, &at_bob)).unwrap();
    soon("acks", async {
        while placed.stats().media.acknowledged == 0 || answered.stats().media.acknowledged == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // What one side says before the other hears is no loss.
    let at_server = || world.port(placed.uri()).reports().iter().map(|report| report.received).sum::<u64>();
    let begun = (placed.stats().media, answered.stats().media, at_server());
    link.set(weather);
    tokio::time::sleep(Duration::from_secs(10)).await;
    link.set(Weather::default());
    tokio::time::sleep(Duration::from_millis(500)).await;
    // On hold nothing more is sent.
    soon("the hold", placed.hold()).await.unwrap();
    let (at_a, at_b) = (settled(&placed).await, settled(&answered).await);
    let reached = at_server() - begun.2;
    let (heard_a, heard_b) = (a.finish().await.unwrap(), b.finish().await.unwrap());
    soon("the end", placed.end()).await.unwrap();
    soon("ended", answered.ended()).await;

    println!(
        "link: up {:?}, down {:?}\n{at_a:#?}\n{at_b:#?}\n{heard_a:?}\n{heard_b:?}",
        link.up(),
        link.down()
    );
    assert_eq!((at_a.path, at_b.path), (Some(MediaPath::WebTransport), Some(MediaPath::WebTransport)));
    let (a, b) = (at_a.media, at_b.media);
    let missing = |sent: u64, received: u64| percent(sent.saturating_sub(received), sent);
    let up = missing(a.sent - begun.0.sent, b.received - begun.1.received);
    let down = missing(b.sent - begun.1.sent, a.received - begun.0.received);
    for missing in [up, down] {
        assert!((1.0..12.0).contains(&missing), "{missing} % of 500 chunks are missing, 5 % were to be");
    }
    let first_hop = missing(a.sent - begun.0.sent, reached);
    let reported = [
        ("by the caller of what it sent", percent(a.lost_out, a.sent), first_hop),
        ("by the callee of what it heard", percent(b.lost, b.received + b.lost), up),
        ("by the caller of what it heard", percent(a.lost, a.received + a.lost), down),
    ];
    for (what, reported, missing) in reported {
        assert!((reported - missing).abs() <= 0.5, "{what}: {reported} % are told, {missing} % are missing");
    }
    for (said, heard) in [(CALLER, &at_bob), (CALLEE, &at_alice)] {
        let correlation = correlate(&speech(said), &read_audio(heard).unwrap(), 48_000);
        println!("{correlation:?}");
        assert!(correlation.holds_speech(), "{correlation:?}");
    }
}
