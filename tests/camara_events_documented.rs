//! CAMARA webrtc-events: every answer that its file documents is given, or there is a reason why it can't be.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::json;

use crate::common::World;
use crate::common::camara::{DEVICE, NOWHERE, OTHER, V03, after, ask, create, failure};
use crate::common::events::{
    ENDS, EVENTS, HOOK, INVITATION, STATUS, credential, scope, settings, user, wanted, with, with_scopes,
};
use crate::common::user::User;

const BAD: &str = "INVALID_ARGUMENT";

/// What the file documents: operation, status, codes.
const DOCUMENTED: &[(&str, u16, &[&str])] = &[
    ("create", 201, &[""]),
    ("create", 202, &[""]),
    (
        "create",
        400,
        &[BAD, "OUT_OF_RANGE", "INVALID_PROTOCOL", "INVALID_CREDENTIAL", "INVALID_TOKEN", "INVALID_SINK"],
    ),
    ("create", 401, &["UNAUTHENTICATED"]),
    ("create", 403, &["PERMISSION_DENIED", "SUBSCRIPTION_MISMATCH"]),
    ("create", 409, &["ABORTED", "ALREADY_EXISTS"]),
    ("create", 422, UNPROCESSABLE),
    ("create", 429, &["QUOTA_EXCEEDED", "TOO_MANY_REQUESTS"]),
    ("list", 200, &[""]),
    ("list", 400, &[BAD]),
    ("list", 401, &["UNAUTHENTICATED"]),
    ("list", 403, &["PERMISSION_DENIED"]),
    ("get", 200, &[""]),
    ("get", 400, &[BAD]),
    ("get", 401, &["UNAUTHENTICATED"]),
    ("get", 403, &["PERMISSION_DENIED"]),
    ("get", 404, &["NOT_FOUND"]),
    ("update", 200, &[""]),
    (
        "update",
        400,
        &[BAD, "OUT_OF_RANGE", "INVALID_PROTOCOL", "INVALID_CREDENTIAL", "INVALID_TOKEN", "INVALID_SINK"],
    ),
    ("update", 401, &["UNAUTHENTICATED"]),
    ("update", 403, &["PERMISSION_DENIED", "SUBSCRIPTION_MISMATCH"]),
    ("update", 404, &["NOT_FOUND"]),
    ("update", 422, UNPROCESSABLE),
    ("update", 429, &["QUOTA_EXCEEDED", "TOO_MANY_REQUESTS"]),
    ("delete", 204, &[""]),
    ("delete", 202, &[""]),
    ("delete", 400, &[BAD]),
    ("delete", 401, &["UNAUTHENTICATED"]),
    ("delete", 403, &["PERMISSION_DENIED"]),
    ("delete", 404, &["NOT_FOUND"]),
];
const UNPROCESSABLE: &[&str] = &[
    "SERVICE_NOT_APPLICABLE",
    "MISSING_IDENTIFIER",
    "UNSUPPORTED_IDENTIFIER",
    "UNNECESSARY_IDENTIFIER",
    "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED",
    "MULTIEVENT_COMBINATION_TEMPORARILY_NOT_SUPPORTED",
];

/// What cannot arise: operation, status, code, why. The answers of the callback are the webhook's: what each means is
/// tested beside the task that sends (`adapter::camara::events`).
const NEVER: &[(&str, u16, &str, &str)] = &[
    ("create", 202, "", "a subscription is there when its request is answered"),
    (
        "create",
        409,
        "ABORTED",
        "requests of one user take turns, so the second finds the first: ALREADY_EXISTS",
    ),
    ("create", 422, "MISSING_IDENTIFIER", "without deviceId the schema is broken: INVALID_ARGUMENT"),
    ("create", 422, "UNSUPPORTED_IDENTIFIER", "deviceId is the one identifier, and supported"),
    ("create", 422, "UNNECESSARY_IDENTIFIER", "a token names no device, so deviceId is never unnecessary"),
    ("create", 422, "MULTIEVENT_COMBINATION_TEMPORARILY_NOT_SUPPORTED", "no combination is supported ever"),
    ("create", 429, "TOO_MANY_REQUESTS", "requests of these APIs are not counted over time"),
    ("update", 400, "INVALID_PROTOCOL", "protocol is no property of an update: INVALID_ARGUMENT"),
    ("update", 400, "INVALID_SINK", "sink is no property of an update: INVALID_ARGUMENT"),
    ("update", 403, "SUBSCRIPTION_MISMATCH", "one scope is for all types, and others' are not found"),
    ("update", 422, "SERVICE_NOT_APPLICABLE", "an update names no device"),
    ("update", 422, "MISSING_IDENTIFIER", "an update names no device"),
    ("update", 422, "UNSUPPORTED_IDENTIFIER", "an update names no device"),
    ("update", 422, "UNNECESSARY_IDENTIFIER", "a device in an update is no property of it: INVALID_ARGUMENT"),
    ("update", 422, "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED", "an update names no types"),
    ("update", 422, "MULTIEVENT_COMBINATION_TEMPORARILY_NOT_SUPPORTED", "an update names no types"),
    ("update", 429, "QUOTA_EXCEEDED", "an update needs no more room"),
    ("update", 429, "TOO_MANY_REQUESTS", "requests of these APIs are not counted over time"),
    ("delete", 202, "", "the subscription has ended when its deletion is answered"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_answer_is_given_or_cannot_arise() {
    let mut camara = settings();
    camara.sinks.per_user = 2;
    let world = World::with_camara(camara).await;
    let alice = user(&world, "alice", "+14085550001").await;
    create(&alice, V03, DEVICE).await;
    let mut given = BTreeSet::new();
    let all = format!("{}/subscriptions", EVENTS[0]);
    let mut seen = async |operation: &'static str, who: &User, method: &str, path: &str, body: String| {
        let answer = ask(who, method, path, &body).await;
        let status = answer.status.as_u16();
        let code = if status < 400 { String::new() } else { failure(&answer).1 };
        given.insert((operation, status, code));
        answer
    };
    let nobody = alice.with_token("x".into());
    let denied = with_scopes(&world, &alice, "alice", "ript:calls");
    let other = with_scopes(&world, &alice, "alice", &scope(STATUS));
    let made = seen("create", &alice, "POST", &all, wanted(INVITATION, HOOK).to_string()).await.json();
    let one = format!("{all}/{}", made["id"].as_str().unwrap());
    let far = json!({"deviceId": OTHER});
    for (who, body) in [
        (&alice, "{}".to_owned()),
        (&alice, with(&["config", "subscriptionMaxEvents"], json!(0))),
        (&alice, with(&["protocol"], json!("NATS"))),
        (&alice, with(&["sinkCredential"], json!({}))),
        (&alice, with(&["sinkCredential", "accessTokenType"], json!("mac"))),
        (&alice, with(&["sink"], json!("https://10.0.0.1/"))),
        (&nobody, "{}".to_owned()),
        (&denied, "{}".to_owned()),
        (&other, wanted(INVITATION, HOOK).to_string()),
        (&alice, wanted(INVITATION, HOOK).to_string()),
        (&alice, with(&["types"], json!([INVITATION, STATUS]))),
        (&alice, with(&["config", "subscriptionDetail"], far)),
        (&alice, wanted(ENDS, HOOK).to_string()),
        (&alice, wanted(STATUS, HOOK).to_string()),
    ] {
        seen("create", who, "POST", &all, body).await;
    }
    for (operation, method, path, body) in [
        ("list", "GET", &all, ""),
        ("get", "GET", &one, ""),
        ("update", "PUT", &one, "{}"),
        ("delete", "DELETE", &one, ""),
    ] {
        for who in [&nobody, &denied, &alice] {
            seen(operation, who, method, path, body.to_owned()).await;
        }
        if operation != "list" {
            seen(operation, &alice, method, &format!("{all}/"), body.to_owned()).await;
            seen(operation, &alice, method, &format!("{all}/{NOWHERE}"), body.to_owned()).await;
        }
    }
    for body in [
        json!({"sinkCredential": {}}),
        json!({"sinkCredential": credential("a b", after(60))}),
        json!({"config": {"subscriptionExpireTime": "2020-01-01T00:00:00Z"}}),
    ] {
        seen("update", &alice, "PUT", &one, body.to_string()).await;
    }
    // A list has no parameter but the correlator, which `ask` sends well.
    let request = alice.builder("GET", &all).header("x-correlator", "a b");
    let (status, code) = failure(&alice.send(request.body(Body::empty()).unwrap()).await);
    given.insert(("list", status, code));

    let documented: BTreeSet<_> = DOCUMENTED
        .iter()
        .flat_map(|(operation, status, codes)| {
            codes.iter().map(|code| (*operation, *status, (*code).to_owned()))
        })
        .collect();
    let never: BTreeSet<_> =
        NEVER.iter().map(|(operation, status, code, _)| (*operation, *status, (*code).to_owned())).collect();
    let expected: BTreeSet<_> = documented.difference(&never).cloned().collect();
    assert_eq!(given, expected);
    assert!(never.is_subset(&documented));
}
