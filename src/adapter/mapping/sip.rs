//! RIPT's events and outcomes beside SIP's messages, codes and the Reason header with its causes (RFC 3326, ITU-T Q.850).

use crate::protocol::event::{Body, ClientBody, Outcome, Party, Scope};

use super::{BUSY, REJECTED};

/// What stands for an event in SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sip {
    /// A response to the INVITE.
    Response(u16),
    /// A request of the call.
    Request(Request),
}

/// The requests that stand for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Gives up a call that is not answered: CANCEL, or the refusal `487` of one that came in.
    Cancel,
    /// Ends a call that is.
    Bye,
    /// Offers anew: re-INVITE, or UPDATE before the answer.
    Offer,
    /// A key, where no telephone-event was agreed upon: INFO.
    Info,
    /// Hands the far side on.
    Refer,
    /// Says how far a REFER of the far side has come.
    Notify,
}

/// What a server's event is to the far side of a call that it takes part in by SIP. `answered`: whether the call is.
pub fn of_event(body: &Body, answered: bool) -> Option<Sip> {
    Some(match body {
        Body::Proceeding => Sip::Response(100),
        Body::Alerting => Sip::Response(180),
        Body::Progress => Sip::Response(183),
        Body::Answered => Sip::Response(200),
        Body::Declined { reason } => Sip::Response(ending(Outcome::Declined, reason).code),
        Body::Failed { .. } if answered => Sip::Request(Request::Bye),
        Body::Failed { reason } => Sip::Response(ending(Outcome::Failed, reason).code),
        Body::NoAnswer { reason } => Sip::Response(ending(Outcome::NoAnswer, reason).code),
        Body::Ended { .. } if answered => Sip::Request(Request::Bye),
        // The callee's side, or the server's, never took it up: what came before `ended` said why.
        Body::Ended { by: Party::Caller, .. } => Sip::Request(Request::Cancel),
        Body::Ended { reason, .. } => Sip::Response(ending(Outcome::Failed, reason).code),
        Body::Directives { .. } | Body::Hold { .. } | Body::Resume { .. } | Body::HandlerChanged => {
            Sip::Request(Request::Offer)
        }
        Body::Dtmf { .. } => Sip::Request(Request::Info),
        Body::Transferring | Body::Moved { .. } => Sip::Request(Request::Notify),
        Body::Migrate { .. }
        | Body::MediaPanic
        | Body::Quality { .. }
        | Body::Pong { .. }
        | Body::Accepted { .. }
        | Body::Error { .. }
        | Body::Unknown => return None,
    })
}

/// What a response to our INVITE is to the call; `early`: it brought media.
pub fn of_response(code: u16, early: bool, cause: Option<u8>) -> Option<ClientBody> {
    Some(match code {
        ..=100 => return None,
        // 180 with media is heard: what matters to a caller is that there is something to play.
        101..=199 if early => ClientBody::Progress,
        180 => ClientBody::Alerting,
        101..=199 => ClientBody::Proceeding,
        200..=299 => ClientBody::Answered,
        _ => {
            let (outcome, reason) = told(Some(code), cause);
            let reason = reason.to_owned();
            match outcome {
                // One number is one user: its refusal speaks for all its devices.
                Outcome::Declined => ClientBody::Declined { reason, scope: Scope::All },
                Outcome::NoAnswer => ClientBody::NoAnswer { reason },
                Outcome::Cancelled | Outcome::Completed => ClientBody::End { reason: Some(reason) },
                Outcome::Failed => ClientBody::Failed { reason },
            }
        }
    })
}

/// How an end is told in SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The final response, where the INVITE has none yet.
    pub code: u16,
    /// Q.850's cause, for Reason in it, in BYE or in CANCEL.
    pub cause: u8,
}

impl Ending {
    /// The value of Reason (RFC 3326).
    pub fn reason(self) -> String {
        format!("Q.850;cause={}", self.cause)
    }
}

/// RFC 3326 §3.1: another device took the call. In the CANCELs to the others.
pub const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// RIPT's outcome and reason in SIP's words.
pub fn ending(outcome: Outcome, reason: &str) -> Ending {
    let (code, cause) = match (outcome, reason) {
        (Outcome::Completed, "lost" | "no-signalling") => (480, 41),
        (Outcome::Completed, _) => (480, 16),
        (Outcome::Cancelled, _) => (487, 16),
        (Outcome::Declined, BUSY) => (486, 17),
        (Outcome::Declined, _) => (603, 21),
        // RFC 3398 §8.2.6.1: 480 is what telephony says; 408 would have proxies look for another way.
        (Outcome::NoAnswer, _) => (480, 19),
        (Outcome::Failed, why) => match why {
            "unreachable" | "no-such-handler" => (480, 20),
            "not-found" | "bad-number" => (404, 1),
            "no-common-codec" | "bad-advertisement" => (488, 88),
            "destination-not-allowed" | "number-not-allowed" | "unauthorized" | "scope" | "bad-ticket" => {
                (403, 21)
            }
            // RFC 8224 §6.2.2
            "passport-form" | "passport-signature" | "passport-orig" | "passport-dest"
            | "passport-replay" => (438, 21),
            "passport-chain" => (437, 21),
            "passport-x5u" => (436, 21),
            "passport-stale" => (403, 21),
            "loop-detected" => (482, 25),
            "too-large" => (513, 127),
            "overloaded" | "too-many" | "store-unavailable" | "issuer-unavailable" => (503, 42),
            "bad-gateway" => (502, 38),
            _ => (500, 41),
        },
    };
    Ending { code, cause }
}

/// RIPT's outcome and reason for how the far side ended a call: by a final response, or (none) by BYE; with Q.850's cause
/// where it gave one, which says more than some codes do.
pub fn told(code: Option<u16>, cause: Option<u8>) -> (Outcome, &'static str) {
    let failed = |reason| (Outcome::Failed, reason);
    match (code, cause) {
        // Of networks' faults in a call; clearing is no failure.
        (None, Some(34..=63 | 102..=127)) => return failed("bad-gateway"),
        (None, _) => return (Outcome::Completed, "completed"),
        (Some(487), _) => return (Outcome::Cancelled, "cancelled"),
        // Codes into which gateways put all sorts of causes.
        (Some(403 | 404 | 408 | 480 | 500 | 502 | 503 | 603), Some(cause)) => match cause {
            1..=3 | 22 | 28 => return failed("not-found"),
            17 => return (Outcome::Declined, BUSY),
            18 | 19 => return (Outcome::NoAnswer, "answer-timeout"),
            20 | 27 => return failed("unreachable"),
            21 => return (Outcome::Declined, REJECTED),
            25 => return failed("loop-detected"),
            34 | 42 | 44 | 47 => return failed("overloaded"),
            38 | 102 => return failed("bad-gateway"),
            65..=70 | 79 | 88 => return failed("no-common-codec"),
            _ => {}
        },
        _ => {}
    }
    match code.unwrap_or(480) {
        404 | 410 | 484 | 604 => failed("not-found"),
        480 | 502 | 503 => failed("unreachable"),
        408 | 504 => (Outcome::NoAnswer, "answer-timeout"),
        486 | 600 => (Outcome::Declined, BUSY),
        403 | 603 | 607 => (Outcome::Declined, REJECTED),
        415 | 488 | 606 => failed("no-common-codec"),
        428 => failed("passport-form"),
        436 => failed("passport-x5u"),
        437 => failed("passport-chain"),
        438 => failed("passport-signature"),
        401 | 407 => failed("unauthorized"),
        413 | 513 => failed("too-large"),
        482 | 483 => failed("loop-detected"),
        500..=599 => failed("bad-gateway"),
        _ => failed("failed"),
    }
}

/// Q.850's cause for a final response (RFC 3398 §7.2.6.1).
pub const fn cause_of(code: u16) -> u8 {
    match code {
        404 | 485 | 604 => 1,
        486 | 600 => 17,
        480 => 18,
        401 | 402 | 403 | 407 | 428 | 436 | 437 | 438 | 603 | 607 | 608 => 21,
        410 => 22,
        300..=399 => 23,
        482 | 483 => 25,
        484 => 28,
        487 => 16,
        502 => 38,
        400 | 481 | 500 | 503 => 41,
        405 => 63,
        406 | 415 | 501 => 79,
        488 | 606 => 88,
        408 | 504 => 102,
        _ => 127,
    }
}

/// The final response for a cause (RFC 3398 §8.2.6.1).
pub const fn code_of(cause: u8) -> u16 {
    match cause {
        1..=3 | 26 => 404,
        17 => 486,
        18 => 408,
        16 | 19 | 20 | 31 => 480,
        21 => 603,
        22 | 23 => 410,
        25 => 482,
        27 | 38 => 502,
        28 => 484,
        29 | 79 => 501,
        34 | 41 | 42 | 44 | 47 | 58 => 503,
        55 | 57 | 87 => 403,
        65 | 70 | 88 => 488,
        102 => 504,
        _ => 500,
    }
}

/// The Q.850 cause and the SIP code in Reason headers' values (RFC 3326); what can't be read is passed over.
pub fn reasons<'a>(values: impl IntoIterator<Item = &'a str>) -> (Option<u8>, Option<u16>) {
    let (mut cause, mut code) = (None, None);
    for part in values.into_iter().take(16).flat_map(|value| crate::adapter::sip::value::parts(value, ',')) {
        let (protocol, rest) = part.split_once(';').unwrap_or((part, ""));
        let params = crate::adapter::sip::value::params(rest);
        let number = crate::adapter::sip::value::find(&params, "cause").map(str::trim);
        if protocol.trim().eq_ignore_ascii_case("q.850") {
            cause =
                cause.or(number.and_then(|text| text.parse().ok()).filter(|cause| (1..=127).contains(cause)));
        } else if protocol.trim().eq_ignore_ascii_case("sip") {
            code =
                code.or(number.and_then(|text| text.parse().ok()).filter(|code| (100..=699).contains(code)));
        }
    }
    (cause, code)
}

#[cfg(test)]
#[path = "sip_tests.rs"]
mod tests;
