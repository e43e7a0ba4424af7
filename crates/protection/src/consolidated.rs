//! Alerts with the same cause about the same database, or about its backups, as one. A group is cleared when all of its
//! alerts are.

use jiff::Timestamp;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Action, Error, OpCtx, Page, PageOf, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::Visibility;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Row, Tx, Where};
use uuid::Uuid;

use crate::alerts::{AlertOrder, MAX_NOTES, PLACE};
use crate::ids::AlertId;
use crate::nouns::ALERT;
use crate::plane::Protection;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertGroup {
    pub uuid: Uuid,
    /// The database, with its name when the first alert was raised.
    pub parent: (Uuid, String),
    pub kind: String,
    pub cause: String,
    pub severity: String,
    pub notes: String,
    pub active: bool,
    pub active_entities: i64,
    /// Entities of which every alert is cleared.
    pub cleared_entities: i64,
    /// When the first alert was raised, of those that are active if there are any.
    pub raised_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None` while an alert is active.
    pub cleared_at: Option<Timestamp>,
    pub ou_path: String,
    pub datasource: Option<DatasourceId>,
}

/// Limits the list, and orders it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFilter {
    pub uuids: Option<Vec<Uuid>>,
    /// Only those that are, or are not.
    pub active: Option<bool>,
    pub parent: Option<Uuid>,
    /// From and to.
    pub raised: (Option<Timestamp>, Option<Timestamp>),
    pub order: AlertOrder,
    pub oldest_first: bool,
    /// Nothing meets the conditions.
    pub nothing: bool,
}

impl GroupFilter {
    fn order(&self) -> &'static str {
        match (self.order, self.oldest_first) {
            (AlertOrder::Raised, false) => "c.raised_at DESC, c.uuid",
            (AlertOrder::Raised, true) => "c.raised_at, c.uuid",
            (AlertOrder::Updated, false) => "c.updated_at DESC, c.uuid",
            (AlertOrder::Updated, true) => "c.updated_at, c.uuid",
            (AlertOrder::Cleared, false) => "coalesce(c.cleared_at, 0) DESC, c.uuid",
            (AlertOrder::Cleared, true) => "c.cleared_at IS NULL, c.cleared_at, c.uuid",
        }
    }
}

const ACTIVE: &str = "CASE WHEN a.status = 'active' THEN";

/// The groups of visible alerts, as `c`. `CONDITION` is about the alerts `a` and their group `g`.
fn groups(condition: &str) -> String {
    format!(
        "(SELECT g.uuid AS uuid, g.parent_uuid AS parent_uuid, g.parent_name AS parent_name, g.kind AS kind, \
         g.cause AS cause, min(a.severity) AS severity, g.notes AS notes, count({ACTIVE} 1 END) AS active, \
         count(DISTINCT {ACTIVE} a.entity_uuid END) AS active_entities, count(DISTINCT a.entity_uuid) AS entities, \
         COALESCE(min({ACTIVE} a.raised_at END), min(a.raised_at)) AS raised_at, \
         CASE WHEN g.noted_at > max(a.updated_at) THEN g.noted_at ELSE max(a.updated_at) END AS updated_at, \
         CASE WHEN count({ACTIVE} 1 END) = 0 THEN max(a.cleared_at) END AS cleared_at, min(o.path) AS path, \
         max(a.datasource_id) AS datasource_id FROM alerts a JOIN ous o ON o.id = a.ou_id \
         JOIN alert_groups g ON g.uuid = a.group_uuid WHERE {condition} \
         GROUP BY g.uuid, g.parent_uuid, g.parent_name, g.kind, g.cause, g.notes, g.noted_at) c"
    )
}

const COLUMNS: &str = "c.uuid, c.parent_uuid, c.parent_name, c.kind, c.cause, c.severity, c.notes, c.active, \
                       c.active_entities, c.entities, c.raised_at, c.updated_at, c.cleared_at, c.path, c.datasource_id";

fn from_row(row: &Row) -> Result<AlertGroup> {
    let active_entities = row.int(8)?;
    Ok(AlertGroup {
        uuid: row.uuid(0)?,
        parent: (row.uuid(1)?, row.text(2)?),
        kind: row.text(3)?,
        cause: row.text(4)?,
        severity: row.text(5)?,
        notes: row.text(6)?,
        active: row.int(7)? > 0,
        active_entities,
        cleared_entities: row.int(9)? - active_entities,
        raised_at: row.time(10)?,
        updated_at: row.time(11)?,
        cleared_at: row.time_opt(12)?,
        ou_path: row.text(13)?,
        datasource: row.id_opt(14)?,
    })
}

/// A numbered page of the groups of alerts that the caller sees.
pub async fn group_page(
    plane: &Protection,
    ctx: &OpCtx,
    asked: &GroupFilter,
    page: Page,
) -> Result<PageOf<AlertGroup>> {
    let estate = plane.estate();
    estate.require_some(ctx, ALERT, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(ALERT, Action::VIEW)).narrow(&mut wanted, &PLACE)?;
    if asked.nothing {
        wanted.and("1 = 0");
    }
    if let Some(uuids) = &asked.uuids {
        let uuids: Vec<String> = uuids.iter().map(Uuid::to_string).collect();
        wanted.and_texts("g.uuid", &uuids)?;
    }
    if let Some(parent) = asked.parent {
        wanted.and_value("g.parent_uuid = $$", parent.to_string());
    }
    let from = groups(wanted.sql());
    let mut conditions = vec!["1 = 1".to_owned()];
    if let Some(active) = asked.active {
        conditions.push(if active { "c.active > 0" } else { "c.active = 0" }.to_owned());
    }
    for (operator, time) in [(">=", asked.raised.0), ("<=", asked.raised.1)] {
        if let Some(time) = time {
            conditions.push(format!("c.raised_at {operator} {}", wanted.bind(time)));
        }
    }
    let conditions = conditions.join(" AND ");
    let sql = format!("SELECT count(*) FROM {from} WHERE {conditions}");
    let counted = conn.select(sql, wanted.args().to_vec()).await?;
    let total = counted.first().map_or(Ok(0), |row| row.int(0))?.unsigned_abs();
    let limit = wanted.bind(page.limit);
    let offset = wanted.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
    let order = asked.order();
    let sql = format!(
        "SELECT {COLUMNS} FROM {from} WHERE {conditions} ORDER BY {order} LIMIT {limit} OFFSET {offset}"
    );
    let rows = conn.select(sql, wanted.into_parts().1).await?;
    let items = rows.iter().map(from_row).collect::<Result<_>>()?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

pub async fn group_get(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<AlertGroup> {
    allowed(plane, ctx, uuid, Action::VIEW).await
}

async fn allowed(plane: &Protection, ctx: &OpCtx, uuid: Uuid, action: Action) -> Result<AlertGroup> {
    let found = find(&mut plane.estate().store().read().await?, uuid).await?;
    let unknown = || Error::not_found("alert").saying(format!("there is no consolidated alert {uuid}"));
    let group = found.ok_or_else(unknown)?;
    let named = group.datasource.map_or(0, |id| id.0);
    plane.estate().require(ctx, ALERT, action, &group.ou_path, named).await?;
    Ok(group)
}

async fn find(conn: &mut Conn, uuid: Uuid) -> Result<Option<AlertGroup>> {
    let sql = format!("SELECT {COLUMNS} FROM {}", groups("g.uuid = $1"));
    conn.select(sql, args![uuid.to_string()]).await?.first().map(from_row).transpose()
}

/// Writes a note on a group, and clears those of its alerts that the caller manages, if that is wanted.
pub async fn group_update(
    plane: &Protection,
    ctx: &OpCtx,
    uuid: Uuid,
    notes: Option<String>,
    clear: bool,
) -> Result<AlertGroup> {
    let group = allowed(plane, ctx, uuid, Action::MANAGE).await?;
    if notes.as_ref().is_some_and(|notes| notes.chars().count() > MAX_NOTES) {
        return Err(Error::fault("notes", "length", format!("must have at most {MAX_NOTES} characters")));
    }
    let (estate, now) = (plane.estate(), plane.estate().now());
    let clears = clear && group.active;
    let act = OwnedAct {
        action: if clears { "cleared" } else { "updated" },
        noun: ALERT,
        noun_id: None,
        detail: format!("{} of {}", group.kind, group.parent.1),
    };
    let caller = ctx.clone();
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                if let Some(notes) = notes {
                    let sql = "UPDATE alert_groups SET notes = $2, noted_at = $3 WHERE uuid = $1";
                    tx.exec(sql, args![uuid.to_string(), notes, now]).await?;
                }
                if clears { clear_all(tx, &caller, uuid, now).await } else { Ok(()) }
            })
        })
        .await?;
    allowed(plane, ctx, uuid, Action::VIEW).await
}

async fn clear_all(tx: &mut Tx, ctx: &OpCtx, group: Uuid, now: Timestamp) -> Result<()> {
    let sql = "SELECT a.id, o.path, a.datasource_id FROM alerts a JOIN ous o ON o.id = a.ou_id \
               WHERE a.group_uuid = $1 AND a.status = 'active'";
    let manage = Permission::new(ALERT, Action::MANAGE);
    for row in tx.all(sql, args![group.to_string()]).await? {
        let (id, path, datasource): (AlertId, String, Option<DatasourceId>) =
            (row.id(0)?, row.text(1)?, row.id_opt(2)?);
        if ctx.authority().allows(manage, &path, datasource.map_or(0, |id| id.0)) {
            let sql = "UPDATE alerts SET status = 'cleared', cleared_at = $2, updated_at = $2, \
                       row_version = row_version + 1 WHERE id = $1 AND status = 'active'";
            tx.exec(sql, args![id, now]).await?;
        }
    }
    Ok(())
}

/// The group of an alert, which is made with this UUID if there is none.
pub(crate) async fn group(
    tx: &mut Tx,
    uuid: Uuid,
    (parent, name): (Uuid, &str),
    (kind, cause): (&str, &str),
) -> Result<String> {
    let parent = parent.to_string();
    let sql = "INSERT INTO alert_groups (uuid, parent_uuid, parent_name, kind, cause, notes) \
               VALUES ($1, $2, $3, $4, $5, '') ON CONFLICT (parent_uuid, kind, cause) DO NOTHING";
    tx.exec(sql, args![uuid.to_string(), &parent, name, kind, cause]).await?;
    let sql = "SELECT uuid FROM alert_groups WHERE parent_uuid = $1 AND kind = $2 AND cause = $3";
    tx.one(sql, args![parent, kind, cause]).await?.text(0)
}
