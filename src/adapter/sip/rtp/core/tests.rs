//! Two legs' states wired together in virtual time, and what others send them.

mod kept;

use super::*;
use crate::adapter::sip::rtp::{RtpSettings, Srtp};
use crate::media::audio::AudioCodec;
use crate::media::engine::OutFrame;
use crate::protocol::chunk::Chunk;

const MS: Duration = Duration::from_millis(1);

fn at(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 5_000).into()
}

fn settings(n: u8, srtp: Srtp, codecs: &[AudioCodec]) -> RtpSettings {
    RtpSettings {
        listen: [192, 0, 2, n].into(),
        public: None,
        range: None,
        most: 1,
        srtp,
        codecs: codecs.to_vec(),
    }
}

fn core(n: u8, srtp: Srtp, codecs: &[AudioCodec]) -> Core {
    let settings = settings(n, srtp, codecs);
    let negotiation = Negotiation::new(&settings, settings.listen, 5_000, 1);
    Core::new(negotiation, Arc::default(), u128::from(n) << 100 | u128::from(n) << 33 | u128::from(n))
}

/// Two that agreed, and the directives of their calls.
fn pair(srtp: Srtp, codecs: &[AudioCodec], directives: &str) -> (Core, Core) {
    let (mut a, mut b) = (core(1, srtp, codecs), core(2, srtp, codecs));
    let offer = a.negotiation().offer(false);
    let answer = b.answer(&offer).unwrap();
    a.answered(&answer).unwrap();
    for core in [&mut a, &mut b] {
        let directives = Directives::parse(directives).unwrap();
        core.direct(directives.clone(), directives);
    }
    (a, b)
}

/// The datagrams that a chunk becomes.
fn sent(core: &mut Core, now: Now, chunk: &Bytes) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut out = Vec::new();
    core.on_chunk(now, chunk, &mut |channel, to, data| {
        assert_eq!(channel, Channel::Rtp);
        out.push((to, data.to_vec()));
    });
    out
}

fn heard(core: &mut Core, now: Now, from: SocketAddr, data: &[u8]) -> Vec<Bytes> {
    let mut outcome = Outcome::default();
    core.on_rtp(now, from, &mut data.to_vec(), &mut outcome);
    outcome.chunks
}

fn frame(payload_type: u64, n: u64, payload: &[u8]) -> OutFrame {
    let payload = Bytes::copy_from_slice(payload);
    OutFrame {
        source: 1,
        sink: 1,
        payload_type,
        payload,
        timestamp_ms: 20 * n,
        duration_ms: None,
        level: None,
    }
}

fn now(n: u64) -> Now {
    (MS * (20 * n as u32), 20 * n)
}

/// Sends frames from a to b; what arrives there, as payload types and payloads.
fn through(a: &mut Core, b: &mut Core, frames: &[OutFrame]) -> Vec<(u64, Vec<u8>)> {
    let mut call = Engine::default();
    let mut out = Vec::new();
    for (n, frame) in (0u64..).zip(frames) {
        let chunk = call.send(now(n).0, frame).unwrap();
        for (to, data) in sent(a, now(n), &chunk) {
            assert_eq!(to, at(2));
            for chunk in heard(b, now(n), at(1), &data) {
                let chunk = Chunk::parse(&chunk).unwrap();
                out.push((chunk.payload_type, chunk.media().unwrap().to_vec()));
            }
        }
    }
    out
}

#[test]
fn chunks_cross_as_they_are_with_and_without_encryption() {
    for srtp in [Srtp::Off, Srtp::Offered, Srtp::Required] {
        let (mut a, mut b) = pair(srtp, &[AudioCodec::Pcma], "1 to 1: PCMA; telephone-event; CN;");
        assert_eq!(b.keys.is_some(), srtp != Srtp::Off);
        let frames: Vec<_> = (0..40u8).map(|n| frame(3, n.into(), &[n; 160])).collect();
        let expected: Vec<_> = (0..40u8).map(|n| (3, vec![n; 160])).collect();
        assert_eq!(through(&mut a, &mut b, &frames), expected, "{srtp:?}");
        assert_eq!(b.events, [LegEvent::Heard]);
        assert!(!a.is_heavy() && !b.is_heavy());
    }
}

#[test]
fn amr_crosses_in_both_formats_unchanged() {
    let one = |mode: u8| {
        let bits = [132usize, 177, 253, 285, 317, 365, 397, 461, 477][usize::from(mode)];
        let mut data: Vec<u8> = (0..bits.div_ceil(8)).map(|n| (n * 31) as u8 | 1).collect();
        *data.last_mut().unwrap() &= 0xff << ((8 - bits % 8) % 8);
        [vec![0xf0, mode << 3 | 4], data].concat()
    };
    for aligned in [true, false] {
        let (mut a, mut b) = pair(Srtp::Off, &[AudioCodec::AmrWb], "1 to 1: AMR-WB;");
        if !aligned {
            let offer = a.negotiation().offer(false);
            let offer = offer.replace("; octet-align=1", "");
            let answer = b.answer(&offer).unwrap();
            a = core(1, Srtp::Off, &[AudioCodec::AmrWb]);
            a.negotiation().offer(false);
            a.answered(&answer).unwrap();
            let directives = Directives::parse("1 to 1: AMR-WB;").unwrap();
            a.direct(directives.clone(), directives);
            assert!(!answer.contains("octet-align"));
        }
        let frames: Vec<_> = (0..9u8).map(|mode| frame(8, mode.into(), &one(mode))).collect();
        let expected: Vec<_> = (0..9u8).map(|mode| (8, one(mode))).collect();
        assert_eq!(through(&mut a, &mut b, &frames), expected, "{aligned}");
    }
}

#[test]
fn a_mode_set_is_kept_to_and_asked_for() {
    let (mut a, mut b) = (core(1, Srtp::Off, &[AudioCodec::AmrWb]), core(2, Srtp::Off, &[AudioCodec::AmrWb]));
    let offer = a.negotiation().offer(false).replace("octet-align=1", "octet-align=1; mode-set=0,2");
    let answer = b.answer(&offer).unwrap();
    a.answered(&answer).unwrap();
    let directives = Directives::parse("1 to 1: AMR-WB;").unwrap();
    a.direct(directives.clone(), directives.clone());
    b.direct(directives.clone(), directives);
    let good = [&[0xf0, 2 << 3 | 4][..], &[0; 32]].concat();
    let high = [&[0xf0, 8 << 3 | 4][..], &[0; 60]].concat();
    let seen = through(&mut a, &mut b, &[frame(8, 0, &good), frame(8, 1, &high), frame(8, 2, &good)]);
    if cfg!(feature = "amr-wb") {
        assert!(seen.iter().all(|(_, payload)| matches!(payload[1] >> 3 & 15, 0 | 2)), "{seen:?}");
    } else {
        // What may not be sent is not sent, and the call is asked for what may.
        assert_eq!(seen.len(), 2);
    }
    assert_eq!(seen[0].1[0] >> 4, 2);
}

#[test]
fn keys_cross_at_either_clock_and_are_told_where_the_call_has_none_in_media() {
    for codec in [AudioCodec::Pcmu, AudioCodec::AmrWb, AudioCodec::Opus] {
        let name = codec.name();
        let (mut a, mut b) = pair(Srtp::Off, &[codec], &format!("1 to 1: {name}; telephone-event;"));
        let events = crate::media::dtmf::payloads('7', 100);
        let frames: Vec<_> =
            events.iter().map(|payload| OutFrame { timestamp_ms: 1_000, ..frame(6, 0, payload) }).collect();
        let expected: Vec<_> = events.iter().map(|payload| (6, payload.to_vec())).collect();
        assert_eq!(through(&mut a, &mut b, &frames), expected, "{name}");
        let quiet = Directives::parse(&format!("1 to 1: {name};")).unwrap();
        b.direct(quiet.clone(), quiet);
        b.events.clear();
        let mut call = Engine::default();
        for frame in &frames {
            let chunk = call.send(MS * 3_000, &OutFrame { timestamp_ms: 9_000, ..frame.clone() }).unwrap();
            for (_, data) in sent(&mut a, now(150), &chunk) {
                assert!(heard(&mut b, now(150), at(1), &data).is_empty());
            }
        }
        assert_eq!(b.events, [LegEvent::Digit('7', 100)], "{name}");
    }
}

#[test]
fn comfort_noise_crosses_where_it_is_agreed_on_and_is_no_loss_where_not() {
    let (mut a, mut b) = pair(Srtp::Off, &[AudioCodec::Pcma], "1 to 1: PCMA; CN;");
    let frames = [frame(3, 0, &[1; 160]), frame(5, 1, &[40]), frame(3, 2, &[2; 160])];
    assert_eq!(through(&mut a, &mut b, &frames)[1], (5, vec![40]));
    let (mut a, mut b) = pair(Srtp::Off, &[AudioCodec::Pcma], "1 to 1: PCMA;");
    let mut call = Engine::default();
    let mut numbers = Vec::new();
    for (n, frame) in (0u64..).zip(&frames) {
        for (_, data) in sent(&mut a, now(n), &call.send(now(n).0, frame).unwrap()) {
            for chunk in heard(&mut b, now(n), at(1), &data) {
                numbers.push(Chunk::parse(&chunk).unwrap().seq.unwrap().value);
            }
        }
    }
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn who_sends_by_its_own_numbers_is_understood_too() {
    let mut here = core(1, Srtp::Off, &[AudioCodec::Opus]);
    let directives = Directives::parse("1 to 1: opus; telephone-event;").unwrap();
    here.direct(directives.clone(), directives);
    here.negotiation().offer(false);
    let answer = "v=0\r\nc=IN IP4 192.0.2.2\r\nm=audio 5000 RTP/AVP 120 121\r\na=rtpmap:120 opus/48000/2\r\n\
                  a=rtpmap:121 telephone-event/48000\r\n";
    here.answered(answer).unwrap();
    let kinds = [96, 120, 103, 121].map(|number| {
        let chunks = heard(&mut here, now(1), at(2), &rtp(9, number.into(), number));
        Chunk::parse(&chunks[0]).unwrap().payload_type
    });
    assert_eq!(kinds, [1, 1, 6, 6]);
}

fn rtp(ssrc: u32, sequence: u16, payload_type: u8) -> Vec<u8> {
    let timestamp = u32::from(sequence) * 160;
    let head = Outgoing { marker: false, payload_type, sequence, timestamp, ssrc, level: None };
    let mut out = Vec::new();
    packet::write(&mut out, &head, &[7; 160]);
    out
}

#[test]
fn strangers_and_foreign_sources_are_counted_and_not_heard() {
    let mut b = core(2, Srtp::Off, &[AudioCodec::Pcma]);
    let directives = Directives::parse("1 to 1: PCMA;").unwrap();
    b.direct(directives.clone(), directives);
    let drops = |core: &Core| {
        let read =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let counters = &core.counters;
        (read(&counters.strangers), read(&counters.foreign), read(&counters.garbage))
    };
    // Nothing is agreed on.
    assert!(heard(&mut b, now(0), at(1), &rtp(9, 0, 8)).is_empty());
    assert_eq!(drops(&b), (1, 0, 0));
    let offer = core(1, Srtp::Off, &[AudioCodec::Pcma]).negotiation().offer(false);
    b.answer(&offer).unwrap();
    assert_eq!(heard(&mut b, now(0), at(1), &rtp(9, 1, 8)).len(), 1);
    assert!(heard(&mut b, now(1), at(3), &rtp(9, 2, 8)).is_empty());
    assert!(heard(&mut b, now(1), at(1), &rtp(8, 2, 8)).is_empty());
    assert!(heard(&mut b, now(1), at(1), &rtp(2, 2, 8)).is_empty(), "its own SSRC");
    assert!(heard(&mut b, now(1), at(1), &rtp(9, 2, 77)).is_empty());
    assert!(heard(&mut b, now(1), at(1), b"what?").is_empty());
    assert_eq!(drops(&b), (2, 2, 2));
    assert_eq!(heard(&mut b, now(1), at(1), &rtp(9, 2, 8)).len(), 1);
    // Another address is heard only after a new description.
    for n in 3..20 {
        assert!(heard(&mut b, now(2), at(3), &rtp(9, n, 8)).is_empty());
    }
    b.answer(&offer.replace("192.0.2.1", "192.0.2.3")).unwrap();
    assert_eq!(heard(&mut b, now(3), at(3), &rtp(9, 30, 8)).len(), 1);
    assert!(heard(&mut b, now(3), at(1), &rtp(9, 31, 8)).is_empty());
}

#[test]
fn media_goes_back_to_where_it_comes_from_and_nowhere_in_a_hold() {
    let (mut a, mut b) = pair(Srtp::Off, &[AudioCodec::Pcma], "1 to 1: PCMA;");
    let mut call = Engine::default();
    let mut target = |b: &mut Core, n: u64| {
        let chunk = call.send(now(n).0, &frame(3, n, &[1; 160])).unwrap();
        sent(b, now(n), &chunk).first().map(|(to, _)| *to)
    };
    assert_eq!(target(&mut b, 0), Some(at(1)));
    for n in 0..3 {
        heard(&mut b, now(1), at(9), &rtp(5, n, 8));
    }
    assert_eq!(target(&mut b, 1), Some(at(9)));
    b.events.clear();
    let held = a.negotiation().offer(true);
    b.answer(&held).unwrap();
    assert_eq!((b.events.clone(), target(&mut b, 2)), (vec![LegEvent::Held(true)], None));
    b.answer(&held.replace("a=sendonly", "a=sendrecv").replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"))
        .unwrap();
    assert_eq!(target(&mut b, 3), None);
    b.answer(&held.replace("a=sendonly", "a=sendrecv")).unwrap();
    assert_eq!(b.events, [LegEvent::Held(true), LegEvent::Held(false)]);
    // The same description as before: who was learnt is known still.
    assert_eq!(target(&mut b, 4), Some(at(9)));
}

#[test]
fn a_replay_or_a_forgery_is_refused() {
    let (mut a, mut b) = pair(Srtp::Required, &[AudioCodec::Pcma], "1 to 1: PCMA;");
    let chunk = Engine::default().send(MS, &frame(3, 0, &[1; 160])).unwrap();
    let (_, data) = sent(&mut a, now(0), &chunk).remove(0);
    assert_eq!(heard(&mut b, now(0), at(1), &data).len(), 1);
    assert!(heard(&mut b, now(0), at(1), &data).is_empty());
    assert!(heard(&mut b, now(0), at(1), &rtp(1, 9, 8)).is_empty());
    assert_eq!(b.counters.refused.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn reports_cross_and_say_what_was_lost() {
    for srtp in [Srtp::Off, Srtp::Required] {
        let (mut a, mut b) = pair(srtp, &[AudioCodec::Pcma], "1 to 1: PCMA;");
        let mut call = Engine::default();
        let mut reports = 0;
        for n in 0..600u64 {
            let chunk = call.send(now(n).0, &frame(3, n, &[1; 160])).unwrap();
            for (_, data) in sent(&mut a, now(n), &chunk) {
                if n % 4 != 0 {
                    heard(&mut b, now(n), at(1), &data);
                }
            }
            let mut out = Vec::new();
            a.on_tick(now(n), 0.5, &mut |channel, to, data| out.push((true, channel, to, data.to_vec())));
            b.on_tick(now(n), 0.5, &mut |channel, to, data| out.push((false, channel, to, data.to_vec())));
            for (from_a, channel, to, mut data) in out {
                assert_eq!((channel, to.port()), (Channel::Rtcp, 5_001));
                let (core, from) = if from_a { (&mut b, at(1)) } else { (&mut a, at(2)) };
                core.on_rtcp(now(n), (from.ip(), 5_001).into(), &mut data);
                reports += 1;
            }
        }
        assert!((4..=6).contains(&reports), "{reports}");
        let Some(LegEvent::Quality(last)) = a.events.last() else { panic!("{:?}", a.events) };
        let lost = last["lost"].as_f64().unwrap() / last["sent"].as_f64().unwrap();
        assert!((0.2..0.3).contains(&lost) && last["mos"].as_f64().unwrap() < 3.5, "{last}");
        assert!(
            b.events.iter().all(|event| !matches!(event, LegEvent::Quality(_))),
            "nothing was sent there"
        );
        // The last one says good-bye.
        let mut bye = Vec::new();
        a.report(now(700), true, &mut |_, _, data| bye.extend_from_slice(data));
        if srtp == Srtp::Off {
            assert!(rtcp::parse(&bye).unwrap().bye);
        }
    }
}

#[test]
fn silence_is_told_unless_nothing_is_to_come() {
    let (mut a, mut b) = pair(Srtp::Off, &[AudioCodec::Pcma], "1 to 1: PCMA;");
    let tick = |core: &mut Core, n| drop(core.on_tick(now(n), 0.5, &mut |_, _, _| {}));
    tick(&mut b, 2_000);
    assert!(b.events.is_empty());
    heard(&mut b, now(2_000), at(1), &rtp(5, 1, 8));
    tick(&mut b, 2_600);
    tick(&mut b, 2_700);
    heard(&mut b, now(2_800), at(1), &rtp(5, 2, 8));
    assert_eq!(b.events, [LegEvent::Heard, LegEvent::Silent, LegEvent::Heard]);
    b.events.clear();
    let held = a.negotiation().offer(true);
    b.answer(&held).unwrap();
    tick(&mut b, 2_900);
    tick(&mut b, 5_000);
    assert_eq!(b.events, [LegEvent::Held(true)]);
}

proptest::proptest! {
    #[test]
    fn hostile_datagrams_and_chunks_do_nothing(
        datagrams in proptest::collection::vec((0..3u8, proptest::collection::vec(0u8.., 0..60)), 0..40)
    ) {
        let (mut a, mut b) = pair(Srtp::Offered, &RtpSettings::all_codecs(), "1 to 1: PCMA; telephone-event;");
        let plain = pair(Srtp::Off, &RtpSettings::all_codecs(), "1 to 1: PCMA; telephone-event;").1;
        for mut core in [plain, std::mem::replace(&mut b, core(3, Srtp::Off, &[AudioCodec::Opus]))] {
            for (n, (kind, bytes)) in (0u64..).zip(&datagrams) {
                let mut data = bytes.clone();
                match kind {
                    0 => drop(sent(&mut core, now(n), &Bytes::copy_from_slice(bytes))),
                    1 => core.on_rtcp(now(n), at(1), &mut data),
                    _ => {
                        let types = [96, 97, 98, 8, 13, 101, 103];
                        let mut packet = rtp(5, n as u16, types[n as usize % 7]);
                        packet.truncate(12);
                        packet.extend(bytes);
                        let _ = heard(&mut core, now(n), at(1), &packet);
                        let _ = heard(&mut core, now(n), at(1), &data);
                    }
                }
            }
        }
        let _ = a.negotiation();
    }
}
