//! Datasources and agents.

use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{AgentId, DatasourceId};
use landreeve_core::source::SessionZone;
use landreeve_core::{Action, ErrorKind, Input, Noun, Permission, Secret};
use landreeve_estate::ops::datasources::{
    AgentChange, agent_create, agent_get, agent_update, datasource_create, datasource_delete,
    datasource_for_use, datasource_get, datasource_schema, datasource_test, datasource_update,
    ensure_builtin,
};
use landreeve_estate::ops::sign_in::operator;
use landreeve_estate::ops::{ConnectionMode, DatasourceDetails};

use crate::keys::unit;
use crate::secrets::postgres_details;
use crate::support::{Site, all_agents, all_datasources, caller, number};

conformance![
    a_datasource_is_read_back_as_declared,
    all_faults_are_reported_together,
    a_connection_change_increments_the_version,
    a_stale_change_is_a_conflict,
    what_a_datasource_needs_to_be_used,
    the_builtin_source_is_in_every_unit_and_cannot_be_changed,
    sqlite_files_are_checked,
    a_connection_test_reports_its_result,
    agents_are_stored,
];

const MANAGE: Permission = Permission::new(Noun::DATASOURCE, Action::MANAGE);

pub fn full() -> DatasourceDetails {
    DatasourceDetails {
        database_type: DatabaseType::MySql,
        port: Some(3307),
        username: Some("żółw".into()),
        database: Some("shop".into()),
        data_time_zone: Some("Europe/Berlin".into()),
        require_tls: true,
        max_concurrent: 3,
        row_counts: false,
        extras: [("athena_region".to_owned(), "eu".to_owned())].into(),
        ..postgres_details("shop")
    }
}

async fn a_datasource_is_read_back_as_declared(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let made = datasource_create(&estate, &ctx, full(), Vec::new()).await.unwrap();
    let seen = datasource_get(&estate, &ctx, made.id).await.unwrap();
    assert_eq!(*seen.datasource, made);
    assert_eq!(made.details, full());
    assert_eq!((made.version, made.total_rows, made.session_zone), (1, None, SessionZone::AsAsked));
    assert_eq!(all_datasources(&estate, &ctx).await.unwrap().len(), 1);
    assert!(datasource_schema(&estate, &ctx, made.id).await.unwrap().is_none());
    // Secrets are neither in debug output nor in the row.
    let printed = format!("{seen:?} {made:?} {:?}", made.details);
    let row = crate::support::rows(
        &estate,
        "SELECT config, name, secrets_sealed FROM datasources",
        landreeve_estate::args![],
    )
    .await;
    let kept = [row[0].text(0).unwrap(), String::from_utf8_lossy(&row[0].bytes(2).unwrap()).into_owned()];
    for secret in ["hunter2", "trombone"] {
        assert!(!printed.contains(secret) && !kept.iter().any(|text| text.contains(secret)));
    }
    datasource_delete(&estate, &ctx, made.id).await.unwrap();
    assert_eq!(datasource_get(&estate, &ctx, made.id).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(datasource_delete(&estate, &ctx, made.id).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(number(&estate, "SELECT count(*) FROM schedules").await, 0);
}

async fn all_faults_are_reported_together(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let wrong = DatasourceDetails {
        name: " ".into(),
        host: None,
        port: Some(0),
        data_time_zone: Some("Mars".into()),
        max_concurrent: 0,
        ..DatasourceDetails::default()
    };
    let linked = vec![AgentId(77), AgentId(78)];
    let error = datasource_create(&estate, &ctx, wrong, linked).await.unwrap_err();
    let mut fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        fields,
        ["agents.0", "agents.1", "data_time_zone", "host", "max_concurrent_executions", "name", "port"]
    );
    let file = DatasourceDetails {
        name: String::new(),
        database_type: DatabaseType::Sqlite,
        database: Some("missing.db".into()),
        ..DatasourceDetails::default()
    };
    let error = datasource_create(&estate, &ctx, file, Vec::new()).await.unwrap_err();
    let fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "database"]);
    // Neither a built-in type nor one that no plane registers.
    let builtin = DatasourceDetails { database_type: DatabaseType::stored("of_a_plane"), ..full() };
    let error = datasource_create(&estate, &ctx, builtin, Vec::new()).await.unwrap_err();
    assert_eq!(error.faults[0].field, "database_type", "{error:?}");
    assert_eq!(number(&estate, "SELECT count(*) FROM datasources").await, 0);
}

async fn a_connection_change_increments_the_version(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let made = datasource_create(&estate, &ctx, full(), Vec::new()).await.unwrap();
    type Change = fn(&mut DatasourceDetails);
    let changes: [(Change, i64); 8] = [
        (|details| details.name = "other".into(), 1),
        (|details| details.nightly_schema = false, 1),
        (|details| details.row_counts = true, 1),
        (|details| details.host = Some("192.0.2.2".into()), 2),
        (|details| details.password = Some(Secret::new("better")), 3),
        (|_| {}, 3),
        (|details| details.enabled = false, 4),
        (|details| details.verify_tls = true, 5),
    ];
    for (change, version) in changes {
        site.clock.seconds(1);
        let after = datasource_update(&estate, &ctx, made.id, Input::of(change), None).await.unwrap();
        assert_eq!(after.version, version);
        assert_eq!(*datasource_get(&estate, &ctx, made.id).await.unwrap().datasource, after);
    }
    let error = datasource_update(
        &estate,
        &ctx,
        made.id,
        Input::of(|details: &mut DatasourceDetails| details.name.clear()),
        None,
    )
    .await
    .unwrap_err();
    assert_eq!((error.kind, error.faults[0].field.as_str()), (ErrorKind::Invalid, "name"));
    let error =
        datasource_update(&estate, &ctx, DatasourceId(999), Input::of(|_: &mut DatasourceDetails| {}), None)
            .await
            .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

async fn a_stale_change_is_a_conflict(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let made = datasource_create(&estate, &ctx, full(), Vec::new()).await.unwrap();
    // The clock stands still: the order must not depend on it.
    for round in 0..5 {
        let update = |name: String| {
            datasource_update(
                &estate,
                &ctx,
                made.id,
                Input::of(move |details: &mut DatasourceDetails| details.name = name),
                None,
            )
        };
        let answers = futures_util::future::join_all((0..4).map(|n| update(format!("{round} {n}")))).await;
        let stand: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        assert!(!stand.is_empty());
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "changed"));
        }
        let now = datasource_get(&estate, &ctx, made.id).await.unwrap().datasource;
        assert!(stand.iter().any(|stand| stand.details.name == now.details.name));
        let events = "SELECT count(*) FROM outbox WHERE kind = 'datasource_changed'";
        let audited = "SELECT count(*) FROM audit_events WHERE action = 'updated' AND noun = 'datasource'";
        assert_eq!(number(&estate, events).await, 1 + number(&estate, audited).await);
    }
    // Two changes based on the same state, one after the other.
    let mut inner = None;
    let before = datasource_get(&estate, &ctx, made.id).await.unwrap().datasource;
    let change = |details: &mut DatasourceDetails| {
        let all = tokio::runtime::Handle::current();
        inner = Some(tokio::task::block_in_place(|| {
            all.block_on(datasource_update(
                &estate,
                &ctx,
                made.id,
                Input::of(|details: &mut DatasourceDetails| details.name = "first".into()),
                None,
            ))
        }));
        details.name = "second".into();
    };
    let late = datasource_update(&estate, &ctx, made.id, Input::of(change), None).await.unwrap_err();
    assert_eq!((late.kind, late.code), (ErrorKind::Conflict, "changed"));
    let first = inner.unwrap().unwrap();
    assert_eq!(first.row_version, before.row_version + 1);
    assert_eq!(datasource_get(&estate, &ctx, made.id).await.unwrap().datasource.details.name, "first");
}

async fn what_a_datasource_needs_to_be_used(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let with = |change: fn(&mut DatasourceDetails)| {
        let mut details = full();
        change(&mut details);
        datasource_create(&estate, &ctx, details, Vec::new())
    };
    let off = with(|details| details.enabled = false).await.unwrap();
    let none = with(|details| details.database_type = DatabaseType::Oracle).await.unwrap();
    for (id, code) in [(off.id, "disabled"), (none.id, "no_driver")] {
        let error = datasource_for_use(&estate, &ctx, id).await.unwrap_err();
        assert_eq!((error.kind, error.faults[0].code), (ErrorKind::Invalid, code));
    }
    let fine = with(|_| {}).await.unwrap();
    datasource_for_use(&estate, &ctx, fine.id).await.unwrap();
}

async fn the_builtin_source_is_in_every_unit_and_cannot_be_changed(site: &Site) {
    let estate = site.open().await;
    let system = operator(&estate);
    let id = ensure_builtin(&estate, &system, "sample", "Sample", DatabaseType::Sqlite, Some("sample.db"))
        .await
        .unwrap();
    assert_eq!(
        ensure_builtin(&estate, &system, "sample", "Sample", DatabaseType::Sqlite, Some("sample.db"))
            .await
            .unwrap(),
        id
    );
    let left = unit(&estate, None, "left").await;
    let ctx = caller(&estate, Some(left.uuid), &[MANAGE]).await;
    assert_eq!(all_datasources(&estate, &ctx).await.unwrap()[0].datasource.id, id);
    datasource_for_use(&estate, &ctx, id).await.unwrap();
    for ctx in [&ctx, &system] {
        let changed = datasource_update(
            &estate,
            ctx,
            id,
            Input::of(|details: &mut DatasourceDetails| details.name = "x".into()),
            None,
        )
        .await;
        assert_eq!(changed.unwrap_err().code, "builtin");
        assert_eq!(datasource_delete(&estate, ctx, id).await.unwrap_err().code, "builtin");
    }
}

async fn sqlite_files_are_checked(site: &Site) {
    let estate = site.open().await;
    let root = site.data().join("files");
    std::fs::write(root.join("mine.db"), "").unwrap();
    std::fs::write(site.dir.path().join("other.db"), "").unwrap();
    std::fs::write(site.data().join("secret.key"), "").unwrap();
    std::os::unix::fs::symlink(site.data().join("secret.key"), root.join("sly.db")).unwrap();
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let file = |name: &str| DatasourceDetails {
        name: "file".into(),
        database_type: DatabaseType::Sqlite,
        database: Some(name.into()),
        ..DatasourceDetails::default()
    };
    let outside = site.dir.path().join("other.db").to_string_lossy().into_owned();
    let mine = datasource_create(&estate, &ctx, file("mine.db"), Vec::new()).await.unwrap();
    for refused in
        ["missing.db", "sly.db", "../secret.key", "/etc/passwd", outside.as_str(), ".", "mine.db/x"]
    {
        let error = datasource_create(&estate, &ctx, file(refused), Vec::new()).await.unwrap_err();
        assert_eq!(
            (error.kind, error.faults[0].field.as_str()),
            (ErrorKind::Invalid, "database"),
            "{refused}"
        );
        site.clock.seconds(1);
        let changed = datasource_update(
            &estate,
            &ctx,
            mine.id,
            Input::of(|details: &mut DatasourceDetails| details.database = Some(refused.into())),
            None,
        );
        assert_eq!(changed.await.unwrap_err().faults[0].field, "database", "{refused}");
    }
    let claimed = DatasourceDetails { operator_file: true, ..file(&outside) };
    datasource_create(&estate, &ctx, claimed, Vec::new())
        .await
        .expect_err("users cannot make themselves operator");
    let sneak = |details: &mut DatasourceDetails| {
        details.operator_file = true;
        details.database = Some(outside.clone());
    };
    datasource_update(&estate, &ctx, mine.id, Input::of(sneak), None).await.expect_err("nor afterwards");
    let sly = datasource_update(
        &estate,
        &ctx,
        mine.id,
        Input::of(|details: &mut DatasourceDetails| details.operator_file = true),
        None,
    )
    .await
    .unwrap();
    assert!(!sly.details.operator_file);
    let operator = operator(&estate);
    let theirs = datasource_create(&estate, &operator, file(&outside), Vec::new()).await.unwrap();
    site.clock.seconds(1);
    let renamed = datasource_update(
        &estate,
        &ctx,
        theirs.id,
        Input::of(|details: &mut DatasourceDetails| details.name = "y".into()),
        None,
    )
    .await;
    assert!(renamed.unwrap().details.operator_file, "the operator's file stays what it was");
    let own = site.data().join("secret.key").to_string_lossy().into_owned();
    datasource_create(&estate, &operator, file(&own), Vec::new())
        .await
        .expect_err("never the server's own files");
}

async fn a_connection_test_reports_its_result(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let made = datasource_create(&estate, &ctx, full(), Vec::new()).await.unwrap();
    let info = datasource_test(&estate, &ctx, made.id).await.unwrap().unwrap();
    assert_eq!(info.version, "fake 1");
    let denied = DatasourceDetails { host: Some("169.254.169.254".into()), ..full() };
    let denied = datasource_create(&estate, &ctx, denied, Vec::new()).await.unwrap();
    let message = datasource_test(&estate, &ctx, denied.id).await.unwrap().unwrap_err();
    assert!(message.contains("[outbound] deny"), "{message}");
    let tunnel = DatasourceDetails { mode: ConnectionMode::SshTunnel, ..full() };
    let tunnel = datasource_create(&estate, &ctx, tunnel, Vec::new()).await.unwrap();
    let message = datasource_test(&estate, &ctx, tunnel.id).await.unwrap().unwrap_err();
    assert!(message.contains("ssh_tunnel"), "{message}");
}

async fn agents_are_stored(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[MANAGE]).await;
    let (agent, secret) = agent_create(&estate, &ctx, named("edge")).await.unwrap();
    assert_eq!((agent.public_key.len(), secret.reveal().len()), (43, 43));
    let source = datasource_create(&estate, &ctx, full(), vec![agent.id]).await.unwrap();
    let seen = agent_get(&estate, &ctx, &agent.public_key).await.unwrap();
    assert_eq!((seen.name.as_str(), seen.enabled, seen.datasources), ("edge", true, vec![source.id]));
    let after = agent_update(&estate, &ctx, &agent.public_key, enabled(false)).await.unwrap();
    assert!(!after.enabled && !all_agents(&estate, &ctx).await.unwrap()[0].enabled);
    let error = agent_create(&estate, &ctx, named(" ")).await.unwrap_err();
    assert_eq!((error.kind, error.faults[0].field.as_str()), (ErrorKind::Invalid, "name"));
    assert_eq!(agent_get(&estate, &ctx, "unknown").await.unwrap_err().kind, ErrorKind::NotFound);
    let view = caller(&estate, None, &[Permission::new(Noun::DATASOURCE, Action::VIEW)]).await;
    let refused = agent_update(&estate, &view, &agent.public_key, enabled(true)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Forbidden);
}

fn named(name: &str) -> AgentChange {
    AgentChange { name: Some(name.to_owned()), enabled: None }
}

fn enabled(enabled: bool) -> AgentChange {
    AgentChange { name: None, enabled: Some(enabled) }
}
