//! The reverse byway: one `GET` whose answer is the server's events.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::super::ClientError;
use super::super::api::with_handler;
use super::super::link::Connected;
use super::super::uri::{below, with_query};
use super::Line;
use crate::clock;
use crate::protocol::event::{Event, EventReader};

/// How long the answer's head may take.
const HEAD: Duration = Duration::from_secs(3);

/// What the reader says; `round` tells a late word of an old byway from a new one's.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) round: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// The byway is open.
    Open,
    /// Something came.
    Event(Box<Event>, Duration),
    /// It ended.
    Closed(ClientError),
}

/// Reads until the stream ends, however it ends.
pub(super) async fn read(
    line: Line,
    connected: Connected,
    round: u64,
    after: Option<u64>,
    words: mpsc::Sender<Word>,
) {
    let error = match follow(&line, &connected, round, after, &words).await {
        Ok(()) => ClientError::Lost("the server ended the stream of events".into()),
        Err(error) => error,
    };
    // Whoever does not listen any more does not care.
    let _ = words.send(Word { round, what: What::Closed(error) }).await;
}

async fn follow(
    line: &Line,
    connected: &Connected,
    round: u64,
    after: Option<u64>,
    words: &mpsc::Sender<Word>,
) -> Result<(), ClientError> {
    let mut uri = with_handler(&below(&line.call, "/events"), Some(&line.handler));
    if let Some(after) = after {
        uri = with_query(&uri, "after", &after.to_string());
    }
    let mut request = line.client.request(Method::GET, &uri, Body::empty())?;
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/x-ndjson"));
    headers.insert("incremental", HeaderValue::from_static("?1"));
    let response = tokio::time::timeout(HEAD, connected.h3.request(request)).await;
    let response = response
        .map_err(|_| ClientError::Timeout { what: "GET events".into(), after: HEAD })?
        .map_err(|error| ClientError::Lost(error.to_string()))?;
    let (parts, mut body) = response.into_parts();
    if !parts.status.is_success() {
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(ClientError::from_answer(parts.status, &parts.headers, &body));
    }
    let say = async |what| words.send(Word { round, what }).await.map_err(|_| ClientError::Ended);
    say(What::Open).await?;
    let mut reader = EventReader::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::Lost(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let at = clock::elapsed();
        reader.push(&data);
        let broken = |error: &dyn std::fmt::Display| ClientError::Protocol(format!("events: {error}"));
        while let Some(json) = reader.next_json().map_err(|error| broken(&error))? {
            match serde_json::from_value::<Event>(json) {
                Ok(event) => say(What::Event(Box::new(event), at)).await?,
                Err(error) => tracing::debug!(%error, "an event that can't be read was skipped"),
            }
        }
    }
    Ok(())
}
