//! Datasources on the wire.

use landreeve_core::datasource::DatabaseType;
use landreeve_core::hashid::HashIds;
use landreeve_core::{Input, Result, Secret};
use landreeve_estate::ops::datasources::Seen;
use landreeve_estate::ops::{ConnectionMode, DatasourceDetails};
use landreeve_http::body::Fields;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Link, Time, ToMany};
use crate::input::{Names, Patch, document, to_many};

pub const KIND: &str = "datasources";
pub const AGENTS: &str = "datasource_agents";
pub const NAMES: Names = Names(&["agents"]);

const TEXT: std::ops::RangeInclusive<usize> = 0..=4_096;

#[derive(Debug, Serialize, ToSchema)]
pub struct Datasource {
    #[schema(read_only, example = "8qxn-y9ex-65vd")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "datasources")]
    pub kind: &'static str,
    pub attributes: DatasourceAttributes,
    pub relationships: DatasourceRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DatasourceRelationships {
    pub agents: ToMany,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DatasourceAttributes {
    #[schema(min_length = 1, max_length = 255, example = "Shop")]
    pub name: String,
    #[schema(example = "postgres")]
    pub database_type: &'static str,
    /// `direct`, `agent` or `ssh_tunnel`; only `direct` can connect so far.
    #[schema(pattern = "^(direct|agent|ssh_tunnel)$", example = "direct")]
    pub connection_mode: &'static str,
    #[schema(max_length = 4096)]
    pub host: Option<String>,
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<u16>,
    #[schema(max_length = 4096)]
    pub username: Option<String>,
    /// Only for keys that can manage this datasource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 65536)]
    pub password: Option<Option<String>>,
    /// The database's name; for `sqlite`, the path of the file.
    #[schema(max_length = 4096)]
    pub database: Option<String>,
    #[schema(max_length = 4096)]
    pub ssh_tunnel_host: Option<String>,
    #[schema(minimum = 1, maximum = 65535)]
    pub ssh_tunnel_port: Option<u16>,
    #[schema(max_length = 4096)]
    pub ssh_tunnel_user: Option<String>,
    /// An IANA name.
    #[schema(example = "Europe/Berlin")]
    pub data_time_zone: Option<String>,
    pub require_ssl: bool,
    pub verify_ssl: bool,
    pub enabled: bool,
    #[schema(read_only)]
    pub created_at: Time,
    #[schema(read_only)]
    pub updated_at: Time,
    #[schema(read_only)]
    pub schema_updated_at: Option<Time>,
    #[schema(read_only)]
    pub total_row_count: Option<u64>,
    #[schema(read_only)]
    pub total_row_count_exact: Option<bool>,
    #[schema(read_only)]
    pub default_schema_name: Option<String>,
    #[schema(minimum = 1, maximum = 1000, example = 20)]
    pub max_concurrent_executions: u32,
    #[schema(read_only)]
    pub server_version: Option<String>,
    pub update_schema_nightly: bool,
    pub update_schema_row_counts: bool,
    #[schema(max_length = 4096)]
    pub athena_region: Option<String>,
    #[schema(max_length = 4096)]
    pub athena_workgroup: Option<String>,
    #[schema(max_length = 4096)]
    pub databricks_http_path: Option<String>,
    #[schema(max_length = 4096)]
    pub snowflake_identifier: Option<String>,
    #[schema(max_length = 4096)]
    pub snowflake_region: Option<String>,
    #[schema(max_length = 4096)]
    pub snowflake_warehouse: Option<String>,
    /// Only for keys that can manage this datasource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 65536)]
    pub bigquery_service_key: Option<Option<String>>,
}

const READ_ONLY: [&str; 7] = [
    "created_at",
    "updated_at",
    "schema_updated_at",
    "total_row_count",
    "total_row_count_exact",
    "default_schema_name",
    "server_version",
];

pub fn render(seen: &Seen, ids: &HashIds, agents: &[(i64, String)]) -> Datasource {
    let datasource = &seen.datasource;
    let details = &datasource.details;
    let secret = |secret: &Option<Secret>| {
        seen.credentials.then(|| secret.as_ref().map(|secret| secret.reveal().to_owned()))
    };
    let extra = |name: &str| details.extras.get(name).cloned();
    let linked = datasource.agents.iter().filter_map(|id| {
        let (_, key) = agents.iter().find(|(known, _)| *known == id.0)?;
        Some(Link { id: key.clone(), kind: AGENTS })
    });
    Datasource {
        id: ids.encode_grouped(datasource.id),
        kind: KIND,
        attributes: DatasourceAttributes {
            name: details.name.clone(),
            database_type: details.database_type.as_str(),
            connection_mode: details.mode.as_str(),
            host: details.host.clone(),
            port: details.port,
            username: details.username.clone(),
            password: secret(&details.password),
            database: details.database.clone(),
            ssh_tunnel_host: details.ssh.host.clone(),
            ssh_tunnel_port: details.ssh.port,
            ssh_tunnel_user: details.ssh.user.clone(),
            data_time_zone: details.data_time_zone.clone(),
            require_ssl: details.require_tls,
            verify_ssl: details.verify_tls,
            enabled: details.enabled,
            created_at: Time(datasource.created_at),
            updated_at: Time(datasource.updated_at),
            schema_updated_at: datasource.schema_updated_at.map(Time),
            total_row_count: datasource.total_rows,
            total_row_count_exact: datasource.total_rows_exact,
            default_schema_name: datasource.default_schema.clone(),
            max_concurrent_executions: details.max_concurrent,
            server_version: datasource.server_version.clone(),
            update_schema_nightly: details.nightly_schema,
            update_schema_row_counts: details.row_counts,
            athena_region: extra("athena_region"),
            athena_workgroup: extra("athena_workgroup"),
            databricks_http_path: extra("databricks_http_path"),
            snowflake_identifier: extra("snowflake_identifier"),
            snowflake_region: extra("snowflake_region"),
            snowflake_warehouse: extra("snowflake_warehouse"),
            bigquery_service_key: secret(&details.service_key),
        },
        relationships: DatasourceRelationships { agents: ToMany { data: linked.collect() } },
    }
}

/// A request about a datasource: changes to its details, and its agents by their public keys, if given.
pub type Change = (Patch<DatasourceDetails>, Option<Vec<String>>);

/// `id` is the one in the path; `None` if the datasource is being created, which makes members required.
pub fn read(body: &[u8], id: Option<&str>, types: &[DatabaseType]) -> Result<Input<Change>> {
    let creating = id.is_none();
    let read = document(
        body,
        KIND,
        id,
        |fields| attributes(fields, creating, types),
        |fields| to_many(fields, "agents", AGENTS, |text| Some(text.to_owned())).value(),
    )?;
    Ok(read.named(|field| NAMES.pointer(field)))
}

fn attributes(fields: &Fields<'_>, creating: bool, types: &[DatabaseType]) -> Patch<DatasourceDetails> {
    let mut patch: Patch<DatasourceDetails> = Patch::new();
    fields.ignore(&READ_ONLY);
    let text = |name: &str| fields.optional(name, |field| field.text(TEXT));
    let port = |name: &str| {
        fields.optional(name, |field| field.int(1..=65_535).and_then(|port| u16::try_from(port).ok()))
    };
    let flag = |name: &str| fields.optional(name, |field| field.bool());
    patch.take(text("name"), |details, name| details.name = name.unwrap_or_default());
    let kind = fields.optional("database_type", |field| {
        field.parse(|text| {
            let names = || types.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
            DatabaseType::find(types, text).ok_or_else(|| format!("must be one of {}", names()))
        })
    });
    let missing = fields.raw("database_type").map_or(creating, serde_json::Value::is_null);
    if missing {
        fields.fault("database_type", "required", "is required");
    }
    patch.take(kind, |details, kind| details.database_type = kind.unwrap_or(details.database_type));
    let modes = ConnectionMode::ALL.map(|mode| (mode.as_str(), mode));
    patch.take(fields.optional("connection_mode", |field| field.choice(&modes)), |details, mode| {
        details.mode = mode.unwrap_or(ConnectionMode::Direct);
    });
    patch.take(text("host"), |details, host| details.host = host);
    patch.take(port("port"), |details, port| details.port = port);
    patch.take(text("username"), |details, name| details.username = name);
    let secret = |name: &str| fields.optional(name, |field| field.text(0..=65_536).map(Secret::new));
    patch.take(secret("password"), |details, password| details.password = password);
    patch.take(text("database"), |details, name| details.database = name);
    patch.take(text("ssh_tunnel_host"), |details, host| details.ssh.host = host);
    patch.take(port("ssh_tunnel_port"), |details, port| details.ssh.port = port);
    patch.take(text("ssh_tunnel_user"), |details, user| details.ssh.user = user);
    patch.take(text("data_time_zone"), |details, zone| details.data_time_zone = zone);
    patch.take(flag("require_ssl"), |details, flag| details.require_tls = flag.unwrap_or(false));
    patch.take(flag("verify_ssl"), |details, flag| details.verify_tls = flag.unwrap_or(false));
    patch.take(flag("enabled"), |details, flag| details.enabled = flag.unwrap_or(true));
    let most = fields.optional("max_concurrent_executions", |field| {
        field.int(0..=i64::from(u32::MAX)).and_then(|most| u32::try_from(most).ok())
    });
    patch.take(most, |details, most| details.max_concurrent = most.unwrap_or(20));
    patch.take(flag("update_schema_nightly"), |details, flag| details.nightly_schema = flag.unwrap_or(true));
    patch.take(flag("update_schema_row_counts"), |details, flag| details.row_counts = flag.unwrap_or(true));
    patch.take(secret("bigquery_service_key"), |details, key| details.service_key = key);
    patch.take(text("athena_region"), |details, text| extra(details, "athena_region", text));
    patch.take(text("athena_workgroup"), |details, text| extra(details, "athena_workgroup", text));
    patch.take(text("databricks_http_path"), |details, text| extra(details, "databricks_http_path", text));
    patch.take(text("snowflake_identifier"), |details, text| extra(details, "snowflake_identifier", text));
    patch.take(text("snowflake_region"), |details, text| extra(details, "snowflake_region", text));
    patch.take(text("snowflake_warehouse"), |details, text| extra(details, "snowflake_warehouse", text));
    patch
}

fn extra(details: &mut DatasourceDetails, name: &str, text: Option<String>) {
    match text {
        Some(text) => details.extras.insert(name.to_owned(), text),
        None => details.extras.remove(name),
    };
}

/// The result of a connection test.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestResult {
    /// `ok` or `error`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// The database's message; null if the status is `ok`.
    pub error_message: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Refresh {
    /// The execution to poll for the progress of the refresh.
    #[schema(example = "02ca5b65-a269-4c45-8d4a-0c74ff3ae670")]
    pub execution_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SchemaAccess {
    pub data_key: String,
    pub data_access_token: String,
}
