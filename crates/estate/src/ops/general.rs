//! The settings of the protection API: those of its dialect that the estate's own settings do not have. One has an effect:
//! the addresses from which the API can be reached.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use landreeve_core::error::Faults;
use landreeve_core::{Action, Error, Input, Noun, OpCtx, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Estate;
use crate::args;
use crate::estate::OwnedAct;
use crate::outbound::Network;
use crate::store::{Conn, Tx};

/// Maximum number of networks.
pub const MAX_NETWORKS: usize = 100;

const DIALECT: &str = "clumio";
const NAME: &str = "general";

/// Stored as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct General {
    version: u32,
    /// Kept without effect, as the next two are.
    pub auto_logout_seconds: i64,
    pub password_expiration_seconds: i64,
    pub data_groups: Value,
    /// Addresses and networks.
    pub allowlist: Vec<String>,
}

impl Default for General {
    fn default() -> General {
        General {
            version: 1,
            auto_logout_seconds: 900,
            password_expiration_seconds: 7_776_000,
            data_groups: Value::Null,
            allowlist: ["0.0.0.0/0", "::/0"].map(str::to_owned).to_vec(),
        }
    }
}

/// `None` keeps a setting.
#[derive(Debug, Clone, Default)]
pub struct GeneralChange {
    pub auto_logout_seconds: Option<i64>,
    pub password_expiration_seconds: Option<i64>,
    pub data_groups: Option<Value>,
    pub allowlist: Option<Vec<String>>,
}

/// The settings, with what they mean.
#[derive(Debug)]
pub(crate) struct Known {
    general: General,
    networks: Vec<Network>,
}

impl Known {
    /// An address that is not known is only in networks that contain 0.0.0.0.
    fn allows(networks: &[Network], address: Option<IpAddr>) -> bool {
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        networks.iter().any(|network| network.trusts(address))
    }
}

async fn read(conn: &mut Conn) -> Result<General> {
    let sql = "SELECT value FROM dialect_settings WHERE dialect = $1 AND name = $2";
    match conn.opt(sql, args![DIALECT, NAME]).await? {
        Some(row) => serde_json::from_str(&row.text(0)?).map_err(Error::internal),
        None => Ok(General::default()),
    }
}

pub(crate) async fn load(conn: &mut Conn) -> Result<Arc<Known>> {
    let general = read(conn).await?;
    let networks = general.allowlist.iter().map(|text| Network::parse(text)).collect::<Result<_>>()?;
    Ok(Arc::new(Known { general, networks }))
}

pub async fn general_get(estate: &Estate, ctx: &OpCtx) -> Result<General> {
    estate.require_some(ctx, Noun::SETTING, Action::VIEW).await?;
    Ok(estate.general().await?.general.clone())
}

/// Changes settings, all or none. The caller must stay among those who can reach the API.
pub async fn general_update(
    estate: &Estate,
    ctx: &OpCtx,
    change: impl Into<Input<GeneralChange>>,
) -> Result<General> {
    estate.require_everywhere(ctx, Noun::SETTING, Action::MANAGE).await?;
    let change = change.into().checked(|change, faults| check(ctx, change, faults))?;
    let named = [
        ("auto_logout_duration", change.auto_logout_seconds.is_some()),
        ("password_expiration_duration", change.password_expiration_seconds.is_some()),
        ("organizational_unit_data_groups", change.data_groups.is_some()),
        ("ip_allowlist", change.allowlist.is_some()),
    ];
    let named: Vec<&str> = named.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    let act = OwnedAct { action: "updated", noun: Noun::SETTING, noun_id: None, detail: named.join(", ") };
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                // First, so that a concurrent change waits, and each builds on the other.
                tx.bump_epoch().await?;
                let before = read(tx).await?;
                let after = General {
                    version: 1,
                    auto_logout_seconds: change.auto_logout_seconds.unwrap_or(before.auto_logout_seconds),
                    password_expiration_seconds: change
                        .password_expiration_seconds
                        .unwrap_or(before.password_expiration_seconds),
                    data_groups: change.data_groups.unwrap_or(before.data_groups),
                    allowlist: change.allowlist.unwrap_or(before.allowlist),
                };
                write(tx, &after).await?;
                Ok(after)
            })
        })
        .await
}

async fn write(tx: &mut Tx, general: &General) -> Result<()> {
    let value = serde_json::to_string(general).map_err(Error::internal)?;
    let sql = "INSERT INTO dialect_settings (dialect, name, value) VALUES ($1, $2, $3) \
               ON CONFLICT (dialect, name) DO UPDATE SET value = excluded.value";
    tx.exec(sql, args![DIALECT, NAME, value]).await.map(drop)
}

fn check(ctx: &OpCtx, change: &GeneralChange, faults: &mut Faults) {
    let Some(allowlist) = &change.allowlist else { return };
    if allowlist.len() > MAX_NETWORKS {
        faults.push("allowlist", "length", format!("must have at most {MAX_NETWORKS} items"));
        return;
    }
    let mut networks = Vec::new();
    for (index, text) in allowlist.iter().enumerate() {
        match Network::parse(text) {
            Ok(network) => networks.push(network),
            Err(_) => {
                let message = "must be an IP address or a network such as 192.0.2.0/24";
                faults.push(format!("allowlist.{index}"), "format", message);
            }
        }
    }
    let own = ctx.authority().is_operator() || Known::allows(&networks, ctx.address());
    if networks.len() == allowlist.len() && !own {
        let address = ctx.address().map(|address| address.to_canonical().to_string());
        let address = address.unwrap_or_else(|| "which is not known".to_owned());
        faults.push("allowlist", "shuts_out", format!("must contain your own address, {address}"));
    }
}

/// Refuses a caller of the API whose address is not allowed.
pub async fn require_allowed(estate: &Estate, ctx: &OpCtx) -> Result<()> {
    let known = estate.general_for(ctx).await?;
    if Known::allows(&known.networks, ctx.address()) {
        return Ok(());
    }
    let error = Error::forbidden("requests from this address are not allowed");
    Err(estate.refused(ctx, Noun::SETTING, None, error).await)
}

/// The same for a request without a caller, such as that of a link.
pub async fn require_allowed_address(estate: &Estate, address: Option<IpAddr>) -> Result<()> {
    let known = estate.general().await?;
    if Known::allows(&known.networks, address) {
        return Ok(());
    }
    estate.authentication().strangers().count(address, "address_not_allowed");
    Err(Error::forbidden("requests from this address are not allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read() {
        let fixture = r#"{"version":1,"auto_logout_seconds":900,"password_expiration_seconds":7776000,"data_groups":null,"allowlist":["192.0.2.0/24"]}"#;
        let general: General = serde_json::from_str(fixture).unwrap();
        assert_eq!(serde_json::to_string(&general).unwrap(), fixture);
    }

    #[test]
    fn an_unknown_address_is_only_in_the_whole() {
        let of = |texts: &[&str]| texts.iter().map(|text| Network::parse(text).unwrap()).collect::<Vec<_>>();
        assert!(Known::allows(&of(&["0.0.0.0/0"]), None));
        assert!(!Known::allows(&of(&["192.0.2.0/24", "::/0"]), None));
        let mapped = Some("::ffff:192.0.2.1".parse().unwrap());
        assert!(Known::allows(&of(&["192.0.2.0/24"]), mapped));
        assert!(!Known::allows(&of(&["0.0.0.0/0"]), Some("2001:db8::1".parse().unwrap())));
    }
}
