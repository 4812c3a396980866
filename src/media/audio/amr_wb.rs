//! AMR-WB (ITU-T G.722.2), encoded and decoded; payloads are octet-aligned (RFC 4867 §4.4).

use bytes::Bytes;
use codec_core::codecs::amr::AmrCodec;
use codec_core::{CodecConfig, CodedFrame, FrameKind, VariableRateCodec};

use super::amr::{self, Frame, Modes, NO_DATA, NO_REQUEST, SID};
use super::{CodecError, Resampler, SAMPLE_RATE};

/// Its sample rate.
const WIDE: u32 = 16_000;
/// Bits a second of its modes.
const RATES: [u32; 9] = [6_600, 8_850, 12_650, 14_250, 15_850, 18_250, 19_850, 23_050, 23_850];

fn failed(error: impl std::fmt::Display) -> CodecError {
    CodecError::Codec("AMR-WB", error.to_string())
}

fn codec() -> Result<AmrCodec, CodecError> {
    AmrCodec::new(&CodecConfig::amr_wb()).map_err(failed)
}

pub(super) struct Encoder {
    codec: AmrCodec,
    down: Resampler,
}

impl Encoder {
    pub(super) fn new(bitrate: u32) -> Result<Self, CodecError> {
        let mut new = Self { codec: codec()?, down: Resampler::new(SAMPLE_RATE, WIDE)? };
        new.restrict(Modes::ALL, NO_REQUEST, bitrate)?;
        Ok(new)
    }

    /// In the mode that the far side allows and asks for, with no more bits than that.
    pub(super) fn restrict(&mut self, modes: Modes, request: u8, bitrate: u32) -> Result<(), CodecError> {
        let within = RATES.iter().rposition(|rate| *rate <= bitrate).unwrap_or(0) as u8;
        self.codec.set_mode(modes.nearest(within.min(request))).map_err(failed)
    }

    pub(super) fn encode(&mut self, frame: &[i16]) -> Result<Bytes, CodecError> {
        let coded = self.codec.encode_frame(&self.down.push(frame)?).map_err(failed)?;
        let kind = match coded.kind {
            FrameKind::Speech => coded.mode,
            FrameKind::ComfortNoise => SID,
            _ => NO_DATA,
        };
        let frame = Frame { kind, good: coded.quality_ok, data: coded.data.into() };
        Ok(amr::pack(NO_REQUEST, &[frame], true))
    }
}

pub(super) struct Decoder {
    codec: AmrCodec,
    up: Resampler,
    /// The mode of the last speech, by which losses are made up.
    mode: u8,
}

impl Decoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        Ok(Self { codec: codec()?, up: Resampler::new(WIDE, SAMPLE_RATE)?, mode: 2 })
    }

    pub(super) fn decode(&mut self, payload: &[u8]) -> Option<Vec<i16>> {
        let packet = amr::unpack(payload, true)?;
        let mut samples = Vec::new();
        for frame in packet.frames {
            let mut coded = match frame.kind {
                0..=8 => {
                    self.mode = frame.kind;
                    CodedFrame::speech(frame.kind, frame.data.to_vec())
                }
                SID => CodedFrame::comfort_noise(frame.data.to_vec()),
                NO_DATA => CodedFrame::no_data(),
                _ => CodedFrame::lost(),
            };
            if frame.kind > 8 {
                coded.mode = self.mode;
            }
            coded.quality_ok = frame.good;
            samples.extend(self.codec.decode_frame(&coded).ok()?);
        }
        self.up.push(&samples).ok()
    }

    pub(super) fn conceal(&mut self) -> Option<Vec<i16>> {
        let lost = CodedFrame { mode: self.mode, ..CodedFrame::lost() };
        self.up.push(&self.codec.decode_frame(&lost).ok()?).ok()
    }
}
