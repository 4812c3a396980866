//! Peers that misbehave: they are counted, bounded, and do not disturb others on the same connection.

use super::super::hub::Counters;
use super::super::varint;
use super::*;

#[tokio::test]
async fn garbage_and_unknown_sessions_are_counted_and_disturb_nobody() {
    let mut world = World::with(Limits { max_early: 0, ..Limits::default() });
    let client = world.connect().await;
    let (sink, mut heard) = teller();
    let session = soon(client.open_session(uri("/session/a"), HeaderMap::new(), sink)).await.unwrap();
    for datagram in [&b""[..], b"\xc0", b"\x80\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x3f", b"\x09abc"]
    {
        client.raw().send_datagram(Bytes::from_static(datagram)).unwrap();
    }
    client.raw().send_datagram(Bytes::from_static(b"\0ping")).unwrap();
    assert_eq!(soon(heard.recv()).await.unwrap(), Heard::Datagram(Bytes::from("a:ping")));
    session.close(0, "");
    let (_, theirs) = soon(world.closed.recv()).await.unwrap();
    let expected = Counters { garbage: 4, unknown_session: 2, ..Counters::default() };
    assert_eq!(theirs.counters(), expected);
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn silent_streams_block_nobody_and_the_oldest_are_reset() {
    let limits = Limits { max_unclassified: 8, ..Limits::default() };
    let world = World::with(limits);
    let client = world.connect().await;
    let conn = client.raw();
    let mut silent = Vec::new();
    for _ in 0..40 {
        // Half a two-byte varint: the stream exists and its type does not.
        let mut uni = conn.open_uni().await.unwrap();
        uni.write_all(&[0x40]).await.unwrap();
        silent.push(uni);
    }
    let stopped = soon(silent[0].stopped()).await.unwrap();
    assert_eq!(stopped.map(quinn::VarInt::into_inner), Some(0x107));
    let mut bidi = Vec::new();
    for _ in 0..40 {
        let (mut send, recv) = conn.open_bi().await.unwrap();
        send.write_all(&[0x40]).await.unwrap();
        bidi.push((send, recv));
    }
    let read = soon(bidi[0].1.read_chunk(1, true)).await;
    assert!(matches!(read, Err(quinn::ReadError::Reset(_))), "{read:?}");
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn streams_for_no_session_are_kept_briefly_and_within_bounds() {
    let mut world = World::new();
    let client = world.connect().await;
    let conn = client.raw();
    for _ in 0..300 {
        let mut uni = conn.open_uni().await.unwrap();
        let mut head = Vec::new();
        varint::put(&mut head, 0x54);
        varint::put(&mut head, 4_000);
        uni.write_all(&head).await.unwrap();
        uni.finish().unwrap();
    }
    let (sink, mut heard) = teller();
    let session = soon(client.open_session(uri("/session/a"), HeaderMap::new(), sink)).await.unwrap();
    session.send_stream(Bytes::from("mine"), crate::clock::instant() + PATIENCE);
    assert_eq!(soon(heard.recv()).await.unwrap(), Heard::Stream(Bytes::from("mine")));
    session.close(0, "");
    let (_, theirs) = soon(world.closed.recv()).await.unwrap();
    until("the rest is refused", || {
        let counted = theirs.counters();
        counted.unknown_session + counted.streams_refused >= 300 - 256
    })
    .await;
}

#[tokio::test]
async fn a_header_frame_without_end_costs_its_stream_only() {
    let world = World::new();
    let client = world.connect().await;
    let (mut send, mut recv) = client.raw().open_bi().await.unwrap();
    let mut head = vec![1];
    varint::put(&mut head, 1 << 40);
    send.write_all(&head).await.unwrap();
    assert_eq!(soon(send.stopped()).await.unwrap().map(quinn::VarInt::into_inner), Some(0x107));
    let read = soon(recv.read_chunk(1, true)).await;
    assert!(matches!(read, Err(quinn::ReadError::Reset(_))), "{read:?}");
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_never_ends_its_headers_is_reset_in_time() {
    let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
    let world = World::with(limits);
    let client = world.connect().await;
    let (mut send, mut recv) = client.raw().open_bi().await.unwrap();
    send.write_all(&[1, 20, 0]).await.unwrap();
    let read = soon(recv.read_chunk(1, true)).await;
    assert!(matches!(read, Err(quinn::ReadError::Reset(_))), "{read:?}");
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_peer_without_datagrams_gets_400_for_a_session() {
    let world = World::new();
    let cert = world.files.path().join("cert.pem");
    let tls = tls::quic_client(tls::roots(Some(&cert)).unwrap()).unwrap();
    let mut config = quic::client_config(tls).unwrap();
    let mut plain = quinn::TransportConfig::default();
    plain.datagram_receive_buffer_size(None);
    config.transport_config(Arc::new(plain));
    let conn = soon(world.client.connect_with(config, world.address, "localhost").unwrap()).await.unwrap();
    let client = H3Client::on(conn, world.limits.clone()).await.unwrap();
    let mut request =
        Request::builder().method("CONNECT").uri(uri("/session/a")).body(Body::empty()).unwrap();
    request.extensions_mut().insert(::h3::ext::Protocol::WEB_TRANSPORT);
    let response = soon(client.request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("no-datagrams"));
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_refused() {
    let world = World::with(Limits { max_sessions: 1, ..Limits::default() });
    let client = world.connect().await;
    let (sink, _heard) = teller();
    let _first = soon(client.open_session(uri("/session/a"), HeaderMap::new(), sink)).await.unwrap();
    let (sink, _heard) = teller();
    let second = soon(client.open_session(uri("/session/b"), HeaderMap::new(), sink)).await;
    assert!(second.unwrap_err().to_string().contains("429"));
    assert_eq!(client.counters(), Counters::default());
}

#[tokio::test]
async fn an_address_is_validated_when_too_many_handshakes_are_half_open() {
    let world = World::with(Limits { retry_above: 0, ..Limits::default() });
    let client = world.connect().await;
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}
