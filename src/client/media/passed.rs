//! Media that somebody else reads: ways for a server that passes chunks on as they are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::MediaLine;
use super::byways::{Byways, Hears};
use super::drive::read_uris;
use super::session::{self, GIVE_UP, NoSession, PROBES};
use crate::client::task::lock;
use crate::clock;
use crate::media::engine::Engine;
use crate::transport::session::{Session, SessionSink};

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way that is open.
#[derive(Debug)]
pub(crate) enum Passage {
    /// A session that a probe came back through.
    Session(Session),
    /// Ordinary requests; they end when dropped.
    Byways(Requests),
}

/// A call's byways, and who hears what comes on them.
#[derive(Debug)]
pub(crate) struct Requests {
    byways: Byways,
    _hears: Arc<Through>,
}

impl Requests {
    /// Sends a chunk in a request of its own; false: they were given up.
    pub(crate) fn send(&self, chunk: &[u8]) -> bool {
        self.byways.send(Some(Bytes::copy_from_slice(chunk)), Vec::new());
        !self.byways.is_closed()
    }
}

/// Hands arrivals on; until a probe was answered, it looks for the answer.
struct Through {
    sink: Arc<dyn SessionSink>,
    /// Whether this is somebody's way by now: from then on a chunk costs one look at this.
    open: AtomicBool,
    probing: Mutex<Engine>,
    answered: Notify,
}

impl std::fmt::Debug for Through {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Through")
    }
}

impl Through {
    fn new(sink: Arc<dyn SessionSink>, open: bool) -> Arc<Self> {
        let open = AtomicBool::new(open);
        Arc::new(Self { sink, open, probing: Mutex::default(), answered: Notify::new() })
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    fn look(&self, bytes: &Bytes) {
        let mut engine = lock(&self.probing);
        let _ = engine.on_chunk(clock::elapsed(), bytes);
        if engine.probe_answered().is_some() {
            self.answered.notify_one();
        }
    }

    /// wire §5: whether a probe comes back.
    async fn is_answered(&self, session: &Session) -> bool {
        let mut before = Duration::ZERO;
        for at in PROBES.into_iter().chain([GIVE_UP]) {
            if tokio::time::timeout(at - before, self.answered.notified()).await.is_ok() {
                return true;
            }
            before = at;
            let (_, probe) = lock(&self.probing).probe(clock::elapsed());
            session.send_datagram(&[&probe]);
        }
        false
    }
}

impl SessionSink for Through {
    fn expect(&self) {
        self.sink.expect();
    }

    fn on_datagram(&self, token: u64, payload: Bytes) {
        if !self.is_open() {
            self.look(&payload);
        }
        self.sink.on_datagram(token, payload);
    }

    fn on_stream(&self, token: u64, body: Bytes) {
        self.sink.on_stream(token, body);
    }

    fn on_closed(&self, token: u64) {
        // Before an answer it was nobody's way yet.
        if self.is_open() {
            self.sink.on_closed(token);
        }
    }
}

impl Hears for Through {
    fn on_chunk(&self, bytes: &Bytes) {
        self.sink.on_datagram(0, bytes.clone());
    }

    fn on_closed(&self) {
        self.sink.on_closed(0);
    }
}

/// A way, and the number of the connection that it is on; none once the call has no media. An error is worth another try.
pub(in crate::client) async fn open(
    line: &MediaLine,
    sink: Arc<dyn SessionSink>,
) -> Result<Option<(Passage, u64)>, String> {
    let uris = match line.uris.clone() {
        Some(uris) => uris,
        None => match read_uris(line).await.map_err(|error| error.to_string())? {
            Some(uris) => uris,
            None => return Ok(None),
        },
    };
    let connected = line.client.0.link.current(PATIENCE).await.map_err(|error| error.to_string())?;
    let through = Through::new(sink, false);
    let why = match session::connect(line, &connected, &uris.webtransport, through.clone()).await {
        Ok(session) if through.is_answered(&session).await => {
            through.open.store(true, Ordering::SeqCst);
            // An end that came before was told to nobody.
            if session.is_closed() {
                return Err("the session closed after its probe".to_owned());
            }
            return Ok(Some((Passage::Session(session), connected.generation)));
        }
        Ok(session) if session.is_closed() => return Err("the session closed during its probe".to_owned()),
        Ok(session) => {
            session.close(0, "no probe came back");
            "no probe came back".to_owned()
        }
        Err(NoSession::Gone) => return Ok(None),
        Err(NoSession::Again(why)) => return Err(why),
        Err(NoSession::Unable(why)) => why,
    };
    // findings §3: some proxies answer 200 and lose every datagram.
    tracing::info!(why, "a trunk's media takes byways");
    let through = Through::new(through.sink.clone(), true);
    let hears: Weak<dyn Hears> = Arc::downgrade(&(through.clone() as Arc<dyn Hears>));
    let byways = Byways::open(line, &connected, &uris.byway, hears).map_err(|error| error.to_string())?;
    Ok(Some((Passage::Byways(Requests { byways, _hears: through }), connected.generation)))
}
