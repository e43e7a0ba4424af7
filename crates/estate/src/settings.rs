//! The estate's settings: few, typed, each with an effect. Does not belong here: a plane's configuration.

use jiff::tz::TimeZone;
use landreeve_core::error::Faults;
use landreeve_core::{Error, Result};

use crate::args;
use crate::store::{Conn, Tx};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For schedules, and for data without a more specific zone.
    pub time_zone: String,
    pub week_start: WeekStart,
    pub csv_separator: CsvSeparator,
    /// How long audit events are stored, in days.
    pub audit_days: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeekStart {
    Monday,
    Sunday,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsvSeparator {
    Comma,
    Semicolon,
    Tab,
}

impl WeekStart {
    pub const fn as_str(self) -> &'static str {
        match self {
            WeekStart::Monday => "monday",
            WeekStart::Sunday => "sunday",
        }
    }
}

impl CsvSeparator {
    pub const fn as_str(self) -> &'static str {
        match self {
            CsvSeparator::Comma => "comma",
            CsvSeparator::Semicolon => "semicolon",
            CsvSeparator::Tab => "tab",
        }
    }

    pub const fn byte(self) -> u8 {
        match self {
            CsvSeparator::Comma => b',',
            CsvSeparator::Semicolon => b';',
            CsvSeparator::Tab => b'\t',
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            time_zone: "UTC".to_owned(),
            week_start: WeekStart::Monday,
            csv_separator: CsvSeparator::Comma,
            audit_days: 400,
        }
    }
}

/// Checks changes, independently of the current settings.
pub fn check(changes: &[(String, String)], faults: &mut Faults) {
    Settings::default().set_all(changes, faults);
}

/// The names of all settings, in display order.
pub const NAMES: [&str; 4] = ["time_zone", "week_start", "csv_separator", "audit_days"];

impl Settings {
    pub fn zone(&self) -> TimeZone {
        TimeZone::get(&self.time_zone).unwrap_or(TimeZone::UTC)
    }

    pub fn get(&self, name: &str) -> Option<String> {
        match name {
            "time_zone" => Some(self.time_zone.clone()),
            "week_start" => Some(self.week_start.as_str().to_owned()),
            "csv_separator" => Some(self.csv_separator.as_str().to_owned()),
            "audit_days" => Some(self.audit_days.to_string()),
            _ => None,
        }
    }

    /// Applies values by name, all or none; every fault is reported.
    pub fn change(&mut self, changes: &[(String, String)]) -> Result<()> {
        let mut next = self.clone();
        let mut faults = Faults::default();
        next.set_all(changes, &mut faults);
        faults.finish()?;
        *self = next;
        Ok(())
    }

    fn set_all(&mut self, changes: &[(String, String)], faults: &mut Faults) {
        for (name, value) in changes {
            if let Err((code, message)) = self.set(name, value) {
                faults.push(name.clone(), code, message);
            }
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), (&'static str, String)> {
        match name {
            "time_zone" => {
                TimeZone::get(value).map_err(|_| {
                    (
                        "time_zone",
                        format!("{value:?} is not a time zone; use an IANA name such as Europe/Berlin"),
                    )
                })?;
                value.clone_into(&mut self.time_zone);
            }
            "week_start" => {
                self.week_start = match value {
                    "monday" => WeekStart::Monday,
                    "sunday" => WeekStart::Sunday,
                    _ => return Err(("enum", "must be monday or sunday".to_owned())),
                };
            }
            "csv_separator" => {
                self.csv_separator = match value {
                    "comma" => CsvSeparator::Comma,
                    "semicolon" => CsvSeparator::Semicolon,
                    "tab" => CsvSeparator::Tab,
                    _ => return Err(("enum", "must be comma, semicolon or tab".to_owned())),
                };
            }
            "audit_days" => {
                self.audit_days = value
                    .parse()
                    .ok()
                    .filter(|days| (1..=36_500).contains(days))
                    .ok_or(("range", "must be a number of days from 1 to 36500".to_owned()))?;
            }
            _ => return Err(("unknown", format!("is not a setting; choose one of: {}", NAMES.join(", ")))),
        }
        Ok(())
    }
}

pub async fn read(conn: &mut Conn) -> Result<Settings> {
    let mut settings = Settings::default();
    for row in conn.all("SELECT name, value FROM settings", args![]).await? {
        let (name, value) = (row.text(0)?, row.text(1)?);
        settings
            .set(&name, &value)
            .map_err(|(_, why)| Error::internal(format!("stored setting {name}: {why}")))?;
    }
    Ok(settings)
}

pub async fn write(tx: &mut Tx, settings: &Settings) -> Result<()> {
    for name in NAMES {
        tx.exec(
            "INSERT INTO settings (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            args![name, settings.get(name)],
        )
        .await?;
    }
    Ok(())
}
