//! CAMARA webrtc-registration: who is refused, and what; each with the status, code and body of the file.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use http::HeaderValue;
use ript::identity::jwk::SigningKey;
use ript::identity::principal::TRUNK;
use ript::identity::token::{Claims, IssuerPolicy, issue};
use ript::protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::common::camara::{
    BASES, CORRELATOR, DEVICE, NOWHERE, OTHER, SCOPES, V03, after, ask, create, failure, refused,
    registration, request, user,
};
use crate::common::user::token;
use crate::common::{AUDIENCE, ISSUER, World};

/// Each operation: method, path, body, scope.
fn operations(base: &str, id: &str) -> [(&'static str, String, String, &'static str); 5] {
    let (sessions, one) = (format!("{base}/sessions"), format!("{base}/sessions/{id}"));
    [
        ("GET", format!("{sessions}?deviceId={DEVICE}"), String::new(), "read"),
        ("POST", sessions, request(OTHER), "create"),
        ("GET", one.clone(), String::new(), "read"),
        ("PUT", one.clone(), "{}".into(), "write"),
        ("DELETE", one, String::new(), "delete"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_takes_a_request_without_a_token_that_holds() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    let id = create(&alice, V03, DEVICE).await;
    let claims = Claims {
        issuer: ISSUER.into(),
        subject: "alice".into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: vec!["+14085550001".into()],
        tgs: vec![],
        scopes: SCOPES.split_whitespace().map(str::to_owned).collect(),
        lifetime: Duration::from_secs(3600),
    };
    let now = ript::clock::now();
    let long_ago = Timestamp::from_millis(now.as_millis() - 7_200_000);
    let bearer = |key: &SigningKey, at| Some(format!("Bearer {}", issue(key, &claims, at).unwrap()));
    let tokens = [
        None,
        Some(String::new()),
        Some(alice.token.clone()),
        Some(format!("Basic {}", alice.token)),
        Some("Bearer x.y.z".into()),
        bearer(&world.issuer, long_ago),
        bearer(&SigningKey::generate().unwrap(), now),
    ];
    for base in BASES {
        for (method, path, body, _) in operations(base, &id) {
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
    assert_eq!(ask(&alice, "GET", &format!("{V03}/sessions/{id}"), "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_demands_its_scope_and_a_token_for_one_number() {
    let world = World::with(|settings| {
        let keys = settings.tokens.issuers[0].keys.clone();
        settings.tokens.issuers.push(IssuerPolicy::new(TRUNK, AUDIENCE, keys));
    })
    .await;
    let alice = user(&world, "alice", "+14085550001").await;
    let id = create(&alice, V03, DEVICE).await;
    let with = |numbers: &[&str], scope: &str| {
        alice.with_token(token(&world.issuer, "alice", numbers, &["test"], scope))
    };
    for base in BASES {
        for (method, path, body, scope) in operations(base, &id) {
            let all = SCOPES.split_whitespace().filter(|name| !name.ends_with(&format!(":{scope}")));
            let lacking = with(&["+14085550001"], &all.collect::<Vec<_>>().join(" "));
            let answer = ask(&lacking, method, &path, &body).await;
            assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{method} {path}");
            let challenge = answer.header("www-authenticate");
            assert!(challenge.contains("insufficient_scope") && challenge.contains(scope), "{challenge}");
            for numbers in [&[][..], &["+1408*"], &["*"], &["alice@example.com"], &["+1234"]] {
                let answer = ask(&with(numbers, SCOPES), method, &path, &body).await;
                assert_eq!(failure(&answer), refused(403, "INVALID_TOKEN_CONTEXT"), "{method} {numbers:?}");
            }
        }
    }
    let several = with(&["+1408*", "alice@example.com", "+14085550007", "+14085550008"], SCOPES);
    let made = ask(&several, "POST", &format!("{V03}/sessions"), &request(OTHER)).await.json();
    registration(&made, "+14085550007");
    // Only a token that speaks for the number refreshes its registration.
    let one = format!("{V03}/sessions/{id}");
    let answer = ask(&with(&["+14085550007"], SCOPES), "PUT", &one, "").await;
    assert_eq!(failure(&answer), refused(403, "INVALID_TOKEN_CONTEXT"));
    let trunk = Claims {
        issuer: TRUNK.into(),
        subject: "peer".into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: vec!["+14085550001".into()],
        tgs: vec![],
        scopes: SCOPES.split_whitespace().map(str::to_owned).collect(),
        lifetime: Duration::from_secs(60),
    };
    let trunk = alice.with_token(issue(&world.issuer, &trunk, ript::clock::now()).unwrap());
    assert_eq!(failure(&ask(&trunk, "GET", &one, "").await), refused(403, "PERMISSION_DENIED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_break_the_schema_are_refused_with_the_field() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    let id = create(&alice, V03, OTHER).await;
    let deep = |open: &str, close: &str| format!("{{\"x\":{}{}}}", open.repeat(5000), close.repeat(5000));
    let anywhere: Vec<String> =
        ["[]", "null", "7", "\"x\"", "{", "{'a':1}", " ", "{\"a\":1e999}", "{}{}", "\0"]
            .map(str::to_owned)
            .into_iter()
            .chain([deep("[", "]"), deep("{\"x\":", "}"), "[".repeat(5000)])
            .chain([format!("{{\"x\":\"{}\"}}", "x".repeat(65_536)), " ".repeat(1_000_000)])
            .collect();
    let time = |value: Value| json!({"deviceId": DEVICE, "registrationExpireTime": value}).to_string();
    let (bad, early) = ("INVALID_ARGUMENT", "OUT_OF_RANGE");
    let times: Vec<(Value, &str)> = vec![
        (Value::Null, bad),
        (json!(1_800_000_000), bad),
        (json!({}), bad),
        ("".into(), bad),
        ("tomorrow".into(), bad),
        ("2099-01-01T00:00:00".into(), bad),
        ("2099-01-01".into(), bad),
        ("2099-02-30T00:00:00Z".into(), bad),
        (format!("2099-01-01T00:00:00.{}Z", "0".repeat(60)).into(), bad),
        ("2020-01-01T00:00:00Z".into(), early),
        ("1930-01-01T00:00:00Z".into(), early),
        (after(30).to_string().into(), early),
    ];
    let devices: Vec<String> = vec![
        "{}".into(),
        "".into(),
        json!({"deviceid": DEVICE}).to_string(),
        json!({"deviceId": null}).to_string(),
        json!({"deviceId": 7}).to_string(),
        json!({"deviceId": [DEVICE]}).to_string(),
        request(""),
        request("device"),
        request(&DEVICE.replace('-', "")),
        request(&format!("{{{DEVICE}}}")),
        request(&"1".repeat(60_000)),
    ];
    for base in BASES {
        let (sessions, one) = (format!("{base}/sessions"), format!("{base}/sessions/{id}"));
        for (method, path) in [("POST", &sessions), ("PUT", &one)] {
            for body in &anywhere {
                let answer = ask(&alice, method, path, body).await;
                let shown = body.chars().take(20).collect::<String>();
                assert_eq!(failure(&answer), refused(400, bad), "{method} {shown}");
                assert!(answer.json()["message"].as_str().unwrap().starts_with("body: ") || method == "POST");
            }
            for (value, code) in &times {
                let answer = ask(&alice, method, path, &time(value.clone())).await;
                assert_eq!(failure(&answer), refused(400, code), "{method} {value}");
                assert!(answer.json()["message"].as_str().unwrap().starts_with("registrationExpireTime: "));
            }
        }
        for body in &devices {
            let answer = ask(&alice, "POST", &sessions, body).await;
            assert_eq!(failure(&answer), refused(400, bad), "{body:.60}");
            assert!(answer.json()["message"].as_str().unwrap().starts_with("deviceId: "), "{answer:?}");
        }
        for query in [
            "".to_owned(),
            "?".into(),
            "?deviceId".into(),
            "?deviceId=".into(),
            "?deviceId=x".into(),
            format!("?deviceid={DEVICE}"),
            format!("?deviceId={DEVICE}&deviceId={DEVICE}"),
            format!("?deviceId={DEVICE}%00"),
            "?deviceId=%FF%FE".into(),
            format!("?deviceId={}", "1".repeat(4000)),
        ] {
            let answer = ask(&alice, "GET", &format!("{sessions}{query}"), "").await;
            assert_eq!(failure(&answer), refused(400, bad), "{query:.60}");
        }
        for (name, status, code) in [
            (String::new(), 400, bad),
            ("a".repeat(257), 400, bad),
            ("%FF".into(), 400, bad),
            ("a".repeat(256), 404, "NOT_FOUND"),
            (id.replace('-', ""), 404, "NOT_FOUND"),
            ("x".into(), 404, "NOT_FOUND"),
            ("%2e%2e%2f".into(), 404, "NOT_FOUND"),
            ("%00".into(), 404, "NOT_FOUND"),
        ] {
            for method in ["GET", "PUT", "DELETE"] {
                let answer = ask(&alice, method, &format!("{sessions}/{name}"), "").await;
                assert_eq!(failure(&answer), refused(status, code), "{method} {name:.60}");
            }
        }
    }
    // Nothing of all that did anything.
    assert_eq!(ask(&alice, "GET", &format!("{V03}/sessions?deviceId={DEVICE}"), "").await.json(), json!([]));
    assert_eq!(ask(&alice, "GET", &format!("{V03}/sessions/{id}"), "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_and_methods_are_refused_in_the_same_words() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    for path in [
        "/webrtc-registration",
        "/webrtc-registration/",
        "/webrtc-registration/v0.3",
        "/webrtc-registration/v0.2/sessions",
        "/webrtc-registration/v9/sessions",
        "/webrtc-registration/v0.3/sessions//",
        "/webrtc-registration/v0.3/sessions/x/y",
        "/webrtc-registration/v0.3/Sessions",
        "/webrtc-registration/%FF/%00",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(failure(&ask(&alice, method, path, "").await), refused(404, "NOT_FOUND"), "{path}");
        }
    }
    for base in BASES {
        let one = format!("{base}/sessions/{NOWHERE}");
        for (path, methods, allowed) in [
            (format!("{base}/sessions"), ["PUT", "DELETE", "PATCH", "OPTIONS"], "GET,HEAD,POST"),
            (format!("{base}/sessions/"), ["POST", "PATCH", "TRACE", "OPTIONS"], "GET,HEAD,PUT,DELETE"),
            (one, ["POST", "PATCH", "TRACE", "OPTIONS"], "GET,HEAD,PUT,DELETE"),
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
async fn a_correlator_comes_back_or_is_refused() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    let paths = [
        (format!("{V03}/sessions?deviceId={DEVICE}"), 200),
        (format!("{V03}/sessions"), 400),
        (format!("{V03}/sessions/{NOWHERE}"), 404),
        ("/webrtc-registration/x".into(), 404),
    ];
    let send = |path: &str, values: &[Vec<u8>]| {
        let mut request = alice.builder("GET", path);
        for value in values {
            request = request.header("x-correlator", HeaderValue::from_bytes(value).unwrap());
        }
        let (alice, request) = (alice.clone(), request.body(Body::empty()).unwrap());
        async move { alice.send(request).await }
    };
    for (path, status) in &paths {
        let absent = send(path, &[]).await;
        assert_eq!((absent.status.as_u16(), absent.headers.get("x-correlator")), (*status, None));
        for good in ["", "x", "aZ09-_:;./<>{}", &"c".repeat(256)] {
            let answer = send(path, &[good.into()]).await;
            assert_eq!(answer.status, *status, "{path} {good}");
            assert_eq!(answer.headers["x-correlator"], good, "{path}");
        }
        let hostile: [&[Vec<u8>]; 9] = [
            &["c".repeat(257).into()],
            &["c".repeat(8_000).into()],
            &[b"a b".to_vec()],
            &[b"a,b".to_vec()],
            &[b"\"x\"".to_vec()],
            &[b"a\tb".to_vec()],
            &[b"\xc3\xa9".to_vec()],
            &[b"\xff\xfe".to_vec()],
            &[b"a".to_vec(), b"b".to_vec()],
        ];
        for values in hostile {
            let answer = send(path, values).await;
            assert_eq!(failure(&answer), refused(400, "INVALID_ARGUMENT"), "{path} {values:?}");
            assert!(answer.json()["message"].as_str().unwrap().starts_with("x-correlator: "));
            assert_eq!(answer.headers.get("x-correlator"), None);
        }
    }
    // Pages may send and read it.
    let preflight = alice
        .bare("OPTIONS", &paths[0].0)
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET");
    let answer = alice.send(preflight.body(Body::empty()).unwrap()).await;
    assert!(answer.header("access-control-allow-headers").contains("x-correlator"), "{answer:?}");
    let get = alice.builder("GET", &paths[0].0).header("origin", "https://app.example");
    let answer = alice.send(get.body(Body::empty()).unwrap()).await;
    assert!(answer.header("access-control-expose-headers").contains("x-correlator"), "{answer:?}");
}
