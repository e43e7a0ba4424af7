//! What a database has, for a backup: its tables and all of its definitions, as the session sees them.

use std::collections::{BTreeMap, BTreeSet};

use landreeve_core::schema::ColumnInfo;
use landreeve_core::snapshot::{SnapshotTable, TableRows};
use landreeve_core::source::SourceError;
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};

use super::connect::{Session, query_error};
use super::definitions::{self, Kind, Object};
use super::text::{identifier, literal, trigger_body, unqualified};
use crate::errors;

/// Engines whose tables show rows that are kept elsewhere.
const ELSEWHERE: [&str; 8] =
    ["MRG_MYISAM", "FEDERATED", "CONNECT", "SPIDER", "S3", "BLACKHOLE", "OQGRAPH", "SPHINX"];
/// Character sets of clients in which a byte of a letter can look like a quote.
const AMBIGUOUS: [&str; 5] = ["big5", "cp932", "gbk", "gb18030", "sjis"];
/// Objects of this database alone: the server compares names of databases without regard to case here.
const OWN: &str = "= DATABASE() AND BINARY";

/// One reading of everything that is not rows.
pub(super) struct Contents {
    pub database: String,
    pub settings: BTreeMap<String, String>,
    pub tables: Vec<Table>,
    pub objects: Vec<Object>,
    pub warnings: Vec<String>,
    /// When each table was created, which tells one that took another's name.
    created: BTreeMap<String, String>,
}

/// A table whose rows are read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub info: SnapshotTable,
    pub columns: Vec<Column>,
    /// Whether its rows can be read in the order of its key, without sorting them.
    pub has_key: bool,
    /// Also the rows that were changed and deleted.
    pub history: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    pub data_type: String,
    /// With everything in brackets: `enum('a','b')`.
    pub column_type: String,
    pub character_set: Option<String>,
}

impl Contents {
    /// How they differ from a later reading, for users.
    pub fn differences(&self, later: &Contents) -> Vec<String> {
        let mut found = definitions::differences(&self.objects, &later.objects);
        let replaced = self
            .created
            .iter()
            .filter(|(table, created)| later.created.get(*table).is_some_and(|later| later != *created));
        let replaced = replaced.map(|(table, _)| format!("table {} was replaced", identifier(table)));
        found.extend(replaced);
        found
    }
}

/// The columns of a row, as the server sent them.
struct Cells(Row);

impl Cells {
    fn bytes(&self, at: usize) -> Option<&[u8]> {
        match self.0.as_ref(at) {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Empty if it is null.
    fn text(&self, at: usize) -> Result<String, SourceError> {
        let bytes = self.bytes(at).unwrap_or_default();
        String::from_utf8(bytes.to_owned())
            .map_err(|_| errors::lost("the catalog has a name that is not UTF-8"))
    }

    fn optional(&self, at: usize) -> Result<Option<String>, SourceError> {
        self.bytes(at).map(|_| self.text(at)).transpose()
    }
}

async fn rows(session: &mut Session, sql: &str) -> Result<Vec<Cells>, SourceError> {
    let rows: Vec<Row> = session.conn.query(sql).await.map_err(|error| query_error(&error))?;
    Ok(rows.into_iter().map(Cells).collect())
}

async fn single(session: &mut Session, sql: &str) -> Result<Cells, SourceError> {
    rows(session, sql).await?.pop().ok_or_else(|| errors::lost("the catalog returned nothing"))
}

/// Whether a statement succeeds. Not whether the server answers.
async fn succeeds(session: &mut Session, sql: &str) -> Result<bool, SourceError> {
    match session.conn.query_drop(sql).await {
        Ok(()) => Ok(true),
        Err(mysql_async::Error::Server(_)) => Ok(false),
        Err(error) => Err(query_error(&error)),
    }
}

pub(super) async fn read(session: &mut Session) -> Result<Contents, SourceError> {
    // Definitions keep the bytes in which they were written.
    session.run("SET character_set_results = NULL").await?;
    let read = read_all(session).await;
    session.run("SET character_set_results = utf8mb4").await?;
    read
}

async fn read_all(session: &mut Session) -> Result<Contents, SourceError> {
    let sql = format!(
        "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA \
         WHERE SCHEMA_NAME {OWN} SCHEMA_NAME = DATABASE()"
    );
    let database = single(session, &sql).await?;
    let mut settings = BTreeMap::from([
        ("character_set".to_owned(), database.text(1)?),
        ("collation".to_owned(), database.text(2)?),
    ]);
    if session.is_mariadb {
        let sql = format!(
            "SELECT SCHEMA_COMMENT FROM information_schema.SCHEMATA WHERE SCHEMA_NAME {OWN} SCHEMA_NAME = DATABASE() \
             AND SCHEMA_COMMENT <> ''"
        );
        for row in rows(session, &sql).await? {
            settings.insert("comment".to_owned(), row.text(0)?);
        }
    }
    let mut contents = Contents {
        database: database.text(0)?,
        settings,
        tables: Vec::new(),
        objects: Vec::new(),
        warnings: Vec::new(),
        created: BTreeMap::new(),
    };
    tables(session, &mut contents).await?;
    routines(session, &mut contents).await?;
    triggers(session, &mut contents).await?;
    events(session, &mut contents).await?;
    rights(session, &mut contents).await?;
    contents.objects.sort_by_key(|object| object.kind);
    Ok(contents)
}

async fn tables(session: &mut Session, contents: &mut Contents) -> Result<(), SourceError> {
    let sql = "SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'";
    let engines = rows(session, sql).await?;
    let transactional = engines.iter().map(|row| row.text(0)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut columns = columns(session).await?;
    let mut keys = keys(session).await?;
    let sql = format!(
        "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, CAST(CREATE_TIME AS CHAR), TABLE_COMMENT FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA {OWN} TABLE_SCHEMA = DATABASE()"
    );
    let mut listed = rows(session, &sql).await?;
    listed.sort_by(|a, b| a.bytes(0).cmp(&b.bytes(0)));
    for row in listed {
        let (name, table_type, engine) = (row.text(0)?, row.text(1)?, row.text(2)?);
        match table_type.as_str() {
            "VIEW" => {
                // The catalog has the error instead.
                let is_usable = row.text(4)? == "VIEW";
                view(session, contents, name, is_usable).await?;
            }
            "SEQUENCE" => definition(session, contents, Kind::Sequence, &name).await?,
            _ => {
                contents.created.insert(name.clone(), row.text(3)?);
                let columns = columns.remove(&name).unwrap_or_default();
                let key = keys.remove(&name).unwrap_or_default();
                let shown = identifier(&name);
                definition(session, contents, Kind::Table, &name).await?;
                if ELSEWHERE.contains(&engine.to_ascii_uppercase().as_str()) {
                    contents.warnings.push(format!(
                        "the table {shown} ({engine}) shows rows that are kept elsewhere: only its definition is backed up"
                    ));
                    continue;
                }
                if !transactional.contains(&engine) {
                    contents.warnings.push(format!(
                        "the table {shown} ({engine}) has no transactions: its rows are as they were when they were read, \
                         not when the backup began"
                    ));
                }
                let listed = Listed { name, columns, key, versioned: table_type == "SYSTEM VERSIONED" };
                let table = table(session, contents, listed).await?;
                contents.tables.push(table);
            }
        }
    }
    Ok(())
}

/// A column as the catalog lists it.
struct ListedColumn {
    column: Column,
    info: ColumnInfo,
    generated: Option<String>,
}

async fn columns(session: &mut Session) -> Result<BTreeMap<String, Vec<ListedColumn>>, SourceError> {
    let sql = format!(
        "SELECT TABLE_NAME, COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), IS_NULLABLE, ORDINAL_POSITION, EXTRA, \
         GENERATION_EXPRESSION, CHARACTER_SET_NAME, DATA_TYPE FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA {OWN} TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME, ORDINAL_POSITION"
    );
    let mut found: BTreeMap<String, Vec<ListedColumn>> = BTreeMap::new();
    for row in rows(session, &sql).await? {
        let info = ColumnInfo {
            name: row.text(1)?,
            data_type: row.text(2)?,
            nullable: row.text(3)? == "YES",
            position: row.text(4)?.parse().unwrap_or(0),
        };
        let extra = row.text(5)?;
        let is_generated = ["VIRTUAL GENERATED", "STORED GENERATED", "PERSISTENT"]
            .iter()
            .any(|word| extra.to_ascii_uppercase().contains(word));
        let column = Column {
            name: info.name.clone(),
            data_type: row.text(8)?,
            column_type: info.data_type.clone(),
            character_set: row.optional(7)?,
        };
        let generated = if is_generated { Some(row.text(6)?) } else { None };
        found.entry(row.text(0)?).or_default().push(ListedColumn { column, info, generated });
    }
    Ok(found)
}

/// The columns of primary keys. Without those that index only a part of a value: such a key has another order.
async fn keys(session: &mut Session) -> Result<BTreeMap<String, Vec<String>>, SourceError> {
    let sql = format!(
        "SELECT TABLE_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA {OWN} TABLE_SCHEMA = DATABASE() AND INDEX_NAME = 'PRIMARY' ORDER BY TABLE_NAME, SEQ_IN_INDEX"
    );
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut in_part = BTreeSet::new();
    for row in rows(session, &sql).await? {
        if row.bytes(2).is_some() {
            in_part.insert(row.text(0)?);
        }
        found.entry(row.text(0)?).or_default().push(row.text(1)?);
    }
    found.retain(|table, _| !in_part.contains(table));
    Ok(found)
}

struct Listed {
    name: String,
    columns: Vec<ListedColumn>,
    key: Vec<String>,
    versioned: bool,
}

async fn table(session: &mut Session, contents: &mut Contents, listed: Listed) -> Result<Table, SourceError> {
    let Listed { name, columns, mut key, versioned } = listed;
    let period = |word: &str| columns.iter().find(|column| column.generated.as_deref() == Some(word));
    let named = (period("ROW START"), period("ROW END"));
    // Versions may be counted by transactions, which another server does not know.
    let by_time = !matches!(named, (Some(start), _) if start.column.data_type != "timestamp");
    let history =
        versioned && by_time && succeeds(session, "SELECT @@system_versioning_insert_history").await?;
    if versioned && !history {
        contents.warnings.push(format!(
            "the history of the table {} is not backed up: the server cannot write it back",
            identifier(&name)
        ));
    }
    let is_period =
        |column: &ListedColumn| matches!(column.generated.as_deref(), Some("ROW START" | "ROW END"));
    let last = columns.last().map_or(0, |column| column.info.position);
    let end = named.1.map_or("row_end".to_owned(), |column| column.column.name.clone());
    let hidden = history && named.0.is_none();
    if history && !key.is_empty() && !key.contains(&end) {
        key.push(end);
    }
    let mut kept: Vec<(Column, ColumnInfo)> = columns
        .into_iter()
        .filter(|column| column.generated.is_none() || (history && is_period(column)))
        .map(|column| (column.column, column.info))
        .collect();
    for (name, position) in [("row_start", last + 1), ("row_end", last + 2)].into_iter().filter(|_| hidden) {
        let info = ColumnInfo {
            name: name.to_owned(),
            data_type: "timestamp(6)".to_owned(),
            nullable: false,
            position,
        };
        let data_type = "timestamp".to_owned();
        let column_type = info.data_type.clone();
        kept.push((Column { name: name.to_owned(), data_type, column_type, character_set: None }, info));
    }
    // A generated column is not among those that are read.
    if !key.iter().all(|name| kept.iter().any(|(column, _)| column.name == *name)) {
        key.clear();
    }
    let has_key = !key.is_empty();
    let (columns, infos) = kept.into_iter().unzip();
    let info = SnapshotTable {
        schema: contents.database.clone(),
        name,
        definition: None,
        columns: infos,
        rows: TableRows::Readable(key),
        partition_of: None,
        through: None,
    };
    Ok(Table { info, columns, has_key, history })
}

/// The statement that creates a table or a sequence.
async fn definition(
    session: &mut Session,
    contents: &mut Contents,
    kind: Kind,
    name: &str,
) -> Result<(), SourceError> {
    let shown = identifier(name);
    let row = single(session, &format!("SHOW CREATE {} {shown}", kind.word())).await;
    let row = row.map_err(|error| of_object(&shown, error))?;
    let sql = unqualified(row.bytes(1).unwrap_or_default(), &contents.database);
    contents.objects.push(Object::new(kind, name.to_owned(), sql, None));
    Ok(())
}

fn of_object(shown: &str, error: SourceError) -> SourceError {
    let message = match error.code.as_deref() {
        // Lock wait timeout.
        Some("1205") => format!("{shown} is locked by another session: {}", error.message),
        _ => format!("{shown}: {}", error.message),
    };
    SourceError { message, ..error }
}

/// The next values of sequences, which are not part of their definitions.
pub(super) async fn read_states(session: &mut Session, contents: &mut Contents) -> Result<(), SourceError> {
    for object in contents.objects.iter_mut().filter(|object| object.kind == Kind::Sequence) {
        let shown = identifier(&object.name);
        let sql = format!("SELECT next_not_cached_value, cycle_count FROM {shown}");
        let state = single(session, &sql).await.map_err(|error| of_object(&shown, error))?;
        object.state = Some(format!("DO SETVAL({shown}, {}, 0, {})", state.text(0)?, state.text(1)?));
    }
    Ok(())
}

async fn view(
    session: &mut Session,
    contents: &mut Contents,
    name: String,
    is_usable: bool,
) -> Result<(), SourceError> {
    let shown = identifier(&name);
    let row = single(session, &format!("SHOW CREATE VIEW {shown}")).await;
    let row = row.map_err(|error| of_object(&shown, error))?;
    let wants = definitions::Session {
        character_set_client: row.text(2)?,
        collation_connection: row.text(3)?,
        ..definitions::Session::default()
    };
    let sql = own_name_left_out(row.bytes(1).unwrap_or_default(), &wants, &contents.database);
    let mut object = Object::new(Kind::View, name, sql, Some(wants));
    object.unusable = !is_usable;
    if object.unusable {
        contents.warnings.push(format!(
            "the view {shown} cannot be used, because what it reads or its definer is gone: a restore leaves it out if it \
             cannot create it"
        ));
    }
    contents.objects.push(object);
    Ok(())
}

fn own_name_left_out(sql: &[u8], session: &definitions::Session, database: &str) -> Vec<u8> {
    match AMBIGUOUS.contains(&session.character_set_client.as_str()) {
        true => sql.to_owned(),
        false => unqualified(sql, database),
    }
}

async fn routines(session: &mut Session, contents: &mut Contents) -> Result<(), SourceError> {
    let sql = format!(
        "SELECT ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES \
         WHERE ROUTINE_SCHEMA {OWN} ROUTINE_SCHEMA = DATABASE() ORDER BY ROUTINE_NAME, ROUTINE_TYPE"
    );
    for listed in rows(session, &sql).await? {
        let name = listed.text(0)?;
        let kind = match listed.text(1)?.as_str() {
            "PROCEDURE" => Kind::Procedure,
            "FUNCTION" => Kind::Function,
            "PACKAGE" => Kind::Package,
            "PACKAGE BODY" => Kind::PackageBody,
            other => {
                let shown = identifier(&name);
                return Err(errors::unsupported(format!("{shown} is a {other}, which cannot be backed up")));
            }
        };
        let shown = identifier(&name);
        let row = single(session, &format!("SHOW CREATE {} {shown}", kind.word())).await;
        let row = row.map_err(|error| of_object(&shown, error))?;
        let Some(sql) = row.bytes(2) else {
            return Err(unreadable_body(kind, &shown));
        };
        let wants = definitions::Session {
            sql_mode: Some(row.text(1)?),
            character_set_client: row.text(3)?,
            collation_connection: row.text(4)?,
            database_collation: Some(row.text(5)?),
            time_zone: None,
        };
        let object = Object::new(kind, name, sql.to_owned(), Some(wants));
        contents.objects.push(object);
    }
    Ok(())
}

fn unreadable_body(kind: Kind, shown: &str) -> SourceError {
    errors::unsupported(format!(
        "the user is not allowed to see the body of the {} {shown}; grant SELECT on mysql.proc, or SHOW CREATE ROUTINE \
         where the server has it (MySQL: SHOW_ROUTINE)",
        kind.word().to_lowercase()
    ))
}

async fn triggers(session: &mut Session, contents: &mut Contents) -> Result<(), SourceError> {
    // Those of the same event fire in this order, which is the one in which they are created.
    let sql = format!(
        "SELECT TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS \
         WHERE TRIGGER_SCHEMA {OWN} TRIGGER_SCHEMA = DATABASE() \
         ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER"
    );
    for listed in rows(session, &sql).await? {
        let name = listed.text(0)?;
        let shown = identifier(&name);
        let row = single(session, &format!("SHOW CREATE TRIGGER {shown}")).await;
        let row = row.map_err(|error| of_object(&shown, error))?;
        let written = row.bytes(2).unwrap_or_default();
        let Some(body) = trigger_body(written) else {
            return Err(errors::unsupported(format!("the trigger {shown} cannot be read")));
        };
        // The statement as it was written may name the database.
        let definer = super::text::definer(written).and_then(|place| written.get(place)).unwrap_or_default();
        let mut sql = [b"CREATE ", definer].concat();
        let (timing, event, table) = (listed.text(1)?, listed.text(2)?, identifier(&listed.text(3)?));
        sql.extend(format!("TRIGGER {shown} {timing} {event} ON {table} FOR EACH ROW").into_bytes());
        if !body.first().is_some_and(u8::is_ascii_whitespace) {
            sql.push(b' ');
        }
        sql.extend(body);
        let wants = definitions::Session {
            sql_mode: Some(row.text(1)?),
            character_set_client: row.text(3)?,
            collation_connection: row.text(4)?,
            database_collation: Some(row.text(5)?),
            time_zone: None,
        };
        contents.objects.push(Object::new(Kind::Trigger, name, sql, Some(wants)));
    }
    Ok(())
}

async fn events(session: &mut Session, contents: &mut Contents) -> Result<(), SourceError> {
    let sql = format!(
        "SELECT EVENT_NAME FROM information_schema.EVENTS \
         WHERE EVENT_SCHEMA {OWN} EVENT_SCHEMA = DATABASE() ORDER BY EVENT_NAME"
    );
    for listed in rows(session, &sql).await? {
        let name = listed.text(0)?;
        let shown = identifier(&name);
        let row = single(session, &format!("SHOW CREATE EVENT {shown}")).await;
        let row = row.map_err(|error| of_object(&shown, error))?;
        let wants = definitions::Session {
            sql_mode: Some(row.text(1)?),
            time_zone: Some(row.text(2)?),
            character_set_client: row.text(4)?,
            collation_connection: row.text(5)?,
            database_collation: Some(row.text(6)?),
        };
        let sql = row.bytes(3).unwrap_or_default().to_owned();
        contents.objects.push(Object::new(Kind::Event, name, sql, Some(wants)));
    }
    Ok(())
}

/// What the user is not allowed to see does not appear in the catalog: a backup says so.
async fn rights(session: &mut Session, contents: &mut Contents) -> Result<(), SourceError> {
    let user = single(session, "SELECT CURRENT_USER()").await?.text(0)?;
    let (name, host) = user.rsplit_once('@').unwrap_or((&user, ""));
    let grantee = literal(&format!("'{name}'@'{host}'"));
    let sql = format!(
        "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {grantee} \
         UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES \
          WHERE GRANTEE = {grantee} AND DATABASE() LIKE TABLE_SCHEMA"
    );
    let mut granted = BTreeSet::new();
    for row in rows(session, &sql).await? {
        granted.insert(row.text(0)?);
    }
    // Rights that come with a role are not listed there.
    let role = single(session, "SELECT CURRENT_ROLE()").await;
    let has_role = match role {
        Ok(role) => role.optional(0)?.is_some_and(|role| role != "NONE"),
        Err(error) if error.code.is_some() => false,
        Err(error) => return Err(error),
    };
    for (right, what) in [("SELECT", "tables and views"), ("TRIGGER", "triggers"), ("EVENT", "events")] {
        if !granted.contains(right) && !has_role {
            contents.warnings.push(format!(
                "the user does not have the right {right} on the database: {what} that it cannot see are not backed up"
            ));
        }
    }
    let sees_routines = ["SHOW CREATE ROUTINE", "SHOW_ROUTINE"].iter().any(|right| granted.contains(*right))
        || (!session.is_mariadb && granted.contains("SELECT"))
        || succeeds(session, "SELECT 1 FROM mysql.proc LIMIT 0").await?;
    if !sees_routines {
        contents.warnings.push(
            "the user sees only its own routines without SELECT on mysql.proc or SHOW CREATE ROUTINE: others are not backed up"
                .to_owned(),
        );
    }
    Ok(())
}
