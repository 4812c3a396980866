//! Two short voices, made by `make.sh` with espeak-ng: what tests and demonstrations say.

use super::read_audio_bytes;

/// A woman: "Hello, this is the caller. The line is clear and I can hear you well."
pub const CALLER: &[u8] = include_bytes!("caller.wav");

/// A man: "Good morning, you have reached the callee. What can I do for you?"
pub const CALLEE: &[u8] = include_bytes!("callee.wav");

/// The samples of [`CALLER`] or [`CALLEE`] at 48 kHz; nothing when the bytes are not audio.
pub fn speech(file: &[u8]) -> Vec<i16> {
    read_audio_bytes(file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_voices_last_about_four_seconds_and_leave_headroom() {
        for file in [CALLER, CALLEE] {
            let samples = speech(file);
            let peak = samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!(file.len() < 160_000);
            assert!((170_000..220_000).contains(&samples.len()), "{}", samples.len());
            assert!((14_000..19_000).contains(&peak), "peak {peak}");
        }
        assert!(speech(b"not audio").is_empty());
    }
}
