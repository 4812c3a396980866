//! The WebRTC leg: ICE-lite on one UDP port for all sessions, or a full ICE agent on a port of its own; DTLS-SRTP, and
//! packets as RIPT's chunks.
//!
//! | for | look in |
//! |---|---|
//! | whose a datagram is, and what is dropped | `port` |
//! | a session's task | `leg` |
//! | what descriptions have to have, and agree on | `sdp`, `rtc` |
//! | packets as chunks and back | `bridge` and [`crate::media::rtp`], `video` |

mod bridge;
mod leg;
mod port;
mod rtc;
mod sdp;
mod video;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

pub use leg::{Described, Leg, LegEvent};
pub use port::Drops;
pub use sdp::BadSdp;

use crate::protocol::advertisement::Advertisement;
use crate::protocol::codec::MediaKind;
use port::Port;
use sdp::Role;

/// All WebRTC sessions of this server.
#[derive(Debug)]
pub struct WebRtc {
    port: Arc<Port>,
    most: usize,
    reader: tokio::task::AbortHandle,
}

impl Drop for WebRtc {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl WebRtc {
    /// Binds the port. `public`: the addresses that clients are told, if not this machine's own. `most`: sessions at once.
    pub fn bind(listen: SocketAddr, public: &[IpAddr], most: usize) -> io::Result<Self> {
        let port = Arc::new(Port::bind(listen, public, Role::Lite)?);
        let reader = tokio::spawn(Arc::clone(&port).run()).abort_handle();
        Ok(Self { port, most, reader })
    }

    /// A new session; none: there are as many as may be.
    pub fn session(&self) -> Option<(Leg, mpsc::Receiver<LegEvent>)> {
        let taken = self.port.sessions.fetch_add(1, Ordering::Relaxed);
        if taken >= self.most {
            self.port.sessions.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Leg::start(Arc::clone(&self.port), None))
    }

    /// A session as a full ICE agent, which reaches who is ICE-lite, on a port of its own: ICE-lite servers that have one
    /// port for all sessions tell them by our address.
    pub fn agent() -> io::Result<(Leg, mpsc::Receiver<LegEvent>)> {
        let bind = |listen: SocketAddr| Port::bind(listen, &[], Role::Full);
        let port =
            bind((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| bind((Ipv4Addr::UNSPECIFIED, 0).into()));
        let port = Arc::new(port?);
        port.sessions.store(1, Ordering::Relaxed);
        let reader = tokio::spawn(Arc::clone(&port).run()).abort_handle();
        Ok(Leg::start(port, Some(reader)))
    }

    /// Where it is reached.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.port.candidates
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        self.port.drops()
    }

    /// What any session can send and render: what browsers share, and what is transcoded for them.
    pub fn advertisement() -> Advertisement {
        Self::advertised(&["opus", "PCMU", "PCMA", "telephone-event"], &["VP8", "H264"])
    }

    /// What a device sends and renders with the server's help: all audio that is transcoded here.
    pub fn transcoded(native: &Advertisement) -> Advertisement {
        let (mut audio, video) =
            (Self::names(native, MediaKind::Audio), Self::names(native, MediaKind::Video));
        if !audio.is_empty() {
            let all = Self::names(&Self::advertisement(), MediaKind::Audio);
            // A browser that takes no digits hears none.
            let more = all.into_iter().filter(|name| *name != "telephone-event");
            let more: Vec<_> = more.filter(|name| !audio.contains(name)).collect();
            audio.extend(more);
        }
        Self::advertised(&audio, &video)
    }

    /// The codecs of a kind that an advertisement names.
    pub(super) fn names(advertisement: &Advertisement, kind: MediaKind) -> Vec<&'static str> {
        let entries = advertisement.sources().filter(|entry| entry.kind() == Some(kind));
        let codecs = entries.flat_map(|entry| &entry.codecs);
        codecs.filter_map(|codec| codec.name().codec().map(|codec| codec.name)).collect()
    }

    /// These codecs, both ways, of names that the registry knows.
    pub(super) fn advertised(audio: &[&'static str], video: &[&'static str]) -> Advertisement {
        rtc::advertisement(audio, video)
    }
}
