//! Rows of a backup by SQL. PostgreSQL says what they are.

use std::time::Duration;

use arrow_array::cast::AsArray as _;
use futures_util::TryStreamExt as _;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::source::{CancellationToken, RecordBatch};
use landreeve_core::{Action, Error, ErrorKind, Noun, OpCtx, Permission};
use landreeve_estate::ops::DatasourceDetails;
use landreeve_estate::ops::datasources::datasource_create;
use landreeve_estate::ops::ous::ou_create;
use landreeve_estate::ops::sign_in;
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::backups::Backup;
use landreeve_protection::nouns::{BACKUP, RECORD, RESTORE};
use landreeve_protection::records::{DATABASE_TYPE, RecordQuery, backup_tables, query_error, record_query};

use crate::postgres::{Database, declared};
use crate::support::World;

const DEFAULTS: NewBackup = NewBackup { repository: None, keep: None };

/// Large enough for several files of rows.
const ORDERS: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, who text, price numeric(12, 2), share numeric, at timestamptz,
                         at0 timestamp(0), day date, u uuid, flag boolean, f float8, b bytea, small smallint);
    INSERT INTO orders SELECT i, CASE WHEN i % 7 > 0 THEN 'user ' || i % 100 END, i * 1.25, i / 7.0,
        timestamptz '2026-01-01 00:00Z' + i * interval '1 minute', timestamp '2026-01-01' + i * interval '1 hour',
        date '2026-01-01' + i % 300, md5(i::text)::uuid, i % 3 = 0, sqrt(i), decode(md5(i::text), 'hex'), i % 1000
        FROM generate_series(1, 20000) AS i;
    CREATE TABLE lines (region text, id integer, note text, PRIMARY KEY (region, id));
    INSERT INTO lines SELECT chr(65 + i % 20), i, repeat(md5(i::text), 2) FROM generate_series(1, 10000) AS i;
    CREATE TABLE none (a integer, b text);
    CREATE SCHEMA \"Odd\"; CREATE TABLE \"Odd\".\"Table\" (\"Column\" integer); INSERT INTO \"Odd\".\"Table\" VALUES (1);";

fn asked(backup: &Backup, sql: &str) -> RecordQuery {
    RecordQuery {
        backup: backup.uuid,
        sql: sql.to_owned(),
        time_limit: Duration::from_secs(60),
        max_rows: Some(100_000),
    }
}

async fn rows(world: &World, ctx: &OpCtx, backup: &Backup, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    let stream = record_query(&world.plane, ctx, asked(backup, sql), CancellationToken::new()).await?;
    stream.batches.try_collect().await.map_err(|error| query_error(&error))
}

/// The only value, which is a text.
async fn single(world: &World, backup: &Backup, sql: &str) -> String {
    let batches =
        rows(world, &world.ctx, backup, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let column = batches[0].column(0).clone();
    column.as_string::<i32>().value(0).to_owned()
}

/// A generator of conditions that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among[usize::try_from(self.roll(among.len() as u64)).unwrap()]
    }

    fn term(&mut self) -> String {
        let comparison = self.pick(&["=", "<", "<=", ">", ">=", "<>"]);
        let number = self.roll(22_000) as i64 - 1_000;
        let other = number + self.roll(900) as i64;
        match self.roll(12) {
            0 | 1 => format!("id {comparison} {number}"),
            2 => format!("id BETWEEN {number} AND {other}"),
            3 => format!("id IN ({number}, {other}, {}, NULL)", number + 5_000),
            4 => format!("price {comparison} {number}.5"),
            5 => format!("who {comparison} 'user {}'", number % 100),
            6 => format!("day {comparison} DATE '2026-0{}-1{}'", 1 + self.roll(9), self.roll(10)),
            7 => format!(
                "at {comparison} TIMESTAMPTZ '2026-01-{} 10:{}:00Z'",
                10 + self.roll(9),
                10 + self.roll(50)
            ),
            8 => format!("at0 {comparison} TIMESTAMP '2026-1{}-01 0{}:00:00'", self.roll(3), self.roll(10)),
            9 => {
                self.pick(&["who IS NULL", "who IS NOT NULL", "flag", "NOT flag", "flag IS NULL"]).to_owned()
            }
            10 => format!("small {comparison} {}", number % 1_000),
            _ => format!("f {comparison} {}", number / 100),
        }
    }

    fn condition(&mut self) -> String {
        let (one, other) = (self.term(), self.term());
        match self.roll(5) {
            0 => format!("{one} AND {other}"),
            1 => format!("({one} OR {other}) AND {}", self.term()),
            2 => format!("NOT ({one}) AND {other}"),
            _ => one,
        }
    }
}

#[tokio::test]
async fn rows_are_those_that_the_database_has() {
    let world = World::sqlite().await;
    let shop = Database::new(ORDERS).await;
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let client = shop.connect().await;
    let mut dice = Dice(20_261_130);
    for _ in 0..200 {
        let sql = format!(
            "SELECT count(*)::text || ' ' || coalesce(min(id)::text, '') || ' ' || coalesce(sum(price)::text, '') \
             FROM orders WHERE {}",
            dice.condition()
        );
        let wanted: String = client.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(single(&world, &backup, &sql).await, wanted, "{sql}");
    }
    for sql in [
        "SELECT count(*)::text FROM none",
        "SELECT max(region || id::text || note) FROM lines WHERE region = 'C' AND id > 5000",
        "SELECT count(*)::text FROM lines l JOIN orders o ON o.id = l.id WHERE l.region < 'D' AND o.flag",
        "SELECT sum(\"Column\")::text FROM \"Odd\".\"Table\"",
        "SELECT u::text FROM orders WHERE id = 777",
        "SELECT max(encode(b, 'hex')) FROM orders WHERE id > 19000",
        "SELECT share::text FROM orders WHERE id = 1",
    ] {
        let wanted: String = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(single(&world, &backup, sql).await, wanted, "{sql}");
    }
    let tables = backup_tables(&world.plane, &world.ctx, backup.uuid).await.unwrap();
    let names: Vec<String> = tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect();
    assert_eq!(names, ["Odd.Table", "public.lines", "public.none", "public.orders"]);
    let key: Vec<&str> =
        tables[1].columns.iter().filter(|column| column.is_key).map(|column| column.name.as_str()).collect();
    assert_eq!((key, tables[1].rows), (vec!["region", "id"], Some(10_000)));
    shop.drop().await;
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let world = World::sqlite().await;
    let shop =
        Database::new("CREATE TABLE t (id integer PRIMARY KEY, n numeric); INSERT INTO t VALUES (1, 'NaN')")
            .await;
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let error = async |sql: &str| rows(&world, &world.ctx, &backup, sql).await.unwrap_err();
    for (sql, code, part) in [
        ("DELETE FROM t", "not_read_only", "SELECT"),
        ("SELECT 1; SELECT 2", "not_read_only", ""),
        ("SELECT nope FROM t", "sql_error", "nope"),
        ("SELECT * FROM nope", "sql_error", "nope"),
        ("SELEC", "sql_error", ""),
        ("", "not_read_only", "exactly one SELECT"),
        ("SELECT n FROM t", "sql_error", "column n: NaN is no decimal(38,20)"),
    ] {
        let error = error(sql).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{sql}: {error:?}");
        let fault = &error.faults[0];
        assert!(fault.message.contains(part), "{sql}: {fault:?}");
        assert!(
            fault.code == code || code == "not_read_only" && fault.code == "sql_error",
            "{sql}: {fault:?}"
        );
    }
    let most = RecordQuery { max_rows: Some(1), ..asked(&backup, "SELECT * FROM generate_series(1, 3)") };
    let stream = record_query(&world.plane, &world.ctx, most, CancellationToken::new()).await;
    let refused = match stream {
        Ok(stream) => stream.batches.try_collect::<Vec<_>>().await.map_err(|error| query_error(&error)),
        Err(error) => Err(error),
    };
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Invalid);
    world.kit.clock.advance(Duration::from_secs(8 * 86_400));
    assert_eq!(error("SELECT id FROM t").await.kind, ErrorKind::NotFound);
    shop.drop().await;
}

#[tokio::test]
async fn only_those_who_may_read_records() {
    let world = World::sqlite().await;
    let estate = &world.kit.estate;
    let unit = ou_create(estate, &world.ctx, None, "sales".into(), String::new()).await.unwrap();
    let inside = sign_in::operator_in(estate, unit.uuid).await.unwrap();
    let shop = Database::new("CREATE TABLE t (id integer); INSERT INTO t VALUES (1)").await;
    let source = datasource_create(estate, &inside, shop.details(), Vec::new()).await.unwrap();
    let backup = world.back_up(&source, DEFAULTS).await;
    let permission = Permission::new;
    let seeing = world
        .kit
        .person(
            "seeing",
            &[
                permission(BACKUP, Action::MANAGE),
                permission(RESTORE, Action::MANAGE),
                permission(Noun::DATASOURCE, Action::MANAGE),
            ],
        )
        .await;
    let reading = world
        .kit
        .person(
            "reading",
            &[
                permission(BACKUP, Action::VIEW),
                permission(RECORD, Action::USE),
                permission(Noun::DATASOURCE, Action::MANAGE),
            ],
        )
        .await;
    let guest = world.kit.person("guest", &[permission(Noun::DATASOURCE, Action::MANAGE)]).await;
    let declare = async |ctx: &OpCtx, database: &str| {
        let details = DatasourceDetails {
            name: "of a backup".to_owned(),
            database_type: DatabaseType::Catalog(DATABASE_TYPE),
            database: Some(database.to_owned()),
            nightly_schema: false,
            ..DatasourceDetails::default()
        };
        datasource_create(estate, ctx, details, Vec::new()).await
    };
    let id = backup.uuid.to_string();
    for (ctx, reads, declares) in [
        (&seeing, Err(ErrorKind::Forbidden), Err(ErrorKind::Forbidden)),
        (&guest, Err(ErrorKind::Forbidden), Err(ErrorKind::Invalid)),
        (&reading, Ok(()), Ok(())),
        (&world.ctx, Ok(()), Ok(())),
    ] {
        let read = rows(&world, ctx, &backup, "SELECT * FROM t").await.map(drop).map_err(|error| error.kind);
        assert_eq!(read, reads);
        assert_eq!(declare(ctx, &id).await.map(drop).map_err(|error| error.kind), declares);
    }
    for unknown in ["", "nope", &estate.uuid().to_string()] {
        let error = declare(&world.ctx, unknown).await.unwrap_err();
        assert_eq!(
            (error.kind, error.faults[0].field.as_str()),
            (ErrorKind::Invalid, "database"),
            "{unknown}"
        );
    }
    shop.drop().await;
}

/// A file is copied out of the repository once, and deleted when it is not needed any more.
#[tokio::test]
async fn rows_of_a_sqlite_file_are_those_that_it_has() {
    let world = World::sqlite().await;
    let sql = "PRAGMA journal_mode = WAL;
        CREATE TABLE orders (id INTEGER PRIMARY KEY, who TEXT COLLATE NOCASE, price REAL, day DATE, at DATETIME, flag BOOLEAN,
                             b BLOB, anything, \"odd \"\"name\" TEXT);
        INSERT INTO orders WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 5000)
            SELECT i, CASE WHEN i % 7 > 0 THEN 'User ' || (i % 100) END, i * 1.25, date('2026-01-01', (i % 300) || ' days'),
            datetime('2026-01-01', i || ' minutes'), i % 3 = 0, zeroblob(3),
            CASE i % 3 WHEN 0 THEN i WHEN 1 THEN 'text' END, 'it''s' FROM s;
        CREATE TABLE mixed (id INTEGER PRIMARY KEY, c, s STRING, f REAL);
        INSERT INTO mixed VALUES (1, 7, 'x', 5), (2, '7', 'y', 6.5), (3, 7.0, 'z', NULL);
        CREATE TABLE none (a INTEGER, b TEXT); CREATE VIEW v AS SELECT id FROM orders";
    let source = world.database(&world.ctx, "shop", sql).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let file = rusqlite::Connection::open(world.path("shop")).unwrap();
    let mut dice = Dice(11);
    for _ in 0..60 {
        let number = dice.roll(6_000) as i64 - 500;
        let condition = match dice.roll(6) {
            0 => format!("id {} {number}", dice.pick(&["=", "<", "<=", ">", ">=", "<>"])),
            1 => format!("id IN ({number}, 7, {})", number + 3),
            2 => format!("id BETWEEN {number} AND {}", number + 100),
            3 => format!("who = 'User {}' AND id < {number}", number % 100),
            4 => format!("price {} {number}.5", dice.pick(&["<", ">"])),
            _ => format!("who IN ('User 1', 'User {}') OR id = {number}", number % 100),
        };
        let sum = format!("SELECT CAST(coalesce(sum(id), 0) AS TEXT) FROM orders WHERE {condition}");
        let wanted: String = file.query_row(&sum, [], |row| row.get(0)).unwrap();
        assert_eq!(single(&world, &backup, &sum).await, wanted, "{condition}");
    }
    for (sql, wanted) in [
        ("SELECT CAST(count(*) AS TEXT) FROM main.orders", "5000"),
        ("SELECT CAST(count(*) AS TEXT) FROM none", "0"),
        ("SELECT CAST(count(*) AS TEXT) FROM mixed WHERE c = '7'", "2"),
        ("SELECT CAST(count(*) AS TEXT) FROM mixed WHERE c IN ('7', '7.0')", "3"),
        ("SELECT CAST(count(*) AS TEXT) FROM mixed WHERE s = 'y'", "1"),
        ("SELECT CAST(count(*) AS TEXT) FROM mixed WHERE f = 5", "1"),
        ("SELECT anything FROM orders WHERE id = 3", "3"),
        ("SELECT anything FROM orders WHERE id = 4", "text"),
        ("SELECT \"odd \"\"name\" FROM orders WHERE id = 4", "it's"),
        ("SELECT CAST(day AS TEXT) FROM orders WHERE id = 31", "2026-02-01"),
        ("SELECT CAST(count(*) AS TEXT) FROM orders WHERE anything IS NULL", "1667"),
        ("SELECT a.who FROM orders a JOIN orders b ON a.id = b.id + 1 WHERE b.id = 8", "User 9"),
    ] {
        assert_eq!(single(&world, &backup, sql).await, wanted, "{sql}");
    }
    let error = rows(&world, &world.ctx, &backup, "DELETE FROM orders").await.unwrap_err();
    assert_eq!(error.faults[0].field, "sql");
    let staged = || std::fs::read_dir(world.path("scratch")).unwrap().count();
    assert_eq!(staged(), 1, "the file was copied once");
    let tables = backup_tables(&world.plane, &world.ctx, backup.uuid).await.unwrap();
    assert!(tables.iter().all(|table| table.is_readable), "{tables:?}");
    // In a table that has something else than was declared, the column is named.
    file.execute_batch("INSERT INTO none VALUES ('word', 'x')").unwrap();
    let backup = world.back_up(&source, DEFAULTS).await;
    let error = rows(&world, &world.ctx, &backup, "SELECT a FROM none").await.unwrap_err();
    assert!(error.faults[0].message.contains("\"a\" is read as integer"), "{error:?}");
}
