//! PostgreSQL databases through backup and restore. `pg_dump` says whether the new database is the old one.

use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int32Type;
use futures_util::TryStreamExt as _;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::source::{CancellationToken, RecordBatch};
use landreeve_core::{Action, ErrorKind, Permission, RunState, Secret};
use landreeve_estate::ops::datasources::{datasource_create, datasource_delete};
use landreeve_estate::ops::{Datasource, DatasourceDetails, runs};
use landreeve_protection::RowOrderOption;
use landreeve_protection::backing_up::{NewBackup, backup_start};
use landreeve_protection::backups::{Backup, backup_get};
use landreeve_protection::nouns::{BACKUP, RESTORE};
use landreeve_protection::records::{RecordQuery, record_query};
use landreeve_protection::repositories::{NewRepository, repository_key};
use landreeve_protection::restoring::{NewRestore, restore_plan, restore_start};
use landreeve_testkit::postgres_url;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};
use url::Url;

use crate::support::{World, to};

const DEFAULTS: NewBackup = NewBackup { repository: None, keep: None };

/// Values at the edges of every type, and everything else that a database has.
const ZOO: &str = r#"
CREATE SCHEMA "odd "" schema";
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', E'tab\tbed', '\N');
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE TYPE pair AS (a integer, b text);
CREATE FUNCTION twice(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
CREATE SEQUENCE counter START 41 INCREMENT 7;
SELECT nextval('counter'), nextval('counter');
CREATE TABLE zoo (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    b boolean, i2 smallint, i4 integer, i8 bigint, o oid, f4 real, f8 double precision,
    n numeric, n2 numeric(12, 2), n0 numeric(1000, 500), t text, vc varchar(20), c char(10), nm name, ch "char",
    by bytea, d date, ts timestamp, ts0 timestamp(0), ts3 timestamp(3), tz timestamptz, tm time, tm0 time(0), ttz timetz,
    iv interval, u uuid, j json, jb jsonb, x xml, ip inet, net cidr, mac macaddr, bits bit(5), vb varbit,
    pt point, bx box, pl polygon, ci circle, ia integer[], ta text[], r int4range, mr int4multirange, tr tstzrange,
    m mood, p positive, pr pair, mo money, tv tsvector, tq tsquery, rc regclass, lsn pg_lsn, ma mood[],
    doubled integer GENERATED ALWAYS AS (i2 * 2) STORED
);
INSERT INTO zoo (b) VALUES (NULL);
INSERT INTO zoo (b, i2, i4, i8, o, f4, f8, n, n2, n0, t, vc, c, nm, ch, by, d, ts, ts0, ts3, tz, tm, tm0, ttz, iv, u, j, jb,
    x, ip, net, mac, bits, vb, pt, bx, pl, ci, ia, ta, r, mr, tr, m, p, pr, mo, tv, tq, rc, lsn, ma) VALUES
(true, -32768, -2147483648, -9223372036854775808, 0, '-3.4028235e38', '-1.7976931348623157e308', 'NaN', 'NaN',
 -0.1, '', '', '', '', '', '', '-infinity', '-infinity', '-infinity', '-infinity', '-infinity', '00:00', '00:00', '00:00+15:59',
 '-178000000 years', '00000000-0000-0000-0000-000000000000', '{"a" : 1, "a": 2}', '{"a": 1e400}', '<a/>', '::/0', '0.0.0.0/0',
 '08:00:2b:01:02:03', '00000', '', '(1e-300,2e300)', '(0,0),(1,1)', '((0,0),(1,1),(2,0))', '<(0,0),5>', '{}', '{}', 'empty',
 '{}', '(,)', 'sad', 0.0000000000001, ROW(NULL, NULL), '-92233720368547758.08', '', '', 'zoo', '0/0', '{}'),
(false, 32767, 2147483647, 9223372036854775807, 4294967295, 'Infinity', 'NaN', 'Infinity',
 9999999999.99, repeat('9', 500)::numeric, E'tab\t nl\n cr\r bs\\ \\N \\. "q" ''s'' \u00e9\U0001F600', 'trailing  ', 'pad', repeat('n', 63), 'Z',
 decode('00ff5c0a0d09', 'hex'), 'infinity', 'infinity', '9999-12-31 23:59:59', '0044-03-15 BC', '294246-01-01 00:00:00.000001Z', '24:00:00', '24:00:00',
 '23:59:59.999999-15:59', '1 year -2 mons +3 days -04:05:06.789012', 'ffffffff-ffff-ffff-ffff-ffffffffffff', ' [1, 2] ',
 '[null, true, "\u00e9\t"]', '<a b="c">&amp;</a>', '192.168.1.5/24', '10.1.0.0/16', 'ff:ff:ff:ff:ff:ff', '10101', '110',
 '(NaN,-0)', '(1,1),(-1,-1)', '((0,0))', '<(1,1),0.1>', '{{1,2},{3,NULL}}', E'{"a,b","c\\"d",NULL,"NULL"," x "}', '[1,5)',
 '{[1,3),[7,)}', '["2020-01-01 00:00:00+00","infinity")', '\N', 1e100, ROW(1, E'x,"y\n'), '0.01', 'a:1A fat:2B,4C', 'a & !b | c:*',
 'pg_class', 'FFFFFFFF/FFFFFFFF', E'{sad,"tab\tbed"}'),
(NULL, 0, 0, 0, 1, '-0', '-0', '-Infinity', 0, 0, 'x', 'x', 'x', 'x', 'x', 'x', '4713-01-01 BC', '4713-01-01 00:00 BC', '0001-01-01', '1969-12-31 23:59:59.999',
 '1969-12-31 23:59:59.999999Z', '12:34:56.000001', '12:34:56', '12:00+00', '0', '12345678-9abc-def0-1234-56789abcdef0', 'null', 'null', NULL, '::1', '::/128',
 NULL, NULL, '1', NULL, NULL, NULL, NULL, '{NULL}', '{""}', '(,5]', NULL, NULL, E'tab\tbed', 1, ROW(NULL, ''), 0, NULL, NULL, NULL, NULL, NULL),
(NULL, 1, 1, 1, 1, 'NaN', '5e-324', 0.00000000000000000000000000000000000000000000000001, 0.01, 1, NULL, NULL, NULL, NULL, NULL, NULL, '5874897-12-31',
 '2000-02-29 12:34:56.789', '2000-02-29 12:34:57', '2000-02-29 12:34:56.789', '0044-03-15 12:00:00.5Z BC', NULL, NULL, NULL, 'P-1Y2M-3DT-4H5M-6.5S', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE "odd "" schema"."odd table, ""x""" ("odd "" column" text, "SELECT" integer, "a.b" text);
INSERT INTO "odd "" schema"."odd table, ""x""" VALUES ('1', 2, '3'), ('1', 2, '3'), (NULL, NULL, NULL);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE parted (id integer, region text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu') PARTITION BY RANGE (id);
CREATE TABLE parted_eu_1 PARTITION OF parted_eu FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT i, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END FROM generate_series(1, 99) i;
CREATE TABLE hashed (m mood, i integer) PARTITION BY HASH (m);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT (ARRAY['sad', 'it''s ok', E'tab\tbed', '\N']::mood[])[1 + i % 4], i FROM generate_series(1, 100) i;
CREATE TABLE listed (a bytea[], z timestamptz[]);
INSERT INTO listed VALUES (ARRAY['\x00ff'::bytea], ARRAY['2020-01-01 12:00+00'::timestamptz]);
CREATE TABLE parent (a integer); CREATE TABLE child (b integer) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
CREATE UNLOGGED TABLE fast (a integer PRIMARY KEY); INSERT INTO fast VALUES (1);
CREATE TABLE two (a integer, b text, filler text, PRIMARY KEY (b, a));
INSERT INTO two SELECT i, chr(64 + i % 60), repeat(md5(i::text), 3) FROM generate_series(1, 30000) i;
ALTER TABLE two DROP COLUMN filler;
CREATE INDEX two_b ON two (b) WHERE a > 5;
CREATE TABLE refers (a integer, b text, FOREIGN KEY (b, a) REFERENCES two (b, a));
INSERT INTO refers SELECT a, b FROM two LIMIT 10;
CREATE VIEW seen AS SELECT a FROM two;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM two;
CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER stop BEFORE INSERT ON two FOR EACH ROW EXECUTE FUNCTION forbid();
CREATE RULE quiet AS ON INSERT TO refers DO INSTEAD NOTHING;
COMMENT ON TABLE two IS 'it''s a comment';
SELECT lo_from_bytea(4242, 'a large object');
"#;

/// A database on the test server, with its datasource.
pub struct Database {
    pub name: String,
    url: Url,
}

impl Database {
    pub async fn new(sql: &str) -> Database {
        let name = format!("lr_{}", uuid::Uuid::from_u128(rand_bits()).simple());
        let database = Database::named(&name);
        database.admin(&format!("CREATE DATABASE \"{name}\"")).await;
        database.connect().await.batch_execute(sql).await.unwrap();
        database
    }

    fn named(name: &str) -> Database {
        let mut url = Url::parse(&postgres_url()).unwrap();
        url.set_path(name);
        Database { name: name.to_owned(), url }
    }

    /// The name of one that does not exist yet.
    pub fn unused() -> Database {
        Database::named(&format!("lr_{}", uuid::Uuid::from_u128(rand_bits()).simple()))
    }

    pub async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(self.url.as_str(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn admin(&self, sql: &str) {
        let (client, connection) = tokio_postgres::connect(&postgres_url(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
    }

    pub async fn drop(self) {
        self.admin(&format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name)).await;
    }

    /// Everything that it has, as `pg_dump` writes it, whatever the order of its rows.
    pub async fn dump(&self) -> Vec<String> {
        self.dump_of(&[]).await
    }

    /// With these arguments.
    pub async fn dump_of(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("pg_dump");
        let output = command.arg("--dbname").arg(self.url.as_str()).args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        // The program's protection against itself has random words.
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    pub fn details(&self) -> DatasourceDetails {
        DatasourceDetails {
            name: self.name.clone(),
            database_type: DatabaseType::Postgres,
            host: self.url.host_str().map(str::to_owned),
            port: self.url.port(),
            username: Some(self.url.username().to_owned()),
            password: self.url.password().map(Secret::new),
            database: Some(self.name.clone()),
            nightly_schema: false,
            ..DatasourceDetails::default()
        }
    }
}

fn rand_bits() -> u128 {
    use landreeve_core::Random as _;
    let mut bytes = [0; 16];
    landreeve_estate::random::OsRandom.fill(&mut bytes);
    u128::from_be_bytes(bytes)
}

pub async fn declared(world: &World, details: DatasourceDetails) -> Datasource {
    datasource_create(&world.kit.estate, &world.ctx, details, Vec::new()).await.unwrap()
}

pub async fn restored(world: &World, backup: &Backup, new: NewRestore) {
    let run = restore_start(&world.plane, &world.ctx, new).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()), "{}", backup.uuid);
}

#[tokio::test]
async fn everything_comes_back() {
    let world = World::sqlite().await;
    let zoo = Database::new(ZOO).await;
    // Settings that change how values look, and no values.
    for setting in ["bytea_output = escape", "lc_monetary = 'C.UTF-8'", "TimeZone = 'Asia/Kolkata'"] {
        zoo.admin(&format!("ALTER DATABASE \"{}\" SET {setting}", zoo.name)).await;
    }
    for (verify, require) in [(false, false), (false, true)] {
        let details = DatasourceDetails { verify_tls: verify, require_tls: require, ..zoo.details() };
        let source = declared(&world, details).await;
        let backup = world.back_up(&source, DEFAULTS).await;
        assert_eq!((backup.tables, backup.rows), (12, Some(30_221)));
        let new = Database::unused();
        restored(&world, &backup, NewRestore { compare: true, ..to(&backup, new.name.clone()) }).await;
        // The parts of a table that is partitioned by the hash of an enum differ between databases.
        let apart = |line: &String| !line.contains("COPY public.hashed_");
        let lines = |all: Vec<String>| all.into_iter().filter(apart).collect::<Vec<_>>();
        zoo.admin(&format!("ALTER DATABASE \"{}\" RESET ALL", zoo.name)).await;
        assert_eq!(lines(new.dump().await), lines(zoo.dump().await));
        new.drop().await;
    }
    assert_eq!(std::fs::read_dir(world.path("scratch")).unwrap().count(), 0);
    zoo.drop().await;
}

#[tokio::test]
async fn a_backup_is_of_one_moment() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE a (id integer PRIMARY KEY, amount integer); CREATE TABLE b (id integer PRIMARY KEY, amount integer); \
         INSERT INTO a SELECT i, 100 FROM generate_series(1, 20000) i; INSERT INTO b SELECT i, 100 FROM generate_series(1, 20000) i;",
    )
    .await;
    let source = declared(&world, shop.details()).await;
    let conn = shop.connect().await;
    let stop = CancellationToken::new();
    let writer = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut writes = 0_i64;
            while !stop.is_cancelled() {
                writes += 1;
                let (from, to) = (1 + writes * 37 % 20_000, 1 + writes * 53 % 20_000);
                let sql = format!(
                    "BEGIN; UPDATE b SET amount = amount - 1 WHERE id = {from}; \
                     UPDATE a SET amount = amount + 1 WHERE id = {to}; COMMIT"
                );
                conn.batch_execute(&sql).await.unwrap();
            }
            writes
        }
    });
    let backup = world.back_up(&source, DEFAULTS).await;
    stop.cancel();
    assert!(writer.await.unwrap() > 0);
    let new = Database::unused();
    restored(&world, &backup, NewRestore { compare: true, ..to(&backup, new.name.clone()) }).await;
    let sum = "SELECT ((SELECT sum(amount) FROM a) + (SELECT sum(amount) FROM b))::int8";
    let sum: i64 = new.connect().await.query_one(sum, &[]).await.unwrap().get(0);
    assert_eq!(sum, 4_000_000);
    new.drop().await;
    shop.drop().await;
}

/// What replaces the rows of a table, and has not committed when the backup begins, is in it.
#[tokio::test]
async fn a_table_that_is_being_replaced_is_not_empty() {
    let world = World::sqlite().await;
    for replaced in [
        "TRUNCATE t; INSERT INTO t SELECT i FROM generate_series(1, 500) i",
        "ALTER TABLE t ALTER a TYPE bigint USING a + 500",
        "CREATE TABLE new AS SELECT a FROM t; DROP TABLE t; ALTER TABLE new RENAME TO t",
    ] {
        let shop =
            Database::new("CREATE TABLE t (a integer); INSERT INTO t SELECT generate_series(1, 1000)").await;
        let details = DatasourceDetails { name: replaced.to_owned(), ..shop.details() };
        let source = declared(&world, details).await;
        let conn = shop.connect().await;
        conn.batch_execute(&format!("BEGIN; {replaced}")).await.unwrap();
        let run = backup_start(&world.plane, &world.ctx, source.id, DEFAULTS).await.unwrap();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
                     (SELECT oid FROM pg_database WHERE datname = current_database())";
        let ended = async {
            while conn.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        conn.batch_execute("COMMIT").await.unwrap();
        assert_eq!(world.ended(run.clone()).await, (RunState::Succeeded, String::new()), "{replaced}");
        let backup = backup_get(&world.plane, &world.ctx, run.uuid).await.unwrap();
        let rows: i64 = conn.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
        assert_eq!(backup.rows, Some(rows), "{replaced}");
        let new = Database::unused();
        restored(&world, &backup, NewRestore { compare: true, ..to(&backup, new.name.clone()) }).await;
        assert_eq!(new.dump().await, shop.dump().await, "{replaced}");
        drop(conn);
        new.drop().await;
        shop.drop().await;
    }
}

/// Texts are in the same order in the new database.
#[tokio::test]
async fn a_database_keeps_its_locale() {
    let world = World::sqlite().await;
    let shop = Database::unused();
    shop.admin(&format!(
        "CREATE DATABASE \"{}\" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true' ENCODING 'UTF8'",
        shop.name
    ))
    .await;
    let conn = shop.connect().await;
    conn.batch_execute("CREATE TABLE t (a text); INSERT INTO t VALUES ('z'), ('a10'), ('Ä'), ('a2')")
        .await
        .unwrap();
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let new = Database::unused();
    restored(&world, &backup, NewRestore { compare: true, ..to(&backup, new.name.clone()) }).await;
    let order = "SELECT string_agg(a, ',' ORDER BY a) FROM t";
    let text: String = new.connect().await.query_one(order, &[]).await.unwrap().get(0);
    assert_eq!(text, "Ä,a2,a10,z");
    drop(conn);
    new.drop().await;
    shop.drop().await;
}

#[tokio::test]
async fn what_is_unchanged_is_not_stored_again() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, a uuid, b text, c double precision); \
         INSERT INTO t SELECT i, gen_random_uuid(), md5(random()::text), random() FROM generate_series(1, 300000) i; \
         ANALYZE;",
    )
    .await;
    let source = declared(&world, shop.details()).await;
    let first = world.back_up(&source, DEFAULTS).await.bytes_added.unwrap();
    let second = world.back_up(&source, DEFAULTS).await.bytes_added.unwrap();
    assert!(second * 200 < first, "{first}, then {second}");
    let sql = "UPDATE t SET b = 'x' WHERE id BETWEEN 100000 AND 103000";
    shop.connect().await.batch_execute(sql).await.unwrap();
    let third = world.back_up(&source, DEFAULTS).await.bytes_added.unwrap();
    // A change costs the pages around it in each column, whatever the size of the table.
    assert!(third * 3 < first && third > second, "{first}, {second}, then {third}");
    shop.drop().await;
}

/// The datasource and the estate are gone: only the repository is left.
#[tokio::test]
async fn a_repository_alone_restores_a_database() {
    let world = World::sqlite().await;
    let shop =
        Database::new("CREATE TABLE t (a integer PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'x')").await;
    let source = declared(&world, shop.details()).await;
    let made = world.back_up(&source, DEFAULTS).await;
    let before = shop.dump().await;
    let details = shop.details();
    datasource_delete(&world.kit.estate, &world.ctx, source.id).await.unwrap();
    let error = restore_plan(&world.plane, &world.ctx, to(&made, "x".into())).await.unwrap_err();
    assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("to", "required"));
    let key = repository_key(&world.plane, &world.ctx, "default").await.unwrap();
    let other = World::sqlite().await;
    let url = world.path("default").to_str().unwrap().to_owned();
    other.attach(NewRepository { url, ..other.wanted("moved", "x") }, &key).await.unwrap();
    shop.drop().await;
    let server = declared(&other, DatasourceDetails { database: Some("postgres".into()), ..details }).await;
    let new = Database::unused();
    let wanted = NewRestore { to: Some(server.id), compare: true, ..to(&made, new.name.clone()) };
    restored(&other, &made, wanted).await;
    assert_eq!(new.dump().await, before);
    new.drop().await;
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    let world = World::sqlite().await;
    let shop =
        Database::new("CREATE TABLE t (a integer PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'x')").await;
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let ended = async |new: NewRestore| {
        let run = restore_start(&world.plane, &world.ctx, new).await.unwrap();
        let run = world.kit.ended(&run).await;
        let error = run.error.unwrap();
        (error.kind, error.message)
    };
    // A database that is not empty, whatever is in it.
    let (kind, message) = ended(to(&backup, shop.name.clone())).await;
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("is not empty"), "{message}");
    for sql in [
        "CREATE SCHEMA x",
        "CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "SELECT lo_create(0)",
    ] {
        let used = Database::new(sql).await;
        let (kind, message) = ended(to(&backup, used.name.clone())).await;
        assert_eq!(kind, ErrorKind::Conflict, "{sql}: {message}");
        used.drop().await;
    }
    let (kind, message) = ended(to(&backup, "template1".into())).await;
    assert_eq!((kind, message.contains("is a template")), (ErrorKind::Conflict, true), "{message}");
    let empty = Database::new("SELECT 1").await;
    restored(&world, &backup, to(&backup, empty.name.clone())).await;
    assert_eq!(empty.dump().await, shop.dump().await);
    empty.drop().await;
    for (new, field) in [
        (to(&backup, String::new()), "database"),
        (to(&backup, "n".repeat(64)), "database"),
        (to(&backup, "a\0b".into()), "database"),
        (NewRestore { name: Some(String::new()), ..to(&backup, "x".into()) }, "name"),
    ] {
        let error = restore_plan(&world.plane, &world.ctx, new).await.unwrap_err();
        assert_eq!((error.kind, error.faults[0].field.as_str()), (ErrorKind::Invalid, field));
    }
    // A table that another session keeps locked, a value that is too large, and a server that is gone.
    let back_up = async |source: &Datasource| {
        let run = backup_start(&world.plane, &world.ctx, source.id, DEFAULTS).await.unwrap();
        world.ended(run).await
    };
    let conn = shop.connect().await;
    conn.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (state, message) = back_up(&source).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("locked by another session"), "{message}");
    conn.batch_execute("ROLLBACK; UPDATE t SET b = repeat('x', 2000000)").await.unwrap();
    let (state, message) = back_up(&source).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.starts_with("table public.t: ") && message.contains("\"b\""), "{message}");
    assert!(message.contains("[protection] max_value_bytes"), "{message}");
    let gone = declared(&world, DatasourceDetails { port: Some(1), ..shop.details() }).await;
    let (state, message) = back_up(&gone).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("nothing is listening"), "{message}");
    let few = declared(&world, DatasourceDetails { max_concurrent: 1, ..shop.details() }).await;
    let (state, message) = back_up(&few).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("needs 2 connections"), "{message}");
    assert_eq!(world.listed().await, [backup.uuid]);
    shop.drop().await;
}

#[tokio::test]
async fn a_cancel_leaves_no_backup_and_no_session() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE t (a integer PRIMARY KEY, b text); \
         INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 500000) i",
    )
    .await;
    let source = declared(&world, shop.details()).await;
    for _ in 0..3 {
        let run = backup_start(&world.plane, &world.ctx, source.id, DEFAULTS).await.unwrap();
        // It is reading the definitions or the rows by then.
        while !std::fs::read_dir(world.path("scratch")).is_ok_and(|mut all| all.next().is_some()) {
            tokio::task::yield_now().await;
        }
        runs::run_cancel(&world.kit.estate, &world.ctx, runs::RunRef::Id(run.id), &[]).await.unwrap();
        assert_eq!(world.ended(run).await.0, RunState::Cancelled);
    }
    assert!(world.listed().await.is_empty());
    let conn = shop.connect().await;
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut left = 1_i64;
    for _ in 0..2_000 {
        left = conn.query_one(others, &[]).await.unwrap().get(0);
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "sessions are left");
    assert!(std::fs::read_dir(world.path("scratch")).is_ok_and(|mut left| left.next().is_none()));
    drop(conn);
    shop.drop().await;
}

/// On its own server a restore takes less than on another.
#[tokio::test]
async fn another_server_takes_more_rights() {
    let world = World::sqlite().await;
    let shop = Database::new("CREATE TABLE t (a integer)").await;
    let source = declared(&world, shop.details()).await;
    let other = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let held = |noun, action| Permission::new(noun, action);
    let view = held(BACKUP, Action::VIEW);
    let datasource = held(landreeve_core::Noun::DATASOURCE, Action::MANAGE);
    for (name, rights, own, another) in [
        ("guest", vec![view], false, false),
        ("helper", vec![view, held(RESTORE, Action::USE)], true, false),
        ("half", vec![view, held(RESTORE, Action::MANAGE)], true, false),
        ("whole", vec![view, held(RESTORE, Action::MANAGE), datasource], true, true),
    ] {
        let ctx = world.kit.person(name, &rights).await;
        for (to_other, may) in [(false, own), (true, another)] {
            let wanted = NewRestore { to: to_other.then_some(other.id), ..to(&backup, "x".into()) };
            let planned = restore_plan(&world.plane, &ctx, wanted).await;
            assert_eq!(planned.is_ok(), may, "{name} {to_other}: {:?}", planned.err());
        }
    }
    shop.drop().await;
}

#[tokio::test]
async fn tables_are_read_at_the_same_time_if_there_are_connections() {
    let world = World::sqlite().await;
    let make = |name: &str| {
        format!(
            "CREATE TABLE {name} AS SELECT i, repeat(md5(i::text), 20) AS t FROM generate_series(1, 20) AS i;"
        )
    };
    let shop = Database::new(&["a", "b", "c"].map(make).concat()).await;
    let details = |connections| DatasourceDetails { max_concurrent: connections, ..shop.details() };
    let name = shop.name.clone();
    let sessions = async |client: &Client| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%FROM ONLY%'";
        client.query_one(sql, &[&name]).await.unwrap().get::<_, i64>(0)
    };
    // The coordinator reads no rows. With two connections there is one reader.
    for (connections, readers) in [(20, 2), (2, 1)] {
        let source = declared(&world, details(connections)).await;
        let client = Database::named("postgres").connect().await;
        let mut most = 0;
        for _ in 0..5 {
            let run = backup_start(&world.plane, &world.ctx, source.id, DEFAULTS).await.unwrap();
            let ended = world.ended(run);
            tokio::pin!(ended);
            let state = loop {
                tokio::select! {
                    biased;
                    ended = &mut ended => break ended,
                    seen = sessions(&client) => most = most.max(seen),
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(state, (RunState::Succeeded, String::new()));
            if most >= readers {
                break;
            }
        }
        assert_eq!(most, readers, "{connections} connections");
    }
    let source = declared(&world, details(1)).await;
    let run = backup_start(&world.plane, &world.ctx, source.id, DEFAULTS).await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!((state, message.contains("needs 2 connections")), (RunState::Failed, true), "{message}");
    shop.drop().await;
}

/// The rows of the first file of a backup, as restic has it.
async fn first_rows(world: &World, backup: &Backup) -> Vec<i32> {
    let sql = "SELECT CAST(a AS INTEGER) FROM t".to_owned();
    let asked = RecordQuery { backup: backup.uuid, sql, time_limit: Duration::from_secs(30), max_rows: None };
    let stream = record_query(&world.plane, &world.ctx, asked, CancellationToken::new()).await.unwrap();
    let batches: Vec<RecordBatch> = stream.batches.try_collect().await.unwrap();
    let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int32Type>().values().to_vec();
    batches.iter().flat_map(column).collect()
}

#[tokio::test]
async fn rows_are_read_by_their_key_or_as_they_are_stored() {
    let sql = "CREATE TABLE t (a integer PRIMARY KEY); INSERT INTO t VALUES (3), (1), (2)";
    for (order, wanted) in [(RowOrderOption::Key, [1, 2, 3]), (RowOrderOption::Physical, [3, 1, 2])] {
        let world = World::with(|options| options.row_order = order).await;
        let shop = Database::new(sql).await;
        let source = declared(&world, shop.details()).await;
        let backup = world.back_up(&source, DEFAULTS).await;
        assert_eq!(first_rows(&world, &backup).await, wanted);
        let new = Database::unused();
        restored(&world, &backup, NewRestore { compare: true, ..to(&backup, new.name.clone()) }).await;
        new.drop().await;
        shop.drop().await;
    }
}
