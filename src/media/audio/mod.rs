//! Codecs and what they need. Inside: mono, 48 kHz, signed 16-bit, in frames of 20 ms.

pub mod amr;
#[cfg(feature = "amr-wb")]
mod amr_wb;
mod codec;
pub mod g711;
mod plc;
mod resample;
pub mod transcode;

pub use codec::{AudioCodec, Decoder, Encoder, EncoderConfig};
pub use resample::{Resampler, resample};

/// Samples a second.
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples in a frame of 20 ms.
pub const FRAME_SAMPLES: usize = 960;

/// 20 ms of audio.
pub type Frame = [i16; FRAME_SAMPLES];

/// What a codec or a resampler refuses.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A sample rate that no audio has.
    #[error("a sample rate of {0} Hz is outside 1,000 to 768,000 Hz; check the file's header")]
    Rate(u32),
    /// The resampler refused, which is an error in this crate.
    #[error("resampling failed: {0}; please report this")]
    Resample(String),
    /// The Opus codec refused its settings or its samples, which is an error in this crate.
    #[error("the Opus codec failed: {0}; please report this")]
    Opus(String),
    /// Another codec did.
    #[error("the {0} codec failed: {1}; please report this")]
    Codec(&'static str, String),
    /// It passes through, and is neither encoded nor decoded.
    #[error("this program was built without the {0} codec; build it with the feature `amr-wb`")]
    Absent(&'static str),
}
