//! The port for single sign-on by tickets (Kerberos): whom a token proves its sender to be.

use std::fmt::Debug;

use crate::error::Result;
use crate::ids::BoxFuture;

/// The message for every ticket that does not sign anyone in. It is the same for a ticket that is not valid and for one
/// whose user does not exist, so as not to reveal which names exist.
pub const REFUSED: &str = "the Kerberos ticket is not accepted; it may have expired or been used before";

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The name of the user in this estate. The user may not exist.
    pub user: String,
    /// The token that proves to the client who this server is.
    pub reply: Option<Vec<u8>>,
}

/// Checks the tokens of clients.
pub trait TicketVerifier: Debug + Send + Sync + 'static {
    /// `token` is a token of GSSAPI: one of Kerberos, or one of SPNEGO around it. Each is accepted only once. Errors are
    /// *unauthenticated* for a token that is not accepted, *rate limited* and *unavailable*.
    fn verify(&self, token: Vec<u8>) -> BoxFuture<'_, Result<Proven>>;
}
