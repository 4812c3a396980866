use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn frame(n: u64) -> OutFrame {
    OutFrame {
        source: 1,
        sink: 1,
        payload_type: 1,
        payload: Bytes::from(vec![n as u8; 40]),
        timestamp_ms: 1_000_000 + n * 20,
        duration_ms: None,
        level: Some(30),
    }
}

/// What `from` sends at `now` comes to `to` at once; its controls too.
fn pass(now: Duration, from: &mut Engine, to: &mut Engine, n: u64) -> Option<MediaFrame> {
    let chunk = from.send(now, &frame(n)).unwrap();
    for control in from.controls(now) {
        assert_eq!(to.on_chunk(now, &control), None);
    }
    to.on_chunk(now, &chunk)
}

#[test]
fn frames_arrive_as_they_were_and_shrink_once_acknowledged() {
    let (mut a, mut b) = (Engine::default(), Engine::default());
    for n in 0..50 {
        let got = pass(ms(n * 20), &mut a, &mut b, n).unwrap();
        assert_eq!((got.seq, got.timestamp_ms, got.duration_ms), (n, 1_000_000 + n * 20, 20));
        assert_eq!((got.payload[0], got.level), (n as u8, Some(30)));
        for control in b.controls(ms(n * 20)) {
            a.on_chunk(ms(n * 20), &control);
        }
    }
    let stats = a.stats();
    assert!(stats.acknowledged >= 45 && stats.lost_out == 0, "{stats:?}");
    let small = a.send(ms(1000), &frame(50)).unwrap();
    assert!(small.len() < 52, "8 bytes of overhead and the level: {}", small.len());
    a.on_new_path();
    assert!(a.send(ms(1020), &frame(51)).unwrap().len() > 60, "whole again on a new way");
    assert_eq!(b.stats().mos.map(|mos| mos > 4.3), Some(true));
}

#[test]
fn what_comes_over_both_ways_is_heard_once() {
    let (mut a, mut b) = (Engine::default(), Engine::default());
    let chunk = a.send(ms(0), &frame(0)).unwrap();
    assert!(b.on_chunk(ms(0), &chunk).is_some());
    assert!(b.on_chunk(ms(1), &chunk).is_none());
    assert_eq!(b.stats().duplicate, 1);
}

#[test]
fn silence_is_probed_after_200_ms_and_an_answer_is_a_sign_of_life() {
    let (mut a, mut b) = (Engine::default(), Engine::default());
    for n in 0..10 {
        a.send(ms(n * 20), &frame(n));
    }
    assert!(a.controls(ms(190)).is_empty());
    a.send(ms(200), &frame(10));
    let probe = a.controls(ms(210)).pop().unwrap();
    assert!(a.silence(ms(210)) >= ms(200));
    b.on_chunk(ms(210), &probe);
    let answer = b.controls(ms(210)).pop().unwrap();
    a.on_chunk(ms(220), &answer);
    a.send(ms(225), &frame(11));
    assert_eq!(a.silence(ms(230)), ms(10));
    assert!(a.probe_answered().is_some());
}

#[test]
fn who_sends_nothing_says_so_every_second_and_is_not_taken_for_silenced() {
    let mut a = Engine::default();
    a.send(ms(0), &frame(0));
    assert_eq!(a.silence(ms(900)), Duration::ZERO);
    assert!(a.controls(ms(900)).is_empty());
    assert_eq!(a.controls(ms(1000)).len(), 1);
    assert!(a.controls(ms(1100)).is_empty());
}

#[test]
fn a_stream_that_starts_truncated_is_asked_for_whole_values() {
    let (mut a, mut b, mut late) = (Engine::default(), Engine::default(), Engine::default());
    for n in 0..20 {
        pass(ms(n * 20), &mut a, &mut b, n);
        for control in b.controls(ms(n * 20)) {
            a.on_chunk(ms(n * 20), &control);
        }
    }
    assert!(pass(ms(400), &mut a, &mut late, 20).is_none());
    for control in late.controls(ms(400)) {
        a.on_chunk(ms(401), &control);
    }
    assert_eq!(pass(ms(420), &mut a, &mut late, 21).unwrap().seq, 21);
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    let mut engine = Engine::default();
    for bytes in [&b""[..], b"\xff", b"\x02\x01\x01", &[0; 64]] {
        assert_eq!(engine.on_chunk(ms(0), &Bytes::copy_from_slice(bytes)), None);
    }
    assert_eq!(engine.stats().dropped, 4);
}
