//! One subscription's queue in virtual time: what is to be sent next, and when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::super::cloudevent::{SubscriptionEnd, cloudevent, subscription_ended};
use super::super::notice::{Notice, SessionNotice};
use super::SOURCE;
use super::record::{Ended, Record};
use super::retry::{GRACE, REFUSED_TRIES, STALE, Verdict, next_try};
use crate::protocol::time::Timestamp;

/// Events that wait for one sink, and the bytes of their SDP.
const MAX_EVENTS: usize = 64;
const MAX_BYTES: usize = 1024 * 1024;

/// A subscription, and what it still has to say.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) record: Record,
    queue: VecDeque<Entry>,
    /// Failures since the sink last took or refused an event, and when it is asked again: whichever event is next then.
    failures: u32,
    not_before: Timestamp,
    /// Nothing more is sent, whatever waits.
    gone: bool,
    /// A deletion is being written down.
    pub(super) leaving: bool,
}

#[derive(Debug)]
struct Entry {
    id: Uuid,
    at: Timestamp,
    what: What,
    refusals: u32,
}

#[derive(Debug)]
enum What {
    Notice(Arc<Notice>),
    End(SubscriptionEnd),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The subscription has just ended: write that down.
    Write,
    /// Send this event; its id.
    Send(Uuid, Value),
    /// Nothing before this time.
    Wait(Timestamp),
    /// Nothing ever.
    Over,
}

impl Line {
    /// One that says its end, if its record has one.
    pub(super) fn new(record: Record) -> Self {
        let (queue, not_before) = (VecDeque::new(), record.starts);
        let mut line = Self { record, queue, failures: 0, not_before, gone: false, leaving: false };
        if let Some(Ended { why, at, event }) = line.record.ended.clone() {
            line.push(event, at, What::End(why));
        }
        line
    }

    /// Takes an event in; whether the record changed by it.
    pub(super) fn hear(&mut self, now: Timestamp, notice: &Arc<Notice>) -> bool {
        if notice.event_type() != self.record.kind.event_type() || !self.record.is_active(now) {
            return false;
        }
        self.push(Uuid::new_v4(), now, What::Notice(notice.clone()));
        self.make_room(now);
        let Some(most) = self.record.max_events else { return self.record.ended.is_some() };
        self.record.taken += 1;
        if self.record.taken >= most {
            self.end(now, SubscriptionEnd::MaxEvents);
        }
        true
    }

    /// Ends the subscription, unless it has ended: what waits is still sent, then its end.
    pub(super) fn end(&mut self, now: Timestamp, why: SubscriptionEnd) {
        if self.record.ended.is_none() {
            let event = Uuid::new_v4();
            self.record.ended = Some(Ended { why, at: now, event });
            self.push(event, now, What::End(why));
        }
    }

    /// What waits is tried at once, for the sink's token is another now.
    pub(super) fn try_again(&mut self, now: Timestamp) {
        (self.failures, self.not_before) = (0, now);
        self.queue.iter_mut().for_each(|entry| entry.refusals = 0);
    }

    /// What is to be done now.
    pub(super) fn step(&mut self, now: Timestamp) -> Step {
        let (deadline, why) = self.record.deadline();
        if self.record.ended.is_none() && deadline <= now {
            self.end(now, why);
            return Step::Write;
        }
        let given_up = self.record.ended.as_ref().is_some_and(|ended| ended.at + GRACE <= now);
        if self.gone || given_up || self.record.lacks_token(now) {
            return Step::Over;
        }
        let stale = |entry: &Entry| matches!(entry.what, What::Notice(_)) && entry.at + STALE <= now;
        while self.queue.front().is_some_and(stale) {
            self.queue.pop_front();
            tracing::debug!(subscription = %self.record.id, "an event is given up");
        }
        match self.queue.front() {
            None if self.record.ended.is_some() => Step::Over,
            None => Step::Wait(deadline),
            Some(_) if self.not_before > now => match self.record.ended {
                // A last try is not later than the end of all tries.
                Some(ref ended) => Step::Wait(self.not_before.min(ended.at + GRACE)),
                None => Step::Wait(self.not_before.min(deadline)),
            },
            Some(first) => Step::Send(first.id, self.event(first)),
        }
    }

    /// What came of sending an event.
    pub(super) fn sent(&mut self, now: Timestamp, id: Uuid, verdict: Verdict, chance: u32) {
        let Some(first) = self.queue.front_mut().filter(|first| first.id == id) else { return };
        let pause = match verdict {
            Verdict::Gone => {
                self.gone = true;
                return;
            }
            Verdict::Later(pause) => pause,
            Verdict::Refused => {
                first.refusals += 1;
                if first.refusals < REFUSED_TRIES { Duration::ZERO } else { return self.next() }
            }
            Verdict::Delivered => return self.next(),
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before = next_try(now, self.failures, pause, chance);
    }

    /// The first event is done with.
    fn next(&mut self) {
        self.queue.pop_front();
        self.failures = 0;
    }

    /// Whether what comes next was tried in vain.
    #[cfg(test)]
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    fn event(&self, entry: &Entry) -> Value {
        let (id, subscription) = (entry.id.to_string(), self.record.id.to_string());
        match &entry.what {
            What::Notice(notice) => cloudevent(notice, &id, Some(&subscription), SOURCE, entry.at),
            What::End(why) => subscription_ended(*why, &id, &subscription, SOURCE, entry.at),
        }
    }

    fn push(&mut self, id: Uuid, at: Timestamp, what: What) {
        self.queue.push_back(Entry { id, at, what, refusals: 0 });
    }

    /// A full queue loses statuses that a later one of the same session makes needless, the oldest first; never the
    /// first event, which may be under way. Where that is not enough the sink is too slow: the subscription ends.
    fn make_room(&mut self, now: Timestamp) {
        while self.is_full() {
            let needless = (1..self.queue.len()).find(|at| self.is_needless(*at));
            match needless {
                Some(at) => drop(self.queue.remove(at)),
                None => {
                    self.queue.truncate(1);
                    self.end(now, SubscriptionEnd::Network);
                    return;
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        self.queue.len() > MAX_EVENTS || self.queue.iter().map(Entry::weight).sum::<usize>() > MAX_BYTES
    }

    fn is_needless(&self, at: usize) -> bool {
        let Some(told) = self.queue[at].session().filter(|_| self.queue[at].is_status()) else {
            return false;
        };
        let later = self.queue.iter().skip(at + 1).filter(|later| later.is_status());
        later.filter_map(Entry::session).any(|later| later.session.id == told.session.id)
    }
}

impl Entry {
    fn session(&self) -> Option<&SessionNotice> {
        match &self.what {
            What::Notice(notice) => match &**notice {
                Notice::Invitation(told) | Notice::Status(told) => Some(told),
                Notice::RegistrationEnds { .. } => None,
            },
            What::End(_) => None,
        }
    }

    fn is_status(&self) -> bool {
        matches!(&self.what, What::Notice(notice) if matches!(**notice, Notice::Status(_)))
    }

    fn weight(&self) -> usize {
        let sdp = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.session().map_or(0, |told| sdp(&told.session.offer) + sdp(&told.session.answer))
    }
}
