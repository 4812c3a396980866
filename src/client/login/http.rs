//! HTTP to an identity provider: TLS with our roots, no redirects, answers of a sane length.

use std::error::Error as _;
use std::time::Duration;

use oauth2::{HttpRequest, HttpResponse};
use rustls::RootCertStore;

use super::LoginError;
use crate::transport::tls;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest answer that is read.
const MAX_BODY: usize = 1 << 18;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error(transparent)]
    Request(#[from] reqwest::Error),
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
    #[error("the answer can't be read")]
    Unreadable,
}

/// Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub(in super::super) struct Http(reqwest::Client);

impl Http {
    pub(in super::super) fn new(roots: RootCertStore) -> Result<Self, LoginError> {
        let config =
            tls::tcp_client(roots, &["http/1.1"]).map_err(|error| LoginError::local("TLS", error))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            // RFC 9700 §4.12: a redirect could carry a code or a token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(PATIENCE)
            .user_agent(concat!("ript/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Self).map_err(|error| LoginError::local("HTTP", error))
    }

    /// Sends one request; the whole answer.
    pub(super) async fn exchange(self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer = self.0.execute(reqwest::Request::try_from(request)?).await?;
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(HttpError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        response.body(body).map_err(|_| HttpError::Unreadable)
    }
}

impl HttpError {
    /// What it means for a login at this server.
    pub(super) fn explain(self, server: &str) -> LoginError {
        let Self::Request(error) = self else { return LoginError::protocol(server, self) };
        let error = error.without_url();
        // The reason stands at the end of the chain.
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        let server = server.to_owned();
        if reason.contains("certificate") {
            LoginError::Untrusted { server, reason }
        } else {
            LoginError::Unreachable { server, reason }
        }
    }
}
