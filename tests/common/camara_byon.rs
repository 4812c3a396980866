//! Users of CAMARA's generation of 2023, and how its answers are read.

use axum::body::Body;
use serde_json::{Value, json};

use super::World;
use super::camara::{CORRELATOR, DEVICE};
use super::user::{Answer, User, token};

pub const RACM: &str = "/racm/v1/tel:+14085550001/session";
pub const CALLS: &str = "/vvoip/v1/tel:+14085550001/sessions";
pub const CHANNELS: &str = "/notificationchannel/v1/123e4567-e89b-42d3-a456-426614174000/channels";
pub const TRANSACTION: &str = "1d8d3f8a-0000-4f62-80d7-f0ef930f1c46";

pub fn wanted() -> String {
    json!({"channels": [{"channelType": "WebSockets", "channelData": {}}]}).to_string()
}

pub fn call() -> Value {
    json!({
        "originatorAddress": "tel:+14085550001",
        "receiverAddress": "tel:+14085550002",
        "offer": {"sdp": "v=0\r\n"},
    })
}

pub fn holder(world: &World, user: &User, name: &str, scopes: &str) -> User {
    user.with_token(token(&world.issuer, name, &[&user.number], &["test"], scopes))
}

pub async fn alice(world: &World) -> User {
    let alice = world.user("alice", "+14085550001").await;
    holder(world, &alice, "alice", "read write")
}

/// One request with a transaction and a correlator, which both have to come back.
pub async fn ask(user: &User, method: &str, path: &str, client: &str, body: &str) -> Answer {
    let request = user.builder(method, path).header("x-correlator", CORRELATOR);
    let request = request.header("transactionId", TRANSACTION).header("clientId", client);
    let request = request.header("content-length", body.len());
    let answer = user.send(request.body(Body::from(body.to_owned())).unwrap()).await;
    assert_eq!(answer.header("x-correlator"), CORRELATOR, "{method} {path}");
    assert_eq!(answer.header("transactionid"), TRANSACTION, "{method} {path}");
    answer
}

/// Registers a device: its clientId, and its session's path.
pub async fn register(user: &User, device: &str) -> (String, String) {
    let path = RACM.replace("+14085550001", &user.number);
    let answer = ask(user, "POST", &path, "unused", &json!({"deviceId": device}).to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let client = body["connectionInformation"]["clientId"].as_str().unwrap().to_owned();
    let url = body["resourceURL"].as_str().unwrap();
    assert_eq!(body, json!({"connectionInformation": {"clientId": client}, "resourceURL": url}));
    let session = url.strip_prefix(&user.base).unwrap().to_owned();
    assert!(session.starts_with(&format!("{path}/")), "{session}");
    (client, session)
}

/// The one channel of a document, held to the schema: its URL.
pub fn channel_url(document: &Value, user: &User, device: &str) -> String {
    let [channel] = &document["channels"].as_array().unwrap()[..] else { panic!("{document}") };
    let url = channel["channelData"]["channelURL"].as_str().unwrap().to_owned();
    let own = CHANNELS.replace(DEVICE, device);
    let resource = format!("{}{own}", user.base);
    let expected =
        json!({"channelType": "WebSockets", "channelData": {"channelURL": url}, "resourceURL": resource});
    assert_eq!(*channel, expected);
    let secret = url.strip_prefix(&format!("{}{own}/", user.base.replace("https:", "wss:"))).unwrap();
    assert!(secret.len() >= 43, "{secret}");
    url
}
