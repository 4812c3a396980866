//! What the services are told, parsed and typed.

use std::sync::Arc;
use std::time::Duration;

use super::fetch;
use super::gateway::Gateway;
use super::rate::Rate;
use crate::call::Timing;
use crate::identity::enrol::Enroller;
use crate::identity::passport::PassportTrust;
use crate::identity::token::TokenPolicy;
use crate::protocol::id::TgId;
use crate::protocol::number::Destinations;

/// What the services are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The TGs.
    pub tgs: Vec<TgSettings>,
    /// Whose tokens are taken.
    pub tokens: TokenPolicy,
    /// What is asked of issuers over the network.
    pub oauth: OAuth,
    /// Whose PASSporTs are taken.
    pub passports: PassportTrust,
    /// Who issues certificates to users, if this server does.
    pub enroller: Option<Arc<Enroller>>,
    /// How calls leave for other networks, if they do.
    pub gateway: Option<Arc<dyn Gateway>>,
    /// The calls' times.
    pub timing: Timing,
    /// How often a client pings.
    pub keepalive: Duration,
    /// How fast one user may place calls, and enrol.
    pub call_rate: Option<Rate>,
    /// Whether the audit log names numbers.
    pub audit_numbers: bool,
    /// Live calls that one user may have.
    pub calls_per_user: usize,
    /// Live calls altogether.
    pub calls: usize,
    /// Handlers that one user may have.
    pub handlers_per_user: usize,
    /// Signalling byways open at once on one leg.
    pub byways_per_leg: usize,
}

/// What is asked of issuers over the network.
#[derive(Clone, Debug)]
pub struct OAuth {
    /// Where requests may go.
    pub fetch: fetch::Settings,
    /// The resource servers' own credentials at issuers that introspect opaque tokens, by issuer.
    pub introspection: Vec<(String, Credentials)>,
    /// Where users log in.
    pub login: Option<Login>,
    /// The shortest time between two looks at one issuer.
    pub pause: Duration,
}

impl Default for OAuth {
    fn default() -> Self {
        Self {
            fetch: fetch::Settings::default(),
            introspection: vec![],
            login: None,
            pause: Duration::from_secs(10),
        }
    }
}

/// A client's name and secret; the secret is never printed.
#[derive(Clone)]
pub struct Credentials {
    /// `client_id`.
    pub id: String,
    /// `client_secret`.
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where users log in, and as what their programs do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The issuer.
    pub issuer: String,
    /// The public client.
    pub client_id: String,
}

/// One TG.
#[derive(Clone, Debug)]
pub struct TgSettings {
    /// Its name in URIs.
    pub id: TgId,
    /// Its name, for people.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// Whom its users may call.
    pub destinations: Destinations,
    /// The numbers at which its users may be called; none: it takes no inbound calls.
    pub inbound: Option<Destinations>,
    /// How fast all of its users together may place calls.
    pub call_rate: Option<Rate>,
    /// Live calls that all of its users together may have placed.
    pub calls: Option<usize>,
    /// First wait before a connection is tried again.
    pub retry_backoff: Duration,
    /// Without acks for this long a call has to move.
    pub media_timeout: Duration,
}

impl Settings {
    /// The TG of that name.
    pub fn tg(&self, id: &str) -> Option<&TgSettings> {
        self.tgs.iter().find(|tg| tg.id.as_str() == id)
    }
}
