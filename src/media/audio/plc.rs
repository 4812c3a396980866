//! Concealment of lost G.711 and G.722 frames by repeating the last pitch period, in the spirit of Appendix I,
//! without its delay. Lengths are samples at 8 kHz; at 16 kHz they are doubled.

/// The longest pitch period that is looked for: 15 ms, 66 Hz.
const LONGEST: usize = 120;
/// The shortest: 5 ms, 200 Hz; a higher voice repeats two or three of its periods.
const SHORTEST: usize = 40;
/// The stretch that must look alike one period earlier: 20 ms.
const WINDOW: usize = 160;
const HISTORY: usize = WINDOW + LONGEST + LONGEST / 4;
/// Full volume for 10 ms, then a fade that ends in silence after 60 ms.
const HOLD: usize = 80;
const SILENT: usize = 480;
/// How long the way back to real samples takes: 5 ms.
const BLEND: usize = 40;

/// The recent past of one stream, and the loop that stands in for its future.
#[derive(Debug, Clone)]
pub(super) struct Plc {
    /// 1 at 8 kHz, 2 at 16 kHz.
    scale: usize,
    history: Vec<i16>,
    /// One pitch period, seamless when repeated; empty while nothing is lost.
    period: Vec<f32>,
    /// Samples made up since the last real one.
    made_up: usize,
    /// The step between the last real sample and the loop, worked off in the first milliseconds.
    step: f32,
}

impl Plc {
    pub(super) fn new() -> Self {
        Self::scaled(1)
    }

    /// For 16 kHz.
    pub(super) fn wide() -> Self {
        Self::scaled(2)
    }

    fn scaled(scale: usize) -> Self {
        Self { scale, history: vec![0; scale * HISTORY], period: Vec::new(), made_up: 0, step: 0.0 }
    }

    /// Notes real samples; after a loss their start is blended with what was made up.
    pub(super) fn real(&mut self, samples: &mut [i16]) {
        if !self.period.is_empty() {
            let blend = (self.scale * BLEND).min(samples.len());
            for (i, sample) in samples[..blend].iter_mut().enumerate() {
                let weight = (i + 1) as f32 / (blend + 1) as f32;
                let made_up = self.next();
                *sample = (made_up + (f32::from(*sample) - made_up) * weight) as i16;
            }
            self.period.clear();
            self.made_up = 0;
        }
        self.remember(samples);
    }

    /// Makes up samples that were lost.
    pub(super) fn lost(&mut self, samples: usize) -> Vec<i16> {
        if self.period.is_empty() {
            self.prepare();
        }
        (0..samples).map(|_| self.next() as i16).collect()
    }

    fn remember(&mut self, samples: &[i16]) {
        let history = self.scale * HISTORY;
        let keep = history.saturating_sub(samples.len());
        self.history.drain(..self.history.len() - keep);
        self.history.extend_from_slice(&samples[samples.len() - (history - keep)..]);
    }

    fn prepare(&mut self) {
        let past: Vec<f32> = self.history.iter().map(|&s| f32::from(s)).collect();
        let (end, pitch) = (past.len(), pitch(&past, self.scale));
        self.period = past[end - pitch..].to_vec();
        // The end of the period fades into what came before its start, so that it can repeat.
        let quarter = pitch / 4;
        for i in 0..quarter {
            let weight = (i + 1) as f32 / (quarter + 1) as f32;
            let at = pitch - quarter + i;
            self.period[at] += (past[end - pitch - quarter + i] - self.period[at]) * weight;
        }
        self.step = past[end - 1] - past[end - pitch - 1];
        self.made_up = 0;
    }

    fn next(&mut self) -> f32 {
        let i = self.made_up;
        self.made_up += 1;
        let at = i / self.scale;
        let fade = match at {
            0..HOLD => 1.0,
            HOLD..SILENT => (SILENT - at) as f32 / (SILENT - HOLD) as f32,
            _ => return 0.0,
        };
        let step = self.step * (1.0 - at as f32 / 16.0).max(0.0);
        ((self.period[i % self.period.len()] + step) * fade).clamp(-32_768.0, 32_767.0)
    }
}

/// The lag at which the last 20 ms look most like what came before.
fn pitch(past: &[f32], scale: usize) -> usize {
    let window = scale * WINDOW;
    let recent = &past[past.len() - window..];
    let likeness = |lag: usize| {
        let earlier = &past[past.len() - window - lag..past.len() - lag];
        let product: f32 = recent.iter().zip(earlier).map(|(a, b)| a * b).sum();
        let energy: f32 = earlier.iter().map(|b| b * b).sum();
        product / energy.max(1.0).sqrt()
    };
    let lags = (scale * SHORTEST..=scale * LONGEST).step_by(scale);
    lags.max_by(|&a, &b| likeness(a).total_cmp(&likeness(b))).unwrap_or(scale * LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(from: usize, samples: usize) -> Vec<i16> {
        (from..from + samples).map(|i| ((i as f64 * 0.1).sin() * 8_000.0) as i16).collect()
    }

    #[test]
    fn a_lost_tone_goes_on_then_fades_to_silence() {
        let mut plc = Plc::new();
        plc.real(&mut tone(0, 800));
        let made_up = plc.lost(640);
        let expected = tone(800, 80);
        let error = made_up[..80].iter().zip(&expected).map(|(a, b)| (a - b).abs()).max().unwrap();
        assert!(error < 1_500, "off by {error} of 8000");
        assert!(made_up[320..400].iter().all(|s| s.abs() < 4_000), "half way through the fade");
        assert!(made_up[480..].iter().all(|&s| s == 0));
    }

    #[test]
    fn a_wide_tone_goes_on_too() {
        let mut plc = Plc::wide();
        plc.real(&mut tone(0, 1_600));
        let made_up = plc.lost(1_280);
        let error = made_up[..160].iter().zip(&tone(1_600, 160)).map(|(a, b)| (a - b).abs()).max().unwrap();
        assert!(error < 1_500, "off by {error} of 8000");
        assert!(made_up[960..].iter().all(|&s| s == 0));
    }

    #[test]
    fn no_seam_is_steeper_than_the_tone_itself() {
        let mut plc = Plc::new();
        let mut heard = tone(0, 800);
        plc.real(&mut heard.clone());
        heard.extend(plc.lost(160));
        let mut back = tone(960, 160);
        plc.real(&mut back);
        heard.extend(back);
        let steepest = heard.windows(2).map(|w| (w[1] - w[0]).abs()).max().unwrap();
        assert!(steepest < 1_600, "a click of {steepest}; the tone's own slope is 800");
    }

    #[test]
    fn a_loss_before_anything_came_is_silence() {
        let mut plc = Plc::new();
        assert_eq!(plc.lost(160), vec![0; 160]);
        plc.real(&mut []);
        plc.real(&mut [i16::MIN; 3]);
        plc.lost(1_000);
    }
}
