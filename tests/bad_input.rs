//! What a hostile or broken client sends: each gets its status and code, and live calls go on.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::common::World;
use crate::common::h1h2::Version;
use crate::common::user::{BOTH, EventStream, User, encode};

/// A call that has to live through what is done to its server.
struct Live {
    alice: User,
    a1: String,
    call: String,
    heard: EventStream,
}

impl Live {
    async fn on(world: &World) -> Self {
        let (alice, a1, bob, b1) = world.pair().await;
        let (call, incoming) = alice.answered(&a1, &bob, &b1).await;
        let mut heard = bob.events(&incoming, &b1, None).await;
        heard.next().await;
        Self { alice, a1, call, heard }
    }

    async fn goes_on(&mut self) {
        self.alice.digit_reaches(&self.call, &self.a1, &mut self.heard, "7").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_json_objects_are_refused_everywhere() {
    let world = World::start().await;
    let mut live = Live::on(&world).await;
    let mallory = world.user("mallory", "+14085550009").await;
    let m1 = mallory.register("m1", BOTH).await;
    let before = mallory.get(&m1).await.body;
    let other = world.user("other", "+14085550008").await;
    other.register("o1", BOTH).await;
    let call = mallory.call(&m1, "+14085550008").await["uri"].as_str().unwrap().to_owned();
    let deep = |open: &str, close: &str| {
        format!("{{\"x\":{}{}}}", open.repeat(5000), close.repeat(5000)).into_bytes()
    };
    let bodies: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"null".to_vec(),
        b"7".to_vec(),
        b"\"x\"".to_vec(),
        b"{\"a\":}".to_vec(),
        b"{'a':1}".to_vec(),
        b"{\"a\":1e999}".to_vec(),
        b"{\"a\":\"\xff\xfe\"}".to_vec(),
        b"{\"a\":\"\\ud800\"}".to_vec(),
        b"{\"a\":\"\0\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"\0\0\0".to_vec(),
        deep("[", "]"),
        deep("{\"x\":", "}"),
        "[".repeat(5000).into_bytes(),
    ];
    let routes = [
        ("POST", "providertgs/test/handlers".to_owned()),
        ("PUT", m1.clone()),
        ("POST", "providertgs/test/calls".into()),
        ("POST", call.clone()),
        ("PUT", format!("{call}/events?handler={}", encode(&m1))),
    ];
    for (method, path) in &routes {
        for body in &bodies {
            // An array that holds no event is an array of events.
            if path.contains("/events") && body.iter().all(|b| *b == b'[') {
                continue;
            }
            let answer = mallory.with_body(method, path, body.clone()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_eq!(answer.problem(), (400, "bad-json".into()), "{method} {path} {shown}");
        }
    }
    live.goes_on().await;
    assert_eq!(mallory.get(&call).await.json()["state"], "proceeding");
    assert_eq!(mallory.get(&m1).await.body, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_64_kib_are_refused_and_those_up_to_it_are_not() {
    let world = World::start().await;
    let mut live = Live::on(&world).await;
    let (alice, a1, call) = (live.alice.clone(), live.a1.clone(), live.call.clone());
    let padded = |json: Value, size: usize| {
        let mut json = json;
        json["padding"] = "".into();
        let short = json.to_string().len();
        json["padding"] = "x".repeat(size - short).into();
        json.to_string()
    };
    let limit = 64 * 1024;
    let device = json!({"handler-id": "a1", "advertisement": BOTH});
    let event = json!({"event": "ping"});
    let routes = [
        ("POST", "providertgs/test/handlers".to_owned(), device.clone()),
        ("PUT", a1.clone(), device),
        ("POST", call.clone(), json!({"handler": a1, "intent": "recover"})),
        ("PUT", format!("{call}/events?handler={}", encode(&a1)), event),
    ];
    for (method, path, json) in routes {
        assert_eq!(
            alice.with_body(method, &path, padded(json.clone(), limit)).await.status,
            200,
            "{method} {path}"
        );
        let large = alice.with_body(method, &path, padded(json.clone(), limit + 1)).await;
        assert_eq!(large.problem(), (413, "too-large".into()), "{method} {path}");
        let huge = alice.with_body(method, &path, padded(json, 4 * 1024 * 1024)).await;
        assert_eq!(huge.problem(), (413, "too-large".into()), "{method} {path}");
    }
    let large = alice.with_body("POST", "providertgs/test/calls", vec![b' '; limit + 1]).await;
    assert_eq!(large.problem(), (413, "too-large".into()));
    // One event on an open PUT: the stream is refused, and ends.
    let mut events = alice.events(&call, &a1, None).await;
    let put = alice.open_put(&call, Some(&a1)).await;
    put.raw(format!("{{\"event\":\"ping\",\"x\":\"{}", "x".repeat(limit))).await;
    assert_eq!(events.until("error").await["code"], "too-large");
    put.ended().await;
    live.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_paths_and_queries_are_answered_with_problems() {
    let world = World::start().await;
    let mut live = Live::on(&world).await;
    let (alice, a1, call) = (live.alice.clone(), live.a1.clone(), live.call.clone());
    let calls = call.rsplit_once('/').unwrap().0.to_owned();
    let handlers = a1.rsplit_once('/').unwrap().0.to_owned();
    let ids = [
        "%FF".to_owned(),
        "%00".into(),
        "%2e%2e".into(),
        "..%2f..%2fpush".into(),
        "%2F".into(),
        "%".into(),
        "%zz".into(),
        "%E2%82%AC".into(),
        "x".repeat(8000),
        "0".repeat(36),
        "00000000-0000-0000-0000-000000000000".into(),
        "'%20or%201=1".into(),
        "{}".into(),
        "+".into(),
    ];
    let mut paths: Vec<(&str, String)> = Vec::new();
    for id in &ids {
        paths.push(("GET", format!("providertgs/{id}")));
        paths.push(("GET", format!("providertgs/{id}/handlers")));
        paths.push(("POST", format!("providertgs/{id}/handlers")));
        paths.push(("POST", format!("providertgs/{id}/calls")));
        paths.push(("GET", format!("providertgs/{id}/calls/{}", call.rsplit_once('/').unwrap().1)));
        paths.push(("GET", format!("{handlers}/{id}")));
        paths.push(("PUT", format!("{handlers}/{id}")));
        paths.push(("DELETE", format!("{handlers}/{id}")));
        paths.push(("GET", format!("{calls}/{id}")));
        paths.push(("POST", format!("{calls}/{id}")));
        paths.push(("GET", format!("{calls}/{id}/events")));
        paths.push(("PUT", format!("{calls}/{id}/events")));
        paths.push(("GET", format!("{calls}/{id}/media?handler=a1")));
        paths.push(("PUT", format!("{calls}/{id}/media?handler=a1")));
    }
    paths.extend(
        ["", "providertgs/", "/x", "//", "push/", "push/tickets/", "providertgs/test/calls/"]
            .map(|p| ("GET", p.to_owned())),
    );
    for (method, path) in paths {
        let Ok(_) = alice.uri(&path).parse::<http::Uri>() else { continue };
        let answer = alice.with_body(method, &path, "").await;
        let (status, code) = answer.problem();
        assert_eq!((status, &code[..]), (404, "not-found"), "{method} {path}");
    }
    for query in [
        "handler=%FF",
        "handler=",
        "handler=%00",
        "handler=a1&handler=a1",
        "after=-1&handler=a1",
        "after=99999999999999999999",
        "handler=https%3A%2F%2Fevil%2F",
        &format!("handler={}", "x".repeat(8000)),
        "%=%&&&===",
        "handler=%zz",
    ] {
        for path in [&call[..], &format!("{call}/events")] {
            let answer = if query.starts_with("%=") {
                alice.with_body("PUT", &format!("{call}/events?{query}"), "").await
            } else {
                alice
                    .with_body(
                        if query.starts_with("after") { "GET" } else { "POST" },
                        &format!("{path}?{query}"),
                        "",
                    )
                    .await
            };
            if answer.status != 200 {
                let (status, code) = answer.problem();
                assert!([400, 404, 405].contains(&status), "{query} {path}: {status} {code}");
            }
        }
    }
    live.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_events_that_go_wrong_end_and_their_call_goes_on() {
    let world = World::start().await;
    let mut live = Live::on(&world).await;
    let (alice, a1, call) = (live.alice.clone(), live.a1.clone(), live.call.clone());
    // Streams that never send a byte.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(alice.open_put(&call, Some(&a1)).await);
    }
    let mut events = alice.events(&call, &a1, None).await;
    for (bytes, code) in [
        ("nonsense".to_owned(), "bad-json"),
        ("{\"event\":tru}".into(), "bad-json"),
        ("{\"x\":".repeat(5000), "bad-json"),
        ("[".repeat(5000) + "7", "bad-json"),
        ("{\"event\":\"ping\"}}".into(), "bad-json"),
    ] {
        let put = alice.open_put(&call, Some(&a1)).await;
        put.raw(bytes.clone()).await;
        let error = events.until("error").await;
        assert_eq!(error["code"], code, "{}", &bytes[..bytes.len().min(30)]);
        assert!(put.ended().await["accepted"].is_u64());
    }
    // An event that breaks off with its body counts for nothing.
    let put = alice.open_put(&call, Some(&a1)).await;
    put.raw("{\"event\":\"end\"").await;
    put.finish().await;
    let broken = alice.with_body("PUT", &format!("{call}/events?handler=a1"), "{\"event\":\"end\"").await;
    assert_eq!(broken.problem(), (400, "bad-json".into()));
    live.goes_on().await;
    for put in silent {
        put.finish().await;
    }
    live.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_events_may_be_as_large_as_they_can() {
    let world = World::start().await;
    let mut live = Live::on(&world).await;
    let (alice, call) = (live.alice.clone(), live.call.clone());
    let a2 = alice.register("a2", BOTH).await;
    let max = alice.event(&call, &a2, json!({"event": "ping", "seq": u64::MAX})).await;
    assert_eq!(max.json(), json!({"accepted": u64::MAX}));
    // One more without a number of its own is still taken.
    let next = alice.event(&call, &a2, json!({"event": "ping"})).await;
    assert_eq!((next.status.as_u16(), next.json()), (200, json!({"accepted": u64::MAX})));
    let beyond = alice
        .with_body(
            "PUT",
            &format!("{call}/events?handler=a2"),
            r#"{"event":"ping","seq":18446744073709551616}"#,
        )
        .await;
    assert_eq!(beyond.problem(), (400, "bad-event".into()));
    live.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_breaks_off_leaves_nothing_behind() {
    let world = World::start().await;
    let mut live = Live::on(&world).await;
    let (alice, a1, call) = (live.alice.clone(), live.a1.clone(), live.call.clone());
    for user in [alice.clone(), world.user_over(Version::Http2, "alice", "+14085550001").await] {
        let half = stream::iter([
            Ok(Bytes::from_static(b"{\"event\":\"end\"}")),
            Err(std::io::Error::other("gone")),
        ]);
        let request =
            user.builder("PUT", &format!("{call}/events?handler=a1")).header("content-length", 5000);
        let request = request.body(Body::from_stream(half)).unwrap();
        // There is no answer, or one that refuses.
        let sent = tokio::time::timeout(std::time::Duration::from_secs(5), async {
            match &user.tcp {
                Some(_) => None,
                None => user.client.request(request).await.ok().map(|r| r.status().as_u16()),
            }
        })
        .await;
        assert!(matches!(sent, Err(_) | Ok(None | Some(400))), "{sent:?}");
    }
    // Streams given up by their readers.
    for _ in 0..100 {
        drop(alice.events(&call, &a1, Some(0)).await);
    }
    live.goes_on().await;
}
