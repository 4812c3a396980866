//! The codecs that are spoken here: opus, PCMU, PCMA, G722 and, with a feature, AMR-WB, in frames of 20 ms.

use audio_codec::Encoder as _;
use audio_codec::g722::{G722Decoder, G722Encoder};
use bytes::Bytes;
use ropus::{Application, Bitrate, Channels, DecodeMode, InbandFec, Signal};
use serde::{Deserialize, Serialize};

use super::amr::{self, Modes};
#[cfg(feature = "amr-wb")]
use super::amr_wb;
use super::g711::Law;
use super::plc::Plc;
use super::transcode::opus_span;
use super::{CodecError, FRAME_SAMPLES, Frame, Resampler, SAMPLE_RATE};

const NARROW: u32 = 8_000;
const WIDE: u32 = 16_000;
/// 20 ms at 8 kHz.
const NARROW_FRAME: usize = 160;
/// The longest packet there is, 120 ms (RFC 6716 section 2.1.4).
const LONGEST: usize = 6 * FRAME_SAMPLES;
/// A frame fits one datagram, chunk head included.
const MAX_PAYLOAD: usize = 1_000;

/// A codec of the payload type registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AudioCodec {
    /// Opus, RFC 6716.
    Opus,
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
    /// AMR-WB, octet-aligned (RFC 4867); passed through where the feature `amr-wb` is off.
    AmrWb,
}

impl AudioCodec {
    /// Those that any client speaks, the preferred one first.
    pub const ALL: [Self; 3] = [Self::Opus, Self::Pcmu, Self::Pcma];

    /// Those that are known.
    pub const KNOWN: [Self; 5] = [Self::Opus, Self::AmrWb, Self::G722, Self::Pcmu, Self::Pcma];

    /// The payload type in a chunk.
    pub fn payload_type(self) -> u64 {
        match self {
            Self::Opus => 1,
            Self::Pcmu => 2,
            Self::Pcma => 3,
            Self::G722 => 4,
            Self::AmrWb => 8,
        }
    }

    /// The codec of a payload type, if it is one of these.
    pub fn from_payload_type(payload_type: u64) -> Option<Self> {
        Self::KNOWN.into_iter().find(|codec| codec.payload_type() == payload_type)
    }

    /// The name in advertisements and directives.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::AmrWb => "AMR-WB",
        }
    }

    /// The codec of a name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::KNOWN.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// Whether this program encodes and decodes it; else it passes through only.
    pub fn is_spoken(self) -> bool {
        self != Self::AmrWb || cfg!(feature = "amr-wb")
    }

    /// The clock of its RTP timestamps; G.722's is a mistake that stays (RFC 3551 §4.5.2).
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => SAMPLE_RATE,
            Self::AmrWb => WIDE,
            Self::Pcmu | Self::Pcma | Self::G722 => NARROW,
        }
    }

    /// How long a payload plays, in units of its clock.
    pub fn span(self, payload: &[u8]) -> u32 {
        match self {
            Self::Opus => opus_span(payload),
            Self::AmrWb => {
                amr::unpack(payload, true).map_or(0, |packet| packet.frames.len() as u32 * amr::SPAN)
            }
            Self::Pcmu | Self::Pcma | Self::G722 => payload.len() as u32,
        }
    }
}

/// How opus is encoded, and AMR-WB as far as it can; G.711 and G.722 have nothing to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Bits a second, 6,000 to 400,000.
    pub bitrate: u32,
    /// Each packet carries a poor copy of the one before, when loss is expected.
    pub fec: bool,
    /// The loss that is expected, in percent.
    pub expected_loss_percent: u8,
    /// Silence becomes payloads that need not be sent.
    pub dtx: bool,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self { bitrate: 24_000, fec: true, expected_loss_percent: 5, dtx: false }
    }
}

/// Turns frames into payloads.
pub struct Encoder {
    codec: AudioCodec,
    config: EncoderConfig,
    state: EncoderState,
}

enum EncoderState {
    Opus(Box<ropus::Encoder>),
    G711(Law, Box<Resampler>),
    G722(Box<G722Encoder>, Box<Resampler>),
    #[cfg(feature = "amr-wb")]
    AmrWb(Box<amr_wb::Encoder>),
}

impl Encoder {
    /// An encoder at the start of a stream.
    pub fn new(codec: AudioCodec, config: EncoderConfig) -> Result<Self, CodecError> {
        let state = match codec {
            AudioCodec::Opus => EncoderState::Opus(Box::new(opus_encoder(config)?)),
            AudioCodec::Pcmu => EncoderState::G711(Law::Mu, Box::new(Resampler::new(SAMPLE_RATE, NARROW)?)),
            AudioCodec::Pcma => EncoderState::G711(Law::A, Box::new(Resampler::new(SAMPLE_RATE, NARROW)?)),
            AudioCodec::G722 => {
                EncoderState::G722(Box::default(), Box::new(Resampler::new(SAMPLE_RATE, WIDE)?))
            }
            #[cfg(feature = "amr-wb")]
            AudioCodec::AmrWb => EncoderState::AmrWb(Box::new(amr_wb::Encoder::new(config.bitrate)?)),
            #[cfg(not(feature = "amr-wb"))]
            AudioCodec::AmrWb => return Err(CodecError::Absent(codec.name())),
        };
        Ok(Self { codec, config, state })
    }

    /// The codec in use.
    pub fn codec(&self) -> AudioCodec {
        self.codec
    }

    /// One frame as one payload.
    pub fn encode(&mut self, frame: &Frame) -> Result<Bytes, CodecError> {
        match &mut self.state {
            EncoderState::Opus(opus) => {
                let mut payload = [0; MAX_PAYLOAD];
                let len = opus.encode(frame, &mut payload).map_err(failed)?;
                Ok(Bytes::copy_from_slice(&payload[..len.min(MAX_PAYLOAD)]))
            }
            EncoderState::G711(law, down) => {
                Ok(down.push(frame)?.into_iter().map(|sample| law.encode(sample)).collect())
            }
            EncoderState::G722(g722, down) => {
                let mut payload = [0; 2 * NARROW_FRAME];
                let len = g722.encode_into(&down.push(frame)?, &mut payload);
                let len = len.map_err(|error| CodecError::Codec("G722", format!("{error:?}")))?;
                Ok(Bytes::copy_from_slice(&payload[..len]))
            }
            #[cfg(feature = "amr-wb")]
            EncoderState::AmrWb(amr) => amr.encode(frame),
        }
    }

    /// Whether a payload is silence that need not be sent (RFC 7587 section 3.1.3); only with DTX.
    pub fn is_silence(&self, payload: &[u8]) -> bool {
        self.codec == AudioCodec::Opus && self.config.dtx && payload.len() <= 2
    }

    /// The modes of AMR-WB that may be sent, and the one that the far side asks for ([`amr::NO_REQUEST`]: none).
    pub fn restrict(&mut self, modes: Modes, request: u8) -> Result<(), CodecError> {
        match &mut self.state {
            #[cfg(feature = "amr-wb")]
            EncoderState::AmrWb(amr) => amr.restrict(modes, request, self.config.bitrate),
            _ => {
                let _ = (modes, request);
                Ok(())
            }
        }
    }

    /// Adapts the redundancy of opus to the loss that is measured.
    pub fn set_expected_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        self.config.expected_loss_percent = percent.min(100);
        match &mut self.state {
            EncoderState::Opus(opus) => opus.set_packet_loss_perc(percent.min(100)).map_err(failed),
            _ => Ok(()),
        }
    }

    /// Changes the bitrate of opus without a seam.
    pub fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError> {
        self.config.bitrate = bitrate;
        match &mut self.state {
            EncoderState::Opus(opus) => opus.set_bitrate(bits(bitrate)?).map_err(failed),
            _ => Ok(()),
        }
    }

    /// Goes on with another codec and the same settings; the same codec changes nothing.
    pub fn switch(&mut self, codec: AudioCodec) -> Result<(), CodecError> {
        if codec != self.codec {
            *self = Self::new(codec, self.config)?;
        }
        Ok(())
    }
}

/// Turns payloads into samples at 48 kHz, and their absence too.
pub struct Decoder {
    codec: AudioCodec,
    state: DecoderState,
    refused: u64,
}

enum DecoderState {
    Opus(Box<ropus::Decoder>),
    G711 {
        law: Law,
        plc: Plc,
        up: Box<Resampler>,
    },
    G722 {
        g722: Box<G722Decoder>,
        plc: Plc,
        up: Box<Resampler>,
    },
    #[cfg(feature = "amr-wb")]
    AmrWb(Box<amr_wb::Decoder>),
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(codec: AudioCodec) -> Result<Self, CodecError> {
        let g711 = |law| -> Result<_, CodecError> {
            let up = Box::new(Resampler::new(NARROW, SAMPLE_RATE)?);
            Ok(DecoderState::G711 { law, plc: Plc::new(), up })
        };
        let state = match codec {
            AudioCodec::Opus => DecoderState::Opus(Box::new(
                ropus::Decoder::new(SAMPLE_RATE, Channels::Mono).map_err(failed)?,
            )),
            AudioCodec::Pcmu => g711(Law::Mu)?,
            AudioCodec::Pcma => g711(Law::A)?,
            AudioCodec::G722 => {
                let up = Box::new(Resampler::new(WIDE, SAMPLE_RATE)?);
                DecoderState::G722 { g722: Box::default(), plc: Plc::wide(), up }
            }
            #[cfg(feature = "amr-wb")]
            AudioCodec::AmrWb => DecoderState::AmrWb(Box::new(amr_wb::Decoder::new()?)),
            #[cfg(not(feature = "amr-wb"))]
            AudioCodec::AmrWb => return Err(CodecError::Absent(codec.name())),
        };
        Ok(Self { codec, state, refused: 0 })
    }

    /// The codec in use.
    pub fn codec(&self) -> AudioCodec {
        self.codec
    }

    /// The samples of a payload, as many as it holds; garbage is concealed like a lost frame and counted.
    pub fn decode(&mut self, payload: &[u8]) -> Vec<i16> {
        let samples = match &mut self.state {
            DecoderState::Opus(opus) => decode_opus(opus, payload, DecodeMode::Normal, LONGEST),
            DecoderState::G711 { law, plc, up } if (1..=LONGEST / 6).contains(&payload.len()) => {
                let mut narrow: Vec<i16> = payload.iter().map(|&byte| law.decode(byte)).collect();
                plc.real(&mut narrow);
                up.push(&narrow).ok()
            }
            DecoderState::G722 { g722, plc, up } if (1..=LONGEST / 6).contains(&payload.len()) => {
                let mut wide = g722.decode_frame(payload);
                plc.real(&mut wide);
                up.push(&wide).ok()
            }
            DecoderState::G711 { .. } | DecoderState::G722 { .. } => None,
            #[cfg(feature = "amr-wb")]
            DecoderState::AmrWb(amr) => amr.decode(payload),
        };
        samples.unwrap_or_else(|| {
            self.refused += 1;
            self.conceal(None)
        })
    }

    /// 20 ms in place of a lost frame: from the redundancy in the next payload if that is here and has it,
    /// otherwise made up from the past.
    pub fn conceal(&mut self, next: Option<&[u8]>) -> Vec<i16> {
        let samples = match &mut self.state {
            DecoderState::Opus(opus) => next
                .and_then(|next| decode_opus(opus, next, DecodeMode::Fec, FRAME_SAMPLES))
                .or_else(|| conceal_opus(opus)),
            DecoderState::G711 { plc, up, .. } => up.push(&plc.lost(NARROW_FRAME)).ok(),
            DecoderState::G722 { plc, up, .. } => up.push(&plc.lost(2 * NARROW_FRAME)).ok(),
            #[cfg(feature = "amr-wb")]
            DecoderState::AmrWb(amr) => amr.conceal(),
        };
        samples.unwrap_or_else(|| vec![0; FRAME_SAMPLES])
    }

    /// How many payloads were garbage.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Goes on with another codec; the same codec changes nothing.
    pub fn switch(&mut self, codec: AudioCodec) -> Result<(), CodecError> {
        if codec != self.codec {
            *self = Self { refused: self.refused, ..Self::new(codec)? };
        }
        Ok(())
    }
}

fn opus_encoder(config: EncoderConfig) -> Result<ropus::Encoder, CodecError> {
    ropus::Encoder::builder(SAMPLE_RATE, Channels::Mono, Application::Voip)
        .bitrate(bits(config.bitrate)?)
        .signal(Signal::Voice)
        .packet_loss_perc(config.expected_loss_percent.min(100))
        .inband_fec(if config.fec { InbandFec::Enabled } else { InbandFec::Disabled })
        .dtx(config.dtx)
        .build()
        .map_err(failed)
}

fn bits(bitrate: u32) -> Result<Bitrate, CodecError> {
    Bitrate::try_bits(bitrate.clamp(6_000, 400_000)).map_err(failed)
}

/// None when the payload is garbage or empty.
fn decode_opus(opus: &mut ropus::Decoder, payload: &[u8], mode: DecodeMode, room: usize) -> Option<Vec<i16>> {
    if payload.is_empty() {
        return None;
    }
    let mut samples = vec![0; room];
    let len = opus.decode(payload, &mut samples, mode).ok()?;
    samples.truncate(len);
    Some(samples)
}

fn conceal_opus(opus: &mut ropus::Decoder) -> Option<Vec<i16>> {
    let mut samples = vec![0; FRAME_SAMPLES];
    let len = opus.decode(&[], &mut samples, DecodeMode::Normal).ok()?;
    samples.truncate(len);
    Some(samples)
}

fn failed(error: impl std::fmt::Display) -> CodecError {
    CodecError::Opus(error.to_string())
}
