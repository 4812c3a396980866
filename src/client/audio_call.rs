//! A call that is spoken and heard: codecs, jitter buffer, source and recorder on a media port, every 20 ms.

mod hearing;
mod speaking;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use self::hearing::Hearing;
use self::speaking::Speaking;
use super::audio::{AudioCodec, AudioError, EncoderConfig, Frame, FrameSource, WavRecorder};
use super::call::Call;
use super::task::{Owned, lock};
use super::{ClientError, MediaOptions, MediaPort};
use crate::clock;
use crate::protocol::event::State;

/// What a frame lasts.
const TICK: Duration = Duration::from_millis(20);
/// A pace that is further behind is given up: the machine slept.
const MAX_BEHIND: Duration = Duration::from_millis(500);
/// How often the parts tell each other how they fare, in ticks.
const REVIEW: u64 = 25;

/// Where the sound comes from.
pub enum AudioSource {
    /// Nowhere.
    Silence,
    /// Samples, from a file for instance; they begin when the call is answered.
    Frames(FrameSource),
    /// Whatever is there every 20 ms: a microphone.
    Live(Box<dyn FnMut() -> Frame + Send>),
}

impl std::fmt::Debug for AudioSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Silence => "Silence",
            Self::Frames(_) => "Frames",
            Self::Live(_) => "Live",
        })
    }
}

/// What hears the call, 20 ms at a time, mono at 48 kHz.
pub type Listen = Box<dyn FnMut(&[i16]) + Send>;

/// How a call is to be spoken and heard.
pub struct AudioOptions {
    /// What is said.
    pub source: AudioSource,
    /// A WAV file of what is heard.
    pub record: Option<PathBuf>,
    /// Hears it too: a speaker.
    pub listen: Option<Listen>,
    /// How it is encoded.
    pub encoder: EncoderConfig,
    /// Byways only, whatever WebTransport could do.
    pub byways_only: bool,
}

impl Default for AudioOptions {
    fn default() -> Self {
        let encoder = EncoderConfig::default();
        Self { source: AudioSource::Silence, record: None, listen: None, encoder, byways_only: false }
    }
}

impl std::fmt::Debug for AudioOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudioOptions")
            .field("source", &self.source)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// How the sound fares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AudioStats {
    /// The codec that we send.
    pub sends: Option<AudioCodec>,
    /// The codec that we hear.
    pub hears: Option<AudioCodec>,
    /// Frames played as they came.
    pub played: u64,
    /// Frames that were made up: they were lost, or not there in time.
    pub concealed: u64,
    /// The delay of the jitter buffer.
    pub playout: Duration,
    /// Frames encoded and handed to the media port.
    pub spoken: u64,
    /// Frames for which there was no way.
    pub unsent: u64,
    /// The opinion score of what is heard, once something was.
    pub mos: Option<f64>,
}

/// The sound of a call; it ends with this, or with the call.
#[derive(Debug)]
pub struct AudioCall {
    stats: Arc<Mutex<AudioStats>>,
    stop: Option<oneshot::Sender<()>>,
    done: watch::Receiver<Option<Result<(), String>>>,
    _task: Owned,
}

impl AudioCall {
    /// Opens the call's media and starts to speak and hear as the directives say.
    pub fn start(call: &Call, options: AudioOptions) -> Result<Self, ClientError> {
        let recorder = options.record.as_ref().map(WavRecorder::create).transpose()?;
        let port =
            call.open_media(MediaOptions { byways_only: options.byways_only, ..MediaOptions::default() });
        let stats = Arc::new(Mutex::new(AudioStats::default()));
        let (stop, stopped) = oneshot::channel();
        let (tell, done) = watch::channel(None);
        let work = Work {
            call: call.clone(),
            port,
            speaking: Speaking::new(options.source, options.encoder)?,
            hearing: Hearing::new(recorder, options.listen)?,
            stats: Arc::clone(&stats),
            ticks: 0,
        };
        let task = async move {
            let result = work.run(stopped).await;
            // The handle may be gone.
            let _ = tell.send(Some(result.map_err(|error| error.to_string())));
        };
        Ok(Self { stats, stop: Some(stop), done, _task: Owned::spawn(task) })
    }

    /// How the sound fares.
    pub fn stats(&self) -> AudioStats {
        *lock(&self.stats)
    }

    /// Stops, and closes the recording; how it fared.
    pub async fn finish(mut self) -> Result<AudioStats, ClientError> {
        drop(self.stop.take());
        let over = self.done.wait_for(Option::is_some).await;
        match over.ok().and_then(|result| result.clone()) {
            Some(Err(error)) => Err(ClientError::input("recording", error)),
            _ => Ok(*lock(&self.stats)),
        }
    }
}

struct Work {
    call: Call,
    port: MediaPort,
    speaking: Speaking,
    hearing: Hearing,
    stats: Arc<Mutex<AudioStats>>,
    ticks: u64,
}

impl Work {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<(), AudioError> {
        let view = self.call.watch();
        let mut pace = tokio::time::interval(TICK);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut due = clock::elapsed();
        let mut timeline = clock::now().as_millis();
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                _ = &mut stopped => break,
            }
            let now = clock::elapsed();
            if now.saturating_sub(due) > MAX_BEHIND {
                pace.reset();
                (due, timeline) = (now, clock::now().as_millis());
            }
            let (sends, receives, state, elsewhere) = {
                // One look, for a second one behind a waiting writer would never end.
                let view = view.borrow();
                let elsewhere = view.is_elsewhere(self.call.handler().uri());
                (view.sends.audio().cloned(), view.receives.audio().cloned(), view.state, elsewhere)
            };
            if state == State::Ended || elsewhere {
                break;
            }
            while let Some(frame) = self.port.try_recv() {
                if let Some((digit, duration)) = self.hearing.take(now, frame, receives.as_ref()) {
                    self.call.say_digit(digit, duration);
                }
            }
            if let Some((digit, duration)) = self.hearing.play(now, receives.as_ref())? {
                self.call.say_digit(digit, duration);
            }
            // wire §5 "Relay": before the answer, media from the caller goes nowhere.
            let sends = sends.filter(|_| state == State::Answered);
            self.speaking.speak(&self.port, sends.as_ref(), timeline);
            (due, timeline) = (due + TICK, timeline + TICK.as_millis() as u64);
            self.ticks += 1;
            if self.ticks.is_multiple_of(REVIEW) {
                self.review();
            }
        }
        self.review();
        self.hearing.finish()
    }

    fn review(&mut self) {
        if let Some((stream, late)) = self.hearing.late() {
            self.port.on_playout(stream.0, stream.1, late, self.hearing.playout());
        }
        self.speaking.adapt(self.port.loss_out());
        let (played, concealed) = self.hearing.counts();
        let (spoken, unsent) = self.speaking.counts();
        *lock(&self.stats) = AudioStats {
            sends: self.speaking.codec(),
            hears: self.hearing.codec(),
            played,
            concealed,
            playout: self.hearing.playout(),
            spoken,
            unsent,
            mos: self.port.stats().mos,
        };
    }
}
