//! An event of the audit trail, in the dialect's words.

use jiff::{SignedDuration, Timestamp};
use landreeve_estate::audit::{AuditFilter, EventRule};
use landreeve_protection::trail::{Entry, TrailFilter, former_name};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Kind, Op, Rule};
use super::list::Asked;
use super::{RESOURCE_TYPE, time};

const CATEGORIES: [&str; 20] = [
    "authentication",
    "data_source",
    "policy",
    "protection",
    "restore",
    "tasks",
    "backup",
    "users",
    "api_tokens",
    "kms_config",
    "sso",
    "mfa",
    "reports",
    "alerts",
    "cloud_connector",
    "cloudformation_template",
    "bandwidth_config",
    "partner_ecosystem",
    "ecosystem_changes",
    "organizational_unit",
];
const ACTIONS: [&str; 27] = [
    "create",
    "update",
    "delete",
    "enable",
    "disable",
    "browse",
    "search",
    "login",
    "logout",
    "register",
    "unregister",
    "apply",
    "remove",
    "invite",
    "suspend",
    "full_restore",
    "granular_retrieval",
    "redirected",
    "unapply",
    "batch_activate",
    "batch_deactivate",
    "grant_email_access",
    "download",
    "validate_tda_passcode",
    "regenerate_tda_passcode",
    "refresh",
    "deploy",
];
/// The dialect's statuses, with the estate's outcomes.
const STATUSES: [(&str, &str); 2] = [("success", "done"), ("failure", "refused")];
const STATUS_WORDS: [&str; 3] = ["success", "failure", "partial_success"];

pub const FILTER: [Rule; 13] = [
    Rule { field: "start_timestamp", ops: &[Op::Gte, Op::Lt, Op::Eq], kind: Kind::TimeOrAge },
    Rule { field: "category", ops: &[Op::In], kind: Kind::Word(&CATEGORIES) },
    Rule { field: "action", ops: &[Op::In], kind: Kind::Word(&ACTIONS) },
    Rule { field: "status", ops: &[Op::In], kind: Kind::Word(&STATUS_WORDS) },
    Rule::text("user_email", &[Op::In]),
    Rule::text("ip_address", &[Op::Eq]),
    Rule::text("primary_entity.id", &[Op::In]),
    Rule::text("primary_entity.type", &[Op::Eq]),
    Rule::text("primary_entity.value", &[Op::In]),
    Rule::text("parent_entity.type", &[Op::In]),
    Rule::text("parent_entity.value", &[Op::In]),
    Rule::text("parent_entity.id", &[Op::In]),
    Rule::text("organizational_unit_id", &[Op::Eq]),
];

type Words = &'static [&'static str];

const fn rule(nouns: Words, actions: Words, details: Words, to: (&'static str, &'static str)) -> EventRule {
    EventRule { nouns, actions, details, category: to.0, action: to.1 }
}

/// What is done to a noun of this category by the shared verbs.
const fn verbs(nouns: Words, category: &'static str) -> [EventRule; 3] {
    [
        rule(nouns, &["created"], &[], (category, "create")),
        rule(nouns, &["deleted"], &[], (category, "delete")),
        rule(nouns, &[], &[], (category, "update")),
    ]
}

const SUBMITTED: Words = &["submitted"];
const RUN: Words = &["run"];

/// What only some verbs mean.
const SPECIAL: [EventRule; 28] = [
    rule(&["session"], &[], &[], ("authentication", "login")),
    rule(&["user"], &["signed_in"], &[], ("authentication", "login")),
    rule(&["user"], &["signed_out"], &[], ("authentication", "logout")),
    rule(&["user"], &["created"], &[], ("users", "invite")),
    rule(&["user"], &["updated"], &["disabled"], ("users", "suspend")),
    rule(&["user"], &["updated"], &["enabled"], ("users", "enable")),
    rule(&["role"], &["granted"], &[], ("users", "apply")),
    rule(&["role"], &["revoked"], &[], ("users", "remove")),
    rule(&["setting"], &["rotated"], &[], ("kms_config", "update")),
    rule(&["setting"], &["backed_up"], &[], ("backup", "create")),
    rule(RUN, SUBMITTED, &["backup", "estate_backup"], ("backup", "create")),
    rule(RUN, SUBMITTED, &["restore"], ("restore", "full_restore")),
    rule(RUN, SUBMITTED, &["record_restore"], ("restore", "granular_retrieval")),
    rule(RUN, SUBMITTED, &["policy_update"], ("policy", "update")),
    rule(RUN, SUBMITTED, &["organizational_unit_update"], ("organizational_unit", "update")),
    rule(RUN, SUBMITTED, &["schema_refresh"], ("data_source", "refresh")),
    rule(RUN, SUBMITTED, &["deployment"], ("ecosystem_changes", "deploy")),
    rule(RUN, SUBMITTED, &[], ("tasks", "create")),
    rule(RUN, &["cancelled"], &[], ("tasks", "remove")),
    rule(&["datasource"], &["schema_read"], &[], ("data_source", "refresh")),
    rule(&["restore"], &["redirected"], &[], ("restore", "redirected")),
    rule(&["record"], &["downloaded"], &[], ("restore", "download")),
    rule(&["repository"], &["begun", "created"], &[], ("data_source", "register")),
    rule(&["repository"], &["given_up", "deleted"], &[], ("data_source", "unregister")),
    rule(&["repository"], &["key_shown"], &[], ("kms_config", "browse")),
    rule(&["audit"], &["refused"], &[], ("reports", "browse")),
    rule(&[], &["applied", "approved"], &[], ("ecosystem_changes", "apply")),
    rule(&[], &["rolled_back", "withdrawn", "released"], &[], ("ecosystem_changes", "unapply")),
];

const NOUNS: [[EventRule; 3]; 12] = [
    verbs(&["user", "group", "role"], "users"),
    verbs(&["key"], "api_tokens"),
    verbs(&["ou"], "organizational_unit"),
    verbs(&["policy"], "policy"),
    verbs(&["backup"], "backup"),
    verbs(&["restore", "record"], "restore"),
    verbs(&["alert"], "alerts"),
    verbs(&["datasource", "repository"], "data_source"),
    verbs(RUN, "tasks"),
    verbs(&["audit", "report", "dashboard"], "reports"),
    // Everything else, of which this dialect knows nothing.
    verbs(&["setting"], "ecosystem_changes"),
    verbs(&[], "ecosystem_changes"),
];

const COUNT: usize = SPECIAL.len() + NOUNS.len() * 3;

/// The words for every event. What has no word of its own gets the nearest documented one.
pub static RULES: [EventRule; COUNT] = {
    let mut all = [SPECIAL[0]; COUNT];
    let mut at = 0;
    while at < COUNT {
        all[at] = match at.checked_sub(SPECIAL.len()) {
            None => SPECIAL[at],
            Some(rest) => NOUNS[rest / 3][rest % 3],
        };
        at += 1;
    }
    all
};

/// The types of entities that are not called like the estate's nouns.
const TYPES: [(&str, &str); 7] = [
    ("datasource", RESOURCE_TYPE),
    ("backup", "backup_aws_rds_resource"),
    ("ou", "organizational_unit"),
    ("run", "task"),
    ("key", "api_token"),
    ("alert", "individual_alert"),
    ("setting", "general_settings"),
];

fn entity_type(noun: &str) -> &str {
    TYPES.iter().find(|(known, _)| *known == noun).map_or(noun, |(_, word)| word)
}

/// The nouns whose entities have this type.
fn nouns_of(word: &str) -> Vec<String> {
    match TYPES.iter().find(|(_, known)| *known == word) {
        Some((noun, _)) => vec![(*noun).to_owned()],
        None if entity_type(word) == word => vec![word.to_owned()],
        None => Vec::new(),
    }
}

/// The events that a list's filter selects.
pub fn filter(asked: &Asked, now: Timestamp) -> TrailFilter {
    let conditions = &asked.conditions;
    let words = |field: &str| {
        let words = conditions.texts(field, Op::In)?;
        Some(words.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let outcomes = conditions.texts("status", Op::In).map(|words| {
        let known = STATUSES.iter().filter(|(word, _)| words.contains(word));
        known.map(|(_, outcome)| (*outcome).to_owned()).collect()
    });
    let unit = conditions.text("organizational_unit_id", Op::Eq).map(|text| Uuid::parse_str(text).ok());
    let age = conditions.age("start_timestamp");
    let since = age.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    let from = conditions.time("start_timestamp", Op::Gte);
    let parent = ["id", "type", "value"].map(|name| format!("parent_entity.{name}"));
    TrailFilter {
        ids: words("primary_entity.id"),
        names: words("primary_entity.value"),
        audit: AuditFilter {
            rules: &RULES,
            categories: words("category"),
            actions: words("action"),
            nouns: conditions.text("primary_entity.type", Op::Eq).map(nouns_of),
            outcomes,
            emails: words("user_email"),
            address: conditions.text("ip_address", Op::Eq).map(str::to_owned),
            unit: unit.flatten(),
            at: (from.max(since), conditions.time("start_timestamp", Op::Lt)),
            narrow: None,
            // Events have no parent here, and what is malformed is the id of nothing.
            nothing: unit == Some(None) || parent.iter().any(|field| conditions.has(field)),
        },
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AuditBody {
    id: String,
    timestamp: String,
    /// The email address of the user; without one, the name of the user, key or other actor.
    user_email: String,
    ip_address: Option<String>,
    /// `UI` for the web console, else `API`.
    interface: &'static str,
    category: &'static str,
    action: &'static str,
    /// `success` or `failure`.
    status: &'static str,
    primary_entity: Option<AuditEntity>,
    parent_entity: Option<AuditEntity>,
    /// JSON as a string: what the estate says of the event.
    details: String,
    details_json: AuditDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct AuditEntity {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    value: Option<String>,
}

/// Requests are not stored.
#[derive(Debug, Serialize, ToSchema)]
struct AuditDetails {
    #[schema(value_type = Option<Object>)]
    request_body: Value,
    request_url: String,
    tags: Vec<AuditEntity>,
}

impl AuditBody {
    pub fn new(entry: &Entry) -> AuditBody {
        let event = &entry.record.event;
        let words = RULES.iter().find(|rule| rule.fits(event));
        let primary = event.noun_id.map(|number| {
            let subject = entry.subject.as_ref();
            let value = subject.map(|subject| subject.name.as_str()).or_else(|| former_name(event));
            AuditEntity {
                id: subject.map_or_else(|| number.to_string(), |subject| subject.id.clone()),
                kind: entity_type(&event.noun).to_owned(),
                value: value.map(str::to_owned),
            }
        });
        let status = STATUSES.iter().find(|(_, outcome)| *outcome == event.outcome);
        AuditBody {
            id: event.id.to_string(),
            timestamp: time(event.at),
            user_email: entry.record.email.clone(),
            ip_address: event.address.clone(),
            interface: if event.face == "console" { "UI" } else { "API" },
            category: words.map_or("ecosystem_changes", |rule| rule.category),
            action: words.map_or("update", |rule| rule.action),
            status: status.map_or("success", |(word, _)| word),
            primary_entity: primary,
            parent_entity: None,
            details: json!({ "detail": event.detail }).to_string(),
            details_json: AuditDetails {
                request_body: Value::Null,
                request_url: String::new(),
                tags: Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_documented_and_every_event_has_one() {
        for rule in &RULES {
            assert!(CATEGORIES.contains(&rule.category) && ACTIONS.contains(&rule.action), "{rule:?}");
        }
        let last = RULES.last().unwrap();
        assert!(last.nouns.is_empty() && last.actions.is_empty() && last.details.is_empty());
        assert_eq!(nouns_of("aws_rds_instance"), ["datasource"]);
        assert_eq!(nouns_of("user"), ["user"]);
        assert!(nouns_of("datasource").is_empty(), "it has another name here");
    }
}
