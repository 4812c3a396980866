//! Port pairs: an even port for RTP and the next one for RTCP (RFC 3550 §11).

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::RtpSettings;
use super::leg::{Leg, LegEvent};
use super::negotiation::Kept;
use crate::service::lock;

/// What the kernel holds for a leg: more than a second of G.711.
const BUFFER: usize = 64 * 1024;
/// How often the system is asked for a port whose neighbour is free too.
const TRIES: usize = 64;

/// What was dropped, of all legs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// From an address that is not, or not yet, the far side's.
    pub strangers: u64,
    /// From its address, with a foreign SSRC.
    pub foreign: u64,
    /// Neither RTP nor RTCP, or of a payload type that nobody agreed on.
    pub garbage: u64,
    /// SRTP that was replayed, or that no key of the call made.
    pub refused: u64,
    /// There was no room to send.
    pub overrun: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) strangers: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) overrun: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug, Default)]
struct Taken {
    /// Even ports in use; of ephemeral ones too.
    ports: HashSet<u16>,
    /// Where the search goes on: a port that was just released may still get packets of its last call.
    next: u16,
}

#[derive(Debug)]
struct Inner {
    settings: RtpSettings,
    address: IpAddr,
    taken: Mutex<Taken>,
    counters: Arc<Counters>,
}

/// All RTP legs of one side of the network.
#[derive(Clone, Debug)]
pub struct RtpPorts(Arc<Inner>);

/// A leg's two sockets; its ports are free again when it is dropped.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    pub(super) port: u16,
    /// Whether IPv4 addresses are written as IPv6 ones.
    pub(super) mapped: bool,
    ports: Arc<Inner>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        lock(&self.ports.taken).ports.remove(&self.port);
    }
}

impl RtpPorts {
    /// With these settings; nothing is bound before a leg needs it. A range without a pair is refused.
    pub fn new(settings: RtpSettings) -> io::Result<Self> {
        let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if settings.range.as_ref().is_some_and(|range| pairs(*range.start(), *range.end()) == 0) {
            return wrong(
                "the RTP port range has no even port with the next one; 16384-32767 would be right",
            );
        }
        if settings.codecs.is_empty() {
            return wrong("no codec is allowed on the RTP leg; PCMA or PCMU would be right");
        }
        let address = match settings.public {
            Some(public) => public,
            None if settings.listen.is_unspecified() => own_address(settings.listen),
            None => settings.listen,
        };
        let next = settings.range.as_ref().map_or(0, |range| first(*range.start()));
        let taken = Mutex::new(Taken { next, ..Taken::default() });
        Ok(Self(Arc::new(Inner { settings, address, taken, counters: Arc::default() })))
    }

    /// A new leg with ports of its own; an error says that there are as many as may be.
    pub fn session(&self) -> io::Result<(Leg, mpsc::Receiver<LegEvent>)> {
        let most = self.0.settings.most;
        let full = || io::Error::other(format!("there are {most} RTP legs, which is as many as may be"));
        if self.legs() >= most {
            return Err(full());
        }
        let pair = self.any()?;
        // Others may have come meanwhile.
        if self.legs() > most {
            return Err(full());
        }
        Ok(self.start(pair, None))
    }

    /// The leg that was written down: on its own ports, where the far side still sends to, if they can be had.
    pub fn resume(&self, kept: Kept) -> io::Result<(Leg, mpsc::Receiver<LegEvent>)> {
        // Where others have them, the offer that follows says where else.
        let pair = self.own(kept.port).map_or_else(|| self.any(), Ok)?;
        Ok(self.start(pair, Some(kept)))
    }

    fn start(&self, pair: Pair, kept: Option<Kept>) -> (Leg, mpsc::Receiver<LegEvent>) {
        Leg::start(pair, self.0.address, &self.0.settings, Arc::clone(&self.0.counters), kept)
    }

    /// Just these ports, if they are free.
    fn own(&self, port: u16) -> Option<Pair> {
        if !lock(&self.0.taken).ports.insert(port) {
            return None;
        }
        let pair = self.pair(port);
        if pair.is_err() {
            lock(&self.0.taken).ports.remove(&port);
        }
        pair.ok()
    }

    fn any(&self) -> io::Result<Pair> {
        match &self.0.settings.range {
            Some(range) => self.ranged(first(*range.start()), *range.end()),
            None => self.ephemeral(),
        }
    }

    fn ranged(&self, start: u16, end: u16) -> io::Result<Pair> {
        let all = pairs(start, end);
        for _ in 0..all {
            let port = {
                let mut taken = lock(&self.0.taken);
                let port = taken.next;
                taken.next = if usize::from(end - port) >= 3 { port + 2 } else { start };
                if !taken.ports.insert(port) {
                    continue;
                }
                port
            };
            match self.pair(port) {
                Ok(pair) => return Ok(pair),
                Err(error) => {
                    lock(&self.0.taken).ports.remove(&port);
                    if error.kind() != io::ErrorKind::AddrInUse {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("all {all} port pairs of the RTP range {start}-{end} are in use; make it greater"),
        ))
    }

    fn ephemeral(&self) -> io::Result<Pair> {
        let mut last = None;
        for _ in 0..TRIES {
            let probe = socket(self.0.settings.listen, 0)?;
            let port = probe.local_addr()?.port() & !1;
            drop(probe);
            if port == 0 || !lock(&self.0.taken).ports.insert(port) {
                continue;
            }
            match self.pair(port) {
                Ok(pair) => return Ok(pair),
                Err(error) => {
                    lock(&self.0.taken).ports.remove(&port);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no pair of UDP ports is free")))
    }

    fn pair(&self, port: u16) -> io::Result<Pair> {
        let listen = self.0.settings.listen;
        let rtp = UdpSocket::from_std(socket(listen, port)?)?;
        let next = port.checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let rtcp = UdpSocket::from_std(socket(listen, next)?)?;
        Ok(Pair { rtp, rtcp, port, mapped: listen.is_ipv6(), ports: Arc::clone(&self.0) })
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        let counters = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Drops {
            strangers: read(&counters.strangers),
            foreign: read(&counters.foreign),
            garbage: read(&counters.garbage),
            refused: read(&counters.refused),
            overrun: read(&counters.overrun),
        }
    }

    /// Legs that there are.
    pub fn legs(&self) -> usize {
        lock(&self.0.taken).ports.len()
    }

    /// The address in our descriptions.
    pub fn address(&self) -> IpAddr {
        self.0.address
    }

    /// How legs are made.
    pub fn settings(&self) -> &RtpSettings {
        &self.0.settings
    }
}

/// The first even port from here on.
fn first(port: u16) -> u16 {
    port.max(2).checked_next_multiple_of(2).unwrap_or(u16::MAX)
}

/// How many pairs lie between two ports, both included.
fn pairs(start: u16, end: u16) -> usize {
    (usize::from(end) + 1).saturating_sub(usize::from(first(start))) / 2
}

fn socket(listen: IpAddr, port: u16) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address((listen, port).into()), Type::DGRAM, Some(Protocol::UDP))?;
    if listen == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    let _ = socket.set_recv_buffer_size(BUFFER);
    socket.bind(&SocketAddr::from((listen, port)).into())?;
    Ok(socket.into())
}

/// The address that a description can name where we listen on all of them.
fn own_address(listen: IpAddr) -> IpAddr {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let mut own = all.iter().filter(|interface| !interface.is_loopback()).map(if_addrs::Interface::ip);
    let fit = own.find(|ip| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => listen.is_ipv6() && !ip.is_unicast_link_local(),
    });
    fit.unwrap_or(if listen.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_its_pairs() {
        assert_eq!(
            [(10, 11), (10, 10), (11, 13), (11, 12), (16_384, 32_767)].map(|(a, b)| pairs(a, b)),
            [1, 0, 1, 0, 8_192]
        );
        assert_eq!(pairs(65_534, u16::MAX), 1);
        assert_eq!(pairs(u16::MAX, u16::MAX), 0);
        assert_eq!(pairs(0, 1), 0);
    }
}
