//! Who asks, and on whose authority: the value that every use case takes first.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::authority::{Action, Authority, Noun, Permission};
use crate::ids::{GroupId, KeyId, UserId};
use crate::{Error, Result};

/// Who acts. Stored with runs and audit events as a kind, an id and a name.
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
    /// Somebody who can read the data directory, through the command line.
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

    /// The user behind the act, where there is one.
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

/// The caller's authority as a value. Only `estate` makes one (by checking a credential); `cargo xtask tidy`
/// refuses `OpCtx::new` anywhere else.
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

/// When the store was asked where authority and datasources stand, so that one request need not ask twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub epoch: i64,
    /// What this process had heard of by then.
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

    /// The same, for a request whose credential was checked at that moment.
    #[must_use]
    pub fn at(self, moment: Moment) -> OpCtx {
        OpCtx { moment: Some(moment), ..self }
    }

    /// The same for work that outlives the request: what it asks later is asked anew.
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

    /// For what a use case creates, or does to the estate as a whole.
    pub fn require_here(&self, noun: Noun, action: Action) -> Result<()> {
        if self.authority.allows_here(Permission::new(noun, action)) {
            Ok(())
        } else {
            Err(self.refusal(noun, action))
        }
    }

    /// For what belongs to the estate as a whole, such as its settings.
    pub fn require_everywhere(&self, noun: Noun, action: Action) -> Result<()> {
        if self.authority.allows_everywhere(Permission::new(noun, action)) {
            Ok(())
        } else {
            Err(self.refusal(noun, action))
        }
    }

    /// For lists: something of this noun must be open to the caller.
    pub fn require_some(&self, noun: Noun, action: Action) -> Result<()> {
        if self.authority.allows_some(Permission::new(noun, action)) {
            Ok(())
        } else {
            Err(self.refusal(noun, action))
        }
    }

    fn refusal(&self, noun: Noun, action: Action) -> Error {
        Error::forbidden(format!(
            "the {} lacks the permission to {} this {}",
            self.actor.kind(),
            action.as_str(),
            noun.as_str()
        ))
    }
}
