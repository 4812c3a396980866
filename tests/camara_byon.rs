//! CAMARA's generation of 2023: registering, the channel's address and its socket, and what is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use ript::identity::token::{Claims, issue};
use serde_json::{Value, json};

use crate::common::camara::{
    BASES, DEVICE, NOWHERE, OTHER, SCOPES, V03, ask as ask_now, failure, refused, request,
};
use crate::common::camara_byon::{
    CALLS, CHANNELS, RACM, TRANSACTION, alice, ask, call, channel_url, holder, register, wanted,
};
use crate::common::h1h2::Version;
use crate::common::socket::open;
use crate::common::user::User;
use crate::common::{AUDIENCE, ISSUER, World};

async fn life(alice: &User) {
    let (client, session) = register(alice, DEVICE).await;
    // Who has lost the answer asks again.
    assert_eq!(register(alice, &DEVICE.to_uppercase()).await, (client.clone(), session.clone()));
    let refreshed = ask(alice, "PUT", &session, &client, "").await;
    assert_eq!((refreshed.status.as_u16(), refreshed.body.len()), (200, 0));
    let none = ask(alice, "GET", CHANNELS, &client, "").await;
    let resource = format!("{}{CHANNELS}", alice.base);
    assert_eq!((none.status.as_u16(), none.json()), (200, json!({"channels": [], "resourceURL": resource})));
    let made = ask(alice, "POST", CHANNELS, &client, &wanted()).await;
    assert_eq!((made.status.as_u16(), made.header("content-type")), (200, "application/json"));
    assert_eq!(made.json().as_object().unwrap().len(), 1);
    let url = channel_url(&made.json(), alice, DEVICE);
    // The same channel again, and in the list.
    assert_eq!(ask(alice, "POST", CHANNELS, &client, &wanted()).await.json(), made.json());
    let list = ask(alice, "GET", CHANNELS, &client, "").await.json();
    assert_eq!((channel_url(&list, alice, DEVICE), &list["resourceURL"]), (url, &resource.into()));
    let gone = ask(alice, "DELETE", &session, &client, "").await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));
    for method in ["DELETE", "PUT"] {
        let answer = ask(alice, method, &session, &client, "").await;
        assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{method}");
    }
    let after = ask(alice, "GET", CHANNELS, &client, "").await;
    assert_eq!(failure(&after), refused(403, "PERMISSION_DENIED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_registers_gets_its_channels_address_and_leaves_over_each_http() {
    for version in [None, Some(Version::Http1), Some(Version::Http2)] {
        let world = World::start().await;
        let mut alice = alice(&world).await;
        if let Some(version) = version {
            alice = world.user_over(version, "alice", &alice.number).await.with_token(alice.token);
        }
        life(&alice).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_generations_share_registrations_and_each_takes_the_others_scopes() {
    let world = World::start().await;
    let alice = alice(&world).await;
    let now = holder(&world, &alice, "alice", SCOPES);
    let (client, session) = register(&alice, DEVICE).await;
    for base in BASES {
        let list = ask_now(&now, "GET", &format!("{base}/sessions?deviceId={DEVICE}"), "").await.json();
        assert_eq!(list[0]["registrationId"], client);
    }
    let again = ask_now(&now, "POST", &format!("{V03}/sessions"), &request(DEVICE)).await;
    assert_eq!(failure(&again), refused(409, "ALREADY_EXISTS"));
    // The current scopes do for the same acts.
    assert_eq!(register(&now, DEVICE).await, (client.clone(), session.clone()));
    assert_eq!(ask(&now, "PUT", &session, &client, "").await.status, 200);
    assert_eq!(ask(&now, "DELETE", &session, &client, "").await.status, 204);
    // Whoever spells the number otherwise is the same user.
    for user in ["+14085550001", "%2B14085550001", "tel%3A%2B14085550001", "sip:+14085550001@ims.example.com"]
    {
        let path = RACM.replace("tel:+14085550001", user);
        let answer = ask(&alice, "POST", &path, "x", &json!({"deviceId": OTHER}).to_string()).await;
        assert_eq!(answer.status, 200, "{user}");
    }
}

/// Each operation: method, path, a body that is right, and the scope of the file.
fn operations(session: &str) -> Vec<(&'static str, String, String, &'static str)> {
    let one = format!("{CALLS}/{NOWHERE}");
    let ringing = json!({"status": "Ringing", "responseCode": 180}).to_string();
    vec![
        ("POST", RACM.into(), json!({"deviceId": DEVICE}).to_string(), "write"),
        ("PUT", session.into(), String::new(), "write"),
        ("DELETE", session.into(), String::new(), "write"),
        ("POST", CALLS.into(), call().to_string(), "write"),
        ("GET", one.clone(), String::new(), "read"),
        ("DELETE", one.clone(), String::new(), "write"),
        ("PUT", format!("{one}/status"), ringing, "write"),
        ("GET", CHANNELS.into(), String::new(), "read"),
        ("POST", CHANNELS.into(), wanted(), "write"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_works_without_its_token_scope_number_and_headers() {
    let world = World::start().await;
    let alice = alice(&world).await;
    let (client, session) = register(&alice, DEVICE).await;
    let mallory = world.user("mallory", "+14085550009").await;
    let mallory = holder(&world, &mallory, "mallory", "read write");
    let (theirs, _) = register(&mallory, DEVICE).await;
    for (method, path, body, scope) in operations(&session) {
        let send = async |user: &User, token: &[&str], transaction: &[&str], client: &[&str]| {
            let mut request = user.bare(method, &path).header("content-length", body.len());
            for (name, values) in
                [("authorization", token), ("transactionid", transaction), ("clientid", client)]
            {
                for value in values {
                    request = request.header(name, *value);
                }
            }
            failure(&user.send(request.body(Body::from(body.clone())).unwrap()).await)
        };
        let (bearer, what) = (format!("Bearer {}", alice.token), format!("{method} {path}"));
        let bad = refused(401, "UNAUTHENTICATED");
        for token in [&[][..], &["Bearer x.y.z"], &[&alice.token]] {
            assert_eq!(send(&alice, token, &[TRANSACTION], &[&client]).await, bad, "{what}");
        }
        let lacking = if scope == "read" { "write other" } else { "read webrtc-events:read" };
        let lacking = if path == CHANNELS && scope == "read" { "write" } else { lacking };
        let lacking = format!("Bearer {}", holder(&world, &alice, "alice", lacking).token);
        let bad = refused(403, "PERMISSION_DENIED");
        assert_eq!(send(&alice, &[&lacking], &[TRANSACTION], &[&client]).await, bad, "{what}");
        let bad = refused(400, "INVALID_ARGUMENT");
        for transaction in [&[][..], &[""], &["a", "b"], &["a b"], &[&"x".repeat(257)]] {
            assert_eq!(
                send(&alice, &[&bearer], transaction, &[&client]).await,
                bad,
                "{what} {transaction:?}"
            );
        }
        if method == "POST" && path == RACM {
            continue;
        }
        for clients in [&[][..], &[""], &[&client, &client], &["a b"]] {
            assert_eq!(send(&alice, &[&bearer], &[TRANSACTION], clients).await, bad, "{what} {clients:?}");
        }
        // Sessions that are not there are not there for anybody.
        let unknown = if path.contains(NOWHERE) {
            refused(404, "NOT_FOUND")
        } else {
            refused(403, "PERMISSION_DENIED")
        };
        for clients in [&theirs[..], NOWHERE, "x"] {
            assert_eq!(
                send(&alice, &[&bearer], &[TRANSACTION], &[clients]).await,
                unknown,
                "{what} {clients}"
            );
        }
    }
    // Another's userId, whichever way it is written; and what is no number at all.
    for (user, expected) in [
        ("tel:+14085550002", refused(403, "PERMISSION_DENIED")),
        ("+14085550009", refused(403, "PERMISSION_DENIED")),
        ("sip:+14085550002@x.example", refused(403, "PERMISSION_DENIED")),
        ("alice", refused(400, "INVALID_ARGUMENT")),
        ("tel:14085550001", refused(400, "INVALID_ARGUMENT")),
        ("%FF", refused(400, "INVALID_ARGUMENT")),
        (&"1".repeat(400), refused(400, "INVALID_ARGUMENT")),
    ] {
        for (method, path, body, _) in operations(&session) {
            if path == CHANNELS {
                continue;
            }
            let path = path.replace("tel:+14085550001", user);
            let answer = ask(&alice, method, &path, &client, &body).await;
            assert_eq!(failure(&answer), expected, "{method} {path}");
        }
    }
    // Another's registration and device.
    let theirs_path = format!("{RACM}/{theirs}");
    for method in ["PUT", "DELETE"] {
        for client in [&client, &theirs] {
            let answer = ask(&alice, method, &theirs_path, client, "").await;
            assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{method}");
        }
    }
    let elsewhere = CHANNELS.replace(DEVICE, OTHER);
    for (method, body) in [("GET", String::new()), ("POST", wanted())] {
        let answer = ask(&alice, method, &elsewhere, &client, &body).await;
        assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{method}");
        let answer = ask(&alice, method, &elsewhere.replace(OTHER, "x"), &client, &body).await;
        assert_eq!(failure(&answer), refused(400, "INVALID_ARGUMENT"), "{method}");
    }
    // Nothing of all that did anything.
    assert_eq!(ask(&alice, "PUT", &session, &client, "").await.status, 200);
    assert_eq!(ask(&alice, "GET", CHANNELS, &client, "").await.json()["channels"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_what_the_files_say_are_refused() {
    let world = World::start().await;
    let alice = alice(&world).await;
    let (client, _) = register(&alice, OTHER).await;
    register(&alice, DEVICE).await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let with = |name: &str, value: Value| {
        let mut body = call();
        body[name] = value;
        body.to_string()
    };
    let channel = |channel: Value| json!({"channels": [channel]}).to_string();
    let status = format!("{CALLS}/{NOWHERE}/status");
    let elsewhere = CHANNELS.replace(DEVICE, OTHER);
    let tables = [
        (
            "POST",
            RACM,
            vec![
                json!({"deviceId": 7}).to_string(),
                json!({"deviceId": null}).to_string(),
                json!({"deviceId": ""}).to_string(),
                json!({"deviceId": DEVICE.replace('-', "")}).to_string(),
                json!({"deviceId": [DEVICE]}).to_string(),
                json!({"deviceID": DEVICE}).to_string(),
            ],
        ),
        (
            "POST",
            CALLS,
            vec![
                with("originatorAddress", json!(1)),
                with("receiverAddress", json!({})),
                with("receiverAddress", json!("")),
                with("originatorName", json!(1)),
                with("clientCorrelator", json!([])),
                with("clientCorrelator", json!("x".repeat(257))),
                with("answer", json!({"sdp": "v=0"})),
                with("offer", json!("v=0")),
                with("offer", json!({})),
                with("offer", json!({"sdp": 7})),
                json!({"originatorAddress": "tel:+14085550001", "receiverAddress": "tel:+14085550002"})
                    .to_string(),
            ],
        ),
        (
            "PUT",
            &status,
            vec![
                json!({"status": "Initial"}).to_string(),
                json!({"status": "Calling"}).to_string(),
                json!({"status": 180}).to_string(),
                json!({"responseCode": 486}).to_string(),
                json!({"status": "Ringing", "responseCode": "ringing"}).to_string(),
                json!({"status": "Ringing", "answer": "v=0"}).to_string(),
                json!({"receiverSessionStatus": []}).to_string(),
                json!({"receiverSessionStatus": {"status": "x"}}).to_string(),
            ],
        ),
        (
            "POST",
            &elsewhere,
            vec![
                json!({"channels": {}}).to_string(),
                json!({"channels": []}).to_string(),
                json!({"channels": ["WebSockets"]}).to_string(),
                channel(json!({})),
                channel(json!({"channelType": "WebSockets"})),
                channel(json!({"channelType": "WebHooks", "channelData": {}})),
                channel(json!({"channelType": "WebSockets", "channelData": "x"})),
                channel(
                    json!({"channelType": "WebSockets", "channelData": {"channelURL": "wss://x.example"}}),
                ),
            ],
        ),
    ];
    for (method, path, bad) in tables {
        let always = ["", "{}", "[]", "7", "null", "\"x\"", "{", "{\"a\":1}x", "\u{1}", &deep];
        for body in always.into_iter().chain(bad.iter().map(String::as_str)) {
            let answer = ask(&alice, method, path, &client, body).await;
            assert_eq!(failure(&answer), refused(400, "INVALID_ARGUMENT"), "{method} {path} {body:.80}");
        }
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(2 << 20));
        let request = alice.builder(method, path).header("transactionid", "x").header("clientid", &client);
        let answer = alice.send(request.body(Body::from(large)).unwrap()).await;
        assert_eq!(failure(&answer), refused(400, "INVALID_ARGUMENT"), "{method} {path}");
    }
    // Whose number it is not.
    for other in ["tel:+14085550002", "sip:alice@example.com", "somebody"] {
        let answer = ask(&alice, "POST", CALLS, &client, &with("originatorAddress", json!(other))).await;
        assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"), "{other}");
    }
    let one = json!({"channelType": "WebSockets", "channelData": {}});
    let two = json!({"channels": [one, one]}).to_string();
    let answer = ask(&alice, "POST", &elsewhere, &client, &two).await;
    assert_eq!(failure(&answer), refused(409, "CONFLICT"));
    assert_eq!(ask(&alice, "GET", &elsewhere, &client, "").await.json()["channels"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_and_methods_are_refused_in_the_same_words() {
    let world = World::start().await;
    let alice = alice(&world).await;
    for path in [
        "/racm",
        "/racm/",
        "/racm/v1",
        "/racm/v2/tel:+14085550001/session",
        "/racm/v1/tel:+14085550001/sessions",
        "/racm/v1/tel:+14085550001/session/x/y",
        "/vvoip",
        "/vvoip/v1/tel:+14085550001/session",
        "/vvoip/v1/tel:+14085550001/sessions/x/y",
        "/notificationchannel",
        "/notificationchannel/v1/x",
        "/notificationchannel/v1/x/channels/y/z",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let answer = ask(&alice, method, path, "x", "").await;
            assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{method} {path}");
        }
    }
    let (racm, one) = (format!("{RACM}/x"), format!("{CALLS}/x"));
    let status = format!("{one}/status");
    for (path, methods, allowed) in [
        (RACM, &["GET", "PUT", "DELETE"][..], "POST"),
        (&racm, &["GET", "POST", "PATCH"], "PUT,DELETE"),
        (CALLS, &["GET", "PUT", "DELETE"], "POST"),
        (&one, &["POST", "PUT", "PATCH"], "GET,HEAD,DELETE"),
        (&status, &["GET", "POST", "DELETE"], "PUT"),
        (CHANNELS, &["PUT", "DELETE", "PATCH"], "GET,HEAD,POST"),
    ] {
        for method in methods {
            let answer = ask(&alice, method, path, "x", "").await;
            assert_eq!(failure(&answer), refused(405, "METHOD_NOT_ALLOWED"), "{method} {path}");
            let allow: BTreeSet<_> = answer.header("allow").split(',').map(str::trim).collect();
            assert_eq!(allow, allowed.split(',').collect(), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_may_send_and_read_the_headers() {
    let world = World::start().await;
    let alice = alice(&world).await;
    let preflight = alice.bare("OPTIONS", RACM).header("origin", "https://app.example");
    let preflight = preflight.header("access-control-request-method", "POST");
    let answer = alice.send(preflight.body(Body::empty()).unwrap()).await;
    let names = answer.header("access-control-allow-headers").to_owned();
    assert!(["transactionid", "clientid"].iter().all(|name| names.contains(name)), "{names}");
    let get = alice.builder("GET", CHANNELS).header("origin", "https://app.example");
    let answer = alice.send(get.body(Body::empty()).unwrap()).await;
    let names = answer.header("access-control-expose-headers").to_ascii_lowercase();
    assert!(names.contains("transactionid"), "{names}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channels_address_opens_its_socket_and_nobody_elses() {
    let world = World::start().await;
    let alice = alice(&world).await;
    let (client, session) = register(&alice, DEVICE).await;
    let made = ask(&alice, "POST", CHANNELS, &client, &wanted()).await.json();
    let url = channel_url(&made, &alice, DEVICE);
    // The address is the token.
    let mut first = open(&world, &url, &[]).await.unwrap_or_else(|answer| panic!("{answer:?}"));
    let mut second = open(&world, &url, &[]).await.unwrap_or_else(|answer| panic!("{answer:?}"));
    assert_eq!(first.closed().await.0, 4000);
    assert!(second.is_quiet().await);
    let answer = *open(&world, &url, &[("origin", "https://evil.example")]).await.err().unwrap();
    assert_eq!(failure(&answer), refused(403, "PERMISSION_DENIED"));
    let path = url.split_once(&format!(":{}", world.address.port())).unwrap().1.to_owned();
    let plain = alice.send(alice.bare("GET", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(failure(&plain), refused(426, "UPGRADE_REQUIRED"));
    let unlike = |text: &str, change: fn(u8) -> u8| {
        let (head, last) = text.split_at(text.len() - 1);
        format!("{head}{}", char::from(change(last.as_bytes()[0])))
    };
    for wrong in [
        unlike(&url, |last| if last == b'A' { b'B' } else { b'A' }),
        url[..url.len() - 1].to_owned(),
        url.replace(DEVICE, OTHER),
        url.replace(DEVICE, "x"),
        format!("{}/{NOWHERE}", CHANNELS),
    ] {
        let answer = *open(&world, &wrong, &[]).await.err().unwrap();
        assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{wrong}");
    }
    let answer = *open(&world, &format!("{url}?after=x"), &[]).await.err().unwrap();
    assert_eq!(failure(&answer), refused(400, "INVALID_ARGUMENT"));
    // Without its registration it leads nowhere.
    assert_eq!(ask(&alice, "DELETE", &session, &client, "").await.status, 204);
    let answer = *open(&world, &url, &[]).await.err().unwrap();
    assert_eq!(failure(&answer), refused(404, "NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_token_keeps_the_channel_and_without_one_it_ends() {
    let world = World::with(|settings| settings.tokens.leeway = Duration::ZERO).await;
    let alice = alice(&world).await;
    let claims = Claims {
        issuer: ISSUER.into(),
        subject: "alice".into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: vec!["+14085550001".into()],
        tgs: vec![],
        scopes: ["read", "write"].map(str::to_owned).into(),
        lifetime: Duration::from_secs(6),
    };
    let mut sockets = Vec::new();
    let mut ids = Vec::new();
    for device in [DEVICE, OTHER] {
        let (client, session) = register(&alice, device).await;
        let short = alice.with_token(issue(&world.issuer, &claims, ript::clock::now()).unwrap());
        let path = CHANNELS.replace(DEVICE, device);
        let made = ask(&short, "POST", &path, &client, &wanted()).await.json();
        let url = channel_url(&made, &alice, device);
        sockets.push((open(&world, &url, &[]).await.unwrap_or_else(|answer| panic!("{answer:?}")), url));
        ids.push((client, session));
    }
    let (client, session) = &ids[0];
    assert_eq!(ask(&alice, "PUT", session, client, "").await.status, 200);
    let (mut ended, url) = sockets.pop().unwrap();
    let (code, reason) = ended.closed().await;
    assert!(code == 4001 && reason.contains("token has expired"), "{code} {reason}");
    let answer = *open(&world, &url, &[]).await.err().unwrap();
    assert_eq!(failure(&answer), refused(404, "NOT_FOUND"));
    // The other's token ended before.
    let (mut kept, url) = sockets.pop().unwrap();
    assert!(kept.is_quiet().await);
    open(&world, &url, &[]).await.unwrap_or_else(|answer| panic!("{answer:?}"));
    assert_eq!(kept.closed().await.0, 4000);
}
