//! `POST {call}`: a device takes a call, or asks another one to.

use std::time::Duration;

use axum::body::Body;
use serde_json::{Value, json};

use crate::common::user::{Answer, BOTH, User, encode};
use crate::common::{World, soon};

/// Claims with `If-Match`.
async fn matching(user: &User, call: &str, handler: &str, tag: &str) -> Answer {
    let request = user.builder("POST", call).header("if-match", tag);
    let body = json!({"handler": handler, "intent": "answer"}).to_string();
    user.send(request.header("content-length", body.len()).body(Body::from(body)).unwrap()).await
}

async fn refused(answer: Answer, status: u16, code: &str) {
    assert_eq!(answer.problem(), (status, code.to_owned()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_device_claims_a_ringing_call_and_the_others_are_told_who_answered() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let b2 = bob.register("b2", BOTH).await;
    let call = alice.call(&a1, &bob.number).await["uri"].as_str().unwrap().to_owned();
    let incoming = bob.calls().await.pop().unwrap();
    let mut second = bob.events(&incoming, &b2, None).await;

    refused(bob.event(&incoming, &b1, json!({"event": "answered"})).await, 409, "illegal-event").await;
    for intent in ["pull", "recover"] {
        refused(bob.claim(&incoming, &b1, Some(intent)).await, 409, "illegal-event").await;
    }
    refused(bob.claim(&incoming, &a1, None).await, 404, "no-such-handler").await;
    refused(bob.claim(&incoming, "nobody", Some("answer")).await, 404, "no-such-handler").await;
    let taken = bob.claim(&incoming, &b1, None).await;
    assert_eq!((taken.status.as_u16(), &taken.json()["state"]), (200, &json!("proceeding")));
    assert!(taken.json()["media"]["webtransport"].as_str().unwrap().contains("ticket="));
    // The same device again is fine, another is not.
    assert_eq!(bob.claim(&incoming, &b1, Some("answer")).await.status, 200);
    refused(bob.claim(&incoming, &b2, Some("answer")).await, 409, "already-claimed").await;
    refused(bob.event(&incoming, &b2, json!({"event": "answered"})).await, 409, "illegal-event").await;
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "answered"})).await.status, 200);
    refused(bob.event(&incoming, &b1, json!({"event": "answered"})).await, 409, "illegal-event").await;

    assert_eq!(second.until("answered").await["handler"], b1);
    assert_eq!(second.until("directives").await["clientDirectives"], "1 to 1: opus;");
    let mut caller = alice.events(&call, &a1, Some(0)).await;
    assert_eq!(caller.until("answered").await.get("handler"), None);

    // wire §2: without intent 409 for 2 s after the answer; `pull` needs no such wait.
    refused(bob.claim(&incoming, &b2, None).await, 409, "already-claimed").await;
    refused(bob.claim(&incoming, &b2, Some("answer")).await, 409, "already-claimed").await;
    refused(bob.claim(&incoming, &b2, Some("recover")).await, 409, "already-claimed").await;
    assert_eq!(bob.claim(&incoming, &b1, Some("recover")).await.status, 200);
    let pulled = bob.claim(&incoming, &b2, Some("pull")).await;
    assert_eq!((pulled.status.as_u16(), &pulled.json()["handler"]), (200, &json!(b2)));
    assert_eq!(second.until("handler-changed").await["handler"], b2);
    second.until("directives").await;
    caller.until("directives").await;
    caller.until("directives").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_lapses_and_a_late_claim_without_intent_is_a_pull() {
    let world = World::with(|s| {
        s.timing.claim = Duration::from_millis(300);
        s.timing.guard = Duration::from_millis(300);
    })
    .await;
    let (alice, a1, bob, b1) = world.pair().await;
    let b2 = bob.register("b2", BOTH).await;
    alice.call(&a1, &bob.number).await;
    let incoming = bob.calls().await.pop().unwrap();
    assert_eq!(bob.claim(&incoming, &b1, None).await.status, 200);
    refused(bob.claim(&incoming, &b2, None).await, 409, "already-claimed").await;
    soon("the claim's lapse", async { while bob.claim(&incoming, &b2, None).await.status != 200 {} }).await;
    refused(bob.event(&incoming, &b1, json!({"event": "answered"})).await, 409, "illegal-event").await;
    assert_eq!(bob.event(&incoming, &b2, json!({"event": "answered"})).await.status, 200);
    refused(bob.claim(&incoming, &b1, None).await, 409, "already-claimed").await;
    soon("a pull without intent", async { while bob.claim(&incoming, &b1, None).await.status != 200 {} })
        .await;
    assert_eq!(bob.get(&incoming).await.json()["handler"], b1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_match_holds_a_claim_to_what_its_client_saw() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    alice.call(&a1, &bob.number).await;
    let incoming = bob.calls().await.pop().unwrap();
    let seen = bob.get(&incoming).await.header("etag").to_owned();
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "alerting"})).await.status, 200);
    for tag in [&seen[..], "\"never\"", "W/\"v1\"", "junk"] {
        refused(matching(&bob, &incoming, &b1, tag).await, 412, "precondition-failed").await;
    }
    let fresh = bob.get(&incoming).await.header("etag").to_owned();
    assert_ne!(fresh, seen);
    // RFC 9110 §13.1.1: a list holds if one of its tags does.
    let taken = matching(&bob, &incoming, &b1, &format!("\"other\", {fresh}")).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    assert_ne!(taken.header("etag"), fresh);
    assert_eq!(matching(&bob, &incoming, &b1, "*").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_post_gives_new_directives_and_delete_is_not_how_a_call_ends() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let path = format!("{call}?handler={}", encode(&a1));
    let (one, two) =
        (alice.with_body("POST", &path, "").await, alice.with_body("POST", &path, " \r\n").await);
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    assert_eq!(one.json()["clientDirectives"], "1 to 1: opus;");
    assert_ne!(one.json()["media"]["webtransport"], two.json()["media"]["webtransport"]);
    assert_eq!(one.header("cache-control"), "no-store");
    refused(alice.delete(&call).await, 405, "method-not-allowed").await;
    assert_eq!(alice.get(&call).await.json()["state"], "answered");
    for (body, code, field) in [
        (json!({"handler": 1}), "bad-json", "handler"),
        (json!({"intent": "pull"}), "bad-json", "handler"),
        (json!({"handler": a1, "intent": "steal"}), "bad-json", "intent"),
        (json!({"handler": a1, "intent": "pull", "tap": "yes"}), "bad-json", "tap"),
    ] {
        let answer = alice.post(&call, &body).await;
        assert_eq!(
            (answer.problem(), answer.json()["field"].clone()),
            ((400, code.into()), json!(field)),
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_shares_no_codec_can_not_take_the_call() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let video = bob.register("camera", "1 out: VP8;").await;
    alice.call(&a1, &bob.number).await;
    let incoming = bob.calls().await.pop().unwrap();
    refused(bob.claim(&incoming, &video, None).await, 422, "no-common-codec").await;
    assert_eq!(bob.claim(&incoming, &b1, None).await.status, 200);
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "answered"})).await.status, 200);
    refused(bob.claim(&incoming, &video, Some("pull")).await, 422, "no-common-codec").await;
    assert_eq!(bob.get(&incoming).await.json()["handler"], b1);
}

async fn third_party(user: &User, to: &str) -> String {
    let body = json!({"destination": to, "passport": user.passport(to)});
    let placed = user.post("providertgs/test/calls", &body).await;
    assert_eq!((placed.status.as_u16(), placed.json().get("handler")), (201, None), "{placed:?}");
    placed.json()["uri"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_placed_without_a_device_is_taken_by_the_one_that_wants_it() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let a2 = alice.register("a2", BOTH).await;
    let mut taps = alice.stream(&format!("push?handler={}", encode(&a1))).await;
    let mut others = alice.stream(&format!("push?handler={}", encode(&a2))).await;
    let call = third_party(&alice, &bob.number).await;
    for stream in [&mut taps, &mut others] {
        assert_eq!(stream.next().await.unwrap(), json!({"call": call, "reason": "outgoing"}));
    }
    assert_eq!(bob.calls().await, Vec::<String>::new());
    let mut events = alice.events(&call, &a2, None).await;
    // The POST alone takes it.
    let taken = alice.claim(&call, &a2, None).await;
    assert_eq!((taken.status.as_u16(), &taken.json()["handler"]), (200, &json!(a2)));
    refused(alice.claim(&call, &a1, None).await, 409, "already-claimed").await;
    let incoming = soon("a ringing call", async {
        loop {
            if let Some(call) = bob.calls().await.pop() {
                break call;
            }
        }
    })
    .await;
    assert_eq!(bob.claim(&incoming, &b1, None).await.status, 200);
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "answered"})).await.status, 200);
    events.until("answered").await;
    assert_eq!(events.until("directives").await["clientDirectives"], "1 to 1: opus;");

    // Another device is asked to carry it on: only that one is tapped.
    let asked = alice.post(&call, &json!({"handler": a1, "intent": "pull", "tap": true})).await;
    assert_eq!(asked.status, 202);
    assert_eq!(asked.json()["handler"], a2);
    assert_eq!(taps.next().await.unwrap(), json!({"call": call, "reason": "take"}));
    assert_eq!(alice.claim(&call, &a1, Some("pull")).await.status, 200);
    assert_eq!(events.until("handler-changed").await["handler"], a1);
    let third = third_party(&alice, &bob.number).await;
    let next = others.next().await.unwrap();
    assert_eq!(next, json!({"call": third, "reason": "outgoing"}), "the tap was for one device");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_asked_to_answer_is_tapped_alone() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let b2 = bob.register("b2", BOTH).await;
    let mut one = bob.stream(&format!("push?handler={}", encode(&b1))).await;
    let mut two = bob.stream(&format!("push?handler={}", encode(&b2))).await;
    alice.call(&a1, &bob.number).await;
    let incoming = one.next().await.unwrap()["call"].clone();
    assert_eq!(two.next().await.unwrap()["call"], incoming);
    let uri = incoming.as_str().unwrap();
    let asked = bob.post(uri, &json!({"handler": b2, "intent": "answer", "tap": true})).await;
    assert_eq!(asked.status, 202);
    assert_eq!(two.next().await.unwrap(), json!({"call": incoming, "reason": "answer"}));
    // Nobody has claimed it by that.
    assert_eq!(bob.claim(uri, &b1, Some("answer")).await.status, 200);
    let more = alice.call(&a1, &bob.number).await;
    assert_eq!(one.next().await.unwrap()["reason"], "incoming", "{more}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_taken_by_a_device_without_a_common_codec_fails_with_that_reason() {
    let world = World::start().await;
    let (alice, _, bob, _) = world.pair().await;
    let camera = alice.register("camera", "1 out: VP8;").await;
    let call = third_party(&alice, &bob.number).await;
    let mut events = alice.events(&call, &camera, None).await;
    assert_eq!(alice.claim(&call, &camera, None).await.status, 200);
    assert_eq!(events.until("failed").await["reason"], "no-common-codec");
    let ended = events.until("ended").await;
    assert_eq!((&ended["by"], &ended["reason"]), (&json!("server"), &json!("no-common-codec")));
    assert_eq!(events.next().await, None::<Value>);
    assert_eq!(bob.calls().await, Vec::<String>::new());
    assert_eq!(alice.get(&call).await.json()["outcome"], "failed");
}
