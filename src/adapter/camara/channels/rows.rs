//! What channels keep: a row of events for each user's device. Pure state; `now` is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;
use uuid::Uuid;

use super::limits::Limits;
use super::wording::Types;
use crate::adapter::camara::notice::{Notice, SessionNotice};
use crate::identity::principal::UserId;
use crate::protocol::time::Timestamp;

/// Whose channel it is, and on which device.
pub(crate) type Key = (UserId, Uuid);

/// An event that waits in a row.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    /// Counts over all rows, so that no two events share one.
    pub(crate) position: u64,
    /// The event's name, the same however often it is sent.
    pub(crate) id: Uuid,
    /// When it happened.
    pub(crate) at: Timestamp,
    /// What happened.
    pub(crate) notice: Arc<Notice>,
    bytes: usize,
}

#[cfg(test)]
impl Due {
    /// One that is in no row.
    pub(crate) fn new(id: Uuid, at: Timestamp, notice: Arc<Notice>) -> Self {
        Self { position: 0, id, at, notice, bytes: 0 }
    }
}

/// What a socket is to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Due(Due),
    /// Wait.
    Nothing,
    /// Close: another socket has the channel.
    Replaced,
    /// Close: events went before they were sent.
    Lost,
}

/// Where a socket begins, and how it is woken.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) socket: u64,
    pub(super) cursor: u64,
    pub(super) wake: Arc<Notify>,
}

/// Why there is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The user has as many as may be.
    #[error("a user has at most {0} channels; close one that is no longer used")]
    User(usize),
    /// There is no room for more.
    #[error("the server has as many channels as it can hold; try again later")]
    Server,
}

#[derive(Debug)]
struct Socket {
    number: u64,
    until: Timestamp,
    wake: Arc<Notify>,
}

/// An address that opens a channel without a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Door {
    /// What cannot be guessed.
    pub(crate) secret: String,
    /// What it shows.
    pub(crate) types: Types,
    /// How long it is there.
    pub(crate) until: Timestamp,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What opens it is not for logs.
        f.debug_struct("Door").field("until", &self.until).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Row {
    events: VecDeque<Due>,
    bytes: usize,
    /// Every event up to here has been confirmed.
    confirmed: u64,
    /// A socket was here: what goes from now on is missed by somebody.
    used: bool,
    lost: bool,
    socket: Option<Socket>,
    door: Option<Door>,
    /// Its socket has gone; until then it is expected back, and is to know what it has missed.
    awaited: Option<Timestamp>,
}

/// What of a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Door,
    Waiting,
}

impl Row {
    fn idle(&self) -> bool {
        self.socket.is_none() && self.door.is_none()
    }
}

/// All rows.
pub(super) struct Rows {
    limits: Limits,
    rows: BTreeMap<Key, Row>,
    doors: HashMap<String, Key>,
    ends: BTreeSet<(Timestamp, Key, End)>,
    /// All events, in the order in which they came; some may have gone from their rows before.
    ages: VecDeque<(Timestamp, Key, u64)>,
    bytes: usize,
    last: u64,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Rows {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            rows: BTreeMap::new(),
            doors: HashMap::new(),
            ends: BTreeSet::new(),
            ages: VecDeque::new(),
            bytes: 0,
            last: 0,
        }
    }

    /// Keeps an event, and wakes the device's socket. A device that never opened a channel is heard for too: it may be
    /// about to open one, woken by this very event.
    pub(super) fn hear(&mut self, now: Timestamp, key: &Key, id: Uuid, notice: &Arc<Notice>) {
        self.tidy(now);
        if let Err(full) = self.room(key) {
            tracing::debug!(user = %key.0, %full, "an event is kept for no channel");
            return;
        }
        self.last += 1;
        let due = Due { position: self.last, id, at: now, notice: notice.clone(), bytes: weight(notice) };
        let (events, bytes) = (self.limits.events, self.limits.bytes.saturating_sub(due.bytes));
        let row = self.rows.entry(key.clone()).or_default();
        while row.events.len() >= events || row.bytes > bytes {
            let Some(freed) = row.drop_first() else { break };
            self.bytes -= freed;
        }
        row.bytes += due.bytes;
        self.bytes += due.bytes;
        self.ages.push_back((now, key.clone(), due.position));
        row.events.push_back(due);
        if let Some(socket) = &row.socket {
            socket.wake.notify_one();
        }
        self.tidy(now);
    }

    /// Gives the channel to a new socket. It begins after what was confirmed, or after an event that its client names;
    /// one that is no longer here is older than all that are.
    pub(super) fn attach(
        &mut self,
        now: Timestamp,
        key: &Key,
        until: Timestamp,
        after: Option<Uuid>,
    ) -> Result<Place, Full> {
        self.tidy(now);
        self.room(key)?;
        self.last += 1;
        let row = self.rows.entry(key.clone()).or_default();
        if let Some(old) = &row.socket {
            old.wake.notify_one();
        }
        let cursor = match after {
            None => row.confirmed,
            Some(id) => row.events.iter().find(|due| due.id == id).map_or(0, |due| due.position),
        };
        row.confirmed = row.confirmed.max(cursor);
        row.used = true;
        if let Some(until) = row.awaited.take() {
            self.ends.remove(&(until, key.clone(), End::Waiting));
        }
        let (socket, wake) = (self.last, Arc::new(Notify::new()));
        row.socket = Some(Socket { number: socket, until, wake: wake.clone() });
        Ok(Place { socket, cursor, wake })
    }

    /// What a socket sends after the event at `cursor`.
    pub(super) fn next(&mut self, key: &Key, socket: u64, cursor: u64) -> Next {
        let Some(row) = self.of(key, socket) else { return Next::Replaced };
        if std::mem::take(&mut row.lost) {
            return Next::Lost;
        }
        let at = row.events.partition_point(|due| due.position <= cursor);
        row.events.get(at).cloned().map_or(Next::Nothing, Next::Due)
    }

    /// A socket's client has everything up to there.
    pub(super) fn confirm(&mut self, key: &Key, socket: u64, position: u64) {
        if let Some(row) = self.of(key, socket) {
            row.confirmed = row.confirmed.max(position);
        }
    }

    /// How long a socket may stay; none: another has its place.
    pub(super) fn until(&mut self, key: &Key, socket: u64) -> Option<Timestamp> {
        self.of(key, socket)?.socket.as_ref().map(|socket| socket.until)
    }

    /// A socket is gone.
    pub(super) fn leave(&mut self, now: Timestamp, key: &Key, socket: u64) {
        let until = now + self.limits.keep;
        if let Some(row) = self.of(key, socket) {
            row.socket = None;
            row.awaited = Some(until);
            self.ends.insert((until, key.clone(), End::Waiting));
        }
        self.tidy(now);
    }

    /// The channel's door, made where there is none; it stays until then at least.
    pub(super) fn open_door(
        &mut self,
        now: Timestamp,
        key: &Key,
        types: Types,
        until: Timestamp,
        secret: String,
    ) -> Result<Door, Full> {
        self.tidy(now);
        self.room(key)?;
        let row = self.rows.entry(key.clone()).or_default();
        let old = row.door.take();
        if let Some(old) = &old {
            self.ends.remove(&(old.until, key.clone(), End::Door));
        }
        let secret = old.as_ref().map_or(secret, |old| old.secret.clone());
        let door = Door { secret, types, until: old.map_or(until, |old| old.until.max(until)) };
        row.door = Some(door.clone());
        self.doors.insert(door.secret.clone(), key.clone());
        self.ends.insert((door.until, key.clone(), End::Door));
        Ok(door)
    }

    /// A newer token keeps the door open for longer, and the socket that came through it.
    pub(super) fn renew(&mut self, now: Timestamp, key: &Key, until: Timestamp) {
        self.tidy(now);
        let Some(row) = self.rows.get_mut(key) else { return };
        let Some(door) = row.door.as_mut().filter(|door| door.until < until) else { return };
        self.ends.remove(&(door.until, key.clone(), End::Door));
        self.ends.insert((until, key.clone(), End::Door));
        door.until = until;
        if let Some(socket) = &mut row.socket {
            socket.until = socket.until.max(until);
            socket.wake.notify_one();
        }
    }

    /// A device's door.
    pub(super) fn door(&mut self, now: Timestamp, key: &Key) -> Option<Door> {
        self.tidy(now);
        self.rows.get(key)?.door.clone()
    }

    /// Where a secret leads.
    pub(super) fn behind(&mut self, now: Timestamp, secret: &str) -> Option<(Key, Door)> {
        self.tidy(now);
        let key = self.doors.get(secret)?;
        Some((key.clone(), self.rows.get(key)?.door.clone()?))
    }

    /// Whether a channel may be there: it is, or one more fits.
    pub(super) fn room(&mut self, key: &Key) -> Result<(), Full> {
        if self.rows.contains_key(key) {
            return Ok(());
        }
        let of_user = (key.0.clone(), Uuid::nil())..=(key.0.clone(), Uuid::max());
        let mine = self.rows.range(of_user);
        if mine.clone().count() >= self.limits.per_user {
            let idle = mine.filter(|(_, row)| row.idle());
            let oldest = idle.min_by_key(|(_, row)| row.events.back().map(|due| due.position));
            let oldest = oldest.map(|(key, _)| key.clone()).ok_or(Full::User(self.limits.per_user))?;
            self.forget(&oldest);
        }
        if self.rows.len() >= self.limits.channels {
            return Err(Full::Server);
        }
        Ok(())
    }

    fn of(&mut self, key: &Key, socket: u64) -> Option<&mut Row> {
        self.rows.get_mut(key).filter(|row| row.socket.as_ref().is_some_and(|s| s.number == socket))
    }

    /// Lets go of what is too old, and of the oldest where there is too much.
    fn tidy(&mut self, now: Timestamp) {
        while let Some((at, key, end)) = self.ends.first().filter(|(at, ..)| *at <= now).cloned() {
            self.ends.remove(&(at, key.clone(), end));
            let Some(row) = self.rows.get_mut(&key) else { continue };
            match end {
                End::Door => drop(row.door.take().map(|door| self.doors.remove(&door.secret))),
                End::Waiting => row.awaited = None,
            }
            self.forget_unused(&key);
        }
        while let Some((at, key, position)) = self.ages.front().cloned() {
            let Limits { all_events, all_bytes, keep, .. } = self.limits;
            if at + keep > now && self.ages.len() <= all_events && self.bytes <= all_bytes {
                return;
            }
            self.ages.pop_front();
            let Some(row) = self.rows.get_mut(&key) else { continue };
            while row.events.front().is_some_and(|due| due.position <= position) {
                self.bytes -= row.drop_first().unwrap_or(0);
            }
            self.forget_unused(&key);
        }
    }

    fn forget_unused(&mut self, key: &Key) {
        if self.rows.get(key).is_some_and(|row| row.idle() && row.awaited.is_none() && row.events.is_empty())
        {
            self.rows.remove(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(row) = self.rows.remove(key) {
            self.bytes -= row.bytes;
            if let Some(until) = row.awaited {
                self.ends.remove(&(until, key.clone(), End::Waiting));
            }
        }
    }
}

impl Row {
    /// Lets the oldest go: its bytes.
    fn drop_first(&mut self) -> Option<usize> {
        let gone = self.events.pop_front()?;
        self.bytes -= gone.bytes;
        self.lost |= self.used && gone.position > self.confirmed;
        Some(gone.bytes)
    }
}

/// Roughly the memory that an event holds; what its sessions' other events share is counted with each.
fn weight(notice: &Notice) -> usize {
    let SessionNotice { session, reason, .. } = match notice {
        Notice::Invitation(told) | Notice::Status(told) => told,
        Notice::RegistrationEnds { .. } => return 256,
    };
    let options = [&session.offer, &session.answer, &session.originator_name, &session.receiver_name];
    let texts = options.into_iter().flatten().map(String::len).sum::<usize>();
    512 + texts + session.originator.len() + session.receiver.len() + reason.len()
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
