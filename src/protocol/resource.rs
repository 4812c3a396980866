//! The resources' documents and paths, the same for server and client.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::event::{Outcome, Party, State};
use super::id::{HandlerKey, LegId, TgId};
use super::number::{Destinations, Number};
use super::schema::TextOrJson;
use super::time::Timestamp;

/// The RIPT root.
// ript-core "Bootstrapping": the well-known service is `ript`; wire §2 adds the version.
pub const ROOT: &str = "/.well-known/ript/v1";
/// The media type of the media byways.
pub const CHUNKS: &str = "application/vnd.ript.chunks";

/// The path of a TG.
pub fn tg_path(tg: &TgId) -> String {
    format!("{ROOT}/providertgs/{tg}")
}

/// The path of a handler.
pub fn handler_path(tg: &TgId, key: HandlerKey) -> String {
    format!("{ROOT}/providertgs/{tg}/handlers/{key}")
}

/// The path of a leg, which is a call URI without its authority.
pub fn call_path(tg: &TgId, leg: LegId) -> String {
    format!("{ROOT}/providertgs/{tg}/calls/{leg}")
}

/// The parts of a URI or path that names something below a TG.
pub fn split_path<'a>(uri: &'a str, collection: &str) -> Option<(&'a str, &'a str)> {
    let path = &uri[uri.find(ROOT)?..];
    let mut parts = path[ROOT.len()..].split('/');
    let (empty, tgs, tg, kind, id) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = empty.is_empty() && tgs == "providertgs" && kind == collection && parts.next().is_none();
    known.then_some((tg, id.split('?').next().unwrap_or(id)))
}

/// `GET …/providertgs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TgList {
    /// The TGs that this token may use.
    pub tgs: Vec<TgEntry>,
}

/// A line of the list of TGs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TgEntry {
    /// Where it is.
    pub uri: String,
    /// Its name, for people.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
}

/// What a TG allows in one direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TgDirection {
    /// The certificate of the numbers that the server vouches for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<String>,
    /// Whom calls may go to.
    pub destinations: Destinations,
}

/// `GET …/providertgs/{tg}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TgDescription {
    /// Where it is.
    pub uri: String,
    /// Its name, for people.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// Calls that this client places.
    pub outbound: TgDirection,
    /// Calls that it receives.
    // ript-inbound "Normative": a server that supports inbound calls includes the element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<TgDirection>,
    /// The numbers that this token may call from or be called at.
    pub numbers: Vec<String>,
    /// What the server can send and render.
    pub advertisement: String,
    /// First wait before a connection is tried again, ms.
    pub retry_backoff: u64,
    /// Without acks for this long a call has to move, ms.
    pub media_timeout: u64,
    /// How often a client pings, ms.
    pub keepalive: u64,
    /// How long a call may ring, ms.
    pub answer_timeout: u64,
    /// The media encodings that the server takes.
    pub media_encodings: Vec<String>,
}

/// `POST …/handlers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HandlerDescription {
    /// Where it is; the server's to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The device's own name for itself.
    pub handler_id: String,
    /// What it can send and render, as text or as its JSON twin.
    #[schema(value_type = TextOrJson)]
    pub advertisement: Value,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// False: the device places calls only, and no call is offered to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<bool>,
}

/// `GET …/handlers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HandlerList {
    /// This user's handlers on the TG.
    pub handlers: Vec<HandlerDescription>,
}

/// `POST …/consumertgs`: a customer's own TG.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ConsumerTg {
    /// Where the registration is; the server's to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The customer's TG.
    pub target_uri: String,
    /// The bearer token for calls to it; never answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Calls to it.
    pub outbound: TgDirection,
}

impl std::fmt::Debug for ConsumerTg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerTg").field("target_uri", &self.target_uri).finish_non_exhaustive()
    }
}

/// `GET …/consumertgs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConsumerTgList {
    /// This user's registrations.
    pub tgs: Vec<ConsumerTg>,
}

/// `POST …/calls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallRequest {
    /// The device that places it; without one the user's devices are tapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Whom to call.
    pub destination: String,
    /// Who calls. Its absence is `passport-form`'s to tell, like any other that is no PASSporT.
    #[serde(default, deserialize_with = "absent")]
    pub passport: String,
}

/// A `null` where text may be missing.
fn absent<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `GET …/calls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallList {
    /// This user's live calls.
    pub calls: Vec<CallEntry>,
}

/// A line of the list of calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallEntry {
    /// Where it is.
    pub uri: String,
    /// Its state.
    pub state: State,
    /// Which way it goes, seen from this user.
    pub direction: CallDirection,
    /// Who calls.
    pub from: Number,
    /// Who is called.
    pub to: Number,
}

/// Which way a call goes, seen from a leg's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CallDirection {
    /// The user is called.
    Inbound,
    /// The user calls.
    Outbound,
}

/// `GET {call}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CallDescription {
    /// Where it is.
    pub uri: String,
    /// Its state.
    pub state: State,
    /// Whether this leg holds.
    pub held: bool,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Which way it goes.
    pub direction: CallDirection,
    /// The newest `seq` taken from the asking handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u64>,
    /// Who calls.
    pub from: Number,
    /// Who is called.
    pub to: Number,
    /// The device that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The caller's PASSporT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passport: Option<String>,
    /// What the server found out about the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub verification: Option<Value>,
    /// The PASSporTs that carry the caller's on to whom the call was handed (RFC 8946), the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub div: Vec<String>,
    /// What the client sends.
    #[serde(rename = "clientDirectives")]
    #[schema(value_type = TextOrJson)]
    pub client_directives: Value,
    /// What the server sends.
    #[serde(rename = "serverDirectives")]
    #[schema(value_type = TextOrJson)]
    pub server_directives: Value,
    /// Where media goes; gone with the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaUris>,
    /// When it was placed.
    pub created: Timestamp,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<Party>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a call's media goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MediaUris {
    /// The WebTransport session, with a ticket.
    pub webtransport: String,
    /// The media byways.
    pub byway: String,
}

/// `POST {call}` with a body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Claim {
    /// The device that is to carry the call.
    pub handler: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// Third-party control: tap that device instead, and let it take the call itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tap: bool,
}

/// Why a device takes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// To answer it.
    Answer,
    /// To carry on what another device answered.
    Pull,
    /// To carry on what it had itself.
    Recover,
}

/// A tap on the push channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tap {
    /// The call to look at.
    pub call: String,
    /// What for.
    pub reason: TapReason,
}

/// What a tap is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TapReason {
    /// The user is called.
    Incoming,
    /// The user places a call from elsewhere.
    Outgoing,
    /// This device is to carry the call on.
    Take,
    /// This device is to answer.
    Answer,
}

/// `POST …/push/tickets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketAnswer {
    /// Used once, as `?ticket=`.
    pub ticket: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_into_what_they_were_made_of() {
        let tg: TgId = "dev".parse().unwrap();
        let key = HandlerKey::random();
        let path = handler_path(&tg, key);
        let (found, id) = split_path(&path, "handlers").unwrap();
        assert_eq!((found, id.parse()), ("dev", Ok(key)));
        let uri = format!("https://a.example:8443{}?x=1", call_path(&tg, LegId::from_u128(7)));
        assert_eq!(split_path(&uri, "calls").unwrap().1.parse(), Ok(LegId::from_u128(7)));
        for wrong in ["", "/x", "https://a/.well-known/ript/v1/providertgs/dev/calls/1/media"] {
            assert_eq!(split_path(wrong, "calls"), None);
        }
    }

    #[test]
    fn a_call_request_ignores_unknown_members() {
        let json = r#"{"destination":"+14085551000","passport":"p","colour":{"a":1}}"#;
        assert_eq!(serde_json::from_str::<CallRequest>(json).unwrap().handler, None);
        // wire §8: a missing PASSporT is 403 `passport-form`, which is for the check of it to say.
        for json in [r#"{"destination":"x"}"#, r#"{"destination":"x","passport":null}"#] {
            assert_eq!(serde_json::from_str::<CallRequest>(json).unwrap().passport, "");
        }
        assert!(serde_json::from_str::<CallRequest>(r#"{"destination":"x","passport":7}"#).is_err());
    }
}
