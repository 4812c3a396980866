//! What the OpenAPI document says of answers, held against answers.

use axum::body::Body;
use ript::openapi::document;
use serde_json::{Value, json};

use crate::common::World;
use crate::common::camara::{self, DEVICE, NOWHERE, OTHER};
use crate::common::camara_byon as byon;
use crate::common::camara_calls::{CALLS, ask_as, call, caller};
use crate::common::events::{self, ENDS, EVENTS, HOOK, wanted};
use crate::common::user::{Answer, BOTH, User};
use crate::openapi::operation;

/// Whether a value is as a schema says; every member of an object has to be in the schema.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let members = schema.as_object().ok_or("no schema")?;
    let wrong = |why: &str| Err(format!("{why}: {value} by {schema}"));
    if let Some(reference) = members.get("$ref") {
        let found = document.pointer(&reference.as_str().unwrap()[1..]).ok_or("a dangling reference")?;
        return fits(document, found, value);
    }
    if let Some(all) = members.get("allOf") {
        // Members that one part has are no business of the others.
        return all.as_array().unwrap().iter().try_for_each(|part| match part.get("$ref") {
            Some(_) => fits(document, part, value),
            None => part["properties"].as_object().unwrap().iter().try_for_each(|(name, part)| {
                value.get(name).map_or(Ok(()), |value| fits(document, part, value))
            }),
        });
    }
    if let Some(any) = members.get("oneOf") {
        let fitting = any.as_array().unwrap().iter().filter(|one| fits(document, one, value).is_ok()).count();
        return if fitting == 1 { Ok(()) } else { wrong(&format!("{fitting} of oneOf")) };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let of_kind = |name: &Value| name == kind || (kind == "integer" && name == "number");
    let typed = match members.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(of_kind),
        Some(one) => of_kind(one),
        None => true,
    };
    let listed = members.get("enum").is_none_or(|all| all.as_array().unwrap().contains(value));
    if !typed || !listed || members.get("const").is_some_and(|only| only != value) {
        return wrong("type or value");
    }
    if let Some(most) = members.get("maxLength").and_then(Value::as_u64)
        && value.as_str().is_some_and(|text| text.chars().count() as u64 > most)
    {
        return wrong("length");
    }
    if let (Some(items), Value::Array(values)) = (members.get("items"), value) {
        return values.iter().try_for_each(|value| fits(document, items, value));
    }
    let Value::Object(values) = value else { return Ok(()) };
    for name in members.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !values.contains_key(name.as_str().unwrap()) {
            return wrong(&format!("{name} is missing"));
        }
    }
    let Some(known) = members.get("properties") else { return Ok(()) };
    for (name, value) in values {
        let known = known.get(name).ok_or_else(|| format!("{name} is not in {schema}"))?;
        fits(document, known, value)?;
    }
    Ok(())
}

/// Holds an answer to what the document says of it.
fn hold(document: &Value, method: &str, path: &str, answer: &Answer) {
    let (template, operation) =
        operation(document, method, path).unwrap_or_else(|| panic!("{method} {path} is not there"));
    let status = answer.status.as_u16().to_string();
    let mut response = &operation["responses"][&status];
    if let Some(reference) = response.get("$ref") {
        response = document.pointer(&reference.as_str().unwrap()[1..]).unwrap();
    }
    let shown = format!("{method} {template} {status}");
    assert!(response.is_object(), "{shown} is not documented");
    for (name, _) in response["headers"].as_object().into_iter().flatten() {
        // RFC 9114 §4.2: there is no Upgrade over HTTP/3.
        let there = answer.headers.contains_key(name.to_lowercase()) || name == "Upgrade";
        assert!(there || status == "403", "{shown} {name}");
    }
    let kind = answer.header("content-type");
    let Some(content) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{shown} has a body");
        return;
    };
    let content = content.get(kind).unwrap_or_else(|| panic!("{shown} is {kind}"));
    if let Err(why) = fits(document, &content["schema"], &answer.json()) {
        panic!("{shown}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_as_their_schemas_say() {
    // Who lets browsers call vouches for them.
    let world = World::with_camara(Default::default()).await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (mine, incoming) = alice.answered(&a1, &bob, &b1).await;
    let document = document();
    let ask = async |user: &User, method: &str, path: &str, body: Value| {
        let answer = match &body {
            Value::Null => user.send(user.builder(method, path).body(Body::empty()).unwrap()).await,
            body => user.with_body(method, path, body.to_string()).await,
        };
        hold(&document, method, path, &answer);
        answer
    };
    let device = json!({"handler-id": "a2", "advertisement": BOTH, "name": "x", "inbound": true});
    let twin = json!([{"id": 1, "direction": "in", "codecs": [{"name": "opus"}]}]);
    let ring = json!({"handler": a1, "destination": bob.number, "passport": alice.passport(&bob.number)});
    for (method, path, body, status) in [
        ("GET", "providertgs".to_owned(), Value::Null, 200),
        ("GET", "providertgs/test".into(), Value::Null, 200),
        ("GET", "providertgs/none".into(), Value::Null, 404),
        ("POST", "providertgs/test/handlers".into(), device.clone(), 201),
        ("POST", "providertgs/test/handlers".into(), device, 200),
        ("POST", "providertgs/test/handlers".into(), json!({"handler-id": "a3", "advertisement": twin}), 201),
        ("POST", "providertgs/test/handlers".into(), json!({"handler-id": "a4", "advertisement": "x"}), 422),
        ("POST", "providertgs/test/handlers".into(), json!([]), 400),
        ("GET", "providertgs/test/handlers".into(), Value::Null, 200),
        ("GET", a1.clone(), Value::Null, 200),
        ("POST", "providertgs/test/calls".into(), json!({"destination": "+14085550002"}), 403),
        ("POST", "providertgs/test/calls".into(), ring, 201),
        ("GET", "providertgs/test/calls".into(), Value::Null, 200),
        ("GET", format!("{mine}?handler=a1"), Value::Null, 200),
        ("POST", mine.clone(), Value::Null, 200),
        ("POST", mine.clone(), json!({"handler": "a1", "tap": true}), 202),
        ("PUT", format!("{mine}/events?handler=a1"), json!({"event": "ping"}), 200),
        ("PUT", format!("{mine}/events?handler=a1"), json!({"event": "alerting"}), 409),
        ("POST", "push/tickets?handler=a1".into(), Value::Null, 201),
        ("GET", "consumertgs".into(), Value::Null, 200),
        ("POST", "consumertgs".into(), json!({}), 400),
        ("POST", "providertgs/test/certs".into(), json!("x"), 422),
        ("GET", "/.well-known/ript-oauth".into(), Value::Null, 404),
        ("GET", "/.well-known/oauth-protected-resource".into(), Value::Null, 200),
        ("PUT", format!("{mine}/events?handler=a1"), json!({"event": "end"}), 200),
        ("GET", mine.clone(), Value::Null, 200),
        ("POST", mine.clone(), Value::Null, 409),
        ("DELETE", a1.clone(), Value::Null, 204),
    ] {
        let answer = ask(&alice, method, &path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path} {answer:?}");
    }
    assert_eq!(ask(&bob, "GET", &incoming, Value::Null).await.status, 200);
    let (carol, registration) = caller(&world, "carol", "+14085550003").await;
    let sessions = format!("{}/sessions", camara::V03);
    let one = format!("{sessions}/{registration}");
    let mut session = String::new();
    for (method, path, body, status) in [
        ("POST", sessions.clone(), camara::request(OTHER), 201),
        ("POST", sessions.clone(), camara::request(DEVICE), 409),
        ("POST", sessions.clone(), String::new(), 400),
        ("GET", format!("{sessions}?deviceId={DEVICE}"), String::new(), 200),
        ("GET", one.clone(), String::new(), 200),
        ("PUT", one.clone(), "{}".into(), 200),
        ("GET", format!("{sessions}/{NOWHERE}"), String::new(), 404),
        ("POST", format!("{CALLS}/sessions"), "{}".into(), 400),
        ("POST", format!("{CALLS}/sessions"), call("+14085550009", "+14085550002").to_string(), 403),
        ("GET", format!("{CALLS}/sessions/{NOWHERE}"), String::new(), 404),
        ("POST", format!("{CALLS}/sessions"), call("+14085550003", "+14085550002").to_string(), 201),
        ("DELETE", one, String::new(), 204),
    ] {
        let answer = ask_as(&carol, &registration, method, &path, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path} {answer:?}");
        hold(&document, method, &path, &answer);
        if status == 201 && path.starts_with(CALLS) {
            session = format!("{CALLS}/sessions/{}", answer.json()["mediaSessionId"].as_str().unwrap());
        }
    }
    for (method, tail, body) in
        [("GET", "", ""), ("PUT", "/status", "{}"), ("DELETE", "", ""), ("DELETE", "", "")]
    {
        let path = format!("{session}{tail}");
        hold(&document, method, &path, &ask_as(&carol, &registration, method, &path, body).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_about_events_are_as_their_schemas_say() {
    let world = World::start().await;
    let alice = events::user(&world, "alice", "+14085550001").await;
    camara::create(&alice, camara::V03, DEVICE).await;
    let document = document();
    for base in EVENTS {
        let all = format!("{base}/subscriptions");
        let made = camara::ask(&alice, "POST", &all, &wanted(ENDS, HOOK).to_string()).await;
        hold(&document, "POST", &all, &made);
        let one = format!("{all}/{}", made.json()["id"].as_str().unwrap());
        for (method, path, body, status) in [
            ("POST", &all, wanted(ENDS, HOOK).to_string(), 409),
            ("POST", &all, "{}".to_owned(), 400),
            ("GET", &all, String::new(), 200),
            ("GET", &one, String::new(), 200),
            ("PUT", &one, "{}".into(), 200),
            ("PUT", &one, "[]".into(), 400),
            ("DELETE", &one, String::new(), 204),
            ("DELETE", &one, String::new(), 404),
            ("GET", &format!("{base}/channels/{DEVICE}"), String::new(), 426),
            ("GET", &format!("{base}/channels/{NOWHERE}"), String::new(), 404),
        ] {
            let answer = camara::ask(&alice, method, path, &body).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path} {answer:?}");
            hold(&document, method, path, &answer);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_generation_of_2023_are_as_their_schemas_say() {
    let world = World::with_camara(Default::default()).await;
    let alice = byon::alice(&world).await;
    let document = document();
    let (client, registered) = byon::register(&alice, DEVICE).await;
    let device = json!({"deviceId": DEVICE}).to_string();
    let body = call(&alice.number, "+14085550002").to_string();
    let made = byon::ask(&alice, "POST", byon::CALLS, &client, &body).await;
    hold(&document, "POST", byon::CALLS, &made);
    let session = made.json()["resourceUrl"].as_str().unwrap().strip_prefix(&alice.base).unwrap().to_owned();
    for (method, path, body, status) in [
        ("POST", byon::RACM, device, 200),
        ("POST", byon::RACM, "{}".into(), 400),
        ("PUT", &registered, String::new(), 200),
        ("GET", &session, String::new(), 200),
        ("PUT", &format!("{session}/status"), "{}".into(), 400),
        ("DELETE", &format!("{}/{NOWHERE}", byon::CALLS), String::new(), 404),
        ("GET", byon::CHANNELS, String::new(), 200),
        ("POST", byon::CHANNELS, byon::wanted(), 200),
        ("GET", byon::CHANNELS, String::new(), 200),
        ("POST", byon::CHANNELS, "{}".into(), 400),
        ("GET", &format!("{}/x", byon::CHANNELS), String::new(), 404),
        ("DELETE", &registered, String::new(), 204),
        ("DELETE", &registered, String::new(), 404),
    ] {
        let answer = byon::ask(&alice, method, path, &client, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path} {answer:?}");
        hold(&document, method, path, &answer);
    }
}

#[test]
fn the_judge_of_answers_sees_what_does_not_fit() {
    let document = json!({"s": {"type": "string", "maxLength": 2}});
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": {
            "a": {"$ref": "#/s"},
            "b": {"oneOf": [{"type": "null"}, {"type": ["integer", "boolean"]}]},
            "c": {"type": "array", "items": {"enum": ["x"]}},
        },
    });
    for good in [json!({"a": "x"}), json!({"a": "", "b": null, "c": ["x", "x"]}), json!({"a": "x", "b": 7})] {
        assert_eq!(fits(&document, &schema, &good), Ok(()));
    }
    for bad in [
        json!([]),
        json!({}),
        json!({"a": 7}),
        json!({"a": "xyz"}),
        json!({"a": "x", "b": "y"}),
        json!({"a": "x", "c": ["y"]}),
        json!({"a": "x", "d": 1}),
    ] {
        assert!(fits(&document, &schema, &bad).is_err(), "{bad}");
    }
}
