//! A server in this process, asked over the network.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::body::Body;
use http::Request;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::token;
use super::*;
use crate::identity::token::Claims;
use crate::transport::client::H3Client;
use crate::transport::quic;

fn config(data: &Path) -> Config {
    let mut config = Config::development(data, &[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap();
    config.transport.drain = Duration::from_millis(200);
    config
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it takes too long")
}

/// A request with TLS on TCP, trusting the server's CA.
async fn ask(running: &Running) -> String {
    let roots = tls::roots(running.ca()).unwrap();
    let connector = TlsConnector::from(Arc::new(tls::tcp_client(roots, &["http/1.1"]).unwrap()));
    let stream = TcpStream::connect(running.addresses()[0]).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(b"GET /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.to_ascii_lowercase()
}

#[tokio::test]
async fn it_answers_on_one_port_over_tls_and_quic() {
    let dir = tempfile::tempdir().unwrap();
    let running = soon(start(config(dir.path()))).await.unwrap();
    let address = running.addresses()[0];
    assert_ne!(address.port(), 0);
    let answer = soon(ask(&running)).await;
    assert!(answer.starts_with("http/1.1 4"), "{answer}");
    assert!(answer.contains(&format!("alt-svc: h3=\":{}\"", address.port())), "{answer}");

    let roots = tls::roots(running.ca()).unwrap();
    let endpoint = quic::client_endpoint(tls::quic_client(roots).unwrap(), address).unwrap();
    let client = soon(H3Client::connect(&endpoint, address, "localhost", Arc::default())).await.unwrap();
    let request = Request::get("https://localhost/none").body(Body::empty()).unwrap();
    let response = soon(client.request(request)).await.unwrap();
    assert!(response.status().is_client_error());
    soon(running.shutdown()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "it still accepts");
}

#[tokio::test]
async fn a_restart_finds_its_keys_and_a_second_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let names = ["reset-key", "ca.pem", "server.pem", "issuer-key.pem", "passport-key.pem"];
    let running = soon(start(config(dir.path()))).await.unwrap();
    let first = names.map(read);
    assert_eq!(first[0].len(), 32);
    let second = soon(start(config(dir.path()))).await;
    assert!(matches!(second, Err(CliError::Store(StoreError::Locked(_)))), "{second:?}");
    soon(running.shutdown()).await.unwrap();
    let running = soon(start(config(dir.path()))).await.unwrap();
    assert_eq!(names.map(read), first);
    drop(running);
    std::fs::write(dir.path().join("reset-key"), "short").unwrap();
    assert!(matches!(reset_key(&dir.path().join("reset-key")), Err(CliError::ResetKey(_))));
}

#[tokio::test]
async fn a_device_that_camara_registered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = "https://localhost/webrtc-registration/v0.3/sessions";
    let device = "123e4567-e89b-42d3-a456-426614174000";
    let mut found = Vec::new();
    for round in 0..2 {
        let running = soon(start(config(dir.path()))).await.unwrap();
        let scopes = ["read", "create"].map(|right| format!("webrtc-registration:sessions:{right}")).to_vec();
        let claims = Claims { scopes, ..token::claims("alice", &["+14085551000"]) };
        let token = token::mint(dir.path(), &claims, clock::now()).unwrap();
        let address = running.addresses()[0];
        let roots = tls::roots(running.ca()).unwrap();
        let endpoint = quic::client_endpoint(tls::quic_client(roots).unwrap(), address).unwrap();
        let client = soon(H3Client::connect(&endpoint, address, "localhost", Arc::default())).await.unwrap();
        let ask = async |request: http::request::Builder, body: String| {
            let request = request.header("authorization", format!("Bearer {token}"));
            let response = soon(client.request(request.body(Body::from(body)).unwrap())).await.unwrap();
            let status = response.status().as_u16();
            (status, axum::body::to_bytes(response.into_body(), 10_000).await.unwrap())
        };
        if round == 0 {
            let (status, _) = ask(Request::post(sessions), format!(r#"{{"deviceId":"{device}"}}"#)).await;
            assert_eq!(status, 201);
        }
        let (_, list) = ask(Request::get(format!("{sessions}?deviceId={device}")), String::new()).await;
        found.push(list);
        soon(running.shutdown()).await.unwrap();
    }
    assert!(found[0].len() > 2 && found[0] == found[1], "{found:?}");
}

#[tokio::test]
async fn a_reloaded_certificate_is_used_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = soon(start(config(dir.path()))).await.unwrap();
    let old = std::fs::read(dir.path().join("server.pem")).unwrap();
    std::fs::write(dir.path().join("ca-key.pem"), "broken").unwrap();
    assert!(running.reload().is_err());
    soon(ask(&running)).await;
    super::super::certs::ensure(dir.path(), &[], true, clock::now()).unwrap();
    running.reload().unwrap();
    assert_ne!(std::fs::read(dir.path().join("server.pem")).unwrap(), old);
    // It trusts the new CA only.
    soon(ask(&running)).await;
    soon(running.shutdown()).await.unwrap();
}

#[tokio::test]
async fn several_addresses_and_clear_text_are_served_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.listen.push((Ipv6Addr::LOCALHOST, 0).into());
    config.listen_by_default = true;
    config.clear_listen.push((Ipv4Addr::LOCALHOST, 0).into());
    let running = soon(start(config)).await.unwrap();
    // A machine without IPv6 lacks the second.
    assert!(!running.addresses().is_empty());
    let mut stream = TcpStream::connect(running.clear_addresses()[0]).await.unwrap();
    stream.write_all(b"GET /none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("alt-svc"), "{answer}");
    soon(running.shutdown()).await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_or_an_address_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut plain = config(dir.path());
    plain.dev = false;
    assert!(matches!(soon(start(plain.clone())).await, Err(CliError::NoCertificate)));
    plain.listen.clear();
    assert!(matches!(soon(start(plain)).await, Err(CliError::NoAddress)));
}

/// A GET with TLS on TCP.
async fn get(running: &Running, path: &str) -> String {
    let roots = tls::roots(running.ca()).unwrap();
    let connector = TlsConnector::from(Arc::new(tls::tcp_client(roots, &["http/1.1"]).unwrap()));
    let stream = TcpStream::connect(running.addresses()[0]).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_development_server_has_the_page_and_links_that_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let running = soon(start(config(dir.path()))).await.unwrap();
    let page = get(&running, "/web/").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
        "default-src 'none'; script-src 'self'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
    ] {
        assert!(page.contains(header), "{header}: {page}");
    }
    // All that it names is there, and nothing in it is written in place, which its policy forbids.
    for named in page.split(['"', '\'']).filter(|word| word.ends_with(".js") || word.ends_with(".css")) {
        assert!(get(&running, &format!("/web/{named}")).await.starts_with("HTTP/1.1 200"), "{named}");
    }
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("onclick"), "{page}");
    let script = get(&running, "/web/page.js").await;
    assert!(script.contains("content-type: text/javascript; charset=utf-8"), "{script}");
    for module in script.split('\'').filter_map(|word| word.strip_prefix("./")) {
        assert!(get(&running, &format!("/web/{module}")).await.starts_with("HTTP/1.1 200"), "{module}");
    }
    for path in ["/", "/web"] {
        assert!(get(&running, path).await.contains("location: /web/"), "{path}");
    }
    let links = running.pages().unwrap();
    let numbers = ["+14085550001", "+14085550002"];
    assert_eq!(links.len(), numbers.len());
    for (link, number) in links.iter().zip(numbers) {
        let port = running.addresses()[0].port();
        assert!(link.contains(&format!("({number}): https://127.0.0.1:{port}/web/#token=")), "{link}");
        let token = link.split_once("#token=").unwrap().1;
        let holder = running.service().holder(Some(&format!("Bearer {token}"))).await.unwrap();
        assert!(holder.may_use_number(number) && camara::SCOPES.iter().all(|scope| holder.has_scope(scope)));
    }
    let asked = get(&running, "/.well-known/oauth-protected-resource").await;
    assert!(camara::SCOPES.iter().all(|scope| asked.contains(scope)), "{asked}");
    soon(running.shutdown()).await.unwrap();
}

#[tokio::test]
async fn no_other_server_has_the_page() {
    let dir = tempfile::tempdir().unwrap();
    // The keys that development would make, without its mode.
    let keys = Development::prepare(dir.path(), &[], clock::now()).unwrap();
    let mut config = config(dir.path());
    config.dev = false;
    config.tls = Some(keys.certificates.tls);
    let running = soon(start(config)).await.unwrap();
    assert_eq!(running.pages().unwrap(), Vec::<String>::new());
    for path in ["/", "/web", "/web/", "/web/page.js"] {
        let roots = tls::roots(Some(&keys.certificates.ca)).unwrap();
        let endpoint =
            quic::client_endpoint(tls::quic_client(roots).unwrap(), running.addresses()[0]).unwrap();
        let client = soon(H3Client::connect(&endpoint, running.addresses()[0], "localhost", Arc::default()));
        let client = client.await.unwrap();
        let request = Request::get(format!("https://localhost{path}")).body(Body::empty()).unwrap();
        assert_eq!(soon(client.request(request)).await.unwrap().status(), 404, "{path}");
    }
    soon(running.shutdown()).await.unwrap();
}
