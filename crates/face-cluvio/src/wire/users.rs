//! Users and user groups, as included objects.

use landreeve_core::hashid::HashIds;
use landreeve_estate::ops::{Assignment, EVERYONE, Group, User as EstateUser};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, ToMany, ToOne};

pub const KIND: &str = "users";
pub const GROUPS: &str = "user_groups";

#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    #[schema(example = "zg6p-xee0-x9jy")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "users")]
    pub kind: &'static str,
    pub attributes: UserAttributes,
    pub relationships: UserRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserAttributes {
    pub firstname: String,
    pub lastname: String,
    pub email: String,
    /// `viewer`, `analyst` or `admin`.
    #[schema(example = "viewer")]
    pub role: &'static str,
    pub otp_app_enabled: bool,
    pub otp_phone_enabled: bool,
    pub created_at: Time,
    pub deactivated_at: Option<Time>,
    pub invitation_created_at: Option<Time>,
    pub invitation_accepted_at: Option<Time>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserRelationships {
    pub user_groups: ToMany,
    pub invited_by_user: ToOne,
}

/// `groups` are the ones that the caller can see.
pub fn render(user: &EstateUser, assignments: &[Assignment], groups: &[Group], ids: &HashIds) -> User {
    let member = groups.iter().filter(|group| group.members.contains(&user.id)).map(|group| group.id);
    User {
        id: ids.encode_grouped(user.id),
        kind: KIND,
        attributes: UserAttributes {
            firstname: user.first_name.clone(),
            lastname: user.last_name.clone(),
            email: user.email.clone(),
            role: role(assignments),
            otp_app_enabled: false,
            otp_phone_enabled: false,
            created_at: Time(user.created_at),
            deactivated_at: (!user.enabled).then_some(Time(user.updated_at)),
            invitation_created_at: user.inviter.map(|_| Time(user.created_at)),
            invitation_accepted_at: None,
        },
        relationships: UserRelationships {
            user_groups: ToMany::to(ids, GROUPS, std::iter::once(EVERYONE).chain(member)),
            invited_by_user: ToOne::to(ids, KIND, user.inviter),
        },
    }
}

/// The strongest of the built-in roles, in the dialect's words.
fn role(assignments: &[Assignment]) -> &'static str {
    let has = |ids: &[i64]| assignments.iter().filter_map(|held| held.role).any(|role| ids.contains(&role.0));
    // administrator, unit administrator; analyst
    if has(&[1, 2]) {
        "admin"
    } else if has(&[3]) {
        "analyst"
    } else {
        "viewer"
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserGroup {
    #[schema(example = "qw1x-7w2l-7rd5")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "user_groups")]
    pub kind: &'static str,
    pub attributes: UserGroupAttributes,
    pub relationships: UserGroupRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserGroupAttributes {
    #[schema(example = "Everyone")]
    pub name: String,
    pub description: String,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserGroupRelationships {
    /// Explicit members: for the group of everyone, none.
    pub users: ToMany,
}

pub fn render_group(group: &Group, ids: &HashIds) -> UserGroup {
    UserGroup {
        id: ids.encode_grouped(group.id),
        kind: GROUPS,
        attributes: UserGroupAttributes {
            name: group.name.clone(),
            description: group.description.clone(),
            created_at: Time(group.created_at),
            updated_at: Time(group.updated_at),
        },
        relationships: UserGroupRelationships { users: ToMany::to(ids, KIND, group.members.iter().copied()) },
    }
}
