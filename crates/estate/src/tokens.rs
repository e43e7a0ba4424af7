//! Signed tokens: short-lived ones for one piece of data, and long-lived ones that identify a key's row.
//! Signing keys carry a `kid`; after a rotation the old one verifies until its last token has expired.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use landreeve_core::error::codes;
use landreeve_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::Estate;
use crate::secrets::SealedColumn;
use crate::{args, bootstrap, sealed_column};

pub const SIGNING_KEYS: SealedColumn = sealed_column!("signing_keys", "kid", "secret_sealed", "signing_key");

/// How long a data token is valid, in seconds.
pub const DATA_TOKEN_SECONDS: i64 = 300;

/// How long the token of a link is valid at most, in seconds.
const MAX_LINK_SECONDS: i64 = 86_400;

/// What tokens with a time limit are for.
pub const DATA: &str = "data";
pub const LINK: &str = "link";

/// How long a token of this purpose can be valid.
fn lifetime(purpose: &str) -> i64 {
    if purpose == LINK { MAX_LINK_SECONDS } else { DATA_TOKEN_SECONDS }
}

#[derive(Debug, Serialize, Deserialize)]
struct DataClaims {
    /// The data key that it gives access to.
    key: String,
    exp: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct UserClaims {
    jti: String,
    sub: String,
    iat: i64,
}

/// The newest signing key for a purpose, created on first use.
async fn signing_key(estate: &Estate, purpose: &'static str) -> Result<(String, Vec<u8>)> {
    if let Some(found) = newest(estate, purpose).await? {
        return Ok(found);
    }
    rotate(estate, purpose, estate.now()).await?;
    newest(estate, purpose).await?.ok_or_else(|| Error::internal("a signing key disappeared"))
}

async fn newest(estate: &Estate, purpose: &'static str) -> Result<Option<(String, Vec<u8>)>> {
    let row = estate
        .store()
        .read()
        .await?
        .opt(
            "SELECT kid, secret_sealed FROM signing_keys WHERE purpose = $1 AND verifies_until IS NULL \
             ORDER BY created_at DESC, kid LIMIT 1",
            args![purpose],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let kid = row.text(0)?;
    let secret = estate.unseal(&context(&kid), &row.bytes(1)?)?.to_vec();
    Ok(Some((kid, secret)))
}

fn context(kid: &str) -> String {
    format!("signing_key:{kid}")
}

/// Creates a new key; older ones verify for as long as their last token is valid.
pub async fn rotate(estate: &Estate, purpose: &'static str, now: Timestamp) -> Result<()> {
    let mut secret = [0_u8; 32];
    estate.random().fill(&mut secret);
    let mut name = [0_u8; 6];
    estate.random().fill(&mut name);
    let kid = hex::encode(name);
    let fingerprint = estate.seal_key().fingerprint();
    let sealed = estate.seal(&context(&kid), &secret)?;
    let until = now.as_microsecond() + lifetime(purpose) * 1_000_000;
    estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                bootstrap::still_sealed_with(tx, &fingerprint).await?;
                tx.exec(
                    "UPDATE signing_keys SET verifies_until = $2 WHERE purpose = $1 AND verifies_until IS NULL",
                    args![purpose, until],
                )
                .await?;
                tx.exec(
                    "INSERT INTO signing_keys (kid, purpose, secret_sealed, created_at) VALUES ($1, $2, $3, $4)",
                    args![kid, purpose, sealed, now],
                )
                .await
                .map(drop)
            })
        })
        .await
}

pub async fn issue_data(estate: &Estate, data_key: &str) -> Result<String> {
    issue(estate, DATA, data_key, estate.now().as_second() + DATA_TOKEN_SECONDS).await
}

/// A token for a link to one piece of data, valid until then or for a day.
pub async fn issue_link(estate: &Estate, key: &str, until: Timestamp) -> Result<String> {
    let latest = estate.now().as_second() + MAX_LINK_SECONDS;
    issue(estate, LINK, key, until.as_second().min(latest)).await
}

async fn issue(estate: &Estate, purpose: &'static str, key: &str, exp: i64) -> Result<String> {
    let (kid, secret) = signing_key(estate, purpose).await?;
    let claims = DataClaims { key: key.to_owned(), exp };
    let header = Header { kid: Some(kid), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).map_err(Error::internal)
}

/// The data key of a token. The reason for a failure is not for the caller.
pub async fn open_data(estate: &Estate, token: &str) -> Result<String> {
    open(estate, DATA, token).await
}

/// What the token of a link is for.
pub async fn open_link(estate: &Estate, token: &str) -> Result<String> {
    open(estate, LINK, token).await
}

async fn open(estate: &Estate, purpose: &'static str, token: &str) -> Result<String> {
    let refused =
        || Error::unauthenticated(codes::INVALID_AUTH, "the data access token is invalid or has expired");
    let header = jsonwebtoken::decode_header(token).map_err(|_| refused())?;
    let kid = header.kid.ok_or_else(refused)?;
    let row = estate
        .store()
        .read()
        .await?
        .opt(
            "SELECT secret_sealed FROM signing_keys WHERE kid = $1 AND purpose = $3 \
             AND (verifies_until IS NULL OR verifies_until > $2)",
            args![&kid, estate.now(), purpose],
        )
        .await?;
    let secret = estate.unseal(&context(&kid), &row.ok_or_else(refused)?.bytes(0)?)?;
    let mut validation = Validation::new(Algorithm::HS256);
    // The library uses the system clock; the estate has its own.
    validation.validate_exp = false;
    let data = jsonwebtoken::decode::<DataClaims>(token, &DecodingKey::from_secret(&secret), &validation)
        .map_err(|_| refused())?;
    if data.claims.exp <= estate.now().as_second() {
        return Err(refused());
    }
    Ok(data.claims.key)
}

/// A token that identifies a key's row and its user. It is valid while the row exists: the row stores its hash.
pub async fn issue_user(estate: &Estate, key: i64, user: i64) -> Result<String> {
    let (kid, secret) = signing_key(estate, "user").await?;
    let claims = UserClaims { jti: key.to_string(), sub: user.to_string(), iat: estate.now().as_second() };
    let header = Header { kid: Some(kid), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).map_err(Error::internal)
}
