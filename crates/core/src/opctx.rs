//! Who makes the request, and with which authority. Every use case takes it as its first argument.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::authority::{Action, Authority, Noun, Permission};
use crate::ids::{GroupId, KeyId, UserId};
use crate::{Error, Result};

/// Who is acting. Stored with runs and audit events as a kind, an id and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    User {
        id: UserId,
        name: String,
    },
    Key {
        id: KeyId,
        name: String,
        user: Option<UserId>,
    },
    /// A person who can read the data directory and uses the command line.
    Operator,
    /// The server itself: schedules, purges, the sample source.
    System,
}

impl Actor {
    pub fn kind(&self) -> &'static str {
        match self {
            Actor::User { .. } => "user",
            Actor::Key { .. } => "key",
            Actor::Operator => "operator",
            Actor::System => "system",
        }
    }

    pub fn id(&self) -> Option<i64> {
        match self {
            Actor::User { id, .. } => Some(id.0),
            Actor::Key { id, .. } => Some(id.0),
            Actor::Operator | Actor::System => None,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Actor::User { name, .. } | Actor::Key { name, .. } => name,
            Actor::Operator => "operator",
            Actor::System => "system",
        }
    }

    /// The user behind the action, if there is one.
    pub fn user(&self) -> Option<UserId> {
        match self {
            Actor::User { id, .. } => Some(*id),
            Actor::Key { user, .. } => *user,
            Actor::Operator | Actor::System => None,
        }
    }
}

/// How a request came in; part of every audit event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    Cluvio,
    Dx,
    Denodo,
    CloverDx,
    Clumio,
    Console,
    CommandLine,
    Background,
}

impl OpKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            OpKind::Cluvio => "cluvio",
            OpKind::Dx => "dx",
            OpKind::Denodo => "denodo",
            OpKind::CloverDx => "cloverdx",
            OpKind::Clumio => "clumio",
            OpKind::Console => "console",
            OpKind::CommandLine => "command_line",
            OpKind::Background => "background",
        }
    }
}

/// The caller and the caller's authority. Only `estate` creates one (by checking a credential); `cargo xtask tidy`
/// rejects `OpCtx::new` anywhere else.
#[derive(Debug, Clone)]
pub struct OpCtx {
    actor: Arc<Actor>,
    authority: Arc<Authority>,
    groups: Arc<[GroupId]>,
    request_id: Uuid,
    kind: OpKind,
    address: Option<IpAddr>,
    moment: Option<Moment>,
}

/// When authority and datasources were last checked against the store, so that a request checks only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub epoch: i64,
    /// What this process had been notified of by then.
    pub heard: i64,
}

impl OpCtx {
    pub fn new(
        actor: Arc<Actor>,
        authority: Arc<Authority>,
        groups: Arc<[GroupId]>,
        request_id: Uuid,
        kind: OpKind,
        address: Option<IpAddr>,
    ) -> OpCtx {
        OpCtx { actor, authority, groups, request_id, kind, address, moment: None }
    }

    /// The same context, for a request whose credential was checked at that moment.
    #[must_use]
    pub fn at(self, moment: Moment) -> OpCtx {
        OpCtx { moment: Some(moment), ..self }
    }

    /// The same context, for work that outlives the request and has to check the store again later.
    #[must_use]
    pub fn without_moment(self) -> OpCtx {
        OpCtx { moment: None, ..self }
    }

    pub fn moment(&self) -> Option<Moment> {
        self.moment
    }

    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn groups(&self) -> &[GroupId] {
        &self.groups
    }

    pub fn request_id(&self) -> Uuid {
        self.request_id
    }

    pub fn kind(&self) -> OpKind {
        self.kind
    }

    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// For things that already exist. A thing outside the caller's tree is *not found*, not forbidden.
    pub fn require(&self, noun: Noun, action: Action, path: &str, id: i64) -> Result<()> {
        if self.authority.allows(Permission::new(noun, action), path, id) {
            return Ok(());
        }
        if !path.starts_with(self.authority.ou_path()) {
            return Err(Error::not_found(noun.as_str()));
        }
        Err(self.refusal(noun, action))
    }

    /// For what a use case creates or does in the caller's unit.
    pub fn require_here(&self, noun: Noun, action: Action) -> Result<()> {
        if self.authority.allows_here(Permission::new(noun, action)) {
            Ok(())
        } else {
            Err(self.refusal(noun, action))
        }
    }

    /// For what belongs to the whole estate, such as its settings.
    pub fn require_everywhere(&self, noun: Noun, action: Action) -> Result<()> {
        if self.authority.allows_everywhere(Permission::new(noun, action)) {
            Ok(())
        } else {
            Err(self.refusal(noun, action))
        }
    }

    /// For lists: the caller needs the permission on at least one resource of this noun.
    pub fn require_some(&self, noun: Noun, action: Action) -> Result<()> {
        if self.authority.allows_some(Permission::new(noun, action)) {
            Ok(())
        } else {
            Err(self.refusal(noun, action))
        }
    }

    fn refusal(&self, noun: Noun, action: Action) -> Error {
        Error::forbidden(format!(
            "the {} does not have the permission {}:{}",
            self.actor.kind(),
            noun.as_str(),
            action.as_str()
        ))
    }
}
