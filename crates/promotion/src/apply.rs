//! Applies a script to a node: parsed and executed on a copy, then stored at once or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use landreeve_core::{Action, Error, OpCtx, Result};

pub use crate::catalog::diff::Change;
use crate::catalog::execute::{self, Input, Outcome};
pub use crate::catalog::execute::{Done as Statement, End};
use crate::catalog::{Catalog, Key, describe, diff};
use crate::nodes::{self, Node};
use crate::nouns::VIRTUAL_NODE;
use crate::plane::Promotion;
use crate::sources;
use crate::versions::{self, Declared, NewVersion};
use crate::vql::properties::Properties;
use crate::vql::{self, script};

/// How a script is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Nothing is stored.
    pub dry_run: bool,
    /// Views that would become invalid are an error.
    pub strict: bool,
}

/// What applying a script did, or would do.
#[derive(Debug, Clone)]
pub struct Applied {
    pub node: String,
    pub from_version: i64,
    /// The version that queries read now. Unchanged after a failure, a dry run, or a script that changes nothing.
    pub version: i64,
    /// Of the objects after the script.
    pub content_hash: String,
    pub statements: Vec<Statement>,
    /// Views that no longer plan, with the reason.
    pub invalid: Vec<(Key, String)>,
    /// Why nothing is applied although every statement succeeded.
    pub refused: Vec<(Key, String)>,
    pub changes: Vec<Change>,
    pub from_hash: String,
}

impl Applied {
    pub fn failed(&self) -> bool {
        !self.refused.is_empty() || self.statements.iter().any(|done| done.end == End::Failed)
    }

    /// The statements that succeeded.
    pub fn executed(&self) -> usize {
        self.statements.iter().filter(|done| done.end != End::Failed).count()
    }
}

/// How often a script is executed again because another was applied meanwhile.
const ATTEMPTS: usize = 3;

/// Applies a script to a node of the caller's unit.
pub async fn apply(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &str,
    text: String,
    properties: Properties,
    options: Options,
) -> Result<Applied> {
    let estate = plane.estate();
    estate.require_here(ctx, VIRTUAL_NODE, Action::MANAGE).await?;
    let mut inputs = parsed(text, properties).await?;
    for _ in 0..ATTEMPTS {
        let found = nodes::of_caller(plane, ctx, node).await?;
        let base = versions::catalog_of(plane, &found).await?;
        let fingerprint = estate.sealed_with();
        let declared = sources::resolve(plane, ctx, &base, &mut inputs).await?;
        let executed = run(plane, Arc::clone(&base), inputs, declared, fingerprint).await?;
        let Executed { outcome, new, mut applied } = executed.0;
        inputs = executed.1;
        applied.node.clone_from(&found.name);
        (applied.from_version, applied.version) = (found.version, found.version);
        if options.strict {
            applied.refused.append(&mut applied.invalid);
        }
        let same = applied.changes.iter().all(|change| change.kind == diff::ChangeKind::Invalidate);
        if applied.failed() || options.dry_run || same {
            return Ok(applied);
        }
        if let Some((stored, number)) = versions::add(plane, ctx, &found, new).await? {
            versions::remember(plane, &stored, number, outcome.catalog);
            applied.version = number;
            return Ok(applied);
        }
    }
    Err(Error::conflict(
        "conflict",
        format!("the node {node} was changed {ATTEMPTS} times meanwhile; try again"),
    ))
}

/// The statements of a script. A property without a value, or a script that cannot be split, is an error of the whole.
async fn parsed(text: String, properties: Properties) -> Result<Vec<Input>> {
    let parse = move || {
        let pieces = script::pieces(&text, &properties).map_err(|faults| {
            let faults = faults.into_iter().map(|fault| landreeve_core::Fault {
                field: "script".to_owned(),
                code: "syntax",
                message: fault.to_string(),
            });
            Error::invalid(faults.take(MAX_FAULTS).collect())
        })?;
        let input = |piece: script::Piece| {
            let statement = vql::statement(&piece);
            Input { piece, statement, connection: None }
        };
        Ok(pieces.into_iter().map(input).collect())
    };
    tokio::task::spawn_blocking(parse).await.map_err(Error::internal)?
}

/// Of those that are reported together.
const MAX_FAULTS: usize = 100;

struct Executed {
    outcome: Outcome,
    new: NewVersion,
    applied: Applied,
}

/// Executes the script on a thread of its own: it plans every view.
async fn run(
    plane: &Promotion,
    base: Arc<Catalog>,
    inputs: Vec<Input>,
    declared: Vec<Declared>,
    fingerprint: String,
) -> Result<(Executed, Vec<Input>)> {
    let mut planner = plane.engine().view_planner();
    let work = move || {
        let outcome = execute::execute(&base, &inputs, &mut *planner);
        let new = NewVersion::of(&outcome.catalog, declared, fingerprint)?;
        let invalid: BTreeSet<&Key> = outcome.invalid.iter().map(|(key, _)| key).collect();
        let applied = Applied {
            node: String::new(),
            from_version: 0,
            version: 0,
            content_hash: describe::content_hash(&outcome.catalog),
            statements: outcome.statements.clone(),
            invalid: outcome.invalid.clone(),
            refused: outcome.refused.clone(),
            changes: diff::changes(&base, &outcome.catalog, &invalid),
            from_hash: describe::content_hash(&base),
        };
        Ok((Executed { outcome, new, applied }, inputs))
    };
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

/// The objects of a node, or of one of its databases, as VQL.
pub async fn description(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &str,
    database: Option<&str>,
) -> Result<String> {
    plane.estate().require_here(ctx, VIRTUAL_NODE, Action::VIEW).await?;
    let found: Node = nodes::of_caller(plane, ctx, node).await?;
    let catalog = versions::catalog_of(plane, &found).await?;
    match database {
        None => Ok(describe::everything(&catalog)),
        Some(name) => {
            let what = vql::ast::Described::Database(name.to_owned());
            let options = vql::ast::Options { replace_existing: true, ..vql::ast::Options::default() };
            let wanted = vql::ast::Describe { what, options };
            describe::text(&catalog, None, &wanted)
                .map_err(|message| Error::fault("database", "not_found", message))
        }
    }
}
