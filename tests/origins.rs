//! Pages: CORS for the configured origin, and none for others where CORS is no guard.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use ript::transport::client::ClientError;
use ript::transport::session::SessionSink;
use serde_json::{Value, json};

use crate::common::h1h2::Version;
use crate::common::user::{User, encode};
use crate::common::{World, soon};

const APP: &str = "https://app.example";
const EVIL: &str = "https://evil.example";

struct Deaf;

impl SessionSink for Deaf {
    fn on_datagram(&self, _: u64, _: Bytes) {}
    fn on_stream(&self, _: u64, _: Bytes) {}
    fn on_closed(&self, _: u64) {}
}

async fn session(user: &User, call: &str, origin: Option<&str>) -> Result<(), (u16, Value, HeaderMap)> {
    let read = user.get(&format!("{call}?handler=a1")).await.json();
    let mut headers = HeaderMap::new();
    if let Some(origin) = origin {
        headers.insert("origin", origin.parse().unwrap());
    }
    let uri = read["media"]["webtransport"].as_str().unwrap().parse().unwrap();
    match soon("the session", user.client.open_session(uri, headers, Arc::new(Deaf))).await {
        Ok(session) => {
            session.close(0, "");
            Ok(())
        }
        Err(ClientError::Refused { status, headers, body }) => {
            Err((status.as_u16(), serde_json::from_slice(&body).unwrap(), *headers))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_for_native_clients_our_own_pages_and_configured_ones() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    for origin in [None, Some(APP), Some(&world.url()[..])] {
        assert!(session(&alice, &call, origin).await.is_ok(), "{origin:?}");
    }
    for origin in [EVIL, "null", "https://app.example.evil", "http://app.example", "https://127.0.0.1", ""] {
        let (status, problem, headers) = session(&alice, &call, Some(origin)).await.err().unwrap();
        assert_eq!((status, &problem["code"]), (403, &json!("origin")), "{origin}");
        assert!(headers.contains_key("date") && !headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_opens_no_websocket() {
    let world = World::start().await;
    let (alice, _, _, _) = world.pair().await;
    let tcp = world.user_over(Version::Http1, "alice", "+14085550001").await;
    for (origin, status) in [(EVIL, 403), ("null", 403), (APP, 101), (&world.url(), 101)] {
        let ticket = alice.with_body("POST", "push/tickets?handler=a1", "").await.json()["ticket"].clone();
        let path = format!("push?ticket={}", ticket.as_str().unwrap());
        let request = tcp.bare("GET", &path).header("origin", origin).header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
        let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let answer = tcp.begin(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), status, "{origin}");
        if status == 403 {
            let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], "origin");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_page_reads_answers_and_a_foreign_one_does_not() {
    let world = World::start().await;
    let (alice, a1, _, _) = world.pair().await;
    let from = |origin: &str, method: &str, path: &str| alice.bare(method, path).header("origin", origin);
    let bearer = format!("Bearer {}", alice.token);
    for (path, token, status) in [
        ("providertgs", true, 200),
        ("providertgs", false, 401),
        ("nowhere", true, 404),
        (&a1[..], true, 200),
    ] {
        for origin in [APP, EVIL] {
            let mut request = from(origin, "GET", path);
            if token {
                request = request.header("authorization", &bearer);
            }
            let answer = alice.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, status);
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed, if origin == APP { APP } else { "" }, "{path}");
            if origin == APP {
                let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
                for name in ["location", "etag", "date"] {
                    assert!(exposed.split(", ").any(|e| e == name), "{exposed}");
                }
                assert!(answer.header("vary").to_ascii_lowercase().contains("origin"));
            }
        }
    }
    let preflight = |origin: &str, path: &str| {
        let request = from(origin, "OPTIONS", path).header("access-control-request-method", "PUT");
        request
            .header("access-control-request-headers", "authorization,if-match")
            .body(Body::empty())
            .unwrap()
    };
    for path in ["providertgs/test/calls", &format!("push?handler={}", encode(&a1))] {
        let allowed = alice.send(preflight(APP, path)).await;
        assert!(allowed.status.is_success());
        assert_eq!(allowed.header("access-control-allow-origin"), APP);
        for method in ["GET", "POST", "PUT", "DELETE"] {
            assert!(allowed.header("access-control-allow-methods").contains(method));
        }
        let names = allowed.header("access-control-allow-headers").to_ascii_lowercase();
        for name in ["authorization", "content-type", "if-match", "idempotency-key", "last-event-id"] {
            assert!(names.contains(name), "{name}");
        }
        let refused = alice.send(preflight(EVIL, path)).await;
        assert_eq!(refused.headers.get("access-control-allow-origin"), None);
    }
}
