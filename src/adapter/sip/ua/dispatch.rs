//! Where what happened goes; and the transactions that are open.

use std::time::Instant;

use rsipstack::sip::{Header, Method, Request, Response};

use super::auth::Answered;
use super::timer::Timer;
use super::{ClientId, Command, Output, Phase, Refused, ServerId, Ua, build, header};

/// Transactions of ours that may be open at a time; a PRACK more than that isn't sent.
pub(super) const CLIENTS: usize = 32;

/// How often a request is sent again with a longer session interval.
const LONGER: u8 = 4;

/// A client transaction of ours.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    /// Its dialog's tag.
    pub(super) tag: String,
    pub(super) kind: Kind,
    pub(super) request: Request,
    pub(super) answered: Answered,
    longer: u8,
}

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first INVITE.
    Invite,
    /// Another; `refresh`: only of the session timer.
    Reinvite {
        refresh: bool,
    },
    /// With an offer, or as a refresh of the session.
    Update {
        refresh: bool,
    },
    /// RFC 3262
    Prack,
    Bye,
    Refer,
    /// Of the far side's REFER.
    Notify,
}

/// A server transaction whose request waits for our side's answer.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) id: ServerId,
    pub(super) request: Request,
}

impl Ua {
    /// Sends a request of ours in a new transaction.
    pub(super) fn send(&mut self, kind: Kind, tag: &str, mut request: Request) -> ClientId {
        self.auth.sign(&self.profile, &mut request);
        let client =
            Client { id: 0, tag: tag.to_owned(), kind, request, answered: Answered::default(), longer: 0 };
        self.launch(client)
    }

    fn launch(&mut self, mut client: Client) -> ClientId {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        client.id = id;
        self.out.push_back(Output::Request(id, client.request.clone()));
        self.clients.push(client);
        id
    }

    /// Sends a request again under the next CSeq (RFC 3261 §8.1.3.5).
    fn again(&mut self, mut client: Client) {
        if client.kind == Kind::Invite {
            // The branches of the refused one are no more.
            self.dialogs.clear();
            self.modify.forget();
        }
        let next = match self.dialogs.iter_mut().find(|d| d.tag == client.tag) {
            Some(dialog) => dialog.next_seq(),
            None => header::cseq(&client.request.headers).map_or(1, |(n, _)| n.saturating_add(1)),
        };
        let line = build::line("CSeq", format!("{next} {}", client.request.method));
        client.request.headers.retain(|h| !matches!(h, Header::CSeq(_)));
        client.request.headers.push(line);
        if let Kind::Reinvite { .. } = client.kind
            && let Some(dialog) = self.find_mut(&client.tag)
        {
            dialog.rseq = None;
        }
        let (kind, credentials) = (client.kind, credentials(&client.request));
        let id = self.launch(client);
        if let (Kind::Invite, Some(placed)) = (kind, &mut self.placed) {
            placed.again(id, next, credentials);
        }
    }

    pub(super) fn on_response(&mut self, now: Instant, id: ClientId, response: Response) {
        let code = response.status_code.code();
        if self.phase == Phase::Gone || !(100..700).contains(&code) {
            return;
        }
        let Some(at) = self.clients.iter().position(|c| c.id == id) else {
            if (200..300).contains(&code) {
                self.success_again(id, &response);
            }
            return;
        };
        if code < 200 {
            let (kind, tag) = (self.clients[at].kind, self.clients[at].tag.clone());
            match kind {
                Kind::Invite => self.provisional(now, &response),
                Kind::Reinvite { .. } => self.provisional_again(now, &tag, &response),
                _ => {}
            }
            return;
        }
        let mut client = self.clients.remove(at);
        self.auth.renew(&response);
        // A BYE is challenged like another request; nothing else is sent again once it is over.
        let wanted = self.phase != Phase::Over || client.kind == Kind::Bye;
        match code {
            401 | 407 if wanted => {
                let Client { request, answered, .. } = &mut client;
                if self.auth.take(&self.profile, request, &response, answered) {
                    return self.again(client);
                }
            }
            422 if wanted && client.longer < LONGER && self.longer(&mut client.request, &response) => {
                client.longer += 1;
                return self.again(client);
            }
            _ => {}
        }
        match client.kind {
            Kind::Invite if code < 300 => self.success(now, &response, &client.request),
            Kind::Invite => self.failure(now, &response),
            Kind::Reinvite { .. } | Kind::Update { .. } => self.modified(now, &client, &response),
            Kind::Refer => self.refer_answered(&response),
            Kind::Notify => self.notify_answered(&response),
            Kind::Prack | Kind::Bye => {}
        }
    }

    pub(super) fn on_command(&mut self, now: Instant, command: Command) -> Result<(), Refused> {
        if matches!(self.phase, Phase::Over | Phase::Gone) {
            return Err(Refused::Over);
        }
        match command {
            Command::Ring { answer } => self.progress(now, 180, answer),
            Command::Progress { answer } => self.progress(now, 183, answer),
            Command::Accept { sdp } => self.accept(now, sdp),
            Command::Reject { code, retry_after, reason } => self.reject(now, code, retry_after, reason),
            Command::Offer(sdp) => self.offer(sdp),
            Command::Answer(sdp) => self.answer(now, &sdp),
            Command::RefuseOffer => self.refuse_offer(now),
            Command::Refer { to, by } => self.refer(now, &to, by.as_deref()),
            Command::ReferProgress(code) => self.refer_progress(code),
            Command::End { reason } => {
                self.hang_up(now, reason);
                Ok(())
            }
        }
    }

    pub(super) fn on_timers(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Resend => self.resend(now),
                Timer::Unheard => self.unheard(now),
                Timer::StillRinging => self.still_ringing(now),
                Timer::Expires => self.expired(now),
                Timer::Ack => self.no_ack(now),
                Timer::Answer => self.no_answer(now),
                Timer::Offer => self.offer_again(now),
                Timer::Refresh => self.refresh(now),
                Timer::Session => self.fault(now, "the session was not refreshed", 408),
                Timer::Refer => self.refer_silent(),
                Timer::Gone => self.phase = Phase::Gone,
            }
        }
    }
}

/// RFC 3261 §22.1: the credentials of an INVITE are those of its ACK.
pub(super) fn credentials(request: &Request) -> Vec<Header> {
    let own = |h: &&Header| matches!(h, Header::Authorization(_) | Header::ProxyAuthorization(_));
    request.headers.iter().filter(own).cloned().collect()
}

/// Whether a request with this method is one that we know (RFC 3261 §8.2.1).
pub(super) fn allowed(method: Method) -> bool {
    build::ALLOW.split(", ").any(|m| m == method.to_string())
}
