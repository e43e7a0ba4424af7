//! Teams and their hierarchy on the wire.

use landreeve_delivery::ids::TeamEventId;
use landreeve_delivery::teams::{HierarchyPlan, ListedTeam, Member, Team, TeamEvent, WantedTeam};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::id;
use super::time::millis;

/// The root above all teams.
const ROOT: &str = "LTE";

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body, which is streamed")]
pub struct TeamsBody {
    ok: bool,
    teams: Vec<TeamShown>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TeamShown {
    id: String,
    name: String,
    parent_id: Option<String>,
    manager_id: Option<String>,
    /// Whether it has teams below it.
    parent: bool,
    /// From the top down, starting with the root.
    ancestors: Vec<String>,
    last_changed_at: String,
    contributors: u64,
    reference_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<String>,
}

impl From<&ListedTeam> for TeamShown {
    fn from(team: &ListedTeam) -> TeamShown {
        let above = team.ancestors.iter().rev().map(|team| id::encode(team.0));
        TeamShown {
            id: id::encode(team.id.0),
            name: team.name.clone(),
            parent_id: team.parent.map(|parent| id::encode(parent.0)),
            manager_id: team.lead.map(|lead| id::encode(lead.0)),
            parent: team.has_teams,
            ancestors: std::iter::once(ROOT.to_owned()).chain(above).collect(),
            last_changed_at: millis(team.updated_at),
            contributors: team.members,
            reference_id: team.reference.clone(),
            deleted_at: team.deleted_at.map(millis),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TeamBody {
    ok: bool,
    team: TeamInfo,
}

#[derive(Debug, Serialize, ToSchema)]
struct TeamInfo {
    id: String,
    name: String,
    reference_id: String,
    parent_id: Option<String>,
    lead: Option<MemberShown>,
    contributors: Vec<MemberShown>,
}

#[derive(Debug, Serialize, ToSchema)]
struct MemberShown {
    id: String,
    name: String,
    email: String,
    /// Always null, like `developer` and `tz`: this server does not store them.
    avatar: Option<String>,
    github_username: Option<String>,
    developer: Option<bool>,
    tz: Option<String>,
}

impl From<&Member> for MemberShown {
    fn from(member: &Member) -> MemberShown {
        MemberShown {
            id: id::encode(member.id.0),
            name: member.name.clone(),
            email: member.email.clone(),
            avatar: None,
            github_username: member.github_username.clone(),
            developer: None,
            tz: None,
        }
    }
}

impl From<&Team> for TeamBody {
    fn from(team: &Team) -> TeamBody {
        let info = TeamInfo {
            id: id::encode(team.id.0),
            name: team.name.clone(),
            reference_id: team.reference.clone(),
            parent_id: team.parent.map(|parent| id::encode(parent.0)),
            lead: team.lead_member.as_ref().map(MemberShown::from),
            contributors: team.members.iter().map(MemberShown::from).collect(),
        };
        TeamBody { ok: true, team: info }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TeamOfMembersBody {
    ok: bool,
    team: TeamOfMembers,
}

#[derive(Debug, Serialize, ToSchema)]
struct TeamOfMembers {
    id: String,
    name: String,
    members: Vec<MemberShown>,
    manager: Option<MemberShown>,
}

impl From<&Team> for TeamOfMembersBody {
    fn from(team: &Team) -> TeamOfMembersBody {
        let shown = TeamOfMembers {
            id: id::encode(team.id.0),
            name: team.name.clone(),
            members: team.members.iter().map(MemberShown::from).collect(),
            manager: team.lead_member.as_ref().map(MemberShown::from),
        };
        TeamOfMembersBody { ok: true, team: shown }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AuditTrailBody {
    ok: bool,
    events: Vec<EventShown>,
    response_metadata: ResponseMetadata,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ResponseMetadata {
    /// Null on the last page.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct EventShown {
    id: String,
    actor: String,
    team: String,
    /// `create`, `change_name`, `change_manager`, `change_parent`, `add_contributor`, `remove_contributor`, `archive`,
    /// `restore`.
    action: String,
    /// `from` and `to`; ids for a parent and a manager.
    metadata: Value,
    /// Seconds since 1970.
    created: i64,
}

/// The values of two actions are ids of teams or people; those of the others are text.
fn named(action: &str, value: Option<String>) -> Option<String> {
    match action {
        "change_parent" | "change_manager" => value?.parse().ok().map(id::encode),
        _ => value,
    }
}

impl AuditTrailBody {
    pub fn new(
        events: Vec<TeamEvent>,
        next_cursor: Option<String>,
        shown: impl Fn(TeamEventId) -> String,
    ) -> AuditTrailBody {
        let events = events.into_iter().map(|event| EventShown {
            id: shown(event.id),
            actor: event.actor,
            team: id::encode(event.team.0),
            metadata: json!({ "from": named(&event.action, event.from), "to": named(&event.action, event.to) }),
            action: event.action,
            created: event.at.as_second(),
        });
        AuditTrailBody {
            ok: true,
            events: events.collect(),
            response_metadata: ResponseMetadata { next_cursor },
        }
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct HierarchyArguments {
    #[schema(min_items = 1, max_items = 5000)]
    teams: Vec<TeamArguments>,
    /// Who should get an email when it is done. Accepted but ignored: this server sends no email.
    email: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct TeamArguments {
    #[schema(min_length = 1, max_length = 255)]
    reference_id: String,
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    team_lead_email: Option<String>,
    /// A team in the same request; requires `parent_team_name`. Empty for a top-level team.
    parent_team_reference_id: Option<String>,
    parent_team_name: Option<String>,
    /// Email addresses of known people.
    #[schema(max_items = 20000)]
    contributors: Option<Vec<String>>,
}

/// A team in the response of `orgfiles.teamHierarchy.get`; its contributors are called `members`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HierarchyTeam {
    reference_id: String,
    name: String,
    team_lead_email: Option<String>,
    parent_team_reference_id: Option<String>,
    parent_team_name: Option<String>,
    members: Vec<String>,
}

impl From<WantedTeam> for HierarchyTeam {
    fn from(team: WantedTeam) -> HierarchyTeam {
        HierarchyTeam {
            reference_id: team.reference,
            name: team.name,
            team_lead_email: team.lead,
            parent_team_reference_id: team.parent,
            parent_team_name: team.parent_name,
            members: team.members,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewBody {
    ok: bool,
    /// References of teams.
    created: Vec<String>,
    updated: Vec<String>,
    archived: Vec<String>,
    /// Addresses of unknown people; they would be left out.
    unknown_contributors: Vec<String>,
}

impl From<HierarchyPlan> for PreviewBody {
    fn from(plan: HierarchyPlan) -> PreviewBody {
        PreviewBody {
            ok: true,
            created: plan.create,
            updated: plan.update,
            archived: plan.archive,
            unknown_contributors: plan.unknown_members,
        }
    }
}
