//! The OpenAPI document is what is checked in, what is served, and what the server does.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Response;
use ript::openapi::document;
use serde_json::{Value, json};

use crate::authorization::{camara as camaras, routes};
use crate::common::World;
use crate::common::camara::NOWHERE;
use crate::common::camara_calls::scopes;
use crate::common::events::EVENT_SCOPES;
use crate::common::user::{ALL_SCOPES, token};

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
pub fn operation(document: &Value, method: &str, uri: &str) -> Option<(String, Value)> {
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
    for (method, path, scopes) in camaras() {
        let (_, found) = operation(&document, method, &path).unwrap_or_else(|| panic!("{method} {path}"));
        let told = found["security"].as_array().unwrap().iter().map(|one| one["bearer"][0].as_str().unwrap());
        assert_eq!(told.collect::<Vec<_>>(), scopes, "{method} {path}");
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
    let (none, all) = (holding("other"), holding(&format!("{ALL_SCOPES} {} {EVENT_SCOPES}", scopes())));
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
