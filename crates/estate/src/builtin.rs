//! The estate's own parts, as a plane like any other: the kinds, nouns, roles and sealed columns that all planes share.

use std::sync::Arc;

use landreeve_core::ids::RoleId;
use landreeve_core::{Action, Noun};
use uuid::Uuid;

use crate::ops::scheduled::{self, RunFollower};
use crate::plane::{NounSpec, Plane, PlaneParts, RolePermissions, RoleSpec};
use crate::runs::{Lane, PROBE, PoolName, Probe};
use crate::schedules::{FixedSchedule, Schedule};
use crate::units::{Changing, ORGANIZATIONAL_UNIT_UPDATE};
use crate::upkeep::{OnChange, PURGE, Purge, SCHEMA_REFRESH, SchemaRefresh};
use crate::{inventory, tokens};

/// The plane of the schedules that read schemas and purge.
pub const PLANE: &str = "estate";

/// The role with all permissions; the first user has it at the root.
pub const ADMINISTRATOR: RoleId = RoleId(1);

/// The role with all permissions except those on what belongs to the whole estate.
pub const UNIT_ADMINISTRATOR: RoleId = RoleId(2);

/// `short` and `long` are the numbers of workers in the shared pools.
pub fn plane(short: usize, long: usize) -> Plane {
    Plane {
        pools: vec![(PoolName::SHORT, short), (PoolName::LONG, long)],
        kinds: vec![PROBE, PURGE, SCHEMA_REFRESH, ORGANIZATIONAL_UNIT_UPDATE],
        nouns: nouns(),
        roles: roles(),
        sealed: vec![inventory::datasources::SECRETS, tokens::SIGNING_KEYS],
        open: Box::new(|estate| {
            Ok(PlaneParts {
                executors: vec![
                    (PROBE.kind, Arc::new(Probe)),
                    (PURGE.kind, Arc::new(Purge(estate.clone()))),
                    (SCHEMA_REFRESH.kind, Arc::new(SchemaRefresh(estate.clone()))),
                    (ORGANIZATIONAL_UNIT_UPDATE.kind, Arc::new(Changing(estate.clone()))),
                ],
                subscribers: vec![Arc::new(OnChange { estate: estate.clone() })],
                follower: Some(Arc::new(RunFollower { estate: estate.clone(), lane })),
                schedules: vec![FixedSchedule {
                    name: "purge",
                    cron: "17 * * * *",
                    body: scheduled::body(&PURGE, r#"{"version":1}"#)?,
                }],
                ..PlaneParts::default()
            })
        }),
        ..Plane::new(PLANE)
    }
}

/// Two refreshes of the same schema never run at the same time.
fn lane(schedule: &Schedule) -> Option<Lane> {
    let (noun, id) = schedule.noun?;
    (noun == Noun::DATASOURCE).then(|| Lane { name: format!("schema:{id}"), limit: 1 })
}

fn nouns() -> Vec<NounSpec> {
    let administrative =
        [Noun::USER, Noun::GROUP, Noun::OU, Noun::ROLE, Noun::KEY, Noun::SETTING, Noun::AUDIT];
    let content = [Noun::RUN, Noun::DATASOURCE];
    administrative.map(NounSpec::administrative).into_iter().chain(content.map(NounSpec::content)).collect()
}

fn roles() -> Vec<RoleSpec> {
    let role = |id: i64, uuid: u128, name, description, permissions| RoleSpec {
        id: Some(RoleId(id)),
        uuid: Uuid::from_u128(uuid),
        name,
        description,
        permissions,
    };
    vec![
        role(ADMINISTRATOR.0, 0, "Administrator", "May do everything.", RolePermissions::ManageAllBut(&[])),
        role(
            UNIT_ADMINISTRATOR.0,
            0x1000_0000_0000_0000_0000_0000_0000_0000,
            "Unit administrator",
            "May do everything in its units except change the settings of the estate.",
            RolePermissions::ManageAllBut(&[Noun::SETTING]),
        ),
        role(
            3,
            0x4000_0000_0000_0000_0000_0000_0000_0000,
            "Analyst",
            "Manages datasources, dashboards and reports.",
            RolePermissions::Content(Action::MANAGE),
        ),
        role(
            4,
            0x5000_0000_0000_0000_0000_0000_0000_0000,
            "Viewer",
            "Sees dashboards and reports.",
            RolePermissions::Content(Action::VIEW),
        ),
    ]
}
