//! Datasources, as environments and as resources that can be backed up.

use axum::extract::State;
use http::HeaderMap;
use jiff::Timestamp;
use landreeve_core::{Error, OpCtx, PageOf, Part, Result, page};
use landreeve_http::Outcome;
use landreeve_http::cursor::Cursor;
use landreeve_http::extract::{Path, Query};
use landreeve_protection::Protection;
use landreeve_protection::assets::{Resource, ResourceKey, resource_get, resource_list, resource_page};
use landreeve_protection::policies::{PolicyFilter, policy_list};

use crate::caller::Caller;
use crate::policies;
use crate::version::{ENVIRONMENTS, RESOURCES};
use crate::wire::Answer;
use crate::wire::datasources::{
    ENVIRONMENT_FILTER, EnvironmentBody, RESOURCE_FILTER, ResourceBody, environment_filter, resource_filter,
    uuid,
};
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters, TokenListBody};
use crate::wire::policies::PolicyBody;

const ENVIRONMENT_LIST: Parameters =
    Parameters { lookback: true, ..Parameters::tokens(20, &ENVIRONMENT_FILTER) };
const RESOURCE_LIST: Parameters =
    Parameters { lookback: true, embed: &[POLICY], ..Parameters::numbered(20, &RESOURCE_FILTER) };
const RESOURCE: Parameters = Parameters { lookback: true, embed: &[POLICY], ..Parameters::NONE };
const READ: Parameters = Parameters { lookback: true, ..Parameters::NONE };
/// What can be embedded.
const POLICY: &str = "read-policy-definition";

/// List environments
///
/// Every datasource of the inventory is one.
#[utoipa::path(
    get,
    path = "/datasources/aws/environments",
    operation_id = "list-aws-environments",
    tag = "aws-environments",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<String>, Query, description = "The token of a page [default: the first]."),
        ("filter" = Option<String>, Query, description = "By `account_native_id` (`$eq`, `$begins_with`), `aws_region`, \
            `connection_status` (`$eq`) or `services_enabled` (`$contains`).",
            example = r#"{"services_enabled":{"$contains":"rds"}}"#),
        ("lookback_days" = Option<u32>, Query, minimum = 1, maximum = 3650, description = "Has no effect here.", example = 7),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = TokenListBody<EnvironmentBody>, content_type = "application/api.clumio.aws-environments=v1+json",
            example = json!({
                "_embedded": { "items": [] },
                "_links": {
                    "_self": { "href": "/datasources/aws/environments", "type": "get", "templated": false },
                    "_first": { "href": "/datasources/aws/environments", "type": "get", "templated": false }
                },
                "current_count": 0, "filter_applied": "{}", "limit": 20, "start": ""
            })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list_environments(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<TokenListBody<EnvironmentBody>>> {
    let version = ENVIRONMENTS.version(&headers)?;
    let asked = Asked::parse(&query, &ENVIRONMENT_LIST)?;
    let path = "/datasources/aws/environments";
    let after = asked.after(path)?.map(key).transpose()?;
    let filter = environment_filter(&asked.conditions);
    let Part { items, next } = resource_list(&plane, &ctx, &filter, after, asked.page.limit).await?;
    let bodies = items.iter().map(|resource| EnvironmentBody::new(&base, resource)).collect();
    let key = |(created, id, uuid): ResourceKey| format!("{} {id} {uuid}", created.as_microsecond());
    let next = next.map(|next| Cursor::AfterKey(key(next)));
    Ok(Answer { resource: &ENVIRONMENTS, version, body: asked.token_body(&base, path, bodies, next) })
}

/// The place after which a page begins.
fn key(cursor: Cursor) -> Result<ResourceKey> {
    let wrong =
        || Error::fault("start", "cursor", "is not a valid token for this list; start with the first page");
    let Cursor::AfterKey(text) = cursor else { return Err(wrong()) };
    let [created, id, uuid] = text.split(' ').collect::<Vec<_>>().try_into().map_err(|_| wrong())?;
    let created: i64 = created.parse().map_err(|_| wrong())?;
    let created = Timestamp::from_microsecond(created).map_err(|_| wrong())?;
    Ok((created, id.parse().map_err(|_| wrong())?, uuid.parse().map_err(|_| wrong())?))
}

/// Get an environment
#[utoipa::path(
    get,
    path = "/datasources/aws/environments/{environment_id}",
    operation_id = "read-aws-environment",
    tag = "aws-environments",
    params(
        ("environment_id" = String, Path, format = "uuid", description = "Id of the environment.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("lookback_days" = Option<u32>, Query, minimum = 1, maximum = 3650, description = "Has no effect here.", example = 7),
    ),
    responses(
        (status = 200, body = EnvironmentBody, content_type = "application/api.clumio.aws-environments=v1+json",
            example = json!({
                "id": "11111111-2222-4333-8444-555555555555", "account_name": "shop",
                "account_native_id": "000000000000", "aws_az": [], "aws_region": "local", "connection_id": null,
                "connection_status": "connected", "description": null,
                "organizational_unit_id": "00000000-0000-0000-0000-000000000000", "services_enabled": ["rds"],
                "_links": { "_self": {
                    "href": "/datasources/aws/environments/11111111-2222-4333-8444-555555555555",
                    "type": "get", "templated": false
                } }
            })),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read_environment(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    query: Query,
) -> Outcome<Answer<EnvironmentBody>> {
    let version = ENVIRONMENTS.version(&headers)?;
    Asked::parse(&query, &READ)?;
    let resource = resource_get(&plane, &ctx, uuid(&id, "environment")?, None).await?;
    if resource.datasource.is_none() {
        return Err(Error::not_found("environment").into());
    }
    Ok(Answer { resource: &ENVIRONMENTS, version, body: EnvironmentBody::new(&base, &resource) })
}

/// List databases that can be backed up, in order of declaration
///
/// Every datasource of the inventory is one, with the id of its environment. One that was deleted is listed while it has
/// backups, if the filter asks for it.
#[utoipa::path(
    get,
    path = "/datasources/aws/rds-resources",
    operation_id = "list-aws-rds-resources",
    tag = "aws-rds-resources",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("filter" = Option<String>, Query, description = "By `resource_native_id`, `account_native_id`, `environment_id`, \
            `engine`, `protection_info.policy_id`, `deactivated` (`$eq`), `name` (`$contains`), `type`, `protection_status`, \
            `backup_status` (`$in`), `tags.id` (`$all`) or `is_deleted` (`$eq`, `$in`).",
            example = r#"{"engine":{"$eq":"postgres"},"is_deleted":{"$in":["true","false"]}}"#),
        ("lookback_days" = Option<u32>, Query, minimum = 1, maximum = 3650,
            description = "The period of `backup_status_info`.", example = 7),
        ("embed" = Option<String>, Query, pattern = "^(read-policy-definition)$", description = "Also its policy.",
            example = "read-policy-definition"),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<ResourceBody>, content_type = "application/api.clumio.aws-rds-resources=v1+json",
            example = json!({
                "_embedded": { "items": [] },
                "_links": {
                    "_self": { "href": "/datasources/aws/rds-resources?start=1", "type": "get", "templated": false },
                    "_first": { "href": "/datasources/aws/rds-resources?start=1", "type": "get", "templated": false },
                    "_last": { "href": "/datasources/aws/rds-resources?start=1", "type": "get", "templated": false }
                },
                "current_count": 0, "filter_applied": "{}", "limit": 20, "start": "1",
                "total_count": 0, "total_pages_count": 0
            })),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "filter.name.$eq is not supported; use $contains" }]
        })),
    )
)]
pub async fn list_resources(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<ResourceBody>>> {
    let version = RESOURCES.version(&headers)?;
    let asked = Asked::parse(&query, &RESOURCE_LIST)?;
    let filter = resource_filter(&asked.conditions, asked.since(plane.estate().now()))?;
    let PageOf { items, total, .. } = resource_page(&plane, &ctx, &filter, asked.page).await?;
    let bodies = shown(&plane, &ctx, &base, &asked, &items).await?;
    let body = asked.body(&base, "/datasources/aws/rds-resources", bodies, total);
    Ok(Answer { resource: &RESOURCES, version, body })
}

/// Get a database that can be backed up
#[utoipa::path(
    get,
    path = "/datasources/aws/rds-resources/{resource_id}",
    operation_id = "read-aws-rds-resource",
    tag = "aws-rds-resources",
    params(
        ("resource_id" = String, Path, format = "uuid", description = "Id of the resource.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("lookback_days" = Option<u32>, Query, minimum = 1, maximum = 3650,
            description = "The period of `backup_status_info`.", example = 7),
        ("embed" = Option<String>, Query, pattern = "^(read-policy-definition)$", description = "Also its policy.",
            example = "read-policy-definition"),
    ),
    responses(
        (status = 200, body = ResourceBody, content_type = "application/api.clumio.aws-rds-resources=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read_resource(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    query: Query,
) -> Outcome<Answer<ResourceBody>> {
    let version = RESOURCES.version(&headers)?;
    let asked = Asked::parse(&query, &RESOURCE)?;
    let since = asked.since(plane.estate().now());
    let resource = resource_get(&plane, &ctx, uuid(&id, "resource")?, since).await?;
    let bodies = shown(&plane, &ctx, &base, &asked, std::slice::from_ref(&resource)).await?;
    let body = bodies.into_iter().next().ok_or_else(|| Error::internal("a resource that vanished"))?;
    Ok(Answer { resource: &RESOURCES, version, body })
}

/// Resources, with their policies if the request wants them.
async fn shown(
    plane: &Protection,
    ctx: &OpCtx,
    base: &Base,
    asked: &Asked,
    resources: &[Resource],
) -> Result<Vec<ResourceBody>> {
    let bodies = resources.iter().map(|resource| ResourceBody::new(base, ctx, resource));
    if !asked.embeds(POLICY) {
        return Ok(bodies.collect());
    }
    let uuids = resources.iter().filter_map(|resource| resource.policy).collect();
    let filter = PolicyFilter { uuids: Some(uuids), ..PolicyFilter::default() };
    let known = match policies::sees(ctx) {
        true => page::collect(|after| policy_list(plane, ctx, &filter, after)).await?,
        false => Vec::new(),
    };
    let policy = |resource: &Resource| {
        let policy = known.iter().find(|policy| Some(policy.uuid) == resource.policy)?;
        Some(PolicyBody::new(base, policy, policies::manages(ctx, policy)))
    };
    Ok(bodies.zip(resources).map(|(body, resource)| body.with_policy(policy(resource))).collect())
}
