//! `PUT {call}/events`: what a device says, finite and open-ended.

use bytes::BytesMut;
use http::HeaderValue;
use ript::protocol::chunk::{MediaHeader, encode, put_frame};
use serde_json::{Value, json};

use crate::common::World;
use crate::common::user::{BOTH, encode as percent};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finite_put_answers_with_what_was_taken() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    let mut heard = bob.events(&incoming, &b1, None).await;
    let digit = |seq: u64, digit: &str| {
        json!({"event": "dtmf", "digit": digit, "seq": seq, "direction": "c2s",
        "timestamp": "2026-01-01T00:00:00.000Z", "call": call, "colour": {"deep": [1]}})
    };
    let sent = alice.event(&call, &a1, digit(3, "1")).await;
    assert_eq!((sent.status.as_u16(), sent.json()), (200, json!({"accepted": 3})));
    // wire §4: (handler, seq) seen again is ignored; gaps are legal.
    assert_eq!(alice.event(&call, &a1, digit(3, "9")).await.json(), json!({"accepted": 3}));
    assert_eq!(alice.event(&call, &a1, digit(2, "8")).await.json(), json!({"accepted": 3}));
    assert_eq!(alice.event(&call, &a1, digit(40, "2")).await.json(), json!({"accepted": 40}));
    // The drafts' clients number nothing.
    let plain = alice.event(&call, "a1", json!({"event": "dtmf", "digit": "3"})).await;
    assert_eq!(plain.json(), json!({"accepted": 41}));
    // Several in one body, in every framing; the query names the device.
    let path = format!("{call}/events?handler={}", percent(&a1));
    for (body, accepted) in [
        (json!([digit(50, "4"), digit(51, "5")]).to_string(), 51),
        (format!("{}\n{}\n", digit(52, "6"), digit(53, "7")), 53),
        (format!("{}{}", digit(54, "8"), digit(55, "9")), 55),
        (format!("[\n,{}", digit(56, "0")), 56),
        (String::new(), 56),
        ("[]".into(), 56),
    ] {
        let sent = alice.with_body("PUT", &path, body.clone()).await;
        assert_eq!((sent.status.as_u16(), sent.json()), (200, json!({"accepted": accepted})), "{body}");
        assert_eq!(sent.header("cache-control"), "no-store");
    }
    // A row of its own for each device.
    let a2 = alice.register("a2", BOTH).await;
    let other = alice.event(&call, &a2, json!({"event": "ping", "seq": 1})).await;
    assert_eq!(other.json(), json!({"accepted": 1}));
    for digit in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"] {
        assert_eq!(heard.until("dtmf").await["digit"], digit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_uses_up_no_number() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    for (event, status, code, field) in [
        (json!({"event": "resume"}), 409, "illegal-event", None),
        (json!({"event": "answered"}), 409, "illegal-event", None),
        (json!({"event": "alerting"}), 409, "illegal-event", None),
        (json!({"event": "progress"}), 409, "illegal-event", None),
        (json!({"event": "declined"}), 409, "illegal-event", None),
        (json!({"seq": 5}), 400, "bad-event", Some("event")),
        (json!({"event": 7}), 400, "bad-event", Some("event")),
        (json!({"event": "ping", "seq": "5"}), 400, "bad-event", Some("seq")),
        (json!({"event": "ping", "seq": -1}), 400, "bad-event", Some("seq")),
        (json!({"event": "ping", "seq": 1.5}), 400, "bad-event", Some("seq")),
        (json!({"event": "ping", "nonce": {}}), 400, "bad-event", Some("nonce")),
        (json!({"event": "ping", "direction": "s2c"}), 400, "bad-event", Some("direction")),
        (json!({"event": "dtmf"}), 400, "bad-event", Some("digit")),
        (json!({"event": "dtmf", "digit": "12"}), 400, "bad-event", Some("digit")),
        (json!({"event": "dtmf", "digit": 1}), 400, "bad-event", Some("digit")),
        (json!({"event": "dtmf", "digit": "1", "duration": 1e9}), 400, "bad-event", Some("duration")),
        (json!({"event": "quality"}), 400, "bad-event", Some("streams")),
        (json!({"event": "transfer"}), 400, "bad-event", Some("target")),
        (json!({"event": "transfer", "target": "x"}), 422, "bad-number", None),
        (json!({"event": "transfer", "target": "+14085550003", "replaces": "x"}), 400, "bad-event", None),
        (json!({"event": "end", "reason": ["x"]}), 400, "bad-event", Some("reason")),
    ] {
        let mut event = event;
        if event.get("seq").is_none() {
            event["seq"] = 5.into();
        }
        let refused = alice.event(&call, &a1, event.clone()).await;
        assert_eq!(refused.problem(), (status, code.into()), "{event}");
        if let Some(field) = field {
            assert_eq!(refused.json()["field"], field, "{event}");
        }
    }
    let path = format!("{call}/events");
    let nobody = alice.with_body("PUT", &path, r#"{"event":"ping"}"#).await;
    assert_eq!((nobody.problem(), &nobody.json()["field"]), ((400, "bad-event".into()), &json!("handler")));
    for handler in [&b1[..], "nobody", ""] {
        let strange = alice.event(&call, handler, json!({"event": "ping", "seq": 5})).await;
        assert_eq!(strange.problem(), (404, "no-such-handler".into()), "{handler}");
    }
    assert_eq!(alice.get(&format!("{call}?handler=a1")).await.json().get("accepted"), None);
    // Its number is free for the next; a type that nobody knows is taken and ignored.
    let next = alice.event(&call, &a1, json!({"event": "hold", "seq": 5})).await;
    assert_eq!(next.json(), json!({"accepted": 5}));
    assert_eq!(
        alice.event(&call, &a1, json!({"event": "hold", "seq": 6})).await.problem().1,
        "illegal-event"
    );
    let odd = alice.event(&call, &a1, json!({"event": "levitate", "seq": 6, "height": []})).await;
    assert_eq!(odd.json(), json!({"accepted": 6}));
    let read = bob.get(&incoming).await.json();
    assert_eq!((&read["state"], &read["held"]), (&json!("answered"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_before_the_answer_that_need_one_are_illegal() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let call = alice.call(&a1, &bob.number).await["uri"].as_str().unwrap().to_owned();
    let incoming = bob.calls().await.pop().unwrap();
    for event in [
        json!({"event": "hold"}),
        json!({"event": "resume"}),
        json!({"event": "dtmf", "digit": "1"}),
        json!({"event": "transfer", "target": "+14085550003"}),
        json!({"event": "answered"}),
    ] {
        for (user, uri, handler) in [(&alice, &call, &a1), (&bob, &incoming, &b1)] {
            let refused = user.event(uri, handler, event.clone()).await;
            assert_eq!(refused.problem(), (409, "illegal-event".into()), "{event}");
        }
    }
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "proceeding", "seq": 1})).await.status, 200);
    assert_eq!(bob.event(&incoming, &b1, json!({"event": "progress", "seq": 2})).await.status, 200);
    alice.events(&call, &a1, Some(0)).await.until("progress").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_open_put_carries_is_acknowledged_to_its_device_only() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let a2 = alice.register("a2", BOTH).await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let mut mine = alice.events(&call, &a1, None).await;
    let mut again = alice.events(&call, &a1, None).await;
    let mut other = alice.events(&call, &a2, None).await;
    let mut anonymous = alice.stream(&format!("{call}/events")).await;
    for stream in [&mut mine, &mut again, &mut other, &mut anonymous] {
        stream.next().await.unwrap();
    }
    // Headers come at once, before any event.
    let put = alice.open_put(&call, Some(&a1)).await;
    assert_eq!(put.status, 200);
    assert_eq!(put.headers["incremental"], "?1");
    assert_eq!(
        (&put.headers["cache-control"], &put.headers["x-accel-buffering"]),
        (&HeaderValue::from_static("no-store"), &HeaderValue::from_static("no"))
    );
    put.raw("[\n").await;
    put.say(&json!({"event": "ping", "seq": 11, "nonce": "n"})).await;
    for stream in [&mut mine, &mut again] {
        let pong = stream.next().await.unwrap();
        assert_eq!((&pong["event"], &pong["nonce"], pong.get("seq")), (&json!("pong"), &json!("n"), None));
        let taken = stream.next().await.unwrap();
        assert_eq!(
            (&taken["event"], &taken["accepted"], taken.get("seq")),
            (&json!("accepted"), &json!(11), None)
        );
        assert_eq!((&taken["direction"], &taken["call"]), (&json!("s2c"), &json!(call)));
    }
    // Refusals, each with the number that it leaves free.
    for (event, code) in [
        (json!({"event": "resume", "seq": 12}), "illegal-event"),
        (json!({"event": "dtmf", "digit": "x", "seq": 12}), "bad-event"),
        (json!({"event": "ping", "handler": "nobody", "seq": 12}), "no-such-handler"),
    ] {
        put.raw(format!(",{event}")).await;
        let error = mine.next().await.unwrap();
        assert_eq!(
            (&error["event"], &error["code"], &error["ref-seq"], error.get("seq")),
            (&json!("error"), &json!(code), &json!(12), None)
        );
    }
    // In pieces, several at once, and one for another device.
    put.raw(r#",{"event":"pi"#).await;
    put.raw(r#"ng","seq":12},"#).await;
    put.raw(format!(
        "{}{}",
        json!({"event": "ping", "seq": 13}),
        json!({"event": "hold", "handler": a2, "seq": 1})
    ))
    .await;
    let mut accepted = 11;
    while accepted < 13 {
        accepted = mine.until("accepted").await["accepted"].as_u64().unwrap();
    }
    assert_eq!(other.until("accepted").await["accepted"], 1);
    // On every byway the hold has a number; nothing else came to the ones of nobody.
    assert_eq!(anonymous.next().await.unwrap()["event"], "hold");
    assert_eq!(anonymous.next().await.unwrap()["event"], "directives");
    put.raw("]").await;
    assert_eq!(put.finish().await["accepted"].as_u64().map(|n| n >= 1), Some(true));
    // Whoever starts anew reads what was taken.
    assert_eq!(alice.get(&format!("{call}?handler=a1")).await.json()["accepted"], 13);
    assert_eq!(alice.events(&call, &a1, None).await.next().await.unwrap()["accepted"], 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_put_answers_with_the_newest_number_and_ends_with_its_call() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let silent = alice.open_put(&call, Some(&a1)).await;
    let put = alice.open_put(&call, Some(&a1)).await;
    let mut events = alice.events(&call, &a1, None).await;
    put.say(&json!({"event": "hold", "seq": 7})).await;
    events.until("accepted").await;
    assert_eq!(put.finish().await, json!({"accepted": 7}));
    let put = alice.open_put(&call, None).await;
    put.say(&json!({"event": "end", "seq": 8, "handler": a1})).await;
    assert_eq!(events.until("ended").await["by"], "caller");
    assert_eq!(put.ended().await, json!({"accepted": 8}));
    assert_eq!(events.next().await, None::<Value>);
    // What the device was acknowledged before is still what counts.
    assert_eq!(silent.ended().await, json!({"accepted": 8}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quality_goes_both_ways_and_the_call_stays_as_it_is() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
    let stream = json!({"source": 1, "sink": 1, "sent": 10, "received": 9, "lost": 1, "late": 0, "jitter-ms": 1.5, "delay-ms": 20, "mos": 4.1});
    let mut heard = bob.events(&incoming, &b1, None).await;
    let mut mine = alice.events(&call, &a1, None).await;
    mine.next().await;
    let sent = alice.event(&call, &a1, json!({"event": "quality", "seq": 1, "streams": [stream]})).await;
    assert_eq!(sent.json(), json!({"accepted": 1}));
    alice.digit_reaches(&call, &a1, &mut heard, "5").await;
    // A chunk of media makes a stream, whose report comes at the latest with the end.
    let (mut chunk, mut body) = (BytesMut::new(), BytesMut::new());
    encode(&MediaHeader::default(), b"voice", &mut chunk);
    put_frame(&chunk, &mut body);
    let path = format!("{call}/media?handler={}", percent(&a1));
    assert_eq!(alice.with_body("PUT", &path, body.freeze()).await.status, 200);
    assert_eq!(alice.event(&call, &a1, json!({"event": "end", "seq": 3})).await.status, 200);
    let report = mine.until("quality").await;
    assert_eq!(report.get("seq"), None);
    let stream = &report["streams"][0];
    assert_eq!((&stream["source"], &stream["sink"], &stream["received"]), (&json!(1), &json!(1), &json!(1)));
    for member in ["sent", "lost", "late", "jitter-ms", "delay-ms", "mos"] {
        assert!(stream[member].is_number(), "{member}: {report}");
    }
    mine.until("ended").await;
}
