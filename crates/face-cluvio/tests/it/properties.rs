//! No request content produces a 5xx.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::{World, related};

const WORDS: [&str; 60] = [
    "data",
    "type",
    "id",
    "attributes",
    "relationships",
    "name",
    "database_type",
    "connection_mode",
    "host",
    "port",
    "password",
    "database",
    "data_time_zone",
    "enabled",
    "max_concurrent_executions",
    "agents",
    "datasource",
    "dashboard",
    "sql_query",
    "r_query",
    "parameters",
    "timerange",
    "aggregation",
    "tz",
    "filters",
    "variable_name",
    "selected_values",
    "query",
    "chart_configuration",
    "values",
    "value_names",
    "default_values",
    "control_type",
    "value_type",
    "options_type",
    "aggregation_options",
    "sql",
    "description",
    "layout",
    "row",
    "column",
    "width",
    "height",
    "time_zone_config",
    "fixed_time_zone",
    "allowed_time_zones",
    "default_parameters",
    "filters_configuration",
    "filter_sorting",
    "time_zone",
    "week_start",
    "csv_separator",
    "sqlite",
    "postgres",
    "Europe/Berlin",
    "dropdown",
    "date_range",
    "manual",
    "static_sql",
    "last_7_days",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("a\u{0}b")),
        Just(json!("select {x=country} and {d:week} [a] '")),
        prop::sample::select(&WORDS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let key =
            prop_oneof![4 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A document with random attributes, so that parsing gets past the envelope.
fn bodies() -> impl Strategy<Value = Value> {
    let document = (any_json(), any_json())
        .prop_map(|(attributes, relationships)| json!({"data": {"attributes": attributes, "relationships": relationships}}));
    prop_oneof![any_json(), document]
}

#[test]
fn no_body_is_an_internal_error() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let paths = runtime.block_on(async {
        let datasource = world.datasource().await;
        let agent = world.made("/datasource_agents", json!({"name": "a"}), json!({})).await;
        let dashboard = world.made("/dashboards", json!({"name": "d"}), json!({})).await;
        let of = json!({"datasource": related("datasources", &datasource)});
        let report = world.made("/reports", json!({"name": "r", "query": "select 1"}), of).await;
        let filter = world.made("/filters", json!({"name": "f", "variable_name": "f"}), json!({})).await;
        let snippet = world.made("/sql_snippets", json!({"name": "s", "sql": "1"}), json!({})).await;
        let changes = [
            format!("/datasources/{datasource}"),
            format!("/datasource_agents/{agent}"),
            format!("/dashboards/{dashboard}"),
            format!("/reports/{report}"),
            format!("/filters/{filter}"),
            format!("/sql_snippets/{snippet}"),
            "/organization".to_owned(),
        ];
        let posts = [
            "/datasources".to_owned(),
            "/datasource_agents".to_owned(),
            "/dashboards".to_owned(),
            "/reports".to_owned(),
            "/filters".to_owned(),
            "/sql_snippets".to_owned(),
            format!("/datasources/{datasource}/executions"),
            format!("/reports/{report}/run"),
            format!("/filters/{filter}/options"),
        ];
        let changes = changes.into_iter().map(|path| ("PATCH", path));
        changes.chain(posts.into_iter().map(|path| ("POST", path))).collect::<Vec<_>>()
    });
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    let request = (prop::sample::select(paths), bodies());
    let run = TestRunner::new(config).run(&request, |((method, path), body)| {
        let answer = runtime.block_on(world.ask(method, &path).json(&body).send());
        prop_assert!(answer.status.as_u16() < 500, "{} {}: {}", method, path, answer.text);
        if !answer.status.is_success() {
            answer.pointers();
        }
        Ok(())
    });
    run.unwrap();
}

#[test]
fn no_address_is_an_internal_error() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let request = (
        prop::sample::select(vec![
            "datasources",
            "datasource_agents",
            "dashboards",
            "reports",
            "filters",
            "sql_snippets",
            "executions",
        ]),
        "[a-z0-9%-]{0,20}",
        "(include|wait|name|dashboard)=[a-z0-9,_%-]{0,12}",
    );
    let run = TestRunner::new(config).run(&request, |(noun, id, query)| {
        let path = format!("/{noun}/{}?{query}", id.replace('%', "%20"));
        let answer = runtime.block_on(world.get(&path));
        prop_assert!(answer.status.as_u16() < 500, "{}: {}", path, answer.text);
        Ok(())
    });
    run.unwrap();
}
