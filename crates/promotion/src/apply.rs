//! Applies one script or several to a node: parsed and executed on a copy, then stored together or not at all.

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
pub use crate::versions::Fence;
use crate::versions::{self, Declared, Known, NewVersion};
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
    plane.estate().require_here(ctx, VIRTUAL_NODE, Action::MANAGE).await?;
    let mut inputs = parsed("script".to_owned(), text, properties).await?;
    for _ in 0..ATTEMPTS {
        let found = nodes::of_caller(plane, ctx, node).await?;
        let terms = Terms { options, ..Terms::default() };
        match applied(plane, ctx, &found, inputs, terms).await? {
            (Some(applied), _) => return Ok(applied),
            (None, read) => inputs = read,
        }
    }
    Err(Error::conflict(
        "conflict",
        format!("the node {node} was changed {ATTEMPTS} times meanwhile; try again"),
    ))
}

/// One of several scripts that are applied together.
#[derive(Debug, Clone)]
pub struct Script {
    /// For messages.
    pub name: String,
    pub text: String,
}

/// On which terms scripts are applied.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    pub options: Options,
    /// Nothing is applied to another version of the node than this.
    pub expected: Option<i64>,
    /// Scripts are applied once under a key: a repeated request is answered.
    pub key: Option<String>,
    pub fence: Option<Fence>,
}

/// What became of several scripts.
#[derive(Debug, Clone)]
pub struct AllApplied {
    /// Of all of them together.
    pub applied: Applied,
    /// How many statements each script has, in their order. Empty for a repeated request.
    pub counts: Vec<usize>,
}

impl AllApplied {
    /// The statements of each script.
    pub fn by_script(&self) -> impl Iterator<Item = &[Statement]> {
        let mut from = 0;
        self.counts.iter().map(move |count| {
            let statements = self.applied.statements.get(from..from + count).unwrap_or_default();
            from += count;
            statements
        })
    }
}

/// Applies several scripts to a node as one: all of them, or nothing. The caller was authorised by the use case.
pub(crate) async fn apply_all(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &Node,
    scripts: Vec<Script>,
    properties: Properties,
    terms: Terms,
) -> Result<AllApplied> {
    if let (Some(key), Some(id)) = (&terms.key, node.id) {
        let known = versions::application(&mut plane.estate().store().read().await?, id, key).await?;
        match known {
            Some(Known::Applied { from, to }) => return repeated(plane, node, from, to).await,
            Some(Known::Withdrawn) => return Err(versions::given_up()),
            None => {}
        }
    }
    if terms.expected.is_some_and(|expected| expected != node.version) {
        return Err(moved(node));
    }
    let (mut inputs, mut counts) = (Vec::new(), Vec::new());
    for script in scripts {
        let more = parsed(script.name, script.text, properties.clone()).await?;
        counts.push(more.len());
        inputs.extend(more);
    }
    match applied(plane, ctx, node, inputs, terms).await? {
        (Some(applied), _) => Ok(AllApplied { applied, counts }),
        (None, _) => Err(moved(node)),
    }
}

/// The error for a node that has another version than the caller read.
pub(crate) fn moved(node: &Node) -> Error {
    Error::conflict("moved", format!("the node {} was changed at the same time by someone else", node.name))
}

/// What was applied before under the same key.
async fn repeated(plane: &Promotion, node: &Node, from: i64, to: i64) -> Result<AllApplied> {
    let id = node.id.ok_or_else(|| Error::not_found("virtual node"))?;
    let mut conn = plane.estate().store().read().await?;
    let applied = Applied {
        node: node.name.clone(),
        from_version: from,
        version: to,
        content_hash: versions::hash_of(&mut conn, id, to).await?.unwrap_or_default(),
        statements: Vec::new(),
        invalid: Vec::new(),
        refused: Vec::new(),
        changes: Vec::new(),
        from_hash: versions::hash_of(&mut conn, id, from).await?.unwrap_or_default(),
    };
    Ok(AllApplied { applied, counts: Vec::new() })
}

/// Executes statements on the version of a node that was read, and stores what they made. `None` if the node has another
/// version by then; the statements are returned to be executed again.
async fn applied(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &Node,
    mut inputs: Vec<Input>,
    terms: Terms,
) -> Result<(Option<Applied>, Vec<Input>)> {
    let base = versions::catalog_of(plane, node).await?;
    let fingerprint = plane.estate().sealed_with();
    let declared = sources::resolve(plane, ctx, &base, &mut inputs).await?;
    let (executed, inputs) = run(plane, Arc::clone(&base), inputs, declared, fingerprint).await?;
    let Executed { outcome, new, mut applied } = executed;
    applied.node.clone_from(&node.name);
    (applied.from_version, applied.version) = (node.version, node.version);
    if terms.options.strict {
        applied.refused.append(&mut applied.invalid);
    }
    let same = applied.changes.iter().all(|change| change.kind == diff::ChangeKind::Invalidate);
    if applied.failed() || terms.options.dry_run || same {
        return Ok((Some(applied), inputs));
    }
    let new = new.once(terms.key, terms.fence);
    let Some((stored, number)) = versions::add(plane, ctx, node, new).await? else {
        return Ok((None, inputs));
    };
    versions::remember(plane, &stored, number, outcome.catalog);
    applied.version = number;
    Ok((Some(applied), inputs))
}

/// The statements of a script. A property without a value, or a script that cannot be split, is an error of the whole.
async fn parsed(name: String, text: String, properties: Properties) -> Result<Vec<Input>> {
    let parse = move || {
        let pieces = script::pieces(&text, &properties).map_err(|faults| {
            let faults = faults.into_iter().map(|fault| landreeve_core::Fault {
                field: name.clone(),
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
