//! One table: RIPT's events, CAMARA's statuses and SIP's codes. RIPT beside SIP alone, with Q.850's causes: [`sip`].

pub mod sip;

use serde::{Deserialize, Serialize};

use crate::protocol::event::Outcome;

macro_rules! statuses {
    ($($name:ident, $sip:expr, $ended:literal;)*) => {
        /// CAMARA's status of a media session (webrtc-call-handling.yaml, SessionStatus).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Status { $(#[doc = stringify!($name)] $name,)* }

        impl Status {
            /// All, in the file's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The SIP response that says the same of an INVITE; none where SIP has a request for it (BYE, re-INVITE).
            pub const fn sip(self) -> Option<u16> {
                match self { $(Self::$name => $sip,)* }
            }

            /// Whether the session is over.
            pub const fn ended(self) -> bool {
                match self { $(Self::$name => $ended,)* }
            }
        }
    };
}

statuses! {
    Initial, None, false;
    InProgress, Some(183), false;
    Ringing, Some(180), false;
    Proceeding, Some(100), false;
    Connected, Some(200), false;
    Terminated, None, true;
    Hold, None, false;
    Resume, None, false;
    SessionCancelled, Some(487), true;
    Declined, Some(603), true;
    Failed, Some(500), true;
    Waiting, Some(182), false;
    NoAnswer, Some(408), true;
    NotReachable, Some(480), true;
    Busy, Some(486), true;
}

impl std::str::FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|status| status.as_str() == text).ok_or(())
    }
}

/// wire §4: busy is `declined` with this reason.
pub const BUSY: &str = "busy";
/// How a device that refuses says so.
pub const REJECTED: &str = "rejected";

/// How a call that is over ended, with RIPT's outcome and reason.
pub fn ended(outcome: Option<Outcome>, reason: &str) -> Status {
    match (outcome, reason) {
        (Some(Outcome::Completed), _) => Status::Terminated,
        (Some(Outcome::Cancelled), _) => Status::SessionCancelled,
        (Some(Outcome::Declined), BUSY) => Status::Busy,
        (Some(Outcome::Declined), _) => Status::Declined,
        (Some(Outcome::NoAnswer), _) => Status::NoAnswer,
        (Some(Outcome::Failed), "unreachable" | "not-found") => Status::NotReachable,
        (Some(Outcome::Failed) | None, _) => Status::Failed,
    }
}

/// What a SIP response to an INVITE says (RFC 3261 §21).
pub fn of_sip(code: u16) -> Status {
    match code {
        ..=100 => Status::Proceeding,
        180 => Status::Ringing,
        182 => Status::Waiting,
        101..=199 => Status::InProgress,
        200..=299 => Status::Connected,
        404 | 410 | 480 | 484 | 502 | 503 | 604 => Status::NotReachable,
        408 | 504 => Status::NoAnswer,
        486 | 600 => Status::Busy,
        487 => Status::SessionCancelled,
        403 | 603 | 607 => Status::Declined,
        _ => Status::Failed,
    }
}

/// RIPT's outcome and reason for a status that ends a session.
pub fn outcome(status: Status) -> Option<(Outcome, &'static str)> {
    Some(match status {
        Status::Terminated => (Outcome::Completed, "completed"),
        Status::SessionCancelled => (Outcome::Cancelled, "cancelled"),
        Status::Declined => (Outcome::Declined, REJECTED),
        Status::Busy => (Outcome::Declined, BUSY),
        Status::NoAnswer => (Outcome::NoAnswer, "answer-timeout"),
        Status::NotReachable => (Outcome::Failed, "unreachable"),
        Status::Failed => (Outcome::Failed, "failed"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_sip_response_and_each_response_its_status() {
        for (status, sip, ended) in [
            ("Initial", None, false),
            ("InProgress", Some(183), false),
            ("Ringing", Some(180), false),
            ("Proceeding", Some(100), false),
            ("Connected", Some(200), false),
            ("Terminated", None, true),
            ("Hold", None, false),
            ("Resume", None, false),
            ("SessionCancelled", Some(487), true),
            ("Declined", Some(603), true),
            ("Failed", Some(500), true),
            ("Waiting", Some(182), false),
            ("NoAnswer", Some(408), true),
            ("NotReachable", Some(480), true),
            ("Busy", Some(486), true),
        ] {
            let parsed: Status = status.parse().unwrap();
            assert_eq!((parsed.as_str(), parsed.sip(), parsed.ended()), (status, sip, ended));
            if let Some(sip) = sip {
                assert_eq!(of_sip(sip), parsed, "{sip}");
            }
        }
        assert_eq!(Status::ALL.len(), 15);
        assert_eq!("ringing".parse::<Status>(), Err(()));
    }

    #[test]
    fn responses_that_no_status_stands_for_come_to_the_nearest() {
        for (sip, status) in [
            (181, Status::InProgress),
            (199, Status::InProgress),
            (202, Status::Connected),
            (302, Status::Failed),
            (400, Status::Failed),
            (403, Status::Declined),
            (404, Status::NotReachable),
            (410, Status::NotReachable),
            (484, Status::NotReachable),
            (488, Status::Failed),
            (503, Status::NotReachable),
            (504, Status::NoAnswer),
            (600, Status::Busy),
            (604, Status::NotReachable),
            (606, Status::Failed),
            (607, Status::Declined),
        ] {
            assert_eq!(of_sip(sip), status, "{sip}");
        }
    }

    #[test]
    fn a_call_that_ended_is_told_as_it_ended_and_back() {
        for (outcome, reason, status) in [
            (Outcome::Completed, "completed", Status::Terminated),
            (Outcome::Cancelled, "cancelled", Status::SessionCancelled),
            (Outcome::Declined, "rejected", Status::Declined),
            (Outcome::Declined, "busy", Status::Busy),
            (Outcome::NoAnswer, "answer-timeout", Status::NoAnswer),
            (Outcome::Failed, "unreachable", Status::NotReachable),
            (Outcome::Failed, "failed", Status::Failed),
        ] {
            assert_eq!(ended(Some(outcome), reason), status, "{reason}");
            assert_eq!(super::outcome(status), Some((outcome, reason)));
        }
        assert_eq!(ended(Some(Outcome::Completed), "lost"), Status::Terminated);
        assert_eq!(ended(Some(Outcome::Failed), "no-common-codec"), Status::Failed);
        assert_eq!(ended(None, "lost"), Status::Failed);
        for status in Status::ALL.iter().filter(|status| !status.ended()) {
            assert_eq!(super::outcome(*status), None);
        }
    }
}
