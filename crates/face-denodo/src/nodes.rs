//! Nodes of this server, for other servers of this program that deploy to them. An extension of this server.

use axum::extract::State;
use http::StatusCode;
use landreeve_core::{Error, Result};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, MaxBody, Path, Query};
use landreeve_promotion::access::{
    NodeReport, node_application, node_apply, node_describe, node_plan, node_report, node_rollback,
    node_text, node_withdraw,
};
use landreeve_promotion::selection::Description;
use landreeve_promotion::vql::properties::Properties;

use crate::App;
use crate::caller::Caller;
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::node::{
    ApplicationBody, ApplyArguments, DescriptionArguments, DescriptionBody, DoneBody, NodeBody,
    PlanArguments, RollbackArguments, read_apply, read_description, read_plan, read_rollback,
};

/// A script of 32 MiB, with its line breaks and quotes escaped.
pub const MAX_BODY_MIB: usize = 64;

type WorkBody = MaxBody<MAX_BODY_MIB>;

/// Get what a node has
///
/// An extension of this server, for other servers that deploy to this one. The caller must be a promotion administrator; if
/// the node is a server of an environment here, of its scenario.
#[utoipa::path(
    get,
    path = "/node/{name}",
    operation_id = "getNode",
    tag = "Nodes",
    params(
        ("name" = String, Path, description = "Name of the node.", example = "prod-1"),
        ("since" = Option<i64>, Query, minimum = 0, description = "Also what differs from this version.", example = 3),
    ),
    responses(
        (status = 200, body = NodeBody, example = json!({
            "name": "prod-1", "version": 4,
            "contentHash": "d215d03572d37276b0f01615d277085005c375b2e1ee21a56174cf4969db001f"
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such virtual node"
        })),
    )
)]
pub async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(name): Path<String>,
    query: Query,
) -> Outcome<Answer<NodeBody>> {
    let report = node_report(&app.promotion, &ctx, &name, since(&query)?).await?;
    Ok(Answer(StatusCode::OK, NodeBody::new(report)))
}

fn since(query: &Query) -> Result<Option<i64>> {
    let mut faults = query.unknown(&["since"]);
    let since = query.int("since", 0..=i64::MAX).map_err(|fault| faults.push(fault)).ok().flatten();
    if faults.is_empty() { Ok(since) } else { Err(Error::invalid(faults)) }
}

/// Say what scripts would do to a node
///
/// An extension of this server. Nothing is applied. The body has at most 64 MiB.
#[utoipa::path(
    post,
    path = "/node/{name}/plan",
    operation_id = "planOnNode",
    tag = "Nodes",
    params(("name" = String, Path, description = "Name of the node.", example = "prod-1")),
    request_body(content = inline(PlanArguments), example = json!({
        "scripts": [{ "name": "Revision 1", "text": "CREATE DATABASE d;" }], "properties": {}
    })),
    responses(
        (status = 200, body = DoneBody, example = json!({
            "fromVersion": 0, "fromHash": "6367d6664db5ecfd0e506bf627df1090095acef5ae5ac722856f014ca7b2c7ee", "version": 0,
            "contentHash": "62f926d7199c1e0ad2b52269d1b0ea794b23b682f8b4864918575d72181dab6a",
            "scripts": [{ "statements": 1, "failed": 0, "listed": [], "omitted": 0 }], "invalid": [], "refused": [],
            "changes": [{ "kind": "database", "name": "d", "change": "create", "after": "CREATE OR REPLACE DATABASE d" }]
        })),
        (status = 413, body = ErrorBody, description = "The body is larger than 64 MiB."),
    )
)]
pub async fn plan(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(name): Path<String>,
    MaxBody(body): WorkBody,
) -> Outcome<Answer<DoneBody>> {
    let done = node_plan(&app.promotion, &ctx, &name, read_plan(&body)?).await?;
    Ok(Answer(StatusCode::OK, DoneBody::new(done)))
}

/// Apply scripts to a node, as one
///
/// An extension of this server. Nothing is applied if a statement fails, if the node has changed since `expectedHash` was
/// read (409), or if the key was withdrawn (409). The body has at most 64 MiB. The scripts have the rights of the caller, who
/// needs to be able to use their datasources.
#[utoipa::path(
    post,
    path = "/node/{name}/apply",
    operation_id = "applyToNode",
    tag = "Nodes",
    params(("name" = String, Path, description = "Name of the node.", example = "prod-1")),
    request_body(content = inline(ApplyArguments), example = json!({
        "scripts": [{ "name": "Revision 1", "text": "CREATE DATABASE d;" }], "properties": {},
        "expectedHash": "d215d03572d37276b0f01615d277085005c375b2e1ee21a56174cf4969db001f", "key": "deployment-7"
    })),
    responses(
        (status = 200, body = DoneBody, example = json!({
            "fromVersion": 0, "fromHash": "6367d6664db5ecfd0e506bf627df1090095acef5ae5ac722856f014ca7b2c7ee", "version": 1,
            "contentHash": "62f926d7199c1e0ad2b52269d1b0ea794b23b682f8b4864918575d72181dab6a",
            "scripts": [{ "statements": 1, "failed": 0, "listed": [], "omitted": 0 }], "invalid": [], "refused": [],
            "changes": []
        })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the node prod-1 was changed at the same time by someone else"
        })),
        (status = 413, body = ErrorBody, description = "The body is larger than 64 MiB."),
    )
)]
pub async fn apply(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(name): Path<String>,
    MaxBody(body): WorkBody,
) -> Outcome<Answer<DoneBody>> {
    let done = node_apply(&app.promotion, &ctx, &name, read_apply(&body)?).await?;
    Ok(Answer(StatusCode::OK, DoneBody::new(done)))
}

/// Make queries on a node read an earlier version
///
/// An extension of this server.
#[utoipa::path(
    post,
    path = "/node/{name}/rollback",
    operation_id = "rollBackNode",
    tag = "Nodes",
    params(("name" = String, Path, description = "Name of the node.", example = "prod-1")),
    request_body(content = inline(RollbackArguments), example = json!({
        "to": 3, "expectedHash": "d215d03572d37276b0f01615d277085005c375b2e1ee21a56174cf4969db001f"
    })),
    responses(
        (status = 200, body = NodeBody, example = json!({
            "name": "prod-1", "version": 3,
            "contentHash": "6367d6664db5ecfd0e506bf627df1090095acef5ae5ac722856f014ca7b2c7ee"
        })),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such version" })),
        (status = 409, body = ErrorBody),
    )
)]
pub async fn rollback(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(name): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<NodeBody>> {
    let state = node_rollback(&app.promotion, &ctx, &name, read_rollback(&body)?).await?;
    Ok(Answer(StatusCode::OK, NodeBody::new(NodeReport { name, state, since: None })))
}

/// Get what was applied to a node under a key
///
/// An extension of this server, for a caller that did not get the answer.
#[utoipa::path(
    get,
    path = "/node/{name}/applications/{key}",
    operation_id = "getApplication",
    tag = "Nodes",
    params(
        ("name" = String, Path, description = "Name of the node.", example = "prod-1"),
        ("key" = String, Path, description = "Key of the request.", example = "deployment-7"),
    ),
    responses(
        (status = 200, body = ApplicationBody, example = json!({ "key": "deployment-7", "applied": false })),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn application(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path((name, key)): Path<(String, String)>,
) -> Outcome<Answer<ApplicationBody>> {
    let found = node_application(&app.promotion, &ctx, &name, &key).await?;
    Ok(Answer(StatusCode::OK, ApplicationBody::new(key, found)))
}

/// Give up a request to a node
///
/// An extension of this server. If nothing was applied under the key, nothing will be, even if the request is still executed.
/// The response says which of the two it is.
#[utoipa::path(
    delete,
    path = "/node/{name}/applications/{key}",
    operation_id = "withdrawApplication",
    tag = "Nodes",
    params(
        ("name" = String, Path, description = "Name of the node.", example = "prod-1"),
        ("key" = String, Path, description = "Key of the request.", example = "deployment-7"),
    ),
    responses(
        (status = 200, body = ApplicationBody, example = json!({ "key": "deployment-7", "applied": false })),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn withdraw(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path((name, key)): Path<(String, String)>,
) -> Outcome<Answer<ApplicationBody>> {
    let found = node_withdraw(&app.promotion, &ctx, &name, &key).await?;
    Ok(Answer(StatusCode::OK, ApplicationBody::new(key, found)))
}

/// Get everything that a node has, as a script
///
/// An extension of this server, with properties in place of passwords and of what differs between environments.
#[utoipa::path(
    get,
    path = "/node/{name}/description",
    operation_id = "getNodeText",
    tag = "Nodes",
    params(("name" = String, Path, description = "Name of the node.", example = "prod-1")),
    responses(
        (status = 200, body = DescriptionBody, example = json!({ "vql": "CREATE DATABASE sales;\n", "properties": {} })),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn text(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(name): Path<String>,
) -> Outcome<Answer<DescriptionBody>> {
    let vql = node_text(&app.promotion, &ctx, &name).await?;
    let found = Description { vql, properties: Properties::new() };
    Ok(Answer(StatusCode::OK, DescriptionBody::new(found)))
}

/// Get the script that creates or drops elements of a node
///
/// An extension of this server, with properties in place of what differs between environments.
#[utoipa::path(
    post,
    path = "/node/{name}/description",
    operation_id = "describeNode",
    tag = "Nodes",
    params(("name" = String, Path, description = "Name of the node.", example = "prod-1")),
    request_body(content = inline(DescriptionArguments), example = json!({
        "database": "sales", "type": "INSERT", "replace": "REPLACE_EXISTING"
    })),
    responses(
        (status = 200, body = DescriptionBody, example = json!({ "vql": "CREATE DATABASE sales;\n", "properties": {} })),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn describe(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(name): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<DescriptionBody>> {
    let found = node_describe(&app.promotion, &ctx, &name, read_description(&body)?).await?;
    Ok(Answer(StatusCode::OK, DescriptionBody::new(found)))
}
