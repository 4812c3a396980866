//! The one UDP port of all sessions: whose a datagram is, and what is dropped.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use bytes::Bytes;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use str0m::crypto::{CryptoProvider, dtls::DtlsCert};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::leg::Command;
use super::sdp::Role;
use crate::clock;
use crate::protocol::id::CallId;
use crate::service::{read, write};

/// Bursts read at once, and the bytes of each.
const BURSTS: usize = 8;
const BURST: usize = 64 * 1024;
/// Addresses from which a session may be heard: those that its ICE agent answered, the newest.
pub(super) const ADDRESSES: usize = 8;
/// What the kernel may hold for all sessions, as far as it lets us.
const BUFFER: usize = 4 * 1024 * 1024;

/// What was dropped before any session saw it, and what no session had room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// From addresses that no ICE agent has answered, other than checks for a session's own name.
    pub strangers: u64,
    /// Neither STUN nor DTLS nor RTP.
    pub garbage: u64,
    /// A session had too many waiting, datagrams or chunks.
    pub overrun: u64,
    /// The system would not send it: its buffer was full.
    pub unsent: u64,
    /// A session's ICE agent, DTLS or SRTP would not have it.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    strangers: AtomicU64,
    garbage: AtomicU64,
    pub(super) overrun: AtomicU64,
    unsent: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// A datagram for a session.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) at: Instant,
    pub(super) data: Bytes,
}

type Inbox = mpsc::Sender<Command>;

#[derive(Debug, Default)]
struct Table {
    by_address: HashMap<SocketAddr, (u64, Inbox)>,
    by_name: HashMap<String, (u64, Inbox)>,
    by_call: HashMap<CallId, Vec<(u64, Inbox)>>,
    addresses: HashMap<u64, Vec<SocketAddr>>,
}

/// The port, with what all sessions share.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    mapped: bool,
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) role: Role,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) certificate: DtlsCert,
    pub(super) counters: Counters,
    pub(super) sessions: AtomicUsize,
    table: RwLock<Table>,
    next: AtomicU64,
}

impl Port {
    /// Binds it for sessions of one role. `public`: the addresses that clients are told; none: this machine's own.
    pub(super) fn bind(listen: SocketAddr, public: &[IpAddr], role: Role) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // As much as the system allows.
        if role == Role::Lite {
            let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER);
            let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER);
        }
        let bound = socket.local_addr()?;
        let provider = Arc::new(str0m::crypto::from_feature_flags());
        let certificate = provider.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| io::Error::other("no DTLS certificate can be made"))?;
        Ok(Self {
            mapped: bound.is_ipv6(),
            candidates: candidates(bound, public)?,
            role,
            socket: UdpSocket::from_std(socket)?,
            state,
            provider,
            certificate,
            counters: Counters::default(),
            sessions: AtomicUsize::new(0),
            table: RwLock::default(),
            next: AtomicU64::new(1),
        })
    }

    /// Reads until it is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        // A full agent's port has one session.
        let bursts = if self.role == Role::Lite { BURSTS } else { 1 };
        let mut buffers = vec![0; bursts * BURST];
        loop {
            if let Err(error) = self.socket.readable().await {
                tracing::error!(%error, "the WebRTC port can't be read");
                return;
            }
            let mut metas = [RecvMeta::default(); BURSTS];
            let mut slices: Vec<_> = buffers.chunks_mut(BURST).map(IoSliceMut::new).collect();
            let read = self.socket.try_io(Interest::READABLE, || {
                self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas)
            });
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                // A port that refused what we sent is no reason to stop reading.
                Err(error) => {
                    tracing::debug!(%error, "reading the WebRTC port");
                    continue;
                }
            };
            let at = clock::instant();
            for (meta, burst) in metas[..count].iter().zip(buffers.chunks(BURST)) {
                let burst = Bytes::copy_from_slice(&burst[..meta.len]);
                let mut start = 0;
                while start < burst.len() {
                    let end = (start + meta.stride.max(1)).min(burst.len());
                    self.arrived(at, meta, burst.slice(start..end));
                    start = end;
                }
            }
        }
    }

    fn arrived(&self, at: Instant, meta: &RecvMeta, data: Bytes) {
        let from = canonical(meta.addr);
        let Some(inbox) = self.whose(from, &data) else { return };
        let to = self.local(meta.dst_ip, from);
        let datagram = Command::Datagram(Datagram { from, to, at, data });
        if inbox.try_send(datagram).is_err() {
            self.counters.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn whose(&self, from: SocketAddr, data: &[u8]) -> Option<Inbox> {
        let table = read(&self.table);
        // RFC 7983 §7: how the first byte tells what it is.
        let inbox = match data.first() {
            Some(0..=3) => {
                // A check names its session, whatever session was heard from that address before.
                let named = checked_name(data).and_then(|name| table.by_name.get(name));
                named.or_else(|| table.by_address.get(&from))
            }
            Some(20..=63 | 128..=191) => table.by_address.get(&from),
            _ => {
                self.counters.garbage.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        if inbox.is_none() {
            self.counters.strangers.fetch_add(1, Ordering::Relaxed);
        }
        inbox.map(|(_, inbox)| inbox.clone())
    }

    /// Which of the announced addresses a datagram came to: behind a NAT it is another than the socket's.
    fn local(&self, ip: Option<IpAddr>, from: SocketAddr) -> SocketAddr {
        let ip = ip.map(|ip| ip.to_canonical());
        let exact = self.candidates.iter().find(|candidate| Some(candidate.ip()) == ip);
        let family = || self.candidates.iter().find(|candidate| candidate.is_ipv4() == from.is_ipv4());
        *exact.or_else(family).unwrap_or(&self.candidates[0])
    }

    /// Sends now, or drops: a full socket buffer is a full network.
    pub(super) fn send(&self, to: SocketAddr, contents: &[u8]) {
        let destination = match (self.mapped, to) {
            (true, SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => to,
        };
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
        let sent = self
            .socket
            .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.socket), &transmit));
        if let Err(error) = sent {
            self.counters.unsent.fetch_add(1, Ordering::Relaxed);
            tracing::trace!(%error, "a WebRTC datagram was not sent");
        }
    }

    pub(super) fn name(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A session is asked for by its ICE user fragment.
    pub(super) fn enlist(&self, id: u64, name: &str, inbox: &Inbox) {
        let mut table = write(&self.table);
        table.by_name.retain(|_, (other, _)| *other != id);
        table.by_name.insert(name.to_owned(), (id, inbox.clone()));
    }

    /// A session's ICE agent has answered an address: what comes from there is its own.
    pub(super) fn admit(&self, id: u64, address: SocketAddr, inbox: &Inbox) {
        let mut guard = write(&self.table);
        let table = &mut *guard;
        let mine = table.addresses.entry(id).or_default();
        if mine.len() >= ADDRESSES {
            let oldest = mine.remove(0);
            if table.by_address.get(&oldest).is_some_and(|(owner, _)| *owner == id) {
                table.by_address.remove(&oldest);
            }
        }
        mine.push(address);
        table.by_address.insert(address, (id, inbox.clone()));
    }

    /// The sessions of one call know of each other.
    pub(super) fn join(&self, id: u64, call: CallId, inbox: &Inbox) {
        let mut table = write(&self.table);
        let members = table.by_call.entry(call).or_default();
        members.retain(|(member, _)| *member != id);
        members.push((id, inbox.clone()));
    }

    /// The other sessions of a call are asked for a frame that stands alone.
    pub(super) fn ask_for_key_frame(&self, id: u64, call: CallId) {
        let table = read(&self.table);
        for (member, inbox) in table.by_call.get(&call).into_iter().flatten() {
            if *member != id {
                // Who is that busy sends one later.
                let _ = inbox.try_send(Command::KeyFrame);
            }
        }
    }

    pub(super) fn forget(&self, id: u64, call: Option<CallId>) {
        let mut guard = write(&self.table);
        let table = &mut *guard;
        table.by_name.retain(|_, (owner, _)| *owner != id);
        for address in table.addresses.remove(&id).unwrap_or_default() {
            if table.by_address.get(&address).is_some_and(|(owner, _)| *owner == id) {
                table.by_address.remove(&address);
            }
        }
        if let Some(call) = call
            && let Some(members) = table.by_call.get_mut(&call)
        {
            members.retain(|(member, _)| *member != id);
            if members.is_empty() {
                table.by_call.remove(&call);
            }
        }
    }

    pub(super) fn drops(&self) -> Drops {
        let Counters { strangers, garbage, overrun, unsent, refused } = &self.counters;
        let [strangers, garbage, overrun, unsent, refused] =
            [strangers, garbage, overrun, unsent, refused].map(|count| count.load(Ordering::Relaxed));
        Drops { strangers, garbage, overrun, unsent, refused }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What clients are told: the configured addresses, else the one that is listened on, else this machine's.
fn candidates(bound: SocketAddr, public: &[IpAddr]) -> io::Result<Vec<SocketAddr>> {
    let ips: Vec<IpAddr> = match (public, bound.ip().is_unspecified()) {
        ([_, ..], _) => public.to_vec(),
        ([], false) => vec![bound.ip()],
        ([], true) => {
            let all = if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip());
            let link_local = |ip: &IpAddr| match ip {
                IpAddr::V4(v4) => v4.is_link_local(),
                IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
            };
            let all: Vec<_> = all.filter(|ip| !link_local(ip) && (bound.is_ipv6() || ip.is_ipv4())).collect();
            let outside: Vec<_> = all.iter().copied().filter(|ip| !ip.is_loopback()).collect();
            if outside.is_empty() { all } else { outside }
        }
    };
    let all: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect();
    if all.is_empty() { Ok(vec![SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bound.port())]) } else { Ok(all) }
}

/// RFC 8445 §7.2.2: a check's USERNAME begins with the user fragment of who is asked.
fn checked_name(data: &[u8]) -> Option<&str> {
    // RFC 8489 §5: a Binding request, its length, the magic cookie.
    let [0, 1, high, low, 0x21, 0x12, 0xa4, 0x42, rest @ ..] = data else { return None };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let mut attributes = rest.get(12..12 + len)?;
    while let [a, b, high, low, rest @ ..] = attributes {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..len)?;
        if (*a, *b) == (0, 6) {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(name, _)| name);
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(attributes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&[0, 1], &len[..], &[0x21, 0x12, 0xa4, 0x42], &[7; 12], attributes].concat()
    }

    #[test]
    fn a_check_names_its_session() {
        let name = [&[0, 6, 0, 9][..], b"abcd:efgh", &[0; 3]].concat();
        assert_eq!(checked_name(&binding(&name)), Some("abcd"));
        let other = [&[0x80, 0x22, 0, 1, 9, 0, 0, 0][..], &name].concat();
        assert_eq!(checked_name(&binding(&other)), Some("abcd"));
        assert_eq!(checked_name(&binding(&[])), None);
        assert_eq!(checked_name(&binding(&name[..9])), None);
        let mut response = binding(&name);
        response[0] = 1;
        assert_eq!(checked_name(&response), None);
    }

    proptest::proptest! {
        #[test]
        fn garbage_names_nobody(data in proptest::collection::vec(0u8.., 0..80)) {
            checked_name(&data);
            checked_name(&binding(&data));
        }
    }

    #[test]
    fn clients_are_told_what_is_configured_or_what_is_there() {
        let public = ["192.0.2.1".parse().unwrap()];
        let any = "0.0.0.0:9".parse().unwrap();
        assert_eq!(candidates(any, &public).unwrap(), ["192.0.2.1:9".parse().unwrap()]);
        let one = "127.0.0.1:9".parse().unwrap();
        assert_eq!(candidates(one, &[]).unwrap(), [one]);
        let here = candidates(any, &[]).unwrap();
        assert!(!here.is_empty() && here.iter().all(|a| a.is_ipv4() && !a.ip().is_unspecified()), "{here:?}");
    }
}
