//! The certificate of a listener, read from PEM files; it can be replaced while the listener runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use landreeve_core::{Error, Result};
use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The server's certificate with its chain, leaf first, and the key of the leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The current TLS configuration. Open connections keep the one they started with.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub fn load(files: TlsFiles) -> Result<Tls> {
        let config = read(&files)?;
        Ok(Tls { files, current: RwLock::new(Arc::new(config)) })
    }

    /// Reads the files again. If they are invalid, the old certificate stays in use.
    pub fn reload(&self) -> Result<()> {
        let config = Arc::new(read(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| bad_file("certificate", &files.certificate, &error))?;
    if chain.is_empty() {
        return Err(bad_file("certificate", &files.certificate, &pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| bad_file("private key", &files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            tls_error(format!(
                "the certificate {} and the key {} cannot be used together: {error}",
                files.certificate.display(),
                files.key.display()
            ))
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn bad_file(what: &str, path: &Path, error: &pem::Error) -> Error {
    let path = path.display();
    tls_error(match error {
        pem::Error::NoItemsFound => format!("{path} contains no {what} in PEM format"),
        pem::Error::Io(error) => format!("could not read the {what} {path}: {error}"),
        // The other errors describe the PEM armour only.
        _ => format!("the {what} {path} is not valid PEM"),
    })
}

fn tls_error(message: String) -> Error {
    Error::unavailable("tls", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn message(certificate: &Path, key: &Path) -> String {
        let files = TlsFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        Tls::load(files).err().expect("must be refused").message
    }

    #[test]
    fn errors_name_the_file_and_the_problem() {
        let (pem, key) = (fixture("one.pem"), fixture("one.key"));
        assert!(message(&fixture("none.pem"), &key).contains("could not read the certificate"));
        assert!(message(&key, &key).contains("contains no certificate"));
        assert!(message(&pem, &pem).contains("contains no private key"));
        assert!(message(&pem, &fixture("two.key")).contains("cannot be used together"));
    }

    #[test]
    fn failed_reloads_keep_the_old_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: dir.path().join("c"), key: dir.path().join("k") };
        std::fs::copy(fixture("one.pem"), &files.certificate).unwrap();
        std::fs::copy(fixture("one.key"), &files.key).unwrap();
        let tls = Tls::load(files.clone()).unwrap();
        let before = tls.current();
        std::fs::write(&files.certificate, "nonsense").unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&before, &tls.current()));
        std::fs::copy(fixture("two.pem"), &files.certificate).unwrap();
        std::fs::copy(fixture("two.key"), &files.key).unwrap();
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.current()));
    }
}
