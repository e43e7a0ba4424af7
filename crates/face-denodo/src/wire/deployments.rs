//! Deployments on the wire. A run that only proves that runs work is shown as a deployment with one task.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::Timestamp;
use landreeve_core::{Error, Input, PageOf, Result, RunState};
use landreeve_estate::ops::Run;
use landreeve_http::body::Field;
use landreeve_promotion::deployments::drift::Drift as Drifted;
use landreeve_promotion::deployments::{
    self, Listed, MAX_DESCRIPTION, MAX_REVISIONS, NewDeployment, ServerPlan, Shown, State, TaskState,
    Validation,
};
use landreeve_promotion::ids::{EnvironmentId, RevisionId};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ErrorBody;
use super::input;
use super::node::{Change, InvalidView};
use super::time::millis;

pub const OK: &str = "OK";
pub const ERROR: &str = "ERROR";
pub const IN_PROGRESS: &str = "IN_PROGRESS";

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentList {
    start: u64,
    count: u32,
    /// Number of deployments in all pages.
    num_elements: u64,
    deployments: Vec<Deployment>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Deployment {
    id: i64,
    user: String,
    deployment_time: String,
    description: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_environment: Option<Named>,
    revisions: Vec<DeployedRevision>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Named {
    id: i64,
    name: String,
}

impl From<deployments::Named> for Named {
    fn from((id, name): deployments::Named) -> Named {
        Named { id, name }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct DeployedRevision {
    id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    name: String,
}

impl DeploymentList {
    pub fn new(found: PageOf<Listed>, later: bool) -> DeploymentList {
        DeploymentList {
            start: found.offset,
            count: found.limit,
            num_elements: found.total,
            deployments: found.items.into_iter().map(|listed| Deployment::new(listed, later)).collect(),
        }
    }
}

impl Deployment {
    fn new(listed: Listed, later: bool) -> Deployment {
        match listed {
            Listed::Run { id, kind, user, state, submitted_at } => Deployment {
                id: id.0,
                user,
                deployment_time: millis(submitted_at),
                description: kind,
                state: run_state(state, later),
                target_environment: None,
                revisions: Vec::new(),
            },
            Listed::Deployment(found) => {
                let revision = |revision: deployments::DeployedRevision| DeployedRevision {
                    id: revision.id,
                    description: revision.description,
                    name: revision.name,
                };
                Deployment {
                    id: found.id.0,
                    user: found.user,
                    deployment_time: millis(found.created_at),
                    description: found.description,
                    state: state(found.state, later),
                    target_environment: Some(found.environment.into()),
                    revisions: found.revisions.into_iter().map(revision).collect(),
                }
            }
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    deployment_id: i64,
    state: &'static str,
    /// Percent.
    progress: u8,
    tasks: Vec<Task>,
    /// Why it failed, and what is where; an addition of this server.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Task {
    id: i64,
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_date: Option<String>,
    deployment_execution_type: String,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Named>,
}

impl Progress {
    pub fn new(found: deployments::Progress, later: bool) -> Progress {
        Progress {
            deployment_id: found.deployment.id.0,
            state: state(found.deployment.state, later),
            progress: found.percent,
            tasks: found.tasks.into_iter().map(|task| Task::new(task, later)).collect(),
            message: found.deployment.message,
        }
    }

    pub fn without_tasks(found: deployments::Deployment, later: bool) -> Progress {
        Progress {
            deployment_id: found.id.0,
            state: state(found.state, later),
            progress: 0,
            tasks: Vec::new(),
            message: found.message,
        }
    }

    /// `since`: only if it changed at that time or later.
    pub fn of_run(run: &Run, since: Option<Timestamp>, later: bool) -> Progress {
        let task = since.is_none_or(|since| run.updated_at >= since).then(|| Task::of_run(run, later));
        Progress {
            deployment_id: run.id.0,
            state: run_state(run.state, later),
            progress: if run.state.is_final() { 100 } else { run.progress.min(99) },
            tasks: task.into_iter().collect(),
            message: String::new(),
        }
    }
}

impl Task {
    fn new(task: deployments::Task, later: bool) -> Task {
        Task {
            id: task.id.0,
            name: task.name,
            state: task_state(task.state, later),
            start_date: task.started_at.map(millis),
            end_date: task.ended_at.map(millis),
            deployment_execution_type: task.kind,
            output: task.output,
            cluster: task.cluster.map(Named::from),
            server: task.server.map(Named::from),
        }
    }

    fn of_run(run: &Run, later: bool) -> Task {
        let said = run.error.as_ref().map_or(&run.progress_note, |error| &error.message);
        Task {
            id: run.id.0,
            name: "Probe".to_owned(),
            state: run_state(run.state, later),
            start_date: run.started_at.map(millis),
            end_date: run.finished_at.map(millis),
            deployment_execution_type: "PROBE".to_owned(),
            output: said.clone(),
            cluster: None,
            server: None,
        }
    }
}

/// `later`: with the states that only later versions of the dialect have.
fn state(state: Shown, later: bool) -> &'static str {
    match state {
        Shown::Held if later => "PENDING",
        Shown::Queued if later => "QUEUED",
        Shown::Held | Shown::Queued | Shown::InProgress | Shown::Ended(State::InProgress) => IN_PROGRESS,
        Shown::Ended(State::Warning) if later => "OK_WITH_WARNINGS",
        Shown::Ended(State::Ok | State::Warning) => OK,
        Shown::Ended(State::Cancelled) if later => "CANCELED",
        Shown::Ended(State::Error | State::Cancelled) => ERROR,
    }
}

/// A task that was skipped because its server is disabled is not a failure; one that a failure left out is.
fn task_state(state: TaskState, later: bool) -> &'static str {
    match state {
        TaskState::Pending if later => "PENDING",
        TaskState::Pending | TaskState::InProgress => IN_PROGRESS,
        TaskState::Skipped | TaskState::Disabled if later => "SKIPPED",
        TaskState::Warning if later => "WARNING",
        TaskState::Ok | TaskState::Warning | TaskState::Disabled => OK,
        TaskState::Error | TaskState::Skipped => ERROR,
    }
}

fn run_state(state: RunState, later: bool) -> &'static str {
    match state {
        RunState::Held if later => "PENDING",
        RunState::Queued if later => "QUEUED",
        RunState::Starting if later => "PENDING",
        RunState::Cancelled if later => "CANCELED",
        RunState::Held | RunState::Queued | RunState::Starting | RunState::Running | RunState::Cancelling => {
            IN_PROGRESS
        }
        RunState::Succeeded | RunState::Expired => OK,
        RunState::Failed | RunState::Cancelled | RunState::TimedOut | RunState::Lost => ERROR,
    }
}

/// The words for the state of a deployment.
pub fn words(later: bool) -> Vec<&'static str> {
    let mut words = Vec::new();
    for known in Shown::ALL {
        let word = state(known, later);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// The states of deployments and of runs that are shown as this word.
pub fn states(word: &str, later: bool) -> (Vec<Shown>, Vec<RunState>) {
    let own = Shown::ALL.into_iter().filter(|known| state(*known, later) == word);
    let runs = RunState::ALL.into_iter().filter(|known| run_state(*known, later) == word);
    (own.collect(), runs.collect())
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
pub struct DeploymentArguments {
    /// Executed in this order.
    #[schema(min_items = 1, max_items = 100)]
    revision_ids: Vec<i64>,
    environment_id: i64,
    #[schema(max_length = 4000)]
    description: Option<String>,
    /// Only say what would happen; an addition of this server.
    dry_run: Option<bool>,
}

/// The plane's field as a member.
fn member(field: &str) -> String {
    match field {
        "environment" => "environmentId".to_owned(),
        "revisions" => "revisionIds".to_owned(),
        other => input::camel(other),
    }
}

pub fn read(body: &[u8]) -> Result<Input<NewDeployment>> {
    input::read(body, member, |body| NewDeployment {
        environment: EnvironmentId(body.required("environmentId", |f| f.int(0..=i64::MAX))),
        revisions: body.required("revisionIds", |f| {
            f.list(MAX_REVISIONS, |item| item.int(0..=i64::MAX).map(RevisionId))
        }),
        description: body
            .optional("description", |f| f.text(0..=MAX_DESCRIPTION))
            .value()
            .unwrap_or_default(),
        dry_run: body.optional("dryRun", Field::bool).value().unwrap_or_default(),
    })
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body; `read_target` reads it")]
pub struct ValidationArguments {
    /// Default: `environmentId` of the query.
    environment_id: Option<i64>,
    /// Accepted without effect.
    #[schema(max_length = 4000)]
    description: Option<String>,
}

/// The environment that a revision is validated for, if the body names it.
pub fn read_target(body: &[u8]) -> Result<Option<EnvironmentId>> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let target = input::read(body, member, |body| {
        body.optional("description", |f| f.text(0..=MAX_DESCRIPTION));
        body.optional("environmentId", |f| f.int(0..=i64::MAX)).value().map(EnvironmentId)
    });
    target?.valid()
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartedBody {
    /// Of the deployment, if one was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_id: Option<i64>,
    /// Why none was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_response: Option<ValidationResponse>,
    /// What a deployment would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<PlanOfServer>>,
}

impl StartedBody {
    pub fn new(run: &Run) -> StartedBody {
        StartedBody { deployment_id: Some(run.id.0), validation_response: None, plan: None }
    }

    /// Nothing was started.
    pub fn validated(body: ValidationBody) -> StartedBody {
        let ValidationBody { validation_response, plan } = body;
        StartedBody { deployment_id: None, validation_response: Some(validation_response), plan }
    }
}

/// What prevents a deployment, or what it would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationBody {
    validation_response: ValidationResponse,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<PlanOfServer>>,
}

/// An error with the validation that failed too.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedBody {
    #[serde(flatten)]
    error: ErrorBody,
    validation_response: ValidationResponse,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ValidationResponse {
    validation: ValidationResult,
    /// Always empty: problems of scripts are errors.
    script_validations_result: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ValidationResult {
    result_vql_validation: &'static str,
    output_vql_validation: String,
    error_vql_validation: String,
    /// The properties without a value, with the value in the environment where the revision comes from.
    missing_vql_properties_with_server_values: BTreeMap<String, String>,
    result_sch_validation: &'static str,
    output_sch_validation: &'static str,
    error_sch_validation: &'static str,
    target_environment: TargetEnvironment,
    state: &'static str,
    message_result: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TargetEnvironment {
    id: i64,
    name: String,
    description: String,
    minimum_update_value: String,
    minimum_update_mandatory: bool,
    minimum_update_download_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_alias: Option<String>,
}

impl ValidationBody {
    pub fn new(validation: Validation, plan: Option<Vec<ServerPlan>>) -> ValidationBody {
        let validation_response = ValidationResponse::new(validation, plan.as_deref().unwrap_or_default());
        let plan = plan.map(|servers| servers.into_iter().map(PlanOfServer::new).collect());
        ValidationBody { validation_response, plan }
    }
}

impl RefusedBody {
    pub fn new(error: &Error, validation: Validation) -> RefusedBody {
        RefusedBody {
            error: ErrorBody::new(StatusCode::CONFLICT, error),
            validation_response: ValidationResponse::new(validation, &[]),
        }
    }
}

impl ValidationResponse {
    fn new(validation: Validation, plan: &[ServerPlan]) -> ValidationResponse {
        let (mut output, mut errors) = (String::new(), failing(plan));
        let missing = validation.problems.iter().any(|problems| !problems.missing.is_empty());
        let message = match (validation.is_ok(), errors.is_empty()) {
            (true, true) => "The properties of all revisions are defined in the environment.",
            (true, false) => "Statements of the revisions would fail on servers of the environment.",
            (false, _) if !missing => "Revisions have faults; nothing was deployed.",
            (false, _) => {
                "Properties of the revisions are missing in the environment or cannot be used; nothing was deployed."
            }
        };
        let word = if validation.is_ok() && errors.is_empty() { OK } else { ERROR };
        for problems in &validation.problems {
            if !problems.missing.is_empty() {
                output.push_str(&format!(
                    "Error validating revision '{}'.\n Missing VQL properties: \n{}\n\n",
                    problems.revision,
                    problems.missing.join("\n")
                ));
            }
            errors.extend(problems.faults.iter().map(|fault| format!("{}: {fault}", problems.revision)));
        }
        let environment = validation.environment;
        let validation = ValidationResult {
            result_vql_validation: word,
            output_vql_validation: output,
            error_vql_validation: errors.join("\n"),
            missing_vql_properties_with_server_values: validation.missing,
            result_sch_validation: OK,
            output_sch_validation: "",
            error_sch_validation: "",
            target_environment: TargetEnvironment {
                id: environment.id.0,
                name: environment.name,
                description: environment.description.unwrap_or_default(),
                minimum_update_value: environment.minimum_update.unwrap_or_default(),
                minimum_update_mandatory: environment.minimum_update_mandatory,
                minimum_update_download_url: environment.minimum_update_url.unwrap_or_default(),
                license_alias: environment.license_alias,
            },
            state: word,
            message_result: message,
        };
        ValidationResponse { validation, script_validations_result: Vec::new() }
    }
}

/// A line for each statement that would fail on a server.
fn failing(plan: &[ServerPlan]) -> Vec<String> {
    let on = |server: &ServerPlan| {
        let line = |failing: &deployments::Failing| {
            let place = format!("line {}, column {}", failing.line, failing.column);
            format!("{}: {}: {place}: {}", server.server, failing.revision, failing.message)
        };
        server.failing.iter().map(line).collect::<Vec<_>>()
    };
    plan.iter().flat_map(on).collect()
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanOfServer {
    server: String,
    /// Of the objects now, and after the deployment.
    from_hash: String,
    to_hash: String,
    changes: Vec<Change>,
    failing: Vec<Failing>,
    invalid: Vec<InvalidView>,
}

/// A statement that would fail.
#[derive(Debug, Serialize, ToSchema)]
struct Failing {
    revision: String,
    line: u32,
    column: u32,
    text: String,
    message: String,
}

impl PlanOfServer {
    fn new(plan: ServerPlan) -> PlanOfServer {
        let failing = |failing: deployments::Failing| Failing {
            revision: failing.revision,
            line: failing.line,
            column: failing.column,
            text: failing.text,
            message: failing.message,
        };
        PlanOfServer {
            server: plan.server,
            from_hash: plan.from_hash,
            to_hash: plan.to_hash,
            changes: plan.changes.into_iter().map(Change::new).collect(),
            failing: plan.failing.into_iter().map(failing).collect(),
            invalid: plan.invalid.into_iter().map(InvalidView::new).collect(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DriftList {
    servers: Vec<Drift>,
}

/// What others changed on a server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Drift {
    server: String,
    #[schema(pattern = "^(IN_SYNC|DRIFTED|NEVER_DEPLOYED|UNREACHABLE)$")]
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployed_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_hash: Option<String>,
    /// Absent if what was deployed is not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
}

impl DriftList {
    pub fn new(found: Vec<Drifted>) -> DriftList {
        let drift = |drift: Drifted| Drift {
            server: drift.server,
            state: drift.state.as_str(),
            deployed_hash: drift.deployed_hash,
            live_hash: drift.live_hash,
            changes: drift.changes.map(|changes| changes.into_iter().map(Change::new).collect()),
        };
        DriftList { servers: found.into_iter().map(drift).collect() }
    }
}
