//! Deployments on the wire.

use landreeve_delivery::deployments::{BroughtChange, DeploymentInfo};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::time::millis;
use super::{ServiceArgument, ShaArgument, TimeArgument};

/// The arguments for a deployment. (Describes the body in the reference; `Reader` reads it.)
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct DeploymentArguments {
    /// Unique in the key's organizational unit; `create` assigns one if it is omitted.
    #[schema(max_length = 255)]
    reference_id: Option<String>,
    /// Seconds or milliseconds since 1970, or ISO 8601. Required for a new deployment.
    deployed_at: Option<TimeArgument>,
    /// A string, or `{identifier, name}`. Required for a new deployment.
    service: Option<ServiceArgument>,
    /// `org/name`.
    #[schema(max_length = 255)]
    repository: Option<String>,
    /// The deployed commit, 7 to 40 hexadecimal digits.
    commit_sha: Option<ShaArgument>,
    /// The deployed merge commits, instead of `commit_sha`.
    #[schema(max_items = 10000)]
    merge_commit_shas: Option<Vec<ShaArgument>>,
    /// Only count changes merged into this branch.
    #[schema(max_length = 255)]
    integration_branch: Option<String>,
    /// Environment [default: production].
    #[schema(max_length = 255)]
    environment: Option<String>,
    /// Whether the deployment succeeded [default: true].
    success: Option<bool>,
    #[schema(max_length = 4096)]
    source_url: Option<String>,
    #[schema(max_length = 255)]
    source_name: Option<String>,
    /// Keys of letters, digits, dashes and underscores.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct PullServicesArguments {
    github_pull_id: Option<i64>,
    /// With `pull_number`, instead of `github_pull_id`.
    #[schema(max_length = 255)]
    repository: Option<String>,
    #[schema(minimum = 1)]
    pull_number: Option<i64>,
    #[schema(max_items = 1000)]
    services: Vec<ServiceArgument>,
    /// Replace the services instead of adding to them [default: false].
    replace: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DeploymentBody {
    ok: bool,
    deployment: DeploymentShown,
}

#[derive(Debug, Serialize, ToSchema)]
struct DeploymentShown {
    reference_id: String,
    service: ServiceShown,
    repository: Option<String>,
    environment: String,
    deployed_at: String,
    success: bool,
    commit_sha: Option<String>,
    merge_commit_shas: Vec<String>,
    integration_branch: Option<String>,
    source_url: Option<String>,
    source_name: Option<String>,
    metadata: Option<Value>,
    attributed_at: Option<String>,
    /// How the changes were found, or what is missing.
    attribution: String,
    change_count: u64,
    /// The newest 100.
    changes: Vec<ChangeShown>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ServiceShown {
    identifier: String,
    name: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ChangeShown {
    /// `pull` or `commit`.
    kind: String,
    number: Option<i64>,
    sha: Option<String>,
    title: Option<String>,
    landed_at: String,
}

impl From<DeploymentInfo> for DeploymentBody {
    fn from(info: DeploymentInfo) -> DeploymentBody {
        let deployment = DeploymentShown {
            reference_id: info.reference,
            service: ServiceShown { identifier: info.service, name: info.service_name },
            repository: info.repository,
            environment: info.environment,
            deployed_at: millis(info.deployed_at),
            success: info.success,
            commit_sha: info.commit_sha,
            merge_commit_shas: info.merge_commit_shas,
            integration_branch: info.integration_branch,
            source_url: info.source_url,
            source_name: info.source_name,
            metadata: info.metadata,
            attributed_at: info.attributed_at.map(millis),
            attribution: info.attribution,
            change_count: info.change_count,
            changes: info.changes.into_iter().map(ChangeShown::from).collect(),
        };
        DeploymentBody { ok: true, deployment }
    }
}

impl From<BroughtChange> for ChangeShown {
    fn from(change: BroughtChange) -> ChangeShown {
        ChangeShown {
            kind: change.kind,
            number: change.number,
            sha: change.sha,
            title: change.title,
            landed_at: millis(change.landed_at),
        }
    }
}
