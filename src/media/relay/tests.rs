use bytes::Bytes;

use super::*;
use crate::protocol::advertisement::Advertisement;

const PHONE: HandlerKey = HandlerKey::from_u128(1);
const TABLET: HandlerKey = HandlerKey::from_u128(2);
const OTHER: HandlerKey = HandlerKey::from_u128(3);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn leg(n: u128) -> LegId {
    LegId::from_u128(n)
}

fn directives(text: &str) -> Directives {
    Directives::parse(text).unwrap()
}

fn plan(speaker: Option<HandlerKey>) -> Plan {
    let opus = directives("1 to 1: opus;");
    Plan { sends: opus.clone(), receives: opus, speaker, listener: speaker, heard: true }
}

fn port() -> Port {
    let mut port = Port::default();
    port.plan(ms(0), plan(Some(PHONE)));
    port
}

fn chunk(seq: u64, timestamp: u64, whole: bool) -> Bytes {
    let mut out = BytesMut::new();
    let header = MediaHeader { seq, timestamp, whole, ..MediaHeader::default() };
    encode(&header, &seq.to_be_bytes(), &mut out);
    out.freeze()
}

fn control(put: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    put(&mut out);
    out.freeze()
}

fn ack(newest: u64, runs: &[u64]) -> Bytes {
    control(|out| Ack { source: 1, sink: 1, newest, delay_ms: 0, runs: runs.into() }.encode(out))
}

/// Two legs in virtual time: what the one's device sends, as the other's gets it.
struct Rig {
    from: Port,
    to: Port,
    now: u64,
}

impl Rig {
    fn new() -> Self {
        Self { from: port(), to: port(), now: 0 }
    }

    /// 20 ms later a chunk comes from `handler`; sequence, timestamp and form in which it goes out, if it does.
    fn send(&mut self, handler: HandlerKey, seq: u64, timestamp: u64, whole: bool) -> Option<(Wire, Wire)> {
        self.now += 20;
        let (now, bytes) = (ms(self.now), chunk(seq, timestamp, whole));
        let mut out = BytesMut::new();
        let Arrival::Media(media) = self.from.arrived(now, handler, &bytes, &mut BytesMut::new()) else {
            return None;
        };
        let verbatim = self.to.departs(now, Origin { leg: leg(1), handler }, &media, &mut out)?;
        let sent = if verbatim { &bytes[..] } else { &out[..] };
        let sent = Chunk::parse(sent).unwrap();
        assert_eq!(sent.media(), Some(&seq.to_be_bytes()[..]), "the package is not touched");
        Some((sent.seq.unwrap(), sent.timestamp.unwrap()))
    }

    fn ack(&mut self, handler: HandlerKey, newest: u64) {
        let ack = ack(newest, &[1]);
        assert_eq!(self.to.arrived(ms(self.now), handler, &ack, &mut BytesMut::new()), Arrival::Done);
    }
}

#[test]
fn truncated_values_are_widened_until_whole_ones_are_acknowledged() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(PHONE, 70_000, 5_000_000, true), Some((Wire::whole(70_000), Wire::whole(5_000_000))));
    assert_eq!(
        rig.send(PHONE, 70_001, 5_000_020, false),
        Some((Wire::whole(70_001), Wire::whole(5_000_020)))
    );
    rig.ack(PHONE, 70_001);
    assert_eq!(
        rig.send(PHONE, 70_002, 5_000_040, false),
        Some((Wire::short(70_002), Wire::short(5_000_040)))
    );
    // A need-whole brings them back.
    let need = control(|out| NeedWhole { source: 1, sink: 1 }.encode(out));
    rig.to.arrived(ms(rig.now), PHONE, &need, &mut BytesMut::new());
    assert_eq!(
        rig.send(PHONE, 70_003, 5_000_060, false),
        Some((Wire::whole(70_003), Wire::whole(5_000_060)))
    );
    assert_eq!(rig.send(PHONE, 70_004, 5_000_080, true), Some((Wire::whole(70_004), Wire::whole(5_000_080))));
}

#[test]
fn a_second_without_acks_or_a_gap_of_sixteen_makes_values_whole_again() {
    let mut rig = Rig::new();
    rig.send(PHONE, 0, 1_000, true);
    rig.ack(PHONE, 0);
    assert!(!rig.send(PHONE, 1, 1_020, false).unwrap().0.is_whole());
    rig.now += 1_000;
    assert!(rig.send(PHONE, 2, 2_040, false).unwrap().0.is_whole());
    rig.ack(PHONE, 2);
    assert!(!rig.send(PHONE, 3, 2_060, false).unwrap().0.is_whole());
    rig.ack(PHONE, 3);
    rig.now += 16_000;
    assert!(rig.send(PHONE, 4, 18_080, false).unwrap().0.is_whole());
}

#[test]
fn another_handler_goes_on_where_the_first_was() {
    let mut rig = Rig::new();
    for seq in 0..10 {
        rig.send(PHONE, seq, 50_000 + seq * 20, true);
    }
    rig.ack(PHONE, 9);
    rig.from.plan(ms(rig.now), plan(Some(TABLET)));
    assert_eq!(rig.send(PHONE, 10, 50_200, true), None, "it doesn't carry the call any more");
    assert_eq!(rig.from.drops().unheard, 1);
    // 40 ms after the last that went out.
    let first = rig.send(TABLET, 0, 7, true);
    assert_eq!(first, Some((Wire::whole(10), Wire::whole(50_220))));
    assert_eq!(rig.send(TABLET, 1, 27, true), Some((Wire::whole(11), Wire::whole(50_240))));
    rig.ack(PHONE, 11);
    assert_eq!(rig.send(TABLET, 2, 47, false), Some((Wire::short(12), Wire::short(50_260))));
}

#[test]
fn a_new_listener_gets_whole_values_and_the_old_ones_acks_count_no_more() {
    let mut rig = Rig::new();
    rig.send(PHONE, 0, 100, true);
    rig.ack(PHONE, 0);
    assert!(!rig.send(PHONE, 1, 120, false).unwrap().0.is_whole());
    rig.to.plan(ms(rig.now), plan(Some(TABLET)));
    assert!(rig.send(PHONE, 2, 140, false).unwrap().0.is_whole());
    rig.ack(PHONE, 2);
    assert!(rig.send(PHONE, 3, 160, false).unwrap().0.is_whole());
    rig.ack(TABLET, 3);
    assert!(!rig.send(PHONE, 4, 180, false).unwrap().0.is_whole());
}

#[test]
fn a_client_that_came_back_after_a_crash_counts_from_zero_and_is_heard() {
    // Its new path is its only one; or it has the same path, and only its clock tells.
    for new_path in [true, false] {
        let mut rig = Rig::new();
        for seq in 0..100 {
            rig.send(PHONE, seq, 50_000 + seq * 20, true);
        }
        let restarted = if new_path { 0 } else { 60_000 };
        if new_path {
            rig.from.path_opened(PHONE, true);
        }
        assert_eq!(rig.send(PHONE, 0, restarted, true).unwrap().0, Wire::whole(100), "{new_path}");
        assert_eq!(rig.send(PHONE, 1, restarted + 20, true).unwrap().0, Wire::whole(101));
        let report = rig.from.reports().next().unwrap();
        assert_eq!((report.received, report.lost), (102, 0));
    }
}

#[test]
fn a_new_path_alone_starts_nothing_anew() {
    let mut rig = Rig::new();
    for seq in 0..10 {
        rig.send(PHONE, seq, seq * 20, true);
    }
    rig.from.path_opened(PHONE, true);
    assert_eq!(rig.send(PHONE, 10, 200, true).unwrap().0, Wire::whole(10));
    assert_eq!(rig.send(PHONE, 3, 60, true), None, "an old one that came twice");
    assert_eq!(rig.from.drops().repeated, 1);
}

#[test]
fn hostile_things_are_counted_and_dropped() {
    let mut port = port();
    let mut arrive = |bytes: &[u8]| {
        let mut reply = BytesMut::new();
        let done = port.arrived(ms(5), PHONE, bytes, &mut reply) == Arrival::Done;
        (done, port.drops())
    };
    let garbage = |n| Drops { garbage: n, ..Drops::default() };
    assert_eq!(arrive(b""), (true, garbage(1)));
    assert_eq!(arrive(&[0xff; 40]), (true, garbage(2)));
    // Tag 1 twice; no tag 2.
    assert_eq!(arrive(&[9, 0x12, 0, 1, 0x12, 0, 1, 0x22, 0, 1, 0x40]), (true, garbage(3)));
    assert_eq!(arrive(&[3, 0x12, 0, 1, 0x40]), (true, garbage(4)));
    // An ack that reaches below zero, an empty probe.
    assert_eq!(
        arrive(&control(|out| crate::protocol::chunk::encode_control(
            ControlType::Ack,
            &[1, 1, 0, 0, 9],
            out
        )))
        .1,
        garbage(5)
    );
    assert_eq!(
        arrive(&control(|out| crate::protocol::chunk::encode_control(ControlType::Probe, &[], out))).1,
        garbage(6)
    );
    // Control types that nobody knows are not even garbage.
    let unknown = control(|out| crate::protocol::chunk::encode_control(ControlType::Unknown(99), b"x", out));
    assert_eq!(arrive(&unknown), (true, garbage(6)));
    // An ack of what was never sent.
    assert_eq!(arrive(&ack(1 << 40, &[1])), (true, garbage(6)));
    let mut out = BytesMut::new();
    encode(&MediaHeader { source: 7, ..MediaHeader::default() }, b"x", &mut out);
    assert_eq!(arrive(&out).1, Drops { unnamed: 1, ..garbage(6) });
}

#[test]
fn what_cannot_be_expanded_asks_for_whole_values_ten_times_a_second() {
    let mut port = port();
    let mut asked = 0;
    for n in 0..20u64 {
        let mut reply = BytesMut::new();
        match port.arrived(ms(1000 + n * 20), PHONE, &chunk(n, n, false), &mut reply) {
            Arrival::Reply => {
                let chunk = Chunk::parse(&reply).unwrap();
                assert_eq!(chunk.kind, Kind::Control(ControlType::NeedWhole));
                assert_eq!(chunk.package, [1, 1]);
                asked += 1;
            }
            other => assert_eq!(other, Arrival::Done),
        }
    }
    assert_eq!((asked, port.drops().unexpandable), (4, 20));
}

#[test]
fn acks_come_every_100_ms_with_what_is_missing() {
    let mut port = port();
    let mut acks = Vec::new();
    for n in (0..30u64).filter(|n| ![7, 8, 20].contains(n)) {
        let now = ms(1000 + n * 20);
        port.arrived(now, PHONE, &chunk(n, n * 20, true), &mut BytesMut::new());
        port.acks(now, OTHER, &mut BytesMut::new(), |_| panic!("nothing came from it"));
        port.acks(now, PHONE, &mut BytesMut::new(), |ack| {
            acks.push((n, Ack::parse(Chunk::parse(ack).unwrap().package).unwrap()))
        });
    }
    let at: Vec<_> = acks.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0, 5, 10, 15, 21, 26]);
    assert_eq!(acks[2].1.runs[..], [2, 2, 7]);
    assert_eq!(acks[5].1.runs[..], [6, 1, 11, 2, 7]);
    assert!(acks.iter().all(|(at, ack)| ack.newest == *at && ack.delay_ms == 0));
    port.acks_now(ms(2000), PHONE, |ack| {
        acks.push((0, Ack::parse(Chunk::parse(ack).unwrap().package).unwrap()))
    });
    let last = &acks.last().unwrap().1;
    assert_eq!((last.newest, last.delay_ms), (29, 420));
}

#[test]
fn a_chunk_that_comes_again_is_dropped_and_acknowledged_again() {
    let mut port = port();
    port.arrived(ms(0), PHONE, &chunk(0, 0, true), &mut BytesMut::new());
    let mut acks = 0;
    port.acks_now(ms(1), PHONE, |_| acks += 1);
    assert_eq!(port.arrived(ms(2), PHONE, &chunk(0, 0, true), &mut BytesMut::new()), Arrival::Done);
    port.acks_now(ms(3), PHONE, |_| acks += 1);
    assert_eq!((acks, port.drops().repeated), (2, 1));
}

#[test]
fn before_anybody_hears_media_is_acknowledged_and_dropped() {
    let mut port = Port::default();
    port.plan(ms(0), Plan { heard: false, ..plan(None) });
    assert_eq!(port.arrived(ms(1), PHONE, &chunk(0, 0, true), &mut BytesMut::new()), Arrival::Done);
    let mut acks = 0;
    port.acks(ms(1), PHONE, &mut BytesMut::new(), |_| acks += 1);
    assert_eq!((acks, port.drops().unheard), (1, 1));
    // Early media: from the branch that said progress only.
    port.plan(ms(2), plan(Some(TABLET)));
    assert_eq!(port.arrived(ms(3), PHONE, &chunk(1, 20, true), &mut BytesMut::new()), Arrival::Done);
    let bytes = chunk(0, 0, true);
    let mut reply = BytesMut::new();
    assert!(matches!(port.arrived(ms(3), TABLET, &bytes, &mut reply), Arrival::Media(_)));
}

#[test]
fn old_directives_hold_for_two_seconds_but_nothing_passes_a_hold() {
    let mut port = port();
    let arrive = |port: &mut Port, at: u64, seq: u64| {
        let bytes = chunk(seq, seq * 20, true);
        matches!(port.arrived(ms(at), PHONE, &bytes, &mut BytesMut::new()), Arrival::Media(_))
    };
    port.plan(ms(1000), Plan { sends: directives("2 to 1: opus;"), ..plan(Some(PHONE)) });
    assert!(arrive(&mut port, 2999, 0));
    assert!(!arrive(&mut port, 3000, 1));
    assert_eq!(port.drops().unnamed, 1);
    port.plan(ms(4000), plan(Some(PHONE)));
    assert!(arrive(&mut port, 4000, 2));
    port.plan(ms(5000), Plan { sends: Directives::default(), ..plan(Some(PHONE)) });
    assert!(!arrive(&mut port, 5001, 3));
    assert_eq!((port.drops().unnamed, port.drops().unheard), (1, 1), "taken, and passed on to nobody");
    assert!(!arrive(&mut port, 7000, 4));
    assert_eq!(port.drops().unnamed, 2);
}

#[test]
fn digits_go_into_the_stream_without_a_hole_or_a_double_number() {
    let mut rig = Rig::new();
    let digit = |rig: &mut Rig, timestamp| {
        rig.now += 20;
        let mut out = BytesMut::new();
        let at = rig.to.insert(ms(rig.now), 6, timestamp, b"digit", &mut out).unwrap();
        let sent = Chunk::parse(&out).unwrap();
        assert_eq!((sent.payload_type, sent.media()), (6, Some(&b"digit"[..])));
        (sent.seq.unwrap().value, sent.timestamp.unwrap().value, at)
    };
    rig.send(PHONE, 0, 500, true);
    let (seq, timestamp, at) = digit(&mut rig, None);
    assert_eq!((seq, timestamp, at), (1, 520, 520));
    assert_eq!(rig.send(PHONE, 1, 540, true).unwrap().0.value, 2);
    let (seq, timestamp, _) = digit(&mut rig, Some(at));
    assert_eq!((seq, timestamp), (3, 520), "all packets of a digit carry the time of its beginning");
    assert_eq!(rig.send(PHONE, 2, 580, true), Some((Wire::whole(4), Wire::whole(580))));
    // Into silence too.
    let mut quiet = Rig::new();
    assert_eq!(digit(&mut quiet, None).0, 0);
    assert_eq!(digit(&mut quiet, None).0, 1);
    assert_eq!(quiet.send(PHONE, 77, 9, true).unwrap().0, Wire::whole(2));
}

#[test]
fn quality_tells_of_both_directions() {
    let mut rig = Rig::new();
    for seq in (0..200).filter(|seq| seq % 20 != 10) {
        rig.send(PHONE, seq, seq * 20, true);
    }
    // The far end acknowledges all but one in ten of what it was sent.
    for newest in (0..200u64).filter(|seq| seq % 20 == 19) {
        let ack = ack(newest, &[5, 1, 3, 1, 10]);
        rig.to.arrived(ms(rig.now), PHONE, &ack, &mut BytesMut::new());
    }
    let came = rig.from.reports().next().unwrap();
    assert_eq!((came.sent, came.received, came.lost), (200, 190, 10));
    let went = rig.to.sent().next().unwrap();
    assert_eq!((went.sent, went.received, went.lost), (190, 180, 10));
    assert!(went.mos < 4.0 && went.mos > 1.0, "{went:?}");
}

#[test]
fn streams_that_a_client_can_make_are_bounded() {
    let line = |n: u32| format!("{n} in: opus; {n} out: opus;");
    let all: String = (1..=80).map(line).collect();
    let all = Advertisement::parse(&all).unwrap();
    let named = Directives::compute(&all, &all);
    let mut port = Port::default();
    port.plan(
        ms(0),
        Plan { sends: named.clone(), receives: named, speaker: Some(PHONE), listener: None, heard: true },
    );
    let mut taken = 0;
    for id in 1..=80u8 {
        let mut out = BytesMut::new();
        encode(&MediaHeader { source: id, sink: id, ..MediaHeader::default() }, b"x", &mut out);
        taken +=
            usize::from(matches!(port.arrived(ms(1), PHONE, &out, &mut BytesMut::new()), Arrival::Media(_)));
    }
    assert!(taken <= MAX_STREAMS && taken > 0, "{taken}");
}
