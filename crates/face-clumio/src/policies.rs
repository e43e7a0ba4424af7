//! Policies, and which databases have them.

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use landreeve_core::{Action, Error, OpCtx, Permission, Result};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query};
use landreeve_protection::Protection;
use landreeve_protection::nouns::POLICY;
use landreeve_protection::policies::{
    Policy, policy_assign, policy_create, policy_delete, policy_get, policy_list, policy_update,
};
use uuid::Uuid;

use crate::caller::Caller;
use crate::version::{POLICY_ASSIGNMENTS, POLICY_DEFINITIONS};
use crate::wire::Answer;
use crate::wire::accepted::TaskAccepted;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::policies::{
    AssignmentsWrite, PolicyBody, PolicyWrite, read_assignments, read_filter, read_policy,
};
use crate::wire::tokens::{TokenList, TokenQuery};

/// List policies, in order of creation
#[utoipa::path(
    get,
    path = "/policies/definitions",
    operation_id = "list-policy-definitions",
    tag = "policy-definitions",
    params(
        ("start" = Option<String>, Query, description = "Token of a page, from `_links._next`."),
        ("filter" = Option<String>, Query,
            description = "`name` ($eq, $begins_with), `operations.type` ($in), `activation_status` ($eq).",
            example = r#"{"activation_status":{"$eq":"activated"}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = TokenList<PolicyBody>, content_type = "application/api.clumio.policy-definitions=v1+json"),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "filter.id cannot be filtered on; use name, operations.type, activation_status" }]
        })),
    )
)]
pub async fn list(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<TokenList<PolicyBody>>> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let asked = TokenQuery::parse(&query)?;
    let page = policy_list(&plane, &ctx, &read_filter(&asked)?, asked.after()?).await?;
    let items =
        page.items.iter().map(|policy| PolicyBody::new(&base, policy, manages(&ctx, policy))).collect();
    let body = asked.body(&base, "/policies/definitions", items, page.next.map(|id| id.0));
    Ok(Answer { resource: &POLICY_DEFINITIONS, version, body })
}

fn manages(ctx: &OpCtx, policy: &Policy) -> bool {
    let permission = Permission::new(POLICY, Action::MANAGE);
    ctx.authority().allows(permission, &policy.ou_path, policy.id.0)
}

/// Create a policy
#[utoipa::path(
    post,
    path = "/policies/definitions",
    operation_id = "create-policy-definition",
    tag = "policy-definitions",
    request_body(content = inline(PolicyWrite), example = json!({
        "name": "Gold", "activation_status": "activated",
        "operations": [{
            "type": "aws_rds_resource_granular_backup", "action_setting": "window",
            "backup_window_tz": { "start_time": "01:00", "end_time": "05:00" }, "timezone": "Europe/Berlin",
            "slas": [{
                "retention_duration": { "unit": "weeks", "value": 4 },
                "rpo_frequency": { "unit": "weeks", "value": 1, "offsets": [0] }
            }],
            "backup_aws_region": "default", "advanced_settings": {}
        }]
    })),
    responses(
        (status = 200, body = PolicyBody, content_type = "application/api.clumio.policy-definitions=v1+json"),
    )
)]
pub async fn create(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Body(body): Body,
) -> Outcome<Answer<PolicyBody>> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let policy = policy_create(&plane, &ctx, read_policy(&body)?).await?;
    Ok(Answer { resource: &POLICY_DEFINITIONS, version, body: PolicyBody::new(&base, &policy, true) })
}

/// Get a policy
#[utoipa::path(
    get,
    path = "/policies/definitions/{policy_id}",
    operation_id = "read-policy-definition",
    tag = "policy-definitions",
    params(("policy_id" = String, Path, description = "Id of the policy.")),
    responses(
        (status = 200, body = PolicyBody, content_type = "application/api.clumio.policy-definitions=v1+json"),
        (status = 404, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 104, "error_message": "there is no such policy" }]
        })),
    )
)]
pub async fn read(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<PolicyBody>> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let policy = policy_get(&plane, &ctx, policy_id(&id)?).await?;
    Ok(Answer {
        resource: &POLICY_DEFINITIONS,
        version,
        body: PolicyBody::new(&base, &policy, manages(&ctx, &policy)),
    })
}

/// Replace what a policy says
///
/// A task does it; the policy is locked until it has ended. Backups that exist keep their expiry.
#[utoipa::path(
    put,
    path = "/policies/definitions/{policy_id}",
    operation_id = "update-policy-definition",
    tag = "policy-definitions",
    params(("policy_id" = String, Path, description = "Id of the policy.")),
    request_body(content = inline(PolicyWrite), example = json!({
        "name": "Gold", "activation_status": "activated",
        "operations": [{
            "type": "aws_rds_resource_granular_backup", "action_setting": "window",
            "backup_window_tz": { "start_time": "01:00", "end_time": "05:00" }, "timezone": "Europe/Berlin",
            "slas": [{
                "retention_duration": { "unit": "weeks", "value": 4 },
                "rpo_frequency": { "unit": "weeks", "value": 1, "offsets": [0] }
            }],
            "backup_aws_region": "default", "advanced_settings": {}
        }]
    })),
    responses(
        (status = 202, body = PolicyBody, content_type = "application/api.clumio.policy-definitions=v1+json"),
        (status = 409, body = ErrorBody, description = "The policy is locked."),
    )
)]
pub async fn update(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<(StatusCode, Answer<PolicyBody>)> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let (policy, run) = policy_update(&plane, &ctx, policy_id(&id)?, read_policy(&body)?).await?;
    let body = PolicyBody::new(&base, &policy, true).with_task(&base, run.id.0);
    Ok((StatusCode::ACCEPTED, Answer { resource: &POLICY_DEFINITIONS, version, body }))
}

/// Delete a policy
///
/// A task does it. Its databases have no policy from then on; their backups stay until they expire.
#[utoipa::path(
    delete,
    path = "/policies/definitions/{policy_id}",
    operation_id = "delete-policy-definition",
    tag = "policy-definitions",
    params(("policy_id" = String, Path, description = "Id of the policy.")),
    responses(
        (status = 202, body = TaskAccepted, content_type = "application/api.clumio.policy-definitions=v1+json"),
        (status = 409, body = ErrorBody, description = "The policy is locked."),
    )
)]
pub async fn delete(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<(StatusCode, Answer<TaskAccepted>)> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let run = policy_delete(&plane, &ctx, policy_id(&id)?).await?;
    let body = TaskAccepted::new(&base, &run, ("delete", &format!("/policies/definitions/{id}")));
    Ok((StatusCode::ACCEPTED, Answer { resource: &POLICY_DEFINITIONS, version, body }))
}

/// Assign policies to databases, or take them away
#[utoipa::path(
    post,
    path = "/policies/assignments",
    operation_id = "set-policy-assignments",
    tag = "policy-assignments",
    request_body(content = inline(AssignmentsWrite), example = json!({
        "items": [{
            "action": "unassign", "policy_id": null,
            "entity": { "id": "3b241101-e2bb-4255-8caf-4136c566a962", "type": "aws_rds_instance" }
        }]
    })),
    responses(
        (status = 202, body = TaskAccepted, content_type = "application/api.clumio.policy-assignments=v1+json"),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "items.0.policy_id is required to assign" }]
        })),
    )
)]
pub async fn assign(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Body(body): Body,
) -> Outcome<(StatusCode, Answer<TaskAccepted>)> {
    let version = POLICY_ASSIGNMENTS.version(&headers)?;
    let run = policy_assign(&plane, &ctx, read_assignments(&body)?).await?;
    let body = TaskAccepted::new(&base, &run, ("post", "/policies/assignments"));
    Ok((StatusCode::ACCEPTED, Answer { resource: &POLICY_ASSIGNMENTS, version, body }))
}

fn policy_id(id: &str) -> Result<Uuid> {
    Uuid::parse_str(id).map_err(|_| Error::not_found("policy"))
}
