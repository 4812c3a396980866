//! Placing calls, and finding those that are there.

use std::sync::Arc;

use ring::digest;

use super::actor::{Actor, CallHandle, record, routed};
use super::away::{Found, GATEWAY, Leaving};
use super::gateway::Departure;
use super::idempotency::Used;
use super::registry::Handler;
use super::{Service, lock};
use crate::call::{Call, Caller, NewLeg, Purpose, Tapped};
use crate::clock;
use crate::identity::canonical::Identity;
use crate::identity::passport::{Attest, Passport, PassportError, Ppt, Verification};
use crate::identity::principal::Principal;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::directive::common_media;
use crate::protocol::id::{CallId, HandlerKey, LegId, TgId};
use crate::protocol::number::{BadNumber, Number};
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::CallRequest;
use crate::store::{Table, Write};

/// What a call has in place of its caller's own PASSporT.
#[derive(Clone, Debug)]
pub(crate) struct Vouched {
    /// Who calls.
    pub(crate) from: Number,
    /// The called side is told no number.
    pub(crate) withheld: bool,
    /// Where the caller said that they are.
    pub(crate) location: Option<serde_json::Value>,
    /// What the device can do in this call, where that isn't all that it registered.
    pub(crate) advertisement: Advertisement,
}

fn bad_number(error: BadNumber) -> Problem {
    Problem::new(Code::BadNumber, error.to_string()).field("destination")
}

impl Service {
    /// A user's leg, as its URI names it. Others' legs are as if they were not there.
    pub fn leg(&self, user: &str, tg: &TgId, leg: LegId) -> Result<CallHandle, Problem> {
        let none = || Problem::new(Code::NotFound, "there is no such call");
        self.directory.own(user, tg, leg).ok_or_else(none)
    }

    /// A user's live legs.
    pub fn live_legs(&self, user: &str) -> Vec<(LegId, CallHandle)> {
        let legs = self.directory.of_user(user);
        legs.into_iter().filter_map(|leg| Some((leg, self.directory.get(leg)?))).collect()
    }

    /// Who is called at a number.
    pub(crate) fn locate(&self, destination: &Number) -> Result<NewLeg, Problem> {
        let found = self.registry.find(destination);
        let allowed = |handler: &&Handler| {
            let inbound = self.settings.tg(handler.tg.as_str()).and_then(|tg| tg.inbound.as_ref());
            inbound.is_some_and(|inbound| inbound.allow(destination))
        };
        let devices: Vec<&Handler> = found.iter().filter(allowed).collect();
        let Some(first) = devices.first() else {
            return Err(Problem::new(Code::Unreachable, "nobody is registered at this destination")
                .field("destination"));
        };
        let tap = |h: &&Handler| Tapped { device: h.device(), reached: self.push.reaches(&h.user, h.key) };
        Ok(NewLeg {
            id: LegId::random(),
            tg: first.tg.clone(),
            user: first.user.clone(),
            own: destination.clone(),
            devices: devices.iter().map(tap).collect(),
            handler: None,
        })
    }

    /// `POST …/calls`. A refusal leaves nothing behind but a line in the audit log.
    pub async fn place(
        self: &Arc<Self>,
        principal: &Principal,
        tg: &TgId,
        request: &CallRequest,
        key: Option<(&str, &[u8])>,
    ) -> Result<(LegId, CallHandle), Problem> {
        let placed = self.place_once(principal, tg, request, key).await;
        self.note_refusal(principal, tg, request, placed)
    }

    /// The same for a user of this server who has no PASSporT: the server vouches for a number that the token names.
    pub(crate) async fn place_vouched(
        self: &Arc<Self>,
        principal: &Principal,
        tg: &TgId,
        request: CallRequest,
        vouched: Vouched,
    ) -> Result<(LegId, CallHandle), Problem> {
        let placing = async {
            let to: Number = request.destination.parse().map_err(bad_number)?;
            let passport = self.vouch(&vouched.from, &to)?.passport;
            let request = CallRequest { passport, ..request.clone() };
            self.place_new(principal, tg, &request, None, Some(&vouched)).await
        };
        let placed = placing.await;
        self.note_refusal(principal, tg, &request, placed)
    }

    fn note_refusal<T>(
        &self,
        principal: &Principal,
        tg: &TgId,
        request: &CallRequest,
        placed: Result<T, Problem>,
    ) -> Result<T, Problem> {
        if let Err(problem) = &placed {
            let user = principal.user();
            self.audit.call_refused(user.as_str(), tg.as_str(), &request.destination, problem);
        }
        placed
    }

    async fn place_once(
        self: &Arc<Self>,
        principal: &Principal,
        tg: &TgId,
        request: &CallRequest,
        key: Option<(&str, &[u8])>,
    ) -> Result<(LegId, CallHandle), Problem> {
        let user = principal.user().to_string();
        let Some((key, body)) = key else {
            return self.place_new(principal, tg, request, None, None).await;
        };
        let slot = self.idempotency.slot(&user, key);
        let mut slot = slot.lock().await;
        // The TG is part of what was asked.
        let asked = [tg.as_str().as_bytes(), b"\n", body].concat();
        let hash: String =
            digest::digest(&digest::SHA256, &asked).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        if let Some(used) = &*slot {
            if used.body != hash {
                return Err(Problem::new(
                    Code::IdempotencyMismatch,
                    "this Idempotency-Key was used with another body; take a new key for a new call",
                )
                .field("Idempotency-Key"));
            }
            let calls = self.directory.get(used.leg);
            return calls
                .map(|c| (used.leg, c))
                .ok_or_else(|| Problem::new(Code::NotFound, "the call is gone"));
        }
        let mut used = Used { user, key: key.to_owned(), body: hash, leg: LegId::random() };
        match self.place_new(principal, tg, request, Some(&mut used), None).await {
            Ok(placed) => {
                *slot = Some(used);
                Ok(placed)
            }
            Err(problem) => {
                self.idempotency.forget(&used.user, &used.key);
                Err(problem)
            }
        }
    }

    async fn place_new(
        self: &Arc<Self>,
        principal: &Principal,
        tg: &TgId,
        request: &CallRequest,
        used: Option<&mut Used>,
        vouched: Option<&Vouched>,
    ) -> Result<(LegId, CallHandle), Problem> {
        let now = clock::now();
        let user = principal.user().to_string();
        let to: Number = request.destination.parse().map_err(bad_number)?;
        // Before anything that costs: who asks too fast is told so cheaply.
        self.pace(&user, tg)?;
        let mut handler = self.calling_handler(&user, tg, request.handler.as_deref())?;
        if let (Some(handler), Some(vouched)) = (&mut handler, vouched) {
            handler.advertisement.clone_from(&vouched.advertisement);
        }
        let (passport, from, mut caller) = self.check_passport(principal, &to, &request.passport).await?;
        if let Some(vouched) = vouched {
            caller.withheld = vouched.withheld;
            caller.location.clone_from(&vouched.location);
        }
        let outbound = self.settings.tg(tg.as_str()).map(|t| &t.destinations);
        if !outbound.is_some_and(|destinations| destinations.allow(&to)) {
            return Err(Problem::new(
                Code::DestinationNotAllowed,
                "this TG takes no calls to that destination; its description lists `destinations`",
            )
            .field("destination"));
        }
        // Held until the call is in the directory.
        let _seats = self.seats(&user, tg)?;
        let found = self.find(&to, &user)?;
        if let (Some(handler), Found::Here(callee)) = (&handler, &found) {
            let fits = |t: &Tapped| common_media(&handler.advertisement, &t.device.advertisement);
            if !callee.devices.iter().any(fits) {
                return Err(Problem::new(
                    Code::NoCommonCodec,
                    "this handler shares no codec with any device of the destination",
                )
                .field("handler"));
            }
        }
        lock(&self.replay).spend(&passport, now).map_err(refused)?;
        let third_party = handler.is_none();
        let (callee, away) = match (found, &handler) {
            (Found::Here(leg), _) => (Some(leg), None),
            (Found::Away(target), Some(_)) if caller.withheld && !self.gateway()?.withholds(&target) => {
                let why = "the next server would tell the number of a caller who withholds it";
                return Err(Problem::new(Code::Unreachable, why).field("destination"));
            }
            (Found::Away(target), Some(handler)) => {
                let (proof, advertisement) = (request.passport.clone(), handler.advertisement.clone());
                let call = Departure {
                    withheld: caller.withheld,
                    location: caller.location.clone(),
                    rules: self.rules(tg),
                    ..Departure::new(from.clone(), to.clone(), proof, advertisement)
                };
                let left = self.depart(target, tg, call).await;
                // There is no call, so the same request may come again.
                let Leaving { leg, away, line } =
                    left.inspect_err(|_| lock(&self.replay).unspend(&passport))?;
                (Some(leg), Some((away, line)))
            }
            (Found::Away(_), None) => (None, None),
        };
        let devices = match &handler {
            Some(handler) => vec![Tapped { device: handler.device(), reached: true }],
            None => self.tapped(&user, tg),
        };
        let leg = NewLeg {
            id: LegId::random(),
            tg: tg.clone(),
            user,
            own: from,
            devices,
            handler: handler.map(|h| h.key),
        };
        let id = leg.id;
        let mut call = Call::place(now, CallId::random(), self.settings.timing, leg, to, caller);
        if let Some(callee) = callee.filter(|_| !third_party)
            && call.handle(now, routed(Purpose::Place, callee)).is_err()
        {
            return Err(Problem::new(Code::Internal, "a new call refused its callee"));
        }
        call.take_changed();
        let used = used.map(|used| {
            used.leg = id;
            used.clone()
        });
        let replay = replay_key(&passport);
        let seen = passport.forgotten().as_millis().to_string();
        let writes = vec![
            record(
                &call,
                used.as_ref(),
                Some(&replay),
                &Vec::from_iter(away.as_ref().map(|(away, _)| away)),
            )?,
            Write::put(Table::Meta, replay.clone(), seen),
        ];
        if let Err(error) = self.store.0.write(writes).await {
            // There is no call, so the same request may come again.
            lock(&self.replay).unspend(&passport);
            if let Some((_, line)) = away {
                line.abandon().await;
            }
            return Err(error.into());
        }
        let away = away.into_iter().map(|(away, line)| (away, Some(line))).collect();
        Ok((id, Actor::start(self, call, used, Some(replay), away)))
    }

    fn tapped(&self, user: &str, tg: &TgId) -> Vec<Tapped> {
        let list = self.registry.list(user, tg);
        list.iter().map(|h| Tapped { device: h.device(), reached: self.push.reaches(user, h.key) }).collect()
    }

    fn calling_handler(
        &self,
        user: &str,
        tg: &TgId,
        named: Option<&str>,
    ) -> Result<Option<Handler>, Problem> {
        let no_such = || {
            Problem::new(Code::NoSuchHandler, "register a handler on this TG first and name it by its URI")
                .field("handler")
        };
        named.map(|named| self.registry.resolve(user, Some(tg), named).ok_or_else(no_such)).transpose()
    }

    async fn check_passport(
        &self,
        principal: &Principal,
        to: &Number,
        text: &str,
    ) -> Result<(Passport, Number, Caller), Problem> {
        let passport = Passport::parse(text).map_err(refused)?;
        let destination = Identity::from_number(&to.to_string())
            .ok_or_else(|| Problem::new(Code::BadNumber, "no PASSporT can name this").field("destination"))?;
        let (trust, user) = (&self.settings.passports, principal.user().to_string());
        let passport = self.x5u.complete(passport, trust, &destination, &user).await.map_err(refused)?;
        let verdict = passport.check(trust, &destination, clock::now()).map_err(refused)?;
        let orig = passport.orig().to_number();
        let Some(from) = orig.and_then(|text| text.parse::<Number>().ok()) else {
            return Err(
                Problem::new(Code::PassportForm, "`orig` names no number or address").field("passport")
            );
        };
        if !principal.may_use_number(&from.to_string()) {
            return Err(Problem::new(
                Code::NumberNotAllowed,
                "this token may not call from the PASSporT's `orig`; the TG's description lists `numbers`",
            )
            .field("passport"));
        }
        let verification = serde_json::to_value(&verdict).unwrap_or_default();
        Ok((passport, from, Caller { passport: text.to_owned(), verification, ..Caller::default() }))
    }

    /// A caller of another network, whose PASSporT for `dest` came along, with what leads on from there to `to`; the newest of
    /// them is spent by that.
    pub(super) async fn verified(
        &self,
        from: &Number,
        to: &Number,
        text: &str,
        dest: &Identity,
        div: Vec<String>,
    ) -> Result<Caller, Problem> {
        let passport = Passport::parse(text).map_err(refused)?;
        let (trust, now) = (&self.settings.passports, clock::now());
        let passport = self.x5u.complete(passport, trust, dest, GATEWAY).await.map_err(refused)?;
        let mut verdict = passport.check(trust, dest, now).map_err(refused)?;
        // RFC 8224 §6.2.2: it speaks for who is said to call, and for nobody else.
        if passport.orig().to_number().and_then(|orig| orig.parse().ok()).as_ref() != Some(from) {
            return Err(refused(PassportError::Orig));
        }
        let mut newest = passport;
        for link in &div {
            let link = Passport::parse(link).map_err(refused)?;
            let leads_to = link.dest().first().unwrap_or(dest).clone();
            let link = self.x5u.complete(link, trust, &leads_to, GATEWAY).await.map_err(refused)?;
            link.check_div(trust, now).map_err(refused)?;
            newest = link;
        }
        lock(&self.replay).spend(&newest, now).map_err(refused)?;
        let made_for = dest.to_number().filter(|number| *number != to.to_string());
        verdict.div = made_for.is_some() && !div.is_empty();
        verdict.dest = made_for;
        let verification = serde_json::to_value(&verdict).unwrap_or_default();
        Ok(Caller { passport: text.to_owned(), verification, div, ..Caller::default() })
    }

    /// Whether it can give its word at all.
    pub(crate) fn vouches(&self) -> bool {
        self.settings.enroller.is_some()
    }

    /// The server's own word for one of its users, whose token named the number (RFC 8588 §4: full attestation).
    pub(crate) fn vouch(&self, from: &Number, to: &Number) -> Result<Caller, Problem> {
        self.attest(from, to, Attest::A)
    }

    /// The server's own word for a caller, as strong as `attest`.
    pub(super) fn attest(&self, from: &Number, to: &Number, attest: Attest) -> Result<Caller, Problem> {
        let nobody = |why: &str| Problem::new(Code::PassportForm, why);
        let enroller = self.settings.enroller.as_ref();
        let enroller = enroller.ok_or_else(|| nobody("this server has no certificates to vouch with"))?;
        let named = |number: &Number| Identity::from_number(&number.to_string());
        let (Some(from), Some(to)) = (named(from), named(to)) else {
            return Err(nobody("no PASSporT can name this"));
        };
        let (origid, now) = (uuid::Uuid::new_v4().to_string(), clock::now());
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "no certificate to vouch with");
            Problem::new(Code::Internal, "no certificate can be issued now")
        };
        let (key, chain) = enroller.credential(&from, now).map_err(|error| failed(&error))?;
        let ppt = Ppt::Shaken { attest, origid: origid.clone() };
        let passport =
            Passport::sign_with(&key, &chain, &from, &to, &ppt, now).map_err(|error| failed(&error))?;
        let verdict = Verification { attest: Some(attest), origid: Some(origid), ..Verification::default() };
        let verification = serde_json::to_value(&verdict).unwrap_or_default();
        Ok(Caller { passport, verification, ..Caller::default() })
    }

    /// Whether a handler may act on a leg: any of the leg's user's devices may.
    pub fn acting_handler(&self, user: &str, tg: Option<&TgId>, named: &str) -> Result<Handler, Problem> {
        self.registry.resolve(user, tg, named).ok_or_else(|| {
            Problem::new(Code::NoSuchHandler, "this user has no such handler").field("handler")
        })
    }

    /// Tells all live calls to move: this server is going away.
    pub async fn drain(&self) {
        for calls in self.directory.all() {
            if let Err(problem) = calls.input(crate::call::Input::Migrate).await {
                tracing::debug!(code = problem.code.as_str(), "a call could not be told to migrate");
            }
        }
    }

    /// A device whose description changed, to all of its user's live calls.
    pub async fn handler_changed(&self, handler: &Handler) {
        for (_, calls) in self.live_legs(&handler.user) {
            let _ = calls.input(crate::call::Input::Changed { device: handler.device() }).await;
        }
    }

    /// Every call that rings for a device's user: told to a device whose push channel has just opened.
    pub async fn ringing(
        &self,
        user: &str,
        handler: Option<HandlerKey>,
    ) -> Vec<crate::protocol::resource::Tap> {
        use crate::protocol::event::State;
        use crate::protocol::resource::{CallDirection, Tap, TapReason, call_path};
        let device = handler.and_then(|key| self.registry.list_all(user).into_iter().find(|h| h.key == key));
        let mut taps = Vec::new();
        for (leg, calls) in self.live_legs(user) {
            let Ok(view) = calls.view(leg, None).await else { continue };
            let reason = match (view.state, view.direction) {
                (State::Proceeding | State::Alerting, CallDirection::Inbound) => TapReason::Incoming,
                (State::Proceeding, CallDirection::Outbound) if view.handler.is_none() => TapReason::Outgoing,
                _ => continue,
            };
            if let Some(device) = &device {
                let device = Tapped { device: device.device(), reached: true };
                let _ = calls.input(crate::call::Input::Reached { leg, device }).await;
            }
            taps.push(Tap { call: call_path(&view.tg, leg), reason });
        }
        taps
    }
}

fn replay_key(passport: &Passport) -> String {
    let hex: String = passport.replay_key().iter().map(|b| format!("{b:02x}")).collect();
    format!("replay:{hex}")
}

fn refused(error: PassportError) -> Problem {
    let code = Code::ALL.iter().copied().find(|c| c.as_str() == error.code()).unwrap_or(Code::PassportForm);
    Problem::new(code, error.to_string()).field("passport")
}
