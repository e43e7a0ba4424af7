//! Deployment configurations and the variables of scripts on the wire.

use std::collections::BTreeMap;

use landreeve_core::error::Faults;
use landreeve_core::{Input, Result};
use landreeve_http::body::{Field, Fields, json_object};
use landreeve_promotion::configuration::{
    Argument, Configuration, DeploymentType, RollbackScope, Script, Scripts, Strategy,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::clusters::flag;
use super::input;

const TYPES: [(&str, DeploymentType); 2] =
    [("SIMPLE", DeploymentType::Simple), ("NO_DOWNTIME", DeploymentType::NoDowntime)];
const STRATEGIES: [(&str, Strategy); 2] = [("HALF", Strategy::Half), ("ONE_BY_ONE", Strategy::OneByOne)];
const SCOPES: [(&str, RollbackScope); 2] =
    [("FIRST_SERVER", RollbackScope::FirstServer), ("ALL_TOUCHED", RollbackScope::AllTouched)];

/// Members of the dialect for what this server does not have; `false` is accepted.
const ABSENT: [(&str, &str); 4] = [
    ("sharedCache", "must be false: there is no cache to share"),
    ("sharedMetadata", "must be false: each server has its own metadata"),
    ("dataCatalogSynchronizeEnabled", "must be false: there is no data catalog to synchronize"),
    ("fastCloudDeployments", "must be false: there are no cloud clusters"),
];

fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| *word)
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationBody {
    deployments_enabled: bool,
    deployment_type: &'static str,
    cluster_strategy: &'static str,
    server_strategy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    configured_clusters: Option<u32>,
    rollback_enabled: bool,
    rollback_scope: &'static str,
    backup_enabled: bool,
    queue_deployments_enabled: bool,
    approvals_required: u8,
    refuse_on_drift: bool,
    scripts: ScriptsBody,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ScriptsBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_server: Option<ScriptBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_server: Option<ScriptBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_cluster: Option<ScriptBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_cluster: Option<ScriptBody>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ScriptBody {
    file: String,
    arguments: Vec<ArgumentBody>,
}

/// One of the two.
#[derive(Debug, Serialize, ToSchema)]
struct ArgumentBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    literal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
}

impl ConfigurationBody {
    pub fn new(configuration: Configuration) -> ConfigurationBody {
        let scripts = configuration.scripts;
        ConfigurationBody {
            deployments_enabled: configuration.deployments_enabled,
            deployment_type: word(&TYPES, &configuration.deployment_type),
            cluster_strategy: word(&STRATEGIES, &configuration.cluster_strategy),
            server_strategy: word(&STRATEGIES, &configuration.server_strategy),
            configured_clusters: configuration.configured_clusters,
            rollback_enabled: configuration.rollback_enabled,
            rollback_scope: word(&SCOPES, &configuration.rollback_scope),
            backup_enabled: configuration.backup_enabled,
            queue_deployments_enabled: configuration.queue_deployments,
            approvals_required: configuration.approvals_required,
            refuse_on_drift: configuration.refuse_on_drift,
            scripts: ScriptsBody {
                disable_server: scripts.disable_server.map(ScriptBody::new),
                enable_server: scripts.enable_server.map(ScriptBody::new),
                disable_cluster: scripts.disable_cluster.map(ScriptBody::new),
                enable_cluster: scripts.enable_cluster.map(ScriptBody::new),
            },
        }
    }
}

impl ScriptBody {
    fn new(script: Script) -> ScriptBody {
        let argument = |argument: Argument| match argument {
            Argument::Literal(text) => ArgumentBody { literal: Some(text), variable: None },
            Argument::Variable(name) => ArgumentBody { literal: None, variable: Some(name) },
        };
        ScriptBody { file: script.file, arguments: script.arguments.into_iter().map(argument).collect() }
    }
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
pub struct ConfigurationArguments {
    /// Default: true.
    deployments_enabled: Option<bool>,
    /// Default: `SIMPLE`.
    #[schema(pattern = "^(SIMPLE|NO_DOWNTIME)$", example = "NO_DOWNTIME")]
    deployment_type: Option<String>,
    /// Default: `ONE_BY_ONE`.
    #[schema(pattern = "^(HALF|ONE_BY_ONE)$", example = "HALF")]
    cluster_strategy: Option<String>,
    /// Default: `ONE_BY_ONE`.
    #[schema(pattern = "^(HALF|ONE_BY_ONE)$", example = "HALF")]
    server_strategy: Option<String>,
    /// Default: the actual number of enabled clusters at any time.
    #[schema(minimum = 0, maximum = 100)]
    configured_clusters: Option<i64>,
    /// Default: true.
    rollback_enabled: Option<bool>,
    /// Default: `ALL_TOUCHED`.
    #[schema(pattern = "^(FIRST_SERVER|ALL_TOUCHED)$", example = "ALL_TOUCHED")]
    rollback_scope: Option<String>,
    /// Default: false. `true` is refused while no backup repository is configured.
    backup_enabled: Option<bool>,
    /// Default: false.
    queue_deployments_enabled: Option<bool>,
    /// Default: 0.
    #[schema(minimum = 0, maximum = 1)]
    approvals_required: Option<i64>,
    /// Default: false.
    refuse_on_drift: Option<bool>,
    /// Default: none.
    scripts: Option<ScriptsArguments>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
struct ScriptsArguments {
    disable_server: Option<ScriptArguments>,
    enable_server: Option<ScriptArguments>,
    disable_cluster: Option<ScriptArguments>,
    enable_cluster: Option<ScriptArguments>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
struct ScriptArguments {
    /// Name of a file in `[promotion] scripts_dir`, without a path.
    #[schema(min_length = 1, max_length = 255, example = "lb.sh")]
    file: String,
    #[schema(max_items = 100)]
    arguments: Option<Vec<ArgumentArguments>>,
}

/// One of the two.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
struct ArgumentArguments {
    #[schema(max_length = 4000)]
    literal: Option<String>,
    /// Name of a variable of the cluster or the server.
    #[schema(min_length = 1, max_length = 100, example = "host")]
    variable: Option<String>,
}

/// The plane's field as a member.
fn member(field: &str) -> String {
    match field {
        "queue_deployments" => "queueDeploymentsEnabled".to_owned(),
        other => input::camel(other),
    }
}

/// A whole configuration: what is left out has its default.
pub fn read(body: &[u8]) -> Result<Input<Configuration>> {
    input::read(body, member, |body| {
        for (name, message) in ABSENT {
            if flag(body, name, false) {
                body.fault(name, "unavailable", message);
            }
        }
        let default = Configuration::default();
        let clusters = body.optional("configuredClusters", |f| f.int(0..=100)).value();
        let approvals = body.optional("approvalsRequired", |f| f.int(0..=1)).value();
        Configuration {
            deployments_enabled: flag(body, "deploymentsEnabled", default.deployments_enabled),
            deployment_type: choice(body, "deploymentType", &TYPES, default.deployment_type),
            cluster_strategy: choice(body, "clusterStrategy", &STRATEGIES, default.cluster_strategy),
            server_strategy: choice(body, "serverStrategy", &STRATEGIES, default.server_strategy),
            configured_clusters: clusters.and_then(|clusters| u32::try_from(clusters).ok()),
            rollback_enabled: flag(body, "rollbackEnabled", default.rollback_enabled),
            rollback_scope: choice(body, "rollbackScope", &SCOPES, default.rollback_scope),
            backup_enabled: flag(body, "backupEnabled", default.backup_enabled),
            queue_deployments: flag(body, "queueDeploymentsEnabled", default.queue_deployments),
            approvals_required: approvals.and_then(|approvals| u8::try_from(approvals).ok()).unwrap_or(0),
            refuse_on_drift: flag(body, "refuseOnDrift", default.refuse_on_drift),
            scripts: body.optional("scripts", |f| f.object(scripts)).value().unwrap_or_default(),
        }
    })
}

fn choice<T: Copy>(body: &Fields<'_>, name: &str, words: &[(&str, T)], default: T) -> T {
    body.optional(name, |f| f.choice(words)).value().unwrap_or(default)
}

fn scripts(scripts: &Fields<'_>) -> Scripts {
    let one = |name: &str| scripts.optional(name, script).value();
    Scripts {
        disable_server: one("disableServer"),
        enable_server: one("enableServer"),
        disable_cluster: one("disableCluster"),
        enable_cluster: one("enableCluster"),
    }
}

fn script(field: Field<'_>) -> Option<Script> {
    field.object(|script| Script {
        file: script.required("file", |f| f.text(1..=255)),
        arguments: script.optional("arguments", |f| f.list(100, argument)).value().unwrap_or_default(),
    })
}

fn argument(field: Field<'_>) -> Option<Argument> {
    let read = field.object(|argument| {
        let literal = argument.optional("literal", |f| f.text(0..=4_000)).value();
        let variable = argument.optional("variable", |f| f.text(1..=100)).value();
        match (literal, variable) {
            (Some(text), None) => Some(Argument::Literal(text)),
            (None, Some(name)) => Some(Argument::Variable(name)),
            (Some(_), Some(_)) => {
                argument.fault("variable", "alone", "must not come together with literal");
                None
            }
            (None, None) => {
                // One that cannot be read has its own fault.
                let missing = |name: &str| argument.raw(name).is_none_or(Value::is_null);
                if missing("literal") && missing("variable") {
                    argument.fault("literal", "required", "or variable is required");
                }
                None
            }
        }
    });
    read.flatten()
}

/// A value for each name: at most 100 names of 1 to 100 characters, with values of at most 4,000.
#[derive(Debug, Serialize, ToSchema)]
pub struct VariablesBody(pub BTreeMap<String, String>);

/// The names are the client's own.
pub fn read_variables(body: &[u8]) -> Result<Input<BTreeMap<String, String>>> {
    let (mut variables, mut faults) = (BTreeMap::new(), Faults::default());
    for (name, value) in json_object(body)? {
        match value {
            Value::String(text) => drop(variables.insert(name, text)),
            _ => faults.push(name, "type", "must be a string"),
        }
    }
    Ok(Input::new(variables, faults))
}
