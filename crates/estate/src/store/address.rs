//! Converts the address of a PostgreSQL as sqlx parses it (with the environment and the password file, like libpq) for
//! the driver of the store's own connections.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::link::Connector;

/// If the other side disappears silently, a waiting connection notices within half a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent data may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(15);

pub fn parse(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| fault(format!("is not a PostgreSQL address: {error}")))?;
    Ok(options.application_name("landreeve"))
}

fn fault(message: String) -> Error {
    Error::fault("database", "format", message)
}

pub fn connector(options: &PgConnectOptions) -> Result<Connector> {
    let mut config = tokio_postgres::Config::new();
    config.user(options.get_username()).port(options.get_port());
    match options.get_socket() {
        Some(folder) => config.host_path(folder),
        None => config.host(options.get_host().trim_start_matches('[').trim_end_matches(']')),
    };
    if let Some(database) = options.get_database() {
        config.dbname(database);
    }
    if let Some(name) = options.get_application_name() {
        config.application_name(name);
    }
    if let Some(settings) = options.get_options() {
        config.options(settings);
    }
    // Only sqlx's address shows these settings: use a name and host that are safe in one.
    let shown = options.clone().username("user").host("host").to_url_lossy();
    if let Some(password) = shown.password() {
        let plain: Vec<u8> = percent_encoding::percent_decode_str(password).collect();
        config.password(plain);
    }
    let mode = options.get_ssl_mode();
    config.ssl_mode(match mode {
        PgSslMode::Disable => SslMode::Disable,
        PgSslMode::Allow | PgSslMode::Prefer => SslMode::Prefer,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => SslMode::Require,
    });
    config
        .connect_timeout(USER_TIMEOUT)
        .tcp_user_timeout(USER_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    let given = |name: &str| {
        shown.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    };
    let tls = tls(mode, given("sslrootcert"), given("sslcert").zip(given("sslkey")))?;
    Ok(Connector::new(config, MakeRustlsConnect::new(tls)))
}

/// A certificate or key given directly, or the path of its file.
fn pem(given: &str) -> Result<Vec<u8>> {
    if given.trim_start().starts_with("-----BEGIN") {
        return Ok(given.as_bytes().to_vec());
    }
    std::fs::read(Path::new(given))
        .map_err(|error| fault(format!("names {given}, which cannot be read: {error}")))
}

fn tls(mode: PgSslMode, roots_in: Option<String>, client: Option<(String, String)>) -> Result<ClientConfig> {
    let failed = |error: &dyn std::fmt::Display| fault(format!("has invalid TLS settings: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(given) = roots_in {
        for certificate in CertificateDer::pem_slice_iter(&pem(&given)?) {
            let certificate = certificate.map_err(|error| failed(&error))?;
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
    }
    let roots = Arc::new(roots);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| failed(&error))?;
    let builder = match mode {
        PgSslMode::VerifyFull => builder.with_webpki_verifier(verifier),
        PgSslMode::VerifyCa => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { verifier, any: false }))
        }
        _ => builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { verifier, any: true })),
    };
    let Some((certificate, key)) = client else { return Ok(builder.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(&certificate)?).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem(&key)?).map_err(|error| failed(&error))?;
    builder.with_client_auth_cert(chain.map_err(|error| failed(&error))?, key).map_err(|error| failed(&error))
}

/// Encryption without checking the server's name (`verify-ca`), or its identity (`prefer`, `require`). Handshake
/// signatures are still checked.
#[derive(Debug)]
struct Lenient {
    verifier: Arc<WebPkiServerVerifier>,
    any: bool,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.any {
            return Ok(ServerCertVerified::assertion());
        }
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
