//! Audio level and voice activity, as the level field of a chunk carries them (RFC 6464).

/// The level of a frame and whether somebody speaks in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// Level in −dBov: 0 is the loudest there is, 127 is silence.
    pub minus_dbov: u8,
    /// Somebody speaks.
    pub voice: bool,
}

impl AudioLevel {
    /// The byte on the wire: the voice bit on top, the level below (RFC 6464 section 3).
    pub fn to_byte(self) -> u8 {
        u8::from(self.voice) << 7 | self.minus_dbov.min(127)
    }

    /// The level a byte on the wire stands for.
    pub fn from_byte(byte: u8) -> Self {
        Self { minus_dbov: byte & 0x7f, voice: byte & 0x80 != 0 }
    }
}

/// A voice stands out of the background by this many dB.
const MARGIN_DB: f32 = 9.0;
/// Below this nothing counts as a voice.
const QUIET_DBOV: f32 = -60.0;
/// A frame at this level is a voice, whatever the background.
const LOUD_DBOV: f32 = -20.0;
/// How fast the background follows a louder one: 3 dB/s.
const RISE_DB: f32 = 0.06;
/// Frames the voice bit stays after a voice, so that word ends are not cut: 160 ms.
const HANGOVER: u8 = 8;

/// Measures a stream of 20 ms frames; it learns the background noise as it goes.
#[derive(Debug, Clone)]
pub struct LevelMeter {
    background: f32,
    hangover: u8,
}

impl LevelMeter {
    /// A meter that expects a quiet room.
    pub fn new() -> Self {
        Self { background: -55.0, hangover: 0 }
    }

    /// The level of the next frame.
    pub fn measure(&mut self, frame: &[i16]) -> AudioLevel {
        let dbov = dbov(frame);
        let voice = dbov > LOUD_DBOV || (dbov > QUIET_DBOV && dbov > self.background + MARGIN_DB);
        self.background = dbov.min(self.background + RISE_DB).max(-90.0);
        self.hangover = if voice { HANGOVER } else { self.hangover.saturating_sub(1) };
        AudioLevel { minus_dbov: (-dbov).round() as u8, voice: self.hangover > 0 }
    }
}

impl Default for LevelMeter {
    fn default() -> Self {
        Self::new()
    }
}

/// Root mean square against full scale, at least −127 (RFC 6465's reference code).
fn dbov(frame: &[i16]) -> f32 {
    let sum: f64 = frame.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
    let rms = (sum / frame.len().max(1) as f64).sqrt() / 32_767.0;
    if rms <= 0.0 { -127.0 } else { (20.0 * rms.log10()).clamp(-127.0, 0.0) as f32 }
}

#[cfg(test)]
mod tests {
    use super::super::{CALLER, frames, speech};
    use super::*;

    #[test]
    fn levels_meet_the_definition() {
        let mut meter = LevelMeter::new();
        assert_eq!(meter.measure(&[i16::MIN; 960]).minus_dbov, 0);
        assert_eq!(meter.measure(&[0; 960]), AudioLevel { minus_dbov: 127, voice: true }, "hangover");
        assert_eq!(meter.measure(&[]).minus_dbov, 127);
        let sine: Vec<i16> = (0..960).map(|i| ((i as f64 / 10.0).sin() * 32_767.0) as i16).collect();
        assert_eq!(meter.measure(&sine).minus_dbov, 3, "a full-scale sine");
        assert_eq!(meter.measure(&[33; 960]).minus_dbov, 60);
    }

    #[test]
    fn the_byte_holds_the_voice_bit_on_top() {
        assert_eq!(AudioLevel { minus_dbov: 30, voice: true }.to_byte(), 0x9e);
        for byte in 0..=255 {
            assert_eq!(AudioLevel::from_byte(byte).to_byte(), byte);
        }
    }

    #[test]
    fn speech_is_a_voice_and_its_pauses_silence_and_steady_noise_are_not() {
        let mut meter = LevelMeter::new();
        let spoken = frames(&speech(CALLER)).filter(|f| meter.measure(f).voice).count();
        let all = frames(&speech(CALLER)).count();
        println!("voice in {spoken} of {all} frames");
        assert!(spoken * 10 > all * 6);
        assert!((0..50).all(|_| meter.measure(&[0; 960]).minus_dbov == 127));
        assert!(!meter.measure(&[0; 960]).voice);
        let hum: Vec<i16> = (0..960).map(|i| if i % 96 < 48 { 300 } else { -300 }).collect();
        let late = (0..1_500).map(|_| meter.measure(&hum)).last().unwrap();
        assert!(!late.voice, "a hum becomes background");
    }
}
