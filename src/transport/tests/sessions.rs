//! WebTransport sessions.

use super::super::client::ClientError;
use super::super::session::{CloseReason, Sent};
use super::*;

async fn open(client: &H3Client, path: &str) -> (Session, mpsc::UnboundedReceiver<Heard>) {
    let (sink, heard) = teller();
    (soon(client.open_session(uri(path), HeaderMap::new(), sink)).await.unwrap(), heard)
}

async fn hear(heard: &mut mpsc::UnboundedReceiver<Heard>) -> Heard {
    soon(heard.recv()).await.unwrap()
}

#[tokio::test]
async fn three_hundred_sessions_share_a_connection_with_requests() {
    let world = World::new();
    let client = world.connect().await;
    let settings = soon(client.peer_settings()).await.unwrap();
    assert!(settings.h3_datagram && settings.webtransport && settings.extended_connect);
    let mut sessions = Vec::new();
    for i in 0..300 {
        sessions.push(open(&client, &format!("/session/{i}")).await);
    }
    assert_eq!(client.open_sessions(), 300);
    for round in 0..3 {
        for (i, (session, heard)) in sessions.iter_mut().enumerate() {
            assert_ne!(session.send_datagram(&[b"n", round.to_string().as_bytes()]), Sent::Closed);
            if i % 10 == 0 {
                assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
            }
            let expected = Heard::Datagram(Bytes::from(format!("{i}:n{round}")));
            assert_eq!(hear(heard).await, expected);
        }
    }
}

#[tokio::test]
async fn a_stream_of_fifty_kilobytes_comes_whole_both_ways() {
    let world = World::new();
    let client = world.connect().await;
    let (session, mut heard) = open(&client, "/session/a").await;
    let body = Bytes::from(vec![9; 50_000]);
    assert_eq!(session.send_stream(body.clone(), crate::clock::instant() + PATIENCE), Sent::Queued);
    assert!(hear(&mut heard).await == Heard::Stream(body));
    session.send_stream(Bytes::from(vec![9; 70_000]), crate::clock::instant() + PATIENCE);
    session.send_stream(Bytes::from("after"), crate::clock::instant() + PATIENCE);
    assert_eq!(hear(&mut heard).await, Heard::Stream(Bytes::from("after")));
}

#[tokio::test]
async fn what_comes_before_its_connect_is_delivered_after_it() {
    let world = World::new();
    let client = world.connect().await;
    let raw = client.raw();
    // The first request stream of a connection has the id 0.
    raw.send_datagram(Bytes::from_static(b"\0early")).unwrap();
    let (_session, mut heard) = open(&client, "/session/a").await;
    assert_eq!(hear(&mut heard).await, Heard::Datagram(Bytes::from("a:early")));
}

#[tokio::test]
async fn a_refusal_tells_status_and_body() {
    let world = World::new();
    let client = world.connect().await;
    let (sink, mut heard) = teller();
    match soon(client.open_session(uri("/deny"), HeaderMap::new(), sink)).await {
        Err(ClientError::Refused { status, body, .. }) => {
            assert_eq!((status, &body[..]), (StatusCode::FORBIDDEN, &b"not you"[..]));
        }
        other => panic!("{other:?}"),
    }
    assert!(soon(heard.recv()).await.is_none());
    assert_eq!(client.open_sessions(), 0);
}

#[tokio::test]
async fn a_client_that_closes_is_heard_once_with_its_reason() {
    let mut world = World::new();
    let client = world.connect().await;
    let (session, mut heard) = open(&client, "/session/a").await;
    session.close(7, "bye");
    session.close(8, "again");
    let (name, theirs) = soon(world.closed.recv()).await.unwrap();
    assert_eq!(name, "a");
    assert_eq!(theirs.close_reason(), Some(CloseReason { code: 7, message: "bye".into() }));
    assert_eq!(hear(&mut heard).await, Heard::Closed);
    assert!(heard.recv().await.is_none());
    assert_eq!(session.send_datagram(&[b"x"]), Sent::Closed);
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_that_closes_is_heard_with_its_reason() {
    let world = World::new();
    let client = world.connect().await;
    let (session, mut heard) = open(&client, "/session/a").await;
    session.send_datagram(&[b"close me"]);
    assert_eq!(hear(&mut heard).await, Heard::Closed);
    assert_eq!(session.close_reason(), Some(CloseReason { code: 42, message: "as you wish".into() }));
    assert!(heard.recv().await.is_none());
}

#[tokio::test]
async fn a_lost_connection_closes_every_session_on_both_sides() {
    let mut world = World::new();
    let client = world.connect().await;
    let (_a, mut heard_a) = open(&client, "/session/a").await;
    let (_b, mut heard_b) = open(&client, "/session/b").await;
    client.close();
    assert_eq!(hear(&mut heard_a).await, Heard::Closed);
    assert_eq!(hear(&mut heard_b).await, Heard::Closed);
    let mut names = [soon(world.closed.recv()).await.unwrap().0, soon(world.closed.recv()).await.unwrap().0];
    names.sort();
    assert_eq!(names, ["a", "b"]);
    assert!(heard_a.recv().await.is_none());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection() {
    let mut world = World::new();
    let client = world.connect().await;
    let (_session, mut heard) = open(&client, "/session/a").await;
    drop(client.clone());
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
    drop(client);
    assert_eq!(hear(&mut heard).await, Heard::Closed);
    assert_eq!(soon(world.closed.recv()).await.unwrap().0, "a");
}

#[tokio::test]
async fn late_datagrams_are_dropped_and_counted_not_sent() {
    let world = World::new();
    let wire = Wire::to(world.address).await;
    let client = world.connect_to(wire.address).await;
    let (session, mut heard) = open(&client, "/session/a").await;
    wire.cut();
    let mut queued = 0;
    // Until the congestion window is full and 60 ms have passed for the first that waits.
    let stalled = async {
        while session.counters().late == 0 {
            if session.send_datagram(&[&[b'o'; 1_000]]) == Sent::Queued {
                queued += 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(stalled).await;
    until("nothing waits any more", || session.waiting() == 0).await;
    assert!(session.counters().late <= queued);
    wire.mend();
    // What was handed to QUIC before the cut may come; what waited may not.
    let fresh = async {
        loop {
            session.send_datagram(&[b"fresh"]);
            if let Ok(Some(Heard::Datagram(back))) =
                tokio::time::timeout(Duration::from_millis(50), heard.recv()).await
                && back == "a:fresh"
            {
                break;
            }
        }
    };
    soon(fresh).await;
}

#[tokio::test]
async fn a_stream_past_its_deadline_is_reset_and_counted() {
    let world = World::new();
    let wire = Wire::to(world.address).await;
    let client = world.connect_to(wire.address).await;
    let (session, _heard) = open(&client, "/session/a").await;
    wire.cut();
    let soon_late = crate::clock::instant() + Duration::from_millis(20);
    assert_eq!(session.send_stream(Bytes::from(vec![1; 50_000]), soon_late), Sent::Queued);
    until("it is counted", || session.counters().streams_late == 1).await;
}

#[tokio::test]
async fn a_datagram_may_be_as_large_as_the_path_takes_and_no_larger() {
    let world = World::new();
    let client = world.connect().await;
    let (session, _heard) = open(&client, "/session/a").await;
    let max = session.max_payload().unwrap();
    assert!(max >= 1_100, "{max}");
    assert_eq!(session.send_datagram_with(|out| out.resize(out.len() + 60_000, 0)), Sent::TooLarge);
    assert_ne!(session.send_datagram(&[&vec![0; 1_100]]), Sent::TooLarge);
}

#[tokio::test]
async fn a_session_survives_a_client_that_moves() {
    let world = World::new();
    let client = world.connect().await;
    let (session, mut heard) = open(&client, "/session/a").await;
    world.client.rebind(std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    session.send_datagram(&[b"moved"]);
    assert_eq!(hear(&mut heard).await, Heard::Datagram(Bytes::from("a:moved")));
}

#[tokio::test]
async fn another_server_with_the_same_key_ends_a_lost_connection_at_once() {
    let mut world = World::new();
    let mut wire = Wire::to(world.address).await;
    let client = world.connect_to(wire.address).await;
    let (session, mut heard) = open(&client, "/session/a").await;
    wire.cut();
    world.server.take();
    let tls = tls::quic_server(world.keys.clone()).unwrap();
    let other =
        QuicServerSettings::new(tls, [7; 32]).bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap().remove(0);
    wire.lead_to(other.local_addr().unwrap());
    wire.mend();
    // RFC 9000 §10.3: a packet too small to look like a short header one gets no reset.
    session.send_datagram(&[&[0; 200]]);
    assert_eq!(soon(client.closed()).await, quinn::ConnectionError::Reset);
    assert_eq!(hear(&mut heard).await, Heard::Closed);
}

#[tokio::test]
async fn a_sink_that_panics_ends_its_connection() {
    struct Panics;
    impl SessionSink for Panics {
        fn on_datagram(&self, _: u64, _: Bytes) {
            panic!("on purpose");
        }
        fn on_stream(&self, _: u64, _: Bytes) {}
        fn on_closed(&self, _: u64) {}
    }
    let world = World::new();
    let client = world.connect().await;
    let session =
        soon(client.open_session(uri("/session/a"), HeaderMap::new(), Arc::new(Panics))).await.unwrap();
    session.send_datagram(&[b"x"]);
    assert_eq!(soon(client.closed()).await, quinn::ConnectionError::LocallyClosed);
}
