//! Frames through packets and back.

use proptest::prelude::*;

use super::*;

fn vp8(key: bool, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|n| n as u8).collect();
    frame[0] = u8::from(!key);
    frame
}

fn h264(key: bool, len: usize) -> Vec<u8> {
    let unit = |kind: u8, len: usize| [&START[..], &[0x60 | kind], &vec![kind | 0x40; len]].concat();
    if key { [unit(7, 9), unit(8, 4), unit(5, len)].concat() } else { unit(1, len) }
}

fn send(
    to: &mut Assembler,
    first: &mut u64,
    timestamp: u64,
    frame: &[u8],
    lose: &[usize],
) -> Vec<VideoFrame> {
    let all = packets(to.codec, frame, 7);
    let last = all.len() - 1;
    let mut out = Vec::new();
    for (n, payload) in all.into_iter().enumerate() {
        if !lose.contains(&n) {
            out.extend(to.push(*first + n as u64, timestamp, n == last, payload.into()));
        }
    }
    *first += last as u64 + 1;
    out
}

#[test]
fn frames_of_any_size_come_through_whole() {
    for (codec, frame) in [(VideoCodec::Vp8, vp8 as fn(bool, usize) -> Vec<u8>), (VideoCodec::H264, h264)] {
        let (mut to, mut number) = (Assembler::new(codec), 5);
        for (n, len) in [1, 10, 1_145, 1_146, 1_147, 1_150, 1_151, 5_000, 60_000].into_iter().enumerate() {
            let frame = frame(n == 0, len);
            let out = send(&mut to, &mut number, n as u64, &frame, &[]);
            let expected = VideoFrame { timestamp: n as u64, data: frame.into(), key: n == 0 };
            assert_eq!(out, [expected], "{codec:?} {len}");
        }
        assert!(!to.wants_key());
    }
}

#[test]
fn after_a_loss_only_a_frame_that_stands_alone_goes_on() {
    for (codec, frame) in [(VideoCodec::Vp8, vp8 as fn(bool, usize) -> Vec<u8>), (VideoCodec::H264, h264)] {
        let (mut to, mut number) = (Assembler::new(codec), 5);
        assert_eq!(send(&mut to, &mut number, 0, &frame(true, 4_000), &[]).len(), 1);
        assert_eq!(send(&mut to, &mut number, 1, &frame(false, 4_000), &[1]), []);
        assert_eq!(send(&mut to, &mut number, 2, &frame(false, 4_000), &[]), []);
        // The lost packet is waited for, but not for ever.
        let out: Vec<_> =
            (3..12).flat_map(|n| send(&mut to, &mut number, n, &frame(n == 5, 4_000), &[])).collect();
        let times: Vec<_> = out.iter().map(|frame| frame.timestamp).collect();
        assert_eq!(times, [5, 6, 7, 8, 9, 10, 11], "{codec:?}");
        assert!(out[0].key && to.wants_key() && !to.wants_key());
    }
}

#[test]
fn a_packet_that_comes_late_is_waited_for() {
    let (mut to, frame) = (Assembler::new(VideoCodec::Vp8), vp8(true, 3_000));
    let mut all = packets(VideoCodec::Vp8, &frame, 1);
    let late = all.remove(1);
    assert_eq!(to.push(0, 9, false, all[0].clone().into()), []);
    assert_eq!(to.push(2, 9, true, all[1].clone().into()), []);
    let out = to.push(1, 9, false, late.into());
    assert_eq!(out, [VideoFrame { timestamp: 9, data: frame.into(), key: true }]);
    // And again, in vain.
    assert_eq!(to.push(1, 9, false, vec![0x90, 0].into()), []);
}

#[test]
fn chromes_aggregates_become_units() {
    let stap = [&[STAP_A, 0, 2, 0x67, 1, 0, 3, 0x68, 2, 3][..]].concat();
    let mut to = Assembler::new(VideoCodec::H264);
    assert_eq!(to.push(0, 1, false, stap.into()), []);
    let out = to.push(1, 1, true, vec![0x65, 9].into());
    let expected = [&START[..], &[0x67, 1], &START, &[0x68, 2, 3], &START, &[0x65, 9]].concat();
    assert_eq!(out, [VideoFrame { timestamp: 1, data: expected.into(), key: true }]);
}

proptest! {
    #[test]
    fn garbage_is_dropped_and_memory_bounded(
        packets in prop::collection::vec((0..700u64, 0..5u64, any::<bool>(), prop::collection::vec(any::<u8>(), 0..12)), 0..900)
    ) {
        for codec in [VideoCodec::Vp8, VideoCodec::H264] {
            let mut to = Assembler::new(codec);
            for (number, timestamp, marker, payload) in &packets {
                to.push(*number, *timestamp, *marker, payload.clone().into());
                prop_assert!(to.waiting.len() <= MAX_WAITING);
            }
        }
    }

    #[test]
    fn any_frame_can_be_cut(frame in prop::collection::vec(any::<u8>(), 0..4_000)) {
        for codec in [VideoCodec::Vp8, VideoCodec::H264] {
            prop_assert!(super::packets(codec, &frame, 0).iter().all(|p| p.len() <= MTU && !p.is_empty()));
        }
    }
}
