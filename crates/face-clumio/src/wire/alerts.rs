//! An alert about one database or backup.

use landreeve_core::{Action, OpCtx, Permission, Result};
use landreeve_http::body::{NullIs, Rules, Unknown, json_object, read_object};
use landreeve_protection::alerts::{Alert, AlertFilter, AlertOrder, POLICY_VIOLATED, RESTORE_FAILED};
use landreeve_protection::nouns::ALERT;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Kind, Op, Rule};
use super::link::{Base, Links};
use super::list::Asked;
use super::time;

/// The types of what an alert can be about, with those of the plane.
const ENTITIES: [(&str, &str); 2] =
    [("aws_rds_instance", "datasource"), ("backup_aws_rds_resource", "backup")];
const ENTITY_TYPES: [&str; 2] = [ENTITIES[0].0, ENTITIES[1].0];
const TYPES: [&str; 2] = [POLICY_VIOLATED, RESTORE_FAILED];
const STATUSES: [&str; 2] = ["active", "cleared"];
const SEVERITIES: [&str; 2] = ["error", "warning"];

pub const SORT: [&str; 3] = ["raised_timestamp", "updated_timestamp", "cleared_timestamp"];

pub const FILTER: [Rule; 9] = [
    Rule { field: "type", ops: &[Op::In], kind: Kind::Word(&TYPES) },
    Rule { field: "status", ops: &[Op::In], kind: Kind::Word(&STATUSES) },
    Rule { field: "severity", ops: &[Op::In], kind: Kind::Word(&SEVERITIES) },
    Rule { field: "raised_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule { field: "updated_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule { field: "cleared_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule::text("primary_entity.id", &[Op::Eq]),
    Rule { field: "primary_entity.type", ops: &[Op::Eq], kind: Kind::Word(&ENTITY_TYPES) },
    Rule::text("primary_entity.value", &[Op::Contains]),
];

pub fn filter(asked: &Asked) -> AlertFilter {
    let conditions = &asked.conditions;
    let words = |field: &str| -> Vec<String> {
        conditions.texts(field, Op::In).unwrap_or_default().into_iter().map(str::to_owned).collect()
    };
    let between = |field: &str| (conditions.time(field, Op::Gte), conditions.time(field, Op::Lte));
    let statuses = words("status");
    let has = |status: &str| statuses.iter().any(|one| one == status);
    let entity = conditions.text("primary_entity.id", Op::Eq);
    let kind = conditions.text("primary_entity.type", Op::Eq);
    let (order, descends) = asked.sort().unwrap_or((SORT[0], true));
    AlertFilter {
        kinds: words("type"),
        severities: words("severity"),
        active: (has("active") != has("cleared")).then(|| has("active")),
        entity: entity.and_then(|text| Uuid::parse_str(text).ok()),
        entity_kind: kind
            .and_then(|kind| ENTITIES.iter().find(|(known, _)| *known == kind))
            .map(|known| known.1.to_owned()),
        entity_name: conditions
            .text("primary_entity.value", Op::Contains)
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        raised: between("raised_timestamp"),
        updated: between("updated_timestamp"),
        cleared: between("cleared_timestamp"),
        order: match order {
            "updated_timestamp" => AlertOrder::Updated,
            "cleared_timestamp" => AlertOrder::Cleared,
            _ => AlertOrder::Raised,
        },
        oldest_first: !descends,
        // What has another form is the id of nothing.
        nothing: entity.is_some_and(|text| Uuid::parse_str(text).is_err()),
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AlertBody {
    id: String,
    /// `policy_violated` or `restore_failed`.
    #[serde(rename = "type")]
    kind: String,
    /// The code of the error.
    cause: String,
    /// `error` or `warning`.
    severity: String,
    /// `active` or `cleared`.
    status: &'static str,
    notes: String,
    details: Details,
    primary_entity: Entity,
    parent_entity: Option<Entity>,
    tags: Vec<Entity>,
    raised_count: i64,
    raised_timestamp: String,
    updated_timestamp: String,
    cleared_timestamp: Option<String>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
struct Details {
    #[serde(rename = "type")]
    kind: String,
    cause: String,
    /// The message of the error.
    description: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Entity {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Its name, when the alert was raised.
    value: String,
}

impl AlertBody {
    pub fn new(base: &Base, ctx: &OpCtx, alert: &Alert) -> AlertBody {
        let href = format!("/alerts/individual/{}", alert.uuid);
        let named = alert.datasource.map_or(0, |id| id.0);
        let manages = ctx.authority().allows(Permission::new(ALERT, Action::MANAGE), &alert.ou_path, named);
        let kind = ENTITIES
            .iter()
            .find(|(_, known)| *known == alert.entity_kind)
            .map_or(ENTITIES[0].0, |known| known.0);
        AlertBody {
            id: alert.uuid.to_string(),
            kind: alert.kind.clone(),
            cause: alert.cause.clone(),
            severity: alert.severity.clone(),
            status: if alert.active { "active" } else { "cleared" },
            notes: alert.notes.clone(),
            details: Details {
                kind: alert.kind.clone(),
                cause: alert.cause.clone(),
                description: alert.description.clone(),
            },
            primary_entity: Entity { id: alert.entity.to_string(), kind, value: alert.entity_name.clone() },
            parent_entity: None,
            tags: Vec::new(),
            raised_count: alert.raised_count,
            raised_timestamp: time(alert.raised_at),
            updated_timestamp: time(alert.updated_at),
            cleared_timestamp: alert.cleared_at.map(time),
            links: Links::new(base.get(&href))
                .and(manages, "update-individual-alert", || base.link("patch", &href)),
        }
    }
}

/// What can be changed on an alert.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AlertUpdate {
    /// Replaces the notes.
    #[schema(max_length = 1023)]
    #[expect(dead_code, reason = "only documents the body; `read_update` parses it and collects all faults")]
    notes: Option<String>,
    /// The only status that can be set.
    #[schema(pattern = "^(cleared)$")]
    #[expect(dead_code, reason = "only documents the body; `read_update` parses it and collects all faults")]
    status: Option<String>,
}

/// The notes, and whether the alert is to be cleared.
pub fn read_update(body: &[u8]) -> Result<(Option<String>, bool)> {
    let rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };
    read_object(&json_object(body)?, "", rules, |body| {
        let notes = body.optional("notes", |field| field.text(0..=1023)).value();
        let clear = body.optional("status", |field| field.choice(&[("cleared", true)])).value();
        (notes, clear.unwrap_or(false))
    })
}
