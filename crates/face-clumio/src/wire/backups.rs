//! A backup, and the tables in it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use landreeve_core::{Action, Error, Input, Noun, OpCtx, Result};
use landreeve_http::body::{Field, NullIs, Rules, Unknown, json_object, read_input};
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::backups::{Backup, BackupFilter};
use landreeve_protection::keep::Keep;
use landreeve_protection::nouns::{RECORD, RESTORE};
use landreeve_protection::records::{BackupColumn, BackupTable};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::datasources::uuid;
use super::filter::{Kind, Op, Rule};
use super::link::{Base, Links};
use super::list::Asked;
use super::{ACCOUNT, REGION, RESOURCE_TYPE, may, time};

pub const BACKUP_FILTER: [Rule; 2] = [
    Rule::text("resource_id", &[Op::Eq]),
    Rule { field: "start_timestamp", ops: &[Op::Lte, Op::Gt], kind: Kind::Time },
];

/// Databases and tables by their names.
pub const NAME_FILTER: [Rule; 1] = [Rule::text("name", &[Op::BeginsWith])];

pub const SORT: &str = "start_timestamp";

/// The backups that can be used now.
pub fn backup_filter(asked: &Asked, now: Timestamp) -> BackupFilter {
    let conditions = &asked.conditions;
    let asset = conditions.text("resource_id", Op::Eq).map(|text| Uuid::parse_str(text).ok());
    let time = |op: Op| conditions.time("start_timestamp", op);
    BackupFilter {
        asset: asset.flatten(),
        started: (time(Op::Gt), time(Op::Lte)),
        usable_at: Some(now),
        // What is malformed is the id of nothing.
        nothing: asset == Some(None),
        oldest_first: asked.sort().is_some_and(|(_, descends)| !descends),
        repository: None,
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BackupBody {
    id: String,
    /// `granular_backup`
    #[serde(rename = "type")]
    kind: &'static str,
    resource_id: String,
    resource_type: &'static str,
    /// `HOST:PORT/DATABASE`, or the path of a SQLite file.
    database_native_id: String,
    engine: String,
    engine_version: String,
    account_native_id: &'static str,
    aws_azs: Vec<String>,
    aws_region: &'static str,
    start_timestamp: String,
    expiration_timestamp: String,
    migration_timestamp: Option<String>,
    /// Bytes that were read.
    size: i64,
    instances: Vec<String>,
    kms_key_native_id: Option<String>,
    option_group_name: Option<String>,
    parameter_group_name: Option<String>,
    security_group_native_ids: Vec<String>,
    subnet_group_name: Option<String>,
    tags: Vec<String>,
    #[serde(rename = "_links")]
    links: Links,
}

impl BackupBody {
    pub fn new(base: &Base, ctx: &OpCtx, backup: &Backup) -> BackupBody {
        let id = backup.uuid.to_string();
        let path = format!("/backups/aws/rds-resources/{id}");
        let granted = backup.asset.datasource.map_or(0, |id| id.0);
        let may = |noun: Noun, action: Action| may(ctx, (noun, action), (&backup.ou_path, granted));
        let links = Links::new(base.get(&path))
            .and(true, "list-backup-aws-rds-resource-databases", || base.get(&format!("{path}/databases")))
            .and(may(RESTORE, Action::USE), "restore-aws-rds-resource", || {
                base.link("post", "/restores/aws/rds-resources")
            })
            .and(may(RECORD, Action::USE), "restore-rds-record", || {
                base.link("post", "/restores/aws/rds-resources/records")
            });
        BackupBody {
            id,
            kind: "granular_backup",
            resource_id: backup.asset.uuid.to_string(),
            resource_type: RESOURCE_TYPE,
            database_native_id: backup.asset.address.clone(),
            engine: backup.asset.database_type.clone(),
            engine_version: backup.server_version.clone(),
            account_native_id: ACCOUNT,
            aws_azs: Vec::new(),
            aws_region: REGION,
            start_timestamp: time(backup.started_at),
            expiration_timestamp: time(backup.expires_at),
            migration_timestamp: None,
            size: backup.bytes_read,
            instances: Vec::new(),
            kms_key_native_id: None,
            option_group_name: None,
            parameter_group_name: None,
            security_group_native_ids: Vec::new(),
            subnet_group_name: None,
            tags: Vec::new(),
            links,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DatabaseBody {
    pub name: String,
    #[serde(rename = "_links")]
    links: Links,
}

impl DatabaseBody {
    pub fn new(base: &Base, backup: &Backup) -> DatabaseBody {
        let name = backup.asset.database().to_owned();
        let path = tables_path(backup);
        let links = Links::new(base.get(&format!("/backups/aws/rds-resources/{}/databases", backup.uuid)))
            .and(true, "list-backup-aws-rds-resource-database-tables", || base.get(&path));
        DatabaseBody { name, links }
    }
}

/// Where the tables of a backup are.
pub fn tables_path(backup: &Backup) -> String {
    let name =
        percent_encoding::utf8_percent_encode(backup.asset.database(), percent_encoding::NON_ALPHANUMERIC);
    format!("/backups/aws/rds-resources/{}/databases/{name}/tables", backup.uuid)
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TableBody {
    id: String,
    /// `SCHEMA.TABLE`
    name: String,
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<EmbeddedColumns>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
struct EmbeddedColumns {
    #[serde(rename = "read-backup-aws-rds-resource-database-table-columns")]
    columns: ColumnsBody,
}

impl TableBody {
    pub fn new(base: &Base, backup: &Backup, table: &BackupTable, embed: bool) -> TableBody {
        let id = table_id(table);
        let path = format!("{}/{id}", tables_path(backup));
        let columns = format!("{path}/columns");
        let links = Links::new(base.get(&path)).and(
            true,
            "read-backup-aws-rds-resource-database-table-columns",
            || base.get(&columns),
        );
        let embedded = embed.then(|| EmbeddedColumns { columns: ColumnsBody::new(base, backup, table) });
        TableBody { id, name: table_name(table), embedded, links }
    }
}

/// As it is written in SQL, without quotes.
pub fn table_name(table: &BackupTable) -> String {
    format!("{}.{}", table.schema, table.name)
}

/// In a URL without escapes.
pub fn table_id(table: &BackupTable) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}\0{}", table.schema, table.name))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnsBody {
    columns: Vec<ColumnBody>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
struct ColumnBody {
    name: String,
    /// As the database writes it.
    #[serde(rename = "type")]
    kind: String,
    is_nullable: bool,
    is_primary_key: bool,
}

impl ColumnsBody {
    pub fn new(base: &Base, backup: &Backup, table: &BackupTable) -> ColumnsBody {
        let column = |column: &BackupColumn| ColumnBody {
            name: column.name.clone(),
            kind: column.data_type.clone(),
            is_nullable: column.nullable,
            is_primary_key: column.is_key,
        };
        let path = format!("{}/{}/columns", tables_path(backup), table_id(table));
        ColumnsBody {
            columns: table.columns.iter().map(column).collect(),
            links: Links::new(base.get(&path)),
        }
    }
}

/// A backup on demand.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BackupRequest {
    #[expect(dead_code, reason = "only documents the body; `read_backup` parses it and collects all faults")]
    resource_id: String,
    #[expect(dead_code, reason = "only documents the body; `read_backup` parses it and collects all faults")]
    settings: Option<BackupSettings>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct BackupSettings {
    /// Without it, the retention that the resource's policy has for `on_demand`, else seven days.
    #[expect(dead_code, reason = "only documents the body; `read_backup` parses it and collects all faults")]
    retention_duration: Option<Duration>,
    /// The name of a repository. Without it, `default`.
    #[expect(dead_code, reason = "only documents the body; `read_backup` parses it and collects all faults")]
    backup_aws_region: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct Duration {
    /// `hours`, `days`, `weeks`, `months` or `years`.
    #[expect(dead_code, reason = "only documents the body; `read_backup` parses it and collects all faults")]
    unit: String,
    #[schema(minimum = 1)]
    #[expect(dead_code, reason = "only documents the body; `read_backup` parses it and collects all faults")]
    value: i64,
}

/// Clients send what they do not set as null.
pub const RULES: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };

/// Which resource, and how.
pub fn read_backup(body: &[u8]) -> Result<(Uuid, Input<NewBackup>)> {
    let body = json_object(body)?;
    let input = read_input(&body, RULES, |body| {
        let resource = body.required("resource_id", |field| field.text(0..=255));
        let settings = body.optional("settings", |field| {
            field.object(|settings| {
                // Kept by nothing, without effect.
                settings.ignore(&["advanced_settings"]);
                let repository = settings.optional("backup_aws_region", |field| field.text(0..=255)).value();
                let keep = settings.optional("retention_duration", retention).value();
                (repository.filter(|name| !name.is_empty()), keep)
            })
        });
        let (repository, keep) = settings.value().unwrap_or_default();
        (resource, NewBackup { repository, keep: keep.map(|keep| keep.to_string()) })
    });
    let Ok(resource) = uuid(&input.value().0, "resource") else {
        input.valid()?;
        return Err(Error::not_found("resource"));
    };
    Ok((resource, input.map(|(_, new), _| new).named(backup_field)))
}

fn backup_field(name: &str) -> String {
    match name {
        "repository" => "settings.backup_aws_region".to_owned(),
        "keep" => "settings.retention_duration".to_owned(),
        other => other.to_owned(),
    }
}

fn retention(field: Field<'_>) -> Option<Keep> {
    let value = field.value();
    let parts = (
        value.get("unit").and_then(|unit| unit.as_str()),
        value.get("value").and_then(|count| count.as_i64()),
    );
    let keep =
        match parts {
            (Some(unit), Some(count)) => Keep::of(unit, count),
            _ if value.as_object().is_some_and(|all| all.values().all(serde_json::Value::is_null)) => {
                return None;
            }
            _ => Err("must be an object with unit and value, such as {\"unit\": \"days\", \"value\": 7}"
                .to_owned()),
        };
    match keep {
        Ok(keep) => Some(keep),
        Err(message) => field.fault("format", message),
    }
}
