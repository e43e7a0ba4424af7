//! A datasource as an environment and as a resource that can be backed up.

use jiff::Timestamp;
use landreeve_core::{Action, Error, Noun, OpCtx, Result};
use landreeve_protection::assets::{Deleted, Outcome, Protected, Resource, ResourceFilter};
use landreeve_protection::nouns::{BACKUP, POLICY, RECORD, RESTORE};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Conditions, Kind, Op, Rule};
use super::link::{Base, Links, has_route};
use super::list::filtered;
use super::policies::PolicyBody;
use super::{ACCOUNT, REGION, RESOURCE_TYPE, may, time};

/// What an environment offers.
const SERVICE: &str = "rds";

pub const ENVIRONMENT_FILTER: [Rule; 4] = [
    Rule::text("account_native_id", &[Op::Eq, Op::BeginsWith]),
    Rule::text("aws_region", &[Op::Eq]),
    Rule::text("connection_status", &[Op::Eq]),
    Rule::text("services_enabled", &[Op::Contains]),
];

pub const RESOURCE_FILTER: [Rule; 12] = [
    Rule::text("resource_native_id", &[Op::Eq]),
    Rule::text("name", &[Op::Contains]),
    Rule::text("account_native_id", &[Op::Eq]),
    Rule::text("environment_id", &[Op::Eq]),
    Rule::text("engine", &[Op::Eq]),
    Rule::text("tags.id", &[Op::All]),
    Rule::text("type", &[Op::In]),
    Rule::text("protection_info.policy_id", &[Op::Eq]),
    Rule {
        field: "protection_status",
        ops: &[Op::In],
        kind: Kind::Word(&["protected", "unprotected", "unsupported"]),
    },
    Rule { field: "deactivated", ops: &[Op::Eq], kind: Kind::Bool },
    Rule { field: "backup_status", ops: &[Op::In], kind: Kind::Word(&STATUSES) },
    Rule { field: "is_deleted", ops: &[Op::Eq, Op::In], kind: Kind::Bool },
];

const STATUSES: [&str; 5] = ["success", "partial_success", "failure", "no_backup", "unknown"];

pub fn environment_filter(asked: &Conditions) -> ResourceFilter {
    let constant = asked.allow("account_native_id", ACCOUNT)
        && asked.allow("aws_region", REGION)
        && asked.allow("services_enabled", SERVICE);
    let status = asked.text("connection_status", Op::Eq);
    let enabled =
        status.map(|word| [true, false].into_iter().find(|enabled| connection_status(*enabled) == word));
    ResourceFilter {
        enabled: enabled.flatten(),
        nothing: !constant || enabled == Some(None),
        ..ResourceFilter::default()
    }
}

/// `since`: how far the request looks back.
pub fn resource_filter(asked: &Conditions, since: Option<Timestamp>) -> Result<ResourceFilter> {
    let outcomes = asked.texts("backup_status", Op::In);
    if since.is_none() && outcomes.as_ref().is_some_and(|words| words.iter().any(|word| *word != "unknown")) {
        let message = "is required to filter by backup_status";
        return Err(Error::fault("lookback_days", "required", message));
    }
    let constant = asked.allow("account_native_id", ACCOUNT)
        && asked.allow("type", RESOURCE_TYPE)
        && !asked.has("tags.id");
    let id = |field: &str| asked.text(field, Op::Eq).map(|text| Uuid::parse_str(text).ok());
    let (uuid, policy) = (id("environment_id"), id("protection_info.policy_id"));
    let text = |field: &str, op: Op| asked.text(field, op).map(str::to_owned);
    Ok(ResourceFilter {
        // What is malformed is the id of nothing.
        nothing: !constant || uuid == Some(None) || policy == Some(None),
        uuid: uuid.flatten(),
        policy: policy.flatten(),
        address: text("resource_native_id", Op::Eq),
        name: text("name", Op::Contains),
        database_type: text("engine", Op::Eq),
        protected: asked.texts("protection_status", Op::In).map(|words| meant(&PROTECTED, &words)),
        deactivated: asked.flags("deactivated").and_then(|flags| flags.first().copied()),
        // Without a period every status is unknown.
        outcomes: outcomes.filter(|_| since.is_some()).map(|words| meant(&OUTCOMES, &words)),
        enabled: None,
        deleted: deleted(asked.flags("is_deleted")),
        since,
    })
}

fn meant<T: Copy>(known: &[(&str, T)], words: &[&str]) -> Vec<T> {
    known.iter().filter(|(word, _)| words.contains(word)).map(|(_, meaning)| *meaning).collect()
}

const PROTECTED: [(&str, Protected); 3] =
    [("protected", Protected::Yes), ("unprotected", Protected::No), ("unsupported", Protected::Unsupported)];

const OUTCOMES: [(&str, Outcome); 4] = [
    ("success", Outcome::Success),
    ("partial_success", Outcome::PartialSuccess),
    ("failure", Outcome::Failure),
    ("no_backup", Outcome::NoBackup),
];

fn deleted(flags: Option<Vec<bool>>) -> Deleted {
    let flags = flags.unwrap_or_else(|| vec![false]);
    match (flags.contains(&true), flags.contains(&false)) {
        (true, true) => Deleted::Included,
        (true, false) => Deleted::Only,
        (false, _) => Deleted::Hidden,
    }
}

fn connection_status(enabled: bool) -> &'static str {
    if enabled { "connected" } else { "unlinked" }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EnvironmentBody {
    id: String,
    account_name: String,
    account_native_id: &'static str,
    aws_az: Vec<String>,
    aws_region: &'static str,
    connection_id: Option<String>,
    /// `connected`, or `unlinked` if the datasource is disabled.
    connection_status: &'static str,
    description: Option<String>,
    organizational_unit_id: String,
    services_enabled: Vec<&'static str>,
    #[serde(rename = "_links")]
    links: Links,
}

impl EnvironmentBody {
    pub fn new(base: &Base, resource: &Resource) -> EnvironmentBody {
        EnvironmentBody {
            id: resource.uuid.to_string(),
            account_name: resource.name.clone(),
            account_native_id: ACCOUNT,
            aws_az: Vec::new(),
            aws_region: REGION,
            connection_id: None,
            connection_status: connection_status(resource.enabled),
            description: None,
            organizational_unit_id: resource.unit.to_string(),
            services_enabled: vec![SERVICE],
            links: Links::new(base.get(&format!("/datasources/aws/environments/{}", resource.uuid))),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceBody {
    id: String,
    /// `aws_rds_instance`
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    /// `HOST:PORT/DATABASE`, or the path of a SQLite file.
    resource_native_id: String,
    /// `postgres`, `mysql`, `mariadb`, `sqlite`, or another type that is not supported.
    engine: String,
    engine_version: Option<String>,
    engine_mode: Option<String>,
    account_native_id: &'static str,
    aws_azs: Vec<String>,
    aws_region: &'static str,
    environment_id: String,
    organizational_unit_id: String,
    /// Bytes that the last backup read.
    size: Option<i64>,
    is_supported: bool,
    unsupported_reason: Option<String>,
    is_deleted: bool,
    deletion_timestamp: Option<String>,
    /// `protected`, `unprotected`, `unsupported`, or null if it was deleted.
    protection_status: Option<&'static str>,
    protection_info: Option<ProtectionInfo>,
    has_direct_assignment: bool,
    direct_assignment_policy_id: Option<String>,
    backup_status_info: BackupStatusInfo,
    first_granular_backup_timestamp: Option<String>,
    last_granular_backup_timestamp: Option<String>,
    first_clumio_snapshot_timestamp: Option<String>,
    last_clumio_snapshot_timestamp: Option<String>,
    earliest_aws_snapshot_restorable_timestamp: Option<String>,
    latest_aws_snapshot_restorable_timestamp: Option<String>,
    is_encrypted: Option<bool>,
    kms_key_native_id: Option<String>,
    security_group_native_ids: Vec<String>,
    subnet_group_name: Option<String>,
    tags: Vec<String>,
    /// With `embed=read-policy-definition`.
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<EmbeddedPolicy>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
struct EmbeddedPolicy {
    /// `null` if it has none, or the caller may not see it.
    #[serde(rename = "read-policy-definition")]
    policy: Option<PolicyBody>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ProtectionInfo {
    policy_id: String,
    inheriting_entity_id: Option<String>,
    inheriting_entity_type: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BackupStatusInfo {
    /// `success`, `partial_success`, `failure` or `no_backup`; `unknown` without `lookback_days`.
    backup_status: &'static str,
    last_successful_policy_start_timestamp: Option<String>,
    last_failed_policy_start_timestamp: Option<String>,
    operation_info_list: Vec<String>,
}

impl ResourceBody {
    pub fn new(base: &Base, ctx: &OpCtx, resource: &Resource) -> ResourceBody {
        let id = resource.uuid.to_string();
        let protection = resource.protection();
        let is_supported = resource.unsupported.is_none();
        let policy = resource.policy.map(|policy| policy.to_string());
        let period = resource.period;
        ResourceBody {
            kind: RESOURCE_TYPE,
            name: resource.name.clone(),
            resource_native_id: resource.address.clone(),
            engine: resource.database_type.clone(),
            engine_version: resource.server_version.clone(),
            engine_mode: None,
            account_native_id: ACCOUNT,
            aws_azs: Vec::new(),
            aws_region: REGION,
            environment_id: id.clone(),
            organizational_unit_id: resource.unit.to_string(),
            size: resource.size,
            is_supported,
            unsupported_reason: resource.unsupported.clone(),
            is_deleted: resource.datasource.is_none(),
            deletion_timestamp: None,
            protection_status: protection
                .and_then(|state| PROTECTED.into_iter().find(|known| known.1 == state))
                .map(|known| known.0),
            protection_info: policy.clone().map(|policy_id| ProtectionInfo {
                policy_id,
                inheriting_entity_id: None,
                inheriting_entity_type: None,
            }),
            has_direct_assignment: policy.is_some(),
            direct_assignment_policy_id: policy,
            backup_status_info: BackupStatusInfo {
                backup_status: period
                    .and_then(|period| OUTCOMES.into_iter().find(|known| known.1 == period.outcome()))
                    .map_or("unknown", |known| known.0),
                last_successful_policy_start_timestamp: period
                    .and_then(|period| period.last_success)
                    .map(time),
                last_failed_policy_start_timestamp: period.and_then(|period| period.last_failure).map(time),
                operation_info_list: Vec::new(),
            },
            first_granular_backup_timestamp: resource.first_backup.map(time),
            last_granular_backup_timestamp: resource.last_backup.map(time),
            first_clumio_snapshot_timestamp: None,
            last_clumio_snapshot_timestamp: None,
            earliest_aws_snapshot_restorable_timestamp: None,
            latest_aws_snapshot_restorable_timestamp: None,
            is_encrypted: None,
            kms_key_native_id: None,
            security_group_native_ids: Vec::new(),
            subnet_group_name: None,
            tags: Vec::new(),
            embedded: None,
            links: links(base, ctx, resource),
            id,
        }
    }

    /// The same, with its policy.
    pub fn with_policy(self, policy: Option<PolicyBody>) -> ResourceBody {
        ResourceBody { embedded: Some(EmbeddedPolicy { policy }), ..self }
    }
}

fn links(base: &Base, ctx: &OpCtx, resource: &Resource) -> Links {
    let id = resource.uuid.to_string();
    let may =
        |noun: Noun, action: Action| may(ctx, (noun, action), (&resource.unit_path, resource.granted()));
    let policy = resource.policy.filter(|_| may(POLICY, Action::VIEW));
    let policies = has_route("GET", "/policies/definitions/{policy_id}");
    let backups = filtered("/backups/aws/rds-resources", "resource_id", &id);
    Links::new(base.get(&format!("/datasources/aws/rds-resources/{id}")))
        .and(may(BACKUP, Action::VIEW), "list-backup-aws-rds-resources", || base.get(&backups))
        .and(may(RECORD, Action::USE), "list-rds-restored-records", || {
            base.get("/restores/aws/rds-resources/records")
        })
        .and(policies && policy.is_some(), "read-policy-definition", || {
            base.get(&format!("/policies/definitions/{}", policy.unwrap_or_default()))
        })
        .and(resource.last_backup.is_some() && may(RESTORE, Action::USE), "restore-aws-rds-resource", || {
            base.link("post", "/restores/aws/rds-resources")
        })
        .and(
            resource.unsupported.is_none() && may(BACKUP, Action::MANAGE),
            "create-backup-aws-rds-resource",
            || base.link("post", "/backups/aws/rds-resources"),
        )
}

/// The UUID in a path. Anything else is not found.
pub fn uuid(text: &str, noun: &'static str) -> Result<Uuid> {
    // A canonical text only, so that one thing has one address.
    let uuid = Uuid::parse_str(text).ok().filter(|uuid| uuid.to_string().eq_ignore_ascii_case(text));
    uuid.ok_or_else(|| Error::not_found(noun))
}
