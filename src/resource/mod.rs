//! L3: RIPT's resources, one thin file each, the same handlers for HTTP/3, HTTP/2 and HTTP/1.1.

mod auth;
mod base;
mod byways;
mod calls;
mod events;
mod handlers;
mod media;
mod outer;
mod push;
mod reply;
mod stream;
mod tgs;
mod twin;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{connect, get, post};

use crate::service::Service;

/// How the resources are served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origins whose pages may use this server (CORS), besides its own.
    pub origins: Vec<String>,
    /// Proxies whose `Forwarded` is believed.
    pub trusted_proxies: Vec<Network>,
    /// The largest JSON body.
    pub max_body: usize,
    /// The largest media chunk.
    pub max_chunk: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { origins: vec![], trusted_proxies: vec![], max_body: 64 * 1024, max_chunk: 64 * 1024 }
    }
}

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any of the addresses.
    pub address: IpAddr,
    /// How many leading bits count.
    pub bits: u8,
}

impl Network {
    /// Whether an address belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let wide = |a: IpAddr| match a.to_canonical() {
            IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, 32),
            IpAddr::V6(a) => (u128::from(a), 128),
        };
        let ((own, family), (other, of)) = (wide(self.address), wide(address));
        let bits = u32::from(self.bits).min(family);
        family == of && (bits == 0 || (own ^ other) >> (128 - bits) == 0)
    }
}

/// What every handler has at hand.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) service: Arc<Service>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) byways: Arc<byways::Byways>,
}

/// All resources.
pub fn router(service: Arc<Service>, settings: Settings) -> Router {
    let app = App { service, settings: Arc::new(settings), byways: Arc::default() };
    let v1 = Router::new()
        .route("/providertgs", get(tgs::list))
        .route("/providertgs/{tg}", get(tgs::describe))
        .route("/providertgs/{tg}/handlers", get(handlers::list).post(handlers::register))
        .route(
            "/providertgs/{tg}/handlers/{key}",
            get(handlers::describe).put(handlers::change).delete(handlers::remove),
        )
        .route("/providertgs/{tg}/calls", get(calls::list).post(calls::place))
        .route("/providertgs/{tg}/calls/{leg}", get(calls::describe).post(calls::act))
        .route("/providertgs/{tg}/calls/{leg}/events", get(events::reverse).put(events::forward))
        .route(
            "/providertgs/{tg}/calls/{leg}/media",
            get(media::fetch).put(media::send).merge(connect(media::session)),
        )
        .route("/push", get(push::open).merge(connect(push::open)))
        .route("/push/tickets", post(push::ticket));
    Router::new()
        .nest(crate::protocol::resource::ROOT, v1)
        .fallback(reply::not_found)
        .method_not_allowed_fallback(reply::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(app.clone(), outer::wrap))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let net = |address: &str, bits| Network { address: address.parse().unwrap(), bits };
        assert!(net("10.1.0.0", 16).contains("10.1.2.3".parse().unwrap()));
        assert!(!net("10.1.0.0", 16).contains("10.2.2.3".parse().unwrap()));
        assert!(net("::1", 128).contains("::1".parse().unwrap()));
        assert!(!net("::", 0).contains("127.0.0.1".parse().unwrap()));
        assert!(net("127.0.0.0", 8).contains("::ffff:127.0.0.1".parse().unwrap()));
    }
}
