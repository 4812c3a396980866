//! Answers: documents, and problems with their statuses, in one place.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::protocol::problem::{Code, Problem};

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(code = self.code.as_str(), detail = self.detail, "a request failed");
        }
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = self.challenge().and_then(|text| HeaderValue::from_str(&text).ok()) {
            // `outer` adds where our metadata are.
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A JSON document.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(body) => {
            let mut response = (status, body).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => Problem::new(Code::Internal, error.to_string()).into_response(),
    }
}

/// Adds `Location`.
pub(super) fn located(mut response: Response, uri: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(uri) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// A body, up to a limit.
pub(super) async fn body(body: Body, limit: usize) -> Result<bytes::Bytes, Problem> {
    use http_body_util::BodyExt;
    let too_large = || Problem::new(Code::TooLarge, format!("a body of at most {limit} bytes is taken here"));
    let limited = http_body_util::Limited::new(body, limit);
    match limited.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::new(Code::BadRequest, "the body broke off")),
    }
}

/// A JSON body as a typed document; the problem names the member.
pub(super) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde takes an array for a struct; the wire does not.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::new(Code::BadJson, "the body is to be a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let problem = Problem::new(Code::BadJson, format!("the body can't be read: {text}"));
        match field(bytes, &text, error.line(), error.column()) {
            Some(field) => problem.field(field),
            None => problem,
        }
    })
}

/// The member that serde's message is about: the one it names, or the last one before where it stopped.
fn field(bytes: &[u8], text: &str, line: usize, column: usize) -> Option<String> {
    if let Some(rest) = text.strip_prefix("missing field `") {
        return rest.split('`').next().map(str::to_owned);
    }
    if !text.starts_with("invalid type") && !text.starts_with("unknown variant") {
        return None;
    }
    let start: usize = bytes.split(|b| *b == b'\n').take(line.saturating_sub(1)).map(|l| l.len() + 1).sum();
    let read = String::from_utf8_lossy(bytes.get(..(start + column).min(bytes.len()))?).into_owned();
    let colon = ["\":", "\" :"].into_iter().filter_map(|mark| read.rfind(mark)).max()?;
    let name = read[..colon].rsplit('"').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// No such resource.
pub(super) async fn not_found() -> Problem {
    Problem::new(
        Code::NotFound,
        "there is no such resource; GET /.well-known/ript/v1/providertgs lists the TGs",
    )
}

/// No such method.
pub(super) async fn method_not_allowed(method: http::Method, uri: http::Uri) -> Problem {
    let call = method == http::Method::DELETE && uri.path().contains("/calls/");
    // ript-core "Basic Call State Management": DELETE is not permitted on a call.
    let detail = if call {
        "a call ends by an `end` event, not by DELETE"
    } else {
        "the resource has no such method; `Allow` lists those it has"
    };
    Problem::new(Code::MethodNotAllowed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resource::{CallRequest, Claim};

    fn refused<T: serde::de::DeserializeOwned>(text: &str) -> Problem {
        parse::<T>(text.as_bytes()).err().unwrap()
    }

    #[test]
    fn a_refusal_names_the_member() {
        for (text, field) in [
            (r#"{"passport":"x"}"#, Some("destination")),
            (r#"{"passport":7,"destination":"x"}"#, Some("passport")),
            ("{\"destination\":\"x\",\n \"passport\" : {}}", Some("passport")),
            (r#"{"destination":"#, None),
            ("[]", None),
            ("", None),
        ] {
            let problem = refused::<CallRequest>(text);
            assert_eq!((problem.code, problem.field.as_deref()), (Code::BadJson, field), "{text}");
        }
        assert_eq!(refused::<Claim>(r#"{"handler":"x","intent":"steal"}"#).field.as_deref(), Some("intent"));
    }

    #[test]
    fn deep_nesting_is_refused_and_overflows_no_stack() {
        let deep = format!("{{\"destination\":{}", "[".repeat(5000));
        assert_eq!(refused::<CallRequest>(&deep).code, Code::BadJson);
    }
}
