//! A restore, and the answer of an operation that starts a task.

use landreeve_core::{Input, Result};
use landreeve_http::body::{json_object, read_input};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::backups::RULES;
use super::is_nothing;
use super::link::{Base, Links};
use super::tasks::TaskBody;

/// The task that an operation has started.
#[derive(Debug, Serialize, ToSchema)]
pub struct StartedBody {
    task_id: String,
    /// With `embed=read-task`.
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<EmbeddedTask>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EmbeddedTask {
    #[serde(rename = "read-task")]
    task: TaskBody,
}

impl EmbeddedTask {
    pub fn new(task: TaskBody) -> EmbeddedTask {
        EmbeddedTask { task }
    }
}

impl StartedBody {
    /// Method and path: where the request was sent to.
    pub fn new(
        base: &Base,
        (method, path): (&str, &str),
        task: i64,
        embedded: Option<TaskBody>,
    ) -> StartedBody {
        let links = Links::new(base.link(method, path))
            .and(true, "read-task", || base.get(&format!("/tasks/{task}")));
        let embedded = embedded.map(EmbeddedTask::new);
        StartedBody { task_id: task.to_string(), embedded, links }
    }
}

/// What to restore, and where to.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RestoreRequest {
    #[expect(
        dead_code,
        reason = "only documents the body; `read_restore` parses it and collects all faults"
    )]
    source: RestoreSource,
    #[expect(
        dead_code,
        reason = "only documents the body; `read_restore` parses it and collects all faults"
    )]
    target: RestoreTarget,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct RestoreSource {
    #[expect(
        dead_code,
        reason = "only documents the body; `read_restore` parses it and collects all faults"
    )]
    backup: RestoreBackup,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct RestoreBackup {
    #[expect(
        dead_code,
        reason = "only documents the body; `read_restore` parses it and collects all faults"
    )]
    backup_id: String,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct RestoreTarget {
    /// The server. Without it, that of the backup.
    #[expect(
        dead_code,
        reason = "only documents the body; `read_restore` parses it and collects all faults"
    )]
    environment_id: Option<String>,
    /// The new database, or the path of a new SQLite file.
    #[expect(
        dead_code,
        reason = "only documents the body; `read_restore` parses it and collects all faults"
    )]
    name: String,
}

/// Members that say how a machine of Amazon is set up. They have no effect.
const WITHOUT_EFFECT: [&str; 7] = [
    "instance_class",
    "is_publicly_accessible",
    "kms_key_native_id",
    "option_group_name",
    "parameter_group_name",
    "security_group_native_ids",
    "subnet_group_name",
];

/// A restore as stated. Nothing has been looked up yet.
#[derive(Debug, Default)]
pub struct Stated {
    pub backup: String,
    pub environment: Option<String>,
    pub name: String,
}

pub fn read_restore(body: &[u8]) -> Result<Input<Stated>> {
    let body = json_object(body)?;
    Ok(read_input(&body, RULES, |body| {
        let backup = body.required("source", |field| {
            field.object(|source| {
                if source.raw("snapshot").is_some_and(|snapshot| !is_nothing(snapshot)) {
                    let message = "is not available; use source.backup";
                    source.fault("snapshot", "not_available", message);
                }
                source.required("backup", |field| {
                    field.object(|backup| backup.required("backup_id", |field| field.text(0..=255)))
                })
            })
        });
        let (environment, name) = body.required("target", |field| {
            field.object(|target| {
                target.ignore(&WITHOUT_EFFECT);
                target.ignore(&["tags"]);
                let environment = target.optional("environment_id", |field| field.text(0..=255)).value();
                let name = target.required("name", |field| field.text(1..=4_096));
                (environment.filter(|text| !text.is_empty()), name)
            })
        });
        Stated { backup, environment, name }
    }))
}

/// The request's name of a field of the plane.
pub fn restore_field(name: &str) -> String {
    match name {
        "to" => "target.environment_id".to_owned(),
        "database" => "target.name".to_owned(),
        other => other.to_owned(),
    }
}
