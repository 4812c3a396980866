//! Outgoing datagrams of a connection. quinn's own buffer is kept nearly empty: what it holds cannot be taken back, and
//! speech that waited there is noise. The rest waits here until its deadline.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::burst;
use super::hub::Hub;
use super::lock;
use super::session::Sent;
use crate::clock;

/// Datagrams are carved from blocks of this size: small enough to stay in the processor's cache from one to the next.
const BLOCK: usize = 8 * 1024;
/// Room for the largest datagram; a block with less left is replaced.
const MAX_DATAGRAM: usize = 1_500;
/// What quinn adds to a datagram's length when it counts its buffer.
const QUINN_OVERHEAD: usize = size_of::<Bytes>();
/// Waiting datagrams of one connection; above that the oldest goes.
const MAX_WAITING: usize = 4_096;
/// How often waiting datagrams look for room.
const TICK: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Outbox {
    conn: quinn::Connection,
    buffer: usize,
    lifetime: Duration,
    desk: Mutex<Desk>,
    waiting: Mutex<VecDeque<(Instant, Bytes)>>,
    busy: AtomicBool,
}

/// Where datagrams are made.
#[derive(Debug, Default)]
struct Desk {
    block: BytesMut,
    /// Bytes that quinn may be handed before it is asked again whether it has room.
    credit: usize,
    /// The largest datagram of the path when it was asked.
    largest: usize,
}

impl Outbox {
    pub(super) fn new(conn: quinn::Connection, buffer: usize, lifetime: Duration) -> Self {
        Self {
            conn,
            buffer,
            lifetime,
            desk: Mutex::default(),
            waiting: Mutex::default(),
            busy: AtomicBool::new(false),
        }
    }

    /// Makes a datagram, whose memory comes from the connection's block; whether quinn may have it now, and whether it is
    /// known to take one of this size.
    fn carve(
        &self,
        prefix: &[u8],
        write: impl FnOnce(&mut BytesMut),
        sessions: usize,
    ) -> (Bytes, bool, bool) {
        let mut desk = lock(&self.desk);
        if desk.block.capacity() < MAX_DATAGRAM {
            desk.block.reserve(BLOCK);
        }
        desk.block.extend_from_slice(prefix);
        write(&mut desk.block);
        let datagram = desk.block.split().freeze();
        let now = !self.busy.load(Ordering::Acquire) && self.has_room(&mut desk, datagram.len(), sessions);
        let fits = datagram.len() <= desk.largest;
        (datagram, now, fits)
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiting).len()
    }

    pub(super) fn clear(&self) {
        lock(&self.waiting).clear();
    }

    /// quinn may hold about 60 ms: three datagrams of 20 ms for every session.
    fn has_room(&self, desk: &mut Desk, len: usize, sessions: usize) -> bool {
        let size = len + QUINN_OVERHEAD;
        // It holds at most what it held when it was asked, and what it was handed since.
        if let Some(left) = desk.credit.checked_sub(size) {
            desk.credit = left;
            return true;
        }
        let space = self.conn.datagram_send_buffer_space();
        desk.largest = self.conn.max_datagram_size().unwrap_or(0);
        let used = self.buffer.saturating_sub(space).saturating_sub(QUINN_OVERHEAD);
        let most = 3 * size * sessions.max(1);
        let room = space >= len && used <= most;
        if room {
            desk.credit = most.saturating_sub(used).min(space).saturating_sub(size);
        }
        room
    }

    fn hand_over(&self, datagram: Bytes) -> Sent {
        match self.conn.send_datagram(datagram) {
            Ok(()) => Sent::Sent,
            Err(quinn::SendDatagramError::TooLarge) => Sent::TooLarge,
            Err(_) => Sent::Closed,
        }
    }
}

impl Hub {
    /// Gives QUIC a datagram for which there is room.
    pub(super) fn hand_over(&self, datagram: Bytes) -> Sent {
        self.outbox.hand_over(datagram)
    }

    /// Sends a datagram now, or soon, or never: `prefix`, and what `write` appends.
    pub(super) fn send_datagram(&self, prefix: &[u8], write: impl FnOnce(&mut BytesMut)) -> Sent {
        let outbox = &self.outbox;
        let (datagram, now, fits) = outbox.carve(prefix, write, self.open_sessions());
        let datagram = match now && fits {
            true => match burst::keep(self, datagram) {
                Ok(()) => return Sent::Sent,
                Err(datagram) => datagram,
            },
            false => datagram,
        };
        if now {
            return outbox.hand_over(datagram);
        }
        if self.connection().close_reason().is_some() {
            return Sent::Closed;
        }
        match self.connection().max_datagram_size() {
            Some(max) if datagram.len() <= max => {}
            Some(_) => return Sent::TooLarge,
            None => return Sent::Closed,
        }
        let full = {
            let mut waiting = lock(&outbox.waiting);
            waiting.push_back((clock::instant() + outbox.lifetime, datagram));
            let full = waiting.len() > MAX_WAITING;
            if full {
                waiting.pop_front();
            }
            full
        };
        if full {
            self.counters.count(&self.counters.late);
        }
        if !outbox.busy.swap(true, Ordering::AcqRel) {
            let hub = self.own.clone();
            let flushing = async move {
                while hub.upgrade().is_some_and(|hub| hub.flush()) {
                    tokio::time::sleep(TICK).await;
                }
            };
            if !self.spawn(flushing) {
                outbox.busy.store(false, Ordering::Release);
                return Sent::Dropped;
            }
        }
        Sent::Queued
    }

    /// Moves on what there is room for, drops what is late; false when nothing is left.
    fn flush(&self) -> bool {
        let outbox = &self.outbox;
        let now = clock::instant();
        let sessions = self.open_sessions();
        let mut waiting = lock(&outbox.waiting);
        while let Some((until, datagram)) = waiting.pop_front() {
            if until <= now {
                self.counters.count(&self.counters.late);
            } else if !outbox.has_room(&mut lock(&outbox.desk), datagram.len(), sessions) {
                waiting.push_front((until, datagram));
                return true;
            } else if outbox.hand_over(datagram) == Sent::Closed {
                waiting.clear();
            }
        }
        // Under the lock, so that whoever queues next starts a new flusher.
        outbox.busy.store(false, Ordering::Release);
        false
    }
}
