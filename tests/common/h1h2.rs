//! HTTP/1.1 and HTTP/2 over TLS, a connection for each request.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ript::transport::tls;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

#[derive(Clone)]
pub struct Tcp {
    address: SocketAddr,
    pub version: Version,
    tls: Arc<rustls::ClientConfig>,
}

impl Tcp {
    pub fn new(world: &World, version: Version) -> Self {
        let alpn = match version {
            Version::Http1 => "http/1.1",
            Version::Http2 => "h2",
        };
        let roots = tls::roots(Some(&world.ca)).expect("roots");
        let tls = Arc::new(tls::tcp_client(roots, &[alpn]).expect("TLS"));
        Self { address: world.address, version, tls }
    }

    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.expect("a handshake")
    }

    pub async fn request(&self, mut request: Request<Body>) -> Response<Body> {
        let io = TokioIo::new(self.connect().await);
        let response = match self.version {
            Version::Http1 => {
                let authority = request.uri().authority().expect("an authority").to_string();
                request.headers_mut().insert(header::HOST, authority.parse().expect("a host"));
                let path = request.uri().path_and_query().expect("a path").as_str().parse();
                *request.uri_mut() = path.expect("a path");
                let (mut send, connection) =
                    hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
                tokio::spawn(connection);
                send.send_request(request).await
            }
            Version::Http2 => {
                let (mut send, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
                tokio::spawn(connection);
                send.send_request(request).await
            }
        };
        response.expect("an answer").map(Body::new)
    }
}
