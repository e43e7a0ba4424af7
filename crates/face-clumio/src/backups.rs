//! Backups, the tables in them, and backups on demand.

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use landreeve_core::{Error, OpCtx, PageOf, Result};
use landreeve_http::Outcome;
use landreeve_http::cursor::Cursor;
use landreeve_http::extract::{Body, Path, Query};
use landreeve_protection::Protection;
use landreeve_protection::assets::datasource_of;
use landreeve_protection::backing_up::backup_start;
use landreeve_protection::backups::{Backup, backup_get, backup_page};
use landreeve_protection::records::{BackupTable, backup_tables};

use crate::app::App;
use crate::caller::Caller;
use crate::tasks::started;
use crate::version::{BACKUPS, DATABASES, TABLES};
use crate::wire::Answer;
use crate::wire::backups::{
    BACKUP_FILTER, BackupBody, ColumnsBody, DatabaseBody, NAME_FILTER, SORT, TableBody, backup_filter,
    read_backup, table_id, table_name, tables_path,
};
use crate::wire::datasources::uuid;
use crate::wire::error::ErrorBody;
use crate::wire::filter::Op;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters, TokenListBody};
use crate::wire::restores::StartedBody;

const LIST: Parameters = Parameters { sort: &[SORT], ..Parameters::numbered(20, &BACKUP_FILTER) };
const NAMES: Parameters = Parameters::tokens(100, &NAME_FILTER);
const COLUMNS: &str = "read-backup-aws-rds-resource-database-table-columns";
const TABLE: Parameters = Parameters { embed: &[COLUMNS], ..Parameters::NONE };
const PATH: &str = "/backups/aws/rds-resources";

/// List backups, newest first
#[utoipa::path(
    get,
    path = "/backups/aws/rds-resources",
    operation_id = "list-backup-aws-rds-resources",
    tag = "backup-aws-rds-resources",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("sort" = Option<String>, Query, pattern = "^-?(start_timestamp)$",
            description = "`start_timestamp`, with a minus for the newest first.", example = "-start_timestamp"),
        ("filter" = Option<String>, Query, description = "By `resource_id` (`$eq`) or `start_timestamp` (`$lte`, `$gt`).",
            example = r#"{"start_timestamp":{"$gt":"2026-01-15T12:00:00Z"}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<BackupBody>, content_type = "application/api.clumio.backup-aws-rds-resources=v1+json",
            example = json!({
                "_embedded": { "items": [] },
                "_links": {
                    "_self": { "href": "/backups/aws/rds-resources?start=1", "type": "get", "templated": false },
                    "_first": { "href": "/backups/aws/rds-resources?start=1", "type": "get", "templated": false },
                    "_last": { "href": "/backups/aws/rds-resources?start=1", "type": "get", "templated": false }
                },
                "current_count": 0, "filter_applied": "{}", "sort_applied": "-start_timestamp", "limit": 20,
                "start": "1", "total_count": 0, "total_pages_count": 0
            })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<BackupBody>>> {
    let version = BACKUPS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let filter = backup_filter(&asked, plane.estate().now());
    let PageOf { items, total, .. } = backup_page(&plane, &ctx, &filter, asked.page).await?;
    let bodies = items.iter().map(|backup| BackupBody::new(&base, &ctx, backup)).collect();
    let body = asked.sorted(&base, PATH, bodies, (total, "-start_timestamp"));
    Ok(Answer { resource: &BACKUPS, version, body })
}

/// Back up a database now
///
/// Not in the documented API.
#[utoipa::path(
    post,
    path = "/backups/aws/rds-resources",
    operation_id = "create-backup-aws-rds-resource",
    tag = "backup-aws-rds-resources",
    params(("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task")),
    request_body(content = inline(crate::wire::backups::BackupRequest), example = json!({
        "resource_id": "11111111-2222-4333-8444-555555555555",
        "settings": { "retention_duration": { "unit": "days", "value": 30 }, "backup_aws_region": null }
    })),
    responses(
        (status = 202, body = StartedBody, content_type = "application/api.clumio.backup-aws-rds-resources=v1+json",
            example = json!({
                "task_id": "28",
                "_links": {
                    "_self": { "href": "/backups/aws/rds-resources", "type": "post", "templated": false },
                    "read-task": { "href": "/tasks/28", "type": "get", "templated": false }
                }
            })),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 109, "error_message": "another backup of this datasource is under way" }]
        })),
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Body(body): Body,
) -> Outcome<(StatusCode, Answer<StartedBody>)> {
    let version = BACKUPS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let (resource, new) = read_backup(&body)?;
    let datasource = datasource_of(&app.protection, resource).await?;
    let datasource = datasource.ok_or_else(|| Error::not_found("resource"))?;
    let run = backup_start(&app.protection, &ctx, datasource, new).await?;
    let body = started(&app, &ctx, &base, (("post", PATH), &asked), &run).await?;
    Ok((StatusCode::ACCEPTED, Answer { resource: &BACKUPS, version, body }))
}

/// Get a backup
#[utoipa::path(
    get,
    path = "/backups/aws/rds-resources/{backup_id}",
    operation_id = "read-backup-aws-rds-resource",
    tag = "backup-aws-rds-resources",
    params(("backup_id" = String, Path, format = "uuid", description = "Id of the backup.",
        example = "11111111-2222-4333-8444-555555555555")),
    responses(
        (status = 200, body = BackupBody, content_type = "application/api.clumio.backup-aws-rds-resources=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<BackupBody>> {
    let version = BACKUPS.version(&headers)?;
    let backup = usable(&plane, &ctx, &id).await?;
    Ok(Answer { resource: &BACKUPS, version, body: BackupBody::new(&base, &ctx, &backup) })
}

/// List the databases in a backup: the one that was backed up
#[utoipa::path(
    get,
    path = "/backups/aws/rds-resources/{backup_id}/databases",
    operation_id = "list-backup-aws-rds-resource-databases",
    tag = "backup-aws-rds-resource-databases",
    params(
        ("backup_id" = String, Path, format = "uuid", description = "Id of the backup.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 100].", example = 20),
        ("start" = Option<String>, Query, description = "The token of a page [default: the first]."),
        ("filter" = Option<String>, Query, description = "By `name` (`$begins_with`).",
            example = r#"{"name":{"$begins_with":"shop"}}"#),
    ),
    responses(
        (status = 200, body = TokenListBody<DatabaseBody>,
            content_type = "application/api.clumio.backup-aws-rds-resource-databases=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn list_databases(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    query: Query,
) -> Outcome<Answer<TokenListBody<DatabaseBody>>> {
    let version = DATABASES.version(&headers)?;
    let asked = Asked::parse(&query, &NAMES)?;
    let backup = usable(&plane, &ctx, &id).await?;
    let path = format!("{PATH}/{}/databases", backup.uuid);
    let all = vec![DatabaseBody::new(&base, &backup)];
    let (bodies, next) = page(&asked, &path, all, |database| database.name.clone())?;
    Ok(Answer { resource: &DATABASES, version, body: asked.token_body(&base, &path, bodies, next) })
}

/// List the tables in a backup, in the order of their names
#[utoipa::path(
    get,
    path = "/backups/aws/rds-resources/{backup_id}/databases/{database_name}/tables",
    operation_id = "list-backup-aws-rds-resource-database-tables",
    tag = "backup-aws-rds-resource-database-tables",
    params(
        ("backup_id" = String, Path, format = "uuid", description = "Id of the backup.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("database_name" = String, Path, description = "Name of the database.", example = "shop"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 100].", example = 20),
        ("start" = Option<String>, Query, description = "The token of a page [default: the first]."),
        ("filter" = Option<String>, Query, description = "By `name` (`$begins_with`).",
            example = r#"{"name":{"$begins_with":"public."}}"#),
    ),
    responses(
        (status = 200, body = TokenListBody<TableBody>,
            content_type = "application/api.clumio.backup-aws-rds-resource-database-tables=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn list_tables(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path((id, database)): Path<(String, String)>,
    query: Query,
) -> Outcome<Answer<TokenListBody<TableBody>>> {
    let version = TABLES.version(&headers)?;
    let asked = Asked::parse(&query, &NAMES)?;
    let (backup, tables) = tables(&plane, &ctx, &id, &database).await?;
    let path = tables_path(&backup);
    let (tables, next) = page(&asked, &path, tables, table_name)?;
    let bodies = tables.iter().map(|table| TableBody::new(&base, &backup, table, false)).collect();
    Ok(Answer { resource: &TABLES, version, body: asked.token_body(&base, &path, bodies, next) })
}

/// Get a table in a backup
#[utoipa::path(
    get,
    path = "/backups/aws/rds-resources/{backup_id}/databases/{database_name}/tables/{table_id}",
    operation_id = "read-backup-aws-rds-resource-database-table",
    tag = "backup-aws-rds-resource-database-tables",
    params(
        ("backup_id" = String, Path, format = "uuid", description = "Id of the backup.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("database_name" = String, Path, description = "Name of the database.", example = "shop"),
        ("table_id" = String, Path, description = "Id of the table.", example = "cHVibGljAG9yZGVycw"),
        ("embed" = Option<String>, Query, pattern = "^(read-backup-aws-rds-resource-database-table-columns)$",
            description = "Its columns.", example = "read-backup-aws-rds-resource-database-table-columns"),
    ),
    responses(
        (status = 200, body = TableBody,
            content_type = "application/api.clumio.backup-aws-rds-resource-database-tables=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read_table(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path((id, database, table)): Path<(String, String, String)>,
    query: Query,
) -> Outcome<Answer<TableBody>> {
    let version = TABLES.version(&headers)?;
    let asked = Asked::parse(&query, &TABLE)?;
    let (backup, tables) = tables(&plane, &ctx, &id, &database).await?;
    let table = find(&tables, &table)?;
    let body = TableBody::new(&base, &backup, table, asked.embeds(COLUMNS));
    Ok(Answer { resource: &TABLES, version, body })
}

/// List the columns of a table in a backup
#[utoipa::path(
    get,
    path = "/backups/aws/rds-resources/{backup_id}/databases/{database_name}/tables/{table_id}/columns",
    operation_id = "read-backup-aws-rds-resource-database-table-columns",
    tag = "backup-aws-rds-resource-database-tables",
    params(
        ("backup_id" = String, Path, format = "uuid", description = "Id of the backup.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("database_name" = String, Path, description = "Name of the database.", example = "shop"),
        ("table_id" = String, Path, description = "Id of the table.", example = "cHVibGljAG9yZGVycw"),
    ),
    responses(
        (status = 200, body = ColumnsBody,
            content_type = "application/api.clumio.backup-aws-rds-resource-database-tables=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read_columns(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path((id, database, table)): Path<(String, String, String)>,
) -> Outcome<Answer<ColumnsBody>> {
    let version = TABLES.version(&headers)?;
    let (backup, tables) = tables(&plane, &ctx, &id, &database).await?;
    let body = ColumnsBody::new(&base, &backup, find(&tables, &table)?);
    Ok(Answer { resource: &TABLES, version, body })
}

/// A backup that has not expired.
async fn usable(plane: &Protection, ctx: &OpCtx, id: &str) -> Result<Backup> {
    let backup = backup_get(plane, ctx, uuid(id, "backup")?).await?;
    backup.check_usable(plane.estate().now())?;
    Ok(backup)
}

/// The backup of this database, and its tables.
async fn tables(
    plane: &Protection,
    ctx: &OpCtx,
    id: &str,
    database: &str,
) -> Result<(Backup, Vec<BackupTable>)> {
    let backup = usable(plane, ctx, id).await?;
    if backup.asset.database() != database {
        let message = format!("the backup has no database {database}; it is of {}", backup.asset.database());
        return Err(Error::not_found("database").saying(message));
    }
    let mut tables = backup_tables(plane, ctx, backup.uuid).await?;
    tables.sort_by_key(table_name);
    Ok((backup, tables))
}

fn find<'a>(tables: &'a [BackupTable], id: &str) -> Result<&'a BackupTable> {
    tables.iter().find(|table| table_id(table) == id).ok_or_else(|| Error::not_found("table"))
}

/// The page of a list that never changes.
fn page<T>(
    asked: &Asked,
    path: &str,
    all: Vec<T>,
    name: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<Cursor>)> {
    let begins = asked.conditions.text("name", Op::BeginsWith).unwrap_or_default();
    let seen = match asked.after(path)? {
        Some(Cursor::Offset(seen)) => usize::try_from(seen).unwrap_or(usize::MAX),
        _ => 0,
    };
    let mut rest = all.into_iter().filter(|item| name(item).starts_with(begins)).skip(seen);
    let items: Vec<T> = rest.by_ref().take(asked.page.limit as usize).collect();
    let next = rest.next().map(|_| Cursor::Offset((seen + items.len()) as u64));
    Ok((items, next))
}
