//! An INVITE of ours (RFC 3261 §13.2): its branches, the one that answers, and the others.

use std::collections::VecDeque;
use std::time::Instant;

use rsipstack::sip::{Header, Headers, Method, Request, Response, Uri};

use super::auth::Challenges;
use super::dialog::Dialog;
use super::dispatch::{CLIENTS, Kind, credentials};
use super::header::{self, Body};
use super::modify::Modify;
use super::offer::{Bearer, Carrier, Negotiation, none_of};
use super::refer::Transfers;
use super::session::SessionTimer;
use super::timer::{PATIENCE, Random, Timers};
use super::{By, ClientId, Ending, Event, Output, Phase, Profile, Reliable, Ua, build};

/// Branches that are followed; a call that is forked more widely rings there unseen.
pub(super) const BRANCHES: usize = 16;

/// ACKs that are kept for retransmitted 2xx.
const ACKS: usize = 8;

/// Our first INVITE.
#[derive(Debug)]
pub(super) struct Placed {
    id: ClientId,
    target: Uri,
    offer: Option<String>,
    seq: u32,
    credentials: Vec<Header>,
    /// A provisional response came.
    heard: bool,
    /// It is to be cancelled, with this Reason.
    cancel: Option<Option<String>>,
    cancelled: bool,
    /// When a 2xx of another branch is no longer to be expected (RFC 3261 §13.2.2.4).
    pub(super) late_until: Option<Instant>,
}

/// The ACK of a 2xx.
#[derive(Debug)]
pub(super) struct Ack {
    seq: u32,
    tag: String,
    request: Request,
}

impl Placed {
    /// It was sent once more.
    pub(super) fn again(&mut self, id: ClientId, seq: u32, credentials: Vec<Header>) {
        (self.id, self.seq, self.credentials, self.heard) = (id, seq, credentials, false);
    }
}

/// A call's user agent that nothing happened to.
pub(super) fn blank(profile: Profile, call_id: String, local: &str, mut random: Random) -> Ua {
    let local_tag = random.name();
    Ua {
        local: format!("{};tag={local_tag}", local.trim()),
        session: SessionTimer::new(profile.min_se),
        profile,
        call_id,
        local_tag,
        phase: Phase::Early,
        ours: false,
        probes: false,
        dialogs: Vec::new(),
        placed: None,
        arrived: None,
        unacked: None,
        acks: VecDeque::new(),
        clients: Vec::new(),
        next_id: 0,
        servers: Vec::new(),
        modify: Modify::default(),
        transfers: Transfers::default(),
        auth: Challenges::default(),
        timers: Timers::default(),
        random,
        out: VecDeque::new(),
    }
}

pub(super) fn place(now: Instant, profile: Profile, offer: Option<String>) -> Ua {
    let mut random = Random::new(profile.seed);
    let call_id = format!("{}{}", random.name(), random.name());
    let from = profile.from.clone();
    let mut ua = blank(profile, call_id, &from, random);
    ua.ours = true;
    let Some(target) = header::uri(&ua.profile.target) else {
        ua.over(now, Ending { code: Some(416), ..Ending::new(By::Near, "the target is not a URI") });
        ua.phase = Phase::Gone;
        return ua;
    };
    let (uri, routes) = build::way(&target, &ua.profile.route);
    let to = ua.profile.to.clone();
    let mut request = ua.request(Method::Invite, uri, &routes, &to, 1);
    if ua.profile.reliable == Reliable::Required {
        // RFC 3262 §4
        request.headers.push(build::line("Require", "100rel"));
    }
    let wanted = ua.profile.session_expires;
    ua.session.ask(wanted, &mut request.headers);
    for (name, value) in &ua.profile.headers {
        request.headers.push(build::line(name, value.as_str()));
    }
    request.body = build::with_body(&mut request.headers, "application/sdp", offer.as_deref());
    let id = ua.send(Kind::Invite, "", request);
    ua.placed = Some(Placed {
        id,
        target,
        offer,
        seq: 1,
        credentials: Vec::new(),
        heard: false,
        cancel: None,
        cancelled: false,
        late_until: None,
    });
    ua
}

impl Ua {
    /// RFC 3261 §13.2.2.1
    pub(super) fn provisional(&mut self, now: Instant, response: &Response) {
        let Some(placed) = &mut self.placed else { return };
        placed.heard = true;
        let (seq, target, offer) = (placed.seq, placed.target.clone(), placed.offer.clone());
        self.cancel_if_heard();
        let code = response.status_code.code();
        if code == 100 || self.phase != Phase::Early {
            return;
        }
        let tag = header::tag(&response.headers, "To");
        let Some(tag) = tag else {
            // Without a tag it makes no dialog (RFC 3261 §12.1).
            return self
                .tell(Event::Provisional { code, early_media: early_media(&response.headers, false) });
        };
        if code == 199 {
            // RFC 6228 §4: this branch is no more.
            self.dialogs.retain(|d| d.tag != tag);
            return self.offer_gone(now, &tag);
        }
        if self.find(&tag).is_none() {
            if self.dialogs.len() == BRANCHES {
                return self.tell(Event::Provisional { code, early_media: None });
            }
            let talk = Negotiation::placed(offer.as_deref());
            let to = self.profile.to.clone();
            self.dialogs.push(Dialog::of_response(response, &to, &target, seq, talk));
        }
        if !self.take_provisional(now, &tag, seq, response) {
            return;
        }
        let answered = self.find(&tag).is_some_and(|d| d.talk.remote().is_some())
            || matches!(header::body(&response.headers, &response.body), Body::Sdp(_));
        self.tell(Event::Provisional { code, early_media: early_media(&response.headers, answered) });
    }

    /// RFC 3261 §13.2.2.4: the first 2xx.
    pub(super) fn success(&mut self, now: Instant, response: &Response, request: &Request) {
        let Some(placed) = &mut self.placed else { return };
        placed.late_until = Some(now + PATIENCE);
        placed.credentials = credentials(request);
        let (seq, target, offer) = (placed.seq, placed.target.clone(), placed.offer.clone());
        if self.phase != Phase::Early {
            return self.stray(response);
        }
        let tag = header::tag(&response.headers, "To").unwrap_or_default();
        let known = self.dialogs.iter().position(|d| d.tag == tag).map(|at| self.dialogs.swap_remove(at));
        let mut dialog = known.unwrap_or_else(|| {
            let talk = Negotiation::placed(offer.as_deref());
            Dialog::of_response(response, &self.profile.to, &target, seq, talk)
        });
        dialog.reroute(response);
        self.dialogs = vec![dialog];
        self.phase = Phase::Up;
        self.offers_of(now, &tag);
        if let Body::Foreign = header::body(&response.headers, &response.body) {
            tracing::debug!("the body of a 2xx is no description");
        }
        if !self.take_success(now, &tag, seq, response) {
            return;
        }
        self.session_agreed(now, &response.headers);
        self.tell(Event::Answered);
    }

    /// Offer or answer of a 2xx, and its ACK. False: it lacked an answer, and was ended.
    fn take_success(&mut self, now: Instant, tag: &str, seq: u32, response: &Response) -> bool {
        let sdp = match header::body(&response.headers, &response.body) {
            Body::Sdp(sdp) => Some(sdp),
            Body::None | Body::Foreign => None,
        };
        let Some(dialog) = self.find_mut(tag) else { return false };
        match (dialog.talk.ours(), dialog.talk.blank(), sdp) {
            (Some(Carrier::Invite), _, sdp) => {
                let answer = dialog.talk.answered(Carrier::Invite, sdp);
                self.ack_first(tag, seq, None);
                let Some(answer) = answer else {
                    self.fault(now, "the 2xx has no answer", 488);
                    return false;
                };
                self.describe(tag, answer);
            }
            (_, true, Some(offer)) => {
                // RFC 3261 §13.2.1: the offer is in the 2xx; ACK has the answer.
                let _ = dialog.talk.offered(offer, Bearer::Success { seq });
                self.offered(now, tag);
            }
            (_, true, None) => {
                self.ack_first(tag, seq, None);
                self.fault(now, "the 2xx has no offer", 488);
                return false;
            }
            // The answer came in a reliable response; it stands (RFC 3261 §13.2.1).
            (_, false, _) => {
                let stands = dialog.talk.remote().map(str::to_owned);
                self.ack_first(tag, seq, None);
                if let Some(answer) = stands {
                    self.describe(tag, answer);
                }
            }
        }
        true
    }

    /// A final response that refuses our INVITE.
    pub(super) fn failure(&mut self, now: Instant, response: &Response) {
        let code = response.status_code.code();
        // RFC 3261 §8.1.3.4
        let moved = (300..400).contains(&code).then(|| best_contact(&response.headers)).flatten();
        self.over(
            now,
            Ending {
                code: Some(code),
                reason: header::reason(&response.headers),
                retry_after: header::number(&response.headers, "Retry-After"),
                moved,
                ..Ending::new(By::Far, "the INVITE was refused")
            },
        );
    }

    /// A 2xx that comes again, or of one more branch.
    pub(super) fn success_again(&mut self, id: ClientId, response: &Response) {
        let tag = header::tag(&response.headers, "To").unwrap_or_default();
        let Some((seq, "INVITE")) = header::cseq(&response.headers) else { return };
        if let Some(ack) = self.acks.iter().find(|a| a.seq == seq && a.tag == tag) {
            let ack = ack.request.clone();
            return self.out.push_back(Output::Ack(ack));
        }
        let first = self.placed.as_ref().is_some_and(|p| p.id == id && p.seq == seq);
        if first && self.find(&tag).is_none() {
            self.stray(response);
        }
    }

    /// RFC 3261 §13.2.2.4: a 2xx that isn't wanted, of a further branch or after the call was ended, is acknowledged and ended.
    fn stray(&mut self, response: &Response) {
        let Some(placed) = &self.placed else { return };
        let (seq, target, offer) = (placed.seq, placed.target.clone(), placed.offer.clone());
        let credentials = placed.credentials.clone();
        let talk = Negotiation::placed(offer.as_deref());
        let mut dialog = Dialog::of_response(response, &self.profile.to, &target, seq, talk);
        // The CSeq of an early dialog goes on.
        if let Some(known) = self.find(&dialog.tag) {
            dialog.local_seq = known.local_seq;
        }
        let answer = match (offer, header::body(&response.headers, &response.body)) {
            (None, Body::Sdp(offer)) => Some(none_of(&offer)),
            _ => None,
        };
        self.ack_in(&dialog, seq, answer.as_deref(), credentials);
        if self.clients.len() >= CLIENTS {
            // More branches than anybody has: they time out.
            return;
        }
        let next = dialog.next_seq();
        let request = self.within(&dialog, Method::Bye, next);
        self.send(Kind::Bye, &dialog.tag, request);
    }

    /// ACK of the first INVITE's 2xx.
    pub(super) fn ack_first(&mut self, tag: &str, seq: u32, sdp: Option<&str>) {
        let credentials = self.placed.as_ref().map(|p| p.credentials.clone()).unwrap_or_default();
        self.ack(tag, seq, sdp, credentials);
    }

    /// ACK of a 2xx (RFC 3261 §13.2.2.4), with the credentials of its INVITE (§22.1).
    pub(super) fn ack(&mut self, tag: &str, seq: u32, sdp: Option<&str>, credentials: Vec<Header>) {
        let Some(at) = self.dialogs.iter().position(|d| d.tag == tag) else { return };
        let dialog = self.dialogs.swap_remove(at);
        self.ack_in(&dialog, seq, sdp, credentials);
        self.dialogs.push(dialog);
    }

    fn ack_in(&mut self, dialog: &Dialog, seq: u32, sdp: Option<&str>, credentials: Vec<Header>) {
        let mut request = self.within(dialog, Method::Ack, seq);
        request.headers.extend(credentials);
        request.body = build::with_body(&mut request.headers, "application/sdp", sdp);
        if self.acks.len() == ACKS {
            self.acks.pop_front();
        }
        self.acks.push_back(Ack { seq, tag: dialog.tag.clone(), request: request.clone() });
        self.out.push_back(Output::Ack(request));
    }

    /// Ends an INVITE of ours that has no final response.
    pub(super) fn cancel(&mut self, reason: Option<String>) {
        if let Some(placed) = &mut self.placed {
            placed.cancel.get_or_insert(reason);
        }
        self.cancel_if_heard();
    }

    /// RFC 3261 §9.1: not before a provisional response, and once.
    fn cancel_if_heard(&mut self) {
        let Some(placed) = &mut self.placed else { return };
        if let (true, false, Some(reason)) = (placed.heard, placed.cancelled, &placed.cancel) {
            placed.cancelled = true;
            self.out.push_back(Output::Cancel(placed.id, reason.clone()));
        }
    }
}

/// The Contact that is preferred most (RFC 3261 §20.10: `q`); of equals the first.
fn best_contact(headers: &Headers) -> Option<String> {
    let thousandths = |contact: &str| {
        let q = header::param(contact, "q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
        (q.clamp(0.0, 1.0) * 1000.0) as u32
    };
    let contacts = header::list(headers, "Contact");
    let best = contacts.iter().rev().max_by_key(|c| thousandths(c))?;
    header::uri_of(best).map(str::to_owned)
}

/// RFC 5009 §8: whether the network lets early media be heard.
fn early_media(headers: &Headers, answered: bool) -> Option<bool> {
    let Some(word) = header::first(headers, "P-Early-Media") else { return answered.then_some(true) };
    let open = word.split(',').any(|w| {
        let w = w.trim();
        w.eq_ignore_ascii_case("sendrecv") || w.eq_ignore_ascii_case("sendonly")
    });
    Some(open && answered)
}
