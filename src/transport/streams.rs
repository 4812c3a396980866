//! The two halves of a QUIC stream as the `h3` crate wants them, directly on quinn: unlike `h3-quinn`'s they may be
//! stopped while a read is pending, and an unfinished one tells the peer why it ended.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use ::h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use bytes::{Buf, Bytes};
use quinn::VarInt;

use super::settings::{self, Watch};

/// RFC 9114 §8.1 and the WebTransport drafts.
pub(super) mod code {
    use quinn::VarInt;

    pub(crate) const NO_ERROR: VarInt = VarInt::from_u32(0x100);
    pub(crate) const INTERNAL_ERROR: VarInt = VarInt::from_u32(0x102);
    pub(crate) const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);
    pub(crate) const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x10c);
    pub(crate) const REQUEST_INCOMPLETE: VarInt = VarInt::from_u32(0x10d);
    pub(crate) const BUFFERED_STREAM_REJECTED: VarInt = VarInt::from_u32(0x3994_bd84);
    pub(crate) const SESSION_GONE: VarInt = VarInt::from_u32(0x170d_7b68);
}

/// Polls for the next bytes; quinn keeps the waker by stream, so the future need not live on.
pub(super) fn poll_chunk(
    stream: &mut quinn::RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, quinn::ReadError>> {
    pin!(stream.read_chunk(usize::MAX, true)).poll(cx).map_ok(|chunk| chunk.map(|c| c.bytes))
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct RecvHalf {
    stream: quinn::RecvStream,
    head: Bytes,
    ended: bool,
    watch: Watch,
}

impl RecvHalf {
    /// A stream of which `head` was read already.
    pub(super) fn new(stream: quinn::RecvStream, head: Bytes, watch: Watch) -> Self {
        Self { stream, head, ended: false, watch }
    }
}

impl quic::RecvStream for RecvHalf {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let chunk = if !self.head.is_empty() {
            std::mem::take(&mut self.head)
        } else if self.ended {
            return Poll::Ready(Ok(None));
        } else {
            match ready!(poll_chunk(&mut self.stream, cx)) {
                Ok(Some(chunk)) => chunk,
                end => {
                    self.ended = true;
                    return Poll::Ready(end.map_err(read_error));
                }
            }
        };
        if !self.watch.check(&chunk) {
            self.stop_sending(code::EXCESSIVE_LOAD.into_inner());
            let error_code = code::EXCESSIVE_LOAD.into_inner();
            return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
        }
        Poll::Ready(Ok(Some(chunk)))
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.ended = true;
        self.head = Bytes::new();
        // A stream that is closed already needs no stop.
        let _ = self.stream.stop(VarInt::from_u64(error_code).unwrap_or(code::NO_ERROR));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        if !self.ended {
            // RFC 9114 §4.1: a body that nobody reads is stopped with H3_NO_ERROR.
            let _ = self.stream.stop(code::NO_ERROR);
        }
    }
}

/// The sending half.
pub(super) struct SendHalf {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    rewritten: Bytes,
    inject: Option<Vec<(u64, u64)>>,
    touched: bool,
}

impl SendHalf {
    pub(super) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, writing: None, rewritten: Bytes::new(), inject: None, touched: false }
    }

    /// The control stream: `settings` go into its first frame.
    pub(super) fn with_settings(mut self, settings: Vec<(u64, u64)>) -> Self {
        self.inject = Some(settings);
        self
    }
}

fn write_all(
    stream: &mut quinn::SendStream,
    from: &mut impl Buf,
    cx: &mut Context<'_>,
) -> Poll<Result<(), StreamErrorIncoming>> {
    while from.has_remaining() {
        let written = ready!(Pin::new(&mut *stream).poll_write(cx, from.chunk())).map_err(write_error)?;
        from.advance(written);
    }
    Poll::Ready(Ok(()))
}

impl quic::SendStream<Bytes> for SendHalf {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(write_all(&mut self.stream, &mut self.rewritten, cx))?;
        if let Some(writing) = &mut self.writing {
            ready!(write_all(&mut self.stream, writing, cx))?;
            self.writing = None;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() || self.rewritten.has_remaining() {
            return Err(StreamErrorIncoming::ConnectionErrorIncoming {
                connection_error: ConnectionErrorIncoming::InternalError(
                    "a write began inside a write".into(),
                ),
            });
        }
        self.touched = true;
        let mut data = data.into();
        match self.inject.take() {
            None => self.writing = Some(data),
            Some(extra) => {
                let whole = data.copy_to_bytes(data.remaining());
                self.rewritten = settings::rewrite(&whole, &extra).unwrap_or(whole);
            }
        }
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.touched = true;
        Poll::Ready(self.stream.finish().map_err(|e| StreamErrorIncoming::Unknown(Box::new(e))))
    }

    fn reset(&mut self, reset_code: u64) {
        self.touched = true;
        // A stream that is closed already needs no reset.
        let _ = self.stream.reset(VarInt::from_u64(reset_code).unwrap_or(code::REQUEST_CANCELLED));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.touched {
            // quinn would end it with FIN, which is no response: an h3 client closes the connection over that.
            let _ = self.stream.reset(code::REQUEST_CANCELLED);
        }
    }
}

/// Both halves.
pub(super) struct Bidi {
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
}

impl quic::RecvStream for Bidi {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl quic::SendStream<Bytes> for Bidi {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::BidiStream<Bytes> for Bidi {
    type SendStream = SendHalf;
    type RecvStream = RecvHalf;

    fn split(self) -> (SendHalf, RecvHalf) {
        (self.send, self.recv)
    }
}

fn stream_id(id: quinn::StreamId) -> StreamId {
    u64::from(id).try_into().expect("quinn's stream ids are varints")
}

/// The connection's end as `h3` names it.
pub(super) fn connection_error(error: quinn::ConnectionError) -> ConnectionErrorIncoming {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        quinn::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(std::sync::Arc::new(other)),
    }
}

/// The connection's end as a stream of `h3` meets it.
pub(super) fn lost(error: quinn::ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
}

fn read_error(error: quinn::ReadError) -> StreamErrorIncoming {
    match error {
        quinn::ReadError::Reset(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        quinn::ReadError::ConnectionLost(error) => lost(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

fn write_error(error: quinn::WriteError) -> StreamErrorIncoming {
    match error {
        quinn::WriteError::Stopped(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        quinn::WriteError::ConnectionLost(error) => lost(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}
