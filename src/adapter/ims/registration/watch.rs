//! The subscription to what becomes of a registration (RFC 3680 on RFC 6665, TS 24.229 §5.1.1.3).

use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Request, Response};

use super::chance::LONGEST;
use super::message::{self, request, response};
use super::reginfo::{Bound, Entry, MAX_BYTES, Reginfo};
use super::shared::{Key, Shared};
use super::{Event, Profile, Reason};
use crate::adapter::sip::ua::ClientId;
use crate::adapter::sip::value::{Address, find, params, parts, value, values};

const REGINFO: &str = "application/reginfo+xml";
/// TS 24.229 §5.1.1.3
const EXPIRES: Duration = Duration::from_secs(600_000);
const FINAL: Duration = Duration::from_secs(40);
/// The most hops of a dialog's route.
const MAX_ROUTE: usize = 16;

/// What a NOTIFY comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// So long it still lasts.
    Shortened(Duration),
    Over {
        reason: Reason,
        after: Option<Duration>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    state: State,
    dialog: Dialog,
    /// The Service-Route.
    route: Vec<String>,
    key: Option<Key>,
    expires: Option<Duration>,
    failures: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Off,
    Asking {
        id: ClientId,
        until: Instant,
        challenges: u32,
    },
    Active {
        refresh: Instant,
    },
    Waiting(Instant),
}

#[derive(Debug, Default)]
struct Dialog {
    call_id: String,
    tag: String,
    cseq: u32,
    far: Option<Far>,
    notified: Option<u32>,
    version: Option<u32>,
}

#[derive(Debug)]
struct Far {
    tag: String,
    target: String,
    route: Vec<String>,
}

impl Watch {
    /// A REGISTER was taken: a new registration gets a new subscription.
    pub(super) fn registered(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        route: Vec<String>,
        refreshed: bool,
    ) {
        self.route = route;
        if !refreshed || matches!(self.state, State::Off) {
            self.failures = 0;
            self.start(now, shared);
        }
    }

    pub(super) fn stop(&mut self) {
        self.state = State::Off;
        self.dialog = Dialog::default();
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Off => None,
            State::Asking { until: at, .. } | State::Active { refresh: at } | State::Waiting(at) => Some(at),
        }
    }

    pub(super) fn tick(&mut self, now: Instant, shared: &mut Shared) {
        match self.state {
            State::Asking { until, .. } if now >= until => self.failed(now, shared, 408),
            State::Active { refresh } if now >= refresh => self.ask(now, shared, 0),
            State::Waiting(at) if now >= at => self.start(now, shared),
            _ => {}
        }
    }

    fn start(&mut self, now: Instant, shared: &mut Shared) {
        self.dialog =
            Dialog { call_id: shared.chance.word(), tag: shared.chance.word(), ..Dialog::default() };
        self.ask(now, shared, 0);
    }

    fn ask(&mut self, now: Instant, shared: &mut Shared, challenges: u32) {
        self.dialog.cseq += 1;
        let Dialog { call_id, tag, cseq, far, .. } = &self.dialog;
        let profile = &shared.profile;
        let public = &profile.public;
        let (target, to_tag) = match far {
            Some(far) => (far.target.clone(), format!(";tag={}", far.tag)),
            None => (public.clone(), String::new()),
        };
        let expires = self.expires.unwrap_or(EXPIRES).as_secs();
        let mut fields = vec![
            ("From", format!("<{public}>;tag={tag}")),
            ("To", format!("<{public}>{to_tag}")),
            ("Call-ID", call_id.clone()),
            ("CSeq", format!("{cseq} SUBSCRIBE")),
            ("Contact", format!("<{}>", profile.contact)),
            ("Event", "reg".to_owned()),
            ("Accept", REGINFO.to_owned()),
            ("Expires", expires.to_string()),
            ("User-Agent", profile.product.clone()),
        ];
        // RFC 3608 §5: what we send goes by the proxy and then by what the registrar named.
        let route: Vec<_> = match far {
            Some(far) => far.route.clone(),
            None => profile.route.iter().chain(&self.route).cloned().collect(),
        };
        fields.extend(route.into_iter().map(|route| ("Route", route)));
        if profile.ims {
            fields.push(("P-Preferred-Identity", format!("<{public}>")));
        }
        fields.extend(profile.access.iter().map(|access| ("P-Access-Network-Info", access.clone())));
        if let Some(key) = &mut self.key
            && let Some((name, value, _)) = key.field(shared, "SUBSCRIBE", &target)
        {
            fields.push((name, value));
        }
        match request(Method::Subscribe, &target, &fields) {
            Some(request) => {
                let id = shared.send(request);
                self.state = State::Asking { id, until: now + FINAL, challenges };
            }
            None => self.failed(now, shared, 400),
        }
    }

    pub(super) fn response(&mut self, now: Instant, shared: &mut Shared, id: ClientId, response: &Response) {
        let State::Asking { id: wanted, challenges, .. } = self.state else { return };
        let code = response.status_code.code();
        if wanted != id || code < 200 {
            return;
        }
        match code {
            401 | 407 => match Key::of(response, shared) {
                Some(key) if challenges == 0 || key.stale() && challenges < 3 => {
                    self.key = Some(key);
                    self.ask(now, shared, challenges + 1);
                }
                _ => {
                    self.key = None;
                    self.failed(now, shared, code);
                }
            },
            200..=299 => {
                let far = Far::of_response(response);
                if self.dialog.far.is_none() {
                    self.dialog.far = far;
                } else if let (Some(own), Some(far)) = (&mut self.dialog.far, far) {
                    own.target = far.target;
                }
                let granted = message::seconds(response, "Expires").unwrap_or(EXPIRES).min(EXPIRES);
                self.active(now, granted);
            }
            423 => match message::seconds(response, "Min-Expires") {
                Some(least) if least > self.expires.unwrap_or(EXPIRES) && least <= EXPIRES * 2 => {
                    self.expires = Some(least);
                    self.ask(now, shared, challenges);
                }
                _ => self.failed(now, shared, code),
            },
            // RFC 6665 §4.1.2.2: the subscription is gone.
            404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604 if self.dialog.far.is_some() => {
                let pause = shared.chance.pause(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.state = State::Waiting(now + pause);
            }
            _ => self.failed(now, shared, code),
        }
    }

    fn active(&mut self, now: Instant, granted: Duration) {
        let granted = granted.max(Duration::from_secs(10));
        let refresh = if granted > LONGEST { granted - Duration::from_secs(600) } else { granted / 2 };
        self.state = State::Active { refresh: now + refresh };
    }

    fn failed(&mut self, now: Instant, shared: &mut Shared, code: u16) {
        let passing = matches!(code, 408 | 430 | 480 | 500 | 502..=504);
        let pause = if passing { shared.chance.pause(self.failures) } else { shared.chance.spread(LONGEST) };
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(now + pause);
        shared.tell(Event::NotWatched(code));
    }

    /// The response to a NOTIFY, and what it says of us.
    pub(super) fn notify(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        notify: &Request,
    ) -> (Response, Verdict) {
        let refused = |code: u16, more: &[(&str, &str)]| (response(notify, code, more), Verdict::Nothing);
        if notify.method != Method::Notify {
            return refused(405, &[("Allow", "NOTIFY")]);
        }
        if !self.owns(notify) {
            return refused(481, &[]);
        }
        let package = value(notify, "Event").and_then(|event| event.split(';').next());
        if !package.is_some_and(|package| package.trim().eq_ignore_ascii_case("reg")) {
            return refused(489, &[("Allow-Events", "reg")]);
        }
        // RFC 3261 §12.2.2: what was overtaken is refused.
        let cseq = value(notify, "CSeq").and_then(|text| text.split_whitespace().next()?.parse().ok());
        let Some(cseq) = cseq.filter(|cseq| self.dialog.notified.is_none_or(|last| *cseq > last)) else {
            return refused(500, &[]);
        };
        if notify.body.len() > MAX_BYTES {
            return refused(413, &[]);
        }
        let state = value(notify, "Subscription-State").unwrap_or("active");
        let document = match (notify.body.is_empty(), value(notify, "Content-Type")) {
            (true, _) => None,
            (false, Some(kind))
                if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(REGINFO)) =>
            {
                match Reginfo::read(&notify.body) {
                    Some(document) => Some(document),
                    None => return refused(400, &[]),
                }
            }
            (false, _) => return refused(415, &[("Accept", REGINFO)]),
        };
        self.dialog.notified = Some(cseq);
        // RFC 6665 §4.1.3: the NOTIFY may make the dialog before the 200 does.
        if self.dialog.far.is_none() {
            self.dialog.far = Far::of_request(notify);
        }
        let verdict = document.map_or(Verdict::Nothing, |it| self.document(now, shared, &it));
        self.subscription(now, shared, state);
        (response(notify, 200, &[]), verdict)
    }

    fn owns(&self, notify: &Request) -> bool {
        if matches!(self.state, State::Off)
            || value(notify, "Call-ID").is_none_or(|id| id.trim() != self.dialog.call_id)
        {
            return false;
        }
        let tag = |name| {
            let address = Address::read(value(notify, name)?)?;
            address.param("tag").map(str::to_owned)
        };
        tag("To").is_some_and(|tag| tag == self.dialog.tag)
            && self.dialog.far.as_ref().is_none_or(|far| tag("From").is_some_and(|tag| tag == far.tag))
    }

    /// RFC 3680 §5.1: versions count up by one; what is old is passed over, and after a gap all is asked for.
    fn document(&mut self, now: Instant, shared: &mut Shared, document: &Reginfo) -> Verdict {
        let expected = self.dialog.version.map(|version| version.wrapping_add(1));
        match self.dialog.version {
            Some(version) if document.version <= version => return Verdict::Nothing,
            _ => self.dialog.version = Some(document.version),
        }
        if !document.full && expected != Some(document.version) && !matches!(self.state, State::Asking { .. })
        {
            self.ask(now, shared, 0);
        }
        verdict(&shared.profile, document)
    }

    /// RFC 6665 §4.1.3: Subscription-State.
    fn subscription(&mut self, now: Instant, shared: &mut Shared, state: &str) {
        let (state, rest) = state.split_once(';').unwrap_or((state, ""));
        let rest = params(rest);
        let seconds = |name| Some(Duration::from_secs(find(&rest, name)?.parse::<u32>().ok()?.into()));
        if !state.trim().eq_ignore_ascii_case("terminated") {
            if let (State::Active { .. }, Some(left)) = (&self.state, seconds("expires")) {
                self.active(now, left.min(EXPIRES));
            }
            return;
        }
        let after = seconds("retry-after").map(|after| after.min(LONGEST));
        self.dialog = Dialog::default();
        match find(&rest, "reason").unwrap_or_default().to_ascii_lowercase().as_str() {
            "rejected" | "noresource" | "invariant" => self.state = State::Off,
            _ => {
                let pause = after.unwrap_or_else(|| shared.chance.pause(self.failures));
                self.failures = self.failures.saturating_add(1);
                self.state = State::Waiting(now + pause);
            }
        }
    }
}

impl Far {
    fn of_response(response: &Response) -> Option<Self> {
        let tag = Address::read(value(response, "To")?)?.param("tag")?.to_owned();
        let target = Address::all(value(response, "Contact")?).next()?.uri.to_owned();
        // RFC 3261 §12.1.2: the last proxy is the first hop.
        let mut route = routes(&values(response, "Record-Route"));
        route.reverse();
        Some(Self { tag, target, route })
    }

    fn of_request(request: &Request) -> Option<Self> {
        let tag = Address::read(value(request, "From")?)?.param("tag")?.to_owned();
        let target = Address::all(value(request, "Contact")?).next()?.uri.to_owned();
        Some(Self { tag, target, route: routes(&values(request, "Record-Route")) })
    }
}

fn routes(values: &[&str]) -> Vec<String> {
    let all = values.iter().flat_map(|text| parts(text, ','));
    all.take(MAX_ROUTE).map(str::to_owned).collect()
}

/// What a document says of our contact.
fn verdict(profile: &Profile, document: &Reginfo) -> Verdict {
    let own = |entry: &&Entry| message::same(&entry.aor, &profile.public);
    let named: Vec<_> = document.registrations.iter().filter(own).collect();
    // The network may know us by another of our identities.
    let entries = if named.is_empty() { document.registrations.iter().collect() } else { named };
    let ours = |bound: &&Bound| {
        message::is_ours(profile, &bound.uri, bound.instance.as_deref(), bound.reg_id.as_deref())
    };
    let bounds: Vec<_> = entries.iter().flat_map(|entry| &entry.contacts).filter(ours).collect();
    // A binding may stand beside the one that it replaced.
    if let Some(bound) = bounds.iter().find(|bound| !bound.terminated) {
        return match bound.expires {
            Some(left) if bound.event == "shortened" => Verdict::Shortened(left),
            _ => Verdict::Nothing,
        };
    }
    if let Some(bound) = bounds.first() {
        let reason = match bound.event.as_str() {
            "deactivated" => Reason::Deactivated,
            "probation" => Reason::Probation,
            "expired" => Reason::Expired,
            "unregistered" => Reason::Unregistered,
            _ => Reason::Rejected,
        };
        return Verdict::Over { reason, after: bound.retry_after };
    }
    let all_over = !entries.is_empty() && entries.iter().all(|entry| entry.terminated);
    match all_over && entries.iter().all(|entry| entry.contacts.is_empty()) {
        // Nothing is said of why: not to be tried by itself.
        true => Verdict::Over { reason: Reason::Rejected, after: None },
        false => Verdict::Nothing,
    }
}
