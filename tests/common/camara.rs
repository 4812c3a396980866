//! Users of CAMARA's webrtc-registration, and how its answers are read.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use ript::protocol::time::Timestamp;
use serde_json::{Value, json};

use super::World;
use super::user::{Answer, User, token};

pub const BASES: [&str; 2] = ["/webrtc-registration/v0.3", "/webrtc-registration/vwip"];
pub const V03: &str = BASES[0];
pub const SCOPES: &str = "webrtc-registration:sessions:read webrtc-registration:sessions:create \
                      webrtc-registration:sessions:write webrtc-registration:sessions:delete";
pub const DEVICE: &str = "123e4567-e89b-42d3-a456-426614174000";
pub const OTHER: &str = "7f5b1c3a-0d2e-4f60-8a9b-cdef01234567";
pub const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";
pub const CORRELATOR: &str = "b4333c46-49c0-4f62-80d7-f0ef930f1c46";

pub async fn user(world: &World, name: &str, number: &str) -> User {
    world.user(name, number).await.with_token(token(&world.issuer, name, &[number], &["test"], SCOPES))
}

/// One request with a correlator, which has to come back.
pub async fn ask(user: &User, method: &str, path: &str, body: &str) -> Answer {
    let request = user.builder(method, path).header("x-correlator", CORRELATOR);
    let request = request.header("content-length", body.len()).header("content-type", "application/json");
    let answer = user.send(request.body(Body::from(body.to_owned())).unwrap()).await;
    assert_eq!(answer.header("x-correlator"), CORRELATOR, "{method} {path}");
    answer
}

/// Status and code of an error, whose body is held to the schema.
pub fn failure(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    let body = answer.json();
    let keys: BTreeSet<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["code", "message", "status"]));
    assert_eq!(body["status"], answer.status.as_u16());
    let message = body["message"].as_str().unwrap();
    assert!((1..=512).contains(&message.chars().count()), "{message}");
    if matches!(answer.status.as_u16(), 401 | 403) {
        assert!(answer.header("date").ends_with("GMT"), "{answer:?}");
    }
    (answer.status.as_u16(), body["code"].as_str().unwrap().to_owned())
}

pub fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// The registration in an answer, held to the schema: its id and its end.
pub fn registration(body: &Value, number: &str) -> (String, Timestamp) {
    assert_eq!(body["regInfo"], json!({"phoneNumber": number, "regStatus": "Registered"}));
    assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
    let id = body["registrationId"].as_str().unwrap().to_owned();
    uuid::Uuid::parse_str(&id).unwrap();
    (id, Timestamp::parse(body["expiresAt"].as_str().unwrap()).unwrap())
}

pub fn request(device: &str) -> String {
    json!({"deviceId": device}).to_string()
}

pub async fn create(user: &User, base: &str, device: &str) -> String {
    let answer = ask(user, "POST", &format!("{base}/sessions"), &request(device)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    registration(&answer.json(), &user.number).0
}

pub fn after(seconds: u64) -> Timestamp {
    ript::clock::now() + Duration::from_secs(seconds)
}
