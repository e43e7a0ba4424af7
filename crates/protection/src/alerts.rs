//! Alerts: what needs attention. They are raised and cleared by how runs end, once for each cause.

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, DatasourceId, OuId, RunId};
use landreeve_core::{Action, Error, OpCtx, Page, PageOf, Part, Permission, Result, RunState};
use landreeve_estate::args;
use landreeve_estate::events::{Delivered, Event, Subscriber};
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Arg, Listing, Row, Tx, Where, next_in};
use uuid::Uuid;

use crate::backing_up::BACK_UP;
use crate::consolidated;
use crate::ids::AlertId;
use crate::nouns::ALERT;
use crate::plane::{NAME, Protection};
use crate::repositories;
use crate::restoring::RESTORE_RUN;
use crate::stored::{StoredBackUp, StoredUse};

/// A backup that a policy wants was not made.
pub const POLICY_VIOLATED: &str = "policy_violated";
/// A restore failed.
pub const RESTORE_FAILED: &str = "restore_failed";

/// Characters of a note.
pub(crate) const MAX_NOTES: usize = 1_023;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub id: AlertId,
    pub uuid: Uuid,
    pub ou: OuId,
    pub ou_path: String,
    pub kind: String,
    /// The code of the error.
    pub cause: String,
    pub severity: String,
    pub active: bool,
    pub notes: String,
    pub description: String,
    /// `datasource` or `backup`.
    pub entity_kind: String,
    pub entity: Uuid,
    pub entity_name: String,
    pub datasource: Option<DatasourceId>,
    pub raised_count: i64,
    pub raised_at: Timestamp,
    pub updated_at: Timestamp,
    pub cleared_at: Option<Timestamp>,
    /// The alerts with the same cause about the same database, together.
    pub group: Option<Uuid>,
    /// The database, with its name.
    pub parent: Option<(Uuid, String)>,
}

/// A place in the list: newest first.
pub type AlertKey = (Timestamp, AlertId);

const COLUMNS: &str = "a.id, a.uuid, a.ou_id, o.path, a.kind, a.cause, a.severity, a.status, a.notes, a.description, \
                       a.entity_kind, a.entity_uuid, a.entity_name, a.datasource_id, a.raised_count, a.raised_at, \
                       a.updated_at, a.cleared_at, g.uuid, g.parent_uuid, g.parent_name";
const LISTING: Listing = Listing {
    columns: COLUMNS,
    from: "alerts a JOIN ous o ON o.id = a.ou_id LEFT JOIN alert_groups g ON g.uuid = a.group_uuid",
    order: "a.raised_at DESC, a.id DESC",
    size: Some("length(a.description) + length(a.notes)"),
};
/// A grant for a single datasource covers its alerts.
pub(crate) const PLACE: Place = Place::named("a.ou_id", "a.datasource_id IN ($$)");

fn from_row(row: &Row) -> Result<Alert> {
    let uuid = |at: usize| row.text_opt(at)?.map(|text| text.parse().map_err(Error::internal)).transpose();
    Ok(Alert {
        group: uuid(18)?,
        parent: uuid(19)?.zip(row.text_opt(20)?),
        id: row.id(0)?,
        uuid: row.uuid(1)?,
        ou: row.id(2)?,
        ou_path: row.text(3)?,
        kind: row.text(4)?,
        cause: row.text(5)?,
        severity: row.text(6)?,
        active: row.text(7)? == "active",
        notes: row.text(8)?,
        description: row.text(9)?,
        entity_kind: row.text(10)?,
        entity: row.uuid(11)?,
        entity_name: row.text(12)?,
        datasource: row.id_opt(13)?,
        raised_count: row.int(14)?,
        raised_at: row.time(15)?,
        updated_at: row.time(16)?,
        cleared_at: row.time_opt(17)?,
    })
}

/// Limits a numbered list of alerts, and orders it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Any of these; empty: all.
    pub kinds: Vec<String>,
    pub severities: Vec<String>,
    /// Only those that are, or are not.
    pub active: Option<bool>,
    pub entity: Option<Uuid>,
    pub entity_kind: Option<String>,
    /// The group, and the database that alerts are about, also through a backup.
    pub group: Option<Uuid>,
    pub parent: Option<Uuid>,
    /// What the entity's name contains.
    pub entity_name: Option<String>,
    /// From and to, of each time.
    pub raised: (Option<Timestamp>, Option<Timestamp>),
    pub updated: (Option<Timestamp>, Option<Timestamp>),
    pub cleared: (Option<Timestamp>, Option<Timestamp>),
    pub order: AlertOrder,
    pub oldest_first: bool,
    /// Nothing meets the conditions.
    pub nothing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlertOrder {
    #[default]
    Raised,
    Updated,
    Cleared,
}

impl AlertFilter {
    fn narrow(&self, wanted: &mut Where) {
        if self.nothing {
            wanted.and("1 = 0");
        }
        wanted.and_any("a.kind", self.kinds.iter().map(Arg::from));
        wanted.and_any("a.severity", self.severities.iter().map(Arg::from));
        if let Some(active) = self.active {
            wanted.and_value("a.status = $$", if active { "active" } else { "cleared" });
        }
        if let Some(entity) = self.entity {
            wanted.and_value("a.entity_uuid = $$", entity.to_string());
        }
        if let Some(group) = self.group {
            wanted.and_value("a.group_uuid = $$", group.to_string());
        }
        if let Some(parent) = self.parent {
            wanted.and_value("g.parent_uuid = $$", parent.to_string());
        }
        if let Some(kind) = &self.entity_kind {
            wanted.and_value("a.entity_kind = $$", kind);
        }
        if let Some(part) = &self.entity_name {
            wanted.and_value("replace(a.entity_name, $$, '') <> a.entity_name", part);
        }
        for (column, (from, to)) in
            [("a.raised_at", self.raised), ("a.updated_at", self.updated), ("a.cleared_at", self.cleared)]
        {
            for (operator, time) in [(">=", from), ("<=", to)] {
                if let Some(time) = time {
                    wanted.and_value(&format!("{column} {operator} $$"), time);
                }
            }
        }
    }

    fn order(&self) -> &'static str {
        match (self.order, self.oldest_first) {
            (AlertOrder::Raised, false) => LISTING.order,
            (AlertOrder::Raised, true) => "a.raised_at, a.id",
            (AlertOrder::Updated, false) => "a.updated_at DESC, a.id DESC",
            (AlertOrder::Updated, true) => "a.updated_at, a.id",
            // Those that were not cleared come last.
            (AlertOrder::Cleared, false) => "coalesce(a.cleared_at, 0) DESC, a.id DESC",
            (AlertOrder::Cleared, true) => "a.cleared_at IS NULL, a.cleared_at, a.id",
        }
    }
}

/// A numbered page of alerts.
pub async fn alert_page(
    plane: &Protection,
    ctx: &OpCtx,
    asked: &AlertFilter,
    page: Page,
) -> Result<PageOf<Alert>> {
    let estate = plane.estate();
    estate.require_some(ctx, ALERT, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(ALERT, Action::VIEW)).narrow(&mut wanted, &PLACE)?;
    asked.narrow(&mut wanted);
    wanted.numbered(&mut conn, &Listing { order: asked.order(), ..LISTING }, page, from_row).await
}

/// The page of alerts after this one, the newest first. `active`: only those that are, or are not.
pub async fn alert_list(
    plane: &Protection,
    ctx: &OpCtx,
    active: Option<bool>,
    after: Option<AlertKey>,
) -> Result<Part<Alert, AlertKey>> {
    let estate = plane.estate();
    estate.require_some(ctx, ALERT, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(ALERT, Action::VIEW)).narrow(&mut wanted, &PLACE)?;
    if let Some(active) = active {
        wanted.and_value("a.status = $$", if active { "active" } else { "cleared" });
    }
    if let Some((raised, id)) = after {
        let (raised, id) = (wanted.bind(raised), wanted.bind(id));
        wanted.and(&format!("(a.raised_at, a.id) < ({raised}, {id})"));
    }
    wanted.page(&mut conn, &LISTING, from_row, |alert| (alert.raised_at, alert.id)).await
}

pub async fn alert_get(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Alert> {
    allowed(plane, ctx, uuid, Action::VIEW).await
}

async fn allowed(plane: &Protection, ctx: &OpCtx, uuid: Uuid, action: Action) -> Result<Alert> {
    let sql = format!("SELECT {COLUMNS} FROM {} WHERE a.uuid = $1", LISTING.from);
    let rows = plane.estate().store().read().await?.select(sql, args![uuid.to_string()]).await?;
    let found = rows.first().map(from_row).transpose()?;
    let alert = found.ok_or_else(|| Error::not_found("alert").saying(format!("there is no alert {uuid}")))?;
    let named = alert.datasource.map_or(0, |id| id.0);
    plane.estate().require(ctx, ALERT, action, &alert.ou_path, named).await?;
    Ok(alert)
}

/// Writes a note on an alert, and clears it if that is wanted. One that was cleared stays so.
pub async fn alert_update(
    plane: &Protection,
    ctx: &OpCtx,
    uuid: Uuid,
    notes: Option<String>,
    clear: bool,
) -> Result<Alert> {
    let alert = allowed(plane, ctx, uuid, Action::MANAGE).await?;
    if notes.as_ref().is_some_and(|notes| notes.chars().count() > MAX_NOTES) {
        return Err(Error::fault("notes", "length", format!("must have at most {MAX_NOTES} characters")));
    }
    let (estate, id) = (plane.estate(), alert.id);
    let (now, notes) = (estate.now(), notes.unwrap_or(alert.notes));
    let cleared = clear && alert.active;
    let act = if cleared { "cleared" } else { "updated" };
    let detail = format!("{} of {}", alert.kind, alert.entity_name);
    estate
        .change(ctx, OwnedAct::new(act, ALERT, id.0, detail), move |tx| {
            Box::pin(async move {
                let sql = "UPDATE alerts SET notes = $2, updated_at = $3, row_version = row_version + 1 WHERE id = $1";
                tx.exec(sql, args![id, notes, now]).await?;
                if cleared {
                    let sql = "UPDATE alerts SET status = 'cleared', cleared_at = $2 \
                               WHERE id = $1 AND status = 'active'";
                    tx.exec(sql, args![id, now]).await?;
                }
                Ok(())
            })
        })
        .await?;
    allowed(plane, ctx, uuid, Action::VIEW).await
}

/// Raises and clears alerts when runs end.
pub struct Raiser(pub Protection);

impl Subscriber for Raiser {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Event::RunFinished { run, kind, state, .. } = &event.event else { return Ok(()) };
            if *kind != BACK_UP.kind && *kind != RESTORE_RUN.kind {
                return Ok(());
            }
            let (run, is_backup, state) = (*run, *kind == BACK_UP.kind, *state);
            let estate = self.0.estate();
            let (now, uuids) = (estate.now(), (estate.uuid(), estate.uuid()));
            self.0
                .estate()
                .store()
                .write(move |tx| {
                    Box::pin(async move { ended(tx, (run, state), is_backup, (now, uuids)).await })
                })
                .await
        })
    }
}

/// What an alert is about.
struct About {
    kind: &'static str,
    entity: (&'static str, Uuid, String),
    /// The database.
    parent: Uuid,
    /// Where the backup was to be. A success in another repository says nothing about this one.
    repository: String,
    datasource: Option<DatasourceId>,
}

async fn ended(
    tx: &mut Tx,
    (run, state): (RunId, RunState),
    is_backup: bool,
    (now, uuids): (Timestamp, (Uuid, Uuid)),
) -> Result<()> {
    let sql = "SELECT input, error_code, error_message, ou_id FROM runs WHERE id = $1";
    let Some(row) = tx.opt(sql, args![run]).await? else { return Ok(()) };
    let input = row.text(0)?;
    let about = if is_backup { of_backup(tx, &input, state).await? } else { of_restore(tx, &input).await? };
    let Some(about) = about else { return Ok(()) };
    if matches!(state, RunState::Succeeded | RunState::Expired) {
        return clear(tx, &about, now).await;
    }
    let cause = match state {
        RunState::Cancelled => "aborted".to_owned(),
        _ => row.text_opt(1)?.unwrap_or_else(|| state.as_str().to_owned()),
    };
    let description = row.text_opt(2)?.unwrap_or_else(|| "it ended without a result".to_owned());
    raise(tx, &about, (row.id(3)?, run), (&cause, &description), (now, uuids)).await
}

/// A backup that succeeds clears alerts, also one that a caller wanted; one that fails raises one if a policy wanted it.
async fn of_backup(tx: &mut Tx, input: &str, state: RunState) -> Result<Option<About>> {
    let input = StoredBackUp::parse(input)?;
    if state != RunState::Succeeded && input.cause().is_none() {
        return Ok(None);
    }
    let sql = "SELECT uuid, name FROM datasources WHERE id = $1";
    let row = tx.opt(sql, args![input.datasource()]).await?;
    let Some(row) = row else { return Ok(None) };
    let entity = ("datasource", row.uuid(0)?, row.text(1)?);
    let repository = match input.repository() {
        Some(id) => tx.opt("SELECT name FROM repositories WHERE id = $1", args![id]).await?,
        None => None,
    };
    let repository = repository.map_or_else(|| Ok(repositories::DEFAULT.to_owned()), |row| row.text(0))?;
    let (parent, datasource) = (entity.1, Some(input.datasource()));
    Ok(Some(About { kind: POLICY_VIOLATED, entity, parent, repository, datasource }))
}

async fn of_restore(tx: &mut Tx, input: &str) -> Result<Option<About>> {
    let input = StoredUse::parse(input)?;
    let sql = "SELECT a.name, d.id, a.uuid FROM backups b JOIN assets a ON a.id = b.asset_id \
               LEFT JOIN datasources d ON d.uuid = a.uuid WHERE b.uuid = $1";
    let row = tx.opt(sql, args![input.backup.to_string()]).await?;
    let Some(row) = row else { return Ok(None) };
    let entity = ("backup", input.backup, row.text(0)?);
    let (parent, datasource) = (row.uuid(2)?, row.id_opt(1)?);
    Ok(Some(About { kind: RESTORE_FAILED, entity, parent, repository: String::new(), datasource }))
}

async fn clear(tx: &mut Tx, about: &About, now: Timestamp) -> Result<()> {
    let sql = "UPDATE alerts SET status = 'cleared', cleared_at = $3, updated_at = $3, row_version = row_version + 1 \
               WHERE kind = $1 AND entity_uuid = $2 AND repository = $4 AND status = 'active'";
    let entity = about.entity.1.to_string();
    tx.exec(sql, args![about.kind, entity, now, &about.repository]).await.map(drop)
}

/// Once for a run, however often its end is told.
async fn raise(
    tx: &mut Tx,
    about: &About,
    (ou, run): (OuId, RunId),
    (cause, description): (&str, &str),
    (now, (uuid, group)): (Timestamp, (Uuid, Uuid)),
) -> Result<()> {
    let (kind, entity) = (about.kind, about.entity.1.to_string());
    let told = "SELECT 1 FROM alerts WHERE kind = $1 AND entity_uuid = $2 AND run_id = $3";
    if tx.opt(told, args![kind, &entity, run]).await?.is_some() {
        return Ok(());
    }
    let sql = "UPDATE alerts SET raised_count = raised_count + 1, run_id = $4, updated_at = $5, description = $6, \
               row_version = row_version + 1 \
               WHERE kind = $1 AND cause = $2 AND entity_uuid = $3 AND repository = $7 AND status = 'active'";
    let args = args![kind, cause, &entity, run, now, description, &about.repository];
    if tx.exec(sql, args).await? > 0 {
        return Ok(());
    }
    let group = consolidated::group(tx, group, (about.parent, &about.entity.2), (kind, cause)).await?;
    let id = AlertId(next_in(tx, AlertId::KIND).await?);
    let sql = "INSERT INTO alerts (id, uuid, ou_id, kind, cause, severity, status, notes, description, entity_kind, \
               entity_uuid, entity_name, datasource_id, raised_count, run_id, raised_at, updated_at, repository, \
               group_uuid) \
               VALUES ($1, $2, $3, $4, $5, 'error', 'active', '', $6, $7, $8, $9, $10, 1, $11, $12, $12, $13, $14)";
    let args = args![
        id,
        uuid.to_string(),
        ou,
        kind,
        cause,
        description,
        about.entity.0,
        entity,
        &about.entity.2,
        about.datasource,
        run,
        now,
        &about.repository,
        group,
    ];
    tx.exec(sql, args).await.map(drop)
}
