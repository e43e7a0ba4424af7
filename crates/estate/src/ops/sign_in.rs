//! Authentication by key, password, ticket, session or token. Each function returns an `OpCtx` or the reason why not.

use landreeve_core::ids::{OuId, SessionId};
use landreeve_core::{Error, Noun, OpCtx, Result, Secret};
use uuid::Uuid;

use crate::Estate;
use crate::estate::OwnedAct;
use crate::identity::authentication;
use crate::identity::{Api, Origin, ous, sessions};
use crate::secrets::secret_hash;

pub use crate::identity::authentication::{bad_credential, by_network, no_credential};

/// The error for a request whose credential is missing or not supported by the dialect.
pub fn refused(estate: &Estate, origin: Origin, reason: Option<&str>) -> Error {
    match reason {
        None => no_credential(estate, origin),
        Some(reason) => bad_credential(estate, origin, reason),
    }
}

/// By the key of an API. `ou` is the unit that the request names, for keys that act as a user.
pub async fn by_key(
    estate: &Estate,
    api: Api,
    secret: &str,
    ou: Option<Uuid>,
    origin: Origin,
) -> Result<OpCtx> {
    authentication::by_key(estate, api, secret, ou, origin).await
}

pub async fn by_password(
    estate: &Estate,
    name: &str,
    password: Secret,
    ou: Option<Uuid>,
    origin: Origin,
) -> Result<OpCtx> {
    authentication::by_password(estate, name, password, ou, origin).await
}

/// By the name that a Kerberos ticket has proven: an enabled user of this name, without a password. It is refused like a ticket
/// that is not valid, so that nothing says whether the user exists.
pub async fn by_principal(estate: &Estate, name: &str, origin: Origin) -> Result<OpCtx> {
    authentication::by_principal(estate, name, origin).await
}

/// Creates a session for a caller who signed in with a password or a ticket. Returns the secret, which is shown only once.
///
/// The secret is 128 random bits in uppercase hexadecimal, like the dialects' cookies.
pub async fn session_open(estate: &Estate, ctx: &OpCtx, face: &'static str) -> Result<String> {
    let user = ctx.actor().user().ok_or_else(|| Error::internal("a session without a user"))?;
    let mut bytes = [0_u8; 16];
    estate.random().fill(&mut bytes);
    let secret = hex::encode(bytes).to_uppercase();
    let (hash, id, now) =
        (secret_hash(&secret), estate.next::<SessionId>(SessionId::KIND).await?, estate.now());
    let act =
        OwnedAct { action: "signed_in", noun: Noun::USER, noun_id: Some(user.0), detail: face.to_owned() };
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move { sessions::insert(tx, id, hash, user, face, now).await })
        })
        .await?;
    Ok(secret)
}

/// By a session's secret; using it extends the session.
pub async fn by_session(estate: &Estate, secret: &str, face: &'static str, origin: Origin) -> Result<OpCtx> {
    let now = estate.now();
    let found = sessions::find(&mut estate.store().read().await?, &secret_hash(secret), face, now).await?;
    let Some(session) = found else {
        return Err(bad_credential(estate, origin, "the session has ended; sign in again"));
    };
    if now.as_microsecond() - session.seen_at.as_microsecond() > sessions::TOUCH {
        estate
            .store()
            .write(move |tx| Box::pin(async move { sessions::touch(tx, session.id, now).await }))
            .await?;
    }
    authentication::by_user(estate, session.user, None, origin).await
}

/// Ends one of the caller's sessions. Ending one that does not exist succeeds.
pub async fn session_close(estate: &Estate, ctx: &OpCtx, secret: &str, face: &'static str) -> Result<()> {
    let user = ctx.actor().user().ok_or_else(|| Error::internal("a session without a user"))?;
    let hash = secret_hash(secret);
    let act = OwnedAct::new("signed_out", Noun::USER, user.0, face);
    estate
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let ended = sessions::delete(tx, &hash, user).await?;
                Ok(((), (ended > 0).then_some(act)))
            })
        })
        .await
}

/// The machine's operator, for the command line.
pub fn operator(estate: &Estate) -> OpCtx {
    authentication::operator(estate.uuid())
}

/// The server's own work.
pub fn system(estate: &Estate) -> OpCtx {
    authentication::system(estate.uuid())
}

/// The operator in one unit.
pub async fn operator_in(estate: &Estate, ou: Uuid) -> Result<OpCtx> {
    let found = ous::by_uuid(&mut estate.store().read().await?, ou).await?;
    let found = found.ok_or_else(|| Error::not_found("organizational unit"))?;
    Ok(authentication::operator_in(estate.uuid(), &found))
}

/// The server's own work in one unit.
pub async fn system_in(estate: &Estate, ou: OuId) -> Result<OpCtx> {
    let found = ous::get(&mut estate.store().read().await?, ou).await?;
    let found = found.ok_or_else(|| Error::not_found("organizational unit"))?;
    Ok(authentication::system_in(estate.uuid(), &found))
}

/// The server's work in one unit for a request that was let in by its network.
pub async fn for_network_in(estate: &Estate, ctx: &OpCtx, ou: OuId) -> Result<OpCtx> {
    let found = ous::get(&mut estate.store().read().await?, ou).await?;
    let found = found.ok_or_else(|| Error::not_found("organizational unit"))?;
    Ok(authentication::for_network(ctx, &found))
}

/// Signs a token that gives access to one piece of data for five minutes.
pub async fn data_token(estate: &Estate, data_key: &str) -> Result<String> {
    crate::tokens::issue_data(estate, data_key).await
}

/// Signs the token of a link to one piece of data, valid until then and at most for a day.
pub async fn link_token(estate: &Estate, key: &str, until: jiff::Timestamp) -> Result<String> {
    crate::tokens::issue_link(estate, key, until).await
}

/// What the token of a link gives access to.
pub async fn open_link_token(estate: &Estate, token: &str) -> Result<String> {
    crate::tokens::open_link(estate, token).await
}

/// A request that was let in by a link to something of this unit. It has no permissions.
pub async fn for_link(estate: &Estate, origin: Origin, ou: OuId) -> Result<OpCtx> {
    let found = ous::get(&mut estate.store().read().await?, ou).await?;
    let found = found.ok_or_else(|| Error::not_found("organizational unit"))?;
    Ok(authentication::powerless(origin, found.id, &found.path))
}

/// The data key that a token gives access to.
pub async fn open_data_token(estate: &Estate, token: &str) -> Result<String> {
    crate::tokens::open_data(estate, token).await
}
