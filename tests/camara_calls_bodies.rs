//! CAMARA webrtc-call-handling: bodies that break the schema, and how they are refused.

use serde_json::{Value, json};

use crate::common::World;
use crate::common::camara::{NOWHERE, failure, refused};
use crate::common::camara_calls::{CALL_BASES, CALLS, ask_as, call, caller};
use crate::common::user::User;

const ALICE: &str = "+14085550001";
const BOB: &str = "+14085550002";
const BAD: &str = "INVALID_ARGUMENT";
const RANGE: &str = "OUT_OF_RANGE";

/// A body with one member in another state.
fn with(mut body: Value, name: &str, value: Value) -> String {
    body[name] = value;
    body.to_string()
}

fn without(mut body: Value, name: &str) -> String {
    body.as_object_mut().unwrap().remove(name);
    body.to_string()
}

/// Bodies that are no JSON object of a size that is taken.
fn no_objects() -> Vec<String> {
    let deep = |open: &str, close: &str| format!("{{\"x\":{}{}}}", open.repeat(5000), close.repeat(5000));
    ["[]", "null", "7", "\"x\"", "{", "{'a':1}", " ", "{\"a\":1e999}", "{}{}", "\0", "{\"a\":\"\\ud800\"}"]
        .map(str::to_owned)
        .into_iter()
        .chain([deep("[", "]"), deep("{\"x\":", "}"), "[".repeat(5000)])
        .chain([" ".repeat(1_100_000), format!("{{\"x\":\"{}\"}}", "x".repeat(1_100_000))])
        .collect()
}

/// LocationDetails that aren't, in both bodies that have them: the field, and how it is refused.
fn no_locations() -> Vec<(Value, &'static str, &'static str)> {
    let circle = |latitude: f64, longitude: f64, radius: f64| json!({"coordinates": {"latitude": latitude, "longitude": longitude, "radius": radius}});
    vec![
        (Value::Null, "locationDetails", BAD),
        (json!([]), "locationDetails", BAD),
        (json!({"shape": "Square"}), "locationDetails.shape", BAD),
        (json!({"shape": "Circle", "coordinates": {}}), "locationDetails.coordinates.latitude", BAD),
        (json!({"shape": "Circle", "coordinates": 7}), "locationDetails.coordinates", BAD),
        (circle(90.1, 0.0, 1.0), "locationDetails.coordinates.latitude", RANGE),
        (circle(0.0, -180.1, 1.0), "locationDetails.coordinates.longitude", RANGE),
        (circle(0.0, 0.0, -1.0), "locationDetails.coordinates.radius", RANGE),
        (json!({"method": "Sextant"}), "locationDetails.method", BAD),
        (json!({"confidence": {"value": 101}}), "locationDetails.confidence.value", RANGE),
        (json!({"confidence": {"pdf": 7}}), "locationDetails.confidence.pdf", BAD),
        (json!({"timestamp": "2025-10-06T19:31:25"}), "locationDetails.timestamp", BAD),
    ]
}

/// Descriptions that aren't.
fn no_sdp(field: &'static str) -> Vec<(Value, String)> {
    vec![
        (Value::Null, field.to_owned()),
        (json!("v=0"), field.to_owned()),
        (json!([]), field.to_owned()),
        (json!({}), format!("{field}.sdp")),
        (json!({"sdp": null}), format!("{field}.sdp")),
        (json!({"sdp": {"sdp": "v=0"}}), format!("{field}.sdp")),
        (json!({"sdp": "x".repeat(65_537)}), format!("{field}.sdp")),
        (json!({"sdp": "é".repeat(65_537)}), format!("{field}.sdp")),
    ]
}

/// One refused body, and the field that the message begins with.
async fn refuse(user: &User, to: (&str, &str, &str), body: &str, expected: (&str, &str)) {
    let (registration, method, path) = to;
    let (field, code) = expected;
    let answer = ask_as(user, registration, method, path, body).await;
    let shown: String = body.chars().take(300).collect();
    assert_eq!(failure(&answer), refused(400, code), "{method} {shown}");
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("{field}: ")), "{shown}: {message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_calls_that_break_the_schema_are_refused_with_the_field() {
    let world = World::start().await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let whole = || call(ALICE, BOB);
    for base in CALL_BASES {
        let path = format!("{base}/sessions");
        let to = (registration.as_str(), "POST", path.as_str());
        for body in no_objects() {
            refuse(&alice, to, &body, ("body", BAD)).await;
        }
        for body in ["", "{}"] {
            refuse(&alice, to, body, ("originatorAddress", BAD)).await;
        }
        for name in ["originatorAddress", "receiverAddress", "offer"] {
            refuse(&alice, to, &without(whole(), name), (name, BAD)).await;
        }
        for address in [
            Value::Null,
            json!(14_085_550_001_u64),
            json!([ALICE]),
            "".into(),
            ALICE.into(),
            "tel:14085550001".into(),
            "tel:+1".into(),
            "tel:+04085550001".into(),
            "tel:+1234567890123456".into(),
            "tel:4711".into(),
            "tel:4711;phone-context=example".into(),
            "sip:alice".into(),
            "sip:alice@example".into(),
            "sips:alice@example.com".into(),
            "sip:+14085550001@example.com;user=phone".into(),
            "urn:service:sosx".into(),
            "https://example.com".into(),
            format!("sip:{}@example.com", "a".repeat(241)).into(),
            "x".repeat(60_000).into(),
        ] {
            for name in ["originatorAddress", "receiverAddress"] {
                refuse(&alice, to, &with(whole(), name, address.clone()), (name, BAD)).await;
            }
        }
        let nobody = with(whole(), "receiverAddress", json!("sip:anonymous@anonymous.invalid"));
        refuse(&alice, to, &nobody, ("receiverAddress", BAD)).await;
        for (name, value) in [
            ("originatorName", json!(7)),
            ("originatorName", "é".repeat(257).into()),
            ("receiverName", Value::Null),
            ("receiverName", "x".repeat(257).into()),
            ("callType", json!("emergency")),
            ("callType", Value::Null),
            ("status", json!("Initial")),
            ("status", Value::Null),
            ("answer", json!({"sdp": "v=0"})),
            ("answer", Value::Null),
        ] {
            refuse(&alice, to, &with(whole(), name, value), (name, BAD)).await;
        }
        for (value, field) in no_sdp("offer") {
            refuse(&alice, to, &with(whole(), "offer", value), (&field, BAD)).await;
        }
        for (value, field, code) in no_locations() {
            refuse(&alice, to, &with(whole(), "locationDetails", value), (field, code)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_changes_that_break_the_schema_are_refused_with_the_field() {
    let world = World::start().await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let whole = || json!({"status": "Connected"});
    for base in CALL_BASES {
        let path = format!("{base}/sessions/{NOWHERE}/status");
        let to = (registration.as_str(), "PUT", path.as_str());
        for body in no_objects() {
            refuse(&alice, to, &body, ("body", BAD)).await;
        }
        for body in ["", "{}"] {
            refuse(&alice, to, body, ("status", BAD)).await;
        }
        for status in [Value::Null, json!(7), json!("Initial"), json!("ringing"), json!("Muted"), json!("")] {
            refuse(&alice, to, &with(whole(), "status", status), ("status", BAD)).await;
        }
        for name in ["offer", "answer"] {
            for (value, field) in no_sdp(name) {
                refuse(&alice, to, &with(whole(), name, value), (&field, BAD)).await;
            }
        }
        for (value, field, code) in no_locations() {
            refuse(&alice, to, &with(whole(), "locationDetails", value), (field, code)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_full_descriptions_with_every_character_escaped_get_through() {
    let world = World::start().await;
    let (alice, registration) = caller(&world, "alice", ALICE).await;
    let sdp = "\\u000a".repeat(65_536);
    let body = format!(r#"{{"status":"Connected","offer":{{"sdp":"{sdp}"}},"answer":{{"sdp":"{sdp}"}}}}"#);
    let path = format!("{CALLS}/sessions/{NOWHERE}/status");
    // Nothing is wrong with it but that there is no such session.
    assert_eq!(failure(&ask_as(&alice, &registration, "PUT", &path, &body).await), refused(404, "NOT_FOUND"));
}
