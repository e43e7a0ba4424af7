//! A role, and what it permits in the dialect's words.

use landreeve_core::{Action, Noun, Permission};
use landreeve_estate::ops::Role;
use landreeve_protection::nouns::{ALERT, BACKUP, POLICY, RECORD, RESTORE};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::link::{Base, SelfLink};

#[derive(Debug, Serialize, ToSchema)]
pub struct RoleBody {
    id: String,
    name: String,
    description: String,
    /// Users with the role, not counting those who have it through a group.
    user_count: u64,
    permissions: Vec<PermissionBody>,
    #[serde(rename = "_links")]
    links: SelfLink,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PermissionBody {
    id: &'static str,
    name: &'static str,
    description: &'static str,
}

/// Roles that have a different name in this dialect than in the estate, by id.
const NAMES: [(Uuid, &str); 2] =
    [(Uuid::nil(), "Super Admin"), (Uuid::from_u128(0x1000_0000_0000_0000_0000_0000_0000_0000), "OU Admin")];

/// A permission of the dialect. A role has it if it has all of ours.
struct Spec {
    id: &'static str,
    name: &'static str,
    description: &'static str,
    needs: &'static [(Noun, Action)],
}

const PERMISSIONS: [Spec; 8] = [
    Spec {
        id: "policy_management",
        name: "Policy Management",
        description: "Manage policies and assign them.",
        needs: &[(POLICY, Action::MANAGE)],
    },
    Spec {
        id: "data_source_management",
        name: "Data Source Management",
        description: "Manage the databases that can be backed up.",
        needs: &[(Noun::DATASOURCE, Action::MANAGE)],
    },
    Spec {
        id: "perform_backup",
        name: "Perform Backup",
        description: "Back up databases on demand.",
        needs: &[(BACKUP, Action::MANAGE)],
    },
    Spec {
        id: "regular_restore",
        name: "Regular Restore",
        description: "Restore a backup to the server that it was made from.",
        needs: &[(RESTORE, Action::USE)],
    },
    Spec {
        id: "redirected_granular_restore",
        name: "Redirected Granular Restore",
        description: "Restore a backup to another server, and read its rows.",
        needs: &[(RESTORE, Action::MANAGE), (RECORD, Action::USE)],
    },
    Spec {
        id: "dashboards_and_reports",
        name: "Dashboards & Reports",
        description: "See databases, policies and backups.",
        needs: &[(Noun::DATASOURCE, Action::VIEW), (POLICY, Action::VIEW), (BACKUP, Action::VIEW)],
    },
    Spec {
        id: "some_admin_functions",
        name: "Some Admin Functions",
        description: "Manage tasks, alerts and tokens, and see the audit trail.",
        needs: &[
            (Noun::RUN, Action::MANAGE),
            (ALERT, Action::MANAGE),
            (Noun::KEY, Action::MANAGE),
            (Noun::AUDIT, Action::VIEW),
        ],
    },
    Spec {
        id: "other_admin_functions",
        name: "Other Admin Functions",
        description: "Manage users, their roles, and organizational units.",
        needs: &[(Noun::USER, Action::MANAGE), (Noun::ROLE, Action::MANAGE), (Noun::OU, Action::MANAGE)],
    },
];

impl From<&Spec> for PermissionBody {
    fn from(spec: &Spec) -> PermissionBody {
        PermissionBody { id: spec.id, name: spec.name, description: spec.description }
    }
}

/// Every permission that a role can have.
pub fn permissions() -> Vec<PermissionBody> {
    PERMISSIONS.iter().map(PermissionBody::from).collect()
}

impl RoleBody {
    pub fn new(base: &Base, role: Role, user_count: u64) -> RoleBody {
        let name = NAMES.iter().find(|(id, _)| *id == role.uuid).map(|(_, name)| (*name).to_owned());
        let has = |(noun, action): &(Noun, Action)| {
            [*action, Action::MANAGE]
                .into_iter()
                .any(|action| role.permissions.contains(&Permission::new(*noun, action)))
        };
        let held = PERMISSIONS.iter().filter(|spec| spec.needs.iter().all(has));
        RoleBody {
            id: role.uuid.to_string(),
            permissions: held.map(PermissionBody::from).collect(),
            name: name.unwrap_or(role.name),
            description: role.description,
            user_count,
            links: SelfLink::new(base.get(&format!("/roles/{}", role.uuid))),
        }
    }
}
