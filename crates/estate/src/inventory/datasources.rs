//! A datasource: how to reach a database, and what is known about it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::datasource::{DatabaseType, Grade};
use landreeve_core::error::Faults;
use landreeve_core::ids::{AgentId, DatasourceId, OuId};
use landreeve_core::schema::Catalog;
use landreeve_core::source::SessionZone;
use landreeve_core::{Error, Part, Random, Result, Secret};
use uuid::Uuid;

use super::places::{AGENTS, DATASOURCES};
use super::stored::{StoredCatalog, StoredConfig, StoredSecrets};
use crate::args;
use crate::identity::Visibility;
use crate::secrets::{SealKey, Sealed, SealedColumn};
use crate::store::{Conn, Listing, Row, Tx, Where};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datasource {
    pub id: DatasourceId,
    /// The same in every backup, also after it was deleted.
    pub uuid: Uuid,
    pub ou: OuId,
    pub ou_path: String,
    pub details: DatasourceDetails,
    /// Set for a source created by the server.
    pub builtin: Option<String>,
    /// Incremented by every change of the connection settings.
    pub version: i64,
    pub agents: Vec<AgentId>,
    pub server_version: Option<String>,
    pub default_schema: Option<String>,
    pub session_zone: SessionZone,
    pub total_rows: Option<u64>,
    pub total_rows_exact: Option<bool>,
    pub schema_updated_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Incremented by every change a user makes.
    pub row_version: i64,
}

/// The settings of a datasource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasourceDetails {
    pub name: String,
    pub database_type: DatabaseType,
    pub mode: ConnectionMode,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Used instead of the first where something is written: restores, loading. No dialect shows it.
    pub writer: Option<Login>,
    pub database: Option<String>,
    pub ssh: Ssh,
    /// The zone of values without one, and of the session.
    pub data_time_zone: Option<String>,
    pub require_tls: bool,
    pub verify_tls: bool,
    pub enabled: bool,
    pub max_concurrent: u32,
    pub nightly_schema: bool,
    pub row_counts: bool,
    /// A SQLite file chosen by the machine's operator: it can be anywhere.
    pub operator_file: bool,
    pub service_key: Option<Secret>,
    /// Attributes of database types without a driver: stored without effect.
    pub extras: BTreeMap<String, String>,
}

/// A user of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: Secret,
}

/// Stored without effect: connecting through SSH is not supported yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ssh {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionMode {
    Direct,
    Agent,
    SshTunnel,
}

impl ConnectionMode {
    pub const ALL: [ConnectionMode; 3] =
        [ConnectionMode::Direct, ConnectionMode::Agent, ConnectionMode::SshTunnel];

    pub const fn as_str(self) -> &'static str {
        match self {
            ConnectionMode::Direct => "direct",
            ConnectionMode::Agent => "agent",
            ConnectionMode::SshTunnel => "ssh_tunnel",
        }
    }

    pub fn parse(text: &str) -> Option<ConnectionMode> {
        ConnectionMode::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

impl Default for DatasourceDetails {
    fn default() -> DatasourceDetails {
        DatasourceDetails {
            name: String::new(),
            database_type: DatabaseType::Postgres,
            mode: ConnectionMode::Direct,
            host: None,
            port: None,
            username: None,
            password: None,
            writer: None,
            database: None,
            ssh: Ssh::default(),
            data_time_zone: None,
            require_tls: false,
            verify_tls: false,
            enabled: true,
            max_concurrent: 20,
            nightly_schema: true,
            row_counts: true,
            operator_file: false,
            service_key: None,
            extras: BTreeMap::new(),
        }
    }
}

const NAME_MAX: usize = 255;

impl DatasourceDetails {
    /// Every fault, by the domain's field names.
    pub fn check(&self, faults: &mut Faults) {
        let length = self.name.chars().count();
        if self.name.trim().is_empty() {
            faults.push("name", "required", "is required");
        } else if length > NAME_MAX {
            faults.push("name", "length", format!("must have at most {NAME_MAX} characters"));
        }
        if let Some(zone) = &self.data_time_zone
            && TimeZone::get(zone).is_err()
        {
            let message = format!("{zone:?} is not a time zone; use an IANA name such as Europe/Berlin");
            faults.push("data_time_zone", "time_zone", message);
        }
        if !(1..=1_000).contains(&self.max_concurrent) {
            faults.push("max_concurrent_executions", "range", "must be from 1 to 1000");
        }
        for (field, port) in [("port", self.port), ("ssh_tunnel_port", self.ssh.port)] {
            if port == Some(0) {
                faults.push(field, "range", "must be from 1 to 65535");
            }
        }
        let network = self.mode == ConnectionMode::Direct
            && self.database_type.grade() != Grade::NoDriver
            && !matches!(self.database_type, DatabaseType::Sqlite | DatabaseType::Catalog(_));
        if network && self.host.as_deref().is_none_or(|host| host.trim().is_empty()) {
            let message = format!("is required to connect to {}", self.database_type.as_str());
            faults.push("host", "required", message);
        }
        match &self.writer {
            Some(_) if matches!(self.database_type, DatabaseType::Sqlite | DatabaseType::Catalog(_)) => {
                let message = format!("is not used for {}, which has no users", self.database_type.as_str());
                faults.push("write_user", "not_used", message);
            }
            Some(writer) if writer.username.trim().is_empty() => {
                faults.push("write_user", "required", "must not be empty");
            }
            _ => {}
        }
        if self.database_type == DatabaseType::Sqlite && self.database.as_deref().is_none_or(str::is_empty) {
            faults.push("database", "required", "is required: the path of the SQLite file");
        }
    }

    /// Whether a connection with `other` would reach something else, or in another way.
    pub fn connects_like(&self, other: &DatasourceDetails) -> bool {
        let parts = |details: &DatasourceDetails| {
            (
                (details.database_type, details.mode, details.host.clone(), details.port),
                (details.username.clone(), details.password.clone(), details.database.clone()),
                (details.require_tls, details.verify_tls, details.data_time_zone.clone()),
                (details.max_concurrent, details.enabled),
            )
        };
        parts(self) == parts(other)
    }
}

macro_rules! columns {
    () => {
        "d.id, d.ou_id, o.path, d.name, d.database_type, d.enabled, d.builtin, d.config, d.secrets_sealed, \
         d.version, d.server_version, d.default_schema, d.session_zone, d.total_rows, d.total_rows_exact, \
         d.schema_updated_at, d.created_at, d.updated_at, d.row_version, d.uuid"
    };
}

macro_rules! from {
    () => {
        "datasources d JOIN ous o ON o.id = d.ou_id"
    };
}

const LISTING: Listing = Listing {
    columns: columns!(),
    from: from!(),
    order: "d.id",
    size: Some("length(d.config) + length(d.secrets_sealed)"),
};

/// Limits a list of datasources.
#[derive(Debug, Clone, Default)]
pub struct DatasourceFilter {
    pub ids: Option<Vec<DatasourceId>>,
    /// Only datasources that use a visible agent.
    pub with_agents: bool,
}

pub const SECRETS: SealedColumn = crate::sealed_column!("datasources", "id", "secrets_sealed", "datasource");

fn secret_context(id: DatasourceId) -> String {
    format!("datasource:{id}")
}

const UTC_ONLY: &str = "utc_for_lack_of_zone_tables";

/// Reads a datasource without its secrets.
fn from_row(row: &Row) -> Result<Datasource> {
    let id: DatasourceId = row.id(0)?;
    let mut details = DatasourceDetails {
        name: row.text(3)?,
        database_type: DatabaseType::stored(&row.text(4)?),
        enabled: row.flag(5)?,
        ..DatasourceDetails::default()
    };
    row.json::<StoredConfig>(7)?.into_details(&mut details);
    let session_zone = match row.text_opt(12)?.as_deref() {
        Some(UTC_ONLY) => SessionZone::UtcForLackOfZoneTables,
        _ => SessionZone::AsAsked,
    };
    Ok(Datasource {
        id,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        details,
        builtin: row.text_opt(6)?,
        version: row.int(9)?,
        agents: Vec::new(),
        server_version: row.text_opt(10)?,
        default_schema: row.text_opt(11)?,
        session_zone,
        total_rows: row.int_opt(13)?.map(i64::unsigned_abs),
        total_rows_exact: row.flag_opt(14)?,
        schema_updated_at: row.time_opt(15)?,
        created_at: row.time(16)?,
        updated_at: row.time(17)?,
        row_version: row.int(18)?,
        uuid: row.uuid(19)?,
    })
}

fn unseal(datasource: &mut Datasource, row: &Row, seal: &SealKey) -> Result<()> {
    let plain = seal.open(&secret_context(datasource.id), &row.bytes(8)?)?;
    let secrets: StoredSecrets = serde_json::from_slice(&plain).map_err(Error::internal)?;
    secrets.into_details(&mut datasource.details);
    Ok(())
}

pub async fn get(conn: &mut Conn, seal: &SealKey, id: DatasourceId) -> Result<Option<Datasource>> {
    let sql = concat!("SELECT ", columns!(), " FROM ", from!(), " WHERE d.id = $1");
    let Some(row) = conn.opt(sql, args![id]).await? else { return Ok(None) };
    let mut datasource = from_row(&row)?;
    unseal(&mut datasource, &row, seal)?;
    let agents = conn
        .all("SELECT agent_id FROM datasource_agents WHERE datasource_id = $1 ORDER BY agent_id", args![id])
        .await?;
    datasource.agents = agents.iter().map(|row| row.id(0)).collect::<Result<_>>()?;
    Ok(Some(datasource))
}

/// The path of its unit, and whether the server created it.
pub async fn place(conn: &mut Conn, id: DatasourceId) -> Result<Option<(String, bool)>> {
    let sql = "SELECT o.path, d.builtin FROM datasources d JOIN ous o ON o.id = d.ou_id WHERE d.id = $1";
    let row = conn.opt(sql, args![id]).await?;
    row.map(|row| Ok((row.text(0)?, row.text_opt(1)?.is_some()))).transpose()
}

/// The types of those that exist.
pub async fn types(
    conn: &mut Conn,
    ids: &BTreeSet<DatasourceId>,
) -> Result<BTreeMap<DatasourceId, DatabaseType>> {
    let mut wanted = Where::new(conn.dialect());
    wanted.and_ids("id", ids.iter().map(|id| id.0));
    let (condition, values) = wanted.into_parts();
    let rows =
        conn.select(format!("SELECT id, database_type FROM datasources WHERE {condition}"), values).await?;
    rows.iter().map(|row| Ok((row.id(0)?, DatabaseType::stored(&row.text(1)?)))).collect()
}

/// The id of the built-in datasource with this name.
pub async fn builtin(conn: &mut Conn, word: &str) -> Result<Option<DatasourceId>> {
    let row = conn.opt("SELECT id FROM datasources WHERE builtin = $1", args![word]).await?;
    row.map(|row| row.id(0)).transpose()
}

/// The page of visible datasources after this id. Decrypts only the secrets of those for which `opens` is true.
pub async fn list(
    conn: &mut Conn,
    visibility: &Visibility,
    asked: &DatasourceFilter,
    after: Option<DatasourceId>,
    seal: &SealKey,
    opens: impl Fn(&Datasource) -> bool,
) -> Result<Part<Datasource, DatasourceId>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &DATASOURCES)?;
    if let Some(ids) = &asked.ids {
        wanted.and_ids("d.id", ids.iter().map(|id| id.0));
    }
    if asked.with_agents {
        let visible = visibility.condition(&mut wanted, &AGENTS)?;
        wanted.and(&format!(
            "EXISTS (SELECT 1 FROM datasource_agents x JOIN agents a ON a.id = x.agent_id \
             WHERE x.datasource_id = d.id AND {visible})"
        ));
    }
    if let Some(after) = after {
        wanted.and_after("d.id", args![after]);
    }
    let read = |row: &Row| {
        let mut datasource = from_row(row)?;
        if opens(&datasource) {
            unseal(&mut datasource, row, seal)?;
        }
        Ok(datasource)
    };
    let mut part = wanted.page(conn, &LISTING, read, |datasource| datasource.id).await?;
    let mut links = Where::new(conn.dialect());
    links.and_ids("datasource_id", part.items.iter().map(|datasource| datasource.id.0));
    let (condition, values) = links.into_parts();
    let sql =
        format!("SELECT datasource_id, agent_id FROM datasource_agents WHERE {condition} ORDER BY agent_id");
    for link in conn.select(sql, values).await? {
        let id: DatasourceId = link.id(0)?;
        if let Some(datasource) = part.items.iter_mut().find(|datasource| datasource.id == id) {
            datasource.agents.push(link.id(1)?);
        }
    }
    Ok(part)
}

/// The sealed secrets of a datasource's details.
pub fn seal_secrets(
    key: &SealKey,
    random: &dyn Random,
    id: DatasourceId,
    details: &DatasourceDetails,
) -> Result<Sealed> {
    let plain = serde_json::to_vec(&StoredSecrets::from_details(details)).map_err(Error::internal)?;
    key.seal(random, &secret_context(id), &plain)
}

pub async fn insert(tx: &mut Tx, datasource: &Datasource, sealed: Sealed) -> Result<()> {
    let config =
        serde_json::to_string(&StoredConfig::from_details(&datasource.details)).map_err(Error::internal)?;
    tx.exec(
        "INSERT INTO datasources (id, ou_id, name, database_type, enabled, builtin, config, secrets_sealed, version, \
         created_at, updated_at, uuid) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)",
        args![
            datasource.id,
            datasource.ou,
            &datasource.details.name,
            datasource.details.database_type.as_str(),
            datasource.details.enabled,
            datasource.builtin.clone(),
            config,
            sealed,
            datasource.version,
            datasource.created_at,
            datasource.uuid.to_string(),
        ],
    )
    .await?;
    link_agents(tx, datasource.id, &datasource.agents).await
}

/// Writes the datasource if it has not changed since it was read.
pub async fn update(tx: &mut Tx, datasource: &Datasource, sealed: Sealed) -> Result<()> {
    let config =
        serde_json::to_string(&StoredConfig::from_details(&datasource.details)).map_err(Error::internal)?;
    tx.update_row(
        "datasource",
        "UPDATE datasources SET name = $2, database_type = $3, enabled = $4, config = $5, secrets_sealed = $6, \
         version = $7, updated_at = $8, row_version = row_version + 1 WHERE id = $1 AND row_version = $9",
        args![
            datasource.id,
            &datasource.details.name,
            datasource.details.database_type.as_str(),
            datasource.details.enabled,
            config,
            sealed,
            datasource.version,
            datasource.updated_at,
            datasource.row_version,
        ],
    )
    .await?;
    link_agents(tx, datasource.id, &datasource.agents).await
}

async fn link_agents(tx: &mut Tx, id: DatasourceId, agents: &[AgentId]) -> Result<()> {
    tx.exec("DELETE FROM datasource_agents WHERE datasource_id = $1", args![id]).await?;
    for agent in agents {
        tx.exec("INSERT INTO datasource_agents (datasource_id, agent_id) VALUES ($1, $2)", args![id, *agent])
            .await?;
    }
    Ok(())
}

pub async fn delete(tx: &mut Tx, id: DatasourceId) -> Result<()> {
    tx.exec("DELETE FROM datasources WHERE id = $1", args![id]).await.map(drop)
}

/// Stores the result of a refresh.
pub async fn set_schema(
    tx: &mut Tx,
    id: DatasourceId,
    catalog: &Catalog,
    zone: SessionZone,
    now: Timestamp,
) -> Result<()> {
    let total = catalog.total_rows();
    let zone = match zone {
        SessionZone::AsAsked => "as_asked",
        SessionZone::UtcForLackOfZoneTables => UTC_ONLY,
    };
    tx.exec(
        "UPDATE datasources SET server_version = $2, default_schema = $3, session_zone = $4, total_rows = $5, \
         total_rows_exact = $6, schema_updated_at = $7 WHERE id = $1",
        args![
            id,
            &catalog.server_version,
            catalog.default_schema.clone(),
            zone,
            total.map(|(rows, _)| i64::try_from(rows).unwrap_or(i64::MAX)),
            total.map(|(_, exact)| exact),
            now,
        ],
    )
    .await?;
    let stored = serde_json::to_string(&StoredCatalog::from(catalog)).map_err(Error::internal)?;
    tx.exec(
        "INSERT INTO datasource_schemas (datasource_id, catalog, read_at) VALUES ($1, $2, $3) \
         ON CONFLICT (datasource_id) DO UPDATE SET catalog = excluded.catalog, read_at = excluded.read_at",
        args![id, stored, now],
    )
    .await
    .map(drop)
}

pub async fn schema(conn: &mut Conn, id: DatasourceId) -> Result<Option<(Catalog, Timestamp)>> {
    let row = conn
        .opt("SELECT catalog, read_at FROM datasource_schemas WHERE datasource_id = $1", args![id])
        .await?;
    row.map(|row| Ok((Catalog::from(row.json::<StoredCatalog>(0)?), row.time(1)?))).transpose()
}

/// A datasource whose tables a plane offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfCatalog {
    pub id: DatasourceId,
    pub name: String,
    pub host: Option<String>,
    pub database: Option<String>,
}

/// The datasources of this type in a unit.
pub async fn of_catalog(conn: &mut Conn, ou: OuId, database_type: &str) -> Result<Vec<OfCatalog>> {
    let sql = "SELECT id, name, config FROM datasources WHERE ou_id = $1 AND database_type = $2 AND builtin IS NULL \
               ORDER BY id";
    let rows = conn.all(sql, args![ou, database_type]).await?;
    let read = |row: &Row| {
        let config: StoredConfig = row.json(2)?;
        Ok(OfCatalog { id: row.id(0)?, name: row.text(1)?, host: config.host, database: config.database })
    };
    rows.iter().map(read).collect()
}

/// The datasources of a unit with this name or this id.
pub async fn named(
    conn: &mut Conn,
    ou: OuId,
    name: &str,
    id: Option<DatasourceId>,
) -> Result<Vec<DatasourceId>> {
    let id = id.unwrap_or(DatasourceId(0));
    let sql = "SELECT id FROM datasources WHERE ou_id = $1 AND (name = $2 OR id = $3) ORDER BY id";
    conn.all(sql, args![ou, name, id]).await?.iter().map(|row| row.id(0)).collect()
}

/// Connections of this datasource reach something else from now on.
pub async fn reconnect(tx: &mut Tx, id: DatasourceId) -> Result<()> {
    tx.exec("UPDATE datasources SET version = version + 1 WHERE id = $1", args![id]).await.map(drop)
}
