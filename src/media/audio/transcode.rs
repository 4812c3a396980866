//! One codec's payloads as another's, in frames of 20 ms.

use bytes::Bytes;

use super::amr::Modes;
use super::{AudioCodec, CodecError, Decoder, Encoder, EncoderConfig, FRAME_SAMPLES, Frame};

/// Lost frames that are made up; after that it is silence, which nobody has to hear.
const MAX_CONCEALED: u64 = 5;

/// Decodes and encodes one direction of a session.
pub struct Transcoder {
    decoder: Decoder,
    encoder: Encoder,
    samples: Vec<i16>,
    newest: Option<u64>,
}

impl std::fmt::Debug for Transcoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transcoder({:?} to {:?})", self.decoder.codec(), self.encoder.codec())
    }
}

impl Transcoder {
    /// At the start of a stream.
    pub fn new(from: AudioCodec, to: AudioCodec) -> Result<Self, CodecError> {
        let encoder = Encoder::new(to, EncoderConfig::default())?;
        Ok(Self { decoder: Decoder::new(from)?, encoder, samples: Vec::new(), newest: None })
    }

    /// Goes on with other codecs; the same change nothing.
    pub fn switch(&mut self, from: AudioCodec, to: AudioCodec) -> Result<(), CodecError> {
        self.decoder.switch(from)?;
        self.encoder.switch(to)
    }

    /// What the far side allows and asks for; see [`Encoder::restrict`].
    pub fn restrict(&mut self, modes: Modes, request: u8) -> Result<(), CodecError> {
        self.encoder.restrict(modes, request)
    }

    /// What comes begins anew.
    pub fn rest(&mut self) {
        self.newest = None;
        self.samples.clear();
    }

    /// The frames that a payload completes. What comes after a later one is too late.
    pub fn push(&mut self, seq: u64, payload: &[u8]) -> Result<Vec<Bytes>, CodecError> {
        if let Some(newest) = self.newest {
            if seq <= newest {
                return Ok(Vec::new());
            }
            let lost = seq - newest - 1;
            for n in 0..lost.min(MAX_CONCEALED) {
                let last = n + 1 == lost;
                let made = self.decoder.conceal(last.then_some(payload));
                self.samples.extend(made);
            }
        }
        self.newest = Some(seq);
        let decoded = self.decoder.decode(payload);
        self.samples.extend(decoded);
        let mut out = Vec::new();
        while self.samples.len() >= FRAME_SAMPLES {
            let mut frame: Frame = [0; FRAME_SAMPLES];
            frame.copy_from_slice(&self.samples[..FRAME_SAMPLES]);
            self.samples.drain(..FRAME_SAMPLES);
            out.push(self.encoder.encode(&frame)?);
        }
        Ok(out)
    }
}

/// How long an opus packet plays, in samples at 48 kHz (RFC 6716 §3.1).
pub fn opus_span(payload: &[u8]) -> u32 {
    let Some(toc) = payload.first() else { return 0 };
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        12..=15 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(payload.get(1).map_or(0, |b| b & 0x3f)),
    };
    // RFC 6716 §3.2.5: at most 120 ms.
    (frame * frames).min(5_760)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_20_ms_become_20_ms_and_gaps_are_filled() {
        for (from, to) in [(AudioCodec::Opus, AudioCodec::Pcmu), (AudioCodec::Pcma, AudioCodec::Opus)] {
            let mut encoder = Encoder::new(from, EncoderConfig::default()).unwrap();
            let mut transcoder = Transcoder::new(from, to).unwrap();
            let mut out = 0;
            for n in 0..50u64 {
                let tone: Vec<i16> = (0..FRAME_SAMPLES).map(|i| ((i * 400 % 9_600) as i16) - 4_800).collect();
                let payload = encoder.encode(&tone.try_into().unwrap()).unwrap();
                if from == AudioCodec::Opus {
                    assert_eq!(opus_span(&payload), 960);
                }
                if n != 20 && n != 21 {
                    out += transcoder.push(n, &payload).unwrap().len();
                    assert!(transcoder.push(n.saturating_sub(1), &payload).unwrap().is_empty());
                }
            }
            assert!((49..=50).contains(&out), "{from:?} {to:?} {out}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_plays_no_longer_than_it_may(payload in proptest::collection::vec(0u8.., 0..20)) {
            proptest::prop_assert!(opus_span(&payload) <= 5_760);
            let mut transcoder = Transcoder::new(AudioCodec::Opus, AudioCodec::Pcmu).unwrap();
            proptest::prop_assert!(transcoder.push(1, &payload).unwrap().len() <= 6);
        }
    }
}
