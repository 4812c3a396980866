//! The OpenAPI document is what is checked in, what is served, and what the server does.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Response;
use ript::openapi::document;
use serde_json::{Value, json};

use crate::authorization::{CAMARA, routes};
use crate::common::World;
use crate::common::camara::{self, DEVICE, NOWHERE, OTHER};
use crate::common::camara_calls::{CALLS, ask_as, call, caller, scopes};
use crate::common::user::{ALL_SCOPES, Answer, BOTH, User, token};

#[test]
fn the_checked_in_document_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/openapi.json");
    let checked_in: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let again = "run: cargo run -- openapi > interop/openapi.json";
    assert!(checked_in == document(), "interop/openapi.json is not what the code says; {again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_may_read_it_and_keep_it() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let ask = async |method: &str, tag: Option<&str>| {
        let mut request = alice.bare(method, "/openapi.json").header("origin", "https://app.example");
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        alice.send(request.body(Body::empty()).unwrap()).await
    };
    let whole = ask("GET", None).await;
    assert_eq!((whole.status.as_u16(), whole.header("content-type")), (200, "application/json"));
    assert_eq!(whole.json(), document());
    assert_eq!(whole.header("access-control-allow-origin"), "https://app.example");
    let tag = whole.header("etag");
    assert!(tag.starts_with('"') && whole.header("cache-control").contains("max-age"), "{:?}", whole.headers);
    let kept = ask("GET", Some(tag)).await;
    assert_eq!((kept.status.as_u16(), kept.body.len(), kept.header("etag")), (304, 0, tag));
    assert_eq!(ask("GET", Some("\"other\"")).await.status, 200);
    assert_eq!(ask("HEAD", None).await.status, 200);
    assert_eq!(ask("POST", None).await.problem(), (405, "method-not-allowed".into()));
}

/// The operation that a request is, and the path that it is on.
fn operation(document: &Value, method: &str, uri: &str) -> Option<(String, Value)> {
    let path = uri.split('?').next().unwrap();
    let path = path.strip_prefix("https://").map_or(path, |rest| &rest[rest.find('/').unwrap()..]);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/.well-known/ript/v1/{path}") };
    let parts: Vec<_> = path.split('/').collect();
    let matches = |template: &str| {
        let wanted: Vec<_> = template.split('/').collect();
        wanted.len() == parts.len()
            && wanted.iter().zip(&parts).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let all = document["paths"].as_object().unwrap();
    // What has no variable part wins, as in the router.
    let best = all.keys().filter(|path| matches(path)).min_by_key(|path| path.matches('{').count())?;
    all[best].get(method.to_lowercase()).map(|found| (best.clone(), found.clone()))
}

fn scope_of(operation: &Value) -> Option<&str> {
    operation["security"][0]["bearer"][0].as_str()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_that_is_tested_for_authorization_is_in_it_with_its_scope() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let none = alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &["test"], "other"));
    let document = document();
    for (method, path, body, _) in routes(&call, &a1) {
        let (_, found) = operation(&document, method, &path).unwrap_or_else(|| panic!("{method} {path}"));
        let answer = none.with_body(method, &path, body).await;
        let challenge = answer.header("www-authenticate");
        let told = challenge.split("scope=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(scope_of(&found), told, "{method} {path}");
    }
    for (method, path, scope) in CAMARA {
        for version in ["v0.3", "vwip"] {
            let path = path.replace("{v}", version).replace("{id}", NOWHERE);
            let (_, found) = operation(&document, method, &path).unwrap_or_else(|| panic!("{method} {path}"));
            assert_eq!(scope_of(&found), Some(*scope), "{method} {path}");
        }
    }
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !method.starts_with("x-") {
                all.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    all
}

/// A path of a template: nothing is there, but for the TG.
fn filled(template: &str) -> String {
    let parts = template.split('/').map(|part| match part {
        "{tg}" => "test",
        part if part.starts_with('{') => NOWHERE,
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_in_it_is_there_and_demands_and_answers_what_it_says() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let holding =
        |scopes: &str| alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &["test"], scopes));
    let (none, all) = (holding("other"), holding(&format!("{ALL_SCOPES} {}", scopes())));
    let document = document();
    for (method, template, operation) in operations(&document) {
        let path = filled(&template);
        let documented = |response: &Response<Body>| {
            let status = response.status().as_u16();
            assert!(operation["responses"].get(status.to_string()).is_some(), "{method} {path}: {status}");
            status
        };
        let bare = alice.begin(alice.bare(&method, &path).body(Body::empty()).unwrap()).await;
        let open = operation["security"] == json!([]);
        assert_eq!(documented(&bare) == 401, !open, "{method} {path}");
        let refused = none.begin(none.builder(&method, &path).body(Body::empty()).unwrap()).await;
        match scope_of(&operation) {
            Some(scope) => {
                assert_eq!(documented(&refused), 403, "{method} {path}");
                let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
                assert!(challenge.contains(&format!("scope=\"{scope}\"")), "{method} {path} {challenge}");
            }
            None => assert!(documented(&refused) < 400 || open, "{method} {path}"),
        }
        let request = all.builder(&method, &path).header("content-length", "0");
        let answer = all.begin(request.body(Body::empty()).unwrap()).await;
        assert!(![401, 403].contains(&documented(&answer)), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_in_it_has_the_methods_that_the_router_allows() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    for (template, item) in document()["paths"].as_object().unwrap() {
        let request = alice.bare("PATCH", &filled(template)).body(Body::empty()).unwrap();
        let answer = alice.begin(request).await;
        assert_eq!(answer.status(), 405, "{template}");
        let allow = answer.headers()["allow"].to_str().unwrap();
        let allowed: BTreeSet<_> = allow.split(',').map(|name| name.trim().to_owned()).collect();
        let told = item.as_object().unwrap().keys().flat_map(|name| match name.as_str() {
            "get" => vec!["GET".to_owned(), "HEAD".to_owned()],
            "x-connect" => vec!["CONNECT".to_owned()],
            name => vec![name.to_uppercase()],
        });
        assert_eq!(allowed, told.collect(), "{template}");
    }
}

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
        assert!(answer.headers.contains_key(name.to_lowercase()) || status == "403", "{shown} {name}");
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
