//! Revisions: list, upload, make from a server, read, delete.

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::StatusCode;
use landreeve_core::Result;
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, MaxBody, Path, Query, decimal};
use landreeve_promotion::ids::RevisionId;
use landreeve_promotion::revisions::{
    deployed_on, revision_delete, revision_from_server, revision_get, revision_list, revision_text,
    revision_upload,
};

use crate::App;
use crate::caller::Caller;
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::revisions::{RevisionBody, RevisionList, page, read_selection, read_upload};

/// A script of 32 MiB as base64, with line breaks.
type UploadBody = MaxBody<44>;

/// List revisions, newest first
///
/// Shows your own revisions; with permission to manage revisions, those of all users.
#[utoipa::path(
    get,
    path = "/revisions",
    tag = "Revisions",
    operation_id = "listRevisions",
    params(
        ("start" = Option<i64>, Query, minimum = 0, description = "Number of revisions to skip.", example = 0),
        ("count" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 10].", example = 10),
    ),
    responses(
        (status = 200, body = RevisionList, example = json!({
            "start": 0, "count": 10, "numElements": 1,
            "revisions": [{
                "id": 3, "description": "Third revision", "name": "Revision 3", "type": "VQL",
                "replace": "REPLACE_EXISTING", "creationUser": "admin",
                "creationTime": "2026-01-15T12:00:00.500+0000", "lastModifiedUser": "admin",
                "lastModifiedTime": "2026-01-15T12:00:00.500+0000", "hasVql": true, "hasScheduler": false,
                "includeJars": false, "includeStatistics": false, "useDefaultDatabase": true,
                "includeI18N": false, "includeServerProperties": false, "includeWebContainerProperties": false,
                "includeJdbcWrapperProperties": true, "includeVdpDependencies": false,
                "contentHash": "d215d03572d37276b0f01615d277085005c375b2e1ee21a56174cf4969db001f",
                "deployedOn": [{ "id": 2, "name": "staging", "minimumUpdateMandatory": false }]
            }]
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "count must be between 1 and 1000"
        })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(app): State<App>,
    Caller(ctx): Caller,
    query: Query,
) -> Outcome<Answer<RevisionList>> {
    let found = revision_list(&app.promotion, &ctx, page(&query)?).await?;
    let ids: Vec<RevisionId> = found.items.iter().map(|revision| revision.id).collect();
    let deployed = deployed_on(&app.promotion, &ctx, &ids).await?;
    Ok(Answer(StatusCode::OK, RevisionList::new(found, deployed)))
}

/// Upload a VQL script as a revision
///
/// The body has at most 44 MiB. The script is stored as it is, without a byte order mark, and encrypted; errors in it are
/// reported when it is validated or deployed.
#[utoipa::path(
    post,
    path = "/revisions/loadFromVQL",
    tag = "Revisions",
    operation_id = "loadFromVql",
    request_body(content = inline(crate::wire::revisions::Upload), example = json!({
        "name": "Revision 1", "description": "First revision", "content": "Q1JFQVRFIERBVEFCQVNFIGQ7Cg=="
    })),
    responses(
        (status = 200, body = RevisionBody, example = json!({
            "id": 1, "description": "First revision", "name": "Revision 1", "type": "VQL",
            "replace": "REPLACE_EXISTING", "creationUser": "admin",
            "creationTime": "2026-01-15T12:00:00.500+0000", "lastModifiedUser": "admin",
            "lastModifiedTime": "2026-01-15T12:00:00.500+0000", "hasVql": true, "hasScheduler": false,
            "includeJars": false, "includeStatistics": false, "useDefaultDatabase": true,
            "includeI18N": false, "includeServerProperties": false, "includeWebContainerProperties": false,
            "includeJdbcWrapperProperties": true, "includeVdpDependencies": false,
            "contentHash": "d215d03572d37276b0f01615d277085005c375b2e1ee21a56174cf4969db001f"
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "content must be base64"
        })),
        (status = 413, body = ErrorBody, description = "The body is larger than 44 MiB."),
    )
)]
pub async fn load_from_vql(
    State(app): State<App>,
    Caller(ctx): Caller,
    MaxBody(body): UploadBody,
) -> Outcome<Answer<RevisionBody>> {
    let revision = revision_upload(&app.promotion, &ctx, read_upload(&body)?).await?;
    Ok(Answer(StatusCode::OK, RevisionBody::new(revision, Vec::new())))
}

/// Make a revision from what a server has
///
/// An extension of this server. The script has properties in place of what differs between environments. A server on another
/// machine is asked for it.
#[utoipa::path(
    post,
    path = "/revisions",
    tag = "Revisions",
    operation_id = "createRevision",
    request_body(content = inline(crate::wire::revisions::Selection), example = json!({
        "name": "Revision 2", "serverId": 12, "database": "sales", "type": "INSERT", "replace": "REPLACE_EXISTING"
    })),
    responses(
        (status = 201, body = RevisionBody, example = json!({
            "id": 2, "name": "Revision 2", "type": "INSERT", "replace": "REPLACE_EXISTING", "creationUser": "admin",
            "creationTime": "2026-01-15T12:00:00.500+0000", "lastModifiedUser": "admin",
            "lastModifiedTime": "2026-01-15T12:00:00.500+0000", "hasVql": true, "hasScheduler": false,
            "includeJars": false, "includeStatistics": false, "useDefaultDatabase": false,
            "includeI18N": false, "includeServerProperties": false, "includeWebContainerProperties": false,
            "includeJdbcWrapperProperties": true, "includeVdpDependencies": false,
            "contentHash": "d215d03572d37276b0f01615d277085005c375b2e1ee21a56174cf4969db001f"
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "elements.0 is not an element of the database sales: \"ordres\""
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such server"
        })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the server jobs-1 has no virtual databases"
        })),
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    Body(body): Body,
) -> Outcome<Answer<RevisionBody>> {
    let revision = revision_from_server(&app.promotion, &ctx, read_selection(&body)?).await?;
    Ok(Answer(StatusCode::CREATED, RevisionBody::new(revision, Vec::new())))
}

/// Get a revision
///
/// An extension of this server.
#[utoipa::path(
    get,
    path = "/revisions/{id}",
    tag = "Revisions",
    operation_id = "getRevision",
    params(("id" = i64, Path, description = "Id of the revision.", example = 1)),
    responses(
        (status = 200, body = RevisionBody, example = json!({
            "id": 2, "name": "Revision 1", "type": "VQL", "replace": "REPLACE_EXISTING", "creationUser": "admin",
            "creationTime": "2026-01-15T12:00:00.500+0000", "lastModifiedUser": "admin",
            "lastModifiedTime": "2026-01-15T12:00:00.500+0000", "hasVql": true, "hasScheduler": false, "includeJars": false,
            "includeStatistics": false, "useDefaultDatabase": true, "includeI18N": false, "includeServerProperties": false,
            "includeWebContainerProperties": false, "includeJdbcWrapperProperties": true, "includeVdpDependencies": false,
            "contentHash": "7ecc52bb516845aa91fadf56a9c3fca770f6672f8d9a5273901cf2dd60c61db1"
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such revision"
        })),
    )
)]
pub async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<RevisionBody>> {
    let revision = revision_get(&app.promotion, &ctx, which(&id)?).await?;
    let deployed = deployed_on(&app.promotion, &ctx, &[revision.id]).await?;
    let deployed = deployed.into_values().flatten().collect();
    Ok(Answer(StatusCode::OK, RevisionBody::new(revision, deployed)))
}

/// Get the script of a revision
///
/// An extension of this server.
#[utoipa::path(
    get,
    path = "/revisions/{id}/vql",
    tag = "Revisions",
    operation_id = "getRevisionVql",
    params(("id" = i64, Path, description = "Id of the revision.", example = 1)),
    responses(
        (status = 200, body = String, content_type = "text/plain", example = "CREATE DATABASE d;\n"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn vql(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    let (_, text) = revision_text(&app.promotion, &ctx, which(&id)?).await?;
    Ok(text.into_response())
}

/// Delete a revision that was never deployed
///
/// An extension of this server.
#[utoipa::path(
    delete,
    path = "/revisions/{id}",
    tag = "Revisions",
    operation_id = "deleteRevision",
    params(("id" = i64, Path, description = "Id of the revision.", example = 1)),
    responses(
        (status = 204, description = "The revision is deleted."),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the revision was deployed, so it is kept"
        })),
    )
)]
pub async fn delete(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<StatusCode> {
    revision_delete(&app.promotion, &ctx, which(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn which(id: &str) -> Result<RevisionId> {
    Ok(RevisionId(decimal(id, "revision")?))
}
