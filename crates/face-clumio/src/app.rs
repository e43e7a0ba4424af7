//! What the handlers work with.

use axum::extract::FromRef;
use landreeve_estate::ops::Estate;
use landreeve_protection::Protection;

#[derive(Clone)]
pub struct App {
    pub estate: Estate,
    pub protection: Protection,
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
