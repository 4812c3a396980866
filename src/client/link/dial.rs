//! One try at a connection: names, addresses, TLS, QUIC, HTTP/3.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;

use super::super::ClientError;
use super::super::builder::Guard;
use super::super::uri::Origin;
use crate::transport::client::H3Client;
use crate::transport::{Limits, TransportError, quic};

/// One try takes no longer; the handshake is sent again within it.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried side by side.
const MAX_ADDRESSES: usize = 4;

/// What it takes to connect; sessions are resumed from one connection to the next.
#[derive(Debug)]
pub(in super::super) struct Dial {
    origin: Origin,
    tls: rustls::ClientConfig,
    limits: Arc<Limits>,
    guard: Option<Guard>,
}

impl Dial {
    pub(in super::super) fn new(origin: Origin, tls: rustls::ClientConfig, guard: Option<Guard>) -> Self {
        Self { origin, tls, limits: Arc::new(Limits::default()), guard }
    }

    pub(in super::super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// All addresses of the server's name at once; the first to answer wins.
    pub(super) async fn connect(&self) -> Result<H3Client, ClientError> {
        let lookup = tokio::net::lookup_host((self.origin.host(), self.origin.port())).await;
        let found: Vec<SocketAddr> = lookup.map_err(|error| self.unreachable(error))?.collect();
        let named = !found.is_empty();
        let allowed = |at: &SocketAddr| self.guard.as_ref().is_none_or(|guard| (guard.0)(at.ip()));
        let addresses: Vec<SocketAddr> = found.into_iter().filter(allowed).take(MAX_ADDRESSES).collect();
        if named && addresses.is_empty() {
            return Err(self.unreachable("the name has no public address"));
        }
        if addresses.is_empty() {
            return Err(self.unreachable("the name has no address"));
        }
        let tries = addresses.into_iter().map(|address| Box::pin(self.connect_to(address)));
        select_ok(tries).await.map(|(h3, _)| h3)
    }

    /// Each try has a socket of its own, so that a balancer that hashes addresses may choose anew.
    async fn connect_to(&self, address: SocketAddr) -> Result<H3Client, ClientError> {
        let endpoint =
            quic::client_endpoint(self.tls.clone(), address).map_err(|error| self.unreachable(error))?;
        let connecting = H3Client::connect(&endpoint, address, self.origin.host(), Arc::clone(&self.limits));
        match tokio::time::timeout(ATTEMPT, connecting).await {
            Ok(connected) => connected.map_err(|error| self.classify(&error)),
            Err(_) => Err(self.unreachable(format!("no answer from {address} over UDP"))),
        }
    }

    fn classify(&self, error: &TransportError) -> ClientError {
        let text = error.to_string();
        match error {
            TransportError::Tls(_) => self.untrusted(text),
            TransportError::Connection(_) if text.contains("certificate") => self.untrusted(text),
            _ => self.unreachable(text),
        }
    }

    fn untrusted(&self, reason: String) -> ClientError {
        ClientError::Untrusted { server: self.origin.authority().to_owned(), reason }
    }

    fn unreachable(&self, reason: impl ToString) -> ClientError {
        ClientError::Unreachable { server: self.origin.authority().to_owned(), reason: reason.to_string() }
    }
}
