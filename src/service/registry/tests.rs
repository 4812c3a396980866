use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::protocol::time::Timestamp;
use crate::store::Store;
use crate::store::memory::MemoryStore;

fn user(name: &str, numbers: &[&str]) -> Principal {
    Principal {
        issuer: "urn:test".into(),
        subject: name.into(),
        numbers: numbers.iter().map(|n| (*n).to_owned()).collect(),
        tgs: vec!["*".into()],
        scopes: BTreeSet::new(),
        expires: Timestamp::from_millis(0),
    }
}

fn device(id: &str) -> HandlerDescription {
    HandlerDescription {
        uri: None,
        handler_id: id.into(),
        advertisement: json!("1 in: opus; 1 out: opus;"),
        name: None,
        inbound: None,
    }
}

fn tg(name: &str) -> TgId {
    name.parse().unwrap()
}

fn number(text: &str) -> Number {
    text.parse().unwrap()
}

async fn registry(store: &Arc<dyn Store>) -> Registry {
    Registry::load(StoreHandle(store.clone()), 3).await.unwrap()
}

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test]
async fn a_number_finds_all_devices_of_the_user_who_registered_last() {
    let registry = registry(&store()).await;
    let (alice, bob) = (user("alice", &["+14085550001"]), user("bob", &["+14085550001", "b@Example.com"]));
    let (a1, _) = registry.register(&alice, &tg("x"), &device("a1")).await.unwrap();
    let (a2, _) = registry.register(&alice, &tg("y"), &device("a2")).await.unwrap();
    assert_eq!(registry.find(&number("+14085550001")), [a1.clone(), a2]);
    let (b1, _) = registry.register(&bob, &tg("x"), &device("b1")).await.unwrap();
    assert_eq!(registry.find(&number("+14085550001")), std::slice::from_ref(&b1));
    assert_eq!(registry.find(&number("b@example.COM")), std::slice::from_ref(&b1));
    assert_eq!(registry.find(&number("+14085550002")), []);
    registry.remove(&bob, b1.key).await.unwrap();
    assert_eq!(registry.find(&number("+14085550001")).len(), 2);
    assert_eq!(registry.find(&number("b@example.com")), []);
    assert_eq!(registry.own(&alice, a1.key), Some(a1));
}

#[tokio::test]
async fn a_pattern_is_found_where_no_exact_number_is() {
    let registry = registry(&store()).await;
    let (gateway, _) =
        registry.register(&user("gateway", &["+1408*"]), &tg("x"), &device("g")).await.unwrap();
    let (phone, _) =
        registry.register(&user("phone", &["+14085550001"]), &tg("x"), &device("p")).await.unwrap();
    assert_eq!(registry.find(&number("+14085550001")), [phone]);
    assert_eq!(registry.find(&number("+14085550002")), [gateway]);
    assert_eq!(registry.find(&number("+14155550002")), []);
}

#[tokio::test]
async fn the_same_id_again_is_the_same_device_and_a_user_has_a_bounded_number() {
    let registry = registry(&store()).await;
    let alice = user("alice", &["+14085550001"]);
    let (first, new) = registry.register(&alice, &tg("x"), &device("a1")).await.unwrap();
    assert!(new);
    let moved = user("alice", &["+14085550009"]);
    let (again, new) = registry.register(&moved, &tg("x"), &device("a1")).await.unwrap();
    assert_eq!((again.key, again.order, new), (first.key, first.order, false));
    // The token speaks for another number by now.
    assert_eq!(registry.find(&number("+14085550001")), []);
    assert_eq!(registry.find(&number("+14085550009")).len(), 1);
    for (at, id) in [("y", "a1"), ("x", "a2")] {
        assert!(registry.register(&alice, &tg(at), &device(id)).await.unwrap().1);
    }
    let refused = registry.register(&alice, &tg("x"), &device("a4")).await.unwrap_err();
    assert_eq!(refused.code, Code::TooMany);
    assert!(registry.register(&user("bob", &[]), &tg("x"), &device("a1")).await.unwrap().1);
}

#[tokio::test]
async fn a_device_is_named_by_uri_path_or_id_by_its_own_user_only() {
    let registry = registry(&store()).await;
    let (alice, bob) = (user("alice", &[]), user("bob", &[]));
    let (x, _) = registry.register(&alice, &tg("x"), &device("a")).await.unwrap();
    let (y, _) = registry.register(&alice, &tg("y"), &device("a")).await.unwrap();
    let name = alice.user().to_string();
    let path = handler_path(&x.tg, x.key);
    for named in [path.clone(), format!("https://h:1{path}")] {
        assert_eq!(registry.resolve(&name, None, &named), Some(x.clone()), "{named}");
        assert_eq!(registry.resolve(bob.user().as_str(), None, &named), None);
    }
    assert_eq!(registry.resolve(&name, None, &path.replace("/x/", "/y/")), None);
    assert_eq!(registry.resolve(&name, Some(&tg("y")), "a"), Some(y.clone()));
    assert_eq!(registry.resolve(&name, Some(&tg("x")), "a"), Some(x.clone()));
    assert_eq!(registry.resolve(&name, None, "b"), None);
    assert_eq!(registry.list(&name, &tg("y")), [y]);
    assert_eq!(registry.list_all(&name).len(), 2);
    for code in [
        registry.remove(&bob, x.key).await.unwrap_err().code,
        registry.change(&bob, x.key, &device("a")).await.unwrap_err().code,
    ] {
        assert_eq!(code, Code::NotFound);
    }
}

#[tokio::test]
async fn what_a_device_says_of_itself_is_checked_and_survives_a_restart() {
    let store = store();
    let first = registry(&store).await;
    let alice = user("alice", &["+14085550001"]);
    let bad = |advertisement| HandlerDescription { advertisement, ..device("a") };
    for (wanted, code, field) in [
        (bad(json!("nonsense")), Code::BadAdvertisement, "advertisement"),
        (bad(json!(7)), Code::BadAdvertisement, "advertisement"),
        (device(""), Code::BadJson, "handler-id"),
        (device("a/b"), Code::BadJson, "handler-id"),
        (device(&"x".repeat(257)), Code::BadJson, "handler-id"),
        (HandlerDescription { name: Some("x".repeat(257)), ..device("a") }, Code::BadJson, "name"),
    ] {
        let problem = first.register(&alice, &tg("x"), &wanted).await.unwrap_err();
        assert_eq!((problem.code, problem.field.as_deref()), (code, Some(field)));
    }
    let (a, _) = first.register(&alice, &tg("x"), &device("a")).await.unwrap();
    let changed = HandlerDescription { name: Some("desk".into()), ..device("ignored") };
    let changed = first.change(&alice, a.key, &changed).await.unwrap();
    assert_eq!((changed.handler_id.as_str(), changed.name.as_deref()), ("a", Some("desk")));

    let second = registry(&store).await;
    assert_eq!(second.find(&number("+14085550001")), [changed]);
    // Later registrations still count as later.
    let (b, _) = second.register(&user("bob", &[]), &tg("x"), &device("b")).await.unwrap();
    assert!(b.order > a.order);
}
