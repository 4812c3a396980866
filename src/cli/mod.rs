//! The command line of `ript`.
//!
//! | command | file |
//! |---|---|
//! | `ript serve` | `serve`; its certificates and keys in development mode: `dev`; its page: `dev_page` |
//! | `ript token` | `token` |
//! | `ript certs` | `certs` |
//! | `ript tgs`, `ript listen`, `ript call` | `tgs`, `listen`, `call`; what they share: `client_args`, `terminal` |
//! | `ript login`, `ript logout` | `login` |
//! | `ript trunk` | `trunk` |
//! | `ript sip check` | `sip` |
//! | `ript demo` | `demo` |
//! | `ript openapi` | here: [`crate::openapi`] makes it |
//! | `ript compare` | `compare` |

pub mod call;
pub mod certs;
pub mod client_args;
pub mod compare;
pub mod demo;
pub mod dev;
mod dev_page;
mod error;
mod files;
pub mod listen;
pub mod login;
pub mod serve;
pub mod sip;
pub mod terminal;
pub mod tgs;
pub mod token;
pub mod trunk;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry;

pub use error::CliError;

/// What a command ends with.
pub type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

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
    /// Log in at a domain, for `tgs`, `listen` and `call`
    Login(login::Args),
    /// Forget the login at a domain
    Logout(login::LogoutArgs),
    /// Join a provider, leave it, or show what was joined
    Trunk(trunk::Args),
    /// Try the telephone networks that are configured
    Sip(sip::Args),
    /// List the TGs that a token may use
    Tgs(tgs::Args),
    /// Wait for calls and answer them
    Listen(listen::Args),
    /// Place a call
    Call(call::Args),
    /// Run a server, a callee and a caller on this machine, and check that each hears the other
    Demo(demo::Args),
    /// Print the OpenAPI document of all that a server serves
    Openapi,
    /// Tell whether a recording holds a speech
    Compare(compare::Args),
}

impl Cli {
    /// Does what was asked.
    pub async fn run(self) -> Outcome {
        // The demonstration's own output is what its user came for.
        let quiet = matches!(self.command, Command::Demo(_)).then(|| demo::LOG.to_owned());
        let log = telemetry::Options { filter: self.log.or(quiet), json: self.log_json };
        // The server's filter may stand in its configuration, so it starts its log itself.
        if !matches!(self.command, Command::Serve(_)) {
            telemetry::init(&log)?;
        }
        match self.command {
            Command::Serve(args) => args.run(log).await,
            Command::Token(args) => args.run().await,
            Command::Certs(args) => args.run().await,
            Command::Login(args) => args.run().await,
            Command::Logout(args) => args.run().await,
            Command::Trunk(args) => args.run().await,
            Command::Sip(args) => args.run().await,
            Command::Tgs(args) => args.run().await,
            Command::Listen(args) => args.run().await,
            Command::Call(args) => args.run().await,
            Command::Demo(args) => args.run().await,
            Command::Openapi => {
                writeln!(std::io::stdout(), "{:#}", crate::openapi::document())?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Compare(args) => args.run().await,
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
