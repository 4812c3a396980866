//! A microphone made of samples.

use std::sync::Arc;

use super::{FRAME_SAMPLES, Frame};

/// What comes after the last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// The first sample, without a gap.
    Loop,
    /// Silence for ever.
    Silence,
}

/// Plays samples frame by frame; cheap to clone.
#[derive(Debug, Clone)]
pub struct FrameSource {
    samples: Arc<[i16]>,
    at: usize,
    at_end: AtEnd,
}

impl FrameSource {
    /// Plays these samples from the first one.
    pub fn new(samples: impl Into<Arc<[i16]>>, at_end: AtEnd) -> Self {
        Self { samples: samples.into(), at: 0, at_end }
    }

    /// Nothing but silence.
    pub fn silence() -> Self {
        Self::new(Vec::new(), AtEnd::Silence)
    }

    /// The next 20 ms.
    pub fn next_frame(&mut self) -> Frame {
        let mut frame = [0; FRAME_SAMPLES];
        let mut filled = 0;
        while filled < FRAME_SAMPLES && !self.samples.is_empty() {
            if self.at == self.samples.len() {
                match self.at_end {
                    AtEnd::Loop => self.at = 0,
                    AtEnd::Silence => break,
                }
            }
            let take = (FRAME_SAMPLES - filled).min(self.samples.len() - self.at);
            frame[filled..filled + take].copy_from_slice(&self.samples[self.at..self.at + take]);
            filled += take;
            self.at += take;
        }
        frame
    }

    /// Whether only silence is left.
    pub fn is_finished(&self) -> bool {
        self.samples.is_empty() || (self.at_end == AtEnd::Silence && self.at == self.samples.len())
    }

    /// Starts again from the first sample.
    pub fn rewind(&mut self) {
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(len: usize) -> Vec<i16> {
        (0..len).map(|i| i as i16 + 1).collect()
    }

    #[test]
    fn silence_follows_the_last_sample() {
        let mut source = FrameSource::new(ramp(1_000), AtEnd::Silence);
        assert_eq!(source.next_frame()[..3], [1, 2, 3]);
        assert!(!source.is_finished());
        let second = source.next_frame();
        assert_eq!(second[38..42], [999, 1_000, 0, 0]);
        assert!(source.is_finished());
        assert_eq!(source.next_frame(), [0; FRAME_SAMPLES]);
        source.rewind();
        assert_eq!(source.next_frame()[0], 1);
    }

    #[test]
    fn a_loop_has_no_seam_even_when_shorter_than_a_frame() {
        let mut source = FrameSource::new(ramp(7), AtEnd::Loop);
        let heard: Vec<i16> = (0..3).flat_map(|_| source.next_frame()).collect();
        assert!(heard.iter().enumerate().all(|(i, &s)| s == (i % 7) as i16 + 1));
        assert!(!source.is_finished());
    }

    #[test]
    fn nothing_looped_is_silence() {
        let mut source = FrameSource::new(Vec::new(), AtEnd::Loop);
        assert_eq!(source.next_frame(), [0; FRAME_SAMPLES]);
        assert!(source.is_finished() && FrameSource::silence().is_finished());
    }
}
