//! The RTP leg: descriptions, packets, and packets as RIPT's chunks.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

/// Provisional.
#[derive(Clone, Debug)]
pub struct RtpSettings {
    /// x
    pub listen: IpAddr,
    /// x
    pub public: Option<IpAddr>,
    /// x
    pub range: Option<RangeInclusive<u16>>,
    /// x
    pub most: usize,
}

impl RtpSettings {
    /// x
    pub const CODECS: &'static [&'static str] = &["opus", "AMR-WB", "G722", "PCMA", "PCMU"];
}

impl Default for RtpSettings {
    fn default() -> Self {
        Self { listen: Ipv4Addr::LOCALHOST.into(), public: None, range: None, most: 1_000 }
    }
}
