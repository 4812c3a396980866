//! The `ript` binary.

use std::process::ExitCode;

use clap::Parser as _;
use ript::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ript: {error}");
            ExitCode::FAILURE
        }
    }
}
