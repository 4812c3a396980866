//! Events: what the two sides of a signalling byway tell each other.

mod client;
mod reader;

pub use client::{ClientBody, ClientEvent};
pub use reader::{EventReader, ReadError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::Timestamp;

/// Which way an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Client to server.
    #[serde(rename = "c2s")]
    ClientToServer,
    /// Server to client.
    #[serde(rename = "s2c")]
    ServerToClient,
}

/// A side of the call, or the server between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// Who placed the call.
    Caller,
    /// Who was called.
    Callee,
    /// The server.
    Server,
}

/// The state of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Being set up.
    Proceeding,
    /// A device rings.
    Alerting,
    /// Established.
    Answered,
    /// Over.
    Ended,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was answered, then somebody hung up.
    Completed,
    /// The caller gave up before an answer.
    Cancelled,
    /// The callee would not.
    Declined,
    /// It could not be set up or go on.
    Failed,
    /// Nobody answered in time.
    #[serde(rename = "noanswer")]
    NoAnswer,
}

impl Outcome {
    /// As the wire writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Declined => "declined",
            Self::Failed => "failed",
            Self::NoAnswer => "noanswer",
        }
    }
}

/// Whether a decline speaks for one device or for the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The other devices ring on.
    #[default]
    Device,
    /// All of them stop.
    All,
}

/// An event from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its type and own members.
    #[serde(flatten)]
    pub body: Body,
    /// `s2c`.
    pub direction: Direction,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The leg's URI.
    pub call: String,
    /// Its place in the leg's history; transient events have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The device it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The whole state, on a byway's first event.
    #[serde(flatten)]
    pub snapshot: Option<Snapshot>,
}

/// What a new byway is told first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Always true.
    pub snapshot: bool,
    /// Whether this leg holds.
    pub held: bool,
    /// What the client sends.
    #[serde(rename = "clientDirectives")]
    pub client_directives: Value,
    /// What the server sends.
    #[serde(rename = "serverDirectives")]
    pub server_directives: Value,
    /// The newest `seq` taken from this handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u64>,
    /// How the call ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// The types of event that a server sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[expect(missing_docs, reason = "the members are wire.md's, section 4, under the same names")]
pub enum Body {
    /// Set-up goes on.
    Proceeding,
    /// A device rings.
    Alerting,
    /// Early media may come now.
    Progress,
    /// The call is established.
    Answered,
    /// The callee would not.
    Declined { reason: String },
    /// It could not be set up.
    Failed { reason: String },
    /// Nobody answered in time.
    #[serde(rename = "noanswer")]
    NoAnswer { reason: String },
    /// The last event.
    Ended { by: Party, reason: String },
    /// What is to be sent from now on.
    Directives {
        #[serde(rename = "clientDirectives")]
        client_directives: Value,
        #[serde(rename = "serverDirectives")]
        server_directives: Value,
    },
    /// A side holds.
    Hold { by: Party },
    /// A side holds no longer.
    Resume { by: Party },
    /// The other side pressed a key.
    Dtmf { digit: char, duration: u32 },
    /// The transfer is under way.
    Transferring,
    /// The other side was handed on.
    Moved { to: String },
    /// Another device carries the call.
    HandlerChanged,
    /// Open new byways.
    Migrate {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uri: Option<String>,
    },
    /// No byway was open for media.
    MediaPanic,
    /// How the streams fare.
    Quality { streams: Vec<Value> },
    /// The answer to `ping`.
    Pong {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<Value>,
    },
    /// The newest `seq` taken from this handler.
    Accepted { accepted: u64 },
    /// An event was refused.
    Error {
        code: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ref_seq: Option<u64>,
    },
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// As JSON, with paths made absolute against `base` (`https://authority`).
    pub fn to_json(&self, base: &str) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or(Value::Null);
        for member in ["call", "handler", "uri"] {
            if let Some(Value::String(path)) = json.get_mut(member)
                && path.starts_with('/')
            {
                path.insert_str(0, base);
            }
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: Body) -> Event {
        Event {
            body,
            direction: Direction::ServerToClient,
            timestamp: Timestamp::from_millis(1_604_000_000_007),
            call: "/.well-known/ript/v1/providertgs/t/calls/1".into(),
            seq: Some(3),
            handler: None,
            snapshot: None,
        }
    }

    #[test]
    fn an_event_is_one_flat_object_with_absolute_uris() {
        let json = event(Body::Dtmf { digit: '5', duration: 100 }).to_json("https://a.example");
        assert_eq!(
            json,
            serde_json::json!({
                "event": "dtmf", "digit": "5", "duration": 100, "direction": "s2c",
                "timestamp": "2020-10-29T19:33:20.007Z", "seq": 3,
                "call": "https://a.example/.well-known/ript/v1/providertgs/t/calls/1",
            })
        );
        assert_eq!(event(Body::NoAnswer { reason: "x".into() }).to_json("")["event"], "noanswer");
        assert_eq!(event(Body::HandlerChanged).to_json("")["event"], "handler-changed");
        let error = Body::Error { code: "x".into(), detail: None, ref_seq: Some(9) };
        assert_eq!(event(error).to_json("")["ref-seq"], 9);
    }

    #[test]
    fn a_snapshot_lies_beside_the_state_and_reads_back() {
        let mut with = event(Body::Ended { by: Party::Caller, reason: "completed".into() });
        with.snapshot = Some(Snapshot {
            snapshot: true,
            held: false,
            client_directives: "".into(),
            server_directives: "".into(),
            accepted: Some(4),
            outcome: Some(Outcome::Completed),
        });
        let json = with.to_json("");
        assert_eq!((&json["snapshot"], &json["outcome"]), (&true.into(), &"completed".into()));
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), with);
    }

    #[test]
    fn an_unknown_type_and_unknown_members_are_taken() {
        let json = serde_json::json!({
            "event": "sparkle", "direction": "s2c", "timestamp": "2020-10-29T19:33:20.007Z",
            "call": "x", "glitter": [1, 2],
        });
        assert_eq!(serde_json::from_value::<Event>(json).unwrap().body, Body::Unknown);
    }
}
