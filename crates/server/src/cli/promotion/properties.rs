//! `landreeve property …`: the values that scripts take from the environment they are deployed to.

use std::path::PathBuf;

use clap::Subcommand;
use landreeve_core::{Error, Fault, Input, OpCtx, page};
use landreeve_promotion::Promotion;
use landreeve_promotion::environments::environment_named;
use landreeve_promotion::properties::{
    MAX_IN_REQUEST, NewProperty, Parent, ParentKind, Property, PropertyFilter, property_delete,
    property_list, property_put,
};
use landreeve_promotion::vql::properties as file;
use serde_json::json;

use super::{Unit, finish, open};
use crate::cli::{Session, read_password, vql};
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub enum PropertyCommand {
    /// Set a property of an environment
    #[command(
        after_help = "Examples:\n  landreeve property set production databases.sales.datasources.jdbc.ds_erp.USERNAME app\n  landreeve property set production databases.sales.datasources.jdbc.ds_erp.USERPASSWORD --value-stdin"
    )]
    Set {
        #[command(flatten)]
        unit: Unit,
        /// Name or number of the environment
        environment: String,
        /// Name of the property
        name: String,
        /// Value of the property
        #[arg(required_unless_present = "value_stdin", conflicts_with = "value_stdin")]
        value: Option<String>,
        /// Read the value from standard input, so that it is not in the list of processes
        #[arg(long)]
        value_stdin: bool,
    },
    /// List the properties of an environment; secrets are shown encrypted
    #[command(after_help = "Example:\n  landreeve property list production")]
    List {
        #[command(flatten)]
        unit: Unit,
        /// Name or number of the environment
        environment: String,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Delete a property of an environment
    #[command(
        after_help = "Example:\n  landreeve property delete production databases.sales.datasources.jdbc.ds_erp.USERNAME"
    )]
    Delete {
        #[command(flatten)]
        unit: Unit,
        /// Name or number of the environment
        environment: String,
        /// Name of the property
        name: String,
    },
    /// Set the properties in a Java .properties file; others stay as they are
    #[command(after_help = "Example:\n  landreeve property import production production.properties")]
    Import {
        #[command(flatten)]
        unit: Unit,
        /// Name or number of the environment
        environment: String,
        /// File with the properties
        file: PathBuf,
    },
}

pub async fn run(command: PropertyCommand) -> anyhow::Result<()> {
    match command {
        PropertyCommand::Set { unit, environment, name, value, value_stdin } => {
            let (session, ctx) = open(&unit).await?;
            let read = match value {
                Some(value) if !value_stdin => Ok(value),
                _ => read_password().map(|secret| secret.reveal().to_owned()),
            };
            let (session, value) = or_close(session, read).await?;
            let plane = session.opened.promotion.clone();
            let wanted = vec![NewProperty { name: name.clone(), value, undefined: false }];
            let done = set(&plane, &ctx, &environment, wanted).await;
            finish(session, done).await?;
            output::say(&format!("set {name}"));
        }
        PropertyCommand::List { unit, environment, format } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let listed = listed(&plane, &ctx, &environment).await;
            session.close().await;
            let row = |property: Property| {
                vec![json!(property.name), json!(property.value), json!(property.undefined)]
            };
            let rows = listed?.into_iter().map(row).collect();
            output::listing(format, &["name", "value", "undefined"], rows);
        }
        PropertyCommand::Delete { unit, environment, name } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let done = delete(&plane, &ctx, &environment, &name).await;
            finish(session, done).await?;
            output::say(&format!("deleted {name}"));
        }
        PropertyCommand::Import { unit, environment, file } => {
            let (session, ctx) = open(&unit).await?;
            let (session, wanted) = or_close(session, read(&file)).await?;
            let count = wanted.len();
            let plane = session.opened.promotion.clone();
            let done = set(&plane, &ctx, &environment, wanted).await;
            finish(session, done).await?;
            output::say(&format!("set {}", output::counted(count, "property", "properties")));
        }
    }
    Ok(())
}

/// What was read for a command; if it could not be read, the store is closed.
async fn or_close<T>(session: Session, read: anyhow::Result<T>) -> anyhow::Result<(Session, T)> {
    match read {
        Ok(read) => Ok((session, read)),
        Err(error) => {
            session.close().await;
            Err(error)
        }
    }
}

/// The properties of a file. Those that say that another one is encrypted come first: it must be known when that one is set,
/// which may be in a later request.
fn read(path: &std::path::Path) -> anyhow::Result<Vec<NewProperty>> {
    let bytes = vql::read(path, file::MAX_BYTES)?;
    let found = file::read(&bytes).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let new = |(name, value)| NewProperty { name, value, undefined: false };
    let (mut first, rest): (Vec<_>, Vec<_>) = found
        .into_iter()
        .map(new)
        .partition(|new| [".ENCRYPTED", ".ALGORITHM"].iter().any(|tail| new.name.ends_with(tail)));
    first.extend(rest);
    Ok(first)
}

async fn set(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: &str,
    wanted: Vec<NewProperty>,
) -> landreeve_core::Result<()> {
    let parent = Parent::Environment(environment_named(plane, ctx, environment).await?.id);
    for part in wanted.chunks(MAX_IN_REQUEST) {
        let done = property_put(plane, ctx, parent, Input::of(part.to_vec())).await;
        done.map_err(|error| by_name(error, part))?;
    }
    Ok(())
}

async fn delete(plane: &Promotion, ctx: &OpCtx, environment: &str, name: &str) -> landreeve_core::Result<()> {
    let found = listed(plane, ctx, environment).await?;
    let found = found.into_iter().find(|property| property.name == name);
    let found = found.ok_or_else(|| Error::not_found("property"))?;
    property_delete(plane, ctx, found.id, ParentKind::Environment).await
}

/// Faults have the positions of properties, which say little about a file.
fn by_name(error: Error, sent: &[NewProperty]) -> Error {
    if error.faults.is_empty() {
        return error;
    }
    let named = |fault: Fault| {
        let at = fault.field.split_once('.').and_then(|(at, _)| at.parse::<usize>().ok());
        match at.and_then(|at| sent.get(at)) {
            Some(new) => Fault { field: new.name.clone(), ..fault },
            None => fault,
        }
    };
    Error::invalid(error.faults.into_iter().map(named).collect())
}

async fn listed(plane: &Promotion, ctx: &OpCtx, environment: &str) -> landreeve_core::Result<Vec<Property>> {
    let parent = Parent::Environment(environment_named(plane, ctx, environment).await?.id);
    let all = PropertyFilter::default();
    page::collect(|after| property_list(plane, ctx, parent, &all, after)).await
}
