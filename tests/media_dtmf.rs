//! Digits: events where directives list no telephone-event, chunks where they do, and the server between them.

use ript::protocol::chunk::{Chunk, MediaHeader};
use serde_json::json;

use crate::common::World;
use crate::common::media::{Pair, audio, made};
use crate::common::user::BOTH;

const DIGITS: &str = "1 in: opus; telephone-event; 1 out: opus; telephone-event;";

/// A packet of RFC 4733: event, end, duration in ms.
fn packet(event: u8, end: bool, ms: u16) -> [u8; 4] {
    let [high, low] = (ms * 8).to_be_bytes();
    [event, u8::from(end) << 7 | 10, high, low]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_become_chunks_where_the_directives_list_telephone_event() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [DIGITS, DIGITS]).await;
    let (alice, mut bob) = pair.media().await;
    let description = pair.bob.get(&pair.theirs).await.json();
    assert_eq!(description["serverDirectives"], "1 to 1: opus; telephone-event;");
    alice.send(&audio(0, 1000, true, b"speech"));
    bob.media().await;
    for digit in ["1", "#"] {
        let event = json!({"event": "dtmf", "digit": digit, "duration": 100});
        assert_eq!(pair.alice.event(&pair.mine, &pair.a1, event).await.status, 200);
    }
    let mut packets = Vec::new();
    for n in 1..=14u64 {
        let bytes = bob.media().await;
        let chunk = Chunk::parse(&bytes).unwrap();
        assert_eq!((chunk.payload_type, chunk.seq.unwrap().value), (6, n));
        packets.push((chunk.timestamp.unwrap().value, chunk.media().unwrap().to_vec()));
    }
    // One digit after the other, each under one timestamp, its last packet three times.
    for (packets, event) in packets.chunks(7).zip([1, 11]) {
        let expected =
            [(20, false), (40, false), (60, false), (80, false), (100, true), (100, true), (100, true)];
        let expected: Vec<_> =
            expected.iter().map(|(ms, end)| (packets[0].0, packet(event, *end, *ms).to_vec())).collect();
        assert_eq!(packets, expected);
    }
    assert!(packets[0].0 > 1000 && packets[7].0 >= packets[0].0 + 100, "{packets:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_become_one_event_where_the_other_leg_takes_none() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [DIGITS, BOTH]).await;
    let (alice, mut bob) = pair.media().await;
    let mut told = pair.bob.events(&pair.theirs, &pair.b1, None).await;
    told.next().await;
    alice.send(&audio(0, 1000, true, b"speech"));
    bob.media().await;
    let ends = [(20, false), (40, false), (160, true), (160, true), (160, true)];
    for (n, (ms, end)) in (1..).zip(ends) {
        let header = MediaHeader { seq: n, timestamp: 1020, payload_type: 6, ..MediaHeader::default() };
        alice.send(&made(&header, &packet(10, end, ms)));
    }
    let event = told.until("dtmf").await;
    assert_eq!((&event["digit"], &event["duration"]), (&json!("*"), &json!(160)));
    // Once only; the next event is another digit.
    let event = json!({"event": "dtmf", "digit": "7"});
    assert_eq!(pair.alice.event(&pair.mine, &pair.a1, event).await.status, 200);
    assert_eq!(told.until("dtmf").await["digit"], "7");
    assert!(bob.settle().await.iter().all(|b| Chunk::parse(b).unwrap().payload_type != 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_pass_as_they_are_where_both_legs_take_them() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [DIGITS, DIGITS]).await;
    let (alice, mut bob) = pair.media().await;
    let header = MediaHeader { seq: 3, timestamp: 1020, payload_type: 6, ..MediaHeader::default() };
    let digit = made(&header, &packet(5, true, 100));
    alice.send(&digit);
    assert_eq!(bob.media().await, digit);
}
