//! Offers of the far side: told one at a time, answered or refused by our side; re-INVITE (RFC 3261 §14.2) and UPDATE (RFC 3311
//! §5.2).

use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Request};

use super::dispatch::{Kind, Server};
use super::header::{self, Body};
use super::offer::{Bearer, Carrier, none_of};
use super::timer::Timer;
use super::{Event, Phase, Refused, ServerId, Ua};

/// How long our side has for an answer: less than the far side's transaction lasts.
const ANSWER: Duration = Duration::from_secs(20);

impl Ua {
    /// The far side offered: one offer is told at a time.
    pub(super) fn offered(&mut self, now: Instant, tag: &str) {
        self.modify.offers.push_back(tag.to_owned());
        if self.modify.offers.len() == 1 {
            self.tell_offer(now);
        }
    }

    fn tell_offer(&mut self, now: Instant) {
        let Some(dialog) = self.modify.offers.front().and_then(|tag| self.find(tag)) else { return };
        let (theirs, sdp) = (dialog.talk.theirs(), dialog.talk.their_offer().map(str::to_owned));
        if theirs != Some(Bearer::Invite) {
            self.timers.set(Timer::Answer, now + ANSWER);
        }
        if let Some(sdp) = sdp {
            self.tell(Event::Offered(sdp));
        }
    }

    /// An offer was answered, refused, or its branch is no more.
    pub(super) fn offer_gone(&mut self, now: Instant, tag: &str) {
        let told = self.modify.offers.front().is_some_and(|t| t == tag);
        self.modify.offers.retain(|t| t != tag);
        if told {
            self.timers.stop(Timer::Answer);
            self.tell_offer(now);
        }
    }

    /// One branch is the dialog.
    pub(super) fn offers_of(&mut self, now: Instant, tag: &str) {
        let others = self.modify.offers.iter().filter(|t| *t != tag).cloned().collect::<Vec<_>>();
        for other in others {
            self.offer_gone(now, &other);
        }
    }

    /// A request's offer waits for our side.
    pub(super) fn wait_for_answer(&mut self, now: Instant, id: ServerId, tag: &str, request: Request) {
        self.servers.push(Server { id, request });
        self.offered(now, tag);
    }

    fn take_server(&mut self, id: ServerId) -> Option<Server> {
        let at = self.servers.iter().position(|s| s.id == id)?;
        Some(self.servers.swap_remove(at))
    }

    /// Our answer.
    pub(super) fn answer(&mut self, now: Instant, sdp: &str) -> Result<(), Refused> {
        let tag = self.modify.offers.front().cloned().ok_or(Refused::NoOffer)?;
        let dialog = self.find_mut(&tag).ok_or(Refused::NoOffer)?;
        if dialog.talk.theirs() == Some(Bearer::Invite) {
            return Err(Refused::State("the INVITE's offer is answered by Ring, Progress or Accept"));
        }
        let offer = dialog.talk.their_offer().unwrap_or_default().to_owned();
        let by = dialog.talk.answer(sdp).ok_or(Refused::NoOffer)?;
        self.modify.described = Some((tag.clone(), offer));
        match by {
            Bearer::Request(id) => {
                if let Some(server) = self.take_server(id) {
                    self.answer_request(now, &tag, &server, sdp);
                }
            }
            Bearer::Reliable { rseq, seq } => self.prack(&tag, rseq, seq, Some(sdp)),
            Bearer::Success { seq } => self.ack_first(&tag, seq, Some(sdp)),
            Bearer::Invite => {}
        }
        self.offer_gone(now, &tag);
        self.offer_queued();
        Ok(())
    }

    fn answer_request(&mut self, now: Instant, tag: &str, server: &Server, sdp: &str) {
        let request = &server.request;
        let mut response = self.full(request, 200, Some(sdp));
        if request.method != Method::PRack {
            if self.phase == Phase::Up {
                self.session_answer(now, &request.headers, &mut response.headers);
            }
            if let Some(dialog) = self.find_mut(tag) {
                dialog.refresh(&request.headers);
            }
        }
        if request.method == Method::Invite {
            let seq = header::cseq(&request.headers).map_or(0, |(n, _)| n);
            self.await_ack(now, tag, seq, false, false);
        }
        self.respond(server.id, response);
    }

    /// Our refusal.
    pub(super) fn refuse_offer(&mut self, now: Instant) -> Result<(), Refused> {
        let tag = self.modify.offers.front().cloned().ok_or(Refused::NoOffer)?;
        let theirs = self.find(&tag).and_then(|d| d.talk.theirs()).ok_or(Refused::NoOffer)?;
        match theirs {
            Bearer::Invite => return self.reject(now, 488, None, None),
            Bearer::Request(id) => {
                if let Some(dialog) = self.find_mut(&tag) {
                    dialog.talk.refuse();
                }
                if let Some(server) = self.take_server(id) {
                    self.refuse(id, &server.request, 488);
                }
                self.offer_gone(now, &tag);
                self.offer_queued();
            }
            // An offer in a response can't be refused: the call is ended (RFC 3261 §13.2.2.4).
            Bearer::Reliable { .. } | Bearer::Success { .. } => {
                return self.give_up(now, "the offer was not acceptable");
            }
        }
        Ok(())
    }

    /// An offer in the 2xx that nobody will answer: the ACK takes none of it (RFC 3261 §13.2.2.4).
    pub(super) fn take_nothing(&mut self) {
        let Some(dialog) = self.dialogs.first() else { return };
        let (tag, offer) = (dialog.tag.clone(), dialog.talk.their_offer().map(none_of));
        if let (Some(Bearer::Success { seq }), Some(answer)) = (dialog.talk.theirs(), offer) {
            self.ack_first(&tag, seq, Some(&answer));
        }
    }

    /// Our side didn't answer in time.
    pub(super) fn no_answer(&mut self, now: Instant) {
        if self.refuse_offer(now).is_ok() {
            tracing::debug!("an offer of the far side was not answered by ours");
        }
    }

    /// RFC 3311 §5.2
    pub(super) fn on_update(&mut self, now: Instant, id: ServerId, tag: &str, request: Request) {
        if self.phase == Phase::Up
            && let Err(min) = self.session.long_enough(&request.headers)
        {
            let response = self.too_brief(&request, min);
            return self.respond(id, response);
        }
        match header::body(&request.headers, &request.body) {
            Body::Foreign => self.refuse_foreign(id, &request),
            Body::Sdp(offer) => self.take_offer(now, id, tag, request, offer),
            Body::None => {
                if let Some(dialog) = self.find_mut(tag) {
                    dialog.refresh(&request.headers);
                }
                let mut response = self.full(&request, 200, None);
                if self.phase == Phase::Up {
                    self.session_answer(now, &request.headers, &mut response.headers);
                }
                self.respond(id, response);
            }
        }
    }

    fn take_offer(&mut self, now: Instant, id: ServerId, tag: &str, request: Request, offer: String) {
        // The answer in a reliable response counts once it is acknowledged.
        if self.arrived.as_ref().is_some_and(|a| a.sent.holds_back()) && self.phase == Phase::Early {
            return self.refuse_for_now(id, &request);
        }
        let Some(dialog) = self.find_mut(tag) else { return };
        match dialog.talk.offered(offer, Bearer::Request(id)) {
            Ok(()) => self.wait_for_answer(now, id, tag, request),
            Err(clash) => self.refuse_clash(id, &request, clash),
        }
    }

    /// A re-INVITE (RFC 3261 §14.2).
    pub(super) fn on_reinvite(&mut self, now: Instant, id: ServerId, tag: &str, request: Request) {
        let ours = self.clients.iter().any(|c| matches!(c.kind, Kind::Invite | Kind::Reinvite { .. }));
        let theirs = self.servers.iter().any(|s| s.request.method == Method::Invite);
        if ours {
            return self.refuse(id, &request, 491);
        }
        if theirs || self.phase != Phase::Up {
            return self.refuse_for_now(id, &request);
        }
        self.acked_by_request(now);
        if self.awaits_ack() {
            return self.refuse(id, &request, 491);
        }
        if let Err(min) = self.session.long_enough(&request.headers) {
            let response = self.too_brief(&request, min);
            return self.respond(id, response);
        }
        match header::body(&request.headers, &request.body) {
            Body::Foreign => self.refuse_foreign(id, &request),
            Body::Sdp(offer) => self.take_offer(now, id, tag, request, offer),
            Body::None => self.offer_what_stands(now, id, tag, &request),
        }
    }

    /// A re-INVITE without an offer: ours is what we described last (RFC 3261 §14.2, RFC 6337 §5.2.5).
    fn offer_what_stands(&mut self, now: Instant, id: ServerId, tag: &str, request: &Request) {
        let Some(dialog) = self.find_mut(tag) else { return };
        let Some(sdp) = dialog.talk.local().map(str::to_owned) else { return self.refuse(id, request, 488) };
        if !dialog.talk.offer(&sdp, Carrier::Response) {
            return self.refuse(id, request, 491);
        }
        dialog.refresh(&request.headers);
        let mut response = self.full(request, 200, Some(&sdp));
        self.session_answer(now, &request.headers, &mut response.headers);
        let seq = header::cseq(&request.headers).map_or(0, |(n, _)| n);
        self.await_ack(now, tag, seq, true, false);
        self.respond(id, response);
    }

    /// CANCEL of a re-INVITE: 487, and what was agreed stands.
    pub(super) fn cancel_modify(&mut self, now: Instant, seq: u32) {
        let own = |s: &Server| {
            s.request.method == Method::Invite
                && header::cseq(&s.request.headers).is_some_and(|(n, _)| n == seq)
        };
        let Some(at) = self.servers.iter().position(own) else { return };
        let server = self.servers.swap_remove(at);
        self.refuse(server.id, &server.request, 487);
        let held = self.dialogs.iter_mut().find(|d| d.talk.theirs() == Some(Bearer::Request(server.id)));
        if let Some(dialog) = held {
            dialog.talk.refuse();
            let tag = dialog.tag.clone();
            self.offer_gone(now, &tag);
        }
    }
}
