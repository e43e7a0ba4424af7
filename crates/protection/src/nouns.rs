//! The nouns of this plane's permissions.

use landreeve_core::{Action, Noun, Permission};
use landreeve_estate::plane::{NounSpec, RolePermissions, RoleSpec};
use uuid::Uuid;

/// Where backups are kept. Repositories belong to the whole estate.
pub const REPOSITORY: Noun = Noun::new("repository");

/// Backups of the databases in a unit: seeing them (view), making them (manage).
pub const BACKUP: Noun = Noun::new("backup");

/// Restoring a backup: to where it was made (use), to another server (manage).
pub const RESTORE: Noun = Noun::new("restore");

/// The rows in a backup: reading them (use).
pub const RECORD: Noun = Noun::new("record");

/// Policies of a unit.
pub const POLICY: Noun = Noun::new("policy");

/// Alerts about the databases of a unit: seeing them (view), noting and clearing them (manage).
pub const ALERT: Noun = Noun::new("alert");

pub const SPECS: [NounSpec; 6] = [
    NounSpec::administrative(REPOSITORY),
    NounSpec::administrative(BACKUP),
    NounSpec::administrative(RESTORE),
    NounSpec::administrative(RECORD),
    NounSpec::administrative(POLICY),
    NounSpec::administrative(ALERT),
];

/// The roles of people who work with backups. Those of administrators of everything, and of units, include them.
pub fn roles() -> Vec<RoleSpec> {
    let role = |digit: u128, name, description, manage: &[Noun], others: &[(Noun, Action)]| {
        let manage = manage.iter().map(|noun| Permission::new(*noun, Action::MANAGE));
        let others = others.iter().map(|(noun, action)| Permission::new(*noun, *action));
        RoleSpec {
            uuid: Uuid::from_u128(digit << 124),
            id: None,
            name,
            description,
            permissions: RolePermissions::These(manage.chain(others).collect()),
        }
    };
    let view = |nouns: &[Noun]| nouns.iter().map(|noun| (*noun, Action::VIEW)).collect::<Vec<_>>();
    let helpdesk = [view(&[POLICY, REPOSITORY, Noun::DATASOURCE, Noun::AUDIT]), vec![(RESTORE, Action::USE)]];
    vec![
        role(
            2,
            "Application Admin",
            "Manages policies, datasources, backups and restores, and reads the rows of backups.",
            &[POLICY, BACKUP, RESTORE, RECORD, ALERT, Noun::DATASOURCE, Noun::RUN, Noun::KEY, Noun::AUDIT],
            &view(&[REPOSITORY, Noun::USER, Noun::OU, Noun::ROLE]),
        ),
        role(
            3,
            "Backup Admin",
            "Manages policies, datasources, backups and restores.",
            &[POLICY, BACKUP, RESTORE, ALERT, Noun::DATASOURCE, Noun::RUN],
            &view(&[REPOSITORY, Noun::OU]),
        ),
        role(
            6,
            "Helpdesk Admin",
            "Backs up, restores to where a backup was made, and manages runs, alerts and keys.",
            &[BACKUP, ALERT, Noun::RUN, Noun::KEY],
            &helpdesk.concat(),
        ),
        role(
            7,
            "Reporting/Audit Admin",
            "Sees policies, datasources, backups, runs, alerts, users and the audit trail.",
            &[],
            &view(&[
                POLICY,
                REPOSITORY,
                BACKUP,
                RESTORE,
                ALERT,
                Noun::DATASOURCE,
                Noun::RUN,
                Noun::AUDIT,
                Noun::USER,
                Noun::GROUP,
                Noun::OU,
                Noun::ROLE,
                Noun::KEY,
            ]),
        ),
    ]
}
