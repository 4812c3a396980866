//! Who may send how much: who sends more than they may is not heard, and costs no memory.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock;
use crate::protocol::network::Network;
use crate::service::rate::{Meter, Rate};

/// Requests of one source that we know nothing of.
const STRANGERS: Rate = Rate { per_second: 10, burst: 40 };
/// The name of the bucket that all strangers share, so that many addresses are no way around.
const ALL: &str = "all";
/// Requests of all strangers together.
const ALL_STRANGERS: Rate = Rate { per_second: 100, burst: 400 };
/// Refusals for overload of one peer: beyond that it is not answered.
const REFUSALS: Rate = Rate { per_second: 200, burst: 400 };

/// What is to become of a request that begins something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is heard.
    Welcome,
    /// It is answered by 503, and costs nothing more.
    Overload,
    /// It is dropped.
    Ignore,
}

/// Who may send how much.
#[derive(Debug)]
pub(super) struct Gate {
    peers: RwLock<Vec<Network>>,
    /// Connections whose far end showed a certificate that we take, and whom that names.
    proven: RwLock<HashMap<SocketAddr, Arc<[String]>>>,
    /// Requests of one peer that begin something.
    rate: Rate,
    meter: Meter,
    ignored: AtomicU64,
    refused: AtomicU64,
    /// What was no message.
    dropped: AtomicU64,
    /// Requests that were answered for what is wrong with them.
    malformed: AtomicU64,
}

impl Gate {
    pub(super) fn new(peers: Vec<Network>, rate: Rate) -> Self {
        Self {
            peers: RwLock::new(peers),
            proven: RwLock::default(),
            rate,
            meter: Meter::default(),
            ignored: AtomicU64::default(),
            refused: AtomicU64::default(),
            dropped: AtomicU64::default(),
            malformed: AtomicU64::default(),
        }
    }

    /// Takes addresses in that turned out to be a peer's.
    pub(super) fn know(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            if !peers.iter().any(|known| known.contains(address)) && peers.len() < 1_024 {
                peers.extend(address.to_string().parse::<Network>());
            }
        }
    }

    /// A connection's far end has shown who it is.
    pub(super) fn prove(&self, stream: SocketAddr, names: Arc<[String]>) {
        self.proven.write().unwrap_or_else(PoisonError::into_inner).insert(stream, names);
    }

    /// The connection is gone.
    pub(super) fn disprove(&self, stream: SocketAddr) {
        self.proven.write().unwrap_or_else(PoisonError::into_inner).remove(&stream);
    }

    /// Whom a connection's far end has shown to be.
    pub(super) fn names(&self, stream: SocketAddr) -> Option<Arc<[String]>> {
        self.proven.read().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned()
    }

    pub(super) fn knows(&self, from: SocketAddr) -> bool {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.iter().any(|known| known.contains(from.ip())) || self.names(from).is_some()
    }

    /// For a request that begins something; what belongs to a dialog is a peer's own, and not counted.
    pub(super) fn admit(&self, from: SocketAddr) -> Admission {
        let (now, name) = (clock::elapsed(), from.ip().to_string());
        let admission = if self.knows(from) {
            if self.meter.take(now, &name, self.rate).is_ok() {
                return Admission::Welcome;
            }
            match self.meter.take(now, &format!("503 {name}"), REFUSALS) {
                Ok(()) => Admission::Overload,
                Err(_) => Admission::Ignore,
            }
        } else if self.stranger(from.ip()) {
            return Admission::Welcome;
        } else {
            Admission::Ignore
        };
        let counter = if admission == Admission::Ignore { &self.ignored } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        admission
    }

    /// Whether a stranger's message is looked at.
    pub(super) fn stranger(&self, from: IpAddr) -> bool {
        let now = clock::elapsed();
        self.meter.take(now, &from.to_string(), STRANGERS).is_ok()
            && self.meter.take(now, ALL, ALL_STRANGERS).is_ok()
    }

    /// A message was not looked at.
    pub(super) fn ignore(&self) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was no message.
    pub(super) fn discard(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that were dropped, and requests refused for overload.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.ignored.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// What was no message: dropped, and refused.
    pub(super) fn malformed(&self) -> (u64, u64) {
        (self.dropped.load(Ordering::Relaxed), self.malformed.load(Ordering::Relaxed))
    }

    /// Whether a request that is wrong gets its answer; strangers are counted before they are looked at.
    pub(super) fn corrects(&self, from: SocketAddr) -> bool {
        let within = self.meter.take(clock::elapsed(), &format!("400 {}", from.ip()), REFUSALS).is_ok();
        let counter = if within { &self.malformed } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_flood_is_refused_then_ignored_and_a_strangers_ignored_at_once() {
        let gate = Gate::new(vec!["192.0.2.0/24".parse().unwrap()], Rate { per_second: 1, burst: 5 });
        let (peer, stranger) = ("192.0.2.7:5060".parse().unwrap(), "198.51.100.1:5060".parse().unwrap());
        let count = |from, n: usize, what| (0..n).filter(|_| gate.admit(from) == what).count();
        assert_eq!(count(peer, 5, Admission::Welcome), 5);
        assert!(count(peer, 100, Admission::Overload) >= 99);
        assert!(count(peer, 10_000, Admission::Ignore) > 9_000);
        assert!(count(stranger, 10_000, Admission::Welcome) < 200);
        assert_eq!(gate.admit("192.0.2.8:9".parse().unwrap()), Admission::Welcome);
        let (ignored, refused) = gate.counts();
        assert!(ignored > 18_000 && refused >= 99, "{ignored} {refused}");
        let later = "198.51.100.9:5060".parse().unwrap();
        assert!(!gate.knows(later));
        gate.know(["198.51.100.9".parse().unwrap()]);
        assert_eq!(count(later, 20, Admission::Welcome), 5);
    }

    #[test]
    fn so_many_wrong_requests_are_answered_and_the_others_dropped() {
        let gate = Gate::new(vec!["192.0.2.0/24".parse().unwrap()], Rate { per_second: 1, burst: 5 });
        let answered =
            (0..10_000).filter(|_| gate.corrects("192.0.2.7:5060".parse().unwrap())).count() as u64;
        assert!((400..5_000).contains(&answered), "{answered}");
        assert_eq!(gate.malformed(), (10_000 - answered, answered));
        assert!(gate.corrects("192.0.2.8:5060".parse().unwrap()));
    }
}
