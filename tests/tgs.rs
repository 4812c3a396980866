//! `GET …/providertgs` and `GET …/providertgs/{tg}`.

use std::sync::Arc;
use std::time::Duration;

use ript::identity::canonical::Identity;
use ript::identity::certificate::{Anchors, Chain};
use ript::identity::devca::DevCa;
use ript::identity::enrol::Enroller;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::common::World;
use crate::common::user::{ALL_SCOPES, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_sees_the_tgs_that_it_may_use_and_no_others() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let list = alice.get("providertgs").await;
    let uri = format!("{}/.well-known/ript/v1/providertgs/test", world.url());
    assert_eq!(list.json(), json!({"tgs": [{"uri": uri, "name": "test", "description": "for tests"}]}));
    assert_eq!(list.header("cache-control"), "private, max-age=300");
    assert_eq!(list.header("content-type"), "application/json");
    let all = alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &["*"], ALL_SCOPES));
    assert_eq!(all.get("providertgs").await.json()["tgs"].as_array().unwrap().len(), 2);
    let none = alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &[], ALL_SCOPES));
    assert_eq!(none.get("providertgs").await.json(), json!({"tgs": []}));
    for path in ["providertgs/other", "providertgs/nowhere", "providertgs/te%73t2", "providertgs/"] {
        assert_eq!(alice.get(path).await.problem(), (404, "not-found".into()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tg_describes_itself() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let uri = alice.get("providertgs").await.json()["tgs"][0]["uri"].as_str().unwrap().to_owned();
    let answer = alice.get(&uri).await;
    assert_eq!(answer.header("cache-control"), "private, max-age=300");
    let tg = answer.json();
    assert_eq!(tg["uri"], uri);
    assert_eq!(tg["outbound"], json!({"destinations": ["*", "!+1900*"]}));
    assert_eq!(tg["inbound"], json!({"destinations": "*"}));
    assert_eq!(tg["numbers"], json!(["+14085550001"]));
    let times = ["retry-backoff", "media-timeout", "keepalive", "answer-timeout"];
    assert_eq!(times.map(|t| tg[t].as_u64().unwrap()), [2000, 1000, 15_000, 60_000]);
    assert_eq!(tg["media-encodings"], json!(["ript-chunk/1"]));
    ript::protocol::advertisement::Advertisement::parse(tg["advertisement"].as_str().unwrap()).unwrap();
    for name in ["name", "description"] {
        assert!(tg[name].is_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_certify_the_numbers_of_the_token() {
    let ca = DevCa::generate(ript::clock::now()).unwrap();
    let hour = Duration::from_secs(3600);
    let world = World::with(|settings| {
        settings.enroller = Some(Arc::new(Enroller::new(ca.cert_pem(), &ca.key_pem(), hour).unwrap()));
    })
    .await;
    let alice = world.user("alice", "+14085550001").await;
    let with =
        |numbers: &[&str]| alice.with_token(token(&world.issuer, "alice", numbers, &["test"], ALL_SCOPES));
    let anchors = Anchors::from_pem(ca.cert_pem()).unwrap();
    let covers = |tg: &Value, number: &str| {
        let pem = tg["outbound"]["origins"].as_str().unwrap();
        let all = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.unwrap().to_vec());
        let chain = Chain::new(all.collect()).unwrap();
        chain.check(&anchors, ript::clock::now()).unwrap();
        chain.covers(&Identity::from_number(number).unwrap())
    };
    let exact = alice.get("providertgs/test").await.json();
    assert!(covers(&exact, "+14085550001") && !covers(&exact, "+14085550002"));
    assert_eq!(alice.get("providertgs/test").await.json(), exact, "it is kept");
    let range = with(&["+1408555*", "+442071838750", "a@example.com"]).get("providertgs/test").await.json();
    assert!(covers(&range, "+14085550002") && covers(&range, "+442071838750"));
    assert!(!covers(&range, "+14095550002") && !covers(&range, "+442071838751"));
    let none = with(&["a@example.com"]).get("providertgs/test").await.json();
    assert_eq!(none["outbound"].get("origins"), None, "an address is no number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_a_resource_lacks_is_answered_with_those_it_has() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    for (method, path, allowed) in [
        ("DELETE", "providertgs".to_owned(), "GET,HEAD"),
        ("POST", "providertgs/test".into(), "GET,HEAD"),
        ("PUT", "providertgs/test/handlers".into(), "GET,HEAD,POST"),
        ("POST", a1.clone(), "GET,HEAD,PUT,DELETE"),
        ("PUT", "providertgs/test/calls".into(), "GET,HEAD,POST"),
        ("DELETE", call.clone(), "GET,HEAD,POST"),
        ("POST", format!("{call}/events"), "GET,HEAD,PUT"),
        ("POST", format!("{call}/media"), "GET,HEAD,PUT,CONNECT"),
        ("POST", "push".into(), "GET,HEAD,CONNECT"),
        ("PUT", "push".into(), "GET,HEAD,CONNECT"),
        ("GET", "push/tickets".into(), "POST"),
    ] {
        let answer = alice.with_body(method, &path, "").await;
        assert_eq!(answer.problem(), (405, "method-not-allowed".into()), "{method} {path}");
        let sorted = |text: &str| {
            let mut all: Vec<_> = text.split(',').map(|m| m.trim().to_owned()).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(answer.header("allow")), sorted(allowed), "{method} {path}");
    }
    assert_eq!(alice.get(&call).await.json()["state"], "answered");
}
