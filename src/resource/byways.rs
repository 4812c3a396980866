//! Media byways: the requests that wait for a device's next chunk.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
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
/// Control chunks that wait for an answer to go along with.
const MAX_CONTROLS: usize = 32;

/// All devices that use byways.
#[derive(Debug, Default)]
pub(crate) struct Byways {
    open: Mutex<HashMap<(LegId, HandlerKey), (Arc<Queue>, Entrance)>>,
}

impl Byways {
    /// A device's byways on a leg.
    pub(super) fn open(
        self: &Arc<Self>,
        ports: &Ports,
        port: &Arc<LegPort>,
        leg: LegId,
        handler: HandlerKey,
    ) -> (Arc<Queue>, Entrance) {
        let mut open = lock(&self.open);
        if let Some(found) = open.get(&(leg, handler)) {
            return found.clone();
        }
        let queue =
            Arc::new(Queue { all: Arc::downgrade(self), name: (leg, handler), inner: Mutex::default() });
        let entrance = ports.open(port, handler, queue.clone());
        if entrance.is_over() {
            lock(&queue.inner).closed = true;
        } else {
            open.insert((leg, handler), (queue.clone(), entrance.clone()));
        }
        (queue, entrance)
    }
}

/// One device's byways on one leg.
#[derive(Debug)]
pub(crate) struct Queue {
    all: Weak<Byways>,
    name: (LegId, HandlerKey),
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
    pub(super) fn controls(&self) -> BytesMut {
        let mut out = BytesMut::new();
        let controls = std::mem::take(&mut lock(&self.inner).controls);
        controls.iter().for_each(|c| put_frame(c, &mut out));
        out
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
        let room = inner.held.len() < 8;
        if room {
            inner.held.push_back((now + HOLD, Bytes::copy_from_slice(chunk)));
        }
        room && inner.held.len() <= 3
    }

    fn close(&self, _reason: &str) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.waiting.clear();
        drop(inner);
        if let Some(all) = self.all.upgrade() {
            lock(&all.open).remove(&self.name);
        }
    }

    fn is_session(&self) -> bool {
        false
    }
}
