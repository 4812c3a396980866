//! A stub, so that the command line compiles.

pub mod network;

use std::sync::Arc;

use axum::Router;

use crate::service::Service;

/// What the resources are told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Web origins that may use this server.
    pub origins: Vec<String>,
    /// Proxies whose `Forwarded` is believed.
    pub trusted_proxies: Vec<network::Network>,
    /// The largest request body.
    pub max_body: usize,
    /// The largest media chunk.
    pub max_chunk: usize,
}

/// The route table.
pub fn router(_service: Arc<Service>, _settings: Settings) -> Router {
    Router::new()
}
