//! Microphone and speaker, at whatever rate they run.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{FromSample, Sample, SampleFormat, SizedSample, Stream, SupportedStreamConfig};

use super::audio::{FRAME_SAMPLES, Frame, Resampler, SAMPLE_RATE};
use super::task::lock;
use super::{AudioSource, ClientError, Listen};

/// What may wait between the device's clock and ours; older sound is dropped, so that clocks may drift.
const MAX_WAITING_MS: u32 = 200;

/// Samples on their way between a device and a call.
type Waiting = Arc<Mutex<VecDeque<i16>>>;

/// What the devices' thread tells once it is set up: the two sample rates.
type Ready = Result<(u32, u32), ClientError>;

/// Opens the system's microphone and speaker; both close when the last of the two is dropped.
pub fn open() -> Result<(AudioSource, Listen), ClientError> {
    let (said, heard) = (Waiting::default(), Waiting::default());
    let (ready, told) = mpsc::channel();
    let (alive, gone) = mpsc::channel::<()>();
    let (microphone, speaker) = (Arc::clone(&said), Arc::clone(&heard));
    // Streams may not leave their thread on every system; it ends with `alive`.
    std::thread::Builder::new()
        .name("audio devices".into())
        .spawn(move || run(&ready, &gone, microphone, speaker))
        .map_err(|error| ClientError::input("audio devices", error))?;
    let rates: Ready =
        told.recv().unwrap_or_else(|_| Err(ClientError::input("audio devices", "they failed")));
    let (from, to) = rates?;
    let alive = Arc::new(alive);
    Ok((AudioSource::Live(listen_to(said, from, Arc::clone(&alive))?), speak_by(heard, to, alive)?))
}

/// Takes 20 ms from the microphone each time, filled up with silence where it lags.
fn listen_to(
    said: Waiting,
    rate: u32,
    alive: Arc<mpsc::Sender<()>>,
) -> Result<Box<dyn FnMut() -> Frame + Send>, ClientError> {
    let mut resampler = Resampler::new(rate, SAMPLE_RATE)?;
    let mut ready: VecDeque<i16> = VecDeque::new();
    Ok(Box::new(move || {
        let _alive = &alive;
        let raw: Vec<i16> = lock(&said).drain(..).collect();
        ready.extend(resampler.push(&raw).unwrap_or_default());
        keep_newest(&mut ready, SAMPLE_RATE);
        let mut frame = [0; FRAME_SAMPLES];
        let there = ready.len().min(FRAME_SAMPLES);
        for (slot, sample) in frame.iter_mut().zip(ready.drain(..there)) {
            *slot = sample;
        }
        frame
    }))
}

/// Hands sound to the speaker.
fn speak_by(heard: Waiting, rate: u32, alive: Arc<mpsc::Sender<()>>) -> Result<Listen, ClientError> {
    let mut resampler = Resampler::new(SAMPLE_RATE, rate)?;
    Ok(Box::new(move |samples| {
        let _alive = &alive;
        let samples = resampler.push(samples).unwrap_or_default();
        let mut heard = lock(&heard);
        heard.extend(samples);
        keep_newest(&mut heard, rate);
    }))
}

fn keep_newest(waiting: &mut VecDeque<i16>, rate: u32) {
    let most = (rate / 1000 * MAX_WAITING_MS) as usize;
    let excess = waiting.len().saturating_sub(most);
    waiting.drain(..excess);
}

/// The devices' thread: sets both up, and waits until nobody needs them.
fn run(ready: &mpsc::Sender<Ready>, gone: &mpsc::Receiver<()>, said: Waiting, heard: Waiting) {
    let streams = (|| {
        let host = cpal::default_host();
        let none = |what: &str| ClientError::input(what, "the system has none: check its sound settings");
        let failed = |what: &'static str| move |error: cpal::Error| ClientError::input(what, error);
        let microphone = host.default_input_device().ok_or_else(|| none("microphone"))?;
        let speaker = host.default_output_device().ok_or_else(|| none("speaker"))?;
        let input = microphone.default_input_config().map_err(failed("microphone"))?;
        let output = speaker.default_output_config().map_err(failed("speaker"))?;
        let rates = (input.sample_rate(), output.sample_rate());
        let capture = match input.sample_format() {
            SampleFormat::F32 => capture::<f32>(&microphone, &input, said),
            SampleFormat::I16 => capture::<i16>(&microphone, &input, said),
            SampleFormat::I32 => capture::<i32>(&microphone, &input, said),
            SampleFormat::U8 => capture::<u8>(&microphone, &input, said),
            other => return Err(ClientError::input("microphone", format!("its samples are {other}"))),
        }
        .map_err(failed("microphone"))?;
        let play = match output.sample_format() {
            SampleFormat::F32 => play::<f32>(&speaker, &output, heard),
            SampleFormat::I16 => play::<i16>(&speaker, &output, heard),
            SampleFormat::I32 => play::<i32>(&speaker, &output, heard),
            SampleFormat::U8 => play::<u8>(&speaker, &output, heard),
            other => return Err(ClientError::input("speaker", format!("its samples are {other}"))),
        }
        .map_err(failed("speaker"))?;
        Ok(((capture, play), rates))
    })();
    match streams {
        Ok((_streams, rates)) => {
            // Who asked waits for this; then both closures are dropped, which is the error waited for here.
            if ready.send(Ok(rates)).is_ok() {
                let _ = gone.recv();
            }
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

fn capture<T>(
    device: &cpal::Device,
    config: &SupportedStreamConfig,
    said: Waiting,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample,
    i16: FromSample<T>,
{
    let (channels, rate) = (usize::from(config.channels()).max(1), config.sample_rate());
    let take = move |samples: &[T], _: &cpal::InputCallbackInfo| {
        let mut said = lock(&said);
        // The first channel is as good as any.
        said.extend(samples.iter().step_by(channels).map(|sample| i16::from_sample(*sample)));
        keep_newest(&mut said, rate);
    };
    let stream = device.build_input_stream(config.config(), take, complain, None)?;
    stream.play()?;
    Ok(stream)
}

fn play<T>(
    device: &cpal::Device,
    config: &SupportedStreamConfig,
    heard: Waiting,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample + FromSample<i16>,
{
    let channels = usize::from(config.channels()).max(1);
    let give = move |samples: &mut [T], _: &cpal::OutputCallbackInfo| {
        let mut heard = lock(&heard);
        for frame in samples.chunks_mut(channels) {
            frame.fill(T::from_sample(heard.pop_front().unwrap_or(0)));
        }
    };
    let stream = device.build_output_stream(config.config(), give, complain, None)?;
    stream.play()?;
    Ok(stream)
}

fn complain(error: cpal::Error) {
    tracing::warn!(%error, "an audio device");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microphone_that_lags_is_silent_and_one_that_runs_ahead_loses_the_oldest() {
        let said = Waiting::default();
        let (alive, _gone) = mpsc::channel();
        let mut next = listen_to(Arc::clone(&said), SAMPLE_RATE, Arc::new(alive)).unwrap();
        assert_eq!(next(), [0; FRAME_SAMPLES]);
        let second = SAMPLE_RATE as usize;
        lock(&said).extend((0..second).map(|n| i16::try_from(n / 4).unwrap()));
        let oldest = (second - (SAMPLE_RATE / 1000 * MAX_WAITING_MS) as usize) / 4;
        assert!(usize::try_from(next()[0]).unwrap() >= oldest - 1000);
    }
}
