//! Media ports: where a leg's media comes in and goes out. Chunks go from port to port on the task that
//! received them; a port's lock is held for one chunk, and never two at once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use bytes::BytesMut;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::actor::Command;
use super::{lock, read, write};
use crate::call::{LegMedia, MediaPlan};
use crate::clock;
use crate::media::dtmf;
use crate::media::quality::StreamReport;
use crate::media::relay::{Arrival, Drops, Origin, Plan, Port, Relayed};
use crate::protocol::codec::PayloadType;
use crate::protocol::id::{HandlerKey, LegId};

/// wire §5 "Where chunks go": the session is used if it answered within the last second.
const FRESH: Duration = Duration::from_secs(1);
/// How often ports are looked at for acks that no media took along.
const TICK: Duration = Duration::from_millis(25);
/// While media goes out at least this often, an ack waits as long for the next chunk to go beside.
const BESIDE: Duration = Duration::from_millis(40);
/// Digits that wait to be played on one leg; more than anybody dials ahead.
const MAX_DIGITS: usize = 64;

/// No ack is due.
const NEVER: u64 = u64::MAX;

/// A way to a device: a WebTransport session or its byways.
pub trait MediaPath: Send + Sync {
    /// Sends a chunk now, or drops it; false: nothing is open to send it on.
    fn send(&self, chunk: &[u8]) -> bool;
    /// The call is over, or another path took this one's place.
    fn close(&self, reason: &str);
    /// Whether it is a session.
    fn is_session(&self) -> bool;
    /// The connection that small chunks may go out on at once, if it has one.
    fn outlet(&self) -> Option<Outlet> {
        None
    }
}

/// A connection that carries the small chunks of many paths. They share it, so that it is in the processor's cache; a
/// path of its own is not, when hundreds of legs take turns.
pub trait Trunk: Send + Sync {
    /// Sends a chunk on a channel as one datagram, now, or drops it; false: the connection is gone. None: only
    /// [`MediaPath::send`] can send one of this size.
    fn send(&self, channel: u64, chunk: &[u8]) -> Option<bool>;
}

/// A path's channel on the connection that it is on.
#[derive(Clone)]
pub struct Outlet {
    /// The connection.
    pub trunk: Arc<dyn Trunk>,
    /// Its name there.
    pub channel: u64,
}

#[repr(C)]
struct Attachment {
    id: u64,
    handler: HandlerKey,
    heard: Duration,
    outlet: Option<Outlet>,
    path: Arc<dyn MediaPath>,
}

impl Attachment {
    fn send(&self, chunk: &[u8]) -> bool {
        let small = self.outlet.as_ref().and_then(|outlet| outlet.trunk.send(outlet.channel, chunk));
        small.unwrap_or_else(|| self.path.send(chunk))
    }
}

/// What every chunk needs comes first, and all in one piece: fetching it from memory is most of a chunk's cost.
#[derive(Default)]
#[repr(C)]
struct State {
    /// The two legs of a call are each other's, until it is over.
    peer: Option<Arc<LegPort>>,
    listener: Option<HandlerKey>,
    over: bool,
    playing: bool,
    /// When media last went out.
    departed: Duration,
    paths: SmallVec<[Attachment; 1]>,
    port: Port,
    calls: Option<mpsc::WeakSender<Command>>,
    digits: dtmf::Detector,
    dialled: VecDeque<(char, u32)>,
    panicked: Duration,
    /// Where chunks are rewritten: its memory stays.
    scratch: BytesMut,
}

/// One leg's media port.
#[repr(C)]
pub struct LegPort {
    leg: LegId,
    /// When the next ack is due, in milliseconds of [`clock::elapsed`]: the ticker locks only ports that have one.
    ack_due: AtomicU64,
    state: Mutex<State>,
}

impl std::fmt::Debug for LegPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LegPort").field(&self.leg).finish()
    }
}

/// All media ports.
#[derive(Debug, Default)]
pub struct Ports {
    legs: RwLock<HashMap<LegId, Arc<LegPort>>>,
    next: AtomicU64,
}

impl Ports {
    /// A leg's port, while the leg lives.
    pub fn get(&self, leg: LegId) -> Option<Arc<LegPort>> {
        read(&self.legs).get(&leg).cloned()
    }

    /// Does what a call wants of its legs' media.
    pub(crate) fn apply(&self, plan: MediaPlan, calls: &mpsc::WeakSender<Command>) {
        let now = clock::elapsed();
        for part in &plan.legs {
            if part.over {
                let gone = write(&self.legs).remove(&part.leg);
                if let Some(port) = gone {
                    port.over();
                }
                continue;
            }
            let fresh = || LegPort { leg: part.leg, state: Mutex::default(), ack_due: AtomicU64::new(NEVER) };
            let port = write(&self.legs).entry(part.leg).or_insert_with(|| Arc::new(fresh())).clone();
            lock(&port.state).calls = Some(calls.clone());
        }
        for part in plan.legs.into_iter().filter(|p| !p.over) {
            let (Some(port), peer) = (self.get(part.leg), part.peer.and_then(|leg| self.get(leg))) else {
                continue;
            };
            let mut state = lock(&port.state);
            let LegMedia { sends, receives, speaker, listener, .. } = part;
            state.port.plan(now, Plan { sends, receives, speaker, listener, heard: peer.is_some() });
            state.listener = listener;
            let before = std::mem::replace(&mut state.peer, peer);
            drop(state);
            drop(before);
        }
    }

    /// A name for a new path.
    fn name(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a path from a device; a session takes the place of the device's earlier one.
    pub fn open(&self, port: &Arc<LegPort>, handler: HandlerKey, path: Arc<dyn MediaPath>) -> Entrance {
        let id = self.name();
        let mut state = lock(&port.state);
        let same = |a: &Attachment| a.handler == handler && a.path.is_session() == path.is_session();
        let (old, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut state.paths).into_iter().partition(same);
        state.paths = kept.into();
        let over = state.over;
        if !over {
            let only = state.paths.iter().all(|a| a.handler != handler);
            state.paths.push(Attachment {
                id,
                handler,
                heard: clock::elapsed(),
                outlet: path.outlet(),
                path: path.clone(),
            });
            state.port.path_opened(handler, only);
        }
        drop(state);
        old.iter().for_each(|a| a.path.close("another session of this handler took its place"));
        if over {
            path.close("the call has ended");
        }
        Entrance { port: Arc::downgrade(port), id, handler }
    }

    /// Sends the acks that no media took along; runs until it is aborted.
    pub(crate) async fn tick(ports: Weak<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let Some(ports) = ports.upgrade() else { return };
            let now = clock::elapsed();
            let due: Vec<_> = read(&ports.legs).values().filter(|port| port.has_acks(now)).cloned().collect();
            due.iter().for_each(|port| port.acknowledge(now));
        }
    }
}

impl Drop for Ports {
    /// Legs that no call ended know each other still.
    fn drop(&mut self) {
        for port in write(&self.legs).values() {
            let peer = lock(&port.state).peer.take();
            drop(peer);
        }
    }
}

/// What came in on one path.
#[derive(Clone)]
pub struct Entrance {
    port: Weak<LegPort>,
    id: u64,
    handler: HandlerKey,
}

impl std::fmt::Debug for Entrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entrance").field(&self.id).finish()
    }
}

impl Entrance {
    /// A chunk came. False: the leg is gone.
    pub fn arrived(&self, bytes: &[u8]) -> bool {
        self.port.upgrade().is_some_and(|port| port.arrived(self.id, bytes))
    }

    /// The path is gone.
    pub fn closed(&self) {
        if let Some(port) = self.port.upgrade() {
            port.closed(self.id);
        }
    }

    /// The path's name at its port: see [`LegPort::arrived`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The acks of what this device sent, due or not: a byway's answer carries them.
    pub fn acks_now(&self, send: impl FnMut(&[u8])) {
        if let Some(port) = self.port.upgrade() {
            let mut state = lock(&port.state);
            state.port.acks_now(clock::elapsed(), self.handler, send);
            port.note_acks(&state);
        }
    }
}

impl State {
    /// Whether it is the best path to a device that listens.
    fn is_outlet(&self, now: Duration, one: &Attachment) -> bool {
        let listens = self.listener.is_none_or(|listener| listener == one.handler);
        listens && (self.paths.len() == 1 || self.is_best(now, one))
    }

    /// A session that was heard lately, else byways that were, else whichever was heard last.
    fn is_best(&self, now: Duration, one: &Attachment) -> bool {
        let rank = |a: &Attachment| {
            let fresh = now.saturating_sub(a.heard) < FRESH;
            (fresh && a.path.is_session(), a.heard, a.id)
        };
        let mine = rank(one);
        self.paths.iter().filter(|a| a.handler == one.handler).all(|a| rank(a) <= mine)
    }
}

impl LegPort {
    /// A chunk came on a path. False: the leg is gone.
    pub fn arrived(&self, path: u64, bytes: &[u8]) -> bool {
        let now = clock::elapsed();
        let mut reply = BytesMut::new();
        let mut state = lock(&self.state);
        state.port.expect_arrival();
        if let Some(peer) = &state.peer {
            peer.expect();
        }
        // What comes on a path that another took the place of belongs to a numbering that may be over.
        let Some(attachment) = state.paths.iter_mut().find(|a| a.id == path) else { return !state.over };
        attachment.heard = now;
        let handler = attachment.handler;
        match state.port.arrived(now, handler, bytes, &mut reply) {
            Arrival::Media(media) => {
                let peer = state.peer.clone();
                self.note_acks(&state);
                drop(state);
                if let Some(peer) = peer {
                    peer.deliver(now, Origin { leg: self.leg, handler }, &media, self);
                }
            }
            Arrival::Reply => {
                if let Some(attachment) = state.paths.iter().find(|a| a.id == path) {
                    attachment.send(&reply);
                }
            }
            Arrival::Done => self.note_acks(&state),
        }
        true
    }

    /// Reads what the next chunk will want first, so that it is on its way from memory.
    pub fn expect(&self) {
        std::hint::black_box(self.ack_due.load(Ordering::Relaxed));
    }

    /// A path is gone.
    pub fn closed(&self, path: u64) {
        lock(&self.state).paths.retain(|a| a.id != path);
    }

    /// Media from the other leg.
    fn deliver(&self, now: Duration, origin: Origin, media: &Relayed<'_>, from: &Self) {
        let mut state = lock(&self.state);
        // wire §4 `dtmf`: where this leg's directives list no telephone-event, a digit goes as an event.
        if media.chunk.payload_type == u64::from(PayloadType::TELEPHONE_EVENT.0)
            && !state.port.takes_digits(media.chunk.source, media.chunk.sink)
        {
            if let Some((digit, duration)) = state.digits.arrived(media.timestamp, media.chunk.media()) {
                drop(state);
                from.tell(Command::digit(from.leg, digit, duration));
            }
            return;
        }
        state.port.expect_departure(media.seq);
        let State { port, scratch, .. } = &mut *state;
        match port.departs(now, origin, media, scratch) {
            Some(true) => state.send(self, now, media.bytes),
            Some(false) => {
                let out = std::mem::take(&mut state.scratch);
                state.send(self, now, &out);
                state.scratch = out;
            }
            None => {}
        }
    }

    fn over(&self) {
        let mut state = lock(&self.state);
        let paths = std::mem::take(&mut state.paths);
        state.over = true;
        let peer = state.peer.take();
        drop(state);
        drop(peer);
        self.ack_due.store(NEVER, Ordering::Relaxed);
        paths.iter().for_each(|a| a.path.close("the call has ended"));
    }

    fn tell(&self, command: Command) {
        let calls = lock(&self.state).calls.as_ref().and_then(mpsc::WeakSender::upgrade);
        // A full mailbox means a flood of digits or panics: those are the ones to lose.
        if calls.is_some_and(|calls| calls.try_send(command).is_err()) {
            tracing::debug!("a call's mailbox is full; a note from its media is lost");
        }
    }

    fn acknowledge(&self, now: Duration) {
        let mut state = lock(&self.state);
        let flows = now.saturating_sub(state.departed) < BESIDE;
        let due = |state: &State| {
            let late = if flows { now.saturating_sub(BESIDE) } else { now };
            state.port.acks_due(late)
        };
        while let Some(handler) = due(&state) {
            state.acknowledge(now, handler);
        }
        self.note_acks(&state);
    }

    /// Whether an ack is due, without a look at the streams.
    fn has_acks(&self, now: Duration) -> bool {
        self.ack_due.load(Ordering::Relaxed) <= millis(now)
    }

    /// Has to be called, under the lock, whenever the next ack may have become due earlier or later.
    fn note_acks(&self, state: &State) {
        let next = state.port.next_ack().map_or(NEVER, millis);
        self.ack_due.store(next, Ordering::Relaxed);
    }

    /// How the streams fare that come from its client.
    pub fn reports(&self) -> Vec<StreamReport> {
        lock(&self.state).port.reports().collect()
    }

    /// How those fare that go to its client.
    pub fn sent(&self) -> Vec<StreamReport> {
        lock(&self.state).port.sent().collect()
    }

    /// What was dropped.
    pub fn drops(&self) -> Drops {
        lock(&self.state).port.drops()
    }

    /// Puts a digit behind those that are being played. True: nobody plays them yet, see [`Self::play_digits`].
    pub(crate) fn dial(&self, digit: char, duration: u32) -> bool {
        let mut state = lock(&self.state);
        if state.dialled.len() < MAX_DIGITS {
            state.dialled.push_back((digit, duration));
        }
        !std::mem::replace(&mut state.playing, true)
    }

    /// Plays what was dialled into the audio that goes to this leg, one digit after another.
    pub(crate) async fn play_digits(self: Arc<Self>) {
        let mut interval = tokio::time::interval(Duration::from_millis(u64::from(dtmf::STEP)));
        while let Some((digit, duration)) = self.next_digit() {
            let mut timestamp = None;
            for payload in dtmf::payloads(digit, duration) {
                interval.tick().await;
                let now = clock::elapsed();
                let mut out = BytesMut::new();
                let mut state = lock(&self.state);
                // RFC 4733 §2.5.1.2: all packets of an event carry the timestamp of its beginning.
                let kind = u64::from(PayloadType::TELEPHONE_EVENT.0);
                // Nothing to insert into, as in a hold: the digit is over.
                let Some(at) = state.port.insert(now, kind, timestamp, &payload, &mut out) else { break };
                timestamp = Some(at);
                state.send(&self, now, &out);
            }
        }
    }

    fn next_digit(&self) -> Option<(char, u32)> {
        let mut state = lock(&self.state);
        let next = state.dialled.pop_front();
        state.playing = next.is_some();
        next
    }
}

impl State {
    fn send(&mut self, own: &LegPort, now: Duration, chunk: &[u8]) {
        self.departed = now;
        let (mut some, mut sent) = (false, false);
        for at in 0..self.paths.len() {
            let one = &self.paths[at];
            if self.is_outlet(now, one) {
                some = true;
                sent |= one.send(chunk);
                let handler = one.handler;
                // wire §5 "Ack": every 100 ms while media flows, alone or beside media.
                if own.has_acks(now) {
                    self.acknowledge(now, handler);
                }
            }
        }
        if own.has_acks(now) {
            own.note_acks(self);
        }
        // ript-core "Server Media Handling": no open request to send on makes a `media-panic` event.
        if some && !sent && now.saturating_sub(self.panicked) > FRESH {
            self.panicked = now;
            if let Some(calls) = self.calls.as_ref().and_then(mpsc::WeakSender::upgrade) {
                let _ = calls.try_send(Command::panic(own.leg));
            }
        }
    }

    /// Sends a device the acks that are due, on the path that it was last heard on.
    fn acknowledge(&mut self, now: Duration, handler: HandlerKey) {
        let Self { port, paths, scratch, .. } = self;
        let newest = paths.iter().filter(|a| a.handler == handler).max_by_key(|a| a.heard);
        port.acks(now, handler, scratch, |ack| {
            if let Some(path) = newest {
                path.send(ack);
            }
        });
    }
}

fn millis(time: Duration) -> u64 {
    time.as_secs() * 1000 + u64::from(time.subsec_millis())
}

#[cfg(test)]
mod tests;
