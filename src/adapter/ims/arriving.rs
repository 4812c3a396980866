//! Calls that come from a telephone network: each rings whoever is registered here for the number.

use std::sync::{Arc, Weak};

use rsipstack::sip::Method;
use tokio::task::JoinSet;

use super::bridge::{Begun, Side};
use super::caller::Incoming;
use super::dialogs::Dialogs;
use super::ends::{self, End};
use super::line::SipLine;
use super::media::Media;
use super::way::{Kind, Way};
use super::{identity, standing};
use crate::adapter::mapping::sip as mapping;
use crate::adapter::sip::rtp::{Described, possible, transcoded};
use crate::adapter::sip::ua::{Command, Event};
use crate::adapter::sip::value::values;
use crate::adapter::sip::{Agent, Beginning, answer};
use crate::clock;
use crate::identity::passport::Attest;
use crate::protocol::event::Outcome;
use crate::protocol::number::Number;
use crate::protocol::problem::Code;
use crate::service::Service;
use crate::service::arrive::{Arrival, Proof, anonymous};

/// Calls that are being taken in at once, at one end.
const MAX_ARRIVALS: usize = 256;
/// RFC 3261 §20.5
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY";

/// Takes what begins something at an end, for as long as it is there.
pub(super) async fn listen(mut end: End, dialogs: Arc<Dialogs>, service: Weak<Service>) {
    // Aborted with this task.
    let mut arrivals = JoinSet::new();
    while let Some(beginning) = end.beginnings.recv().await {
        while arrivals.try_join_next().is_some() {}
        let refuse = |code, headers| beginning.responder.respond(answer(&beginning.request, code, headers));
        let Some(way) = ends::chosen(&end.ways, &beginning) else {
            // RFC 3261 §21.4.4: strangers learn nothing of who is here.
            refuse(403, vec![]);
            continue;
        };
        match beginning.request.method {
            Method::Invite if arrivals.len() >= MAX_ARRIVALS => {
                refuse(503, vec![("Retry-After", "5".to_owned())]);
            }
            Method::Invite => {
                let (way, dialogs, service) = (way.clone(), dialogs.clone(), service.clone());
                arrivals.spawn(async move {
                    if let Some(service) = service.upgrade() {
                        arrive(way, dialogs, &service, beginning).await;
                    }
                });
            }
            // RFC 3261 §11.2
            Method::Options => refuse(
                200,
                vec![
                    ("Allow", ALLOW.to_owned()),
                    ("Accept", "application/sdp".to_owned()),
                    ("Supported", "100rel, timer, replaces, path".to_owned()),
                ],
            ),
            // RFC 6665 §4.1.3, RFC 3261 §12.2.2: no dialog of ours.
            Method::Notify | Method::Bye | Method::PRack | Method::Update | Method::Info => {
                refuse(481, vec![])
            }
            _ => refuse(405, vec![("Allow", ALLOW.to_owned())]),
        }
    }
}

async fn arrive(way: Arc<Way>, dialogs: Arc<Dialogs>, service: &Arc<Service>, beginning: Beginning) {
    let invite = beginning.request.clone();
    let refuse = |code| beginning.responder.respond(answer(&invite, code, vec![]));
    let incoming = Incoming::read(&invite, way.is_trusted(), &way.home());
    let replaces = match values(&invite, "Replaces")[..] {
        [] => None,
        [header] => match dialogs.replaced(header, &way.name) {
            Ok(leg) => Some(leg),
            Err(code) => return refuse(code),
        },
        // RFC 3891 §3
        _ => return refuse(400),
    };
    let to = match &way.kind {
        Kind::Account(account) => Some(account.settings.number.clone()),
        // Who replaces calls our Contact, which may be anybody's that we called for.
        Kind::Trunk(_) => incoming.to.clone().filter(|to| way.owns(to) || replaces.is_some()),
    };
    // A Contact of ours may name nobody.
    let Some(to) = to.or_else(|| replaces.map(|_| anonymous())) else { return refuse(404) };
    let (from, proof) = match caller(&way, &invite, &incoming) {
        Ok(known) => known,
        // RFC 8224 §6.2.2
        Err(refused) => {
            tracing::debug!(why = %refused, "a call's Identity is refused");
            return refuse(refused.code());
        }
    };
    let media = match Media::new(&way.ports) {
        Ok(media) => media,
        Err(error) => {
            tracing::warn!(%error, "no ports for a call's media");
            return refuse(503);
        }
    };
    media.leg.expose(way.is_exposed(beginning.transport));
    let profile = way.profile(&to, &beginning);
    let offers = !invite.body.is_empty();
    let Some(mut agent) = Agent::arrive(&way.stack, beginning, profile) else { return };
    let described = match offered(&media, &mut agent, offers).await {
        Ok(described) => described,
        Err(why) => {
            tracing::debug!(why, "a call's offer can't be answered");
            return agent.end(Command::Reject { code: 488, retry_after: None, reason: None });
        }
    };
    let native = described.as_ref().map(|described| described.native.clone());
    let arrival = Arrival {
        from,
        proof,
        withheld: incoming.withheld,
        to,
        // What is transcoded for it is known here too.
        advertisement: transcoded(&native.unwrap_or_else(|| possible(&way.settings.codecs))),
        record: standing::begun(&way),
    };
    let answer = described.map(|Described { sdp, native }| (sdp, native));
    let begun =
        Begun { way, agent, media, side: Side::Arriving, dialogs, attempt: None, answer, resumed: None };
    let line = SipLine::new(begun);
    let taken = match replaces {
        Some(leg) => service.replace(leg, arrival, Box::new(line.clone())).await,
        None => service.arrive(arrival, Box::new(line.clone())).await.map(|_| ()),
    };
    if let Err(problem) = taken {
        tracing::debug!(code = problem.code.as_str(), "a call from a telephone network rings nowhere");
        if let (Some(_), Some(code)) = (replaces, not_replaced(problem.code)) {
            return line.end(Command::Reject { code, retry_after: None, reason: None });
        }
        let ending = mapping::ending(Outcome::Failed, problem.code.as_str());
        let reason = Some(ending.reason());
        line.end(Command::Reject { code: ending.code, retry_after: problem.retry_after, reason });
    }
}

/// RFC 3891 §3: how an INVITE is refused whose leg has gone meanwhile, or is about to be somebody else's.
fn not_replaced(code: Code) -> Option<u16> {
    match code {
        Code::NotFound | Code::CallEnded => Some(603),
        Code::IllegalEvent => Some(491),
        _ => None,
    }
}

/// Our answer to the offer in an INVITE; none: it has none, and we make one when somebody answers.
async fn offered(media: &Media, agent: &mut Agent, offers: bool) -> Result<Option<Described>, String> {
    if !offers {
        return Ok(None);
    }
    match agent.events.recv().await {
        Some(Event::Offered(sdp)) => media.leg.offered(&sdp).map(Some).map_err(|error| error.to_string()),
        other => Err(format!("{other:?} instead of an offer")),
    }
}

/// Who calls, and what speaks for it.
fn caller(
    way: &Way,
    invite: &rsipstack::sip::Request,
    incoming: &Incoming,
) -> Result<(Option<Number>, Proof), identity::Refused> {
    let attest = match &way.kind {
        Kind::Trunk(trunk) => trunk.settings.attest,
        Kind::Account(_) => Attest::C,
    };
    let found = identity::read(invite, way.is_trusted(), &way.home(), clock::now())?;
    if let Some(arrived) = found {
        let from = incoming.asserted.clone().or_else(|| incoming.claimed.clone());
        let identity::Arrived { passport: own, dest, div } = arrived;
        return Ok((from, Proof::Passport { own, dest, div }));
    }
    match (&incoming.asserted, &incoming.claimed) {
        (Some(asserted), _) => Ok((Some(asserted.clone()), Proof::Gateway(attest))),
        // What only From says is nobody's word but the caller's own.
        (None, Some(claimed)) if way.is_trusted() => Ok((Some(claimed.clone()), Proof::Gateway(Attest::C))),
        _ => Ok((None, Proof::Gateway(Attest::C))),
    }
}
