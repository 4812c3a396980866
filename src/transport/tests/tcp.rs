//! The same router on TCP.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::tcp::{TcpSettings, serve_tcp};
use super::*;

struct TcpWorld {
    address: SocketAddr,
    shutdown: CancellationToken,
    server: Owned,
    files: tempfile::TempDir,
}

async fn tcp(secure: bool, limits: Limits) -> TcpWorld {
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = rustls_files(files.path());
    let keys = TlsKeys::from_files(&cert, &key).unwrap();
    let tls = secure.then(|| Arc::new(tls::tcp_server(keys).unwrap()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let settings = TcpSettings { tls, alt_svc_port: Some(4433) };
    let (tell, _) = mpsc::unbounded_channel();
    let server =
        Owned::spawn(serve_tcp(listener, settings, router(tell), Arc::new(limits), shutdown.clone()));
    TcpWorld { address, shutdown, server, files }
}

impl TcpWorld {
    async fn secure(&self, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let roots = tls::roots(Some(&self.files.path().join("cert.pem"))).unwrap();
        let config = tls::tcp_client(roots, &[alpn]).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        soon(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }
}

/// Reads until `text` was seen; what was read, without case.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        loop {
            let all = String::from_utf8_lossy(&seen).to_lowercase();
            if all.contains(text) {
                return all;
            }
            let len = stream.read_buf(&mut seen).await.unwrap();
            assert_ne!(len, 0, "ended after {all:?}");
        }
    };
    soon(reading).await
}

async fn full_duplex_h1(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(b"PUT /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("alt-svc: h3=\":4433\"; ma=3600"), "{head}");
    for piece in ["first", "other"] {
        stream.write_all(format!("5\r\n{piece}\r\n").as_bytes()).await.unwrap();
        read_until(&mut stream, piece).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn http1_streams_both_ways_at_once_with_and_without_tls() {
    let clear = tcp(false, Limits::default()).await;
    full_duplex_h1(TcpStream::connect(clear.address).await.unwrap()).await;
    let secure = tcp(true, Limits::default()).await;
    full_duplex_h1(secure.secure("http/1.1").await).await;
}

fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The next frame of stream 1: kind, flags, payload.
async fn h2_next(stream: &mut (impl AsyncRead + Unpin)) -> (u8, u8, Vec<u8>) {
    let reading = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; len];
            stream.read_exact(&mut payload).await.unwrap();
            if head[8] == 1 && head[3] != 8 {
                return (head[3], head[4], payload);
            }
        }
    };
    soon(reading).await
}

async fn full_duplex_h2(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&h2_frame(4, 0, 0, &[])).await.unwrap();
    // RFC 7541: `:method: PUT`, `:scheme: https`, `:path: /echo`, `:authority: x`.
    let head = b"\x02\x03PUT\x87\x04\x05/echo\x01\x01x";
    stream.write_all(&h2_frame(1, 4, 1, head)).await.unwrap();
    let (kind, _, payload) = h2_next(&mut stream).await;
    // HEADERS, and the static table's `:status: 200`.
    assert_eq!((kind, payload[0]), (1, 0x88));
    for piece in [&b"first"[..], b"other"] {
        stream.write_all(&h2_frame(0, 0, 1, piece)).await.unwrap();
        let (kind, _, payload) = h2_next(&mut stream).await;
        assert_eq!((kind, &payload[..]), (0, piece));
    }
    stream.write_all(&h2_frame(0, 1, 1, &[])).await.unwrap();
    let (kind, flags, _) = h2_next(&mut stream).await;
    assert_eq!((kind, flags & 1), (0, 1));
}

#[tokio::test]
async fn http2_streams_both_ways_at_once_with_and_without_tls() {
    let clear = tcp(false, Limits::default()).await;
    full_duplex_h2(TcpStream::connect(clear.address).await.unwrap()).await;
    let secure = tcp(true, Limits::default()).await;
    full_duplex_h2(secure.secure("h2").await).await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let world = tcp(false, Limits::default()).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!("GET /hello HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(20_000));
    // The server may answer, and close, before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    read_until(&mut stream, "431").await;
}

#[tokio::test]
async fn a_silent_peer_is_hung_up_on() {
    let quick = Limits {
        header_timeout: Duration::from_millis(50),
        handshake_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    for secure in [false, true] {
        let world = tcp(secure, quick.clone()).await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn a_shutdown_lets_a_running_response_finish() {
    let mut world = tcp(false, Limits::default()).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"PUT /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    world.shutdown.cancel();
    stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
    soon(async { (&mut world.server.0).await.unwrap() }).await;
}

#[tokio::test]
async fn a_websocket_is_upgraded_on_http1() {
    let world = tcp(true, Limits::default()).await;
    let mut stream = world.secure("http/1.1").await;
    let request = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "hi there").await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
}
