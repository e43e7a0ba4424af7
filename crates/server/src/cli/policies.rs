//! `landreeve policy …` and `landreeve alert …`: backups that are made by themselves, and what went wrong with them.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use landreeve_core::{Input, page};
use landreeve_protection::alerts::{Alert, alert_list, alert_update};
use landreeve_protection::policies::model::{NewOperation, NewPolicy, NewSla, WORKING};
use landreeve_protection::policies::{Policy, PolicyFilter, policy_create, policy_list};
use serde_json::{Value, json};
use uuid::Uuid;

use super::protection::carry_out;
use super::{Place, Session, data, promotion, uuid_of};
use crate::orders::Order;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Create a policy
    #[command(
        after_help = "Example:\n  landreeve policy create nightly --sla 1d:30d --sla 1m:1y --window 01:00-05:00"
    )]
    Create(CreateArgs),
    /// List the policies
    #[command(after_help = "Example:\n  landreeve policy list --format json")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Give datasources a policy
    #[command(after_help = "Example:\n  landreeve policy assign nightly shop crm")]
    Assign {
        #[command(flatten)]
        place: Place,
        /// Name or id of the policy
        policy: String,
        /// Names or ids of the datasources
        #[arg(required = true)]
        datasources: Vec<String>,
    },
    /// Take datasources their policy; their backups stay
    #[command(after_help = "Example:\n  landreeve policy unassign crm")]
    Unassign {
        #[command(flatten)]
        place: Place,
        /// Names or ids of the datasources
        #[arg(required = true)]
        datasources: Vec<String>,
    },
    /// Delete a policy; the backups that were made for it stay
    #[command(after_help = "Example:\n  landreeve policy delete nightly --yes")]
    Delete {
        #[command(flatten)]
        place: Place,
        /// Name or id of the policy
        policy: String,
        /// Delete it; otherwise only say what would be deleted
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    place: Place,
    /// Name of the policy
    name: String,
    /// How often, and how long it is kept: numbers of hours (h), days (d), weeks (w), months (m) or years (y), the first
    /// also of minutes (min); may be repeated
    #[arg(long = "sla", value_name = "EVERY:KEEP", required = true)]
    slas: Vec<String>,
    /// When backups may run, by the clock; without an end they are never cut off [default: at any time]
    #[arg(long, value_name = "HH:MM-[HH:MM]")]
    window: Option<String>,
    /// Time zone of the window and of days
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
    /// Name of the repository [default: default]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// List the alerts, newest first
    #[command(after_help = "Example:\n  landreeve alert list --all --format json")]
    List {
        #[command(flatten)]
        place: Place,
        /// Also those that were cleared
        #[arg(long)]
        all: bool,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Clear an alert; it is raised again if it happens again
    #[command(
        after_help = "Example:\n  landreeve alert clear 0198a5c1-7a3e-4c0f-9d55-3f1e0c6b2a10 --notes \"disk replaced\""
    )]
    Clear {
        #[command(flatten)]
        place: Place,
        /// Id of the alert, as `alert list` shows it
        alert: String,
        /// What was done about it
        #[arg(long)]
        notes: Option<String>,
    },
}

pub async fn policy(command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Create(args) => create(args).await,
        PolicyCommand::List { place, format } => {
            let session = Session::open(&place).await?;
            let listed = all(&session).await;
            session.close().await;
            output::listing(format, &COLUMNS, listed?.iter().map(row).collect());
            Ok(())
        }
        PolicyCommand::Assign { place, policy, datasources } => {
            let session = Session::open(&place).await?;
            let found = named(&session, &policy).await;
            session.close().await;
            assign(&place, Some(found?.uuid), datasources).await
        }
        PolicyCommand::Unassign { place, datasources } => assign(&place, None, datasources).await,
        PolicyCommand::Delete { place, policy, yes } => delete(&place, &policy, yes).await,
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let slas = args.slas.iter().map(|text| sla(text)).collect::<anyhow::Result<_>>()?;
    let window = args.window.as_deref().map(|text| {
        let (start, end) =
            text.split_once('-').with_context(|| format!("--window {text}: must be such as 01:00-05:00"))?;
        anyhow::Ok((start.to_owned(), end.to_owned()))
    });
    let window = window.transpose()?;
    let operation = NewOperation {
        kind: WORKING.first().copied().unwrap_or_default().to_owned(),
        action: if window.is_some() { "window" } else { "immediate" }.to_owned(),
        window,
        zone: Some(args.zone),
        slas,
        repository: args.repository,
        settings: Value::Null,
    };
    let new = NewPolicy { name: args.name, enabled: true, operations: vec![operation] };
    let session = Session::open(&args.place).await?;
    let (plane, ctx) = (session.opened.protection.clone(), session.ctx.clone());
    // Other commands know policies by their names.
    let filter = PolicyFilter { name: Some(new.name.trim().to_owned()), ..PolicyFilter::default() };
    let made = match policy_list(&plane, &ctx, &filter, None).await {
        Ok(known) if !known.items.is_empty() => {
            session.close().await;
            anyhow::bail!("there is a policy called {} already", new.name.trim());
        }
        Ok(_) => policy_create(&plane, &ctx, Input::of(new)).await,
        Err(error) => Err(error),
    };
    let made = promotion::finish(session, made).await?;
    output::say(&format!("created policy {} ({})", made.name, made.uuid));
    Ok(())
}

/// `1d:30d`
fn sla(text: &str) -> anyhow::Result<NewSla> {
    let wrong = || format!("--sla {text}: must be such as 1d:30d");
    let (every, keep) = text.split_once(':').with_context(wrong)?;
    let part = |text: &str| {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match text.get(digits.len()..)? {
            "min" => "minutes",
            "h" => "hours",
            "d" => "days",
            "w" => "weeks",
            "m" => "months",
            "y" => "years",
            _ => return None,
        };
        Some((unit.to_owned(), digits.parse::<i64>().ok()?))
    };
    let (frequency, retention) = part(every).zip(part(keep)).with_context(wrong)?;
    Ok(NewSla { retention, frequency, offsets: Vec::new() })
}

async fn all(session: &Session) -> landreeve_core::Result<Vec<Policy>> {
    let (plane, filter) = (&session.opened.protection, PolicyFilter::default());
    page::collect(|after| policy_list(plane, &session.ctx, &filter, after)).await
}

/// The policy with this id, or the only one with this name.
async fn named(session: &Session, text: &str) -> anyhow::Result<Policy> {
    let id = Uuid::parse_str(text).ok();
    let found =
        all(session).await?.into_iter().filter(|policy| Some(policy.uuid) == id || policy.name == text);
    let mut found = found.collect::<Vec<_>>().into_iter();
    match (found.next(), found.next()) {
        (Some(policy), None) => Ok(policy),
        (None, _) => bail!("there is no policy called {text}"),
        (Some(_), Some(_)) => bail!("there are several policies called {text}; give the id of one"),
    }
}

async fn assign(place: &Place, policy: Option<Uuid>, names: Vec<String>) -> anyhow::Result<()> {
    let session = Session::open(place).await?;
    let found = async {
        let mut found = Vec::new();
        for name in &names {
            found.push(data::find(&session, name).await?.uuid.to_string());
        }
        anyhow::Ok(found)
    };
    let found = found.await;
    session.close().await;
    let order = Order::AssignPolicy { datasources: found?, policy: policy.map(|uuid| uuid.to_string()) };
    carry_out(place, order).await?.succeeded()?;
    let done = if policy.is_some() { "assigned the policy to" } else { "took the policy from" };
    output::say(&format!("{done} {}", names.join(", ")));
    Ok(())
}

async fn delete(place: &Place, text: &str, yes: bool) -> anyhow::Result<()> {
    let session = Session::open(place).await?;
    let found = named(&session, text).await;
    session.close().await;
    let policy = found?;
    let what = format!(
        "policy {}, which {} have",
        policy.name,
        output::counted(usize::try_from(policy.assigned)?, "datasource", "datasources")
    );
    if !yes {
        output::say(&format!("would delete {what}"));
        output::tell("Nothing was deleted; add --yes to delete it.");
        return Ok(());
    }
    carry_out(place, Order::DeletePolicy { policy: policy.uuid.to_string() }).await?.succeeded()?;
    output::say(&format!("deleted {what}"));
    Ok(())
}

const COLUMNS: [&str; 6] = ["id", "name", "activation_status", "lock_status", "datasources", "operations"];

fn row(policy: &Policy) -> Vec<Value> {
    let operations: Vec<String> = policy.operations.iter().map(shown).collect();
    vec![
        json!(policy.uuid.to_string()),
        json!(policy.name),
        json!(if policy.enabled { "activated" } else { "deactivated" }),
        json!(policy.lock.as_str()),
        json!(policy.assigned),
        json!(operations),
    ]
}

/// `every 1 days for 30 days, 01:00-05:00 UTC, in default`
fn shown(operation: &NewOperation) -> String {
    let goal = |sla: &NewSla| match sla.frequency.0.as_str() {
        "on_demand" => format!("on demand for {} {}", sla.retention.1, sla.retention.0),
        unit => format!("every {} {unit} for {} {}", sla.frequency.1, sla.retention.1, sla.retention.0),
    };
    let mut parts: Vec<String> = operation.slas.iter().map(goal).collect();
    let zone = operation.zone.as_deref().unwrap_or("UTC");
    parts.extend(operation.window.as_ref().map(|(start, end)| format!("{start}-{end} {zone}")));
    parts.push(format!("in {}", operation.repository.as_deref().unwrap_or("default")));
    if !WORKING.contains(&operation.kind.as_str()) {
        parts.push(format!("{} (without effect)", operation.kind));
    }
    parts.join(", ")
}

pub async fn alert(command: AlertCommand) -> anyhow::Result<()> {
    match command {
        AlertCommand::List { place, all, format } => {
            let session = Session::open(&place).await?;
            let (plane, ctx) = (&session.opened.protection, &session.ctx);
            let active = if all { None } else { Some(true) };
            let listed = page::collect(|after| alert_list(plane, ctx, active, after)).await;
            session.close().await;
            output::listing(format, &ALERT_COLUMNS, listed?.iter().map(alert_row).collect());
            Ok(())
        }
        AlertCommand::Clear { place, alert, notes } => {
            let uuid = uuid_of("alert", &alert)?;
            let session = Session::open(&place).await?;
            let (plane, ctx) = (session.opened.protection.clone(), session.ctx.clone());
            let cleared = alert_update(&plane, &ctx, uuid, notes, true).await;
            let cleared = promotion::finish(session, cleared).await?;
            output::say(&format!("cleared {} of {}", cleared.kind, cleared.entity_name));
            Ok(())
        }
    }
}

const ALERT_COLUMNS: [&str; 10] = [
    "id",
    "type",
    "cause",
    "status",
    "entity",
    "description",
    "raised_count",
    "raised_timestamp",
    "cleared_timestamp",
    "notes",
];

fn alert_row(alert: &Alert) -> Vec<Value> {
    vec![
        json!(alert.uuid.to_string()),
        json!(alert.kind),
        json!(alert.cause),
        json!(if alert.active { "active" } else { "cleared" }),
        json!(alert.entity_name),
        json!(alert.description),
        json!(alert.raised_count),
        json!(alert.raised_at.to_string()),
        json!(alert.cleared_at.map(|at| at.to_string())),
        json!(alert.notes),
    ]
}
