//! Calls over HTTP/3, as a client that was written from the wire page alone would make them.

use serde_json::json;

use crate::common::World;
use crate::common::user::BOTH;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_placed_rings_is_answered_and_ends() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let bob = world.user("bob", "+14085550002").await;
    let (a1, b1) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
    let mut taps = bob.stream(&format!("push?handler={}", crate::common::user::encode(&b1))).await;

    let call = alice.call(&a1, "+14085550002").await;
    let mine = call["uri"].as_str().unwrap().to_owned();
    assert_eq!(call["state"], "proceeding");
    assert_eq!(call["clientDirectives"], "1 to 1: opus;");
    let mut told = alice.events(&mine, &a1, None).await;
    assert_eq!(told.next().await.unwrap()["event"], "proceeding");

    let tap = taps.next().await.unwrap();
    assert_eq!(tap["reason"], "incoming");
    let incoming = tap["call"].as_str().unwrap().to_owned();
    let description = bob.get(&incoming).await.json();
    assert_eq!(
        (&description["from"], &description["direction"]),
        (&json!("+14085550001"), &json!("inbound"))
    );
    assert_eq!(description["verification"]["status"], "verified");

    assert_eq!(bob.event(&incoming, &b1, json!({"event": "alerting", "seq": 1})).await.status, 200);
    told.until("alerting").await;
    assert_eq!(bob.claim(&incoming, &b1, Some("answer")).await.status, 200);
    let accepted = bob.event(&incoming, &b1, json!({"event": "answered", "seq": 2})).await;
    assert_eq!(accepted.json(), json!({"accepted": 2}));
    told.until("answered").await;
    told.until("directives").await;
    assert_eq!(alice.event(&mine, &a1, json!({"event": "end"})).await.status, 200);
    let ended = told.until("ended").await;
    assert_eq!(ended["by"], "caller");
    assert!(told.next().await.is_none());
    let after = bob.get(&incoming).await.json();
    assert_eq!((&after["state"], &after["outcome"]), (&json!("ended"), &json!("completed")));
}
