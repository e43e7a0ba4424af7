//! The dialect's roles, and the flags that it derives from the caller's permissions.

use landreeve_core::{Action, Authority, Noun, Permission};
use landreeve_estate::plane::{RolePermissions, RoleSpec};
use landreeve_promotion::nouns::{ENVIRONMENT, REVISION, VIRTUAL_NODE};
use landreeve_promotion::scenario::Scenario;
use uuid::Uuid;

/// The roles of the dialect, and `developer`, which is ours.
pub fn roles() -> Vec<RoleSpec> {
    const DESCRIPTION: [&str; 4] = [
        "Manages environments, clusters and servers.",
        "Manages revisions, deployments, properties and deployment configurations.",
        "Deploys their own revisions.",
        "Sees environments and creates their own revisions.",
    ];
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    let view = Permission::new(ENVIRONMENT, Action::VIEW);
    // A revision is made of what a server has.
    let [create, reads] =
        [Permission::new(REVISION, Action::USE), Permission::new(VIRTUAL_NODE, Action::VIEW)];
    let [admins, promotion_admins, promoters, developers] = DESCRIPTION;
    let mut roles = vec![
        role(1, "solution_manager_admin", admins, vec![manage(ENVIRONMENT)]),
        role(
            2,
            "solution_manager_promotion_admin",
            promotion_admins,
            [view, manage(REVISION), reads].into_iter().chain(deploying(Action::MANAGE)).collect(),
        ),
        role(
            3,
            "solution_manager_promotion",
            promoters,
            [view, create, reads].into_iter().chain(deploying(Action::USE)).collect(),
        ),
        role(4, "developer", developers, vec![view, create, reads]),
        role(
            5,
            "jmxadmin",
            "Sees environments and settings.",
            vec![view, Permission::new(Noun::SETTING, Action::VIEW)],
        ),
    ];
    for (number, (scenario, admin, promoter)) in (6..).step_by(2).zip(OF_SCENARIO) {
        let deploys = |action| Permission::new(scenario.noun(), action);
        roles.push(role(
            number,
            admin,
            promotion_admins,
            vec![view, manage(REVISION), reads, deploys(Action::MANAGE)],
        ));
        roles.push(role(number + 1, promoter, promoters, vec![view, create, reads, deploys(Action::USE)]));
    }
    roles
}

/// Roles that are limited to the environments of one scenario.
const OF_SCENARIO: [(Scenario, &str, &str); 3] = [
    (
        Scenario::Development,
        "solution_manager_promotion_admin_development",
        "solution_manager_promotion_development",
    ),
    (Scenario::Staging, "solution_manager_promotion_admin_staging", "solution_manager_promotion_staging"),
    (
        Scenario::Production,
        "solution_manager_promotion_admin_production",
        "solution_manager_promotion_production",
    ),
];

/// This action on deployments of every scenario.
fn deploying(action: Action) -> impl Iterator<Item = Permission> {
    Scenario::ALL.into_iter().map(move |scenario| Permission::new(scenario.noun(), action))
}

/// `number` identifies the role forever.
fn role(
    number: u128,
    name: &'static str,
    description: &'static str,
    permissions: Vec<Permission>,
) -> RoleSpec {
    const FIRST: u128 = 0x6000_0000_0000_0000_0000_0000_0000_0000;
    RoleSpec {
        uuid: Uuid::from_u128(FIRST + number),
        id: None,
        name,
        description,
        permissions: RolePermissions::These(permissions),
    }
}

/// The flags in the response to a sign-in. A list of scenarios is `None` if there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    pub promotion_admin_environments: Option<Vec<String>>,
    pub promotion_environments: Option<Vec<String>>,
    pub promotion: bool,
    pub promotion_admin: bool,
    pub solution_manager_admin: bool,
    pub vdp_admin: bool,
    pub jmx_admin: bool,
}

/// A global administrator has every role.
pub fn flags(authority: &Authority) -> Flags {
    let may = |noun, action| authority.allows_here(Permission::new(noun, action));
    let deploys = |action| -> Vec<Scenario> {
        Scenario::ALL.into_iter().filter(|scenario| may(scenario.noun(), action)).collect()
    };
    let (managed, used) = (deploys(Action::MANAGE), deploys(Action::USE));
    let vdp_admin = may(Noun::USER, Action::MANAGE) && may(Noun::SETTING, Action::MANAGE);
    let promotion_admin = may(REVISION, Action::MANAGE) && !managed.is_empty();
    let limit = |concerned: bool, scenarios: &[Scenario]| {
        let limited = concerned && !vdp_admin && scenarios.len() < Scenario::ALL.len();
        limited.then(|| scenarios.iter().map(|scenario| scenario.alias()).collect())
    };
    Flags {
        promotion_admin_environments: limit(promotion_admin, &managed),
        promotion_environments: limit(!used.is_empty(), &used),
        promotion: vdp_admin || !used.is_empty(),
        promotion_admin: vdp_admin || promotion_admin,
        solution_manager_admin: vdp_admin || may(ENVIRONMENT, Action::MANAGE),
        vdp_admin,
        jmx_admin: vdp_admin || may(Noun::SETTING, Action::VIEW),
    }
}
