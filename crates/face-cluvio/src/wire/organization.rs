//! The organization's settings: plain JSON.

use landreeve_core::{Given, Input, Result};
use landreeve_estate::ops::Settings;
use serde::Serialize;
use utoipa::ToSchema;

use crate::input::plain_change;

/// The settings shown in this dialect, by their names in the estate.
const MEMBERS: [&str; 3] = ["time_zone", "week_start", "csv_separator"];

#[derive(Debug, Serialize, ToSchema)]
pub struct Organization {
    #[schema(example = "Europe/Berlin")]
    pub time_zone: String,
    /// `monday` or `sunday`.
    #[schema(example = "monday")]
    pub week_start: &'static str,
    /// `comma`, `semicolon` or `tab`.
    #[schema(example = "comma")]
    pub csv_separator: &'static str,
}

/// The settings that can be changed, for the reference.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrganizationUpdate {
    /// An IANA name.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    #[schema(example = "monday", pattern = "^(monday|sunday)$")]
    week_start: Option<String>,
    #[schema(example = "comma", pattern = "^(comma|semicolon|tab)$")]
    csv_separator: Option<String>,
}

pub fn render(settings: &Settings) -> Organization {
    Organization {
        time_zone: settings.time_zone.clone(),
        week_start: settings.week_start.as_str(),
        csv_separator: settings.csv_separator.as_str(),
    }
}

/// Names of settings with their new values; null restores the default.
pub fn read(body: &[u8]) -> Result<Input<Vec<(String, String)>>> {
    let defaults = Settings::default();
    let read = plain_change(body, |fields| {
        let mut changes = Vec::new();
        for name in MEMBERS {
            match fields.optional(name, |field| field.text(0..=255)) {
                Given::Absent => {}
                Given::Null => changes.extend(defaults.get(name).map(|value| (name.to_owned(), value))),
                Given::Value(value) => changes.push((name.to_owned(), value)),
            }
        }
        changes
    })?;
    Ok(read.named(|field| format!("/{field}")))
}
