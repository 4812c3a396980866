//! `POST …/calls`: what is refused, and that the same key gives the same call.

use std::sync::Arc;

use futures_util::future::join_all;
use http::header;
use ript::identity::canonical::Identity;
use ript::identity::jwk::SigningKey;
use ript::identity::passport::{Passport, Ppt};
use ript::protocol::time::Timestamp;
use ript::store::memory::MemoryStore;
use serde_json::{Value, json};

use crate::common::World;
use crate::common::user::{ALL_SCOPES, Answer, BOTH, User, token};

const CALLS: &str = "providertgs/test/calls";
const BOB: &str = "+14085550002";

async fn keyed(user: &User, key: &str, path: &str, body: &Value) -> Answer {
    let text = body.to_string();
    let request = user.builder("POST", path).header(header::CONTENT_LENGTH, text.len());
    user.send(request.header("idempotency-key", key).body(text.into()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_placed_describes_itself() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let passport = alice.passport(BOB);
    let body = json!({"handler": a1, "destination": BOB, "passport": passport, "colour": "red"});
    let placed = alice.post(CALLS, &body).await;
    assert_eq!(placed.status, 201);
    let call = placed.json();
    let uri = call["uri"].as_str().unwrap();
    assert_eq!(placed.header("location"), uri);
    assert!(uri.starts_with(&format!("{}/.well-known/ript/v1/{CALLS}/", world.url())));
    assert_eq!(placed.header("cache-control"), "no-store");
    assert!(placed.header("etag").starts_with('"'));
    let session = call["media"]["webtransport"].as_str().unwrap();
    assert!(session.starts_with(&format!("{uri}/media?ticket=")), "{session}");
    assert_eq!(call["media"]["byway"], format!("{uri}/media"));
    for (member, value) in [
        ("state", json!("proceeding")),
        ("held", json!(false)),
        ("direction", json!("outbound")),
        ("from", json!("+14085550001")),
        ("to", json!(BOB)),
        ("handler", json!(a1)),
        ("passport", json!(passport)),
        ("verification", json!({"status": "verified"})),
        ("clientDirectives", json!("1 to 1: opus;")),
        ("serverDirectives", json!("1 to 1: opus;")),
    ] {
        assert_eq!(call[member], value, "{member}");
    }
    assert!(Timestamp::parse(call["created"].as_str().unwrap()).is_some());
    for absent in ["outcome", "answered", "ended", "ended-by", "reason", "accepted"] {
        assert!(call.get(absent).is_none(), "{absent}");
    }
    let list = alice.get(CALLS).await;
    let entry = json!({"uri": uri, "state": "proceeding", "direction": "outbound", "from": "+14085550001", "to": BOB});
    assert_eq!((list.json(), list.header("cache-control")), (json!({"calls": [entry]}), "no-store"));
    // A ticket is fresh each time; the ETag changes with the call only.
    let read = alice.get(&format!("{uri}?handler=a1")).await;
    assert_eq!(read.header("etag"), placed.header("etag"));
    assert_ne!(read.json()["media"]["webtransport"], session);
    let theirs = bob.calls().await.pop().unwrap();
    assert_ne!(theirs, uri);
    assert_eq!(bob.get(&theirs).await.json()["passport"], passport);
    assert_eq!(bob.event(&theirs, &b1, json!({"event": "alerting"})).await.status, 200);
    assert_ne!(alice.get(uri).await.header("etag"), placed.header("etag"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_can_not_be_is_refused_and_nobody_rings() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let video = bob.register("camera", "1 out: VP8;").await;
    assert_eq!(bob.delete(&b1).await.status, 204);
    let carol = world.user("carol", "+14085550003").await;
    carol.register("c1", BOTH).await;
    let foreign = SigningKey::generate().unwrap();
    let sign = |key: &SigningKey, from: &str, to: &str, ago: u64| {
        let at = Timestamp::from_millis(ript::clock::now().as_millis() - ago * 1000);
        let identity = |n: &str| Identity::from_number(n).unwrap();
        Passport::sign(key, &identity(from), &identity(to), &Ppt::Base, at).unwrap()
    };
    let to_carol =
        |passport: Value| json!({"handler": a1, "destination": "+14085550003", "passport": passport});
    let good = || json!(alice.passport("+14085550003"));
    let with = |member: &str, value: Value| {
        let mut body = to_carol(good());
        body[member] = value;
        body
    };
    let to = |number: &str| json!({"handler": a1, "destination": number, "passport": alice.passport(number)});
    let without = |member: &str| {
        let mut body = to_carol(good());
        body.as_object_mut().unwrap().remove(member);
        body
    };
    let used = good();
    assert_eq!(alice.post(CALLS, &to_carol(used.clone())).await.status, 201);
    let first = carol.calls().await;
    for (body, status, code, field) in [
        (without("destination"), 400, "bad-json", "destination"),
        (with("destination", json!(7)), 400, "bad-json", "destination"),
        (with("handler", json!(["a"])), 400, "bad-json", "handler"),
        (with("passport", json!(7)), 400, "bad-json", "passport"),
        (with("destination", json!("12")), 422, "bad-number", "destination"),
        (with("destination", json!("+0123")), 422, "bad-number", "destination"),
        (with("destination", json!("a@")), 422, "bad-number", "destination"),
        (with("destination", json!("+1".to_owned() + &"2".repeat(400))), 422, "bad-number", "destination"),
        (with("handler", json!("nobody")), 404, "no-such-handler", "handler"),
        (with("handler", json!(video)), 404, "no-such-handler", "handler"),
        (without("passport"), 403, "passport-form", "passport"),
        (with("passport", json!("")), 403, "passport-form", "passport"),
        (with("passport", json!("a.b.c")), 403, "passport-form", "passport"),
        (with("passport", json!(alice.token)), 403, "passport-form", "passport"),
        (
            to_carol(json!(sign(&foreign, "+14085550001", "+14085550003", 0))),
            403,
            "passport-signature",
            "passport",
        ),
        (to_carol(json!(alice.passport(BOB))), 403, "passport-dest", "passport"),
        (
            to_carol(json!(sign(&world.passports, "+14085550001", "+14085550003", 90))),
            403,
            "passport-stale",
            "passport",
        ),
        (to_carol(used), 403, "passport-replay", "passport"),
        (to_carol(json!(alice.passport_as(BOB, "+14085550003"))), 403, "number-not-allowed", "passport"),
        (to("+19005551234"), 403, "destination-not-allowed", "destination"),
        (to("+14085559999"), 404, "unreachable", "destination"),
        (to("nobody@example.com"), 404, "unreachable", "destination"),
        (to(BOB), 422, "no-common-codec", "handler"),
    ] {
        let answer = alice.post(CALLS, &body).await;
        assert_eq!(answer.problem(), (status, code.into()), "{body}");
        assert_eq!(answer.json()["field"], field, "{body}");
        if status == 403 {
            assert!(!answer.header("date").is_empty());
        }
    }
    assert_eq!(carol.calls().await, first);
    assert_eq!(bob.calls().await, Vec::<String>::new());
    assert_eq!(alice.calls().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_and_private_numbers_call_each_other() {
    let world = World::start().await;
    let alice = world.user("alice", "alice@example.com").await;
    let desk = world.user("desk", "4711@example.com").await;
    let (a1, d1) = (alice.register("a1", BOTH).await, desk.register("d1", BOTH).await);
    let call = alice.call(&a1, "4711@EXAMPLE.com").await;
    assert_eq!((&call["from"], &call["to"]), (&json!("alice@example.com"), &json!("4711@example.com")));
    let back = desk.call(&d1, "alice@example.com").await;
    assert_eq!((&back["from"], &back["to"]), (&json!("4711@example.com"), &json!("alice@example.com")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_and_body_give_the_same_call() {
    let world = World::start().await;
    let (alice, a1, bob, _) = world.pair().await;
    let body = json!({"handler": a1, "destination": BOB, "passport": alice.passport(BOB)});
    // Twice at once, and again later: one call, and no replay.
    let both = join_all((0..8).map(|_| keyed(&alice, "k-1", CALLS, &body))).await;
    let first = both[0].json();
    for answer in &both {
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("location"), first["uri"]);
        assert_eq!(answer.json()["passport"], body["passport"]);
    }
    assert_eq!((alice.calls().await.len(), bob.calls().await.len()), (1, 1));
    let other = json!({"handler": a1, "destination": BOB, "passport": alice.passport(BOB)});
    let mismatch = keyed(&alice, "k-1", CALLS, &other).await;
    assert_eq!(mismatch.problem(), (422, "idempotency-mismatch".into()));
    // Another user's key of the same name is another key.
    let carol = world.user("carol", "+14085550003").await;
    let c1 = carol.register("c1", BOTH).await;
    let hers = json!({"handler": c1, "destination": BOB, "passport": carol.passport(BOB)});
    assert_eq!(keyed(&carol, "k-1", CALLS, &hers).await.status, 201);
    // A refused call leaves its key free.
    let wrong =
        json!({"handler": a1, "destination": "+14085559999", "passport": alice.passport("+14085559999")});
    assert_eq!(keyed(&alice, "k-2", CALLS, &wrong).await.status, 404);
    assert_eq!(keyed(&alice, "k-2", CALLS, &other).await.status, 201);
    for bad in ["", &"k".repeat(256)] {
        assert_eq!(keyed(&alice, bad, CALLS, &hers).await.problem(), (400, "bad-request".into()));
    }
    // The call that has ended is still the same.
    let uri = first["uri"].as_str().unwrap();
    assert_eq!(alice.event(uri, &a1, json!({"event": "end"})).await.status, 200);
    let late = keyed(&alice, "k-1", CALLS, &body).await;
    assert_eq!((late.status.as_u16(), &late.json()["uri"]), (201, &first["uri"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_belongs_to_the_tg_on_which_it_was_used() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let alice = alice.with_token(token(&world.issuer, "alice", &["+14085550001"], &["*"], ALL_SCOPES));
    let bob = world.user("bob", "+440001").await;
    let (a1, _) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
    let body = json!({"handler": a1, "destination": "+440001", "passport": alice.passport("+440001")});
    let first = keyed(&alice, "k", CALLS, &body).await;
    assert_eq!(first.status, 201);
    let elsewhere = keyed(&alice, "k", "providertgs/other/calls", &body).await;
    assert_eq!(elsewhere.problem(), (422, "idempotency-mismatch".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_could_not_be_written_down_may_be_placed_again() {
    let (issuer, passports) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let store = Arc::new(MemoryStore::new());
    let settings = crate::common::settings(&issuer, &passports);
    let world = World::on(settings, store.clone(), issuer, passports, None).await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (live, _) = alice.answered(&a1, &bob, &b1).await;
    let body = json!({"handler": a1, "destination": BOB, "passport": alice.passport(BOB)});
    store.set_failing(true);
    for answer in [
        keyed(&alice, "k", CALLS, &body).await,
        alice.post("providertgs/test/handlers", &json!({"handler-id": "new", "advertisement": BOTH})).await,
        alice.event(&live, &a1, json!({"event": "hold", "seq": 5})).await,
        alice.delete(&a1).await,
    ] {
        assert_eq!(answer.problem(), (503, "store-unavailable".into()));
        assert!(answer.header("retry-after").parse::<u64>().is_ok());
    }
    store.set_failing(false);
    assert_eq!((alice.calls().await.len(), bob.calls().await.len()), (1, 1));
    let held = alice.event(&live, &a1, json!({"event": "hold", "seq": 5})).await;
    assert_eq!(held.json(), json!({"accepted": 5}));
    let placed = keyed(&alice, "k", CALLS, &body).await;
    assert_eq!(placed.status, 201, "{placed:?}");
}
