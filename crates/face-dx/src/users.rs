//! `users.*`: people. A person is not a login.

use axum::Json;
use axum::extract::State;
use landreeve_core::{Given, Page};
use landreeve_delivery::Delivery;
use landreeve_delivery::people::{PersonFacts, person_by_github, person_list, person_update, person_upsert};
use landreeve_http::Outcome;

use crate::arguments::{Arguments, Reader};
use crate::caller::Caller;
use crate::wire::users::{FoundUserBody, UserArguments, UserBody, UsersBody};

/// List people
///
/// Scope `users:read`. Page numbers start at 1.
#[utoipa::path(
    get,
    path = "/users.list",
    tag = "users",
    params(
        ("page" = Option<i64>, Query, minimum = 1, maximum = 1000000,
            description = "Page number, starting at 1."),
        ("page_size" = Option<i64>, Query, minimum = 1, maximum = 100, description = "1 to 100 [default: 100]."),
    ),
    responses((status = 200, body = UsersBody))
)]
pub async fn list(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<UsersBody>> {
    let mut reader = arguments.reader();
    let (number, size) = (reader.int("page").unwrap_or(1), reader.int("page_size").unwrap_or(100));
    if !(1..=1_000_000).contains(&number) {
        reader.faults().push("page", "range", "must be from 1 to 1000000");
    }
    if !(1..=100).contains(&size) {
        reader.faults().push("page_size", "range", "must be from 1 to 100");
    }
    reader.finish()?;
    let (number, size) = (number.unsigned_abs(), size.unsigned_abs());
    let page = Page { offset: (number - 1) * size, limit: u32::try_from(size).unwrap_or(100) };
    let people = person_list(&plane, &ctx, page).await?;
    Ok(Json(UsersBody::new(people, number)))
}

/// Find a person by GitHub username
///
/// Scope `snapshots:read`.
#[utoipa::path(
    get,
    path = "/users.findByGithubUsername",
    tag = "users",
    params(("github_username" = String, Query, example = "ann")),
    responses((status = 200, body = FoundUserBody))
)]
pub async fn find_by_github(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<FoundUserBody>> {
    let username = arguments.only("github_username")?;
    let person = person_by_github(&plane, &ctx, &username).await?;
    Ok(Json(FoundUserBody::from(person)))
}

/// Update a person
///
/// Scope `users:write`. Identified by email address; omitted values are kept, an empty string clears.
#[utoipa::path(
    post,
    path = "/users.update",
    tag = "users",
    request_body(content = inline(UserArguments), example = json!({
        "email": "ann@example.com", "github_username": "ann"
    })),
    responses((status = 200, body = UserBody))
)]
pub async fn update(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<UserBody>> {
    let mut reader = arguments.reader();
    let email = reader.required_text("email");
    let facts = facts(&mut reader);
    let person = person_update(&plane, &ctx, &email, reader.asked(facts)).await?;
    Ok(Json(UserBody::from(person)))
}

/// Create or update a person
///
/// An extension of this server, because it has no importer for people. Scope `users:write`. Does not create a login.
#[utoipa::path(
    post,
    path = "/users.upsert",
    tag = "users",
    request_body(content = inline(UserArguments), example = json!({
        "email": "ann@example.com", "name": "Ann Example", "github_username": "ann"
    })),
    responses((status = 200, body = UserBody))
)]
pub async fn upsert(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<UserBody>> {
    let mut reader = arguments.reader();
    let email = reader.required_text("email");
    let facts = facts(&mut reader);
    let person = person_upsert(&plane, &ctx, &email, reader.asked(facts)).await?;
    Ok(Json(UserBody::from(person)))
}

fn facts(reader: &mut Reader<'_>) -> PersonFacts {
    // An explicit null clears, like an empty string.
    let clearable = |reader: &mut Reader<'_>, name: &str| match reader.given_text(name) {
        Given::Absent => None,
        Given::Null => Some(String::new()),
        Given::Value(text) => Some(text),
    };
    PersonFacts {
        name: reader.text("name"),
        github_username: clearable(reader, "github_username"),
        additional_github_username: clearable(reader, "additional_github_username"),
        gitlab_username: clearable(reader, "gitlab_username"),
        start_date: clearable(reader, "start_date"),
        ai_light_adoption_date: clearable(reader, "ai_light_adoption_date"),
        ai_moderate_adoption_date: clearable(reader, "ai_moderate_adoption_date"),
        ai_heavy_adoption_date: clearable(reader, "ai_heavy_adoption_date"),
    }
}
