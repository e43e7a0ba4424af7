//! A plain or encrypted byte stream with two timeouts that the HTTP library lacks: for the first bytes, with which it
//! distinguishes HTTP/1 from HTTP/2, and for clients that do not read their response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One type for both, so that the HTTP code is compiled only once.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(super) struct Stream {
    transport: Transport,
    opening: Option<Opening>,
    write_stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

struct Opening {
    deadline: Pin<Box<Sleep>>,
    /// Bytes read so far, all of them a prefix of the HTTP/2 preface.
    seen: usize,
}

impl Stream {
    pub(super) fn new(transport: Transport, first_bytes: Duration, write_stall: Duration) -> Stream {
        let opening = Some(Opening { deadline: Box::pin(sleep(first_bytes)), seen: 0 });
        Stream { transport, opening, write_stall, stalled: None }
    }

    /// Passes on the result of a write, and fails it if writes have been pending for too long.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let limit = self.write_stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(timed_out("the client does not read its response"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Opening {
    /// Whether the protocol is still undecided after these bytes.
    fn goes_on(&mut self, bytes: &[u8]) -> bool {
        let end = self.seen + bytes.len();
        let same = HTTP2_PREFACE.get(self.seen..end).is_some_and(|part| part == bytes);
        self.seen = end;
        same && !bytes.is_empty() && end < HTTP2_PREFACE.len()
    }
}

fn timed_out(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// Calls the same method on either transport.
macro_rules! on_transport {
    ($self:ident, $inner:ident => $call:expr) => {
        match &mut $self.transport {
            Transport::Plain(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            Transport::Tls(stream) => {
                let $inner = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let result = on_transport!(this, stream => stream.poll_read(cx, buf));
        let Some(opening) = &mut this.opening else { return result };
        match result {
            Poll::Pending => match opening.deadline.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(timed_out("no request arrived"))),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(result) => {
                let bytes = buf.filled().get(before..).unwrap_or_default();
                if result.is_err() || !opening.goes_on(bytes) {
                    this.opening = None;
                }
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = on_transport!(this, stream => stream.poll_write(cx, buf));
        this.watch_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = on_transport!(this, stream => stream.poll_write_vectored(cx, bufs));
        this.watch_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = on_transport!(this, stream => stream.poll_flush(cx));
        this.watch_write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = on_transport!(this, stream => stream.poll_shutdown(cx));
        this.watch_write(cx, result)
    }
}
