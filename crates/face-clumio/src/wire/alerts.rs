//! An alert about one database or backup.

use landreeve_core::{Action, Error, OpCtx, Permission, Result};
use landreeve_http::body::{NullIs, Rules, Unknown, json_object, read_object};
use landreeve_protection::alerts::{Alert, AlertFilter, AlertOrder, POLICY_VIOLATED, RESTORE_FAILED};
use landreeve_protection::nouns::ALERT;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::consolidated::ConsolidatedBody;
use super::filter::{Conditions, Kind, Op, Rule};
use super::link::{Base, Links};
use super::list::Asked;
use super::time;

/// The types of what an alert can be about, with those of the plane.
const ENTITIES: [(&str, &str); 2] =
    [("aws_rds_instance", "datasource"), ("backup_aws_rds_resource", "backup")];
const ENTITY_TYPES: [&str; 2] = [ENTITIES[0].0, ENTITIES[1].0];
const TYPES: [&str; 2] = [POLICY_VIOLATED, RESTORE_FAILED];
pub const STATUSES: [&str; 2] = ["active", "cleared"];
const SEVERITIES: [&str; 2] = ["error", "warning"];

pub const SORT: [&str; 3] = ["raised_timestamp", "updated_timestamp", "cleared_timestamp"];

/// The type of the database that an alert is about, also through a backup.
pub const PARENT_TYPE: &str = "aws_environment";

pub const FILTER: [Rule; 12] = [
    Rule { field: "type", ops: &[Op::In], kind: Kind::Word(&TYPES) },
    Rule { field: "status", ops: &[Op::In], kind: Kind::Word(&STATUSES) },
    Rule { field: "severity", ops: &[Op::In], kind: Kind::Word(&SEVERITIES) },
    Rule { field: "raised_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule { field: "updated_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule { field: "cleared_timestamp", ops: &[Op::Lte, Op::Gte], kind: Kind::Time },
    Rule::text("primary_entity.id", &[Op::Eq]),
    Rule { field: "primary_entity.type", ops: &[Op::Eq], kind: Kind::Word(&ENTITY_TYPES) },
    Rule::text("primary_entity.value", &[Op::Contains]),
    Rule::text("consolidated_alert_id", &[Op::Eq]),
    Rule::text("parent_entity.id", &[Op::Eq]),
    Rule::text("parent_entity.type", &[Op::Eq]),
];

/// The database whose alerts a filter selects: one without an id that is a UUID selects nothing. Id and type are only sent
/// together.
pub fn parent(asked: &Conditions) -> Result<Option<Option<Uuid>>> {
    let [id, kind] = ["id", "type"].map(|name| asked.text(&format!("parent_entity.{name}"), Op::Eq));
    let alone = |field: &str, other: &str| {
        Err(Error::fault(format!("filter.{field}"), "alone", format!("needs {other} beside it")))
    };
    match (id, kind) {
        (None, None) => Ok(None),
        (Some(_), None) => alone("parent_entity.id", "parent_entity.type"),
        (None, Some(_)) => alone("parent_entity.type", "parent_entity.id"),
        (Some(id), Some(kind)) => Ok(Some(Uuid::parse_str(id).ok().filter(|_| kind == PARENT_TYPE))),
    }
}

pub fn filter(asked: &Asked) -> Result<AlertFilter> {
    let conditions = &asked.conditions;
    let parent = parent(conditions)?;
    let group = conditions.text("consolidated_alert_id", Op::Eq).map(|text| Uuid::parse_str(text).ok());
    let words = |field: &str| -> Vec<String> {
        conditions.texts(field, Op::In).unwrap_or_default().into_iter().map(str::to_owned).collect()
    };
    let between = |field: &str| (conditions.time(field, Op::Gte), conditions.time(field, Op::Lte));
    let statuses = words("status");
    let has = |status: &str| statuses.iter().any(|one| one == status);
    let entity = conditions.text("primary_entity.id", Op::Eq);
    let kind = conditions.text("primary_entity.type", Op::Eq);
    let (order, descends) = asked.sort().unwrap_or((SORT[0], true));
    Ok(AlertFilter {
        group: group.flatten(),
        parent: parent.flatten(),
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
        order: alert_order(order),
        oldest_first: !descends,
        // What has another form is the id of nothing.
        nothing: entity.is_some_and(|text| Uuid::parse_str(text).is_err())
            || group == Some(None)
            || parent == Some(None),
    })
}

pub fn alert_order(field: &str) -> AlertOrder {
    match field {
        "updated_timestamp" => AlertOrder::Updated,
        "cleared_timestamp" => AlertOrder::Cleared,
        _ => AlertOrder::Raised,
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
    /// The database.
    parent_entity: Option<Entity>,
    consolidated_alert_id: Option<String>,
    tags: Vec<Entity>,
    raised_count: i64,
    raised_timestamp: String,
    updated_timestamp: String,
    cleared_timestamp: Option<String>,
    /// With `embed=read-consolidated-alert`.
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<EmbeddedGroup>,
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
pub struct Entity {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Its name, when the alert was raised.
    value: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct EmbeddedGroup {
    #[serde(rename = "read-consolidated-alert")]
    group: ConsolidatedBody,
}

impl Entity {
    pub fn parent((id, name): &(Uuid, String)) -> Entity {
        Entity { id: id.to_string(), kind: PARENT_TYPE, value: name.clone() }
    }
}

impl AlertBody {
    /// `group`: to be embedded.
    pub fn new(base: &Base, ctx: &OpCtx, alert: &Alert, group: Option<ConsolidatedBody>) -> AlertBody {
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
            parent_entity: alert.parent.as_ref().map(Entity::parent),
            consolidated_alert_id: alert.group.map(|group| group.to_string()),
            tags: Vec::new(),
            raised_count: alert.raised_count,
            raised_timestamp: time(alert.raised_at),
            updated_timestamp: time(alert.updated_at),
            cleared_timestamp: alert.cleared_at.map(time),
            embedded: group.map(|group| EmbeddedGroup { group }),
            links: Links::new(base.get(&href))
                .and(manages, "update-individual-alert", || base.link("patch", &href))
                .and(alert.group.is_some(), "read-consolidated-alert", || {
                    base.get(&format!("/alerts/consolidated/{}", alert.group.unwrap_or_default()))
                }),
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
