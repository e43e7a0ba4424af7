//! The backups that can be restored, and what they are of. A row says what the backup's manifest says, so that attaching a
//! repository is enough to have it.

use jiff::Timestamp;
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_core::vault::SnapshotId;
use landreeve_core::{Action, Error, OpCtx, Page, PageOf, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where};
use uuid::Uuid;

use crate::estate_backup::{self, ESTATE};
use crate::ids::{AssetId, BackupId, RepositoryId};
use crate::manifest::Manifest;
use crate::nouns::{BACKUP, RECORD};
use crate::plane::Protection;
use crate::repositories;

/// A database that was backed up. It may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    pub id: AssetId,
    /// Its datasource has the same.
    pub uuid: Uuid,
    pub name: String,
    pub database_type: String,
    pub address: String,
    /// `None`: its datasource was deleted.
    pub datasource: Option<DatasourceId>,
}

impl Asset {
    pub fn is_estate(&self) -> bool {
        self.database_type == ESTATE
    }

    /// The name of its database: for SQLite that of every main database.
    pub fn database(&self) -> &str {
        match self.database_type.as_str() {
            "sqlite" => "main",
            _ => match self.address.split_once('/') {
                Some((_, name)) if !name.is_empty() => name,
                // The server's own choice.
                _ => "default",
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub id: BackupId,
    pub uuid: Uuid,
    pub asset: Asset,
    pub ou: OuId,
    pub ou_path: String,
    pub repository: RepositoryId,
    pub repository_name: String,
    pub snapshot: SnapshotId,
    pub server_version: String,
    pub started_at: Timestamp,
    /// `None`: it was made elsewhere.
    pub finished_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub tables: i64,
    /// `None`: a table could not be counted.
    pub rows: Option<i64>,
    pub bytes_read: i64,
    /// `None`: it was made elsewhere.
    pub bytes_added: Option<i64>,
    pub verified_at: Option<Timestamp>,
}

impl Backup {
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// An error if it cannot be used any more.
    pub fn check_usable(&self, now: Timestamp) -> Result<()> {
        if self.is_expired(now) {
            let message = format!("the backup {} has expired on {}", self.uuid, self.expires_at);
            return Err(Error::not_found("backup").saying(message));
        }
        Ok(())
    }
}

/// Limits a list of backups.
#[derive(Debug, Clone, Default)]
pub struct BackupFilter {
    /// Of the asset with this UUID.
    pub asset: Option<Uuid>,
    pub repository: Option<RepositoryId>,
    /// Started after this, and no later than that.
    pub started: (Option<Timestamp>, Option<Timestamp>),
    /// Not expired by then.
    pub usable_at: Option<Timestamp>,
    /// It selects nothing, whatever else it says.
    pub nothing: bool,
    /// The oldest first, not the newest. Only for numbered pages.
    pub oldest_first: bool,
}

/// A place in the list: newest first.
pub type BackupKey = (Timestamp, BackupId);

const COLUMNS: &str = "b.id, b.uuid, a.id, a.uuid, a.name, a.database_type, a.address, d.id, a.ou_id, o.path, \
                       b.repository_id, r.name, b.snapshot_id, b.server_version, b.started_at, b.finished_at, \
                       b.expires_at, b.tables, b.row_count, b.bytes_read, b.bytes_added, b.verified_at";

const FROM: &str = "backups b JOIN assets a ON a.id = b.asset_id JOIN ous o ON o.id = a.ou_id \
                    JOIN repositories r ON r.id = b.repository_id LEFT JOIN datasources d ON d.uuid = a.uuid";

const LISTING: Listing =
    Listing { columns: COLUMNS, from: FROM, order: "b.started_at DESC, b.id DESC", size: None };

/// The condition of callers who see everything.
const ALL: &str = "1 = 1";

/// A grant for a single datasource covers its backups.
const PLACE: Place = Place::named("a.ou_id", "d.id IN ($$)");

fn from_row(row: &Row) -> Result<Backup> {
    let asset = Asset {
        id: row.id(2)?,
        uuid: row.uuid(3)?,
        name: row.text(4)?,
        database_type: row.text(5)?,
        address: row.text(6)?,
        datasource: row.id_opt(7)?,
    };
    Ok(Backup {
        id: row.id(0)?,
        uuid: row.uuid(1)?,
        asset,
        ou: row.id(8)?,
        ou_path: row.text(9)?,
        repository: row.id(10)?,
        repository_name: row.text(11)?,
        snapshot: row.word(12, SnapshotId::parse)?,
        server_version: row.text(13)?,
        started_at: row.time(14)?,
        finished_at: row.time_opt(15)?,
        expires_at: row.time(16)?,
        tables: row.int(17)?,
        rows: row.int_opt(18)?,
        bytes_read: row.int(19)?,
        bytes_added: row.int_opt(20)?,
        verified_at: row.time_opt(21)?,
    })
}

/// The page of backups after this one, the newest first. Those that have expired are in it until they are forgotten.
pub async fn backup_list(
    plane: &Protection,
    ctx: &OpCtx,
    asked: &BackupFilter,
    after: Option<BackupKey>,
) -> Result<Part<Backup, BackupKey>> {
    let estate = plane.estate();
    estate.require_some(ctx, BACKUP, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let mut wanted = visible(&conn, ctx, asked)?;
    if let Some((started, id)) = after {
        let (started, id) = (wanted.bind(started), wanted.bind(id));
        wanted.and(&format!("(b.started_at, b.id) < ({started}, {id})"));
    }
    wanted.page(&mut conn, &LISTING, from_row, |backup| (backup.started_at, backup.id)).await
}

/// A numbered page of backups.
pub async fn backup_page(
    plane: &Protection,
    ctx: &OpCtx,
    asked: &BackupFilter,
    page: Page,
) -> Result<PageOf<Backup>> {
    let estate = plane.estate();
    estate.require_some(ctx, BACKUP, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let mut wanted = visible(&conn, ctx, asked)?;
    let order = if asked.oldest_first { "b.started_at, b.id" } else { LISTING.order };
    let total = wanted.count(&mut conn, "backups b").await?;
    let limit = wanted.bind(page.limit);
    let offset = wanted.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
    let (condition, args) = wanted.into_parts();
    // The rows of the page are found first, in an index alone: what the others are joined with does not matter.
    let sql = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE b.id IN (SELECT b.id FROM backups b WHERE {condition} \
         ORDER BY {order} LIMIT {limit} OFFSET {offset}) ORDER BY {order}"
    );
    let rows = conn.select(sql, args).await?;
    let items = rows.iter().map(from_row).collect::<Result<_>>()?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

/// What is asked for, among what the caller sees: about `backups b` alone.
fn visible(conn: &Conn, ctx: &OpCtx, asked: &BackupFilter) -> Result<Where> {
    let mut wanted = Where::new(conn.dialect());
    let seen = Visibility::of(ctx, Permission::new(BACKUP, Action::VIEW)).condition(&mut wanted, &PLACE)?;
    if seen != ALL {
        wanted.and(&format!(
            "b.asset_id IN (SELECT a.id FROM assets a LEFT JOIN datasources d ON d.uuid = a.uuid WHERE {seen})"
        ));
    }
    wanted.and("b.deleted_at IS NULL");
    if let Some(hidden) = estate_backup::hidden(ctx) {
        wanted.and(hidden);
    }
    if asked.nothing {
        wanted.and("1 = 0");
    }
    if let Some(asset) = asked.asset {
        // The id is found first, so that the index on it is used.
        wanted.and_value("b.asset_id = (SELECT x.id FROM assets x WHERE x.uuid = $$)", asset.to_string());
    }
    if let Some(repository) = asked.repository {
        wanted.and_value("b.repository_id = $$", repository);
    }
    if let Some(after) = asked.started.0 {
        wanted.and_value("b.started_at > $$", after);
    }
    if let Some(until) = asked.started.1 {
        wanted.and_value("b.started_at <= $$", until);
    }
    if let Some(time) = asked.usable_at {
        wanted.and_value("b.expires_at > $$", time);
    }
    Ok(wanted)
}

/// The backup, if the caller may do this to it.
pub async fn backup_get(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Backup> {
    let backup = find(&mut plane.estate().store().read().await?, uuid).await?;
    let sees = |backup: &Backup| ctx.authority().is_operator() || !backup.asset.is_estate();
    let backup = backup.filter(sees);
    let backup =
        backup.ok_or_else(|| Error::not_found("backup").saying(format!("there is no backup {uuid}")))?;
    require(plane, ctx, &backup, Action::VIEW).await?;
    Ok(backup)
}

/// Without a check of permissions.
pub(crate) async fn find(conn: &mut Conn, uuid: Uuid) -> Result<Option<Backup>> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE b.uuid = $1 AND b.deleted_at IS NULL");
    conn.select(sql, args![uuid.to_string()]).await?.first().map(from_row).transpose()
}

/// An id that grants on named datasources never have.
const NO_DATASOURCE: i64 = 0;

pub(crate) async fn require(plane: &Protection, ctx: &OpCtx, backup: &Backup, action: Action) -> Result<()> {
    plane.estate().require(ctx, BACKUP, action, &backup.ou_path, granted(backup)).await
}

/// For reading a backup's rows.
pub(crate) async fn require_record(plane: &Protection, ctx: &OpCtx, backup: &Backup) -> Result<()> {
    plane.estate().require(ctx, RECORD, Action::USE, &backup.ou_path, granted(backup)).await
}

/// What a grant for a single datasource names.
pub(crate) fn granted(backup: &Backup) -> i64 {
    backup.asset.datasource.map_or(NO_DATASOURCE, |id| id.0)
}

/// Deletes a backup before it expires. Its data is deleted when its repository is pruned.
pub async fn backup_delete(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Backup> {
    let estate = plane.estate();
    let backup = backup_get(plane, ctx, uuid).await?;
    if !ctx.authority().is_operator() {
        return Err(Error::forbidden("only the operator can delete a backup that has not expired"));
    }
    let repository = repositories::find(&mut estate.store().read().await?, backup.repository).await?;
    let repository = repository.ok_or_else(|| Error::not_found("repository"))?;
    if repository.append_only {
        return Err(repositories::append_only(&repository.name));
    }
    let (id, now) = (backup.id, estate.now());
    let detail = format!("{} of {}", backup.uuid, backup.asset.name);
    estate
        .change(ctx, OwnedAct::new("deleted", BACKUP, id.0, detail), move |tx| {
            Box::pin(async move {
                let sql = "UPDATE backups SET deleted_at = $2, row_version = row_version + 1 WHERE id = $1";
                tx.exec(sql, args![id, now]).await.map(drop)
            })
        })
        .await?;
    let spec = repositories::spec(plane, &repository).await?;
    let snapshot = backup.snapshot.clone();
    let forgotten =
        plane.blocking(move |vault| vault.open(&spec, Default::default())?.forget(&[snapshot])).await?;
    match forgotten {
        Ok(()) => estate.store().write(move |tx| Box::pin(async move { remove(tx, &[id]).await })).await?,
        // The next prune does it.
        Err(error) => tracing::warn!(backup = %uuid, %error, "could not forget a deleted backup yet"),
    }
    Ok(backup)
}

pub(crate) async fn remove(tx: &mut Tx, ids: &[BackupId]) -> Result<()> {
    for id in ids {
        tx.exec("DELETE FROM backups WHERE id = $1", args![*id]).await?;
    }
    Ok(())
}

/// What may be forgotten now: expired or deleted.
pub(crate) async fn forgettable(
    conn: &mut Conn,
    repository: RepositoryId,
    now: Timestamp,
) -> Result<Vec<(BackupId, SnapshotId)>> {
    let sql = "SELECT id, snapshot_id FROM backups WHERE repository_id = $1 \
               AND (expires_at <= $2 OR deleted_at IS NOT NULL) ORDER BY id";
    let rows = conn.all(sql, args![repository, now]).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.word(1, SnapshotId::parse)?))).collect()
}

/// A backup that is in a repository, for the catalogue.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub snapshot: SnapshotId,
    pub manifest: Manifest,
    /// Known only where it was made.
    pub made: Option<Made>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub finished_at: Timestamp,
    pub bytes_added: u64,
}

/// Enters a backup into the catalogue, unless it is there already. This alone makes rows of assets and backups.
pub(crate) async fn enter(plane: &Protection, repository: RepositoryId, found: Found) -> Result<()> {
    let estate = plane.estate();
    let (asset, backup) = (estate.next::<AssetId>(AssetId::KIND).await?, estate.next(BackupId::KIND).await?);
    let now = estate.now();
    estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                let asset = enter_asset(tx, asset, &found.manifest, now).await?;
                enter_backup(tx, (backup, asset, repository), &found).await
            })
        })
        .await
}

async fn enter_asset(tx: &mut Tx, id: AssetId, manifest: &Manifest, now: Timestamp) -> Result<AssetId> {
    let asset = &manifest.asset;
    let unit = tx.opt("SELECT id FROM ous WHERE uuid = $1", args![asset.unit.to_string()]).await?;
    let unit: OuId = unit.map_or(Ok(OuId::ROOT), |row| row.id(0))?;
    // What is known of a living datasource, or of a newer backup, is not older than this manifest.
    let sql = "INSERT INTO assets (id, uuid, ou_id, name, database_type, address, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (uuid) DO NOTHING";
    let uuid = asset.uuid.to_string();
    tx.exec(sql, args![id, &uuid, unit, &asset.name, &asset.database_type, &asset.address, now]).await?;
    let known: AssetId = tx.one("SELECT id FROM assets WHERE uuid = $1", args![&uuid]).await?.id(0)?;
    let sql = "UPDATE assets SET name = $2, address = $3 WHERE id = $1 \
               AND NOT EXISTS (SELECT 1 FROM backups b WHERE b.asset_id = $1 AND b.started_at > $4)";
    tx.exec(sql, args![known, &asset.name, &asset.address, manifest.started_at]).await?;
    Ok(known)
}

async fn enter_backup(
    tx: &mut Tx,
    (id, asset, repository): (BackupId, AssetId, RepositoryId),
    found: &Found,
) -> Result<()> {
    let Found { snapshot, manifest, made } = found;
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let sql = "INSERT INTO backups (id, uuid, asset_id, repository_id, snapshot_id, server_version, started_at, \
               finished_at, expires_at, tables, row_count, bytes_read, bytes_added) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (uuid) DO NOTHING";
    let args = args![
        id,
        manifest.backup.to_string(),
        asset,
        repository,
        snapshot.as_str(),
        &manifest.server_version,
        manifest.started_at,
        made.map(|made| made.finished_at),
        manifest.expires_at,
        count(manifest.tables.len() as u64),
        manifest.rows().map(count),
        count(manifest.bytes()),
        made.map(|made| count(made.bytes_added)),
    ];
    tx.exec(sql, args).await.map(drop)
}
