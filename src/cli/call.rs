//! `ript call NUMBER`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::client_args::{CliResult, ServerArgs, SoundArgs, Voice, choose_tg, explain};
use super::terminal::{Terminal, interrupted};
use crate::client::{AudioCall, Call, CallEvent, EndInfo};
use crate::protocol::event::{Outcome, State};

/// How long the server may take to hear that we hang up.
const FAREWELL: Duration = Duration::from_secs(3);

/// Calls somebody.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Whom: +14085551000, 4711@example.com or a@example.com.
    number: String,
    /// Which of our numbers calls; without it, the TG's first.
    #[arg(long, value_name = "NUMBER")]
    from: Option<String>,
    /// Over which TG: its name or URI; without it, the first.
    #[arg(long)]
    tg: Option<String>,
    /// Hang up after so many seconds of talk.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Keys to press once it is answered.
    #[arg(long, value_name = "DIGITS")]
    dtmf: Option<String>,
    #[command(flatten)]
    sound: SoundArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> CliResult<ExitCode> {
        let source = self.sound.source(Voice::Caller)?;
        let client = self.server.connect().await?;
        let tg = choose_tg(&client, self.tg.as_deref()).await?;
        let device = client.register(&tg.uri, self.sound.handler()).await.map_err(explain)?;
        let mut terminal = Terminal::new(self.sound.json);
        let placed = device.place(&self.number, self.from.as_deref()).await.map_err(explain);
        let result = match placed {
            Ok(call) => {
                terminal.say(&format!("calling {} from {}", call.to(), call.from()));
                let audio = AudioCall::start(&call, self.sound.options(&source)?).map_err(explain)?;
                let plan = Plan { duration: self.duration, keys: self.dtmf.clone().unwrap_or_default() };
                converse(&call, audio, &mut terminal, plan).await
            }
            Err(error) => Err(error),
        };
        // The device was made for this call.
        let _ = device.unregister().await;
        let end = result?;
        self.sound.check(&mut terminal)?;
        Ok(exit_code(&end))
    }
}

/// What is to happen in a call by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Hang up after so many seconds of talk.
    pub(super) duration: Option<f64>,
    /// Keys to press once it is answered.
    pub(super) keys: String,
}

/// Success only for a call that was answered and ended as calls do.
pub(super) fn exit_code(end: &EndInfo) -> ExitCode {
    if end.outcome == Outcome::Completed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows a call until it ends; hangs up on Ctrl-C and when its time is over.
pub(super) async fn converse(
    call: &Call,
    audio: AudioCall,
    terminal: &mut Terminal,
    plan: Plan,
) -> CliResult<EndInfo> {
    let mut events = call.events();
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let mut keys = plan.keys.chars().collect::<Vec<_>>().into_iter();
    let limit = plan.duration.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
    let mut pressing = None;
    let mut ending = false;
    let interrupt = interrupted();
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            happened = events.next() => {
                let Some(happened) = happened else { break };
                terminal.event(call.uri(), &happened);
                match happened.event {
                    CallEvent::Ended(_) => break,
                    _ if call.is_elsewhere() && call.state() == State::Answered => break,
                    _ => {}
                }
            }
            _ = every.tick() => terminal.status(call.uri(), &call.stats(), &audio.stats()),
            () = &mut interrupt => {
                // Asked twice, it leaves whatever the server says.
                if std::mem::replace(&mut ending, true) {
                    break;
                }
                interrupt.set(interrupted());
                terminal.say("hanging up");
                hang_up(call).await;
            }
            () = over(call, limit), if !ending && limit.is_some() => {
                ending = true;
                hang_up(call).await;
            }
            () = next_key(call, &mut pressing, &mut keys), if keys.len() > 0 && call.state() == State::Answered => {}
        }
        if ending && call.end_info().is_none() && !call.handler().client().is_connected() {
            break;
        }
    }
    let stats = call.stats();
    terminal.status(call.uri(), &stats, &audio.stats());
    let sound = audio.finish().await.map_err(explain)?;
    let end = call.end_info().unwrap_or_else(|| ended_elsewhere(call));
    let lost = stats.media.lost;
    let mos = stats.media.mos.map_or_else(|| "–".to_owned(), |mos| format!("{mos:.2}"));
    terminal.say(&format!(
        "{} s, {} frames heard, {lost} lost, {} made up, MOS {mos}",
        stats.talking.unwrap_or_default().as_secs(),
        sound.played,
        sound.concealed,
    ));
    terminal.json(&json!({
        "event": "client-result", "call": call.uri(), "outcome": end.outcome, "by": end.by, "reason": end.reason,
    }));
    Ok(end)
}

fn ended_elsewhere(call: &Call) -> EndInfo {
    let moved = call.is_elsewhere();
    EndInfo {
        outcome: if moved { Outcome::Completed } else { Outcome::Failed },
        by: crate::protocol::event::Party::Server,
        reason: if moved { "another device carries the call" } else { "the server could not be told" }.into(),
    }
}

/// Tells the server, but not for ever.
async fn hang_up(call: &Call) {
    if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, call.end()).await {
        tracing::debug!(%error, "hanging up");
    }
}

/// Waits until the call has been answered for so long.
async fn over(call: &Call, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    if call.answered().await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(limit.saturating_sub(call.stats().talking.unwrap_or_default())).await;
}

/// Presses the next key, a moment after the one before; the press survives this being dropped.
async fn next_key(
    call: &Call,
    pressing: &mut Option<AbortOnDropHandle<()>>,
    keys: &mut std::vec::IntoIter<char>,
) {
    if pressing.is_none() {
        let Some(key) = keys.as_slice().first().copied() else { return };
        let call = call.clone();
        *pressing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if let Err(error) = call.dtmf(key).await {
                tracing::warn!(%error, "a key was not pressed");
            }
        })));
    }
    if let Some(press) = pressing {
        // It neither panics nor is aborted.
        let _ = press.await;
        *pressing = None;
        keys.next();
    }
}
