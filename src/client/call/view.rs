//! How a call stands, as its events tell it. Pure.

use std::time::Duration;

use super::super::ClientError;
use super::super::uri::path_of;
use crate::protocol::directive::Directives;
use crate::protocol::event::{Body, Event, Outcome, Party, State};
use crate::protocol::resource::{CallDescription, CallDirection};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndInfo {
    /// How.
    pub outcome: Outcome,
    /// Who ended it.
    pub by: Party,
    /// Why, in a word.
    pub reason: String,
}

impl EndInfo {
    /// The server never said.
    pub(in super::super) fn unknown() -> Self {
        Self { outcome: Outcome::Failed, by: Party::Server, reason: "lost".into() }
    }
}

/// How a call stands.
#[derive(Clone, Debug)]
pub(in super::super) struct View {
    pub(in super::super) state: State,
    pub(in super::super) held: bool,
    /// What we are to send.
    pub(in super::super) sends: Directives,
    /// What we are sent.
    pub(in super::super) receives: Directives,
    pub(in super::super) end: Option<EndInfo>,
    own: Party,
    handler: Option<String>,
    outcome: Option<Outcome>,
    answered: Option<Duration>,
    over: Option<Duration>,
}

impl View {
    pub(super) fn new(description: &CallDescription) -> Self {
        let own = match description.direction {
            CallDirection::Outbound => Party::Caller,
            CallDirection::Inbound => Party::Callee,
        };
        let mut view = Self {
            state: State::Proceeding,
            held: false,
            sends: Directives::default(),
            receives: Directives::default(),
            end: None,
            own,
            handler: None,
            outcome: None,
            answered: None,
            over: None,
        };
        view.on_description(description);
        view
    }

    pub(super) fn on_description(&mut self, description: &CallDescription) {
        self.held = description.held;
        self.outcome = description.outcome.or(self.outcome);
        self.handler = description.handler.clone().or(self.handler.take());
        self.on_directives(&description.client_directives, &description.server_directives);
        if description.state == State::Ended {
            let reason = description.reason.clone().unwrap_or_default();
            self.on_end(description.ended_by.unwrap_or(Party::Server), reason);
        }
        if self.end.is_none() {
            self.state = description.state;
        }
    }

    pub(super) fn on_event(&mut self, event: &Event, at: Duration) {
        if let Some(snapshot) = &event.snapshot {
            self.held = snapshot.held;
            self.outcome = snapshot.outcome.or(self.outcome);
            self.on_directives(&snapshot.client_directives, &snapshot.server_directives);
        }
        match &event.body {
            Body::Proceeding => self.rise(State::Proceeding, at),
            Body::Alerting => self.rise(State::Alerting, at),
            Body::Answered => {
                self.handler = event.handler.clone().or(self.handler.take());
                self.rise(State::Answered, at);
            }
            Body::HandlerChanged => self.handler = event.handler.clone(),
            Body::Declined { .. } => self.outcome = Some(Outcome::Declined),
            Body::Failed { .. } => self.outcome = Some(Outcome::Failed),
            Body::NoAnswer { .. } => self.outcome = Some(Outcome::NoAnswer),
            Body::Directives { client_directives, server_directives } => {
                self.on_directives(client_directives, server_directives);
            }
            Body::Hold { by } if *by == self.own => self.held = true,
            Body::Resume { by } if *by == self.own => self.held = false,
            Body::Ended { by, reason } => {
                self.on_end(*by, reason.clone());
                self.over = self.over.or(Some(at));
            }
            _ => {}
        }
    }

    /// The server knows the call no more.
    pub(super) fn on_gone(&mut self, error: &ClientError) {
        let reason = if error.code().is_empty() { error.to_string() } else { error.code().to_owned() };
        self.outcome = self.outcome.or(Some(Outcome::Failed));
        self.on_end(Party::Server, reason);
    }

    /// Nothing will be heard any more.
    pub(super) fn on_silence(&mut self) {
        if self.end.is_none() {
            self.outcome = Some(Outcome::Failed);
            self.on_end(Party::Server, "lost".into());
        }
    }

    fn on_end(&mut self, by: Party, reason: String) {
        if self.end.is_some() {
            return;
        }
        let outcome = self.outcome.unwrap_or(match self.state {
            State::Answered => Outcome::Completed,
            _ if by == Party::Server => Outcome::Failed,
            _ => Outcome::Cancelled,
        });
        self.end = Some(EndInfo { outcome, by, reason });
        self.state = State::Ended;
        (self.sends, self.receives) = Default::default();
    }

    fn rise(&mut self, state: State, at: Duration) {
        if self.end.is_some() {
            return;
        }
        self.state = state;
        if state == State::Answered {
            self.answered = self.answered.or(Some(at));
        }
    }

    fn on_directives(&mut self, sends: &serde_json::Value, receives: &serde_json::Value) {
        for (to, from) in [(&mut self.sends, sends), (&mut self.receives, receives)] {
            match Directives::from_value(from) {
                Ok((directives, _)) => *to = directives,
                Err(error) => tracing::debug!(%error, "directives that can't be read change nothing"),
            }
        }
    }

    /// Whether another device than `handler` carries the call.
    pub(in crate::client) fn is_elsewhere(&self, handler: &str) -> bool {
        self.handler.as_ref().is_some_and(|carrier| path_of(carrier) != path_of(handler))
    }

    /// How long it has been answered, or was.
    pub(super) fn talking(&self, now: Duration) -> Option<Duration> {
        self.answered.map(|at| self.over.unwrap_or(now).saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::Direction;
    use crate::protocol::time::Timestamp;

    fn view() -> View {
        let json = serde_json::json!({
            "uri": "https://a/c", "state": "proceeding", "held": false, "direction": "outbound",
            "from": "+14085551000", "to": "+14085551001",
            "clientDirectives": "1 to 1: opus;", "serverDirectives": "1 to 1: opus;",
            "created": "2020-10-29T19:33:20.007Z",
        });
        View::new(&serde_json::from_value(json).unwrap())
    }

    fn hear(view: &mut View, body: Body, handler: Option<&str>) {
        let event = Event {
            body,
            direction: Direction::ServerToClient,
            timestamp: Timestamp::default(),
            call: "/c".into(),
            seq: None,
            handler: handler.map(str::to_owned),
            snapshot: None,
        };
        view.on_event(&event, Duration::from_secs(1));
    }

    #[test]
    fn an_answered_call_ends_completed_and_sends_nothing_then() {
        let mut view = view();
        hear(&mut view, Body::Alerting, None);
        assert_eq!(view.state, State::Alerting);
        hear(&mut view, Body::Answered, None);
        assert_eq!(view.talking(Duration::from_secs(3)), Some(Duration::from_secs(2)));
        hear(&mut view, Body::Ended { by: Party::Callee, reason: "completed".into() }, None);
        let end = view.end.clone().unwrap();
        assert_eq!((end.outcome, end.by), (Outcome::Completed, Party::Callee));
        assert!(view.sends.is_empty() && view.state == State::Ended);
        assert_eq!(view.talking(Duration::from_secs(9)), Some(Duration::ZERO));
    }

    #[test]
    fn the_outcome_is_what_came_before_the_end() {
        for (body, outcome) in [
            (Body::Declined { reason: "busy".into() }, Outcome::Declined),
            (Body::Failed { reason: "unreachable".into() }, Outcome::Failed),
            (Body::NoAnswer { reason: "noanswer".into() }, Outcome::NoAnswer),
            (Body::Alerting, Outcome::Cancelled),
        ] {
            let mut view = view();
            hear(&mut view, body, None);
            hear(&mut view, Body::Ended { by: Party::Caller, reason: String::new() }, None);
            assert_eq!(view.end.unwrap().outcome, outcome);
        }
    }

    #[test]
    fn hold_is_ours_only_when_we_hold_and_the_carrier_is_followed() {
        let mut view = view();
        hear(&mut view, Body::Hold { by: Party::Callee }, None);
        assert!(!view.held);
        hear(&mut view, Body::Hold { by: Party::Caller }, None);
        assert!(view.held);
        assert!(!view.is_elsewhere("https://a/h/1"));
        hear(&mut view, Body::HandlerChanged, Some("/h/2"));
        assert!(view.is_elsewhere("https://a/h/1") && !view.is_elsewhere("https://a/h/2"));
    }

    #[test]
    fn directives_that_cannot_be_read_change_nothing() {
        let mut view = view();
        let body = Body::Directives { client_directives: 7.into(), server_directives: "".into() };
        hear(&mut view, body, None);
        assert!(!view.sends.is_empty() && view.receives.is_empty());
    }
}
