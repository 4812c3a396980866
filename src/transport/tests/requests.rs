//! Ordinary requests over HTTP/3.

use super::*;

#[tokio::test]
async fn a_request_is_answered_with_host_and_trailers() {
    let world = World::new();
    let client = world.connect().await;
    assert_eq!(fetch(&client, "/hello").await, (StatusCode::OK, "hello localhost".into()));
    assert_eq!(fetch(&client, "/nowhere").await.0, StatusCode::NOT_FOUND);
    let response =
        soon(client.request(Request::get(uri("/trailers")).body(Body::empty()).unwrap())).await.unwrap();
    let all = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(all.trailers().unwrap()["x-end"], "yes");
    assert_eq!(all.to_bytes(), "body");
}

#[tokio::test]
async fn a_response_streams_before_its_request_has_ended() {
    let world = World::new();
    let client = world.connect().await;
    let (feed, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures_util::stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) });
    let request = Request::put(uri("/echo")).body(Body::from_stream(body)).unwrap();
    // The headers come although nothing of the body was sent.
    let mut answer = soon(client.request(request)).await.unwrap().into_body();
    for i in 0..20 {
        let piece = Bytes::from(format!("piece {i}"));
        feed.send(Ok(piece.clone())).await.unwrap();
        let frame = soon(answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(feed);
    assert!(soon(answer.frame()).await.is_none());
}

#[tokio::test]
async fn a_large_body_comes_back_whole() {
    let world = World::new();
    let client = world.connect().await;
    let sent: Bytes = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let request = Request::put(uri("/echo")).body(Body::from(sent.clone())).unwrap();
    let answer = soon(client.request(request)).await.unwrap();
    assert!(soon(answer.into_body().collect()).await.unwrap().to_bytes() == sent);
}

#[tokio::test]
async fn headers_that_are_too_large_are_answered_by_431() {
    let world = World::new();
    let client = world.connect().await;
    let request =
        Request::get(uri("/hello")).header("x-large", "x".repeat(20_000)).body(Body::empty()).unwrap();
    match soon(client.request(request)).await {
        Ok(response) => assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(error.to_string().contains("too"), "{error}"),
    }
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn early_data_is_marked_and_later_requests_are_not() {
    let world = World::new();
    let client = world.connect().await;
    assert!(fetch(&client, "/info").await.1.contains("early_data: false"));
    drop(client);
    let again =
        soon(H3Client::connect_early(&world.client, world.address, "localhost", world.limits.clone()));
    let again = again.await.unwrap();
    assert!(fetch(&again, "/info").await.1.contains("early_data: true"));
    assert!(fetch(&again, "/info").await.1.contains("early_data: false"));
}

#[tokio::test]
async fn a_reset_response_ends_its_handler() {
    let mut world = World::with(Limits { drain: Duration::from_secs(600), ..Limits::default() });
    let client = world.connect().await;
    let response =
        soon(client.request(Request::get(uri("/idle")).body(Body::empty()).unwrap())).await.unwrap();
    drop(response);
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
    // With nothing running, a shutdown does not wait for the drain's end.
    world.shutdown.cancel();
    soon(async { (&mut world.server.as_mut().unwrap().0).await.unwrap() }).await;
}

#[tokio::test]
async fn a_shutdown_lets_running_requests_finish_and_refuses_new_ones() {
    let world = World::new();
    let client = world.connect().await;
    let (feed, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures_util::stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) });
    let request = Request::put(uri("/echo")).body(Body::from_stream(body)).unwrap();
    let answer = soon(client.request(request)).await.unwrap();
    world.shutdown.cancel();
    soon(client.going_away()).await;
    let late = soon(client.request(Request::get(uri("/hello")).body(Body::empty()).unwrap())).await;
    assert!(late.unwrap_err().is_safe_to_retry());
    feed.send(Ok(Bytes::from("last words"))).await.unwrap();
    drop(feed);
    assert_eq!(soon(answer.into_body().collect()).await.unwrap().to_bytes(), "last words");
    let end = soon(client.closed()).await;
    assert!(
        matches!(end, quinn::ConnectionError::ApplicationClosed(c) if c.error_code.into_inner() == 0x100)
    );
}

#[tokio::test]
async fn a_reloaded_certificate_serves_new_connections() {
    let world = World::new();
    let old = world.connect().await;
    let other = tempfile::tempdir().unwrap();
    let (cert, key) = rustls_files(other.path());
    world.keys.reload(&cert, &key).unwrap();
    assert!(world.keys.reload(&cert, &world.files.path().join("missing.pem")).is_err());
    assert_eq!(fetch(&old, "/hello").await.0, StatusCode::OK);
    let tls = tls::quic_client(tls::roots(Some(&cert)).unwrap()).unwrap();
    let endpoint = quic::client_endpoint(tls, world.address).unwrap();
    let fresh =
        soon(H3Client::connect(&endpoint, world.address, "localhost", world.limits.clone())).await.unwrap();
    assert_eq!(fetch(&fresh, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_reader_that_stalls_loses_its_response() {
    let world = World::with(Limits { write_stall: Duration::from_millis(50), ..Limits::default() });
    let client = world.connect().await;
    let response =
        soon(client.request(Request::get(uri("/large")).body(Body::empty()).unwrap())).await.unwrap();
    until("the server resets it", || client.stats().frame_rx.reset_stream > 0).await;
    assert!(soon(response.into_body().collect()).await.is_err());
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_request_body_that_fails_resets_the_request() {
    let world = World::new();
    let client = world.connect().await;
    let body = futures_util::stream::iter([Ok(Bytes::from("half")), Err(std::io::Error::other("broken"))]);
    let request = Request::put(uri("/echo")).body(Body::from_stream(body)).unwrap();
    // Either end of the echo may notice first; none takes it for a whole body.
    if let Ok(response) = soon(client.request(request)).await {
        assert!(soon(response.into_body().collect()).await.is_err());
    }
    assert_eq!(fetch(&client, "/hello").await.0, StatusCode::OK);
}
