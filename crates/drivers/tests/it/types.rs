//! Every type, exactly.

use serde_json::json;

use crate::support::{mariadb, mariadb_admin, mariadb_without_zones, postgres, postgres_admin, sqlite};

#[tokio::test]
async fn postgres_numbers() {
    let live = postgres();
    let row = live
        .row(
            "select 9007199254740993::int8, '-32768'::int2, 2147483647::int4, 'NaN'::float8, '-Infinity'::float4,
                    0.1::float8, '12345678901234567890.00000000001'::numeric, 'NaN'::numeric, '-Infinity'::numeric,
                    1.50::numeric(10,2), -0.0001::numeric, 10000::numeric, 4294967295::oid, true, null::int4",
        )
        .await;
    let expected = json!([
        9_007_199_254_740_993_i64,
        -32768,
        2_147_483_647,
        "NaN",
        "-Infinity",
        0.1,
        "12345678901234567890.00000000001",
        "NaN",
        "-Infinity",
        "1.50",
        "-0.0001",
        "10000",
        4_294_967_295_i64,
        true,
        null
    ]);
    assert_eq!(json!(row), expected);
}

#[tokio::test]
async fn postgres_times() {
    let live = postgres();
    let row = live
        .row(
            "select timestamptz '2024-03-31 00:59:59.5+00', timestamptz(0) '2024-03-31 01:00:00+00',
                    timestamp(3) '2024-01-02 03:04:05.678', timestamp 'infinity', timestamptz '-infinity',
                    date 'infinity', date '-infinity', date '12024-07-10', date '0044-03-15 BC',
                    timestamp(0) '294276-12-31 23:59:59', time '24:00:00', time(0) '01:02:03',
                    interval '1 year 2 mons 3 days 04:05:06.5', interval '-1 day', timetz '01:02:03+02'",
        )
        .await;
    let expected = json!([
        "2024-03-31T01:59:59.500000+01:00",
        "2024-03-31T03:00:00+02:00",
        "2024-01-02T03:04:05.678",
        "infinity",
        "-infinity",
        "infinity",
        "-infinity",
        "12024-07-10",
        "0044-03-15 BC",
        "294276-12-31T23:59:59",
        "24:00:00.000000",
        "01:02:03",
        "P1Y2M3DT4H5M6.5S",
        "P-1D",
        "01:02:03+02"
    ]);
    assert_eq!(json!(row), expected);
    let error = live.error("select timestamp '294276-12-31 23:59:59' as far").await;
    assert!(error.message.contains("\"far\"") && error.message.contains("CAST"), "{error}");
    assert_eq!(live.one("select current_setting('TimeZone')").await, "Europe/Berlin");
}

/// Compares the server's own text with ours, for unusual values.
#[tokio::test]
async fn postgres_agrees_with_its_own_text() {
    let live = postgres();
    for (value, text) in [
        ("((random() - 0.5) * 10::numeric ^ (i % 60 - 25))::numeric", "v::text"),
        ("round((random() - 0.5)::numeric * 10::numeric ^ (i % 30), i % 20)", "v::text"),
        ("date '4713-01-01 BC' + (random() * 2147400000)::int", "v::text"),
        ("date '0400-01-01 BC' + i * 29", "v::text"),
        (
            "(timestamp '4713-01-01 BC' + i * interval '2011 days 7 hours 13 seconds')::timestamp(0)",
            "replace(v::text, ' ', 'T')",
        ),
        (
            "(timestamptz '1895-01-01' + i * interval '9 days 11 hours')::timestamptz(0)",
            "to_char(v, 'YYYY-MM-DD\"T\"HH24:MI:SSTZH:TZM')",
        ),
        ("make_interval(secs => (random() - 0.5) * 1e9)", "v::text"),
    ] {
        let is_interval = value.contains("make_interval");
        let set = if is_interval { "set_config('intervalstyle', 'iso_8601', true)" } else { "1" };
        let sql = format!(
            "with one as materialized (select {set}), x as materialized (select {value} as v from generate_series(0, 3999) i)
             select v, case when (select count(*) from one) = 1 then {text} end from x"
        );
        let json = live.json(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = json["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 4000);
        for row in rows {
            let theirs = row[1].as_str().expect("text");
            let ours = row[0].as_str().expect("text");
            assert_eq!(ours, theirs.replace("TBC", " BC"), "{value}");
        }
    }
}

#[tokio::test]
async fn postgres_other_types() {
    let live = postgres();
    postgres_admin("drop type if exists lr_mood cascade; create type lr_mood as enum ('sad', 'happy')").await;
    let sql = "select 'é'::text, 'ab'::char(4), 'x'::varchar(3), '\\x00ff'::bytea, '{\"a\":[1, 2.50]}'::json,
                    '{\"a\":1}'::jsonb, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, array[1,null,3], array['a b','c'],
                    'happy'::lr_mood, '[1,5)'::int4range, '10.0.0.1/8'::inet, 12.5::money, point(1,2), row(1,'x'),
                    b'1010', null::int4[], array['sad'::lr_mood] -- the end";
    let json = live.json(sql).await.expect("runs");
    let expected = json!([
        "é", "ab  ", "x", "AP8=", {"a": [1, 2.50]}, {"a": 1}, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{1,NULL,3}",
        "{\"a b\",c}", "happy", "[1,5)", "10.0.0.1/8", "$12.50", "(1,2)", "(1,x)", "1010", null, "{sad}"
    ]);
    assert_eq!(json["rows"][0], expected);
    let column = |index: usize, key: &str| json["columns"][index][key].clone();
    assert_eq!(column(1, "native_type"), "character(4)");
    assert_eq!(column(2, "native_type"), "character varying(3)");
    assert_eq!((column(7, "type"), column(7, "native_type")), (json!("other"), json!("integer[]")));
    assert_eq!((column(9, "type"), column(9, "native_type")), (json!("text"), json!("lr_mood")));
    // The enum made the client look up types; the next session must still work.
    assert_eq!(live.json(sql).await.expect("runs again")["rows"][0], expected);
    assert_eq!(live.one("select count(*) from (values (1), (2)) x").await, "2");
}

#[tokio::test]
async fn postgres_names_and_shapes() {
    let live = postgres();
    let json = live.json("select 1 as a, 2 as a, array[3] as a").await.expect("runs");
    assert_eq!(json["rows"], json!([[1, 2, "{3}"]]));
    assert_eq!(json["columns"][2]["name"], "a");
    let json = live.json("select from generate_series(1, 3)").await.expect("runs");
    assert_eq!(json["rows"], json!([[], [], []]));
    let json = live
        .json("select 1::numeric(10,2) as n, now()::timestamptz(3) as t where false")
        .await
        .expect("runs");
    assert_eq!(json["rows"], json!([]));
    assert_eq!(json["columns"][0]["native_type"], "numeric(10,2)");
    assert_eq!(json["columns"][1]["native_type"], "timestamp(3) with time zone");
    let error = live.error("select é, nope from nowhere").await;
    assert_eq!((error.code.as_deref(), error.position), (Some("42P01"), Some(21)));
    let error = live.error("select array[1], 1/0").await;
    assert_eq!(error.code.as_deref(), Some("22012"));
    assert_eq!(live.one("show standard_conforming_strings").await, "on");
    assert!(live.json("explain analyze select 1").await.is_ok());
}

const MARIADB_TYPES: &str = "
    create or replace table test.lr_types (
      a tinyint(1), b tinyint unsigned, c bigint, d bigint unsigned, e decimal(20,5), f decimal(65,10), g float,
      h double, i bit(1), j bit(12), k date, l datetime, m datetime(3), n datetime(6), o timestamp null,
      p timestamp(6) null, q time(3), r year, s varchar(20) character set utf8mb4, t varbinary(5), u text, v blob,
      w enum('x','y'), x set('p','q'), y char(3), z mediumint)";

#[tokio::test]
async fn mariadb_types() {
    use mysql_async::prelude::Queryable;
    let live = mariadb();
    let mut admin = mariadb_admin("LANDREEVE_TEST_MARIADB").await;
    admin.query_drop(MARIADB_TYPES).await.expect("creates");
    admin.query_drop("set sql_mode = '', time_zone = '+00:00'").await.expect("sets");
    admin
        .query_drop(
            "insert into test.lr_types values (1, 255, -9007199254740993, 18446744073709551615, -12345.6, \
             '1234567890123456789012345678901234567890123456789012345.0123456789', 1.5, 0.1, b'1', b'101010101010', \
             '2024-02-29', '2024-01-02 03:04:05', '2024-01-02 03:04:05.678', '9999-12-31 23:59:59.999999', \
             '2024-03-31 01:00:00', '2024-03-31 00:59:59.5', '-838:59:59', 2024, 'é', x'00ff', 'long', 'b', 'y', \
             'p,q', 'ab', -8388608), (null, null, null, null, null, null, null, null, null, null, '0000-00-00', \
             '0000-00-00', null, null, '0000-00-00', null, '12:00', null, '', null, null, null, null, null, null, null)",
        )
        .await
        .expect("inserts");
    let json = live.json("select * from test.lr_types order by a desc").await.expect("runs");
    let expected = json!([
        1,
        255,
        -9_007_199_254_740_993_i64,
        "18446744073709551615",
        "-12345.60000",
        "1234567890123456789012345678901234567890123456789012345.0123456789",
        1.5,
        0.1,
        true,
        "Cqo=",
        "2024-02-29",
        "2024-01-02T03:04:05",
        "2024-01-02T03:04:05.678",
        "9999-12-31T23:59:59.999999",
        "2024-03-31T03:00:00+02:00",
        "2024-03-31T01:59:59.500000+01:00",
        "-838:59:59",
        2024,
        "é",
        "AP8=",
        "long",
        "Yg==",
        "y",
        "p,q",
        "ab",
        -8_388_608
    ]);
    assert_eq!(json["rows"][0], expected);
    let nulls = &json["rows"][1];
    assert_eq!(
        (&nulls[10], &nulls[11], &nulls[14]),
        (&json!("0000-00-00"), &json!("0000-00-00"), &json!("0000-00-00"))
    );
    assert_eq!((&nulls[0], &nulls[16], &nulls[18]), (&json!(null), &json!("12:00:00"), &json!("")));
    assert_eq!(json["columns"][3]["type"], "unsigned_big");
    assert_eq!(json["columns"][4]["native_type"], "decimal(20,5)");

    admin.query_drop("update test.lr_types set k = '2024-00-10' where a = 1").await.expect("updates");
    let error = live.error("select k from test.lr_types where a = 1").await;
    assert!(error.message.contains("`k`") && error.message.contains("AS CHAR"), "{error}");
    assert_eq!(live.one("select cast(k as char) from test.lr_types where a = 1").await, "2024-00-10");
    assert_eq!(live.one("select @@session.time_zone").await, "Europe/Berlin");
    let error = live.error("select nope").await;
    assert_eq!(error.code.as_deref(), Some("1054"));
    admin.disconnect().await.expect("leaves");
}

#[tokio::test]
async fn mariadb_without_zone_tables_uses_utc() {
    use landreeve_core::source::{CancellationToken, SessionZone};
    let live = mariadb_without_zones();
    let info = live.driver().test(&live.spec, CancellationToken::new()).await.expect("answers");
    assert_eq!(info.zone, SessionZone::UtcForLackOfZoneTables);
    assert!(info.version.contains("MariaDB"), "{}", info.version);
    let row = live.row("select @@session.time_zone, from_unixtime(0), @@sql_mode like '%ANSI_QUOTES%'").await;
    assert_eq!(json!(row), json!(["+00:00", "1970-01-01T00:00:00", 0]));
    let with = mariadb();
    let info = with.driver().test(&with.spec, CancellationToken::new()).await.expect("answers");
    assert_eq!(info.zone, SessionZone::AsAsked);
}

#[tokio::test]
async fn sqlite_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.db");
    let file = rusqlite::Connection::open(&path).expect("opens");
    file.execute_batch(
        "create table t (i integer, b boolean, r real, n decimal(10,2), s varchar(10), x blob, d date, at datetime,
                         j json, free);
         insert into t values (9007199254740993, 1, 0.5, 10, 'é', x'00ff', '2024-02-29', '2024-01-02 03:04:05.5',
                         '{\"a\":1}', 7), (null, 0, null, 1.25, '', null, null, '2024-01-02T03:04', null, 8.5);
         create table odd (i integer, d date); insert into odd values ('many', '31.12.2024');",
    )
    .expect("creates");
    let live = sqlite(&path);
    let json = live.json("select t.*, i + 1, count(*) over () from t order by rowid").await.expect("runs");
    let first = json!([
        9_007_199_254_740_993_i64, true, 0.5, 10.0, "é", "AP8=", "2024-02-29", "2024-01-02T03:04:05.500000",
        {"a": 1}, 7.0, 9_007_199_254_740_994_i64, 2
    ]);
    assert_eq!(json["rows"][0], first);
    assert_eq!(json["rows"][1][7], "2024-01-02T03:04:00.000000");
    assert_eq!((&json["rows"][1][4], &json["rows"][1][9]), (&json!(""), &json!(8.5)));
    assert_eq!(json["columns"][3]["native_type"], "decimal(10,2)");
    for column in ["i", "d"] {
        let error = live.error(&format!("select {column} from odd")).await;
        assert!(error.message.contains(&format!("CAST(\"{column}\" AS TEXT)")), "{error}");
    }
    assert_eq!(live.one("select cast(i as text) from odd").await, "many");
    assert_eq!(
        live.one("select landreeve_tz('2024-07-01 00:00', 'UTC', 'Europe/Berlin')").await,
        "2024-07-01 02:00:00"
    );
    let error = live.error("select é, nope from t").await;
    assert_eq!(error.position, Some(8), "{error}");
}
