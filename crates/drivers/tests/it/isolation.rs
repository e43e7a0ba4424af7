//! Readers never block writers: every transaction of ours sets its isolation, whatever the server's default is.

use futures_util::{StreamExt as _, TryStreamExt as _};
use landreeve_core::Secret;
use landreeve_core::source::{CancellationToken, Query, QueryStream, Target};
use mysql_async::prelude::Queryable as _;

use crate::support::{
    GeneralLog, Live, mariadb_admin, mariadb_without_zones, postgres, postgres_admin, postgres_client, read,
};

const ROWS: usize = 20_000;

/// Small batches: the statement is still running until the stream is read to its end.
async fn stream(live: &Live, sql: &str) -> QueryStream {
    let query = Query { batch_rows: 10, ..read(sql) };
    live.driver().query(&live.spec, query, CancellationToken::new()).await.expect(sql)
}

async fn introspect(live: &Live) -> Option<String> {
    let catalog = live.driver().introspect(&live.spec, true, CancellationToken::new()).await;
    catalog.expect("a catalog").default_schema
}

/// On a server that no other test writes to: its default isolation applies to every new session.
#[tokio::test]
async fn mariadb_reads_lock_nothing_if_the_server_is_serializable() {
    const SERVER: &str = "LANDREEVE_TEST_MARIADB_NO_ZONES";
    let database = format!("lr_isolation_{}", std::process::id());
    let mut admin = mariadb_admin(SERVER).await;
    for sql in [
        "SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        &format!("CREATE DATABASE {database}"),
        &format!("CREATE TABLE {database}.t (id INT PRIMARY KEY, v INT)"),
        &format!("INSERT INTO {database}.t SELECT seq, 0 FROM {database}.seq_1_to_{ROWS}"),
    ] {
        admin.query_drop(sql).await.expect(sql);
    }
    let log = GeneralLog::start(SERVER).await;
    let mut writer = mariadb_admin(SERVER).await;
    writer.query_drop("SET SESSION innodb_lock_wait_timeout = 0").await.expect("is set");

    // The server's default would block the writer.
    let mut plain = mariadb_admin(SERVER).await;
    let select = format!("SELECT * FROM {database}.t WHERE id = 1");
    for sql in ["START TRANSACTION READ ONLY", &select] {
        plain.query_drop(sql).await.expect(sql);
    }
    let blocked = writer.query_drop(format!("UPDATE {database}.t SET v = 1 WHERE id = 1")).await;
    assert!(blocked.expect_err("is locked").to_string().contains("1205"));
    plain.query_drop("ROLLBACK").await.expect("ends");

    let mut live = mariadb_without_zones();
    if let Target::Network { database: target, .. } = &mut live.spec.target {
        target.clone_from(&database);
    }
    for round in 1..=2 {
        let mut open = stream(&live, "SELECT id, v FROM t ORDER BY id").await;
        let first = open.batches.next().await.expect("a batch").expect("rows");
        let update = format!("UPDATE {database}.t SET v = {round} WHERE id <= {ROWS}");
        writer.query_drop(update).await.expect("nothing blocks the writer");
        let rest: Vec<_> = open.batches.try_collect().await.expect("the rest");
        let rows: usize = rest.iter().map(arrow_array::RecordBatch::num_rows).sum();
        assert_eq!(rows + first.num_rows(), ROWS);
        let first_value = live.one("SELECT MAX(v) FROM t").await;
        assert_eq!(first_value, round.to_string(), "each statement sees what was committed before it");
    }
    assert_eq!(live.one("SELECT @@tx_isolation").await, "REPEATABLE-READ");
    assert_eq!(introspect(&live).await, Some(database.clone()));
    live.driver().test(&live.spec, CancellationToken::new()).await.expect("responds");
    live.set.close().await;

    let sessions = log.sessions(&database).await;
    assert!(sessions.len() >= 2, "{sessions:?}");
    for session in sessions.values() {
        session.assert_isolated();
    }
    log.stop().await;
    admin.query_drop("SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.expect("is reset");
    admin.query_drop(format!("DROP DATABASE {database}")).await.expect("drops");
}

#[tokio::test]
async fn postgresql_reads_leave_no_predicate_locks_if_the_default_is_serializable() {
    postgres_admin(&format!(
        "drop schema if exists lr_isolation cascade; create schema lr_isolation;
         create table lr_isolation.t as select i as id, 0 as v from generate_series(1, {ROWS}) i;
         create function lr_isolation.current_schema() returns name language sql as
           $$ select current_setting('transaction_isolation') || ' '
                     || current_setting('transaction_read_only') $$;
         drop role if exists lr_isolation; create role lr_isolation login password 'lr';
         grant usage on schema lr_isolation to lr_isolation;
         grant select on all tables in schema lr_isolation to lr_isolation;
         alter role lr_isolation set default_transaction_isolation = 'serializable';
         alter role lr_isolation set search_path = lr_isolation, pg_catalog"
    ))
    .await;
    let mut live = postgres();
    if let Target::Network { username, password, .. } = &mut live.spec.target {
        "lr_isolation".clone_into(username);
        *password = Secret::new("lr");
    }
    let shown =
        "select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')";
    assert_eq!(live.one(shown).await, "read committed on");
    assert_eq!(live.one("select current_setting('default_transaction_isolation')").await, "serializable");
    let open = stream(&live, "select * from t").await;
    let client = postgres_client().await;
    let locks = "select coalesce(string_agg(distinct l.mode, ','), '') from pg_locks l \
                 join pg_stat_activity a using (pid) where a.usename = 'lr_isolation'";
    let held: String = client.query_one(locks, &[]).await.expect("locks").get(0);
    assert!(held.contains("AccessShareLock") && !held.contains("SIReadLock"), "{held}");
    let updated = client.execute("update lr_isolation.t set v = 1 where id = 1", &[]).await;
    assert_eq!(updated.expect("nothing blocks the writer"), 1);
    let rows: Vec<_> = open.batches.try_collect().await.expect("rows");
    assert_eq!(rows.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), ROWS);
    // The function of that name runs in the transaction that reads the catalog.
    assert_eq!(introspect(&live).await.as_deref(), Some("read committed on"));
    live.driver().test(&live.spec, CancellationToken::new()).await.expect("responds");
    live.set.close().await;
    postgres_admin("drop schema lr_isolation cascade; drop role lr_isolation").await;
}
