//! Servers.

use axum::extract::State;
use http::StatusCode;
use landreeve_core::Result;
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, decimal};
use landreeve_promotion::ids::ServerId;
use landreeve_promotion::leases::{Leases, lease_states};
use landreeve_promotion::servers::{
    Server, server_create, server_delete, server_get, server_list, server_update,
};

use crate::App;
use crate::caller::Caller;
use crate::environments::environment_id;
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::servers::{ServerArguments, ServerBody, ServerList, named, read};

/// The id in a path.
pub fn server_id(id: &str) -> Result<ServerId> {
    decimal(id, "server").map(ServerId)
}

/// A server with the state of its lease.
async fn shown(app: &App, server: Server) -> Result<ServerBody> {
    let leases = lease_states(&app.promotion, std::slice::from_ref(&server)).await?;
    Ok(ServerBody::new(server, &leases))
}

/// List the servers of an environment, in the order of deployments
#[utoipa::path(
    get,
    path = "/environments/{id}/servers",
    operation_id = "listServers",
    tag = "Servers",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    responses(
        (status = 200, body = ServerList, example = json!({
            "servers": [{
                "id": 12, "name": "dev", "typeNode": "VDP", "urlIP": "embedded", "clusterId": 7, "useKerberos": false,
                "usePassThrough": false, "enabled": true, "useDefaultLicenseAlias": true, "leaseState": "ACTIVE"
            }]
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
) -> Outcome<Answer<ServerList>> {
    let servers = server_list(&app.promotion, &ctx, environment_id(&id)?).await?;
    let leases = lease_states(&app.promotion, &servers).await?;
    Ok(Answer(StatusCode::OK, ServerList::new(servers, &leases)))
}

/// Create a server
///
/// At the end of its cluster. An environment can have at most 1,000.
#[utoipa::path(
    post,
    path = "/servers",
    operation_id = "createServer",
    tag = "Servers",
    request_body(content = inline(ServerArguments), example = json!({
        "name": "dev", "typeNode": "VDP", "urlIP": "embedded", "clusterId": 7, "enabled": true
    })),
    responses(
        (status = 201, body = ServerBody, example = json!({
            "id": 12, "name": "dev", "typeNode": "VDP", "urlIP": "embedded", "clusterId": 7, "useKerberos": false,
            "usePassThrough": false, "enabled": true, "useDefaultLicenseAlias": true, "leaseState": "FREE"
        })),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such cluster" })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "name is already taken",
            "problems": [{ "field": "name", "message": "is already taken" }]
        })),
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    Body(body): Body,
) -> Outcome<Answer<ServerBody>> {
    let made = server_create(&app.promotion, &ctx, read(&body)?).await.map_err(named)?;
    Ok(Answer(StatusCode::CREATED, ServerBody::new(made, &Leases::new())))
}

/// Get a server
#[utoipa::path(
    get,
    path = "/servers/{id}",
    operation_id = "getServer",
    tag = "Servers",
    params(("id" = i64, Path, description = "Id of the server.", example = 12)),
    responses(
        (status = 200, body = ServerBody, example = json!({
            "id": 12, "name": "test", "typeNode": "VDP", "urlIP": "vdp-test.example.com", "urlPort": 8443, "clusterId": 7,
            "useKerberos": false, "usePassThrough": false, "username": "promoter", "enabled": true,
            "useDefaultLicenseAlias": true, "leaseState": "FREE"
        })),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such server" })),
    )
)]
pub async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<ServerBody>> {
    let server = server_get(&app.promotion, &ctx, server_id(&id)?).await?;
    Ok(Answer(StatusCode::OK, shown(&app, server).await?))
}

/// Update a server
///
/// The body replaces what is known of it: members that are left out are cleared, except the password. In another cluster
/// of the same organizational unit, the server is the last one.
#[utoipa::path(
    put,
    path = "/servers/{id}",
    operation_id = "updateServer",
    tag = "Servers",
    params(("id" = i64, Path, description = "Id of the server.", example = 12)),
    request_body(content = inline(ServerArguments), example = json!({
        "name": "test", "urlIP": "vdp-test.example.com", "urlPort": 8443, "clusterId": 7, "username": "promoter",
        "password": "********"
    })),
    responses(
        (status = 200, body = ServerBody, example = json!({
            "id": 12, "name": "test", "typeNode": "VDP", "urlIP": "vdp-test.example.com", "urlPort": 8443, "clusterId": 7,
            "useKerberos": false, "usePassThrough": false, "username": "promoter", "enabled": true,
            "useDefaultLicenseAlias": true, "leaseState": "FREE"
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "password is required when the address changes",
            "problems": [{ "field": "password", "message": "is required when the address changes" }]
        })),
    )
)]
pub async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<ServerBody>> {
    let id = server_id(&id)?;
    let changed = server_update(&app.promotion, &ctx, id, read(&body)?).await.map_err(named)?;
    Ok(Answer(StatusCode::OK, shown(&app, changed).await?))
}

/// Delete a server
///
/// With the node that was made with it. Not while a deployment to its environment is in progress.
#[utoipa::path(
    delete,
    path = "/servers/{id}",
    operation_id = "deleteServer",
    tag = "Servers",
    params(("id" = i64, Path, description = "Id of the server.", example = 12)),
    responses(
        (status = 204, description = "The server was deleted."),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the datasource Sales (8qxn-y9ex-65vd) names the node dev; delete it first"
        })),
    )
)]
pub async fn delete(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<StatusCode> {
    server_delete(&app.promotion, &ctx, server_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
