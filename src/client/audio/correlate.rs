//! Tells whether a recording really holds a reference speech, after codecs, loss and time adjustments.
//!
//! The reference is cut into windows. A first pass at 2 kHz finds the lag on which most windows agree; a second
//! one lets each window move a little around it, as jitter buffers move speech, and measures it at 8 kHz.

use super::resample;

/// A recording may begin this much earlier or later than the speech in it.
pub const MAX_LAG_MS: u32 = 1_000;

/// How far a window may lie from the common lag: what jitter buffers insert and drop in a few seconds.
const WANDER_MS: usize = 160;
const WINDOW_MS: usize = 400;
const HOP_MS: usize = 200;
const COARSE: u32 = 2_000;
const FINE: u32 = 8_000;
/// Coarse peaks that are measured finely for each window.
const CANDIDATES: usize = 6;
/// A window counts when its level is within 20 dB of the loudest one.
const VOICED: f64 = 0.01;
/// Mean square below which there is only silence: about −72 dBov.
const SILENCE: f64 = 64.0;

/// How much a recording is like the reference.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Correlation {
    /// Energy-weighted mean of the windows' normalised cross-correlation, 0 to 1.
    pub score: f64,
    /// How much later than in the reference the speech is in the recording.
    pub lag_ms: f64,
    /// Share of the voiced windows that were found, with a correlation above 0.5.
    pub coverage: f64,
}

impl Correlation {
    /// The least score of a recording that holds the speech. Measured: 0.65 and more through codecs, loss and
    /// time adjustments; 0.15 and less for noise, silence and other speech; 0.31 for its own parts shuffled.
    pub const LEAST_SCORE: f64 = 0.5;
    /// The least coverage of a recording that holds the speech. Measured: 0.89 and more, against 0 and 0.28.
    pub const LEAST_COVERAGE: f64 = 0.7;

    /// Whether the recording holds the speech.
    pub fn holds_speech(&self) -> bool {
        self.score >= Self::LEAST_SCORE && self.coverage >= Self::LEAST_COVERAGE
    }
}

/// Looks for the reference in the recording, at most [`MAX_LAG_MS`] earlier or later. Both have the same rate.
pub fn correlate(reference: &[i16], recording: &[i16], rate: u32) -> Correlation {
    correlate_within(reference, recording, rate, MAX_LAG_MS)
}

/// Looks for the reference in the recording, at most `max_lag_ms` earlier or later.
pub fn correlate_within(reference: &[i16], recording: &[i16], rate: u32, max_lag_ms: u32) -> Correlation {
    let (Some(reference), Some(recording)) = (Bands::new(reference, rate), Bands::new(recording, rate))
    else {
        return Correlation::default();
    };
    let windows = reference.voiced_windows();
    let max_lag = max_lag_ms as isize * COARSE as isize / 1_000;
    let curves: Vec<Vec<f32>> = windows
        .iter()
        .map(|w| {
            (-max_lag..=max_lag).map(|lag| likeness(&reference.coarse, &recording.coarse, w, lag)).collect()
        })
        .collect();
    let common = common_lag(&windows, &curves);
    let wander = WANDER_MS * COARSE as usize / 1_000;
    let near = common.saturating_sub(wander)..(common + wander + 1).min(2 * max_lag as usize + 1);

    let (mut sum, mut weight, mut lags, mut found) = (0.0, 0.0, 0.0, 0_usize);
    for (window, curve) in windows.iter().zip(&curves) {
        let (ncc, lag) = peaks(&curve[near.clone()])
            .into_iter()
            .map(|peak| refine(&reference, &recording, window, (near.start + peak) as isize - max_lag))
            .fold((0.0, 0), |best, next| if next.0 > best.0 { next } else { best });
        sum += window.energy * f64::from(ncc);
        weight += window.energy;
        lags += window.energy * f64::from(ncc) * lag as f64;
        found += usize::from(ncc > 0.5);
    }
    if sum <= 0.0 {
        return Correlation::default();
    }
    Correlation {
        score: sum / weight,
        lag_ms: lags / sum * 1_000.0 / f64::from(FINE),
        coverage: found as f64 / windows.len() as f64,
    }
}

/// One signal at both rates, with the high frequencies lifted as telephony codecs expect them.
struct Bands {
    coarse: Signal,
    fine: Signal,
}

struct Signal {
    samples: Vec<f32>,
    /// Sum of squares before each sample.
    energy: Vec<f64>,
    rate: usize,
}

struct Window {
    begin_ms: usize,
    energy: f64,
}

impl Bands {
    fn new(samples: &[i16], rate: u32) -> Option<Self> {
        let fine = resample(samples, rate, FINE).ok()?;
        let coarse = resample(&fine, FINE, COARSE).ok()?;
        Some(Self { coarse: Signal::new(&coarse, COARSE), fine: Signal::new(&fine, FINE) })
    }

    fn voiced_windows(&self) -> Vec<Window> {
        let signal = &self.fine;
        let ms = signal.rate / 1_000;
        let len_ms = signal.samples.len() / ms;
        let all: Vec<Window> = (0..(len_ms + HOP_MS).saturating_sub(WINDOW_MS))
            .step_by(HOP_MS)
            .map(|begin_ms| {
                let begin = (begin_ms * ms) as isize;
                Window { begin_ms, energy: signal.energy_of(begin, WINDOW_MS * ms) }
            })
            .collect();
        let loudest = all.iter().map(|w| w.energy).fold(0.0, f64::max);
        let least = (loudest * VOICED).max(SILENCE * (WINDOW_MS * ms) as f64);
        all.into_iter().filter(|w| w.energy >= least).collect()
    }
}

impl Signal {
    fn new(samples: &[i16], rate: u32) -> Self {
        let mut last = 0.0;
        let samples: Vec<f32> = samples
            .iter()
            .map(|&sample| {
                let lifted = f32::from(sample) - EMPHASIS * last;
                last = f32::from(sample);
                lifted
            })
            .collect();
        let mut sum = 0.0;
        let mut energy = vec![0.0];
        energy.extend(samples.iter().map(|&s| {
            sum += f64::from(s) * f64::from(s);
            sum
        }));
        Self { samples, energy, rate: rate as usize }
    }

    /// The part of a stretch that exists.
    fn clip(&self, begin: isize, len: usize) -> std::ops::Range<usize> {
        let end = self.samples.len() as isize;
        begin.clamp(0, end) as usize..(begin + len as isize).clamp(0, end) as usize
    }

    fn energy_of(&self, begin: isize, len: usize) -> f64 {
        let part = self.clip(begin, len);
        self.energy[part.end] - self.energy[part.start]
    }
}

/// How strongly high frequencies are lifted: it flattens the spectrum of speech and thus sharpens the peaks.
const EMPHASIS: f32 = 0.7;

/// Normalised cross-correlation of a window with the recording `lag` samples later, 0 where that is silent.
fn likeness(reference: &Signal, recording: &Signal, window: &Window, lag: isize) -> f32 {
    let len = WINDOW_MS * reference.rate / 1_000;
    let begin = (window.begin_ms * reference.rate / 1_000) as isize;
    let energy = recording.energy_of(begin + lag, len);
    if energy < SILENCE * len as f64 {
        return 0.0;
    }
    let there = recording.clip(begin + lag, reference.clip(begin, len).len());
    let here = (there.start as isize - lag) as usize..(there.end as isize - lag) as usize;
    let product: f32 =
        reference.samples[here].iter().zip(&recording.samples[there]).map(|(a, b)| a * b).sum();
    (f64::from(product) / (energy * reference.energy_of(begin, len)).sqrt()) as f32
}

/// The index of the lag on which most of the speech agrees, give or take a millisecond.
fn common_lag(windows: &[Window], curves: &[Vec<f32>]) -> usize {
    let lags = curves.first().map_or(0, Vec::len);
    let agreed = |lag: usize| -> f64 {
        let around = lag.saturating_sub(2)..(lag + 3).min(lags);
        let best = |curve: &[f32]| curve[around.clone()].iter().copied().fold(0.0, f32::max);
        windows.iter().zip(curves).map(|(w, curve)| w.energy * f64::from(best(curve)).powi(2)).sum()
    };
    let agreement: Vec<f64> = (0..lags).map(agreed).collect();
    (0..lags).max_by(|&a, &b| agreement[a].total_cmp(&agreement[b])).unwrap_or(0)
}

/// The highest local peaks of a curve.
fn peaks(curve: &[f32]) -> Vec<usize> {
    let higher = |i: usize, other: Option<usize>| {
        other.and_then(|other| curve.get(other)).is_none_or(|other| curve[i] >= *other)
    };
    let mut peaks: Vec<usize> = (0..curve.len())
        .filter(|&i| curve[i] > 0.0 && higher(i, i.checked_sub(1)) && higher(i, Some(i + 1)))
        .collect();
    peaks.sort_by(|&a, &b| curve[b].total_cmp(&curve[a]));
    peaks.truncate(CANDIDATES);
    peaks
}

/// The best fine likeness within a millisecond of a coarse lag, with its fine lag.
fn refine(reference: &Bands, recording: &Bands, window: &Window, coarse: isize) -> (f32, isize) {
    let centre = coarse * (FINE / COARSE) as isize;
    (centre - 8..=centre + 8)
        .map(|lag| (likeness(&reference.fine, &recording.fine, window, lag), lag))
        .fold((0.0, centre), |best, next| if next.0 > best.0 { next } else { best })
}
