//! Teams: importing a whole hierarchy, membership over time, and the history of changes.
//!
//! An import is planned first: `hierarchy_preview` shows the plan and a run carries it out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::error::{Faults, codes};
use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::{Action, Category, Error, ErrorKind, Input, OpCtx, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::{OwnedAct, Run, runs};
use landreeve_estate::runs::{Done, Executor, Job, KindSpec, Lane, NewRun, Outcome, Retry};
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where, next_in};

use crate::attribution::lock_unit;
use crate::ids::{MembershipId, PersonId, TeamEventId, TeamId};
use crate::nouns;
use crate::people::{self, Person};
use crate::stored::{StoredHierarchy, StoredTeam};
use crate::{Delivery, text};

const MAX_TEAMS: usize = 5_000;
const MAX_MEMBERS: usize = 20_000;

/// A team as requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTeam {
    pub reference: String,
    pub name: String,
    pub lead: Option<String>,
    pub parent: Option<String>,
    pub parent_name: Option<String>,
    /// Email addresses.
    pub members: Vec<String>,
}

/// A team as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    pub id: TeamId,
    pub ou: OuId,
    pub reference: String,
    pub name: String,
    pub parent: Option<TeamId>,
    pub lead: Option<PersonId>,
    pub lead_member: Option<Member>,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// Its current members, by email address.
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: PersonId,
    pub name: String,
    pub email: String,
    pub github_username: Option<String>,
}

/// What importing a hierarchy would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HierarchyPlan {
    /// References of teams.
    pub create: Vec<String>,
    pub update: Vec<String>,
    pub archive: Vec<String>,
    /// Addresses that belong to no known person; they are left out.
    pub unknown_members: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct TeamEvent {
    pub id: TeamEventId,
    pub team: TeamId,
    pub actor: String,
    pub action: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub at: Timestamp,
}

fn check(teams: &[WantedTeam], faults: &mut Faults) {
    if teams.is_empty() {
        let message = "must have at least one team: teams that are not in the request are archived";
        faults.push("teams", "range", message);
    }
    if teams.len() > MAX_TEAMS {
        faults.push("teams", "range", format!("must have at most {MAX_TEAMS} teams"));
    }
    let names: BTreeMap<&str, &str> =
        teams.iter().map(|team| (team.reference.as_str(), team.name.as_str())).collect();
    let mut seen = BTreeSet::new();
    for (at, team) in teams.iter().enumerate() {
        let place = format!("teams.{at}");
        text::check(faults, &format!("{place}.reference_id"), &team.reference, text::NAME);
        text::check(faults, &format!("{place}.name"), &team.name, text::NAME);
        if !seen.insert(&team.reference) {
            faults.push(
                format!("{place}.reference_id"),
                "taken",
                "is also used by another team in the request",
            );
        }
        if team.members.len() > MAX_MEMBERS {
            faults.push(format!("{place}.contributors"), "range", format!("must be at most {MAX_MEMBERS}"));
        }
        match (&team.parent, &team.parent_name) {
            (Some(parent), Some(name)) => match names.get(parent.as_str()) {
                None => {
                    let message = format!("names {parent:?}, which is not a team in the request");
                    faults.push(format!("{place}.parent_team_reference_id"), "unknown", message);
                }
                Some(known) if known != name => {
                    let message = format!("is {name:?}, but the team {parent:?} is called {known:?}");
                    faults.push(format!("{place}.parent_team_name"), "mismatch", message);
                }
                Some(_) => {}
            },
            (Some(_), None) => {
                let field = format!("{place}.parent_team_name");
                faults.push(field, "required", "is required with parent_team_reference_id");
            }
            (None, Some(_)) => {
                let field = format!("{place}.parent_team_reference_id");
                faults.push(field, "required", "is required with parent_team_name");
            }
            (None, None) => {}
        }
    }
    if faults.is_empty() {
        check_circles(teams, faults);
    }
}

fn check_circles(teams: &[WantedTeam], faults: &mut Faults) {
    let parents: BTreeMap<&str, &str> =
        teams.iter().filter_map(|team| Some((team.reference.as_str(), team.parent.as_deref()?))).collect();
    for (at, team) in teams.iter().enumerate() {
        let mut above = team.reference.as_str();
        for _ in 0..=teams.len() {
            match parents.get(above) {
                Some(parent) => above = parent,
                None => break,
            }
            if above == team.reference {
                let field = format!("teams.{at}.parent_team_reference_id");
                faults.push(field, "circle", "makes the team its own ancestor");
                break;
            }
        }
    }
}

macro_rules! team {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.ou_id, t.reference_id, t.name, t.parent_id, t.lead_id, t.updated_at, t.deleted_at, p.name, \
             p.email, p.github_username FROM delivery_teams t LEFT JOIN delivery_people p ON p.id = t.lead_id ",
            $rest
        )
    };
}

fn from_row(row: &Row) -> Result<Team> {
    Ok(Team {
        id: row.id(0)?,
        ou: row.id(1)?,
        reference: row.text(2)?,
        name: row.text(3)?,
        parent: row.id_opt(4)?,
        lead: row.id_opt(5)?,
        lead_member: match (row.id_opt(5)?, row.text_opt(8)?) {
            (Some(id), Some(name)) => {
                Some(Member { id, name, email: row.text(9)?, github_username: row.text_opt(10)? })
            }
            _ => None,
        },
        updated_at: row.time(6)?,
        deleted_at: row.time_opt(7)?,
        members: Vec::new(),
    })
}

fn member(row: &Row) -> Result<(TeamId, Member)> {
    let member =
        Member { id: row.id(1)?, name: row.text(2)?, email: row.text(3)?, github_username: row.text_opt(4)? };
    Ok((row.id(0)?, member))
}

macro_rules! members {
    ($rest:literal) => {
        concat!(
            "SELECT m.team_id, p.id, p.name, p.email, p.github_username FROM delivery_memberships m \
             JOIN delivery_people p ON p.id = m.person_id WHERE m.until_at IS NULL AND ",
            $rest
        )
    };
}

/// The teams of one unit and their members, including archived teams.
async fn of_unit(conn: &mut Conn, ou: OuId) -> Result<Vec<Team>> {
    let rows = conn.all(team!("WHERE t.ou_id = $1 ORDER BY t.id"), args![ou]).await?;
    let mut teams = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    let rows = conn.all(members!("m.ou_id = $1 ORDER BY p.email"), args![ou]).await?;
    fill(&mut teams, &rows)?;
    Ok(teams)
}

fn fill(teams: &mut [Team], rows: &[Row]) -> Result<()> {
    for row in rows {
        let (team, member) = member(row)?;
        if let Some(team) = teams.iter_mut().find(|known| known.id == team) {
            team.members.push(member);
        }
    }
    Ok(())
}

/// A team in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTeam {
    pub id: TeamId,
    pub reference: String,
    pub name: String,
    pub parent: Option<TeamId>,
    pub lead: Option<PersonId>,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// The number of current members.
    pub members: u64,
    /// Whether a team below it is not archived.
    pub has_teams: bool,
    /// From its parent upwards, up to the last one visible to the caller.
    pub ancestors: Vec<TeamId>,
}

const PLACE: Place = Place::of_unit("t.ou_id");

fn visible(ctx: &OpCtx) -> Visibility {
    Visibility::of(ctx, Permission::new(nouns::TEAM, Action::VIEW))
}

/// The page of teams after this id, including archived ones.
pub async fn team_list(
    plane: &Delivery,
    ctx: &OpCtx,
    after: Option<TeamId>,
) -> Result<Part<ListedTeam, TeamId>> {
    const LISTING: Listing = Listing {
        columns: "t.id, t.reference_id, t.name, t.parent_id, t.lead_id, t.updated_at, t.deleted_at",
        from: "delivery_teams t",
        order: "t.id",
        size: None,
    };
    plane.estate().require_some(ctx, nouns::TEAM, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    visible(ctx).narrow(&mut wanted, &PLACE)?;
    if let Some(after) = after {
        wanted.and_after("t.id", args![after]);
    }
    let mut part = wanted.page(&mut conn, &LISTING, listed, |team| team.id).await?;
    count_below(&mut conn, ctx, &mut part.items).await?;
    let parents = parents(&mut conn, ctx, &part.items).await?;
    for team in &mut part.items {
        let mut above = team.parent;
        while let Some(parent) = above.filter(|_| team.ancestors.len() <= parents.len()) {
            team.ancestors.push(parent);
            above = parents.get(&parent).copied().flatten();
        }
    }
    Ok(part)
}

fn listed(row: &Row) -> Result<ListedTeam> {
    Ok(ListedTeam {
        id: row.id(0)?,
        reference: row.text(1)?,
        name: row.text(2)?,
        parent: row.id_opt(3)?,
        lead: row.id_opt(4)?,
        updated_at: row.time(5)?,
        deleted_at: row.time_opt(6)?,
        members: 0,
        has_teams: false,
        ancestors: Vec::new(),
    })
}

/// Fills in the number of members, and whether there are visible teams below.
async fn count_below(conn: &mut Conn, ctx: &OpCtx, teams: &mut [ListedTeam]) -> Result<()> {
    let ids: Vec<i64> = teams.iter().map(|team| team.id.0).collect();
    let mut wanted = Where::new(conn.dialect());
    visible(ctx).narrow(&mut wanted, &Place::of_unit("m.ou_id"))?;
    wanted.and_ids("m.team_id", ids.iter().copied());
    wanted.and("m.until_at IS NULL");
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "SELECT m.team_id, count(*) FROM delivery_memberships m WHERE {condition} GROUP BY m.team_id"
    );
    let members = conn.select(sql, values).await?;
    let members: BTreeMap<TeamId, u64> =
        members.iter().map(|row| Ok((row.id(0)?, row.int(1)?.unsigned_abs()))).collect::<Result<_>>()?;
    let mut wanted = Where::new(conn.dialect());
    visible(ctx).narrow(&mut wanted, &PLACE)?;
    wanted.and_ids("t.parent_id", ids);
    wanted.and("t.deleted_at IS NULL");
    let (condition, values) = wanted.into_parts();
    let sql = format!("SELECT DISTINCT t.parent_id FROM delivery_teams t WHERE {condition}");
    let parents = conn.select(sql, values).await?;
    let parents: BTreeSet<TeamId> = parents.iter().map(|row| row.id(0)).collect::<Result<_>>()?;
    for team in teams {
        team.members = members.get(&team.id).copied().unwrap_or_default();
        team.has_teams = parents.contains(&team.id);
    }
    Ok(())
}

/// The visible ancestors of these teams, with the parent of each.
async fn parents(
    conn: &mut Conn,
    ctx: &OpCtx,
    teams: &[ListedTeam],
) -> Result<BTreeMap<TeamId, Option<TeamId>>> {
    let mut wanted = Where::new(conn.dialect());
    let visible = visible(ctx).condition(&mut wanted, &PLACE)?;
    let first = wanted.ids(teams.iter().filter_map(|team| Some(team.parent?.0)));
    let sql = format!(
        "WITH RECURSIVE above(id, parent_id) AS (\
         SELECT t.id, t.parent_id FROM delivery_teams t WHERE t.id IN ({first}) AND {visible} \
         UNION SELECT t.id, t.parent_id FROM above JOIN delivery_teams t ON t.id = above.parent_id WHERE {visible}) \
         SELECT id, parent_id FROM above"
    );
    let rows = conn.select(sql, wanted.into_parts().1).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.id_opt(1)?))).collect()
}

/// How a request identifies a team.
#[derive(Debug, Clone)]
pub enum TeamRef {
    Id(TeamId),
    Reference(String),
}

fn not_found() -> Error {
    Error::not_found("team")
}

/// By reference: the team of the caller's unit, or else the oldest one below it.
pub async fn team_get(plane: &Delivery, ctx: &OpCtx, which: &TeamRef) -> Result<Team> {
    plane.estate().require_some(ctx, nouns::TEAM, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    visible(ctx).narrow(&mut wanted, &PLACE)?;
    match which {
        TeamRef::Id(id) => wanted.and_value("t.id = $$", *id),
        TeamRef::Reference(reference) => wanted.and_value("t.reference_id = $$", reference),
    }
    // A reference is unique only within its unit.
    let own = wanted.bind(ctx.authority().ou());
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "{} WHERE {condition} ORDER BY CASE WHEN t.ou_id = {own} THEN 0 ELSE 1 END, t.id LIMIT 1",
        team!("")
    );
    let rows = conn.select(sql, values).await?;
    let team = rows.first().map(from_row).transpose()?.ok_or_else(not_found)?;
    with_members(&mut conn, team).await
}

async fn with_members(conn: &mut Conn, team: Team) -> Result<Team> {
    let mut teams = [team];
    let rows = conn.all(members!("m.team_id = $1 ORDER BY p.email"), args![teams[0].id]).await?;
    fill(&mut teams, &rows)?;
    let [team] = teams;
    Ok(team)
}

/// The team that most of these people are in; between equals, the one with the fewest members, then the oldest.
pub async fn team_of_members(plane: &Delivery, ctx: &OpCtx, emails: &[String]) -> Result<Team> {
    plane.estate().require_some(ctx, nouns::TEAM, Action::VIEW).await?;
    let emails: BTreeSet<String> = emails.iter().map(|email| email.trim().to_lowercase()).collect();
    let emails: Vec<String> = emails.into_iter().collect();
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    visible(ctx).narrow(&mut wanted, &PLACE)?;
    wanted.and("t.deleted_at IS NULL");
    wanted.and_texts("p.email", &emails)?;
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "SELECT t.id, count(*) AS among, (SELECT count(*) FROM delivery_memberships x WHERE x.team_id = t.id \
         AND x.until_at IS NULL) AS members FROM delivery_teams t \
         JOIN delivery_memberships m ON m.team_id = t.id AND m.until_at IS NULL \
         JOIN delivery_people p ON p.id = m.person_id WHERE {condition} GROUP BY t.id \
         ORDER BY among DESC, members, t.id LIMIT 1"
    );
    let found = conn.select(sql, values).await?;
    let Some(best) = found.first() else {
        let message = "none of these people is in a team";
        return Err(Error::new(ErrorKind::NotFound, codes::NO_USERS_FOUND, message));
    };
    let team = conn.opt(team!("WHERE t.id = $1"), args![best.int(0)?]).await?;
    let team = team.as_ref().map(from_row).transpose()?.ok_or_else(not_found)?;
    with_members(&mut conn, team).await
}

/// What changed in the teams before an event, newest first.
pub async fn team_events(
    plane: &Delivery,
    ctx: &OpCtx,
    before: Option<TeamEventId>,
    limit: u32,
) -> Result<Vec<TeamEvent>> {
    plane.estate().require_some(ctx, nouns::TEAM, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    visible(ctx).narrow(&mut wanted, &Place::of_unit("e.ou_id"))?;
    if let Some(before) = before {
        wanted.and_value("e.id < $$", before);
    }
    let limit = wanted.bind(limit);
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "SELECT e.id, e.team_id, e.actor, e.action, e.from_value, e.to_value, e.at FROM delivery_team_events e \
         WHERE {condition} ORDER BY e.id DESC LIMIT {limit}"
    );
    let rows = conn.select(sql, values).await?;
    let event = |row: &Row| {
        Ok(TeamEvent {
            id: row.id(0)?,
            team: row.id(1)?,
            actor: row.text(2)?,
            action: row.text(3)?,
            from: row.text_opt(4)?,
            to: row.text_opt(5)?,
            at: row.time(6)?,
        })
    };
    rows.iter().map(event).collect()
}

/// The hierarchy in the form of an import: the teams of the caller's unit that are not archived.
pub async fn hierarchy_get(plane: &Delivery, ctx: &OpCtx) -> Result<Vec<WantedTeam>> {
    plane.estate().require_here(ctx, nouns::TEAM, Action::MANAGE).await?;
    let mut conn = plane.estate().store().read().await?;
    let teams = of_unit(&mut conn, ctx.authority().ou()).await?;
    let sql = "SELECT id, email FROM delivery_people WHERE ou_id = $1";
    let people = conn.all(sql, args![ctx.authority().ou()]).await?;
    let emails: BTreeMap<PersonId, String> =
        people.iter().map(|row| Ok((row.id(0)?, row.text(1)?))).collect::<Result<_>>()?;
    let by_id: BTreeMap<TeamId, &Team> = teams.iter().map(|team| (team.id, team)).collect();
    let live = teams.iter().filter(|team| team.deleted_at.is_none());
    let wanted = live.map(|team| {
        let parent = team.parent.and_then(|parent| by_id.get(&parent));
        WantedTeam {
            reference: team.reference.clone(),
            name: team.name.clone(),
            lead: team.lead.and_then(|lead| emails.get(&lead).cloned()),
            parent: parent.map(|parent| parent.reference.clone()),
            parent_name: parent.map(|parent| parent.name.clone()),
            members: team.members.iter().map(|member| member.email.clone()).collect(),
        }
    });
    Ok(wanted.collect())
}

/// What importing the hierarchy would do, without doing it.
pub async fn hierarchy_preview(
    plane: &Delivery,
    ctx: &OpCtx,
    teams: Input<Vec<WantedTeam>>,
) -> Result<HierarchyPlan> {
    plane.estate().require_here(ctx, nouns::TEAM, Action::MANAGE).await?;
    let teams = teams.checked(|teams, faults| check(teams, faults))?;
    let ou = ctx.authority().ou();
    let mut conn = plane.estate().store().read().await?;
    let current = of_unit(&mut conn, ou).await?;
    let sql = "SELECT email FROM delivery_people WHERE ou_id = $1 UNION SELECT lower(email) FROM users";
    let known = conn.all(sql, args![ou]).await?;
    let known: BTreeSet<String> = known.iter().map(|row| row.text(0)).collect::<Result<_>>()?;
    Ok(plan(&current, &stored(&teams), &known))
}

fn stored(teams: &[WantedTeam]) -> Vec<StoredTeam> {
    let lower = |email: &String| email.trim().to_lowercase();
    teams
        .iter()
        .map(|team| {
            let members: BTreeSet<String> = team.members.iter().map(lower).collect();
            StoredTeam {
                reference: team.reference.clone(),
                name: team.name.clone(),
                lead: team.lead.as_ref().map(lower).filter(|lead| !lead.is_empty()),
                parent: team.parent.clone(),
                members: members.into_iter().filter(|email| !email.is_empty()).collect(),
            }
        })
        .collect()
}

fn plan(current: &[Team], wanted: &[StoredTeam], known: &BTreeSet<String>) -> HierarchyPlan {
    let mut plan = HierarchyPlan::default();
    let mut unknown = BTreeSet::new();
    let by_reference = |reference: &str| current.iter().find(|team| team.reference == reference);
    for team in wanted {
        let named = team.members.iter().chain(&team.lead);
        unknown.extend(named.filter(|email| !known.contains(*email)).cloned());
        let Some(old) = by_reference(&team.reference) else {
            plan.create.push(team.reference.clone());
            continue;
        };
        let parent = old.parent.and_then(|parent| current.iter().find(|team| team.id == parent));
        let is_known = |email: &&String| known.contains(*email);
        let members: BTreeSet<&String> = team.members.iter().filter(is_known).collect();
        let same = old.name == team.name
            && old.deleted_at.is_none()
            && parent.map(|parent| &parent.reference) == team.parent.as_ref()
            && old.lead_member.as_ref().map(|lead| &lead.email) == team.lead.as_ref().filter(is_known)
            && old.members.iter().map(|member| &member.email).collect::<BTreeSet<_>>() == members;
        if !same {
            plan.update.push(team.reference.clone());
        }
    }
    let gone = current.iter().filter(|team| {
        team.deleted_at.is_none() && !wanted.iter().any(|wanted| wanted.reference == team.reference)
    });
    plan.archive = gone.map(|team| team.reference.clone()).collect();
    plan.unknown_members = unknown.into_iter().collect();
    plan
}

/// Submits the run that imports the hierarchy: new teams are created, teams that are not in it are archived.
pub async fn hierarchy_process(plane: &Delivery, ctx: &OpCtx, teams: Input<Vec<WantedTeam>>) -> Result<Run> {
    plane.estate().require_here(ctx, nouns::TEAM, Action::MANAGE).await?;
    let teams = teams.checked(|teams, faults| check(teams, faults))?;
    let input = StoredHierarchy { version: 1, actor: ctx.actor().name().to_owned(), teams: stored(&teams) };
    let ou = ctx.authority().ou();
    let new = NewRun {
        // Two hierarchies of one unit must not be imported at the same time.
        lane: Some(Lane { name: format!("teams:{ou}"), limit: 1 }),
        ..NewRun::new(&TEAM_IMPORT, ou, serde_json::to_string(&input).map_err(Error::internal)?)
    };
    runs::submit(plane.estate(), ctx, new).await
}

/// Imports a hierarchy of teams.
pub const TEAM_IMPORT: KindSpec = KindSpec {
    retry: Retry { attempts: 3, backoff: Duration::from_secs(10) },
    ..KindSpec::new("team_import", Category::System)
};

/// Executes runs of kind `team_import`.
pub struct TeamImport(pub Delivery);

impl Executor for TeamImport {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let estate = self.0.estate();
            let input: StoredHierarchy = serde_json::from_str(&job.run.input).map_err(Error::internal)?;
            let ctx = landreeve_estate::ops::sign_in::system_in(estate, job.run.ou).await?;
            let (ou, now) = (job.run.ou, estate.now());
            estate
                .change_told(&ctx, move |tx| {
                    Box::pin(async move {
                        lock_unit(tx, ou).await?;
                        let teams = input.teams.len();
                        take_in(tx, ou, &input, now).await?;
                        let detail = format!("{teams} teams, for {}", input.actor);
                        let act = OwnedAct { action: "updated", noun: nouns::TEAM, noun_id: None, detail };
                        Ok(((), Some(act)))
                    })
                })
                .await?;
            Ok(Done::default())
        })
    }
}

/// Records what changed in a team.
struct Trail<'a> {
    ou: OuId,
    actor: &'a str,
    now: Timestamp,
}

impl Trail<'_> {
    async fn note(
        &self,
        tx: &mut Tx,
        team: TeamId,
        action: &str,
        from: Option<String>,
        to: Option<String>,
    ) -> Result<()> {
        let id = TeamEventId(next_in(tx, TeamEventId::KIND).await?);
        tx.exec(
            "INSERT INTO delivery_team_events (id, ou_id, team_id, actor, action, from_value, to_value, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            args![id, self.ou, team, self.actor, action, from, to, self.now],
        )
        .await
        .map(drop)
    }
}

async fn take_in(tx: &mut Tx, ou: OuId, input: &StoredHierarchy, now: Timestamp) -> Result<()> {
    let trail = Trail { ou, actor: &input.actor, now };
    let current = of_unit(tx, ou).await?;
    let mut ids: BTreeMap<&str, TeamId> =
        current.iter().map(|team| (team.reference.as_str(), team.id)).collect();
    for wanted in &input.teams {
        if !ids.contains_key(wanted.reference.as_str()) {
            let id = TeamId(next_in(tx, TeamId::KIND).await?);
            tx.exec(
                "INSERT INTO delivery_teams (id, ou_id, reference_id, name, created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $5)",
                args![id, ou, &wanted.reference, &wanted.name, now],
            )
            .await?;
            trail.note(tx, id, "create", None, Some(wanted.name.clone())).await?;
            ids.insert(&wanted.reference, id);
        }
    }
    let mut moved: BTreeSet<PersonId> = BTreeSet::new();
    for wanted in &input.teams {
        let Some(id) = ids.get(wanted.reference.as_str()).copied() else { continue };
        let old = current.iter().find(|team| team.id == id);
        let parent = wanted.parent.as_ref().and_then(|parent| ids.get(parent.as_str()).copied());
        let lead = match &wanted.lead {
            Some(email) => known(tx, ou, email, now, &mut moved).await?,
            None => None,
        };
        set_team(tx, &trail, id, old, wanted, (parent, lead.as_ref().map(|lead| lead.id))).await?;
        let mut members = Vec::new();
        for email in &wanted.members {
            members.extend(known(tx, ou, email, now, &mut moved).await?);
        }
        let old_members = old.map_or(&[][..], |team| &team.members);
        set_members(tx, &trail, id, old_members, members, &mut moved).await?;
    }
    for gone in current.iter().filter(|team| {
        team.deleted_at.is_none() && !input.teams.iter().any(|wanted| wanted.reference == team.reference)
    }) {
        let sql = "UPDATE delivery_teams SET deleted_at = $2, updated_at = $2 WHERE id = $1";
        tx.exec(sql, args![gone.id, now]).await?;
        trail.note(tx, gone.id, "archive", Some(gone.name.clone()), None).await?;
        set_members(tx, &trail, gone.id, &gone.members, Vec::new(), &mut moved).await?;
    }
    for person in moved {
        people::rewrite_ownership(tx, person).await?;
    }
    Ok(())
}

/// Finds a person, or creates one from an estate user. A new person may have authored earlier changes.
async fn known(
    tx: &mut Tx,
    ou: OuId,
    email: &str,
    now: Timestamp,
    moved: &mut BTreeSet<PersonId>,
) -> Result<Option<Person>> {
    let found = people::find_in(tx, ou, email, false).await?;
    if let Some(person) = &found
        && people::write(tx, person, now).await?
    {
        moved.insert(person.id);
    }
    Ok(found)
}

async fn set_team(
    tx: &mut Tx,
    trail: &Trail<'_>,
    id: TeamId,
    old: Option<&Team>,
    wanted: &StoredTeam,
    (parent, lead): (Option<TeamId>, Option<PersonId>),
) -> Result<()> {
    let mut changed = false;
    if let Some(old) = old {
        if old.name != wanted.name {
            trail.note(tx, id, "change_name", Some(old.name.clone()), Some(wanted.name.clone())).await?;
            changed = true;
        }
        if old.deleted_at.is_some() {
            trail.note(tx, id, "restore", None, Some(wanted.name.clone())).await?;
            changed = true;
        }
    }
    let (old_parent, old_lead) = old.map_or((None, None), |old| (old.parent, old.lead));
    let shown = |id: Option<i64>| id.map(|id| id.to_string());
    if old_parent != parent {
        let (from, to) = (shown(old_parent.map(|id| id.0)), shown(parent.map(|id| id.0)));
        trail.note(tx, id, "change_parent", from, to).await?;
        changed = true;
    }
    if old_lead != lead {
        let (from, to) = (shown(old_lead.map(|id| id.0)), shown(lead.map(|id| id.0)));
        trail.note(tx, id, "change_manager", from, to).await?;
        changed = true;
    }
    if changed {
        tx.exec(
            "UPDATE delivery_teams SET name = $2, parent_id = $3, lead_id = $4, deleted_at = NULL, updated_at = $5 \
             WHERE id = $1",
            args![id, &wanted.name, parent, lead, trail.now],
        )
        .await?;
    }
    Ok(())
}

async fn set_members(
    tx: &mut Tx,
    trail: &Trail<'_>,
    team: TeamId,
    old: &[Member],
    wanted: Vec<Person>,
    moved: &mut BTreeSet<PersonId>,
) -> Result<()> {
    for gone in old.iter().filter(|member| !wanted.iter().any(|person| person.id == member.id)) {
        tx.exec(
            "UPDATE delivery_memberships SET until_at = $3 WHERE team_id = $1 AND person_id = $2 AND until_at IS NULL",
            args![team, gone.id, trail.now],
        )
        .await?;
        trail.note(tx, team, "remove_contributor", Some(gone.email.clone()), None).await?;
        moved.insert(gone.id);
    }
    for person in wanted.into_iter().filter(|person| !old.iter().any(|member| member.id == person.id)) {
        let sql = "SELECT count(*) FROM delivery_memberships WHERE person_id = $1";
        let first = tx.one(sql, args![person.id]).await?.int(0)? == 0;
        // No earlier team is known, so what the person wrote before counts for this one.
        let from = if first { 0 } else { trail.now.as_microsecond() };
        let id = MembershipId(next_in(tx, MembershipId::KIND).await?);
        tx.exec(
            "INSERT INTO delivery_memberships (id, ou_id, person_id, team_id, from_at) VALUES ($1, $2, $3, $4, $5)",
            args![id, trail.ou, person.id, team, from],
        )
        .await?;
        trail.note(tx, team, "add_contributor", None, Some(person.email.clone())).await?;
        moved.insert(person.id);
    }
    Ok(())
}
