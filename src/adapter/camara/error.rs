//! CAMARA's error body, and the one table of its codes and their statuses.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::registration::Refusal;
use crate::protocol::problem::{Code as RiptCode, Problem};

/// webrtc-registration.yaml, ErrorInfo: the longest message.
const MAX_MESSAGE: usize = 512;

macro_rules! codes {
    ($($name:ident = $text:literal, $status:literal;)*) => {
        /// Why a request is refused, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code { $($name,)* }

        impl Code {
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

// webrtc-registration.yaml, components/responses; what it leaves out comes from CAMARA_common.yaml.
codes! {
    InvalidArgument = "INVALID_ARGUMENT", 400;
    OutOfRange = "OUT_OF_RANGE", 400;
    InvalidProtocol = "INVALID_PROTOCOL", 400;
    InvalidCredential = "INVALID_CREDENTIAL", 400;
    InvalidSink = "INVALID_SINK", 400;
    InvalidToken = "INVALID_TOKEN", 400;
    Unauthenticated = "UNAUTHENTICATED", 401;
    PermissionDenied = "PERMISSION_DENIED", 403;
    SubscriptionMismatch = "SUBSCRIPTION_MISMATCH", 403;
    InvalidTokenContext = "INVALID_TOKEN_CONTEXT", 403;
    MaxRegistrationPerUser = "MAX_REGISTRATION_PER_USER", 403;
    MaxRegistrationPerMsisdn = "MAX_REGISTRATION_PER_MSISDN", 403;
    MaxDevicesPerUser = "MAX_DEVICES_PER_USER", 403;
    NotFound = "NOT_FOUND", 404;
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405;
    AlreadyExists = "ALREADY_EXISTS", 409;
    ServiceNotApplicable = "SERVICE_NOT_APPLICABLE", 422;
    MultieventSubscriptionNotSupported = "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED", 422;
    QuotaExceeded = "QUOTA_EXCEEDED", 429;
    // BYON-Notification-Channel.yaml, Generic409.
    Conflict = "CONFLICT", 409;
    TooManyRequests = "TOO_MANY_REQUESTS", 429;
    // RFC 9110 §15.5.22.
    UpgradeRequired = "UPGRADE_REQUIRED", 426;
    // RFC 8470 §5.2 and RFC 5842 §7.2: CAMARA has no names for these.
    TooEarly = "TOO_EARLY", 425;
    LoopDetected = "LOOP_DETECTED", 508;
    Internal = "INTERNAL", 500;
    EmergencyNotSupported = "CALLTYPE_EMERGENCY_NOT_SUPPORTED", 501;
    Unavailable = "UNAVAILABLE", 503;
}

/// Every code, with its status.
pub(crate) fn codes() -> Vec<(u16, &'static str)> {
    Code::ALL.iter().map(|code| (code.status(), code.as_str())).collect()
}

/// A refusal as these APIs tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: Code,
    message: String,
    challenge: Option<String>,
    /// Seconds.
    retry_after: Option<u32>,
}

impl Failure {
    /// With a sentence that names the field and says what would be right.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message =
            if message.len() > MAX_MESSAGE { message.chars().take(MAX_MESSAGE).collect() } else { message };
        let retry_after = matches!(code.status(), 429 | 503).then_some(1);
        Self { code, message, challenge: None, retry_after }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> Code {
        self.code
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { code, message, challenge, retry_after } = self;
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(code = code.as_str(), message, "a request failed");
        }
        let body = json!({"status": code.status(), "code": code.as_str(), "message": message});
        let mut response = json_response(status, &body);
        let headers = response.headers_mut();
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if code == Code::UpgradeRequired {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON document that nobody keeps.
pub(super) fn json_response(status: StatusCode, document: &serde_json::Value) -> Response {
    let mut response = (status, document.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let code = match problem.code {
            RiptCode::Unauthorized => Code::Unauthenticated,
            RiptCode::Scope | RiptCode::Origin | RiptCode::DestinationNotAllowed => Code::PermissionDenied,
            RiptCode::NumberNotAllowed => Code::InvalidTokenContext,
            RiptCode::TooMany => Code::TooManyRequests,
            RiptCode::TooEarly => Code::TooEarly,
            RiptCode::LoopDetected => Code::LoopDetected,
            RiptCode::IssuerUnavailable | RiptCode::StoreUnavailable | RiptCode::Overloaded => {
                Code::Unavailable
            }
            _ => Code::Internal,
        };
        let (challenge, retry_after) = (problem.challenge(), problem.retry_after);
        Self { challenge, retry_after, ..Self::new(code, problem.detail) }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::TooSoon { .. } => Code::OutOfRange,
            Refusal::AlreadyExists => Code::AlreadyExists,
            Refusal::PerNumber(_) => Code::MaxRegistrationPerMsisdn,
            Refusal::PerDevice(_) => Code::MaxRegistrationPerUser,
            Refusal::Devices(_) => Code::MaxDevicesPerUser,
            Refusal::NotFound => Code::NotFound,
            Refusal::Full => Code::Unavailable,
            Refusal::Store(error) => return Problem::from(error.clone()).into(),
        };
        Self::new(code, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_and_fits_the_schema() {
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()) && code.as_str().len() <= 96, "{code:?}");
            assert!(code.as_str().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{code:?}");
        }
    }

    #[test]
    fn a_message_is_cut_at_512_characters() {
        let failure = Failure::new(Code::NotFound, "é".repeat(600));
        assert_eq!(failure.message.chars().count(), 512);
    }
}
