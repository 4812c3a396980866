//! Every route demands a token that holds, for what it does, from whom it belongs to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use ript::identity::jwk::SigningKey;
use ript::identity::token::{Claims, issue};
use ript::transport::client::ClientError;
use ript::transport::session::SessionSink;
use serde_json::{Value, json};

use crate::common::camara::{self, failure, refused};
use crate::common::user::{ALL_SCOPES, Answer, User, encode, token};
use crate::common::{AUDIENCE, ISSUER, World, soon};

struct Deaf;

impl SessionSink for Deaf {
    fn on_datagram(&self, _: u64, _: Bytes) {}
    fn on_stream(&self, _: u64, _: Bytes) {}
    fn on_closed(&self, _: u64) {}
}

/// A route: method, path, body, and the code for somebody else's valid token (none: it works for anybody).
pub type Route = (&'static str, String, &'static str, Option<&'static str>);

pub fn routes(call: &str, handler: &str) -> Vec<Route> {
    let h = encode(handler);
    let event = r#"{"event":"ping"}"#;
    let device = r#"{"handler-id":"a1","advertisement":"1 out: opus;"}"#;
    vec![
        ("GET", "providertgs".into(), "", None),
        ("GET", "providertgs/test".into(), "", None),
        ("GET", "providertgs/test/handlers".into(), "", None),
        ("POST", "providertgs/test/handlers".into(), device, None),
        ("GET", handler.into(), "", Some("not-found")),
        ("PUT", handler.into(), device, Some("not-found")),
        ("DELETE", handler.into(), "", Some("not-found")),
        ("POST", "providertgs/test/certs".into(), "x", Some("not-found")),
        ("GET", "consumertgs".into(), "", None),
        ("POST", "consumertgs".into(), "{}", None),
        ("PUT", "customertgs".into(), "{}", None),
        ("GET", "providertgs/test/consumertgs".into(), "", None),
        ("POST", "providertgs/test/consumertgs".into(), "{}", None),
        ("PUT", "providertgs/test/customertgs".into(), "{}", None),
        ("GET", "consumertgs/x".into(), "", Some("not-found")),
        ("PUT", "consumertgs/x".into(), "{}", Some("not-found")),
        ("DELETE", "consumertgs/x".into(), "", Some("not-found")),
        ("GET", "providertgs/test/calls".into(), "", None),
        ("POST", "providertgs/test/calls".into(), "{}", None),
        ("GET", call.into(), "", Some("not-found")),
        ("GET", format!("{call}?handler={h}"), "", Some("not-found")),
        ("POST", call.into(), "", Some("not-found")),
        ("POST", call.into(), r#"{"handler":"a1","intent":"pull"}"#, Some("not-found")),
        ("GET", format!("{call}/events?handler={h}"), "", Some("not-found")),
        ("PUT", format!("{call}/events?handler={h}"), event, Some("not-found")),
        ("PUT", format!("{call}/media?handler={h}"), "", Some("no-such-handler")),
        ("GET", format!("{call}/media?handler={h}"), "", Some("no-such-handler")),
        ("PUT", format!("{call}/media?handler=a1"), "", Some("not-found")),
        ("GET", format!("{call}/media?handler=a1"), "", Some("not-found")),
        ("GET", format!("push?handler={h}"), "", Some("no-such-handler")),
        ("POST", format!("push/tickets?handler={h}"), "", Some("no-such-handler")),
    ]
}

const STATUSES: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create";
const INVITATIONS: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create";
const ENDS: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create";

/// An operation of CAMARA's: method, path, and the scopes of which one is enough; a refusal names the first. Their
/// answers are in their own words, and bodies come after tokens.
pub type Camara = (&'static str, &'static str, &'static [&'static str]);

pub const CAMARA: &[Camara] = &[
    ("GET", "/webrtc-registration/{v}/sessions", &["webrtc-registration:sessions:read"]),
    ("POST", "/webrtc-registration/{v}/sessions", &["webrtc-registration:sessions:create"]),
    ("GET", "/webrtc-registration/{v}/sessions/{id}", &["webrtc-registration:sessions:read"]),
    ("PUT", "/webrtc-registration/{v}/sessions/{id}", &["webrtc-registration:sessions:write"]),
    ("DELETE", "/webrtc-registration/{v}/sessions/{id}", &["webrtc-registration:sessions:delete"]),
    ("POST", "/webrtc-call-handling/{v}/sessions", &["webrtc-call-handling:sessions:create"]),
    ("GET", "/webrtc-call-handling/{v}/sessions/{id}", &["webrtc-call-handling:sessions:read"]),
    ("DELETE", "/webrtc-call-handling/{v}/sessions/{id}", &["webrtc-call-handling:sessions:delete"]),
    ("PUT", "/webrtc-call-handling/{v}/sessions/{id}/status", &["webrtc-call-handling:sessions:write"]),
    ("GET", "/webrtc-events/{v}/subscriptions", &["webrtc-events:read"]),
    ("POST", "/webrtc-events/{v}/subscriptions", &[STATUSES, INVITATIONS, ENDS]),
    ("GET", "/webrtc-events/{v}/subscriptions/{id}", &["webrtc-events:read"]),
    ("PUT", "/webrtc-events/{v}/subscriptions/{id}", &["webrtc-events:update"]),
    ("DELETE", "/webrtc-events/{v}/subscriptions/{id}", &["webrtc-events:delete"]),
    ("GET", "/webrtc-events/{v}/channels/{id}", &[INVITATIONS, STATUSES, ENDS]),
];

/// The generation of 2023: the current scope of the same act, or the files' own.
pub const CAMARA_2023: &[Camara] = &[
    ("POST", "/racm/v1/tel:+14085550001/session", &["webrtc-registration:sessions:create", "write"]),
    ("PUT", "/racm/v1/tel:+14085550001/session/{id}", &["webrtc-registration:sessions:write", "write"]),
    ("DELETE", "/racm/v1/tel:+14085550001/session/{id}", &["webrtc-registration:sessions:delete", "write"]),
    ("POST", "/vvoip/v1/tel:+14085550001/sessions", &["webrtc-call-handling:sessions:create", "write"]),
    ("GET", "/vvoip/v1/tel:+14085550001/sessions/{id}", &["webrtc-call-handling:sessions:read", "read"]),
    (
        "DELETE",
        "/vvoip/v1/tel:+14085550001/sessions/{id}",
        &["webrtc-call-handling:sessions:delete", "write"],
    ),
    (
        "PUT",
        "/vvoip/v1/tel:+14085550001/sessions/{id}/status",
        &["webrtc-call-handling:sessions:write", "write"],
    ),
    ("GET", "/notificationchannel/v1/{id}/channels", &["webrtc-events:read", "read"]),
    ("POST", "/notificationchannel/v1/{id}/channels", &[INVITATIONS, STATUSES, ENDS, "write"]),
];

/// All of these, at the paths of each of their versions.
pub fn camara() -> Vec<(&'static str, String, &'static [&'static str])> {
    let versions = |path: &str| match path {
        path if path.contains("webrtc-events") => &["v0.3", "v0.2", "vwip"][..],
        path if path.contains("{v}") => &["v0.3", "vwip"],
        _ => &[""],
    };
    let all = CAMARA.iter().chain(CAMARA_2023).flat_map(|(method, path, scopes)| {
        let at = |version: &&str| path.replace("{v}", version).replace("{id}", camara::NOWHERE);
        versions(path).iter().map(move |version| (*method, at(version), *scopes))
    });
    all.collect()
}

async fn ask(user: &User, route: &Route) -> Answer {
    let (method, path, body, _) = route;
    if body.is_empty() && *method == "GET" {
        return user.get(path).await;
    }
    user.with_body(method, path, *body).await
}

async fn connect(
    user: &User,
    call: &str,
    handler: &str,
    authorization: Option<String>,
) -> (u16, Value, HeaderMap) {
    let mut headers = HeaderMap::new();
    if let Some(value) = authorization {
        headers.insert("authorization", value.parse().unwrap());
    }
    let uri = format!("{call}/media?handler={}", encode(handler)).parse().unwrap();
    match soon("the session's answer", user.client.open_session(uri, headers, Arc::new(Deaf))).await {
        Err(ClientError::Refused { status, headers, body }) => {
            (status.as_u16(), serde_json::from_slice(&body).unwrap(), *headers)
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn claims(subject: &str) -> Claims {
    Claims {
        issuer: ISSUER.into(),
        subject: subject.into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: vec!["+14085550001".into()],
        tgs: vec!["test".into()],
        scopes: ALL_SCOPES.split(' ').map(str::to_owned).collect(),
        lifetime: Duration::from_secs(3600),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_takes_a_request_without_a_token_that_holds() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    let now = ript::clock::now();
    let long_ago = ript::protocol::time::Timestamp::from_millis(now.as_millis() - 7_200_000);
    let foreign = SigningKey::generate().unwrap();
    let good = claims("alice");
    let bad = [
        ("none", None),
        ("empty", Some(String::new())),
        ("basic", Some("Basic YTpi".into())),
        ("garbage", Some("Bearer x.y.z".into())),
        ("not ASCII", Some("Bearer é".into())),
        ("a PASSporT", Some(format!("Bearer {}", alice.passport("+14085550002")))),
        ("expired", Some(format!("Bearer {}", issue(&world.issuer, &good, long_ago).unwrap()))),
        (
            "audience",
            Some(format!(
                "Bearer {}",
                issue(&world.issuer, &Claims { audience: "else".into(), ..good.clone() }, now).unwrap()
            )),
        ),
        (
            "issuer",
            Some(format!(
                "Bearer {}",
                issue(&world.issuer, &Claims { issuer: "urn:else".into(), ..good.clone() }, now).unwrap()
            )),
        ),
        ("key", Some(format!("Bearer {}", issue(&foreign, &good, now).unwrap()))),
    ];
    for (name, value) in &bad {
        for (method, path, body, _) in routes(&call, &a1) {
            let mut request = alice.bare(method, &path).header("content-length", body.len());
            if let Some(value) = value {
                request =
                    request.header("authorization", http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let answer = alice.send(request.body(Body::from(body)).unwrap()).await;
            assert_eq!(answer.problem(), (401, "unauthorized".into()), "{name}: {method} {path}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{name}: {method} {path}");
            assert!(answer.header("date").ends_with("GMT"), "{name}: {method} {path}");
        }
        if name.is_ascii() && *name != "not ASCII" {
            let (status, problem, headers) = connect(&alice, &call, &a1, value.clone()).await;
            assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{name}: CONNECT");
            assert!(headers.contains_key("www-authenticate") && headers.contains_key("date"), "{name}");
        }
    }
    // Nothing of all that did anything.
    assert_eq!(alice.get(&call).await.json()["state"], "answered");
    assert_eq!(bob.get(&incoming).await.json()["state"], "answered");
    assert_eq!(alice.get(&a1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_demands_its_scope() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let scoped = |scope| alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &["test"], scope));
    let (none, calls, handlers) = (scoped("other"), scoped("ript:calls"), scoped("ript:handlers"));
    for route in routes(&call, &a1) {
        let (method, path, _, _) = &route;
        if path.starts_with("providertgs") && !path.contains("test/") {
            // What may be used is told to any holder of a token.
            assert_eq!(ask(&none, &route).await.status, 200, "{method} {path}");
            continue;
        }
        let wrong = if path.contains("/handlers") { &calls } else { &handlers };
        for user in [&none, wrong] {
            let answer = ask(user, &route).await;
            assert_eq!(answer.problem(), (403, "scope".into()), "{method} {path}");
            assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{method} {path}");
            assert!(!answer.header("date").is_empty(), "{method} {path}");
        }
    }
    let (status, problem, _) = connect(&none, &call, &a1, Some(format!("Bearer {}", none.token))).await;
    assert_eq!((status, &problem["code"]), (403, &json!("scope")));
    assert_eq!(alice.get(&a1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_others_is_as_if_it_were_not_there() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let mallory = world.user("mallory", "+14085550009").await;
    let own = mallory.register("a1", crate::common::user::BOTH).await;
    // Same body for what is another's and for what is nowhere.
    let nowhere = call.rsplit_once('/').unwrap().0.to_owned() + "/00000000-0000-4000-8000-000000000000";
    for (route, missing) in routes(&call, &a1).into_iter().zip(routes(&nowhere, &a1)) {
        let Some(code) = route.3 else { continue };
        let answer = ask(&mallory, &route).await;
        assert_eq!(answer.problem(), (404, code.into()), "{} {}", route.0, route.1);
        assert_eq!(answer.body, ask(&mallory, &missing).await.body, "{} {}", route.0, route.1);
    }
    let bearer = Some(format!("Bearer {}", mallory.token));
    for (handler, code) in [(&a1, "no-such-handler"), (&own, "not-found")] {
        let (status, problem, _) = connect(&mallory, &call, handler, bearer.clone()).await;
        assert_eq!((status, &problem["code"]), (404, &json!(code)));
    }
    assert_eq!(mallory.calls().await, Vec::<String>::new());
    // The other side of a call doesn't see this side's URI either.
    assert_eq!(bob.get(&call).await.problem(), (404, "not-found".into()));
    assert_eq!(alice.get(&call).await.json()["state"], "answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_the_tg_reaches_nothing_below_it() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let other = alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &["other"], ALL_SCOPES));
    for route in routes(&call, &a1) {
        let (method, path, _, _) = &route;
        if path == "providertgs" || path == "consumertgs" || path == "customertgs" || path.starts_with("push")
        {
            continue;
        }
        let answer = ask(&other, &route).await;
        assert_eq!(answer.problem(), (404, "not-found".into()), "{method} {path}");
    }
    let (status, problem, _) = connect(&other, &call, &a1, Some(format!("Bearer {}", other.token))).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not-found")));
    assert_eq!(alice.get(&a1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn camaras_operations_demand_a_token_and_each_one_of_its_scopes() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let operations = camara();
    let all: BTreeSet<&str> = operations.iter().flat_map(|(_, _, scopes)| scopes.iter().copied()).collect();
    for (method, path, scopes) in &operations {
        let bare = alice.send(alice.bare(method, path).body(Body::empty()).unwrap()).await;
        assert_eq!(failure(&bare), refused(401, "UNAUTHENTICATED"), "{method} {path}");
        assert!(bare.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
        let holding = |scopes: Vec<&str>| {
            alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &[], &scopes.join(" ")))
        };
        let others = holding(all.iter().copied().filter(|other| !scopes.contains(other)).collect());
        let answer = camara::ask(&others, method, path, "").await;
        assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{method} {path}");
        assert!(answer.header("www-authenticate").contains(scopes[0]), "{method} {path}");
        // With one alone, what is refused is something else.
        for scope in *scopes {
            let answer = camara::ask(&holding(vec![scope]), method, path, "").await;
            assert!(![401, 403].contains(&answer.status.as_u16()), "{method} {path} {scope} {answer:?}");
        }
    }
}
