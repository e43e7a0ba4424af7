//! Clusters on the wire.

use landreeve_core::{Error, Input, Result};
use landreeve_http::body::{Field, Fields};
use landreeve_promotion::clusters::{Cluster, ClusterFacts};
use landreeve_promotion::ids::EnvironmentId;
use serde::Serialize;
use utoipa::ToSchema;

use super::environments::optional;
use super::input;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBody {
    id: i64,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Position in the environment, from 1: the order of deployments.
    order: i64,
    environment_id: i64,
    enabled: bool,
}

impl ClusterBody {
    pub fn new(cluster: Cluster) -> ClusterBody {
        ClusterBody {
            id: cluster.id.0,
            name: cluster.name,
            description: cluster.description,
            order: cluster.position,
            environment_id: cluster.environment.0,
            enabled: cluster.enabled,
        }
    }
}

/// The clusters of an environment, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterList {
    clusters: Vec<ListedCluster>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ListedCluster {
    id: i64,
    name: String,
    enabled: bool,
}

impl ClusterList {
    pub fn new(clusters: Vec<Cluster>) -> ClusterList {
        let listed = |cluster: Cluster| ListedCluster {
            id: cluster.id.0,
            name: cluster.name,
            enabled: cluster.enabled,
        };
        ClusterList { clusters: clusters.into_iter().map(listed).collect() }
    }
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
pub struct ClusterArguments {
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    #[schema(max_length = 4000)]
    description: Option<String>,
    #[schema(minimum = 1, example = 3)]
    environment_id: i64,
    /// Default: true.
    enabled: Option<bool>,
}

/// The plane's field as a member.
fn member(field: &str) -> String {
    match field {
        "environment" => "environmentId".to_owned(),
        other => input::camel(other),
    }
}

pub fn named(error: Error) -> Error {
    input::named(error, member)
}

/// A cluster. What a response has besides is accepted and ignored, so that clients can send one back.
pub fn read(body: &[u8]) -> Result<Input<ClusterFacts>> {
    input::read(body, member, |body| {
        body.ignore(&["id", "order"]);
        ClusterFacts {
            environment: reference(body, "environmentId").map(EnvironmentId),
            name: body.required("name", |f| f.text(1..=255)),
            description: optional(body, "description", 4_000),
            enabled: flag(body, "enabled", true),
        }
    })
}

/// A required id; `None` if it cannot be read.
pub fn reference(body: &Fields<'_>, name: &str) -> Option<i64> {
    body.required_or(name, None, |f| f.int(1..=i64::MAX).map(Some))
}

pub fn flag(body: &Fields<'_>, name: &str, default: bool) -> bool {
    body.optional(name, Field::bool).value().unwrap_or(default)
}
