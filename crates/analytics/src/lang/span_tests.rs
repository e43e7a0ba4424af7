use super::*;

fn zone(name: &str) -> Zone {
    Zone::find(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// `start .. last second`, in the zone's local time.
fn show(span: &Span, zone: &Zone) -> String {
    let text = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| zone.wall(at).to_string());
    format!("{} .. {}", text(span.start), text(span.last_second()))
}

#[track_caller]
fn check(range: &str, grain: Grain, now: &str, zone_name: &str, expected: [&str; 3]) {
    let zone = zone(zone_name);
    let present = Present { now: at(now), zone: &zone, week_start: WeekStart::Monday };
    let span = Span::resolve(&range.parse().unwrap(), grain, present).unwrap();
    let neighbour = |direction| {
        span.neighbour(direction, present)
            .unwrap()
            .map_or_else(|| "none".to_owned(), |span| show(&span, &zone))
    };
    assert_eq!(
        [neighbour(Direction::Previous), show(&span, &zone), neighbour(Direction::Next)],
        expected.map(str::to_owned),
        "{range}"
    );
}

#[test]
fn relative_ranges() {
    let now = "2024-04-17T13:24:10.5Z";
    let utc = |range, expected| check(range, Grain::Second, now, "UTC", expected);
    utc(
        "last_7_days",
        [
            "2024-04-04T00:00:00 .. 2024-04-10T23:59:59",
            "2024-04-11T00:00:00 .. 2024-04-17T23:59:59",
            "2024-04-18T00:00:00 .. 2024-04-24T23:59:59",
        ],
    );
    utc(
        "last_24_hours_now",
        [
            "2024-04-15T13:24:10 .. 2024-04-16T13:24:09",
            "2024-04-16T13:24:10 .. 2024-04-17T13:24:09",
            "2024-04-17T13:24:10 .. 2024-04-18T13:24:09",
        ],
    );
    utc(
        "last_3_hours",
        [
            "2024-04-17T08:00:00 .. 2024-04-17T10:59:59",
            "2024-04-17T11:00:00 .. 2024-04-17T13:59:59",
            "2024-04-17T14:00:00 .. 2024-04-17T16:59:59",
        ],
    );
    utc(
        "last_1_month_now",
        [
            "2024-02-17T13:24:10 .. 2024-03-17T13:24:09",
            "2024-03-17T13:24:10 .. 2024-04-17T13:24:09",
            "2024-04-17T13:24:10 .. 2024-05-17T13:24:09",
        ],
    );
    utc(
        "this_month",
        [
            "2024-03-01T00:00:00 .. 2024-03-31T23:59:59",
            "2024-04-01T00:00:00 .. 2024-04-30T23:59:59",
            "2024-05-01T00:00:00 .. 2024-05-31T23:59:59",
        ],
    );
    utc(
        "this_month_now",
        [
            "2024-03-01T00:00:00 .. 2024-03-17T13:24:09",
            "2024-04-01T00:00:00 .. 2024-04-17T13:24:09",
            "2024-05-01T00:00:00 .. 2024-05-17T13:24:09",
        ],
    );
    utc(
        "this_hour_now",
        [
            "2024-04-17T12:00:00 .. 2024-04-17T12:24:09",
            "2024-04-17T13:00:00 .. 2024-04-17T13:24:09",
            "2024-04-17T14:00:00 .. 2024-04-17T14:24:09",
        ],
    );
    utc(
        "previous_week",
        [
            "2024-04-01T00:00:00 .. 2024-04-07T23:59:59",
            "2024-04-08T00:00:00 .. 2024-04-14T23:59:59",
            "2024-04-15T00:00:00 .. 2024-04-21T23:59:59",
        ],
    );
    utc(
        "last_2_quarters",
        [
            "2023-07-01T00:00:00 .. 2023-12-31T23:59:59",
            "2024-01-01T00:00:00 .. 2024-06-30T23:59:59",
            "2024-07-01T00:00:00 .. 2024-12-31T23:59:59",
        ],
    );
    utc(
        "previous_year",
        [
            "2022-01-01T00:00:00 .. 2022-12-31T23:59:59",
            "2023-01-01T00:00:00 .. 2023-12-31T23:59:59",
            "2024-01-01T00:00:00 .. 2024-12-31T23:59:59",
        ],
    );
    utc(
        "this_minute",
        [
            "2024-04-17T13:23:00 .. 2024-04-17T13:23:59",
            "2024-04-17T13:24:00 .. 2024-04-17T13:24:59",
            "2024-04-17T13:25:00 .. 2024-04-17T13:25:59",
        ],
    );
}

#[test]
fn absolute_ranges_and_their_neighbours() {
    let utc = |range, expected| check(range, Grain::Second, "2024-04-17T00:00:00Z", "UTC", expected);
    // The documented example of full months: after January 2024 comes February, whatever its length.
    utc(
        "2024-01-01~2024-01-31",
        [
            "2023-12-01T00:00:00 .. 2023-12-31T23:59:59",
            "2024-01-01T00:00:00 .. 2024-01-31T23:59:59",
            "2024-02-01T00:00:00 .. 2024-02-29T23:59:59",
        ],
    );
    utc(
        "1759622400~1762300799",
        [
            "2025-09-04T00:00:00 .. 2025-10-04T23:59:59",
            "2025-10-05T00:00:00 .. 2025-11-04T23:59:59",
            "2025-11-05T00:00:00 .. 2025-12-05T23:59:59",
        ],
    );
    utc(
        "1712233090~1712237090",
        [
            "2024-04-04T11:11:29 .. 2024-04-04T12:18:09",
            "2024-04-04T12:18:10 .. 2024-04-04T13:24:50",
            "2024-04-04T13:24:51 .. 2024-04-04T14:31:31",
        ],
    );
    utc("1712233090~", ["- .. 2024-04-04T12:18:09", "2024-04-04T12:18:10 .. -", "none"]);
    utc("~1712233090", ["none", "- .. 2024-04-04T12:18:10", "2024-04-04T12:18:11 .. -"]);
    utc("", ["none", "- .. -", "none"]);
}

#[test]
fn ranges_of_dates() {
    let utc = |range, expected| check(range, Grain::Day, "2024-03-15T10:00:00Z", "UTC", expected);
    utc(
        "2023-04-12~2023-04-14",
        [
            "2023-04-09T00:00:00 .. 2023-04-11T23:59:59",
            "2023-04-12T00:00:00 .. 2023-04-14T23:59:59",
            "2023-04-15T00:00:00 .. 2023-04-17T23:59:59",
        ],
    );
    // Seconds are rounded to the days that contain them.
    utc(
        "1712233090~1712237090",
        [
            "2024-04-03T00:00:00 .. 2024-04-03T23:59:59",
            "2024-04-04T00:00:00 .. 2024-04-04T23:59:59",
            "2024-04-05T00:00:00 .. 2024-04-05T23:59:59",
        ],
    );
    utc(
        "last_7_days_now",
        [
            "2024-03-02T00:00:00 .. 2024-03-08T23:59:59",
            "2024-03-09T00:00:00 .. 2024-03-15T23:59:59",
            "2024-03-16T00:00:00 .. 2024-03-22T23:59:59",
        ],
    );
    utc(
        "this_month_now",
        [
            "2024-02-01T00:00:00 .. 2024-02-15T23:59:59",
            "2024-03-01T00:00:00 .. 2024-03-15T23:59:59",
            "2024-04-01T00:00:00 .. 2024-04-15T23:59:59",
        ],
    );
}

/// Daylight saving time in Berlin: 2024-03-31 has 23 hours, 2024-10-27 has 25.
#[test]
fn days_follow_the_clock_changes_of_the_zone() {
    let berlin = zone("Europe/Berlin");
    for (now, begin, end) in [
        ("2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"),
        ("2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z"),
    ] {
        let present = Present { now: at(now), zone: &berlin, week_start: WeekStart::Monday };
        let span = Span::resolve(&"this_day".parse().unwrap(), Grain::Second, present).unwrap();
        assert_eq!((span.start, span.end), (Some(at(begin)), Some(at(end))));
    }
    check(
        "2024-03-25~2024-03-31",
        Grain::Second,
        "2024-03-31T12:00:00Z",
        "Europe/Berlin",
        [
            "2024-03-18T00:00:00 .. 2024-03-24T23:59:59",
            "2024-03-25T00:00:00 .. 2024-03-31T23:59:59",
            "2024-04-01T00:00:00 .. 2024-04-07T23:59:59",
        ],
    );
    check(
        "this_month",
        Grain::Second,
        "2024-10-27T00:30:00Z",
        "Europe/Berlin",
        [
            "2024-09-01T00:00:00 .. 2024-09-30T23:59:59",
            "2024-10-01T00:00:00 .. 2024-10-31T23:59:59",
            "2024-11-01T00:00:00 .. 2024-11-30T23:59:59",
        ],
    );
    // Seven days that end now are 168 hours, even across the change.
    check(
        "last_7_days_now",
        Grain::Second,
        "2024-10-28T12:00:00Z",
        "Europe/Berlin",
        [
            "2024-10-14T14:00:00 .. 2024-10-21T13:59:59",
            "2024-10-21T14:00:00 .. 2024-10-28T12:59:59",
            "2024-10-28T13:00:00 .. 2024-11-04T12:59:59",
        ],
    );
    // The second of the two hours at two o'clock.
    check(
        "this_hour",
        Grain::Second,
        "2024-10-27T01:30:00Z",
        "Europe/Berlin",
        [
            "2024-10-27T02:00:00 .. 2024-10-27T02:59:59",
            "2024-10-27T02:00:00 .. 2024-10-27T02:59:59",
            "2024-10-27T03:00:00 .. 2024-10-27T03:59:59",
        ],
    );
    // An end in the repeated hour includes both.
    let present = Present { now: at("2024-10-27T12:00:00Z"), zone: &berlin, week_start: WeekStart::Monday };
    let range = "2024-10-27T02:00:00~2024-10-27T02:59:59".parse().unwrap();
    let span = Span::resolve(&range, Grain::Second, present).unwrap();
    assert_eq!((span.start, span.end), (Some(at("2024-10-27T00:00:00Z")), Some(at("2024-10-27T02:00:00Z"))));
}

/// In Beirut and Santiago daylight saving time starts at midnight, so that a day starts at one.
#[test]
fn days_without_a_midnight() {
    check(
        "2024-09-01~2024-09-07",
        Grain::Second,
        "2024-09-09T12:00:00Z",
        "America/Santiago",
        [
            "2024-08-25T00:00:00 .. 2024-08-31T23:59:59",
            "2024-09-01T00:00:00 .. 2024-09-07T23:59:59",
            "2024-09-08T01:00:00 .. 2024-09-14T23:59:59",
        ],
    );
}

#[test]
fn weeks_start_on_the_configured_day() {
    let utc = Zone::utc();
    let present = Present { now: at("2024-04-17T13:24:10Z"), zone: &utc, week_start: WeekStart::Sunday };
    let span = Span::resolve(&"previous_week".parse().unwrap(), Grain::Second, present).unwrap();
    assert_eq!(show(&span, &utc), "2024-04-07T00:00:00 .. 2024-04-13T23:59:59");
}

#[test]
fn times_of_day() {
    let utc = Zone::utc();
    let present = Present { now: at("2024-04-17T13:24:10Z"), zone: &utc, week_start: WeekStart::Monday };
    let show = |part: DayPart| match part {
        DayPart::All => "all".to_owned(),
        DayPart::Between { start, end } => format!("{start}~{end}"),
    };
    for (range, expected) in [
        ("13:00:00~13:59:59", ["12:00:00~12:59:59", "13:00:00~13:59:59", "14:00:00~14:59:59"]),
        ("22:00~05:59:59", ["14:00:00~21:59:59", "22:00:00~05:59:59", "06:00:00~13:59:59"]),
        ("13:00~", ["02:00:00~12:59:59", "13:00:00~23:59:59", "00:00:00~10:59:59"]),
        ("1712233090~1712237090", ["11:11:29~12:18:09", "12:18:10~13:24:50", "13:24:51~14:31:31"]),
        ("", ["all", "all", "all"]),
        ("08:00:00~07:59:59", ["all", "all", "all"]),
        ("last_3_hours", ["08:00:00~10:59:59", "11:00:00~13:59:59", "14:00:00~16:59:59"]),
        ("last_24_hours", ["all", "all", "all"]),
        ("this_hour", ["12:00:00~12:59:59", "13:00:00~13:59:59", "14:00:00~14:59:59"]),
        // Ending now: the next one starts at the next full hour or minute.
        ("this_hour_now", ["12:00:00~12:24:09", "13:00:00~13:24:09", "14:00:00~14:59:59"]),
        ("last_10_minutes_now", ["13:04:10~13:14:09", "13:14:10~13:24:09", "13:25:00~13:34:59"]),
    ] {
        let range: Range = range.parse().unwrap();
        let parts = [
            DayPart::neighbour(&range, Direction::Previous, present).unwrap(),
            DayPart::resolve(&range, present).unwrap(),
            DayPart::neighbour(&range, Direction::Next, present).unwrap(),
        ];
        assert_eq!(parts.map(show), expected.map(str::to_owned), "{range}");
    }
    for range in ["last_2_days", "2024-01-01~", "this_month"] {
        assert!(DayPart::resolve(&range.parse().unwrap(), present).is_err(), "{range}");
    }
}

#[test]
fn rejects_ranges_of_the_wrong_kind() {
    let utc = Zone::utc();
    let present = Present { now: at("2024-04-17T13:24:10Z"), zone: &utc, week_start: WeekStart::Monday };
    for (range, grain) in [
        ("last_3_hours", Grain::Day),
        ("13:00~14:00", Grain::Second),
        ("13:00~14:00", Grain::Day),
        ("last_65535_years", Grain::Second),
        ("last_2025_years", Grain::Day),
        ("~9999-12-31", Grain::Day),
        ("2024-01-02~1704067200", Grain::Second),
    ] {
        assert!(Span::resolve(&range.parse().unwrap(), grain, present).is_err(), "{range}");
    }
}
