//! What is wrong with a configuration: which key, where it stands, and what would be right.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// In a flag of the command line.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{place}: {why}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser said.
        why: String,
    },
    /// There is no such key.
    #[error("{place}: there is no key {key}; the nearest is {nearest}")]
    UnknownKey {
        /// The whole key, or the variable's name.
        key: String,
        /// Where.
        place: Place,
        /// The nearest one that there is, in the same spelling.
        nearest: String,
    },
    /// The value has the wrong type.
    #[error("{place}: {key} is {found}; right is {expected}")]
    WrongType {
        /// The whole key.
        key: String,
        /// Where.
        place: Place,
        /// What it is.
        found: &'static str,
        /// What it has to be.
        expected: String,
    },
    /// The value has the right type and is no good.
    #[error("{place}: {key}: {why}")]
    BadValue {
        /// The whole key.
        key: String,
        /// Where.
        place: Place,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A key that must be there is not.
    #[error("{place}: {key} is missing: {why}")]
    Missing {
        /// The whole key.
        key: String,
        /// The table that lacks it.
        place: Place,
        /// What to add.
        why: &'static str,
    },
    /// Nobody could use this server.
    #[error("{0}")]
    Incomplete(&'static str),
    /// Development mode, open to the network.
    #[error(
        "--dev refuses to listen on {0}: anyone who reads the data directory can mint tokens; listen on 127.0.0.1 or [::1], or say --dev-anywhere"
    )]
    DevelopmentInTheOpen(SocketAddr),
}
