//! The task of a call's signalling.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::super::api::left;
use super::super::link::Connected;
use super::super::task::Owned;
use super::super::{Blame, ClientError, Refusal};
use super::forward::{Forward, Outcome, Report};
use super::reverse::{self, What, Word};
use super::rows::{Inbox, Outbox};
use super::{ForwardMode, Heard, Line, Tell};
use crate::clock;
use crate::protocol::event::{Body, ClientBody, ClientEvent, Event};

/// wire §4: without an acknowledgement for so long, something holds the open `PUT` back.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(1);
/// A pong that takes longer means that the reverse byway fell silent.
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// Waits between tries to open the reverse byway again on a connection that holds.
const REOPEN: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

type Done = oneshot::Sender<Result<(), ClientError>>;

struct Run {
    line: Line,
    heard: mpsc::Sender<Heard>,
    words: mpsc::Sender<Word>,
    reports: mpsc::Sender<Report>,
    outbox: Outbox<Done>,
    inbox: Inbox,
    connected: Option<Connected>,
    /// Count byways, so that an old one's last words are known for what they are.
    reverse_round: u64,
    forward_round: u64,
    reverse: Option<Owned>,
    reverse_open: Option<Instant>,
    /// What was last said of the connection.
    said: bool,
    reopen_at: Option<Instant>,
    failures: usize,
    forward: Option<Forward>,
    mode: ForwardMode,
    /// A finite `PUT` was answered where the open one was not: it is the way, not the connection.
    proven: bool,
    sent_at: Option<Instant>,
    ping_at: Instant,
    pong_by: Option<Instant>,
}

/// Runs until the call ends, or its handle is dropped.
pub(super) async fn run(line: Line, mut tells: mpsc::Receiver<Tell>, heard: mpsc::Sender<Heard>) {
    let (words, mut word) = mpsc::channel(64);
    let (reports, mut report) = mpsc::channel(64);
    let mut watch = line.client.watch();
    let ping_at = clock::instant() + line.keepalive;
    let outbox = Outbox::new(line.accepted);
    let mut run = Run {
        line,
        heard,
        words,
        reports,
        outbox,
        inbox: Inbox::default(),
        connected: None,
        reverse_round: 0,
        forward_round: 0,
        reverse: None,
        reverse_open: None,
        said: false,
        reopen_at: None,
        failures: 0,
        forward: None,
        mode: ForwardMode::Open,
        proven: false,
        sent_at: None,
        ping_at,
        pong_by: None,
    };
    run.connect().await;
    loop {
        let wait = run.next_timer().map_or(Duration::from_secs(3600), left);
        let going = tokio::select! {
            tell = tells.recv() => match tell {
                Some(tell) => { run.outbox.push(tell.body, tell.done); run.flush(); true }
                None => false,
            },
            Some(word) = word.recv() => run.on_word(word).await,
            Some(report) = report.recv() => run.on_report(report).await,
            generation = watch.changed() => run.on_link(generation).await,
            () = tokio::time::sleep(wait) => run.on_timer().await,
        };
        if !going {
            break;
        }
    }
    for (is_end, done) in run.outbox.finish() {
        // Nobody may wait for it.
        let _ = done.send(if is_end { Ok(()) } else { Err(ClientError::Ended) });
    }
}

impl Run {
    /// Takes the present connection, if there is one, and opens both byways on it.
    async fn connect(&mut self) {
        let Ok(connected) = self.line.client.0.link.current(Duration::ZERO).await else { return };
        self.connected = Some(connected);
        self.failures = 0;
        if !self.proven {
            self.mode = ForwardMode::Open;
        }
        self.open_reverse();
        self.open_forward();
    }

    fn open_reverse(&mut self) {
        let Some(connected) = self.connected.clone() else { return };
        self.reverse_round += 1;
        (self.reverse_open, self.reopen_at, self.pong_by) = (None, None, None);
        let words = self.words.clone();
        let reading =
            reverse::read(self.line.clone(), connected, self.reverse_round, self.inbox.after(), words);
        self.reverse = Some(Owned::spawn(reading));
    }

    /// Opens the forward byway anew; what is not acknowledged goes again.
    fn open_forward(&mut self) {
        let Some(connected) = self.connected.clone() else { return };
        self.forward_round += 1;
        let (round, reports) = (self.forward_round, self.reports.clone());
        self.forward = Some(match self.mode {
            ForwardMode::Open => Forward::open(&self.line, connected, round, reports),
            ForwardMode::Finite => Forward::finite(&self.line, round, reports),
        });
        self.outbox.lost();
        self.sent_at = None;
        self.flush();
    }

    fn flush(&mut self) {
        if self.forward.is_none() && self.outbox.is_unsent() {
            return self.open_forward();
        }
        let Some(forward) = &self.forward else { return };
        while let Some((seq, body)) = self.outbox.send_next() {
            let event = ClientEvent { body, handler: Some(self.line.handler.clone()), seq: Some(seq) };
            if !forward.send(seq, event.to_json(&self.line.call, clock::now())) {
                break;
            }
            self.sent_at.get_or_insert(clock::instant());
        }
    }

    /// The open `PUT` is of no use on this connection; a finite one is opened once there is something to say.
    fn fall_back(&mut self) {
        self.mode = ForwardMode::Finite;
        self.forward = None;
        self.sent_at = None;
        self.outbox.lost();
        self.flush();
    }

    fn next_timer(&self) -> Option<Instant> {
        self.connected.as_ref()?;
        [Some(self.ping_at), self.pong_by, self.reopen_at, self.accepted_by()].into_iter().flatten().min()
    }

    /// Until when the open `PUT` has to be acknowledged; it can't be before the reverse byway is open.
    fn accepted_by(&self) -> Option<Instant> {
        let (sent, open) = (self.sent_at?, self.reverse_open?);
        (self.mode == ForwardMode::Open).then_some(sent.max(open) + ACCEPTED_WITHIN)
    }

    async fn on_timer(&mut self) -> bool {
        let now = clock::instant();
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.open_reverse();
        }
        if self.accepted_by().is_some_and(|at| at <= now) {
            self.fall_back();
        }
        if self.pong_by.is_some_and(|at| at <= now) {
            if let Some(connected) = &self.connected {
                self.line.client.0.link.suspect(connected.generation);
            }
            self.open_reverse();
        }
        if self.ping_at <= now {
            self.ping_at = now + self.line.keepalive;
            self.pong_by = self.pong_by.or(self.reverse_open.map(|_| now + PONG_WITHIN));
            self.outbox.push(ClientBody::Ping { nonce: None }, None);
            self.flush();
        }
        true
    }

    async fn on_link(&mut self, generation: Option<u64>) -> bool {
        let ours = self.connected.as_ref().map(|connected| connected.generation);
        match generation {
            None => {
                self.connected = None;
                (self.reverse, self.forward, self.reverse_open) = (None, None, None);
                (self.sent_at, self.pong_by, self.reopen_at) = (None, None, None);
                self.outbox.lost();
                self.say(false).await
            }
            Some(_) if generation != ours => {
                self.connect().await;
                true
            }
            Some(_) => true,
        }
    }

    async fn on_word(&mut self, word: Word) -> bool {
        if word.round != self.reverse_round {
            return true;
        }
        match word.what {
            What::Open => {
                self.reverse_open = Some(clock::instant());
                self.say(true).await
            }
            What::Event(event, at) => self.on_event(event, at).await,
            What::Closed(error) => self.on_closed(error).await,
        }
    }

    async fn say(&mut self, up: bool) -> bool {
        std::mem::replace(&mut self.said, up) == up || self.heard.send(Heard::Connection(up)).await.is_ok()
    }

    async fn on_event(&mut self, event: Box<Event>, at: Duration) -> bool {
        self.failures = 0;
        self.pong_by = None;
        let accepted = match (&event.body, &event.snapshot) {
            (Body::Accepted { accepted }, _) => Some(*accepted),
            (_, Some(snapshot)) => snapshot.accepted,
            _ => None,
        };
        if let Some(accepted) = accepted {
            self.on_accepted(accepted);
        }
        if let Body::Error { code, detail, ref_seq: Some(seq) } = &event.body {
            let refusal = refusal(code, detail.as_deref());
            self.on_refused(*seq, refusal);
        }
        if matches!(event.body, Body::Migrate { .. })
            && let Some(connected) = &self.connected
        {
            self.line.client.0.link.renew(connected.generation);
        }
        let ended = matches!(event.body, Body::Ended { .. });
        let quiet = matches!(event.body, Body::Accepted { .. } | Body::Pong { .. });
        if self.inbox.take(&event) && !quiet && self.heard.send(Heard::Event { event, at }).await.is_err() {
            return false;
        }
        !ended
    }

    fn on_accepted(&mut self, seq: u64) {
        for done in self.outbox.accepted(seq) {
            let _ = done.send(Ok(()));
        }
        self.sent_at = self.outbox.is_waiting().then(clock::instant);
    }

    fn on_refused(&mut self, seq: u64, error: ClientError) {
        if let Some(done) = self.outbox.refused(seq) {
            let _ = done.send(Err(error));
        }
        self.sent_at = self.outbox.is_waiting().then(clock::instant);
    }

    async fn on_closed(&mut self, error: ClientError) -> bool {
        (self.reverse, self.reverse_open, self.pong_by) = (None, None, None);
        // A call under way outlives its login: a token that ended says nothing about it.
        let again = self.line.client.may_recover(&error);
        if !again && error.refusal().is_some_and(|refusal| matches!(refusal.status, 401 | 403 | 404 | 410)) {
            let _ = self.heard.send(Heard::Gone(error)).await;
            return false;
        }
        if self.failures > 0
            && let Some(connected) = &self.connected
        {
            self.line.client.0.link.suspect(connected.generation);
        }
        let wait = REOPEN[self.failures.min(REOPEN.len() - 1)];
        self.failures += 1;
        self.reopen_at = Some(clock::instant() + wait);
        self.say(false).await
    }

    async fn on_report(&mut self, report: Report) -> bool {
        let current = report.round == self.forward_round;
        match report.what {
            Outcome::Answered(seq, Ok(accepted)) => {
                self.on_accepted(accepted.unwrap_or(seq));
                if current && self.mode == ForwardMode::Finite && !std::mem::replace(&mut self.proven, true) {
                    return self.heard.send(Heard::Forward(self.mode)).await.is_ok();
                }
            }
            Outcome::Answered(seq, Err(error)) if error.blame() != Blame::Network => {
                self.on_refused(seq, error)
            }
            Outcome::Answered(_, Err(error)) if current => {
                tracing::debug!(%error, "an event is to be sent again");
                self.open_forward();
            }
            Outcome::Closed(error) if current && self.mode == ForwardMode::Open => {
                tracing::debug!(%error, "the open PUT is over");
                self.fall_back();
            }
            Outcome::Answered(..) | Outcome::Closed(_) => {}
        }
        true
    }
}

/// An `error` event as the refusal that it is.
fn refusal(code: &str, detail: Option<&str>) -> ClientError {
    ClientError::Refused(Box::new(Refusal {
        status: 409,
        code: code.to_owned(),
        detail: detail.unwrap_or_default().to_owned(),
        field: None,
        retry_after: None,
        date: None,
        local: false,
    }))
}
