//! The speaking half: source, level, encoder.

use super::AudioSource;
use crate::client::audio::{AudioCodec, Encoder, EncoderConfig, FRAME_SAMPLES, LevelMeter};
use crate::client::{ClientError, MediaPort, OutFrame};
use crate::protocol::directive::Stream;

pub(super) struct Speaking {
    source: AudioSource,
    encoder: Encoder,
    meter: LevelMeter,
    active: Option<AudioCodec>,
    spoken: u64,
    unsent: u64,
}

impl Speaking {
    pub(super) fn new(source: AudioSource, config: EncoderConfig) -> Result<Self, ClientError> {
        let encoder = Encoder::new(AudioCodec::Opus, config)?;
        Ok(Self { source, encoder, meter: LevelMeter::new(), active: None, spoken: 0, unsent: 0 })
    }

    /// The next 20 ms, if the directives want any.
    pub(super) fn speak(&mut self, port: &MediaPort, stream: Option<&Stream>, timestamp_ms: u64) {
        let wanted = stream.and_then(|stream| {
            let codec = stream.codec()?;
            Some((stream, codec, AudioCodec::from_name(codec.name().as_str())?))
        });
        self.active = wanted.map(|(_, _, codec)| codec);
        let frame = match &mut self.source {
            AudioSource::Silence => [0; FRAME_SAMPLES],
            // A file waits while nothing is sent; a microphone doesn't.
            AudioSource::Frames(frames) if wanted.is_some() => frames.next_frame(),
            AudioSource::Frames(_) => return,
            AudioSource::Live(next) => next(),
        };
        let Some((stream, spec, codec)) = wanted else { return };
        // The digit takes the place of the audio.
        if port.shared().is_dialling() || self.encoder.switch(codec).is_err() {
            return;
        }
        let level = self.meter.measure(&frame);
        let payload = match self.encoder.encode(&frame) {
            Ok(payload) if self.encoder.is_silence(&payload) => return,
            Ok(payload) => payload,
            Err(error) => {
                tracing::debug!(%error, "a frame was not encoded");
                return;
            }
        };
        let other_ptime = spec.params().get("ptime").is_some_and(|ptime| ptime != 20);
        let sent = port.send(&OutFrame {
            source: stream.source,
            sink: stream.sink,
            payload_type: codec.payload_type(),
            payload,
            timestamp_ms,
            duration_ms: other_ptime.then_some(20),
            level: Some(level.to_byte()),
        });
        self.spoken += 1;
        self.unsent += u64::from(!sent);
    }

    /// More redundancy where more is lost.
    pub(super) fn adapt(&mut self, loss: f64) {
        let percent = (loss * 100.0).ceil().clamp(5.0, 30.0) as u8;
        if let Err(error) = self.encoder.set_expected_loss(percent) {
            tracing::debug!(%error, "the encoder doesn't adapt");
        }
    }

    pub(super) fn codec(&self) -> Option<AudioCodec> {
        self.active
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.spoken, self.unsent)
    }
}
