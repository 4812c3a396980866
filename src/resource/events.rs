//! `{call}/events`: the signalling byways.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::App;
use super::auth::{OwnCall, Q};
use super::base::Base;
use super::reply::{body, json as document};
use super::stream::{Framing, Next, Source, open_headers, respond};
use super::twin::in_form;
use crate::call::{ByWay, Input};
use crate::protocol::advertisement::Form;
use crate::protocol::event::{
    Body as EventBody, ClientEvent, Event, EventReader, ReadError, State as CallState,
};
use crate::protocol::id::HandlerKey;
use crate::protocol::problem::{Code, Problem};
use crate::service::actor::Byway;

/// `GET`: what the call says.
pub(super) async fn reverse(
    State(app): State<App>,
    call: OwnCall,
    Base(base): Base,
    Q(query): Q,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let handler = call.handler(&app, query.handler.as_deref())?;
    let form = handler.as_ref().map(|h| h.form);
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    // wire §4: the query wins.
    let after = query.after.or(last);
    let kind = ByWay::Reverse(handler.map(|h| h.key));
    let byway = call.calls.open(call.leg, kind, after).await?;
    // Whoever knows all of an ended call is told nothing, and the array is closed all the same.
    let ended = call.calls.view(call.leg, None).await?.state == CallState::Ended;
    Ok(respond(Framing::wanted(&headers), Events { byway, base, form, ended }))
}

struct Events {
    byway: Byway,
    base: String,
    form: Option<Form>,
    ended: bool,
}

impl Source for Events {
    async fn next(&mut self) -> Next {
        let event: Option<Arc<Event>> = self.byway.events.recv().await;
        match event {
            Some(event) => {
                self.ended |= matches!(event.body, EventBody::Ended { .. });
                Next::Object(in_form(event.to_json(&self.base), self.form))
            }
            None if self.ended => Next::End,
            None => Next::Cut,
        }
    }
}

/// `PUT`: what a device says.
pub(super) async fn forward(
    State(app): State<App>,
    call: OwnCall,
    Q(query): Q,
    headers: HeaderMap,
    raw: Body,
) -> Result<Response, Problem> {
    let named = call.handler(&app, query.handler.as_deref())?.map(|h| h.key);
    let listener = Listener { app, call, named };
    // wire §4: `PUT` with Content-Length is finite.
    if headers.contains_key(header::CONTENT_LENGTH) {
        return listener.finite(raw).await;
    }
    if listener.call.calls.view(listener.call.leg, None).await?.state == CallState::Ended {
        return Err(Problem::new(Code::CallEnded, "the call has ended; GET it to see how"));
    }
    let byway = listener.call.calls.open(listener.call.leg, ByWay::Forward(named), None).await?;
    let answer = stream::once(async move {
        let newest = match listener.open_ended(byway, raw.into_data_stream()).await {
            Some(newest) => newest,
            None => listener.newest().await.unwrap_or_default(),
        };
        Ok::<_, std::convert::Infallible>(Bytes::from(json!({"accepted": newest}).to_string()))
    });
    let mut response = Body::from_stream(answer).into_response();
    open_headers(response.headers_mut(), "application/json");
    Ok(response)
}

struct Listener {
    app: App,
    call: OwnCall,
    named: Option<HandlerKey>,
}

fn unreadable(error: &ReadError) -> Problem {
    match error {
        ReadError::TooLarge(_) => Problem::new(Code::TooLarge, error.to_string()),
        _ => Problem::new(Code::BadJson, error.to_string()),
    }
}

impl Listener {
    fn read(&self, json: &Value) -> Result<(HandlerKey, ClientEvent), Problem> {
        let event = ClientEvent::from_json(json)?;
        let handler = match &event.handler {
            Some(named) => Some(self.call.handler(&self.app, Some(named))?.map(|h| h.key)),
            None => None,
        };
        let missing = || {
            Problem::new(Code::BadEvent, "name the device: `handler` in the event or in the query")
                .field("handler")
        };
        Ok((handler.flatten().or(self.named).ok_or_else(missing)?, event))
    }

    async fn take(&self, handler: HandlerKey, event: ClientEvent) -> Result<u64, Problem> {
        let input = Input::Event { leg: self.call.leg, handler, seq: event.seq, body: event.body };
        Ok(self.call.calls.input(input).await?.map_or(0, |accepted| accepted.seq))
    }

    /// What was taken from the device before.
    async fn newest(&self) -> Result<u64, Problem> {
        Ok(self.call.calls.view(self.call.leg, self.named).await?.accepted.unwrap_or(0))
    }

    /// A body with an end: all of it is read before any of it counts.
    async fn finite(&self, raw: Body) -> Result<Response, Problem> {
        let bytes = body(raw, self.app.settings.max_body).await?;
        if self.call.calls.view(self.call.leg, None).await?.state == CallState::Ended {
            return Err(Problem::new(Code::CallEnded, "the call has ended; GET it to see how"));
        }
        let mut reader = EventReader::default();
        reader.push(&bytes);
        let mut events = Vec::new();
        while let Some(json) = reader.next_json().map_err(|e| unreadable(&e))? {
            events.push(self.read(&json)?);
        }
        if reader.unfinished() {
            return Err(Problem::new(Code::BadJson, "the last event breaks off"));
        }
        let mut newest = None;
        for (handler, event) in events {
            newest = Some(self.take(handler, event).await?);
        }
        let newest = match newest {
            Some(newest) => newest,
            None => self.newest().await?,
        };
        Ok(document(StatusCode::OK, &json!({"accepted": newest})))
    }

    /// A body that goes on until its client or the call ends it.
    async fn open_ended(&self, mut byway: Byway, mut raw: BodyDataStream) -> Option<u64> {
        let mut reader = EventReader::default();
        let mut newest = None;
        loop {
            let data = tokio::select! {
                data = raw.next() => data,
                // Nothing is said on a forward byway: its end is the call's.
                _ = byway.events.recv() => return newest,
            };
            let Some(Ok(data)) = data else { return newest };
            reader.push(&data);
            loop {
                match reader.next_json() {
                    Ok(Some(json)) => newest = self.one(&json).await.or(newest),
                    Ok(None) => break,
                    Err(error) => {
                        self.refuse(self.named, &unreadable(&error), None).await;
                        return newest;
                    }
                }
            }
        }
    }

    /// One event of an open byway: `accepted` or `error` goes to its device.
    async fn one(&self, json: &Value) -> Option<u64> {
        let ref_seq = json.get("seq").and_then(Value::as_u64);
        let (handler, event) = match self.read(json) {
            Ok(read) => read,
            Err(problem) => {
                self.refuse(self.named, &problem, ref_seq).await;
                return None;
            }
        };
        match self.take(handler, event).await {
            Ok(seq) => {
                let accepted = EventBody::Accepted { accepted: seq };
                let _ = self.call.calls.say(self.call.leg, handler, accepted).await;
                Some(seq)
            }
            Err(problem) => {
                self.refuse(Some(handler), &problem, ref_seq).await;
                None
            }
        }
    }

    async fn refuse(&self, handler: Option<HandlerKey>, problem: &Problem, ref_seq: Option<u64>) {
        let Some(handler) = handler else { return };
        let error = EventBody::Error {
            code: problem.code.as_str().to_owned(),
            detail: Some(problem.detail.clone()),
            ref_seq,
        };
        let _ = self.call.calls.say(self.call.leg, handler, error).await;
    }
}
