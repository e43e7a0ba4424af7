//! How the node of a server is reached: it is one of this store (`embedded`), or one of another server of this program,
//! which the dialect's client reaches. `served` is the other side: what another server may do with nodes of this store.
//!
//! Does not belong here: when a node is asked, and HTTP.

mod embedded;
mod served;

use std::fmt;

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, ErrorKind, OpCtx, Result, Secret};
use landreeve_estate::args;

use self::embedded::Embedded;
use crate::apply::{AllApplied, Change, End, Fence, Script, Statement};
pub use crate::catalog::diff::ChangeKind;
use crate::ids::ServerId;
use crate::plane::Promotion;
use crate::selection::{Description, Selection};
use crate::servers::{self, Server};
use crate::vql::place::Place;
use crate::vql::properties::Properties;

pub use served::{
    MAX_KEY, NodeReport, NodeRequest, NodeRollback, node_application, node_apply, node_describe, node_plan,
    node_report, node_rollback, node_text, node_withdraw,
};

/// The code of errors after which it is not known whether the node did what it was asked.
pub const UNREACHABLE: &str = "node_unreachable";

/// What queries on a node read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// 0: nothing was applied yet.
    pub version: i64,
    /// Of the objects.
    pub content_hash: String,
}

/// Scripts that are executed as one, with the values of their properties. Some are secret, so it cannot be printed.
#[derive(Clone)]
pub struct NodeWork {
    pub scripts: Vec<Script>,
    pub properties: Properties,
}

/// What scripts did to a node, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDone {
    pub before: NodeState,
    /// The same as before if nothing was applied; for a plan, with the hash that the objects would have.
    pub after: NodeState,
    /// In the order of the request. Empty if it was executed before under the same key.
    pub scripts: Vec<ScriptDone>,
    /// Views that no longer plan, with the reason.
    pub invalid: Vec<(String, String)>,
    /// Why nothing is applied although every statement succeeded.
    pub refused: Vec<(String, String)>,
    /// Of a plan.
    pub changes: Vec<NodeChange>,
}

/// What became of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptDone {
    /// How many it has, and how many of them failed.
    pub statements: usize,
    pub failed: usize,
    /// Those that failed or were stored without effect, in their order.
    pub listed: Vec<Listed>,
    /// How many of those are not in the list.
    pub omitted: usize,
}

/// A statement that failed or was stored without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub place: Place,
    pub failed: bool,
    /// As written; values of properties are not in it.
    pub text: String,
    pub message: String,
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeChange {
    /// As users call it: `view`, `datasource jdbc`.
    pub kind: String,
    /// With its database.
    pub name: String,
    pub change: ChangeKind,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// What was applied under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    pub from: i64,
    pub to: NodeState,
}

impl NodeDone {
    pub fn failed(&self) -> bool {
        !self.refused.is_empty() || self.scripts.iter().any(|script| script.failed > 0)
    }

    /// It was executed before under the same key.
    pub fn is_repeated(&self) -> bool {
        self.scripts.is_empty()
    }

    fn of(done: AllApplied, dry_run: bool) -> NodeDone {
        let scripts: Vec<ScriptDone> = done.by_script().map(ScriptDone::of).collect();
        let applied = done.applied;
        let nothing = applied.failed() && !dry_run;
        let before = NodeState { version: applied.from_version, content_hash: applied.from_hash };
        let after = match nothing {
            true => before.clone(),
            false => NodeState { version: applied.version, content_hash: applied.content_hash },
        };
        let named = |(key, why): (crate::catalog::Key, String)| (key.full_name(), why);
        let changes = if dry_run { applied.changes } else { Vec::new() };
        NodeDone {
            before,
            after,
            scripts,
            invalid: applied.invalid.into_iter().map(named).collect(),
            refused: applied.refused.into_iter().map(named).collect(),
            changes: changes.into_iter().map(NodeChange::of).collect(),
        }
    }
}

impl ScriptDone {
    fn of(statements: &[Statement]) -> ScriptDone {
        let listed = |statement: &Statement| Listed {
            place: statement.place,
            failed: statement.end == End::Failed,
            text: statement.text.clone(),
            message: statement.message.clone(),
        };
        let noted = statements.iter().filter(|statement| statement.end != End::Executed);
        ScriptDone {
            statements: statements.len(),
            failed: statements.iter().filter(|statement| statement.end == End::Failed).count(),
            listed: noted.map(listed).collect(),
            omitted: 0,
        }
    }
}

impl NodeChange {
    fn of(change: Change) -> NodeChange {
        NodeChange {
            kind: change.key.kind.label(),
            name: change.key.full_name(),
            change: change.kind,
            before: change.before,
            after: change.after,
        }
    }
}

/// A node, wherever it is.
pub trait NodeAccess: Send + Sync {
    fn state(&self) -> BoxFuture<'_, Result<NodeState>>;

    /// What differs from an earlier state; `None` if that is not kept any more.
    fn changes(&self, since: NodeState) -> BoxFuture<'_, Result<Option<Vec<NodeChange>>>>;

    /// What scripts would do. Nothing is applied.
    fn plan(&self, work: NodeWork) -> BoxFuture<'_, Result<NodeDone>>;

    /// Applies scripts if the node is in this state. A repeated request with the same key is answered, not executed.
    fn apply(&self, work: NodeWork, expected: NodeState, key: String) -> BoxFuture<'_, Result<NodeDone>>;

    /// What was applied under a key.
    fn application(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>>;

    /// The same, and if nothing was applied, nothing will be.
    fn withdraw(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>>;

    /// Makes an earlier version the one that queries read, if the node is in this state.
    fn rollback(&self, to: i64, expected: NodeState) -> BoxFuture<'_, Result<NodeState>>;

    /// Everything that the node has, as a script with properties in place of passwords and of what differs.
    fn text(&self) -> BoxFuture<'_, Result<String>>;

    /// The script that creates or drops what is selected.
    fn describe(&self, selection: Selection) -> BoxFuture<'_, Result<Description>>;
}

/// Reaches nodes of other servers of this program.
pub trait RemoteNodes: fmt::Debug + Send + Sync + 'static {
    fn node(&self, place: RemotePlace) -> Box<dyn NodeAccess>;
}

/// Where a node is, and who signs in there.
#[derive(Debug, Clone)]
pub struct RemotePlace {
    /// The server's name, for messages.
    pub server: String,
    /// A name or an address.
    pub host: String,
    pub port: u16,
    /// Without TLS, which is allowed to this machine only.
    pub plain: bool,
    pub node: String,
    pub username: String,
    pub password: Secret,
}

/// Whether an error is about this server, and not about the node or the request.
pub(crate) fn is_own(error: &Error) -> bool {
    match error.kind {
        ErrorKind::Internal => true,
        ErrorKind::Unavailable => error.code != UNREACHABLE,
        _ => error.code == "taken_over",
    }
}

/// Why the node of a server cannot be reached whatever its state is.
pub(crate) fn unready(plane: &Promotion, server: &Server) -> Option<String> {
    let name = &server.name;
    if server.embedded {
        return server.node.is_none().then(|| format!("the server {name} has no node"));
    }
    if server.username.is_none() || !server.has_password {
        return Some(format!(
            "the server {name} is on another machine and has no user name and password; set both to deploy to it"
        ));
    }
    let known = plane.remote().is_some();
    (!known).then(|| format!("the server {name} is on another machine, which cannot be reached from here"))
}

/// The node of a server, for a caller who was authorised by the use case.
pub(crate) async fn open<'a>(
    plane: &'a Promotion,
    ctx: &'a OpCtx,
    server: ServerId,
    fence: Option<Fence>,
) -> Result<Box<dyn NodeAccess + 'a>> {
    let found = {
        let mut conn = plane.estate().store().read().await?;
        servers::find(&mut conn, server).await?
    };
    let server = found.ok_or_else(|| Error::not_found("server"))?;
    of_server(plane, ctx, &server, fence).await
}

pub(crate) async fn of_server<'a>(
    plane: &'a Promotion,
    ctx: &'a OpCtx,
    server: &Server,
    fence: Option<Fence>,
) -> Result<Box<dyn NodeAccess + 'a>> {
    match server.node.filter(|_| server.embedded) {
        Some(node) => Ok(Box::new(Embedded { plane, ctx, node, server: server.name.clone(), fence })),
        None => remote(plane, server).await,
    }
}

/// The node of a server on another machine.
pub(crate) async fn remote(plane: &Promotion, server: &Server) -> Result<Box<dyn NodeAccess>> {
    if let Some(reason) = unready(plane, server) {
        return Err(Error::conflict("not_ready", reason));
    }
    let (Some(remote), Some(username), Some(port)) = (plane.remote(), server.username.clone(), server.port)
    else {
        return Err(Error::conflict("not_ready", format!("the server {} has no address", server.name)));
    };
    let (host, plain) = servers::address(&server.host)
        .map_err(|message| Error::conflict("not_ready", format!("the server {} {message}", server.name)))?;
    Ok(remote.node(RemotePlace {
        server: server.name.clone(),
        host: host.to_owned(),
        port,
        plain,
        node: servers::node_name(&server.name),
        username,
        password: password(plane, server).await?,
    }))
}

async fn password(plane: &Promotion, server: &Server) -> Result<Secret> {
    let sql = "SELECT password_sealed FROM promotion_servers WHERE id = $1";
    let row = plane.estate().store().read().await?.opt(sql, args![server.id]).await?;
    let sealed = row.ok_or_else(|| Error::not_found("server"))?.bytes_opt(0)?;
    let Some(sealed) = sealed else {
        return Err(Error::conflict("not_ready", format!("the server {} has no password", server.name)));
    };
    let plain = plane.estate().unseal(&format!("{}:{}", servers::CONTEXT, server.id), &sealed)?;
    std::str::from_utf8(&plain).map(Secret::new).map_err(Error::internal)
}
