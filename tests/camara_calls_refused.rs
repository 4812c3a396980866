//! CAMARA webrtc-call-handling: who is refused, and what; each with the status, code and body of the file.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use http::HeaderValue;
use ript::adapter::camara;
use ript::identity::jwk::SigningKey;
use ript::identity::principal::TRUNK;
use ript::identity::token::{Claims, IssuerPolicy, issue};
use ript::protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::common::camara::{CORRELATOR, DEVICE, NOWHERE, OTHER, V03, ask, create, failure, refused};
use crate::common::camara_calls::{CALL_BASES, CALL_SCOPES, CALLS, ask_as, call, caller, scopes};
use crate::common::user::token;
use crate::common::{AUDIENCE, ISSUER, World};

const ALICE: &str = "+14085550001";
const BOB: &str = "+14085550002";
const BAD: &str = "INVALID_ARGUMENT";

/// Each operation: method, path, body, scope.
fn operations(base: &str) -> [(&'static str, String, String, &'static str); 4] {
    let one = format!("{base}/sessions/{NOWHERE}");
    [
        ("POST", format!("{base}/sessions"), call(ALICE, BOB).to_string(), "create"),
        ("GET", one.clone(), String::new(), "read"),
        ("PUT", format!("{one}/status"), json!({"status": "Ringing"}).to_string(), "write"),
        ("DELETE", one, String::new(), "delete"),
    ]
}

fn claims(issuer: &str) -> Claims {
    Claims {
        issuer: issuer.into(),
        subject: "alice".into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: vec![ALICE.into()],
        tgs: vec!["test".into()],
        scopes: scopes().split_whitespace().map(str::to_owned).collect(),
        lifetime: Duration::from_secs(3600),
    }
}

/// A body with one member in another state.
fn with(mut body: Value, name: &str, value: Value) -> String {
    body[name] = value;
    body.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_takes_a_request_without_a_token_that_holds() {
    let world = World::start().await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let now = ript::clock::now();
    let long_ago = Timestamp::from_millis(now.as_millis() - 7_200_000);
    let bearer = |key: &SigningKey, at| Some(format!("Bearer {}", issue(key, &claims(ISSUER), at).unwrap()));
    let tokens = [
        None,
        Some(String::new()),
        Some(alice.token.clone()),
        Some(format!("Basic {}", alice.token)),
        Some("Bearer x.y.z".into()),
        bearer(&world.issuer, long_ago),
        bearer(&SigningKey::generate().unwrap(), now),
    ];
    for base in CALL_BASES {
        for (method, path, body, _) in operations(base) {
            for value in &tokens {
                let request = alice.bare(method, &path).header("x-correlator", CORRELATOR);
                let mut request = request.header("registrationId", &registration);
                if let Some(value) = value {
                    request = request.header("authorization", value);
                }
                let answer = alice.send(request.body(Body::from(body.clone())).unwrap()).await;
                assert_eq!(failure(&answer), refused(401, "UNAUTHENTICATED"), "{method} {path} {value:?}");
                assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
                assert_eq!(answer.header("x-correlator"), CORRELATOR);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_demands_its_scope_and_a_token_for_one_number() {
    let world = World::with(|settings| {
        let keys = settings.tokens.issuers[0].keys.clone();
        settings.tokens.issuers.push(IssuerPolicy::new(TRUNK, AUDIENCE, keys));
    })
    .await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let holding = |numbers: &[&str], scope: &str| {
        alice.with_token(token(&world.issuer, "alice", numbers, &["test"], scope))
    };
    let trunk = alice.with_token(issue(&world.issuer, &claims(TRUNK), ript::clock::now()).unwrap());
    for base in CALL_BASES {
        for (method, path, body, scope) in operations(base) {
            let all = CALL_SCOPES.split_whitespace().filter(|name| !name.ends_with(&format!(":{scope}")));
            let lacking = holding(&[ALICE], &all.collect::<Vec<_>>().join(" "));
            let answer = ask_as(&lacking, &registration, method, &path, &body).await;
            assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{method} {path}");
            let challenge = answer.header("www-authenticate");
            let name = format!("scope=\"webrtc-call-handling:sessions:{scope}\"");
            assert!(challenge.contains("insufficient_scope") && challenge.contains(&name), "{challenge}");
            for numbers in [&[][..], &["+1408*"], &["*"], &["alice@example.com"]] {
                let without = holding(numbers, CALL_SCOPES);
                let answer = ask_as(&without, &registration, method, &path, &body).await;
                assert_eq!(failure(&answer), refused(403, "INVALID_TOKEN_CONTEXT"), "{method} {numbers:?}");
            }
            let answer = ask_as(&trunk, &registration, method, &path, &body).await;
            assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_needs_an_active_registration_of_its_callers() {
    let world = World::start().await;
    let (alice, own) = caller(&world, "alice", ALICE).await;
    let (mallory, foreign) = caller(&world, "mallory", "+14085550009").await;
    let path = format!("{CALLS}/sessions");
    let body = call(ALICE, BOB).to_string();
    let send = |values: &[&[u8]]| {
        let mut request = alice.builder("POST", &path).header("x-correlator", "c");
        for value in values {
            request = request.header("registrationId", HeaderValue::from_bytes(value).unwrap());
        }
        let (alice, request) = (alice.clone(), request.body(Body::from(body.clone())).unwrap());
        async move { alice.send(request).await }
    };
    let (long, plain) = ("a".repeat(257), own.replace('-', ""));
    let hostile: [&[&[u8]]; 8] = [
        &[],
        &[b""],
        &[b"x"],
        &[b"\xff\xfe"],
        &[long.as_bytes()],
        &[plain.as_bytes()],
        &[own.as_bytes(), own.as_bytes()],
        &[b"..%2f"],
    ];
    for values in hostile {
        let answer = send(values).await;
        assert_eq!(failure(&answer), refused(400, BAD), "{values:?}");
        assert!(answer.json()["message"].as_str().unwrap().starts_with("registrationId: "), "{answer:?}");
    }
    let ended = create(&alice, V03, OTHER).await;
    assert_eq!(ask(&alice, "DELETE", &format!("{V03}/sessions/{ended}"), "").await.status, 204);
    let mut same = BTreeSet::new();
    for id in [NOWHERE, &foreign, &ended] {
        let answer = ask_as(&alice, id, "POST", &path, &body).await;
        assert_eq!(failure(&answer), refused(403, "INVALID_TOKEN_CONTEXT"), "{id}");
        same.insert(answer.body);
    }
    assert_eq!(same.len(), 1, "what is another's is as if it were not there");
    // A registration for a number that the token no longer speaks for is no good either.
    let number = ["+14085550007"];
    let moved = alice.with_token(token(&world.issuer, "alice", &number, &["test"], &scopes()));
    for from in [ALICE, number[0]] {
        let answer = ask_as(&moved, &own, "POST", &path, &call(from, BOB).to_string()).await;
        assert_eq!(failure(&answer), refused(403, "INVALID_TOKEN_CONTEXT"), "{from}");
    }
    // What is wrong with the body is said first.
    assert_eq!(failure(&ask_as(&alice, NOWHERE, "POST", &path, "{}").await), refused(400, BAD));
    for address in ["tel:+14085550009", "sip:alice@example.com", "tel:1;phone-context=+1", "urn:service:sos"]
    {
        let body = with(call(ALICE, BOB), "originatorAddress", address.into());
        let answer = ask_as(&alice, &own, "POST", &path, &body).await;
        assert_eq!(failure(&answer), refused(403, "INVALID_TOKEN_CONTEXT"), "{address}");
        assert!(answer.json()["message"].as_str().unwrap().starts_with("originatorAddress: "), "{answer:?}");
    }
    let answer = ask_as(&mallory, &foreign, "POST", &path, &body).await;
    assert_eq!(failure(&answer), refused(403, "INVALID_TOKEN_CONTEXT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emergency_calls_are_refused_where_no_route_is_configured_and_only_there() {
    let world = World::start().await;
    let route = Some("+14085551911".parse().unwrap());
    let prepared = World::with_camara(camara::Settings { emergency: route, ..Default::default() }).await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let (there, registered) = caller(&prepared, "alice", ALICE).await;
    for receiver in ["urn:service:sos", "urn:service:sos.fire", "tel:+14085550002"] {
        let mut body = call(ALICE, BOB);
        body["receiverAddress"] = receiver.into();
        body["callType"] = "EMERGENCY".into();
        body["locationDetails"] = json!({"method": "GPS"});
        let path = format!("{CALLS}/sessions");
        let answer = ask_as(&alice, &registration, "POST", &path, &body.to_string()).await;
        assert_eq!(failure(&answer), refused(501, "CALLTYPE_EMERGENCY_NOT_SUPPORTED"), "{receiver}");
        let taken = ask_as(&there, &registered, "POST", &path, &body.to_string()).await;
        assert_ne!(taken.status, 501, "{receiver} {taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_none_of_ours_are_not_there_and_none_is_no_name() {
    let world = World::start().await;
    let (alice, _) = caller(&world, "alice", ALICE).await;
    let status = json!({"status": "Ringing"}).to_string();
    for base in CALL_BASES {
        for (name, status_code, code) in [
            (String::new(), 400, BAD),
            ("a".repeat(257), 400, BAD),
            ("%FF".into(), 400, BAD),
            ("a".repeat(256), 404, "NOT_FOUND"),
            (NOWHERE.replace('-', ""), 404, "NOT_FOUND"),
            (NOWHERE.into(), 404, "NOT_FOUND"),
            ("%2e%2e%2f".into(), 404, "NOT_FOUND"),
            ("%00".into(), 404, "NOT_FOUND"),
        ] {
            let one = format!("{base}/sessions/{name}");
            for (method, path, body) in [
                ("GET", one.clone(), ""),
                ("DELETE", one.clone(), ""),
                ("PUT", format!("{one}/status"), &status),
            ] {
                let answer = ask(&alice, method, &path, body).await;
                assert_eq!(failure(&answer), refused(status_code, code), "{method} {name:.60}");
                let message = answer.json()["message"].as_str().unwrap().to_owned();
                assert!(message.starts_with("mediaSessionId: "), "{message}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_and_methods_are_refused_in_the_same_words() {
    let world = World::start().await;
    let (alice, _) = caller(&world, "alice", ALICE).await;
    for path in [
        "/webrtc-call-handling",
        "/webrtc-call-handling/",
        "/webrtc-call-handling/v0.3",
        "/webrtc-call-handling/v0.2/sessions",
        "/webrtc-call-handling/v0.3/sessions/x/y",
        "/webrtc-call-handling/v0.3/sessions/x/status/",
        "/webrtc-call-handling/v0.3//sessions",
        "/webrtc-call-handling/v0.3/Sessions",
        "/webrtc-call-handling/%FF/%00",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(failure(&ask(&alice, method, path, "").await), refused(404, "NOT_FOUND"), "{path}");
        }
    }
    for base in CALL_BASES {
        let one = format!("{base}/sessions/{NOWHERE}");
        for (path, methods, allowed) in [
            (format!("{base}/sessions"), ["GET", "PUT", "DELETE", "PATCH"], "POST"),
            (format!("{base}/sessions/"), ["POST", "PUT", "PATCH", "TRACE"], "GET,HEAD,DELETE"),
            (one.clone(), ["POST", "PUT", "PATCH", "OPTIONS"], "GET,HEAD,DELETE"),
            (format!("{one}/status"), ["GET", "POST", "DELETE", "PATCH"], "PUT"),
        ] {
            for method in methods {
                let answer = ask(&alice, method, &path, "").await;
                assert_eq!(failure(&answer), refused(405, "METHOD_NOT_ALLOWED"), "{method} {path}");
                let allow: BTreeSet<_> = answer.header("allow").split(',').map(str::trim).collect();
                assert_eq!(allow, allowed.split(',').collect(), "{method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correlator_that_breaks_its_pattern_is_refused_before_all_else() {
    let world = World::start().await;
    let (alice, _) = caller(&world, "alice", ALICE).await;
    let long = "c".repeat(257);
    for (method, path, body, _) in operations(CALLS) {
        for bad in ["a b", "a,b", "\"x\"", &long] {
            let request = alice.bare(method, &path).header("x-correlator", bad);
            let answer = alice.send(request.body(Body::from(body.clone())).unwrap()).await;
            assert_eq!(failure(&answer), refused(400, BAD), "{method} {bad}");
            assert!(answer.json()["message"].as_str().unwrap().starts_with("x-correlator: "));
            assert_eq!(answer.headers.get("x-correlator"), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_sessions_are_as_if_they_were_not_there_and_one_is_deleted_once() {
    let world = World::with_camara(camara::Settings::default()).await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let (mallory, _) = caller(&world, "mallory", "+14085550009").await;
    let body = call(ALICE, BOB).to_string();
    let made = ask_as(&alice, &registration, "POST", &format!("{CALLS}/sessions"), &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["mediaSessionId"].as_str().unwrap().to_owned();
    let status = json!({"status": "Terminated"}).to_string();
    for (method, tail, body) in [("GET", "", ""), ("DELETE", "", ""), ("PUT", "/status", status.as_str())] {
        let answer = ask(&mallory, method, &format!("{CALLS}/sessions/{id}{tail}"), body).await;
        assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{method}");
        let missing = ask(&mallory, method, &format!("{CALLS}/sessions/{NOWHERE}{tail}"), body).await;
        assert_eq!(answer.body, missing.body, "{method}");
    }
    let one = format!("{}/sessions/{id}", CALL_BASES[1]);
    assert_eq!(ask(&alice, "GET", &one, "").await.json()["mediaSessionId"], id.as_str());
    assert_eq!(ask(&alice, "DELETE", &one, "").await.status, 204);
    assert_eq!(failure(&ask(&alice, "DELETE", &one, "").await), refused(404, "NOT_FOUND"));
    let device = ask(&alice, "GET", &format!("{V03}/sessions?deviceId={DEVICE}"), "").await;
    assert_eq!(device.json().as_array().unwrap().len(), 1, "its registration stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_vouch_for_callers_says_so() {
    let world = World::start().await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let path = format!("{CALLS}/sessions");
    let answer = ask_as(&alice, &registration, "POST", &path, &call(ALICE, BOB).to_string()).await;
    assert_eq!(failure(&answer), refused(503, "UNAVAILABLE"));
    assert!(answer.json()["message"].as_str().unwrap().contains("[certs]"), "{answer:?}");
    // What is wrong with the request is said first.
    let offer = with(call(ALICE, BOB), "offer", json!({"sdp": "x"}));
    assert_eq!(failure(&ask_as(&alice, &registration, "POST", &path, &offer).await), refused(400, BAD));
}
