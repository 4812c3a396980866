//! The flags of `ript serve`, and the process around a server: signals, log, exit.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::start;
use crate::cli::Outcome;
use crate::config::{Config, ConfigError, Sources};
use crate::telemetry;
use crate::transport::tls::TlsKeys;

/// The arguments of `ript serve`. Flags win over RIPT_… variables, these over the file, that over the defaults.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "RIPT_CONFIG")]
    config: Option<PathBuf>,
    /// Listen here for QUIC (UDP) and TLS (TCP); may be repeated [default: 127.0.0.1:4433 and [::1]:4433]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Listen here for clear text on TCP, behind a trusted proxy; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT")]
    clear_listen: Vec<SocketAddr>,
    /// The directory for everything that survives a restart [default: .ript]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The certificate chain, PEM, leaf first
    #[arg(long, value_name = "FILE")]
    certificate: Option<String>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// Any other key of the configuration, as in --set limits.calls=500; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Development mode: make keys and certificates in the data directory, and trust them
    #[arg(long)]
    dev: bool,
    /// Let development mode listen where others can reach it
    #[arg(long, requires = "dev")]
    dev_anywhere: bool,
    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
}

impl Args {
    /// Serves until told to stop.
    pub async fn run(self, mut log: telemetry::Options) -> Outcome {
        let config = self.load()?;
        if self.check {
            return check(&config);
        }
        log.filter = log.filter.or_else(|| config.log.clone());
        telemetry::init(&log)?;
        let mut signals = Signals::new()?;
        let running = start(config).await?;
        show(&running.pages()?)?;
        while signals.next().await == Signal::Reload {
            match running.reload() {
                Ok(()) => tracing::info!("certificate read again"),
                Err(error) => tracing::error!(%error, "the certificate stays as it was"),
            }
        }
        tracing::info!("shutting down; a second signal ends at once");
        tokio::select! {
            done = running.shutdown() => done?,
            () = signals.stop() => std::process::exit(1),
        }
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    /// The configuration that these flags, the environment and the file make.
    pub(in crate::cli) fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.sources(Sources::from_environment()))
    }

    fn sources(&self, mut sources: Sources) -> Sources {
        let listen =
            |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        sources.file.clone_from(&self.config);
        (sources.dev, sources.dev_anywhere) = (self.dev, self.dev_anywhere);
        for (key, value) in &self.set {
            sources.flag(key, "--set", [value.clone()]);
        }
        sources.flag("listen", "--listen", listen(&self.listen));
        sources.flag("clear-listen", "--clear-listen", listen(&self.clear_listen));
        sources.flag("data", "--data", self.data.clone());
        sources.flag("tls.certificate", "--certificate", self.certificate.clone());
        sources.flag("tls.key", "--key", self.key.clone());
        sources
    }
}

/// On standard output: the log has no tokens.
fn show(pages: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    if !pages.is_empty() {
        writeln!(
            out,
            "\nTwo users' pages; open each in a window of its own. The browser will not know who made the"
        )?;
        writeln!(
            out,
            "certificate: go on all the same, or have it trust ca.pem. Who has a link is that user.\n"
        )?;
    }
    for page in pages {
        writeln!(out, "  {page}\n")?;
    }
    out.flush()
}

/// `--check`: everything that can be known without starting.
fn check(config: &Config) -> Outcome {
    if let Some(tls) = &config.tls {
        TlsKeys::from_files(&tls.certificate, &tls.key)?;
    }
    for warning in config.warnings() {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    let (tgs, issuers) = (config.service.tgs.len(), config.service.tokens.issuers.len());
    let addresses: Vec<_> =
        config.listen.iter().chain(&config.clear_listen).map(SocketAddr::to_string).collect();
    let dev = if config.dev { ", development mode" } else { "" };
    writeln!(
        std::io::stdout(),
        "the configuration is good: {}; TGs: {tgs}; issuers: {issuers}; data: {}{dev}",
        addresses.join(", "),
        config.data.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is right: limits.calls=500")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Reload,
    Stop,
}

#[cfg(unix)]
struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Stop
    }
}

impl Signals {
    async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn load(line: &str) -> Result<Config, ConfigError> {
        let args = Line::parse_from(line.split(' ')).args;
        Config::load(&args.sources(Sources::default()))
    }

    #[test]
    fn every_flag_reaches_its_key() {
        let config = load(
            "serve --dev --listen 127.0.0.1:1 --listen [::1]:2 --clear-listen 127.0.0.1:3 --data d \
             --certificate c.pem --key k.pem --set limits.calls=7 --set timing.claim-ms=9",
        )
        .unwrap();
        assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!(config.clear_listen, ["127.0.0.1:3".parse().unwrap()]);
        assert_eq!(config.data, PathBuf::from("d"));
        let tls = config.tls.unwrap();
        assert_eq!((tls.certificate, tls.key), (PathBuf::from("c.pem"), PathBuf::from("k.pem")));
        assert_eq!(config.service.calls, 7);
        assert_eq!(config.service.timing.claim.as_millis(), 9);
    }

    #[test]
    fn a_misspelt_set_names_the_nearest_key() {
        let error = load("serve --dev --set limits.cals=1").unwrap_err().to_string();
        assert_eq!(error, "--set: there is no key limits.cals; the nearest is limits.calls");
    }
}
