//! CAMARA webrtc-events: every operation, and what reaches a webhook.

use std::sync::Arc;
use std::time::Duration;

use ript::identity::jwk::SigningKey;
use ript::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::common::camara::{DEVICE, NOWHERE, OTHER, SCOPES, V03, after, ask, create, failure, refused};
use crate::common::events::{
    ENDS, EVENT_SCOPES, EVENTS, HOOK, INVITATION, STATUS, credential, settings, subscribe, user, wanted,
    webhook,
};
use crate::common::h1h2::Version;
use crate::common::user::{User, token};
use crate::common::{World, soon};

/// Registers a device for so many milliseconds at most; the registration's id.
async fn register(user: &User, device: &str, millis: u64) -> String {
    let end = ript::clock::now() + Duration::from_millis(millis);
    let body = json!({"deviceId": device, "registrationExpireTime": end}).to_string();
    let answer = ask(user, "POST", &format!("{V03}/sessions"), &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["registrationId"].as_str().unwrap().to_owned()
}

async fn life(alice: &User, base: &str) {
    let all = format!("{base}/subscriptions");
    assert_eq!(ask(alice, "GET", &all, "").await.json(), json!([]));
    let plain = subscribe(alice, base, &wanted(INVITATION, HOOK)).await;
    assert_eq!(plain["config"], json!({"subscriptionDetail": {"deviceId": DEVICE}}));
    let mut body = wanted(STATUS, HOOK);
    let end = after(600);
    body["config"]["subscriptionExpireTime"] = json!(end);
    body["config"]["subscriptionMaxEvents"] = json!(5);
    body["config"]["initialEvent"] = json!(true);
    body["sinkCredential"] = credential("to.ken", after(3600));
    body["protocolSettings"] = json!({"headers": {"X-Tenant": "acme"}, "method": "POST"});
    body["unknown"] = json!({"is": ["ignored"]});
    let rich = subscribe(alice, base, &body).await;
    assert_eq!(rich["config"], body["config"]);
    assert_eq!(rich["protocolSettings"], body["protocolSettings"]);
    assert_eq!(rich["expiresAt"], json!(end));

    for made in [&plain, &rich] {
        let one = format!("{all}/{}", made["id"].as_str().unwrap());
        let answer = ask(alice, "GET", &one, "").await;
        assert_eq!((answer.status.as_u16(), &answer.json()), (200, made));
        let upper = format!("{all}/{}", made["id"].as_str().unwrap().to_uppercase());
        assert_eq!(&ask(alice, "GET", &upper, "").await.json(), made);
    }
    assert_eq!(ask(alice, "GET", &all, "").await.json(), json!([plain, rich]));
    let again = ask(alice, "POST", &all, &wanted(INVITATION, HOOK).to_string()).await;
    assert_eq!(failure(&again), refused(409, "ALREADY_EXISTS"));

    let one = format!("{all}/{}", rich["id"].as_str().unwrap());
    let later = after(1200);
    let change = json!({
        "sinkCredential": credential("other", after(7200)),
        "config": {"subscriptionExpireTime": later},
    });
    let mut expected = rich.clone();
    expected["config"]["subscriptionExpireTime"] = json!(later);
    expected["expiresAt"] = json!(later);
    for body in [change.to_string(), change.to_string(), "{}".into(), "{\"config\":{}}".into()] {
        let answer = ask(alice, "PUT", &one, &body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()), (200, &expected), "{body}");
    }
    assert_eq!(ask(alice, "GET", &one, "").await.json(), expected);

    for made in [plain, rich] {
        let one = format!("{all}/{}", made["id"].as_str().unwrap());
        let answer = ask(alice, "DELETE", &one, "").await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
        for (method, body) in [("DELETE", ""), ("GET", ""), ("PUT", "{}")] {
            assert_eq!(failure(&ask(alice, method, &one, body).await), refused(404, "NOT_FOUND"), "{method}");
        }
    }
    assert_eq!(ask(alice, "GET", &all, "").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_made_found_changed_and_removed_at_each_base_path_over_each_http() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    create(&alice, V03, DEVICE).await;
    for base in EVENTS {
        life(&alice, base).await;
    }
    for version in [Version::Http1, Version::Http2] {
        let over = world.user_over(version, "alice", "+14085550001").await;
        life(&over.with_token(alice.token.clone()), EVENTS[0]).await;
    }
    // Events are a device's, so a token for no number will do.
    let scopes = format!("{SCOPES} {EVENT_SCOPES}");
    let numberless = alice.with_token(token(&world.issuer, "alice", &[], &["test"], &scopes));
    life(&numberless, EVENTS[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_registration_and_of_a_subscription_reach_the_webhook() {
    let world = World::with_camara(settings()).await;
    let alice = user(&world, "alice", "+14085550001").await;
    let mallory = user(&world, "mallory", "+14085550009").await;
    let (mut hook, mut hers) = (webhook().await, webhook().await);
    let mut body = wanted(ENDS, &hook.url());
    body["sinkCredential"] = credential("hook.token", after(3600));
    let made = subscribe(&alice, EVENTS[0], &body).await;
    // Her subscription to a device of the same name is to her own device.
    subscribe(&mallory, EVENTS[0], &wanted(ENDS, &hers.url())).await;

    let expiring = register(&alice, DEVICE, 1_500).await;
    let seen = hook.next().await;
    assert_eq!((seen.kind(), seen.reason()), ("registration-ends", "REGISTRATION_EXPIRED"));
    assert_eq!(seen.event["data"]["registrationId"], expiring);
    assert_eq!(seen.event["data"]["subscriptionId"], made["id"]);
    assert_eq!(seen.header("authorization"), "Bearer hook.token");
    assert_eq!(seen.header("content-type"), "application/cloudevents+json");
    let gone = ask(&alice, "GET", &format!("{V03}/sessions/{expiring}"), "").await;
    assert_eq!(failure(&gone), refused(404, "NOT_FOUND"));

    let (other, deleted) = (create(&alice, V03, OTHER).await, create(&alice, V03, DEVICE).await);
    for id in [other, deleted.clone()] {
        assert_eq!(ask(&alice, "DELETE", &format!("{V03}/sessions/{id}"), "").await.status, 204);
    }
    let seen = hook.next().await;
    assert_eq!((seen.kind(), seen.reason()), ("registration-ends", "NETWORK_TERMINATED"));
    assert_eq!(seen.event["data"]["registrationId"], deleted, "the other device's end is not told here");

    let one = format!("{}/subscriptions/{}", EVENTS[0], made["id"].as_str().unwrap());
    assert_eq!(ask(&alice, "DELETE", &one, "").await.status, 204);
    let seen = hook.next().await;
    assert_eq!((seen.kind(), seen.reason()), ("subscription-ended", "SUBSCRIPTION_DELETED"));
    assert_eq!(seen.event["data"]["subscriptionId"], made["id"]);

    // What ended says nothing more; a subscription that was made after it shows that the event has passed.
    let mut later = webhook().await;
    subscribe(&alice, EVENTS[0], &wanted(ENDS, &later.url())).await;
    let id = create(&alice, V03, DEVICE).await;
    ask(&alice, "DELETE", &format!("{V03}/sessions/{id}"), "").await;
    later.next().await;
    assert!(hook.rest().is_empty() && hers.rest().is_empty());
    assert_eq!(hers.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_by_its_time_its_count_and_its_token() {
    let world = World::with_camara(settings()).await;
    let alice = user(&world, "alice", "+14085550001").await;
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 2] = [
        ("SUBSCRIPTION_EXPIRED", |body| {
            let end = ript::clock::now() + Duration::from_millis(800);
            body["config"]["subscriptionExpireTime"] = json!(end);
        }),
        ("ACCESS_TOKEN_EXPIRED", |body| body["sinkCredential"] = credential("t", after(4))),
    ];
    for (reason, change) in cases {
        let mut hook = webhook().await;
        let mut body = wanted(ENDS, &hook.url());
        change(&mut body);
        let made = subscribe(&alice, EVENTS[0], &body).await;
        let seen = hook.next().await;
        assert_eq!((seen.kind(), seen.reason()), ("subscription-ended", reason));
        let one = format!("{}/subscriptions/{}", EVENTS[0], made["id"].as_str().unwrap());
        assert_eq!(failure(&ask(&alice, "GET", &one, "").await), refused(404, "NOT_FOUND"));
        assert_eq!(ask(&alice, "GET", &format!("{}/subscriptions", EVENTS[0]), "").await.json(), json!([]));
    }
    let mut hook = webhook().await;
    let mut body = wanted(ENDS, &hook.url());
    body["config"]["subscriptionMaxEvents"] = json!(1);
    subscribe(&alice, EVENTS[0], &body).await;
    let id = create(&alice, V03, DEVICE).await;
    ask(&alice, "DELETE", &format!("{V03}/sessions/{id}"), "").await;
    assert_eq!(hook.next().await.kind(), "registration-ends");
    assert_eq!(hook.next().await.reason(), "MAX_EVENTS_REACHED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_subscriptions_and_tells_what_ended_meanwhile() {
    let keys = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let store = Arc::new(MemoryStore::new());
    let services = crate::common::settings(&keys.0, &keys.1);
    let world = World::with_camara_on(services, settings(), store.clone(), keys, None).await;
    let alice = user(&world, "alice", "+14085550001").await;
    let mut hook = webhook().await;
    let mut body = wanted(ENDS, &hook.url());
    body["sinkCredential"] = credential("kept", after(3600));
    let made = subscribe(&alice, EVENTS[0], &body).await;
    let one = format!("{}/subscriptions/{}", EVENTS[0], made["id"].as_str().unwrap());
    store.set_failing(true);
    for (method, path, body) in [
        ("POST", format!("{}/subscriptions", EVENTS[0]), wanted(ENDS, HOOK).to_string()),
        ("PUT", one.clone(), json!({"config": {"subscriptionExpireTime": after(60)}}).to_string()),
        ("DELETE", one.clone(), String::new()),
    ] {
        assert_eq!(
            failure(&ask(&alice, method, &path, &body).await),
            refused(503, "UNAVAILABLE"),
            "{method}"
        );
    }
    store.set_failing(false);
    assert_eq!(ask(&alice, "GET", &one, "").await.json(), made);
    let ended = register(&alice, DEVICE, 1_500).await;

    let (services, store, issuer, passports, address) = world.crash().await;
    let passed = after(2);
    soon("the registration's end", async {
        while ript::clock::now() < passed {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let keys = (issuer, passports);
    let world = World::with_camara_on(services, settings(), store, keys, Some(address)).await;
    let alice = user(&world, "alice", "+14085550001").await;
    assert_eq!(ask(&alice, "GET", &one, "").await.json(), made);
    let seen = hook.next().await;
    assert_eq!((seen.kind(), seen.reason()), ("registration-ends", "REGISTRATION_EXPIRED"));
    assert_eq!(seen.event["data"]["registrationId"], ended);
    assert_eq!(seen.header("authorization"), "Bearer kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_subscriptions_are_as_if_they_were_not_there() {
    let world = World::start().await;
    let alice = user(&world, "alice", "+14085550001").await;
    let mallory = user(&world, "mallory", "+14085550009").await;
    let made = subscribe(&alice, EVENTS[0], &wanted(ENDS, HOOK)).await;
    for base in EVENTS {
        let all = format!("{base}/subscriptions");
        assert_eq!(ask(&mallory, "GET", &all, "").await.json(), json!([]));
        let one = format!("{all}/{}", made["id"].as_str().unwrap());
        for (method, body) in [("GET", ""), ("PUT", "{}"), ("DELETE", "")] {
            let answer = ask(&mallory, method, &one, body).await;
            assert_eq!(failure(&answer), refused(404, "NOT_FOUND"), "{method}");
            let missing = ask(&mallory, method, &format!("{all}/{NOWHERE}"), body).await;
            assert_eq!(answer.body, missing.body, "{method}");
        }
        assert_eq!(ask(&alice, "GET", &one, "").await.json(), made);
    }
    // The same wish of somebody else's is another one.
    subscribe(&mallory, EVENTS[0], &wanted(ENDS, HOOK)).await;
}
