//! Audio files, codecs and measures. Inside: mono, 48 kHz, signed 16-bit, in frames of 20 ms.
//!
//! | for | look in |
//! |---|---|
//! | reading WAV and Ogg Opus, recording WAV | `files`, `ogg_opus` |
//! | any rate to any rate; opus, PCMU, PCMA; concealment of lost frames | [`crate::media::audio`] |
//! | is that really the speech that was sent? | `correlate` |
//! | level in −dBov and voice activity (RFC 6464) | `level` |
//! | a microphone made of samples | `source` |
//! | two short voices for tests and demonstrations | `speech` |

mod correlate;
mod error;
mod files;
mod level;
mod ogg_opus;
mod source;
mod speech;

pub use crate::media::audio::{
    AudioCodec, CodecError, Decoder, Encoder, EncoderConfig, FRAME_SAMPLES, Frame, Resampler, SAMPLE_RATE,
    g711, resample,
};
pub use correlate::{Correlation, MAX_LAG_MS, correlate, correlate_within};
pub use error::AudioError;
pub use files::{WavRecorder, read_audio, read_audio_bytes};
pub use level::{AudioLevel, LevelMeter};
pub use source::{AtEnd, FrameSource};
pub use speech::{CALLEE, CALLER, speech};

/// The longest file that is read: one hour.
pub const MAX_SAMPLES: usize = 3_600 * SAMPLE_RATE as usize;

/// Cuts samples into frames; the last one is filled up with silence.
pub fn frames(samples: &[i16]) -> impl Iterator<Item = Frame> + '_ {
    samples.chunks(FRAME_SAMPLES).map(|chunk| {
        let mut frame = [0; FRAME_SAMPLES];
        frame[..chunk.len()].copy_from_slice(chunk);
        frame
    })
}

#[cfg(test)]
mod stream_tests;
