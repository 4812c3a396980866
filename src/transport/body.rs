//! Bodies that come in over HTTP/3, in either role.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h3::error::StreamError;
use ::h3::server::RequestStream;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

use super::streams::RecvHalf;

/// RFC 9114 §4.2: connection-specific fields make a message malformed.
pub(super) fn strip_connection_fields(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
}

/// What both roles read a body from.
pub(super) trait Incoming: Send + Unpin + 'static {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>>;
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>>;
}

macro_rules! incoming {
    ($stream:ty) => {
        impl Incoming for $stream {
            fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
                self.poll_recv_data(cx)
                    .map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
            }

            fn poll_trailers(
                &mut self,
                cx: &mut Context<'_>,
            ) -> Poll<Result<Option<HeaderMap>, StreamError>> {
                self.poll_recv_trailers(cx)
            }
        }
    };
}

incoming!(RequestStream<RecvHalf, Bytes>);
incoming!(::h3::client::RequestStream<RecvHalf, Bytes>);

/// A body that comes in over HTTP/3; flow control reaches to whoever polls it.
pub(super) struct RequestBody<S> {
    stream: S,
    data_done: bool,
    done: bool,
}

impl<S> RequestBody<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, data_done: false, done: false }
    }
}

impl<S: Incoming> http_body::Body for RequestBody<S> {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => self.data_done = true,
                Err(error) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.done = true;
        Poll::Ready(trailers.map(|t| t.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
