//! Sessions that leave nothing behind, cancels that reach the database, streams with bounded memory, lost connections.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::source::{CancellationToken, Permit, Query, SourceErrorKind};
use landreeve_drivers::{DriverOptions, DriverSet};
use mysql_async::prelude::Queryable;

use crate::support::{
    Live, eventually, mariadb, mariadb_admin, postgres, postgres_admin, postgres_client, read, sqlite,
    watched,
};

/// The number of statements with this mark running on the server.
async fn running(live: &Live, mark: &str) -> i64 {
    if live.spec.database_type == DatabaseType::Postgres {
        let sql = "select count(*) from pg_stat_activity where state <> 'idle' and query like $1 and pid <> pg_backend_pid()";
        let client = postgres_client().await;
        client.query_one(sql, &[&format!("%{mark}%")]).await.expect("counts").get(0)
    } else {
        let mut admin = mariadb_admin("LANDREEVE_TEST_MARIADB").await;
        let sql = format!(
            "select count(*) from information_schema.processlist where info like '%{mark}%' and id <> connection_id()"
        );
        let count = admin.query_first(sql).await.expect("counts").expect("a row");
        admin.disconnect().await.expect("leaves");
        count
    }
}

#[tokio::test]
async fn postgres_sessions_leave_nothing() {
    let mut live = postgres();
    let pid = live.one("select pg_backend_pid()").await;
    live.one("select set_config('app.mark', 'left', false)").await;
    live.one("select set_config('TimeZone', 'Asia/Tokyo', false)").await;
    live.one("select pg_advisory_lock(4711)").await;
    live.one("select set_config('search_path', 'pg_catalog', false)").await;
    assert_eq!(live.one("select pg_backend_pid()").await, pid, "the connection is pooled");
    assert_eq!(live.one("select coalesce(current_setting('app.mark', true), '')").await, "");
    assert_eq!(live.one("select current_setting('TimeZone')").await, "Europe/Berlin");
    assert_eq!(
        live.one("select count(*) from pg_locks where locktype = 'advisory' and objid = 4711").await,
        "0"
    );
    assert_eq!(live.one("select count(*) from pg_prepared_statements where from_sql").await, "0");
    assert_eq!(live.one("select current_setting('statement_timeout') <> '0'").await, "true");
    // After an error the same connection is still used.
    live.error("select 1/0").await;
    assert_eq!(live.one("select pg_backend_pid()").await, pid);
    live.driver().forget(live.spec.datasource);
    assert_ne!(live.one("select pg_backend_pid()").await, pid);
    let old = live.one("select pg_backend_pid()").await;
    live.spec.version = 2;
    assert_ne!(live.one("select pg_backend_pid()").await, old);
    // A pooled connection that died is replaced without an error.
    let dead = live.one("select pg_backend_pid()").await;
    postgres_admin(&format!("select pg_terminate_backend({dead})")).await;
    assert_ne!(live.one("select pg_backend_pid()").await, dead);
    live.set.close().await;
}

#[tokio::test]
async fn mariadb_sessions_leave_nothing() {
    let live = mariadb();
    let id = live.one("select connection_id()").await;
    live.one("select @mark := 'left'").await;
    live.one("select get_lock('lr_lock', 1)").await;
    assert_eq!(live.one("select connection_id()").await, id, "the connection is pooled");
    assert_eq!(live.one("select coalesce(@mark, '')").await, "");
    assert_eq!(live.one("select is_free_lock('lr_lock')").await, "1");
    assert_eq!(live.one("select @@session.time_zone").await, "Europe/Berlin");
    live.error("select nope").await;
    assert_eq!(live.one("select connection_id()").await, id);
    let mut admin = mariadb_admin("LANDREEVE_TEST_MARIADB").await;
    admin.query_drop(format!("kill {id}")).await.expect("kills");
    admin.disconnect().await.expect("leaves");
    assert_ne!(live.one("select connection_id()").await, id);
    live.set.close().await;
}

/// The server, a statement that returns nothing for a long time, and one that returns endless rows.
type Slow = (fn() -> Live, &'static str, &'static str);

/// Statements that return nothing for a long time, or endless rows.
const SLOW: [Slow; 2] = [
    (postgres, "select pg_sleep(60) as MARK", "select i as MARK from generate_series(1, 100000000) i"),
    (mariadb, "select sleep(60) as MARK", "select seq as MARK from test.seq_1_to_100000000"),
];

#[tokio::test]
async fn a_cancel_reaches_the_database() {
    for (new, slow, _) in SLOW {
        let live = new();
        let mark = format!("lr_cancel_{}", std::process::id());
        let cancel = CancellationToken::new();
        let (driver, spec) = (live.driver(), live.spec.clone());
        let (query, token) = (read(&slow.replace("MARK", &mark)), cancel.clone());
        let task = tokio::spawn(async move { driver.query(&spec, query, token).await.map(|_| ()) });
        eventually("the statement runs", || async { running(&live, &mark).await == 1 }).await;
        let asked = Instant::now();
        cancel.cancel();
        let error = task.await.expect("ends").expect_err("cancelled");
        assert_eq!(error.kind, SourceErrorKind::Cancelled);
        assert!(asked.elapsed() < Duration::from_secs(2));
        eventually("the statement is gone", || async { running(&live, &mark).await == 0 }).await;
        assert_eq!(live.one("select 1").await, "1");
        live.set.close().await;
    }
}

#[tokio::test]
async fn dropping_the_stream_cancels_the_statement() {
    for (new, slow, endless) in SLOW {
        let live = new();
        let mark = format!("lr_drop_{}", std::process::id());
        let mut stream = live.stream(&endless.replace("MARK", &mark)).await.expect("starts");
        stream.batches.next().await.expect("a batch").expect("a batch");
        assert_eq!(running(&live, &mark).await, 1);
        drop(stream);
        eventually("the stream's statement is gone", || async { running(&live, &mark).await == 0 }).await;

        let (driver, spec) = (live.driver(), live.spec.clone());
        let query = read(&slow.replace("MARK", &mark));
        let task =
            tokio::spawn(
                async move { driver.query(&spec, query, CancellationToken::new()).await.map(|_| ()) },
            );
        eventually("the statement runs", || async { running(&live, &mark).await == 1 }).await;
        task.abort();
        eventually("the future's statement is gone", || async { running(&live, &mark).await == 0 }).await;
        live.set.close().await;
    }
}

#[tokio::test]
async fn time_limits_are_enforced() {
    for (new, slow, endless) in SLOW {
        let live = new();
        let mark = format!("lr_limit_{}", std::process::id());
        for sql in [slow, endless] {
            let query = Query { time_limit: Duration::from_millis(500), ..read(&sql.replace("MARK", &mark)) };
            let outcome = match live.driver().query(&live.spec, query, CancellationToken::new()).await {
                Ok(mut stream) => {
                    // A reader that stops reading must not keep the statement alive.
                    eventually("the limit ends it", || async { running(&live, &mark).await == 0 }).await;
                    let mut last = None;
                    while let Some(item) = stream.batches.next().await {
                        last = item.err();
                    }
                    last
                }
                Err(error) => Some(error),
            };
            let error = outcome.expect("the limit is reported");
            assert_eq!(error.kind, SourceErrorKind::TimedOut, "{sql}: {error}");
            eventually("the statement is gone", || async { running(&live, &mark).await == 0 }).await;
        }
    }
}

#[tokio::test]
async fn sqlite_statements_stop_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s.db");
    rusqlite::Connection::open(&path).expect("opens").execute_batch("create table t (v)").expect("creates");
    let live = sqlite(&path);
    let endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select %s from n";
    let silent = endless.replace("%s", "count(*)");
    let talkative = endless.replace("%s", "i");

    let query = Query { time_limit: Duration::from_millis(300), ..read(&silent) };
    let limited = live.driver().query(&live.spec, query, CancellationToken::new()).await;
    assert_eq!(limited.map(|_| ()).expect_err("limited").kind, SourceErrorKind::TimedOut);

    let cancel = CancellationToken::new();
    let (driver, spec, token) = (live.driver(), live.spec.clone(), cancel.clone());
    let task = tokio::spawn(async move { driver.query(&spec, read(&silent), token).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(100)).await; // tidy: allow sleep: no sign that it began
    cancel.cancel();
    assert_eq!(task.await.expect("ends").expect_err("cancelled").kind, SourceErrorKind::Cancelled);

    let mut stream = live.stream(&talkative).await.expect("starts");
    stream.batches.next().await.expect("a batch").expect("a batch");
    drop(stream);
    // This returns only when every thread has ended.
    tokio::time::timeout(Duration::from_secs(5), live.set.close()).await.expect("all threads ended");
}

#[tokio::test]
async fn streams_wait_for_the_reader() {
    let live = postgres();
    let query =
        Query { batch_rows: 1000, ..read("select i, repeat('x', 100) from generate_series(1, 2000000) i") };
    let mut stream = live.driver().query(&live.spec, query, CancellationToken::new()).await.expect("starts");
    let first = stream.batches.next().await.expect("a batch").expect("a batch");
    assert_eq!(first.num_rows(), 1000);
    let memory = || {
        let text = std::fs::read_to_string("/proc/self/statm").expect("reads");
        text.split(' ').nth(1).expect("resident").parse::<usize>().expect("pages") * 4096
    };
    let before = memory();
    tokio::time::sleep(Duration::from_secs(2)).await; // tidy: allow sleep: two million rows would arrive
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes while nothing was read");
    let mut rows = first.num_rows();
    while let Some(batch) = stream.batches.next().await {
        let batch = batch.expect("a batch");
        assert!(batch.num_rows() <= 1000);
        rows += batch.num_rows();
    }
    assert_eq!(rows, 2_000_000);
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes over the whole stream");
}

#[tokio::test]
async fn an_error_after_rows_is_the_last_item() {
    for (new, sql, code) in [
        (postgres as fn() -> Live, "select 10 / (5000 - i) from generate_series(1, 10000) i", "22012"),
        (
            mariadb,
            "select cast(concat('9', if(seq = 5000, json_extract('{', '$.a'), '')) as signed), exp(if(seq = 5000, 1000, 1)) * exp(if(seq = 5000, 1000, 1)) from test.seq_1_to_10000",
            "1690",
        ),
    ] {
        let live = new();
        let query = Query { batch_rows: 500, ..read(sql) };
        let mut stream =
            live.driver().query(&live.spec, query, CancellationToken::new()).await.expect("starts");
        let (mut rows, mut last) = (0, None);
        while let Some(item) = stream.batches.next().await {
            match item {
                Ok(batch) => rows += batch.num_rows(),
                Err(error) => last = Some(error),
            }
        }
        assert!((4000..5000).contains(&rows), "{rows}");
        assert_eq!(last.expect("reported").code.as_deref(), Some(code));
        assert_eq!(live.one("select 1").await, "1");
    }
}

#[tokio::test]
async fn a_lost_connection_is_reported() {
    let live = postgres();
    let mark = format!("lr_broken_{}", std::process::id());
    let mut stream = live.stream(&SLOW[0].2.replace("MARK", &mark)).await.expect("starts");
    postgres_admin(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like '%{mark}%' and pid <> pg_backend_pid()"
    ))
    .await;
    let mut last = None;
    while let Some(item) = stream.batches.next().await {
        last = item.err();
    }
    assert_eq!(last.expect("reported").kind, SourceErrorKind::Lost);

    let live = mariadb();
    let mut stream = live.stream(&SLOW[1].2.replace("MARK", &mark)).await.expect("starts");
    let mut admin = mariadb_admin("LANDREEVE_TEST_MARIADB").await;
    let sql = format!(
        "select id from information_schema.processlist where info like '%{mark}%' and id <> connection_id()"
    );
    let id: u64 = admin.query_first(sql).await.expect("finds").expect("a row");
    admin.query_drop(format!("kill {id}")).await.expect("kills");
    admin.disconnect().await.expect("leaves");
    let mut last = None;
    while let Some(item) = stream.batches.next().await {
        last = item.err();
    }
    assert_eq!(last.expect("reported").kind, SourceErrorKind::Lost);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    for new in [postgres, mariadb] {
        let mut live = new();
        let idle_timeout = Duration::from_millis(200);
        live.set =
            DriverSet::new(DriverOptions { idle_timeout, ..DriverOptions::default() }).expect("drivers");
        let is_postgres = live.spec.database_type == DatabaseType::Postgres;
        let id =
            live.one(if is_postgres { "select pg_backend_pid()" } else { "select connection_id()" }).await;
        eventually("the idle connection is gone", || async {
            if is_postgres {
                let sql = format!("select count(*) from pg_stat_activity where pid = {id}");
                postgres_client().await.query_one(&sql, &[]).await.expect("counts").get::<_, i64>(0) == 0
            } else {
                let mut admin = mariadb_admin("LANDREEVE_TEST_MARIADB").await;
                let sql = format!("select count(*) from information_schema.processlist where id = {id}");
                let count: Option<i64> = admin.query_first(sql).await.expect("counts");
                admin.disconnect().await.expect("leaves");
                count == Some(0)
            }
        })
        .await;
    }
}

/// There is no such test server; this at least exercises the protocol's code path.
#[tokio::test]
async fn databases_with_the_postgres_protocol_have_a_driver() {
    for kin in [DatabaseType::Redshift, DatabaseType::CrateDb] {
        let mut live = postgres();
        live.spec.database_type = kin;
        assert_eq!(live.one("select 1").await, "1");
        let catalog =
            live.driver().introspect(&live.spec, false, CancellationToken::new()).await.expect("reads");
        assert!(
            catalog.schemas.iter().flat_map(|schema| &schema.tables).all(|table| table.row_count.is_none())
        );
        live.set.close().await;
    }
}

#[tokio::test]
async fn a_permit_is_kept_as_long_as_its_connection_is_used() {
    for (new, _, endless) in SLOW {
        let mut live = new();
        let mark = format!("lr_permit_{}", std::process::id());
        let (permit, given_back) = watched();
        live.spec.permit = permit;
        let stream = live.stream(&endless.replace("MARK", &mark)).await.expect("starts");
        live.spec.permit = Permit::default();
        assert!(!given_back.is_cancelled());
        drop(stream);
        tokio::time::timeout(Duration::from_secs(10), given_back.cancelled()).await.expect("given back");
        assert_eq!(running(&live, &mark).await, 0, "the permit came back before the statement had ended");
        live.set.close().await;
    }
}
