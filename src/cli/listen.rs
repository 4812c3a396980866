//! `ript listen`: waits for calls and answers them.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::call::{Plan, converse, exit_code};
use super::client_args::{CliResult, ServerArgs, SoundArgs, Voice, choose_tg, explain};
use super::terminal::{Terminal, interrupted};
use crate::client::audio::FrameSource;
use crate::client::{AudioCall, EndInfo, IncomingCall, Listener};
use crate::protocol::event::{Outcome, Party, Scope};
use crate::protocol::resource::TapReason;

/// Waits for calls and answers them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// On which TG: its name or URI; without it, the first.
    #[arg(long)]
    tg: Option<String>,
    /// Answer at once; this is what happens anyway.
    #[arg(long, conflicts_with = "ring")]
    auto_answer: bool,
    /// Let it ring for so many seconds before answering.
    #[arg(long, value_name = "SECONDS")]
    ring: Option<f64>,
    /// Leave after the first call.
    #[arg(long)]
    once: bool,
    /// This device's own name for itself; without it, a new one that is forgotten at the end.
    #[arg(long, value_name = "NAME")]
    handler_id: Option<String>,
    #[command(flatten)]
    sound: SoundArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> CliResult<ExitCode> {
        let source = self.sound.source(Voice::Callee)?;
        let client = self.server.connect().await?;
        let tg = choose_tg(&client, self.tg.as_deref()).await?;
        let spec = self.sound.handler();
        let spec = match &self.handler_id {
            Some(id) => spec.id(id),
            None => spec,
        };
        let device = client.register(&tg.uri, spec).await.map_err(explain)?;
        let mut terminal = Terminal::new(self.sound.json);
        terminal.say(&format!("listening at {} on {}", device.tg().numbers.join(", "), tg.name));
        terminal.json(&json!({
            "event": "client-listening", "handler": device.uri(), "tg": tg.uri, "numbers": device.tg().numbers,
        }));
        let mut listener = device.listen();
        let result = self.serve(&mut listener, &mut terminal, &source).await;
        drop(listener);
        if self.handler_id.is_none() {
            // It was made for this run.
            let _ = device.unregister().await;
        }
        result
    }

    async fn serve(
        &self,
        listener: &mut Listener,
        terminal: &mut Terminal,
        source: &FrameSource,
    ) -> CliResult<ExitCode> {
        loop {
            let incoming = tokio::select! {
                incoming = listener.next() => incoming.map_err(explain)?,
                () = interrupted() => return Ok(ExitCode::SUCCESS),
            };
            let end = self.take(incoming, listener, terminal, source).await;
            let end = end.and_then(|end| self.sound.check(terminal).map(|()| end));
            match end {
                Ok(end) if self.once => return Ok(exit_code(&end)),
                Err(error) if self.once => return Err(error),
                Ok(_) => {}
                Err(error) => terminal.say(&error.to_string()),
            }
        }
    }

    /// One call, from the first ring to the end; whoever else calls meanwhile hears that it is busy.
    async fn take(
        &self,
        incoming: IncomingCall,
        listener: &mut Listener,
        terminal: &mut Terminal,
        source: &FrameSource,
    ) -> CliResult<EndInfo> {
        let call = incoming.call().clone();
        let verdict = call.verification().and_then(|v| v.get("status")).and_then(|s| s.as_str());
        terminal.say(&format!("{} calls {} ({})", call.from(), call.to(), verdict.unwrap_or("not verified")));
        terminal.json(&json!({
            "event": "client-incoming", "call": call.uri(), "from": call.from(), "to": call.to(),
            "reason": incoming.reason(), "verification": call.verification(),
        }));
        let conversation = async {
            match incoming.reason() {
                TapReason::Take => call.pull().await.map_err(explain)?,
                _ => {
                    if incoming.reason() == TapReason::Incoming {
                        incoming.alerting().await.map_err(explain)?;
                    }
                    if let Some(seconds) = self.ring {
                        let ringing = tokio::time::sleep(Duration::from_secs_f64(seconds.max(0.0)));
                        tokio::select! {
                            () = ringing => {}
                            () = interrupted() => {
                                call.decline("rejected", Scope::Device).await.map_err(explain)?;
                                let reason = "rejected".to_owned();
                                return Ok(EndInfo { outcome: Outcome::Declined, by: Party::Callee, reason });
                            }
                            end = call.ended() => return Ok(end),
                        }
                    }
                    call.answer().await.map_err(explain)?;
                }
            }
            let audio = AudioCall::start(&call, self.sound.options(source)?).map_err(explain)?;
            converse(&call, audio, terminal, Plan::default()).await
        };
        let busy = async {
            // A listener that fails fails again after this call.
            while let Ok(other) = listener.next().await {
                let _ = other.decline("busy", Scope::Device).await;
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            end = conversation => end,
            never = busy => match never {},
        }
    }
}
