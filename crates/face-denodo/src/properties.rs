//! The properties of environments (for VQL) and of clusters (for a Scheduler): list, create or change, delete.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use landreeve_core::{OpCtx, Result};
use landreeve_http::extract::{Body, Path, Query, decimal};
use landreeve_http::{Document, Items, Outcome};
use landreeve_promotion::ids::{ClusterId, EnvironmentId, PropertyId};
use landreeve_promotion::properties::{
    Parent, ParentKind, PropertyFilter, property_delete, property_list, property_put,
};

use crate::App;
use crate::caller::Caller;
use crate::wire::error::ErrorBody;
use crate::wire::properties::{
    ClusterProperties, DATABASE, EnvironmentProperties, PROJECT, PropertyBody, PropertyInput, filter, read,
};
use crate::wire::{Answer, JSON};

fn environment(id: &str) -> Result<Parent> {
    Ok(Parent::Environment(EnvironmentId(decimal(id, "environment")?)))
}

fn cluster(id: &str) -> Result<Parent> {
    Ok(Parent::Cluster(ClusterId(decimal(id, "cluster")?)))
}

fn items(app: &App, ctx: &OpCtx, parent: Parent, filter: &Arc<PropertyFilter>) -> Items {
    let (plane, ctx, filter) = (app.promotion.clone(), ctx.clone(), Arc::clone(filter));
    Items::pages(move |after| {
        let (plane, ctx, filter) = (plane.clone(), ctx.clone(), Arc::clone(&filter));
        async move {
            let part = property_list(&plane, &ctx, parent, &filter, after).await?;
            Ok(part.with(|found| found.into_iter().map(PropertyBody::from).collect()))
        }
    })
}

async fn put(app: &App, ctx: &OpCtx, parent: Parent, body: &[u8]) -> Outcome<Answer<Vec<PropertyBody>>> {
    let stored = property_put(&app.promotion, ctx, parent, read(body)?).await?;
    Ok(Answer(StatusCode::OK, stored.into_iter().map(PropertyBody::from).collect()))
}

async fn delete(app: &App, ctx: &OpCtx, id: &str, kind: ParentKind) -> Outcome<StatusCode> {
    let id = PropertyId(decimal(id, "property")?);
    property_delete(&app.promotion, ctx, id, kind).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the properties of an environment, by name
///
/// All parameters together limit the list, except that with `propertyName` the others are ignored.
#[utoipa::path(
    get,
    path = "/environments/{id}/vdpProperties",
    operation_id = "listVdpProperties",
    tag = "Properties",
    params(
        ("id" = i64, Path, description = "Id of the environment.", example = 3),
        ("propertyName" = Option<String>, Query, description = "Only the property with exactly this name.",
            example = "users.smadmin.PASSWORD.ALGORITHM"),
        ("databaseName" = Option<String>, Query, description = "Only properties of this database.", example = "admin"),
        ("elementType" = Option<String>, Query,
            description = "Only properties of this type of element; case, singular and plural do not matter.",
            example = "datasources"),
        ("elementTypeName" = Option<String>, Query,
            description = "Only properties of datasources and views of this type; case does not matter.",
            example = "jdbc"),
        ("elementName" = Option<String>, Query, description = "Only properties of this element.", example = "oracle12c"),
    ),
    responses(
        (status = 200, body = EnvironmentProperties, example = json!({
            "environmentProperties": [{
                "id": 32, "name": "users.smadmin.PASSWORD.ALGORITHM", "value": "SHA512", "propertyType": "VDP",
                "parentId": 3, "undefined": false
            }]
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such environment"
        })),
    )
)]
pub async fn vdp_list(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    let (parent, filter) = (environment(&id)?, Arc::new(filter(&query, DATABASE)?));
    let found = items(&app, &ctx, parent, &filter);
    let document = Document::default().text("{\"environmentProperties\":").array([found]).text("}");
    document.respond(StatusCode::OK, JSON).await
}

/// Create properties of an environment, and change those that exist
///
/// All or none, at most 10,000 in a request. The response has them in the order of the request. A property that exists
/// keeps its id.
#[utoipa::path(
    post,
    path = "/environments/{id}/vdpProperties",
    operation_id = "putVdpProperties",
    tag = "Properties",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    request_body(content = Vec<PropertyInput>, example = json!([
        { "name": "users.smadmin.PASSWORD.ALGORITHM", "value": "SHA512" }
    ])),
    responses(
        (status = 200, body = Vec<PropertyBody>, example = json!([{
            "id": 32, "name": "users.smadmin.PASSWORD.ALGORITHM", "value": "SHA512", "propertyType": "VDP",
            "parentId": 3, "undefined": false
        }])),
        (status = 400, body = ErrorBody, example = json!({ "status": 400, "message": "[3].name is given twice" })),
    )
)]
pub async fn vdp_put(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<Vec<PropertyBody>>> {
    put(&app, &ctx, environment(&id)?, &body).await
}

/// Delete a property of an environment
#[utoipa::path(
    delete,
    path = "/vdpProperties/{id}",
    operation_id = "deleteVdpProperty",
    tag = "Properties",
    params(("id" = i64, Path, description = "Id of the property.", example = 32)),
    responses(
        (status = 204),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such property" })),
    )
)]
pub async fn vdp_delete(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<StatusCode> {
    delete(&app, &ctx, &id, ParentKind::Environment).await
}

async fn sch_listed(app: &App, ctx: &OpCtx, id: &str, query: &Query) -> Outcome {
    let (parent, filter) = (cluster(id)?, Arc::new(filter(query, PROJECT)?));
    // The document does not name the member, so clients look for either.
    let [ours, theirs] = [(); 2].map(|()| items(app, ctx, parent, &filter));
    let document = Document::default().text("{\"clusterProperties\":").array([ours]);
    let document = document.text(",\"environmentProperties\":").array([theirs]).text("}");
    document.respond(StatusCode::OK, JSON).await
}

/// List the Scheduler properties of a cluster, by name
///
/// All parameters together limit the list, except that with `propertyName` the others are ignored. The list is in both
/// members.
#[utoipa::path(
    get,
    path = "/clusters/{id}/schProperties",
    operation_id = "listSchProperties",
    tag = "Properties",
    params(
        ("id" = i64, Path, description = "Id of the cluster.", example = 4),
        ("propertyName" = Option<String>, Query, description = "Only the property with exactly this name.",
            example = "default.dataSource.VDP.vdp.login"),
        ("projectName" = Option<String>, Query, description = "Only properties of this project.", example = "default"),
        ("elementType" = Option<String>, Query,
            description = "Only properties of this type of element; case, singular and plural do not matter.",
            example = "datasource"),
        ("elementTypeName" = Option<String>, Query,
            description = "Only properties of elements of this type; case does not matter.", example = "VDP"),
        ("elementName" = Option<String>, Query, description = "Only properties of this element.", example = "vdp"),
    ),
    responses(
        (status = 200, body = ClusterProperties, example = json!({
            "clusterProperties": [{
                "id": 35, "name": "default.dataSource.VDP.vdp.login", "value": "admin", "propertyType": "SCHEDULER",
                "parentId": 4, "undefined": false
            }],
            "environmentProperties": [{
                "id": 35, "name": "default.dataSource.VDP.vdp.login", "value": "admin", "propertyType": "SCHEDULER",
                "parentId": 4, "undefined": false
            }]
        })),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such cluster" })),
    )
)]
pub async fn sch_list(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    sch_listed(&app, &ctx, &id, &query).await
}

/// List the Scheduler properties of a cluster (other path)
#[utoipa::path(
    get,
    path = "/cluster/{id}/schProperties",
    operation_id = "listSchPropertiesByOtherPath",
    tag = "Properties",
    params(
        ("id" = i64, Path, description = "Id of the cluster.", example = 4),
        ("propertyName" = Option<String>, Query, description = "Only the property with exactly this name."),
        ("projectName" = Option<String>, Query, description = "Only properties of this project."),
        ("elementType" = Option<String>, Query, description = "Only properties of this type of element."),
        ("elementTypeName" = Option<String>, Query, description = "Only properties of elements of this type."),
        ("elementName" = Option<String>, Query, description = "Only properties of this element."),
    ),
    responses((status = 200, body = ClusterProperties, example = json!({
        "clusterProperties": [{
            "id": 35, "name": "default.dataSource.VDP.vdp.login", "value": "admin", "propertyType": "SCHEDULER",
            "parentId": 4, "undefined": false
        }],
        "environmentProperties": []
    })))
)]
pub async fn sch_list_other(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    sch_listed(&app, &ctx, &id, &query).await
}

/// Create Scheduler properties of a cluster, and change those that exist
///
/// All or none, at most 10,000 in a request. The response has them in the order of the request. A property that exists
/// keeps its id. Deployments do not use them yet.
#[utoipa::path(
    post,
    path = "/clusters/{id}/schProperties",
    operation_id = "putSchProperties",
    tag = "Properties",
    params(("id" = i64, Path, description = "Id of the cluster.", example = 4)),
    request_body(content = Vec<PropertyInput>, example = json!([
        { "name": "default.dataSource.VDP.vdp.connectionURI", "value": "//localhost:19999/admin" },
        { "name": "default.dataSource.VDP.vdp.login", "value": "admin" }
    ])),
    responses(
        (status = 200, body = Vec<PropertyBody>, example = json!([
            {
                "id": 34, "name": "default.dataSource.VDP.vdp.connectionURI", "value": "//localhost:19999/admin",
                "propertyType": "SCHEDULER", "parentId": 4, "undefined": false
            },
            {
                "id": 35, "name": "default.dataSource.VDP.vdp.login", "value": "admin",
                "propertyType": "SCHEDULER", "parentId": 4, "undefined": false
            }
        ])),
        (status = 400, body = ErrorBody, example = json!({ "status": 400, "message": "[3].name is given twice" })),
    )
)]
pub async fn sch_put(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<Vec<PropertyBody>>> {
    put(&app, &ctx, cluster(&id)?, &body).await
}

/// Create Scheduler properties of a cluster, and change those that exist (other path)
#[utoipa::path(
    post,
    path = "/cluster/{id}/schProperties",
    operation_id = "putSchPropertiesByOtherPath",
    tag = "Properties",
    params(("id" = i64, Path, description = "Id of the cluster.", example = 4)),
    request_body(content = Vec<PropertyInput>, example = json!([
        { "name": "default.dataSource.VDP.vdp.login", "value": "admin" }
    ])),
    responses((status = 200, body = Vec<PropertyBody>, example = json!([{
        "id": 35, "name": "default.dataSource.VDP.vdp.login", "value": "admin", "propertyType": "SCHEDULER",
        "parentId": 4, "undefined": false
    }])))
)]
pub async fn sch_put_other(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<Vec<PropertyBody>>> {
    put(&app, &ctx, cluster(&id)?, &body).await
}

/// Delete a Scheduler property of a cluster
#[utoipa::path(
    delete,
    path = "/schProperties/{id}",
    operation_id = "deleteSchProperty",
    tag = "Properties",
    params(("id" = i64, Path, description = "Id of the property.", example = 35)),
    responses(
        (status = 204),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such property" })),
    )
)]
pub async fn sch_delete(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<StatusCode> {
    delete(&app, &ctx, &id, ParentKind::Cluster).await
}
