//! Media over a WebTransport session, trusted only after a probe came back through it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::MediaLine;
use super::port::Shared;
use crate::client::link::Connected;
use crate::client::{ClientError, api};
use crate::clock;
use crate::transport::client::ClientError as Http3Error;
use crate::transport::session::{Session, SessionSink};

/// wire §1: probes go out at 0, 150 and 300 ms, and are given up at 500 ms.
pub(super) const PROBES: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(150), Duration::from_millis(300)];
pub(super) const GIVE_UP: Duration = Duration::from_millis(500);
/// How long the answer to CONNECT may take.
const CONNECT: Duration = Duration::from_secs(3);
/// wire §5: what is larger goes on a stream of its own.
const MAX_DATAGRAM: usize = 1_100;
/// wire §5: a sender holds at most 60 ms of a stream.
const TOO_LATE: Duration = Duration::from_millis(60);

/// Why there is no session.
#[derive(Debug)]
pub(super) enum NoSession {
    /// WebTransport doesn't work on this connection: use byways.
    Unable(String),
    /// The connection or the ticket failed: try again.
    Again(String),
    /// The call has no media any more.
    Gone,
}

/// A session that answers.
#[derive(Debug)]
pub(super) struct SessionPath(Session);

impl SessionPath {
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub(super) fn send(&self, media: Option<Bytes>, controls: Vec<Bytes>) {
        for chunk in controls.iter().chain(&media) {
            if chunk.len() <= MAX_DATAGRAM {
                self.0.send_datagram(&[chunk]);
            } else {
                self.0.send_stream(chunk.clone(), clock::instant() + TOO_LATE);
            }
        }
    }
}

impl Drop for SessionPath {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}

/// Hands arrivals over; the port may be gone before the session is.
struct Sink(Weak<Shared>);

impl Sink {
    fn chunk(&self, bytes: &Bytes) {
        if let Some(shared) = self.0.upgrade() {
            shared.on_chunk(bytes);
        }
    }
}

impl SessionSink for Sink {
    fn on_datagram(&self, _: u64, payload: Bytes) {
        self.chunk(&payload);
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        self.chunk(&body);
    }

    fn on_closed(&self, _: u64) {
        if let Some(shared) = self.0.upgrade() {
            shared.wake.notify_one();
        }
    }
}

/// Opens a session, whoever hears it.
pub(super) async fn connect(
    line: &MediaLine,
    connected: &Connected,
    url: &str,
    sink: Arc<dyn SessionSink>,
) -> Result<Session, NoSession> {
    let again = |error: &dyn std::fmt::Display| NoSession::Again(error.to_string());
    let url = api::with_handler(&line.client.resolve(url).map_err(|e| again(&e))?, Some(&line.handler));
    let uri = url.parse().map_err(|error| again(&error))?;
    let mut headers = HeaderMap::new();
    if let Some(bearer) = line.client.bearer().and_then(|bearer| HeaderValue::from_str(&bearer).ok()) {
        headers.insert(header::AUTHORIZATION, bearer);
    }
    let opening = connected.h3.open_session(uri, headers, sink);
    match tokio::time::timeout(CONNECT, opening).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err(NoSession::Unable(format!("CONNECT was not answered within {CONNECT:?}"))),
    }
}

/// Opens a session and waits for its probe to come back.
pub(super) async fn open(
    line: &MediaLine,
    connected: &Connected,
    url: &str,
    shared: &Arc<Shared>,
) -> Result<SessionPath, NoSession> {
    let sink = Arc::new(Sink(Arc::downgrade(shared)));
    let session = SessionPath(connect(line, connected, url, sink).await?);
    if probe(&session, shared).await {
        Ok(session)
    } else if session.is_closed() {
        Err(NoSession::Again("the session closed during its probe".into()))
    } else {
        // findings §3: some proxies answer 200 and lose every datagram.
        Err(NoSession::Unable(format!("no probe came back within {GIVE_UP:?}")))
    }
}

async fn probe(session: &SessionPath, shared: &Shared) -> bool {
    let mut nonces = Vec::new();
    let probing = async {
        let mut before = Duration::ZERO;
        for at in PROBES.into_iter().chain([GIVE_UP]) {
            // A permit of an earlier answer wakes us for nothing; so look, and wait on.
            let pause = tokio::time::sleep(at - before);
            tokio::pin!(pause);
            loop {
                if shared.is_answered(&nonces) {
                    return true;
                }
                tokio::select! {
                    () = shared.answered.notified() => {}
                    () = &mut pause => break,
                }
            }
            before = at;
            if at < GIVE_UP {
                let (nonce, chunk) = shared.probe();
                nonces.push(nonce);
                session.send(None, vec![chunk]);
            }
        }
        shared.is_answered(&nonces)
    };
    probing.await
}

fn refused(error: &Http3Error) -> NoSession {
    match error {
        Http3Error::NotSupported => NoSession::Unable(error.to_string()),
        Http3Error::Refused { status, headers, body } => {
            let refusal = ClientError::from_answer(*status, headers, body);
            match status.as_u16() {
                404 | 409 | 410 => NoSession::Gone,
                // A ticket that expired, or a server that is starting: the call has a fresh one.
                401 | 403 | 429 | 502..=504 => NoSession::Again(refusal.to_string()),
                _ => NoSession::Unable(refusal.to_string()),
            }
        }
        Http3Error::Stream(_) | Http3Error::BadRequest(_) => NoSession::Again(error.to_string()),
    }
}
