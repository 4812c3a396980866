//! Events from a client, read member by member, so that a refusal names the one that is wrong.

use serde_json::{Map, Value, json};

use super::super::problem::{Code, Problem};
use super::super::time::Timestamp;
use super::Scope;

/// An event from a client.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientEvent {
    /// Its type and own members.
    pub body: ClientBody,
    /// The device that speaks, as it names itself.
    pub handler: Option<String>,
    /// Its place in that device's row.
    pub seq: Option<u64>,
}

/// The types of event that a client sends.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the members are wire.md's, section 4, under the same names")]
pub enum ClientBody {
    /// A called device goes on.
    Proceeding,
    /// A called device rings.
    Alerting,
    /// A called device has early media.
    Progress,
    /// The device that claimed the call answers it.
    Answered,
    /// A called device, or the user, would not.
    Declined { reason: String, scope: Scope },
    /// A called device can't.
    Failed { reason: String },
    /// A called device was not answered.
    NoAnswer { reason: String },
    /// Hang up, or cancel.
    End { reason: Option<String> },
    /// Hold.
    Hold,
    /// Hold no longer.
    Resume,
    /// A key.
    Dtmf { digit: char, duration: u32 },
    /// Hand the other side on.
    Transfer { target: String, replaces: Option<String> },
    /// How the streams fare at this end.
    Quality { streams: Vec<Value> },
    /// Still here.
    Ping { nonce: Option<Value> },
    /// A type that this version does not know.
    Unknown,
}

fn bad(field: &str, right: &str) -> Problem {
    Problem::new(Code::BadEvent, format!("`{field}` is to be {right}")).field(field)
}

/// The longest piece of text in an event that the server keeps or passes on.
const MAX_TEXT: usize = 1024;

struct Members<'a>(&'a Map<String, Value>);

impl Members<'_> {
    fn text(&self, field: &str) -> Result<Option<String>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text.clone())),
            Some(_) => Err(bad(field, "a string of at most 1024 bytes")),
        }
    }

    fn uint(&self, field: &str) -> Result<Option<u64>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| bad(field, "an integer that isn't negative"))
            }
        }
    }

    fn reason(&self, absent: &str) -> Result<String, Problem> {
        Ok(self.text("reason")?.unwrap_or_else(|| absent.to_owned()))
    }
}

impl ClientEvent {
    /// Reads one event.
    pub fn from_json(json: &Value) -> Result<Self, Problem> {
        let Some(object) = json.as_object() else {
            return Err(Problem::new(Code::BadEvent, "an event is a JSON object with a member `event`"));
        };
        let members = Members(object);
        let kind =
            members.text("event")?.ok_or_else(|| bad("event", "the event's type, such as \"alerting\""))?;
        if let Some(direction) = members.text("direction")?
            && direction != "c2s"
        {
            return Err(bad("direction", "\"c2s\""));
        }
        let body = match kind.as_str() {
            "proceeding" => ClientBody::Proceeding,
            "alerting" => ClientBody::Alerting,
            "progress" => ClientBody::Progress,
            "answered" => ClientBody::Answered,
            "declined" => ClientBody::Declined {
                reason: members.reason("rejected")?,
                scope: match members.text("scope")?.as_deref() {
                    None | Some("device") => Scope::Device,
                    Some("all") => Scope::All,
                    Some(_) => return Err(bad("scope", "\"device\" or \"all\"")),
                },
            },
            "failed" => ClientBody::Failed { reason: members.reason("failed")? },
            "noanswer" => ClientBody::NoAnswer { reason: members.reason("noanswer")? },
            // wire §4: `ended` accepted.
            "end" | "ended" => ClientBody::End { reason: members.text("reason")? },
            "hold" => ClientBody::Hold,
            "resume" => ClientBody::Resume,
            "dtmf" => dtmf(&members)?,
            "transfer" => ClientBody::Transfer {
                target: members.text("target")?.ok_or_else(|| bad("target", "a number or address"))?,
                replaces: members.text("replaces")?,
            },
            "quality" => quality(object)?,
            "ping" => ClientBody::Ping { nonce: nonce(object)? },
            _ => ClientBody::Unknown,
        };
        Ok(Self { body, handler: members.text("handler")?, seq: members.uint("seq")? })
    }

    /// As a client sends it.
    pub fn to_json(&self, call: &str, now: Timestamp) -> Value {
        let mut json = match &self.body {
            ClientBody::Proceeding => json!({"event": "proceeding"}),
            ClientBody::Alerting => json!({"event": "alerting"}),
            ClientBody::Progress => json!({"event": "progress"}),
            ClientBody::Answered => json!({"event": "answered"}),
            ClientBody::Declined { reason, scope } => {
                json!({"event": "declined", "reason": reason, "scope": scope})
            }
            ClientBody::Failed { reason } => json!({"event": "failed", "reason": reason}),
            ClientBody::NoAnswer { reason } => json!({"event": "noanswer", "reason": reason}),
            ClientBody::End { reason: Some(reason) } => json!({"event": "end", "reason": reason}),
            ClientBody::End { reason: None } => json!({"event": "end"}),
            ClientBody::Hold => json!({"event": "hold"}),
            ClientBody::Resume => json!({"event": "resume"}),
            ClientBody::Dtmf { digit, duration } => {
                json!({"event": "dtmf", "digit": digit, "duration": duration})
            }
            ClientBody::Transfer { target, replaces: None } => json!({"event": "transfer", "target": target}),
            ClientBody::Transfer { target, replaces } => {
                json!({"event": "transfer", "target": target, "replaces": replaces})
            }
            ClientBody::Quality { streams } => json!({"event": "quality", "streams": streams}),
            ClientBody::Ping { nonce: Some(nonce) } => json!({"event": "ping", "nonce": nonce}),
            ClientBody::Ping { nonce: None } | ClientBody::Unknown => json!({"event": "ping"}),
        };
        json["direction"] = "c2s".into();
        json["timestamp"] = now.to_string().into();
        json["call"] = call.into();
        if let Some(handler) = &self.handler {
            json["handler"] = handler.as_str().into();
        }
        if let Some(seq) = self.seq {
            json["seq"] = seq.into();
        }
        json
    }
}

fn dtmf(members: &Members<'_>) -> Result<ClientBody, Problem> {
    let text = members.text("digit")?.unwrap_or_default().to_ascii_uppercase();
    let mut chars = text.chars();
    let digit = match (chars.next(), chars.next()) {
        // RFC 4733 §3.2: the sixteen DTMF events.
        (Some(c @ ('0'..='9' | '*' | '#' | 'A'..='D')), None) => c,
        _ => return Err(bad("digit", "one of 0-9 * # A-D")),
    };
    let duration = members.uint("duration")?.unwrap_or(100);
    // RFC 4733 §2.3.5: a digit below 40 ms may not be heard as one; eight seconds fit its duration field.
    if !(40..=8000).contains(&duration) {
        return Err(bad("duration", "40 to 8000 ms"));
    }
    Ok(ClientBody::Dtmf { digit, duration: u32::try_from(duration).unwrap_or(8000) })
}

fn quality(object: &Map<String, Value>) -> Result<ClientBody, Problem> {
    match object.get("streams") {
        Some(Value::Array(streams)) if streams.len() <= 64 && streams.iter().all(Value::is_object) => {
            Ok(ClientBody::Quality { streams: streams.clone() })
        }
        _ => Err(bad("streams", "an array of at most 64 objects")),
    }
}

fn nonce(object: &Map<String, Value>) -> Result<Option<Value>, Problem> {
    match object.get("nonce") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() > MAX_TEXT => Err(bad("nonce", "at most 1024 bytes")),
        Some(value @ (Value::String(_) | Value::Number(_))) => Ok(Some(value.clone())),
        Some(_) => Err(bad("nonce", "a string or a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: Value) -> Result<ClientEvent, Option<String>> {
        ClientEvent::from_json(&json).map_err(|p| p.field)
    }

    #[test]
    fn what_is_written_reads_back() {
        let bodies = [
            ClientBody::Alerting,
            ClientBody::Declined { reason: "busy".into(), scope: Scope::All },
            ClientBody::End { reason: None },
            ClientBody::Dtmf { digit: '#', duration: 120 },
            ClientBody::Transfer { target: "+14085551000".into(), replaces: Some("/x".into()) },
            ClientBody::Ping { nonce: Some("n".into()) },
            ClientBody::Quality { streams: vec![json!({"source": 1})] },
        ];
        for body in bodies {
            let event = ClientEvent { body, handler: Some("/h".into()), seq: Some(7) };
            assert_eq!(read(event.to_json("/c", Timestamp::default())), Ok(event));
        }
    }

    #[test]
    fn both_spellings_of_the_end_are_taken() {
        for name in ["end", "ended"] {
            assert_eq!(read(json!({"event": name})).unwrap().body, ClientBody::End { reason: None });
        }
    }

    #[test]
    fn a_refusal_names_the_member() {
        for (json, field) in [
            (json!({}), "event"),
            (json!({"event": 7}), "event"),
            (json!({"event": "alerting", "seq": -1}), "seq"),
            (json!({"event": "alerting", "seq": "1"}), "seq"),
            (json!({"event": "alerting", "handler": []}), "handler"),
            (json!({"event": "alerting", "direction": "s2c"}), "direction"),
            (json!({"event": "declined", "scope": "some"}), "scope"),
            (json!({"event": "dtmf", "digit": "12"}), "digit"),
            (json!({"event": "dtmf", "digit": "1", "duration": 0}), "duration"),
            (json!({"event": "transfer"}), "target"),
            (json!({"event": "quality", "streams": [1]}), "streams"),
            (json!({"event": "ping", "nonce": {}}), "nonce"),
        ] {
            assert_eq!(read(json.clone()), Err(Some(field.into())), "{json}");
        }
        assert_eq!(read(json!([])), Err(None));
    }

    #[test]
    fn unknown_types_and_members_are_ignored() {
        assert_eq!(read(json!({"event": "sparkle", "x": 1})).unwrap().body, ClientBody::Unknown);
    }

    proptest! {
        #[test]
        fn any_json_is_taken_or_refused_without_panic(text in "\\PC{0,200}", kind in "[a-z]{0,10}") {
            for json in [json!({"event": kind, "reason": text, "digit": text, "target": text}), json!(text)] {
                let _ = ClientEvent::from_json(&json);
            }
        }
    }
}
