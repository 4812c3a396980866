//! `…/push`: taps as streaming JSON and over WebSocket, and the tickets that open them.

use axum::body::Body;
use futures_util::StreamExt;
use http::HeaderValue;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::common::h1h2::{Tcp, Version};
use crate::common::user::{BOTH, User, encode};
use crate::common::{World, soon};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Opens the push channel as a WebSocket; the refusal's status and body if there is one.
async fn socket(world: &World, query: &str, headers: &[(&str, &str)]) -> Result<Socket, (u16, Value)> {
    let url = format!("wss://127.0.0.1:{}/.well-known/ript/v1/push{query}", world.address.port());
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    let stream = Tcp::new(world, Version::Http1).connect().await;
    match soon("the upgrade", tokio_tungstenite::client_async(request, stream)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default()))
        }
        Err(error) => panic!("{error}"),
    }
}

async fn tap(socket: &mut Socket) -> Value {
    loop {
        match soon("a message", socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn ticket(user: &User, query: &str) -> String {
    let answer = user.with_body("POST", &format!("push/tickets{query}"), "").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"));
    answer.json()["ticket"].as_str().unwrap().to_owned()
}

fn refused(result: Result<Socket, (u16, Value)>) -> (u16, String) {
    let (status, problem) = result.err().unwrap();
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_channel_first_tells_what_rings_and_then_what_comes() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    alice.call(&a1, &bob.number).await;
    let first = json!({"call": bob.calls().await[0], "reason": "incoming"});
    let path = format!("push?handler={}", encode(&b1));
    let response = bob.begin(bob.builder("GET", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    assert_eq!(
        (&response.headers()["cache-control"], &response.headers()["incremental"]),
        (&HeaderValue::from_static("no-store"), &HeaderValue::from_static("?1"))
    );
    let mut body = response.into_body();
    let frame = soon("the bracket", body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap()[0], b'[');
    let frame = soon("the first tap", body.frame()).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&frame.into_data().unwrap()).unwrap(), first);

    let mut lines = bob.stream(&path).await;
    let mut by_id = bob.stream("push?handler=b1").await;
    assert_eq!((lines.next().await.unwrap(), by_id.next().await.unwrap()), (first.clone(), first.clone()));
    alice.call(&a1, &bob.number).await;
    let second = lines.next().await.unwrap();
    assert_ne!(second, first);
    assert_eq!(by_id.next().await.unwrap(), second);
    let frame = soon("the second tap", body.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frame[0], b',');
    // What was answered or has ended does not ring any more.
    let claimed = second["call"].as_str().unwrap();
    assert_eq!(bob.claim(claimed, &b1, None).await.status, 200);
    assert_eq!(bob.event(claimed, &b1, json!({"event": "answered"})).await.status, 200);
    assert_eq!(bob.stream(&path).await.next().await.unwrap(), first);
    for (path, code) in [
        (format!("push?handler={}", encode(&a1)), "no-such-handler"),
        ("push?handler=x".into(), "no-such-handler"),
    ] {
        assert_eq!(bob.get(&path).await.problem(), (404, code.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taps_come_over_a_websocket_with_a_bearer_or_a_ticket() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let query = format!("?handler={}", encode(&b1));
    let mut bearer =
        socket(&world, &query, &[("authorization", &format!("Bearer {}", bob.token))]).await.unwrap();
    let mut ticketed = socket(&world, &format!("?ticket={}", ticket(&bob, &query).await), &[]).await.unwrap();
    let both = format!("{query}&ticket={}", ticket(&bob, &query).await);
    let mut named = socket(&world, &both, &[]).await.unwrap();
    alice.call(&a1, &bob.number).await;
    let tapped = json!({"call": bob.calls().await[0], "reason": "incoming"});
    for socket in [&mut bearer, &mut ticketed, &mut named] {
        assert_eq!(tap(socket).await, tapped);
    }
    let mut late = socket(&world, &format!("?ticket={}", ticket(&bob, &query).await), &[]).await.unwrap();
    assert_eq!(tap(&mut late).await, tapped);
    // The ticket counts as that device: a decline by the only device that was reached ends the call.
    let incoming = tapped["call"].as_str().unwrap();
    assert_eq!(bob.event(incoming, &b1, json!({"event": "declined"})).await.status, 200);
    assert_eq!(bob.get(incoming).await.json()["outcome"], "declined");
    // A client that talks where nothing is expected, or too much, harms only itself.
    use futures_util::SinkExt;
    late.send(Message::Text("hello".into())).await.unwrap();
    let _ = late.send(Message::Binary(vec![0; 1024 * 1024].into())).await;
    soon("the socket's end", async { while let Some(Ok(_)) = late.next().await {} }).await;
    alice.call(&a1, &bob.number).await;
    assert_eq!(tap(&mut bearer).await["reason"], "incoming");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_what_it_is_for_once() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let b2 = bob.register("b2", BOTH).await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let (q1, q2) = (format!("?handler={}", encode(&b1)), format!("?handler={}", encode(&b2)));
    let used = ticket(&bob, &q1).await;
    let plain = bob.bare("GET", &format!("push?ticket={used}")).body(Body::empty()).unwrap();
    assert_eq!(bob.begin(plain).await.status(), 200);
    let again = bob.send(bob.bare("GET", &format!("push?ticket={used}")).body(Body::empty()).unwrap()).await;
    assert_eq!(again.problem(), (403, "bad-ticket".into()));
    assert!(!again.header("date").is_empty());
    let bad = |result| assert_eq!(refused(result), (403, "bad-ticket".into()));
    bad(socket(&world, &format!("?ticket={used}"), &[]).await);
    bad(socket(&world, "?ticket=forged", &[]).await);
    bad(socket(&world, "?ticket=", &[]).await);
    // Of another handler: one's own, somebody else's, or nobody's.
    for other in [&q2[..], &format!("?handler={}", encode(&a1)), "?handler=nobody"] {
        bad(socket(&world, &format!("{other}&ticket={}", ticket(&bob, &q1).await), &[]).await);
    }
    // A ticket for media opens no push channel, and the other way round.
    let read = alice.get(&format!("{call}?handler=a1")).await.json();
    let media = read["media"]["webtransport"].as_str().unwrap().split_once("ticket=").unwrap().1.to_owned();
    bad(socket(&world, &format!("?ticket={media}"), &[]).await);
    let push = ticket(&alice, "?handler=a1").await;
    let path = format!("{call}/media?ticket={push}");
    let wrong =
        alice.send(alice.bare("PUT", &path).header("content-length", 0).body(Body::empty()).unwrap()).await;
    assert_eq!(wrong.problem(), (403, "bad-ticket".into()));
    for (path, code) in [
        ("push/tickets?handler=nobody".to_owned(), 404),
        (format!("push/tickets?handler={}", encode(&a1)), 404),
    ] {
        assert_eq!(bob.with_body("POST", &path, "").await.problem(), (code, "no-such-handler".into()));
    }
    let expected = refused(socket(&world, &q1, &[]).await);
    assert_eq!(expected, (401, "unauthorized".into()));
    let other = refused(socket(&world, &q1, &[("authorization", &format!("Bearer {}", alice.token))]).await);
    assert_eq!(other, (404, "no-such-handler".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_media_ticket_opens_its_own_call_for_its_own_handler_once() {
    let world = World::start().await;
    let (alice, a1, bob, b1) = world.pair().await;
    let a2 = alice.register("a2", BOTH).await;
    let (call, _) = alice.answered(&a1, &bob, &b1).await;
    let (other, _) = alice.answered(&a1, &bob, &b1).await;
    let fresh = async || {
        let read = alice.get(&format!("{call}?handler={}", encode(&a1))).await.json();
        read["media"]["webtransport"].as_str().unwrap().split_once("?ticket=").unwrap().1.to_owned()
    };
    let put = async |path: String| {
        alice.send(alice.bare("PUT", &path).header("content-length", 0).body(Body::empty()).unwrap()).await
    };
    let used = fresh().await;
    let first = put(format!("{call}/media?ticket={used}")).await;
    assert_eq!(first.status, 200);
    for path in [
        format!("{call}/media?ticket={used}"),
        format!("{call}/media?ticket=forged"),
        format!("{other}/media?ticket={}", fresh().await),
        format!("{call}/media?handler={}&ticket={}", encode(&a2), fresh().await),
        format!("{call}/media?handler={}&ticket={}", encode(&b1), fresh().await),
    ] {
        assert_eq!(put(path.clone()).await.problem(), (403, "bad-ticket".into()), "{path}");
    }
    assert_eq!(put(format!("{call}/media?handler=a1&ticket={}", fresh().await)).await.status, 200);

    // wire §8: the cookie of the first request stands for the bearer, on that call and handler only.
    let cookie = first.header("set-cookie").to_owned();
    let path = call.strip_prefix(&world.url()).unwrap();
    for part in ["ript-media=", "; HttpOnly", "; Secure", &format!("; Path={path}/media")] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let value = cookie.split(';').next().unwrap();
    let with = async |uri: String, cookie: &str| {
        let request = alice.bare("PUT", &uri).header("content-length", 0).header("cookie", cookie);
        alice.send(request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(with(format!("{call}/media"), value).await.status, 200);
    assert_eq!(with(format!("{call}/media?handler=a1"), &format!("a=b; {value}; c=d")).await.status, 200);
    for (uri, cookie) in [
        (format!("{other}/media?handler=a1"), value),
        (format!("{call}/media?handler=a2"), value),
        (format!("{call}/media?handler=a1"), "ript-media=x.y.z"),
        (format!("{call}/media?handler=a1"), &value[..value.len() - 2]),
        (call.clone() + "/events?handler=a1", value),
    ] {
        assert_eq!(with(uri.clone(), cookie).await.problem(), (401, "unauthorized".into()), "{uri}");
    }
}
