//! The two rows of events: what we said and is not acknowledged, and how far we have heard. Pure.

use std::collections::VecDeque;

use crate::protocol::event::{ClientBody, Event};

/// An event that the server hasn't taken yet.
#[derive(Debug)]
struct Pending<T> {
    seq: u64,
    body: ClientBody,
    done: Option<T>,
    sent: bool,
}

/// What we say: numbered, kept until it is taken, said again with the same number after a loss.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    next: u64,
    pending: VecDeque<Pending<T>>,
}

impl<T> Outbox<T> {
    /// Goes on behind what the server took from this device before.
    pub(super) fn new(accepted: Option<u64>) -> Self {
        Self { next: accepted.map_or(1, |seq| seq + 1), pending: VecDeque::new() }
    }

    /// Every event takes a number, transient ones too: the server counts an event without one as the next.
    pub(super) fn push(&mut self, body: ClientBody, done: Option<T>) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.pending.push_back(Pending { seq, body, done, sent: false });
        seq
    }

    /// The next event to send.
    pub(super) fn send_next(&mut self) -> Option<(u64, ClientBody)> {
        let pending = self.pending.iter_mut().find(|pending| !pending.sent)?;
        pending.sent = true;
        Some((pending.seq, pending.body.clone()))
    }

    /// The server took everything up to `seq`; whose waiting is over.
    pub(super) fn accepted(&mut self, seq: u64) -> Vec<T> {
        // A server that took more than we remember saying: count on from there.
        self.next = self.next.max(seq + 1);
        let mut over = Vec::new();
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.seq <= seq) {
            over.extend(pending.done);
        }
        over
    }

    /// The server would not take this one.
    pub(super) fn refused(&mut self, seq: u64) -> Option<T> {
        let at = self.pending.iter().position(|pending| pending.seq == seq)?;
        self.pending.remove(at)?.done
    }

    /// The byway broke: all is to be said again, but for what means nothing later.
    pub(super) fn lost(&mut self) {
        self.pending.retain(|pending| !is_transient(&pending.body));
        self.pending.iter_mut().for_each(|pending| pending.sent = false);
    }

    /// Whether something is to be sent.
    pub(super) fn is_unsent(&self) -> bool {
        self.pending.iter().any(|pending| !pending.sent)
    }

    /// Whether something was sent and is not taken.
    pub(super) fn is_waiting(&self) -> bool {
        self.pending.iter().any(|pending| pending.sent)
    }

    /// The call is over: who wanted that has it, and who waits for something else never will.
    pub(super) fn finish(&mut self) -> Vec<(bool, T)> {
        self.pending.drain(..).filter_map(|p| Some((is_last_word(&p.body), p.done?))).collect()
    }
}

fn is_transient(body: &ClientBody) -> bool {
    matches!(body, ClientBody::Ping { .. } | ClientBody::Quality { .. })
}

/// What may end the call, so that `ended` comes in place of an acknowledgement.
fn is_last_word(body: &ClientBody) -> bool {
    use ClientBody::{Declined, End, Failed, NoAnswer};
    matches!(body, End { .. } | Declined { .. } | Failed { .. } | NoAnswer { .. })
}

/// How far we have heard.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    newest: Option<u64>,
}

impl Inbox {
    /// Whether this event is news.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        let Some(seq) = event.seq else { return true };
        // wire §4: `?after` above the newest, or no longer kept, gets the snapshot; it tells where the row stands.
        if event.snapshot.is_some() {
            self.newest = Some(seq);
            return true;
        }
        let news = self.newest.is_none_or(|newest| seq > newest);
        if news {
            self.newest = Some(seq);
        }
        news
    }

    /// What to ask for after a loss.
    pub(super) fn after(&self) -> Option<u64> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::{Body, Direction, Snapshot};
    use crate::protocol::time::Timestamp;

    fn hold() -> ClientBody {
        ClientBody::Hold
    }

    fn ping() -> ClientBody {
        ClientBody::Ping { nonce: None }
    }

    fn sent(outbox: &mut Outbox<&'static str>) -> Vec<u64> {
        std::iter::from_fn(|| outbox.send_next()).map(|(seq, _)| seq).collect()
    }

    #[test]
    fn what_is_not_taken_is_said_again_with_the_same_number_after_a_loss() {
        let mut outbox = Outbox::new(None);
        outbox.push(hold(), Some("hold"));
        outbox.push(ClientBody::Resume, Some("resume"));
        outbox.push(ping(), None);
        assert_eq!(sent(&mut outbox), [1, 2, 3]);
        assert_eq!(outbox.accepted(1), ["hold"]);
        outbox.lost();
        assert_eq!(sent(&mut outbox), [2], "the ping is not worth a second time");
        assert!(outbox.is_waiting());
        assert_eq!(outbox.accepted(9), ["resume"]);
        assert_eq!(outbox.push(hold(), None), 10, "counts on from what the server took");
    }

    #[test]
    fn a_restarted_client_counts_on_from_the_newest_that_was_taken() {
        assert_eq!(Outbox::<()>::new(Some(7)).push(hold(), None), 8);
    }

    #[test]
    fn a_refused_event_leaves_the_others_waiting_and_its_number_unused() {
        let mut outbox = Outbox::new(None);
        outbox.push(hold(), Some("a"));
        outbox.push(hold(), Some("b"));
        assert_eq!(sent(&mut outbox), [1, 2]);
        assert_eq!(outbox.refused(1), Some("a"));
        assert_eq!(outbox.refused(1), None);
        assert_eq!(outbox.accepted(2), ["b"]);
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn at_the_end_the_end_is_done_and_nothing_else() {
        let mut outbox = Outbox::new(None);
        outbox.push(hold(), Some("hold"));
        outbox.push(ClientBody::End { reason: None }, Some("end"));
        assert_eq!(outbox.finish(), [(false, "hold"), (true, "end")]);
    }

    fn event(seq: Option<u64>, snapshot: bool) -> Event {
        let snapshot = snapshot.then(|| Snapshot {
            snapshot: true,
            held: false,
            client_directives: "".into(),
            server_directives: "".into(),
            accepted: None,
            outcome: None,
        });
        Event {
            body: Body::Alerting,
            direction: Direction::ServerToClient,
            timestamp: Timestamp::default(),
            call: String::new(),
            seq,
            handler: None,
            snapshot,
        }
    }

    #[test]
    fn duplicates_are_dropped_and_a_snapshot_sets_the_row_anew() {
        let mut inbox = Inbox::default();
        assert!(inbox.take(&event(Some(3), true)));
        assert!(!inbox.take(&event(Some(3), false)));
        assert!(inbox.take(&event(Some(4), false)) && !inbox.take(&event(Some(4), false)));
        assert!(inbox.take(&event(None, false)), "transient events have no number");
        assert_eq!(inbox.after(), Some(4));
        assert!(
            inbox.take(&event(Some(2), true)),
            "a server that lost the newest events says so by a snapshot"
        );
        assert!(inbox.take(&event(Some(3), false)));
    }
}
