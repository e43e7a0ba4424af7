//! `landreeve revision …`: scripts to be deployed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use landreeve_core::{Error, Input, OpCtx, Page, Result};
use landreeve_promotion::Promotion;
use landreeve_promotion::ids::RevisionId;
use landreeve_promotion::revisions::{
    DeployedOn, FromServer, MAX_VQL_BYTES, NewRevision, ReplaceMode, Revision, RevisionType, ServerRef,
    deployed_on, revision_delete, revision_from_server, revision_get, revision_list, revision_upload,
};
use landreeve_promotion::vql::properties;
use serde_json::{Value, json};

use super::{Unit, finish, open};
use crate::cli::vql::read;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub enum RevisionCommand {
    /// Create a revision, from a file or from what a server has
    #[command(
        after_help = "Examples:\n  landreeve revision create 'Sales 1' --vql sales.vql\n  landreeve revision create 'Sales 2' --from dev-1 --database sales"
    )]
    Create(Box<CreateArgs>),
    /// List the revisions, newest first
    #[command(after_help = "Example:\n  landreeve revision list")]
    List {
        #[command(flatten)]
        unit: Unit,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Delete a revision that was never deployed
    #[command(after_help = "Example:\n  landreeve revision delete 'Sales 1'")]
    Delete {
        #[command(flatten)]
        unit: Unit,
        /// Name or id of the revision; see `landreeve revision list`
        revision: String,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    unit: Unit,
    /// Name of the revision
    name: String,
    /// Description [default: none]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Read the script from this file
    #[arg(long, value_name = "FILE", required_unless_present = "from", conflicts_with = "from")]
    vql: Option<PathBuf>,
    /// Read the values where the script comes from out of this Java .properties file [default: none]
    #[arg(long, value_name = "FILE", requires = "vql")]
    properties: Option<PathBuf>,
    /// Write the script from what this server has, by name or id
    #[arg(long, value_name = "SERVER", requires = "database")]
    from: Option<String>,
    /// Virtual database of the server
    #[arg(long, value_name = "NAME", requires = "from")]
    database: Option<String>,
    /// Include only this view, datasource, wrapper or folder; repeatable [default: everything in the database]
    #[arg(long = "element", value_name = "NAME", requires = "from")]
    elements: Vec<String>,
    /// Drop the elements instead of creating them
    #[arg(long = "drop", requires = "from")]
    drops: bool,
    /// What the script does with elements that exist
    #[arg(long, value_enum, default_value = "replace")]
    replace: Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Replace {
    /// Fail
    Keep,
    /// Replace them
    #[value(name = "replace")]
    Existing,
    /// Drop them first, with everything that depends on them
    Drop,
}

impl From<Replace> for ReplaceMode {
    fn from(replace: Replace) -> ReplaceMode {
        match replace {
            Replace::Keep => ReplaceMode::DoNotReplace,
            Replace::Existing => ReplaceMode::Replace,
            Replace::Drop => ReplaceMode::DropBefore,
        }
    }
}

pub async fn run(command: RevisionCommand) -> anyhow::Result<()> {
    match command {
        RevisionCommand::Create(args) => create(*args).await,
        RevisionCommand::List { unit, format } => list(&unit, format).await,
        RevisionCommand::Delete { unit, revision } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let done = async {
                let id = revision_named(&plane, &ctx, &revision).await?;
                revision_delete(&plane, &ctx, id).await
            };
            let done = done.await;
            finish(session, done).await?;
            output::say(&format!("deleted the revision {revision}"));
            Ok(())
        }
    }
}

/// A revision by its name, which only one may have, or else by its id.
pub async fn revision_named(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<RevisionId> {
    let (mut named, mut page) = (Vec::new(), Page::first(Page::MAX_LIMIT));
    loop {
        let found = revision_list(plane, ctx, page).await?;
        let more = found.has_more();
        named.extend(
            found.items.into_iter().filter(|revision| revision.name == name).map(|revision| revision.id),
        );
        if !more {
            break;
        }
        page.offset += u64::from(page.limit);
    }
    if let ([id], Ok(number)) = (named.as_slice(), name.parse().map(RevisionId))
        && number != *id
        && revision_get(plane, ctx, number).await.is_ok()
    {
        let message = format!(
            "{name} is the id of a revision and the name of another one; use {id} for that one, or the name of the first"
        );
        return Err(Error::conflict("ambiguous", message));
    }
    match named.as_slice() {
        [id] => Ok(*id),
        [] => {
            let none = || Error {
                message: format!("there is no revision {name:?}"),
                ..Error::not_found("revision")
            };
            let id = name.parse().map(RevisionId).map_err(|_| none())?;
            // A number that is no id either is an error that says so.
            revision_get(plane, ctx, id).await.map(|revision| revision.id)
        }
        several => {
            let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
            let message =
                format!("{} revisions are named {name:?}; use an id: {}", ids.len(), ids.join(", "));
            Err(Error::conflict("ambiguous", message))
        }
    }
}

/// What is to be created.
enum New {
    Upload(NewRevision),
    FromServer(FromServer),
}

impl CreateArgs {
    /// Reads the files.
    fn read(self) -> anyhow::Result<New> {
        let CreateArgs { name, description, .. } = self;
        let replace = self.replace.into();
        match (self.vql, self.from, self.database) {
            (Some(file), _, _) => {
                let properties =
                    self.properties.map(|file| read(&file, properties::MAX_BYTES)).transpose()?;
                // With its byte order mark a file can be a little larger.
                let vql = read(&file, MAX_VQL_BYTES + 3)?;
                Ok(New::Upload(NewRevision { name, description, vql, replace, properties }))
            }
            (None, Some(server), Some(database)) => Ok(New::FromServer(FromServer {
                name,
                description,
                server: ServerRef::Named(server),
                database,
                kind: if self.drops { RevisionType::Delete } else { RevisionType::Insert },
                elements: Some(self.elements).filter(|elements| !elements.is_empty()),
                replace,
            })),
            _ => anyhow::bail!("use --vql FILE, or --from SERVER --database NAME"),
        }
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let (session, ctx) = open(&args.unit).await?;
    let new = match args.read() {
        Ok(new) => new,
        Err(error) => {
            session.close().await;
            return Err(error);
        }
    };
    let plane = session.opened.promotion.clone();
    let done = match new {
        New::Upload(new) => revision_upload(&plane, &ctx, Input::of(new)).await,
        New::FromServer(from) => revision_from_server(&plane, &ctx, Input::of(from)).await,
    };
    let made = finish(session, done).await?;
    output::say(&format!("created the revision {} ({})", made.id, made.name));
    Ok(())
}

async fn list(unit: &Unit, format: Format) -> anyhow::Result<()> {
    let (session, ctx) = open(unit).await?;
    let rows = rows(&session.opened.promotion, &ctx).await;
    session.close().await;
    let columns =
        ["id", "name", "type", "created_at", "created_by", "deployed_on", "description", "content_hash"];
    output::listing(format, &columns, rows?);
    Ok(())
}

/// Every revision, page by page.
async fn rows(plane: &Promotion, ctx: &OpCtx) -> Result<Vec<Vec<Value>>> {
    let (mut rows, mut offset) = (Vec::new(), 0);
    loop {
        let page = revision_list(plane, ctx, Page { offset, limit: Page::MAX_LIMIT }).await?;
        let ids: Vec<RevisionId> = page.items.iter().map(|revision| revision.id).collect();
        let mut deployed = deployed_on(plane, ctx, &ids).await?;
        offset += u64::from(page.limit);
        let more = page.has_more();
        for revision in page.items {
            let deployed = deployed.remove(&revision.id).unwrap_or_default();
            rows.push(row(revision, &deployed));
        }
        if !more {
            return Ok(rows);
        }
    }
}

fn row(revision: Revision, deployed: &[DeployedOn]) -> Vec<Value> {
    let deployed: Vec<&str> = deployed.iter().map(|deployed| deployed.name.as_str()).collect();
    vec![
        json!(revision.id.0),
        json!(revision.name),
        json!(revision.kind.as_str().to_lowercase()),
        json!(revision.created_at.to_string()),
        json!(revision.created_by),
        json!(deployed.join(", ")),
        json!(revision.description.unwrap_or_default()),
        json!(revision.content_hash),
    ]
}
