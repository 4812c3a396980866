//! The session timer (RFC 4028): how long a session lasts unrefreshed, and who refreshes.

use std::time::{Duration, Instant};

use rsipstack::sip::{Header, Headers, Method, Request, Response};
use serde::{Deserialize, Serialize};

use super::dispatch::Kind;
use super::header;
use super::timer::{PATIENCE, Timer};
use super::{Phase, Ua, build};

/// RFC 4028 §4: the shortest interval that anybody may insist on.
const SHORTEST: Duration = Duration::from_secs(90);

/// What a session lasts at least, whatever was said: no peer makes us refresh without rest.
const FLOOR: Duration = Duration::from_secs(2);

/// How soon a refresh that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// A session interval.
pub(super) type Interval = Duration;

/// The session timer of a call.
#[derive(Debug)]
pub(super) struct SessionTimer {
    /// The shortest that we take, raised by 422 (RFC 4028 §7.3).
    min: Interval,
    ours: Interval,
    agreed: Option<Agreed>,
}

/// A session timer as it is written down: seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct KeptSession {
    min: u64,
    /// The interval, and whether we refresh.
    agreed: Option<(u64, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    interval: Interval,
    /// We refresh.
    we: bool,
}

impl SessionTimer {
    pub(super) fn new(min: Interval) -> Self {
        Self { min, ours: min, agreed: None }
    }

    pub(super) fn kept(&self) -> KeptSession {
        let agreed = self.agreed.map(|agreed| (agreed.interval.as_secs(), agreed.we));
        KeptSession { min: self.min.as_secs(), agreed }
    }

    pub(super) fn resumed(ours: Interval, kept: KeptSession) -> Self {
        let interval = |seconds| Duration::from_secs(seconds).max(FLOOR);
        let agreed = kept.agreed.map(|(seconds, we)| Agreed { interval: interval(seconds), we });
        Self { min: Duration::from_secs(kept.min), ours, agreed }
    }

    /// RFC 4028 §7.1: what the first INVITE asks for.
    pub(super) fn ask(&self, wanted: Option<Interval>, headers: &mut Headers) {
        let Some(wanted) = wanted else { return };
        headers.push(build::line("Session-Expires", wanted.max(self.min).as_secs().to_string()));
        if self.min != SHORTEST {
            headers.push(build::line("Min-SE", self.min.as_secs().to_string()));
        }
    }

    /// RFC 4028 §7.4: what a later request carries: the interval, and who refreshes, as seen from its sender.
    fn keep(&self, headers: &mut Headers) {
        let Some(agreed) = self.agreed else { return };
        let who = if agreed.we { "uac" } else { "uas" };
        let seconds = agreed.interval.max(self.min).as_secs();
        headers.push(build::line("Session-Expires", format!("{seconds};refresher={who}")));
        if self.min != SHORTEST {
            headers.push(build::line("Min-SE", self.min.as_secs().to_string()));
        }
    }

    /// RFC 4028 §9: an interval below ours is refused, if the sender knows 422. Err: ours.
    pub(super) fn long_enough(&self, headers: &Headers) -> Result<(), Interval> {
        let asked = header::number(headers, "Session-Expires").map(|s| Duration::from_secs(s.into()));
        let knows = header::has(headers, "Supported", "timer") || header::has(headers, "Require", "timer");
        match asked {
            Some(asked) if knows && asked < self.ours => Err(self.ours),
            _ => Ok(()),
        }
    }

    /// RFC 4028 §9, table 2: what a 2xx of ours says, and whether the far side must know the timer.
    fn answer(&self, wanted: Option<Interval>, headers: &Headers) -> Option<(Agreed, bool)> {
        let knows = header::has(headers, "Supported", "timer") || header::has(headers, "Require", "timer");
        let least = header::number(headers, "Min-SE")
            .map_or(SHORTEST, |s| Duration::from_secs(s.into()))
            .max(self.ours);
        let asked = header::number(headers, "Session-Expires").map(|s| Duration::from_secs(s.into()));
        let interval = match (asked, wanted) {
            (Some(asked), Some(wanted)) => asked.min(wanted).max(least.min(asked)).max(self.ours),
            (Some(asked), None) => asked.max(self.ours),
            (None, Some(wanted)) => wanted.max(least),
            (None, None) => return None,
        };
        let interval = interval.max(FLOOR);
        let who = header::first(headers, "Session-Expires").and_then(|v| header::param(v, "refresher"));
        let we = match who {
            _ if !knows => true,
            Some(who) if who.eq_ignore_ascii_case("uac") => false,
            Some(who) if who.eq_ignore_ascii_case("uas") => true,
            _ => self.agreed.is_some_and(|a| a.we),
        };
        Some((Agreed { interval, we }, !we))
    }

    /// RFC 4028 §7.2: what a 2xx to our request says.
    fn agree(&mut self, headers: &Headers) {
        self.agreed = header::first(headers, "Session-Expires").and_then(|value| {
            let seconds = header::number(headers, "Session-Expires")?;
            let uas = header::param(value, "refresher").is_some_and(|r| r.eq_ignore_ascii_case("uas"));
            let floor = self.ours.min(SHORTEST).max(FLOOR);
            Some(Agreed { interval: Duration::from_secs(seconds.into()).max(floor), we: !uas })
        });
    }
}

impl Ua {
    /// A 2xx to our INVITE, re-INVITE or UPDATE.
    pub(super) fn session_agreed(&mut self, now: Instant, headers: &Headers) {
        self.session.agree(headers);
        self.session_runs(now);
    }

    /// Our 2xx to theirs: puts in what is agreed.
    pub(super) fn session_answer(&mut self, now: Instant, request: &Headers, response: &mut Headers) {
        let answer = self.session.answer(self.profile.session_expires, request);
        if let Some((agreed, require)) = answer {
            let who = if agreed.we { "uas" } else { "uac" };
            let value = format!("{};refresher={who}", agreed.interval.as_secs());
            response.push(build::line("Session-Expires", value));
            if require {
                // RFC 4028 §9: the far side refreshes, so it must know how.
                response.push(build::line("Require", "timer"));
            }
        }
        self.session.agreed = answer.map(|(agreed, _)| agreed);
        self.session_runs(now);
    }

    /// RFC 4028 §10: refreshed at half of the interval; ended a third of it, or 32 s, before its end.
    pub(super) fn session_runs(&mut self, now: Instant) {
        self.timers.stop(Timer::Refresh);
        self.timers.stop(Timer::Session);
        let Some(agreed) = self.session.agreed else { return };
        if agreed.we {
            self.timers.set(Timer::Refresh, now + agreed.interval / 2);
        }
        let margin = PATIENCE.min(agreed.interval / 3);
        self.timers.set(Timer::Session, now + (agreed.interval - margin));
    }

    /// Puts the session timer into a later request of ours.
    pub(super) fn session_keep(&self, headers: &mut Headers) {
        self.session.keep(headers);
    }

    /// RFC 4028 §7.4: by UPDATE where the far side has it, else by a re-INVITE with what we described last.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.phase != Phase::Up || self.session.agreed.is_none() {
            return;
        }
        let Some(dialog) = self.dialogs.first_mut() else { return };
        let tag = dialog.tag.clone();
        if dialog.updates {
            let seq = dialog.next_seq();
            let Some(dialog) = self.find(&tag) else { return };
            let mut request = self.within(dialog, Method::Update, seq);
            self.session_keep(&mut request.headers);
            self.send(Kind::Update { refresh: true }, &tag, request);
        } else if self.may_reinvite() {
            match self.find(&tag).and_then(|d| d.talk.local()).map(str::to_owned) {
                Some(sdp) => self.reinvite(&tag, &sdp, true),
                None => self.refresh_later(now),
            }
        } else {
            self.refresh_later(now);
        }
    }

    pub(super) fn refresh_later(&mut self, now: Instant) {
        if self.session.agreed.is_some() {
            self.timers.set(Timer::Refresh, now + RETRY);
        }
    }

    /// RFC 4028 §7.3: 422: the request is to go again with a longer interval. False: it can't.
    pub(super) fn longer(&mut self, request: &mut Request, response: &Response) -> bool {
        let Some(min) = header::number(&response.headers, "Min-SE") else { return false };
        let min = Duration::from_secs(min.into());
        if min <= self.session.min && min.as_secs() > 0 {
            return false;
        }
        self.session.min = min;
        if let Some(agreed) = &mut self.session.agreed {
            agreed.interval = agreed.interval.max(min);
        }
        let own = |h: &Header| matches!(h, Header::SessionExpires(_) | Header::MinSE(_));
        request.headers.retain(|h| !own(h));
        match self.session.agreed {
            Some(_) => self.session.keep(&mut request.headers),
            None => self.session.ask(Some(self.profile.session_expires.unwrap_or(min)), &mut request.headers),
        }
        true
    }

    /// RFC 4028 §9: 422
    pub(super) fn too_brief(&self, request: &Request, min: Interval) -> Response {
        let mut response = self.answer_to(request, 422);
        response.headers.push(build::line("Min-SE", min.as_secs().to_string()));
        response
    }
}
