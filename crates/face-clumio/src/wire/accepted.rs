//! What a write answers whose work a task does.

use landreeve_estate::ops::Run;
use serde::Serialize;
use utoipa::ToSchema;

use super::link::{Base, Link};

/// The task that does the work.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskAccepted {
    task_id: String,
    #[serde(rename = "_links")]
    links: AcceptedLinks,
}

#[derive(Debug, Serialize, ToSchema)]
struct AcceptedLinks {
    #[serde(rename = "_self")]
    own: Link,
    #[serde(rename = "read-task")]
    task: Link,
}

impl TaskAccepted {
    /// `own`: the method and path of the write.
    pub fn new(base: &Base, run: &Run, (method, path): (&str, &str)) -> TaskAccepted {
        let task = base.get(&format!("/tasks/{}", run.id));
        TaskAccepted {
            task_id: run.id.to_string(),
            links: AcceptedLinks { own: base.link(method, path), task },
        }
    }
}
