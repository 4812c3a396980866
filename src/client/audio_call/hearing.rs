//! The hearing half: jitter buffer, decoder, concealment, recorder, speaker.

use std::collections::VecDeque;
use std::time::Duration;

use super::Listen;
use crate::client::audio::{AudioCodec, AudioError, Decoder, FRAME_SAMPLES, SAMPLE_RATE, WavRecorder};
use crate::client::{ClientError, MediaFrame, dtmf};
use crate::media::jitter::{JitterBuffer, Playout};
use crate::protocol::directive::Stream;

pub(super) struct Hearing {
    buffer: JitterBuffer,
    decoder: Decoder,
    digits: dtmf::Collector,
    /// Decoded and not played yet.
    samples: VecDeque<i16>,
    stream: Option<(u8, u8)>,
    began: bool,
    concealed: u64,
    recorder: Option<WavRecorder>,
    listen: Option<Listen>,
}

impl Hearing {
    pub(super) fn new(recorder: Option<WavRecorder>, listen: Option<Listen>) -> Result<Self, ClientError> {
        Ok(Self {
            buffer: JitterBuffer::new(),
            decoder: Decoder::new(AudioCodec::Opus)?,
            digits: dtmf::Collector::default(),
            samples: VecDeque::new(),
            stream: None,
            began: false,
            concealed: 0,
            recorder,
            listen,
        })
    }

    /// Takes a frame in; a digit that is over by it.
    pub(super) fn take(
        &mut self,
        now: Duration,
        frame: MediaFrame,
        stream: Option<&Stream>,
    ) -> Option<(char, u32)> {
        // wire §4: on hold nothing is rendered, whatever still comes.
        let stream = stream?;
        if (frame.source, frame.sink) != (stream.source, stream.sink) {
            return None;
        }
        if frame.payload_type == dtmf::PAYLOAD_TYPE {
            return self.digits.push(now, frame.timestamp_ms, &frame.payload);
        }
        let codec = AudioCodec::from_payload_type(frame.payload_type)?;
        let moved = self.stream.replace((frame.source, frame.sink)) != Some((frame.source, frame.sink));
        if moved || frame.reset || codec != self.decoder.codec() {
            self.buffer.reset();
        }
        if let Err(error) = self.decoder.switch(codec) {
            tracing::debug!(%error, "no decoder");
            return None;
        }
        self.began = true;
        self.buffer.push(frame.at, frame.timestamp_ms, frame.seq, frame.payload, frame.duration_ms);
        None
    }

    /// Plays the next 20 ms; a digit whose end was lost.
    pub(super) fn play(
        &mut self,
        now: Duration,
        stream: Option<&Stream>,
    ) -> Result<Option<(char, u32)>, AudioError> {
        let digit = self.digits.poll(now);
        if stream.is_none() {
            if std::mem::take(&mut self.began) {
                self.buffer.reset();
            }
            self.samples.clear();
            return Ok(digit);
        }
        // A recording begins with the first thing heard, and is true to time from there.
        if !self.began {
            return Ok(digit);
        }
        while self.samples.len() < FRAME_SAMPLES {
            self.next(now);
        }
        let frame: Vec<i16> = self.samples.drain(..FRAME_SAMPLES).collect();
        if let Some(listen) = &mut self.listen {
            listen(&frame);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.write(&frame)?;
        }
        Ok(digit)
    }

    fn next(&mut self, now: Duration) {
        let samples = match self.buffer.pop(now) {
            Playout::Frame { payload, .. } => self.decoder.decode(&payload),
            Playout::Lost { next, duration_ms } => {
                self.concealed += 1;
                let mut samples = self.decoder.conceal(next.as_deref());
                // What is made up is 20 ms long; a lost frame may have been longer.
                let wanted = (SAMPLE_RATE / 1000 * duration_ms.clamp(2, 120)) as usize;
                while samples.len() < wanted {
                    samples.extend(self.decoder.conceal(None));
                }
                samples.truncate(wanted);
                samples
            }
            Playout::Empty => {
                self.concealed += 1;
                self.decoder.conceal(None)
            }
            Playout::Silence => vec![0; FRAME_SAMPLES],
        };
        if samples.is_empty() {
            self.samples.extend([0; FRAME_SAMPLES]);
        }
        self.samples.extend(samples);
    }

    /// The stream that is heard, and how many of its frames came too late.
    pub(super) fn late(&self) -> Option<((u8, u8), u64)> {
        self.stream.map(|stream| (stream, self.buffer.counts().late))
    }

    pub(super) fn playout(&self) -> Duration {
        self.buffer.target()
    }

    pub(super) fn codec(&self) -> Option<AudioCodec> {
        self.began.then(|| self.decoder.codec())
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.buffer.counts().played, self.concealed)
    }

    /// Closes the recording.
    pub(super) fn finish(self) -> Result<(), AudioError> {
        self.recorder.map_or(Ok(()), WavRecorder::finish)
    }
}
