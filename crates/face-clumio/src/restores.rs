//! Restores of whole databases.

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use landreeve_core::{Error, Input};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Query};
use landreeve_protection::assets::datasource_of;
use landreeve_protection::restoring::{NewRestore, restore_start};

use crate::app::App;
use crate::caller::Caller;
use crate::tasks::started;
use crate::version::RESTORES;
use crate::wire::Answer;
use crate::wire::datasources::uuid;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, Parameters};
use crate::wire::restores::{StartedBody, Stated, read_restore, restore_field};

/// Restore a database
///
/// Into a new database on the server of the backup, or on that of another environment. It becomes a datasource.
#[utoipa::path(
    post,
    path = "/restores/aws/rds-resources",
    operation_id = "restore-aws-rds-resource",
    tag = "restored-aws-rds-resources",
    params(("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task")),
    request_body(content = inline(crate::wire::restores::RestoreRequest), example = json!({
        "source": { "backup": { "backup_id": "11111111-2222-4333-8444-555555555555" }, "snapshot": null },
        "target": { "environment_id": null, "name": "shop_restored" }
    })),
    responses(
        (status = 202, body = StartedBody, content_type = "application/api.clumio.restored-aws-rds-resources=v1+json",
            example = json!({
                "task_id": "29",
                "_links": {
                    "_self": { "href": "/restores/aws/rds-resources", "type": "post", "templated": false },
                    "read-task": { "href": "/tasks/29", "type": "get", "templated": false }
                }
            })),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
    )
)]
pub async fn restore(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Body(body): Body,
) -> Outcome<(StatusCode, Answer<StartedBody>)> {
    let version = RESTORES.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let new = resolved(&app, read_restore(&body)?).await?;
    let run = restore_start(&app.protection, &ctx, new).await?;
    let body = started(&app, &ctx, &base, (("post", "/restores/aws/rds-resources"), &asked), &run).await?;
    Ok((StatusCode::ACCEPTED, Answer { resource: &RESTORES, version, body }))
}

/// With the environment that was named.
async fn resolved(app: &App, stated: Input<Stated>) -> landreeve_core::Result<Input<NewRestore>> {
    let Ok(backup) = uuid(&stated.value().backup, "backup") else {
        stated.valid()?;
        return Err(Error::not_found("backup"));
    };
    let mut to = None;
    if let Some(id) = &stated.value().environment {
        to = match uuid(id, "environment") {
            Ok(id) => datasource_of(&app.protection, id).await?,
            Err(_) => None,
        };
    }
    Ok(stated
        .map(|stated, faults| {
            if stated.environment.is_some() && to.is_none() {
                faults.push("target.environment_id", "unknown", "is not an environment");
            }
            NewRestore {
                backup,
                to,
                database: stated.name,
                name: None,
                schemas: Vec::new(),
                tables: Vec::new(),
                owners: false,
                compare: false,
            }
        })
        .named(restore_field))
}
