//! What another server may do with nodes of this store, when its user is a promotion administrator here: someone who
//! manages revisions and deployments. If the node is that of a server of an environment here, the user must manage
//! deployments to that environment.
//!
//! Scripts are applied with the rights of that user: datasources must be usable by them.

use landreeve_core::error::Faults;
use landreeve_core::{Action, Error, Input, OpCtx, Permission, Result};
use landreeve_estate::args;

use super::embedded::{
    application_of, changes_since, described, planned, reverted, state_of, text_of, withdrawn,
};
use super::{Application, Listed, NodeChange, NodeDone, NodeState, NodeWork, ScriptDone};
use crate::apply::{self, Terms};
use crate::environments;
use crate::ids::EnvironmentId;
use crate::nodes::{self, Node};
use crate::nouns::REVISION;
use crate::plane::Promotion;
use crate::scenario::Scenario;
use crate::selection::{self, Description, Selection};
use crate::versions;

/// Characters of a key.
pub const MAX_KEY: usize = 200;
/// How many statements of all scripts together an answer lists; those that failed come first.
const MAX_LISTED: usize = 500;
/// Characters of a statement or of a message in an answer.
const MAX_TEXT: usize = 1_000;

/// What a node has, and what changed since a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    pub name: String,
    pub state: NodeState,
    /// The hash of that version, and what differs from it; `None` if it was not asked for, or is not kept any more.
    pub since: Option<(String, Vec<NodeChange>)>,
}

/// Scripts to be applied.
#[derive(Clone)]
pub struct NodeRequest {
    pub work: NodeWork,
    /// The hash that the node's objects must have.
    pub expected_hash: String,
    /// The same scripts are applied only once under it.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRollback {
    /// 0 makes the node empty.
    pub to: i64,
    /// The hash that the node's objects must have.
    pub expected_hash: String,
}

/// A node of the caller's unit, for a promotion administrator.
async fn permitted(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<Node> {
    let estate = plane.estate();
    estate.require_here(ctx, REVISION, Action::MANAGE).await?;
    let manages =
        |scenario: &Scenario| ctx.authority().allows_here(Permission::new(scenario.noun(), Action::MANAGE));
    if !Scenario::ALL.iter().any(manages) {
        estate.require_here(ctx, Scenario::Production.noun(), Action::MANAGE).await?;
    }
    nodes::check_name(name).map_err(|_| Error::not_found("virtual node"))?;
    let node = nodes::of_caller(plane, ctx, name).await?;
    for id in environments_of(plane, &node).await? {
        let found = {
            let mut conn = estate.store().read().await?;
            environments::find(&mut conn, id).await?
        };
        if let Some(environment) = found {
            environments::require_deploy(plane, ctx, &environment, Action::MANAGE).await?;
        }
    }
    Ok(node)
}

/// The environments with a server that is this node.
async fn environments_of(plane: &Promotion, node: &Node) -> Result<Vec<EnvironmentId>> {
    let Some(id) = node.id else { return Ok(Vec::new()) };
    let sql = "SELECT DISTINCT c.environment_id FROM promotion_servers s JOIN promotion_clusters c \
               ON c.id = s.cluster_id WHERE s.node_id = $1 ORDER BY c.environment_id";
    let rows = plane.estate().store().read().await?.all(sql, args![id]).await?;
    rows.iter().map(|row| row.id(0)).collect()
}

fn check_work(work: &NodeWork, faults: &mut Faults) {
    if work.scripts.is_empty() {
        faults.push("scripts", "length", "must have at least one script");
    }
}

fn check_key(key: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'_' | b'-');
    !key.is_empty() && key.len() <= MAX_KEY && key.bytes().all(known)
}

pub async fn node_report(
    plane: &Promotion,
    ctx: &OpCtx,
    name: &str,
    since: Option<i64>,
) -> Result<NodeReport> {
    let node = permitted(plane, ctx, name).await?;
    let state = state_of(plane, &node).await?;
    let since = match since {
        Some(version) => changes_since(plane, &node, version).await?,
        None => None,
    };
    Ok(NodeReport { name: node.name, state, since })
}

/// What scripts would do to a node.
pub async fn node_plan(
    plane: &Promotion,
    ctx: &OpCtx,
    name: &str,
    work: Input<NodeWork>,
) -> Result<NodeDone> {
    let node = permitted(plane, ctx, name).await?;
    let work = work.checked(check_work)?;
    planned(plane, ctx, &node, work).await.map(bounded)
}

/// Applies scripts as one, once for each key.
pub async fn node_apply(
    plane: &Promotion,
    ctx: &OpCtx,
    name: &str,
    request: Input<NodeRequest>,
) -> Result<NodeDone> {
    let node = permitted(plane, ctx, name).await?;
    let NodeRequest { work, expected_hash, key } = request.checked(|request, faults| {
        check_work(&request.work, faults);
        if !check_key(&request.key) {
            let message = format!("must have 1 to {MAX_KEY} letters, digits, and any of : . _ -");
            faults.push("key", "format", message);
        }
    })?;
    let known = match node.id {
        Some(id) => {
            let mut conn = plane.estate().store().read().await?;
            versions::application(&mut conn, id, &key).await?
        }
        None => None,
    };
    if known.is_none() && state_of(plane, &node).await?.content_hash != expected_hash {
        return Err(apply::moved(&node));
    }
    let terms = Terms { expected: Some(node.version), key: Some(key), ..Terms::default() };
    let done = apply::apply_all(plane, ctx, &node, work.scripts, work.properties, terms).await?;
    Ok(bounded(NodeDone::of(done, false)))
}

/// Makes an earlier version the one that queries read.
pub async fn node_rollback(
    plane: &Promotion,
    ctx: &OpCtx,
    name: &str,
    back: Input<NodeRollback>,
) -> Result<NodeState> {
    let node = permitted(plane, ctx, name).await?;
    let NodeRollback { to, expected_hash } = back.valid()?;
    if state_of(plane, &node).await?.content_hash != expected_hash {
        return Err(apply::moved(&node));
    }
    reverted(plane, ctx, &node, to, None).await
}

/// What was applied under a key.
pub async fn node_application(
    plane: &Promotion,
    ctx: &OpCtx,
    name: &str,
    key: &str,
) -> Result<Option<Application>> {
    let node = permitted(plane, ctx, name).await?;
    if !check_key(key) {
        return Err(Error::not_found("application"));
    }
    application_of(plane, &node, key).await
}

/// The same; if nothing was applied, nothing will be.
pub async fn node_withdraw(
    plane: &Promotion,
    ctx: &OpCtx,
    name: &str,
    key: &str,
) -> Result<Option<Application>> {
    let node = permitted(plane, ctx, name).await?;
    if !check_key(key) {
        return Err(Error::not_found("application"));
    }
    withdrawn(plane, ctx, &node, key.to_owned(), None).await
}

/// Everything that a node has, as a script with properties.
pub async fn node_text(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<String> {
    let node = permitted(plane, ctx, name).await?;
    text_of(plane, &node).await
}

/// The script that creates or drops elements of a node.
pub async fn node_describe(
    plane: &Promotion,
    ctx: &OpCtx,
    name: &str,
    wanted: Input<Selection>,
) -> Result<Description> {
    let node = permitted(plane, ctx, name).await?;
    let selection = wanted.checked(selection::check)?;
    let whose = format!("the node {name}");
    described(plane, &node, selection, whose).await
}

/// An answer of limited size: long texts are cut, and how many statements are left out is said.
fn bounded(done: NodeDone) -> NodeDone {
    let mut left = MAX_LISTED;
    let short = |(name, why): (String, String)| (name, cut(why));
    NodeDone {
        scripts: done.scripts.into_iter().map(|script| of_script(script, &mut left)).collect(),
        invalid: done.invalid.into_iter().map(short).collect(),
        refused: done.refused.into_iter().map(short).collect(),
        ..done
    }
}

fn of_script(script: ScriptDone, left: &mut usize) -> ScriptDone {
    let failed = script.listed.iter().filter(|listed| listed.failed).count();
    // What is stored has what the failed ones leave.
    let (mut fails, mut stored) = (failed.min(*left), left.saturating_sub(failed));
    let all = script.listed.len();
    let mut listed = Vec::new();
    for one in script.listed {
        let room = if one.failed { &mut fails } else { &mut stored };
        if *room > 0 {
            *room -= 1;
            listed.push(Listed { text: cut(one.text), message: cut(one.message), ..one });
        }
    }
    *left -= listed.len().min(*left);
    ScriptDone { omitted: script.omitted + all - listed.len(), listed, ..script }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vql::place::Place;

    fn script(ends: impl IntoIterator<Item = bool>) -> ScriptDone {
        let listed = |failed: bool| Listed {
            place: Place { line: 1, column: 1 },
            failed,
            text: "x".repeat(MAX_TEXT + 1),
            message: String::new(),
        };
        let listed: Vec<Listed> = ends.into_iter().map(listed).collect();
        let failed = listed.iter().filter(|listed| listed.failed).count();
        ScriptDone { statements: listed.len(), failed, listed, omitted: 0 }
    }

    #[test]
    fn an_answer_lists_failures_first_and_says_what_it_leaves_out() {
        let mut left = MAX_LISTED;
        let first = of_script(script((0..MAX_LISTED * 2).map(|at| at % 4 == 3)), &mut left);
        let failed = first.listed.iter().filter(|listed| listed.failed).count();
        assert_eq!((first.listed.len(), failed, left), (MAX_LISTED, MAX_LISTED / 2, 0));
        assert_eq!((first.omitted, first.statements), (MAX_LISTED, MAX_LISTED * 2));
        assert_eq!(first.listed[0].text.chars().count(), MAX_TEXT + 1);
        let second = of_script(script([true, false]), &mut left);
        assert_eq!((second.listed.len(), second.omitted, second.failed), (0, 2, 1));
    }

    #[test]
    fn keys_are_short_and_plain() {
        for (key, good) in [
            ("deployment:8d4c1d2e-0000-4000-8000-000000000000:7", true),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("\0", false),
            ("é", false),
        ] {
            assert_eq!(check_key(key), good, "{key:?}");
        }
        assert!(check_key(&"k".repeat(MAX_KEY)) && !check_key(&"k".repeat(MAX_KEY + 1)));
    }
}
