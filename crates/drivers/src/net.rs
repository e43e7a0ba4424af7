//! Connects to a server: TCP only to the addresses that were checked, and TLS with one explicit provider.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::source::{SourceError, Target, TlsMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use crate::errors;

/// The configured certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("the file of trusted certificates is not PEM: {0}")]
    Pem(String),
    #[error("the file of trusted certificates contains no certificates")]
    Empty,
    #[error("a trusted certificate cannot be used: {0}")]
    Certificate(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// The two TLS configurations, and the extra roots as configured.
#[derive(Clone)]
pub(crate) struct Tls {
    verified: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
    pub ca_pem: Option<Arc<Vec<u8>>>,
}

impl Tls {
    pub fn new(ca_pem: Option<&[u8]>) -> Result<Tls, RootsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(pem) = ca_pem {
            let mut any = false;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| RootsError::Pem(error.to_string()))?;
                roots.add(certificate).map_err(|error| RootsError::Certificate(error.to_string()))?;
                any = true;
            }
            if !any {
                return Err(RootsError::Empty);
            }
        }
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(|error| RootsError::Tls(error.to_string()))
        };
        let verified = builder()?.with_root_certificates(roots).with_no_client_auth();
        let unverified = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        Ok(Tls {
            verified: Arc::new(verified),
            unverified: Arc::new(unverified),
            ca_pem: ca_pem.map(|pem| Arc::new(pem.to_vec())),
        })
    }

    pub fn config(&self, mode: TlsMode) -> Arc<ClientConfig> {
        match mode {
            TlsMode::Verify => self.verified.clone(),
            TlsMode::Prefer | TlsMode::Require => self.unverified.clone(),
        }
    }
}

/// Encryption without checking the server's identity, for `Prefer` and `Require`. The signatures of the handshake are
/// still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A server's address and account.
#[derive(Clone)]
pub(crate) struct Network {
    pub host: String,
    pub port: u16,
    pub addresses: Vec<std::net::SocketAddr>,
    pub username: String,
    pub password: landreeve_core::Secret,
    pub database: String,
}

impl Network {
    pub fn of(target: &Target) -> Result<Network, SourceError> {
        match target.clone() {
            Target::Network { host, port, addresses, username, password, database } => {
                Ok(Network { host, port, addresses, username, password, database })
            }
            Target::File(_) | Target::Tables { .. } => Err(errors::wrong_target()),
        }
    }

    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Tries the addresses in turn; each gets a share of the time.
    pub async fn connect(&self, timeout: Duration) -> Result<TcpStream, SourceError> {
        if self.addresses.is_empty() {
            return Err(errors::connect(format!("the host {} was not found", self.host)));
        }
        let share = timeout / u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        let mut last = None;
        for address in &self.addresses {
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    // Detects a dead peer during a long silence, when no time limit would.
                    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
                    let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(60));
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(self.refused(&error)),
                Err(_) => last = Some(self.silent(timeout)),
            }
        }
        Err(last.unwrap_or_else(|| self.silent(timeout)))
    }

    pub fn refused(&self, error: &std::io::Error) -> SourceError {
        let place = self.place();
        errors::connect(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                format!(
                    "connection refused: nothing is listening on {place}; check the port, and that the database accepts connections from here"
                )
            }
            std::io::ErrorKind::TimedOut => {
                format!("{place} did not respond; check the host and any firewall in between")
            }
            std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                format!("cannot reach {place} from here: {error}")
            }
            _ => format!("could not connect to {place}: {error}"),
        })
    }

    pub fn silent(&self, timeout: Duration) -> SourceError {
        errors::connect(format!(
            "{} did not respond within {}; check the host, the port and any firewall in between",
            self.place(),
            errors::seconds(timeout)
        ))
    }
}

/// Why TLS failed, and what to do; `None` if the error is not about TLS.
pub(crate) fn tls_failure(place: &str, error: &(dyn std::error::Error + 'static)) -> Option<SourceError> {
    let tls = find_rustls(error)?;
    let why = match tls {
        rustls::Error::InvalidCertificate(reason) => {
            format!(
                "the certificate of {place} is not trusted: {reason}; add its CA to `[sources] ca_file`, \
                 correct the host name, or turn off the certificate check"
            )
        }
        other => format!("the TLS handshake with {place} failed: {other}"),
    };
    Some(errors::connect(why))
}

fn find_rustls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An io::Error's own `source` skips the error it wraps.
        if let Some(wrapped) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && let Some(found) = wrapped.downcast_ref::<rustls::Error>()
        {
            return Some(found);
        }
        current = error.source();
    }
    None
}
