//! The client's one error: what went wrong, who is to blame, and what the server said about it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::audio::{AudioError, CodecError};
use super::login::LoginError;
use crate::protocol::problem::ProblemBody;
use crate::protocol::time::Timestamp;

/// Who has to act for it to go better next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The network, or a server that isn't there: another try may help.
    Network,
    /// The server: it failed, or broke the protocol.
    Server,
    /// Whoever asked: the same request will fail again.
    Caller,
}

/// A request that the server refused, or would refuse, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The stable code, for programs; empty if the server sent no problem document.
    pub code: String,
    /// What is wrong and what would be right.
    pub detail: String,
    /// The part of the request that is wrong.
    pub field: Option<String>,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
    /// The server's clock.
    pub date: Option<Timestamp>,
    /// The server was not asked: this client knows its rules.
    pub local: bool,
}

impl From<CodecError> for ClientError {
    fn from(error: CodecError) -> Self {
        Self::Audio(error.into())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code.is_empty(), self.detail.is_empty()) {
            (true, _) => write!(f, "status {}", self.status),
            (false, true) => f.write_str(&self.code),
            (false, false) => write!(f, "{}: {}", self.code, self.detail),
        }
    }
}

/// What goes wrong at a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers at the server's address.
    #[error("{server} can't be reached: {reason}")]
    Unreachable {
        /// Host and port.
        server: String,
        /// What was seen.
        reason: String,
    },
    /// The server's certificate leads to none of our roots, or names somebody else.
    #[error("{server} isn't trusted: {reason}")]
    Untrusted {
        /// Host and port.
        server: String,
        /// What TLS said.
        reason: String,
    },
    /// The connection or the stream broke under the request.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// No answer came in time.
    #[error("no answer to {what} within {after:?}")]
    Timeout {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(Box<Refusal>),
    /// The server sent what the protocol doesn't allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// Something given to the client can't be used.
    #[error("{what}: {reason}")]
    Input {
        /// What was given.
        what: String,
        /// What would be right.
        reason: String,
    },
    /// The call is over.
    #[error("the call has ended")]
    Ended,
    /// The login that the client was made with gives no more tokens.
    #[error("{0}")]
    Login(#[from] Arc<LoginError>),
    /// An audio file or codec failed.
    #[error(transparent)]
    Audio(#[from] AudioError),
}

impl ClientError {
    pub(crate) fn input(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Input { what: what.into(), reason: reason.to_string() }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unreachable { .. } | Self::Lost(_) | Self::Timeout { .. } => Blame::Network,
            Self::Refused(refusal) if refusal.status >= 500 => Blame::Server,
            Self::Protocol(_) => Blame::Server,
            Self::Login(error) => match **error {
                LoginError::Unreachable { .. } => Blame::Network,
                LoginError::Protocol { .. } => Blame::Server,
                _ => Blame::Caller,
            },
            Self::Untrusted { .. } | Self::Refused(_) | Self::Input { .. } | Self::Ended | Self::Audio(_) => {
                Blame::Caller
            }
        }
    }

    /// What the server said, if it was the server that said no.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The server's problem code, or nothing.
    pub fn code(&self) -> &str {
        self.refusal().map_or("", |refusal| &refusal.code)
    }

    /// Whether the call that was asked about is over.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended) || self.code() == "call-ended"
    }

    /// The error that an answer stands for.
    pub(crate) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let problem = serde_json::from_slice::<ProblemBody>(body).ok();
        let (code, detail, field) =
            problem.map_or_else(Default::default, |problem| (problem.code, problem.detail, problem.field));
        Self::Refused(Box::new(Refusal {
            status: status.as_u16(),
            code,
            detail,
            field,
            retry_after: text(http::header::RETRY_AFTER)
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
            date: text(http::header::DATE).and_then(http_date),
            local: false,
        }))
    }
}

/// RFC 9110 §5.6.7, the one form that may be sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    use time::macros::format_description;
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = time::PrimitiveDateTime::parse(text, form).ok()?.assume_utc();
    Some(Timestamp::from_millis(u64::try_from(at.unix_timestamp()).ok()? * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_the_servers_words_and_clock() {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        headers.insert("retry-after", "2".parse().unwrap());
        let body = br#"{"code":"passport-stale","detail":"iat is 90 s off","status":403}"#;
        let error = ClientError::from_answer(StatusCode::FORBIDDEN, &headers, body);
        assert_eq!((error.code(), error.blame()), ("passport-stale", Blame::Caller));
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.date.unwrap().as_secs(), 784_111_777);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(2)));
        assert_eq!(error.to_string(), "the server refused: passport-stale: iat is 90 s off");
    }

    #[test]
    fn an_answer_without_a_problem_document_still_says_its_status() {
        let error = ClientError::from_answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>");
        assert_eq!((error.code(), error.blame()), ("", Blame::Server));
        assert_eq!(error.to_string(), "the server refused: status 502");
    }
}
