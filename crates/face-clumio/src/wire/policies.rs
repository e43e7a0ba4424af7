//! A policy, and the assignments of policies.

use jiff::Timestamp;
use landreeve_core::{Input, Result};
use landreeve_http::body::{Field, Fields, NullIs, Rules, Unknown, json_object, read_input};
use landreeve_protection::policies::model::{NewOperation, NewPolicy, NewSla};
use landreeve_protection::policies::{Assignment, Lock, MAX_ITEMS, Policy, PolicyFilter, Times};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Kind, Op, Rule};
use super::link::{Base, Links};
use super::list::Asked;
use super::restores::EmbeddedTask;
use super::tasks::TaskBody;

/// The types of what can have a policy.
const ENTITIES: [(&str, ()); 2] = [("aws_rds_instance", ()), ("aws_rds_cluster", ())];
/// Bytes of a text in a policy.
const MAX_TEXT: usize = 1_000;

#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyBody {
    id: String,
    name: String,
    /// `activated` or `deactivated`.
    activation_status: &'static str,
    /// `unlocked`, or `updating` or `deleting` while a task changes it.
    lock_status: &'static str,
    /// Seconds since 1970.
    created_time: i64,
    updated_time: i64,
    organizational_unit_id: String,
    operations: Vec<OperationBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    /// With `embed=read-task`.
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<EmbeddedTask>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct OperationBody {
    #[serde(rename = "type")]
    kind: String,
    /// `immediate`, or `window`: only while the window is open.
    action_setting: String,
    backup_window_tz: Option<WindowBody>,
    /// Name of a time zone [default: UTC].
    timezone: Option<String>,
    slas: Vec<SlaBody>,
    /// Name of a repository [default: default].
    backup_aws_region: Option<String>,
    /// Kept, without effect.
    #[schema(value_type = Option<Object>)]
    advanced_settings: Value,
    /// When the next backup is due, for the first of its databases, in seconds since 1970. Not in requests.
    #[schema(read_only)]
    next_start_time: Option<i64>,
    /// When its last backup started. Not in requests.
    #[schema(read_only)]
    previous_start_time: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct WindowBody {
    /// `hh:mm`
    start_time: String,
    /// `hh:mm`; empty: nothing is cut off.
    end_time: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SlaBody {
    retention_duration: DurationBody,
    rpo_frequency: FrequencyBody,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct DurationBody {
    /// `days`, `weeks`, `months` or `years`.
    unit: String,
    value: i64,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct FrequencyBody {
    /// `minutes`, `hours`, `days`, `weeks`, `months`, `years` or `on_demand`.
    unit: String,
    value: i64,
    /// Of weeks: on which days, 0 being Sunday.
    offsets: Option<Vec<i64>>,
}

impl PolicyBody {
    /// `manages`: whether the caller may change it.
    pub fn new(base: &Base, policy: &Policy, manages: bool) -> PolicyBody {
        let href = format!("/policies/definitions/{}", policy.uuid);
        let changes = manages && policy.lock == Lock::Unlocked;
        let links = Links::new(base.get(&href))
            .and(changes, "update-policy-definition", || base.link("put", &href))
            .and(changes, "delete-policy-definition", || base.link("delete", &href));
        PolicyBody {
            id: policy.uuid.to_string(),
            name: policy.name.clone(),
            activation_status: if policy.enabled { "activated" } else { "deactivated" },
            lock_status: policy.lock.as_str(),
            created_time: policy.created_at.as_second(),
            updated_time: policy.updated_at.as_second(),
            organizational_unit_id: policy.ou_uuid.to_string(),
            operations: policy.operations.iter().zip(&policy.times).map(OperationBody::from).collect(),
            task_id: None,
            embedded: None,
            links,
        }
    }

    /// The same, with the task that changes it.
    pub fn with_task(self, base: &Base, task: i64, embedded: Option<TaskBody>) -> PolicyBody {
        let links = self.links.and(true, "read-task", || base.get(&format!("/tasks/{task}")));
        let embedded = embedded.map(EmbeddedTask::new);
        PolicyBody { task_id: Some(task.to_string()), embedded, links, ..self }
    }
}

impl From<(&NewOperation, &Times)> for OperationBody {
    fn from((operation, times): (&NewOperation, &Times)) -> OperationBody {
        let window = |(start, end): &(String, String)| WindowBody {
            start_time: start.clone(),
            end_time: Some(end.clone()),
        };
        OperationBody {
            kind: operation.kind.clone(),
            action_setting: operation.action.clone(),
            backup_window_tz: operation.window.as_ref().map(window),
            timezone: operation.zone.clone(),
            slas: operation.slas.iter().map(SlaBody::from).collect(),
            backup_aws_region: operation.repository.clone(),
            advanced_settings: operation.settings.clone(),
            next_start_time: times.next.map(Timestamp::as_second),
            previous_start_time: times.previous.map(Timestamp::as_second),
        }
    }
}

impl From<&NewSla> for SlaBody {
    fn from(sla: &NewSla) -> SlaBody {
        let (unit, value) = sla.frequency.clone();
        let offsets = (!sla.offsets.is_empty()).then(|| sla.offsets.clone());
        SlaBody {
            retention_duration: DurationBody { unit: sla.retention.0.clone(), value: sla.retention.1 },
            rpo_frequency: FrequencyBody { unit, value, offsets },
        }
    }
}

/// What a policy is to be.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PolicyWrite {
    #[schema(min_length = 1, max_length = 255)]
    #[expect(dead_code, reason = "only documents the body; `read_policy` parses it and collects all faults")]
    name: String,
    #[schema(pattern = "^(activated|deactivated)$")]
    #[expect(dead_code, reason = "only documents the body; `read_policy` parses it and collects all faults")]
    activation_status: Option<String>,
    #[schema(min_items = 1, max_items = 20)]
    #[expect(dead_code, reason = "only documents the body; `read_policy` parses it and collects all faults")]
    operations: Vec<OperationBody>,
}

const RULES: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };

/// Clients send every member; null is absent. The older names of a window and of its zone are read too.
pub fn read_policy(body: &[u8]) -> Result<Input<NewPolicy>> {
    Ok(read_input(&json_object(body)?, RULES, |body| {
        // Deprecated in favour of the header, and without effect.
        body.ignore(&["organizational_unit_id"]);
        let zone = body.optional("timezone", |field| field.text(0..=MAX_TEXT)).value();
        let status = [("activated", true), ("deactivated", false)];
        NewPolicy {
            name: body.required("name", |field| field.text(1..=255)),
            enabled: body
                .optional("activation_status", |field| field.choice(&status))
                .value()
                .unwrap_or(true),
            operations: body.required("operations", |field| {
                field.list(20, |item| item.object(|fields| operation(fields, zone.as_deref())))
            }),
        }
    }))
}

fn operation(fields: &Fields<'_>, zone: Option<&str>) -> NewOperation {
    let text = |name: &str| fields.optional(name, |field| field.text(0..=MAX_TEXT)).value();
    let window = |name: &str| {
        fields.optional(name, |field| {
            field.object(|fields| {
                let time = |name: &str| fields.optional(name, |field| field.text(0..=16)).value();
                (time("start_time").unwrap_or_default(), time("end_time").unwrap_or_default())
            })
        })
    };
    // A policy that was read can be sent back.
    fields.ignore(&["next_start_time", "previous_start_time"]);
    let older = window("backup_window").value();
    NewOperation {
        kind: fields.required("type", |field| field.text(1..=MAX_TEXT)),
        action: fields.required("action_setting", |field| field.text(1..=MAX_TEXT)),
        window: window("backup_window_tz").value().or(older),
        zone: text("timezone").or_else(|| zone.map(str::to_owned)),
        slas: fields.required("slas", |field| field.list(20, |item| item.object(sla))),
        repository: text("backup_aws_region").filter(|name| !name.is_empty()),
        settings: fields.optional("advanced_settings", settings).value().unwrap_or_default(),
    }
}

fn settings(field: Field<'_>) -> Option<Value> {
    if field.value().is_object() { field.any() } else { field.fault("type", "must be an object") }
}

fn sla(fields: &Fields<'_>) -> NewSla {
    let unit = |fields: &Fields<'_>| fields.required("unit", |field| field.text(1..=MAX_TEXT));
    let value =
        |fields: &Fields<'_>| fields.optional("value", |field| field.int(i64::MIN..=i64::MAX)).value();
    let retention = fields.required("retention_duration", |field| {
        field.object(|fields| (unit(fields), value(fields).unwrap_or_default()))
    });
    let (frequency, offsets) = fields.required("rpo_frequency", |field| {
        field.object(|fields| {
            let offsets =
                fields.optional("offsets", |field| field.list(7, |day| day.int(i64::MIN..=i64::MAX)));
            ((unit(fields), value(fields).unwrap_or_default()), offsets.value().unwrap_or_default())
        })
    });
    NewSla { retention, frequency, offsets }
}

pub const FILTER: [Rule; 3] = [
    Rule::text("name", &[Op::Eq, Op::BeginsWith]),
    Rule::text("operations.type", &[Op::In]),
    Rule { field: "activation_status", ops: &[Op::Eq], kind: Kind::Word(&STATUSES) },
];
const STATUSES: [&str; 2] = ["activated", "deactivated"];

/// The policies that a list's filter selects.
pub fn filter(asked: &Asked) -> PolicyFilter {
    let conditions = &asked.conditions;
    let text = |field: &str, op: Op| conditions.text(field, op).map(str::to_owned);
    let kinds = conditions.texts("operations.type", Op::In).unwrap_or_default();
    PolicyFilter {
        name: text("name", Op::Eq),
        prefix: text("name", Op::BeginsWith),
        enabled: conditions.text("activation_status", Op::Eq).map(|status| status == "activated"),
        kinds: kinds.into_iter().map(str::to_owned).collect(),
        uuids: None,
    }
}

/// Which policies databases are to have.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AssignmentsWrite {
    #[schema(min_items = 1, max_items = 100)]
    #[expect(
        dead_code,
        reason = "only documents the body; `read_assignments` parses it and collects all faults"
    )]
    items: Vec<AssignmentWrite>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct AssignmentWrite {
    #[schema(pattern = "^(assign|unassign)$")]
    #[expect(
        dead_code,
        reason = "only documents the body; `read_assignments` parses it and collects all faults"
    )]
    action: String,
    #[expect(
        dead_code,
        reason = "only documents the body; `read_assignments` parses it and collects all faults"
    )]
    entity: EntityWrite,
    /// For `assign`.
    #[expect(
        dead_code,
        reason = "only documents the body; `read_assignments` parses it and collects all faults"
    )]
    policy_id: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct EntityWrite {
    #[expect(
        dead_code,
        reason = "only documents the body; `read_assignments` parses it and collects all faults"
    )]
    id: String,
    /// `aws_rds_instance` or `aws_rds_cluster`.
    #[serde(rename = "type")]
    #[expect(
        dead_code,
        reason = "only documents the body; `read_assignments` parses it and collects all faults"
    )]
    kind: String,
}

pub fn read_assignments(body: &[u8]) -> Result<Input<Vec<Assignment>>> {
    Ok(read_input(&json_object(body)?, RULES, |body| {
        body.required("items", |field| field.list(MAX_ITEMS, |item| item.object(assignment)))
    }))
}

fn assignment(fields: &Fields<'_>) -> Assignment {
    let uuid = |field: Field<'_>| {
        field.parse(|text| Uuid::parse_str(text).map_err(|_| "is not the id of anything".to_owned()))
    };
    let assigns = fields.required("action", |field| field.choice(&[("assign", true), ("unassign", false)]));
    let entity = fields.required("entity", |field| {
        field.object(|fields| {
            fields.required("type", |field| field.choice(&ENTITIES));
            fields.required("id", uuid)
        })
    });
    let policy = fields.optional("policy_id", |field| match field.value().as_str() {
        Some("") => Some(None),
        _ => uuid(field).map(Some),
    });
    let policy = policy.value().flatten();
    match (assigns, policy) {
        (true, None) => fields.fault("policy_id", "required", "is required to assign"),
        (false, Some(_)) => fields.fault("policy_id", "not_used", "must be left out to unassign"),
        _ => {}
    }
    Assignment { datasource: entity, policy }
}
