//! Backups after deployments, with real git, on both metadata stores.

use std::path::PathBuf;
use std::process::Command;

use landreeve_core::{Input, RunState};
use landreeve_promotion::configuration::{Configuration, configuration_put};
use landreeve_promotion::deployments::{Progress, Shown, State, Task, TaskState};
use landreeve_promotion::properties::{NewProperty, Parent, property_put};
use landreeve_testkit::Kit;

use crate::deployments::{FIRST, SECOND, Stage, crashed, on_both_stores};

on_both_stores! {
    every_deployment_commits_what_the_first_server_has
    a_backup_that_fails_is_a_warning
    an_interrupted_deployment_is_backed_up_too
    secrets_are_not_committed
}

fn repository(stage: &Stage) -> PathBuf {
    stage.kit.path("backups")
}

/// What git says about the repository.
fn git(stage: &Stage, arguments: &[&str]) -> String {
    let said = Command::new("git").current_dir(repository(stage)).args(arguments).output().unwrap();
    assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
}

fn with_backup() -> Configuration {
    Configuration { backup_enabled: true, ..Configuration::default() }
}

fn backup(ended: &Progress) -> &Task {
    ended.tasks.iter().find(|task| task.kind == "BACKUP").unwrap()
}

async fn every_deployment_commits_what_the_first_server_has(stage: &Stage) {
    let environment = stage.servers("Production 1", &["s1", "s2"]).await;
    stage.configure(environment, with_backup()).await;
    stage.property(environment, "databases.d.x", "x").await;
    let (first, second) = (stage.revision("First", FIRST).await, stage.revision("Second", SECOND).await);
    stage.kit.start_planes().await;
    let run = stage.start(environment, &[first]).await;
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Ok), "{ended:#?}");
    let task = ended.tasks.last().unwrap();
    assert_eq!(
        (task.kind.as_str(), task.name.as_str(), task.state),
        ("BACKUP", "Backup of s1", TaskState::Ok)
    );
    let commit = git(stage, &["rev-parse", "--short=12", "HEAD"]);
    assert_eq!(task.output, format!(" - committed Production 1/s1.vql as {commit}"));
    let message = format!(
        "operator|Deployment {} to Production 1: ok\n\nServer: s1\nUser: operator\nRevisions: First",
        run.id
    );
    assert_eq!(git(stage, &["log", "-1", "--format=%an|%B"]), message);
    let text = git(stage, &["show", "HEAD:Production 1/s1.vql"]);
    assert!(text.contains("CREATE OR REPLACE INTERFACE VIEW i"), "{text}");

    // Nothing changed.
    let again = stage.start(environment, &[first]).await;
    let ended = stage.ended(&again).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Ok));
    assert_eq!(backup(&ended).output, " - Production 1/s1.vql is unchanged since its last commit");
    assert_eq!(git(stage, &["rev-list", "--count", "HEAD"]), "1");

    // A failure is backed up after it was undone: with what was applied to the server otherwise.
    stage.apply("s1", "CONNECT DATABASE d; CREATE VIEW by_hand AS SELECT id FROM i").await;
    stage.apply("s2", "CONNECT DATABASE d; CREATE VIEW v AS SELECT id FROM i").await;
    let failed = stage.start(environment, &[second]).await;
    let ended = stage.ended(&failed).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Error));
    assert_eq!(backup(&ended).state, TaskState::Ok, "{ended:#?}");
    assert_eq!(git(stage, &["rev-list", "--count", "HEAD"]), "2");
    let text = git(stage, &["show", "HEAD:Production 1/s1.vql"]);
    assert!(text.contains("by_hand") && !text.contains("VIEW v "), "{text}");
    assert!(git(stage, &["log", "-1", "--format=%s"]).ends_with(": error"));
}

async fn a_backup_that_fails_is_a_warning(stage: &Stage) {
    let environment = stage.servers("production", &["s1", "s2"]).await;
    stage.configure(environment, with_backup()).await;
    std::fs::create_dir(repository(stage)).unwrap();
    std::fs::write(repository(stage).join("file"), "not a repository").unwrap();
    let first = [stage.revision("First", FIRST).await];
    stage.kit.start_planes().await;
    let run = stage.start(environment, &first).await;
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Warning), "{ended:#?}");
    assert_eq!(ended.deployment.message, "the backup failed");
    let task = backup(&ended);
    assert_eq!(task.state, TaskState::Warning);
    assert!(task.output.starts_with(" - git add ended with 128: "), "{}", task.output);
    assert_eq!((stage.version("s1").await, stage.version("s2").await), (1, 1), "it is deployed");
    assert_eq!(stage.kit.run(&run).await.state, RunState::Succeeded);
    // A deployment that fails stays an error.
    stage.property(environment, "databases.d.x", "x").await;
    stage.apply("s2", "CONNECT DATABASE d; CREATE VIEW v AS SELECT id FROM i").await;
    let failed = stage.start(environment, &[stage.revision("Second", SECOND).await]).await;
    let ended = stage.ended(&failed).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Error));
    assert!(ended.deployment.message.ends_with("rolled back: s1; the backup failed"), "{ended:#?}");
}

async fn an_interrupted_deployment_is_backed_up_too(stage: &Stage) {
    let run = crashed(stage, true, with_backup()).await;
    stage.kit.start_planes().await;
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Error));
    assert_eq!(ended.tasks.last().unwrap().kind, "RECOVERY");
    let text = git(stage, &["show", "HEAD:production/s1.vql"]);
    assert!(!text.contains("VIEW i"), "it was undone before: {text}");
}

async fn secrets_are_not_committed(stage: &Stage) {
    const SECRET: &str = "databases.d.datasources.jdbc.s.USERPASSWORD";
    const ADDRESS: &str = "databases.d.datasources.jdbc.s.DATABASEURI";
    let environment = stage.servers("production", &["s1"]).await;
    stage.configure(environment, with_backup()).await;
    for (name, value) in [(SECRET, "generated-secret"), (ADDRESS, "jdbc:postgresql://127.0.0.1:1/x")] {
        let new = NewProperty { name: name.to_owned(), value: value.to_owned(), undefined: false };
        let parent = Parent::Environment(environment);
        property_put(&stage.plane, &stage.ctx, parent, Input::of(vec![new])).await.unwrap();
    }
    let source = format!(
        "CREATE DATABASE d; CONNECT DATABASE d; CREATE DATASOURCE JDBC s DATABASEURI = '${{{ADDRESS}}}' USERNAME = 'u' \
         USERPASSWORD = '${{{SECRET}}}'"
    );
    let revision = stage.revision("source", &source).await;
    stage.kit.start_planes().await;
    let run = stage.start(environment, &[revision]).await;
    let ended = stage.ended(&run).await;
    assert_eq!(backup(&ended).state, TaskState::Ok, "{ended:#?}");
    let text = git(stage, &["show", "HEAD:production/s1.vql"]);
    assert!(text.contains(&format!("${{{SECRET}}}")) && text.contains(&format!("${{{ADDRESS}}}")), "{text}");
    assert!(!git(stage, &["log", "-p"]).contains("generated-secret"));
}

/// Without a repository, an environment cannot have backups.
#[tokio::test]
async fn a_backup_needs_a_repository() {
    let stage = Stage::new(Kit::new().await).await;
    let environment = stage.servers("production", &["s1"]).await;
    stage.configure(environment, with_backup()).await;
    let first = [stage.revision("First", FIRST).await];
    // The same store, in a server with another configuration.
    let plane = landreeve_promotion::Promotion::new(
        stage.kit.estate.clone(),
        stage.kit.engine(),
        landreeve_testkit::files(),
        true,
        landreeve_promotion::PromotionOptions::default(),
    );
    let error =
        configuration_put(&plane, &stage.ctx, environment, Input::of(with_backup())).await.unwrap_err();
    assert_eq!(error.faults[0].field, "backup_enabled");
    let stage = Stage { plane, ..stage };
    let error = stage.try_start(&stage.ctx, environment, &first).await.unwrap_err();
    assert_eq!(error.message, "backupEnabled needs a repository: set [promotion] git_repository");
}
