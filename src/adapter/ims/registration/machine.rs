//! REGISTER: when it is sent, and what its answers mean.

use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Response};

use super::chance::{Chance, LONGEST};
use super::message::{self, Granted};
use super::shared::{Key, Shared};
use super::watch::{Verdict, Watch};
use super::{By, Event, Input, Output, Profile, Reason};
use crate::adapter::sip::ua::ClientId;

/// RFC 3261 §17.1.2.2: no transaction takes longer; a shell that forgets one does not stop us.
const FINAL: Duration = Duration::from_secs(40);
/// Answers to challenges within one try: a first one, a stale nonce, and TS 24.229 §5.1.1.5.3's two invalid ones.
const MOST_CHALLENGES: u32 = 4;
const MOST_INVALID: u32 = 2;
/// The longest Min-Expires that we follow.
const MOST_EXPIRES: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest Retry-After.
const MOST_WAIT: Duration = Duration::from_secs(3600);

/// A REGISTER on its way.
#[derive(Debug)]
struct Try {
    id: ClientId,
    until: Instant,
    challenges: u32,
    /// A right answer was not taken.
    refused: bool,
    invalid: u32,
    raised: bool,
    /// Whether what was sent answered a challenge that was not valid.
    answered_invalid: bool,
}

#[derive(Debug)]
enum Phase {
    Waiting(Instant),
    Asking(Try),
    /// The time to refresh.
    Registered(Instant),
    /// De-registering.
    Leaving(Try),
    /// Not before [`Input::Again`].
    Dormant,
    /// De-registered.
    Gone,
}

/// An account's registration.
#[derive(Debug)]
pub struct Registration {
    shared: Shared,
    phase: Phase,
    call_id: String,
    tag: String,
    cseq: u32,
    key: Option<Key>,
    expires: Duration,
    failures: u32,
    /// Until when the network has us.
    bound: Option<Instant>,
    stop: bool,
    watch: Watch,
}

impl Registration {
    /// Registers at the first [`Input::Tick`].
    pub fn new(profile: Profile, now: Instant) -> Self {
        let mut chance = Chance::new(profile.seed);
        let (call_id, tag, expires) = (chance.word(), chance.word(), profile.expires);
        let shared = Shared::new(profile, chance);
        Self {
            shared,
            phase: Phase::Waiting(now),
            call_id,
            tag,
            cseq: 0,
            key: None,
            expires,
            failures: 0,
            bound: None,
            stop: false,
            watch: Watch::default(),
        }
    }

    /// Whether the network has us.
    pub fn is_registered(&self) -> bool {
        self.bound.is_some()
    }

    /// Whether it is over: nothing more will come.
    pub fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// From now on we are reached, and reach the registrar, there. [`Input::Again`] makes it known.
    pub fn move_to(&mut self, contact: String, route: Vec<String>) {
        self.shared.profile.contact = contact;
        self.shared.profile.route = route;
    }

    /// What happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Tick => {}
            Input::Response(id, response) => self.response(now, id, &response),
            Input::Request(id, request) => {
                let (response, verdict) = self.watch.notify(now, &mut self.shared, &request);
                self.shared.outputs.push_back(Output::Respond(id, response));
                self.told(now, verdict);
            }
            Input::Stop => self.leave(now),
            Input::Again if self.stop => {}
            Input::Again => {
                self.failures = 0;
                self.ask(now, None);
            }
        }
        self.tick(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.shared.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = match &self.phase {
            Phase::Waiting(at) | Phase::Registered(at) => Some(*at),
            Phase::Asking(a_try) | Phase::Leaving(a_try) => Some(a_try.until),
            Phase::Dormant | Phase::Gone => None,
        };
        [own, self.bound, self.watch.next_timeout()].into_iter().flatten().min()
    }

    fn tick(&mut self, now: Instant) {
        if self.bound.is_some_and(|until| now >= until) {
            self.lost(By::Timer, Reason::Expired);
        }
        match &self.phase {
            Phase::Waiting(at) | Phase::Registered(at) if now >= *at => self.ask(now, None),
            Phase::Asking(a_try) if now >= a_try.until => self.failed(now, 408, None, message::why(408)),
            Phase::Leaving(a_try) if now >= a_try.until => self.gone(),
            _ => {}
        }
        self.watch.tick(now, &mut self.shared);
    }

    /// Sends a REGISTER, the first of a try or a further one.
    fn ask(&mut self, now: Instant, again: Option<Try>) {
        let leaving = self.stop;
        let Shared { profile, .. } = &self.shared;
        let (registrar, public) = (profile.registrar.clone(), profile.public.clone());
        let mut contact = message::contact(profile);
        if leaving {
            contact.push_str(";expires=0");
        }
        self.cseq += 1;
        let mut fields = vec![
            ("From", format!("<{public}>;tag={}", self.tag)),
            ("To", format!("<{public}>")),
            ("Call-ID", self.call_id.clone()),
            ("CSeq", format!("{} REGISTER", self.cseq)),
            ("Contact", contact),
            ("Expires", if leaving { 0 } else { self.expires.as_secs() }.to_string()),
            ("Supported", supported(profile)),
            ("User-Agent", profile.product.clone()),
        ];
        fields.extend(profile.route.iter().map(|route| ("Route", route.clone())));
        fields.extend(profile.access.iter().map(|access| ("P-Access-Network-Info", access.clone())));
        let mut invalid = false;
        if let Some(key) = &mut self.key {
            if let Some((name, value, bad)) = key.field(&mut self.shared, "REGISTER", &registrar) {
                fields.push((name, value));
                invalid = bad;
            }
        } else if let Some(login) = profile.login.as_ref().filter(|_| profile.ims) {
            let realm = registrar.split_once(':').map_or(registrar.as_str(), |(_, host)| host);
            fields.push(("Authorization", login.introduction(realm, &registrar)));
        }
        let Some(request) = message::request(Method::Register, &registrar, &fields) else {
            let why = "the registrar in the configuration is no SIP URI";
            self.shared.tell(Event::Failed { code: 400, why, retry: None });
            self.phase = if leaving { Phase::Gone } else { Phase::Dormant };
            return;
        };
        let (id, until) = (self.shared.send(request), now + FINAL);
        let mut a_try = match again {
            Some(a_try) => Try { id, until, ..a_try },
            None => Try {
                id,
                until,
                challenges: 0,
                refused: false,
                invalid: 0,
                raised: false,
                answered_invalid: false,
            },
        };
        a_try.answered_invalid = invalid;
        a_try.invalid += u32::from(invalid);
        self.phase = if leaving { Phase::Leaving(a_try) } else { Phase::Asking(a_try) };
    }

    fn response(&mut self, now: Instant, id: ClientId, response: &Response) {
        let code = response.status_code.code();
        let ours = matches!(&self.phase, Phase::Asking(a_try) | Phase::Leaving(a_try) if a_try.id == id);
        if !ours {
            return self.watch.response(now, &mut self.shared, id, response);
        }
        if code < 200 {
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Dormant);
        match (phase, code) {
            (Phase::Asking(a_try) | Phase::Leaving(a_try), 401 | 407) => {
                self.challenged(now, a_try, response);
            }
            (Phase::Leaving(_), _) => self.gone(),
            (Phase::Asking(_), 200..=299) => self.registered(now, response),
            (Phase::Asking(mut a_try), 423) => {
                let least = message::seconds(response, "Min-Expires").unwrap_or_default();
                if a_try.raised || least <= self.expires || least > MOST_EXPIRES {
                    return self.failed(now, 423, None, message::why(423));
                }
                self.expires = least;
                a_try.raised = true;
                self.ask(now, Some(a_try));
            }
            _ => self.failed(now, code, message::seconds(response, "Retry-After"), message::why(code)),
        }
    }

    /// Whether a challenge says that the answer to the one before was wrong.
    fn is_wrong(&self, a_try: &Try, key: &Key) -> bool {
        a_try.challenges > 0 && !a_try.answered_invalid && !key.stale()
    }

    /// Whether this is the challenge that was answered.
    fn knows(&self, key: &Key) -> bool {
        self.key.as_ref().is_some_and(|known| known.nonce() == key.nonce())
    }

    fn challenged(&mut self, now: Instant, mut a_try: Try, response: &Response) {
        let code = response.status_code.code();
        let why = match Key::of(response, &self.shared) {
            None if self.shared.profile.login.is_none() => {
                "the registrar asks for a password, and none is configured"
            }
            None => "the registrar asks for a way to log in that isn't known here",
            Some(_) if a_try.invalid >= MOST_INVALID => {
                "the network doesn't know the SIM's keys (MAC failure), or does not follow its sequence number"
            }
            // RFC 3261 §22.1: not the same credentials again, unless only the nonce was too old. Some registrars forget a
            // nonce without saying so (RFC 7616 §3.3): once more, then.
            Some(key) if self.is_wrong(&a_try, &key) && (a_try.refused || self.knows(&key)) => {
                message::why(code)
            }
            Some(_) if a_try.challenges >= MOST_CHALLENGES => "the registrar challenges without end",
            Some(key) => {
                a_try.refused = self.is_wrong(&a_try, &key);
                self.key = Some(key);
                a_try.challenges += 1;
                return self.ask(now, Some(a_try));
            }
        };
        self.key = None;
        if self.stop {
            return self.gone();
        }
        self.failed(now, code, None, why);
    }

    fn registered(&mut self, now: Instant, response: &Response) {
        let granted = message::granted(response, &self.shared.profile, self.expires);
        let Granted { expires, service_route, associated, gruu } = granted;
        if expires.is_zero() {
            return self.failed(now, 200, None, "the registrar took us, and let us go at once");
        }
        if let (Some(key), Some(nonce)) = (&mut self.key, message::next_nonce(response)) {
            key.go_on_with(nonce);
        }
        let refreshed = self.bound.replace(now + expires).is_some();
        self.failures = 0;
        self.phase = Phase::Registered(now + refresh(expires));
        let watched = self.shared.profile.watch && !self.stop;
        let route = service_route.clone();
        self.shared.tell(Event::Registered { service_route, associated, gruu, expires, refreshed });
        if self.stop {
            return self.ask(now, None);
        }
        if watched {
            self.watch.registered(now, &mut self.shared, route, refreshed);
        }
    }

    fn failed(&mut self, now: Instant, code: u16, after: Option<Duration>, why: &'static str) {
        if self.stop {
            return self.gone();
        }
        let passing = matches!(code, 408 | 430 | 480 | 500 | 502..=504);
        let pause = match after {
            _ if !passing => self.shared.chance.spread(LONGEST),
            // RFC 3261 §21.5.4; a tenth more at most, so that not all come back at once.
            Some(after) => {
                let after = after.clamp(Duration::from_secs(1), MOST_WAIT);
                after + self.shared.chance.spread(after / 10)
            }
            None => self.shared.chance.pause(self.failures),
        };
        self.failures = self.failures.saturating_add(1);
        if !passing && self.bound.is_some() {
            self.lost(By::Network, Reason::Refused);
        }
        self.phase = Phase::Waiting(now + pause);
        self.shared.tell(Event::Failed { code, why, retry: Some(pause) });
    }

    fn lost(&mut self, by: By, reason: Reason) {
        if self.bound.take().is_some() {
            self.watch.stop();
            self.shared.tell(Event::Deregistered { by, reason });
        }
    }

    /// What the network says of our registration.
    fn told(&mut self, now: Instant, verdict: Verdict) {
        match verdict {
            Verdict::Nothing => {}
            // TS 24.229 §5.1.1.5.1: it wants to see our credentials again soon.
            Verdict::Shortened(left) => {
                if let (Some(until), Phase::Registered(at)) = (self.bound, &mut self.phase) {
                    self.bound = Some(until.min(now + left));
                    *at = (*at).min(now + refresh(left));
                }
            }
            Verdict::Over { .. } if self.bound.is_none() || self.stop => {}
            Verdict::Over { reason, after } => {
                self.lost(By::Network, reason);
                // Where a refresh is on its way, its answer decides.
                if !matches!(self.phase, Phase::Registered(_) | Phase::Waiting(_)) {
                    return;
                }
                self.phase = match reason {
                    Reason::Deactivated | Reason::Expired => Phase::Waiting(now),
                    Reason::Probation => {
                        let after = after.unwrap_or_else(|| self.shared.chance.pause(0)).min(MOST_WAIT);
                        Phase::Waiting(now + after)
                    }
                    // RFC 3680 §5.1: not by itself.
                    Reason::Unregistered | Reason::Rejected | Reason::Refused => Phase::Dormant,
                };
            }
        }
    }

    fn leave(&mut self, now: Instant) {
        if self.stop {
            return;
        }
        self.stop = true;
        self.watch.stop();
        match self.phase {
            // RFC 3261 §10.2: not before the answer to the one on its way.
            Phase::Asking(_) => {}
            _ if self.bound.is_some() => self.ask(now, None),
            _ => self.gone(),
        }
    }

    fn gone(&mut self) {
        self.bound = None;
        self.watch.stop();
        self.phase = Phase::Gone;
        self.shared.tell(Event::Unregistered);
    }
}

/// TS 24.229 §5.1.1.4.1: 600 s before the end, or at half where that is soon.
fn refresh(expires: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(600);
    if expires > MARGIN * 2 { expires - MARGIN } else { expires / 2 }
}

fn supported(profile: &Profile) -> String {
    let mut all = "path".to_owned();
    if profile.ims {
        all.push_str(", gruu");
    }
    if profile.reg_id.is_some() {
        all.push_str(", outbound");
    }
    all
}
