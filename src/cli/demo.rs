//! `ript demo`: the main job in one command. A server, a callee and a caller in this process, real clients over
//! real QUIC on loopback; success only if each recording really holds the other side's speech.

mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{Outcome, serve, token};
use crate::client::audio::{self, AtEnd, Correlation, FrameSource, correlate, read_audio};
use crate::client::{
    AudioCall, AudioOptions, AudioSource, AudioStats, Call, CallEvents, CallStats, Client, ClientError,
    Handler, HandlerSpec, Happened,
};
use crate::clock;
use crate::config::{Config, ConfigError};

const CALLER: &str = "+14085550001";
const CALLEE: &str = "+14085550002";
/// What is logged unless asked otherwise: that the server is a development server is said in the output.
pub(super) const LOG: &str = "warn,h3=off,ript::cli::dev=error";
/// How long the two talk: both samples fit, with the jitter buffer's delay.
const TALK: Duration = Duration::from_millis(5200);
/// How long anything may take that is not talk.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server, a callee and a caller on this machine; each has to hear the other.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Media in byways, as behind a load balancer that passes no datagrams.
    #[arg(long)]
    byways: bool,
    /// Leave the server running afterwards, and print what to try with it.
    #[arg(long)]
    keep: bool,
    /// Where the server's files and the recordings go [default: a new folder for temporary files].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// One side of the demonstration, after the call.
struct Side {
    name: &'static str,
    stats: CallStats,
    sound: AudioStats,
    recording: PathBuf,
    heard: Correlation,
    happened: Vec<Happened>,
}

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{0} did not happen within {PATIENCE:?}")]
    Late(&'static str),
    #[error("the call ended before it was answered: {0:?}")]
    Refused(crate::client::EndInfo),
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> Outcome {
        let folder = match &self.data {
            Some(folder) => folder.clone(),
            None => temporary(),
        };
        // With --keep the server is to be found where `ript call` looks for it, if that port is free.
        let server = match self.keep {
            true => match serve::start(config(&folder, 4433)?).await {
                Ok(server) => server,
                Err(_) => serve::start(config(&folder, 0)?).await?,
            },
            false => serve::start(config(&folder, 0)?).await?,
        };
        let address = *server.addresses().first().ok_or(DemoError::Late("listening"))?;
        let url = format!("https://{address}");
        println!(
            "server   {url} (HTTP/3); development certificates and token issuer, in {}",
            folder.display()
        );
        let sides = self.call(&folder, &url).await;
        let passed = match &sides {
            Ok(sides) => report::print(sides),
            Err(error) => {
                println!("\nthe call failed: {error}");
                false
            }
        };
        if self.keep {
            report::more(&url, &folder);
            super::terminal::interrupted().await;
        }
        server.shutdown().await?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn call(
        &self,
        folder: &Path,
        url: &str,
    ) -> Result<[Side; 2], Box<dyn std::error::Error + Send + Sync>> {
        let callee_device = device(folder, url, "bob", CALLEE).await?;
        let caller_device = device(folder, url, "alice", CALLER).await?;
        println!("callee   bob at {CALLEE}, caller alice at {CALLER}; each with a token of their own\n");
        let mut listener = callee_device.listen();
        let began = clock::elapsed();
        let place = soon("placing the call", caller_device.place(CALLEE, None));
        let (placed, incoming) = tokio::join!(place, soon("the tap", listener.next()));
        let (outgoing, incoming) = (placed??, incoming??);
        let (heard_by_caller, heard_by_callee) = (outgoing.events(), incoming.call().events());
        incoming.alerting().await?;
        let incoming = soon("the answer", incoming.answer()).await??;
        soon("the answer", outgoing.answered()).await?.map_err(DemoError::Refused)?;
        let from_caller = self.talk(folder, "caller", &outgoing, audio::CALLER)?;
        let from_callee = self.talk(folder, "callee", &incoming, audio::CALLEE)?;
        tokio::time::sleep(TALK).await;
        // Once the call is over its media path and figures are gone with it.
        let stats = [outgoing.stats(), incoming.stats()];
        outgoing.end().await?;
        let ends = async { tokio::join!(outgoing.ended(), incoming.ended()) };
        soon("the end", ends).await?;
        let [at_caller, at_callee] = stats;
        let caller = finish("caller", at_caller, from_caller, heard_by_caller, audio::CALLEE, began).await?;
        let callee = finish("callee", at_callee, from_callee, heard_by_callee, audio::CALLER, began).await?;
        caller_device.unregister().await?;
        callee_device.unregister().await?;
        Ok([caller, callee])
    }

    /// Speaks a sample and records what is heard.
    fn talk(
        &self,
        folder: &Path,
        name: &str,
        call: &Call,
        sample: &[u8],
    ) -> Result<(AudioCall, PathBuf), ClientError> {
        let recording = folder.join(format!("{name}-heard.wav"));
        let options = AudioOptions {
            source: AudioSource::Frames(FrameSource::new(audio::speech(sample), AtEnd::Silence)),
            record: Some(recording.clone()),
            byways_only: self.byways,
            ..AudioOptions::default()
        };
        Ok((AudioCall::start(call, options)?, recording))
    }
}

fn config(folder: &Path, port: u16) -> Result<Config, ConfigError> {
    let mut config = Config::development(folder, &[SocketAddr::from((Ipv4Addr::LOCALHOST, port))])?;
    // Its only clients are in this process, and are done.
    config.transport.drain = Duration::from_millis(200);
    Ok(config)
}

/// A registered device of a new user.
async fn device(
    folder: &Path,
    url: &str,
    user: &str,
    number: &str,
) -> Result<Handler, Box<dyn std::error::Error + Send + Sync>> {
    let bearer = token::mint(folder, &token::claims(user, &[number]), clock::now())?;
    let client = Client::builder(url).token(bearer).roots(std::fs::read(folder.join("ca.pem"))?);
    let client = soon("connecting", client.connect()).await??;
    let tg = client.tgs().await?.into_iter().next().ok_or(DemoError::Late("finding a TG"))?;
    Ok(client.register(&tg.uri, HandlerSpec::audio()).await?)
}

async fn finish(
    name: &'static str,
    stats: CallStats,
    (sound, recording): (AudioCall, PathBuf),
    mut events: CallEvents,
    spoken: &[u8],
    began: Duration,
) -> Result<Side, Box<dyn std::error::Error + Send + Sync>> {
    let sound = soon("the recording", sound.finish()).await??;
    let heard = correlate(&audio::speech(spoken), &read_audio(&recording)?, audio::SAMPLE_RATE);
    let mut happened = Vec::new();
    while let Ok(Some(mut event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        event.at = event.at.saturating_sub(began);
        happened.push(event);
    }
    Ok(Side { name, stats, sound, recording, heard, happened })
}

async fn soon<T>(what: &'static str, future: impl Future<Output = T>) -> Result<T, DemoError> {
    tokio::time::timeout(PATIENCE, future).await.map_err(|_| DemoError::Late(what))
}

fn temporary() -> PathBuf {
    let name = format!("ript-demo-{}-{}", std::process::id(), clock::now().as_millis());
    std::env::temp_dir().join(name)
}
