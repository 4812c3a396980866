//! `GET {call}/events`: framing, snapshots, and coming back.

use axum::body::Body;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::common::user::{BOTH, EventStream, User, encode};
use crate::common::{World, soon};

async fn with_last_event_id(user: &User, path: &str, id: &str) -> EventStream {
    let request = user.builder("GET", path).header("last-event-id", id).body(Body::empty()).unwrap();
    let response = user.begin(request).await;
    assert_eq!(response.status(), 200);
    EventStream::new(response.into_body())
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|e| e["seq"].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byway_is_a_json_array_that_opens_at_once_and_closes_after_ended() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    // Resumed at the newest event, there is nothing to say; the headers and `[` come all the same.
    let newest = alice.events(&call, &a1, None).await.next().await.unwrap()["seq"].as_u64().unwrap();
    let path = format!("{call}/events?handler={}&after={newest}", encode(&a1));
    let response = alice.begin(alice.builder("GET", &path).body(Body::empty()).unwrap()).await;
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(response.status(), 200);
    assert_eq!(header("content-type"), "application/json");
    assert_eq!((header("cache-control"), header("incremental")), ("no-store".into(), "?1".into()));
    assert_eq!(header("x-accel-buffering"), "no");
    let mut body = response.into_body().into_data_stream();
    let first = soon("the bracket", body.next()).await.unwrap().unwrap();
    assert_eq!(first[0], b'[');
    for event in ["hold", "resume", "end"] {
        assert_eq!(alice.event(&call, &a1, json!({"event": event})).await.status, 200);
    }
    let mut text = first.to_vec();
    while let Some(data) = soon("the array's end", body.next()).await {
        text.extend_from_slice(&data.unwrap());
    }
    let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let kinds: Vec<_> = all.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["hold", "directives", "resume", "directives", "ended"]);
    assert_eq!(seqs(&all), (newest + 1..newest + 6).collect::<Vec<_>>());
    for event in &all {
        assert_eq!((&event["direction"], &event["call"]), (&json!("s2c"), &json!(call)));
        let timestamp = event["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
    }
    // wire §4: a hold is answered by directives without streams.
    assert_eq!((&all[1]["clientDirectives"], &all[1]["serverDirectives"]), (&json!(""), &json!("")));
    assert_eq!(all[3]["clientDirectives"], "1 to 1: opus;");
    assert_eq!((&all[4]["by"], &all[4]["reason"]), (&json!("caller"), &json!("completed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byway_of_lines_holds_one_object_a_line() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let path = format!("{call}/events?handler={}&after=0", encode(&a1));
    let request =
        alice.builder("GET", &path).header("accept", "application/json;q=0.1, application/X-NDJSON");
    let response = alice.begin(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    assert_eq!(alice.event(&call, &a1, json!({"event": "end"})).await.status, 200);
    let text = soon("the end", response.into_body().collect()).await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    let all: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(seqs(&all), (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!((&all[0]["event"], &all.last().unwrap()["event"]), (&json!("proceeding"), &json!("ended")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_byway_first_gets_the_state() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let call = alice.call(&a1, &bob.number).await["uri"].as_str().unwrap().to_owned();
    let incoming = bob.calls().await.pop().unwrap();
    let first = alice.events(&call, &a1, None).await.next().await.unwrap();
    assert_eq!(
        (&first["event"], &first["snapshot"], &first["held"]),
        (&json!("proceeding"), &json!(true), &json!(false))
    );
    assert_eq!(first["seq"], 1);
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "alerting", "seq": 7})).await.status, 200);
    let ringing = bob.events(&incoming, &b1, None).await.next().await.unwrap();
    assert_eq!((&ringing["event"], &ringing["accepted"]), (&json!("alerting"), &json!(7)));
    assert_eq!(ringing.get("handler"), None);
    bob.claim(&incoming, &b1, None).await;
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "answered", "seq": 9})).await.status, 200);
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "hold", "seq": 10})).await.status, 200);
    let held = bob.events(&incoming, &b1, None).await.next().await.unwrap();
    for (member, value) in [
        ("event", json!("answered")),
        ("snapshot", json!(true)),
        ("held", json!(true)),
        ("handler", json!(b1)),
        ("accepted", json!(10)),
        ("clientDirectives", json!("")),
        ("serverDirectives", json!("")),
        ("call", json!(incoming)),
    ] {
        assert_eq!(held[member], value, "{member}");
    }
    assert_eq!(bob.get(&format!("{incoming}?handler=b1")).await.json()["accepted"], 10);
    // A byway that names no device has no `accepted` of its own.
    let anonymous = bob.stream(&format!("{incoming}/events")).await.next().await.unwrap();
    assert_eq!((anonymous.get("accepted"), &anonymous["seq"]), (None, &held["seq"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byway_that_comes_back_gets_exactly_what_it_missed() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    for event in ["hold", "resume"] {
        assert_eq!(alice.event(&call, &a1, json!({"event": event})).await.status, 200);
    }
    let newest = alice.events(&call, &a1, None).await.next().await.unwrap()["seq"].as_u64().unwrap();
    let path = format!("{call}/events?handler={}", encode(&a1));
    let mut streams = Vec::new();
    for after in 0..=newest {
        streams.push((after, alice.events(&call, &a1, Some(after)).await));
        streams.push((after, with_last_event_id(&alice, &path, &after.to_string()).await));
        let both = format!("{path}&after={after}");
        streams.push((after, with_last_event_id(&alice, &both, "1").await));
    }
    // Beyond the newest, and what is no number in the header: the snapshot.
    for (after, id) in
        [(Some(newest + 1), None), (Some(u64::MAX), None), (None, Some("abc")), (None, Some("-1"))]
    {
        let mut stream = match (after, id) {
            (Some(after), _) => alice.events(&call, &a1, Some(after)).await,
            (_, id) => with_last_event_id(&alice, &path, id.unwrap()).await,
        };
        let first = stream.next().await.unwrap();
        assert_eq!((&first["snapshot"], &first["seq"]), (&json!(true), &json!(newest)), "{after:?} {id:?}");
    }
    for bad in ["x", "-1", "1.5", "18446744073709551616", "", "1&after=2"] {
        let answer = alice.get(&format!("{path}&after={bad}")).await;
        assert_eq!(answer.problem(), (400, "bad-request".into()), "{bad}");
    }
    assert_eq!(alice.event(&call, &a1, json!({"event": "end"})).await.status, 200);
    for (after, mut stream) in streams {
        let events = stream.rest().await;
        assert_eq!(seqs(&events), (after + 1..=newest + 1).collect::<Vec<_>>());
        assert!(events.iter().all(|e| e.get("snapshot").is_none()), "after {after}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_byways_get_everything() {
    let world = World::with(|s| s.byways_per_leg = 12).await;
    let (alice, a1, bob, b1) = world.pair().await;
    let a2 = alice.register("a2", BOTH).await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    let mut streams = Vec::new();
    for at in 0..12 {
        streams.push(alice.events(&call, if at % 2 == 0 { &a1 } else { &a2 }, Some(0)).await);
    }
    let full = alice.get(&format!("{call}/events")).await;
    assert_eq!(full.problem(), (429, "too-many".into()));
    assert!(!full.header("retry-after").is_empty());
    for digit in ["1", "2", "3"] {
        assert_eq!(bob.event(&incoming, &b1, json!({"event": "dtmf", "digit": digit})).await.status, 200);
    }
    // One that leaves makes room, and takes nothing from the others.
    streams.pop();
    let mut late = soon("room for another byway", async {
        loop {
            let path = format!("{call}/events?after=0");
            let request = alice.builder("GET", &path).body(Body::empty()).unwrap();
            let response = alice.begin(request).await;
            if response.status() == 200 {
                break EventStream::new(response.into_body());
            }
        }
    })
    .await;
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "end"})).await.status, 200);
    let whole = late.rest().await;
    assert_eq!(whole.iter().filter(|e| e["event"] == "dtmf").count(), 3);
    for mut stream in streams {
        let all: Vec<Value> = stream.rest().await.into_iter().filter(|e| e.get("seq").is_some()).collect();
        assert_eq!(all, whole);
    }
}
