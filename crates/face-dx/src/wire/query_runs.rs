//! A run, shown as a query run.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::header::RETRY_AFTER;
use landreeve_core::{RunState, clock};
use landreeve_delivery::queries::DATA_QUERY;
use landreeve_estate::ops::{Estate, Run};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::link::Link;
use super::time::seconds;

/// The arguments of a method about one query run.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Which {
    #[schema(min_length = 1)]
    #[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
    id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct QueryRunBody {
    ok: bool,
    query_run: QueryRun,
}

#[derive(Debug, Serialize, ToSchema)]
struct QueryRun {
    /// Twelve lowercase letters and digits.
    id: String,
    /// `queued`, `running`, `succeeded`, `failed` or `expired`.
    status: &'static str,
    submitted_at: String,
    finished_at: Option<String>,
    /// When its data is deleted.
    expires_at: Option<String>,
    info_url: String,
    /// Address of the rows, once the run has succeeded.
    results_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<QueryRunError>,
}

#[derive(Debug, Serialize, ToSchema)]
struct QueryRunError {
    code: String,
    message: String,
}

/// The parts from which a query run is shown.
pub struct Shown<'a> {
    pub estate: &'a Estate,
    pub link: &'a Link,
    pub run: &'a Run,
}

impl Shown<'_> {
    pub fn response(&self) -> Response {
        let body = Json(self.body());
        if self.run.state.is_final() {
            return body.into_response();
        }
        ([(RETRY_AFTER, "1")], body).into_response()
    }

    pub fn body(&self) -> QueryRunBody {
        QueryRunBody { ok: true, query_run: self.query_run() }
    }

    fn id(&self) -> String {
        self.estate.hash_ids().encode_plain(self.run.id)
    }

    /// Address of the status.
    pub fn info_url(&self) -> String {
        self.link.to(&format!("studio.queryRuns.info?id={}", self.id()))
    }

    fn query_run(&self) -> QueryRun {
        let run = self.run;
        let id = self.id();
        let expires = run.finished_at.filter(|_| run.state.is_final()).map(|finished| {
            let kept = i64::try_from(run.keep_data.as_micros()).unwrap_or(i64::MAX);
            clock::from_micros(finished.as_microsecond().saturating_add(kept))
        });
        let state = if run.data_expired(self.estate.now()) { RunState::Expired } else { run.state };
        QueryRun {
            status: status(state),
            submitted_at: seconds(run.submitted_at),
            finished_at: run.finished_at.map(seconds),
            expires_at: expires.map(seconds),
            info_url: self.info_url(),
            results_url: (run.kind == DATA_QUERY.kind)
                .then(|| self.link.to(&format!("studio.queryRuns.results?id={id}"))),
            error: failure(run),
            id,
        }
    }
}

/// The engine's code for a value that is larger than its bound.
const TOO_LARGE: &str = "too_large";

fn failure(run: &Run) -> Option<QueryRunError> {
    let error = run.error.as_ref()?;
    // A value over a bound has a code of its own; other codes of the engine are not part of the API.
    let too_large = error.source_code.as_deref().filter(|code| *code == TOO_LARGE);
    let code = too_large.map_or_else(|| error.code.clone(), str::to_owned);
    Some(QueryRunError { code, message: error.message.clone() })
}

fn status(state: RunState) -> &'static str {
    match state {
        RunState::Held | RunState::Queued | RunState::Starting => "queued",
        RunState::Running | RunState::Cancelling => "running",
        RunState::Succeeded => "succeeded",
        RunState::Failed | RunState::Cancelled | RunState::TimedOut | RunState::Lost => "failed",
        RunState::Expired => "expired",
    }
}
