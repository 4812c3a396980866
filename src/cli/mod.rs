//! The command line of `ript`.
//!
//! | command | file |
//! |---|---|
//! | `ript serve` | `serve`; its certificates and keys in development mode: `dev` |
//! | `ript token` | `token` |
//! | `ript certs` | `certs` |

pub mod certs;
pub mod dev;
mod error;
mod files;
pub mod serve;
pub mod token;
// MERGE 1 of 3: pub mod call; pub mod demo; pub mod listen; pub mod tgs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry;

pub use error::CliError;

/// What a command ends with.
pub type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// Calls over HTTP/3: a server, a client, and what they need.
#[derive(Debug, Parser)]
#[command(name = "ript", version, about, propagate_version = true)]
pub struct Cli {
    /// What is logged, on stderr: a level, or levels by module as in `ript=debug,info` [default: info]
    #[arg(long, global = true, env = "RIPT_LOG", value_name = "FILTER", help_heading = "Log")]
    log: Option<String>,
    /// Log one JSON object a line
    #[arg(long, global = true, help_heading = "Log")]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    Serve(serve::Args),
    /// Print a token signed by a development server's issuer key
    Token(token::Args),
    /// Make a development CA and a server certificate
    Certs(certs::Args),
    // MERGE 2 of 3: /// List the TGs that a token may use
    //               Tgs(tgs::Args), Listen(listen::Args), Call(call::Args), Demo(demo::Args)
}

impl Cli {
    /// Does what was asked.
    pub async fn run(self) -> Outcome {
        let log = telemetry::Options { filter: self.log, json: self.log_json };
        // The server's filter may stand in its configuration, so it starts its log itself.
        if !matches!(self.command, Command::Serve(_)) {
            telemetry::init(&log)?;
        }
        match self.command {
            Command::Serve(args) => args.run(log).await,
            Command::Token(args) => args.run().await,
            Command::Certs(args) => args.run().await,
            // MERGE 3 of 3: Command::Tgs(args) => args.run().await, and so on
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
