//! Whole databases: of one moment, under other names, on other servers, with who defined what.

use landreeve_core::{RunState, Secret};
use landreeve_estate::ops::DatasourceDetails;
use landreeve_estate::ops::datasources::datasource_delete;
use landreeve_protection::repositories::{NewRepository, repository_key};
use landreeve_protection::restoring::{NewRestore, restore_start};
use mysql_async::prelude::Queryable;
use mysql_async::{Params, Value};

use super::{DEFAULTS, Database, copied, declared, restored, unused};
use crate::support::{World, to};

/// Every transaction moves an amount from one table to another: the sum is the same at any moment.
#[tokio::test]
async fn a_backup_is_of_one_moment() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE a (id int PRIMARY KEY, amount int) ;; CREATE TABLE b (id int PRIMARY KEY, amount int) ;; \
         INSERT INTO a SELECT seq, 100 FROM seq_1_to_20000 ;; INSERT INTO b SELECT seq, 100 FROM seq_1_to_20000",
    )
    .await;
    let source = declared(&world, shop.details()).await;
    let mut conn = shop.connect().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let writer = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut writes = 0_i64;
            while !stop.is_cancelled() {
                writes += 1;
                let (from, to) = (1 + writes * 37 % 20_000, 1 + writes * 53 % 20_000);
                for sql in [
                    "BEGIN".to_owned(),
                    format!("UPDATE b SET amount = amount - 1 WHERE id = {from}"),
                    format!("UPDATE a SET amount = amount + 1 WHERE id = {to}"),
                    "COMMIT".to_owned(),
                ] {
                    conn.query_drop(sql).await.unwrap();
                }
            }
            conn.disconnect().await.unwrap();
            writes
        }
    });
    let backup = world.back_up(&source, DEFAULTS).await;
    stop.cancel();
    let writes = writer.await.unwrap();
    assert!(writes > 10, "{writes}");
    let new = Database::named(&unused());
    restored(&world, &backup, to(&backup, new.name.clone())).await;
    let sum = "SELECT (SELECT SUM(amount) FROM a) + (SELECT SUM(amount) FROM b)";
    assert_eq!(new.texts(sum).await, ["4000000"]);
    new.drop().await;
    shop.drop().await;
}

#[tokio::test]
async fn who_defined_what_comes_back_if_that_is_wanted() {
    let world = World::sqlite().await;
    let user = unused();
    let shop = Database::new(&format!(
        "CREATE OR REPLACE USER `{user}`@`local%` ;; CREATE TABLE t (a int) ;;
         CREATE DEFINER = `{user}`@`local%` SQL SECURITY INVOKER VIEW v AS SELECT a FROM t ;;
         CREATE DEFINER = `{user}`@`local%` PROCEDURE p () SELECT 1 ;;
         CREATE DEFINER = `{user}`@`local%` TRIGGER `tr` BEFORE INSERT ON `t` FOR EACH ROW SET @x = ' DEFINER=`a`@`b` ' ;;
         CREATE DEFINER = `{user}`@`local%` EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1"
    ))
    .await;
    let (backup, plain) = copied(&world, &shop).await;
    let owned = Database::named(&unused());
    restored(&world, &backup, NewRestore { owners: true, ..to(&backup, owned.name.clone()) }).await;
    assert_eq!(owned.definitions().await, shop.definitions().await);
    let definers = "SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE() \
                    UNION SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() \
                    UNION SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() \
                    UNION SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()";
    assert_eq!(owned.texts(definers).await, [format!("{user}@local%")]);
    assert_eq!(plain.texts(definers).await, plain.texts("SELECT CURRENT_USER()").await);
    let body = "SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()";
    assert_eq!(plain.texts(body).await, ["SET @x = ' DEFINER=`a`@`b` '"]);
    shop.run(&format!("DROP USER `{user}`@`local%`")).await;
    plain.drop().await;
    owned.drop().await;
    shop.drop().await;
}

#[tokio::test]
async fn a_database_may_have_any_name() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE SEQUENCE s ;; CREATE TABLE `tab``le Ü.x` (`col ``umn` int DEFAULT NEXTVAL(s), `Ä` int, PRIMARY KEY (`col ``umn`)) ;; \
         INSERT INTO `tab``le Ü.x` VALUES (DEFAULT, 5) ;; CREATE VIEW `v ``w` AS SELECT `Ä` FROM `tab``le Ü.x`",
    )
    .await;
    let odd = unused();
    let mut from = shop;
    for name in [format!("{odd} Ü`x.y"), format!("{odd}'\"; \\"), format!("{odd}?:a%")] {
        let source = declared(&world, from.details()).await;
        let made = world.back_up(&source, DEFAULTS).await;
        let new = Database::named(&name);
        restored(&world, &made, to(&made, name.clone())).await;
        assert_eq!(new.texts("SELECT * FROM `v ``w`").await, ["5"]);
        assert_eq!(new.texts("SELECT NEXTVAL(s) > 1").await, ["1"]);
        assert_eq!(new.rows().await.iter().filter(|row| row.starts_with("tab")).count(), 1);
        std::mem::replace(&mut from, new).drop().await;
    }
    from.drop().await;
}

/// The datasource and the estate are gone: only the repository is left, and another server with other defaults.
#[tokio::test]
async fn a_repository_alone_restores_a_database_on_another_server() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE t (a int PRIMARY KEY, b text, at timestamp NULL) ;; SET time_zone = '+00:00' ;; \
         INSERT INTO t VALUES (1, 'it''s \\\\ \"x\"', '2024-10-27 00:30:00'), (2, '', '2024-10-27 01:30:00') ;; \
         CREATE VIEW v AS SELECT CONCAT(b, '\\\\') AS x FROM t ;; CREATE PROCEDURE p () SELECT \"a\\\\\" ;; \
         CREATE TRIGGER `tr` BEFORE INSERT ON `t` FOR EACH ROW SET NEW.b = \"x\"",
    )
    .await;
    let source = declared(&world, shop.details()).await;
    let made = world.back_up(&source, DEFAULTS).await;
    let (definitions, rows) = (shop.definitions().await, shop.rows().await);
    datasource_delete(&world.kit.estate, &world.ctx, source.id).await.unwrap();
    let key = repository_key(&world.plane, &world.ctx, "default").await.unwrap();
    shop.drop().await;
    let other = World::sqlite().await;
    let url = world.path("default").to_str().unwrap().to_owned();
    other.attach(NewRepository { url, ..other.wanted("moved", "x") }, &key).await.unwrap();
    // New sessions of that server read quotes and backslashes in another way, and know no zones.
    let admin = Database::on("LANDREEVE_TEST_MARIADB_NO_ZONES", "");
    let modes = admin.texts("SELECT @@GLOBAL.sql_mode").await.remove(0);
    admin
        .run(&format!("SET GLOBAL sql_mode = '{modes},ANSI_QUOTES,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE'"))
        .await;
    let new = Database::on("LANDREEVE_TEST_MARIADB_NO_ZONES", &unused());
    let server = DatasourceDetails { database: Some("mysql".into()), ..new.details() };
    let server = declared(&other, server).await;
    let wanted = NewRestore { to: Some(server.id), compare: true, ..to(&made, new.name.clone()) };
    let run = restore_start(&other.plane, &other.ctx, wanted).await.unwrap();
    let ended = other.ended(run).await;
    // And from there.
    let source = declared(&other, new.details()).await;
    let again =
        landreeve_protection::backing_up::backup_start(&other.plane, &other.ctx, source.id, DEFAULTS).await;
    let backed_up = other.ended(again.unwrap()).await;
    admin.run(&format!("SET GLOBAL sql_mode = '{modes}'")).await;
    assert_eq!(ended, (RunState::Succeeded, String::new()));
    assert_eq!(backed_up, (RunState::Succeeded, String::new()));
    assert_eq!(new.rows().await, rows);
    assert_eq!(new.definitions().await, definitions);
    new.drop().await;
}

#[tokio::test]
async fn a_database_that_was_dropped_comes_back_in_its_place() {
    let world = World::sqlite().await;
    let shop = Database::new("CREATE TABLE t (a int) ;; INSERT INTO t VALUES (7)").await;
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let definitions = shop.definitions().await;
    shop.run(&format!("DROP DATABASE {}", shop.name)).await;
    restored(&world, &backup, to(&backup, shop.name.clone())).await;
    assert_eq!(shop.texts("SELECT a FROM t").await, ["7"]);
    assert_eq!(shop.definitions().await, definitions);
    shop.drop().await;
}

/// What is unchanged is not stored again.
#[tokio::test]
async fn the_second_backup_adds_little() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, a varchar(40), b double) ;; \
         INSERT INTO t SELECT seq, MD5(RAND()), RAND() FROM seq_1_to_100000",
    )
    .await;
    let source = declared(&world, shop.details()).await;
    let first = world.back_up(&source, DEFAULTS).await.bytes_added.unwrap();
    let second = world.back_up(&source, DEFAULTS).await.bytes_added.unwrap();
    assert!(second * 100 < first, "{first}, then {second}");
    shop.drop().await;
}

/// Deterministic, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn text(&mut self) -> String {
        const LETTERS: [char; 16] =
            ['a', 'Z', '0', ' ', '\'', '"', '`', '\\', '\0', '\n', '\t', '%', 'ü', '中', '😀', '\u{1}'];
        (0..self.below(20)).map(|_| LETTERS[self.below(16) as usize]).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(40)).map(|_| self.next() as u8).collect()
    }

    fn value(&mut self, column: usize) -> Value {
        if self.below(8) == 0 {
            return Value::NULL;
        }
        match column {
            0 => Value::Int((self.next() >> self.below(64)) as i64),
            1 => Value::UInt(self.next() >> self.below(64)),
            2 => Value::Float(
                Some(f32::from_bits(self.next() as u32)).filter(|f| f.is_finite()).unwrap_or(0.5),
            ),
            3 => Value::Double(Some(f64::from_bits(self.next())).filter(|f| f.is_finite()).unwrap_or(0.5)),
            4 => Value::from(format!("-{}.{:030}", self.next(), self.next())),
            5 | 6 => Value::from(self.text()),
            7 => Value::Bytes(self.bytes()),
            8 => {
                let (month, day) = (self.below(13) as u8, self.below(32) as u8);
                Value::Date(self.below(10_000) as u16, month, day, 0, 0, 0, 0)
            }
            9 => Value::Date(
                1 + self.below(9_999) as u16,
                1 + self.below(12) as u8,
                1 + self.below(28) as u8,
                self.below(24) as u8,
                self.below(60) as u8,
                self.below(60) as u8,
                self.below(1_000_000) as u32,
            ),
            10 => Value::Time(
                self.below(2) == 0,
                self.below(34) as u32,
                self.below(24) as u8,
                self.below(60) as u8,
                self.below(60) as u8,
                self.below(1_000_000) as u32,
            ),
            11 => Value::Int(self.below(8) as i64),
            _ => Value::Int(1 + self.below(2_147_483_646) as i64),
        }
    }
}

#[tokio::test]
async fn generated_rows_come_back() {
    let world = World::sqlite().await;
    let shop = Database::new(
        "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, c0 bigint, c1 bigint unsigned, c2 float, c3 double, c4 decimal(65, 30), \
         c5 varchar(20), c6 text, c7 varbinary(40), c8 date, c9 datetime(6), c10 time(6), c11 set('a', 'b', 'c''d'), \
         c12 int)",
    )
    .await;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut conn = shop.connect().await;
    conn.query_drop("SET sql_mode = 'ALLOW_INVALID_DATES'").await.unwrap();
    let columns: Vec<String> = (0..13).map(|column| format!("c{column}")).collect();
    let marks = vec!["?"; 13].join(", ");
    let insert = format!("INSERT INTO t ({}) VALUES ({marks})", columns.join(", "));
    for _ in 0..500 {
        let values: Vec<Value> = (0..13).map(|column| dice.value(column)).collect();
        conn.exec_drop(&insert, Params::Positional(values)).await.unwrap();
    }
    conn.disconnect().await.unwrap();
    let (backup, new) = copied(&world, &shop).await;
    assert_eq!(backup.rows, Some(500));
    let (rows, wanted) = (new.rows().await, shop.rows().await);
    for (row, wanted) in rows.iter().zip(&wanted) {
        assert_eq!(row, wanted);
    }
    assert_eq!(rows.len(), 500);
    let distinct =
        "SELECT COUNT(DISTINCT c7) > 300 AND COUNT(DISTINCT c5) > 300 AND SUM(c8 LIKE '%-00%') > 50 FROM t";
    assert_eq!(shop.texts(distinct).await, ["1"]);
    new.drop().await;
    shop.drop().await;
}

/// A password that is a secret is not in what a failed restore says.
#[tokio::test]
async fn a_failed_restore_keeps_the_secret() {
    let world = World::sqlite().await;
    let shop = Database::new("CREATE TABLE t (a int)").await;
    let source = declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let wrong = DatasourceDetails { password: Some(Secret::new("not-to-be-seen")), ..shop.details() };
    let server = declared(&world, wrong).await;
    let wanted = NewRestore { to: Some(server.id), ..to(&backup, unused()) };
    let run = restore_start(&world.plane, &world.ctx, wanted).await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("rejected the password") && !message.contains("not-to-be-seen"), "{message}");
    shop.drop().await;
}
