//! `landreeve vql …`: virtual databases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use landreeve_promotion::apply::{self, Applied, Options};
use landreeve_promotion::catalog::Key;
use landreeve_promotion::nodes::{self, LOCAL};
use landreeve_promotion::versions;
use landreeve_promotion::vql::properties::{self, Properties};
use landreeve_promotion::vql::script::MAX_SCRIPT;
use serde_json::{Value, json};

use super::promotion::{Unit, finish, open};
use crate::output::{self, Format, ReportFormat};

#[derive(Debug, Subcommand)]
pub enum VqlCommand {
    /// Apply a VQL script to a node: all of it, or nothing
    #[command(
        after_help = "Examples:\n  landreeve vql run sales.vql\n  landreeve vql run sales.vql --properties production.properties --dry-run"
    )]
    Run(RunArgs),
    /// Show what a VQL script would change
    #[command(after_help = "Example:\n  landreeve vql diff sales.vql")]
    Diff(DiffArgs),
    /// Print the objects of a node, or of one database, as VQL
    #[command(after_help = "Example:\n  landreeve vql desc sales")]
    Desc {
        #[command(flatten)]
        at: At,
        /// Print only this database [default: all]
        database: Option<String>,
    },
    /// List the versions of a node, newest first
    #[command(after_help = "Example:\n  landreeve vql history")]
    History {
        #[command(flatten)]
        at: At,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Make an earlier version the one that queries read
    #[command(after_help = "Example:\n  landreeve vql rollback 3")]
    Rollback {
        #[command(flatten)]
        at: At,
        /// Number of the version; see `landreeve vql history`
        version: i64,
    },
    /// Manage nodes, each with virtual databases of its own
    #[command(after_help = "Example:\n  landreeve vql node list")]
    #[command(subcommand)]
    Node(NodeCommand),
}

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Create a node
    #[command(after_help = "Example:\n  landreeve vql node create staging")]
    Create {
        #[command(flatten)]
        unit: Unit,
        /// Name of the node
        name: String,
    },
    /// List the nodes; `local` is in every unit, and listed once something was applied to it
    #[command(after_help = "Example:\n  landreeve vql node list")]
    List {
        #[command(flatten)]
        unit: Unit,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Delete a node with all its versions, unless a datasource names it
    #[command(after_help = "Example:\n  landreeve vql node delete staging")]
    Delete {
        #[command(flatten)]
        unit: Unit,
        /// Name of the node
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct At {
    #[command(flatten)]
    unit: Unit,
    /// Name of the node
    #[arg(long, default_value = LOCAL)]
    node: String,
}

#[derive(Debug, Args)]
pub struct Script {
    #[command(flatten)]
    at: At,
    /// File with the script
    file: PathBuf,
    /// Read the values of properties from this Java .properties file [default: none]
    #[arg(long, value_name = "FILE")]
    properties: Option<PathBuf>,
    /// Fail if views become invalid
    #[arg(long)]
    strict: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    script: Script,
    /// Only check the script, and apply nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    script: Script,
}

pub async fn run(command: VqlCommand) -> anyhow::Result<()> {
    match command {
        VqlCommand::Run(args) => run_script(args).await,
        VqlCommand::Diff(args) => diff(args).await,
        VqlCommand::Desc { at, database } => {
            let (session, ctx) = open(&at.unit).await?;
            let plane = session.opened.promotion.clone();
            let text = apply::description(&plane, &ctx, &at.node, database.as_deref()).await;
            session.close().await;
            output::say(text?.trim_end());
            Ok(())
        }
        VqlCommand::History { at, format } => history(&at, format).await,
        VqlCommand::Rollback { at, version } => {
            let (session, ctx) = open(&at.unit).await?;
            let plane = session.opened.promotion.clone();
            let done = versions::rollback(&plane, &ctx, &at.node, version).await;
            finish(session, done).await?;
            output::say(&format!("queries on {} read version {version}", at.node));
            Ok(())
        }
        VqlCommand::Node(command) => node(command).await,
    }
}

async fn node(command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::Create { unit, name } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let done = nodes::node_create(&plane, &ctx, &name).await;
            finish(session, done).await?;
            output::say(&format!("created the node {name}"));
        }
        NodeCommand::Delete { unit, name } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let done = nodes::node_delete(&plane, &ctx, &name).await;
            finish(session, done).await?;
            output::say(&format!("deleted the node {name}"));
        }
        NodeCommand::List { unit, format } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let mut rows = Vec::new();
            let mut after = None;
            let listed = loop {
                match nodes::node_list(&plane, &ctx, after).await {
                    Ok(part) => {
                        rows.extend(
                            part.items.iter().map(|node| vec![json!(node.name), json!(node.version)]),
                        );
                        after = part.next;
                        if after.is_none() {
                            break Ok(());
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            session.close().await;
            listed?;
            output::listing(format, &["name", "version"], rows);
        }
    }
    Ok(())
}

/// A file of at most this many bytes.
pub(super) fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let mut bytes = Vec::new();
    let limit_and_one = u64::try_from(limit)?.saturating_add(1);
    file.take(limit_and_one)
        .read_to_end(&mut bytes)
        .with_context(|| format!("could not read {}", path.display()))?;
    anyhow::ensure!(bytes.len() <= limit, "{} is larger than {} MiB", path.display(), limit >> 20);
    Ok(bytes)
}

fn read_properties(path: Option<&PathBuf>) -> anyhow::Result<Properties> {
    let Some(path) = path else { return Ok(Properties::new()) };
    let bytes = read(path, properties::MAX_BYTES)?;
    properties::read(&bytes).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// Runs a script, and prints what it did even if it failed.
async fn applied(script: &Script, dry_run: bool) -> anyhow::Result<Applied> {
    let (session, ctx) = open(&script.at.unit).await?;
    let (text, values) = match read_script(script) {
        Ok(read) => read,
        Err(error) => {
            session.close().await;
            return Err(error);
        }
    };
    let plane = session.opened.promotion.clone();
    let options = Options { dry_run, strict: script.strict };
    let done = apply::apply(&plane, &ctx, &script.at.node, text, values, options).await;
    finish(session, done).await
}

/// The text of a script, and the values of its properties.
fn read_script(script: &Script) -> anyhow::Result<(String, Properties)> {
    let text = String::from_utf8(read(&script.file, MAX_SCRIPT)?)
        .map_err(|_| anyhow::anyhow!("{} is not UTF-8", script.file.display()))?;
    Ok((text, read_properties(script.properties.as_ref())?))
}

async fn run_script(args: RunArgs) -> anyhow::Result<()> {
    let done = applied(&args.script, args.dry_run).await?;
    let shown: Vec<&apply::Statement> = done.statements.iter().collect();
    if args.script.format == ReportFormat::Json {
        let statement = |done: &&apply::Statement| {
            json!({
                "index": done.index, "line": done.place.line, "column": done.place.column, "text": done.text,
                "result": done.end.as_str(), "message": done.message,
            })
        };
        output::say(&serde_json::to_string_pretty(&json!({
            "node": done.node, "fromVersion": done.from_version, "version": done.version,
            "contentHash": done.content_hash, "executed": done.executed(), "total": done.statements.len(),
            "statements": shown.iter().map(statement).collect::<Vec<_>>(),
            "invalid": done.invalid.iter().chain(&done.refused).map(|(key, _)| key.full_name()).collect::<Vec<_>>(),
        }))?);
    } else {
        for statement in shown {
            let place = format!("line {}, column {}", statement.place.line, statement.place.column);
            match statement.end {
                apply::End::Failed => output::say(&format!(" - {place}: failed: {}", statement.message)),
                apply::End::Stored => output::say(&format!(" - {place}: stored, not executed")),
                apply::End::Executed if statement.has_output => output::say(statement.message.trim_end()),
                apply::End::Executed if !statement.message.is_empty() => {
                    output::say(&format!(" - {place}: {}", statement.message))
                }
                apply::End::Executed => {}
            }
        }
        for (key, why) in done.invalid.iter().chain(&done.refused) {
            output::say(&format!(" - invalid: {}: {why}", key.full_name()));
        }
        let verb = if args.dry_run { "Checked" } else { "Executed" };
        output::say(&format!(" - {verb} {} of {} VQL commands", done.executed(), done.statements.len()));
        output::say(&summary(&done, args.dry_run));
    }
    if done.failed() { Err(anyhow::anyhow!("nothing was applied")) } else { Ok(()) }
}

fn summary(done: &Applied, dry_run: bool) -> String {
    match (done.failed(), dry_run) {
        (true, _) => {
            format!(" - Nothing was applied: queries on {} read version {}", done.node, done.version)
        }
        (false, true) => {
            let objects = if done.changes.len() == 1 { "object" } else { "objects" };
            format!(" - Nothing was applied (dry run): {} {objects} would change", done.changes.len())
        }
        (false, false) if done.version == done.from_version => {
            format!(" - Nothing changed: queries on {} read version {}", done.node, done.version)
        }
        (false, false) => format!(" - Queries on {} read version {} now", done.node, done.version),
    }
}

async fn diff(args: DiffArgs) -> anyhow::Result<()> {
    let done = applied(&args.script, true).await?;
    let reasons: BTreeMap<&Key, &str> =
        done.invalid.iter().chain(&done.refused).map(|(key, why)| (key, why.as_str())).collect();
    let failed = || done.statements.iter().filter(|statement| statement.end == apply::End::Failed);
    if args.script.format == ReportFormat::Json {
        let change = |change: &apply::Change| {
            json!({
                "kind": change.key.kind.label(), "name": change.key.full_name(), "change": change.kind.as_str(),
                "before": change.before, "after": change.after, "reason": reasons.get(&change.key),
            })
        };
        let failure = |statement: &apply::Statement| {
            json!({
                "index": statement.index, "line": statement.place.line, "column": statement.place.column,
                "text": statement.text, "message": statement.message,
            })
        };
        output::say(&serde_json::to_string_pretty(&json!({
            "node": done.node, "fromHash": done.from_hash, "toHash": done.content_hash,
            "changes": done.changes.iter().map(change).collect::<Vec<_>>(),
            "failed": failed().map(failure).collect::<Vec<_>>(),
        }))?);
    } else {
        if done.changes.is_empty() && !done.failed() {
            output::say(&format!("no differences from version {} of {}", done.version, done.node));
        }
        for change in &done.changes {
            output::say(&format!(
                "{} {} {}",
                change.kind.as_str(),
                change.key.kind.label(),
                change.key.full_name()
            ));
            if let Some(why) = reasons.get(&change.key) {
                output::say(&format!("  it would be invalid: {why}"));
            }
            output::differences(change.before.as_deref(), change.after.as_deref(), "  ");
        }
    }
    for statement in failed() {
        let (line, column) = (statement.place.line, statement.place.column);
        output::complain(&format!("line {line}, column {column}: {}", statement.message));
    }
    if done.failed() { Err(anyhow::anyhow!("the script cannot be applied")) } else { Ok(()) }
}

async fn history(at: &At, format: Format) -> anyhow::Result<()> {
    let (session, ctx) = open(&at.unit).await?;
    let plane = session.opened.promotion.clone();
    let found = versions::history(&plane, &ctx, &at.node).await;
    session.close().await;
    let row = |version: versions::Version| -> Vec<Value> {
        vec![
            json!(version.number),
            json!(version.current),
            json!(version.objects),
            json!(version.applied_at.to_string()),
            json!(version.applied_by),
            json!(version.content_hash),
        ]
    };
    let columns = ["version", "current", "objects", "applied_at", "applied_by", "content_hash"];
    output::listing(format, &columns, found?.into_iter().map(row).collect());
    Ok(())
}
