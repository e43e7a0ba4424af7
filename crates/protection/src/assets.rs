//! The databases that are or were backed up, as a list: every datasource of the inventory, and every asset whose datasource
//! was deleted as long as it has backups. Built-in sources and backups that are sources are left out.

use jiff::Timestamp;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Action, Error, Noun, OpCtx, Page, PageOf, Part, Permission, Result};
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::store::{Arg, Conn, Dialect, Row, Where};
use uuid::Uuid;

use crate::backing_up;
use crate::plane::Protection;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub uuid: Uuid,
    /// `None`: it was deleted.
    pub datasource: Option<DatasourceId>,
    pub name: String,
    pub database_type: String,
    /// `HOST:PORT/DATABASE`, or the path of a file.
    pub address: String,
    /// `None`: not known yet.
    pub server_version: Option<String>,
    pub enabled: bool,
    pub unit: Uuid,
    pub unit_path: String,
    pub policy: Option<Uuid>,
    /// Why it cannot be backed up.
    pub unsupported: Option<String>,
    pub first_backup: Option<Timestamp>,
    pub last_backup: Option<Timestamp>,
    /// Bytes that the last backup read.
    pub size: Option<i64>,
    pub created_at: Timestamp,
    /// `None`: no period was asked for.
    pub period: Option<Period>,
}

impl Resource {
    /// What a grant for a single datasource names.
    pub fn granted(&self) -> i64 {
        self.datasource.map_or(0, |id| id.0)
    }

    /// `None`: it was deleted.
    pub fn protection(&self) -> Option<Protected> {
        self.datasource?;
        Some(match (&self.unsupported, self.policy) {
            (Some(_), _) => Protected::Unsupported,
            (None, Some(_)) => Protected::Yes,
            (None, None) => Protected::No,
        })
    }
}

/// What happened in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    pub last_success: Option<Timestamp>,
    pub last_failure: Option<Timestamp>,
}

impl Period {
    pub fn outcome(self) -> Outcome {
        match (self.last_success, self.last_failure) {
            (Some(_), None) => Outcome::Success,
            (Some(_), Some(_)) => Outcome::PartialSuccess,
            (None, Some(_)) => Outcome::Failure,
            (None, None) => Outcome::NoBackup,
        }
    }
}

/// Whether a database has a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protected {
    Yes,
    No,
    Unsupported,
}

/// How the backups of a period went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    PartialSuccess,
    Failure,
    NoBackup,
}

impl Outcome {
    fn condition(self) -> &'static str {
        match self {
            Outcome::Success => "(SUCCEEDED AND NOT FAILED)",
            Outcome::PartialSuccess => "(SUCCEEDED AND FAILED)",
            Outcome::Failure => "(NOT SUCCEEDED AND FAILED)",
            Outcome::NoBackup => "(NOT SUCCEEDED AND NOT FAILED)",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deleted {
    #[default]
    Hidden,
    Only,
    Included,
}

/// Limits a list of resources. A field that is `None` does not limit it; an empty list selects nothing.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    pub uuid: Option<Uuid>,
    pub address: Option<String>,
    /// Part of the name.
    pub name: Option<String>,
    pub database_type: Option<String>,
    pub policy: Option<Uuid>,
    pub protected: Option<Vec<Protected>>,
    /// Whether its policy makes no backups.
    pub deactivated: Option<bool>,
    pub outcomes: Option<Vec<Outcome>>,
    /// Whether connections are allowed.
    pub enabled: Option<bool>,
    pub deleted: Deleted,
    /// It selects nothing, whatever else it says.
    pub nothing: bool,
    /// The beginning of the period of `outcomes` and `Resource::period`.
    pub since: Option<Timestamp>,
}

/// A place in the list, which is in order of creation.
pub type ResourceKey = (Timestamp, i64, Uuid);

/// A grant for a single datasource covers it.
const PLACE: Place = Place::named("r.ou_id", "r.datasource_id IN ($$)");
const ORDER: &str = "r.created_at, COALESCE(r.datasource_id, 0), r.uuid";

const BACKUPS: &str = "FROM backups b WHERE b.asset_id = r.asset_id AND b.deleted_at IS NULL";
const FAILED: &str = "FROM runs f WHERE f.noun = 'datasource' AND f.noun_id = r.datasource_id AND f.kind = 'backup' \
                      AND f.state IN ('failed', 'timed_out', 'lost')";

/// The rows, as `r` with the unit as `o`.
fn from(dialect: Dialect, deleted: Deleted) -> String {
    let living = format!(
        "SELECT d.id AS datasource_id, a.id AS asset_id, d.uuid AS uuid, d.ou_id AS ou_id, d.name AS name, \
         d.database_type AS database_type, {} AS address, d.server_version AS server_version, \
         d.enabled AS enabled, p.uuid AS policy_uuid, p.enabled AS policy_enabled, d.created_at AS created_at \
         FROM datasources d LEFT JOIN assets a ON a.uuid = d.uuid \
         LEFT JOIN policy_assignments g ON g.datasource_id = d.id LEFT JOIN policies p ON p.id = g.policy_id \
         WHERE d.builtin IS NULL AND d.database_type <> 'backup'",
        address(dialect)
    );
    let gone = "SELECT CAST(NULL AS BIGINT) AS datasource_id, a.id AS asset_id, a.uuid AS uuid, a.ou_id AS ou_id, \
                a.name AS name, a.database_type AS database_type, a.address AS address, \
                CAST(NULL AS TEXT) AS server_version, 0 AS enabled, CAST(NULL AS TEXT) AS policy_uuid, \
                CAST(NULL AS BIGINT) AS policy_enabled, a.created_at AS created_at FROM assets a \
                WHERE NOT EXISTS (SELECT 1 FROM datasources d WHERE d.uuid = a.uuid) AND a.database_type <> 'estate' \
                AND EXISTS (SELECT 1 FROM backups b WHERE b.asset_id = a.id AND b.deleted_at IS NULL)";
    let rows = match deleted {
        Deleted::Hidden => living,
        Deleted::Only => gone.to_owned(),
        Deleted::Included => format!("{living} UNION ALL {gone}"),
    };
    format!("({rows}) r JOIN ous o ON o.id = r.ou_id")
}

/// The same as `backing_up::address`, in SQL.
fn address(dialect: Dialect) -> String {
    let member = |name: &str| match dialect {
        Dialect::Sqlite => format!("json_extract(d.config, '$.{name}')"),
        Dialect::Postgres => format!("(CAST(d.config AS json)->>'{name}')"),
    };
    let (host, port, database) = (member("host"), member("port"), member("database"));
    let with_port = |known: DatabaseType| {
        let port = known.default_port()?;
        Some(format!("WHEN '{}' THEN '{port}' ", known.as_str()))
    };
    let ports: String = DatabaseType::ALL.into_iter().filter_map(with_port).collect();
    format!(
        "CASE WHEN d.database_type = 'sqlite' THEN COALESCE({database}, '') ELSE COALESCE({host}, '') || ':' || \
         COALESCE(CAST({port} AS TEXT), CASE d.database_type {ports}ELSE '0' END) || '/' || \
         COALESCE({database}, '') END"
    )
}

/// The types of databases that can be backed up.
fn supported(plane: &Protection) -> Vec<String> {
    let types = plane.estate().registry().database_types().into_iter();
    let can = |known: &DatabaseType| backing_up::unsupported(plane, *known, true).is_none();
    types.filter(can).map(|known| known.as_str().to_owned()).collect()
}

fn conditions(wanted: &mut Where, plane: &Protection, asked: &ResourceFilter) -> Result<()> {
    if asked.nothing {
        wanted.and("1 = 0");
    }
    if let Some(uuid) = asked.uuid {
        wanted.and_value("r.uuid = $$", uuid.to_string());
    }
    if let Some(address) = &asked.address {
        wanted.and_value("r.address = $$", address);
    }
    if let Some(name) = &asked.name {
        wanted.and_contains("r.name", name);
    }
    if let Some(database_type) = &asked.database_type {
        wanted.and_value("r.database_type = $$", database_type);
    }
    if let Some(policy) = asked.policy {
        wanted.and_value("r.policy_uuid = $$", policy.to_string());
    }
    if let Some(enabled) = asked.enabled {
        wanted.and(if enabled { "r.enabled = 1" } else { "r.enabled = 0" });
    }
    match asked.deactivated {
        Some(true) => wanted.and("r.policy_enabled = 0"),
        Some(false) => wanted.and("COALESCE(r.policy_enabled, 1) = 1"),
        None => {}
    }
    if let Some(states) = &asked.protected {
        let types = supported(plane).iter().map(|name| wanted.bind(name)).collect::<Vec<_>>().join(", ");
        let supported = format!("(r.enabled = 1 AND r.database_type IN ({types}))");
        let any = states.iter().map(|state| match state {
            Protected::Yes => format!("({supported} AND r.policy_uuid IS NOT NULL)"),
            Protected::No => format!("({supported} AND r.policy_uuid IS NULL)"),
            Protected::Unsupported => format!("(NOT {supported})"),
        });
        let any: Vec<String> = any.chain(["1 = 0".to_owned()]).collect();
        wanted.and(&format!("r.datasource_id IS NOT NULL AND ({})", any.join(" OR ")));
    }
    if let Some(outcomes) = &asked.outcomes {
        let since = wanted.bind(asked.since.unwrap_or(Timestamp::UNIX_EPOCH));
        let succeeded = format!("EXISTS (SELECT 1 {BACKUPS} AND b.started_at >= {since})");
        let failed = format!("EXISTS (SELECT 1 {FAILED} AND f.submitted_at >= {since})");
        let any = outcomes.iter().map(|outcome| outcome.condition()).chain(["1 = 0"]);
        let any = any.collect::<Vec<_>>().join(" OR ");
        let any = any.replace("SUCCEEDED", &succeeded).replace("FAILED", &failed);
        wanted.and(&format!("({any})"));
    }
    Ok(())
}

/// What is asked for, among what the caller sees.
fn visible(conn: &Conn, plane: &Protection, ctx: &OpCtx, asked: &ResourceFilter) -> Result<Where> {
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(Noun::DATASOURCE, Action::VIEW)).narrow(&mut wanted, &PLACE)?;
    conditions(&mut wanted, plane, asked)?;
    Ok(wanted)
}

/// A numbered page of the list.
pub async fn resource_page(
    plane: &Protection,
    ctx: &OpCtx,
    asked: &ResourceFilter,
    page: Page,
) -> Result<PageOf<Resource>> {
    let estate = plane.estate();
    estate.require_some(ctx, Noun::DATASOURCE, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let wanted = visible(&conn, plane, ctx, asked)?;
    let rows = from(conn.dialect(), asked.deleted);
    let total = wanted.count(&mut conn, &rows).await?;
    let items = select(plane, &mut conn, wanted, asked, (page.limit, page.offset)).await?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

/// The page of so many resources after this one.
pub async fn resource_list(
    plane: &Protection,
    ctx: &OpCtx,
    asked: &ResourceFilter,
    after: Option<ResourceKey>,
    limit: u32,
) -> Result<Part<Resource, ResourceKey>> {
    let estate = plane.estate();
    estate.require_some(ctx, Noun::DATASOURCE, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let mut wanted = visible(&conn, plane, ctx, asked)?;
    if let Some((created, id, uuid)) = after {
        wanted.and_after(ORDER, vec![Arg::from(created), Arg::from(id), Arg::from(uuid.to_string())]);
    }
    let limit = limit.min(Page::MAX_LIMIT);
    let mut items = select(plane, &mut conn, wanted, asked, (limit + 1, 0)).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|last| (last.created_at, last.granted(), last.uuid));
    Ok(Part { items, next })
}

/// The resource with this UUID, with what happened since then.
pub async fn resource_get(
    plane: &Protection,
    ctx: &OpCtx,
    uuid: Uuid,
    since: Option<Timestamp>,
) -> Result<Resource> {
    let asked = ResourceFilter { uuid: Some(uuid), deleted: Deleted::Included, since, ..Default::default() };
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    conditions(&mut wanted, plane, &asked)?;
    let found = select(plane, &mut conn, wanted, &asked, (1, 0)).await?;
    drop(conn);
    let unknown = || Error::not_found("resource").saying(format!("there is no resource {uuid}"));
    let resource = found.into_iter().next().ok_or_else(unknown)?;
    let (path, id) = (&resource.unit_path, resource.granted());
    plane.estate().require(ctx, Noun::DATASOURCE, Action::VIEW, path, id).await?;
    Ok(resource)
}

/// The datasource with this UUID. What the caller may do with it is checked by what uses it.
pub async fn datasource_of(plane: &Protection, uuid: Uuid) -> Result<Option<DatasourceId>> {
    let mut conn = plane.estate().store().read().await?;
    let args = vec![Arg::from(uuid.to_string())];
    let row = conn.opt("SELECT id FROM datasources WHERE uuid = $1 AND builtin IS NULL", args).await?;
    row.map(|row| row.id(0)).transpose()
}

/// What is shown of a row is computed only for the rows of the page.
async fn select(
    plane: &Protection,
    conn: &mut Conn,
    mut wanted: Where,
    asked: &ResourceFilter,
    (limit, offset): (u32, u64),
) -> Result<Vec<Resource>> {
    let from = from(conn.dialect(), asked.deleted);
    let condition = wanted.sql().to_owned();
    let limit = wanted.bind(limit);
    let offset = wanted.bind(i64::try_from(offset).unwrap_or(i64::MAX));
    let period = match asked.since {
        None => String::new(),
        Some(since) => {
            let since = wanted.bind(since);
            format!(
                ", (SELECT max(b.started_at) {BACKUPS} AND b.started_at >= {since}), \
                 (SELECT max(f.submitted_at) {FAILED} AND f.submitted_at >= {since})"
            )
        }
    };
    let sql = format!(
        "SELECT r.datasource_id, r.uuid, r.name, r.database_type, r.address, r.server_version, r.enabled, \
         r.unit, r.unit_path, r.policy_uuid, r.created_at, (SELECT min(b.started_at) {BACKUPS}), \
         (SELECT max(b.started_at) {BACKUPS}), \
         (SELECT b.bytes_read {BACKUPS} ORDER BY b.started_at DESC, b.id DESC LIMIT 1){period} \
         FROM (SELECT r.*, o.uuid AS unit, o.path AS unit_path FROM {from} WHERE {condition} ORDER BY {ORDER} \
         LIMIT {limit} OFFSET {offset}) r ORDER BY {ORDER}"
    );
    let rows = conn.select(sql, wanted.into_parts().1).await?;
    rows.iter().map(|row| from_row(plane, row, asked.since.is_some())).collect()
}

fn from_row(plane: &Protection, row: &Row, has_period: bool) -> Result<Resource> {
    let (datasource, database_type, enabled) = (row.id_opt(0)?, row.text(3)?, row.flag(6)?);
    let unsupported = match datasource {
        Some(_) => backing_up::unsupported(plane, DatabaseType::stored(&database_type), enabled),
        None => Some(Error::conflict("deleted", "the datasource was deleted")),
    };
    let period = match has_period {
        true => Some(Period { last_success: row.time_opt(14)?, last_failure: row.time_opt(15)? }),
        false => None,
    };
    let policy = row.text_opt(9)?.map(|text| text.parse().map_err(Error::internal)).transpose()?;
    Ok(Resource {
        uuid: row.uuid(1)?,
        datasource,
        name: row.text(2)?,
        database_type,
        address: row.text(4)?,
        server_version: row.text_opt(5)?,
        enabled,
        unit: row.uuid(7)?,
        unit_path: row.text(8)?,
        policy,
        unsupported: unsupported.map(|error| error.message),
        first_backup: row.time_opt(11)?,
        last_backup: row.time_opt(12)?,
        size: row.int_opt(13)?,
        created_at: row.time(10)?,
        period,
    })
}
