//! A device that was registered in JSON is answered and told in JSON, and one in text, in text.

use serde_json::{Value, json};

use crate::common::World;
use crate::common::user::{BOTH, User, encode};

fn twin() -> Value {
    let end = |direction| json!({"id": 1, "direction": direction, "codecs": [{"name": "OPUS", "params": {}}, {"name": "PCMU"}]});
    json!([end("in"), end("out")])
}

async fn register(user: &User, id: &str) -> String {
    let body = json!({"handler-id": id, "advertisement": twin()});
    let made = user.post("providertgs/test/handlers", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let advertisement = &made.json()["advertisement"];
    assert_eq!(
        (&advertisement[0]["codecs"][0]["name"], &advertisement[1]["id"]),
        (&json!("opus"), &json!(1))
    );
    made.json()["uri"].as_str().unwrap().to_owned()
}

fn is_json(value: &Value) -> bool {
    value[0]["source"] == 1 && value[0]["sink"] == 1 && value[0]["codecs"][0]["name"] == "opus"
}

fn all_json(holder: &Value) -> bool {
    is_json(&holder["clientDirectives"]) && is_json(&holder["serverDirectives"])
}

fn all_text(holder: &Value) -> bool {
    holder["clientDirectives"] == "1 to 1: opus;" && holder["serverDirectives"] == "1 to 1: opus;"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_device_of_a_leg_is_spoken_to_in_its_own_form() {
    let world = World::start().await;
    let alice = world.user("alice", "+14085550001").await;
    let bob = world.user("bob", "+14085550002").await;
    let a1 = register(&alice, "a1").await;
    let (text, json) = (bob.register("text", BOTH).await, register(&bob, "json").await);
    let placed = alice.call(&a1, &bob.number).await;
    assert!(all_json(&placed), "{placed}");
    let call = placed["uri"].as_str().unwrap();
    let incoming = bob.calls().await.pop().unwrap();
    let mut streams = [
        (alice.events(call, &a1, None).await, true),
        (bob.events(&incoming, &text, None).await, false),
        (bob.events(&incoming, &json, None).await, true),
    ];
    let fits = |holder: &Value, twin: bool| if twin { all_json(holder) } else { all_text(holder) };
    for (stream, twin) in &mut streams {
        let snapshot = stream.next().await.unwrap();
        assert!(fits(&snapshot, *twin), "{twin}: {snapshot}");
    }
    for (handler, twin) in [(&text, false), (&json, true)] {
        let path = format!("{incoming}?handler={}", encode(handler));
        for answer in [bob.get(&path).await, bob.with_body("POST", &path, "").await] {
            assert!(fits(&answer.json(), twin), "{twin}: {answer:?}");
        }
    }
    let claimed = bob.claim(&incoming, &json, None).await.json();
    assert!(all_json(&claimed), "{claimed}");
    assert_eq!(bob.event(&incoming, &json, json!({"event": "answered"})).await.status, 200);
    for (stream, twin) in &mut streams {
        let event = stream.until("directives").await;
        assert!(fits(&event, *twin), "{twin}: {event}");
    }
    // The other device takes over: each still reads its own form, in what it missed too.
    let pulled = bob.claim(&incoming, &text, Some("pull")).await.json();
    assert!(all_text(&pulled), "{pulled}");
    for (stream, twin) in &mut streams {
        let event = stream.until("directives").await;
        assert!(fits(&event, *twin), "{twin}: {event}");
    }
    for (handler, twin) in [(&text, false), (&json, true)] {
        let event = bob.events(&incoming, handler, Some(0)).await.until("directives").await;
        assert!(fits(&event, twin), "{twin}: {event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_registered_anew_in_text_is_spoken_to_in_text() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let change = async |advertisement: Value| {
        let body = json!({"handler-id": "a1", "advertisement": advertisement});
        let put = alice.with_body("PUT", &a1, body.to_string()).await;
        assert_eq!(put.status, 200);
        put.json()["advertisement"].is_array()
    };
    assert!(change(twin()).await);
    let mut events = alice.events(&call, &a1, None).await;
    assert!(all_json(&events.next().await.unwrap()));
    assert!(!change(json!(BOTH)).await);
    events.until("directives").await;
    assert!(all_text(&alice.get(&format!("{call}?handler=a1")).await.json()));
}
