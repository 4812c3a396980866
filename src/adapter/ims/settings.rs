//! What telephone networks are configured.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::adapter::sip::TlsFiles;
use crate::adapter::sip::rtp::{RtpSettings, Srtp};
use crate::identity::passport::Attest;
use crate::media::audio::AudioCodec;
use crate::protocol::network::Network;
use crate::protocol::number::{Destinations, Number};
use crate::service::rate::Rate;

/// All of them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where RTP is.
    pub rtp: RtpSettings,
    /// The DNS servers that are asked for SIP servers; none: the system's.
    pub dns: Vec<SocketAddr>,
    /// Numbers registered at a registrar, in an IMS or not.
    pub accounts: Vec<AccountSettings>,
    /// Number ranges that need no registration.
    pub trunks: Vec<TrunkSettings>,
}

impl Settings {
    /// What all of them have in common.
    pub(super) fn ways(&self) -> impl Iterator<Item = &WaySettings> {
        let accounts = self.accounts.iter().map(|account| &account.way);
        accounts.chain(self.trunks.iter().map(|trunk| &trunk.way))
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.trunks.is_empty()
    }
}

/// What accounts and trunks have in common.
#[derive(Clone, Debug)]
pub struct WaySettings {
    /// SIP over UDP and TCP.
    pub listen: SocketAddr,
    /// SIP over TLS.
    pub tls_listen: Option<SocketAddr>,
    /// What others are told, where that isn't the address bound.
    pub public: Option<IpAddr>,
    /// For TLS.
    pub files: TlsFiles,
    /// Whose requests are taken, besides the servers'.
    pub peers: Vec<Network>,
    /// RFC 5922 §7.1: the domains whose certificates make a peer; none: whatever `files.roots` has issued.
    pub peer_names: Vec<String>,
    /// Requests a second that begin something, of one peer.
    pub rate: Rate,
    /// RFC 5626 §4.4.1: how often who is reached by TCP or TLS is asked whether it is there.
    pub keepalive: Duration,
    /// Whom it is used to call.
    pub destinations: Destinations,
    /// Codecs, best first.
    pub codecs: Vec<AudioCodec>,
    /// SRTP by SDES (RFC 4568).
    pub srtp: Srtp,
    /// Whether its keys may go where SIP is not encrypted.
    pub srtp_in_clear: bool,
    /// RFC 4028; none: no session timer is asked for.
    pub session_expires: Option<Duration>,
    /// The number that stands for emergency services: calls to it leave as `urn:service:sos`.
    pub emergency: Option<Number>,
    /// RFC 7315 §4.4: how callers are attached, as P-Access-Network-Info says it.
    pub access: Option<String>,
}

/// A password or a SIM's secrets; neither is printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// RFC 7616.
    Password(String),
    /// RFC 3310, TS 33.102.
    Aka {
        /// K.
        k: [u8; 16],
        /// OPc.
        opc: [u8; 16],
    },
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Aka { .. } => "Aka",
        })
    }
}

/// A number that is registered.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// The number.
    pub number: Number,
    /// TS 23.003 §13.4: the public identity, `sip:…`.
    pub identity: String,
    /// TS 23.003 §13.3: the private one.
    pub user: String,
    /// What proves it.
    pub secret: Secret,
    /// Whom REGISTER is for: `sip:ims.example`.
    pub registrar: String,
    /// Where requests are sent first: the P-CSCF, or an outbound proxy.
    pub proxy: Option<String>,
    /// How long a registration is to last.
    pub expires: Duration,
    /// Whether the registrar is an IMS (TS 24.229), and not just a registrar.
    pub ims: bool,
    /// Registered also while nobody here is called by this number.
    pub always: bool,
    /// The rest.
    pub way: WaySettings,
}

/// A trunk.
#[derive(Clone, Debug)]
pub struct TrunkSettings {
    /// Its name, for logs and records.
    pub name: String,
    /// Where calls leave to, the first first; the next where it fails.
    pub servers: Vec<String>,
    /// Our numbers, that it calls.
    pub numbers: Destinations,
    /// RFC 8588 §4: what its word for a caller is worth where no PASSporT comes along.
    pub attest: Attest,
    /// RFC 3325 §3: whether it may learn who calls, and is believed where it asserts the same.
    pub trusted: bool,
    /// Where the certificates of our callers' PASSporTs are to be found, for PASSporTs that don't say it.
    pub x5u: Option<String>,
    /// How often its servers are asked by OPTIONS whether they are there; none: they aren't.
    pub ping: Option<Duration>,
    /// Digest, where it challenges calls.
    pub login: Option<(String, String)>,
    /// The rest.
    pub way: WaySettings,
}
