//! Sample-rate conversion, streaming and in one go.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, Fft, FixedAsync, FixedSync, SincInterpolationParameters};

use super::CodecError;

/// A pair of rates whose smallest common block is longer than this is interpolated, not transformed.
const MAX_BLOCK: usize = 4_096;

/// A streaming converter from one rate to another: chunks in, chunks out, nothing lost in between.
pub struct Resampler {
    from: u32,
    to: u32,
    /// None when the rates are equal.
    inner: Option<Converter>,
    pending: Vec<f32>,
    scratch: Vec<f32>,
    consumed: u64,
    produced: u64,
}

impl Resampler {
    /// A converter that works in blocks of about 10 ms, so that 20 ms in are 20 ms out where rates allow it.
    pub fn new(from: u32, to: u32) -> Result<Self, CodecError> {
        Self::with_block(from, to, from as usize / 100)
    }

    fn with_block(from: u32, to: u32, block: usize) -> Result<Self, CodecError> {
        for rate in [from, to] {
            if !(1_000..=768_000).contains(&rate) {
                return Err(CodecError::Rate(rate));
            }
        }
        let inner = if from == to { None } else { Some(converter(from, to, block)?) };
        Ok(Self { from, to, inner, pending: Vec::new(), scratch: Vec::new(), consumed: 0, produced: 0 })
    }

    /// How many output samples an event is late.
    pub fn delay(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| inner.output_delay())
    }

    /// Converts a chunk of any length; what does not fill a block waits for the next chunk.
    pub fn push(&mut self, input: &[i16]) -> Result<Vec<i16>, CodecError> {
        self.consumed += input.len() as u64;
        let mut output = Vec::new();
        if self.inner.is_none() {
            output.extend_from_slice(input);
        } else {
            self.pending.extend(input.iter().map(|&s| f32::from(s)));
            self.drain(&mut output)?;
        }
        self.produced += output.len() as u64;
        Ok(output)
    }

    /// The rest of the stream: afterwards the output is as long as the input, plus the delay.
    pub fn finish(mut self) -> Result<Vec<i16>, CodecError> {
        let mut output = Vec::new();
        if self.inner.is_none() {
            return Ok(output);
        }
        let whole = (self.consumed * u64::from(self.to)).div_ceil(u64::from(self.from)) + self.delay() as u64;
        let missing = usize::try_from(whole.saturating_sub(self.produced)).unwrap_or(0);
        while output.len() < missing {
            let block = self.inner.as_ref().map_or(1, |inner| inner.input_frames_next());
            self.pending.resize(block.max(self.pending.len()), 0.0);
            self.drain(&mut output)?;
        }
        output.truncate(missing);
        Ok(output)
    }

    fn drain(&mut self, output: &mut Vec<i16>) -> Result<(), CodecError> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let mut used = 0;
        loop {
            let (need, give) = (inner.input_frames_next(), inner.output_frames_next());
            let Some(block) = self.pending.get(used..used + need) else { break };
            self.scratch.resize(give, 0.0);
            let source = InterleavedSlice::new(block, 1, need).map_err(failed)?;
            let mut sink = InterleavedSlice::new_mut(&mut self.scratch, 1, give).map_err(failed)?;
            let (taken, given) = inner.process_into_buffer(&source, &mut sink, None).map_err(failed)?;
            output.extend(self.scratch[..given].iter().map(|&s| s.round() as i16));
            used += taken;
        }
        self.pending.drain(..used);
        Ok(())
    }
}

/// Converts samples in one go; the output starts where the input starts and lasts as long.
pub fn resample(input: &[i16], from: u32, to: u32) -> Result<Vec<i16>, CodecError> {
    let mut resampler = Resampler::with_block(from, to, 1_024)?;
    let delay = resampler.delay();
    let mut output = resampler.push(input)?;
    output.extend(resampler.finish()?);
    output.drain(..delay.min(output.len()));
    Ok(output)
}

type Converter = Box<dyn rubato::Resampler<f32>>;

fn converter(from: u32, to: u32, block: usize) -> Result<Converter, CodecError> {
    let block = block.clamp(16, MAX_BLOCK);
    let common = gcd(from, to);
    let unit = (from / common) as usize;
    if unit.max((to / common) as usize) <= MAX_BLOCK {
        // The filter of an odd block is half a sample off its centre, so the block is made even.
        let units = (block / unit).max(1);
        let units = if unit % 2 == 1 { (units & !1).max(2) } else { units };
        let fft = Fft::new(from as usize, to as usize, units * unit, 1, FixedSync::Both).map_err(failed)?;
        return Ok(Box::new(fft));
    }
    let ratio = f64::from(to) / f64::from(from);
    let sinc = SincInterpolationParameters::default();
    let sinc = Async::new_sinc(ratio, 1.0, &sinc, block, 1, FixedAsync::Input).map_err(failed)?;
    Ok(Box::new(sinc))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn failed(error: impl std::fmt::Display) -> CodecError {
    CodecError::Resample(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hertz: f64, rate: u32, samples: usize) -> Vec<i16> {
        let step = std::f64::consts::TAU * hertz / f64::from(rate);
        (0..samples).map(|i| ((i as f64 * step).sin() * 10_000.0) as i16).collect()
    }

    /// The signal to noise ratio in dB against the same sine, away from both ends.
    fn snr(hertz: f64, rate: u32, got: &[i16]) -> f64 {
        let want = sine(hertz, rate, got.len());
        let inside = got.len() / 10..got.len() * 9 / 10;
        let noise: f64 = inside.clone().map(|i| f64::from(got[i] as i32 - want[i] as i32).powi(2)).sum();
        let signal: f64 = inside.map(|i| f64::from(want[i]).powi(2)).sum();
        10.0 * (signal / noise.max(1e-9)).log10()
    }

    #[test]
    fn one_go_keeps_time_pitch_and_length_at_any_rate() {
        for from in [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 47_999, 48_000, 96_000, 192_000] {
            let out = resample(&sine(440.0, from, from as usize), from, 48_000).unwrap();
            let snr = snr(440.0, 48_000, &out);
            println!("{from} Hz to 48000 Hz: {snr:.1} dB");
            assert_eq!(out.len(), 48_000, "{from}");
            // An interpolated rate may lie up to a sample off, 20 µs.
            assert!(snr > if from == 47_999 { 20.0 } else { 50.0 }, "{from}: {snr}");
        }
    }

    #[test]
    fn frames_become_g711_frames_and_back_one_for_one() {
        let (mut down, mut up) =
            (Resampler::new(48_000, 8_000).unwrap(), Resampler::new(8_000, 48_000).unwrap());
        assert_eq!((down.delay(), up.delay()), (40, 240), "5 ms each");
        let mut out = Vec::new();
        for frame in sine(1_000.0, 48_000, 48_000).chunks(960) {
            let narrow = down.push(frame).unwrap();
            assert_eq!(narrow.len(), 160);
            let wide = up.push(&narrow).unwrap();
            assert_eq!(wide.len(), 960);
            out.extend(wide);
        }
        let late = 40 * 6 + 240;
        let snr = snr(1_000.0, 48_000, &out[late..]);
        println!("48000 Hz to 8000 Hz and back: {snr:.1} dB");
        assert!(snr > 40.0);
    }

    #[test]
    fn what_a_telephone_does_not_carry_is_not_folded_back() {
        let out = resample(&sine(6_000.0, 48_000, 48_000), 48_000, 8_000).unwrap();
        assert!(out[800..7_200].iter().all(|s| s.abs() < 30), "6 kHz leaked into 8 kHz");
    }

    #[test]
    fn odd_chunks_give_what_one_chunk_gives() {
        let input = sine(300.0, 44_100, 20_000);
        let mut whole = Resampler::new(44_100, 48_000).unwrap();
        let mut expected = whole.push(&input).unwrap();
        expected.extend(whole.finish().unwrap());
        let mut parts = Resampler::new(44_100, 48_000).unwrap();
        let mut got = Vec::new();
        for chunk in input.chunks(331) {
            got.extend(parts.push(chunk).unwrap());
        }
        got.extend(parts.finish().unwrap());
        assert_eq!(got, expected);
    }

    #[test]
    fn impossible_rates_are_refused_and_nothing_stays_nothing() {
        assert!(matches!(Resampler::new(0, 48_000), Err(CodecError::Rate(0))));
        assert!(matches!(resample(&[1], 48_000, u32::MAX), Err(CodecError::Rate(u32::MAX))));
        assert!(resample(&[], 8_000, 48_000).unwrap().is_empty());
        assert_eq!(resample(&[1, 2, 3], 48_000, 48_000).unwrap(), [1, 2, 3]);
    }
}
