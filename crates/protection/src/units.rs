//! What happens to backups, policies and alerts when datasources move between units, and when a unit is deleted.

use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::{Error, Result};
use landreeve_estate::args;
use landreeve_estate::plane::{MovedDatasource, UnitHooks};
use landreeve_estate::store::Tx;

pub const HOOKS: UnitHooks = UnitHooks { moved, vacated };

/// Its backups and alerts go along. A policy of a unit that it leaves would no longer be for it.
fn moved<'t>(tx: &'t mut Tx, datasource: &'t MovedDatasource) -> BoxFuture<'t, Result<()>> {
    Box::pin(async move {
        let sql = "SELECT p.name, o.path FROM policy_assignments a JOIN policies p ON p.id = a.policy_id \
                   JOIN ous o ON o.id = p.ou_id WHERE a.datasource_id = $1";
        if let Some(row) = tx.opt(sql, args![datasource.id]).await? {
            let (policy, path) = (row.text(0)?, row.text(1)?);
            if !datasource.to.path.starts_with(&path) {
                let name = &datasource.name;
                let message = format!(
                    "{name} has the policy {policy} of an organizational unit that it would leave; unassign it first"
                );
                return Err(Error::conflict("policy_of_other_unit", message));
            }
        }
        let to = datasource.to.id;
        tx.exec("UPDATE assets SET ou_id = $2 WHERE uuid = $1", args![datasource.uuid.to_string(), to])
            .await?;
        tx.exec("UPDATE alerts SET ou_id = $2 WHERE datasource_id = $1", args![datasource.id, to]).await?;
        Ok(())
    })
}

/// Assets without a datasource and without backups, and cleared alerts, keep no unit.
fn vacated(tx: &mut Tx, unit: OuId, parent: OuId) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        let sql = "UPDATE assets SET ou_id = $2 WHERE ou_id = $1 \
                   AND NOT EXISTS (SELECT 1 FROM datasources d WHERE d.uuid = assets.uuid) \
                   AND NOT EXISTS (SELECT 1 FROM backups b WHERE b.asset_id = assets.id AND b.deleted_at IS NULL)";
        tx.exec(sql, args![unit, parent]).await?;
        let sql = "UPDATE alerts SET ou_id = $2 WHERE ou_id = $1 AND status = 'cleared'";
        tx.exec(sql, args![unit, parent]).await.map(drop)
    })
}
