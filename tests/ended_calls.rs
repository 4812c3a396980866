//! An ended call stays readable, and takes nothing more.

use http_body_util::BodyExt;
use serde_json::json;

use crate::common::user::encode;
use crate::common::{World, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_call_is_read_and_refuses_all_else() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    let h = encode(&a1);
    let fetch = format!("{call}/media?handler={h}");
    let (waiting, ended) = tokio::join!(alice.get(&fetch), async {
        alice.event(&call, &a1, json!({"event": "end", "seq": 4, "reason": "done"})).await
    });
    assert_eq!(ended.json(), json!({"accepted": 4}));
    assert_eq!(waiting.problem(), (410, "call-ended".into()));
    for (user, uri, handler) in [(&alice, &call, &a1), (&bob, &incoming, &b1)] {
        let read = user.get(&format!("{uri}?handler={}", encode(handler))).await;
        let call = read.json();
        assert_eq!(
            (read.status.as_u16(), &call["state"], &call["outcome"]),
            (200, &json!("ended"), &json!("completed"))
        );
        assert_eq!((&call["ended-by"], &call["reason"]), (&json!("caller"), &json!("done")));
        assert!(call["ended"].is_string() && call["answered"].is_string() && call.get("media").is_none());
        let snapshot = user.events(uri, handler, None).await.rest().await;
        assert_eq!(snapshot.len(), 1);
        assert_eq!((&snapshot[0]["event"], &snapshot[0]["snapshot"]), (&json!("ended"), &json!(true)));
        assert_eq!((&snapshot[0]["outcome"], &snapshot[0]["reason"]), (&json!("completed"), &json!("done")));
        assert_eq!((&snapshot[0]["by"], &snapshot[0]["seq"].is_u64()), (&json!("caller"), &true));
        assert_eq!(user.calls().await, Vec::<String>::new());
    }
    assert_eq!(alice.get(&format!("{call}?handler=a1")).await.json()["accepted"], 4);
    for (method, path, body) in [
        ("POST", call.clone(), String::new()),
        ("POST", call.clone(), json!({"handler": a1, "intent": "pull"}).to_string()),
        ("POST", call.clone(), "{".to_owned()),
        ("PUT", format!("{call}/events?handler={h}"), json!({"event": "ping"}).to_string()),
        ("PUT", format!("{call}/events?handler={h}"), json!({"event": "end", "seq": 4}).to_string()),
        ("PUT", format!("{call}/events?handler={h}"), String::new()),
    ] {
        let answer = alice.with_body(method, &path, body.clone()).await;
        assert_eq!(answer.problem(), (409, "call-ended".into()), "{method} {path} {body}");
    }
    let open = alice.open_put(&call, Some(&a1)).await;
    assert_eq!(open.status, 409);
    assert_eq!(open.ended().await["code"], "call-ended");
    for method in ["GET", "PUT"] {
        let answer = alice.with_body(method, &fetch, "").await;
        assert_eq!(answer.problem(), (410, "call-ended".into()), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_back_late_hears_the_end_and_the_array_is_closed() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    assert_eq!(alice.event(&call, &a1, json!({"event": "end"})).await.status, 200);
    let newest = alice.events(&call, &a1, None).await.next().await.unwrap()["seq"].as_u64().unwrap();
    // Even to one that knows it all: the array has an end.
    for (after, count) in [(newest - 1, 1), (newest, 0)] {
        let request = alice.builder("GET", &format!("{call}/events?after={after}"));
        let response = alice.begin(request.body(axum::body::Body::empty()).unwrap()).await;
        let text = soon("the end", response.into_body().collect()).await.unwrap().to_bytes();
        let all: Vec<serde_json::Value> =
            serde_json::from_slice(&text).unwrap_or_else(|e| panic!("after {after}: {e}: {text:?}"));
        assert_eq!(all.len(), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_call_is_forgotten_in_the_end() {
    let world = World::with(|s| s.timing.keep = std::time::Duration::from_millis(300)).await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "ended"})).await.status, 200);
    soon("the call's last hour", async { while alice.get(&call).await.status == 200 {} }).await;
    for path in [call.clone(), format!("{call}/events"), format!("{call}/media?handler=a1")] {
        assert_eq!(alice.get(&path).await.problem(), (404, "not-found".into()), "{path}");
    }
    assert_eq!(bob.get(&incoming).await.problem(), (404, "not-found".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_in_every_way_with_who_and_why() {
    let world = World::with(|s| s.timing.answer = std::time::Duration::from_secs(2)).await;
    let (alice, a1, bob, b1) = world.pair().await;
    let ringing = async || {
        let call = alice.call(&a1, &bob.number).await["uri"].as_str().unwrap().to_owned();
        (alice.events(&call, &a1, None).await, call, bob.calls().await.pop().unwrap())
    };
    let (mut events, call, _) = ringing().await;
    assert_eq!(alice.event(&call, &a1, json!({"event": "end"})).await.status, 200);
    let ended = events.until("ended").await;
    assert_eq!((&ended["by"], &ended["reason"]), (&json!("caller"), &json!("cancelled")));
    assert_eq!(alice.get(&call).await.json()["outcome"], "cancelled");

    for (sent, reason) in
        [(json!({"event": "declined", "reason": "busy"}), "busy"), (json!({"event": "declined"}), "rejected")]
    {
        let (mut events, call, incoming) = ringing().await;
        assert_eq!(bob.event(&incoming, &b1, sent).await.status, 200);
        assert_eq!(events.until("declined").await["reason"], reason);
        assert_eq!(events.until("ended").await["by"], "callee");
        let read = alice.get(&call).await.json();
        assert_eq!((&read["outcome"], &read["reason"]), (&json!("declined"), &json!(reason)));
    }
    let (mut events, call, _) = ringing().await;
    events.until("noanswer").await;
    assert_eq!(events.until("ended").await["by"], "server");
    assert_eq!(alice.get(&call).await.json()["outcome"], "noanswer");
    assert_eq!(events.next().await, None);
}
