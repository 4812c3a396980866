//! CAMARA webrtc-events: who is refused, and what; each with the status, code and body of the file.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use http::HeaderValue;
use ript::identity::jwk::SigningKey;
use ript::identity::principal::TRUNK;
use ript::identity::token::{Claims, IssuerPolicy, issue};
use ript::protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::common::camara::{CORRELATOR, DEVICE, NOWHERE, V03, after, ask, create, failure, refused};
use crate::common::events::{
    ENDS, EVENT_SCOPES, EVENTS, HOOK, INVITATION, STATUS, credential, scope, subscribe, user, wanted, with,
    with_scopes,
};
use crate::common::{AUDIENCE, ISSUER, World};

const BAD: &str = "INVALID_ARGUMENT";

/// Each operation: method, path, body, and the scopes of which one is needed.
fn operations(base: &str, id: &str) -> [(&'static str, String, String, Vec<String>); 6] {
    let (all, one) = (format!("{base}/subscriptions"), format!("{base}/subscriptions/{id}"));
    let create = [STATUS, INVITATION, ENDS].map(scope).to_vec();
    let text = |scope: &str| vec![format!("webrtc-events:{scope}")];
    [
        ("POST", all.clone(), wanted(ENDS, "https://other.example/").to_string(), create),
        ("GET", all.clone(), String::new(), text("read")),
        ("GET", one.clone(), String::new(), text("read")),
        ("PUT", one.clone(), "{}".into(), text("update")),
        ("DELETE", one, String::new(), text("delete")),
        ("DELETE", format!("{all}/"), String::new(), text("delete")),
    ]
}

fn scopes_but(lacking: &[String]) -> String {
    let all = EVENT_SCOPES.split_whitespace().filter(|name| !lacking.iter().any(|one| one == name));
    all.collect::<Vec<_>>().join(" ")
}

fn claims() -> Claims {
    Claims {
        issuer: ISSUER.into(),
        subject: "alice".into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: vec!["+14085550001".into()],
        tgs: vec![],
        scopes: EVENT_SCOPES.split_whitespace().map(str::to_owned).collect(),
        lifetime: Duration::from_secs(3600),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_takes_a_request_without_a_token_that_holds() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    let made = subscribe(&alice, EVENTS[0], &wanted(ENDS, HOOK)).await;
    let now = ript::clock::now();
    let long_ago = Timestamp::from_millis(now.as_millis() - 7_200_000);
    let bearer = |key: &SigningKey, at| Some(format!("Bearer {}", issue(key, &claims(), at).unwrap()));
    let tokens = [
        None,
        Some(String::new()),
        Some(alice.token.clone()),
        Some(format!("Basic {}", alice.token)),
        Some("Bearer x.y.z".into()),
        bearer(&world.issuer, long_ago),
        bearer(&SigningKey::generate().unwrap(), now),
    ];
    for base in EVENTS {
        for (method, path, body, _) in operations(base, made["id"].as_str().unwrap()) {
            for value in &tokens {
                let mut request = alice.bare(method, &path).header("x-correlator", CORRELATOR);
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
    assert_eq!(ask(&alice, "GET", &format!("{}/subscriptions", EVENTS[0]), "").await.json(), json!([made]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_demands_its_scope_before_it_looks_at_anything_else() {
    let world = World::with(|settings| {
        let keys = settings.tokens.issuers[0].keys.clone();
        settings.tokens.issuers.push(IssuerPolicy::new(TRUNK, AUDIENCE, keys));
    })
    .await;
    let alice = user(&world, "alice", "+14085550001").await;
    create(&alice, V03, DEVICE).await;
    let made = subscribe(&alice, EVENTS[0], &wanted(ENDS, HOOK)).await;
    let trunk = Claims { issuer: TRUNK.into(), subject: "peer".into(), ..claims() };
    let trunk = alice.with_token(issue(&world.issuer, &trunk, ript::clock::now()).unwrap());
    for base in EVENTS {
        for (method, path, body, scopes) in operations(base, made["id"].as_str().unwrap()) {
            let lacking = with_scopes(&world, &alice, "alice", &scopes_but(&scopes));
            for body in [body.as_str(), "[]"] {
                let answer = ask(&lacking, method, &path, body).await;
                assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{method} {path}");
                let challenge = answer.header("www-authenticate");
                assert!(challenge.contains("insufficient_scope") && challenge.contains(&scopes[0]));
            }
            assert_eq!(failure(&ask(&trunk, method, &path, "").await), refused(403, "PERMISSION_DENIED"));
        }
        // A token for one type subscribes to that type and to no other.
        for own in [STATUS, INVITATION, ENDS] {
            let only = with_scopes(&world, &alice, "alice", &scope(own));
            for event_type in [STATUS, INVITATION, ENDS] {
                let all = format!("{base}/subscriptions");
                let mut body = wanted(event_type, &format!("https://{}.example/", own.len()));
                body["sink"] = json!("http://never.example/");
                let answer = ask(&only, "POST", &all, &body.to_string()).await;
                let expected = match event_type == own {
                    true => refused(400, "INVALID_SINK"),
                    false => refused(403, "SUBSCRIPTION_MISMATCH"),
                };
                assert_eq!(failure(&answer), expected, "{own} {event_type}");
                body["types"] = json!([own, event_type]);
                body["sink"] = json!(HOOK);
                let answer = ask(&only, "POST", &all, &body.to_string()).await;
                let expected = match event_type == own {
                    true => refused(422, "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED"),
                    false => refused(403, "SUBSCRIPTION_MISMATCH"),
                };
                assert_eq!(failure(&answer), expected, "{own} {event_type}");
            }
        }
    }
    assert_eq!(ask(&alice, "GET", &format!("{}/subscriptions", EVENTS[0]), "").await.json(), json!([made]));
}

fn without(path: &[&str]) -> String {
    let mut body: Value = serde_json::from_str(&with(&["x"], Value::Null)).unwrap();
    let (last, before) = path.split_last().unwrap();
    let mut at = &mut body;
    for name in before {
        at = &mut at[*name];
    }
    at.as_object_mut().unwrap().remove(*last).unwrap();
    body.to_string()
}

/// What breaks the schema of sinkCredential, and the code that says so.
fn credentials() -> Vec<(Value, &'static str)> {
    let whole = credential("to.ken", after(3600));
    let with = |name: &str, value: Value| {
        let mut whole = whole.clone();
        whole[name] = value;
        whole
    };
    let without = |name: &str| {
        let mut whole = whole.clone();
        whole.as_object_mut().unwrap().remove(name);
        whole
    };
    vec![
        (Value::Null, BAD),
        (json!("to.ken"), BAD),
        (json!([]), BAD),
        (json!({}), "INVALID_CREDENTIAL"),
        (without("credentialType"), "INVALID_CREDENTIAL"),
        (with("credentialType", json!("PLAIN")), "INVALID_CREDENTIAL"),
        (with("credentialType", json!("PRIVATE_KEY_JWT")), "INVALID_CREDENTIAL"),
        (with("credentialType", json!("accesstoken")), "INVALID_CREDENTIAL"),
        (with("credentialType", json!(7)), "INVALID_CREDENTIAL"),
        (without("accessTokenType"), BAD),
        (with("accessTokenType", json!("Bearer")), "INVALID_TOKEN"),
        (with("accessTokenType", json!("mac")), "INVALID_TOKEN"),
        (with("accessTokenType", Value::Null), "INVALID_TOKEN"),
        (without("accessToken"), BAD),
        (with("accessToken", json!(7)), BAD),
        (with("accessToken", json!("x".repeat(8193))), BAD),
        (with("accessToken", json!("")), "INVALID_TOKEN"),
        (with("accessToken", json!("a b")), "INVALID_TOKEN"),
        (with("accessToken", json!("a\r\nx-b: c")), "INVALID_TOKEN"),
        (with("accessToken", json!("é")), "INVALID_TOKEN"),
        (without("accessTokenExpiresUtc"), BAD),
        (with("accessTokenExpiresUtc", json!(1_900_000_000)), BAD),
        (with("accessTokenExpiresUtc", json!("2099-01-01")), BAD),
        (with("accessTokenExpiresUtc", json!("2099-01-01T00:00:00")), BAD),
        (with("accessTokenExpiresUtc", json!("2020-01-01T00:00:00Z")), "OUT_OF_RANGE"),
    ]
}

fn times() -> Vec<(Value, &'static str)> {
    vec![
        (Value::Null, BAD),
        (json!(1_800_000_000), BAD),
        (json!({}), BAD),
        ("".into(), BAD),
        ("tomorrow".into(), BAD),
        ("2099-01-01T00:00:00".into(), BAD),
        (format!("2099-01-01T00:00:00.{}Z", "0".repeat(60)).into(), BAD),
        ("2020-01-01T00:00:00Z".into(), "OUT_OF_RANGE"),
        ("1930-01-01T00:00:00Z".into(), "OUT_OF_RANGE"),
    ]
}

/// Bodies that are no JSON object, are too deep or too large.
fn anything() -> Vec<String> {
    let deep = |open: &str, close: &str| format!("{{\"x\":{}{}}}", open.repeat(5000), close.repeat(5000));
    let plain = ["", "[]", "null", "7", "\"x\"", "{", "{'a':1}", " ", "{\"a\":1e999}", "{}{}", "\0"];
    plain
        .map(str::to_owned)
        .into_iter()
        .chain([deep("[", "]"), deep("{\"x\":", "}"), "[".repeat(5000)])
        .chain([format!("{{\"x\":\"{}\"}}", "x".repeat(65_536)), " ".repeat(1_000_000)])
        .collect()
}

/// What no subscription is made of, with its code and the field that is named.
fn bodies() -> Vec<(String, &'static str, &'static str)> {
    let header = |name: &str, value: Value| with(&["protocolSettings"], json!({"headers": {name: value}}));
    let mut bodies = vec![
        ("{}".to_owned(), BAD, "types"),
        (without(&["types"]), BAD, "types"),
        (with(&["types"], json!([])), BAD, "types"),
        (with(&["types"], json!(INVITATION)), BAD, "types"),
        (with(&["types"], json!([7])), BAD, "types"),
        (with(&["types"], json!([INVITATION, INVITATION, INVITATION, INVITATION])), BAD, "types"),
        (with(&["types"], json!(["org.camaraproject.webrtc-events.v0.subscription-ended"])), BAD, "types"),
        (with(&["types"], json!(["org.camaraproject.webrtc-events.v1.session-status"])), BAD, "types"),
        (without(&["protocol"]), BAD, "protocol"),
        (with(&["protocol"], json!(["HTTP"])), BAD, "protocol"),
        (with(&["protocol"], json!("http")), "INVALID_PROTOCOL", "protocol"),
        (with(&["protocol"], json!("MQTT5")), "INVALID_PROTOCOL", "protocol"),
        (without(&["sink"]), BAD, "sink"),
        (with(&["sink"], json!({"url": HOOK})), BAD, "sink"),
        (without(&["config"]), BAD, "config"),
        (with(&["config"], json!([])), BAD, "config"),
        (with(&["config"], json!({})), BAD, "config.subscriptionDetail"),
        (with(&["config", "subscriptionDetail"], json!("x")), BAD, "config.subscriptionDetail"),
        (with(&["config", "subscriptionDetail"], json!({})), BAD, "deviceId"),
        (with(&["config", "initialEvent"], json!("true")), BAD, "config.initialEvent"),
        (with(&["protocolSettings"], json!([])), BAD, "protocolSettings"),
        (with(&["protocolSettings"], json!({"method": "PUT"})), BAD, "protocolSettings.method"),
        (with(&["protocolSettings"], json!({"headers": []})), BAD, "protocolSettings.headers"),
        (header("x-a", json!(7)), BAD, "protocolSettings.headers.x-a"),
        (header("x-a", json!("a\r\nb: c")), BAD, "protocolSettings.headers.x-a"),
        (header("x-a", json!("x".repeat(513))), BAD, "protocolSettings.headers.x-a"),
        (header("x a", json!("x")), BAD, "protocolSettings.headers.x a"),
        (header("", json!("x")), BAD, "protocolSettings.headers."),
    ];
    for name in ["Authorization", "host", "Content-Length", "transfer-encoding", "Proxy-Authorization", "via"]
    {
        bodies.push((header(name, json!("x")), BAD, "protocolSettings.headers."));
    }
    let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("x-{n}"), json!("x"))).collect();
    bodies.push((with(&["protocolSettings"], json!({"headers": many})), BAD, "protocolSettings.headers"));
    for device in [json!(null), json!(7), json!(""), json!("x"), json!(DEVICE.replace('-', ""))] {
        bodies.push((with(&["config", "subscriptionDetail"], json!({"deviceId": device})), BAD, "deviceId"));
    }
    for (most, code) in [
        (json!(0), "OUT_OF_RANGE"),
        (json!(-1), "OUT_OF_RANGE"),
        (json!(1_000_001), "OUT_OF_RANGE"),
        (json!(u64::MAX), "OUT_OF_RANGE"),
        (json!(1.5), BAD),
        (json!("5"), BAD),
        (Value::Null, BAD),
    ] {
        bodies.push((with(&["config", "subscriptionMaxEvents"], most), code, "config.subscriptionMaxEvents"));
    }
    let times = times().into_iter();
    bodies.extend(times.map(|(value, code)| {
        let path = ["config", "subscriptionExpireTime"];
        (with(&path, value), code, "config.subscriptionExpireTime")
    }));
    let credentials = credentials().into_iter();
    bodies
        .extend(credentials.map(|(value, code)| (with(&["sinkCredential"], value), code, "sinkCredential")));
    for sink in [
        "",
        "hook.example",
        "http://hook.example/",
        "https://",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://2130706433/",
        "https://localhost/",
        "https://a:b@hook.example/",
        "https://hook.example/ x",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
    ] {
        bodies.push((with(&["sink"], json!(sink)), "INVALID_SINK", "sink"));
    }
    bodies.push((with(&["sink"], json!(format!("{HOOK}{}", "x".repeat(1024)))), "INVALID_SINK", "sink"));
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_break_the_schema_are_refused_with_the_field() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    create(&alice, V03, DEVICE).await;
    let made = subscribe(&alice, EVENTS[0], &wanted(ENDS, HOOK)).await;
    let changes: Vec<(String, &str, &str)> = credentials()
        .into_iter()
        .map(|(value, code)| (json!({"sinkCredential": value}).to_string(), code, "sinkCredential"))
        .chain(times().into_iter().map(|(value, code)| {
            let body = json!({"config": {"subscriptionExpireTime": value}}).to_string();
            (body, code, "config.subscriptionExpireTime")
        }))
        .chain([
            (json!({"config": []}).to_string(), BAD, "config"),
            (json!({"config": null}).to_string(), BAD, "config"),
            (json!({"sink": HOOK}).to_string(), BAD, "sink"),
            (json!({"protocol": "HTTP"}).to_string(), BAD, "protocol"),
            (json!({"types": [ENDS]}).to_string(), BAD, "types"),
            (json!({"id": made["id"]}).to_string(), BAD, "id"),
            (json!({"x".repeat(5000): 1}).to_string(), BAD, "xxx"),
            (json!({"config": {"subscriptionDetail": {"deviceId": DEVICE}}}).to_string(), BAD, "config."),
            (json!({"config": {"subscriptionMaxEvents": 5}}).to_string(), BAD, "config."),
            (json!({"config": {"initialEvent": true}}).to_string(), BAD, "config."),
        ])
        .collect();
    for base in EVENTS {
        let all = format!("{base}/subscriptions");
        let one = format!("{all}/{}", made["id"].as_str().unwrap());
        let check = async |method: &str, path: &str, body: &str, code: &str, field: &str| {
            let answer = ask(&alice, method, path, body).await;
            assert_eq!(failure(&answer), refused(400, code), "{method} {body:.200}");
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(message.starts_with(field), "{method} {body:.200}: {message}");
            assert!(!message.contains("to.ken"), "{message}");
        };
        for body in anything() {
            check("POST", &all, &body, BAD, if body.starts_with("{}") { "body" } else { "body: " }).await;
            check("PUT", &one, &body, BAD, "body: ").await;
        }
        for (body, code, field) in bodies() {
            check("POST", &all, &body, code, field).await;
        }
        for (body, code, field) in &changes {
            check("PUT", &one, body, code, field).await;
            // What is wrong with a request is said before anything of the subscription.
            check("PUT", &format!("{all}/{NOWHERE}"), body, code, field).await;
        }
        for (name, status, code) in [
            ("a".repeat(257), 400, BAD),
            ("%FF".into(), 400, BAD),
            (String::new(), 400, BAD),
            ("a".repeat(256), 404, "NOT_FOUND"),
            ("x".into(), 404, "NOT_FOUND"),
            ("%00".into(), 404, "NOT_FOUND"),
            ("%2e%2e%2f".into(), 404, "NOT_FOUND"),
            (NOWHERE.into(), 404, "NOT_FOUND"),
        ] {
            for method in ["GET", "PUT", "DELETE"] {
                let answer = ask(&alice, method, &format!("{all}/{name}"), "{}").await;
                assert_eq!(failure(&answer), refused(status, code), "{method} {name:.60}");
            }
        }
    }
    // Nothing of all that did anything.
    assert_eq!(ask(&alice, "GET", &format!("{}/subscriptions", EVENTS[0]), "").await.json(), json!([made]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_and_methods_are_refused_in_the_same_words() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    for path in [
        "/webrtc-events",
        "/webrtc-events/",
        "/webrtc-events/v0.3",
        "/webrtc-events/v0.1/subscriptions",
        "/webrtc-events/v0.3/subscriptions/x/y",
        "/webrtc-events/v0.3/Subscriptions",
        "/webrtc-events/%FF/%00",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(failure(&ask(&alice, method, path, "").await), refused(404, "NOT_FOUND"), "{path}");
        }
    }
    for base in EVENTS {
        for (path, methods, allowed) in [
            (String::new(), ["PUT", "DELETE", "PATCH", "OPTIONS"], "GET,HEAD,POST"),
            ("/".into(), ["POST", "PATCH", "TRACE", "OPTIONS"], "GET,HEAD,PUT,DELETE"),
            (format!("/{NOWHERE}"), ["POST", "PATCH", "TRACE", "OPTIONS"], "GET,HEAD,PUT,DELETE"),
        ] {
            for method in methods {
                let answer = ask(&alice, method, &format!("{base}/subscriptions{path}"), "").await;
                assert_eq!(failure(&answer), refused(405, "METHOD_NOT_ALLOWED"), "{method} {path}");
                let allow: BTreeSet<_> = answer.header("allow").split(',').map(str::trim).collect();
                assert_eq!(allow, allowed.split(',').collect(), "{method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correlator_that_is_none_is_refused_before_anything_else() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    let made = subscribe(&alice, EVENTS[0], &wanted(ENDS, HOOK)).await;
    for base in EVENTS {
        for (method, path, body, _) in operations(base, made["id"].as_str().unwrap()) {
            for bad in [&b"a b"[..], b"\xc3\xa9", b"\"x\"", &[b'c'; 257]] {
                let request =
                    alice.bare(method, &path).header("x-correlator", HeaderValue::from_bytes(bad).unwrap());
                let answer = alice.send(request.body(Body::from(body.clone())).unwrap()).await;
                assert_eq!(failure(&answer), refused(400, BAD), "{method} {path}");
                assert_eq!(answer.headers.get("x-correlator"), None);
            }
        }
    }
    let request = alice.builder("GET", &format!("{}/subscriptions", EVENTS[0]));
    let answer = alice.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.headers.get("x-correlator")), (200, None));
    assert_eq!(answer.json(), json!([made]));
}
