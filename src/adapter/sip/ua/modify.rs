//! Offers of ours that change a call: re-INVITE (RFC 3261 §14.1), UPDATE before the answer (RFC 3311 §5.1), and glare.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Response};

use super::dispatch::{Client, Kind, credentials};
use super::header::{self, Body};
use super::offer::Carrier;
use super::timer::Timer;
use super::{Event, Phase, Refused, Ua, build};

/// How often an offer is made again after glare.
const TRIES: u8 = 8;

/// Seconds between tries to reach a far side after a restart: about as long as a request that is lost is repeated.
const PROBE: u32 = 4;

/// Offers and descriptions on their way.
#[derive(Debug, Default)]
pub(super) struct Modify {
    /// The far side's description that our side has, and of which branch.
    pub(super) described: Option<(String, String)>,
    /// Dialogs whose offer waits for our side; the first one's was told.
    pub(super) offers: VecDeque<String>,
    /// Our offer, to be made again after glare.
    retry: Option<String>,
    tries: u8,
    /// Our offer, to be made after the ACK.
    queued: Option<String>,
}

impl Modify {
    /// The dialogs are no more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Ua {
    /// Tells an answer, unless it is what was told last.
    pub(super) fn describe(&mut self, tag: &str, sdp: String) {
        if self.modify.described.as_ref().is_none_or(|(t, s)| t != tag || *s != sdp) {
            self.describe_anew(tag, sdp);
        }
    }

    /// Tells an answer, though it may be as before: our side waits for it.
    pub(super) fn describe_anew(&mut self, tag: &str, sdp: String) {
        self.modify.described = Some((tag.to_owned(), sdp.clone()));
        self.tell(Event::Described(sdp));
    }

    /// Our offer.
    pub(super) fn offer(&mut self, sdp: String) -> Result<(), Refused> {
        if self.phase == Phase::Early {
            return self.offer_early(&sdp);
        }
        if self.modify.retry.is_some() {
            self.modify.retry = Some(sdp);
            return Ok(());
        }
        if self.awaits_ack() && self.modify.queued.is_none() {
            self.modify.queued = Some(sdp);
            return Ok(());
        }
        let tag = self.dialogs.first().map(|d| d.tag.clone());
        let Some(tag) = tag.filter(|_| self.may_reinvite()) else { return Err(Refused::OfferOut) };
        self.reinvite(&tag, &sdp, false);
        Ok(())
    }

    /// RFC 3311 §5.1: before the answer, by UPDATE, once the first exchange is done.
    fn offer_early(&mut self, sdp: &str) -> Result<(), Refused> {
        if self.arrived.as_ref().is_some_and(|a| a.sent.holds_back()) {
            return Err(Refused::OfferOut);
        }
        let heard = self.modify.described.as_ref().map(|(tag, _)| tag.clone());
        let tag = heard.or_else(|| self.dialogs.last().map(|d| d.tag.clone()));
        let dialog = tag.and_then(|tag| self.find(&tag)).ok_or(Refused::State("no early dialog"))?;
        if !dialog.updates {
            return Err(Refused::State(
                "the far side doesn't know UPDATE, so the call has to be answered first",
            ));
        }
        if !dialog.talk.stable() {
            return Err(Refused::OfferOut);
        }
        let tag = dialog.tag.clone();
        self.update(&tag, sdp);
        Ok(())
    }

    fn update(&mut self, tag: &str, sdp: &str) {
        let Some(dialog) = self.find_mut(tag) else { return };
        dialog.talk.offer(sdp, Carrier::Update);
        let seq = dialog.next_seq();
        let Some(dialog) = self.find(tag) else { return };
        let mut request = self.within(dialog, Method::Update, seq);
        request.body = build::with_body(&mut request.headers, "application/sdp", Some(sdp));
        self.send(Kind::Update { refresh: false }, tag, request);
    }

    /// RFC 3261 §14.1: no INVITE while another is open, either way; and no offer is out.
    pub(super) fn may_reinvite(&self) -> bool {
        let ours = self.clients.iter().any(|c| matches!(c.kind, Kind::Reinvite { .. }));
        let theirs = self.servers.iter().any(|s| s.request.method == Method::Invite);
        !ours && !theirs && !self.awaits_ack() && self.dialogs.first().is_some_and(|d| d.talk.stable())
    }

    pub(super) fn reinvite(&mut self, tag: &str, sdp: &str, refresh: bool) {
        let Some(dialog) = self.find_mut(tag) else { return };
        dialog.talk.offer(sdp, Carrier::Invite);
        // RFC 3262 §4: RSeq is counted anew for each INVITE.
        dialog.rseq = None;
        let seq = dialog.next_seq();
        let Some(dialog) = self.find(tag) else { return };
        let mut request = self.within(dialog, Method::Invite, seq);
        self.session_keep(&mut request.headers);
        request.body = build::with_body(&mut request.headers, "application/sdp", Some(sdp));
        self.send(Kind::Reinvite { refresh }, tag, request);
    }

    /// A provisional response to our re-INVITE; only a reliable one says anything.
    pub(super) fn provisional_again(&mut self, now: Instant, tag: &str, response: &Response) {
        let Some((seq, _)) = header::cseq(&response.headers) else { return };
        if self.phase == Phase::Up && header::has(&response.headers, "Require", "100rel") {
            self.take_provisional(now, tag, seq, response);
        }
    }

    /// The final response to our re-INVITE or UPDATE.
    pub(super) fn modified(&mut self, now: Instant, client: &Client, response: &Response) {
        let code = response.status_code.code();
        let (carrier, refresh) = match client.kind {
            Kind::Update { refresh } => (Carrier::Update, refresh),
            Kind::Reinvite { refresh } => (Carrier::Invite, refresh),
            _ => return,
        };
        if code >= 300 {
            return self.not_modified(now, client, response, carrier, refresh);
        }
        if let Some(dialog) = self.find_mut(&client.tag) {
            dialog.refresh(&response.headers);
        }
        if carrier == Carrier::Invite {
            let seq = header::cseq(&client.request.headers).map_or(0, |(n, _)| n);
            self.ack(&client.tag, seq, None, credentials(&client.request));
        }
        if matches!(self.phase, Phase::Over | Phase::Gone) {
            return;
        }
        if self.phase == Phase::Up {
            self.session_agreed(now, &response.headers);
        }
        self.modify.tries = 0;
        self.probes = false;
        let sdp = match header::body(&response.headers, &response.body) {
            Body::Sdp(sdp) => Some(sdp),
            Body::None | Body::Foreign => None,
        };
        let Some(dialog) = self.find_mut(&client.tag) else { return };
        if dialog.talk.ours() == Some(carrier) {
            let before = dialog.talk.remote().map(str::to_owned);
            match dialog.talk.answered(carrier, sdp) {
                Some(answer) if refresh && before.as_ref() == Some(&answer) => {}
                Some(answer) => self.describe_anew(&client.tag, answer),
                None => {
                    // A 2xx without the answer agrees to nothing.
                    dialog.talk.refused(carrier);
                    if !refresh {
                        self.tell(Event::OfferRefused(488));
                    }
                }
            }
        }
        self.offer_queued();
    }

    fn not_modified(
        &mut self,
        now: Instant,
        client: &Client,
        response: &Response,
        carrier: Carrier,
        refresh: bool,
    ) {
        if matches!(self.phase, Phase::Over | Phase::Gone) {
            return;
        }
        let code = response.status_code.code();
        let wait = header::number(&response.headers, "Retry-After");
        let Some(dialog) = self.find_mut(&client.tag) else { return };
        let ours = dialog.talk.refused(carrier);
        if code == 405 || code == 501 {
            dialog.updates &= carrier != Carrier::Update;
        }
        self.probes &= matches!(code, 408 | 481 | 500..=599);
        match code {
            // RFC 3261 §12.2.1.2: the dialog is no more.
            408 | 481 if self.phase == Phase::Up => self.fault(now, "the far side lost the call", code),
            405 | 501 if refresh && carrier == Carrier::Update => self.refresh(now),
            _ if refresh => self.refresh_later(now),
            // The answer came in a reliable response before: agreed, though the re-INVITE failed (RFC 6141 §3.4 has the like).
            _ if !ours => self.tell(Event::OfferRefused(code)),
            491 => self.offer_later(now, client, None),
            // RFC 3311 §5.2: the far side has an offer to answer first.
            500 if wait.is_some() => self.offer_later(now, client, wait),
            // A connection that isn't there again, or a far side that is starting too.
            500..=599 if self.probes => self.offer_later(now, client, wait.or(Some(PROBE))),
            _ => self.tell(Event::OfferRefused(code)),
        }
        if !matches!(code, 491 | 500) && self.modify.retry.is_none() {
            self.offer_queued();
        }
    }

    /// RFC 3261 §14.1: after a random time: the owner of the Call-ID later than the other.
    fn offer_later(&mut self, now: Instant, client: &Client, wait: Option<u32>) {
        if self.modify.tries >= TRIES {
            self.modify.tries = 0;
            if self.probes {
                return self.fault(now, "the far side can't be reached", 503);
            }
            return self.tell(Event::OfferRefused(491));
        }
        self.modify.tries += 1;
        let sdp = String::from_utf8_lossy(&client.request.body).into_owned();
        self.modify.retry.get_or_insert(sdp);
        let wait = match wait {
            Some(seconds) => Duration::from_secs(seconds.min(10).into()) + self.random.wait(1, 50),
            None => self.glare_wait(),
        };
        self.timers.set(Timer::Offer, now + wait);
    }

    fn glare_wait(&mut self) -> Duration {
        if self.ours { self.random.wait(210, 400) } else { self.random.wait(1, 200) }
    }

    pub(super) fn offer_again(&mut self, now: Instant) {
        let Some(sdp) = self.modify.retry.take() else { return };
        let heard = self.modify.described.as_ref().map(|(tag, _)| tag.clone());
        let tag = heard.filter(|t| self.find(t).is_some()).or(self.dialogs.first().map(|d| d.tag.clone()));
        let Some(tag) = tag else { return };
        let stable = self.find(&tag).is_some_and(|d| d.talk.stable());
        match self.phase {
            Phase::Up if self.may_reinvite() => self.reinvite(&tag, &sdp, false),
            Phase::Early if stable => self.update(&tag, &sdp),
            Phase::Up | Phase::Early if self.modify.tries < TRIES => {
                self.modify.tries += 1;
                self.modify.retry = Some(sdp);
                let wait = self.glare_wait();
                self.timers.set(Timer::Offer, now + wait);
            }
            Phase::Up | Phase::Early => {
                self.modify.tries = 0;
                self.tell(Event::OfferRefused(491));
            }
            Phase::Over | Phase::Gone => {}
        }
    }

    /// What waited for an ACK.
    pub(super) fn offer_queued(&mut self) {
        if self.phase == Phase::Up
            && self.may_reinvite()
            && let (Some(sdp), Some(dialog)) = (self.modify.queued.take(), self.dialogs.first())
        {
            let tag = dialog.tag.clone();
            self.reinvite(&tag, &sdp, false);
        }
    }
}
