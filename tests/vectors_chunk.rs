//! The published vectors of chunks and acks; the ledger and the jitter buffer over a lossy link in virtual time.
#![cfg(test)]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use ript::media::jitter::{JitterBuffer, Playout};
use ript::media::ledger::{Receiver, Sender, Verdict};
use ript::protocol::ack::Ack;
use ript::protocol::chunk::{self, Chunk, ControlType, Kind, MediaHeader, Rewrite, Wire};
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = format!("{}/interop/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cases(vectors: &Value, list: &str) -> Vec<Value> {
    vectors[list].as_array().unwrap().clone()
}

fn unhex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number, or a string for one that JavaScript would round.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn optional(value: &Value) -> Option<u64> {
    (!value.is_null()).then(|| number(value))
}

fn wire(value: &Value) -> Option<Wire> {
    (!value.is_null()).then(|| Wire { value: number(&value[0]), bytes: number(&value[1]) as u8 })
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Media,
        Value::String(name) => Kind::Control(match name.as_str() {
            "ack" => ControlType::Ack,
            "probe" => ControlType::Probe,
            "probe-answer" => ControlType::ProbeAnswer,
            "need-whole" => ControlType::NeedWhole,
            other => panic!("{other}"),
        }),
        other => Kind::Control(ControlType::Unknown(number(other))),
    }
}

fn byte_or(value: &Value, default: u8) -> u8 {
    optional(value).map_or(default, |value| value as u8)
}

#[test]
fn chunks_of_the_vectors_are_read_and_written() {
    for case in cases(&vectors("chunks.json"), "chunks") {
        let bytes = unhex(&case["hex"]);
        let got = Chunk::parse(&bytes).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(got.kind, kind(&case["control"]), "{case}");
        assert_eq!((got.seq, got.timestamp), (wire(&case["seq"]), wire(&case["timestamp"])), "{case}");
        assert_eq!(got.payload_type, optional(&case["payload-type"]).unwrap_or(1), "{case}");
        assert_eq!(
            (got.source, got.sink),
            (byte_or(&case["source"], 1), byte_or(&case["sink"], 1)),
            "{case}"
        );
        assert_eq!(got.reference, case["reference"] == true, "{case}");
        let layer = |name: &str| byte_or(&case[name], 0);
        assert_eq!((got.spatial, got.temporal), (layer("spatial"), layer("temporal")), "{case}");
        assert_eq!(got.audio_level.map(u64::from), optional(&case["audio-level"]), "{case}");
        assert_eq!(
            (got.sframe, got.duration),
            (optional(&case["sframe"]), optional(&case["duration"])),
            "{case}"
        );
        let media = case["media"].as_str().map(|_| unhex(&case["media"]));
        assert_eq!(got.media().map(<[u8]>::to_vec), media, "{case}");
        assert!(case["package"].is_null() || got.package == unhex(&case["package"]), "{case}");
        for unknown in case["unknown"].as_array().into_iter().flatten() {
            let (tag, value) = (number(&unknown[0]), unhex(&unknown[1]));
            assert!(got.tlvs().any(|tlv| tlv.tag == tag && tlv.value == value), "{case}");
        }
        if case["encodes"] == true {
            assert_eq!(hex(&encode(&got)), case["hex"].as_str().unwrap(), "{case}");
        }
    }
}

/// Writes what was read.
fn encode(read: &Chunk<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    if let Kind::Control(kind) = read.kind {
        chunk::encode_control(kind, read.package, &mut out);
        return out;
    }
    let (seq, timestamp) = (read.seq.unwrap(), read.timestamp.unwrap());
    let header = MediaHeader {
        seq: seq.value,
        timestamp: timestamp.value,
        whole: seq.is_whole(),
        payload_type: read.payload_type,
        source: read.source,
        sink: read.sink,
        reference: read.reference,
        spatial: read.spatial,
        temporal: read.temporal,
        audio_level: read.audio_level,
        sframe: read.sframe,
        duration: read.duration,
    };
    chunk::encode(&header, read.media().unwrap(), &mut out);
    out
}

#[test]
fn broken_chunks_of_the_vectors_are_dropped_for_the_reason_given() {
    for case in cases(&vectors("chunks.json"), "invalid") {
        let bytes = unhex(&case["hex"]);
        let got = Chunk::parse(&bytes).map_err(|error| error.code());
        assert_eq!(got, Err(case["reason"].as_str().unwrap()), "{case}");
    }
}

#[test]
fn truncated_values_expand_as_in_the_table() {
    for case in cases(&vectors("chunks.json"), "expand") {
        let wire = Wire { value: number(&case["value"]), bytes: number(&case["bytes"]) as u8 };
        assert_eq!(chunk::expand(wire, number(&case["newest"])), number(&case["expanded"]), "{case}");
    }
}

#[test]
fn a_relay_rewrites_as_in_the_vectors() {
    for case in cases(&vectors("chunks.json"), "rewrite") {
        let new = &case["new"];
        let pair = |value: &Value| value.is_array().then(|| (number(&value[0]), value[1] == true));
        let change = Rewrite {
            source: optional(&new["source"]).map(|id| id as u8),
            sink: optional(&new["sink"]).map(|id| id as u8),
            seq: pair(&new["seq"]),
            timestamp: pair(&new["timestamp"]),
        };
        let bytes = unhex(&case["hex"]);
        let mut out = BytesMut::new();
        chunk::rewrite(&Chunk::parse(&bytes).unwrap(), &change, &mut out);
        assert_eq!(hex(&out), case["becomes"].as_str().unwrap(), "{case}");
    }
}

#[test]
fn byway_bodies_of_the_vectors_are_taken_apart() {
    for case in cases(&vectors("chunks.json"), "frames") {
        let body = unhex(&case["hex"]);
        let got: Option<Vec<String>> = chunk::frames(&body).map(|frame| frame.ok().map(hex)).collect();
        assert_eq!(serde_json::to_value(got).unwrap(), case["chunks"], "{case}");
    }
}

#[test]
fn acks_of_the_vectors_are_read() {
    for case in cases(&vectors("acks.json"), "acks") {
        let ack = Ack::parse(&unhex(&case["hex"])).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(
            (ack.source, ack.sink),
            (byte_or(&case["source"], 0), byte_or(&case["sink"], 0)),
            "{case}"
        );
        assert_eq!(
            (ack.newest, ack.delay_ms),
            (number(&case["newest"]), number(&case["delay-ms"])),
            "{case}"
        );
        assert_eq!(serde_json::to_value(&ack.runs[..]).unwrap(), case["runs"], "{case}");
        let pair = |range: std::ops::RangeInclusive<u64>| Value::from(vec![*range.start(), *range.end()]);
        assert_eq!(ack.received().map(pair).collect::<Value>(), case["received"], "{case}");
        assert_eq!(ack.missing().map(pair).collect::<Value>(), case["missing"], "{case}");
    }
    for case in cases(&vectors("acks.json"), "invalid") {
        let got = Ack::parse(&unhex(&case["hex"])).map_err(|error| error.code().to_owned());
        assert_eq!(got, Err(case["reason"].as_str().unwrap().to_owned()), "{case}");
    }
}

#[test]
fn a_receiver_needs_whole_values_and_a_far_one_resets_it() {
    let (mut receiver, ms) = (Receiver::new(1, 1), Duration::from_millis);
    let (whole, short) = (Wire::whole, Wire::short);
    let mut on = |now, seq, timestamp| receiver.on_chunk(ms(now), seq, timestamp);
    assert_eq!(on(0, short(7), whole(5)), Verdict::NeedWhole);
    assert_eq!(on(0, whole(7), short(5)), Verdict::NeedWhole);
    assert_eq!(on(0, whole(7), whole(5)), Verdict::Fresh { seq: 7, timestamp: 5 });
    assert_eq!(on(0, short(7), short(5)), Verdict::Duplicate);
    assert_eq!(on(1, whole(7 + 0x8000), short(6)), Verdict::Fresh { seq: 7 + 0x8000, timestamp: 6 });
    assert_eq!(on(2, short(7 + 0x8000 - 1024), short(6)), Verdict::Stale);
    assert_eq!(on(3, whole(8 + 0x10000), short(7)), Verdict::NeedWhole);
    assert_eq!(on(3, whole(8 + 0x10000), whole(7)), Verdict::Reset { seq: 8 + 0x10000, timestamp: 7 });
    (10..400).step_by(2).for_each(|seq| assert_ne!(on(4, short(seq), short(8)), Verdict::Duplicate));
    let ack = receiver.ack(ms(10)).unwrap();
    assert_eq!((ack.newest, ack.delay_ms, &ack.runs[..]), (398 + 0x10000, 6, &[1; 63][..]));
    assert!(!receiver.ack_due(ms(500)));
    receiver.on_chunk(ms(20), short(400), short(8));
    assert_eq!((receiver.ack_due(ms(109)), receiver.next_ack()), (false, Some(ms(110))));
    assert!(
        receiver.need_whole_due(ms(0))
            && !receiver.need_whole_due(ms(99))
            && receiver.need_whole_due(ms(100))
    );
}

#[test]
fn a_sender_goes_back_to_whole_values_when_it_must() {
    let (mut sender, ms) = (Sender::new(), Duration::from_millis);
    let ack = |newest, runs: &[u64]| Ack { source: 1, sink: 1, newest, delay_ms: 10, runs: runs.into() };
    let send = |sender: &mut Sender, now, intra| sender.on_send(ms(now), now, intra).whole;
    assert!(send(&mut sender, 0, false) && send(&mut sender, 20, false));
    assert_eq!(sender.on_ack(ms(50), &ack(2, &[1])), None, "2 was never sent");
    assert_eq!(sender.on_ack(ms(50), &ack(1, &[1])).unwrap().rtt, Some(ms(20)));
    assert!(!send(&mut sender, 60, false) && !send(&mut sender, 1_059, false));
    assert_eq!(sender.silent_for(ms(1_059)), ms(999));
    assert!(send(&mut sender, 1_060, false), "1 s without acks");
    sender.on_ack(ms(1_070), &ack(3, &[2])).unwrap();
    assert!(send(&mut sender, 1_080, false), "only truncated ones were acknowledged");
    // An ack of the last whole chunk, then a truncated one that is acknowledged at once.
    let settle = |sender: &mut Sender, now: u64| {
        let seq = sender.next_seq() - 1;
        sender.on_ack(ms(now), &ack(seq, &[1])).unwrap();
        assert!(!send(sender, now, false));
        sender.on_ack(ms(now), &ack(seq + 1, &[1])).unwrap();
    };
    settle(&mut sender, 2_000);
    assert!(send(&mut sender, 2_100, true) && send(&mut sender, 2_120, false), "from an intra frame on");
    settle(&mut sender, 2_200);
    assert!(send(&mut sender, 18_200, false), "a gap of 16 s");
    settle(&mut sender, 18_300);
    sender.reset();
    assert!(send(&mut sender, 18_320, false), "a need-whole or a new session");
    settle(&mut sender, 18_400);
    let far = sender.next_seq() + 0x4000;
    assert!(sender.on_send_seq(ms(18_500), far, 18_500, false), "a relay's stream that jumps");
    let outcome = sender.on_ack(ms(18_501), &ack(far, &[1, 3, 1])).unwrap();
    assert_eq!((outcome.newly_received, outcome.newly_lost), (1, 0), "what was never sent is neither");
}

/// A deterministic stream of numbers (SplitMix64).
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sender and receiver over a link that loses in bursts, duplicates and reorders, both ways.
    #[test]
    fn the_ledgers_agree_with_what_the_link_did(
        seed in any::<u64>(), loss in 0..30u64, dup in 0..10u64, spread in 1..200u64, pauses in any::<bool>(),
    ) {
        let mut seed = Seed(seed);
        let (mut sender, mut receiver) = (Sender::new(), Receiver::new(1, 1));
        // In flight: arrival and what it is; only arrivals order them.
        let mut chunks: Vec<(u64, u64, u64, bool)> = Vec::new();
        let mut acks: Vec<(u64, Ack)> = Vec::new();
        let (mut arrived, mut acked, mut sender_acked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut burst, mut resume, mut truncated, mut newest) = (0, 0, 0, 0);
        for now in 0..20_000u64 {
            let time = Duration::from_millis(now);
            if now % 20 == 0 && now >= resume && now < 19_000 {
                if pauses && seed.percent(1) {
                    resume = now + seed.below(2_000);
                }
                let timestamp = 1_700_000_000_000 + now;
                let sent = sender.on_send(time, timestamp, false);
                truncated += u64::from(!sent.whole);
                if burst == 0 && seed.percent(loss) {
                    burst = 1 + seed.below(8);
                }
                if burst > 0 {
                    burst -= 1;
                } else {
                    for _ in 0..=u64::from(seed.percent(dup)) {
                        chunks.push((now + 10 + seed.below(spread), sent.seq, timestamp, sent.whole));
                    }
                }
            }
            for (_, seq, timestamp, whole) in chunks.extract_if(.., |chunk| chunk.0 == now) {
                let form = |value| if whole { Wire::whole(value) } else { Wire::short(value) };
                match receiver.on_chunk(time, form(seq), form(timestamp)) {
                    Verdict::Fresh { seq: got, timestamp: at } => {
                        prop_assert_eq!((got, at), (seq, timestamp));
                        prop_assert!(arrived.insert(seq));
                        newest = newest.max(seq);
                    }
                    Verdict::Duplicate => prop_assert!(arrived.contains(&seq)),
                    verdict => prop_assert!(false, "{:?} for {}", verdict, seq),
                }
            }
            if let Some(ack) = receiver.ack(time) {
                prop_assert_eq!(ack.newest, newest);
                for seq in ack.received().flatten() {
                    prop_assert!(arrived.contains(&seq), "acknowledged {} that never came", seq);
                    acked.insert(seq);
                }
                prop_assert!(ack.missing().flatten().all(|seq| !arrived.contains(&seq)));
                if !seed.percent(loss) {
                    acks.push((now + 10 + seed.below(spread), ack));
                }
            }
            for (_, ack) in acks.extract_if(.., |ack| ack.0 == now) {
                let outcome = sender.on_ack(time, &ack).unwrap();
                let before = sender_acked.len();
                sender_acked.extend(ack.received().flatten());
                prop_assert_eq!(outcome.newly_received as usize, sender_acked.len() - before);
                if let Some(rtt) = outcome.rtt {
                    prop_assert!(rtt.as_millis() >= 19 && rtt.as_millis() as u64 <= 2 * (10 + spread) + 1);
                }
            }
        }
        prop_assert_eq!(&acked, &arrived);
        let counts = sender.counts();
        prop_assert_eq!(counts.acknowledged as usize, sender_acked.len());
        prop_assert!(counts.lost + counts.acknowledged <= counts.sent);
        prop_assert!(truncated > 0 || counts.sent < 50);
    }
}

/// Two minutes of speech, 40 ms away, over a link with this loss (percent) and jitter (ms).
fn listen(seed: u64, loss: u64, jitter: u64) -> (JitterBuffer, f64) {
    let mut seed = Seed(seed);
    let mut flying: Vec<(u64, u64)> = (0..6_000)
        .map(|seq| (seq * 20 + 40 + seed.below(jitter + 1), seq, seed.percent(loss)))
        .filter_map(|(at, seq, lost)| (!lost).then_some((at, seq)))
        .collect();
    flying.sort_unstable();
    let mut flying = flying.into_iter().peekable();
    let (mut buffer, mut last, mut delay, mut played) = (JitterBuffer::new(), None, 0, 0u64);
    for now in (5..120_500).step_by(20) {
        while let Some((at, seq)) = flying.next_if(|(at, _)| *at <= now) {
            buffer.push(
                Duration::from_millis(at),
                9_000_000 + seq * 20,
                seq,
                Bytes::from(seq.to_string()),
                20,
            );
        }
        if let Playout::Frame { seq, payload, .. } = buffer.pop(Duration::from_millis(now)) {
            assert!(last < Some(seq), "never backwards, never twice");
            assert_eq!(payload, seq.to_string());
            last = Some(seq);
            delay += now - seq * 20 - 40;
            played += 1;
        }
    }
    (buffer, delay as f64 / played as f64)
}

#[test]
fn the_jitter_buffer_follows_the_jitter_of_a_lossy_link() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("seed {seed}");
    for (loss, jitter, late_at_most, delay_at_most) in
        [(0, 0, 0, 45.0), (2, 10, 60, 60.0), (5, 60, 180, 110.0), (10, 150, 300, 210.0), (30, 20, 120, 75.0)]
    {
        let (buffer, delay) = listen(seed, loss, jitter);
        let counts = buffer.counts();
        println!("{loss} % lost, {jitter} ms jitter: {counts:?}, mean delay {delay:.1} ms");
        assert!(counts.late <= late_at_most, "{counts:?}");
        assert!(delay <= delay_at_most, "{delay}");
        let gone = counts.lost + counts.skipped;
        assert!((5_950..=6_000).contains(&(counts.played + gone)), "each chunk has one fate: {counts:?}");
        assert!(gone <= 6_000 * loss / 100 * 13 / 10 + late_at_most + 60, "{counts:?}");
    }
}
