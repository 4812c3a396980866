//! CAMARA webrtc-registration: every operation, at both base paths and over each HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use ript::adapter::camara;
use ript::adapter::camara::registration::Limits;
use ript::identity::jwk::SigningKey;
use ript::store::memory::MemoryStore;
use serde_json::json;

use crate::common::camara::{
    BASES, DEVICE, NOWHERE, OTHER, SCOPES, V03, after, ask, create, failure, refused, registration, request,
    user,
};
use crate::common::h1h2::Version;
use crate::common::user::{User, token};
use crate::common::{World, settings};

async fn life(alice: &User, base: &str) {
    let sessions = format!("{base}/sessions");
    let of_device = format!("{sessions}?deviceId={DEVICE}");
    assert_eq!(ask(alice, "GET", &of_device, "").await.json(), json!([]));

    let (earliest, made) = (after(3600), ask(alice, "POST", &sessions, &request(DEVICE)).await);
    assert_eq!((made.status.as_u16(), made.header("content-type")), (201, "application/json"));
    let (id, end) = registration(&made.json(), &alice.number);
    assert!(end >= earliest && end <= after(3600));
    let one = format!("{sessions}/{id}");
    assert_eq!(ask(alice, "GET", &one, "").await.json(), made.json());
    let upper = of_device.replace(DEVICE, &DEVICE.to_uppercase());
    for list in [&of_device, &upper] {
        let answer = ask(alice, "GET", list, "").await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!([made.json()])));
    }

    for device in [DEVICE.to_owned(), DEVICE.to_uppercase()] {
        let again = ask(alice, "POST", &sessions, &request(&device)).await;
        assert_eq!(failure(&again), refused(409, "ALREADY_EXISTS"));
    }

    let wish = after(120);
    let shorter = json!({"registrationExpireTime": wish, "unknown": {"x": 1}}).to_string();
    let answer = ask(alice, "PUT", &one, &shorter).await;
    assert_eq!(
        (answer.status.as_u16(), registration(&answer.json(), &alice.number)),
        (200, (id.clone(), wish))
    );
    for body in ["", "{}", "{\"unknown\":[]}"] {
        let (earliest, answer) = (after(3600), ask(alice, "PUT", &one, body).await);
        let (same, end) = registration(&answer.json(), &alice.number);
        assert!(answer.status == 200 && same == id && end >= earliest && end <= after(3600), "{body}");
    }
    let longest = json!({"registrationExpireTime": "9999-12-31T23:59:59+01:00"}).to_string();
    let (earliest, answer) = (after(86_400), ask(alice, "PUT", &one, &longest).await);
    let (_, end) = registration(&answer.json(), &alice.number);
    assert!(end >= earliest && end <= after(86_400));

    let minimal = alice.builder("PUT", &one).header("prefer", "return=minimal").header("x-correlator", "x");
    let answer = alice.send(minimal.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    assert_eq!((answer.header("x-correlator"), answer.header("preference-applied")), ("x", "return=minimal"));

    let answer = ask(alice, "DELETE", &one, "").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    for method in ["DELETE", "GET", "PUT"] {
        assert_eq!(failure(&ask(alice, method, &one, "").await), refused(404, "NOT_FOUND"), "{method}");
    }
    assert_eq!(ask(alice, "GET", &of_device, "").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_made_found_refreshed_and_removed_at_both_base_paths() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    for base in BASES {
        life(&alice, base).await;
    }
    // One registration, whichever path it was made at.
    let id = create(&alice, BASES[1], DEVICE).await;
    assert_eq!(ask(&alice, "GET", &format!("{V03}/sessions/{id}"), "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_1_and_http_2_have_the_same_routes() {
    let world = World::start().await;
    for version in [Version::Http1, Version::Http2] {
        let over = world.user_over(version, "alice", "+14085550001").await;
        let alice = over.with_token(token(&world.issuer, "alice", &["+14085550001"], &["test"], SCOPES));
        life(&alice, V03).await;
        let bad = ask(&alice, "POST", &format!("{V03}/sessions"), "[]").await;
        assert_eq!(failure(&bad), refused(400, "INVALID_ARGUMENT"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_registrations_are_as_if_they_were_not_there() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    let mallory = user(&world, "mallory", "+14085550009").await;
    let id = create(&alice, V03, DEVICE).await;
    for base in BASES {
        let of_device = format!("{base}/sessions?deviceId={DEVICE}");
        assert_eq!(ask(&mallory, "GET", &of_device, "").await.json(), json!([]));
        for method in ["GET", "PUT", "DELETE"] {
            let answer = ask(&mallory, method, &format!("{base}/sessions/{id}"), "").await;
            assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{method}");
            let missing = ask(&mallory, method, &format!("{base}/sessions/{NOWHERE}"), "").await;
            assert_eq!(answer.body, missing.body, "{method}");
        }
    }
    // The same device with another number is another registration, and one user's list has both numbers.
    create(&mallory, V03, DEVICE).await;
    let mut second = alice.with_token(token(&world.issuer, "alice", &["+14085550002"], &["test"], SCOPES));
    second.number = "+14085550002".into();
    create(&second, V03, DEVICE).await;
    let list = ask(&alice, "GET", &format!("{V03}/sessions?deviceId={DEVICE}"), "").await.json();
    let numbers: Vec<_> =
        list.as_array().unwrap().iter().map(|r| r["regInfo"]["phoneNumber"].clone()).collect();
    assert_eq!(numbers, ["+14085550001", "+14085550002"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_an_end_to_registrations_in_number_and_in_time() {
    let registrations =
        Limits { usual: Duration::ZERO, per_number: 2, devices_per_user: 2, ..Limits::default() };
    let world = World::with_camara(camara::Settings { registrations, ..camara::Settings::default() }).await;
    let alice = user(&world, "alice", "+14085550001").await;
    let sessions = format!("{V03}/sessions");
    // Ended as soon as it is made: nowhere to be found, and not in the way.
    for _ in 0..3 {
        let id = create(&alice, V03, DEVICE).await;
        for method in ["GET", "PUT", "DELETE"] {
            let answer = ask(&alice, method, &format!("{sessions}/{id}"), "").await;
            assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{method}");
        }
        assert_eq!(ask(&alice, "GET", &format!("{sessions}?deviceId={DEVICE}"), "").await.json(), json!([]));
    }
    let long = |device: &str| json!({"deviceId": device, "registrationExpireTime": after(3600)}).to_string();
    let device = |n: usize| format!("00000000-0000-4000-8000-{n:012}");
    for n in 0..2 {
        assert_eq!(ask(&alice, "POST", &sessions, &long(&device(n))).await.status, 201);
    }
    let answer = ask(&alice, "POST", &sessions, &long(&device(2))).await;
    assert_eq!(failure(&answer), refused(403, "MAX_REGISTRATION_PER_MSISDN"));
    let number = |n: usize| {
        let number = format!("+1408555{n:04}");
        alice.with_token(token(&world.issuer, "alice", &[&number], &["test"], SCOPES))
    };
    let answer = ask(&number(100), "POST", &sessions, &long(&device(2))).await;
    assert_eq!(failure(&answer), refused(403, "MAX_DEVICES_PER_USER"));
    for n in 101..110 {
        assert_eq!(ask(&number(n), "POST", &sessions, &long(&device(0))).await.status, 201, "{n}");
    }
    let answer = ask(&number(110), "POST", &sessions, &long(&device(0))).await;
    assert_eq!(failure(&answer), refused(403, "MAX_REGISTRATION_PER_USER"));
    let list = ask(&alice, "GET", &format!("{sessions}?deviceId={}", device(0)), "").await.json();
    assert_eq!(list.as_array().unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_registrations_and_a_failing_store_promises_none() {
    let (issuer, passports) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let store = Arc::new(MemoryStore::new());
    let world = World::on(settings(&issuer, &passports), store.clone(), issuer, passports, None).await;
    let alice = user(&world, "alice", "+14085550001").await;
    let (kept, removed) = (create(&alice, V03, DEVICE).await, create(&alice, V03, OTHER).await);
    let one = format!("{V03}/sessions/{kept}");
    let refreshed = ask(&alice, "PUT", &one, "").await.json();
    assert_eq!(ask(&alice, "DELETE", &format!("{V03}/sessions/{removed}"), "").await.status, 204);
    store.set_failing(true);
    for (method, path, body) in [
        ("POST", format!("{V03}/sessions"), request(OTHER)),
        ("PUT", one.clone(), String::new()),
        ("DELETE", one.clone(), String::new()),
    ] {
        let answer = ask(&alice, method, &path, &body).await;
        assert_eq!(failure(&answer), refused(503, "UNAVAILABLE"), "{method}");
        assert_eq!(answer.header("retry-after"), "1");
    }
    store.set_failing(false);

    let (settings, store, issuer, passports, address) = world.crash().await;
    let world = World::on(settings, store, issuer, passports, Some(address)).await;
    let alice = user(&world, "alice", "+14085550001").await;
    assert_eq!(ask(&alice, "GET", &one, "").await.json(), refreshed);
    let again = ask(&alice, "POST", &format!("{V03}/sessions"), &request(DEVICE)).await;
    assert_eq!(failure(&again), refused(409, "ALREADY_EXISTS"));
    create(&alice, V03, OTHER).await;
    assert_eq!(ask(&alice, "DELETE", &one, "").await.status, 204);
}
