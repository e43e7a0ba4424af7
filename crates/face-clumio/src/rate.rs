//! How many requests the whole dialect takes in a second.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use landreeve_estate::ops::Estate;
use landreeve_http::Failure;
use landreeve_http::rate::RateLimit;

#[derive(Clone)]
pub struct Limit {
    estate: Estate,
    limit: Arc<RateLimit>,
}

/// There is one organization here.
const ORGANIZATION: i64 = 0;

impl Limit {
    pub fn new(estate: Estate, requests_per_second: u32) -> Limit {
        Limit { estate, limit: Arc::new(RateLimit::new(requests_per_second, Duration::from_secs(1))) }
    }

    /// Counts the requests to these routes.
    pub fn guard(self, router: Router) -> Router {
        router.route_layer(from_fn_with_state(self, count))
    }
}

async fn count(State(Limit { estate, limit }): State<Limit>, request: Request, next: Next) -> Response {
    match limit.take(ORGANIZATION, estate.now()) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure(error).into_response(),
    }
}
