//! Audio files: reading WAV and Ogg Opus, recording WAV.

use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use super::ogg_opus::read_ogg_opus;
use super::{AudioError, MAX_SAMPLES, SAMPLE_RATE, resample};

const MAX_SECONDS: u64 = MAX_SAMPLES as u64 / SAMPLE_RATE as u64;

/// Reads a WAV or Ogg Opus file, told apart by content, as mono at 48 kHz.
pub fn read_audio(path: impl AsRef<Path>) -> Result<Vec<i16>, AudioError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| AudioError::File { path: path.to_owned(), source })?;
    read_from(BufReader::new(file)).map_err(|error| name(error, path))
}

/// Reads the bytes of a WAV or Ogg Opus file.
pub fn read_audio_bytes(bytes: &[u8]) -> Result<Vec<i16>, AudioError> {
    read_from(Cursor::new(bytes))
}

fn read_from(mut source: impl Read + Seek) -> Result<Vec<i16>, AudioError> {
    let mut magic = [0; 4];
    source.read_exact(&mut magic).map_err(|_| AudioError::UnknownFormat)?;
    source.seek(SeekFrom::Start(0)).map_err(hound::Error::IoError)?;
    let samples = match &magic {
        b"RIFF" => read_wav(source)?,
        b"OggS" => read_ogg_opus(source)?,
        _ => return Err(AudioError::UnknownFormat),
    };
    if samples.is_empty() { Err(AudioError::Empty) } else { Ok(samples) }
}

fn read_wav(source: impl Read) -> Result<Vec<i16>, AudioError> {
    let mut wav = WavReader::new(source)?;
    let spec = wav.spec();
    let mono = match (spec.sample_format, spec.bits_per_sample) {
        (SampleFormat::Float, 32) => mix_down(wav.samples::<f32>().map(|s| s.map(|s| s * 32_768.0)), spec)?,
        (SampleFormat::Int, bits @ 1..=32) => {
            let scale = 32_768.0 / (1_u64 << (bits - 1)) as f32;
            mix_down(wav.samples::<i32>().map(|s| s.map(|s| s as f32 * scale)), spec)?
        }
        _ => return Err(hound::Error::Unsupported.into()),
    };
    Ok(resample(&mono, spec.sample_rate, SAMPLE_RATE)?)
}

/// The mean of all channels. A file that was cut short ends where its bytes end.
fn mix_down(
    samples: impl Iterator<Item = hound::Result<f32>>,
    spec: WavSpec,
) -> Result<Vec<i16>, AudioError> {
    let most = u64::from(spec.sample_rate) * MAX_SECONDS;
    let mut mono = Vec::new();
    let (mut sum, mut channel) = (0.0, 0);
    for sample in samples {
        let sample = match sample {
            Ok(sample) => sample,
            Err(hound::Error::IoError(_)) => break,
            Err(error) => return Err(error.into()),
        };
        sum += sample;
        channel += 1;
        if channel == spec.channels {
            if mono.len() as u64 == most {
                return Err(AudioError::TooLong);
            }
            mono.push((sum / f32::from(spec.channels)).round() as i16);
            (sum, channel) = (0.0, 0);
        }
    }
    Ok(mono)
}

/// Records mono at 48 kHz. Once a second the header is brought up to date and everything handed to the system,
/// so that a process that is killed leaves a file that plays.
pub struct WavRecorder {
    path: PathBuf,
    wav: WavWriter<BufWriter<File>>,
    written: u64,
    unflushed: usize,
}

/// As many samples as the 32-bit lengths of a WAV can tell.
const MAX_RECORDED: u64 = (u32::MAX as u64 - 1_024) / 2;

impl WavRecorder {
    /// Creates the file, or empties it.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, AudioError> {
        let path = path.as_ref().to_owned();
        let spec = WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut wav = WavWriter::create(&path, spec).map_err(|error| name(error.into(), &path))?;
        wav.flush().map_err(|error| name(error.into(), &path))?;
        Ok(Self { path, wav, written: 0, unflushed: 0 })
    }

    /// Appends samples.
    pub fn write(&mut self, samples: &[i16]) -> Result<(), AudioError> {
        if self.written + samples.len() as u64 > MAX_RECORDED {
            return Err(AudioError::RecordingFull);
        }
        for &sample in samples {
            self.wav.write_sample(sample).map_err(|error| name(error.into(), &self.path))?;
        }
        self.written += samples.len() as u64;
        self.unflushed += samples.len();
        if self.unflushed >= SAMPLE_RATE as usize {
            self.unflushed = 0;
            self.wav.flush().map_err(|error| name(error.into(), &self.path))?;
        }
        Ok(())
    }

    /// How many samples were written.
    pub fn len(&self) -> u64 {
        self.written
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Completes the file; dropping the recorder does so too, but cannot tell of errors.
    pub fn finish(self) -> Result<(), AudioError> {
        self.wav.finalize().map_err(|error| name(error.into(), &self.path))
    }
}

/// Names the file in an error of the system.
fn name(error: AudioError, path: &Path) -> AudioError {
    match error {
        AudioError::Wav(hound::Error::IoError(source))
        | AudioError::Ogg(ogg::OggReadError::ReadError(source)) => {
            AudioError::File { path: path.to_owned(), source }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CALLER, speech};
    use super::*;
    use proptest::prelude::*;

    fn wav(bits: u16, format: SampleFormat, channels: u16, rate: u32, value: f32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let spec = WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: format };
        let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
        for _ in 0..rate / 10 {
            for channel in 0..channels {
                // The last channel is silent, so the mean is below the value when there are several.
                let value = if channels > 1 && channel + 1 == channels { 0.0 } else { value };
                match format {
                    SampleFormat::Float => writer.write_sample(value).unwrap(),
                    SampleFormat::Int => {
                        writer.write_sample((value * (1_u64 << (bits - 1)) as f32) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_sample_format_channel_count_and_rate_becomes_mono_at_48_khz() {
        let formats = [8, 16, 24, 32].map(|bits| (bits, SampleFormat::Int));
        for (bits, format) in formats.into_iter().chain([(32, SampleFormat::Float)]) {
            for channels in [1, 2, 6] {
                for rate in [8_000, 44_100, 48_000, 96_000] {
                    let samples = read_audio_bytes(&wav(bits, format, channels, rate, 0.5)).unwrap();
                    assert_eq!(samples.len(), 4_800, "{bits} {format:?} {channels} {rate}");
                    let share =
                        if channels == 1 { 1.0 } else { f32::from(channels - 1) / f32::from(channels) };
                    let middle = f32::from(samples[2_400]);
                    assert!((middle - 16_384.0 * share).abs() < 40.0, "{bits} {channels} {rate}: {middle}");
                }
            }
        }
    }

    #[test]
    fn what_is_recorded_is_read_back_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a file without an extension");
        let samples = speech(CALLER);
        let mut recorder = WavRecorder::create(&path).unwrap();
        samples.chunks(960).for_each(|frame| recorder.write(frame).unwrap());
        assert_eq!(recorder.len(), samples.len() as u64);
        recorder.finish().unwrap();
        assert_eq!(read_audio(&path).unwrap(), samples);
    }

    #[test]
    fn a_killed_recording_still_plays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("killed.wav");
        let mut recorder = WavRecorder::create(&path).unwrap();
        assert!(matches!(read_audio(&path), Err(AudioError::Empty)), "valid from the start");
        (0..120).for_each(|_| recorder.write(&[7; 960]).unwrap());
        let found = read_audio(&path).unwrap();
        assert_eq!(found.len(), 96_000, "two of 2.4 s were flushed");
        std::mem::forget(recorder);
    }

    #[test]
    fn a_file_cut_short_gives_what_it_has() {
        let whole = wav(16, SampleFormat::Int, 1, 48_000, 0.25);
        assert_eq!(read_audio_bytes(&whole[..44 + 2_000]).unwrap().len(), 1_000);
    }

    #[test]
    fn errors_say_what_to_do() {
        let missing = read_audio("/nowhere/at/all.wav").unwrap_err().to_string();
        assert!(missing.contains("/nowhere/at/all.wav") && missing.contains("check the path"), "{missing}");
        let unknown = read_audio_bytes(b"ID3 this is an mp3").unwrap_err().to_string();
        assert!(unknown.contains("convert it"), "{unknown}");
        assert!(WavRecorder::create("/nowhere/at/all.wav").is_err());
        assert!(matches!(read_audio_bytes(b""), Err(AudioError::UnknownFormat)));
    }

    #[test]
    fn more_than_an_hour_is_refused() {
        let mut long = wav(8, SampleFormat::Int, 1, 1_000, 0.0);
        let extra = 3_600 * 1_000;
        long[40..44].copy_from_slice(&(extra as u32 + 1).to_le_bytes());
        long.resize(44 + extra + 1, 0x80);
        assert!(matches!(read_audio_bytes(&long), Err(AudioError::TooLong)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn hostile_bytes_never_panic(
            ogg in any::<bool>(),
            noise in proptest::collection::vec(any::<u8>(), 0..400),
            flips in proptest::collection::vec((0_usize..60, any::<u8>()), 0..6),
        ) {
            let magic: &[u8] = if ogg { b"OggS" } else { b"RIFF" };
            let _ = read_audio_bytes(&[magic, &noise].concat());
            let mut broken = wav(16, SampleFormat::Int, 2, 8_000, 0.3);
            for (at, byte) in flips {
                broken[at] = byte;
            }
            let _ = read_audio_bytes(&broken);
        }
    }
}
