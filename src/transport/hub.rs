//! What a connection's WebTransport sessions share: the table of sessions, what came before its CONNECT, the tasks, the
//! counters.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::burst;
use super::outbox::Outbox;
use super::session::Ear;
use super::settings::PeerSettings;
use super::streams::code;
use super::{Limits, lock, varint};
use crate::clock;

/// Sessions that ended lately: their stragglers are not kept as early arrivals.
const REMEMBERED_ENDS: usize = 64;

/// Datagrams that a reader takes before it lets what they caused go out.
const MAX_BURST: usize = 64;

/// Bytes kept for sessions that have not come, per connection.
const MAX_EARLY_BYTES: usize = 256 * 1024;

/// What was dropped or refused on one connection, counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Outgoing datagrams that became too old before the path had room.
    pub late: u64,
    /// Datagrams and streams for a session that never came, or is gone.
    pub unknown_session: u64,
    /// Datagrams without a readable session id.
    pub garbage: u64,
    /// Streams refused: too many, too large, silent, or of a kind that nobody wants.
    pub streams_refused: u64,
    /// Outgoing streams reset because they were late.
    pub streams_late: u64,
}

#[derive(Debug, Default)]
pub(super) struct LiveCounters {
    pub(super) late: AtomicU64,
    pub(super) unknown_session: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) streams_refused: AtomicU64,
    pub(super) streams_late: AtomicU64,
}

impl LiveCounters {
    pub(super) fn count(&self, which: &AtomicU64) {
        which.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Counters {
        let read = |which: &AtomicU64| which.load(Ordering::Relaxed);
        Counters {
            late: read(&self.late),
            unknown_session: read(&self.unknown_session),
            garbage: read(&self.garbage),
            streams_refused: read(&self.streams_refused),
            streams_late: read(&self.streams_late),
        }
    }
}

enum Arrival {
    Datagram(Bytes),
    Stream(Bytes),
}

impl Arrival {
    fn len(&self) -> usize {
        match self {
            Self::Datagram(bytes) | Self::Stream(bytes) => bytes.len(),
        }
    }
}

/// Who hears which session. Shared, so that a reader has it without the table's lock; it is copied if it changes meanwhile.
type Ears = Arc<HashMap<u64, Ear, BuildHasherDefault<IdHasher>>>;

#[derive(Default)]
struct Table {
    ears: Ears,
    early: VecDeque<(Instant, u64, Arrival)>,
    ended: VecDeque<u64>,
    down: bool,
}

/// Stream ids are counted up, not chosen: whoever skips through them slows down nobody's connection but its own.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, id: u64) {
        // 2^64 by the golden ratio: near ids end up far from each other.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
}

/// What the WebTransport sessions of one connection share, in either role.
pub struct Hub {
    pub(super) own: Weak<Hub>,
    conn: quinn::Connection,
    limits: Arc<Limits>,
    peer: watch::Receiver<Option<PeerSettings>>,
    table: Mutex<Table>,
    open: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
    pub(super) outbox: Outbox,
    pub(super) counters: LiveCounters,
}

impl Hub {
    /// Must be called inside a runtime: late senders flush on it.
    pub(super) fn new(
        conn: quinn::Connection,
        limits: Arc<Limits>,
        peer: watch::Receiver<Option<PeerSettings>>,
    ) -> Arc<Self> {
        let outbox = Outbox::new(conn.clone(), limits.datagram_send_buffer, limits.datagram_lifetime);
        Arc::new_cyclic(|own| Self {
            own: own.clone(),
            conn,
            limits,
            peer,
            table: Mutex::default(),
            open: AtomicUsize::new(0),
            tasks: Mutex::default(),
            runtime: Handle::current(),
            outbox,
            counters: LiveCounters::default(),
        })
    }

    pub(super) fn connection(&self) -> &quinn::Connection {
        &self.conn
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The peer's settings, when they came in time.
    pub(super) async fn peer_settings(&self) -> Option<PeerSettings> {
        let mut peer = self.peer.clone();
        let settings = tokio::time::timeout(self.limits.settings_wait, peer.wait_for(Option::is_some)).await;
        settings.ok()?.ok().and_then(|settings| *settings)
    }

    /// Waits until the peer said GOAWAY; for ever, if it never does.
    pub(super) async fn going_away(&self) {
        let mut peer = self.peer.clone();
        let said = |peer: &Option<PeerSettings>| peer.is_some_and(|peer| peer.going_away);
        if peer.wait_for(said).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn open_sessions(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Runs a task that ends with the connection; false if there are too many.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        let room = tasks.len() < self.limits.max_streams + self.limits.max_sessions;
        if room {
            tasks.spawn_on(task, &self.runtime);
        }
        room
    }

    /// The connection's one reader of datagrams; returns when the connection is gone.
    pub(super) async fn read_datagrams(&self) {
        // Should a sink panic, the sessions would go deaf: they end instead.
        let _reading = Reading(self);
        while let Ok(first) = self.conn.read_datagram().await {
            burst::gather(|| {
                let rest = std::iter::from_fn(|| self.conn.read_datagram().now_or_never()?.ok());
                self.datagrams(std::iter::once(first).chain(rest).take(MAX_BURST));
            });
        }
    }

    fn datagrams(&self, all: impl Iterator<Item = Bytes>) {
        let ears = lock(&self.table).ears.clone();
        let all = all.filter_map(|datagram| self.session_of(datagram));
        let all: SmallVec<[_; 16]> =
            all.map(|(session, payload)| (session, ears.get(&session), payload)).collect();
        all.iter().filter_map(|(_, ear, _)| *ear).for_each(|ear| ear.sink.expect());
        for (session, ear, payload) in all {
            match ear {
                Some(ear) => hand_over(ear, Arrival::Datagram(payload)),
                None => self.deliver(session, Arrival::Datagram(payload)),
            }
        }
    }

    fn session_of(&self, mut datagram: Bytes) -> Option<(u64, Bytes)> {
        let mut rest = &datagram[..];
        // RFC 9297 §2.1: a quarter stream id above 2^60 - 1 names no stream.
        let Some(quarter) = varint::get(&mut rest).filter(|quarter| *quarter <= varint::MAX / 4) else {
            self.counters.count(&self.counters.garbage);
            return None;
        };
        let used = datagram.len() - rest.len();
        datagram.advance(used);
        Some((quarter * 4, datagram))
    }

    /// Reads one incoming WebTransport stream to its end, of which `head` was read already.
    pub(super) fn stream(&self, session: u64, recv: quinn::RecvStream, head: Bytes) {
        let hub = self.own.clone();
        let (limit, patience) = (self.limits.max_stream_body, self.limits.header_timeout);
        let reading = async move {
            let refused = |hub: Weak<Self>| {
                if let Some(hub) = hub.upgrade() {
                    hub.counters.count(&hub.counters.streams_refused);
                }
            };
            match tokio::time::timeout(patience, read_all(recv, head, limit)).await {
                Ok(Read::Whole(body)) => {
                    if let Some(hub) = hub.upgrade() {
                        hub.deliver(session, Arrival::Stream(body));
                    }
                }
                Ok(Read::Reset) => {}
                Ok(Read::TooLarge) | Err(_) => refused(hub),
            }
        };
        if !self.spawn(reading) {
            self.counters.count(&self.counters.streams_refused);
        }
    }

    fn deliver(&self, session: u64, arrival: Arrival) {
        let mut table = lock(&self.table);
        let Some(ear) = table.ears.get(&session).cloned() else {
            return self.keep_early(&mut table, session, arrival);
        };
        drop(table);
        hand_over(&ear, arrival);
    }

    /// draft-ietf-webtrans-http3 §4.6: what outruns its CONNECT is buffered, within limits.
    fn keep_early(&self, table: &mut Table, session: u64, arrival: Arrival) {
        let now = clock::instant();
        self.forget_expired(table, now);
        let kept: usize = table.early.iter().map(|(_, _, arrival)| arrival.len()).sum();
        let full = table.early.len() >= self.limits.max_early || kept + arrival.len() > MAX_EARLY_BYTES;
        if full || table.down || table.ended.contains(&session) {
            self.counters.count(&self.counters.unknown_session);
            return;
        }
        table.early.push_back((now + self.limits.early_lifetime, session, arrival));
    }

    fn forget_expired(&self, table: &mut Table, now: Instant) {
        while table.early.front().is_some_and(|(until, ..)| *until <= now) {
            table.early.pop_front();
            self.counters.count(&self.counters.unknown_session);
        }
    }

    /// Opens a session and delivers what came early. On a lost connection the sink hears its end at once.
    pub(super) fn register(&self, session: u64, ear: Ear) {
        let early: VecDeque<(Instant, u64, Arrival)> = {
            let mut table = lock(&self.table);
            if table.down {
                drop(table);
                ear.sink.on_closed(ear.token);
                return;
            }
            self.forget_expired(&mut table, clock::instant());
            Arc::make_mut(&mut table.ears).insert(session, ear.clone());
            self.open.store(table.ears.len(), Ordering::Relaxed);
            let all = std::mem::take(&mut table.early);
            let (ours, others) = all.into_iter().partition(|(_, id, _)| *id == session);
            table.early = others;
            ours
        };
        for (_, _, arrival) in early {
            hand_over(&ear, arrival);
        }
    }

    /// Ends a session, or a CONNECT that was refused; the sink hears it once.
    pub(super) fn end(&self, session: u64) {
        let ear = {
            let mut table = lock(&self.table);
            table.early.retain(|(_, id, _)| *id != session);
            if table.ended.len() >= REMEMBERED_ENDS {
                table.ended.pop_front();
            }
            table.ended.push_back(session);
            let ear = Arc::make_mut(&mut table.ears).remove(&session);
            self.open.store(table.ears.len(), Ordering::Relaxed);
            ear
        };
        if let Some(ear) = ear {
            ear.sink.on_closed(ear.token);
        }
    }

    /// The connection is gone: every session ends, every task too.
    pub(super) fn shut_down(&self) {
        let ears = {
            let mut table = lock(&self.table);
            table.down = true;
            table.early.clear();
            self.open.store(0, Ordering::Relaxed);
            std::mem::take(&mut table.ears)
        };
        for ear in ears.values() {
            ear.sink.on_closed(ear.token);
        }
        self.outbox.clear();
        lock(&self.tasks).abort_all();
    }
}

fn hand_over(ear: &Ear, arrival: Arrival) {
    match arrival {
        Arrival::Datagram(payload) => ear.sink.on_datagram(ear.token, payload),
        Arrival::Stream(body) => ear.sink.on_stream(ear.token, body),
    }
}

enum Read {
    Whole(Bytes),
    Reset,
    TooLarge,
}

async fn read_all(mut recv: quinn::RecvStream, head: Bytes, limit: usize) -> Read {
    let mut body = BytesMut::from(head);
    loop {
        if body.len() > limit {
            // The peer may have finished it meanwhile.
            let _ = recv.stop(code::EXCESSIVE_LOAD);
            return Read::TooLarge;
        }
        match recv.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk.bytes),
            Ok(None) => return Read::Whole(body.freeze()),
            Err(_) => return Read::Reset,
        }
    }
}

struct Reading<'a>(&'a Hub);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // quinn lets a second close rewrite the reason of the first.
        if self.0.conn.close_reason().is_none() {
            self.0.conn.close(code::INTERNAL_ERROR, b"");
        }
        self.0.shut_down();
    }
}

/// Shuts the hub down when the connection's owner goes, however it goes.
pub(super) struct HubGuard(pub(super) Arc<Hub>);

impl Drop for HubGuard {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}
