//! The server's configuration: one TOML file, `RIPT_…` variables and flags, read into types at this edge.
//!
//! Flags win over the environment, the environment over the file, the file over the defaults. Unknown keys are
//! errors that name the nearest key. Paths in the file are relative to the file.
//!
//! | to find | look in |
//! |---|---|
//! | every key, and the nearest to a wrong one | `keys` |
//! | how the three sources are laid over each other | `tree` |
//! | how a value is taken and typed | `section` |
//! | what the keys mean, defaults, bounds | `build`; of CAMARA's APIs `camara`, of others' `operator`; telephone networks `sip`, `sip_apart` |
//! | what is said about mistakes | `error` |

mod build;
mod camara;
mod error;
mod keys;
mod operator;
mod section;
mod sip;
mod sip_apart;
#[cfg(test)]
mod sip_tests;
#[cfg(test)]
mod tests;
mod tree;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::adapter;
use crate::identity::devca::LIFETIME;
use crate::protocol::number::Destinations;
use crate::service::{self, TgSettings};
use crate::{resource, transport};

pub(crate) use build::{DEVELOPMENT_ISSUER, pattern};
pub use error::{ConfigError, Place};
use tree::Table;

/// Where development mode keeps its keys unless told otherwise.
pub const DEFAULT_DATA: &str = ".ript";

/// What a server is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses for QUIC (UDP) and TLS (TCP).
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` is the default, of which one family may be lacking on this machine.
    pub listen_by_default: bool,
    /// Addresses for clear text on TCP, behind a trusted proxy.
    pub clear_listen: Vec<SocketAddr>,
    /// The directory with everything that survives a restart.
    pub data: PathBuf,
    /// The certificate; none is configured in development mode.
    pub tls: Option<TlsFiles>,
    /// Development mode: keys and certificates are made in `data`.
    pub dev: bool,
    /// What is logged.
    pub log: Option<String>,
    /// For the services.
    pub service: service::Settings,
    /// For the resources.
    pub resource: resource::Settings,
    /// For CAMARA's APIs.
    pub camara: adapter::camara::Settings,
    /// Accounts at operators.
    pub operators: Vec<adapter::operator::AccountSettings>,
    /// Telephone networks.
    pub sip: adapter::ims::Settings,
    /// For the transports.
    pub transport: transport::Limits,
    /// Request streams that a peer may have open at once on one connection.
    pub requests_per_connection: u32,
}

/// A certificate chain, leaf first, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// From what a configuration is read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: Option<PathBuf>,
    /// The environment; only `RIPT_…` is looked at.
    pub environment: Vec<(String, String)>,
    /// What flags say.
    pub flags: Vec<Flag>,
    /// `--dev`.
    pub dev: bool,
    /// `--dev-anywhere`.
    pub dev_anywhere: bool,
}

/// A key given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The key.
    pub key: String,
    /// The flag, as it is named in errors.
    pub name: String,
    /// Its values.
    pub values: Vec<String>,
}

impl Sources {
    /// This process's environment, and nothing else.
    pub fn from_environment() -> Self {
        let text = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
        let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Self { environment: all.filter(|(name, _)| name.starts_with("RIPT_")).collect(), ..Self::default() }
    }

    /// Adds a flag; one without values says nothing.
    pub fn flag(&mut self, key: &str, name: &str, values: impl IntoIterator<Item = String>) {
        let values: Vec<_> = values.into_iter().collect();
        if !values.is_empty() {
            self.flags.push(Flag { key: key.to_owned(), name: name.to_owned(), values });
        }
    }

    fn tree(&self) -> Result<(Table, Place), ConfigError> {
        let mut tree = Table::new();
        let mut place = Place::Flag("configuration".to_owned());
        if let Some(path) = &self.file {
            let unreadable = |source| ConfigError::Unreadable { path: path.clone(), source };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            tree = tree::parse(&text, path)?;
            place = Place::File { path: path.clone(), line: 1 };
        }
        tree::give_environment(&mut tree, &self.environment)?;
        for Flag { key, name, values } in &self.flags {
            let place = Place::Flag(name.clone());
            if !keys::KEYS.contains(&key.as_str()) {
                let nearest = keys::nearest(key);
                return Err(ConfigError::UnknownKey { key: key.clone(), place, nearest });
            }
            tree::give(&mut tree, key, values.clone(), place)?;
        }
        Ok((tree, place))
    }
}

impl Config {
    /// Reads, types and checks all of it. No file but the configuration and its keys is touched.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let (tree, place) = sources.tree()?;
        let mut config = build::build(tree, place, sources.dev)?;
        config.check(sources)?;
        if config.dev && config.service.tgs.is_empty() {
            config.service.tgs.push(development_tg());
        }
        Ok(config)
    }

    /// Development mode with the defaults, for servers inside tests and tools.
    pub fn development(data: &Path, listen: &[SocketAddr]) -> Result<Self, ConfigError> {
        let mut sources = Sources { dev: true, ..Sources::default() };
        sources.flag("data", "data", [data.display().to_string()]);
        sources.flag("listen", "listen", listen.iter().map(SocketAddr::to_string));
        Self::load(&sources)
    }

    /// What works less than its operator may think, in sentences.
    pub fn warnings(&self) -> Vec<&'static str> {
        let mut all = Vec::new();
        // Development mode brings a CA.
        if !self.dev && self.service.enroller.is_none() {
            all.push(
                "without [certs] the server can't vouch for callers: sessions of CAMARA's webrtc-call-handling are \
                 refused by 503, and devices can only be called",
            );
        }
        all
    }

    fn check(&self, sources: &Sources) -> Result<(), ConfigError> {
        if self.dev {
            let all = self.listen.iter().chain(&self.clear_listen).chain([&self.camara.webrtc.listen]);
            let open = all.copied().find(|address| !address.ip().is_loopback());
            return match open {
                Some(address) if !sources.dev_anywhere => Err(ConfigError::DevelopmentInTheOpen(address)),
                _ => Ok(()),
            };
        }
        if self.service.tokens.issuers.is_empty() {
            return Err(ConfigError::Incomplete(
                "no issuer: nobody could log in; add to the configuration file\n\
                 \n  [[issuer]]\n  issuer = \"https://login.example.com\"\n  audience = \"ript\"\n  \
                 keys = \"issuer.jwks\"\n\nor try things out with --dev",
            ));
        }
        if self.service.tgs.is_empty() {
            return Err(ConfigError::Incomplete(
                "no TG: nobody could call; add to the configuration file\n\
                 \n  [[tg]]\n  id = \"main\"\n  destinations = \"*\"\n  inbound = \"*\"",
            ));
        }
        if self.tls.is_none() && !self.listen.is_empty() {
            return Err(ConfigError::Incomplete(
                "no certificate: add to the configuration file\n\
                 \n  [tls]\n  certificate = \"server.pem\"\n  key = \"server-key.pem\"\n\n\
                 or, behind a proxy that ends TLS, listen = [] and clear-listen",
            ));
        }
        Ok(())
    }
}

/// The TG of a development server that configures none.
fn development_tg() -> TgSettings {
    TgSettings {
        id: build::development_tg_id(),
        name: "Development".to_owned(),
        description: format!("keys and certificates that live {} days", LIFETIME.as_secs() / 86_400),
        destinations: Destinations::all(),
        inbound: Some(Destinations::all()),
        call_rate: None,
        calls: None,
        retry_backoff: build::RETRY_BACKOFF,
        media_timeout: build::MEDIA_TIMEOUT,
    }
}
