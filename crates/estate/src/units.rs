//! Changes of organizational units that a run carries out: datasources that move between units, and the end of a unit.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, DatasourceId, GrantId, OuId, RoleId, UserId};
use landreeve_core::{Action, Category, Error, ErrorKind, Noun, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::builtin::ADMINISTRATOR;
use crate::estate::OwnedAct;
use crate::events::{self, DatasourceChange, Event};
use crate::identity::grants::{self, NewGrant, Subject};
use crate::identity::{Ou, ous};
use crate::ops::{datasources, users};
use crate::plane::{MovedDatasource, UnitHooks};
use crate::runs::{Done, Executor, Job, KindSpec, Outcome, Retry};
use crate::store::{Conn, Dialect, Tx};
use crate::{Estate, args};

pub const ORGANIZATIONAL_UNIT_UPDATE: KindSpec = KindSpec {
    time_limit: Some(Duration::from_secs(300)),
    retry: Retry { attempts: 5, backoff: Duration::from_secs(2) },
    keep_record: Duration::from_secs(90 * 86_400),
    ..KindSpec::new("organizational_unit_update", Category::Job)
};

/// Maximum number of units.
const MAX_UNITS: i64 = 10_000;
/// Maximum number of units above one another.
const MAX_DEPTH: usize = 20;

/// The input of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum StoredUnitChange {
    /// Each datasource with the unit that it moves to.
    Move {
        version: u32,
        unit: i64,
        moves: Vec<(i64, i64)>,
    },
    Delete {
        version: u32,
        unit: i64,
    },
}

impl StoredUnitChange {
    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredUnitChange> {
        serde_json::from_str(text).map_err(Error::internal)
    }
}

/// Carries changes out.
pub struct Changing(pub Estate);

impl Executor for Changing {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            match StoredUnitChange::parse(&job.run.input)? {
                StoredUnitChange::Move { unit, moves, .. } => {
                    let moves: Vec<Move> = moves.into_iter().map(Move::from).collect();
                    move_all(&self.0, job, OuId(unit), moves).await?;
                }
                StoredUnitChange::Delete { unit, .. } => delete(&self.0, job, OuId(unit)).await?,
            }
            Ok(Done::default())
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub datasource: DatasourceId,
    pub to: OuId,
}

impl From<(i64, i64)> for Move {
    fn from((datasource, to): (i64, i64)) -> Move {
        Move { datasource: DatasourceId(datasource), to: OuId(to) }
    }
}

async fn move_all(estate: &Estate, job: &Job, unit: OuId, moves: Vec<Move>) -> Result<()> {
    for change in &moves {
        // Callers who have lost the permission since then change nothing. What was deleted is left out.
        let datasource = match datasources::load(estate, change.datasource).await {
            Ok(datasource) => datasource,
            Err(error) if error.kind == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let (noun, id) = (Noun::DATASOURCE, change.datasource.0);
        estate.require(job.ctx(), noun, Action::MANAGE, &datasource.ou_path, id).await?;
        let to = ous::get(&mut estate.store().read().await?, change.to).await?;
        let to = to.ok_or_else(|| Error::not_found("organizational unit"))?;
        estate.require(job.ctx(), noun, Action::MANAGE, &to.path, 0).await?;
    }
    let (hooks, now) = (estate.registry().unit_hooks().to_vec(), estate.now());
    let detail = format!("moved {} datasources", moves.len());
    estate
        .change(job.ctx(), OwnedAct::new("updated", Noun::OU, unit.0, detail), move |tx| {
            Box::pin(async move { carry_out(tx, &moves, &hooks, now).await })
        })
        .await
}

/// Moves datasources in this transaction.
pub async fn carry_out(tx: &mut Tx, moves: &[Move], hooks: &[UnitHooks], now: Timestamp) -> Result<()> {
    // First, so that a concurrent change waits.
    tx.bump_epoch().await?;
    for Move { datasource, to } in moves {
        let to = ous::get(tx, *to).await?.ok_or_else(|| Error::not_found("organizational unit"))?;
        let known = "SELECT uuid, name FROM datasources WHERE id = $1 AND builtin IS NULL";
        let Some(row) = tx.opt(known, args![*datasource]).await? else { continue };
        let moved = MovedDatasource { id: *datasource, uuid: row.uuid(0)?, name: row.text(1)?, to };
        for sql in [
            "UPDATE datasources SET ou_id = $2, row_version = row_version + 1 WHERE id = $1",
            "UPDATE schedules SET ou_id = $2 WHERE noun = 'datasource' AND noun_id = $1",
            // With the permissions that their submitter has there.
            "UPDATE runs SET ou_id = $2 WHERE noun = 'datasource' AND noun_id = $1 AND state IN ('held', 'queued')",
        ] {
            tx.exec(sql, args![*datasource, moved.to.id]).await?;
        }
        for hooks in hooks {
            (hooks.moved)(tx, &moved).await?;
        }
        let told = Event::DatasourceChanged { datasource: *datasource, change: DatasourceChange::Updated };
        events::append(tx, moved.to.id, &told, now).await?;
    }
    Ok(())
}

/// Runs of a deleted unit that are moved to its parent in one transaction.
const BATCH: i64 = 1_000;

async fn delete(estate: &Estate, job: &Job, id: OuId) -> Result<()> {
    let found = ous::get(&mut estate.store().read().await?, id).await?;
    let Some(unit) = found else { return Ok(()) };
    let parent = above(&mut estate.store().read().await?, &unit).await?;
    estate.require(job.ctx(), Noun::OU, Action::MANAGE, &parent.path, parent.id.0).await?;
    remove(estate, job.ctx(), unit, parent).await
}

/// Deletes a unit that is empty. Its finished runs then belong to its parent.
pub async fn remove(estate: &Estate, ctx: &landreeve_core::OpCtx, unit: Ou, parent: Ou) -> Result<()> {
    let (id, to) = (unit.id, parent.id);
    rehearse(estate, Rehearsal::Delete(unit.clone(), parent)).await?;
    loop {
        let moved = estate
            .store()
            .write(move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE runs SET ou_id = $2 WHERE id IN (SELECT id FROM runs WHERE ou_id = $1 \
                               AND finished_at IS NOT NULL LIMIT $3)";
                    tx.exec(sql, args![id, to, BATCH]).await
                })
            })
            .await?;
        if moved == 0 {
            break;
        }
    }
    let hooks = estate.registry().unit_hooks().to_vec();
    estate
        .change(ctx, OwnedAct::new("deleted", Noun::OU, id.0, unit.name.clone()), move |tx| {
            Box::pin(async move {
                tx.bump_epoch().await?;
                vacate(tx, &unit, to, &hooks).await?;
                tx.exec("DELETE FROM ous WHERE id = $1", args![id]).await.map(drop)
            })
        })
        .await
}

/// The unit above. Nothing is above the root, which cannot be deleted.
pub async fn above(conn: &mut Conn, unit: &Ou) -> Result<Ou> {
    let root = || Error::conflict("root", "the global organizational unit cannot be deleted");
    let parent = ous::get(conn, unit.parent.ok_or_else(root)?).await?;
    parent.ok_or_else(|| Error::not_found("organizational unit"))
}

/// Fails unless nothing belongs to the unit any more, except finished runs.
async fn vacate(tx: &mut Tx, unit: &Ou, parent: OuId, hooks: &[UnitHooks]) -> Result<()> {
    for hooks in hooks {
        (hooks.vacated)(tx, unit.id, parent).await?;
    }
    let mut left = Vec::new();
    for (table, column) in references(tx).await? {
        let unfinished = if table == "runs" { " AND finished_at IS NULL" } else { "" };
        let sql = format!("SELECT 1 FROM {table} WHERE {column} = $1{unfinished} LIMIT 1");
        if !tx.select(sql, args![unit.id]).await?.is_empty() {
            left.push(match table.as_str() {
                "ous" => "organizational units".to_owned(),
                "runs" => "tasks that have not ended".to_owned(),
                other => other.replace('_', " "),
            });
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let message = format!("the organizational unit {} is not empty: it has {}", unit.name, left.join(", "));
    Err(Error::conflict("not_empty", message))
}

/// The tables, with their columns, whose rows keep a unit from being deleted: those that refer to it in the schema.
async fn references(conn: &mut Conn) -> Result<Vec<(String, String)>> {
    let sql = match conn.dialect() {
        Dialect::Sqlite => {
            "SELECT m.name, f.\"from\" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f \
             WHERE m.type = 'table' AND f.\"table\" = 'ous' AND f.on_delete <> 'CASCADE' ORDER BY 1, 2"
        }
        Dialect::Postgres => {
            "SELECT CAST(CAST(c.conrelid AS regclass) AS text), CAST(a.attname AS text) FROM pg_constraint c \
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] \
             WHERE c.contype = 'f' AND c.confrelid = CAST('ous' AS regclass) AND c.confdeltype <> 'c' ORDER BY 1, 2"
        }
    };
    let rows = conn.all(sql, args![]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}

/// What a request changes immediately.
#[derive(Debug, Clone)]
pub struct Immediate {
    pub unit: OuId,
    pub create: Option<Ou>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub grants: Vec<(GrantId, UserId, RoleId)>,
    pub revokes: Vec<(UserId, RoleId)>,
    pub now: Timestamp,
}

/// Makes these changes in this transaction.
pub async fn apply(tx: &mut Tx, change: Immediate) -> Result<()> {
    // First, so that a concurrent change waits.
    tx.bump_epoch().await?;
    let (unit, now) = (change.unit, change.now);
    if let Some(ou) = &change.create {
        create(tx, ou).await?;
    }
    for (column, value) in [("name", change.name), ("description", change.description)] {
        if let Some(value) = value {
            let sql = match column {
                "name" => "UPDATE ous SET name = $2, updated_at = $3 WHERE id = $1",
                _ => "UPDATE ous SET description = $2, updated_at = $3 WHERE id = $1",
            };
            if tx.exec(sql, args![unit, value, now]).await? == 0 {
                return Err(Error::not_found("organizational unit"));
            }
        }
    }
    for (user, role) in &change.revokes {
        grants::revoke_role(tx, Subject::User(*user), *role, unit).await?;
    }
    for (id, user, role) in &change.grants {
        let subject = Subject::User(*user);
        let held = grants::assignments(tx, subject).await?;
        if !held.iter().any(|held| held.role == Some(*role) && held.ou == Some(unit)) {
            grants::insert(tx, *id, subject, &NewGrant::Role(*role, unit), now).await?;
        }
    }
    if unit == OuId::ROOT && change.revokes.iter().any(|(_, role)| *role == ADMINISTRATOR) {
        users::keep_an_administrator(tx).await?;
    }
    Ok(())
}

/// Creates a unit, if there is room for it.
pub async fn create(tx: &mut Tx, ou: &Ou) -> Result<()> {
    let count = tx.one("SELECT count(*) FROM ous", args![]).await?.int(0)?;
    if count >= MAX_UNITS {
        let message = format!("there are {MAX_UNITS} organizational units, which is the most");
        return Err(Error::conflict("too_many", message));
    }
    if ou.path.matches('/').count() > MAX_DEPTH + 1 {
        let message = format!("organizational units can be at most {MAX_DEPTH} deep");
        return Err(Error::conflict("too_deep", message));
    }
    ous::insert(tx, ou).await
}

/// A change that is tried and undone, so that a request that cannot be carried out is refused immediately.
#[derive(Clone)]
pub enum Rehearsal {
    Change(Immediate, Vec<Move>),
    Delete(Ou, Ou),
}

const REHEARSED: &str = "rehearsed";

pub async fn rehearse(estate: &Estate, what: Rehearsal) -> Result<()> {
    let (hooks, now) = (estate.registry().unit_hooks().to_vec(), estate.now());
    let tried = estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                match what {
                    Rehearsal::Change(change, moves) => {
                        apply(tx, change).await?;
                        carry_out(tx, &moves, &hooks, now).await?;
                    }
                    Rehearsal::Delete(unit, parent) => vacate(tx, &unit, parent.id, &hooks).await?,
                }
                // An error undoes it.
                Err::<(), Error>(Error::conflict(REHEARSED, "this was only a rehearsal"))
            })
        })
        .await;
    match tried {
        Err(error) if error.code == REHEARSED => Ok(()),
        other => other,
    }
}

/// The datasource with this UUID.
pub async fn datasource(conn: &mut Conn, uuid: Uuid) -> Result<Option<DatasourceId>> {
    let sql = "SELECT id FROM datasources WHERE uuid = $1 AND builtin IS NULL";
    conn.opt(sql, args![uuid.to_string()]).await?.map(|row| row.id(0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read() {
        for fixture in [
            r#"{"change":"move","version":1,"unit":7,"moves":[[3,7],[4,1]]}"#,
            r#"{"change":"delete","version":1,"unit":7}"#,
        ] {
            assert_eq!(StoredUnitChange::parse(fixture).unwrap().as_json().unwrap(), fixture);
        }
    }
}
