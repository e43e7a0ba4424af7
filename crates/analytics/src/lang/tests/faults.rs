use super::*;

#[test]
fn each_problem_is_a_separate_fault() {
    let mut env = with_timerange(zoned("UTC", "Europe/Berlin"), "yesterday");
    env.inputs.aggregation = Some("fortnight".to_owned());
    env.inputs.tz = Some("Europe/Atlantis".to_owned());
    let options = Some(vec![Scalar::Text("DE".to_owned())]);
    let env =
        filter(env, "country", Control::Dropdown { value_type: ValueType::Text, multiple: true, options });
    let env = filter(env, "size", Control::Input { value_type: ValueType::Integer, multiple: false });
    let env = input(env, "country", text(&["DE", "FR"]));
    let env = input(env, "size", vec![number("1.5")]);
    let env = input(env, "unused", text(&["\0"]));
    check_faults(
        PG,
        &env,
        "SELECT {x:sometimes}, {[a]:tz.start} FROM t WHERE {c=country} AND {s=size} AND {s=size} AND {x=timerange.end}",
        &[
            "parameters.tz time_zone",
            "parameters.timerange range",
            "parameters.aggregation enum",
            "sql unknown",
            "sql selector",
            "parameters.filters.country enum",
            "parameters.filters.size type",
        ],
    );
}

#[test]
fn rejects_wrong_values() {
    use ValueType::*;
    for (value_type, values) in [
        (Text, vec![number("1")]),
        (Text, vec![Scalar::Boolean(true)]),
        (Number, text(&["1; DROP TABLE t"])),
        (Number, text(&["NaN"])),
        (Number, text(&["0x1F"])),
        (Number, vec![Scalar::Boolean(true)]),
        (Integer, vec![number("1.5")]),
        (Boolean, vec![number("1")]),
        (Boolean, text(&["TRUE OR 1=1"])),
        (Date, text(&["2023-02-30"])),
        (Date, text(&["2023-02-20' OR '1"])),
        (Date, text(&["2023-02-20T00:00:00"])),
        (DateTime, text(&["12:00:00"])),
        (DateTime, text(&["2023-02-20T00:00:00.5"])),
        (DateTime, text(&["-0001-02-20T00:00:00"])),
        (Time, text(&["25:00:00"])),
        (Time, text(&[""])),
    ] {
        let env = filter(env(), "v", Control::Input { value_type, multiple: true });
        check_faults(PG, &input(env, "v", values), "{x=v}", &["parameters.filters.v type"]);
    }
    check_faults(PG, &input(env(), "v", text(&["a\0b"])), "{x=v}", &["parameters.filters.v nul"]);
    let one = filter(env(), "v", Control::Input { value_type: Text, multiple: false });
    check_faults(PG, &input(one, "v", text(&["a", "b"])), "{x=v}", &["parameters.filters.v too_many"]);
    let twice = input(input(env(), "v", text(&["a"])), "v", text(&["b"]));
    check_faults(PG, &twice, "{x=v}", &["parameters.filters.v duplicate"]);
    check(PG, &twice, "{x=w}", "(1=1)");
    check_faults(PG, &input(env(), "timerange", vec![]), "1", &["parameters.filters.timerange reserved"]);
}

#[test]
fn rejects_wrong_ranges() {
    for (control, range) in [
        (Control::DateRange, "last_3_hours"),
        (Control::TimeRange, "last_3_days"),
        (Control::TimeRange, "2024-01-01~"),
        (Control::DateTimeRange, "13:00~"),
        (Control::DateTimeRange, "9~8"),
        (Control::DateTimeRange, "2024-01-01"),
    ] {
        check_faults(PG, &ranged("r", control, range), "{x=r}", &["parameters.filters.r range"]);
    }
    let range = |values| input(filter(env(), "r", Control::DateRange), "r", values);
    check_faults(PG, &range(vec![number("1")]), "{x=r}", &["parameters.filters.r type"]);
    check_faults(PG, &range(text(&["1", "2", "3"])), "{x=r}", &["parameters.filters.r too_many"]);
    check_faults(PG, &timerange("13:00~14:00"), "1", &["parameters.timerange range"]);
    check_faults(PG, &timerange("last_65000_years"), "1", &["parameters.timerange range"]);
    check_faults(PG, &timerange("last_9000_years"), "{x=timerange}", &["parameters.timerange range"]);
}

#[test]
fn rejects_aggregations_and_zones_that_are_not_allowed() {
    let mut env = env();
    env.inputs.aggregation = Some("all_time".to_owned());
    check_faults(PG, &env, "{x:aggregation}", &["parameters.aggregation not_allowed"]);
    env.inputs.aggregation = Some("year".to_owned());
    env.aggregation_options = Some(vec![Aggregation::Day, Aggregation::AllTime]);
    check_faults(PG, &env, "{x:aggregation}", &["parameters.aggregation not_allowed"]);
    let custom = |options, value: &str| {
        input(filter(super::env(), "by", Control::Aggregation { options }), "by", text(&[value]))
    };
    check_faults(PG, &custom(None, "all_time"), "{x:by}", &["parameters.filters.by not_allowed"]);
    check_faults(PG, &custom(None, "x"), "{x:by}", &["parameters.filters.by enum"]);
    check(PG, &custom(Some(vec![Aggregation::AllTime]), "all_time"), "{x:by}", "NULL::date");
    // An author can write what a viewer is not allowed to choose.
    check(PG, &super::env(), "{x:all_time}", "NULL::date");

    let mut env = zoned("UTC", "Europe/Berlin");
    env.inputs.tz = Some("Asia/Tokyo".to_owned());
    env.zone_choice = ZoneChoice::Fixed;
    check_faults(PG, &env, "1", &["parameters.tz not_allowed"]);
    env.zone_choice = ZoneChoice::OneOf(vec![zone("Europe/London").unwrap()]);
    check_faults(PG, &env, "1", &["parameters.tz not_allowed"]);
    env.zone_choice = ZoneChoice::OneOf(vec![zone("Asia/Tokyo").unwrap()]);
    assert_eq!(expand("1", PG, &env).unwrap().shown_zone.name(), "Asia/Tokyo");
    env.zone_choice = ZoneChoice::Fixed;
    env.inputs.tz = Some("Europe/Berlin".to_owned());
    assert!(expand("1", PG, &env).is_ok());
}

#[test]
fn rejects_wrong_statements() {
    let env = ranged("r", Control::DateRange, "2024-01-01~");
    for sql in [
        "{x=r.start}",
        "{x=r.foo}",
        "{r.next}",
        "{r.foo}",
        "{r}",
        "{timerange}",
        "{x=v.next}",
        "{v.start}",
        "{t.col}",
        "{x=timerange_previous.previous}",
        "{x:day.next}",
    ] {
        check_faults(PG, &env, sql, &["sql selector"]);
    }
    for sql in ["{x:fortnight}", "{x:r}", "{x:timerange}"] {
        check_faults(PG, &env, sql, &["sql unknown"]);
    }
    let error = expand("SELECT {x:fortnight}", PG, &env).unwrap_err();
    assert!(
        error.message.starts_with("sql contains {x:fortnight}: unknown transformation fortnight"),
        "{error}"
    );
    for name in ["timerange", "tz", "day", "all_time"] {
        assert!(is_reserved(name));
    }
    assert!(!is_reserved("country"));
}
