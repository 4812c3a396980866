//! What an operator's account is, as it is configured.

use std::fmt;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use uuid::Uuid;

use crate::protocol::number::{Destinations, Number};

/// All accounts, and where their devices' names are kept.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The accounts, the preferred one first.
    pub accounts: Vec<AccountSettings>,
    /// The folder with each account's device id.
    pub folder: PathBuf,
}

/// An account at an operator: one number.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// The root of its APIs: `https://api.operator.example`.
    pub url: String,
    /// The account's number: calls leave from it, and calls to it arrive.
    pub number: Number,
    /// What buys its tokens.
    pub access: Access,
    /// Whom it is used to call.
    pub destinations: Destinations,
    /// The device's name; none: one that is made once and kept.
    pub device: Option<Uuid>,
    /// Roots besides the system's.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Where tokens come from.
#[derive(Clone, Debug)]
pub enum Access {
    /// OAuth client credentials (RFC 6749 §4.4).
    Client {
        /// The token endpoint.
        token_url: String,
        /// The client's name.
        id: String,
        /// Its secret.
        secret: Secret,
    },
    /// A file that somebody else keeps a token in; it is read for each request.
    File(PathBuf),
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
