//! Reading Ogg Opus (RFC 7845), channel mapping family 0, mixed down to mono at 48 kHz.

use std::io::{Read, Seek};

use ogg::{Packet, PacketReader};
use ropus::{Channels, DecodeMode, Decoder};

use super::{AudioError, CodecError, FRAME_SAMPLES, MAX_SAMPLES, SAMPLE_RATE};

/// The granule position of a page on which no packet ends (RFC 3533 section 6).
const NO_GRANULE: u64 = u64::MAX;

/// Decodes all links of a file; packets that cannot be decoded are concealed (RFC 7845 section 3).
pub(super) fn read_ogg_opus(source: impl Read + Seek) -> Result<Vec<i16>, AudioError> {
    let mut reader = PacketReader::new(source);
    let mut samples = Vec::new();
    let mut link: Option<Link> = None;
    loop {
        let packet = match reader.read_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // A file that was cut short ends where its bytes end.
            Err(_) if !samples.is_empty() => break,
            Err(error) => return Err(error.into()),
        };
        if packet.data.starts_with(b"OpusHead") && packet.first_in_stream() {
            link = Some(Link::new(&packet, samples.len())?);
        } else if let Some(link) = link.as_mut().filter(|link| link.serial == packet.stream_serial()) {
            link.packet(&packet, &mut samples)?;
        }
        if samples.len() > MAX_SAMPLES + usize::from(u16::MAX) {
            return Err(AudioError::TooLong);
        }
    }
    if link.is_none() { Err(AudioError::OggOpus("the file has no Opus stream")) } else { Ok(samples) }
}

/// One Opus stream of the file; several may follow each other.
struct Link {
    serial: u32,
    decoder: Decoder,
    /// Samples still to be dropped at the start.
    pre_skip: usize,
    /// Where this link's samples begin.
    begins: usize,
    /// Samples decoded so far, the dropped ones included.
    decoded: u64,
    /// The granule position before the first sample, known at the end of the first audio page.
    origin: Option<u64>,
    tags_seen: bool,
    scratch: Vec<i16>,
}

impl Link {
    /// The identification header, RFC 7845 section 5.1.
    fn new(packet: &Packet, begins: usize) -> Result<Self, AudioError> {
        let head: &[u8; 19] =
            packet.data.first_chunk().ok_or(AudioError::OggOpus("the OpusHead packet is too short"))?;
        if head[8] & 0xf0 != 0 {
            return Err(AudioError::OggOpus("the OpusHead version is not 0 or 1"));
        }
        if head[18] != 0 || !(1..=2).contains(&head[9]) {
            return Err(AudioError::OggOpus("only mono and stereo (channel mapping family 0) are read"));
        }
        // A decoder for one channel mixes stereo down itself.
        let mut decoder = Decoder::new(SAMPLE_RATE, Channels::Mono).map_err(failed)?;
        decoder.set_gain(i16::from_le_bytes([head[16], head[17]]).into()).map_err(failed)?;
        Ok(Self {
            serial: packet.stream_serial(),
            decoder,
            pre_skip: u16::from_le_bytes([head[10], head[11]]).into(),
            begins,
            decoded: 0,
            origin: None,
            tags_seen: false,
            scratch: vec![0; 6 * FRAME_SAMPLES],
        })
    }

    fn packet(&mut self, packet: &Packet, samples: &mut Vec<i16>) -> Result<(), AudioError> {
        if !self.tags_seen {
            self.tags_seen = true;
            let tags = packet.data.starts_with(b"OpusTags");
            return if tags { Ok(()) } else { Err(AudioError::OggOpus("the OpusTags packet is missing")) };
        }
        let len = match self.decoder.decode(&packet.data, &mut self.scratch, DecodeMode::Normal) {
            Ok(len) if !packet.data.is_empty() => len,
            _ => {
                let lost = &mut self.scratch[..FRAME_SAMPLES];
                self.decoder.decode(&[], lost, DecodeMode::Normal).unwrap_or(0)
            }
        };
        self.decoded += len as u64;
        let skip = self.pre_skip.min(len);
        self.pre_skip -= skip;
        samples.extend_from_slice(&self.scratch[skip..len]);
        if packet.last_in_page() && packet.absgp_page() != NO_GRANULE {
            self.page_ends(packet, samples);
        }
        Ok(())
    }

    /// A stream's last page may cut off samples at its end (RFC 7845 section 4.4).
    fn page_ends(&mut self, packet: &Packet, samples: &mut Vec<i16>) {
        let granule = packet.absgp_page();
        let first = if packet.last_in_stream() { 0 } else { granule.saturating_sub(self.decoded) };
        let origin = *self.origin.get_or_insert(first);
        if packet.last_in_stream() {
            let surplus = self.decoded.saturating_sub(granule.saturating_sub(origin));
            let keep = samples.len().saturating_sub(usize::try_from(surplus).unwrap_or(usize::MAX));
            samples.truncate(keep.max(self.begins));
        }
    }
}

fn failed(error: impl std::fmt::Display) -> AudioError {
    CodecError::Opus(error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::super::{
        AudioCodec, AudioError, CALLER, Encoder, EncoderConfig, correlate, frames, read_audio_bytes, speech,
    };
    use ogg::PacketWriteEndInfo::{EndPage, EndStream, NormalPacket};
    use ogg::PacketWriter;
    use proptest::prelude::*;

    fn head(channels: u8, pre_skip: u16, gain: i16, family: u8) -> Vec<u8> {
        let mut head = b"OpusHead\x01".to_vec();
        head.push(channels);
        head.extend(pre_skip.to_le_bytes());
        head.extend(16_000_u32.to_le_bytes());
        head.extend(gain.to_le_bytes());
        head.push(family);
        head
    }

    fn encode(samples: &[i16], head: Vec<u8>, serial: u32, origin: u64, end: u64) -> Vec<u8> {
        let config = EncoderConfig { bitrate: 32_000, fec: false, ..EncoderConfig::default() };
        let mut encoder = Encoder::new(AudioCodec::Opus, config).unwrap();
        let mut out = PacketWriter::new(Vec::new());
        out.write_packet(head, serial, EndPage, 0).unwrap();
        let tags = [&b"OpusTags"[..], &[4, 0, 0, 0], b"ript", &[0; 4]].concat();
        out.write_packet(tags, serial, EndPage, 0).unwrap();
        let last = frames(samples).count() as u64 - 1;
        for (i, frame) in (0..).zip(frames(samples)) {
            let payload = encoder.encode(&frame).unwrap().to_vec();
            let (kind, granule) = match i {
                _ if i == last => (EndStream, origin + end),
                _ if i % 50 == 49 => (EndPage, origin + (i + 1) * 960),
                _ => (NormalPacket, 0),
            };
            out.write_packet(payload, serial, kind, granule).unwrap();
        }
        out.into_inner()
    }

    #[test]
    fn many_pages_with_pre_skip_end_trim_and_a_late_origin_keep_their_place() {
        let input = speech(CALLER);
        for origin in [0, 1_000_000] {
            let file = encode(&input, head(1, 312, 0, 0), 7, origin, 190_000);
            let got = read_audio_bytes(&file).unwrap();
            assert_eq!(got.len(), 190_000 - 312, "origin {origin}");
            let likeness = correlate(&input[..got.len()], &got, 48_000);
            println!("Ogg Opus at 32 kbit/s: {likeness:?}");
            assert!(likeness.holds_speech() && likeness.lag_ms.abs() < 2.0, "{likeness:?}");
        }
    }

    #[test]
    fn output_gain_is_applied() {
        let input = speech(CALLER);
        let peak = |gain| {
            let got = read_audio_bytes(&encode(&input, head(1, 312, gain, 0), 7, 0, 190_000)).unwrap();
            f64::from(got.iter().map(|s| s.unsigned_abs()).max().unwrap())
        };
        let ratio = peak(0) / peak(-6 * 256);
        assert!((ratio - 1.995).abs() < 0.02, "6 dB are a factor of {ratio}");
    }

    #[test]
    fn chained_streams_follow_each_other() {
        let input = &speech(CALLER)[..96_000];
        let mut file = encode(input, head(1, 312, 0, 0), 7, 0, 90_000);
        file.extend(encode(input, head(2, 312, 0, 0), 8, 0, 60_000));
        assert_eq!(read_audio_bytes(&file).unwrap().len(), 90_000 - 312 + 60_000 - 312);
    }

    #[test]
    fn a_file_cut_short_gives_what_it_has() {
        let file = encode(&speech(CALLER), head(1, 312, 0, 0), 7, 0, 190_000);
        let got = read_audio_bytes(&file[..file.len() * 2 / 3]).unwrap().len();
        assert!((90_000..150_000).contains(&got), "{got}");
    }

    #[test]
    fn what_is_not_family_0_is_refused_with_a_reason() {
        let file = |head| encode(&[0; 9_600], head, 7, 0, 9_600);
        for head in [head(6, 0, 0, 1), head(3, 0, 0, 0), head(0, 0, 0, 0), b"OpusHead\x01".to_vec()] {
            assert!(matches!(read_audio_bytes(&file(head)), Err(AudioError::OggOpus(_))));
        }
        let vorbis = file(b"\x01vorbis".to_vec());
        assert!(read_audio_bytes(&vorbis).unwrap_err().to_string().contains("no Opus stream"));
    }

    proptest! {
        #[test]
        fn hostile_packets_in_a_sound_container_never_panic(
            skip in any::<u16>(),
            gain in any::<i16>(),
            packets in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..300), 0_u8..4, any::<u64>()), 0..20),
        ) {
            let mut out = PacketWriter::new(Vec::new());
            out.write_packet(head(2, skip, gain, 0), 1, EndPage, 0).unwrap();
            out.write_packet(&b"OpusTags"[..], 1, EndPage, 0).unwrap();
            for (packet, kind, granule) in packets {
                let kind = [NormalPacket, NormalPacket, EndPage, EndStream][usize::from(kind)];
                out.write_packet(packet, 1, kind, granule).unwrap();
            }
            let _ = read_audio_bytes(&out.into_inner());
        }
    }
}
