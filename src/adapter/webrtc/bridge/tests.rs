//! Packets through the bridge and back, in virtual time.

use super::*;
use crate::media::audio::AudioCodec;
use crate::protocol::chunk::Chunk;

const MS: Duration = Duration::from_millis(1);

fn agreed(codecs: &[(AudioCodec, u8)], events: &[(u32, u8)]) -> Agreed {
    let codecs = codecs.iter().map(|(codec, pt)| (*codec, (*pt).into())).collect();
    let events = events.iter().map(|(rate, pt)| (*rate, (*pt).into())).collect();
    Agreed { audio: Some(Audio { mid: "a".into(), codecs, events }), video: None }
}

fn bridge(agreed: Agreed, directives: &str) -> Bridge {
    let mut bridge = Bridge::new([7, 1_000, 9]);
    bridge.set_agreed(agreed);
    let directives = Directives::parse(directives).unwrap();
    bridge.set_directives(directives.clone(), directives);
    bridge
}

fn rtp(pt: u8, packet: u64, timestamp: u64, payload: &[u8]) -> Arrived<'_> {
    Arrived { pt: pt.into(), ssrc: 1, packet, timestamp, marker: false, level: Some(0x80 | 30), payload }
}

/// The payload type, number and time of a chunk that is whole, and what it carries.
fn read(chunk: &Bytes) -> (u64, u64, u64, Vec<u8>) {
    let chunk = Chunk::parse(chunk).unwrap();
    let (seq, at) = (chunk.seq.unwrap(), chunk.timestamp.unwrap());
    (chunk.payload_type, seq.value, at.value, chunk.media().unwrap().to_vec())
}

#[test]
fn a_shared_codec_passes_as_it_is_with_its_gaps() {
    let mut bridge = bridge(agreed(&[(AudioCodec::Opus, 111)], &[]), "1 to 1: opus;");
    let mut seen = Vec::new();
    for n in [0u64, 1, 3] {
        let payload = [0x78, n as u8];
        let outcome =
            bridge.on_rtp(MS * (20 * n as u32), 5_000 + 20 * n, &rtp(111, 40 + n, 9_600 + 960 * n, &payload));
        seen.extend(outcome.chunks.iter().map(read));
    }
    let expected = [0u64, 1, 3].map(|n| (1, n, 5_000 + 20 * n, vec![0x78, n as u8]));
    assert_eq!(seen, expected);
}

#[test]
fn chunks_become_packets_with_their_level() {
    let mut here = bridge(agreed(&[(AudioCodec::Pcmu, 0)], &[]), "1 to 1: PCMU;");
    let mut there = bridge(agreed(&[(AudioCodec::Pcmu, 0)], &[]), "1 to 1: PCMU;");
    let mut places = Vec::new();
    for n in 0..5u64 {
        let outcome = there.on_rtp(MS * (20 * n as u32), 20 * n, &rtp(0, n, 160 * n, &[n as u8; 160]));
        for chunk in &outcome.chunks {
            // The third is lost on the way.
            if n != 2 {
                let out = here.on_chunk(MS * (20 * n as u32), chunk);
                assert_eq!((out[0].pt, out[0].level, out[0].payload.len()), (0.into(), Some(0x80 | 30), 160));
                places.push((out[0].place.packet, out[0].place.timestamp));
            }
        }
    }
    let first = places[0];
    let expected = [0u32, 1, 3, 4].map(|n| (first.0 + u64::from(n), first.1 + 160 * n));
    assert_eq!(places, expected);
}

#[test]
fn without_a_shared_codec_both_directions_are_made_anew() {
    let mut bridge = bridge(agreed(&[(AudioCodec::Opus, 111)], &[]), "1 to 1: PCMA;");
    let mut encoder =
        crate::media::audio::Encoder::new(AudioCodec::Opus, crate::media::audio::EncoderConfig::default())
            .unwrap();
    let mut seen = Vec::new();
    for n in 0..10u64 {
        let payload = encoder.encode(&[100; 960]).unwrap();
        let outcome = bridge.on_rtp(MS * (20 * n as u32), 20 * n, &rtp(111, n, 960 * n, &payload));
        seen.extend(outcome.chunks.iter().map(read));
    }
    assert!(seen.iter().all(|(kind, _, _, payload)| *kind == 3 && payload.len() == 160), "{seen:?}");
    assert!(seen.windows(2).all(|two| two[1].1 == two[0].1 + 1 && two[1].2 == two[0].2 + 20));
    assert!(seen.len() >= 9);
}

#[test]
fn numbers_go_on_when_a_codec_is_shared_at_last() {
    let mut bridge = bridge(agreed(&[(AudioCodec::Pcmu, 0)], &[]), "1 to 1: PCMU;");
    // 30 ms a packet: four of them are six frames when they are made anew.
    let mut seen = Vec::new();
    for (n, directives) in (0u64..).zip(["PCMU", "PCMU", "PCMA", "PCMA", "PCMA", "PCMA", "PCMU", "PCMU"]) {
        let directives = Directives::parse(&format!("1 to 1: {directives};")).unwrap();
        bridge.set_directives(directives.clone(), directives);
        let outcome = bridge.on_rtp(MS * (30 * n as u32), 30 * n, &rtp(0, n, 240 * n, &[7; 240]));
        seen.extend(outcome.chunks.iter().map(|chunk| Chunk::parse(chunk).unwrap().seq.unwrap().value));
    }
    assert!(seen.len() >= 9 && seen.windows(2).all(|two| two[1] == two[0] + 1), "{seen:?}");
}

#[test]
fn only_audio_is_reported_as_what_is_heard() {
    let bridge = bridge(agreed(&[(AudioCodec::Opus, 111)], &[]), "1 to 1: opus;");
    let hears = Hears { source: 1, sink: 1, codec: AudioCodec::Opus };
    assert_eq!((bridge.hears("a".into()), bridge.hears("v".into())), (Some(hears), None));
}

#[test]
fn reports_are_of_the_codec_that_the_browser_hears() {
    let both = [(AudioCodec::Opus, 111), (AudioCodec::Pcmu, 0)];
    let mut talker = bridge(agreed(&both, &[]), "1 to 1: PCMU;");
    let mut listener = bridge(agreed(&both, &[]), "1 to 1: PCMU;");
    assert_eq!(listener.hears("a".into()).unwrap().milliseconds(480), 10.0);
    let outcome = talker.on_rtp(MS, 20, &rtp(0, 1, 160, &[7; 160]));
    assert_eq!(listener.on_chunk(MS, &outcome.chunks[0]).len(), 1);
    let hears = listener.hears("a".into()).unwrap();
    assert_eq!((hears.codec, hears.milliseconds(80)), (AudioCodec::Pcmu, 10.0));
}

#[test]
fn keys_keep_their_length_whatever_the_clock() {
    let events = [(48_000, 110), (8_000, 126)];
    let both = [(AudioCodec::Opus, 111), (AudioCodec::Pcmu, 0)];
    let mut browser = bridge(agreed(&both, &events), "1 to 1: opus; telephone-event;");
    // 100 ms at 48 kHz are 800 units at 8 kHz.
    let outcome = browser.on_rtp(MS, 10, &rtp(110, 1, 960, &[5, 0x8a, 0x12, 0xc0]));
    let (kind, _, _, payload) = read(&outcome.chunks[0]);
    assert_eq!((kind, payload), (6, vec![5, 0x8a, 0x03, 0x20]));
    let mut other = bridge(agreed(&both, &events), "1 to 1: opus; telephone-event;");
    // A key of which only the end is known begins for the far side too, and what follows moves on by a packet.
    let out = other.on_chunk(MS, &outcome.chunks[0]);
    let begun = (out[0].pt, out[0].place.marker, &out[0].payload[..]);
    assert_eq!(begun, (110.into(), true, &[5, 0x0a, 0x12, 0xc0][..]));
    let over = (out[1].place.packet, out[1].place.timestamp, &out[1].payload[..]);
    assert_eq!(over, (out[0].place.packet + 1, out[0].place.timestamp, &[5, 0x8a, 0x12, 0xc0][..]));
    let again = browser.on_rtp(MS, 10, &rtp(110, 2, 960, &[5, 0x8a, 0x12, 0xc0]));
    let out = other.on_chunk(MS, &again.chunks[0]);
    assert_eq!((out.len(), out[0].place.packet, out[0].place.marker), (1, over.0 + 1, false));
    // Where the call takes no keys in media they are told.
    let mut told = bridge(agreed(&both, &events), "1 to 1: opus;");
    for _ in 0..3 {
        let outcome = told.on_rtp(MS, 10, &rtp(126, 1, 960, &[11, 0x8a, 0x03, 0x20]));
        assert!(outcome.chunks.is_empty());
    }
    let mut fresh = bridge(agreed(&both, &events), "1 to 1: opus;");
    let outcome = fresh.on_rtp(MS, 10, &rtp(126, 1, 960, &[11, 0x8a, 0x03, 0x20]));
    assert_eq!(outcome.digit, Some(('#', 100)));
}

#[test]
fn what_is_held_or_unknown_goes_nowhere_and_is_no_loss() {
    let mut bridge = bridge(agreed(&[(AudioCodec::Opus, 111)], &[]), "1 to 1: opus;");
    let first = bridge.on_rtp(MS, 100, &rtp(111, 5, 0, &[0x78, 1]));
    assert_eq!(read(&first.chunks[0]).1, 0);
    bridge.set_directives(Directives::default(), Directives::default());
    for n in 6..20 {
        assert_eq!(bridge.on_rtp(MS, 100, &rtp(111, n, 0, &[0x78, 1])), Outcome::default());
    }
    assert_eq!(bridge.on_rtp(MS, 100, &rtp(33, 20, 0, &[1])), Outcome::default());
    let again = Directives::parse("1 to 1: opus;").unwrap();
    bridge.set_directives(again.clone(), again);
    let next = bridge.on_rtp(MS * 500, 600, &rtp(111, 20, 960 * 14, &[0x78, 2]));
    assert_eq!(read(&next.chunks[0]).1, 1);
}

proptest::proptest! {
    #[test]
    fn garbage_from_either_side_is_dropped(
        packets in proptest::collection::vec((0..128u8, proptest::num::u64::ANY, proptest::num::u64::ANY, proptest::collection::vec(0u8.., 0..30)), 0..40)
    ) {
        let both = [(AudioCodec::Opus, 111), (AudioCodec::Pcmu, 0)];
        let mut bridge = bridge(agreed(&both, &[(8_000, 126)]), "1 to 1: PCMA; telephone-event;");
        for (n, (pt, packet, timestamp, payload)) in packets.iter().enumerate() {
            let now = MS * n as u32;
            let pt = [111, 0, 126, *pt][n % 4];
            bridge.on_rtp(now, n as u64, &rtp(pt, *packet >> 8, *timestamp >> 8, payload));
            bridge.on_chunk(now, &Bytes::copy_from_slice(payload));
        }
    }
}
