//! How the bodies of webrtc-events.yaml are read: SubscriptionRequest and SubscriptionUpdateRequest.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::super::body::{bad, date_time};
use super::super::error::{Code, Failure};
use super::super::racm::device_id;
use super::record::{Credential, Kind, Secret};
use super::sink;
use crate::protocol::time::Timestamp;
use crate::service::fetch::Fetcher;

/// webrtc-events.yaml: `maxLength` of accessToken and of a header's value.
const MAX_TOKEN: usize = 8192;
const MAX_HEADER: usize = 512;
/// Headers that one subscription may add to its requests.
const MAX_HEADERS: usize = 16;
const MAX_EVENTS: i64 = 1_000_000;

/// Headers that are the server's own business, or the connection's.
const RESERVED: [&str; 16] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-correlator",
    "forwarded",
];
const RESERVED_PREFIXES: [&str; 3] = ["proxy-", "sec-", "x-forwarded-"];

/// A subscription that is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Several are asked for where several were named.
    pub(super) kinds: Vec<Kind>,
    pub(super) device: Uuid,
    pub(super) sink: Secret,
    pub(super) credential: Option<Credential>,
    pub(super) headers: Option<BTreeMap<String, Secret>>,
    pub(super) method: bool,
    pub(super) expires: Option<Timestamp>,
    pub(super) max_events: Option<u32>,
    pub(super) initial: Option<bool>,
}

/// What an owner wants changed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) credential: Option<Credential>,
    pub(super) expires: Option<Timestamp>,
}

type Members = Map<String, Value>;

/// types: at least one, three at most, of those that there are.
pub(super) fn kinds(body: &Members) -> Result<Vec<Kind>, Failure> {
    let expected = "a list of 1 to 3 event types is expected: \
                    org.camaraproject.webrtc-events.v0.session-invitation, .session-status, .registration-ends";
    let Some(Value::Array(named)) = body.get("types") else { return Err(bad("types", expected)) };
    if !(1..=3).contains(&named.len()) {
        return Err(bad("types", expected));
    }
    let known = |name: &Value| {
        let kind = Kind::ALL.into_iter().find(|kind| name.as_str() == Some(kind.event_type()));
        kind.ok_or_else(|| bad("types", expected))
    };
    named.iter().map(known).collect()
}

/// SubscriptionRequest
pub(super) fn wanted(
    body: &Members,
    kinds: Vec<Kind>,
    fetcher: &Fetcher,
    now: Timestamp,
) -> Result<Wanted, Failure> {
    match body.get("protocol") {
        Some(Value::String(text)) if text == "HTTP" => {}
        Some(Value::String(_)) => {
            let why = "protocol: only \"HTTP\" is supported";
            return Err(Failure::new(Code::InvalidProtocol, why));
        }
        Some(_) => return Err(bad("protocol", "a string is expected: \"HTTP\"")),
        None => return Err(bad("protocol", "it is missing; \"HTTP\" is expected")),
    }
    let sink = match body.get("sink") {
        Some(Value::String(text)) => sink::checked(text, fetcher)?,
        Some(_) => return Err(bad("sink", "a string with an https URL is expected")),
        None => return Err(bad("sink", "it is missing; an https URL is expected")),
    };
    let config = match body.get("config") {
        Some(Value::Object(config)) => config,
        Some(_) => return Err(bad("config", "an object is expected")),
        None => return Err(bad("config", "it is missing; an object with subscriptionDetail is expected")),
    };
    let device = match config.get("subscriptionDetail") {
        Some(Value::Object(detail)) => match detail.get("deviceId") {
            Some(Value::String(text)) => device_id(text)?,
            Some(_) => return Err(bad("deviceId", "a string with a UUID is expected")),
            None => return Err(bad("deviceId", "it is missing in config.subscriptionDetail")),
        },
        _ => return Err(bad("config.subscriptionDetail", "an object with deviceId is expected")),
    };
    let (headers, method) = settings(body.get("protocolSettings"))?;
    Ok(Wanted {
        kinds,
        device,
        sink: Secret(sink),
        credential: credential(body.get("sinkCredential"), now)?,
        headers,
        method,
        expires: expires(config, now)?,
        max_events: max_events(config.get("subscriptionMaxEvents"))?,
        initial: match config.get("initialEvent") {
            None => None,
            Some(Value::Bool(initial)) => Some(*initial),
            Some(_) => return Err(bad("config.initialEvent", "true or false is expected")),
        },
    })
}

/// SubscriptionUpdateRequest: `additionalProperties: false`, in `config` too.
pub(super) fn change(body: &Members, now: Timestamp) -> Result<Change, Failure> {
    if let Some(name) = body.keys().find(|name| !["sinkCredential", "config"].contains(&name.as_str())) {
        let why = "it can't be changed; only sinkCredential and config.subscriptionExpireTime can";
        return Err(bad(&short(name), why));
    }
    let expires = match body.get("config") {
        None => None,
        Some(Value::Object(config)) => {
            if let Some(name) = config.keys().find(|name| *name != "subscriptionExpireTime") {
                let why = "it can't be changed; of config only subscriptionExpireTime can";
                return Err(bad(&format!("config.{}", short(name)), why));
            }
            expires(config, now)?
        }
        Some(_) => return Err(bad("config", "an object is expected")),
    };
    Ok(Change { credential: credential(body.get("sinkCredential"), now)?, expires })
}

fn expires(config: &Members, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let Some(value) = config.get("subscriptionExpireTime") else { return Ok(None) };
    let at = date_time("config.subscriptionExpireTime", value)?;
    if at <= now {
        let why = format!("config.subscriptionExpireTime: it has passed; a time after {now} is expected");
        return Err(Failure::new(Code::OutOfRange, why));
    }
    Ok(Some(at))
}

fn max_events(value: Option<&Value>) -> Result<Option<u32>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let why = "a whole number from 1 to 1000000 is expected";
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            let fits = number.as_i64().filter(|most| (1..=MAX_EVENTS).contains(most));
            let fits = fits.and_then(|most| u32::try_from(most).ok());
            let why = format!("config.subscriptionMaxEvents: {why}");
            fits.map(Some).ok_or_else(|| Failure::new(Code::OutOfRange, why))
        }
        _ => Err(bad("config.subscriptionMaxEvents", why)),
    }
}

/// SinkCredential, which is always an AccessTokenCredential.
fn credential(value: Option<&Value>, now: Timestamp) -> Result<Option<Credential>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let Value::Object(given) = value else { return Err(bad("sinkCredential", "an object is expected")) };
    if given.get("credentialType").and_then(Value::as_str) != Some("ACCESSTOKEN") {
        let why = "sinkCredential.credentialType: only \"ACCESSTOKEN\" is supported";
        return Err(Failure::new(Code::InvalidCredential, why));
    }
    match given.get("accessTokenType") {
        Some(Value::String(text)) if text == "bearer" => {}
        Some(_) => {
            let why = "sinkCredential.accessTokenType: only \"bearer\" is supported";
            return Err(Failure::new(Code::InvalidToken, why));
        }
        None => return Err(bad("sinkCredential.accessTokenType", "it is missing; \"bearer\" is expected")),
    }
    let token = match given.get("accessToken") {
        Some(Value::String(token)) if token.len() <= MAX_TOKEN => token,
        _ => return Err(bad("sinkCredential.accessToken", "text of at most 8192 characters is expected")),
    };
    // It becomes a header: RFC 6750 §2.1, b64token.
    let body = token.trim_end_matches('=');
    if body.is_empty() || !body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)) {
        let why = "sinkCredential.accessToken: it is no bearer token as RFC 6750 §2.1 writes them";
        return Err(Failure::new(Code::InvalidToken, why));
    }
    let expires = match given.get("accessTokenExpiresUtc") {
        Some(value) => date_time("sinkCredential.accessTokenExpiresUtc", value)?,
        None => return Err(bad("sinkCredential.accessTokenExpiresUtc", "it is missing; a time is expected")),
    };
    if expires <= now {
        let why =
            format!("sinkCredential.accessTokenExpiresUtc: it has passed; a time after {now} is expected");
        return Err(Failure::new(Code::OutOfRange, why));
    }
    Ok(Some(Credential::new(token.clone(), expires, now)))
}

/// HTTPSettings: the headers, and whether the method was named.
fn settings(value: Option<&Value>) -> Result<(Option<BTreeMap<String, Secret>>, bool), Failure> {
    let Some(value) = value else { return Ok((None, false)) };
    let Value::Object(given) = value else { return Err(bad("protocolSettings", "an object is expected")) };
    let method = match given.get("method") {
        None => false,
        Some(Value::String(text)) if text == "POST" => true,
        Some(_) => return Err(bad("protocolSettings.method", "only \"POST\" is supported")),
    };
    let headers = match given.get("headers") {
        None => return Ok((None, method)),
        Some(Value::Object(headers)) if headers.len() <= MAX_HEADERS => headers,
        Some(_) => {
            return Err(bad("protocolSettings.headers", "an object of at most 16 headers is expected"));
        }
    };
    let header = |(name, value): (&String, &Value)| {
        let parsed = name.parse::<HeaderName>().ok().filter(|parsed| !is_reserved(parsed.as_str()));
        if name.len() > MAX_HEADER || parsed.is_none() {
            let why = "it is no name of a header that you may set";
            return Err(bad(&format!("protocolSettings.headers.{}", short(name)), why));
        }
        let fits = |text: &&str| text.len() <= MAX_HEADER && HeaderValue::from_str(text).is_ok();
        match value.as_str().filter(fits) {
            Some(text) => Ok((name.clone(), Secret(text.to_owned()))),
            None => {
                let why = "text of at most 512 visible characters is expected";
                Err(bad(&format!("protocolSettings.headers.{}", short(name)), why))
            }
        }
    };
    Ok((Some(headers.iter().map(header).collect::<Result<_, _>>()?), method))
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A name from outside, as far as a message needs it.
fn short(name: &str) -> String {
    name.chars().take(40).collect()
}
