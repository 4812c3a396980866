//! Problem documents (RFC 9457): the one table of codes and their statuses.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// Why a request was refused; stable, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// As the wire writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The HTTP status that carries it.
            pub const fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// The body is no JSON, or not of the shape that the resource takes.
    BadJson = "bad-json", 400;
    /// An event lacks a member or has one of the wrong type.
    BadEvent = "bad-event", 400;
    /// A media chunk or its framing can't be read.
    BadChunk = "bad-chunk", 400;
    /// A query or header can't be read.
    BadRequest = "bad-request", 400;
    /// CONNECT from a peer whose settings allow no datagrams.
    NoDatagrams = "no-datagrams", 400;
    /// No token, or one that doesn't hold.
    Unauthorized = "unauthorized", 401;
    /// A PASSporT is missing or malformed.
    PassportForm = "passport-form", 403;
    /// A PASSporT's signature doesn't hold.
    PassportSignature = "passport-signature", 403;
    /// A PASSporT's chain doesn't lead to a trust anchor.
    PassportChain = "passport-chain", 403;
    /// A PASSporT's certificate doesn't cover its `orig`.
    PassportOrig = "passport-orig", 403;
    /// A PASSporT's `dest` isn't the destination.
    PassportDest = "passport-dest", 403;
    /// A PASSporT's `iat` is over 60 s away.
    PassportStale = "passport-stale", 403;
    /// A PASSporT was used before.
    PassportReplay = "passport-replay", 403;
    /// A PASSporT's `x5u` may not be fetched.
    PassportX5u = "passport-x5u", 403;
    /// The caller may not use this number.
    NumberNotAllowed = "number-not-allowed", 403;
    /// The TG takes no calls to this destination.
    DestinationNotAllowed = "destination-not-allowed", 403;
    /// A ticket is unknown, used, late or for something else.
    BadTicket = "bad-ticket", 403;
    /// The token lacks a scope.
    Scope = "scope", 403;
    /// The page's origin isn't configured.
    Origin = "origin", 403;
    /// There is no such resource, or it belongs to others.
    NotFound = "not-found", 404;
    /// Nobody can be reached at the destination.
    Unreachable = "unreachable", 404;
    /// There is no such handler.
    NoSuchHandler = "no-such-handler", 404;
    /// The resource has no such method.
    MethodNotAllowed = "method-not-allowed", 405;
    /// The call's state doesn't allow this event.
    IllegalEvent = "illegal-event", 409;
    /// Another device has claimed the call.
    AlreadyClaimed = "already-claimed", 409;
    /// The call has ended.
    CallEnded = "call-ended", 409;
    /// The call has ended, and its media with it.
    MediaGone = "call-ended", 410;
    /// The call is no longer what `If-Match` names.
    PreconditionFailed = "precondition-failed", 412;
    /// The body is too large.
    TooLarge = "too-large", 413;
    /// The headers are too large.
    HeadersTooLarge = "too-large", 431;
    /// An advertisement can't be read.
    BadAdvertisement = "bad-advertisement", 422;
    /// No codec is common to both sides.
    NoCommonCodec = "no-common-codec", 422;
    /// A certificate request can't be read, or asks for something else than one number or address.
    BadCsr = "bad-csr", 422;
    /// A customer's TG can't be used as its `target-uri` says.
    BadTargetUri = "bad-target-uri", 422;
    /// A number can't be read.
    BadNumber = "bad-number", 422;
    /// An `Idempotency-Key` came again with another body.
    IdempotencyMismatch = "idempotency-mismatch", 422;
    /// The request came in early data.
    TooEarly = "too-early", 425;
    /// The peer asks for too much.
    TooMany = "too-many", 429;
    /// The server failed; the log says how.
    Internal = "internal", 500;
    /// Another server failed, or can't be reached.
    BadGateway = "bad-gateway", 502;
    /// The request has come through this server already.
    LoopDetected = "loop-detected", 508;
    /// The server is overloaded.
    Overloaded = "overloaded", 503;
    /// An issuer of tokens can't be asked now.
    IssuerUnavailable = "issuer-unavailable", 503;
    /// The store takes no writes now.
    StoreUnavailable = "store-unavailable", 503;
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    /// What is wrong, for programs.
    pub code: Code,
    /// What is wrong and what would be right, for people.
    pub detail: String,
    /// The part of the input that is wrong.
    pub field: Option<String>,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
    /// The scope that the token lacks.
    pub scope: Option<&'static str>,
}

/// A problem document as it stands on the wire; members that we don't know are ignored.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemBody {
    /// A URI for the kind of problem.
    #[serde(rename = "type", default)]
    #[schema(required)]
    pub kind: String,
    /// The code again, readable.
    #[serde(default)]
    #[schema(required)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    #[schema(required)]
    pub status: u16,
    /// The stable code.
    #[serde(default)]
    #[schema(required)]
    pub code: String,
    /// What is wrong and what would be right.
    #[serde(default)]
    #[schema(required)]
    pub detail: String,
    /// The part of the input that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// With a sentence that says what would be right.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after = matches!(code.status(), 429 | 503).then_some(1);
        Self { code, detail: detail.into(), field: None, retry_after, scope: None }
    }

    /// Names the part of the input that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// A token that lacks a scope.
    pub fn lacks_scope(scope: &'static str) -> Self {
        let problem = Self::new(Code::Scope, format!("the token lacks the scope `{scope}`"));
        Self { scope: Some(scope), ..problem }
    }

    /// `WWW-Authenticate` (RFC 6750 §3). Without a token the challenge names no error.
    pub fn challenge(&self) -> Option<String> {
        let error = match (self.code, &self.field) {
            (Code::Unauthorized, None) => return Some("Bearer realm=\"ript\"".to_owned()),
            (Code::Unauthorized, Some(_)) => "invalid_token",
            (Code::Scope, _) => "insufficient_scope",
            _ => return None,
        };
        // RFC 6750 §3: printable, no quotes, no backslashes.
        let plain = |c: &char| matches!(*c, ' '..='~') && !matches!(*c, '"' | '\\');
        let description: String = self.detail.chars().filter(plain).collect();
        let scope = self.scope.map(|scope| format!(r#", scope="{scope}""#)).unwrap_or_default();
        Some(format!(r#"Bearer realm="ript", error="{error}", error_description="{description}"{scope}"#))
    }

    /// As it stands on the wire.
    pub fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:ript:problem:{}", self.code.as_str()),
            title: self.code.as_str().replace('-', " "),
            status: self.code.status(),
            code: self.code.as_str().to_owned(),
            detail: self.detail.clone(),
            field: self.field.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_code_status_and_field() {
        let body = Problem::new(Code::BadNumber, "an E.164 number is expected").field("destination").body();
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(json["status"], 422);
        assert_eq!(json["code"], "bad-number");
        assert_eq!(json["field"], "destination");
    }

    #[test]
    fn every_wait_says_how_long() {
        for code in Code::ALL.iter().filter(|c| matches!(c.status(), 429 | 503)) {
            assert!(Problem::new(*code, "x").retry_after.is_some());
        }
    }
}
