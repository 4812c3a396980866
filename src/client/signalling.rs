//! A call's events, both ways: nothing is lost or heard twice, whatever becomes of the connection.
//!
//! `rows` decides (pure), `reverse` and `forward` carry; the task here joins them.

mod forward;
mod reverse;
mod rows;
mod run;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::task::Owned;
use super::{Client, ClientError};
use crate::protocol::event::{ClientBody, Event};

/// Which kind of forward byway is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardMode {
    /// One `PUT` that stays open.
    Open,
    /// One `PUT` for every event: something on the way holds open ones back.
    Finite,
}

/// What to signal about, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) client: Client,
    /// The call, absolute.
    pub(super) call: String,
    /// The device, absolute.
    pub(super) handler: String,
    /// The newest `seq` that the server took from this device before.
    pub(super) accepted: Option<u64>,
    /// How often to ping.
    pub(super) keepalive: Duration,
}

/// What comes in.
#[derive(Debug)]
pub(super) enum Heard {
    /// An event, once and in order.
    Event {
        /// It.
        event: Box<Event>,
        /// When it arrived, by [`crate::clock::elapsed`].
        at: Duration,
    },
    /// The reverse byway was lost, or is back.
    Connection(bool),
    /// The forward byway changed its kind.
    Forward(ForwardMode),
    /// The server knows the call no more: nothing comes after this.
    Gone(ClientError),
}

struct Tell {
    body: ClientBody,
    done: Option<oneshot::Sender<Result<(), ClientError>>>,
}

/// The handle of a call's signalling; it ends with it.
#[derive(Debug)]
pub(super) struct Signalling {
    tells: mpsc::Sender<Tell>,
    _task: Owned,
}

impl Signalling {
    /// Opens the byways. What is heard goes to `heard`; when it is full, the network waits.
    pub(super) fn start(line: Line, heard: mpsc::Sender<Heard>) -> Self {
        // A person doesn't press more keys than this before the server answers.
        let (tells, inbox) = mpsc::channel(64);
        Self { tells, _task: Owned::spawn(run::run(line, inbox, heard)) }
    }

    /// Tells the server, and waits until it took or refused it.
    pub(super) async fn tell(&self, body: ClientBody) -> Result<(), ClientError> {
        let (done, answer) = oneshot::channel();
        let tell = Tell { body, done: Some(done) };
        self.tells.send(tell).await.map_err(|_| ClientError::Ended)?;
        answer.await.unwrap_or(Err(ClientError::Ended))
    }

    /// Tells the server without waiting; dropped if too much waits already.
    pub(super) fn mention(&self, body: ClientBody) {
        let _ = self.tells.try_send(Tell { body, done: None });
    }
}
