//! A run as a task.

use jiff::{SignedDuration, Timestamp};
use landreeve_core::ids::RunId;
use landreeve_core::{Category, Result, RunKind, RunState};
use landreeve_estate::ops::{Range, Run, RunFilter};
use landreeve_http::body::{NullIs, Rules, Unknown, json_object, read_object};
use landreeve_http::extract::decimal;
use landreeve_protection::subjects::{Sort, Subject, SubjectFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Conditions, Kind, Op, Rule};
use super::link::{Base, Link};
use super::{RESOURCE_TYPE, time};

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
    /// `may_change`: whether the caller may abort it.
    pub fn new(base: &Base, run: &Run, category: Category, about: About, may_change: bool) -> TaskBody {
        let href = format!("/tasks/{}", run.id);
        let (category, genre) = class(category);
        let update = (may_change && run.is_cancellable()).then(|| base.link("patch", &href));
        let number =
            |(kind, id): &(String, i64)| Entity { id: id.to_string(), kind: kind.clone(), value: None };
        let database = about.subject.as_ref().filter(|subject| subject.sort == Sort::Database);
        TaskBody {
            id: run.id.to_string(),
            kind: kind(run.kind, about.is_first),
            category,
            genre,
            status: status(run.state),
            progress_percentage: run.progress,
            is_abortable: run.is_cancellable(),
            parent_entity: database.map(|subject| Entity::new(subject, "aws_environment")),
            primary_entity: match &about.subject {
                Some(subject) => Some(Entity::new(subject, entity_kind(subject.sort))),
                None => run.noun.as_ref().map(number),
            },
            created_timestamp: time(run.submitted_at),
            start_timestamp: run.started_at.map(time),
            end_timestamp: run.finished_at.map(time),
            links: TaskLinks { own: base.get(&href), update },
        }
    }
}

/// What only the plane knows of a run.
#[derive(Debug, Default)]
pub struct About {
    pub subject: Option<Subject>,
    /// The first backup of a database in its repository.
    pub is_first: bool,
}

impl Entity {
    fn new(subject: &Subject, kind: &str) -> Entity {
        Entity { id: subject.id.clone(), kind: kind.to_owned(), value: Some(subject.name.clone()) }
    }
}

pub fn entity_kind(sort: Sort) -> &'static str {
    match sort {
        Sort::Database => RESOURCE_TYPE,
        Sort::Policy => "policy",
        Sort::Repository => "repository",
        Sort::Unit => "organizational_unit",
        Sort::User => "user",
        Sort::Role => "role",
        Sort::Key => "api_token",
        Sort::Alert => "individual_alert",
    }
}

/// Kinds of runs that have another name here; for backups, whether they are the first.
const KINDS: [(&str, Option<bool>, &str); 4] = [
    ("backup", Some(true), "aws_rds_resource_backup_seeding"),
    ("backup", Some(false), "aws_rds_resource_incremental_backup"),
    ("restore", None, "aws_rds_resource_restore"),
    ("record_restore", None, "aws_rds_record_restore"),
];

fn kind(kind: RunKind, is_first: bool) -> &'static str {
    let known = KINDS
        .iter()
        .find(|(own, first, _)| *own == kind.as_str() && first.is_none_or(|first| first == is_first));
    known.map_or(kind.as_str(), |known| known.2)
}

pub const FILTER: [Rule; 8] = [
    Rule::text("primary_entity.value", &[Op::Contains]),
    Rule::text("primary_entity.id", &[Op::Contains]),
    Rule { field: "created_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule::text("type", &[Op::In]),
    Rule { field: "category", ops: &[Op::In], kind: Kind::Word(&CATEGORIES) },
    Rule { field: "genre", ops: &[Op::In], kind: Kind::Word(&["operational", "administrative"]) },
    // `$eq` is ours.
    Rule { field: "status", ops: &[Op::In, Op::Eq], kind: Kind::Word(&STATUSES) },
    Rule::text("id", &[Op::In]),
];

const CATEGORIES: [&str; 7] =
    ["backup", "restore", "snapshot", "snapshot_restore", "system", "report_generation", "management"];
const STATUSES: [&str; 6] = ["queued", "in_progress", "aborting", "completed", "failed", "aborted"];

/// What the filter selects, from the kinds of runs that there are.
pub fn filter(asked: &Conditions, kinds: impl Iterator<Item = (RunKind, Category)>) -> RunFilter {
    let text = |field: &str| asked.text(field, Op::Contains).map(str::to_owned);
    let subject = SubjectFilter {
        id: text("primary_entity.id"),
        name: text("primary_entity.value"),
        kinds: kinds_of(asked, kinds),
    };
    let after = |time: Timestamp| time.checked_add(SignedDuration::from_micros(1)).ok();
    let ids = asked.texts("id", Op::In);
    // An id that is not a number is of no task.
    let id = |text: &str| decimal(text, "task").ok().map(RunId);
    RunFilter {
        states: states(asked),
        submitted: Range::new(
            asked.time("created_timestamp", Op::Gte),
            asked.time("created_timestamp", Op::Lte).and_then(after),
        ),
        ids: ids.map(|ids| ids.into_iter().filter_map(id).collect()),
        narrow: Some(subject.narrow()),
        ..RunFilter::default()
    }
}

/// `None`: all.
fn kinds_of(
    asked: &Conditions,
    kinds: impl Iterator<Item = (RunKind, Category)>,
) -> Option<Vec<(RunKind, Option<bool>)>> {
    let [types, categories, genres] = ["type", "category", "genre"].map(|field| asked.texts(field, Op::In));
    if types.is_none() && categories.is_none() && genres.is_none() {
        return None;
    }
    let allows =
        |wanted: &Option<Vec<&str>>, word: &str| wanted.as_ref().is_none_or(|all| all.contains(&word));
    let mut chosen = Vec::new();
    for (own, category) in kinds {
        let (category, genre) = class(category);
        if !(allows(&categories, category) && allows(&genres, genre)) {
            continue;
        }
        let shapes: Vec<_> =
            KINDS.iter().filter(|known| known.0 == own.as_str()).map(|known| known.1).collect();
        let shapes = if shapes.is_empty() { vec![None] } else { shapes };
        let named = shapes.into_iter().filter(|first| allows(&types, kind(own, *first == Some(true))));
        chosen.extend(named.map(|first| (own, first)));
    }
    Some(chosen)
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
fn states(asked: &Conditions) -> Vec<RunState> {
    let words = asked.texts("status", Op::In).or_else(|| asked.texts("status", Op::Eq)).unwrap_or_default();
    RunState::ALL.into_iter().filter(|state| words.contains(&status(*state))).collect()
}

/// Checks that an update requests the only supported change.
pub fn read_abort(body: &[u8]) -> Result<()> {
    let rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };
    read_object(&json_object(body)?, "", rules, |body| {
        body.required("status", |field| field.choice(&[("aborting", ())]));
    })
}
