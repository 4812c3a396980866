//! Which status a party may ask for, and what that means for the call. Pure.

use serde::{Deserialize, Serialize};

use crate::adapter::mapping::{self, Status};
use crate::protocol::event::{ClientBody, Outcome, Scope};

/// Which end of the call a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Originator,
    Receiver,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not answered yet.
    Ringing,
    /// Answered.
    Talking,
    /// Ended.
    Over,
}

/// What a status asks of the call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// Nothing but what comes with it: descriptions, a location.
    Nothing,
    /// To be told.
    Say(ClientBody),
    /// To be answered by this device.
    Answer,
    /// To be told, and for this device it is over.
    Leave(ClientBody),
}

/// What a status means; or what would be right.
pub(super) fn act(role: Role, stage: Stage, status: Status) -> Result<Act, &'static str> {
    use Status::{
        Busy, Connected, Declined, Failed, Hold, InProgress, Initial, NoAnswer, NotReachable, Proceeding,
        Resume, Ringing, SessionCancelled, Terminated, Waiting,
    };
    match (stage, role, status) {
        (Stage::Over, ..) => Err("the session has ended; GET it to see how"),
        (_, _, Initial) => Err("Initial is the server's to say"),
        (Stage::Ringing, Role::Receiver, Ringing) => Ok(Act::Say(ClientBody::Alerting)),
        (Stage::Ringing, Role::Receiver, Proceeding) => Ok(Act::Say(ClientBody::Proceeding)),
        (Stage::Ringing, Role::Receiver, InProgress) => Ok(Act::Say(ClientBody::Progress)),
        (Stage::Ringing, Role::Receiver, Waiting) => Ok(Act::Nothing),
        (Stage::Ringing, Role::Receiver, Connected) => Ok(Act::Answer),
        (Stage::Ringing, Role::Receiver, Terminated | SessionCancelled) => Ok(Act::Leave(refusal(Declined))),
        (Stage::Ringing, Role::Receiver, Declined | Busy | NoAnswer | NotReachable | Failed) => {
            Ok(Act::Leave(refusal(status)))
        }
        (Stage::Ringing, Role::Originator, InProgress | Proceeding) => Ok(Act::Nothing),
        (Stage::Ringing, Role::Originator, Terminated | SessionCancelled) => {
            Ok(Act::Say(ClientBody::End { reason: None }))
        }
        (Stage::Ringing, Role::Originator, _) => Err(
            "until the call is answered its originator may ask for InProgress, SessionCancelled or Terminated",
        ),
        (Stage::Ringing, Role::Receiver, Hold | Resume) => {
            Err("the call is not answered yet; Connected answers it")
        }
        (Stage::Talking, _, Connected | InProgress) => Ok(Act::Nothing),
        (Stage::Talking, _, Hold) => Ok(Act::Say(ClientBody::Hold)),
        (Stage::Talking, _, Resume) => Ok(Act::Say(ClientBody::Resume)),
        (Stage::Talking, _, Terminated) => Ok(Act::Say(ClientBody::End { reason: None })),
        (Stage::Talking, _, _) => {
            Err("an answered call may be asked for Connected, InProgress, Hold, Resume or Terminated")
        }
    }
}

/// What a device that does not take a call says.
pub(super) fn refusal(status: Status) -> ClientBody {
    let (outcome, reason) = mapping::outcome(status).unwrap_or((Outcome::Failed, "failed"));
    let reason = reason.to_owned();
    match outcome {
        Outcome::Declined => ClientBody::Declined { reason, scope: Scope::Device },
        Outcome::NoAnswer => ClientBody::NoAnswer { reason },
        _ => ClientBody::Failed { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each status comes to, in the order of [`Status::ALL`]: `.` nothing, `s` said, `a` answered, `l` left, `x` refused.
    fn row(role: Role, stage: Stage) -> String {
        let one = |status: &Status| match act(role, stage, *status) {
            Ok(Act::Nothing) => '.',
            Ok(Act::Say(_)) => 's',
            Ok(Act::Answer) => 'a',
            Ok(Act::Leave(_)) => 'l',
            Err(_) => 'x',
        };
        Status::ALL.iter().map(one).collect()
    }

    #[test]
    fn each_status_has_its_time_and_its_party() {
        assert_eq!(row(Role::Receiver, Stage::Ringing), "xsssalxxlll.lll");
        assert_eq!(row(Role::Originator, Stage::Ringing), "x.x.xsxxsxxxxxx");
        for role in [Role::Originator, Role::Receiver] {
            assert_eq!(row(role, Stage::Talking), "x.xx.sssxxxxxxx");
            assert_eq!(row(role, Stage::Over), "x".repeat(15));
        }
    }

    #[test]
    fn a_device_refuses_in_the_words_of_the_table() {
        let declined = |reason: &str| ClientBody::Declined { reason: reason.into(), scope: Scope::Device };
        assert_eq!(refusal(Status::Busy), declined("busy"));
        assert_eq!(refusal(Status::Declined), declined("rejected"));
        assert_eq!(refusal(Status::NoAnswer), ClientBody::NoAnswer { reason: "answer-timeout".into() });
        assert_eq!(refusal(Status::NotReachable), ClientBody::Failed { reason: "unreachable".into() });
    }
}
