//! `ript sip check`: tries the telephone networks of a configuration.

use std::io::Write as _;
use std::process::ExitCode;

use super::{Outcome, serve};
use crate::adapter::ims;

/// Telephone networks.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Register, send OPTIONS, and say of each step how it went and what a failure may come from; while no server runs
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Only this trunk, or the account of this user
    name: Option<String>,
    #[command(flatten)]
    serve: serve::Args,
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> Outcome {
        let Command::Check(Check { name, serve }) = self.command;
        let config = serve.load()?;
        let mut out = std::io::stdout();
        if config.sip.is_empty() {
            writeln!(out, "no [[sip.account]] and no [[sip.trunk]] is configured")?;
            return Ok(ExitCode::FAILURE);
        }
        let print = |step: ims::Step| {
            let (mark, found) = match &step.found {
                Ok(found) => ("ok", found),
                Err(why) => ("FAILED", why),
            };
            // A closed pipe is no reason to stop half-way: what was registered is to be taken back.
            let _ = writeln!(std::io::stdout(), "{}: {}: {mark}: {found}", step.way, step.what);
        };
        let well = ims::check(&config.sip, &config.data.join("sip"), name.as_deref(), print).await?;
        writeln!(out, "{}", if well { "all went well" } else { "not all went well" })?;
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
