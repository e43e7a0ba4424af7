//! What cannot be backed up or restored says why, and leaves nothing.

use landreeve_core::{ErrorKind, RunState, Secret};
use landreeve_estate::ops::{Datasource, DatasourceDetails, runs};
use landreeve_protection::backing_up::backup_start;
use landreeve_protection::backups::backup_get;
use landreeve_protection::restoring::{NewRestore, restore_plan, restore_start};

use mysql_async::prelude::Queryable;

use super::{DEFAULTS, Database, copied, declared, log, restored, unused};
use crate::support::{World, to};

const SHOP: &str = "CREATE TABLE t (a int PRIMARY KEY, b longtext) ;; INSERT INTO t VALUES (1, 'x')";

async fn back_up(world: &World, source: &Datasource) -> (RunState, String) {
    let run = backup_start(&world.plane, &world.ctx, source.id, DEFAULTS).await.unwrap();
    world.ended(run).await
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_refused() {
    let world = World::sqlite().await;
    let shop = Database::new(SHOP).await;
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let ended = async |new: NewRestore| {
        let run = restore_start(&world.plane, &world.ctx, new).await.unwrap();
        let error = world.kit.ended(&run).await.error.unwrap();
        (error.kind, error.message)
    };
    for sql in [
        "CREATE TABLE x (a int)",
        "CREATE VIEW x AS SELECT 1",
        "CREATE SEQUENCE x",
        "CREATE FUNCTION x () RETURNS int RETURN 1",
        "CREATE EVENT x ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    ] {
        let used = Database::new(sql).await;
        let before = used.definitions().await;
        let (kind, message) = ended(to(&backup, used.name.clone())).await;
        assert_eq!(kind, ErrorKind::Conflict, "{sql}: {message}");
        assert!(message.contains("is not empty"), "{message}");
        assert_eq!(used.definitions().await, before);
        used.drop().await;
    }
    let (kind, message) = ended(to(&backup, "mysql".into())).await;
    assert_eq!((kind, message.contains("is not empty")), (ErrorKind::Conflict, true), "{message}");
    // The names of databases differ in case here.
    let upper = Database::named(&shop.name.to_uppercase());
    restored(&world, &backup, to(&backup, upper.name.clone())).await;
    assert_eq!(upper.rows().await, shop.rows().await);
    upper.drop().await;
    // One that is empty is taken, and becomes what it was.
    let empty = Database::new("ALTER DATABASE CHARACTER SET latin2").await;
    restored(&world, &backup, to(&backup, empty.name.clone())).await;
    assert_eq!(
        empty.texts("SELECT @@collation_database").await,
        shop.texts("SELECT @@collation_database").await
    );
    empty.drop().await;
    shop.drop().await;
}

#[tokio::test]
async fn what_cannot_be_backed_up_says_why() {
    let world = World::sqlite().await;
    let shop = Database::new(SHOP).await;
    let details = shop.details();
    let wrong = DatasourceDetails { password: Some(Secret::new("wrong")), ..details.clone() };
    let (state, message) = back_up(&world, &declared(&world, wrong).await).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("rejected the password"), "{message}");
    let anywhere = DatasourceDetails { database: None, name: unused(), ..details.clone() };
    let (state, message) = back_up(&world, &declared(&world, anywhere).await).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("the datasource has no database"), "{message}");
    let gone = DatasourceDetails { port: Some(1), name: unused(), ..details.clone() };
    let (state, message) = back_up(&world, &declared(&world, gone).await).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("nothing is listening"), "{message}");
    // A value that is too large: one that the client still reads, and one that it gives up.
    let source = declared(&world, DatasourceDetails { name: unused(), ..details }).await;
    for length in [1_500_000, 2_500_000] {
        shop.run(&format!("UPDATE t SET b = REPEAT('x', {length})")).await;
        let (state, message) = back_up(&world, &source).await;
        assert_eq!(state, RunState::Failed);
        assert!(message.starts_with("table `t`: a value of the column \"b\" has"), "{message}");
        assert!(
            message.contains(&length.to_string()) && message.contains("[protection] max_value_bytes"),
            "{message}"
        );
    }
    // A row of which no value is too large.
    shop.run(
        "ALTER TABLE t ADD c longtext, ADD d longtext ;; UPDATE t SET b = REPEAT('x', 900000), c = b, d = b",
    )
    .await;
    let (state, message) = back_up(&world, &source).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.starts_with("table `t`: a row has more than 2000000 bytes, twice what"), "{message}");
    shop.run("UPDATE t SET b = NULL, c = NULL, d = NULL").await;
    // A member of a list that the server itself cannot show.
    shop.run("UPDATE t SET b = NULL ;; CREATE TABLE smile (e enum('😀', 'a?'), s set('😀', 'b?')) ;; INSERT INTO smile VALUES ('a?', 'b?')")
        .await;
    assert_eq!(back_up(&world, &source).await, (RunState::Succeeded, String::new()));
    for value in ["('😀', NULL)", "(NULL, 'b?,😀')"] {
        shop.run(&format!("INSERT INTO smile VALUES {value}")).await;
        let (state, message) = back_up(&world, &source).await;
        assert_eq!(state, RunState::Failed, "{value}");
        assert!(
            message.starts_with("table `smile`: the column \"") && message.contains("beyond U+FFFF"),
            "{message}"
        );
        shop.run("DELETE FROM smile").await;
    }
    assert_eq!(world.listed().await.len(), 1);
    shop.drop().await;
}

/// A view of what is gone cannot be created elsewhere either.
#[tokio::test]
async fn what_is_not_of_the_moment_is_named() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE good (a int) ;; INSERT INTO good VALUES (1) ;; \
         CREATE TABLE plain (a int) ENGINE=MyISAM ;; INSERT INTO plain VALUES (1), (2) ;; \
         CREATE TABLE crash (a int) ENGINE=Aria ;; CREATE TABLE fast (a int) ENGINE=MEMORY ;; INSERT INTO fast VALUES (3) ;; \
         CREATE TABLE merged (a int) ENGINE=MERGE UNION=(plain) ;; \
         CREATE TABLE numbered (a int PRIMARY KEY, s bigint unsigned GENERATED ALWAYS AS ROW START, e bigint unsigned GENERATED ALWAYS \
         AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING ;; \
         INSERT INTO numbered (a) VALUES (1) ;; UPDATE numbered SET a = 2 ;; \
         CREATE VIEW left_over AS SELECT a FROM good ;; CREATE VIEW on_it AS SELECT a FROM left_over ;; \
         CREATE OR REPLACE TABLE good (b int) ;; INSERT INTO good VALUES (4) ;; CREATE VIEW works AS SELECT b FROM good",
    )
    .await;
    let (backup, new) = copied(&world, &shop).await;
    let lines = log(&world, backup.uuid).await;
    let warned = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    for (part, count) in [
        ("`plain` (MyISAM) has no transactions", 1),
        ("`crash` (Aria) has no transactions", 1),
        ("`fast` (MEMORY) has no transactions", 1),
        ("`merged` (MRG_MyISAM) shows rows that are kept elsewhere", 1),
        ("history of the table `numbered` is not backed up", 1),
        ("`left_over` cannot be used", 1),
        ("`on_it` cannot be used", 1),
        ("`good`", 0),
        ("`works`", 0),
    ] {
        assert_eq!(warned(part), count, "{part}: {lines:?}");
    }
    assert_eq!((backup.tables, backup.rows), (5, Some(5)));
    for (sql, wanted) in [
        ("SELECT a FROM merged ORDER BY a", vec!["1", "2"]),
        ("SELECT b FROM works", vec!["4"]),
        ("SELECT a FROM numbered", vec!["2"]),
        ("SELECT a FROM fast", vec!["3"]),
        ("SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE()", vec!["1"]),
    ] {
        assert_eq!(new.texts(sql).await, wanted, "{sql}");
    }
    new.drop().await;
    shop.drop().await;
}

/// What a user cannot see is not missing without a word.
#[tokio::test]
async fn a_user_who_sees_a_part_is_told() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE t (a int) ;; INSERT INTO t VALUES (1) ;; CREATE VIEW v AS SELECT a FROM t ;; CREATE SEQUENCE s ;; \
         CREATE TRIGGER `tr` BEFORE INSERT ON `t` FOR EACH ROW SET @x = 1 ;; CREATE PROCEDURE p () SELECT 1 ;; \
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    )
    .await;
    let (user, name) = (unused(), shop.name.clone());
    shop.run(&format!("CREATE OR REPLACE USER `{user}`@`%` IDENTIFIED BY 'secret' ;; GRANT SELECT, SHOW VIEW ON `{name}`.* TO `{user}`@`%`"))
        .await;
    let limited = DatasourceDetails {
        username: Some(user.clone()),
        password: Some(Secret::new("secret")),
        ..shop.details()
    };
    let source = declared(&world, limited.clone()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let lines = log(&world, backup.uuid).await.join("\n");
    for part in ["the right TRIGGER", "the right EVENT", "only its own routines"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    // It sees a routine that it may execute, but not its body.
    shop.run(&format!("GRANT TRIGGER, EVENT, EXECUTE ON `{name}`.* TO `{user}`@`%`")).await;
    let (state, message) = back_up(&world, &source).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("not allowed to see the body of the procedure `p`"), "{message}");
    // With all of these, it sees everything, and needs no right to write.
    shop.run(&format!("GRANT SELECT ON mysql.proc TO `{user}`@`%`")).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    assert_eq!(log(&world, backup.uuid).await.len(), 1, "no warnings");
    let server = declared(&world, shop.details()).await;
    let new = Database::named(&unused());
    restored(&world, &backup, NewRestore { to: Some(server.id), ..to(&backup, new.name.clone()) }).await;
    assert_eq!(new.definitions().await, shop.definitions().await);
    // On its own server, with the same user, who may not create a database.
    let run = restore_start(&world.plane, &world.ctx, to(&backup, unused())).await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("Access denied"), "{message}");
    shop.run(&format!("DROP USER `{user}`@`%`")).await;
    new.drop().await;
    shop.drop().await;
}

#[tokio::test]
async fn a_cancel_leaves_no_backup_and_no_session() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE t (a int PRIMARY KEY, b text) ;; INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_300000",
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
    let left = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()",
        shop.name
    );
    let mut sessions = vec![String::new()];
    for _ in 0..500 {
        sessions = shop.texts(&left).await;
        if sessions == ["0"] {
            break;
        }
    }
    assert_eq!(sessions, ["0"], "sessions are left");
    assert!(std::fs::read_dir(world.path("scratch")).is_ok_and(|mut left| left.next().is_none()));
    // A restore, when rows are being written.
    let backup = world.back_up(&source, DEFAULTS).await;
    let new = Database::named(&unused());
    let run = restore_start(&world.plane, &world.ctx, to(&backup, new.name.clone())).await.unwrap();
    let writing = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND INFO LIKE 'INSERT INTO `t`%'",
        new.name
    );
    let writes = async {
        while shop.texts(&writing).await != ["1"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), writes).await.unwrap();
    runs::run_cancel(&world.kit.estate, &world.ctx, runs::RunRef::Id(run.id), &[]).await.unwrap();
    assert_eq!(world.ended(run).await.0, RunState::Cancelled);
    assert_eq!(new.texts("SELECT COUNT(*) FROM t").await, ["0"]);
    new.drop().await;
    shop.drop().await;
}

/// A backup waits for a table that is locked; meanwhile the definition of one changes that it has read.
#[tokio::test]
async fn a_definition_that_changes_during_the_backup_fails_it() {
    let world = World::sqlite().await;
    let shop =
        Database::new("CREATE TABLE a (x int) ;; INSERT INTO a VALUES (1) ;; CREATE TABLE b (x int)").await;
    let source = declared(&world, shop.details()).await;
    let mut conn = shop.connect().await;
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND STATE LIKE 'Waiting for table%'",
        shop.name
    );
    conn.query_drop("LOCK TABLES b WRITE").await.unwrap();
    let run = backup_start(&world.plane, &world.ctx, source.id, DEFAULTS).await.unwrap();
    let waits = async {
        while shop.texts(&waiting).await != ["1"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waits).await.unwrap();
    shop.run("ALTER TABLE a ADD y int").await;
    conn.query_drop("UNLOCK TABLES").await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!(state, RunState::Failed);
    assert!(
        message.contains("definitions were changed during the backup: table `a` was changed"),
        "{message}"
    );
    assert!(world.listed().await.is_empty());
    conn.disconnect().await.unwrap();
    shop.drop().await;
}

/// A backup that was cut off would be useless.
#[tokio::test]
async fn the_limits_of_the_server_do_not_count() {
    let world = World::sqlite().await;
    let shop = Database::new("CREATE TABLE t (a int PRIMARY KEY, b text) ;; INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_200000").await;
    let (user, name) = (unused(), shop.name.clone());
    shop.run(&format!(
        "CREATE OR REPLACE USER `{user}`@`%` IDENTIFIED BY 'secret' WITH MAX_STATEMENT_TIME 0.2 ;; GRANT ALL ON `{name}`.* TO `{user}`@`%`"
    ))
    .await;
    let limited = DatasourceDetails {
        username: Some(user.clone()),
        password: Some(Secret::new("secret")),
        ..shop.details()
    };
    let backup = world.back_up(&declared(&world, limited).await, DEFAULTS).await;
    assert_eq!(backup.rows, Some(200_000));
    shop.run(&format!("DROP USER `{user}`@`%`")).await;
    shop.drop().await;
}

#[tokio::test]
async fn a_restore_goes_to_a_server_of_its_kind() {
    let world = World::sqlite().await;
    let shop = Database::new(SHOP).await;
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let other = DatasourceDetails {
        database_type: landreeve_core::datasource::DatabaseType::MySql,
        ..shop.details()
    };
    let other = declared(&world, other).await;
    let wanted = NewRestore { to: Some(other.id), ..to(&backup, "x".into()) };
    let error = restore_plan(&world.plane, &world.ctx, wanted).await.unwrap_err();
    assert_eq!(error.faults[0].message, "is of type mysql; the backup is of mariadb");
    assert_eq!(backup_get(&world.plane, &world.ctx, backup.uuid).await.unwrap().tables, 1);
    shop.drop().await;
}
