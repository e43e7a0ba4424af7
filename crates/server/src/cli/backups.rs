//! `landreeve backup …` and `landreeve restore`.

use clap::{Args, Subcommand};
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::RunId;
use landreeve_core::{Input, page};
use landreeve_estate::ops::runs::{RunRef, run_get, run_log};
use landreeve_estate::runs::log::Level;
use landreeve_protection::backups::{Backup, BackupFilter, backup_delete, backup_get, backup_list};
use landreeve_protection::repositories::repository_named;
use landreeve_protection::restoring::{Plan, restore_plan};
use serde_json::{Value, json};

use super::protection::carry_out;
use super::records::{self, QueryArgs};
use super::{Place, Session, data, promotion, uuid_of};
use crate::orders::{Order, Restore};
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Back up a datasource, or the estate itself
    #[command(
        after_help = "Examples:\n  landreeve backup run shop --keep 30d\n  landreeve backup run --estate --repository offsite"
    )]
    Run(RunArgs),
    /// List the backups, newest first
    #[command(after_help = "Example:\n  landreeve backup list --format json")]
    List(ListArgs),
    /// Show one backup
    #[command(after_help = "Example:\n  landreeve backup show 0198a5c1-7a3e-4c0f-9d55-3f1e0c6b2a10")]
    Show(Which),
    /// Read every byte of a backup, to see that it is intact
    #[command(after_help = "Example:\n  landreeve backup verify 0198a5c1-7a3e-4c0f-9d55-3f1e0c6b2a10")]
    Verify(Which),
    /// List the tables in a backup, with their columns
    #[command(after_help = "Example:\n  landreeve backup browse 0198a5c1-7a3e-4c0f-9d55-3f1e0c6b2a10")]
    Browse(Which),
    /// Read rows from a backup with SQL, without restoring it
    #[command(
        after_help = "Example:\n  landreeve backup query 0198a5c1-7a3e-4c0f-9d55-3f1e0c6b2a10 \"SELECT * FROM public.orders WHERE id = 7\""
    )]
    Query(QueryArgs),
    /// Delete a backup before it expires
    #[command(after_help = "Example:\n  landreeve backup delete 0198a5c1-7a3e-4c0f-9d55-3f1e0c6b2a10 --yes")]
    Delete {
        #[command(flatten)]
        which: Which,
        /// Delete it; otherwise only say what would be deleted
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    place: Place,
    /// Name or id of the datasource
    #[arg(required_unless_present = "estate")]
    datasource: Option<String>,
    /// Back up the estate itself, without its key: metadata, results, files
    #[arg(long, conflicts_with = "datasource")]
    estate: bool,
    /// Name of the repository [default: default, which is made in the data directory]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// How long to keep it: a number of hours (h), days (d), weeks (w), months (m) or years (y) [default: 7d]
    #[arg(long, value_name = "TIME")]
    keep: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    place: Place,
    /// Only of this datasource: its name or id
    #[arg(long)]
    datasource: Option<String>,
    /// Only in this repository
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub struct Which {
    #[command(flatten)]
    pub(super) place: Place,
    /// Id of the backup, as `backup list` shows it
    pub(super) backup: String,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  landreeve restore 0198a5c1-7a3e-4c0f-9d55-3f1e0c6b2a10 --database /srv/shop-monday.db --compare"
)]
pub struct RestoreArgs {
    #[command(flatten)]
    place: Place,
    /// Id of the backup, as `backup list` shows it
    backup: String,
    /// The datasource on whose server the new database is made: its name or id [default: the one that was backed up]
    #[arg(long, value_name = "DATASOURCE")]
    to: Option<String>,
    /// The new database; for SQLite the path of a new file, for an estate of a new folder
    #[arg(long, value_name = "NAME")]
    database: String,
    /// Name of the datasource that it becomes [default: the backup's, with its date]
    #[arg(long)]
    name: Option<String>,
    /// Restore only this table, as SCHEMA.TABLE, with what it needs; can be repeated [default: everything]
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Restore only what is in this schema; can be repeated [default: everything]
    #[arg(long = "schema", value_name = "SCHEMA")]
    schemas: Vec<String>,
    /// Also restore who owns what, and who may do what; those users must exist
    #[arg(long)]
    owners: bool,
    /// Only say what would be restored, and where
    #[arg(long)]
    plan: bool,
    /// Read what was written once more, and compare it with the backup
    #[arg(long)]
    compare: bool,
}

pub async fn run(command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Run(args) => back_up(args).await,
        BackupCommand::List(args) => list(args).await,
        BackupCommand::Show(which) => {
            let uuid = uuid_of("backup", &which.backup)?;
            let session = Session::open(&which.place).await?;
            let found = backup_get(&session.opened.protection, &session.ctx, uuid).await;
            show(session, found, which.format).await
        }
        BackupCommand::Verify(which) => {
            let uuid = uuid_of("backup", &which.backup)?;
            carry_out(&which.place, Order::VerifyBackup { backup: uuid.to_string() }).await?.succeeded()?;
            let session = Session::open(&which.place).await?;
            let found = backup_get(&session.opened.protection, &session.ctx, uuid).await;
            show(session, found, which.format).await
        }
        BackupCommand::Browse(which) => records::browse(which).await,
        BackupCommand::Query(args) => records::query(args).await,
        BackupCommand::Delete { which, yes } => delete(which, yes).await,
    }
}

/// Prints a backup that was found, and closes the session.
async fn show(session: Session, found: landreeve_core::Result<Backup>, format: Format) -> anyhow::Result<()> {
    let now = session.opened.estate.now();
    session.close().await;
    output::listing(format, &COLUMNS, vec![row(&found?, now)]);
    Ok(())
}

async fn back_up(args: RunArgs) -> anyhow::Result<()> {
    let (repository, keep) = (args.repository, args.keep);
    let order = match &args.datasource {
        None => Order::BackUpEstate { repository, keep },
        Some(name) => {
            let session = Session::open(&args.place).await?;
            let found = data::find(&session, name).await;
            session.close().await;
            Order::BackUp { datasource: found?.id.0, repository, keep }
        }
    };
    let ended = carry_out(&args.place, order).await?;
    ended.succeeded()?;
    let session = Session::open(&args.place).await?;
    let which = RunRef::Id(RunId(ended.id));
    let found = match run_get(&session.opened.estate, &session.ctx, which, &[]).await {
        // A backup has its run's id.
        Ok(run) => backup_get(&session.opened.protection, &session.ctx, run.uuid).await,
        Err(error) => Err(error),
    };
    let logged = run_log(&session.opened.estate, &session.ctx, which, &[], 0).await;
    show(session, found, args.format).await?;
    let warnings = logged?.0.into_iter().filter(|line| line.level == Level::Warn);
    warnings.for_each(|line| output::tell(&format!("warning: {}", line.text)));
    Ok(())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.place).await?;
    let listed = listed(&session, &args).await;
    let now = session.opened.estate.now();
    session.close().await;
    output::listing(args.format, &COLUMNS, listed?.iter().map(|backup| row(backup, now)).collect());
    Ok(())
}

async fn listed(session: &Session, args: &ListArgs) -> anyhow::Result<Vec<Backup>> {
    let (plane, ctx) = (&session.opened.protection, &session.ctx);
    let mut filter = BackupFilter::default();
    if let Some(name) = &args.repository {
        filter.repository = Some(repository_named(plane, ctx, name).await?.id);
    }
    let all = page::collect(|after| backup_list(plane, ctx, &filter, after)).await?;
    let Some(name) = &args.datasource else { return Ok(all) };
    // A datasource that was deleted has backups still.
    let id = data::find(session, name).await.map(|found| found.uuid).ok();
    let of_asset = |backup: &Backup| Some(backup.asset.uuid) == id || backup.asset.name == *name;
    Ok(all.into_iter().filter(of_asset).collect())
}

async fn delete(which: Which, yes: bool) -> anyhow::Result<()> {
    let uuid = uuid_of("backup", &which.backup)?;
    let session = Session::open(&which.place).await?;
    let (plane, ctx) = (session.opened.protection.clone(), session.ctx.clone());
    let done = match yes {
        true => backup_delete(&plane, &ctx, uuid).await,
        false => backup_get(&plane, &ctx, uuid).await,
    };
    let backup = promotion::finish(session, done).await?;
    let what = format!(
        "the backup {} of {}, started at {} and kept until {}",
        backup.uuid, backup.asset.name, backup.started_at, backup.expires_at
    );
    if yes {
        output::say(&format!("deleted {what}"));
        output::tell("Its data is deleted when the repository is pruned.");
    } else {
        output::say(&format!("would delete {what}"));
        output::tell("Nothing was deleted; add --yes to delete it.");
    }
    Ok(())
}

pub async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.place).await?;
    let wanted = wanted(&session, &args).await;
    let planned = match (&wanted, args.plan) {
        (Ok(restore), true) => {
            let new = Input::of(restore.clone().wanted()?);
            Some(restore_plan(&session.opened.protection, &session.ctx, new).await)
        }
        _ => None,
    };
    session.close().await;
    let restore = wanted?;
    if let Some(planned) = planned {
        show_plan(&planned?);
        return Ok(());
    }
    let ended = carry_out(&args.place, Order::Restore(restore)).await?;
    ended.succeeded()?;
    let session = Session::open(&args.place).await?;
    let which = RunRef::Id(RunId(ended.id));
    let lines = run_log(&session.opened.estate, &session.ctx, which, &[], 0).await;
    session.close().await;
    lines?.0.iter().for_each(|line| output::say(&line.text));
    Ok(())
}

async fn wanted(session: &Session, args: &RestoreArgs) -> anyhow::Result<Restore> {
    let uuid = uuid_of("backup", &args.backup)?;
    let backup = backup_get(&session.opened.protection, &session.ctx, uuid).await?;
    let database = match DatabaseType::stored(&backup.asset.database_type) {
        // Relative to the command's working directory, not to the server's folders.
        _ if backup.asset.is_estate() => std::path::absolute(&args.database)?.to_string_lossy().into_owned(),
        DatabaseType::Sqlite => std::path::absolute(&args.database)?.to_string_lossy().into_owned(),
        _ => args.database.clone(),
    };
    let to = match &args.to {
        Some(name) => Some(data::find(session, name).await?.id.0),
        None => None,
    };
    Ok(Restore {
        backup: uuid.to_string(),
        to,
        database,
        name: args.name.clone(),
        schemas: args.schemas.clone(),
        tables: args.tables.clone(),
        owners: args.owners,
        compare: args.compare,
    })
}

fn show_plan(plan: &Plan) {
    let (tables, rows, bytes) = match &plan.chosen {
        Some(chosen) => (chosen.tables.to_string(), Some(chosen.rows.to_string()), chosen.bytes.to_string()),
        None => {
            let rows = plan.backup.rows.map(|rows| rows.to_string());
            (plan.backup.tables.to_string(), rows, plan.backup.bytes_read.to_string())
        }
    };
    let rows = rows.map_or_else(String::new, |rows| format!(" with {rows} rows"));
    if plan.backup.asset.is_estate() {
        let (started, target) = (plan.backup.started_at, plan.target.shown());
        output::say(&format!("would restore the estate as of {started}, {bytes} bytes\nto {target}"));
        return;
    }
    output::say(&format!(
        "would restore {tables} tables{rows}, {bytes} bytes, of {} as of {}\nto {}\nwhich becomes the datasource {}",
        plan.backup.asset.name,
        plan.backup.started_at,
        plan.target.shown(),
        plan.name,
    ));
}

const COLUMNS: [&str; 13] = [
    "id",
    "asset",
    "status",
    "start_timestamp",
    "end_timestamp",
    "expiration_timestamp",
    "repository",
    "snapshot_id",
    "tables",
    "rows",
    "bytes_read",
    "bytes_added",
    "verified_timestamp",
];

fn row(backup: &Backup, now: jiff::Timestamp) -> Vec<Value> {
    vec![
        json!(backup.uuid.to_string()),
        json!(backup.asset.name),
        json!(if backup.is_expired(now) { "expired" } else { "success" }),
        json!(backup.started_at.to_string()),
        json!(backup.finished_at.map(|at| at.to_string())),
        json!(backup.expires_at.to_string()),
        json!(backup.repository_name),
        json!(backup.snapshot.as_str()),
        json!(backup.tables),
        json!(backup.rows),
        json!(backup.bytes_read),
        json!(backup.bytes_added),
        json!(backup.verified_at.map(|at| at.to_string())),
    ]
}
