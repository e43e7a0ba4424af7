//! Transformations: how each dialect groups times and converts them to another zone.
//!
//! A bucket of a day or more is a DATE in the shown zone's local time, and dates are not converted afterwards. A finer
//! bucket is a time that the result's conversion will still convert to the shown zone, so it must not be converted
//! here:
//! - PostgreSQL returns an instant (`DATE_TRUNC` with a zone), which distinguishes the two hours of a clock change.
//! - MySQL subtracts the minutes of the *shown* zone's local time, which leaves a DATETIME in the data zone.
//! - SQLite's expressions have no type, so they are not converted, and the bucket is text in the shown zone.

use landreeve_core::datasource::SqlDialect;
use landreeve_core::source::SessionZone;

use super::env::Aggregation;
use super::literal;
use super::values::Zones;
use super::zone::{Shifts, Zone};

/// An expression that is ready to be inserted into other SQL.
#[derive(Debug, Clone)]
pub struct Operand {
    pub sql: String,
    /// Whether it is a column name, which needs no parentheses.
    pub column: bool,
}

impl Operand {
    pub fn wrapped(&self) -> String {
        if self.column { self.sql.clone() } else { format!("({})", self.sql) }
    }
}

pub struct Transform<'a> {
    pub dialect: SqlDialect,
    pub zones: &'a Zones,
    pub session_zone: SessionZone,
    pub operand: &'a Operand,
    /// For a server without zone tables: the shown zone's offset from the data zone, if it has to be written out.
    pub shifts: Option<Shifts>,
}

/// Expressions whose value is the current instant, or the current UTC time if the database has no instants.
fn is_present(sql: &str) -> bool {
    let word: String =
        sql.chars().filter(|char| !char.is_whitespace()).collect::<String>().to_ascii_lowercase();
    matches!(
        word.strip_suffix("()").unwrap_or(&word),
        "current_timestamp" | "now" | "transaction_timestamp" | "statement_timestamp" | "clock_timestamp"
    )
}

impl Transform<'_> {
    fn quoted(&self, zone: &Zone) -> String {
        literal::text(zone.name(), self.dialect)
    }

    fn shown(&self) -> String {
        self.quoted(&self.zones.shown)
    }

    /// The zone of the expression's local time. The server's current time is in UTC if the session is.
    pub fn origin(operand: &Operand, dialect: SqlDialect, session_zone: SessionZone, zones: &Zones) -> Zone {
        let session_is_utc = dialect == SqlDialect::Sqlite
            || (dialect == SqlDialect::MySql && session_zone == SessionZone::UtcForLackOfZoneTables);
        if session_is_utc && is_present(&operand.sql) { Zone::utc() } else { zones.data.clone() }
    }

    fn from(&self) -> Zone {
        Transform::origin(self.operand, self.dialect, self.session_zone, self.zones)
    }

    /// Whether MySQL would need a conversion but has no tables for it.
    pub fn needs_shifts(
        aggregation: Option<Aggregation>,
        operand: &Operand,
        dialect: SqlDialect,
        session_zone: SessionZone,
        zones: &Zones,
    ) -> bool {
        dialect == SqlDialect::MySql
            && session_zone == SessionZone::UtcForLackOfZoneTables
            && !matches!(aggregation, Some(Aggregation::AllTime | Aggregation::Second | Aggregation::Minute))
            && Transform::origin(operand, dialect, session_zone, zones) != zones.shown
    }

    /// `{[expr]:tz}`: the local time in the shown zone.
    pub fn in_zone(&self) -> String {
        let x = &self.operand.sql;
        match self.dialect {
            SqlDialect::Postgres | SqlDialect::Engine | SqlDialect::Redshift | SqlDialect::CrateDb
                if is_present(x) =>
            {
                format!("({x} AT TIME ZONE {})", self.shown())
            }
            SqlDialect::CrateDb => format!("(({x})::timestamptz AT TIME ZONE {})", self.shown()),
            SqlDialect::Postgres | SqlDialect::Engine | SqlDialect::Redshift => format!("({})", self.local()),
            SqlDialect::MySql if self.from() == self.zones.shown => self.operand.wrapped(),
            SqlDialect::MySql => self.local(),
            SqlDialect::Sqlite => self.sqlite_tz(),
        }
    }

    fn sqlite_tz(&self) -> String {
        format!("landreeve_tz({}, {}, {})", self.operand.sql, self.quoted(&self.from()), self.shown())
    }

    /// The expression as local time in the shown zone, without parentheses around it.
    fn local(&self) -> String {
        let x = &self.operand.sql;
        let same = self.from() == self.zones.shown;
        match self.dialect {
            SqlDialect::Redshift | SqlDialect::Postgres | SqlDialect::Engine if same => {
                format!("({x})::timestamp")
            }
            SqlDialect::Redshift | SqlDialect::Postgres | SqlDialect::Engine => {
                format!("({x})::timestamptz AT TIME ZONE {}", self.shown())
            }
            SqlDialect::MySql | SqlDialect::Sqlite | SqlDialect::CrateDb if same => x.clone(),
            SqlDialect::MySql => match &self.shifts {
                None => format!("CONVERT_TZ({x}, {}, {})", self.quoted(&self.from()), self.shown()),
                Some(shifts) => self.shifted(shifts),
            },
            SqlDialect::Sqlite => self.sqlite_tz(),
            SqlDialect::CrateDb => x.clone(),
        }
    }

    fn shifted(&self, shifts: &Shifts) -> String {
        let x = self.operand.wrapped();
        // Each offset applies until the next change.
        let mut seconds = shifts.first.to_string();
        if !shifts.changes.is_empty() {
            let mut cases = String::new();
            let mut shift = shifts.first;
            for (wall, next) in &shifts.changes {
                let at = literal::Literal::DateTime(*wall).sql(self.dialect);
                cases.push_str(&format!(" WHEN {x} < {at} THEN {shift}"));
                shift = *next;
            }
            seconds = format!("(CASE{cases} ELSE {shift} END)");
        }
        format!("({x} + INTERVAL {seconds} SECOND)")
    }

    pub fn bucket(&self, aggregation: Aggregation) -> String {
        match self.dialect {
            SqlDialect::Postgres | SqlDialect::Engine => self.postgres(aggregation),
            SqlDialect::Redshift => self.redshift(aggregation),
            SqlDialect::CrateDb => self.cratedb(aggregation),
            SqlDialect::MySql => self.mysql(aggregation),
            SqlDialect::Sqlite if aggregation == Aggregation::AllTime => "CAST(NULL AS DATE)".to_owned(),
            SqlDialect::Sqlite => {
                format!("landreeve_trunc('{}', {})", aggregation.as_str(), self.local())
            }
        }
    }

    fn postgres(&self, aggregation: Aggregation) -> String {
        let unit = aggregation.as_str();
        match aggregation {
            Aggregation::AllTime => "NULL::date".to_owned(),
            Aggregation::Second | Aggregation::Minute | Aggregation::Hour => {
                let x = &self.operand.sql;
                if self.zones.dashboard {
                    // The engine's function with that name has no third argument.
                    let function =
                        if self.dialect == SqlDialect::Engine { "DATE_TRUNC_IN" } else { "DATE_TRUNC" };
                    format!("{function}('{unit}', ({x})::timestamptz, {})", self.shown())
                } else {
                    format!("DATE_TRUNC('{unit}', ({x})::timestamp)")
                }
            }
            Aggregation::WeekSunday => format!("({})::date", self.sunday(&self.local())),
            _ => format!("DATE_TRUNC('{unit}', {})::date", self.local()),
        }
    }

    /// A week that starts on Sunday starts a day before one that starts on Monday.
    fn sunday(&self, local: &str) -> String {
        format!("DATE_TRUNC('week', {local} + INTERVAL '1 day') - INTERVAL '1 day'")
    }

    fn redshift(&self, aggregation: Aggregation) -> String {
        let unit = aggregation.as_str();
        if aggregation == Aggregation::AllTime {
            return "NULL::date".to_owned();
        }
        if !self.zones.dashboard {
            return match aggregation {
                Aggregation::WeekSunday => format!("({})", self.sunday(&self.operand.wrapped())),
                _ => format!("DATE_TRUNC('{unit}', {})", self.operand.sql),
            };
        }
        let local = self.local();
        match aggregation {
            Aggregation::Second | Aggregation::Minute | Aggregation::Hour => {
                format!("(DATE_TRUNC('{unit}', {local}) AT TIME ZONE {})", self.shown())
            }
            Aggregation::WeekSunday => format!("({})::date", self.sunday(&local)),
            _ => format!("DATE_TRUNC('{unit}', {local})::date"),
        }
    }

    /// In CrateDB a bucket is always an instant, and the zone is the middle argument.
    fn cratedb(&self, aggregation: Aggregation) -> String {
        let zone = if self.zones.differ() { format!("{}, ", self.shown()) } else { String::new() };
        match aggregation {
            Aggregation::AllTime => "CAST(NULL AS TIMESTAMP)".to_owned(),
            Aggregation::WeekSunday => {
                let x = self.operand.wrapped();
                format!("(DATE_TRUNC('week', {zone}{x} + INTERVAL '1 day') - INTERVAL '1 day')")
            }
            _ => format!("DATE_TRUNC('{}', {zone}{})", aggregation.as_str(), self.operand.sql),
        }
    }

    fn mysql(&self, aggregation: Aggregation) -> String {
        let x = &self.operand.sql;
        let fine = |x: &str, format: &str| format!("CAST(DATE_FORMAT({x}, '{format}') AS DATETIME)");
        let local = || self.local();
        match aggregation {
            Aggregation::AllTime => "CAST(NULL AS DATE)".to_owned(),
            // In the last hundred years, seconds and minutes are the same in every zone.
            Aggregation::Second => fine(x, "%Y-%m-%d %H:%i:%s"),
            Aggregation::Minute => fine(x, "%Y-%m-%d %H:%i:00"),
            Aggregation::Hour if self.from() == self.zones.shown => fine(x, "%Y-%m-%d %H:00:00"),
            Aggregation::Hour => {
                let begin = format!("{} - INTERVAL MINUTE({}) MINUTE", self.operand.wrapped(), local());
                fine(&begin, "%Y-%m-%d %H:%i:00")
            }
            Aggregation::Day => format!("DATE({})", local()),
            Aggregation::Week => format!("DATE_SUB(DATE({0}), INTERVAL WEEKDAY({0}) DAY)", local()),
            Aggregation::WeekSunday => {
                format!("DATE_SUB(DATE({0}), INTERVAL DAYOFWEEK({0}) - 1 DAY)", local())
            }
            Aggregation::Month => format!("CAST(DATE_FORMAT({}, '%Y-%m-01') AS DATE)", local()),
            Aggregation::Quarter => {
                format!("(MAKEDATE(YEAR({0}), 1) + INTERVAL QUARTER({0}) - 1 QUARTER)", local())
            }
            Aggregation::Year => format!("MAKEDATE(YEAR({}), 1)", local()),
        }
    }
}
