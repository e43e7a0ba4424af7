//! A good guest: a database's own limits hold, what it ends is told in its words, and nothing stays behind.

use std::time::{Duration, Instant};

use landreeve_core::Secret;
use landreeve_core::source::{CancellationToken, Query, SourceError, SourceErrorKind, Target};
use mysql_async::prelude::Queryable as _;

use crate::support::{Live, mariadb, mariadb_admin, postgres, postgres_admin, postgres_client, read};

const MARIADB: &str = "LANDREEVE_TEST_MARIADB";

fn as_user(mut live: Live, name: &str) -> Live {
    if let Target::Network { username, password, .. } = &mut live.spec.target {
        name.clone_into(username);
        *password = Secret::new("lr");
    }
    live
}

async fn error_within(live: &Live, sql: &str, limit: Duration) -> SourceError {
    let query = Query { time_limit: limit, ..read(sql) };
    let outcome = live.driver().query(&live.spec, query, CancellationToken::new()).await;
    match outcome {
        Err(error) => error,
        Ok(mut stream) => {
            let mut last = None;
            while let Some(item) = futures_util::StreamExt::next(&mut stream.batches).await {
                last = item.err();
            }
            last.unwrap_or_else(|| panic!("{sql} was allowed"))
        }
    }
}

/// Each case: the user's limit, ours, and whether the server ends the statement.
const LIMITS: [(&str, u64, bool); 3] = [("300", 20_000, true), ("20000", 300, false), ("0", 300, false)];

#[tokio::test]
async fn the_stricter_time_limit_holds_on_postgresql() {
    for (theirs, ours, server_ends) in LIMITS {
        postgres_admin(&format!(
            "drop role if exists lr_guest; create role lr_guest login password 'lr'; \
             alter role lr_guest set statement_timeout = '{theirs}ms'"
        ))
        .await;
        let live = as_user(postgres(), "lr_guest");
        // The second time on a pooled connection.
        for _ in 0..2 {
            let begun = Instant::now();
            let error = error_within(&live, "select pg_sleep(15)", Duration::from_millis(ours)).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
            if server_ends {
                assert_eq!((error.kind, error.code.as_deref()), (SourceErrorKind::Query, Some("57014")));
                assert!(error.message.contains("statement timeout"), "{error}");
            } else {
                assert_eq!(error.kind, SourceErrorKind::TimedOut, "{error}");
            }
        }
        live.set.close().await;
    }
    postgres_admin("drop role lr_guest").await;
}

#[tokio::test]
async fn the_stricter_time_limit_holds_on_mariadb() {
    let mut admin = mariadb_admin(MARIADB).await;
    let name = format!("lr_guest_{}", std::process::id());
    for (theirs, ours, server_ends) in LIMITS {
        let seconds = theirs.parse::<f64>().expect("a number") / 1000.0;
        for sql in [
            format!("DROP USER IF EXISTS {name}"),
            format!("CREATE USER {name} IDENTIFIED BY 'lr' WITH MAX_STATEMENT_TIME {seconds}"),
            format!("GRANT SELECT ON *.* TO {name}"),
        ] {
            admin.query_drop(&sql).await.expect(&sql);
        }
        let live = as_user(mariadb(), &name);
        for _ in 0..2 {
            let begun = Instant::now();
            let error = error_within(&live, "select sleep(15)", Duration::from_millis(ours)).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
            if server_ends {
                assert_eq!((error.kind, error.code.as_deref()), (SourceErrorKind::Query, Some("1969")));
            } else {
                assert_eq!(error.kind, SourceErrorKind::TimedOut, "{error}");
            }
        }
        live.set.close().await;
    }
    admin.query_drop(format!("DROP USER {name}")).await.expect("drops");
}

#[tokio::test]
async fn a_cancel_by_the_administrator_is_told_in_the_databases_words() {
    let live = postgres();
    let admin = postgres_client().await;
    let mark = format!("lr_dba_{}", std::process::id());
    let sql = format!("select pg_sleep(15) /* {mark} */");
    let cancel = format!(
        "select pg_cancel_backend(pid) from pg_stat_activity \
         where query like '%{mark}%' and pid <> pg_backend_pid() and state = 'active'"
    );
    // Again and again: the first may come before the statement begins.
    let cancels = async {
        loop {
            admin.query(&cancel, &[]).await.expect("rows");
        }
    };
    let error = tokio::select! {
        error = error_within(&live, &sql, Duration::from_secs(20)) => error,
        () = cancels => unreachable!("it is endless"),
    };
    assert_eq!((error.kind, error.code.as_deref()), (SourceErrorKind::Query, Some("57014")), "{error}");

    let live = mariadb();
    let mut admin = mariadb_admin(MARIADB).await;
    let columns = "information_schema.columns";
    let sql = format!("select count(*) /* {mark} */ from {columns} a, {columns} b, {columns} c, {columns} d");
    let find = format!(
        "SELECT id FROM information_schema.processlist WHERE info LIKE '%{mark}%' AND id <> CONNECTION_ID()"
    );
    let kills = async {
        loop {
            let id: Option<u64> = admin.query_first(&find).await.expect("rows");
            if let Some(id) = id {
                // It may have ended in the meantime.
                let _ = admin.query_drop(format!("KILL QUERY {id}")).await;
            }
        }
    };
    let error = tokio::select! {
        error = error_within(&live, &sql, Duration::from_secs(20)) => error,
        () = kills => unreachable!("it is endless"),
    };
    assert_eq!((error.kind, error.code.as_deref()), (SourceErrorKind::Query, Some("1317")), "{error}");
}

#[tokio::test]
async fn postgresql_notices_soon_that_its_client_is_gone() {
    let live = postgres();
    let shown = "select current_setting('client_connection_check_interval')";
    for _ in 0..2 {
        assert_eq!(live.one(shown).await, "10s");
    }
    // A server that checks more often keeps its setting.
    postgres_admin(
        "drop role if exists lr_checked; create role lr_checked login password 'lr'; \
         alter role lr_checked set client_connection_check_interval = '2s'",
    )
    .await;
    let checked = as_user(postgres(), "lr_checked");
    assert_eq!(checked.one(shown).await, "2s");
    checked.set.close().await;
    postgres_admin("drop role lr_checked").await;
}
