//! The task that owns a subscription's sink: one request at a time, in order.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use uuid::Uuid;

use super::line::Step;
use super::record::Record;
use super::retry::judge;
use super::{Held, Inner};
use crate::clock;
use crate::service::fetch::{FetchError, Fetcher, Posted};
use crate::service::lock;

/// How long a sink may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends what there is until nothing more can come.
pub(super) async fn own(inner: Weak<Inner>, held: Arc<Held>, fetcher: Fetcher) {
    let id = lock(&held.line).record.id;
    loop {
        let woken = held.wake.notified();
        let (step, record) = {
            let mut line = lock(&held.line);
            let step = line.step(clock::now());
            if step == Step::Write {
                inner.upgrade().iter().for_each(|inner| inner.note(&line.record));
            }
            (step, line.record.clone())
        };
        match step {
            Step::Write => {}
            Step::Send(event, body) => {
                let body = body.to_string().into();
                let answer = fetcher.post(&record.sink.0, headers(&record, event), body, TIMEOUT).await;
                let verdict = judge(&answer);
                tracing::debug!(subscription = %id, %event, said = %said(&answer), ?verdict, "an event was sent");
                let chance = Uuid::new_v4().as_fields().0;
                lock(&held.line).sent(clock::now(), event, verdict, chance);
            }
            Step::Wait(until) => {
                let pause = tokio::time::sleep(until.since(clock::now()));
                tokio::select! { () = pause => {}, () = woken => {} }
            }
            Step::Over => break,
        }
    }
    if let Some(inner) = inner.upgrade() {
        inner.forget(id);
    }
}

/// For the log: never the URL, which may hold a secret.
fn said(answer: &Result<Posted, FetchError>) -> String {
    match answer {
        Ok(posted) => posted.status.to_string(),
        Err(FetchError::Failed(_)) => "the connection or its TLS failed".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// webrtc-events.yaml, callbacks: the content type, the sink's token, x-correlator; then protocolSettings.
fn headers(record: &Record, event: Uuid) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in record.headers.iter().flatten() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.0.parse()) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
    if let Ok(correlator) = event.to_string().parse() {
        headers.insert("x-correlator", correlator);
    }
    let bearer = record.credential.as_ref().map(|one| format!("Bearer {}", one.token.0));
    if let Some(mut bearer) = bearer.and_then(|text| text.parse::<HeaderValue>().ok()) {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    headers
}
