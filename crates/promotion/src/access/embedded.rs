//! A node of this store.

use std::collections::BTreeSet;

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, OpCtx, Result};

use super::{Application, NodeAccess, NodeChange, NodeDone, NodeState, NodeWork};
use crate::apply::{self, Fence, Options, Terms};
use crate::catalog::{describe, diff};
use crate::ids::VirtualNodeId;
use crate::nodes::Node;
use crate::plane::Promotion;
use crate::selection::{self, Description, Selection};
use crate::versions::{self, Known};

pub(super) struct Embedded<'a> {
    pub plane: &'a Promotion,
    pub ctx: &'a OpCtx,
    pub node: VirtualNodeId,
    /// The server's name, for messages.
    pub server: String,
    pub fence: Option<Fence>,
}

impl Embedded<'_> {
    async fn node(&self) -> Result<Node> {
        let found = {
            let mut conn = self.plane.estate().store().read().await?;
            versions::node_of(&mut conn, self.node).await?
        };
        found.ok_or_else(|| {
            let message = format!("the node of the server {} is gone", self.server);
            Error::not_found("virtual node").saying(message)
        })
    }
}

impl NodeAccess for Embedded<'_> {
    fn state(&self) -> BoxFuture<'_, Result<NodeState>> {
        Box::pin(async move { state_of(self.plane, &self.node().await?).await })
    }

    fn changes(&self, since: NodeState) -> BoxFuture<'_, Result<Option<Vec<NodeChange>>>> {
        Box::pin(async move {
            let kept = changes_since(self.plane, &self.node().await?, since.version).await?;
            Ok(kept.filter(|(hash, _)| *hash == since.content_hash).map(|(_, changes)| changes))
        })
    }

    fn plan(&self, work: NodeWork) -> BoxFuture<'_, Result<NodeDone>> {
        Box::pin(async move { planned(self.plane, self.ctx, &self.node().await?, work).await })
    }

    fn apply(&self, work: NodeWork, expected: NodeState, key: String) -> BoxFuture<'_, Result<NodeDone>> {
        Box::pin(async move {
            let terms = Terms {
                expected: Some(expected.version),
                key: Some(key),
                fence: self.fence,
                ..Terms::default()
            };
            let (node, NodeWork { scripts, properties }) = (self.node().await?, work);
            let done = apply::apply_all(self.plane, self.ctx, &node, scripts, properties, terms).await?;
            Ok(NodeDone::of(done, false))
        })
    }

    fn application(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>> {
        Box::pin(async move { application_of(self.plane, &self.node().await?, &key).await })
    }

    fn withdraw(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>> {
        Box::pin(async move { withdrawn(self.plane, self.ctx, &self.node().await?, key, self.fence).await })
    }

    fn rollback(&self, to: i64, expected: NodeState) -> BoxFuture<'_, Result<NodeState>> {
        Box::pin(async move {
            let node = self.node().await?;
            if node.version != expected.version {
                return Err(apply::moved(&node));
            }
            reverted(self.plane, self.ctx, &node, to, self.fence).await
        })
    }

    fn text(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async move { text_of(self.plane, &self.node().await?).await })
    }

    fn describe(&self, selection: Selection) -> BoxFuture<'_, Result<Description>> {
        Box::pin(async move {
            let whose = format!("the server {}", self.server);
            described(self.plane, &self.node().await?, selection, whose).await
        })
    }
}

pub(super) async fn state_of(plane: &Promotion, node: &Node) -> Result<NodeState> {
    let content_hash = hash_of(plane, node, node.version).await?;
    let content_hash = content_hash.ok_or_else(|| Error::internal("the version of a node is missing"))?;
    Ok(NodeState { version: node.version, content_hash })
}

async fn hash_of(plane: &Promotion, node: &Node, version: i64) -> Result<Option<String>> {
    // No row has the id 0: a node without a row is empty.
    let id = node.id.unwrap_or(VirtualNodeId(0));
    let mut conn = plane.estate().store().read().await?;
    versions::hash_of(&mut conn, id, version).await
}

/// The hash of an earlier version, and what differs from it; `None` if it is not kept any more.
pub(super) async fn changes_since(
    plane: &Promotion,
    node: &Node,
    version: i64,
) -> Result<Option<(String, Vec<NodeChange>)>> {
    let Some(hash) = hash_of(plane, node, version).await? else { return Ok(None) };
    let before = versions::catalog_of(plane, &Node { version, ..node.clone() }).await?;
    let after = versions::catalog_of(plane, node).await?;
    let compare = move || diff::changes(&before, &after, &BTreeSet::new());
    let changes = tokio::task::spawn_blocking(compare).await.map_err(Error::internal)?;
    Ok(Some((hash, changes.into_iter().map(NodeChange::of).collect())))
}

pub(super) async fn planned(plane: &Promotion, ctx: &OpCtx, node: &Node, work: NodeWork) -> Result<NodeDone> {
    let terms = Terms { options: Options { dry_run: true, strict: false }, ..Terms::default() };
    let done = apply::apply_all(plane, ctx, node, work.scripts, work.properties, terms).await?;
    Ok(NodeDone::of(done, true))
}

pub(super) async fn application_of(plane: &Promotion, node: &Node, key: &str) -> Result<Option<Application>> {
    let Some(id) = node.id else { return Ok(None) };
    let known = {
        let mut conn = plane.estate().store().read().await?;
        versions::application(&mut conn, id, key).await?
    };
    match known {
        Some(Known::Applied { from, to }) => applied_as(plane, node, from, to).await.map(Some),
        Some(Known::Withdrawn) | None => Ok(None),
    }
}

async fn applied_as(plane: &Promotion, node: &Node, from: i64, to: i64) -> Result<Application> {
    // Old versions are not kept.
    let content_hash = hash_of(plane, node, to).await?.unwrap_or_default();
    Ok(Application { from, to: NodeState { version: to, content_hash } })
}

pub(super) async fn withdrawn(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &Node,
    key: String,
    fence: Option<Fence>,
) -> Result<Option<Application>> {
    match versions::withdraw(plane, ctx, node, key, fence).await? {
        Known::Applied { from, to } => applied_as(plane, node, from, to).await.map(Some),
        Known::Withdrawn => Ok(None),
    }
}

pub(super) async fn reverted(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &Node,
    to: i64,
    fence: Option<Fence>,
) -> Result<NodeState> {
    let node = versions::revert(plane, ctx, node, to, fence).await?;
    state_of(plane, &node).await
}

pub(super) async fn text_of(plane: &Promotion, node: &Node) -> Result<String> {
    let catalog = versions::catalog_of(plane, node).await?;
    // Thousands of statements are written.
    let write = move || describe::with_properties(&catalog);
    tokio::task::spawn_blocking(write).await.map_err(Error::internal)
}

/// `whose`: the node, as messages name it.
pub(super) async fn described(
    plane: &Promotion,
    node: &Node,
    selection: Selection,
    whose: String,
) -> Result<Description> {
    let catalog = versions::catalog_of(plane, node).await?;
    // Thousands of statements are written.
    let write = move || selection::describe(&catalog, &selection, &whose);
    tokio::task::spawn_blocking(write).await.map_err(Error::internal)?
}
