//! Being called: the push channel, kept open, and the calls that it taps us for.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::api::with_handler;
use super::link::Connected;
use super::task::Owned;
use super::{Call, ClientError, Handler};
use crate::protocol::event::{EventReader, Scope, State};
use crate::protocol::resource::{ROOT, Tap, TapReason};

/// Waits between tries to open the channel again on a connection that holds.
const REOPEN: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];
/// Calls remembered, so that a tap that comes again rings once.
const REMEMBERED: usize = 1024;

/// A call that wants this device.
#[derive(Debug)]
pub struct IncomingCall {
    call: Call,
    reason: TapReason,
}

impl IncomingCall {
    /// The call, which can be watched before it is answered.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// What the device is wanted for.
    pub fn reason(&self) -> TapReason {
        self.reason
    }

    /// Tells the caller that it rings here.
    pub async fn alerting(&self) -> Result<(), ClientError> {
        self.call.alerting().await
    }

    /// Answers it.
    pub async fn answer(self) -> Result<Call, ClientError> {
        self.call.answer().await?;
        Ok(self.call)
    }

    /// Will not have it.
    pub async fn decline(self, reason: &str, scope: Scope) -> Result<(), ClientError> {
        self.call.decline(reason, scope).await
    }
}

/// The calls for a device, as they come.
#[derive(Debug)]
pub struct Listener {
    calls: mpsc::Receiver<Result<IncomingCall, ClientError>>,
    _task: Owned,
}

impl Listener {
    pub(super) fn start(handler: Handler) -> Self {
        // Who does not take a call within so many others is not listening: the channel waits for them.
        let (out, calls) = mpsc::channel(64);
        Self { calls, _task: Owned::spawn(listen(handler, out)) }
    }

    /// The next call. An error is the last word: the server will not have this device any more.
    pub async fn next(&mut self) -> Result<IncomingCall, ClientError> {
        self.calls.recv().await.unwrap_or(Err(ClientError::Ended))
    }
}

type Out = mpsc::Sender<Result<IncomingCall, ClientError>>;

async fn listen(handler: Handler, out: Out) {
    let mut seen = Seen::default();
    let mut failures = 0;
    let mut watch = handler.client().watch();
    loop {
        let Ok(connected) = handler.client().0.link.current(Duration::from_secs(60)).await else { continue };
        let generation = connected.generation;
        let error = tokio::select! {
            error = follow(&handler, &connected, &out, &mut seen, &mut failures) => error,
            // The old connection may fall silent without a word.
            () = watch.beyond(generation) => { failures = 0; continue }
        };
        let client = handler.client();
        let ended = client.login_ended();
        let again = ended.is_none() && client.may_recover(&error);
        if !again && let Some(refusal) = error.refusal().filter(|r| matches!(r.status, 401 | 403 | 404)) {
            let error = ended.filter(|_| refusal.status == 401).map_or(error, ClientError::from);
            let _ = out.send(Err(error)).await;
            return;
        }
        if out.is_closed() {
            return;
        }
        tracing::debug!(%error, "the push channel closed");
        tokio::time::sleep(REOPEN[failures.min(REOPEN.len() - 1)]).await;
        failures += 1;
    }
}

/// Reads taps until the channel ends; why it did.
async fn follow(
    handler: &Handler,
    connected: &Connected,
    out: &Out,
    seen: &mut Seen,
    failures: &mut usize,
) -> ClientError {
    let lost = |error: &dyn std::fmt::Display| ClientError::Lost(error.to_string());
    let uri = with_handler(&format!("{ROOT}/push"), Some(handler.uri()));
    let mut request = match handler.client().request(Method::GET, &uri, Body::empty()) {
        Ok(request) => request,
        Err(error) => return error,
    };
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/x-ndjson"));
    let response = match connected.h3.request(request).await {
        Ok(response) => response,
        Err(error) => return lost(&error),
    };
    let (parts, mut body) = response.into_parts();
    if !parts.status.is_success() {
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return ClientError::from_answer(parts.status, &parts.headers, &body);
    }
    *failures = 0;
    let mut reader = EventReader::default();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => return lost(&error),
        };
        reader.push(&data);
        loop {
            match reader.next_json() {
                Ok(Some(json)) => match serde_json::from_value::<Tap>(json) {
                    Ok(tap) if seen.is_new(&tap) => ring(handler, &tap, out).await,
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "a tap that can't be read was skipped"),
                },
                Ok(None) => break,
                Err(error) => return ClientError::Protocol(format!("taps: {error}")),
            }
        }
    }
    lost(&"the server ended the push channel")
}

async fn ring(handler: &Handler, tap: &Tap, out: &Out) {
    let Ok(uri) = handler.client().resolve(&tap.call) else { return };
    let description = match handler.client().call(&uri, Some(handler.uri())).await {
        Ok(description) => description,
        Err(error) => {
            tracing::debug!(%error, "a call that was tapped can't be read");
            return;
        }
    };
    let over = match tap.reason {
        TapReason::Incoming | TapReason::Outgoing => {
            matches!(description.state, State::Answered | State::Ended)
        }
        TapReason::Take | TapReason::Answer => description.state == State::Ended,
    };
    if over {
        return;
    }
    match Call::start(handler, description) {
        // Nobody listens any more.
        Ok(call) => drop(out.send(Ok(IncomingCall { call, reason: tap.reason })).await),
        Err(error) => tracing::debug!(%error, "a call that was tapped can't be followed"),
    }
}

/// wire §2: taps are idempotent; a call that rings is told again on every new channel.
#[derive(Debug, Default)]
struct Seen {
    calls: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn is_new(&mut self, tap: &Tap) -> bool {
        // To take or answer a call may be asked more than once.
        if matches!(tap.reason, TapReason::Take | TapReason::Answer) {
            return true;
        }
        let key = super::uri::path_of(&tap.call).to_owned();
        if !self.calls.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_rings_once_and_may_be_handed_over_again_and_again() {
        let tap = |call: &str, reason| Tap { call: call.into(), reason };
        let mut seen = Seen::default();
        assert!(seen.is_new(&tap("https://a/c/1?ticket=x", TapReason::Incoming)));
        assert!(!seen.is_new(&tap("/c/1", TapReason::Incoming)));
        assert!(seen.is_new(&tap("/c/1", TapReason::Take)) && seen.is_new(&tap("/c/1", TapReason::Take)));
        for n in 0..REMEMBERED + 10 {
            assert!(seen.is_new(&tap(&format!("/c/x{n}"), TapReason::Incoming)));
        }
        assert!(seen.calls.len() <= REMEMBERED);
    }
}
