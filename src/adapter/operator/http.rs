//! Requests to an operator: https with its roots, no redirects, answers of a sane length and within a sane time.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// The longest that one answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer: two descriptions with each character escaped, and what is around them.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// Why there is no useful answer; it holds no token.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// No token can be had.
    #[error("no access token: {0}")]
    Token(String),
    /// The operator is not reached, or answers nonsense.
    #[error("{0}")]
    Away(String),
    /// It would not.
    #[error("{status} {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// CAMARA's code.
        code: String,
        /// For people.
        message: String,
        /// When to come again.
        after: Option<Duration>,
    },
}

impl ApiError {
    /// The status of a refusal.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// When the operator wants to be asked again.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Refused { after, .. } => *after,
            _ => None,
        }
    }
}

impl From<reqwest::Error> for ApiError {
    fn from(error: reqwest::Error) -> Self {
        // The reason stands at the end of the chain.
        let error = error.without_url();
        let mut deepest: &dyn std::error::Error = &error;
        while let Some(source) = deepest.source() {
            deepest = source;
        }
        Self::Away(deepest.to_string())
    }
}

/// The system's roots and these.
pub(super) fn tls(roots: &[CertificateDer<'static>]) -> Result<ClientConfig, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for root in roots {
        store.add(root.clone()).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A client on that TLS.
pub(super) fn client(tls: ClientConfig) -> Result<reqwest::Client, String> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        // RFC 9700 §4.12: a redirect could carry a token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .timeout(PATIENCE)
        .user_agent(concat!("ript/", env!("CARGO_PKG_VERSION")))
        .build();
    client.map_err(|error| error.to_string())
}

/// An answer's body, if it is no longer than it may be.
pub(super) async fn body(mut answer: reqwest::Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(ApiError::Away(format!("the answer is over {MAX_BODY} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
