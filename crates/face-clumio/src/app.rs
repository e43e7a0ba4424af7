//! What the handlers work with.

use axum::extract::FromRef;
use landreeve_estate::ops::Estate;
use landreeve_protection::Protection;

use crate::discovery::Operations;
use crate::rate::Limit;

#[derive(Clone)]
pub struct App {
    pub estate: Estate,
    pub protection: Protection,
    pub operations: Operations,
    pub limit: Limit,
}

impl FromRef<App> for Estate {
    fn from_ref(app: &App) -> Estate {
        app.estate.clone()
    }
}

impl FromRef<App> for Protection {
    fn from_ref(app: &App) -> Protection {
        app.protection.clone()
    }
}

impl FromRef<App> for Operations {
    fn from_ref(app: &App) -> Operations {
        app.operations.clone()
    }
}

impl FromRef<App> for Limit {
    fn from_ref(app: &App) -> Limit {
        app.limit.clone()
    }
}
