//! State shared by the handlers of this face.

use std::sync::Arc;

use axum::extract::FromRef;
use landreeve_delivery::Delivery;
use landreeve_estate::ops::Estate;
use landreeve_http::rate::RateLimit;

/// The plane, and the rate limits: Web API requests per account, and status requests per query run.
#[derive(Clone)]
pub struct App {
    pub plane: Delivery,
    pub limit: Arc<RateLimit>,
    pub polls: Arc<RateLimit>,
}

impl FromRef<App> for Delivery {
    fn from_ref(app: &App) -> Delivery {
        app.plane.clone()
    }
}

impl FromRef<App> for Estate {
    fn from_ref(app: &App) -> Estate {
        app.plane.estate().clone()
    }
}
