//! Three endpoints for monitoring: liveness, readiness and metrics.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;
use tokio::time::timeout;

const PROBE_TIME: Duration = Duration::from_secs(5);

/// One thing that must work for the server to be ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    /// The message is public, so it must not contain addresses or credentials.
    pub result: Result<(), String>,
}

/// Checks everything that readiness needs. Called for each request, so keep it cheap.
pub type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Check>> + Send>> + Send + Sync>;

/// Renders the metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes(probe: Probe, metrics: RenderMetrics) -> Router {
    let alive = || async { ([(CACHE_CONTROL, "no-store")], "ok\n") };
    let numbers =
        move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics()) };
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(move || ready(probe)))
        .route("/metrics", get(numbers))
}

async fn ready(probe: Probe) -> Response {
    let checks = timeout(PROBE_TIME, probe()).await.unwrap_or_else(|_| {
        let result = Err(format!("no response within {} seconds", PROBE_TIME.as_secs()));
        vec![Check { name: "probe", result }]
    });
    let ready = checks.iter().all(|check| check.result.is_ok());
    let checks: Vec<_> = checks
        .into_iter()
        .map(|check| match check.result {
            Ok(()) => json!({ "name": check.name, "status": "ok" }),
            Err(message) => json!({ "name": check.name, "status": "failed", "message": message }),
        })
        .collect();
    let (status, word) =
        if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    let body = json!({ "status": word, "checks": checks }).to_string();
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt as _;

    async fn answer(path: &str, result: Result<(), String>) -> (StatusCode, String) {
        let probe: Probe = Arc::new(move || {
            let result = result.clone();
            Box::pin(async move { vec![Check { name: "store", result }] })
        });
        let router = routes(probe, Arc::new(|| "up 1\n".to_owned()));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn liveness_does_not_depend_on_readiness() {
        assert_eq!(answer("/healthz", Err("down".into())).await, (StatusCode::OK, "ok\n".into()));
        assert_eq!(answer("/metrics", Ok(())).await, (StatusCode::OK, "up 1\n".into()));
        let (status, body) = answer("/readyz", Ok(())).await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::OK, r#"{"status":"ready","checks":[{"name":"store","status":"ok"}]}"#,)
        );
        let (status, body) = answer("/readyz", Err("down".into())).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""message":"down""#));
    }
}
