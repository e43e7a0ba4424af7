//! Derives the dialect's role flags from the caller's permissions.

use landreeve_core::{Action, Authority, Noun, Permission};

/// The roles in the response to a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    pub promotion_admin: bool,
    pub admin: bool,
    pub jmx_admin: bool,
}

/// A global administrator has every role.
pub fn roles(authority: &Authority) -> Roles {
    let may = |noun| authority.allows_here(Permission::new(noun, Action::MANAGE));
    let admin = may(Noun::USER) && may(Noun::SETTING);
    Roles { promotion_admin: admin || may(Noun::RUN), admin, jmx_admin: admin || may(Noun::SETTING) }
}
