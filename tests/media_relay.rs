//! What the server makes of media on sessions: it passes it on untouched, or drops and counts it.

use ript::media::relay::Drops;
use ript::protocol::chunk::{Chunk, ControlType, Kind, MediaHeader};
use serde_json::json;

use crate::common::World;
use crate::common::media::{Pair, audio, made, read, through};
use crate::common::user::BOTH;

/// Unknown tags, in the short and in the long form, before and behind those that are known.
fn with_unknown_tags(seq: u64, whole: bool, payload: &[u8]) -> Vec<u8> {
    let mut envelope = vec![0xd3, 7, 8, 9];
    let (seq, timestamp) = (seq.to_be_bytes(), (5_000_000 + seq * 20).to_be_bytes());
    for (tag, value) in [(0x10, seq), (0x20, timestamp)] {
        let value = if whole { &value[..] } else { &value[6..] };
        envelope.push(tag | value.len() as u8);
        envelope.extend_from_slice(value);
    }
    envelope.extend_from_slice(&[0xf2, 0x43, 0xe8, 1, 2]);
    let mut chunk = vec![envelope.len() as u8];
    chunk.extend_from_slice(&envelope);
    chunk.push(0x40);
    chunk.extend_from_slice(payload);
    chunk
}

fn unknown_tags(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let chunk = Chunk::parse(bytes).unwrap();
    let all = chunk.tlvs().filter(|tlv| tlv.tag > 12);
    all.map(|tlv| (tlv.tag, tlv.value.to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_goes_both_ways_byte_for_byte_with_tags_that_nobody_knows() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    for (from, to) in [(&mut alice, &mut bob)] {
        let sent = with_unknown_tags(0, true, b"whole");
        from.send(&sent);
        assert_eq!(through(from, to).await, [sent]);
        from.send(&with_unknown_tags(1, false, b"widened"));
        let got = through(from, to).await;
        assert_eq!(read(&got[0]), (1, 5_000_020, true, b"widened".to_vec()));
        assert_eq!(unknown_tags(&got[0]), [(13, vec![7, 8, 9]), (1000, vec![1, 2])]);
    }
    let sent = with_unknown_tags(0, true, &[0; 1000]);
    bob.send(&sent);
    assert_eq!(through(&mut bob, &mut alice).await, [sent]);
    // A package that cannot be read is passed on too.
    let mut odd = with_unknown_tags(1, true, b"");
    *odd.last_mut().unwrap() = 0x99;
    bob.send(&odd);
    assert_eq!(through(&mut bob, &mut alice).await, [odd]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_values_are_widened_until_the_far_side_acknowledged_whole_ones() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    let (seq, timestamp) = (0x1_0000, 0x77_0000);
    alice.send(&audio(seq, timestamp, true, b"0"));
    alice.send(&audio(seq + 1, timestamp + 20, false, b"1"));
    let got = through(&mut alice, &mut bob).await;
    assert_eq!(read(&got[1]), (seq + 1, timestamp + 20, true, b"1".to_vec()));
    bob.acknowledge_runs(seq + 1, vec![2]);
    bob.settle().await;
    let short = audio(seq + 2, timestamp + 40, false, b"2");
    alice.send(&short);
    assert_eq!(through(&mut alice, &mut bob).await, [short]);
    bob.need_whole();
    bob.settle().await;
    alice.send(&audio(seq + 3, timestamp + 60, false, b"3"));
    let got = through(&mut alice, &mut bob).await;
    assert_eq!(read(&got[0]), (seq + 3, timestamp + 60, true, b"3".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_tell_what_came_and_what_is_missing() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, _bob) = pair.media().await;
    for seq in (0..20).filter(|seq| ![3, 4, 11].contains(seq)) {
        alice.send(&audio(seq, seq * 20, true, b"x"));
    }
    loop {
        let ack = alice.ack().await;
        assert_eq!((ack.source, ack.sink), (1, 1));
        if ack.newest == 19 {
            assert_eq!(ack.runs[..], [8, 1, 6, 2, 3]);
            break;
        }
    }
    // Missing means not yet.
    alice.send(&audio(11, 220, true, b"x"));
    while alice.ack().await.runs[..] != [15, 2, 3] {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_expand_asks_for_whole_values() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    alice.send(&audio(7, 140, false, b"lost"));
    let need = alice.control(ControlType::NeedWhole).await;
    assert_eq!(Chunk::parse(&need).unwrap().package, [1, 1]);
    alice.send(&audio(8, 160, true, b"x"));
    assert_eq!(through(&mut alice, &mut bob).await.len(), 1);
    assert_eq!(world.port(&pair.mine).drops(), Drops { unexpandable: 1, ..Drops::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_datagrams_are_counted_and_close_nothing() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    for garbage in
        [&b""[..], &[0xff; 300], &[9, 0x12, 0, 1, 0x12, 0, 1, 0x22, 0, 1, 0x40], &[3, 0x12, 0, 1, 0x40]]
    {
        alice.send(garbage);
    }
    alice.session.send_stream(
        bytes::Bytes::from_static(b"\xff\xff"),
        ript::clock::instant() + crate::common::PATIENCE,
    );
    alice.send(&made(&MediaHeader { source: 9, ..MediaHeader::default() }, b"no such stream"));
    for _ in 0..3 {
        alice.send(&audio(0, 0, true, b"once"));
    }
    let got = through(&mut alice, &mut bob).await;
    assert_eq!(got, [audio(0, 0, true, b"once")]);
    let expected = Drops { garbage: 5, unnamed: 1, repeated: 2, ..Drops::default() };
    let port = world.port(&pair.mine);
    crate::common::soon("the broken stream", async {
        while port.drops() != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!alice.session.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_answer_the_callers_media_is_acknowledged_and_dropped() {
    let world = World::start().await;
    let pair = Pair::ringing(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    alice.send(&audio(0, 0, true, b"early"));
    assert_eq!(alice.ack().await.newest, 0);
    assert!(through(&mut alice, &mut bob).await.is_empty());
    assert_eq!(world.port(&pair.mine).drops().unheard, 1);
    bob.send(&audio(0, 0, true, b"ringing"));
    assert!(through(&mut bob, &mut alice).await.is_empty());
    pair.answer().await;
    alice.send(&audio(1, 20, true, b"now"));
    assert_eq!(through(&mut alice, &mut bob).await, [audio(1, 20, true, b"now")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_media_comes_after_progress_from_one_branch_only() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let bob = world.user("bob", "+14085550002").await;
    let a1 = alice.register("a1", BOTH).await;
    let (b1, b2) = (bob.register("b1", BOTH).await, bob.register("b2", BOTH).await);
    let mine = alice.call(&a1, &bob.number).await["uri"].as_str().unwrap().to_owned();
    let theirs = bob.calls().await.pop().unwrap();
    let mut caller = alice.media(&mine, &a1).await;
    let (mut first, mut second) = (bob.media(&theirs, &b1).await, bob.media(&theirs, &b2).await);
    for handler in [&b2, &b1] {
        bob.event(&theirs, handler, json!({"event": "progress"})).await;
    }
    first.send(&audio(0, 0, true, b"loser"));
    assert!(through(&mut first, &mut caller).await.is_empty());
    second.send(&audio(5, 100, true, b"ringback"));
    assert_eq!(through(&mut second, &mut caller).await, [audio(5, 100, true, b"ringback")]);
    caller.send(&audio(0, 0, true, b"not yet"));
    assert!(through(&mut caller, &mut second).await.is_empty());

    // The other one answers: one stream goes on.
    assert_eq!(bob.claim(&theirs, &b1, Some("answer")).await.status, 200);
    assert_eq!(bob.event(&theirs, &b1, json!({"event": "answered"})).await.status, 200);
    second.send(&audio(6, 120, true, b"too late"));
    assert!(through(&mut second, &mut caller).await.is_empty());
    first.send(&audio(1, 20, true, b"hello"));
    let got = through(&mut first, &mut caller).await;
    let (seq, timestamp, whole, media) = read(&got[0]);
    assert_eq!((seq, whole, &media[..]), (6, true, &b"hello"[..]));
    assert!(timestamp > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_stops_media_both_ways_and_resume_brings_it_back() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    alice.send(&audio(0, 0, true, b"a"));
    assert_eq!(through(&mut alice, &mut bob).await.len(), 1);
    let mut told = pair.bob.events(&pair.theirs, &pair.b1, None).await;
    pair.by_alice("hold").await;
    told.until("hold").await;
    let held = told.until("directives").await;
    assert_eq!((&held["clientDirectives"], &held["serverDirectives"]), (&json!(""), &json!("")));
    alice.send(&audio(1, 20, true, b"a"));
    assert!(through(&mut alice, &mut bob).await.is_empty());
    bob.send(&audio(0, 0, true, b"b"));
    assert!(through(&mut bob, &mut alice).await.is_empty());
    pair.by_alice("resume").await;
    let resumed = told.until("directives").await;
    assert_eq!(resumed["clientDirectives"], "1 to 1: opus;");
    alice.send(&audio(2, 40, false, b"a"));
    let got = through(&mut alice, &mut bob).await;
    assert_eq!(read(&got[0]), (2, 40, true, b"a".to_vec()));
    bob.send(&audio(1, 20, true, b"b"));
    assert_eq!(through(&mut bob, &mut alice).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulled_call_stays_one_continuous_stream_for_the_far_side() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let b2 = pair.bob.register("b2", BOTH).await;
    let (mut alice, mut first) = pair.media().await;
    let mut second = pair.bob.media(&pair.theirs, &b2).await;
    for seq in 0..3 {
        first.send(&audio(seq, 40_000 + seq * 20, true, b"first"));
    }
    assert_eq!(through(&mut first, &mut alice).await.len(), 3);
    alice.acknowledge(2);
    alice.send(&audio(0, 0, true, b"a"));
    through(&mut alice, &mut first).await;
    first.acknowledge(0);
    first.settle().await;

    assert_eq!(pair.bob.claim(&pair.theirs, &b2, Some("pull")).await.status, 200);
    for seq in 0..2 {
        second.send(&audio(seq, 5 + seq * 20, true, b"second"));
    }
    let got: Vec<_> = through(&mut second, &mut alice).await.iter().map(|bytes| read(bytes)).collect();
    assert_eq!((got[0].0, got[1].0), (3, 4));
    assert!(got[0].1 > 40_040 && got[1].1 == got[0].1 + 20, "{got:?}");
    assert!(got.iter().all(|(_, _, whole, media)| *whole && media == b"second"));
    first.send(&audio(3, 40_060, true, b"first"));
    assert!(through(&mut first, &mut alice).await.is_empty());
    // The new device knows nothing yet: whole values, whatever the old one had acknowledged.
    alice.send(&audio(1, 20, false, b"a"));
    let got = through(&mut alice, &mut second).await;
    assert_eq!(read(&got[0]), (1, 20, true, b"a".to_vec()));
    assert!(first.settle().await.iter().all(|b| Chunk::parse(b).unwrap().kind != Kind::Media));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn previous_directives_are_still_taken_after_a_change() {
    let world = World::start().await;
    let pair = Pair::answered(&world, [BOTH, BOTH]).await;
    let (mut alice, mut bob) = pair.media().await;
    let mut told = pair.alice.events(&pair.mine, &pair.a1, None).await;
    let body = json!({"handler-id": "a1", "advertisement": "1 in: opus; 3 out: opus;"});
    assert_eq!(pair.alice.with_body("PUT", &pair.a1, body.to_string()).await.status, 200);
    assert_eq!(told.until("directives").await["clientDirectives"], "3 to 1: opus;");
    alice.send(&audio(0, 0, true, b"old"));
    assert_eq!(through(&mut alice, &mut bob).await.len(), 1);
    let new = made(&MediaHeader { source: 3, ..MediaHeader::default() }, b"new");
    alice.send(&new);
    assert_eq!(through(&mut alice, &mut bob).await, [new]);
}
