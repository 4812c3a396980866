//! Users of CAMARA's webrtc-events, and webhooks that the server may reach.

use std::time::Duration;

use ript::adapter::camara::registration::Limits;
use ript::adapter::camara::{Settings, SinkSettings};
use ript::protocol::time::Timestamp;
use ript::service::fetch;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::camara::{DEVICE, SCOPES, after, ask};
use super::user::{User, token};
use super::webhook::Webhook;
use super::{World, ca};

pub const EVENTS: [&str; 3] = ["/webrtc-events/v0.3", "/webrtc-events/v0.2", "/webrtc-events/vwip"];
pub const STATUS: &str = "org.camaraproject.webrtc-events.v0.session-status";
pub const INVITATION: &str = "org.camaraproject.webrtc-events.v0.session-invitation";
pub const ENDS: &str = "org.camaraproject.webrtc-events.v0.registration-ends";
pub const EVENT_SCOPES: &str = "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create \
                                webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create \
                                webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create \
                                webrtc-events:read webrtc-events:update webrtc-events:delete";

/// A webhook that is nowhere.
pub const HOOK: &str = "https://hook.example/x";

/// Webhooks may be on loopback with certificates of the tests' CA, and registrations short.
pub fn settings() -> Settings {
    let root = CertificateDer::from_pem_slice(ca().cert_pem().as_bytes()).expect("a certificate");
    let fetch = fetch::Settings { allow: vec!["127.0.0.0/8".parse().expect("a network")], roots: vec![root] };
    Settings {
        registrations: Limits { shortest: Duration::from_secs(1), ..Limits::default() },
        sinks: SinkSettings { fetch, ..SinkSettings::default() },
        ..Settings::default()
    }
}

pub async fn webhook() -> Webhook {
    let server = ca().issue_server(&[], ript::clock::now()).expect("a certificate");
    Webhook::start(&server.cert_pem, &server.key_pem).await
}

/// A token for both APIs.
pub async fn user(world: &World, name: &str, number: &str) -> User {
    let scopes = format!("{SCOPES} {EVENT_SCOPES}");
    world.user(name, number).await.with_token(token(&world.issuer, name, &[number], &["test"], &scopes))
}

pub fn wanted(event_type: &str, sink: &str) -> Value {
    json!({
        "protocol": "HTTP",
        "sink": sink,
        "types": [event_type],
        "config": {"subscriptionDetail": {"deviceId": DEVICE}},
    })
}

pub fn credential(token: &str, expires: Timestamp) -> Value {
    json!({
        "credentialType": "ACCESSTOKEN",
        "accessToken": token,
        "accessTokenExpiresUtc": expires,
        "accessTokenType": "bearer",
    })
}

/// Subscribes; the answer is held to the schema.
pub async fn subscribe(user: &User, base: &str, body: &Value) -> Value {
    let answer = ask(user, "POST", &format!("{base}/subscriptions"), &body.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (201, "application/json"),
        "{answer:?}"
    );
    let made = answer.json();
    for name in ["protocol", "sink", "types"] {
        assert_eq!(made[name], body[name], "{made}");
    }
    let device = made["config"]["subscriptionDetail"]["deviceId"].as_str().expect("a device");
    let asked = body["config"]["subscriptionDetail"]["deviceId"].as_str().expect("a device");
    assert!(device.eq_ignore_ascii_case(asked));
    uuid::Uuid::parse_str(made["id"].as_str().expect("an id")).expect("a UUID");
    for name in ["startsAt", "expiresAt"] {
        Timestamp::parse(made[name].as_str().expect("a time")).expect("a time");
    }
    assert_eq!(made["status"], "ACTIVE");
    assert!(made.get("sinkCredential").is_none(), "a token is never told: {made}");
    made
}

pub fn scope(event_type: &str) -> String {
    format!("webrtc-events:{event_type}:create")
}

pub fn with_scopes(world: &World, user: &User, name: &str, scopes: &str) -> User {
    user.with_token(token(&world.issuer, name, &["+14085550001"], &["test"], scopes))
}

/// A body with one member changed; `path` leads to it.
pub fn with(path: &[&str], value: Value) -> String {
    let mut body = wanted(INVITATION, HOOK);
    body["sinkCredential"] = credential("to.ken", after(3600));
    let mut at = &mut body;
    for name in path {
        at = &mut at[*name];
    }
    *at = value;
    body.to_string()
}
