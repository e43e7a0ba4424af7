use super::*;

#[test]
fn documented_expansions() {
    check(
        PG,
        &env(),
        "SELECT {created_at:day}, count(*) FROM t GROUP BY 1",
        "SELECT DATE_TRUNC('day', (created_at)::timestamp)::date, count(*) FROM t GROUP BY 1",
    );
    check(RS, &env(), "SELECT {saletime:aggregation}", "SELECT DATE_TRUNC('day', saletime)");
    check(
        PG,
        &zoned("UTC", "Europe/Berlin"),
        "SELECT 'The current time is ' || {CURRENT_TIMESTAMP:tz}::text",
        "SELECT 'The current time is ' || (CURRENT_TIMESTAMP AT TIME ZONE 'Europe/Berlin')::text",
    );
}

#[test]
fn every_aggregation_without_zones() {
    let names =
        ["second", "minute", "hour", "day", "week", "week_sunday", "month", "quarter", "year", "all_time"];
    let mut lines = Vec::new();
    for dialect in DIALECTS {
        for name in names {
            let sql = format!("{{[a + b]:{name}}}");
            lines.push(format!("{dialect:?} {name}: {}", expand(&sql, dialect, &env()).unwrap().sql));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_aggregation_in_another_zone() {
    let names = [
        "second",
        "minute",
        "hour",
        "day",
        "week",
        "week_sunday",
        "month",
        "quarter",
        "year",
        "all_time",
        "tz",
    ];
    let mut lines = Vec::new();
    for dialect in DIALECTS {
        for name in names {
            let sql = format!("{{t.x:{name}}}");
            let env = zoned("UTC", "Europe/Berlin");
            lines.push(format!("{dialect:?} {name}: {}", expand(&sql, dialect, &env).unwrap().sql));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_shown_zone() {
    let same = zoned("Europe/Berlin", "Europe/Berlin");
    check(PG, &same, "{x:day}", "DATE_TRUNC('day', (x)::timestamp)::date");
    check(PG, &same, "{x:hour}", "DATE_TRUNC('hour', (x)::timestamptz, 'Europe/Berlin')");
    check(PG, &same, "{x:tz}", "((x)::timestamp)");
    check(MY, &same, "{x:hour}", "CAST(DATE_FORMAT(x, '%Y-%m-%d %H:00:00') AS DATETIME)");
    check(MY, &same, "{[a+b]:tz}", "(a+b)");
    check(LITE, &same, "{x:tz}", "landreeve_tz(x, 'Europe/Berlin', 'Europe/Berlin')");
    check(LITE, &same, "{CURRENT_TIMESTAMP:tz}", "landreeve_tz(CURRENT_TIMESTAMP, 'UTC', 'Europe/Berlin')");
    let data = Environment { data_zone: zone("America/New_York"), ..env() };
    check(PG, &data, "{[now()]:tz}", "(now() AT TIME ZONE 'America/New_York')");
    let mut chosen = env();
    chosen.inputs.tz = Some("Asia/Kolkata".to_owned());
    check(MY, &chosen, "{x:day}", "DATE(CONVERT_TZ(x, 'UTC', 'Asia/Kolkata'))");
}

#[test]
fn which_aggregation() {
    let mut env = filter(env(), "by", Control::Aggregation { options: None });
    check(PG, &env, "{x:by}", "DATE_TRUNC('day', (x)::timestamp)::date");
    env.inputs.aggregation = Some("month".to_owned());
    check(PG, &env, "{x:aggregation}", "DATE_TRUNC('month', (x)::timestamp)::date");
    let env = input(env, "by", text(&["year"]));
    check(PG, &env, "{x:by}", "DATE_TRUNC('year', (x)::timestamp)::date");
    let mut env = env;
    env.aggregation_options = Some(vec![Aggregation::AllTime]);
    env.inputs.aggregation = Some("all_time".to_owned());
    check(PG, &env, "{x:aggregation}", "NULL::date");
    check(PG, &env, "{x=aggregation}", "x = 'all_time'");
}

#[test]
fn nested_parameters() {
    let env = with_timerange(env(), "last_1_day");
    check(
        PG,
        &env,
        "{[CASE WHEN {x=timerange} THEN x END]:month}",
        "DATE_TRUNC('month', (CASE WHEN ((x) >= '2023-03-22T00:00:00' AND (x) <= '2023-03-22T23:59:59.999999') \
         THEN x END)::timestamp)::date",
    );
}

/// Without zone tables, MySQL gets each clock change in the range.
#[test]
fn mysql_without_zone_tables() {
    let env = |range: &str| without_tables(with_timerange(zoned("UTC", "Europe/Berlin"), range));
    let year = "2024-01-01~2024-12-31";
    let case = "(CASE WHEN x < TIMESTAMP '2023-03-26T01:00:00' THEN 3600 WHEN x < TIMESTAMP '2023-10-29T01:00:00' \
                THEN 7200 WHEN x < TIMESTAMP '2024-03-31T01:00:00' THEN 3600 WHEN x < TIMESTAMP \
                '2024-10-27T01:00:00' THEN 7200 ELSE 3600 END)";
    let range = "((x) >= '2023-12-31T23:00:00' AND (x) <= '2024-12-31T22:59:59.999999')";
    check(
        MY,
        &env(year),
        "SELECT {x:day} FROM t WHERE {x=timerange}",
        &format!("SELECT DATE((x + INTERVAL {case} SECOND)) FROM t WHERE {range}"),
    );
    check(
        MY,
        &env(year),
        "SELECT {x:tz}, {x:minute} FROM t WHERE {x=timerange}",
        &format!(
            "SELECT (x + INTERVAL {case} SECOND), CAST(DATE_FORMAT(x, '%Y-%m-%d %H:%i:00') AS DATETIME) FROM t \
             WHERE {range}"
        ),
    );
    // The current time alone does not need a range, and is in UTC if the session is.
    let mut berlin = without_tables(zoned("Europe/Berlin", "Asia/Tokyo"));
    check(MY, &berlin, "SELECT {[NOW()]:tz}", "SELECT ((NOW()) + INTERVAL 32400 SECOND)");
    // Nor do zones without changes, or the same zone twice.
    check(MY, &without_tables(zoned("UTC", "Etc/GMT+5")), "{x:day}", "DATE((x + INTERVAL -18000 SECOND))");
    berlin.dashboard_zone = zone("Europe/Berlin");
    check(MY, &berlin, "{x:day}", "DATE(x)");
    // The data zone's local time, across both changes of both zones.
    let mut berlin = without_tables(with_timerange(zoned("Europe/Berlin", "UTC"), "2023-03-01~2023-11-30"));
    berlin.now = at("2023-03-22T15:30:00Z");
    check(
        MY,
        &berlin,
        "{x=timerange} {x:year}",
        "((x) >= '2023-03-01T01:00:00' AND (x) <= '2023-12-01T00:59:59.999999') MAKEDATE(YEAR((x + INTERVAL (CASE \
         WHEN x < TIMESTAMP '2023-03-26T03:00:00' THEN -3600 WHEN x < TIMESTAMP '2023-10-29T03:00:00' THEN -7200 ELSE \
         -3600 END) SECOND)), 1)",
    );
}

#[test]
fn mysql_without_zone_tables_needs_a_range() {
    let env = |range: &str| without_tables(with_timerange(zoned("UTC", "Europe/Berlin"), range));
    for (range, sql) in [
        ("", "SELECT {x:day} FROM t WHERE {x=timerange}"),
        ("2024-01-01~", "SELECT {x:day} FROM t WHERE {x=timerange}"),
        ("2024-01-01~2024-12-31", "SELECT {x:tz} FROM t"),
        ("0100-01-01~2024-12-31", "SELECT {x:hour} FROM t WHERE {x=timerange}"),
        ("2024-01-01~9000-12-31", "SELECT {x:hour} FROM t WHERE {x=timerange}"),
    ] {
        let range_is_long = range.starts_with("0100");
        match expand(sql, MY, &env(range)) {
            Ok(_) => assert!(range_is_long, "{range}"),
            Err(error) => {
                assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("sql", "zone_tables"));
                assert!(error.message.contains("mysql_tzinfo_to_sql"), "{}", error.message);
            }
        }
    }
    // A range on the same expression takes precedence.
    let custom = filter(env("2024-06-01~2024-06-02"), "p", Control::DateTimeRange);
    assert!(expand("SELECT {x:day} FROM t WHERE {x=timerange} AND {y=p}", MY, &custom).is_ok());
    assert!(expand("SELECT {t.x:day} FROM t WHERE {x=timerange} AND {y=p}", MY, &custom).is_err());
}
