//! Typed ids. Every noun has an integer id type; organizational units and runs also have a UUID.

use std::future::Future;
use std::pin::Pin;

use crate::Result;

/// Ids stay below this bound: a hash-id has room for a 16-bit tag of the kind and a 41-bit number (see `hashid`).
pub const ID_BOUND: i64 = 1 << 41;

/// The sequences: one for each kind of noun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdKind(pub &'static str);

/// An integer that knows which noun it numbers.
pub trait KindedId: From<i64> {
    const KIND: IdKind;

    fn value(self) -> i64;
}

/// Declares typed ids, each with its kind, and a list of the kinds.
#[macro_export]
macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {
        /// Every kind declared here.
        pub const KINDS: &[$crate::ids::IdKind] = &[$($crate::ids::IdKind($kind)),*];

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub struct $name(pub i64);

            impl $name {
                pub const KIND: $crate::ids::IdKind = $crate::ids::IdKind($kind);
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl $crate::ids::KindedId for $name {
                const KIND: $crate::ids::IdKind = $name::KIND;

                fn value(self) -> i64 {
                    self.0
                }
            }

            impl From<i64> for $name {
                fn from(id: i64) -> $name {
                    $name(id)
                }
            }
        )*
    };
}

typed_ids! {
    UserId = "user";
    GroupId = "group";
    /// The root is 1; its UUID is the nil UUID.
    OuId = "ou";
    RoleId = "role";
    GrantId = "grant";
    /// A key of any API, including a Clumio token.
    KeyId = "key";
    SessionId = "session";
    DatasourceId = "datasource";
    AgentId = "agent";
    RunId = "run";
    AuditId = "audit";
    EventId = "event";
    ScheduleId = "schedule";
}

impl OuId {
    pub const ROOT: OuId = OuId(1);
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where new integers come from: blocks of the table `sequences`, or a counter in tests.
pub trait Ids: Send + Sync + 'static {
    fn next(&self, kind: IdKind) -> BoxFuture<'_, Result<i64>>;
}
