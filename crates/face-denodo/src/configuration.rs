//! Deployment configurations, and the variables of scripts: additions of this server.

use axum::extract::State;
use http::StatusCode;
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path};
use landreeve_promotion::configuration::{
    VariablesOf, configuration_get, configuration_put, variables_get, variables_put,
};

use crate::App;
use crate::caller::Caller;
use crate::clusters::cluster_id;
use crate::environments::environment_id;
use crate::servers::server_id;
use crate::wire::Answer;
use crate::wire::configuration::{
    ConfigurationArguments, ConfigurationBody, VariablesBody, read, read_variables,
};
use crate::wire::error::ErrorBody;

/// Get how an environment is deployed to
#[utoipa::path(
    get,
    path = "/environments/{id}/deploymentConfiguration",
    operation_id = "getDeploymentConfiguration",
    tag = "Deployment configuration",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    responses(
        (status = 200, body = ConfigurationBody, example = json!({
            "deploymentsEnabled": true, "deploymentType": "SIMPLE", "clusterStrategy": "ONE_BY_ONE",
            "serverStrategy": "ONE_BY_ONE", "configuredClusters": 1, "rollbackEnabled": true,
            "rollbackScope": "ALL_TOUCHED", "backupEnabled": false, "queueDeploymentsEnabled": false,
            "approvalsRequired": 0, "refuseOnDrift": false, "scripts": {}
        })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<ConfigurationBody>> {
    let found = configuration_get(&app.promotion, &ctx, environment_id(&id)?).await?;
    Ok(Answer(StatusCode::OK, ConfigurationBody::new(found)))
}

/// Replace how an environment is deployed to
///
/// Members that are left out have their defaults.
#[utoipa::path(
    put,
    path = "/environments/{id}/deploymentConfiguration",
    operation_id = "putDeploymentConfiguration",
    tag = "Deployment configuration",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    request_body(content = inline(ConfigurationArguments), example = json!({
        "deploymentType": "NO_DOWNTIME", "serverStrategy": "HALF", "scripts": {
            "disableServer": { "file": "lb.sh", "arguments": [{ "literal": "out" }, { "variable": "host" }] },
            "enableServer": { "file": "lb.sh", "arguments": [{ "literal": "in" }, { "variable": "host" }] }
        }
    })),
    responses(
        (status = 200, body = ConfigurationBody, example = json!({
            "deploymentsEnabled": true, "deploymentType": "NO_DOWNTIME", "clusterStrategy": "ONE_BY_ONE",
            "serverStrategy": "HALF", "configuredClusters": 1, "rollbackEnabled": true, "rollbackScope": "ALL_TOUCHED",
            "backupEnabled": false, "queueDeploymentsEnabled": false, "approvalsRequired": 0, "refuseOnDrift": false,
            "scripts": {
                "disableServer": { "file": "lb.sh", "arguments": [{ "literal": "out" }, { "variable": "host" }] },
                "enableServer": { "file": "lb.sh", "arguments": [{ "literal": "in" }, { "variable": "host" }] }
            }
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "backupEnabled must be false: no backup repository is configured",
            "problems": [{ "field": "backupEnabled", "message": "must be false: no backup repository is configured" }]
        })),
    )
)]
pub async fn put(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<ConfigurationBody>> {
    let id = environment_id(&id)?;
    let stored = configuration_put(&app.promotion, &ctx, id, read(&body)?).await?;
    Ok(Answer(StatusCode::OK, ConfigurationBody::new(stored)))
}

/// Get the variables of a cluster
#[utoipa::path(
    get,
    path = "/clusters/{id}/loadBalancingVariables",
    operation_id = "getClusterVariables",
    tag = "Deployment configuration",
    params(("id" = i64, Path, description = "Id of the cluster.", example = 7)),
    responses(
        (status = 200, body = VariablesBody, example = json!({ "pool": "shop" })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn cluster_variables(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<VariablesBody>> {
    let of = VariablesOf::Cluster(cluster_id(&id)?);
    let found = variables_get(&app.promotion, &ctx, of).await?;
    Ok(Answer(StatusCode::OK, VariablesBody(found)))
}

/// Replace the variables of a cluster
///
/// Arguments of scripts name them.
#[utoipa::path(
    put,
    path = "/clusters/{id}/loadBalancingVariables",
    operation_id = "putClusterVariables",
    tag = "Deployment configuration",
    params(("id" = i64, Path, description = "Id of the cluster.", example = 7)),
    request_body(content = VariablesBody, example = json!({ "pool": "shop" })),
    responses(
        (status = 200, body = VariablesBody, example = json!({ "pool": "shop" })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn put_cluster_variables(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<VariablesBody>> {
    let of = VariablesOf::Cluster(cluster_id(&id)?);
    let stored = variables_put(&app.promotion, &ctx, of, read_variables(&body)?).await?;
    Ok(Answer(StatusCode::OK, VariablesBody(stored)))
}

/// Get the variables of a server
#[utoipa::path(
    get,
    path = "/servers/{id}/loadBalancingVariables",
    operation_id = "getServerVariables",
    tag = "Deployment configuration",
    params(("id" = i64, Path, description = "Id of the server.", example = 12)),
    responses(
        (status = 200, body = VariablesBody, example = json!({ "member": "shop-1" })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn server_variables(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<VariablesBody>> {
    let of = VariablesOf::Server(server_id(&id)?);
    let found = variables_get(&app.promotion, &ctx, of).await?;
    Ok(Answer(StatusCode::OK, VariablesBody(found)))
}

/// Replace the variables of a server
///
/// Every server also has `name`, `host` and `port`, which cannot be set.
#[utoipa::path(
    put,
    path = "/servers/{id}/loadBalancingVariables",
    operation_id = "putServerVariables",
    tag = "Deployment configuration",
    params(("id" = i64, Path, description = "Id of the server.", example = 12)),
    request_body(content = VariablesBody, example = json!({ "member": "shop-1" })),
    responses(
        (status = 200, body = VariablesBody, example = json!({ "member": "shop-1" })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn put_server_variables(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<VariablesBody>> {
    let of = VariablesOf::Server(server_id(&id)?);
    let stored = variables_put(&app.promotion, &ctx, of, read_variables(&body)?).await?;
    Ok(Answer(StatusCode::OK, VariablesBody(stored)))
}
