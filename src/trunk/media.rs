//! A call's chunks on a trunk: a session to the other server, or byways where no session gets through, is one more path
//! of our leg's port, and chunks pass as they are.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::client::{Call, Passage, Requests};
use crate::resource::SessionPath;
use crate::service::gateway::OurEnd;
use crate::service::ports::{LegPort, MediaPath};
use crate::transport::session::SessionSink;

const PAUSE: Duration = Duration::from_millis(300);

/// Hands what comes to the port, once the port has named the path.
struct Bridge {
    port: Arc<LegPort>,
    path: OnceLock<u64>,
    closed: Notify,
}

impl Bridge {
    fn arrived(&self, bytes: &Bytes) {
        // What comes in the instant before is as good as lost on the way.
        if let Some(path) = self.path.get() {
            self.port.arrived(*path, bytes);
        }
    }
}

impl SessionSink for Bridge {
    fn expect(&self) {
        self.port.expect();
    }

    fn on_datagram(&self, _: u64, payload: Bytes) {
        self.arrived(&payload);
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        self.arrived(&body);
    }

    fn on_closed(&self, _: u64) {
        if let Some(path) = self.path.get() {
            self.port.closed(*path);
        }
        self.closed.notify_one();
    }
}

/// Byways as our leg's way to the other server.
struct BywayPath(Mutex<Option<Requests>>);

impl BywayPath {
    fn requests(&self) -> MutexGuard<'_, Option<Requests>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MediaPath for BywayPath {
    fn send(&self, chunk: &[u8]) -> bool {
        self.requests().as_ref().is_some_and(|requests| requests.send(chunk))
    }

    fn close(&self, _: &str) {
        *self.requests() = None;
    }

    fn is_session(&self) -> bool {
        false
    }
}

/// Keeps a way open, one after another, until the call has no media any more.
pub(super) async fn carry(call: Call, end: OurEnd) {
    loop {
        // A leg that answers has its port, if it is not over.
        let _ = end.calls.view(end.leg, None).await;
        let Some(port) = end.ports.get(end.leg) else { return };
        let bridge = Arc::new(Bridge { port, path: OnceLock::new(), closed: Notify::new() });
        match call.passage(bridge.clone()).await {
            Ok(Some((passage, connection))) => {
                let path: Arc<dyn MediaPath> = match passage {
                    Passage::Session(session) => Arc::new(SessionPath(session)),
                    Passage::Byways(requests) => Arc::new(BywayPath(Mutex::new(Some(requests)))),
                };
                let entrance = end.ports.open(&bridge.port, end.handler(), path);
                // It is set once, here.
                let _ = bridge.path.set(entrance.id());
                tokio::select! {
                    () = bridge.closed.notified() => {}
                    () = call.beyond(connection) => {}
                }
            }
            Ok(None) => return,
            Err(why) => {
                tracing::debug!(why, "no session on the trunk yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
