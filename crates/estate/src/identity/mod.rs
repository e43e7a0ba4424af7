//! Users, groups, organizational units, roles, keys, sessions and grants: the rows, and how a credential becomes an
//! `OpCtx`. The use cases, with permissions and audit, are in `ops`. Does not belong here: a dialect's names for roles
//! or permissions.

pub mod authentication;
pub mod grants;
pub mod groups;
pub mod keys;
pub mod ous;
pub mod password;
pub mod sessions;
pub mod units;
pub mod users;
pub mod visibility;

pub use authentication::Origin;
pub use grants::{GrantTarget, NewGrant, Role, Subject};
pub use groups::Group;
pub use keys::{Api, Key};
pub use ous::Ou;
pub use users::{User, UserChange, UserFilter};
pub use visibility::{Place, Visibility};
