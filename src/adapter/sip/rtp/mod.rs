//! The RTP leg: descriptions, packets, and packets as RIPT's chunks.
//!
//! | for | look in |
//! |---|---|
//! | a call's handle and task | `leg` |
//! | port pairs | `ports` |
//! | reading a description; what is offered and agreed on | `sdp`, `formats`, `crypto`, `negotiation` |
//! | what is done with a packet, without sockets | `core` |
//! | who is heard | `lock` |
//! | packets and reports | `packet`, `rtcp`, `srtp` |
//! | packets as chunks and back | [`crate::media::rtp::lane`] |

mod core;
mod crypto;
mod formats;
pub(super) mod fuzzing;
mod leg;
mod lock;
mod negotiation;
mod packet;
mod ports;
mod rtcp;
mod sdp;
mod srtp;

use std::net::IpAddr;
use std::ops::RangeInclusive;

pub use leg::{Described, Leg, LegEvent};
pub use negotiation::Kept;
pub use ports::{Drops, RtpPorts};
pub use sdp::BadSdp;

use crate::media::audio::AudioCodec;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::codec::MediaKind;

/// Whether media is encrypted with keys from the description (SDES, RFC 4568).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Srtp {
    /// Never; an offer of nothing else is refused.
    #[default]
    Off,
    /// Where the far side does it too: our offers are RTP/AVP with keys, as many phones take them.
    Offered,
    /// Always: RTP/SAVP, and nothing else is taken.
    Required,
}

/// How legs are made.
#[derive(Clone, Debug)]
pub struct RtpSettings {
    /// The address of our ports.
    pub listen: IpAddr,
    /// The address that descriptions name, if it is another one.
    pub public: Option<IpAddr>,
    /// The ports to be used: each leg takes an even one and the next; none: whatever the system has.
    pub range: Option<RangeInclusive<u16>>,
    /// Legs at once.
    pub most: usize,
    /// Encryption.
    pub srtp: Srtp,
    /// What is offered and taken, the preferred one first.
    pub codecs: Vec<AudioCodec>,
}

impl RtpSettings {
    /// The default order: what sounds best first.
    pub fn all_codecs() -> Vec<AudioCodec> {
        vec![AudioCodec::Opus, AudioCodec::AmrWb, AudioCodec::G722, AudioCodec::Pcma, AudioCodec::Pcmu]
    }
}

/// What a leg with these codecs can send and render before anything is agreed on.
pub fn possible(codecs: &[AudioCodec]) -> Advertisement {
    let names: Vec<_> = codecs.iter().map(|codec| codec.name()).collect();
    advertised(&names, &["telephone-event", "CN"])
}

/// What a far side sends and renders with this server's help: all that is transcoded here, what it knows itself first.
pub fn transcoded(native: &Advertisement) -> Advertisement {
    let own = names(native);
    let is_rider = |name: &&&str| matches!(**name, "telephone-event" | "CN");
    let riders: Vec<_> = own.iter().filter(is_rider).copied().collect();
    let mut codecs: Vec<_> = own.iter().filter(|name| !is_rider(name)).copied().collect();
    let spoken = |name: &&str| AudioCodec::from_name(name).is_some_and(AudioCodec::is_spoken);
    if codecs.iter().any(spoken) {
        let all = AudioCodec::KNOWN.into_iter().filter(|codec| codec.is_spoken()).map(AudioCodec::name);
        let more: Vec<_> = all.filter(|name| !codecs.contains(name)).collect();
        codecs.extend(more);
    }
    advertised(&codecs, &riders)
}

/// The audio codecs that an advertisement names, those that ride along too.
fn names(advertisement: &Advertisement) -> Vec<&'static str> {
    let entries = advertisement.sources().filter(|entry| entry.kind() == Some(MediaKind::Audio));
    let codecs = entries.flat_map(|entry| &entry.codecs);
    codecs.filter_map(|codec| codec.name().codec().map(|codec| codec.name)).collect()
}

/// The same codecs both ways; source and sink 1.
fn advertised(codecs: &[&str], riders: &[&str]) -> Advertisement {
    if codecs.is_empty() {
        return Advertisement::default();
    }
    let all: String = codecs.iter().chain(riders).map(|codec| format!(" {codec};")).collect();
    let text = format!("1 in:{all}\n1 out:{all}\n");
    Advertisement::parse(&text).expect("names of the registry make an advertisement")
}
