//! What one wake of a reader sends is handed to QUIC together. Each hand-over takes a connection's lock, and the first
//! wakes its driver: spread over the work on a burst, they would wait for each other.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::hub::Hub;

thread_local! {
    static OPEN: RefCell<Burst> = const { RefCell::new(Burst { open: false, hubs: Vec::new(), datagrams: Vec::new() }) };
}

struct Burst {
    open: bool,
    hubs: Vec<Arc<Hub>>,
    /// Each with the place of its hub.
    datagrams: Vec<(usize, Bytes)>,
}

/// Ends the burst however the work on it ends.
struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        let (mut hubs, mut datagrams) = OPEN.with_borrow_mut(|burst| {
            burst.open = false;
            (std::mem::take(&mut burst.hubs), std::mem::take(&mut burst.datagrams))
        });
        for (hub, datagram) in datagrams.drain(..) {
            hubs[hub].hand_over(datagram);
        }
        hubs.clear();
        // Their memory serves the next one.
        OPEN.with_borrow_mut(|burst| (burst.hubs, burst.datagrams) = (hubs, datagrams));
    }
}

/// Does `work`, and then hands over all that it sent on this thread.
pub(super) fn gather<T>(work: impl FnOnce() -> T) -> T {
    let outermost = OPEN.with_borrow_mut(|burst| !std::mem::replace(&mut burst.open, true));
    let _flush = outermost.then_some(Flush);
    work()
}

/// Keeps a datagram until the burst ends; gives it back if there is none.
pub(super) fn keep(hub: &Hub, datagram: Bytes) -> Result<(), Bytes> {
    OPEN.with_borrow_mut(|burst| {
        if !burst.open {
            return Err(datagram);
        }
        let known = burst.hubs.iter().position(|known| std::ptr::eq(&raw const **known, hub));
        let Some(place) = known.or_else(|| {
            burst.hubs.push(hub.own.upgrade()?);
            Some(burst.hubs.len() - 1)
        }) else {
            return Err(datagram);
        };
        burst.datagrams.push((place, datagram));
        Ok(())
    })
}
