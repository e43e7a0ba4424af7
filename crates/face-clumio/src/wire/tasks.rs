//! A run as a task.

use landreeve_core::{Category, Error, Result, RunState};
use landreeve_estate::ops::Run;
use landreeve_http::body::{NullIs, Rules, Unknown, json_object, read_object};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::link::{Base, Link};
use super::list::{ListQuery, words};
use super::time;

#[derive(Debug, Serialize, ToSchema)]
pub struct TaskBody {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    category: &'static str,
    genre: &'static str,
    /// `queued`, `in_progress`, `aborting`, `completed`, `failed` or `aborted`.
    status: &'static str,
    progress_percentage: u8,
    is_abortable: bool,
    primary_entity: Option<Entity>,
    parent_entity: Option<Entity>,
    created_timestamp: String,
    start_timestamp: Option<String>,
    end_timestamp: Option<String>,
    #[serde(rename = "_links")]
    links: TaskLinks,
}

#[derive(Debug, Serialize, ToSchema)]
struct Entity {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    value: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TaskLinks {
    #[serde(rename = "_self")]
    own: Link,
    #[serde(rename = "update-task", skip_serializing_if = "Option::is_none")]
    update: Option<Link>,
}

/// What can be changed on a task.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TaskUpdate {
    /// The only supported change.
    #[schema(pattern = "^(aborting)$")]
    #[expect(dead_code, reason = "only documents the body; `read_abort` parses it and collects all faults")]
    status: String,
}

impl TaskBody {
    pub fn new(base: &Base, run: &Run, category: Category) -> TaskBody {
        let href = format!("/tasks/{}", run.id);
        let (category, genre) = class(category);
        let update = run.is_cancellable().then(|| base.link("patch", &href));
        let entity =
            |(kind, id): &(String, i64)| Entity { id: id.to_string(), kind: kind.clone(), value: None };
        TaskBody {
            id: run.id.to_string(),
            kind: run.kind.as_str(),
            category,
            genre,
            status: status(run.state),
            progress_percentage: run.progress,
            is_abortable: run.is_cancellable(),
            primary_entity: run.noun.as_ref().map(entity),
            parent_entity: None,
            created_timestamp: time(run.submitted_at),
            start_timestamp: run.started_at.map(time),
            end_timestamp: run.finished_at.map(time),
            links: TaskLinks { own: base.get(&href), update },
        }
    }
}

/// Category and genre.
fn class(category: Category) -> (&'static str, &'static str) {
    match category {
        Category::Query | Category::Report => ("report_generation", "administrative"),
        Category::Backup => ("backup", "operational"),
        Category::Restore => ("restore", "operational"),
        Category::Job | Category::Deployment => ("management", "administrative"),
        Category::System => ("system", "administrative"),
    }
}

fn status(state: RunState) -> &'static str {
    match state {
        RunState::Held | RunState::Queued | RunState::Starting => "queued",
        RunState::Running => "in_progress",
        RunState::Cancelling => "aborting",
        RunState::Succeeded | RunState::Expired => "completed",
        RunState::Failed | RunState::TimedOut | RunState::Lost => "failed",
        RunState::Cancelled => "aborted",
    }
}

/// The states that the list's filter selects; empty for all states.
pub fn states(asked: &ListQuery) -> Result<Vec<RunState>> {
    let Some(condition) = asked.filters(&["status"])?.get("status") else { return Ok(Vec::new()) };
    let wanted = words("status", condition)?;
    if let Some(unknown) =
        wanted.iter().find(|word| !RunState::ALL.iter().any(|state| status(*state) == **word))
    {
        let message = format!(
            "cannot be {unknown:?}; it must be one of queued, in_progress, aborting, completed, failed, aborted"
        );
        return Err(Error::fault("filter.status", "enum", message));
    }
    Ok(RunState::ALL.into_iter().filter(|state| wanted.iter().any(|word| word == status(*state))).collect())
}

/// Checks that an update requests the only supported change.
pub fn read_abort(body: &[u8]) -> Result<()> {
    let rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };
    read_object(&json_object(body)?, "", rules, |body| {
        body.required("status", |field| field.choice(&[("aborting", ())]));
    })
}
