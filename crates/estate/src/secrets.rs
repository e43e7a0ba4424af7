//! Secrets at rest: encrypted with a key that is not in the database. Also the keys for signing tokens.
//!
//! Does not belong here: what a secret is for. A sealed value is bound to a context (`datasource:7`), so that a row
//! copied over another one cannot be opened.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use landreeve_core::{Error, Random, Result};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE: usize = 24;
const KEY: usize = 32;

/// A sealed value, as stored. It can be bound only to columns whose name ends in `_sealed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A column with sealed values, for key rotation. Created by `sealed_column!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedColumn {
    pub table: &'static str,
    pub column: &'static str,
    /// A value is bound to this word and the row's key: `datasource:7`.
    pub context: &'static str,
    /// Key and value of every row that has a value.
    #[doc(hidden)]
    pub select: &'static str,
    #[doc(hidden)]
    pub update: &'static str,
}

/// `sealed_column!("datasources", "id", "secrets_sealed", "datasource")`: table, key, column, context.
#[macro_export]
macro_rules! sealed_column {
    ($table:literal, $key:literal, $column:literal, $context:literal) => {
        $crate::secrets::SealedColumn {
            table: $table,
            column: $column,
            context: $context,
            select: concat!(
                "SELECT CAST(",
                $key,
                " AS TEXT), ",
                $column,
                " FROM ",
                $table,
                " WHERE ",
                $column,
                " IS NOT NULL"
            ),
            update: concat!("UPDATE ", $table, " SET ", $column, " = $2 WHERE CAST(", $key, " AS TEXT) = $1"),
        }
    };
}

/// The estate's sealing key.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; KEY]>);

impl SealKey {
    pub fn generate(random: &dyn Random) -> SealKey {
        let mut key = Zeroizing::new([0_u8; KEY]);
        random.fill(&mut key[..]);
        SealKey(key)
    }

    /// A key that a plane keeps in its own tables, sealed like other secrets there.
    pub fn from_bytes(bytes: &[u8]) -> Result<SealKey> {
        let key: [u8; KEY] =
            bytes.try_into().map_err(|_| Error::internal("a stored key does not have 32 bytes"))?;
        Ok(SealKey(Zeroizing::new(key)))
    }

    /// The bytes of such a key, to be sealed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// Reads a key file: 32 bytes in base64, readable only by its owner.
    pub fn read(path: &Path) -> Result<SealKey> {
        let unreadable = |why: &dyn std::fmt::Display| {
            Error::unavailable("key_file", format!("cannot use the key file {}: {why}", path.display()))
        };
        let mode = fs::metadata(path).map_err(|error| unreadable(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(unreadable(&"others can read it; run chmod 600 on it"));
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| unreadable(&error))?);
        let bytes = Zeroizing::new(BASE64.decode(text.trim()).map_err(|_| unreadable(&"it is not base64"))?);
        let key: [u8; KEY] =
            bytes.as_slice().try_into().map_err(|_| unreadable(&"it does not contain 32 bytes"))?;
        Ok(SealKey(Zeroizing::new(key)))
    }

    /// Writes the key to a new file (0600) and flushes it to disk.
    pub fn write_new(&self, path: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::unavailable("key_file", format!("cannot write the key file {}: {error}", path.display()))
        };
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        writeln!(file, "{}", BASE64.encode(&self.0[..])).and_then(|()| file.sync_all()).map_err(failed)?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Stored to recognize a different key; the key cannot be derived from it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new().chain_update(b"landreeve seal key").chain_update(&self.0[..]).finalize();
        hex::encode(&digest[..12])
    }

    pub fn seal(&self, random: &dyn Random, context: &str, plain: &[u8]) -> Result<Sealed> {
        self.encrypt(random, context, plain).map(Sealed)
    }

    /// Encrypts what leaves the store, with a key that `secrets rotate` does not replace. `open` decrypts it.
    pub fn encrypt(&self, random: &dyn Random, context: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0_u8; NONCE];
        random.fill(&mut nonce);
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = self
            .cipher()
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| Error::internal("could not encrypt a secret"))?;
        let mut bytes = Vec::with_capacity(1 + NONCE + sealed.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let damaged =
            || Error::internal(format!("the secret of {context} cannot be decrypted with this key"));
        let [VERSION, rest @ ..] = sealed else { return Err(damaged()) };
        let (nonce, body) = rest.split_at_checked(NONCE).ok_or_else(damaged)?;
        let payload = Payload { msg: body, aad: context.as_bytes() };
        let plain = self.cipher().decrypt(XNonce::from_slice(nonce), payload).map_err(|_| damaged())?;
        Ok(Zeroizing::new(plain))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

/// How a key or session secret is stored: it has 256 random bits, so a plain hash is enough.
pub fn secret_hash(secret: &str) -> String {
    hex::encode(secret_digest(secret))
}

/// The same as bytes.
pub fn secret_digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// 256 random bits with a prefix that identifies them to people and secret scanners.
pub fn new_secret(random: &dyn Random, prefix: &str) -> String {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    random.fill(&mut bytes[..]);
    format!("{prefix}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::OsRandom;

    #[test]
    fn a_sealed_secret_opens_only_in_its_context() {
        let key = SealKey::generate(&OsRandom);
        let sealed = key.seal(&OsRandom, "datasource:7", b"hunter2").unwrap().into_bytes();
        assert_eq!(&key.open("datasource:7", &sealed).unwrap()[..], b"hunter2");
        assert!(key.open("datasource:8", &sealed).is_err());
        assert!(SealKey::generate(&OsRandom).open("datasource:7", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(key.open("datasource:7", &sealed[..cut]).is_err());
        }
    }

    #[test]
    fn a_stored_key_opens_what_it_encrypted() {
        let key = SealKey::generate(&OsRandom);
        let text = key.encrypt(&OsRandom, "property:7", b"hunter2").unwrap();
        let read = SealKey::from_bytes(key.as_bytes()).unwrap();
        assert_eq!(&read.open("property:7", &text).unwrap()[..], b"hunter2");
        assert!(read.open("property:8", &text).is_err());
        assert!(SealKey::from_bytes(&key.as_bytes()[1..]).is_err());
    }

    #[test]
    fn a_key_file_can_be_read_back_and_must_be_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        let key = SealKey::generate(&OsRandom);
        key.write_new(&path).unwrap();
        assert_eq!(SealKey::read(&path).unwrap().fingerprint(), key.fingerprint());
        assert!(key.write_new(&path).is_err(), "an existing key is never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(SealKey::read(&path).err().unwrap().message.contains("chmod 600"));
    }
}
