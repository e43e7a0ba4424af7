//! Users.

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::ids::UserId;
use landreeve_core::{Action, Error, Noun, OpCtx, Permission, Result};
use landreeve_estate::ops::access::access_of;
use landreeve_estate::ops::members::{member_create, member_update};
use landreeve_estate::ops::users::{password_change, user_delete, user_get, user_list};
use landreeve_estate::ops::{Estate, User};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query, decimal};

use crate::caller::Caller;
use crate::version::{Resource, USERS, USERS_V1, USERS_V2};
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};
use crate::wire::users::{
    FILTER, May, Shape, UserBody, filter, read_change, read_new, read_password, read_profile,
};

const LIST_V1: Parameters = Parameters::numbered(20, FILTER.split_at(1).0);
const LIST_V2: Parameters = Parameters::numbered(20, &FILTER);

/// List users, in order of creation
#[utoipa::path(
    get,
    path = "/users",
    operation_id = "list-users",
    tag = "users",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("filter" = Option<String>, Query,
            description = "By `name` (`$contains`: part of the full name), and in version 2 by `role_id` and \
                           `organizational_unit_id` (`$eq`).",
            example = r#"{"name":{"$contains":"Ada"}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<UserBody>, content_type = "application/api.clumio.users=v2+json",
            example = json!({
                "_embedded": { "items": [] },
                "_links": {
                    "_self": { "href": "/users?start=1", "type": "get", "templated": false },
                    "_first": { "href": "/users?start=1", "type": "get", "templated": false },
                    "_last": { "href": "/users?start=1", "type": "get", "templated": false }
                },
                "current_count": 0, "filter_applied": "{}", "limit": 20, "start": "1",
                "total_count": 0, "total_pages_count": 0
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
) -> Outcome<Answer<ListBody<UserBody>>> {
    let version = USERS.version(&headers)?;
    let asked = Asked::parse(&query, if version == 1 { &LIST_V1 } else { &LIST_V2 })?;
    let users = user_list(&estate, &ctx, &filter(&asked), asked.page).await?;
    let bodies = shown(&base, &estate, &ctx, &users.items, || Shape::item(version)).await?;
    let creates = ctx.authority().allows_some(Permission::new(Noun::USER, Action::MANAGE));
    let list = asked.body(&base, "/users", bodies, users.total);
    let list = list.and(creates, "create-user", || base.link("post", "/users"));
    Ok(Answer { resource: &USERS, version, body: list })
}

/// Create a user
///
/// Nothing is mailed. The user signs in with the email address as the name, once a password was set
/// (`landreeve user password EMAIL`), and is unconfirmed until then.
#[utoipa::path(
    post,
    path = "/users",
    operation_id = "create-user",
    tag = "users",
    request_body(content = inline(crate::wire::users::UserWrite), example = json!({
        "email": "ada@example.com", "full_name": "Ada Lovelace",
        "access_control_configuration": [{
            "role_id": "30000000-0000-0000-0000-000000000000",
            "organizational_unit_ids": ["00000000-0000-0000-0000-000000000000"]
        }]
    })),
    responses(
        (status = 200, body = UserBody, content_type = "application/api.clumio.users=v2+json"),
        (status = 409, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 109, "error_message": "email is already taken" }]
        })),
    )
)]
pub async fn create(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Body(body): Body,
) -> Outcome<Answer<UserBody>> {
    let version = USERS.version(&headers)?;
    let user = member_create(&estate, &ctx, read_new(&body, version)?).await?;
    let body = one(&base, &estate, &ctx, &user, || Shape::single(version)).await?;
    Ok(Answer { resource: &USERS, version, body })
}

/// Get a user
#[utoipa::path(
    get,
    path = "/users/{user_id}",
    operation_id = "read-user",
    tag = "users",
    params(("user_id" = String, Path, pattern = "^[0-9]+$", description = "Id of the user.", example = "1")),
    responses(
        (status = 200, body = UserBody, content_type = "application/api.clumio.users=v2+json", example = json!({
            "full_name": "Administrator", "email": "", "is_confirmed": true, "id": "1", "is_enabled": true,
            "last_activity_timestamp": "2026-01-15T12:00:00Z", "inviter": null,
            "last_password_change_timestamp": "2026-01-15T12:00:00Z", "organizational_unit_count": 1,
            "access_control_configuration": [{
                "role_id": "00000000-0000-0000-0000-000000000000",
                "organizational_unit_ids": ["00000000-0000-0000-0000-000000000000"]
            }],
            "_links": {
                "_self": { "href": "/users/1", "type": "get", "templated": false },
                "update-user": { "href": "/users/1", "type": "patch", "templated": false },
                "delete-user": { "href": "/users/1", "type": "delete", "templated": false }
            }
        })),
        (status = 404, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 104, "error_message": "there is no such user" }]
        })),
    )
)]
pub async fn read(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<UserBody>> {
    let version = USERS.version(&headers)?;
    let user = user_get(&estate, &ctx, user_id(&id)?).await?;
    let body = one(&base, &estate, &ctx, &user, || Shape::single(version)).await?;
    Ok(Answer { resource: &USERS, version, body })
}

/// Update a user
///
/// Members that are `null` or missing are not changed. All changes are made, or none. Roles can only be changed in units that the
/// caller sees, and only to what the caller has.
#[utoipa::path(
    patch,
    path = "/users/{user_id}",
    operation_id = "update-user",
    tag = "users",
    params(("user_id" = String, Path, pattern = "^[0-9]+$", description = "Id of the user.", example = "1")),
    request_body(content = inline(crate::wire::users::UserUpdate), example = json!({ "full_name": "Ada Lovelace" })),
    responses(
        (status = 200, body = UserBody, content_type = "application/api.clumio.users=v1+json", example = json!({
            "full_name": "Ada Lovelace", "email": "", "is_confirmed": true, "id": "1",
            "is_enabled": true, "last_activity_timestamp": "2026-01-15T12:00:00Z", "inviter": null,
            "_links": {
                "_self": { "href": "/users/1", "type": "get", "templated": false },
                "update-user": { "href": "/users/1", "type": "patch", "templated": false },
                "delete-user": { "href": "/users/1", "type": "delete", "templated": false }
            }
        })),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "is_enabled must be true or false, not a number" }]
        })),
    )
)]
pub async fn update(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<UserBody>> {
    let version = USERS.version(&headers)?;
    let id = user_id(&id)?;
    let user = member_update(&estate, &ctx, id, read_change(&body, version)?).await?;
    let body = one(&base, &estate, &ctx, &user, || Shape::changed(version)).await?;
    Ok(Answer { resource: &USERS, version, body })
}

/// Delete a user
#[utoipa::path(
    delete,
    path = "/users/{user_id}",
    operation_id = "delete-user",
    tag = "users",
    params(("user_id" = String, Path, pattern = "^[0-9]+$", description = "Id of the user.", example = "40")),
    responses(
        (status = 200, body = Object, content_type = "application/api.clumio.users=v2+json", example = json!({})),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
    )
)]
pub async fn delete(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<Nothing>> {
    let version = USERS.version(&headers)?;
    user_delete(&estate, &ctx, user_id(&id)?).await?;
    Ok(Answer { resource: &USERS, version, body: Nothing::new() })
}

/// Update the caller's own profile
#[utoipa::path(
    patch,
    path = "/users/my-profile",
    operation_id = "update-user-profile",
    tag = "users",
    request_body(content = inline(crate::wire::users::ProfileUpdate), example = json!({ "full_name": "Ada Lovelace" })),
    responses((status = 200, body = UserBody, content_type = "application/api.clumio.users=v2+json"))
)]
pub async fn update_profile(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Body(body): Body,
) -> Outcome<Answer<UserBody>> {
    let version = USERS.version(&headers)?;
    let id = own(&ctx)?;
    let user = member_update(&estate, &ctx, id, read_profile(&body)?).await?;
    let body = one(&base, &estate, &ctx, &user, || Shape::changed(version)).await?;
    Ok(Answer { resource: &USERS, version, body })
}

/// Change the caller's own password
///
/// A wrong current password counts like a failed sign-in. The new one has 14 to 64 characters, with an uppercase letter, a
/// lowercase letter, a digit and a special character, and no spaces.
#[utoipa::path(
    put,
    path = "/users/_change_password",
    operation_id = "change-password",
    tag = "users",
    request_body(content = inline(crate::wire::users::PasswordChange), example = json!({
        "current_password": "the current password", "new_password": "Correct-Horse-Battery-9"
    })),
    responses(
        (status = 200, body = Object, content_type = "application/api.clumio.users=v2+json", example = json!({})),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "current_password is not the current password" }]
        })),
    )
)]
pub async fn change_password(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Outcome<Answer<Nothing>> {
    let version = USERS_V2.version(&headers)?;
    changed(&estate, &ctx, &body, (&USERS_V2, version)).await
}

/// Change the caller's own password, in version 1
#[utoipa::path(
    put,
    path = "/users/{user_id}/password",
    operation_id = "change-password-v1",
    tag = "users",
    params(("user_id" = String, Path, pattern = "^[0-9]+$", description = "Id of the caller.", example = "1")),
    request_body(content = inline(crate::wire::users::PasswordChange), example = json!({
        "current_password": "the current password", "new_password": "Correct-Horse-Battery-9"
    })),
    responses(
        (status = 200, body = Object, content_type = "application/api.clumio.users=v1+json", example = json!({})),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "current_password is not the current password" }]
        })),
    )
)]
pub async fn change_password_v1(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<Nothing>> {
    let version = USERS_V1.version(&headers)?;
    if ctx.actor().user() != Some(user_id(&id)?) {
        return Err(Error::forbidden("you can only change your own password").into());
    }
    changed(&estate, &ctx, &body, (&USERS_V1, version)).await
}

/// A body without members.
type Nothing = serde_json::Map<String, serde_json::Value>;

async fn changed(
    estate: &Estate,
    ctx: &OpCtx,
    body: &[u8],
    (resource, version): (&'static Resource, u32),
) -> Outcome<Answer<Nothing>> {
    password_change(estate, ctx, read_password(body)?).await?;
    Ok(Answer { resource, version, body: Nothing::new() })
}

fn own(ctx: &OpCtx) -> Result<UserId> {
    ctx.actor().user().ok_or_else(|| Error::forbidden("this token does not belong to a user"))
}

async fn shown(
    base: &Base,
    estate: &Estate,
    ctx: &OpCtx,
    users: &[User],
    shape: impl Fn() -> Shape,
) -> Result<Vec<UserBody>> {
    let ids: Vec<UserId> = users.iter().filter(|_| shape().has_access()).map(|user| user.id).collect();
    let access = access_of(estate, ctx, &ids).await?;
    let body = |user: &User| {
        let access = access.as_ref().and_then(|access| access.get(&user.id).cloned());
        UserBody::new(base, user, access, shape(), may(ctx, user.id))
    };
    Ok(users.iter().map(body).collect())
}

async fn one(
    base: &Base,
    estate: &Estate,
    ctx: &OpCtx,
    user: &User,
    shape: impl Fn() -> Shape,
) -> Result<UserBody> {
    let bodies = shown(base, estate, ctx, std::slice::from_ref(user), shape).await?;
    bodies.into_iter().next().ok_or_else(|| Error::internal("a user that vanished"))
}

fn may(ctx: &OpCtx, id: UserId) -> May {
    let own = ctx.actor().user() == Some(id);
    let manages = ctx.authority().allows_some(Permission::new(Noun::USER, Action::MANAGE));
    May { update: own || manages, delete: manages && !own }
}

fn user_id(id: &str) -> Result<UserId> {
    decimal(id, "user").map(UserId)
}
