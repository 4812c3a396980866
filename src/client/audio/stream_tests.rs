//! Speech through codecs, loss and time adjustments, and whether it is still recognised.

use proptest::prelude::*;

use super::*;

/// A small generator, so that a failure repeats.
fn noise(seed: &mut u32) -> u32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *seed >> 8
}

/// Sends speech through a codec; each frame is lost with the given chance, in percent.
fn through(codec: AudioCodec, samples: &[i16], loss_percent: u32, use_fec: bool) -> Vec<i16> {
    let config = EncoderConfig { expected_loss_percent: loss_percent as u8, ..EncoderConfig::default() };
    let mut encoder = Encoder::new(codec, config).unwrap();
    let payloads: Vec<_> = frames(samples).map(|frame| encoder.encode(&frame).unwrap()).collect();
    let mut decoder = Decoder::new(codec).unwrap();
    let mut seed = 42;
    let lost: Vec<bool> = payloads.iter().map(|_| noise(&mut seed) % 100 < loss_percent).collect();
    let mut heard = Vec::new();
    for (i, payload) in payloads.iter().enumerate() {
        if lost[i] {
            let next = payloads.get(i + 1).filter(|_| use_fec && !lost[i + 1]);
            heard.extend(decoder.conceal(next.map(|next| next.as_ref())));
        } else {
            heard.extend(decoder.decode(payload));
        }
    }
    heard
}

fn judge(name: &str, reference: &[i16], recording: &[i16]) -> Correlation {
    let found = correlate(reference, recording, SAMPLE_RATE);
    println!("{name:44} {:.3} coverage {:.2} lag {:7.2} ms", found.score, found.coverage, found.lag_ms);
    found
}

fn later(samples: &[i16], ms: usize) -> Vec<i16> {
    [&vec![0; ms * 48], samples].concat()
}

#[test]
fn speech_is_recognised_through_every_codec_with_and_without_loss() {
    for file in [CALLER, CALLEE] {
        let input = speech(file);
        for codec in AudioCodec::ALL {
            for loss in [0, 5, 10] {
                let name = format!("{} with {loss} % loss", codec.name());
                let found = judge(&name, &input, &through(codec, &input, loss, true));
                assert!(found.holds_speech(), "{name}: {found:?}");
                assert!(found.score > 0.75, "{name}: {found:?}");
                assert!((0.0..20.0).contains(&found.lag_ms), "{name}: {found:?}");
            }
        }
    }
}

#[test]
fn speech_is_recognised_after_time_adjustments_level_changes_and_drift() {
    for file in [CALLER, CALLEE] {
        let input = speech(file);
        let opus = through(AudioCodec::Opus, &input, 5, true);
        let inserted = [&opus[..96_000], &vec![0; 1_920], &opus[96_000..]].concat();
        let dropped: Vec<i16> = opus
            .chunks(960)
            .enumerate()
            .filter(|(i, _)| i % 40 != 20)
            .flat_map(|(_, f)| f.to_vec())
            .collect();
        let drifted = resample(&opus, 48_000, 47_995).unwrap();
        let quiet: Vec<i16> = opus.iter().map(|s| s / 20).collect();
        let mut seed = 7;
        let noisy: Vec<i16> =
            opus.iter().map(|s| s.saturating_add((noise(&mut seed) % 600) as i16 - 300)).collect();
        let tandem = through(AudioCodec::Pcmu, &opus, 5, true);
        for (name, recording, lag) in [
            ("40 ms inserted in the middle", inserted, 10.0..60.0),
            ("five frames dropped", dropped, -110.0..10.0),
            ("100 ppm of drift", drifted, 0.0..20.0),
            ("26 dB quieter", quiet, 0.0..20.0),
            ("noise added", noisy, 0.0..20.0),
            ("tandem of opus and PCMU, 5 % loss each", tandem, 0.0..30.0),
            ("700 ms later", later(&opus, 700), 690.0..720.0),
            ("300 ms missing at the start", opus[14_400..].to_vec(), -310.0..-280.0),
        ] {
            let found = judge(name, &input, &recording);
            assert!(found.holds_speech(), "{name}: {found:?}");
            assert!(lag.contains(&found.lag_ms), "{name}: {found:?}");
        }
    }
}

#[test]
fn anything_else_is_not_taken_for_the_speech() {
    for (file, other) in [(CALLER, CALLEE), (CALLEE, CALLER)] {
        let (input, other) = (speech(file), speech(other));
        let mut seed = 1;
        let hiss: Vec<i16> = input.iter().map(|_| (noise(&mut seed) % 16_000) as i16 - 8_000).collect();
        let hum: Vec<i16> = (0..input.len()).map(|i| ((i as f64 / 48.0).sin() * 8_000.0) as i16).collect();
        let backwards: Vec<i16> = input.iter().rev().copied().collect();
        let shuffled: Vec<i16> = {
            let parts: Vec<&[i16]> = input.chunks(14_400).collect();
            parts.iter().rev().flat_map(|part| part.to_vec()).collect()
        };
        let slow = resample(&input, 48_000, 50_000).unwrap();
        let one_second = [&input[..48_000], &vec![0; input.len() - 48_000]].concat();
        for (name, recording) in [
            ("silence", vec![0; input.len()]),
            ("nothing", Vec::new()),
            ("almost silence", hiss.iter().map(|s| s / 4_000).collect()),
            ("noise", hiss),
            ("a tone", hum),
            ("another speech", other.clone()),
            ("another speech through opus", through(AudioCodec::Opus, &other, 0, true)),
            ("another speech, twice as long", [other.clone(), other.clone()].concat()),
            ("itself, backwards", backwards),
            ("itself, 2 s late", later(&input, 2_000)),
            ("itself, parts in another order", shuffled),
            ("itself, 4 % slower", slow),
            ("only its first second", one_second),
        ] {
            let found = judge(name, &input, &recording);
            assert!(!found.holds_speech(), "{name}: {found:?}");
            assert!(found.score < 0.35, "{name}: {found:?}");
        }
        assert!(!correlate(&[], &input, 48_000).holds_speech());
        assert!(!correlate(&vec![0; 48_000], &vec![0; 48_000], 48_000).holds_speech());
        assert!(!correlate(&input, &input, 0).holds_speech());
    }
}

#[test]
fn speech_is_like_itself() {
    let input = [speech(CALLER), speech(CALLEE)[..40_000].to_vec()].concat();
    assert!(correlate(&input, &input, SAMPLE_RATE).score > 0.99);
}

#[test]
fn redundancy_in_the_next_packet_beats_guessing() {
    let input = speech(CALLER);
    let config = EncoderConfig { expected_loss_percent: 20, ..EncoderConfig::default() };
    let mut encoder = Encoder::new(AudioCodec::Opus, config).unwrap();
    let payloads: Vec<_> = frames(&input).map(|frame| encoder.encode(&frame).unwrap()).collect();
    let error = |mode: usize| -> f64 {
        let mut clean = Decoder::new(AudioCodec::Opus).unwrap();
        let mut lossy = Decoder::new(AudioCodec::Opus).unwrap();
        let mut sum = 0.0;
        for (i, payload) in payloads.iter().enumerate() {
            let want = clean.decode(payload);
            let got = match (i % 5 == 2, payloads.get(i + 1)) {
                (true, Some(next)) if mode == 1 => lossy.conceal(Some(next)),
                (true, _) => lossy.conceal(None),
                _ => lossy.decode(payload),
            };
            assert_eq!(got.len(), FRAME_SAMPLES);
            sum += want
                .iter()
                .zip(&got)
                .map(|(a, b)| f64::from(i32::from(*a) - i32::from(*b)).powi(2))
                .sum::<f64>();
        }
        sum
    };
    let (guessed, recovered) = (error(0), error(1));
    println!("noise with FEC is {:.1} dB below that of PLC", 10.0 * (guessed / recovered).log10());
    assert!(recovered < guessed / 2.0, "{recovered} against {guessed}");
}

#[test]
fn the_codec_may_change_at_any_frame() {
    let input = speech(CALLER);
    let mut encoder = Encoder::new(AudioCodec::Opus, EncoderConfig::default()).unwrap();
    let mut decoder = Decoder::new(AudioCodec::Opus).unwrap();
    let mut heard = Vec::new();
    for (i, frame) in frames(&input).enumerate() {
        let codec = AudioCodec::ALL[i / 60 % 3];
        encoder.switch(codec).unwrap();
        decoder.switch(AudioCodec::from_payload_type(encoder.codec().payload_type()).unwrap()).unwrap();
        heard.extend(decoder.decode(&encoder.encode(&frame).unwrap()));
    }
    assert!(judge("opus, PCMU, PCMA in turn", &input, &heard).holds_speech());
}

#[test]
fn g711_frames_have_160_bytes_and_opus_keeps_to_its_bitrate() {
    let input = speech(CALLER);
    for codec in [AudioCodec::Pcmu, AudioCodec::Pcma] {
        let mut encoder = Encoder::new(codec, EncoderConfig::default()).unwrap();
        assert!(frames(&input).all(|frame| encoder.encode(&frame).unwrap().len() == 160));
    }
    for bitrate in [12_000, 24_000, 64_000] {
        let config = EncoderConfig { bitrate, ..EncoderConfig::default() };
        let mut encoder = Encoder::new(AudioCodec::Opus, config).unwrap();
        let bytes: usize = frames(&input).map(|frame| encoder.encode(&frame).unwrap().len()).sum();
        let actual = bytes as f64 * 8.0 / (input.len() as f64 / 48_000.0);
        println!("opus at {bitrate} bit/s: {actual:.0} bit/s");
        assert!((0.5..1.2).contains(&(actual / f64::from(bitrate))), "{bitrate}: {actual}");
    }
}

#[test]
fn dtx_tells_which_payloads_need_not_be_sent() {
    let config = EncoderConfig { dtx: true, ..EncoderConfig::default() };
    let mut encoder = Encoder::new(AudioCodec::Opus, config).unwrap();
    let mut skipped = 0;
    for _ in 0..100 {
        let payload = encoder.encode(&[0; FRAME_SAMPLES]).unwrap();
        skipped += u32::from(encoder.is_silence(&payload));
    }
    println!("{skipped} of 100 silent frames need not be sent");
    assert!(skipped > 50);
    encoder.set_expected_loss(250).unwrap();
    encoder.set_bitrate(1).unwrap();
    assert!(!encoder.encode(&[0; FRAME_SAMPLES]).unwrap().is_empty());
}

#[test]
fn codecs_are_known_by_payload_type_and_name() {
    for codec in AudioCodec::ALL {
        assert_eq!(AudioCodec::from_payload_type(codec.payload_type()), Some(codec));
        assert_eq!(AudioCodec::from_name(&codec.name().to_lowercase()), Some(codec));
    }
    assert_eq!(AudioCodec::from_payload_type(16), None);
}

#[test]
fn garbage_is_concealed_and_counted() {
    for codec in AudioCodec::ALL {
        let mut decoder = Decoder::new(codec).unwrap();
        assert_eq!(decoder.decode(&[]).len(), FRAME_SAMPLES, "{codec:?}");
        assert_eq!(decoder.decode(&[0xff; 2_000]).len(), FRAME_SAMPLES, "{codec:?}");
        assert_eq!(decoder.refused(), 2, "{codec:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn hostile_payloads_never_panic(
        packets in proptest::collection::vec(
            (0_usize..3, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..1_300)), 1..8),
    ) {
        let mut decoder = Decoder::new(AudioCodec::Opus).unwrap();
        for (codec, lost, packet) in packets {
            decoder.switch(AudioCodec::ALL[codec]).unwrap();
            let samples = if lost { decoder.conceal(Some(&packet)) } else { decoder.decode(&packet) };
            prop_assert!(samples.len() <= 6 * FRAME_SAMPLES);
        }
    }

    #[test]
    fn broken_packets_of_a_real_stream_never_panic(
        flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..20), cut in 0_usize..60,
    ) {
        let mut encoder = Encoder::new(AudioCodec::Opus, EncoderConfig::default()).unwrap();
        let mut decoder = Decoder::new(AudioCodec::Opus).unwrap();
        let input = speech(CALLER);
        for frame in frames(&input[40_000..60_000]) {
            let mut payload = encoder.encode(&frame).unwrap().to_vec();
            for &(at, byte) in &flips {
                let at = usize::from(at) % payload.len();
                payload[at] ^= byte;
            }
            payload.truncate(payload.len().saturating_sub(cut));
            decoder.decode(&payload);
            decoder.conceal(Some(&payload));
        }
    }
}
