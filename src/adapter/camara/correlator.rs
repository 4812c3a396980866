//! `x-correlator`: what a request brings, its answer carries back, whatever the answer is.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderName;

use super::error::{Code, Failure};
use crate::protocol::problem::Problem;

const NAME: HeaderName = HeaderName::from_static("x-correlator");

/// CAMARA_common.yaml, XCorrelator: `^[a-zA-Z0-9-_:;.\/<>{}]{0,256}$`.
fn fits(text: &[u8]) -> bool {
    text.len() <= 256 && text.iter().all(|b| b.is_ascii_alphanumeric() || b"-_:;./<>{}".contains(b))
}

/// Wraps every request. The file has no correlator made up for a request without one, so none is.
pub(super) async fn correlate(mut request: Request, next: Next) -> Response {
    let mut lines = request.headers().get_all(NAME).iter();
    let correlator = match (lines.next(), lines.next()) {
        (None, _) => None,
        (Some(one), None) if fits(one.as_bytes()) => Some(one.clone()),
        _ => {
            let why = "x-correlator: at most 256 letters, digits or any of -_:;./<>{} are expected, once";
            return Failure::new(Code::InvalidArgument, why).into_response();
        }
    };
    // What the surrounding layer refuses (early data) is told in this API's words.
    let mut response = match request.extensions_mut().remove::<Problem>() {
        Some(problem) => Failure::from(problem).into_response(),
        None => next.run(request).await,
    };
    if let Some(correlator) = correlator {
        response.headers_mut().insert(NAME, correlator);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;
    use crate::protocol::problem::Code as RiptCode;

    #[tokio::test]
    async fn what_is_refused_outside_is_told_in_this_apis_words() {
        let layer = axum::middleware::from_fn(correlate);
        let router = axum::Router::new().route("/x", axum::routing::get(async || "reached")).layer(layer);
        let early = Problem::new(RiptCode::TooEarly, "send this again once the handshake is complete");
        let request = Request::get("/x").header(NAME, "c").extension(early).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 425);
        assert_eq!(response.headers()[NAME], "c");
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["status"], &body["code"]), (&425.into(), &"TOO_EARLY".into()));
    }

    #[test]
    fn a_correlator_has_the_characters_and_the_length_of_the_pattern() {
        let longest = "a".repeat(256);
        for good in ["", "b4333c46-49c0-4f62-80d7-f0ef930f1c46", "aZ09-_:;./<>{}", &longest] {
            assert!(fits(good.as_bytes()), "{good}");
        }
        let long = "a".repeat(257);
        for bad in [" ", "a b", "a,b", "\"", "\\", "a\tb", "é", "a=b", "(a)", "[a]", "%41", &long] {
            assert!(!fits(bad.as_bytes()), "{bad}");
        }
    }
}
