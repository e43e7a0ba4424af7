//! A connection: plain or TLS, closed when no byte has moved for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use landreeve_core::outbound::{HttpError, HttpErrorKind};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The built-in CA certificates and those of the call.
pub fn tls(authorities: &[String]) -> Result<Arc<ClientConfig>, HttpError> {
    let invalid = |message: String| HttpError::new(HttpErrorKind::Invalid, message);
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for pem in authorities {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate
                .map_err(|error| invalid(format!("a trusted CA certificate is not PEM: {error}")))?;
            roots
                .add(certificate)
                .map_err(|error| invalid(format!("a trusted CA certificate is invalid: {error}")))?;
        }
        if roots.len() == before {
            return Err(invalid("a trusted CA file contains no PEM certificate".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::new(HttpErrorKind::Tls, error.to_string()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

pub async fn encrypt(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    host: &str,
    place: &str,
) -> Result<Stream, HttpError> {
    let failed = |why: String| HttpError::new(HttpErrorKind::Tls, format!("TLS with {place} failed: {why}"));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    stream.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| failed(error.to_string()))
}

/// No byte moved on the connection for as long as the call allows.
#[derive(Debug, thiserror::Error)]
#[error("no byte for {:.1} seconds", .0.as_secs_f64())]
pub struct IdleError(Duration);

/// Closes a connection on which nothing moves while something waits for it. A paused reader is not waiting.
pub struct Idle {
    stream: Stream,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// The timer is running: something has been waiting since the last byte.
    waits: bool,
}

impl Idle {
    pub fn new(stream: Stream, limit: Duration) -> Idle {
        Idle { stream, limit, timer: Box::pin(tokio::time::sleep(limit)), waits: false }
    }

    /// Returns the result of an attempt, unless it has been waiting too long.
    fn judge<T>(&mut self, cx: &mut Context<'_>, attempt: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            self.waits = false;
            return attempt;
        }
        if !self.waits {
            self.waits = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, IdleError(self.limit))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Idle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let attempt = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.judge(cx, attempt)
    }
}

impl AsyncWrite for Idle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let attempt = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.judge(cx, attempt)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
