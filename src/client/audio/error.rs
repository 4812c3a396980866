//! The one error of audio.

use std::path::PathBuf;

use crate::media::audio::CodecError;

/// What can go wrong with audio, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// A file cannot be opened, read or written.
    #[error("cannot use the audio file {path}: {source}; check the path and its permissions")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither WAV nor Ogg Opus.
    #[error("this is neither WAV nor Ogg Opus; convert it, for instance with `sox in out.wav`")]
    UnknownFormat,
    /// A WAV that cannot be read or written.
    #[error("WAV: {0}; convert it to plain PCM, for instance with `sox in -b 16 out.wav`")]
    Wav(#[from] hound::Error),
    /// An Ogg container that cannot be read.
    #[error("Ogg: {0}; the file is damaged, encode it again with `opusenc in.wav out.opus`")]
    Ogg(#[from] ogg::OggReadError),
    /// An Ogg file whose contents are not Opus as RFC 7845 has it.
    #[error("Ogg Opus: {0}; encode it again with `opusenc in.wav out.opus`")]
    OggOpus(&'static str),
    /// There is no audio inside.
    #[error("the file holds no audio; record it again")]
    Empty,
    /// More than an hour.
    #[error("the file is longer than an hour; cut it, for instance with `sox in out.wav trim 0 3600`")]
    TooLong,
    /// A WAV cannot hold more than 4 GiB.
    #[error("the recording reached the 4 GiB a WAV can hold; finish it and start another")]
    RecordingFull,
    /// A codec or the resampler would not.
    #[error(transparent)]
    Codec(#[from] CodecError),
}
