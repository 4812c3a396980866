//! What REGISTER and SUBSCRIBE have in common.

use std::collections::VecDeque;

use rsipstack::sip::{Request, Response};

use super::chance::Chance;
use super::{Event, Output, Profile};
use crate::adapter::sip::digest::{Asked, Challenge};
use crate::adapter::sip::ua::ClientId;
use crate::adapter::sip::value::values;

/// What both kinds of request need.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) profile: Profile,
    pub(super) chance: Chance,
    pub(super) outputs: VecDeque<Output>,
    next_id: ClientId,
}

impl Shared {
    pub(super) fn new(profile: Profile, chance: Chance) -> Self {
        Self { profile, chance, outputs: VecDeque::new(), next_id: 0 }
    }

    pub(super) fn send(&mut self, request: Request) -> ClientId {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.outputs.push_back(Output::Request(id, request));
        id
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// The challenge that is answered now, how often it was, and in which header.
#[derive(Debug)]
pub(super) struct Key {
    challenge: Challenge,
    count: u32,
    proxy: bool,
}

impl Key {
    /// The challenge in a 401 or 407 that our login can answer.
    pub(super) fn of(response: &Response, shared: &Shared) -> Option<Self> {
        let proxy = response.status_code.code() == 407;
        let name = if proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" };
        let login = shared.profile.login.as_ref()?;
        let challenge = login.choose(Challenge::all(values(response, name)))?;
        Some(Self { challenge, count: 0, proxy })
    }

    /// RFC 7615 §3
    pub(super) fn go_on_with(&mut self, nonce: String) {
        self.challenge.nonce = nonce;
        self.count = 0;
    }

    pub(super) fn nonce(&self) -> &str {
        &self.challenge.nonce
    }

    pub(super) fn stale(&self) -> bool {
        self.challenge.stale
    }

    /// The header that answers, and whether the challenge was not valid.
    pub(super) fn field(
        &mut self,
        shared: &mut Shared,
        method: &str,
        uri: &str,
    ) -> Option<(&'static str, String, bool)> {
        self.count = self.count.saturating_add(1);
        let login = shared.profile.login.clone()?;
        let asked = Asked { method, uri, body: b"", count: self.count };
        let before = login.sequence();
        let answer = login.answer(&self.challenge, asked)?;
        if login.sequence() != before {
            shared.tell(Event::Sequence);
        }
        let name = if self.proxy { "Proxy-Authorization" } else { "Authorization" };
        Some((name, answer.value, answer.invalid))
    }
}
