//! Streams of JSON that stay open: an array, or one object a line.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

/// Below every proxy's idle time-out; a write to a reader that is gone also tells us so.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// `[`, objects, `]`.
    Array,
    /// One object a line.
    Lines,
}

impl Framing {
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if accept.to_ascii_lowercase().contains("application/x-ndjson") { Self::Lines } else { Self::Array }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Array => "application/json",
            Self::Lines => "application/x-ndjson",
        }
    }
}

/// What comes next on a stream.
pub(super) enum Next {
    /// An object.
    Object(Value),
    /// The stream is over as it should be.
    End,
    /// It breaks off: the reader is to come back.
    Cut,
}

/// Where objects come from.
pub(super) trait Source: Send + 'static {
    /// The next one. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Next> + Send;
}

enum Step<S> {
    Open(S),
    Between { source: S, first: bool },
    Done,
}

/// A response that goes on.
pub(super) fn respond<S: Source>(framing: Framing, source: S) -> Response {
    let body = stream::unfold(Step::Open(source), move |step| async move {
        let (mut source, first) = match step {
            // ript-core "Signaling Byway": the open square bracket goes out right after the headers.
            Step::Open(source) => {
                let open = if framing == Framing::Array { "[\n" } else { "\n" };
                let open = Ok::<_, std::convert::Infallible>(Bytes::from_static(open.as_bytes()));
                return Some((open, Step::Between { source, first: true }));
            }
            Step::Between { source, first } => (source, first),
            Step::Done => return None,
        };
        let next = tokio::time::timeout(HEARTBEAT, source.next()).await;
        Some(match next {
            Err(_) => (Ok(Bytes::from_static(b"\n")), Step::Between { source, first }),
            Ok(Next::Object(object)) => {
                let comma = if framing == Framing::Array && !first { "," } else { "" };
                let text = format!("{comma}{object}\n");
                (Ok(Bytes::from(text)), Step::Between { source, first: false })
            }
            Ok(Next::End) => {
                let close = if framing == Framing::Array { "]\n" } else { "" };
                (Ok(Bytes::from_static(close.as_bytes())), Step::Done)
            }
            Ok(Next::Cut) => return None,
        })
    });
    let mut response = Body::from_stream(body).into_response();
    open_headers(response.headers_mut(), framing.content_type());
    response
}

/// wire §4: what both directions of a byway carry.
pub(super) fn open_headers(headers: &mut HeaderMap, content_type: &'static str) {
    let set = |headers: &mut HeaderMap, name: header::HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value))
    };
    set(headers, header::CONTENT_TYPE, content_type);
    set(headers, header::CACHE_CONTROL, "no-store");
    set(headers, header::HeaderName::from_static("incremental"), "?1");
    set(headers, header::HeaderName::from_static("x-accel-buffering"), "no");
}
