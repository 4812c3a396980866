//! `…/handlers`: a user's devices.

use serde_json::json;

use crate::common::World;
use crate::common::user::BOTH;

const COLLECTION: &str = "providertgs/test/handlers";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_registered_once_read_changed_and_forgotten() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let body = json!({"handler-id": "desk", "advertisement": "1 in: OPUS", "name": "Desk", "colour": [1]});
    let made = alice.post(COLLECTION, &body).await;
    assert_eq!(made.status, 201);
    let uri = made.header("location").to_owned();
    assert!(uri.starts_with(&format!("{}/.well-known/ript/v1/{COLLECTION}/", world.url())), "{uri}");
    let same = json!({"uri": uri, "handler-id": "desk", "advertisement": "1 in: opus;", "name": "Desk"});
    assert_eq!(made.json(), same);

    // wire §8: the same handler-id posted again: 200, unchanged.
    let again = alice.post(COLLECTION, &json!({"handler-id": "desk", "advertisement": "1 out: PCMU;"})).await;
    assert_eq!(
        (again.status.as_u16(), again.json(), again.header("location")),
        (200, same.clone(), &uri[..])
    );
    assert_eq!(alice.get(&uri).await.json(), same);
    assert_eq!(alice.get(COLLECTION).await.json(), json!({"handlers": [same]}));

    let changed = json!({"handler-id": "desk", "advertisement": "1 out: PCMU;"});
    let put = alice.with_body("PUT", &uri, changed.to_string()).await;
    let now = json!({"uri": uri, "handler-id": "desk", "advertisement": "1 out: PCMU;"});
    assert_eq!((put.status.as_u16(), put.json()), (200, now.clone()));
    assert_eq!(alice.get(&uri).await.json(), now);
    let renamed = json!({"handler-id": "other", "advertisement": BOTH});
    let refused = alice.with_body("PUT", &uri, renamed.to_string()).await;
    assert_eq!(
        (refused.problem(), &refused.json()["field"]),
        ((400, "bad-json".into()), &json!("handler-id"))
    );

    assert_eq!(alice.delete(&uri).await.status, 204);
    assert_eq!(alice.get(&uri).await.problem(), (404, "not-found".into()));
    assert_eq!(alice.delete(&uri).await.problem(), (404, "not-found".into()));
    let gone = alice.with_body("PUT", &uri, changed.to_string()).await;
    assert_eq!(gone.problem(), (404, "not-found".into()));
    assert_eq!(alice.get(COLLECTION).await.json(), json!({"handlers": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_device_is_refused_by_member() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let uri = alice.register("a1", BOTH).await;
    for (body, status, code, field) in [
        (json!({"advertisement": BOTH}), 400, "bad-json", "handler-id"),
        (json!({"handler-id": 7, "advertisement": BOTH}), 400, "bad-json", "handler-id"),
        (json!({"handler-id": "", "advertisement": BOTH}), 400, "bad-json", "handler-id"),
        (json!({"handler-id": "x".repeat(300), "advertisement": BOTH}), 400, "bad-json", "handler-id"),
        (json!({"handler-id": "x"}), 400, "bad-json", "advertisement"),
        (json!({"handler-id": "x", "advertisement": BOTH, "name": {}}), 400, "bad-json", "name"),
        (
            json!({"handler-id": "x", "advertisement": "1 sideways: opus;"}),
            422,
            "bad-advertisement",
            "advertisement",
        ),
        (json!({"handler-id": "x", "advertisement": 7}), 422, "bad-advertisement", "advertisement"),
        (json!({"handler-id": "x", "advertisement": [{"id": 1}]}), 422, "bad-advertisement", "advertisement"),
    ] {
        for answer in [
            alice.post(COLLECTION, &body).await,
            alice.with_body("PUT", &uri, body.to_string().replace("\"x\"", "\"a1\"")).await,
        ] {
            assert_eq!(answer.problem(), (status, code.into()), "{body}");
            assert_eq!(answer.json()["field"], field, "{body}");
        }
    }
    assert_eq!(alice.get(COLLECTION).await.json()["handlers"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_so_many_devices_and_no_more() {
    let world = World::with(|s| s.handlers_per_user = 2).await;
    let alice = world.user("alice", "+14085550001").await;
    let first = alice.register("1", BOTH).await;
    alice.register("2", BOTH).await;
    let body = json!({"handler-id": "3", "advertisement": BOTH});
    let full = alice.post(COLLECTION, &body).await;
    assert_eq!(full.problem(), (429, "too-many".into()));
    assert!(full.header("retry-after").parse::<u64>().is_ok());
    alice.register("1", BOTH).await;
    assert_eq!(alice.delete(&first).await.status, 204);
    alice.register("3", BOTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_changes_in_a_call_gets_new_directives() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    let mut mine = alice.events(&call, &a1, None).await;
    let mut theirs = bob.events(&incoming, &b1, None).await;
    assert_eq!(mine.next().await.unwrap()["clientDirectives"], "1 to 1: opus;");
    theirs.next().await;
    let body = json!({"handler-id": "b1", "advertisement": "1 in: PCMU; 1 out: PCMU;"});
    assert_eq!(bob.with_body("PUT", &b1, body.to_string()).await.status, 200);
    for stream in [&mut mine, &mut theirs] {
        let new = stream.until("directives").await;
        assert_eq!(
            (&new["clientDirectives"], &new["serverDirectives"]),
            (&json!("1 to 1: PCMU;"), &json!("1 to 1: PCMU;"))
        );
    }
}
