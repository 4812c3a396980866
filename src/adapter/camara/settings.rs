//! How CAMARA's APIs are served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::registration::Limits;
use crate::protocol::id::TgId;
use crate::protocol::number::Number;
use crate::service::fetch;

/// How these APIs are served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest body, where no SDP is in it.
    pub max_body: usize,
    /// How long registrations live, and how many there may be.
    pub registrations: Limits,
    /// The TG on which devices are registered; none: the first of the server's that the token may use.
    pub tg: Option<TgId>,
    /// Where emergency calls go; none: they are refused.
    pub emergency: Option<Number>,
    /// Whether a party is told where the other says that its device is.
    pub location: bool,
    /// The WebRTC port.
    pub webrtc: WebRtcSettings,
    /// Event subscriptions and their webhooks.
    pub sinks: SinkSettings,
}

/// How events are subscribed to, and where webhooks may be.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Where requests may go besides public addresses, and whom they trust besides the system's roots.
    pub fetch: fetch::Settings,
    /// Subscriptions of one user: 100 at most, for that is the longest list.
    pub per_user: usize,
    /// The longest life of a subscription, and its life where none is asked for.
    pub longest: Duration,
}

/// Where devices' media is taken.
#[derive(Clone, Debug)]
pub struct WebRtcSettings {
    /// The UDP address; with port 0 any free one.
    pub listen: SocketAddr,
    /// Where that port is taken, any free one does: nobody chose it.
    pub any_port: bool,
    /// The addresses that devices are told; none: the one above, or the host's own where that is a wildcard.
    pub public: Vec<IpAddr>,
    /// Sessions at once.
    pub sessions: usize,
    /// Invitations come without an offer: the device that is called makes one.
    pub offerless: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_body: 64 * 1024,
            registrations: Limits::default(),
            tg: None,
            emergency: None,
            location: false,
            webrtc: WebRtcSettings::default(),
            sinks: SinkSettings::default(),
        }
    }
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self { fetch: fetch::Settings::default(), per_user: 30, longest: Duration::from_secs(7 * 24 * 3600) }
    }
}

impl Default for WebRtcSettings {
    /// A free port that only this machine reaches.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            any_port: false,
            public: vec![],
            sessions: 1_000,
            offerless: false,
        }
    }
}
