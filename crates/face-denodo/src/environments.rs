//! Environments.

use axum::extract::State;
use http::StatusCode;
use landreeve_core::Result;
use landreeve_http::extract::{Body, Path, decimal};
use landreeve_http::{Document, Items, Outcome};
use landreeve_promotion::environments::{
    environment_create, environment_delete, environment_list, environment_update,
};
use landreeve_promotion::ids::EnvironmentId;

use crate::App;
use crate::caller::Caller;
use crate::wire::environments::{EnvironmentArguments, EnvironmentBody, named, read};
use crate::wire::error::ErrorBody;
use crate::wire::{Answer, JSON};

/// The id in a path.
pub fn environment_id(id: &str) -> Result<EnvironmentId> {
    decimal(id, "environment").map(EnvironmentId)
}

/// List environments, by id
#[utoipa::path(
    get,
    path = "/environments",
    operation_id = "listEnvironments",
    tag = "Environments",
    responses(
        (status = 200, body = Vec<EnvironmentBody>, example = json!([
            {
                "id": 1, "name": "Environment 1", "description": "First environment", "minimumUpdateMandatory": false,
                "licenseAlias": "PRODUCTION", "uuid": "6f1d3f0e-3a53-4a0b-9d6c-0d3c1b0f4f11"
            },
            {
                "id": 2, "name": "Environment 2", "description": "Second environment", "minimumUpdateMandatory": false,
                "licenseAlias": "DEVELOPMENT", "uuid": "c2b1c1d8-2f2e-4c55-8a40-6a1df1b2a7c3"
            }
        ])),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(State(app): State<App>, Caller(ctx): Caller) -> Outcome {
    let items = Items::pages(move |after| {
        let (plane, ctx) = (app.promotion.clone(), ctx.clone());
        async move {
            let part = environment_list(&plane, &ctx, after).await?;
            Ok(part.with(|found| found.into_iter().map(EnvironmentBody::new).collect()))
        }
    });
    Document::default().array([items]).respond(StatusCode::OK, JSON).await
}

/// Create an environment
///
/// In the caller's organizational unit, which can have at most 1,000.
#[utoipa::path(
    post,
    path = "/environments",
    operation_id = "createEnvironment",
    tag = "Environments",
    request_body(content = inline(EnvironmentArguments), example = json!({
        "name": "Development", "description": "Where views are written", "licenseAlias": "DEVELOPMENT"
    })),
    responses(
        (status = 201, body = EnvironmentBody, example = json!({
            "id": 3, "name": "Development", "description": "Where views are written", "minimumUpdateMandatory": false,
            "licenseAlias": "DEVELOPMENT", "uuid": "6f1d3f0e-3a53-4a0b-9d6c-0d3c1b0f4f11"
        })),
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
) -> Outcome<Answer<EnvironmentBody>> {
    let made = environment_create(&app.promotion, &ctx, read(&body)?).await.map_err(named)?;
    Ok(Answer(StatusCode::CREATED, EnvironmentBody::new(made)))
}

/// Update an environment
///
/// The body replaces what is known of it: members that are left out are cleared.
#[utoipa::path(
    put,
    path = "/environments/{id}",
    operation_id = "updateEnvironment",
    tag = "Environments",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    request_body(content = inline(EnvironmentArguments), example = json!({
        "name": "Development", "licenseAlias": "DEVELOPMENT"
    })),
    responses(
        (status = 200, body = EnvironmentBody, example = json!({
            "id": 3, "name": "Development", "minimumUpdateMandatory": false, "licenseAlias": "DEVELOPMENT",
            "uuid": "6f1d3f0e-3a53-4a0b-9d6c-0d3c1b0f4f11"
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such environment"
        })),
    )
)]
pub async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<EnvironmentBody>> {
    let id = environment_id(&id)?;
    let changed = environment_update(&app.promotion, &ctx, id, read(&body)?).await.map_err(named)?;
    Ok(Answer(StatusCode::OK, EnvironmentBody::new(changed)))
}

/// Delete an environment
///
/// With its clusters and servers, and the nodes that were made with them. Not while a deployment to it is in progress.
#[utoipa::path(
    delete,
    path = "/environments/{id}",
    operation_id = "deleteEnvironment",
    tag = "Environments",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    responses(
        (status = 204, description = "The environment was deleted."),
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
    environment_delete(&app.promotion, &ctx, environment_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
