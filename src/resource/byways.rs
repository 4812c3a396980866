//! Media byways: the requests that wait for a device's next chunk.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::clock;
use crate::protocol::chunk::{Chunk, Kind, put_frame};
use crate::protocol::id::{HandlerKey, LegId};
use crate::service::lock;
use crate::service::ports::{Entrance, LegPort, MediaPath, Ports};

/// ript-core "Signaling and Media Byway Establishment": up to 30 reverse media byways.
const MAX_WAITING: usize = 30;
/// wire §5: a sender holds at most 60 ms of a stream.
const HOLD: Duration = Duration::from_millis(60);
/// Chunks that wait for a request; frames of video come several at once.
const MAX_HELD: usize = 8;
/// Control chunks that wait for an answer to go along with.
const MAX_CONTROLS: usize = 32;

/// A device on a leg.
type Name = (LegId, HandlerKey);

/// All devices that use byways.
#[derive(Debug, Default)]
pub(crate) struct Byways {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<Name, (Arc<Queue>, Entrance)>,
    /// How large it may grow before those that are closed are looked for.
    sweep_at: usize,
}

impl Byways {
    /// A device's byways on a leg.
    pub(super) fn open(
        &self,
        ports: &Ports,
        port: &Arc<LegPort>,
        leg: LegId,
        handler: HandlerKey,
    ) -> (Arc<Queue>, Entrance) {
        // Held while they open: a device's first requests come all at once, and have to find the same.
        let mut table = lock(&self.table);
        if let Some((queue, entrance)) = table.open.get(&(leg, handler))
            && !lock(&queue.inner).closed
        {
            return (queue.clone(), entrance.clone());
        }
        if table.open.len() >= table.sweep_at {
            table.open.retain(|_, (queue, _)| !lock(&queue.inner).closed);
            table.sweep_at = table.open.len() * 2 + 64;
        }
        let queue = Arc::new(Queue::default());
        let entrance = ports.open(port, handler, queue.clone());
        table.open.insert((leg, handler), (queue.clone(), entrance.clone()));
        (queue, entrance)
    }
}

/// One device's byways on one leg.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<oneshot::Sender<Bytes>>,
    /// Chunks that found nobody waiting, and until when they are worth sending.
    held: VecDeque<(Duration, Bytes)>,
    controls: VecDeque<Bytes>,
    closed: bool,
}

impl Queue {
    /// The next chunk, at once or later; none when the call is over.
    pub(super) fn wait(&self) -> Option<oneshot::Receiver<Bytes>> {
        let (answer, answered) = oneshot::channel();
        let mut inner = lock(&self.inner);
        if inner.closed {
            return None;
        }
        let now = clock::elapsed();
        while let Some((until, chunk)) = inner.held.pop_front() {
            if now < until {
                let _ = answer.send(inner.framed(&chunk));
                return Some(answered);
            }
        }
        inner.waiting.retain(|w| !w.is_closed());
        if inner.waiting.len() >= MAX_WAITING {
            // The oldest gets its 204: its client asked for more than 30.
            inner.waiting.pop_front();
        }
        inner.waiting.push_back(answer);
        Some(answered)
    }

    /// The control chunks that wait, for the answer to a `PUT`.
    pub(super) fn controls(&self, out: &mut BytesMut) {
        let controls = std::mem::take(&mut lock(&self.inner).controls);
        controls.iter().for_each(|c| put_frame(c, out));
    }
}

impl Inner {
    /// wire §5: any number of `varint length | chunk`, with at most one media chunk.
    fn framed(&mut self, chunk: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(chunk.len() + 4);
        put_frame(chunk, &mut out);
        for control in self.controls.drain(..) {
            put_frame(&control, &mut out);
        }
        out.freeze()
    }

    /// ript-core "Server Media Handling": the most recent request is answered first.
    fn answer(&mut self, chunk: &[u8]) -> bool {
        while let Some(waiting) = self.waiting.pop_back() {
            if !waiting.is_closed() {
                let framed = self.framed(chunk);
                if waiting.send(framed).is_ok() {
                    return true;
                }
            }
        }
        false
    }
}

impl MediaPath for Queue {
    fn send(&self, chunk: &[u8]) -> bool {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return false;
        }
        if matches!(Chunk::parse(chunk), Ok(Chunk { kind: Kind::Control(_), .. })) {
            if inner.controls.len() >= MAX_CONTROLS {
                inner.controls.pop_front();
            }
            inner.controls.push_back(Bytes::copy_from_slice(chunk));
            return true;
        }
        if inner.answer(chunk) {
            return true;
        }
        let now = clock::elapsed();
        inner.held.retain(|(until, _)| now < *until);
        // Older media is dropped, never queued.
        if inner.held.len() >= MAX_HELD {
            inner.held.pop_front();
        }
        inner.held.push_back((now + HOLD, Bytes::copy_from_slice(chunk)));
        inner.held.len() <= 3
    }

    fn close(&self, _reason: &str) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.waiting.clear();
    }

    fn is_session(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chunk::{MediaHeader, encode, frames};

    fn chunk(seq: u64) -> Bytes {
        let mut out = BytesMut::new();
        encode(&MediaHeader { seq, ..MediaHeader::default() }, b"x", &mut out);
        out.freeze()
    }

    fn only(body: &Bytes) -> Bytes {
        Bytes::copy_from_slice(frames(body).next().unwrap().unwrap())
    }

    #[tokio::test]
    async fn the_newest_request_is_answered_first_and_the_oldest_goes_when_too_many_wait() {
        let queue = Queue::default();
        let mut waiting: VecDeque<_> = (0..MAX_WAITING + 1).map(|_| queue.wait().unwrap()).collect();
        assert!(waiting.pop_front().unwrap().await.is_err(), "the oldest gets its 204");
        // One whose client went away is passed over.
        drop(waiting.remove(MAX_WAITING - 2));
        for seq in 0..MAX_WAITING as u64 - 1 {
            assert!(queue.send(&chunk(seq)));
            assert_eq!(only(&waiting.pop_back().unwrap().await.unwrap()), chunk(seq));
        }
        assert!(waiting.is_empty());
    }

    #[tokio::test]
    async fn chunks_that_find_nobody_wait_a_little_and_the_oldest_are_dropped() {
        let queue = Queue::default();
        let sent: Vec<bool> = (0..20).map(|seq| queue.send(&chunk(seq))).collect();
        assert_eq!(sent.iter().filter(|sent| **sent).count(), 3, "more than 60 ms of speech find no way out");
        assert_eq!(lock(&queue.inner).held.len(), MAX_HELD);
        assert_eq!(only(&queue.wait().unwrap().await.unwrap()), chunk(20 - MAX_HELD as u64));
        lock(&queue.inner).held.iter_mut().for_each(|(until, _)| *until = Duration::ZERO);
        let mut next = queue.wait().unwrap();
        assert!(next.try_recv().is_err(), "what is too old is not sent");
        queue.close("over");
        assert!(next.await.is_err() && queue.wait().is_none() && !queue.send(&chunk(99)));
    }
}
