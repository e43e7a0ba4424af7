//! Every known way around read-only access is rejected, and the database is unchanged.

use landreeve_core::source::SourceErrorKind;
use mysql_async::prelude::Queryable;

use crate::support::{mariadb, mariadb_admin, postgres, postgres_admin, sqlite};

#[tokio::test]
async fn postgres_attacks() {
    postgres_admin(
        "drop table if exists lr_prey; create table lr_prey (v int); insert into lr_prey values (1);
         create or replace function lr_writes() returns int language plpgsql as
           $$ begin insert into lr_prey values (2); return 1; end $$;
         create or replace function lr_escapes() returns int language plpgsql as
           $$ begin perform set_config('transaction_read_only', 'off', true); insert into lr_prey values (3); return 1; end $$;
         create or replace function lr_commits() returns int language plpgsql as
           $$ begin execute 'commit'; insert into lr_prey values (4); return 1; end $$;
         create sequence if not exists lr_seq",
    )
    .await;
    let live = postgres();
    let before = live.one("select last_value || ' ' || is_called from lr_seq").await;
    for sql in [
        "do $$ begin perform set_config('transaction_read_only','off',false); commit; insert into lr_prey values (9); end $$",
        "commit; insert into lr_prey values (9)",
        "insert into lr_prey values (9)",
        "call lr_writes()",
        "copy lr_prey from '/etc/hostname'",
        "set transaction read write",
        "select 1; insert into lr_prey values (9)",
        "select 1 into lr_new",
        "with x as (insert into lr_prey values (9) returning v) select * from x",
        "explain analyze insert into lr_prey values (9)",
        "prepare p as insert into lr_prey values (9)",
    ] {
        assert_eq!(live.error(sql).await.kind, SourceErrorKind::NotReadOnly, "{sql}");
    }
    for sql in [
        "select lr_writes()",
        "select lr_escapes()",
        "select lr_commits()",
        "select set_config('transaction_read_only', 'off', true), lr_writes()",
        "select nextval('lr_seq')",
        "select * from (select set_config('transaction_read_only', 'off', false)) x, lr_writes()",
    ] {
        let error = live.error(sql).await;
        assert_eq!(error.kind, SourceErrorKind::Query, "{sql}: {error}");
        assert!(error.code.is_some(), "{sql}: {error}");
    }
    // PostgreSQL before 16 allows these, and the rollback undoes them.
    let objects = "select count(*) from pg_largeobject_metadata";
    let count = live.one(objects).await;
    live.one("select lo_create(0)::text").await;
    assert_eq!(live.one(objects).await, count);
    assert_eq!(live.one("select string_agg(v::text, ',') from lr_prey").await, "1");
    assert_eq!(live.one("select last_value || ' ' || is_called from lr_seq").await, before);
    assert_eq!(live.one("select count(*) from pg_class where relname = 'lr_new'").await, "0");
}

#[tokio::test]
async fn mariadb_attacks() {
    let mut admin = mariadb_admin("LANDREEVE_TEST_MARIADB").await;
    for sql in [
        "create or replace table test.lr_prey (v int)",
        "insert into test.lr_prey values (1)",
        "create or replace function test.lr_writes() returns int begin insert into test.lr_prey values (2); return 1; end",
    ] {
        admin.query_drop(sql).await.expect(sql);
    }
    let live = mariadb();
    let path = std::env::temp_dir().join(format!("lr-outfile-{}", std::process::id()));
    let file = path.display();
    for sql in [
        "set session transaction read write; insert into test.lr_prey values (9)".to_owned(),
        "set session transaction read write".to_owned(),
        "select 1; insert into test.lr_prey values (9)".to_owned(),
        format!("select 1 into outfile '{file}'"),
        format!("select 1 into dumpfile '{file}'"),
        format!("select 1 /*! into outfile '{file}' */"),
        "select 1 into @x".to_owned(),
        "load data local infile '/etc/hostname' into table test.lr_prey".to_owned(),
        "call test.lr_writes()".to_owned(),
        "commit".to_owned(),
        "start transaction read write".to_owned(),
        "insert into test.lr_prey values (9)".to_owned(),
        "handler test.lr_prey open".to_owned(),
        "prepare p from 'insert into test.lr_prey values (9)'".to_owned(),
        "execute immediate 'insert into test.lr_prey values (9)'".to_owned(),
    ] {
        assert_eq!(live.error(&sql).await.kind, SourceErrorKind::NotReadOnly, "{sql}");
    }
    let error = live.error("select test.lr_writes()").await;
    assert_eq!(error.code.as_deref(), Some("1792"), "{error}");
    assert_eq!(live.one("select group_concat(v) from test.lr_prey").await, "1");
    assert!(!path.exists());
    admin.disconnect().await.expect("leaves");
}

#[tokio::test]
async fn sqlite_attacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prey.db");
    let other = folder.path().join("other.db");
    let file = rusqlite::Connection::open(&path).expect("opens");
    file.execute_batch("create table t (v int); insert into t values (1)").expect("creates");
    drop(file);
    let before = std::fs::read(&path).expect("reads");
    let live = sqlite(&path);
    let other = other.display();
    for sql in [
        format!("attach '{other}' as o"),
        format!("vacuum into '{other}'"),
        "insert into t values (2)".to_owned(),
        "with x as (select 2) insert into t select * from x".to_owned(),
        "pragma writable_schema = on".to_owned(),
        "pragma query_only = off".to_owned(),
        "pragma user_version = 5".to_owned(),
        "pragma journal_mode = wal".to_owned(),
        "pragma database_list".to_owned(),
        "pragma temp_store_directory = '/tmp'".to_owned(),
        "select load_extension('/tmp/x.so')".to_owned(),
        "select 1; drop table t".to_owned(),
        "begin".to_owned(),
        "create temp table x (v)".to_owned(),
        "explain select load_extension('x')".to_owned(),
    ] {
        let error = live.error(&sql).await;
        assert_eq!(error.kind, SourceErrorKind::NotReadOnly, "{sql}: {error}");
    }
    assert_eq!(live.one("select name from pragma_table_info('t')").await, "v");
    assert_eq!(live.one("pragma user_version").await, "0");
    let error = live.error("select zeroblob(1000000000)").await;
    assert_eq!(error.code.as_deref(), Some("SQLITE_TOOBIG"), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), before);
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("links");
    let mut linked = sqlite(&path);
    linked.spec.target = landreeve_core::source::Target::File(link);
    assert_eq!(linked.error("select 1").await.kind, SourceErrorKind::Connect);
}
