//! HTTP/1.1 and HTTP/2 on TCP, with TLS or in clear text behind a trusted proxy: the same router as on HTTP/3.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::rt::{Executor, Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Limits, PeerAddr, TransportInfo, fill_host, lock, next_connection_id};

/// Beyond this many, an HTTP/2 peer waits.
const MAX_STREAMS: u32 = 1_000;
/// A quiet HTTP/2 connection is probed this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a TCP listener serves.
#[derive(Clone, Debug, Default)]
pub struct TcpSettings {
    /// From [`super::tls::tcp_server`]; `None` is clear text.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The UDP port that `Alt-Svc` points to.
    pub alt_svc_port: Option<u16>,
}

#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    alt_svc: Option<HeaderValue>,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
}

/// Serves a listener until `shutdown`, then lets its connections drain.
pub async fn serve_tcp(
    listener: TcpListener,
    settings: TcpSettings,
    router: Router,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
) {
    // RFC 7838 §3.
    let alt_svc = settings.alt_svc_port.map(|port| format!("h3=\":{port}\"; ma=3600"));
    let server = Server {
        router,
        tls: settings.tls.map(TlsAcceptor::from),
        alt_svc: alt_svc.and_then(|value| HeaderValue::from_str(&value).ok()),
        limits,
        shutdown: shutdown.clone(),
    };
    let mut connections = JoinSet::new();
    loop {
        let full = connections.len() >= server.limits.max_connections;
        tokio::select! {
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(server.clone().connection(stream, peer));
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Server {
    async fn connection(self, stream: TcpStream, peer: SocketAddr) {
        // Small chunks must not wait for each other.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            // A peer that says nothing must not hold a place.
            let spoke = timeout(self.limits.header_timeout, stream.peek(&mut [0])).await;
            if matches!(spoke, Ok(Ok(1))) {
                self.serve(TokioIo::new(stream), peer, None).await;
            }
            return;
        };
        match timeout(self.limits.handshake_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.serve(TokioIo::new(stream), peer, Some(h2)).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, %peer, "tls handshake failed"),
            Err(_) => tracing::debug!(%peer, "tls handshake timed out"),
        }
    }

    async fn serve<I>(self, io: I, peer: SocketAddr, h2: Option<bool>)
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let tasks = Tasks::default();
        let builder = self.builder(h2, tasks.clone());
        let info = TransportInfo {
            http3: false,
            secure: h2.is_some(),
            early_data: false,
            connection_id: next_connection_id(),
        };
        let (router, alt_svc) = (self.router, self.alt_svc);
        let service = service_fn(move |mut request: Request<Incoming>| {
            fill_host(&mut request);
            request.extensions_mut().insert(PeerAddr(peer));
            request.extensions_mut().insert(info);
            let answer = router.clone().oneshot(request.map(Body::new));
            let alt_svc = alt_svc.clone();
            async move {
                let mut response = answer.await?;
                if let Some(alt_svc) = alt_svc {
                    response.headers_mut().insert(header::ALT_SVC, alt_svc);
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = builder.serve_connection_with_upgrades(io, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Ok(ended),
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(self.limits.drain, connection).await
            }
        };
        if let Ok(Err(error)) = ended {
            tracing::debug!(%error, %peer, "connection ended");
        }
        // The tasks of its streams end with it.
        lock(&tasks.0).abort_all();
    }

    fn builder(&self, h2: Option<bool>, tasks: Tasks) -> auto::Builder<Tasks> {
        let header_bytes = self.limits.max_header_bytes;
        let mut builder = auto::Builder::new(tasks);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(header_bytes as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(header_bytes)
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .enable_connect_protocol();
        match h2 {
            Some(true) => builder.http2_only(),
            Some(false) => builder.http1_only(),
            None => builder,
        }
    }
}

/// Owns the tasks that hyper starts for HTTP/2 streams.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = lock(&self.0);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
