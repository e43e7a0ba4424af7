//! Values and definitions at the edges of what MariaDB has.

use super::{Database, copied, log};
use crate::support::World;

/// Values at the edges of every type.
const VALUES: &str = r#"
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES' ;;
SET time_zone = '+00:00' ;;
CREATE TABLE zoo (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    t1 tinyint, tu tinyint unsigned, i2 smallint, iu smallint unsigned, i3 mediumint, mu mediumint unsigned, i4 int, u4 int unsigned,
    i8 bigint, u8 bigint unsigned, z int(5) unsigned zerofill, f float, fm float(7, 3), d double, du double unsigned,
    n decimal(65, 30), n0 decimal(65, 0), n5 decimal(5, 2), b1 bit, b7 bit(7), b64 bit(64), y year,
    da date, dt datetime, dt3 datetime(3), dt6 datetime(6), ts timestamp NULL, ts1 timestamp(1) NULL, ts6 timestamp(6) NULL,
    ti time, ti6 time(6),
    c char(10), vc varchar(50), tx text, mt mediumtext, lt longtext, bi binary(5), vb varbinary(50), bl blob, lb longblob,
    l1 varchar(50) CHARACTER SET latin1, u16 varchar(50) CHARACTER SET utf16, u32 char(5) CHARACTER SET utf32,
    cbin varchar(20) COLLATE utf8mb4_bin, sj varchar(20) CHARACTER SET sjis, jp varchar(20) CHARACTER SET cp932,
    cy varchar(20) CHARACTER SET cp1251, asc_ varchar(20) CHARACTER SET ascii,
    e enum('a', 'it''s', 'ü,"', '') , e2 enum('x', 'y'), s set('a', 'b', 'c''d', 'ö?'),
    j json, g geometry, pt point, u uuid, i4a inet4, i6a inet6,
    inv int INVISIBLE, gv int AS (t1 * 2) VIRTUAL, gs int AS (t1 * 3) STORED, `a:b ``?` int, packed text COMPRESSED
) AUTO_INCREMENT = 1000 ;;
INSERT INTO zoo (id) VALUES (0) ;;
INSERT INTO zoo (id, t1, tu, i2, iu, i3, mu, i4, u4, i8, u8, z, f, fm, d, du, n, n0, n5, b1, b7, b64, y,
    da, dt, dt3, dt6, ts, ts1, ts6, ti, ti6, c, vc, tx, mt, lt, bi, vb, bl, lb, l1, u16, u32, cbin, sj, jp, cy, asc_, e, e2, s, j, g, pt, u,
    i4a, i6a, inv, `a:b ``?`, packed) VALUES
(1, -128, 0, -32768, 0, -8388608, 0, -2147483648, 0, -9223372036854775808, 0, 0, -3.40282347e38, -9999.999, -1.7976931348623157e308, 0,
 -99999999999999999999999999999999999.999999999999999999999999999999, -99999999999999999999999999999999999999999999999999999999999999999,
 -999.99, b'0', b'0', 0, 0, '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00',
 '-838:59:59', '-838:59:59.999999', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', 'a', 'x', '', '{}',
 ST_GeomFromText('POINT(0 0)'), Point(1, 2), '00000000-0000-0000-0000-000000000000', '0.0.0.0', '::', 1, 2, ''),
(18446744073709551615, 127, 255, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 9223372036854775807, 18446744073709551615, 99999,
 3.40282347e38, 9999.999, 1.7976931348623157e308, 1e308,
 99999999999999999999999999999999999.999999999999999999999999999999, 99999999999999999999999999999999999999999999999999999999999999999,
 999.99, b'1', b'1111111', 18446744073709551615, 2155, '9999-12-31', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999',
 '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07', '2038-01-19 03:14:07.9', '2038-01-19 03:14:07.999999', '838:59:59', '838:59:59.999999',
 'padded    ', 'trailing   ', 'tab\t nl\n cr\r bs\\ nul\0 \'q\' "d" `b` é😀', REPEAT('ü', 1000), REPEAT('x', 70000), x'00ff5c', x'00ff5c0a0d09',
 x'00ff275c', REPEAT(x'00', 70000), 'é€ÿ', 'é😀', '😀', 'É', CONVERT(x'81AD82A0' USING sjis), CONVERT(x'8790FA4A' USING cp932),
 CONVERT(x'98E0' USING cp1251), CONVERT(x'80FF' USING ascii), 'ü,"', 'y', 'a,c''d,ö?', '[1, 2.50, "\\u00e9", 1e400]',
 ST_GeomFromText('MULTIPOLYGON(((0 0,0 3,3 3,3 0,0 0),(1 1,1 2,2 2,2 1,1 1)))', 4326), ST_GeomFromText('POINT(-1e300 1e-300)', 4326),
 'ffffffff-ffff-ffff-ffff-ffffffffffff', '255.255.255.255', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', -1, -2, REPEAT('pack', 1000)),
(5, NULL, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1e-45, -0.001, 5e-324, 5e-324, 0.000000000000000000000000000001, 0, 0.01, NULL, b'1010', 5, 1901,
 '2000-00-15', '2000-10-00 10:00', '2023-02-31 10:00:00.5', '0000-00-00 10:00:00.000001', '1970-01-01 00:00:01', NULL, '1970-01-01 00:00:00.000001',
 '00:00:00', '-00:00:00.000001', 'x', NULL, NULL, NULL, NULL, x'20', x'', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL, 'b',
 'null', NULL, NULL, '12345678-9abc-1ef0-9234-56789abcdef0', '127.0.0.1', '::1', NULL, NULL, NULL),
(6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 1, 0.1, NULL, NULL, NULL, 2024,
 '2024-02-29', '2024-10-27 02:30:00', '2024-10-27 02:30:00.123', '0001-01-01', '2024-10-27 00:30:00', '2024-10-27 01:30:00.5', '2024-10-27 01:30:00.123456',
 '24:00:00', '12:00:00.5', 'ü', 'ä\\\'', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', NULL, 'x', NULL, '"x"', NULL, NULL, NULL,
 '1.2.3.4', '::ffff:1.2.3.4', NULL, NULL, 'x') ;;
INSERT INTO zoo (id, f, d, e, e2) VALUES (7, -0.0, -0.0, 'a', 'none'), (8, 16777216, 0.30000000000000004, 'a', 'x'), (9, 1e-38, 2.2250738585072014e-308, 'a', 'none') ;;
CREATE TABLE empty_members (id int PRIMARY KEY, e enum('', 'a'), f enum('', 'b'), s set('', 'x')) ;;
INSERT INTO empty_members VALUES (1, '', '', ''), (2, 'none', 'b', 'x'), (3, NULL, NULL, NULL), (4, 'a', '', ',x') ;;
CREATE TABLE zero (id int AUTO_INCREMENT PRIMARY KEY, created timestamp NOT NULL DEFAULT '0000-00-00 00:00:00', d date NOT NULL) ;;
INSERT INTO zero VALUES (0, 0, 0), (-5, '2020-01-01', '2020-01-01') ;;
CREATE TABLE only_generated (g int AS (1)) ;;
INSERT INTO only_generated () VALUES (), () ;;
CREATE TABLE no_rows (a int) ;;
CREATE TABLE versions (id int PRIMARY KEY, v text) WITH SYSTEM VERSIONING ;;
INSERT INTO versions VALUES (1, 'a'), (2, 'b') ;;
UPDATE versions SET v = 'changed' WHERE id = 1 ;;
DELETE FROM versions WHERE id = 2 ;;
CREATE TABLE own_versions (id int PRIMARY KEY, v text, rs timestamp(6) GENERATED ALWAYS AS ROW START,
    re timestamp(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (rs, re)) WITH SYSTEM VERSIONING ;;
INSERT INTO own_versions (id, v) VALUES (1, 'a') ;;
UPDATE own_versions SET v = 'b' ;;
CREATE TABLE counted (id int AUTO_INCREMENT PRIMARY KEY, v int) ;;
INSERT INTO counted VALUES (1, 1), (500, 2) ;;
DELETE FROM counted WHERE id = 500 ;;
CREATE TABLE unchecked (a int, b date, PRIMARY KEY (b, a)) ;;
INSERT INTO unchecked VALUES (-1, '2000-00-00'), (-2, '2024-01-01'), (-1, '0000-00-00') ;;
SET check_constraint_checks = 0, foreign_key_checks = 0 ;;
ALTER TABLE unchecked ADD CHECK (a > 0), ADD KEY (a), ADD FOREIGN KEY (a) REFERENCES counted (id) ;;
"#;

#[tokio::test]
async fn every_value_comes_back() {
    let world = World::sqlite().await;
    let zoo = Database::new(VALUES).await;
    let (backup, new) = copied(&world, &zoo).await;
    assert_eq!((backup.tables, backup.rows), (9, Some(25)));
    let (rows, wanted) = (new.rows().await, zoo.rows().await);
    assert_eq!(rows.len(), 25);
    for (row, wanted) in rows.iter().zip(&wanted) {
        assert_eq!(row, wanted);
    }
    assert_eq!(new.definitions().await, zoo.definitions().await);
    assert_eq!(log(&world, backup.uuid).await.len(), 1, "no warnings");
    assert_eq!(std::fs::read_dir(world.path("scratch")).unwrap().count(), 0);
    new.drop().await;
    zoo.drop().await;
}

/// Every kind of definition. Views, routines and triggers are there to be disturbed by the order and by the name of the database.
const DEFINITIONS: &str = r#"
CREATE SEQUENCE `an "odd" seq``uence` START WITH 5 INCREMENT BY 3 CACHE 10 ;;
CREATE SEQUENCE cycled START WITH 1 MAXVALUE 3 NOCACHE CYCLE ;;
SELECT NEXTVAL(cycled), NEXTVAL(cycled), NEXTVAL(cycled), NEXTVAL(cycled) ;;
SELECT NEXTVAL(`an "odd" seq``uence`) ;;
CREATE TABLE `Größe & ``Maß``` (
    `select` int DEFAULT (NEXTVAL(`an "odd" seq``uence`)) PRIMARY KEY,
    `an "odd" col;umn` varchar(30) DEFAULT 'it''s \\ "x" `y`' COMMENT 'nextval(`x`.`y`) it''s\na comment',
    CHECK (`an "odd" col;umn` <> 'x''y\\z')
) COMMENT = 'a table; AUTO_INCREMENT=5' ;;
INSERT INTO `Größe & ``Maß``` VALUES (DEFAULT, DEFAULT), (DEFAULT, 'ü') ;;
CREATE TABLE `größe & ``maß``` (a int) ;;
SET foreign_key_checks = 0 ;;
CREATE TABLE hen (id int PRIMARY KEY, egg int, FOREIGN KEY (egg) REFERENCES egg (id) ON DELETE SET NULL) ;;
CREATE TABLE egg (id int PRIMARY KEY, hen int, FOREIGN KEY to_hen (hen) REFERENCES hen (id) ON DELETE CASCADE) ;;
INSERT INTO hen VALUES (1, 1) ;;
INSERT INTO egg VALUES (1, 1) ;;
SET foreign_key_checks = 1 ;;
CREATE TABLE searched (id int AUTO_INCREMENT, b varchar(99) NOT NULL, g point NOT NULL, u int UNIQUE, v varchar(600),
    PRIMARY KEY (b(5), id), KEY (id), FULLTEXT KEY words (b), SPATIAL KEY (g), KEY part (v(10) DESC), KEY hidden (u) IGNORED)
    ROW_FORMAT=COMPRESSED ;;
INSERT INTO searched (b, g) SELECT CONCAT('text ', seq % 7), POINT(seq, 1) FROM seq_1_to_50 ;;
CREATE TABLE parted (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2
    (PARTITION p1 VALUES LESS THAN (2000), PARTITION p2 VALUES LESS THAN MAXVALUE) ;;
INSERT INTO parted SELECT seq, DATE_ADD('1995-01-01', INTERVAL seq MONTH) FROM seq_1_to_200 ;;
CREATE TABLE latin (a varchar(10), b varchar(10) COLLATE latin1_german2_ci, c int CHECK (c > 0)) CHARACTER SET latin1 ;;
CREATE TABLE versions (id int PRIMARY KEY, w int WITHOUT SYSTEM VERSIONING) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME
    (PARTITION h HISTORY, PARTITION c CURRENT) ;;
INSERT INTO versions VALUES (1, 1) ;;
DELETE FROM versions ;;
CREATE TABLE moved (a int, p_from date, p_to date, PERIOD FOR application (p_from, p_to), UNIQUE (a, application WITHOUT OVERLAPS)) ;;
INSERT INTO moved VALUES (1, '2020-01-01', '2021-01-01'), (1, '2021-01-01', '2022-01-01') ;;
SET explicit_defaults_for_timestamp = 0 ;;
CREATE TABLE stamps (a timestamp, b timestamp, c timestamp NULL) ;;
SET explicit_defaults_for_timestamp = 1 ;;
CREATE TABLE new_stamps (a timestamp, b timestamp NOT NULL, c timestamp NULL DEFAULT '2020-01-01') ;;
CREATE VIEW z_first AS SELECT id, b FROM searched ;;
CREATE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW m_second AS SELECT id FROM z_first WHERE id > 3 WITH CASCADED CHECK OPTION ;;
CREATE FUNCTION twice (i int) RETURNS int DETERMINISTIC RETURN i * 2 ;;
CREATE FUNCTION of_view () RETURNS int READS SQL DATA RETURN (SELECT MAX(id) FROM m_second) ;;
CREATE VIEW a_third AS SELECT twice(id) AS d, of_view() AS m, NEXTVAL(`an "odd" seq``uence`) AS n, 'ü😀' AS t, _latin1 0xE4 AS l FROM m_second ;;
CREATE PROCEDURE modest (IN a int, OUT b varchar(10)) COMMENT 'it''s' MODIFIES SQL DATA
BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION SET b = 'x;y'; /* a comment */ INSERT INTO latin (c) VALUES (a); -- another
SET b = "z"; END ;;
CREATE TRIGGER `never` BEFORE INSERT ON `latin` FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a trigger; fired' ;;
CREATE TRIGGER `second` AFTER UPDATE ON `latin` FOR EACH ROW SET @x = 2 ;;
CREATE TRIGGER `first` AFTER UPDATE ON `latin` FOR EACH ROW PRECEDES `second` SET @x = 1 ;;
CREATE EVENT `daily` ON SCHEDULE EVERY 1 DAY STARTS '2030-03-31 02:30:00' ON COMPLETION PRESERVE DISABLE COMMENT 'e' DO DELETE FROM latin ;;
SET time_zone = 'Europe/Berlin' ;;
CREATE EVENT `late` ON SCHEDULE AT '2037-10-25 02:30:00' DO BEGIN SELECT 1; SELECT 2; END ;;
SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT' ;;
CREATE PROCEDURE ansi () SELECT "a"."v" || '\' FROM "searched" AS "a" ;;
CREATE TRIGGER `ansi` BEFORE UPDATE ON `latin` FOR EACH ROW SET NEW."a" = '\' ;;
SET sql_mode = 'ORACLE' ;;
CREATE PACKAGE pack AS FUNCTION one RETURN int; END ;;
CREATE PACKAGE BODY pack AS FUNCTION one RETURN int AS BEGIN RETURN 1; END; END ;;
CREATE PROCEDURE oracle (a varchar2) AS BEGIN SELECT pack.one() || a; END ;;
SET sql_mode = '' ;;
SET NAMES latin1 ;;
CREATE PROCEDURE in_latin () SELECT 'ü' ;;
SET NAMES utf8mb4 COLLATE utf8mb4_bin ;;
CREATE PROCEDURE in_binary (a varchar(5)) SELECT a = 'ü' ;;
"#;

#[tokio::test]
async fn every_definition_comes_back() {
    let world = World::sqlite().await;
    let shop = Database::new(DEFINITIONS).await;
    // Its name in front of everything that could have it.
    let name = &shop.name;
    shop.run(&format!(
        "INSERT INTO `{name}`.latin SELECT 'a', 'b', 1 FROM DUAL WHERE FALSE ;;
         CREATE VIEW `{name}`.qualified AS SELECT `{name}`.twice(`{name}`.hen.id) AS t, NEXTVAL(`{name}`.cycled) AS n FROM `{name}`.hen ;;
         CREATE FUNCTION `{name}`.qualified_too () RETURNS int RETURN 1 ;;
         ALTER DATABASE `{name}` COLLATE utf8mb4_unicode_ci ;;
         CREATE PROCEDURE collated (a varchar(5)) SELECT a ;;
         ALTER DATABASE `{name}` COLLATE utf8mb4_german2_ci COMMENT 'it''s a \\\\ shop'"
    ))
    .await;
    let (backup, new) = copied(&world, &shop).await;
    assert_eq!((backup.tables, backup.rows), (11, Some(257)));
    assert_eq!(log(&world, backup.uuid).await.len(), 1, "no warnings");
    let definitions = new.definitions().await;
    // It needs no name of a database in front of it.
    let wanted = shop.definitions().await.replace("`DATABASE`.`twice`", "`twice`");
    for (line, wanted) in definitions.lines().zip(wanted.lines()) {
        assert_eq!(line, wanted);
    }
    assert_eq!(definitions.len(), wanted.len());
    for part in [
        "PACKAGE BODY",
        "`in_latin`",
        "utf8mb4_unicode_ci",
        "SETVAL(`cycled`, 2",
        "nextval(`DATABASE`.`an \"odd\"",
    ] {
        assert!(definitions.contains(part), "{part} is not in\n{definitions}");
    }
    assert_eq!(new.rows().await, shop.rows().await);
    let used =
        "SELECT CONCAT(CAST(GROUP_CONCAT(d ORDER BY d LIMIT 2) AS CHAR), MAX(t), HEX(MAX(l))) FROM a_third";
    assert_eq!(new.texts(used).await, shop.texts(used).await);
    // The next values of a sequence that repeats, from where it was.
    assert_eq!(new.texts("SELECT NEXTVAL(cycled)").await, ["2"]);
    assert_eq!(new.texts("SELECT n FROM qualified").await, ["3"]);
    let settings = "SELECT CONCAT(@@collation_database, ' ', SCHEMA_COMMENT) FROM information_schema.SCHEMATA \
                    WHERE SCHEMA_NAME = DATABASE()";
    assert_eq!(new.texts(settings).await, ["utf8mb4_german2_ci it's a \\ shop"]);
    new.drop().await;
    shop.drop().await;
}

/// A trigger is stored as it was written.
#[tokio::test]
async fn a_trigger_that_names_its_database_comes_back() {
    let world = World::sqlite().await;
    let shop = Database::new("CREATE TABLE t (a int) ;; INSERT INTO t VALUES (1)").await;
    let name = &shop.name;
    shop.run(&format!(
        "CREATE OR REPLACE TRIGGER `{name}`.`for each row` before /* FOR EACH ROW */ update on `{name}`.t for each row set new.a = 7 ;;
         /*!50003 CREATE TRIGGER in_comment AFTER INSERT ON t FOR EACH ROW SET @x = 'for each row' */ ;;
         CREATE TRIGGER follows AFTER INSERT ON t FOR EACH ROW FOLLOWS in_comment SET @y = 1"
    ))
    .await;
    let (_, new) = copied(&world, &shop).await;
    let listed = "SELECT CONCAT_WS('|', TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_ORDER, \
                  ACTION_STATEMENT, SQL_MODE, DEFINER) FROM information_schema.TRIGGERS \
                  WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY TRIGGER_NAME";
    assert_eq!(new.texts(listed).await, shop.texts(listed).await);
    new.run("UPDATE t SET a = 2").await;
    assert_eq!(new.texts("SELECT a FROM t").await, ["7"]);
    new.drop().await;
    shop.drop().await;
}
