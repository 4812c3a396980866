//! A session as it is written down. Its keys are not: they are secrets, and the offer after a restart brings new ones (RFC 4568 §7.1.4:
//! of the same suite).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Direction, Line, Negotiation, Remote, Shape, Suite};
use crate::adapter::sip::rtp::RtpSettings;
use crate::media::rtp::lane::Agreed;

/// A session that was agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// Of our RTP.
    pub(in crate::adapter::sip::rtp) port: u16,
    /// What o= says.
    id: u64,
    version: u64,
    /// We hold.
    held: bool,
    lines: Vec<Line>,
    audio: usize,
    agreed: Agreed,
    to: Option<SocketAddr>,
    rtcp: Option<SocketAddr>,
    mux: bool,
    sends: bool,
    receives: bool,
    /// The far side holds.
    far_holds: bool,
    level: Option<u8>,
    /// It is encrypted, by this suite and with this tag.
    suite: Option<(Suite, u32)>,
    /// Where the far side was heard, if not there.
    pub(in crate::adapter::sip::rtp) heard: Option<SocketAddr>,
}

impl Negotiation {
    /// What is agreed on; none: nothing is.
    pub(in crate::adapter::sip::rtp) fn kept(&self, heard: Option<SocketAddr>) -> Option<Kept> {
        let (remote, shape) = (self.remote.as_ref()?, self.shape.as_ref()?);
        let suite = remote.keys.as_ref().map(|(ours, _)| (ours.suite, ours.tag)).or(self.lost);
        Some(Kept {
            port: self.port,
            id: self.id,
            version: self.version,
            held: self.held,
            lines: shape.lines.clone(),
            audio: shape.audio,
            agreed: remote.agreed.clone(),
            to: remote.to,
            rtcp: remote.rtcp,
            mux: remote.mux,
            sends: remote.direction.sends,
            receives: remote.direction.receives,
            far_holds: remote.held,
            level: remote.level,
            suite,
            heard,
        })
    }

    /// The session that was written down, on this port.
    pub(in crate::adapter::sip::rtp) fn resume(
        settings: &RtpSettings,
        address: IpAddr,
        port: u16,
        kept: Kept,
    ) -> Self {
        let Kept { id, version, held, lines, agreed, to, rtcp, mux, sends, receives, level, .. } = kept;
        let direction = Direction { sends, receives };
        let remote = Remote { agreed, to, rtcp, mux, direction, held: kept.far_holds, level, keys: None };
        let audio = kept.audio.min(lines.len().saturating_sub(1));
        Self {
            version,
            held,
            shape: (!lines.is_empty()).then_some(Shape { lines, audio }),
            remote: Some(remote),
            lost: kept.suite,
            ..Self::new(settings, address, port, id)
        }
    }

    /// The keys were lost with the last server: until there are new ones nothing can be said or heard, least of all in the clear.
    pub(in crate::adapter::sip::rtp) fn is_sealed(&self) -> bool {
        self.lost.is_some()
    }
}
