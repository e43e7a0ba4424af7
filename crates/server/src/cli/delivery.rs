//! `landreeve dora`, `landreeve deploys …` and `landreeve feed …`.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use landreeve_core::{OpCtx, calendar};
use landreeve_delivery::deployments::{DeploymentFacts, deployment_create, deployment_info};
use landreeve_delivery::feeds::{feed_create, feed_delete, feed_list};
use landreeve_delivery::metrics::{self, Day, Dora, DoraQuery, Metric};
use landreeve_delivery::{Metadata, ServiceName};
use landreeve_estate::ops::sign_in;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Place, Session};
use crate::Usage;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub struct DoraArgs {
    #[command(flatten)]
    place: Place,
    /// Start of the period, a date or a timestamp [default: 30 days before its end]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// End of the period, exclusive [default: now]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Time zone of the days, an IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: String,
    /// Count only this service, by its identifier [default: all]
    #[arg(long)]
    service: Option<String>,
    /// Count only this team and those below it, by name or reference [default: all]
    #[arg(long)]
    team: Option<String>,
    /// Count only this repository [default: all]
    #[arg(long)]
    repository: Option<String>,
    /// Count only this organizational unit and those below it [default: all]
    #[arg(long, value_name = "UUID")]
    ou: Option<Uuid>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

async fn context(session: &Session, ou: Option<Uuid>) -> anyhow::Result<OpCtx> {
    match ou {
        Some(ou) => Ok(sign_in::operator_in(&session.opened.estate, ou).await?),
        None => Ok(session.ctx.clone()),
    }
}

/// Parses a time; a date is its first moment in the zone.
fn moment(flag: &str, text: &str, zone: &TimeZone) -> Result<Timestamp, Usage> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wrong =
        || Usage(format!("{flag}: {text:?} is not a date (2026-01-31) or timestamp (2026-01-31T12:00:00Z)"));
    let date = calendar::date(text).ok_or_else(wrong)?;
    let start = date.to_datetime(Time::midnight()).to_zoned(zone.clone()).map_err(|_| wrong())?;
    Ok(start.timestamp())
}

pub async fn dora(args: DoraArgs) -> anyhow::Result<()> {
    let zone = TimeZone::get(&args.tz).map_err(|_| {
        Usage(format!("--tz: {:?} is not a time zone; use an IANA name such as Europe/Berlin", args.tz))
    })?;
    let session = Session::open(&args.place).await?;
    let to = match &args.to {
        Some(text) => moment("--to", text, &zone)?,
        None => session.opened.estate.now(),
    };
    let from = match &args.from {
        Some(text) => moment("--from", text, &zone)?,
        None => to - SignedDuration::from_hours(30 * 24),
    };
    let (service, repository, team) = (args.service.clone(), args.repository.clone(), args.team.clone());
    let query = DoraQuery { from, to, zone, service, repository, team };
    let ctx = context(&session, args.ou).await?;
    let answer = metrics::dora(&session.opened.delivery, &ctx, &query).await;
    session.close().await;
    show(&args, &query, &answer?);
    Ok(())
}

fn show(args: &DoraArgs, query: &DoraQuery, dora: &Dora) {
    match args.format {
        Format::Json => {
            let mut shown = Map::from_iter([
                ("from".to_owned(), json!(query.from.to_string())),
                ("to".to_owned(), json!(query.to.to_string())),
                ("tz".to_owned(), json!(args.tz)),
            ]);
            for metric in &dora.metrics {
                let Metric { name, value, n, definition } = metric;
                let value = json!({ "value": value, "n": n, "definition": definition });
                shown.insert((*name).to_owned(), value);
            }
            output::say(&serde_json::to_string_pretty(&shown).unwrap_or_default());
        }
        Format::Csv => {
            let row = |metric: &Metric| {
                vec![json!(metric.name), json!(metric.value), json!(metric.n), json!(metric.definition)]
            };
            output::listing(
                Format::Csv,
                &["metric", "value", "n", "definition"],
                dora.metrics.iter().map(row).collect(),
            );
        }
        Format::Table => {
            let row = |metric: &Metric| {
                let trend = sparkline(&dora.days, metric.name);
                vec![json!(metric.name), json!(readable(metric)), json!(metric.n), json!(trend)]
            };
            output::listing(
                Format::Table,
                &["metric", "value", "n", "day by day"],
                dora.metrics.iter().map(row).collect(),
            );
        }
    }
}

fn readable(metric: &Metric) -> String {
    let Some(value) = metric.value else { return "-".to_owned() };
    if metric.name.contains("seconds") {
        return duration(value);
    }
    if metric.name.contains("rate") {
        return format!("{:.1} %", value * 100.0);
    }
    format!("{value:.2} a day")
}

fn duration(seconds: f64) -> String {
    match seconds.abs() {
        s if s < 60.0 => format!("{seconds:.1} s"),
        s if s < 3_600.0 => format!("{:.1} min", seconds / 60.0),
        s if s < 86_400.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// How many days fit on a line next to the other columns.
const WIDEST: usize = 60;

/// One mark per day, the latest at the end; a dot if there is no value.
fn sparkline(days: &[Day], metric: &str) -> String {
    const MARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let value = |day: &Day| match metric {
        "deployment_frequency" => Some(day.deployments as f64),
        "lead_time_seconds" => day.lead_time_seconds,
        "change_failure_rate" if day.deployments > 0 => Some(day.failed as f64 / day.deployments as f64),
        "change_failure_rate_dx" if day.deployments > 0 => {
            Some(day.incidents as f64 / day.deployments as f64)
        }
        "recovery_seconds" => day.recovery_seconds,
        _ => None,
    };
    let shown: Vec<Option<f64>> = days.iter().skip(days.len().saturating_sub(WIDEST)).map(value).collect();
    let most = shown.iter().flatten().copied().fold(0.0_f64, f64::max);
    let mark = |value: &Option<f64>| match value {
        None => '·',
        Some(value) if most <= 0.0 || *value <= 0.0 => MARKS[0],
        Some(value) => MARKS[((value / most * 7.0).round() as usize).min(7)],
    };
    if shown.iter().all(Option::is_none) { String::new() } else { shown.iter().map(mark).collect() }
}

#[derive(Debug, Subcommand)]
pub enum DeploysCommand {
    /// Record a deployment, as a pipeline would, and print its reference
    #[command(
        after_help = "Example:\n  landreeve deploys record --service checkout --repository acme/checkout --commit 5d41402abc4b2a76b9719d911017c592deadbeef"
    )]
    Record(Box<Record>),
    /// Show which changes a deployment shipped, or why none
    #[command(after_help = "Example:\n  landreeve deploys show 2026-01-15.1")]
    Show {
        #[command(flatten)]
        place: Place,
        /// Reference of the deployment
        reference: String,
        /// Search this organizational unit [default: the root]
        #[arg(long, value_name = "UUID")]
        ou: Option<Uuid>,
    },
}

#[derive(Debug, Args)]
pub struct Record {
    #[command(flatten)]
    place: Place,
    /// Identifier of the deployed service
    #[arg(long)]
    service: String,
    /// Repository, such as org/name [default: none]
    #[arg(long)]
    repository: Option<String>,
    /// Deployed commit [default: none]
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// Deployed merge commit, instead of --commit; repeatable
    #[arg(long = "merge-commit", value_name = "SHA")]
    merge_commits: Vec<String>,
    /// Count only changes merged into this branch [default: the default branch]
    #[arg(long, value_name = "BRANCH")]
    integration_branch: Option<String>,
    /// Environment that was deployed to [default: production]
    #[arg(long)]
    environment: Option<String>,
    /// Time of the deployment, a date or a timestamp [default: now]
    #[arg(long, value_name = "TIME")]
    deployed_at: Option<String>,
    /// Record the deployment once under this id; a retry must send the same time [default: a new UUID]
    #[arg(long, value_name = "ID", requires = "deployed_at")]
    reference_id: Option<String>,
    /// Record the deployment as failed
    #[arg(long)]
    failed: bool,
    /// Link to the deployment [default: none]
    #[arg(long, value_name = "URL")]
    source_url: Option<String>,
    /// Add metadata; repeatable
    #[arg(long = "metadata", value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Record the deployment in this organizational unit [default: the root]
    #[arg(long, value_name = "UUID")]
    ou: Option<Uuid>,
}

pub async fn deploys(command: DeploysCommand) -> anyhow::Result<()> {
    match command {
        DeploysCommand::Record(args) => record(*args).await,
        DeploysCommand::Show { place, reference, ou } => {
            let session = Session::open(&place).await?;
            let ctx = context(&session, ou).await?;
            let info = deployment_info(&session.opened.delivery, &ctx, &reference).await;
            session.close().await;
            let info = info?;
            output::say(&format!(
                "{} to {} at {}, {}",
                info.service,
                info.environment,
                info.deployed_at,
                if info.success { "succeeded" } else { "failed" }
            ));
            output::say(&info.attribution);
            let rows = info.changes.into_iter().map(|change| {
                let number = change.number.map(|number| format!("#{number}"));
                vec![json!(number.or(change.sha)), json!(change.title), json!(change.landed_at.to_string())]
            });
            output::listing(Format::Table, &["change", "title", "landed"], rows.collect());
            Ok(())
        }
    }
}

fn metadata(pairs: &[String]) -> anyhow::Result<Option<Metadata>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut object = Map::new();
    for pair in pairs {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Usage(format!("--metadata: {pair:?} is not KEY=VALUE")))?;
        object.insert(key.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Some(Metadata::new(Value::Object(object))?))
}

async fn record(args: Record) -> anyhow::Result<()> {
    let metadata = metadata(&args.metadata)?;
    let session = Session::open(&args.place).await?;
    let deployed_at = match &args.deployed_at {
        Some(text) => moment("--deployed-at", text, &TimeZone::UTC)?,
        None => session.opened.estate.now(),
    };
    let facts = DeploymentFacts {
        deployed_at: Some(deployed_at),
        service: Some(ServiceName { identifier: args.service, name: None }),
        repository: args.repository,
        commit_sha: args.commit,
        merge_commit_shas: (!args.merge_commits.is_empty()).then_some(args.merge_commits),
        integration_branch: args.integration_branch,
        environment: args.environment,
        success: Some(!args.failed),
        source_url: args.source_url,
        source_name: None,
        metadata,
    };
    let ctx = context(&session, args.ou).await?;
    let reference = args.reference_id.unwrap_or_else(|| session.opened.estate.uuid().to_string());
    let made = deployment_create(&session.opened.delivery, &ctx, Some(reference.clone()), facts.into()).await;
    session.changed().await?;
    made.context("could not record the deployment")?;
    output::say(&reference);
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum FeedCommand {
    /// Save a query and print its token (shown only once)
    #[command(
        after_help = "Example:\n  landreeve feed create deployments --sql 'select service, deployed_at from deployments'"
    )]
    Create {
        #[command(flatten)]
        place: Place,
        /// Name of the saved query
        name: String,
        /// SELECT statement to save; $NAME is a variable
        #[arg(long)]
        sql: String,
        /// Save the query in this organizational unit [default: the root]
        #[arg(long, value_name = "UUID")]
        ou: Option<Uuid>,
    },
    /// List the saved queries
    #[command(after_help = "Example:\n  landreeve feed list")]
    List {
        #[command(flatten)]
        place: Place,
        /// List the queries of this organizational unit [default: the root]
        #[arg(long, value_name = "UUID")]
        ou: Option<Uuid>,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Delete a saved query and revoke its token
    #[command(after_help = "Example:\n  landreeve feed delete deployments")]
    Delete {
        #[command(flatten)]
        place: Place,
        /// Name of the saved query
        name: String,
        /// Delete the query of this organizational unit [default: the root]
        #[arg(long, value_name = "UUID")]
        ou: Option<Uuid>,
    },
}

pub async fn feed(command: FeedCommand) -> anyhow::Result<()> {
    match command {
        FeedCommand::Create { place, name, sql, ou } => {
            let session = Session::open(&place).await?;
            let ctx = context(&session, ou).await?;
            let made = feed_create(&session.opened.delivery, &ctx, name, sql).await;
            session.changed().await?;
            output::say(made?.1.reveal());
            Ok(())
        }
        FeedCommand::List { place, ou, format } => {
            let session = Session::open(&place).await?;
            let ctx = context(&session, ou).await?;
            let plane = &session.opened.delivery;
            let feeds = landreeve_core::page::collect(|after| feed_list(plane, &ctx, after)).await;
            session.close().await;
            let rows = feeds?
                .into_iter()
                .map(|feed| vec![json!(feed.name), json!(feed.sql), json!(feed.created_at.to_string())]);
            output::listing(format, &["name", "sql", "created"], rows.collect());
            Ok(())
        }
        FeedCommand::Delete { place, name, ou } => {
            let session = Session::open(&place).await?;
            let ctx = context(&session, ou).await?;
            let gone = feed_delete(&session.opened.delivery, &ctx, name).await;
            session.changed().await?;
            Ok(gone?)
        }
    }
}
