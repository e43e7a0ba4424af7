use super::*;

#[test]
fn documented_expansions() {
    check(
        PG,
        &timerange("last_7_days"),
        "SELECT * FROM users WHERE {created_at=timerange}",
        "SELECT * FROM users WHERE ((created_at) >= '2023-03-16T00:00:00' AND (created_at) <= \
         '2023-03-22T23:59:59.999999')",
    );
    check(
        PG,
        &ranged("period", Control::DateTimeRange, "2023-04-12T00:00:00~2023-04-12T23:59:59"),
        "SELECT * FROM log WHERE {log_timestamp=period}",
        "SELECT * FROM log WHERE log_timestamp >= TIMESTAMP '2023-04-12T00:00:00' AND log_timestamp < \
         TIMESTAMP '2023-04-12T23:59:59' + INTERVAL '1' SECOND",
    );
    check(
        PG,
        &ranged("period", Control::DateRange, "2023-04-12~2023-04-14"),
        "SELECT * FROM log WHERE {[log_date]=period}",
        "SELECT * FROM log WHERE log_date >= DATE '2023-04-12' AND log_date < DATE '2023-04-14' + INTERVAL '1' DAY",
    );
    check(
        PG,
        &ranged("period", Control::TimeRange, "13:00:00~13:59:59"),
        "SELECT * FROM log WHERE {log_time=period}",
        "SELECT * FROM log WHERE log_time >= TIME '13:00:00' AND log_time < TIME '13:59:59' + INTERVAL '1' SECOND",
    );
    check(PG, &env(), "SELECT 1 FROM t WHERE {created_at=timerange}", "SELECT 1 FROM t WHERE (1=1)");
}

#[test]
fn the_builtin_range_in_every_dialect() {
    let env = timerange("1759622400~1762300799");
    let plain = "((t.x) >= '2025-10-05T00:00:00' AND (t.x) <= '2025-11-04T23:59:59.999999')";
    for dialect in [PG, RS, CRATE, MY] {
        check(dialect, &env, "{t.x=timerange}", plain);
    }
    let lite = "(datetime(t.x) >= '2025-10-05 00:00:00' AND datetime(t.x) <= '2025-11-04 23:59:59')";
    check(LITE, &env, "{t.x=timerange}", lite);
    check(PG, &timerange("1759622400~"), "{x=timerange}", "((x) >= '2025-10-05T00:00:00')");
    check(PG, &timerange("~1762300799"), "{x=timerange}", "((x) <= '2025-11-04T23:59:59.999999')");
    check(LITE, &timerange("~1762300799"), "{x=timerange}", "(datetime(x) <= '2025-11-04 23:59:59')");
    for all in ["", "~", " "] {
        check(MY, &timerange(all), "{x=timerange}", "(1=1)");
    }
}

#[test]
fn neighbours_of_ranges() {
    let env = timerange("2024-01-01~2024-01-31");
    check(
        PG,
        &env,
        "{x=timerange.next}",
        "((x) >= '2024-02-01T00:00:00' AND (x) <= '2024-02-29T23:59:59.999999')",
    );
    let previous = "((x) >= '2023-12-01T00:00:00' AND (x) <= '2023-12-31T23:59:59.999999')";
    check(PG, &env, "{x=timerange.previous}", previous);
    check(PG, &env, "{x=timerange_previous}", previous);
    check(PG, &env, "{ [x] = timerange . previous }", "{ [x] = timerange . previous }");
    // There is nothing before or after all time.
    check(PG, &super::env(), "{x=timerange.previous}", "(1=0)");
    check(PG, &super::env(), "{x=timerange_previous} OR {x=timerange.next}", "(1=0) OR (1=0)");
    let dates = ranged("d", Control::DateRange, "last_7_days");
    check(
        PG,
        &dates,
        "WHERE {x=d} AND {x=d.previous}",
        "WHERE x >= DATE '2023-03-16' AND x < DATE '2023-03-22' + INTERVAL '1' DAY AND x >= DATE '2023-03-09' AND \
         x < DATE '2023-03-15' + INTERVAL '1' DAY",
    );
    let times = ranged("d", Control::TimeRange, "this_hour_now");
    check(PG, &times, "{x=d.next}", "x >= TIME '16:00:00' AND x < TIME '16:59:59' + INTERVAL '1' SECOND");
}

#[test]
fn custom_ranges_in_every_dialect() {
    let period = ranged("p", Control::DateTimeRange, "2023-04-12T08:00:00~2023-04-12T23:59:59");
    for dialect in [PG, RS, CRATE, MY] {
        check(
            dialect,
            &period,
            "{x=p}",
            "x >= TIMESTAMP '2023-04-12T08:00:00' AND x < TIMESTAMP '2023-04-12T23:59:59' + INTERVAL '1' SECOND",
        );
    }
    check(
        LITE,
        &period,
        "{x=p}",
        "datetime(x) >= '2023-04-12 08:00:00' AND datetime(x) <= '2023-04-12 23:59:59'",
    );
    let dates = ranged("p", Control::DateRange, "~2023-04-14");
    check(MY, &dates, "{x=p}", "x < DATE '2023-04-14' + INTERVAL '1' DAY");
    check(LITE, &dates, "{x=p}", "date(x) <= '2023-04-14'");
    let times = |range| ranged("p", Control::TimeRange, range);
    check(LITE, &times("13:00~13:59:59"), "{x=p}", "time(x) >= '13:00:00' AND time(x) <= '13:59:59'");
    // One second after the last second of the day is midnight, which would exclude everything.
    check(PG, &times("13:00~23:59:59"), "{x=p}", "x >= TIME '13:00:00'");
    check(PG, &times("13:00~"), "{x=p}", "x >= TIME '13:00:00'");
    check(
        PG,
        &times("22:00~05:59:59"),
        "{x=p}",
        "(x >= TIME '22:00:00' OR x < TIME '05:59:59' + INTERVAL '1' SECOND)",
    );
    check(PG, &times(""), "{x=p}", "(1=1)");
    // Two values instead of text; numbers also work.
    let two = filter(env(), "p", Control::DateTimeRange);
    let two = input(two, "p", vec![number("1681257600"), Scalar::Text("".to_owned())]);
    check(PG, &two, "{x=p}", "x >= TIMESTAMP '2023-04-12T00:00:00'");
    check(PG, &filter(env(), "p", Control::DateRange), "{x=p}", "(1=1)");
}

/// A condition of two parts gets parentheses where its meaning would otherwise change.
#[test]
fn parentheses() {
    let env = ranged("p", Control::DateRange, "2023-04-12~");
    let env = input(env, "c", text(&["a"]));
    let date = "x >= DATE '2023-04-12'";
    for (sql, expected) in [
        ("WHERE {x=p}", format!("WHERE {date}")),
        ("where a = 1 and {x=p} group by 1", format!("where a = 1 and {date} group by 1")),
        ("({x=p})", format!("({date})")),
        ("NOT {x=p}", format!("NOT ({date})")),
        ("WHERE NOT /* no */ {x=p}", format!("WHERE NOT /* no */ ({date})")),
        ("SELECT {x=p}::int", format!("SELECT ({date})::int")),
        ("{x=p} = b", format!("({date}) = b")),
        ("CASE WHEN {x=p} THEN 1 END", format!("CASE WHEN {date} THEN 1 END")),
        ("WHERE {[a + b]=p}", "WHERE (a + b) >= DATE '2023-04-12'".to_owned()),
        ("WHERE {[a -- c\n]=p}", "WHERE (a -- c\n) >= DATE '2023-04-12'".to_owned()),
        ("NOT {x=c} AND 1=1", "NOT (x = 'a') AND 1=1".to_owned()),
    ] {
        check(PG, &env, sql, &expected);
    }
}

#[test]
fn values() {
    let dropdown = |value_type| Control::Dropdown { value_type, multiple: true, options: None };
    let typed =
        |value_type, values: Vec<Scalar>| input(filter(env(), "v", dropdown(value_type)), "v", values);
    check(PG, &env(), "WHERE {country=v}", "WHERE (1=1)");
    check(PG, &input(env(), "v", vec![]), "WHERE {country=v}", "WHERE (1=1)");
    check(PG, &input(env(), "v", text(&["DE"])), "WHERE {country=v}", "WHERE country = 'DE'");
    check(PG, &input(env(), "v", text(&["DE", "O'H"])), "WHERE {c=v}", "WHERE c IN ('DE', 'O''H')");
    check(PG, &input(env(), "v", vec![number("0"), Scalar::Boolean(true)]), "{c=v}", "c IN ('0', 'true')");
    check(MY, &input(env(), "v", text(&["a\\'b"])), "{c=v}", "c = 'a\\\\''b'");
    check(PG, &input(env(), "v", text(&["a\\'b"])), "{c=v}", "c = E'a\\\\''b'");
    check(PG, &typed(ValueType::Number, vec![number("1.50"), number("1e3")]), "{c=v}", "c IN (1.50, 1000)");
    check(PG, &typed(ValueType::Number, text(&["-7"])), "WHERE {[a-b]=v}", "WHERE (a-b) = -7");
    check(
        PG,
        &typed(ValueType::Integer, vec![number("9223372036854775808"), number("2.0")]),
        "{c=v}",
        "c IN (9223372036854775808, 2)",
    );
    check(MY, &typed(ValueType::Boolean, vec![Scalar::Boolean(true)]), "{c=v}", "c = TRUE");
    check(PG, &typed(ValueType::Date, text(&["2023-04-12"])), "{c=v}", "c = DATE '2023-04-12'");
    check(LITE, &typed(ValueType::Date, text(&["2023-04-12"])), "{c=v}", "date(c) = '2023-04-12'");
    check(
        PG,
        &typed(ValueType::DateTime, text(&["2023-04-12T08:00:00"])),
        "{c=v}",
        "c = TIMESTAMP '2023-04-12T08:00:00'",
    );
    check(
        LITE,
        &typed(ValueType::DateTime, text(&["2023-04-12T08:00:00Z"])),
        "{c=v}",
        "datetime(c) = '2023-04-12 08:00:00'",
    );
    check(PG, &typed(ValueType::Time, text(&["08:00:00"])), "{c=v}", "c = TIME '08:00:00'");
    let mut both = zoned("UTC", "Europe/Berlin");
    both = input(filter(both, "v", dropdown(ValueType::DateTime)), "v", text(&["2023-04-12T08:00:00"]));
    check(PG, &both, "{c=v}", "c = TIMESTAMP '2023-04-12T06:00:00'");
}

#[test]
fn options_and_defaults() {
    let options = Some(vec![Scalar::Text("a".to_owned()), Scalar::Text("b".to_owned())]);
    let control = Control::Dropdown { value_type: ValueType::Text, multiple: true, options };
    let mut env = filter(env(), "v", control);
    env.filters.get_mut("v").unwrap().default = text(&["old"]);
    check(PG, &env, "{c=v}", "c = 'old'");
    check(PG, &input(env.clone(), "v", text(&["b"])), "{c=v}", "c = 'b'");
    // Selecting none is a choice, not the default.
    check(PG, &input(env, "v", vec![]), "{c=v}", "(1=1)");
    let numbers = Control::Dropdown {
        value_type: ValueType::Number,
        multiple: false,
        options: Some(vec![number("1.50"), number("2")]),
    };
    check(PG, &input(filter(super::env(), "v", numbers), "v", vec![number("1.5")]), "{c=v}", "c = 1.5");
}

#[test]
fn values_in_the_text() {
    let env = timerange("2024-01-01~2024-01-31");
    check(PG, &env, "{timerange.start}", "TIMESTAMP '2024-01-01T00:00:00'");
    check(PG, &env, "{ timerange.end }", "TIMESTAMP '2024-01-31T23:59:59'");
    check(PG, &env, "{timerange_previous.start}", "TIMESTAMP '2023-12-01T00:00:00'");
    check(LITE, &env, "{timerange.end}", "'2024-01-31 23:59:59'");
    check(PG, &super::env(), "{timerange.end}", "CAST(NULL AS TIMESTAMP)");
    check(MY, &super::env(), "{timerange.end}", "CAST(NULL AS DATETIME)");
    check(LITE, &super::env(), "{timerange.end}", "NULL");
    let dates = ranged("d", Control::DateRange, "2023-04-12~2023-04-14");
    check(PG, &dates, "{d.start} {d.end}", "DATE '2023-04-12' DATE '2023-04-14'");
    let times = ranged("d", Control::TimeRange, "13:00~");
    check(PG, &times, "{d.start} {d.end}", "TIME '13:00:00' TIME '23:59:59'");
    check(PG, &input(super::env(), "v", text(&["a", "b"])), "c IN ({v})", "c IN ('a', 'b')");
    check(PG, &super::env(), "c IN ({v})", "c IN (NULL)");
    let mut env = zoned("UTC", "Europe/Berlin");
    env.inputs.aggregation = Some("week".to_owned());
    check(PG, &env, "SELECT {aggregation}, {tz}", "SELECT 'week', 'Europe/Berlin'");
}

/// A value must not merge with the text next to it.
#[test]
fn values_do_not_merge_with_adjacent_text() {
    let attack = input(env(), "v", text(&["\\' OR 1=1 --"]));
    check(PG, &attack, "E{v}", "E E'\\\\'' OR 1=1 --'");
    check(RS, &attack, "E{v}", "E ('' || CHR(92) || ''' OR 1=1 --')");
    check(PG, &input(env(), "v", text(&["x"])), "'a'{v}{v}b", "'a' 'x' 'x' b");
    let control = Control::Input { value_type: ValueType::Number, multiple: false };
    let negative = input(filter(env(), "n", control), "n", vec![number("-5")]);
    check(PG, &negative, "a-{n} + 1{n}", "a- -5 + 1 -5");
    check(PG, &negative, "f({n},{n})=1", "f(-5,-5)=1");
}

#[test]
fn ranges_are_read_in_the_dashboard_zone_and_written_in_the_data_zone() {
    let env = |range: &str| with_timerange(zoned("UTC", "Europe/Berlin"), range);
    check(
        PG,
        &env("2024-03-31~2024-03-31"),
        "{x=timerange}",
        "((x) >= '2024-03-30T23:00:00' AND (x) <= '2024-03-31T21:59:59.999999')",
    );
    check(
        PG,
        &env("2024-10-27~2024-10-27"),
        "{x=timerange}",
        "((x) >= '2024-10-26T22:00:00' AND (x) <= '2024-10-27T22:59:59.999999')",
    );
    // True instants are not converted.
    check(
        PG,
        &env("1712233090~1712237090"),
        "{x=timerange}",
        "((x) >= '2024-04-04T12:18:10' AND (x) <= '2024-04-04T13:24:50.999999')",
    );
    // Without a dashboard zone, both are the data zone.
    let mut data = env("1712233090~1712237090");
    data.data_zone = zone("Europe/Berlin");
    data.dashboard_zone = None;
    check(
        PG,
        &data,
        "{x=timerange}",
        "((x) >= '2024-04-04T14:18:10' AND (x) <= '2024-04-04T15:24:50.999999')",
    );
    // The previous range is all of October, in which the clocks change.
    check(
        MY,
        &env("2024-11-01~2024-11-30"),
        "{x=timerange.previous}",
        "((x) >= '2024-09-30T22:00:00' AND (x) <= '2024-10-31T22:59:59.999999')",
    );
    // Dates and times of day are not converted: such a column has no zone.
    let dates = filter(zoned("UTC", "Asia/Tokyo"), "d", Control::DateRange);
    check(PG, &input(dates, "d", text(&["2024-03-31~"])), "{x=d}", "x >= DATE '2024-03-31'");
    // Choosing a zone changes what a day is.
    let mut chosen = env("2024-03-31~2024-03-31");
    chosen.inputs.tz = Some("asia/tokyo".to_owned());
    let expanded = expand("{x=timerange}", PG, &chosen).unwrap();
    assert_eq!(
        (expanded.sql.as_str(), expanded.shown_zone.name()),
        ("((x) >= '2024-03-30T15:00:00' AND (x) <= '2024-03-31T14:59:59.999999')", "Asia/Tokyo")
    );
}
