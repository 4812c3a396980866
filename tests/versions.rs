//! The same requests over HTTP/1.1, HTTP/2 and HTTP/3.

use axum::body::Body;
use serde_json::json;

use crate::common::World;
use crate::common::h1h2::Version;
use crate::common::user::{BOTH, User, encode};

async fn a_whole_call(alice: &User, bob: &User) {
    let (a1, b1) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
    let mut taps = bob.stream(&format!("push?handler={}", encode(&b1))).await;
    let placed = alice.call(&a1, &bob.number).await;
    let call = placed["uri"].as_str().unwrap();
    let mut mine = alice.events(call, &a1, None).await;
    assert_eq!(mine.next().await.unwrap()["event"], "proceeding");
    let incoming = taps.next().await.unwrap()["call"].as_str().unwrap().to_owned();
    let mut theirs = bob.events(&incoming, &b1, None).await;
    // The open PUT's headers come while its body goes on.
    let put = bob.open_put(&incoming, Some(&b1)).await;
    assert_eq!((put.status.as_u16(), &put.headers["incremental"]), (200, &"?1".parse().unwrap()));
    put.say(&json!({"event": "alerting", "seq": 1})).await;
    mine.until("alerting").await;
    assert_eq!(theirs.until("accepted").await["accepted"], 1);
    assert_eq!(bob.claim(&incoming, &b1, Some("answer")).await.status, 200);
    put.say(&json!({"event": "answered", "seq": 2})).await;
    mine.until("answered").await;
    theirs.until("directives").await;
    put.say(&json!({"event": "ping", "seq": 3, "nonce": 1})).await;
    assert_eq!(theirs.until("pong").await["nonce"], 1);
    assert_eq!(
        alice.event(call, &a1, json!({"event": "end", "seq": 1})).await.json(),
        json!({"accepted": 1})
    );
    for stream in [&mut mine, &mut theirs] {
        assert_eq!(stream.until("ended").await["by"], "caller");
        assert_eq!(stream.next().await, None);
    }
    assert_eq!(put.ended().await, json!({"accepted": 3}));
    assert_eq!(alice.get(call).await.json()["outcome"], "completed");
    assert_eq!(alice.event(call, &a1, json!({"event": "ping"})).await.problem(), (409, "call-ended".into()));
    assert_eq!(bob.delete(&b1).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_over_every_version_and_between_them() {
    let world = World::start().await;
    let h1 = world.user_over(Version::Http1, "alice", "+14085550001").await;
    let h2 = world.user_over(Version::Http2, "bob", "+14085550002").await;
    let h3 = world.user("carol", "+14085550003").await;
    for (caller, callee) in [(&h1, &h2), (&h2, &h3), (&h3, &h1), (&h1, &h1.clone())] {
        if caller.number != callee.number {
            a_whole_call(caller, callee).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_points_to_http3_and_answers_like_it() {
    let world = World::start().await;
    let h3 = world.user("alice", "+14085550001").await;
    for version in [Version::Http1, Version::Http2] {
        let tcp = world.user_over(version, "alice", "+14085550001").await;
        let same = tcp.get("providertgs/test").await;
        assert!(
            same.header("alt-svc").starts_with(&format!("h3=\":{}\"", world.address.port())),
            "{version:?}"
        );
        let other = h3.get("providertgs/test").await;
        assert_eq!((same.body, same.status), (other.body, other.status));
        let unauthorized = tcp.send(tcp.bare("GET", "providertgs").body(Body::empty()).unwrap()).await;
        assert_eq!(unauthorized.problem(), (401, "unauthorized".into()));
        assert_eq!(unauthorized.headers.get_all("date").iter().count(), 1);
        assert_eq!(tcp.get("nowhere").await.problem(), (404, "not-found".into()));
        // Headers beyond 16 KiB.
        let large = tcp.builder("GET", "providertgs").header("x-large", "x".repeat(17 * 1024));
        assert_eq!(tcp.send(large.body(Body::empty()).unwrap()).await.status, 431, "{version:?}");
        let fits = tcp.builder("GET", "providertgs").header("x-large", "x".repeat(12 * 1024));
        assert_eq!(tcp.send(fits.body(Body::empty()).unwrap()).await.status, 200, "{version:?}");
        // A session is for HTTP/3.
        assert_eq!(tcp.with_body("PUT", "providertgs/test/handlers", "").await.status, 405);
    }
}
