//! The forward byways: one `PUT` that stays open, or one for every event.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::mpsc;

use super::super::ClientError;
use super::super::api::with_handler;
use super::super::link::Connected;
use super::super::task::Owned;
use super::super::uri::below;
use super::Line;

/// What a forward byway reports; `round` tells an old byway's word from a new one's.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) round: u64,
    pub(super) what: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// A finite `PUT` was answered: the newest number taken, or why this one was not.
    Answered(u64, Result<Option<u64>, ClientError>),
    /// The open `PUT` is over.
    Closed(ClientError),
}

/// A forward byway of either kind; it ends when dropped.
#[derive(Debug)]
pub(super) struct Forward {
    events: mpsc::Sender<(u64, Value)>,
    _task: Owned,
}

impl Forward {
    pub(super) fn open(line: &Line, connected: Connected, round: u64, reports: mpsc::Sender<Report>) -> Self {
        let (events, row) = mpsc::channel(128);
        let line = line.clone();
        let task = async move {
            let error = match put_open(&line, &connected, row).await {
                Ok(()) => ClientError::Lost("the server ended the open PUT".into()),
                Err(error) => error,
            };
            let _ = reports.send(Report { round, what: Outcome::Closed(error) }).await;
        };
        Self { events, _task: Owned::spawn(task) }
    }

    pub(super) fn finite(line: &Line, round: u64, reports: mpsc::Sender<Report>) -> Self {
        let (events, mut row) = mpsc::channel::<(u64, Value)>(128);
        let line = line.clone();
        let task = async move {
            // One after another: the server takes them in order.
            while let Some((seq, event)) = row.recv().await {
                let answer = line.client.put_event(&line.call, &line.handler, &event).await;
                let report = Report { round, what: Outcome::Answered(seq, answer) };
                if reports.send(report).await.is_err() {
                    return;
                }
            }
        };
        Self { events, _task: Owned::spawn(task) }
    }

    /// Hands an event over; false if the byway takes no more, and it has to be sent again by another.
    pub(super) fn send(&self, seq: u64, event: Value) -> bool {
        self.events.try_send((seq, event)).is_ok()
    }
}

async fn put_open(
    line: &Line,
    connected: &Connected,
    row: mpsc::Receiver<(u64, Value)>,
) -> Result<(), ClientError> {
    let lines = stream::unfold(row, async |mut row| {
        let (_, event) = row.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))), row))
    });
    let uri = with_handler(&below(&line.call, "/events"), Some(&line.handler));
    let mut request = line.client.request(Method::PUT, &uri, Body::from_stream(lines.boxed()))?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert("incremental", HeaderValue::from_static("?1"));
    let response =
        connected.h3.request(request).await.map_err(|error| ClientError::Lost(error.to_string()))?;
    let (parts, body) = response.into_parts();
    // The answer lasts as long as the byway does.
    let body = body.collect().await.map_err(|error| ClientError::Lost(error.to_string()))?.to_bytes();
    if parts.status.is_success() {
        Ok(())
    } else {
        Err(ClientError::from_answer(parts.status, &parts.headers, &body))
    }
}
