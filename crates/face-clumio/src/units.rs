//! Organizational units.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use landreeve_core::{Action, Error, Noun, OpCtx, PageOf, Permission, Result};
use landreeve_estate::ops::units::{Unit, unit_create, unit_delete, unit_get, unit_page, unit_update};
use landreeve_estate::ops::{Estate, Run};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query};
use uuid::Uuid;

use crate::app::App;
use crate::caller::Caller;
use crate::tasks::{embedded, started};
use crate::version::ORGANIZATIONAL_UNITS;
use crate::wire::Answer;
use crate::wire::datasources::uuid;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};
use crate::wire::restores::StartedBody;
use crate::wire::units::{FILTER, UnitBody, filter, read_change, read_new};

const LIST: Parameters = Parameters::numbered(20, &FILTER);
const PATH: &str = "/organizational-units";

/// List organizational units, parents first
#[utoipa::path(
    get,
    path = "/organizational-units",
    operation_id = "list-organizational-units",
    tag = "organizational-units",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("filter" = Option<String>, Query, description = "By `parent_id` (`$eq`), `name` (`$contains`) or `id` (`$in`).",
            example = r#"{"name":{"$contains":"Sales"}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<UnitBody>, content_type = "application/api.clumio.organizational-units=v2+json"),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "filter.name.$eq is not supported; use $contains" }]
        })),
    )
)]
pub async fn list(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<UnitBody>>> {
    let version = ORGANIZATIONAL_UNITS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let PageOf { items, total, .. } = unit_page(&estate, &ctx, &filter(&asked), asked.page).await?;
    let bodies = items.iter().map(|unit| UnitBody::new(&base, &ctx, unit, version)).collect();
    let manage = Permission::new(Noun::OU, Action::MANAGE);
    let creates = ctx.authority().allows(manage, ctx.authority().ou_path(), 0);
    let body = asked.body(&base, PATH, bodies, total);
    let body = body.and(creates, "create-organizational-unit", || base.link("post", PATH));
    Ok(Answer { resource: &ORGANIZATIONAL_UNITS, version, body })
}

/// Create an organizational unit
///
/// With entities, a task moves them, and the status is 202.
#[utoipa::path(
    post,
    path = "/organizational-units",
    operation_id = "create-organizational-unit",
    tag = "organizational-units",
    params(("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task")),
    request_body(content = inline(crate::wire::units::UnitWrite), example = json!({
        "name": "Sales", "description": "The sales team",
        "parent_id": "00000000-0000-0000-0000-000000000000", "entities": [],
        "users": [{ "user_id": "40", "assigned_role": "30000000-0000-0000-0000-000000000000" }]
    })),
    responses(
        (status = 200, body = UnitBody, content_type = "application/api.clumio.organizational-units=v2+json"),
        (status = 202, body = UnitBody, content_type = "application/api.clumio.organizational-units=v2+json"),
        (status = 409, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 109, "error_message": "name is already taken" }]
        })),
    )
)]
pub async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Body(body): Body,
) -> Outcome<Response> {
    let version = ORGANIZATIONAL_UNITS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let done = unit_create(&app.estate, &ctx, read_new(&body, version)?).await?;
    changed(&app, &ctx, &base, (&asked, version), done).await
}

/// Get an organizational unit
#[utoipa::path(
    get,
    path = "/organizational-units/{id}",
    operation_id = "read-organizational-unit",
    tag = "organizational-units",
    params(
        ("id" = String, Path, format = "uuid", description = "Id of the unit.",
            example = "00000000-0000-0000-0000-000000000000"),
        ("embed" = Option<String>, Query, pattern = "^(read-task)$",
            description = "`read-task`, of which there is none while a unit is read.", example = "read-task"),
    ),
    responses(
        (status = 200, body = UnitBody, content_type = "application/api.clumio.organizational-units=v2+json",
            example = json!({
                "id": "00000000-0000-0000-0000-000000000000", "name": "Global",
                "description": "Everything belongs to it.", "parent_id": null, "children_count": 0,
                "descendant_ids": [], "user_count": 1,
                "users": [{ "user_id": "1", "assigned_role": "00000000-0000-0000-0000-000000000000" }],
                "configured_datasource_types": ["aws"],
                "_links": {
                    "_self": {
                        "href": "/organizational-units/00000000-0000-0000-0000-000000000000", "type": "get",
                        "templated": false
                    },
                    "patch-organizational-unit": {
                        "href": "/organizational-units/00000000-0000-0000-0000-000000000000", "type": "patch",
                        "templated": false
                    }
                }
            })),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Path(id): Path<String>,
) -> Outcome<Answer<UnitBody>> {
    let version = ORGANIZATIONAL_UNITS.version(&headers)?;
    Asked::parse(&query, &Parameters::TASK)?;
    let unit = unit_get(&estate, &ctx, unit_id(&id)?).await?;
    let body = UnitBody::new(&base, &ctx, &unit, version);
    Ok(Answer { resource: &ORGANIZATIONAL_UNITS, version, body })
}

/// Update an organizational unit
///
/// With entities to add or remove, a task moves them, and the status is 202. An environment that is removed moves to the parent
/// of the unit. Everything else is changed immediately.
#[utoipa::path(
    patch,
    path = "/organizational-units/{id}",
    operation_id = "patch-organizational-unit",
    tag = "organizational-units",
    params(
        ("id" = String, Path, format = "uuid", description = "Id of the unit.",
            example = "00000000-0000-0000-0000-000000000000"),
        ("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task"),
    ),
    request_body(content = inline(crate::wire::units::UnitUpdate), example = json!({
        "name": "Global", "description": "Everything belongs to it.",
        "entities": { "add": [], "remove": [] }, "users": { "add": [], "remove": [] }
    })),
    responses(
        (status = 200, body = UnitBody, content_type = "application/api.clumio.organizational-units=v2+json"),
        (status = 202, body = UnitBody, content_type = "application/api.clumio.organizational-units=v2+json"),
        (status = 404, body = ErrorBody),
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
) -> Outcome<Response> {
    let version = ORGANIZATIONAL_UNITS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let done = unit_update(&app.estate, &ctx, unit_id(&id)?, read_change(&body, version)?).await?;
    changed(&app, &ctx, &base, (&asked, version), done).await
}

/// Delete an organizational unit
///
/// It must be empty. A task deletes it, and the roles that users have in it. Its finished tasks then belong to its parent.
#[utoipa::path(
    delete,
    path = "/organizational-units/{id}",
    operation_id = "delete-organizational-unit",
    tag = "organizational-units",
    params(
        ("id" = String, Path, format = "uuid", description = "Id of the unit.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task"),
    ),
    responses(
        (status = 202, body = StartedBody, content_type = "application/api.clumio.organizational-units=v2+json"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 109, "error_message": "the organizational unit Sales is not empty: it has datasources" }]
        })),
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
    let version = ORGANIZATIONAL_UNITS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let run = unit_delete(&app.estate, &ctx, unit_id(&id)?).await?;
    let path = format!("{PATH}/{id}");
    let body = started(&app, &ctx, &base, (("delete", &path), &asked), &run).await?;
    Ok((StatusCode::ACCEPTED, Answer { resource: &ORGANIZATIONAL_UNITS, version, body }))
}

/// The unit, with the task that moves its entities if there is one.
async fn changed(
    app: &App,
    ctx: &OpCtx,
    base: &Base,
    (asked, version): (&Asked, u32),
    (unit, run): (Unit, Option<Run>),
) -> Outcome<Response> {
    let body = UnitBody::new(base, ctx, &unit, version);
    let (status, body) = match run {
        None => (StatusCode::OK, body),
        Some(run) => {
            let task = embedded(app, ctx, base, asked, &run).await?;
            (StatusCode::ACCEPTED, body.with_task(base, run.id.0, task))
        }
    };
    Ok((status, Answer { resource: &ORGANIZATIONAL_UNITS, version, body }).into_response())
}

fn unit_id(id: &str) -> Result<Uuid> {
    uuid(id, "organizational unit").map_err(|_| Error::not_found("organizational unit"))
}
