//! A role.

use landreeve_core::Permission;
use landreeve_estate::ops::Role;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::link::{Base, SelfLink};

#[derive(Debug, Serialize, ToSchema)]
pub struct RoleBody {
    id: String,
    name: String,
    description: String,
    /// Not counted yet.
    user_count: Option<u64>,
    permissions: Vec<PermissionBody>,
    #[serde(rename = "_links")]
    links: SelfLink,
}

#[derive(Debug, Serialize, ToSchema)]
struct PermissionBody {
    id: String,
    name: String,
    description: String,
}

/// Roles that have a different name in this dialect than in the estate, by id.
const NAMES: [(Uuid, &str); 2] =
    [(Uuid::nil(), "Super Admin"), (Uuid::from_u128(0x1000_0000_0000_0000_0000_0000_0000_0000), "OU Admin")];

impl RoleBody {
    pub fn new(base: &Base, role: Role) -> RoleBody {
        let name = NAMES.iter().find(|(id, _)| *id == role.uuid).map(|(_, name)| (*name).to_owned());
        RoleBody {
            id: role.uuid.to_string(),
            name: name.unwrap_or(role.name),
            description: role.description,
            user_count: None,
            permissions: role.permissions.into_iter().map(PermissionBody::from).collect(),
            links: SelfLink::new(base.get(&format!("/roles/{}", role.uuid))),
        }
    }
}

impl From<Permission> for PermissionBody {
    fn from(permission: Permission) -> PermissionBody {
        let text = permission.as_text();
        let description = format!("Can {} every {}.", permission.action.as_str(), permission.noun.as_str());
        PermissionBody { id: text.clone(), name: text, description }
    }
}
