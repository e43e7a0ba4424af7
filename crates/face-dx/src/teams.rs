//! `teams.*` and `orgfiles.teamHierarchy.*`: teams and their members.

use axum::Json;
use axum::extract::State;
use landreeve_core::{Input, OpCtx};
use landreeve_delivery::Delivery;
use landreeve_delivery::ids::{TeamEventId, TeamId};
use landreeve_delivery::teams::{
    TeamRef, WantedTeam, hierarchy_get, hierarchy_preview, hierarchy_process, team_events, team_get,
    team_list, team_of_members,
};
use landreeve_http::cursor::Cursor;
use landreeve_http::{Items, Outcome};

use crate::arguments::Arguments;
use crate::caller::Caller;
use crate::lists::listed;
use crate::wire::done::Done;
use crate::wire::error::ErrorBody;
use crate::wire::id;
use crate::wire::teams::{
    AuditTrailBody, HierarchyArguments, HierarchyTeam, PreviewBody, TeamBody, TeamOfMembersBody, TeamShown,
    TeamsBody,
};

const TRAIL: &str = "teams.auditTrail";

/// List teams
///
/// Scope `snapshots:read`.
#[utoipa::path(get, path = "/teams.list", tag = "teams", responses((status = 200, body = TeamsBody)))]
pub async fn list(State(plane): State<Delivery>, Caller(ctx): Caller, _arguments: Arguments) -> Outcome {
    let teams = Items::pages(move |after| {
        let (plane, ctx) = (plane.clone(), ctx.clone());
        async move {
            let part = team_list(&plane, &ctx, after).await?;
            Ok(part.with(|teams| teams.iter().map(TeamShown::from).collect()))
        }
    });
    listed("teams", teams).await
}

/// Get a team and its members
///
/// Scope `snapshots:read`.
#[utoipa::path(
    get,
    path = "/teams.info",
    tag = "teams",
    params(
        ("team_id" = Option<String>, Query, description = "Id of the team."),
        ("reference_id" = Option<String>, Query, description = "Instead of the id.", example = "payments"),
    ),
    responses((status = 200, body = TeamBody))
)]
pub async fn info(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<TeamBody>> {
    one(&plane, &ctx, &arguments).await
}

/// Get a team and its members (older name)
///
/// Scope `snapshots:read`.
#[utoipa::path(
    get,
    path = "/teams.get",
    tag = "teams",
    params(
        ("team_id" = Option<String>, Query, description = "Id of the team."),
        ("reference_id" = Option<String>, Query, description = "Instead of the id.", example = "payments"),
    ),
    responses((status = 200, body = TeamBody))
)]
pub async fn older_info(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<TeamBody>> {
    one(&plane, &ctx, &arguments).await
}

async fn one(plane: &Delivery, ctx: &OpCtx, arguments: &Arguments) -> Outcome<Json<TeamBody>> {
    let mut reader = arguments.reader();
    let which = match reader.text("team_id") {
        // A malformed id is not found.
        Some(text) => TeamRef::Id(TeamId(id::decode(&text).unwrap_or_default())),
        None => TeamRef::Reference(reader.required_text("reference_id")),
    };
    reader.finish()?;
    let team = team_get(plane, ctx, &which).await?;
    Ok(Json(TeamBody::from(&team)))
}

/// Find the team that most of these people are in
///
/// Scope `snapshots:read`. If none of them is in a team, the response is 400 with `no_users_found`.
#[utoipa::path(
    get,
    path = "/teams.findByMembers",
    tag = "teams",
    params(("team_emails" = String, Query, description = "Email addresses, separated by commas.",
        example = "ann@example.com,bob@example.com")),
    responses(
        (status = 200, body = TeamOfMembersBody),
        (status = 400, body = ErrorBody, description = "None of them is in a team."),
    )
)]
pub async fn find_by_members(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<TeamOfMembersBody>> {
    let mut reader = arguments.reader();
    let emails = reader.comma_list("team_emails");
    if emails.is_empty() {
        reader.require("team_emails");
    }
    reader.finish()?;
    let team = team_of_members(&plane, &ctx, &emails).await?;
    Ok(Json(TeamOfMembersBody::from(&team)))
}

/// List changes to the teams, newest first
///
/// Scope `snapshots:read`.
#[utoipa::path(
    get,
    path = "/teams.auditTrail",
    tag = "teams",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "1 to 100 [default: 50]."),
    ),
    responses((status = 200, body = AuditTrailBody))
)]
pub async fn audit_trail(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<AuditTrailBody>> {
    let mut reader = arguments.reader();
    let limit = reader.int("limit").unwrap_or(50);
    if !(1..=100).contains(&limit) {
        reader.faults().push("limit", "range", "must be from 1 to 100");
    }
    let before = reader.text("cursor").and_then(|text| {
        let cursor = Cursor::decode(TRAIL, "cursor", &text);
        reader.faults().take(cursor)
    });
    reader.finish()?;
    let before = match before {
        Some(Cursor::AfterId(id)) => Some(TeamEventId(id)),
        _ => None,
    };
    let limit = u32::try_from(limit).unwrap_or(50);
    // One more than is shown, to know whether there is another page.
    let mut events = team_events(&plane, &ctx, before, limit + 1).await?;
    let more = events.len() > limit as usize;
    events.truncate(limit as usize);
    let last = events.last().filter(|_| more);
    let next = last.map(|event| Cursor::AfterId(event.id.0).encode(TRAIL));
    let ids = plane.estate().hash_ids().clone();
    Ok(Json(AuditTrailBody::new(events, next, |id| ids.encode_plain(id))))
}

/// Import a hierarchy of teams
///
/// Scope `snapshots:admin`. Creates new teams, updates others by reference, and **archives teams that are not in the
/// request**. The import is a background run; unknown people are left out.
#[utoipa::path(
    post,
    path = "/orgfiles.teamHierarchy.process",
    tag = "orgfiles",
    request_body(content = inline(HierarchyArguments), example = json!({
        "teams": [
            { "reference_id": "eng", "name": "Engineering", "contributors": [] },
            {
                "reference_id": "payments",
                "name": "Payments",
                "parent_team_reference_id": "eng",
                "parent_team_name": "Engineering",
                "contributors": ["ann@example.com"]
            }
        ]
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn process(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    hierarchy_process(&plane, &ctx, hierarchy(&arguments)).await?;
    Ok(Json(Done::ok()))
}

/// Preview the import of a hierarchy
///
/// Scope `snapshots:admin`. Changes nothing.
#[utoipa::path(
    post,
    path = "/orgfiles.teamHierarchy.preview",
    tag = "orgfiles",
    request_body(content = inline(HierarchyArguments), example = json!({
        "teams": [{ "reference_id": "eng", "name": "Engineering", "contributors": ["ann@example.com"] }]
    })),
    responses((status = 200, body = PreviewBody))
)]
pub async fn preview(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<PreviewBody>> {
    let plan = hierarchy_preview(&plane, &ctx, hierarchy(&arguments)).await?;
    Ok(Json(PreviewBody::from(plan)))
}

/// Get the hierarchy
///
/// Scope `snapshots:admin`. A bare list, without `ok`.
#[utoipa::path(
    get,
    path = "/orgfiles.teamHierarchy.get",
    tag = "orgfiles",
    responses((status = 200, body = Vec<HierarchyTeam>))
)]
pub async fn get(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    _arguments: Arguments,
) -> Outcome<Json<Vec<HierarchyTeam>>> {
    let teams = hierarchy_get(&plane, &ctx).await?;
    Ok(Json(teams.into_iter().map(HierarchyTeam::from).collect()))
}

fn hierarchy(arguments: &Arguments) -> Input<Vec<WantedTeam>> {
    let mut reader = arguments.reader();
    let teams = reader.objects("teams", |team| WantedTeam {
        reference: team.required_text("reference_id"),
        name: team.required_text("name"),
        lead: team.text("team_lead_email"),
        parent: team.text("parent_team_reference_id"),
        parent_name: team.text("parent_team_name"),
        members: team.texts("contributors").unwrap_or_default(),
    });
    if teams.is_none() {
        reader.require("teams");
    }
    // Who wants an email when the import is done. This server sends none.
    reader.text("email");
    reader.asked(teams.unwrap_or_default())
}
