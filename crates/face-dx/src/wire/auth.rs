//! The body of `auth.info`.

use landreeve_estate::ops::Key;
use serde::Serialize;
use utoipa::ToSchema;

use super::time::seconds;

#[derive(Debug, Serialize, ToSchema)]
pub struct AuthInfo {
    ok: bool,
    auth: Token,
    account: Account,
}

#[derive(Debug, Serialize, ToSchema)]
struct Token {
    /// `account_web_api_token` or `personal_access_token`.
    token_type: &'static str,
    token_name: String,
    scopes: Vec<String>,
    /// This server's keys do not expire.
    expires_at: Option<String>,
    created_at: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Account {
    name: String,
}

impl AuthInfo {
    pub fn new(key: Key, account: String) -> AuthInfo {
        let personal = key.user.is_some();
        AuthInfo {
            ok: true,
            auth: Token {
                token_type: if personal { "personal_access_token" } else { "account_web_api_token" },
                token_name: key.name,
                scopes: key.labels,
                expires_at: None,
                created_at: seconds(key.created_at),
            },
            account: Account { name: account },
        }
    }
}
