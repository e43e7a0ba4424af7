//! Roles.

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::{Action, Error, Noun, OpCtx, Result};
use landreeve_estate::ops::access::role_counts;
use landreeve_estate::ops::users::role_list;
use landreeve_estate::ops::{Estate, Role};
use landreeve_http::Outcome;
use landreeve_http::extract::{Path, Query};
use uuid::Uuid;

use crate::caller::Caller;
use crate::version::ROLES;
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};
use crate::wire::roles::{PermissionBody, RoleBody, permissions};

/// Without pages.
const LIST: Parameters = Parameters { filter: Some(&[]), ..Parameters::NONE };

/// List roles
#[utoipa::path(
    get,
    path = "/roles",
    operation_id = "list-roles",
    tag = "roles",
    responses(
        (status = 200, body = ListBody<RoleBody>, content_type = "application/api.clumio.roles=v1+json",
            example = json!({
                "_embedded": { "items": [{
                    "id": "00000000-0000-0000-0000-000000000000", "name": "Super Admin",
                    "description": "May do everything.", "user_count": 1, "permissions": [],
                    "_links": { "_self": {
                        "href": "/roles/00000000-0000-0000-0000-000000000000", "type": "get", "templated": false
                    } }
                }] },
                "_links": {
                    "_self": { "href": "/roles", "type": "get", "templated": false },
                    "_first": { "href": "/roles", "type": "get", "templated": false },
                    "_last": { "href": "/roles", "type": "get", "templated": false }
                },
                "current_count": 1, "filter_applied": "{}", "limit": 1, "start": "1",
                "total_count": 1, "total_pages_count": 1
            })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<RoleBody>>> {
    let version = ROLES.version(&headers)?;
    Asked::parse(&query, &LIST)?;
    let roles = shown(&estate, &ctx, &base).await?.into_iter().map(|(_, role)| role).collect();
    Ok(Answer { resource: &ROLES, version, body: ListBody::whole(&base, "/roles", roles) })
}

async fn shown(estate: &Estate, ctx: &OpCtx, base: &Base) -> Result<Vec<(Uuid, RoleBody)>> {
    let (roles, counts) = (role_list(estate, ctx).await?, role_counts(estate, ctx).await?);
    let body = |role: Role| {
        let count = counts.get(&role.id).copied().unwrap_or_default();
        (role.uuid, RoleBody::new(base, role, count))
    };
    Ok(roles.into_iter().map(body).collect())
}

/// List the permissions that roles can have
#[utoipa::path(
    get,
    path = "/roles/permissions",
    operation_id = "list-permissions",
    tag = "roles",
    responses((
        status = 200, body = ListBody<PermissionBody>, content_type = "application/api.clumio.roles=v1+json",
        example = json!({
            "_embedded": { "items": [{
                "id": "policy_management", "name": "Policy Management", "description": "Manage policies and assign them."
            }] },
            "_links": {
                "_self": { "href": "/roles/permissions", "type": "get", "templated": false },
                "_first": { "href": "/roles/permissions", "type": "get", "templated": false },
                "_last": { "href": "/roles/permissions", "type": "get", "templated": false }
            },
            "current_count": 1, "filter_applied": "{}", "limit": 1, "start": "1",
            "total_count": 1, "total_pages_count": 1
        })
    ))
)]
pub async fn list_permissions(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<PermissionBody>>> {
    let version = ROLES.version(&headers)?;
    Asked::parse(&query, &Parameters::NONE)?;
    estate.require_some(&ctx, Noun::USER, Action::VIEW).await?;
    let body = ListBody::whole(&base, "/roles/permissions", permissions());
    Ok(Answer { resource: &ROLES, version, body })
}

/// Get a role
#[utoipa::path(
    get,
    path = "/roles/{role_id}",
    operation_id = "read-role",
    tag = "roles",
    params(("role_id" = String, Path, format = "uuid", description = "Id of the role.",
        example = "00000000-0000-0000-0000-000000000000")),
    responses(
        (status = 200, body = RoleBody, content_type = "application/api.clumio.roles=v1+json", example = json!({
            "id": "00000000-0000-0000-0000-000000000000", "name": "Super Admin",
            "description": "May do everything.", "user_count": 1,
            "permissions": [{
                "id": "policy_management", "name": "Policy Management", "description": "Manage policies and assign them."
            }],
            "_links": { "_self": {
                "href": "/roles/00000000-0000-0000-0000-000000000000", "type": "get", "templated": false
            } }
        })),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<RoleBody>> {
    let version = ROLES.version(&headers)?;
    let id: Option<Uuid> = id.parse().ok();
    let role = shown(&estate, &ctx, &base).await?.into_iter().find(|(uuid, _)| Some(*uuid) == id);
    let (_, body) = role.ok_or_else(|| Error::not_found("role"))?;
    Ok(Answer { resource: &ROLES, version, body })
}
