//! Where the browser comes back to: one path on a port of this machine (RFC 8252 §7.3).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, StatusCode, header};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::{LoginError, Secret};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the browser may take to read its last page.
const FAREWELL: Duration = Duration::from_secs(1);

/// What an answer has to fit.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) state: Secret,
    pub(super) issuer: String,
}

/// RFC 6749 §4.1.2; a parameter that comes twice makes it unreadable, as §3.1 wants.
#[derive(Debug, Deserialize)]
struct Answer {
    state: Option<Secret>,
    code: Option<Secret>,
    error: Option<String>,
    error_description: Option<String>,
    iss: Option<String>,
}

type Verdict = Result<Secret, LoginError>;

#[derive(Clone, Debug)]
struct Desk {
    expected: Arc<Expected>,
    out: mpsc::Sender<Verdict>,
}

/// The code that the browser brings; an answer to somebody else's question is refused, and waited past.
pub(super) async fn code(listener: TcpListener, expected: Expected) -> Verdict {
    let (out, mut answers) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let desk = Desk { expected: Arc::new(expected), out };
    let router = Router::new().route("/callback", get(callback)).with_state(desk);
    let serving = axum::serve(listener, router).with_graceful_shutdown(async {
        // Either way it is over.
        let _ = stopped.await;
    });
    let mut serving = Box::pin(serving.into_future());
    let verdict = tokio::select! {
        verdict = answers.recv() => verdict.unwrap_or(Err(LoginError::TimedOut)),
        () = tokio::time::sleep(PATIENCE) => Err(LoginError::TimedOut),
        served = &mut serving => {
            let reason = served.err().map_or_else(String::new, |error| error.to_string());
            return Err(LoginError::local("the port that the browser comes back to", reason));
        }
    };
    drop(stop);
    // The page is a courtesy.
    let _ = tokio::time::timeout(FAREWELL, serving).await;
    verdict
}

async fn callback(State(desk): State<Desk>, Query(answer): Query<Answer>) -> Response {
    // RFC 6749 §10.12: without our state, the answer isn't to our question.
    if answer.state.as_ref() != Some(&desk.expected.state) {
        return page(StatusCode::BAD_REQUEST, "This is not the login that ript waits for.");
    }
    // RFC 9207 §2.4: an answer in another provider's name.
    if answer.iss.as_ref().is_some_and(|iss| *iss != desk.expected.issuer) {
        return page(StatusCode::BAD_REQUEST, "This answer comes from another identity provider.");
    }
    let (status, text, verdict) = match (answer.code, answer.error) {
        (Some(code), None) => (StatusCode::OK, "You can close this page and go back to ript.", Ok(code)),
        (_, Some(code)) => {
            let detail = answer.error_description.unwrap_or_default();
            let refused = LoginError::Refused { code, detail };
            (StatusCode::OK, "The login was refused; ript tells more.", Err(refused))
        }
        (None, None) => return page(StatusCode::BAD_REQUEST, "This answer holds neither code nor error."),
    };
    // A second answer changes nothing.
    let _ = desk.out.try_send(verdict);
    page(status, text)
}

fn page(status: StatusCode, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        // The code stands in this page's address.
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    (status, headers, format!("<!doctype html><title>ript</title><p>{text}")).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: std::net::SocketAddr, query: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {query} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn waiting() -> (std::net::SocketAddr, tokio::task::JoinHandle<Verdict>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let expected = Expected { state: Secret::new("right"), issuer: "https://id.example".into() };
        (address, tokio::spawn(code(listener, expected)))
    }

    #[tokio::test]
    async fn a_wrong_state_is_refused_and_the_right_one_still_counts() {
        let (address, waiting) = waiting().await;
        for wrong in [
            "/callback?code=evil&state=wrong",
            "/callback?code=evil",
            "/callback?error=access_denied&state=wrong",
            "/callback?code=evil&state=right&iss=https%3A%2F%2Fevil.example",
            "/callback?state=right",
            "/callback?state=right&state=right&code=evil",
        ] {
            let answer = ask(address, wrong).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{wrong}: {answer}");
        }
        assert!(ask(address, "/other?code=evil&state=right").await.starts_with("HTTP/1.1 404 "));
        let right = "/callback?code=good&state=right&iss=https%3A%2F%2Fid.example";
        let answer = ask(address, right).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("good"), "{answer}");
        assert_eq!(waiting.await.unwrap().unwrap().expose(), "good");
        tokio::net::TcpStream::connect(address).await.unwrap_err();
    }

    #[tokio::test]
    async fn the_providers_refusal_ends_the_wait() {
        let (address, waiting) = waiting().await;
        ask(address, "/callback?error=access_denied&error_description=not+you&state=right").await;
        match waiting.await.unwrap() {
            Err(LoginError::Refused { code, detail }) => {
                assert_eq!((code.as_str(), detail.as_str()), ("access_denied", "not you"));
            }
            other => panic!("{other:?}"),
        }
    }
}
