//! Alerts with the same cause about the same database, as one.

use landreeve_core::{Action, OpCtx, Result};
use landreeve_protection::consolidated::{AlertGroup, GroupFilter};
use landreeve_protection::nouns::ALERT;
use serde::Serialize;
use utoipa::ToSchema;

use super::alerts::{Entity, SORT, STATUSES, alert_order, parent};
use super::filter::{Kind, Op, Rule};
use super::link::{Base, Links};
use super::list::Asked;
use super::{may, time};

pub const FILTER: [Rule; 4] = [
    Rule { field: "status", ops: &[Op::In], kind: Kind::Word(&STATUSES) },
    Rule { field: "raised_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule::text("parent_entity.id", &[Op::Eq]),
    Rule::text("parent_entity.type", &[Op::Eq]),
];

pub fn filter(asked: &Asked) -> Result<GroupFilter> {
    let conditions = &asked.conditions;
    let parent = parent(conditions)?;
    let statuses = conditions.texts("status", Op::In).unwrap_or_default();
    let has = |status: &str| statuses.contains(&status);
    let (order, descends) = asked.sort().unwrap_or((SORT[0], true));
    Ok(GroupFilter {
        uuids: None,
        active: (has("active") != has("cleared")).then(|| has("active")),
        parent: parent.flatten(),
        raised: (conditions.time("raised_timestamp", Op::Gte), conditions.time("raised_timestamp", Op::Lte)),
        order: alert_order(order),
        oldest_first: !descends,
        // What has another form is the id of nothing.
        nothing: parent == Some(None),
    })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ConsolidatedBody {
    id: String,
    /// `policy_violated` or `restore_failed`.
    #[serde(rename = "type")]
    kind: String,
    /// The code of the error.
    cause: String,
    /// `error` or `warning`.
    severity: String,
    /// `active` while one of its alerts is, else `cleared`.
    status: &'static str,
    notes: String,
    details: ConsolidatedDetails,
    /// The database.
    parent_entity: Entity,
    active_entity_count: i64,
    cleared_entity_count: i64,
    raised_timestamp: String,
    updated_timestamp: String,
    cleared_timestamp: Option<String>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
struct ConsolidatedDetails {
    #[serde(rename = "type")]
    kind: String,
    cause: String,
}

impl ConsolidatedBody {
    pub fn new(base: &Base, ctx: &OpCtx, group: &AlertGroup) -> ConsolidatedBody {
        let href = format!("/alerts/consolidated/{}", group.uuid);
        let named = group.datasource.map_or(0, |id| id.0);
        let manages = may(ctx, (ALERT, Action::MANAGE), (&group.ou_path, named));
        ConsolidatedBody {
            id: group.uuid.to_string(),
            kind: group.kind.clone(),
            cause: group.cause.clone(),
            severity: group.severity.clone(),
            status: if group.active { STATUSES[0] } else { STATUSES[1] },
            notes: group.notes.clone(),
            details: ConsolidatedDetails { kind: group.kind.clone(), cause: group.cause.clone() },
            parent_entity: Entity::parent(&group.parent),
            active_entity_count: group.active_entities,
            cleared_entity_count: group.cleared_entities,
            raised_timestamp: time(group.raised_at),
            updated_timestamp: time(group.updated_at),
            cleared_timestamp: group.cleared_at.map(time),
            links: Links::new(base.get(&href))
                .and(manages, "update-consolidated-alert", || base.link("patch", &href)),
        }
    }
}
