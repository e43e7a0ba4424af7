//! The body of a call in the form that hyper needs: piece by piece, as fast as the other side reads.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use landreeve_core::outbound::{HttpBody, HttpError, HttpErrorKind};
use landreeve_core::source::ByteStream;

use super::wire::IdleError;

/// Why the upload failed; hyper only says that it did.
#[derive(Debug, Clone, Default)]
pub struct Failed(Arc<OnceLock<String>>);

impl Failed {
    /// Translates an error of hyper for the caller.
    pub fn explain(&self, error: &hyper::Error, place: &str) -> HttpError {
        if let Some(why) = self.0.get() {
            return HttpError::new(HttpErrorKind::Body, format!("cannot send the body: {why}"));
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>()
                && let Some(idle) = io.get_ref().and_then(|inner| inner.downcast_ref::<IdleError>())
            {
                return HttpError::new(HttpErrorKind::TimedOut, format!("{place}: {idle}"));
            }
            cause = inner.source();
        }
        let (kind, what) = if error.is_parse_too_large() {
            (HttpErrorKind::TooLarge, "the response headers are too large".to_owned())
        } else if error.is_parse() || error.is_parse_status() {
            (HttpErrorKind::Protocol, "the response is not HTTP".to_owned())
        } else {
            let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})"));
            (HttpErrorKind::Unreachable, format!("the connection broke{}", cause.unwrap_or_default()))
        };
        HttpError::new(kind, format!("{place}: {what}"))
    }
}

/// The body of a request.
pub struct Upload {
    bytes: Option<ByteStream>,
    /// Bytes still to come, if known.
    left: Option<u64>,
    /// The last piece by the declared length. Held back until the stream ends, because hyper reads no further.
    last: Option<Bytes>,
    failed: Failed,
}

impl Upload {
    pub fn new(body: HttpBody, failed: Failed) -> Upload {
        match body {
            HttpBody::Empty => Upload { bytes: None, left: Some(0), last: None, failed },
            HttpBody::Bytes(bytes) => {
                let left = Some(bytes.len() as u64);
                let once = futures_util::stream::once(std::future::ready(Ok(bytes)));
                Upload { bytes: Some(Box::pin(once)), left, last: None, failed }
            }
            HttpBody::Stream { length, bytes } => {
                Upload { bytes: Some(bytes), left: length, last: None, failed }
            }
        }
    }

    fn fail(&mut self, why: String) -> std::io::Error {
        self.bytes = None;
        let _ = self.failed.0.set(why.clone());
        std::io::Error::other(why)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        loop {
            let Some(bytes) = &mut self.bytes else { return Poll::Ready(None) };
            let next = ready!(bytes.as_mut().poll_next(cx));
            let piece = match next {
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(error.to_string())))),
                None => {
                    self.bytes = None;
                    let last = self.last.take();
                    return Poll::Ready(match self.left {
                        Some(left) if left > 0 => {
                            Some(Err(self.fail(format!("it ended {left} bytes early"))))
                        }
                        _ => last.map(|last| Ok(Frame::data(last))),
                    });
                }
            };
            if let Some(left) = self.left {
                match left.checked_sub(piece.len() as u64) {
                    Some(0) => {
                        self.left = Some(0);
                        self.last = Some(piece);
                        continue;
                    }
                    Some(left) => self.left = Some(left),
                    None => {
                        let error = self.fail("it is longer than declared".to_owned());
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
