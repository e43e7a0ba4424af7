//! `deployments.*`: deployments and the changes they contain.

use axum::Json;
use axum::extract::State;
use landreeve_core::Given;
use landreeve_delivery::Delivery;
use landreeve_delivery::changes::{PullRef, pull_services_set};
use landreeve_delivery::deployments::{
    DeploymentFacts, deployment_create, deployment_info, deployment_update, deployment_upsert,
};
use landreeve_http::Outcome;

use crate::arguments::{Arguments, Reader};
use crate::caller::Caller;
use crate::wire::deployments::{DeploymentArguments, DeploymentBody, PullServicesArguments};
use crate::wire::done::Done;
use crate::wire::error::ErrorBody;

/// Record a deployment
///
/// Send arguments as JSON, as a form or in the query. Sending the same deployment again succeeds; a different one with
/// the same `reference_id` is an error. With a repository, the server finds the changes, now or within three days.
#[utoipa::path(
    post,
    path = "/api/deployments.create",
    tag = "deployments",
    request_body(content = inline(DeploymentArguments), example = json!({
        "reference_id": "rel-41",
        "deployed_at": 1_767_225_600,
        "service": "checkout",
        "repository": "acme/shop",
        "commit_sha": "4f2c9be"
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn create(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let reference = reader.text("reference_id");
    let facts = facts(&mut reader);
    deployment_create(&plane, &ctx, reference, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}

/// Update a deployment
///
/// Omitted values are kept. A `commit_sha` clears `merge_commit_shas`, and a non-empty list clears `commit_sha`.
#[utoipa::path(
    post,
    path = "/api/deployments.update",
    tag = "deployments",
    request_body(content = inline(DeploymentArguments), example = json!({
        "reference_id": "rel-41", "success": false
    })),
    responses(
        (status = 200, body = Done, example = json!({ "ok": true })),
        (status = 422, body = ErrorBody, example = json!({
            "ok": false,
            "error": "deployment_not_found",
            "message": "no deployment has the reference \"rel-41\"",
            "error_details": {
                "message": "no deployment has the reference \"rel-41\"",
                "arguments": []
            }
        })),
    )
)]
pub async fn update(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let reference = reader.required_text("reference_id");
    let facts = facts(&mut reader);
    deployment_update(&plane, &ctx, reference, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}

/// Create or update a deployment
///
/// Creates the deployment if the reference is new; otherwise updates the given values.
#[utoipa::path(
    post,
    path = "/api/deployments.upsert",
    tag = "deployments",
    request_body(content = inline(DeploymentArguments), example = json!({
        "reference_id": "rel-42",
        "deployed_at": "2026-01-02T09:00:00Z",
        "service": { "identifier": "checkout", "name": "Checkout" },
        "repository": "acme/shop"
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn upsert(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let reference = reader.required_text("reference_id");
    let facts = facts(&mut reader);
    deployment_upsert(&plane, &ctx, reference, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}

/// Get a deployment and its changes
///
/// An extension of this server. `attribution` explains in a sentence how the changes were found, or what is missing.
#[utoipa::path(
    method(get, post),
    path = "/api/deployments.info",
    tag = "deployments",
    params(("reference_id" = String, Query, description = "Reference of the deployment.", example = "rel-41")),
    responses((status = 200, body = DeploymentBody, example = json!({
        "ok": true,
        "deployment": {
            "reference_id": "rel-41",
            "service": { "identifier": "checkout", "name": "checkout" },
            "repository": "acme/shop",
            "environment": "production",
            "deployed_at": "2026-01-01T00:00:00.000Z",
            "success": true,
            "commit_sha": "4f2c9be",
            "merge_commit_shas": [],
            "integration_branch": null,
            "source_url": null,
            "source_name": null,
            "metadata": null,
            "attributed_at": null,
            "attribution": "No merged pull request or pushed commit 4f2c9be in the repository is known yet. \
                 The server keeps looking for three days after the deployment was recorded.",
            "change_count": 0,
            "changes": []
        }
    })))
)]
pub async fn info(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<DeploymentBody>> {
    let reference = arguments.only("reference_id")?;
    let info = deployment_info(&plane, &ctx, &reference).await?;
    Ok(Json(DeploymentBody::from(info)))
}

/// Set the services of a pull request
///
/// For repositories with several services: only deployments of these services contain the pull request. With
/// `replace: true` and no services, it belongs to every service again.
#[utoipa::path(
    post,
    path = "/api/deployments.setPullServices",
    tag = "deployments",
    request_body(content = inline(PullServicesArguments), example = json!({
        "repository": "acme/shop", "pull_number": 12, "services": [{ "identifier": "checkout" }]
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn set_pull_services(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let pull = match reader.int("github_pull_id") {
        Some(id) => PullRef::GitHub(id),
        None => PullRef::Number {
            repository: reader.required_text("repository"),
            number: reader.required_int("pull_number"),
        },
    };
    let services = match reader.services("services") {
        Given::Value(services) => services,
        Given::Absent | Given::Null => {
            reader.require("services");
            Vec::new()
        }
    };
    let replace = reader.bool("replace").unwrap_or(false);
    pull_services_set(&plane, &ctx, pull, reader.asked(services), replace).await?;
    Ok(Json(Done::ok()))
}

fn facts(reader: &mut Reader<'_>) -> DeploymentFacts {
    DeploymentFacts {
        deployed_at: reader.instant("deployed_at"),
        service: reader.service("service"),
        repository: reader.text("repository"),
        commit_sha: reader.text("commit_sha"),
        merge_commit_shas: reader.texts("merge_commit_shas"),
        integration_branch: reader.text("integration_branch"),
        environment: reader.text("environment"),
        success: reader.bool("success"),
        source_url: reader.text("source_url"),
        source_name: reader.text("source_name"),
        metadata: match reader.metadata() {
            Given::Value(metadata) => Some(metadata),
            Given::Absent | Given::Null => None,
        },
    }
}
