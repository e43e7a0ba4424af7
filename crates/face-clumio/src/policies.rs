//! Policies, and which databases have them.

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use landreeve_core::{Action, Error, OpCtx, Part, Permission, Result};
use landreeve_http::Outcome;
use landreeve_http::cursor::Cursor;
use landreeve_http::extract::{Body, Path, Query};
use landreeve_protection::Protection;
use landreeve_protection::ids::PolicyId;
use landreeve_protection::nouns::POLICY;
use landreeve_protection::policies::{
    Policy, policy_assign, policy_create, policy_delete, policy_get, policy_list, policy_update,
};
use uuid::Uuid;

use crate::app::App;
use crate::caller::Caller;
use crate::tasks::{embedded, started};
use crate::version::{POLICY_ASSIGNMENTS, POLICY_DEFINITIONS};
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, Parameters, TokenListBody};
use crate::wire::policies::{
    AssignmentsWrite, FILTER, PolicyBody, PolicyWrite, filter, read_assignments, read_policy,
};
use crate::wire::restores::StartedBody;

const LIST: Parameters = Parameters::tokens(100, &FILTER);
const PATH: &str = "/policies/definitions";

/// List policies, in order of creation
#[utoipa::path(
    get,
    path = "/policies/definitions",
    operation_id = "list-policy-definitions",
    tag = "policy-definitions",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 100].", example = 100),
        ("start" = Option<String>, Query, description = "Token of a page, from `_links._next`.", example = ""),
        ("filter" = Option<String>, Query,
            description = "`name` ($eq, $begins_with), `operations.type` ($in), `activation_status` ($eq).",
            example = r#"{"activation_status":{"$eq":"activated"}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = TokenListBody<PolicyBody>, content_type = "application/api.clumio.policy-definitions=v1+json"),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "filter.id is not a field of this filter; use name, operations.type, activation_status" }]
        })),
    )
)]
pub async fn list(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<TokenListBody<PolicyBody>>> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let after = match asked.after(PATH)? {
        Some(Cursor::AfterId(id)) => Some(PolicyId(id)),
        _ => None,
    };
    let Part { mut items, mut next } = policy_list(&plane, &ctx, &filter(&asked), after).await?;
    let limit = usize::try_from(asked.page.limit).unwrap_or(usize::MAX);
    if items.len() > limit {
        items.truncate(limit);
        next = items.last().map(|policy| policy.id);
    }
    let bodies = items.iter().map(|policy| PolicyBody::new(&base, policy, manages(&ctx, policy))).collect();
    let next = next.map(|id| Cursor::AfterId(id.0));
    let creates =
        ctx.authority().allows(Permission::new(POLICY, Action::MANAGE), ctx.authority().ou_path(), 0);
    let body = asked.token_body(&base, PATH, bodies, next);
    let body = body.and(creates, "create-policy-definition", || base.link("post", PATH));
    Ok(Answer { resource: &POLICY_DEFINITIONS, version, body })
}

/// Whether the caller may see policies anywhere.
pub fn sees(ctx: &OpCtx) -> bool {
    ctx.authority().allows_some(Permission::new(POLICY, Action::VIEW))
}

pub fn manages(ctx: &OpCtx, policy: &Policy) -> bool {
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
    params(
        ("policy_id" = String, Path, format = "uuid", description = "Id of the policy.",
            example = "11111111-2222-4333-8444-555555555555"),
    ),
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
    params(
        ("policy_id" = String, Path, format = "uuid", description = "Id of the policy.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task"),
    ),
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
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<(StatusCode, Answer<PolicyBody>)> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let plane = &app.protection;
    let (policy, run) = policy_update(plane, &ctx, policy_id(&id)?, read_policy(&body)?).await?;
    let task = embedded(&app, &ctx, &base, &asked, &run).await?;
    let body = PolicyBody::new(&base, &policy, true).with_task(&base, run.id.0, task);
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
    params(
        ("policy_id" = String, Path, format = "uuid", description = "Id of the policy.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task"),
    ),
    responses(
        (status = 202, body = StartedBody, content_type = "application/api.clumio.policy-definitions=v1+json"),
        (status = 409, body = ErrorBody, description = "The policy is locked."),
    )
)]
pub async fn delete(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Path(id): Path<String>,
) -> Outcome<(StatusCode, Answer<StartedBody>)> {
    let version = POLICY_DEFINITIONS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let run = policy_delete(&app.protection, &ctx, policy_id(&id)?).await?;
    let path = format!("{PATH}/{id}");
    let body = started(&app, &ctx, &base, (("delete", &path), &asked), &run).await?;
    Ok((StatusCode::ACCEPTED, Answer { resource: &POLICY_DEFINITIONS, version, body }))
}

/// Assign policies to databases, or take them away
#[utoipa::path(
    post,
    path = "/policies/assignments",
    operation_id = "set-policy-assignments",
    tag = "policy-assignments",
    params(("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task")),
    request_body(content = inline(AssignmentsWrite), example = json!({
        "items": [{
            "action": "unassign", "policy_id": null,
            "entity": { "id": "3b241101-e2bb-4255-8caf-4136c566a962", "type": "aws_rds_instance" }
        }]
    })),
    responses(
        (status = 202, body = StartedBody, content_type = "application/api.clumio.policy-assignments=v1+json"),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "items.0.policy_id is required to assign" }]
        })),
    )
)]
pub async fn assign(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Body(body): Body,
) -> Outcome<(StatusCode, Answer<StartedBody>)> {
    let version = POLICY_ASSIGNMENTS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let run = policy_assign(&app.protection, &ctx, read_assignments(&body)?).await?;
    let own = ("post", "/policies/assignments");
    let body = started(&app, &ctx, &base, (own, &asked), &run).await?;
    Ok((StatusCode::ACCEPTED, Answer { resource: &POLICY_ASSIGNMENTS, version, body }))
}

fn policy_id(id: &str) -> Result<Uuid> {
    Uuid::parse_str(id).map_err(|_| Error::not_found("policy"))
}
