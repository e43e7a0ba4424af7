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
"#;

#[tokio::test]
async fn every_value_comes_back() {
    let world = World::sqlite().await;
    let zoo = Database::new(VALUES).await;
    let (backup, new) = copied(&world, &zoo).await;
    assert_eq!((backup.tables, backup.rows), (7, Some(18)));
    let (rows, wanted) = (new.rows().await, zoo.rows().await);
    assert_eq!(rows.len(), 18);
    for (row, wanted) in rows.iter().zip(&wanted) {
        assert_eq!(row, wanted);
    }
    assert_eq!(new.definitions().await, zoo.definitions().await);
    assert_eq!(log(&world, backup.uuid).await.len(), 1, "no warnings");
    assert_eq!(std::fs::read_dir(world.path("scratch")).unwrap().count(), 0);
    new.drop().await;
    zoo.drop().await;
}
