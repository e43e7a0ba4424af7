//! Kerberos behind core's `TicketVerifier` port: checks the tickets of clients with the keys in a keytab, and says which user
//! of the estate the client is.
//!
//! Belongs here: everything that depends on GSSAPI. Does not belong here: HTTP, users, permissions. The library is opened at
//! run time, so that a server without Kerberos does not need it.

#[expect(unsafe_code, reason = "GSSAPI is a library in C; this module calls it and is safe to use")]
mod ffi;
mod gate;
mod realms;

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::error::codes;
use landreeve_core::ids::BoxFuture;
use landreeve_core::tickets::{Proven, REFUSED, TicketVerifier};
use landreeve_core::{Error, Result};

use crate::ffi::{Accepted, Library};
use crate::gate::Gate;
pub use crate::realms::Realms;

/// How many tickets are checked at the same time.
const MAX_CONCURRENT: usize = 4;
/// How long a ticket waits for its turn.
const WAIT: Duration = Duration::from_secs(2);
/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest token, in bytes. Tickets with many groups have up to 48,000.
const MAX_TOKEN: usize = 64 * 1_024;

/// Why tickets cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "[kerberos] keytab is set, but the Kerberos library cannot be opened ({0}); install it (on Debian: \
         libgssapi-krb5-2)"
    )]
    Library(String),
    #[error("[kerberos] keytab = {0:?} cannot be used: {1}")]
    Keytab(String, String),
    #[error("[kerberos] realms: {0}")]
    Realms(String),
}

/// Checks tickets with the keys of a keytab.
pub struct Verifier {
    keys: Arc<Keys>,
    realms: Realms,
    gate: Gate,
}

impl Verifier {
    /// Opens the library and checks that the keytab has keys. `replays` is the file that records which tickets have been
    /// used; it is created with the first one.
    pub fn open(keytab: &Path, replays: &Path, realms: Realms) -> Result<Verifier, OpenError> {
        let unusable = |reason: String| OpenError::Keytab(keytab.display().to_string(), reason);
        let text = |kind: &str, path: &Path| {
            let name = [kind.as_bytes(), path.as_os_str().as_encoded_bytes()].concat();
            CString::new(name).map_err(|_| unusable(format!("{} contains a zero byte", path.display())))
        };
        let (keytab_name, replays) = (text("FILE:", keytab)?, text("file2:", replays)?);
        let library = Library::open().map_err(OpenError::Library)?;
        library.credential(&keytab_name, &replays).map_err(unusable)?;
        let keys = Arc::new(Keys { library, keytab: keytab_name, replays });
        Ok(Verifier { keys, realms, gate: Gate::new(MAX_CONCURRENT, WAIT, LIMIT) })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keytab", &self.keys.keytab).finish_non_exhaustive()
    }
}

impl TicketVerifier for Verifier {
    fn verify(&self, token: Vec<u8>) -> BoxFuture<'_, Result<Proven>> {
        Box::pin(async move {
            if let Some(reason) = unfit(&token) {
                return Err(refused(reason));
            }
            let keys = Arc::clone(&self.keys);
            let accepted = self.gate.run(move || keys.check(&token)).await??;
            match self.realms.user(&accepted.principal) {
                Some(user) => Ok(Proven { user, reply: accepted.reply }),
                None => Err(refused(&format!("[kerberos] realms does not map {:?}", accepted.principal))),
            }
        })
    }
}

/// Why the library is not asked about a token.
fn unfit(token: &[u8]) -> Option<&'static str> {
    /// How every message of NTLM begins, also one inside SPNEGO.
    const NTLM: &[u8] = b"NTLMSSP\0";
    if token.is_empty() {
        return Some("it is empty");
    }
    if token.len() > MAX_TOKEN {
        return Some("it is too long");
    }
    token.windows(NTLM.len()).any(|part| part == NTLM).then_some("it is one of NTLM")
}

/// The reason is only for the log: what the library says can name keys and files of this server.
fn refused(reason: &str) -> Error {
    tracing::info!(reason, "refused a Kerberos ticket");
    Error::unauthenticated(codes::INVALID_AUTH, REFUSED)
}

struct Keys {
    library: Library,
    keytab: CString,
    replays: CString,
}

impl Keys {
    /// The keytab is read for every ticket, so that new keys count without a restart.
    fn check(&self, token: &[u8]) -> Result<Accepted> {
        let (keytab, replays): (&CStr, &CStr) = (&self.keytab, &self.replays);
        let credential = self.library.credential(keytab, replays).map_err(|reason| {
            tracing::error!(reason, "could not read the keytab");
            Error::unavailable("kerberos", "Kerberos sign-on is not available: the keytab cannot be read")
        })?;
        credential.accept(token).map_err(|reason| refused(&reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_tokens_never_reach_the_library() {
        assert_eq!(unfit(b""), Some("it is empty"));
        assert_eq!(unfit(&[0; MAX_TOKEN]), None);
        assert_eq!(unfit(&[0; MAX_TOKEN + 1]), Some("it is too long"));
        for ntlm in [&b"NTLMSSP\0\x01\0\0\0"[..], b"\x60\x28\x06\x06+\x06\x01\x05\x05\x02NTLMSSP\0\x01"] {
            assert_eq!(unfit(ntlm), Some("it is one of NTLM"));
        }
        assert_eq!(unfit(b"NTLMSSP"), None);
    }

    /// On a machine without the library the error is about that.
    #[test]
    fn a_keytab_without_keys_is_an_error() {
        let realms = Realms::new([("EXAMPLE.COM".to_owned(), String::new())].into()).unwrap();
        let folder = Path::new("/nonexistent");
        let error = Verifier::open(&folder.join("keytab"), &folder.join("replays"), realms).unwrap_err();
        let library_is_there = Library::open().is_ok();
        assert_eq!(matches!(error, OpenError::Keytab(..)), library_is_there, "{error}");
        assert!(error.to_string().starts_with("[kerberos] keytab"), "{error}");
    }
}
