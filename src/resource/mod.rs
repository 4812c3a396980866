//! L3: RIPT's resources, one thin file each, the same handlers for HTTP/3, HTTP/2 and HTTP/1.1.

mod auth;
mod base;
mod byways;
mod calls;
mod certs;
mod consumers;
mod events;
mod handlers;
mod media;
mod oauth;
mod outer;
mod push;
mod reply;
mod stream;
mod tgs;
mod twin;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{connect, get, post};

use crate::service::Service;

pub use crate::protocol::network::Network;
pub(crate) use auth::scope;
pub(crate) use media::SessionPath;

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
    /// How long a `GET` of media waits for a chunk.
    pub media_idle: Duration,
    /// What adapters ask of tokens, besides our own scopes.
    pub scopes: &'static [&'static str],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            origins: vec![],
            trusted_proxies: vec![],
            max_body: 64 * 1024,
            max_chunk: 64 * 1024,
            // wire §5: an idle one gets 204 after 10 s.
            media_idle: Duration::from_secs(10),
            scopes: &[],
        }
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
    router_with(service, settings, Router::new())
}

/// All resources, and beside them an adapter's routes: CORS, early data and `Date` are theirs too. What is refused
/// before a route is reached comes to theirs as a [`Problem`](crate::protocol::problem::Problem) among the request's
/// extensions, to be told in their own words.
pub fn router_with(service: Arc<Service>, settings: Settings, adapters: Router) -> Router {
    let app = App { service, settings: Arc::new(settings), byways: Arc::default() };
    let registrations = || get(consumers::list).post(consumers::register).put(consumers::register);
    let on_tg = || get(consumers::list_of_tg).post(consumers::register_on_tg).put(consumers::register_on_tg);
    let registration = || get(consumers::describe).put(consumers::change).delete(consumers::remove);
    let v1 = Router::new()
        .route("/providertgs", get(tgs::list))
        .route("/providertgs/{tg}", get(tgs::describe))
        .route("/providertgs/{tg}/handlers", get(handlers::list).post(handlers::register))
        .route(
            "/providertgs/{tg}/handlers/{key}",
            get(handlers::describe).put(handlers::change).delete(handlers::remove),
        )
        .route("/providertgs/{tg}/certs", post(certs::enrol))
        // The drafts' other spelling.
        .route("/providertgs/{tg}/cert", post(certs::enrol))
        .route("/providertgs/{tg}/calls", get(calls::list).post(calls::place))
        .route("/providertgs/{tg}/calls/{leg}", get(calls::describe).post(calls::act))
        .route("/providertgs/{tg}/calls/{leg}/events", get(events::reverse).put(events::forward))
        .route(
            "/providertgs/{tg}/calls/{leg}/media",
            get(media::fetch).put(media::send).merge(connect(media::session)),
        )
        .route("/consumertgs", registrations())
        .route("/consumertgs/{id}", registration())
        .route("/providertgs/{tg}/consumertgs", on_tg())
        // The drafts' other spelling.
        .route("/customertgs", registrations())
        .route("/customertgs/{id}", registration())
        .route("/providertgs/{tg}/customertgs", on_tg())
        .route("/push", get(push::open).merge(connect(push::open)))
        .route("/push/tickets", post(push::ticket));
    Router::new()
        .nest(crate::protocol::resource::ROOT, v1)
        .route("/.well-known/ript-oauth", get(oauth::login))
        .route("/.well-known/oauth-protected-resource", get(oauth::resource))
        .fallback(reply::not_found)
        .method_not_allowed_fallback(reply::method_not_allowed)
        .layer(axum::middleware::from_fn(outer::refuse))
        .with_state(app.clone())
        .merge(adapters)
        .layer(axum::middleware::from_fn_with_state(app, outer::wrap))
}
