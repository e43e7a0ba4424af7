//! DORA metrics, computed from the same views that users can query.

use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array as _, RecordBatch};
use futures_util::StreamExt as _;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use landreeve_core::error::Faults;
use landreeve_core::source::CancellationToken;
use landreeve_core::table::{EngineQuery, Scalar, Variable};
use landreeve_core::{Action, Error, OpCtx, Result};

use crate::queries::{ask, query_error, reach, statement};
use crate::{Delivery, nouns};

const LIMIT: Duration = Duration::from_secs(120);
/// Each day is listed, so there is a limit.
const MAX_DAYS: i64 = 4_000;

/// Which deployments, changes and incidents to count: those in [from, to), with optional filters.
#[derive(Debug, Clone)]
pub struct DoraQuery {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Where days begin.
    pub zone: TimeZone,
    pub service: Option<String>,
    pub repository: Option<String>,
    /// A team by name or reference, including all teams below it.
    pub team: Option<String>,
}

/// One metric. `value` is `None` if there is nothing to compute it from.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub value: Option<f64>,
    /// Number of facts it is computed from.
    pub n: u64,
    pub definition: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Dora {
    pub metrics: Vec<Metric>,
    pub days: Vec<Day>,
}

/// What happened on one day in the zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    pub date: jiff::civil::Date,
    pub deployments: u64,
    pub failed: u64,
    pub lead_time_seconds: Option<f64>,
    pub incidents: u64,
    pub recovery_seconds: Option<f64>,
}

/// Successful deployments to production.
const DEPLOYMENTS: &str = "\
SELECT count(*) AS n, count(*) FILTER (WHERE failed) AS failed \
FROM dora_deployments WHERE environment = 'production' AND success \
AND deployed_at >= $from AND deployed_at < $to";

const CHANGES: &str = "\
SELECT count(*) AS n, percentile_cont(0.5) WITHIN GROUP (ORDER BY lead_time_seconds) AS p50 \
FROM dora_changes WHERE environment = 'production' AND deployed_at >= $from AND deployed_at < $to";

/// An incident on several services counts once, and recovery is measured from the latest deployment among them.
const INCIDENTS: &str = "\
SELECT count(*) AS n, \
       count(recovery) AS recovered, percentile_cont(0.5) WITHIN GROUP (ORDER BY recovery) AS recovery, \
       count(resolution) AS resolved, avg(resolution) AS resolution \
FROM (SELECT incident_id, min(started_at) AS started_at, min(recovery_seconds) AS recovery, \
             max(resolution_seconds) AS resolution \
      FROM dora_incidents WHERE started_at >= $from AND started_at < $to";

const SERVICE: &str = "SELECT 1 FROM deployment_services WHERE identifier = $service LIMIT 1";
const REPOSITORY: &str = "SELECT 1 FROM repos WHERE lower(name) = lower($repository) LIMIT 1";
const TEAM: &str = "SELECT 1 FROM dx_teams WHERE name = $team OR reference_id = $team LIMIT 1";

/// The metrics for an interval. An unknown service, repository or team is an error.
pub async fn dora(plane: &Delivery, ctx: &OpCtx, query: &DoraQuery) -> Result<Dora> {
    plane.estate().require_some(ctx, nouns::DELIVERY, Action::VIEW).await?;
    if query.from >= query.to {
        return Err(Error::fault("to", "range", "must be after from"));
    }
    if query.to.as_second().saturating_sub(query.from.as_second()) > MAX_DAYS * 86_400 {
        return Err(Error::fault("to", "range", format!("must be at most {MAX_DAYS} days after from")));
    }
    let asking = Asking { plane, ctx, query };
    asking.require_names().await?;
    let deployments = asking.row(&asking.narrowed(DEPLOYMENTS)).await?;
    let changes = asking.row(&asking.narrowed(CHANGES)).await?;
    let incidents = asking.row(&asking.incidents()).await?;
    let (deployed, failed) = (deployments.int(0), deployments.int(1));
    let seconds = query.to.as_second() - query.from.as_second();
    let days = seconds as f64 / 86_400.0;
    let share = |part: u64| (deployed > 0).then(|| part as f64 / deployed as f64);
    let metric = |name, value, n, definition| Metric { name, value, n, definition };
    let metrics = vec![
        metric(
            "deployment_frequency",
            Some(deployed as f64 / days),
            deployed,
            "successful deployments to production per day",
        ),
        metric(
            "lead_time_seconds",
            changes.float(1),
            changes.int(0),
            "median of deployed_at minus the first commit, or minus the opening of the pull request when no commit \
             is known, over the changes in production deployments",
        ),
        metric(
            "change_failure_rate",
            share(failed),
            deployed,
            "share of production deployments that an incident on the same service followed before the next deployment \
             of that service",
        ),
        metric(
            "change_failure_rate_dx",
            share(incidents.int(0)),
            deployed,
            "incidents divided by production deployments, not linked to one another",
        ),
        metric(
            "recovery_seconds",
            incidents.float(2),
            incidents.int(1),
            "median of resolved_at minus deployed_at of the deployment that the incident is linked to",
        ),
        metric(
            "recovery_seconds_dx",
            incidents.float(4),
            incidents.int(3),
            "mean of resolved_at minus started_at over resolved incidents",
        ),
    ];
    Ok(Dora { metrics, days: asking.days().await? })
}

/// The first row of a result.
struct First(Option<RecordBatch>);

impl First {
    fn int(&self, at: usize) -> u64 {
        self.0.as_ref().map_or(0, |batch| int(batch, at, 0))
    }

    fn float(&self, at: usize) -> Option<f64> {
        self.0.as_ref().and_then(|batch| float(batch, at, 0))
    }
}

fn int(batch: &RecordBatch, at: usize, row: usize) -> u64 {
    let column = batch.column(at);
    match column.as_primitive_opt::<Int64Type>() {
        Some(values) if values.is_valid(row) => values.value(row).unsigned_abs(),
        _ => 0,
    }
}

fn float(batch: &RecordBatch, at: usize, row: usize) -> Option<f64> {
    let values = batch.column(at).as_primitive_opt::<Float64Type>()?;
    values.is_valid(row).then(|| values.value(row))
}

struct Asking<'a> {
    plane: &'a Delivery,
    ctx: &'a OpCtx,
    query: &'a DoraQuery,
}

impl Asking<'_> {
    fn narrowed(&self, sql: &str) -> String {
        let mut sql = sql.to_owned();
        if self.query.service.is_some() {
            sql.push_str(" AND service = $service");
        }
        if self.query.repository.is_some() {
            sql.push_str(" AND lower(repository) = lower($repository)");
        }
        if self.query.team.is_some() {
            sql.push_str(
                " AND team_id IN (SELECT h.descendant_id FROM dx_team_hierarchies h \
                 JOIN dx_teams t ON t.id = h.ancestor_id WHERE t.name = $team OR t.reference_id = $team)",
            );
        }
        sql
    }

    fn incidents(&self) -> String {
        format!("{} GROUP BY incident_id) AS per_incident", self.narrowed(INCIDENTS))
    }

    fn variables(&self) -> Vec<(String, Variable)> {
        let text = |text: &String| Variable::One(Scalar::Text(text.clone()));
        let instant = |at: Timestamp| Variable::One(Scalar::Instant(at.as_microsecond()));
        let mut variables =
            vec![("from".to_owned(), instant(self.query.from)), ("to".to_owned(), instant(self.query.to))];
        for (name, value) in [
            ("service", &self.query.service),
            ("repository", &self.query.repository),
            ("team", &self.query.team),
        ] {
            variables.extend(value.as_ref().map(|value| (name.to_owned(), text(value))));
        }
        variables
    }

    async fn all(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let query = EngineQuery {
            query: statement(sql.to_owned(), LIMIT),
            variables: self.variables(),
            max_rows: None,
        };
        let cancel = CancellationToken::new();
        let _guard = cancel.clone().drop_guard();
        let mut stream = ask(self.plane, &reach(self.ctx), query, cancel).await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.batches.next().await {
            batches.push(batch.map_err(|error| query_error(&error))?);
        }
        Ok(batches)
    }

    /// A mistyped name is an error, because zeros would look like a result.
    async fn require_names(&self) -> Result<()> {
        let mut faults = Faults::default();
        for (field, name, sql) in [
            ("service", &self.query.service, SERVICE),
            ("repository", &self.query.repository, REPOSITORY),
            ("team", &self.query.team, TEAM),
        ] {
            if let Some(name) = name
                && self.row(sql).await?.0.is_none()
            {
                faults.push(field, "unknown", format!("{name:?} is unknown"));
            }
        }
        faults.finish()
    }

    async fn row(&self, sql: &str) -> Result<First> {
        Ok(First(self.all(sql).await?.into_iter().find(|batch| batch.num_rows() > 0)))
    }

    /// Every day of the interval, including days without facts.
    async fn days(&self) -> Result<Vec<Day>> {
        let first = self.query.from.to_zoned(self.query.zone.clone()).date();
        let last =
            Timestamp::from_microsecond(self.query.to.as_microsecond() - 1).map_err(Error::internal)?;
        let last = last.to_zoned(self.query.zone.clone()).date();
        let mut days = Vec::new();
        let mut date = first;
        while date <= last {
            days.push(Day {
                date,
                deployments: 0,
                failed: 0,
                lead_time_seconds: None,
                incidents: 0,
                recovery_seconds: None,
            });
            date = date.checked_add(1.day()).map_err(Error::internal)?;
        }
        self.count(&mut days).await?;
        Ok(days)
    }

    async fn count(&self, days: &mut [Day]) -> Result<()> {
        let zone = self.query.zone.iana_name().unwrap_or("UTC");
        let by_day = |sql: &str, at: &str| {
            let day =
                format!("CAST(CAST(date_trunc('day', {at} AT TIME ZONE '{zone}') AS DATE) AS TEXT) AS day");
            format!("{} GROUP BY 1", sql.replacen("SELECT ", &format!("SELECT {day}, "), 1))
        };
        let find = |days: &mut [Day], batch: &RecordBatch, row: usize| -> Option<usize> {
            let date = batch.column(0).as_string_opt::<i32>()?.value(row).parse().ok()?;
            days.iter().position(|day| day.date == date)
        };
        for batch in self.all(&by_day(&self.narrowed(DEPLOYMENTS), "deployed_at")).await? {
            for row in 0..batch.num_rows() {
                if let Some(at) = find(days, &batch, row) {
                    days[at].deployments = int(&batch, 1, row);
                    days[at].failed = int(&batch, 2, row);
                }
            }
        }
        for batch in self.all(&by_day(&self.narrowed(CHANGES), "deployed_at")).await? {
            for row in 0..batch.num_rows() {
                if let Some(at) = find(days, &batch, row) {
                    days[at].lead_time_seconds = float(&batch, 2, row);
                }
            }
        }
        for batch in self.all(&by_day(&self.incidents(), "started_at")).await? {
            for row in 0..batch.num_rows() {
                if let Some(at) = find(days, &batch, row) {
                    days[at].incidents = int(&batch, 1, row);
                    days[at].recovery_seconds = float(&batch, 3, row);
                }
            }
        }
        Ok(())
    }
}
