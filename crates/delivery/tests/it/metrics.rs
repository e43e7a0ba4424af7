//! A month of made-up history with metrics computed by hand.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_delivery::changes::{PullFacts, PullRef, pull_services_set};
use landreeve_delivery::deployments::DeploymentFacts;
use landreeve_delivery::metrics::{Day, Dora, DoraQuery, dora};
use landreeve_delivery::people::{PersonFacts, person_upsert};
use landreeve_delivery::teams::{WantedTeam, hierarchy_process};

use crate::support::{DAY, World, commit, deployed, own, service, sha, time};

conformance![
    the_month_has_the_expected_metrics,
    filters_narrow_the_metrics,
    an_interval_includes_its_start_and_not_its_end,
    no_facts_give_no_values,
    unknown_names_are_errors,
    days_start_at_midnight_in_the_zone,
    the_daily_view_agrees,
];

const SHOP: &str = "acme/shop";
const TILL: &str = "acme/till";

/// A moment of January 2026.
fn january(text: &str) -> Timestamp {
    time(&format!("2026-01-{text}Z"))
}

fn team(reference: &str, parent: Option<&str>, members: &[&str]) -> WantedTeam {
    WantedTeam {
        reference: reference.to_owned(),
        name: format!("Team {reference}"),
        lead: None,
        parent: parent.map(str::to_owned),
        parent_name: parent.map(|parent| format!("Team {parent}")),
        members: members.iter().map(|name| format!("{name}@example.com")).collect(),
    }
}

async fn teams(world: &World) {
    world.kit.start_delivery(&world.plane).await;
    for name in ["ann", "bob"] {
        let email = format!("{name}@example.com");
        person_upsert(&world.plane, &world.ctx, &email, PersonFacts::default().into()).await.unwrap();
    }
    let wanted = vec![
        team("product", None, &[]),
        team("web", Some("product"), &["ann"]),
        team("till", None, &["bob"]),
    ];
    let run = hierarchy_process(&world.plane, &world.ctx, wanted.into()).await.unwrap();
    assert_eq!(world.kit.ended(&run).await.state, landreeve_core::RunState::Succeeded);
}

fn pull(author: &str, number: u32, merged: &str) -> PullFacts {
    PullFacts {
        author_email: Some(format!("{author}@example.com")),
        merged_at: Some(time(merged)),
        merge_commit_sha: Some(sha(number)),
        ..PullFacts::default()
    }
}

async fn changes(world: &World) {
    let first =
        PullFacts { first_commit_at: Some(january("01T10:00:00")), ..pull("ann", 1, "2026-01-02T08:00:00Z") };
    world.pull(SHOP, 1, january("01T12:00:00"), first).await.unwrap();
    // None of its commits are known.
    world.pull(SHOP, 2, january("03T10:00:00"), pull("ann", 2, "2026-01-04T10:00:00Z")).await.unwrap();
    // Its first commit was pushed.
    world
        .push(SHOP, Some("feature"), &[(31, january("04T22:00:00")), (32, january("04T23:00:00"))])
        .await
        .unwrap();
    let third =
        PullFacts { commit_shas: Some(vec![sha(31), sha(32)]), ..pull("bob", 3, "2026-01-05T09:00:00Z") };
    world.pull(SHOP, 3, january("05T00:00:00"), third).await.unwrap();
    let direct = landreeve_delivery::changes::CommitFacts {
        author_email: own("ann@example.com"),
        ..commit(10, january("09T09:30:00"))
    };
    landreeve_delivery::changes::commits_push(
        &world.plane,
        &world.ctx,
        SHOP.to_owned(),
        None,
        vec![direct].into(),
    )
    .await
    .unwrap();
    let bot = PullFacts {
        author_email: None,
        author_username: own("renovate"),
        bot_authored: Some(true),
        ..pull("", 50, "2025-12-31T23:00:00Z")
    };
    world.pull(TILL, 1, time("2025-12-31T22:00:00Z"), bot).await.unwrap();
    // Never merged.
    let open = PullFacts { merged_at: None, ..pull("ann", 51, "2026-01-01T00:00:00Z") };
    world.pull(SHOP, 4, january("02T00:00:00"), open).await.unwrap();
    for number in [1, 3] {
        let pull = PullRef::Number { repository: SHOP.to_owned(), number };
        pull_services_set(&world.plane, &world.ctx, pull, vec![service("web")].into(), false).await.unwrap();
    }
}

async fn deployments(world: &World) {
    let at = |name: &str, at: &str, repository: Option<&str>| DeploymentFacts {
        repository: repository.map(str::to_owned),
        ..deployed(name, time(at))
    };
    let by = |number: u32, facts: DeploymentFacts| DeploymentFacts { commit_sha: Some(sha(number)), ..facts };
    for (reference, facts) in [
        ("W1", by(1, at("web", "2026-01-02T10:00:00Z", Some(SHOP)))),
        ("W2", by(3, at("web", "2026-01-05T10:00:00Z", Some(SHOP)))),
        ("W3", at("web", "2026-01-09T10:00:00Z", Some(SHOP))),
        ("A1", by(3, at("api", "2026-01-06T12:00:00Z", Some(SHOP)))),
        ("T1", at("till", "2026-01-01T00:00:00Z", Some(TILL))),
        ("T2", at("till", "2026-02-01T00:00:00Z", Some(TILL))),
        ("N1", at("till", "2026-01-25T10:00:00Z", None)),
    ] {
        world.deploy(reference, facts).await.unwrap();
    }
    let failed = DeploymentFacts { success: Some(false), ..at("web", "2026-01-12T10:00:00Z", Some(SHOP)) };
    world.deploy("F1", failed).await.unwrap();
    let staging =
        DeploymentFacts { environment: own("staging"), ..at("web", "2026-01-03T10:00:00Z", Some(SHOP)) };
    world.deploy("S1", staging).await.unwrap();
}

async fn incidents(world: &World) {
    for (reference, services, started, resolved) in [
        ("I1", &["web"][..], january("02T11:00:00"), Some(january("02T12:00:00"))),
        ("I2", &["web", "api"], january("07T10:00:00"), Some(january("07T14:00:00"))),
        ("I3", &[], january("08T00:00:00"), Some(january("08T01:00:00"))),
        ("I4", &["web"], january("10T10:00:00"), None),
        ("I5", &["till"], time("2025-12-31T23:59:59.999999Z"), Some(january("01T01:00:00"))),
        ("I6", &["till"], time("2026-02-01T00:00:00Z"), None),
        ("I7", &["web"], january("09T09:59:00"), Some(january("09T10:29:00"))),
    ] {
        world.incident(reference, services, started, resolved).await;
    }
}

async fn history(world: &World) {
    world.kit.clock.advance(20 * DAY);
    teams(world).await;
    changes(world).await;
    deployments(world).await;
    incidents(world).await;
}

fn month() -> DoraQuery {
    DoraQuery {
        from: time("2026-01-01T00:00:00Z"),
        to: time("2026-02-01T00:00:00Z"),
        zone: TimeZone::UTC,
        service: None,
        repository: None,
        team: None,
    }
}

async fn ask(world: &World, query: DoraQuery) -> Dora {
    dora(&world.plane, &world.ctx, &query).await.unwrap()
}

const NAMES: [&str; 6] = [
    "deployment_frequency",
    "lead_time_seconds",
    "change_failure_rate",
    "change_failure_rate_dx",
    "recovery_seconds",
    "recovery_seconds_dx",
];

#[track_caller]
fn assert_metrics(dora: &Dora, wanted: [(Option<f64>, u64); 6]) {
    let found: Vec<_> = dora.metrics.iter().map(|metric| (metric.name, metric.value, metric.n)).collect();
    let wanted: Vec<_> = NAMES.iter().zip(wanted).map(|(name, (value, n))| (*name, value, n)).collect();
    assert_eq!(found, wanted);
}

async fn the_month_has_the_expected_metrics(world: &World) {
    history(world).await;
    let dora = ask(world, month()).await;
    // Lead times 1800, 7200, 43200, 86400, 172800, 266400; recoveries 7200, 93600, 347340; resolutions 3600, 14400,
    // 3600, 1800. W1, W2, A1 and W3 were followed by an incident.
    assert_metrics(
        &dora,
        [
            (Some(6.0 / 31.0), 6),
            (Some(64_800.0), 6),
            (Some(4.0 / 6.0), 6),
            (Some(5.0 / 6.0), 6),
            (Some(93_600.0), 3),
            (Some(5_850.0), 4),
        ],
    );
    assert!(dora.metrics.iter().all(|metric| metric.definition.len() > 20));
    assert_eq!(
        world.brought("T2").await.len() + world.brought("F1").await.len() + world.brought("N1").await.len(),
        0
    );
    assert_eq!(world.brought("S1").await.len(), 1);
}

async fn filters_narrow_the_metrics(world: &World) {
    history(world).await;
    let web = ask(world, DoraQuery { service: own("web"), ..month() }).await;
    assert_metrics(
        &web,
        [
            (Some(3.0 / 31.0), 3),
            (Some(64_800.0), 4),
            (Some(1.0), 3),
            (Some(4.0 / 3.0), 3),
            (Some(187_200.0), 3),
            (Some(6_600.0), 3),
        ],
    );
    let till = ask(world, DoraQuery { repository: own(TILL), ..month() }).await;
    assert_metrics(
        &till,
        [(Some(1.0 / 31.0), 1), (Some(7_200.0), 1), (Some(0.0), 1), (Some(0.0), 1), (None, 0), (None, 0)],
    );
    // W1, W3 and A1 belong to ann's team; its parent is given by reference and by name.
    let product = [
        (Some(3.0 / 31.0), 3),
        (Some(129_600.0), 4),
        (Some(1.0), 3),
        (Some(1.0), 3),
        (Some(50_400.0), 2),
        (Some(9_000.0), 2),
    ];
    for name in ["product", "Team product", "web"] {
        assert_metrics(&ask(world, DoraQuery { team: own(name), ..month() }).await, product);
    }
    let both = DoraQuery { team: own("product"), service: own("api"), ..month() };
    assert_metrics(
        &ask(world, both).await,
        [
            (Some(1.0 / 31.0), 1),
            (Some(266_400.0), 1),
            (Some(1.0), 1),
            (Some(1.0), 1),
            (Some(93_600.0), 1),
            (Some(14_400.0), 1),
        ],
    );
    let odd = DoraQuery { service: own("no'such"), ..month() };
    let error = dora(&world.plane, &world.ctx, &odd).await.unwrap_err();
    assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("service", "unknown"));
}

async fn an_interval_includes_its_start_and_not_its_end(world: &World) {
    history(world).await;
    let w1 = january("02T10:00:00");
    let micro = |at: Timestamp, by: i64| Timestamp::from_microsecond(at.as_microsecond() + by).unwrap();
    for (from, to, count) in [
        (w1, micro(w1, 1), 1),
        (micro(w1, 1), micro(w1, 2), 0),
        (micro(w1, -1), w1, 0),
        (micro(w1, -1), micro(w1, 1), 1),
    ] {
        let dora = ask(world, DoraQuery { from, to, ..month() }).await;
        assert_eq!((dora.metrics[0].n, dora.metrics[1].n), (count, count), "{from} {to}");
    }
    let started = january("07T10:00:00");
    for (from, to, count) in [(started, micro(started, 1), 1), (micro(started, -1), started, 0)] {
        assert_eq!(ask(world, DoraQuery { from, to, ..month() }).await.metrics[5].n, count, "{from} {to}");
    }
    for (from, to) in [(w1, w1), (w1, micro(w1, -1)), (time("1980-01-01T00:00:00Z"), w1)] {
        let error = dora(&world.plane, &world.ctx, &DoraQuery { from, to, ..month() }).await.unwrap_err();
        assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("to", "range"));
    }
}

async fn unknown_names_are_errors(world: &World) {
    history(world).await;
    let some = |name: &str| Some(name.to_owned());
    let query = DoraQuery {
        service: some("chekout"),
        repository: some("acme/nothing"),
        team: some("unknown"),
        ..month()
    };
    let error = dora(&world.plane, &world.ctx, &query).await.unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
    assert_eq!(fields, [("service", "unknown"), ("repository", "unknown"), ("team", "unknown")]);
    // Repository names are case-insensitive.
    let of = |repository: &str| DoraQuery { repository: some(repository), ..month() };
    let (written, shouted) = (ask(world, of(SHOP)).await, ask(world, of(&SHOP.to_uppercase())).await);
    assert!(written.metrics[0].n > 0);
    assert_eq!(written, shouted);
}

async fn no_facts_give_no_values(world: &World) {
    history(world).await;
    let (from, to) = (time("2025-06-01T00:00:00Z"), time("2025-06-04T00:00:00Z"));
    let empty = ask(world, DoraQuery { from, to, ..month() }).await;
    assert_metrics(&empty, [(Some(0.0), 0), (None, 0), (None, 0), (None, 0), (None, 0), (None, 0)]);
    let day = |date: &str| no_day(date);
    assert_eq!(empty.days, [day("2025-06-01"), day("2025-06-02"), day("2025-06-03")]);
}

fn no_day(date: &str) -> Day {
    Day {
        date: date.parse().unwrap(),
        deployments: 0,
        failed: 0,
        lead_time_seconds: None,
        incidents: 0,
        recovery_seconds: None,
    }
}

#[track_caller]
fn assert_days(dora: &Dora, wanted: &[Day]) {
    for day in &dora.days {
        let nothing = no_day(&day.date.to_string());
        assert_eq!(day, wanted.iter().find(|wanted| wanted.date == day.date).unwrap_or(&nothing));
    }
    assert!(wanted.iter().all(|wanted| dora.days.iter().any(|day| day.date == wanted.date)));
}

async fn days_start_at_midnight_in_the_zone(world: &World) {
    history(world).await;
    let brought = |date: &str, failed: u64, lead: f64| Day {
        deployments: 1,
        failed,
        lead_time_seconds: Some(lead),
        ..no_day(date)
    };
    let broken = |day: Day, incidents: u64, recovery: Option<f64>| Day {
        incidents,
        recovery_seconds: recovery,
        ..day
    };
    let common = [
        broken(brought("2026-01-02", 1, 86_400.0), 1, Some(7_200.0)),
        brought("2026-01-05", 1, 108_000.0),
        brought("2026-01-06", 1, 266_400.0),
        broken(brought("2026-01-09", 1, 1_800.0), 1, Some(347_340.0)),
        broken(no_day("2026-01-10"), 1, None),
        Day { deployments: 1, ..no_day("2026-01-25") },
    ];
    let utc = ask(world, month()).await;
    assert_eq!(utc.days.len(), 31);
    let mut wanted = common.to_vec();
    wanted.push(brought("2026-01-01", 0, 7_200.0));
    wanted.push(broken(no_day("2026-01-07"), 1, Some(93_600.0)));
    wanted.push(broken(no_day("2026-01-08"), 1, None));
    assert_days(&utc, &wanted);
    // Five hours behind UTC: midnight is the evening before, and the month touches 32 days.
    let zone = TimeZone::get("America/New_York").unwrap();
    let new_york = ask(world, DoraQuery { zone, ..month() }).await;
    assert_eq!(new_york.days.len(), 32);
    let mut wanted = common.to_vec();
    wanted.push(brought("2025-12-31", 0, 7_200.0));
    wanted.push(broken(no_day("2026-01-07"), 2, Some(93_600.0)));
    assert_days(&new_york, &wanted);
}

async fn the_daily_view_agrees(world: &World) {
    history(world).await;
    let rows = world
        .sql(
            "SELECT CAST(day AS DATE) AS date, service, repository, deployments, failed_deployments, changes, \
             lead_time_seconds, incidents, recovery_seconds FROM dora_daily \
             WHERE day >= timestamptz '2026-01-05 00:00:00Z' AND day < timestamptz '2026-01-09 00:00:00Z' ORDER BY day, service",
        )
        .await;
    assert_eq!(
        rows,
        [
            ["2026-01-05", "web", SHOP, "1", "1", "2", "108000.0", "0", "NULL"],
            ["2026-01-06", "api", SHOP, "1", "1", "1", "266400.0", "0", "NULL"],
            ["2026-01-07", "api", SHOP, "0", "0", "0", "NULL", "1", "93600.0"],
            ["2026-01-07", "web", SHOP, "0", "0", "0", "NULL", "1", "187200.0"],
            ["2026-01-08", "NULL", "NULL", "0", "0", "0", "NULL", "1", "NULL"],
        ]
    );
}
