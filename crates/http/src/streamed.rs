//! Bodies that are produced while the client reads them.
//!
//! What produces them holds memory, so a client that stops reading is cut off, whatever its protocol: over HTTP/2 a
//! connection can be alive while one of its streams is not read.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::limits::Limits;

/// Sends the chunks as the client reads them. If it reads nothing for a minute, the stream is dropped and the connection
/// is closed, so that an incomplete body never looks complete.
pub fn streamed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    streamed_within(chunks, Limits::WRITE_STALL)
}

fn streamed_within(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static, stall: Duration) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    // Ends with the stream, with the body, or when the client stops reading.
    let pump = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut chunks = std::pin::pin!(chunks);
        loop {
            let next = chunks.next().await;
            let ended = next.is_none();
            match tokio::time::timeout(stall, sender.send(next)).await {
                Ok(Ok(())) if !ended => {}
                Ok(_) => return,
                Err(_) => {
                    tracing::warn!("a client stopped reading; its response was cut off");
                    return;
                }
            }
        }
    }));
    // A compressor asks once more after the end.
    let body = stream::unfold(Some((receiver, pump)), |state| async move {
        let (mut receiver, pump) = state?;
        match receiver.recv().await {
            Some(Some(Ok(chunk))) => Some((Ok(chunk), Some((receiver, pump)))),
            Some(Some(Err(error))) => Some((Err(error), None)),
            Some(None) => None,
            None => Some((Err(io::Error::from(io::ErrorKind::TimedOut)), None)),
        }
    });
    Body::from_stream(body.fuse())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;

    fn chunks(count: usize) -> (Arc<()>, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
        let held = Arc::new(());
        let copy = Arc::clone(&held);
        let chunks = stream::iter(0..count).map(move |_| {
            let _held = &copy;
            Ok(Bytes::from_static(b"chunk"))
        });
        (held, chunks)
    }

    async fn released(held: &Arc<()>) {
        while Arc::strong_count(held) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_body_can_be_asked_after_its_end() {
        let mut body = streamed(chunks(2).1);
        while body.frame().await.is_some() {}
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_that_is_read_is_complete() {
        let (held, chunks) = chunks(100);
        let read = streamed(chunks).collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), 500);
        released(&held).await;
    }

    #[tokio::test]
    async fn an_error_breaks_the_body() {
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(io::Error::other("broken"))]);
        assert!(streamed(broken).collect().await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_is_cut_off() {
        let (held, chunks) = chunks(100);
        let mut body = streamed_within(chunks, Duration::from_millis(20));
        assert!(body.frame().await.unwrap().is_ok());
        released(&held).await;
        assert!(body.collect().await.is_err(), "an incomplete body must not look complete");
    }

    #[tokio::test]
    async fn a_dropped_body_ends_its_stream() {
        let (held, chunks) = chunks(100);
        drop(streamed(chunks));
        released(&held).await;
    }
}
