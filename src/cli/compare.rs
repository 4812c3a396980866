//! `ript compare`: whether a recording holds a speech.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client_args::CliResult;
use crate::client::audio::{CALLEE, CALLER, SAMPLE_RATE, correlate_within, read_audio, speech};

/// Beyond it, a search takes too long.
const LONGEST: f64 = 60.0;

/// Tells whether a recording holds a speech; exits 0 only if it does.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The speech: WAV of any rate, or Ogg Opus; or `caller` or `callee` for a built-in voice.
    speech: PathBuf,
    /// The recording, likewise.
    recording: PathBuf,
    /// How much earlier or later the speech may be in it; for speech that was said over and over, its length.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    within: f64,
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> CliResult<ExitCode> {
        let lag = self.within.clamp(0.0, LONGEST) * 1_000.0;
        let (wanted, recorded) = (expected(&self.speech)?, read_audio(&self.recording)?);
        let found = correlate_within(&wanted, &recorded, SAMPLE_RATE, lag as u32);
        let holds = found.holds_speech();
        writeln!(
            std::io::stdout(),
            "{}: correlation {:.2}, coverage {:.2}, {:.2} s later than in {}",
            if holds { "holds the speech" } else { "does not hold the speech" },
            found.score,
            found.coverage,
            found.lag_ms / 1_000.0,
            self.speech.display(),
        )?;
        Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The samples of a speech: a file's, or a built-in voice's.
pub(super) fn expected(name: &Path) -> CliResult<Vec<i16>> {
    Ok(match name.to_str() {
        Some("caller") => speech(CALLER),
        Some("callee") => speech(CALLEE),
        _ => read_audio(name)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::audio::WavRecorder;

    async fn compare(speech: &str, recording: &Path, within: f64) -> ExitCode {
        Args { speech: speech.into(), recording: recording.to_owned(), within }.run().await.unwrap()
    }

    #[tokio::test]
    async fn a_speech_is_found_where_it_is_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late.wav");
        let mut recorder = WavRecorder::create(&path).unwrap();
        let late = [vec![0; 2 * SAMPLE_RATE as usize], speech(CALLER)].concat();
        recorder.write(&late).unwrap();
        recorder.finish().unwrap();
        assert_eq!(compare("caller", &path, 3.0).await, ExitCode::SUCCESS);
        assert_eq!(compare("caller", &path, 1.0).await, ExitCode::FAILURE);
        assert_eq!(compare("callee", &path, 3.0).await, ExitCode::FAILURE);
    }
}
