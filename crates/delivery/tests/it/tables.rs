//! The tables in SQL: every table and column, nothing from a unit that the caller cannot see, and the same result
//! whether the store or the engine applies a condition.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use landreeve_core::ids::OuId;
use landreeve_core::source::{CancellationToken, Query};
use landreeve_core::table::{
    Applies, BatchStream, Condition, EngineQuery, Readable, Scan, Table, TableName, Tables,
};
use landreeve_core::{Action, Given, Noun, OpCtx, OpKind, Permission};
use landreeve_delivery::changes::{
    CommitFacts, PullFacts, PullRef, commits_push, pull_services_set, pull_upsert,
};
use landreeve_delivery::custom_data::{NewCustomData, custom_data_set};
use landreeve_delivery::deployments::{DeploymentFacts, deployment_create};
use landreeve_delivery::incidents::{IncidentFacts, incident_upsert};
use landreeve_delivery::people::{PersonFacts, person_upsert};
use landreeve_delivery::pipelines::{PipelineFacts, pipeline_upsert};
use landreeve_delivery::repos::{RepoFacts, repo_upsert};
use landreeve_delivery::teams::{WantedTeam, hierarchy_process};
use landreeve_delivery::{Metadata, ServiceName, nouns};
use landreeve_estate::ops::users::{NewUser, user_create};
use landreeve_estate::ops::{Api, GrantTarget, NewGrant, Origin, Ou, ous, sign_in};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tokio::runtime::Handle;

use crate::support::{World, minute, own, sha};

conformance![
    every_table_and_column_can_be_queried,
    the_store_and_the_engine_agree_on_conditions,
    a_query_run_is_limited_to_what_its_caller_can_see,
];

/// The documented tables, and our views.
const NAMES: [&str; 22] = [
    "commits",
    "custom_data",
    "deployment_metadata",
    "deployment_services",
    "deployments",
    "dora_changes",
    "dora_daily",
    "dora_deployments",
    "dora_incidents",
    "dx_team_hierarchies",
    "dx_teams",
    "dx_user_identifiers",
    "dx_users",
    "dx_versioned_team_members",
    "incident_metadata",
    "incident_services",
    "incidents",
    "pipeline_runs",
    "pull_deployments",
    "pull_request_services",
    "pull_requests",
    "repos",
];

/// Everything in the catalog for a reader of these subtrees.
async fn everything(world: &World, subtrees: &[String]) -> Tables {
    let Readable { catalog, reader } = world.plane.catalog().seen_by(subtrees);
    let names = catalog.list(&reader).await.unwrap();
    let names: Vec<TableName> = names.into_iter().map(|listed| listed.name).collect();
    catalog.resolve(&reader, &names).await.unwrap()
}

fn all_names(tables: &Tables) -> BTreeSet<&str> {
    let names = tables.tables.iter().map(|(name, _)| name.name.as_str());
    names.chain(tables.views.iter().map(|(name, _)| name.name.as_str())).collect()
}

/// Rows in every table; every freely chosen text contains the mark.
async fn furnish(world: &World, ctx: &OpCtx, mark: &str) {
    let plane = &world.plane;
    let marked = |text: &str| format!("{text}-{mark}");
    let some = |text: &str| Some(marked(text));
    let named = ServiceName { identifier: marked("web"), name: some("Web") };
    let repository = marked("acme/shop");
    let facts = RepoFacts { default_branch: own("main"), source: some("github"), external_id: some("77") };
    repo_upsert(plane, ctx, repository.clone(), facts.into()).await.unwrap();
    let person = PersonFacts {
        name: some("Ann"),
        github_username: some("ann"),
        gitlab_username: some("annlab"),
        start_date: own("2020-02-29"),
        ..PersonFacts::default()
    };
    let email = format!("ann-{mark}@example.com");
    person_upsert(plane, ctx, &email, person.into()).await.unwrap();
    let team = |reference: &str, parent: Option<&str>| WantedTeam {
        reference: marked(reference),
        name: marked(&format!("Team {reference}")),
        lead: own(&email),
        parent: parent.map(marked),
        parent_name: parent.map(|parent| marked(&format!("Team {parent}"))),
        members: parent.map(|_| email.clone()).into_iter().collect(),
    };
    let run = hierarchy_process(plane, ctx, vec![team("top", None), team("sub", Some("top"))].into())
        .await
        .unwrap();
    world.kit.ended(&run).await;
    let pull = PullFacts {
        title: some("A title"),
        author_email: own(&email),
        base_ref: own("main"),
        head_ref: some("feature"),
        merged_at: Some(minute(30)),
        closed_at: Some(minute(30)),
        first_commit_at: Some(minute(5)),
        merge_commit_sha: Some(sha(1)),
        reference: some("9001"),
        ..PullFacts::default()
    };
    pull_upsert(plane, ctx, repository.clone(), 7, minute(10), pull.into()).await.unwrap();
    let number = PullRef::Number { repository: repository.clone(), number: 7 };
    pull_services_set(plane, ctx, number, vec![named.clone()].into(), false).await.unwrap();
    let commit = CommitFacts {
        sha: sha(2),
        committed_at: minute(20),
        author_email: own(&email),
        message: some("A message"),
        parents: vec![sha(3), sha(4)],
    };
    commits_push(plane, ctx, repository.clone(), None, vec![commit].into()).await.unwrap();
    let deployment = |at: i64| DeploymentFacts {
        deployed_at: Some(minute(at)),
        service: Some(named.clone()),
        repository: Some(repository.clone()),
        source_url: some("https://ci.example.com/1"),
        source_name: some("ci"),
        metadata: Some(Metadata::new(json!({"a": {"b": marked("x")}})).unwrap()),
        ..DeploymentFacts::default()
    };
    deployment_create(plane, ctx, some("rel-1"), deployment(60).into()).await.unwrap();
    let listed = DeploymentFacts { merge_commit_shas: Some(vec![sha(1), sha(9)]), ..deployment(90) };
    let listed = DeploymentFacts { environment: some("staging"), success: Some(false), ..listed };
    deployment_create(plane, ctx, some("rel-2"), listed.into()).await.unwrap();
    let incident = IncidentFacts {
        started_at: Some(minute(61)),
        resolved_at: Given::Value(minute(71)),
        name: Given::Value(marked("Down")),
        priority: Given::Value(marked("p1")),
        services: Given::Value(vec![named]),
        metadata: Given::Value(Metadata::new(json!({"c": marked("y")})).unwrap()),
        ..IncidentFacts::default()
    };
    incident_upsert(plane, ctx, marked("inc-1"), incident.into()).await.unwrap();
    pipeline_upsert(plane, ctx, pipeline(mark, &repository, &email).into()).await.unwrap();
    let data =
        NewCustomData { reference: marked("r"), key: marked("k"), value: json!({ "v": mark }), at: None };
    custom_data_set(plane, ctx, data.into()).await.unwrap();
}

fn pipeline(mark: &str, repository: &str, email: &str) -> PipelineFacts {
    PipelineFacts {
        name: format!("build-{mark}"),
        source: "Jenkins".to_owned(),
        reference: format!("run-{mark}"),
        started_at: minute(40),
        status: own("success"),
        finished_at: Some(minute(41)),
        repository: own(repository),
        commit_sha: Some(sha(1)),
        pr_number: Some(7),
        source_url: None,
        head_branch: own("main"),
        email: own(email),
        github_username: None,
        gitlab_username: None,
    }
}

async fn every_table_and_column_can_be_queried(world: &World) {
    world.kit.start_delivery(&world.plane).await;
    furnish(world, &world.ctx, "m").await;
    let root = ["/1/".to_owned()];
    let tables = everything(world, &root).await;
    assert_eq!(all_names(&tables), NAMES.into_iter().collect());
    for name in NAMES {
        let (columns, rows) = world.ask(&root, &format!("SELECT * FROM {name}")).await.unwrap();
        assert!(!rows.is_empty(), "{name} has no row here");
        if let Some((_, table)) = tables.tables.iter().find(|(known, _)| known.name == name) {
            let schema = table.schema();
            let declared: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
            assert_eq!(columns.iter().collect::<Vec<_>>(), declared, "{name}");
        }
        // Each alone, and the rows where it is not null counted by the store.
        for (at, column) in columns.iter().enumerate() {
            let mut alone = world.sql(&format!("SELECT \"{column}\" FROM {name}")).await.concat();
            let mut together: Vec<String> = rows.iter().map(|row| row[at].clone()).collect();
            alone.sort();
            together.sort();
            assert_eq!(alone, together, "{name}.{column}");
            let having = together.iter().filter(|value| *value != "NULL").count();
            let counted =
                world.sql(&format!("SELECT count(*) FROM {name} WHERE \"{column}\" IS NOT NULL")).await;
            assert_eq!(counted, [[having.to_string()]], "{name}.{column}");
        }
        assert_eq!(world.sql(&format!("SELECT count(*) FROM {name}")).await, [[rows.len().to_string()]]);
        assert_eq!(world.sql(&format!("SELECT * FROM {name} LIMIT 1")).await.len(), 1);
        assert_eq!(world.sql_as(&[], &format!("SELECT * FROM {name}")).await.len(), 0, "{name}");
    }
}

/// A table that leaves every condition to the engine.
struct Leaving(Arc<dyn Table>);

impl Table for Leaving {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn applies(&self, _: &Condition) -> Applies {
        Applies::No
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        assert!(scan.conditions.is_empty(), "it applies none");
        self.0.scan(scan)
    }
}

async fn counted(world: &World, tables: Tables, sql: &str) -> Vec<Vec<String>> {
    use futures_util::TryStreamExt as _;
    let query = Query {
        sql: sql.to_owned(),
        time_limit: std::time::Duration::from_secs(60),
        batch_rows: 1_024,
        batch_bytes: 1_024 * 1_024,
        decimals: Vec::new(),
    };
    let query = EngineQuery { query, variables: Vec::new(), max_rows: None };
    let tables = Readable { catalog: Arc::new(tables), reader: Default::default() };
    let stream = world.engine.query(tables, query, CancellationToken::new()).await;
    let stream = stream.unwrap_or_else(|error| panic!("{}\n{sql}", error.message));
    let batches: Vec<_> = stream.batches.try_collect().await.unwrap();
    let format = arrow_cast::display::FormatOptions::new().with_null("NULL");
    let rows = batches.iter().flat_map(|batch| {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| arrow_cast::display::ArrayFormatter::try_new(column, &format).unwrap())
            .collect();
        (0..batch.num_rows())
            .map(move |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows
}

/// Conditions on a column that can be pushed down, using a value that exists.
fn conditions(column: &str, kind: &arrow_schema::DataType, value: &str) -> Vec<String> {
    use arrow_schema::DataType;
    let literal = match kind {
        DataType::Utf8 => format!("'{}'", value.replace('\'', "''")),
        DataType::Timestamp(..) => format!("timestamptz '{value}'"),
        DataType::List(_) => return vec![format!("{column} IS NULL")],
        _ => value.to_owned(),
    };
    let mut all = vec![format!("{column} IS NULL"), format!("{column} IS NOT NULL")];
    let operators: &[&str] = match kind {
        DataType::Boolean => &["="],
        // The engine decides their order.
        DataType::Utf8 => &["=", "<>", "<"],
        _ => &["=", "<>", "<", "<=", ">", ">="],
    };
    all.extend(operators.iter().map(|operator| format!("{column} {operator} {literal}")));
    all.push(format!("{column} IN ({literal}, {literal})"));
    all.push(format!("{column} = {literal} OR {column} IS NULL"));
    all
}

async fn the_store_and_the_engine_agree_on_conditions(world: &World) {
    world.kit.start_delivery(&world.plane).await;
    for mark in ["a", "É"] {
        furnish(world, &world.ctx, mark).await;
        let ou = world.kit.ou(mark).await;
        let ctx = sign_in::system_in(&world.kit.estate, ou.id).await.unwrap();
        furnish(world, &ctx, mark).await;
    }
    let tables = everything(world, &["/1/".to_owned()]).await;
    let leaving = Tables {
        tables: tables
            .tables
            .iter()
            .map(|(name, table)| (name.clone(), Arc::new(Leaving(Arc::clone(table))) as Arc<dyn Table>))
            .collect(),
        views: tables.views.clone(),
    };
    for (name, table) in &tables.tables {
        let rows = world.sql(&format!("SELECT * FROM {name}")).await;
        for (at, field) in table.schema().fields().iter().enumerate() {
            let Some(value) = rows.iter().map(|row| &row[at]).find(|value| *value != "NULL") else {
                continue;
            };
            let all = conditions(&format!("\"{}\"", field.name()), field.data_type(), value);
            let asked = all.into_iter().map(async |condition| {
                let sql = format!("SELECT * FROM {name} WHERE {condition}");
                let (pushed, left) =
                    (counted(world, tables.clone(), &sql).await, counted(world, leaving.clone(), &sql).await);
                assert_eq!(pushed, left, "{sql}");
            });
            futures_util::future::join_all(asked).await;
        }
    }
    // A condition that no table can apply.
    let id = &world.sql("SELECT min(id) FROM deployments").await[0][0];
    let plain = world.sql(&format!("SELECT reference_id FROM deployments WHERE id = {id}")).await;
    assert_eq!(plain.len(), 1);
    assert_eq!(world.sql(&format!("SELECT reference_id FROM deployments WHERE id + 0 = {id}")).await, plain);
}

async fn a_query_run_is_limited_to_what_its_caller_can_see(world: &World) {
    world.kit.start_delivery(&world.plane).await;
    furnish(world, &world.ctx, "root").await;
    let ou = world.kit.ou("below").await;
    furnish(world, &sign_in::system_in(&world.kit.estate, ou.id).await.unwrap(), "below").await;
    let permissions =
        [Permission::new(nouns::DELIVERY, Action::VIEW), Permission::new(Noun::RUN, Action::USE)];
    let (_, secret) = world.kit.key_in(Api::Delivery, &permissions, Some(&ou)).await;
    let ctx = sign_in::by_key(&world.kit.estate, Api::Delivery, &secret, None, origin(world)).await.unwrap();
    let sql = "SELECT reference_id FROM deployments WHERE environment = $e".to_owned();
    let variable =
        landreeve_core::table::Variable::One(landreeve_core::table::Scalar::Text("production".to_owned()));
    let variables = vec![("e".to_owned(), variable)];
    let run =
        landreeve_delivery::queries::query_run(&world.plane, &ctx, sql, variables.into()).await.unwrap();
    let run = world.kit.ended(&run).await;
    assert_eq!(run.state, landreeve_core::RunState::Succeeded, "{:?}", run.error);
    assert_eq!(run.ou, ou.id);
    let format = landreeve_core::source::ResultFormat::Csv;
    let wanted =
        landreeve_delivery::Wanted { format, envelope: None, integers_as_strings: false, most_rows: None };
    let which = landreeve_estate::ops::runs::RunRef::Id(run.id);
    let (bytes, rows) =
        landreeve_delivery::queries::result_open(&world.plane, &ctx, which, wanted.clone()).await.unwrap();
    use futures_util::TryStreamExt as _;
    let text: Vec<u8> = bytes.map_ok(|part| part.to_vec()).try_concat().await.unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!((rows, text.contains("rel-1-below"), text.contains("root")), (1, true, false), "{text}");
    // A caller who can see and cancel runs sees the run; its rows are only for callers who can see delivery data.
    let permissions = [Permission::new(Noun::RUN, Action::VIEW), Permission::new(Noun::RUN, Action::MANAGE)];
    let (_, secret) = world.kit.key_in(Api::Delivery, &permissions, Some(&ou)).await;
    let ctx = sign_in::by_key(&world.kit.estate, Api::Delivery, &secret, None, origin(world)).await.unwrap();
    let which = || landreeve_estate::ops::runs::RunRef::Id(run.id);
    landreeve_delivery::queries::query_run_get(&world.plane, &ctx, which()).await.unwrap();
    let refused = landreeve_delivery::queries::result_open(&world.plane, &ctx, which(), wanted).await;
    assert_eq!(refused.map(drop).unwrap_err().kind, landreeve_core::ErrorKind::Forbidden);
    let refused = landreeve_delivery::queries::result_grant(&world.plane, &ctx, which()).await;
    assert_eq!(refused.map(drop).unwrap_err().kind, landreeve_core::ErrorKind::Forbidden);
}

fn origin(world: &World) -> Origin {
    Origin { request_id: world.kit.estate.uuid(), address: None, kind: OpKind::Dx }
}

/// A tree of units below the root (each under an earlier one), what is granted where, and where the caller works.
type Forest = (Vec<usize>, Vec<(usize, usize)>, usize);

fn forests() -> impl Strategy<Value = Forest> {
    let tree = proptest::collection::vec(0..100_usize, 2..6);
    tree.prop_flat_map(|parents| {
        let count = parents.len() + 1;
        let kinds = prop_oneof![2 => Just(0), 1 => Just(2), 1 => 0..5_usize];
        let grants = proptest::collection::vec((kinds, 0..count), 1..4);
        (Just(parents), grants, prop_oneof![Just(None), (0..count).prop_map(Some)])
    })
    .prop_map(|(parents, grants, home)| {
        // Often where something is granted.
        let home = home.unwrap_or(grants[0].1);
        (parents, grants, home)
    })
}

/// Permissions that make delivery data visible: recording it does not.
const VIEWS: [usize; 2] = [0, 2];

fn permission(kind: usize) -> Permission {
    match kind {
        0 => Permission::new(nouns::DELIVERY, Action::VIEW),
        1 => Permission::new(nouns::DELIVERY, Action::USE),
        2 => Permission::new(nouns::DELIVERY, Action::MANAGE),
        3 => Permission::new(nouns::TEAM, Action::MANAGE),
        _ => Permission::new(Noun::RUN, Action::VIEW),
    }
}

/// The tree of one case, with rows in each unit.
async fn grow(world: &World, parents: &[usize]) -> Vec<Ou> {
    let estate = &world.kit.estate;
    let name = format!("tree {}", estate.uuid());
    let mut units = vec![ous::ou_create(estate, &world.ctx, None, name, String::new()).await.unwrap()];
    for (at, parent) in parents.iter().enumerate() {
        let above = units[parent % units.len()].uuid;
        let unit = ous::ou_create(estate, &world.ctx, Some(above), format!("unit {at}"), String::new())
            .await
            .unwrap();
        units.push(unit);
    }
    for unit in &units {
        let ctx = sign_in::system_in(estate, unit.id).await.unwrap();
        furnish(world, &ctx, &mark(unit.id)).await;
    }
    units
}

fn mark(ou: OuId) -> String {
    format!("ou{ou}x")
}

async fn sees_no_other(world: &World, (parents, grants, home): Forest) -> usize {
    let units = grow(world, &parents).await;
    let target = |at: usize| GrantTarget::Subtree(units[at].id);
    let held = grants.iter().map(|(kind, at)| NewGrant::Permission(permission(*kind), target(*at)));
    let name = format!("u{}", units[0].id);
    let new = NewUser {
        name: name.clone(),
        email: format!("{name}@example.org"),
        full_name: "Else Here".to_owned(),
        password: None,
        grants: held.collect(),
    };
    let user = user_create(&world.kit.estate, &world.ctx, new).await.unwrap();
    let (_, secret) = world.kit.user_key(Api::Delivery, &user).await;
    let wanted = Some(units[home].uuid);
    let estate = &world.kit.estate;
    // A user cannot work in a unit where nothing is granted.
    let Ok(ctx) = sign_in::by_key(estate, Api::Delivery, &secret, wanted, origin(world)).await else {
        return 0;
    };
    let inside = |outer: usize, inner: &Ou| inner.path.starts_with(&units[outer].path);
    let visible: Vec<&Ou> = units
        .iter()
        .filter(|unit| inside(home, unit))
        .filter(|unit| grants.iter().any(|(kind, at)| VIEWS.contains(kind) && inside(*at, unit)))
        .collect();
    let reach = ctx.authority().reach(Permission::new(nouns::DELIVERY, Action::VIEW), 0);
    let hidden: Vec<String> = units
        .iter()
        .filter(|unit| !visible.iter().any(|seen| seen.id == unit.id))
        .map(|unit| mark(unit.id))
        .collect();
    // The last unit of a tree has no unit below it.
    let alone = units.last().unwrap();
    for name in NAMES {
        let of_one = world.sql_as(std::slice::from_ref(&alone.path), &format!("SELECT * FROM {name}")).await;
        let rows = world.sql_as(&reach, &format!("SELECT * FROM {name}")).await;
        assert_eq!(rows.len(), of_one.len() * visible.len(), "{name}: {reach:?}");
        assert!(!of_one.is_empty(), "{name}");
        for row in &rows {
            let text = row.join("|");
            assert!(!hidden.iter().any(|mark| text.contains(mark)), "{name}: {text}");
        }
    }
    visible.len()
}

fn callers_never_see_other_units(world: &World, cases: u32) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let seen = std::cell::Cell::new(0);
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&forests(), |forest| {
            seen.set(seen.get() + Handle::current().block_on(sees_no_other(world, forest)));
            Ok(())
        })
    });
    outcome.unwrap();
    assert!(seen.get() > 0, "nothing was visible, so the test proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_never_see_other_units_on_sqlite() {
    let world = World::sqlite().await;
    world.kit.start_delivery(&world.plane).await;
    callers_never_see_other_units(&world, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_never_see_other_units_on_postgres() {
    let world = World::postgres().await;
    world.kit.start_delivery(&world.plane).await;
    callers_never_see_other_units(&world, 8);
    world.kit.remove().await;
}
