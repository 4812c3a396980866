//! What the process says about itself, on stderr.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// What is logged where nothing else is said; h3 calls the ordinary end of a connection an error.
pub const DEFAULT_FILTER: &str = "info,h3=off";

/// Why there is no log.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter can't be read.
    #[error("{filter:?} is no log filter: {why}; right is \"info\" or \"ript=debug,info\"")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong.
        why: String,
    },
    /// Something else took the log already.
    #[error("the log is taken: {0}")]
    Taken(String),
}

/// How to log.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The filter; none: the default.
    pub filter: Option<String>,
    /// One JSON object a line.
    pub json: bool,
}

/// Whether a filter can be read; what is wrong with it otherwise.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// Starts logging; once a process.
pub fn init(options: &Options) -> Result<(), TelemetryError> {
    let filter = options.filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let bad = |why: String| TelemetryError::Filter { filter: filter.to_owned(), why };
    // Whoever asks for more of everything doesn't ask for numbers and credentials: rsipstack logs whole messages.
    let quiet = if filter.contains("rsipstack") { "" } else { ",rsipstack=off" };
    let filter = EnvFilter::try_new(format!("{filter}{quiet}")).map_err(|error| bad(error.to_string()))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if options.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    started.map_err(|error| TelemetryError::Taken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_before_use() {
        assert_eq!(check_filter("ript=debug,info"), Ok(()));
        assert!(check_filter("ript=loud").is_err());
        let bad = Options { filter: Some("a=b=c".into()), json: false };
        assert!(matches!(init(&bad), Err(TelemetryError::Filter { .. })));
    }
}
