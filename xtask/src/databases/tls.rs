//! A certificate authority for one run and one server certificate for `localhost` and 127.0.0.1.
//!
//! A single self-signed certificate is not enough: rustls refuses a CA certificate as a server certificate, so a test
//! of a verified connection needs two.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::install::in_path;
use super::process::{Account, run};

/// Files of the certificate.
pub struct Certificate {
    /// The certificate that clients have to trust.
    pub authority: PathBuf,
    server: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Copies certificate and key to a server's home, readable by its account only; returns their paths there.
    pub fn install(&self, home: &Path, account: &Account) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (home.join("server.pem"), home.join("server-key.pem"));
        for (from, to) in [(&self.server, &certificate), (&self.key, &key)] {
            // A copy keeps the mode: openssl creates keys with 0600, which PostgreSQL requires.
            fs::copy(from, to)?;
            account.own(to)?;
        }
        Ok((certificate, key))
    }
}

/// Creates the files in `base/tls`, or nothing if there is no `openssl` command.
pub fn generate(base: &Path) -> Result<Option<Certificate>> {
    let Some(openssl) = in_path(&["openssl"]) else { return Ok(None) };
    let folder = base.join("tls");
    fs::create_dir(&folder)?;
    fs::write(
        folder.join("leaf.ext"),
        "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n\
         extendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    )?;
    let openssl = |line: &str| {
        run(Command::new(&openssl).args(line.split(' ')).current_dir(&folder).env("LC_ALL", "C"))
    };
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {new_key} -keyout ca-key.pem -out ca.pem -days 30 -subj /CN=landreeve-test-authority"
    ))?;
    openssl(&format!("req {new_key} -keyout server-key.pem -out server.csr -subj /CN=localhost"))?;
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out server.pem -days 30 \
         -extfile leaf.ext",
    )?;
    Ok(Some(Certificate {
        authority: folder.join("ca.pem"),
        server: folder.join("server.pem"),
        key: folder.join("server-key.pem"),
    }))
}
