//! Clusters.

use axum::extract::State;
use http::StatusCode;
use landreeve_core::Result;
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, decimal};
use landreeve_promotion::clusters::{
    cluster_create, cluster_delete, cluster_get, cluster_list, cluster_update,
};
use landreeve_promotion::ids::ClusterId;

use crate::App;
use crate::caller::Caller;
use crate::environments::environment_id;
use crate::wire::Answer;
use crate::wire::clusters::{ClusterArguments, ClusterBody, ClusterList, named, read};
use crate::wire::error::ErrorBody;

/// The id in a path.
pub fn cluster_id(id: &str) -> Result<ClusterId> {
    decimal(id, "cluster").map(ClusterId)
}

/// List the clusters of an environment, in the order of deployments
#[utoipa::path(
    get,
    path = "/environments/{id}/clusters",
    operation_id = "listClusters",
    tag = "Clusters",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    responses(
        (status = 200, body = ClusterList, example = json!({
            "clusters": [{ "id": 7, "name": "Cluster 1", "enabled": true }, { "id": 8, "name": "Cluster 2", "enabled": true }]
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such environment"
        })),
    )
)]
pub async fn list(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<ClusterList>> {
    let clusters = cluster_list(&app.promotion, &ctx, environment_id(&id)?).await?;
    Ok(Answer(StatusCode::OK, ClusterList::new(clusters)))
}

/// Create a cluster
///
/// At the end of its environment, which can have at most 100.
#[utoipa::path(
    post,
    path = "/clusters",
    operation_id = "createCluster",
    tag = "Clusters",
    request_body(content = inline(ClusterArguments), example = json!({
        "name": "Cluster 1", "environmentId": 3, "enabled": true
    })),
    responses(
        (status = 201, body = ClusterBody, example = json!({
            "id": 7, "name": "Cluster 1", "order": 1, "environmentId": 3, "enabled": true
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such environment"
        })),
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    Body(body): Body,
) -> Outcome<Answer<ClusterBody>> {
    let made = cluster_create(&app.promotion, &ctx, read(&body)?).await.map_err(named)?;
    Ok(Answer(StatusCode::CREATED, ClusterBody::new(made)))
}

/// Get a cluster
#[utoipa::path(
    get,
    path = "/clusters/{id}",
    operation_id = "getCluster",
    tag = "Clusters",
    params(("id" = i64, Path, description = "Id of the cluster.", example = 7)),
    responses(
        (status = 200, body = ClusterBody, example = json!({
            "id": 7, "name": "Cluster 1", "order": 1, "environmentId": 3, "enabled": true
        })),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such cluster" })),
    )
)]
pub async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<ClusterBody>> {
    let cluster = cluster_get(&app.promotion, &ctx, cluster_id(&id)?).await?;
    Ok(Answer(StatusCode::OK, ClusterBody::new(cluster)))
}

/// Update a cluster
///
/// The body replaces what is known of it: members that are left out are cleared. In another environment of the same
/// organizational unit, the cluster is the last one.
#[utoipa::path(
    put,
    path = "/clusters/{id}",
    operation_id = "updateCluster",
    tag = "Clusters",
    params(("id" = i64, Path, description = "Id of the cluster.", example = 7)),
    request_body(content = inline(ClusterArguments), example = json!({
        "name": "Cluster 1", "description": "In Frankfurt", "environmentId": 3, "enabled": true
    })),
    responses(
        (status = 200, body = ClusterBody, example = json!({
            "id": 7, "name": "Cluster 1", "description": "In Frankfurt", "order": 1, "environmentId": 3, "enabled": true
        })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "name is already taken",
            "problems": [{ "field": "name", "message": "is already taken" }]
        })),
    )
)]
pub async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<ClusterBody>> {
    let id = cluster_id(&id)?;
    let changed = cluster_update(&app.promotion, &ctx, id, read(&body)?).await.map_err(named)?;
    Ok(Answer(StatusCode::OK, ClusterBody::new(changed)))
}

/// Delete a cluster
///
/// With its servers, and the nodes that were made with them. Not while a deployment to its environment is in progress.
#[utoipa::path(
    delete,
    path = "/clusters/{id}",
    operation_id = "deleteCluster",
    tag = "Clusters",
    params(("id" = i64, Path, description = "Id of the cluster.", example = 7)),
    responses(
        (status = 204, description = "The cluster was deleted."),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the deployment 28 to Development is in progress"
        })),
    )
)]
pub async fn delete(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<StatusCode> {
    cluster_delete(&app.promotion, &ctx, cluster_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
