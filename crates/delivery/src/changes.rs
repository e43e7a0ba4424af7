//! Changes: pull requests and commits that clients push, and which services a pull request belongs to.

use std::collections::BTreeSet;

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Tx, next_in};

use crate::attribution::{self, Touched, attribute_change};
use crate::ids::{ChangeId, PullServiceId, RepoId, ServiceId};
use crate::names::{Names, ServiceName};
use crate::people::{Author, whose};
use crate::sha::{Sha, same};
use crate::{Delivery, nouns, text};

/// Maximum number of commits in one request, and in one pull request.
pub const MAX_COMMITS: usize = 5_000;

/// What a client says about a pull request. `None` keeps the stored value.
#[derive(Debug, Clone, Default)]
pub struct PullFacts {
    pub title: Option<String>,
    pub author_email: Option<String>,
    pub author_username: Option<String>,
    pub base_ref: Option<String>,
    pub head_ref: Option<String>,
    pub first_commit_at: Option<Timestamp>,
    pub merged_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub merge_commit_sha: Option<String>,
    pub commit_shas: Option<Vec<String>>,
    pub bot_authored: Option<bool>,
    pub reference: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CommitFacts {
    pub sha: String,
    pub committed_at: Timestamp,
    pub author_email: Option<String>,
    pub message: Option<String>,
    pub parents: Vec<String>,
}

/// How a request identifies a pull request.
#[derive(Debug, Clone)]
pub enum PullRef {
    Number {
        repository: String,
        number: i64,
    },
    /// GitHub's id, which a pull request has as its reference.
    GitHub(i64),
}

/// A pull request as stored.
struct Pull {
    id: ChangeId,
    reference: Option<String>,
    sha: Option<Sha>,
    branch: String,
    line: String,
    head_ref: Option<String>,
    title: Option<String>,
    author: Author,
    bot: bool,
    opened_at: Timestamp,
    first_commit_at: Option<Timestamp>,
    first_commit_told: bool,
    merged_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
}

pub async fn pull_upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    repository: String,
    number: i64,
    opened_at: Timestamp,
    facts: Input<PullFacts>,
) -> Result<ChangeId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let (facts, sha, members) = facts.parsed(|facts, faults| {
        check_number(&repository, "number", number, faults);
        let (sha, members) = check_pull(&facts, opened_at, plane.estate().now(), faults);
        (facts, sha, members)
    })?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    let (id, found) = plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let mut names = Names::new(&inner, ou);
                let repo = names.repo(tx, &repository).await?;
                attribution::lock_repository(tx, ou, repo).await?;
                let now = inner.estate().now();
                let mut pull = load_pull(tx, repo, number, opened_at).await?;
                let mut touched = Touched::default();
                touched.note(tx, pull.id).await?;
                let held = listed_shas(tx, &pull).await?;
                apply(&mut pull, facts, sha, opened_at);
                pull.line = match pull.branch.as_str() {
                    "" => String::new(),
                    branch => attribution::line_in(tx, repo, branch).await?,
                };
                put_pull(tx, ou, repo, number, &mut pull, now).await?;
                if let Some(members) = members {
                    put_members(tx, repo, pull.id, &members).await?;
                }
                join_commits(tx, repo, &pull, held, now).await?;
                link_services(tx, ou, repo, number, &pull).await?;
                first_commit(tx, pull.id).await?;
                attribute_change(tx, pull.id, now).await?;
                touched.note(tx, pull.id).await?;
                attribution::reattribute(tx, ou, repo, touched, now).await?;
                let act =
                    OwnedAct::new("recorded", nouns::DELIVERY, pull.id.0, format!("pull request {number}"));
                Ok(((pull.id, names.found), Some(act)))
            })
        })
        .await?;
    plane.known().remember(found);
    Ok(id)
}

/// Checks a pull request's repository and number.
fn check_number(repository: &str, field: &str, number: i64, faults: &mut Faults) {
    text::check(faults, "repository", repository, text::NAME);
    if number < 1 {
        faults.push(field, "range", "must be 1 or more");
    }
}

fn check_pull(
    facts: &PullFacts,
    opened_at: Timestamp,
    now: Timestamp,
    faults: &mut Faults,
) -> (Option<Sha>, Option<Vec<Sha>>) {
    text::check_opt(faults, "title", facts.title.as_deref(), text::LONG);
    text::check_opt(faults, "author.email", facts.author_email.as_deref(), text::NAME);
    text::check_opt(faults, "author.github_username", facts.author_username.as_deref(), text::NAME);
    text::check_opt(faults, "base_ref", facts.base_ref.as_deref(), text::NAME);
    text::check_opt(faults, "head_ref", facts.head_ref.as_deref(), text::NAME);
    text::check_opt(faults, "reference_id", facts.reference.as_deref(), text::NAME);
    for (field, at) in [
        ("created_at", Some(opened_at)),
        ("first_commit_at", facts.first_commit_at),
        ("merged_at", facts.merged_at),
        ("closed_at", facts.closed_at),
    ] {
        text::check_past(faults, field, at, now);
    }
    for (field, at) in [("merged_at", facts.merged_at), ("closed_at", facts.closed_at)] {
        if at.is_some_and(|at| at < opened_at) {
            faults.push(field, "range", "must not be before created_at");
        }
    }
    let sha = facts.merge_commit_sha.as_deref();
    let sha = sha.and_then(|sha| faults.take(Sha::parse("merge_commit_sha", sha)));
    let members = facts.commit_shas.as_ref();
    let members = members.map(|all| Sha::parse_list("commit_shas", all, MAX_COMMITS, faults));
    (sha, members)
}

async fn load_pull(tx: &mut Tx, repo: RepoId, number: i64, opened_at: Timestamp) -> Result<Pull> {
    let row = tx
        .opt(
            "SELECT id, reference_id, sha, branch, line, head_ref, title, author_email, author_username, \
             bot_authored, opened_at, first_commit_at, first_commit_told, landed_at, closed_at \
             FROM delivery_changes WHERE repo_id = $1 AND number = $2",
            args![repo, number],
        )
        .await?;
    let Some(row) = row else {
        return Ok(Pull {
            id: ChangeId(next_in(tx, ChangeId::KIND).await?),
            reference: None,
            sha: None,
            branch: String::new(),
            line: String::new(),
            head_ref: None,
            title: None,
            author: Author::default(),
            bot: false,
            opened_at,
            first_commit_at: None,
            first_commit_told: false,
            merged_at: None,
            closed_at: None,
        });
    };
    Ok(Pull {
        id: row.id(0)?,
        reference: row.text_opt(1)?,
        sha: row.text_opt(2)?.map(Sha::kept),
        branch: row.text(3)?,
        line: row.text(4)?,
        head_ref: row.text_opt(5)?,
        title: row.text_opt(6)?,
        author: Author { email: row.text_opt(7)?, username: row.text_opt(8)? },
        bot: row.flag(9)?,
        opened_at: row.time(10)?,
        first_commit_at: row.time_opt(11)?,
        first_commit_told: row.flag(12)?,
        merged_at: row.time_opt(13)?,
        closed_at: row.time_opt(14)?,
    })
}

/// Replaces what is stored with what is given.
fn apply(pull: &mut Pull, facts: PullFacts, sha: Option<Sha>, opened_at: Timestamp) {
    fn replace<T>(place: &mut Option<T>, given: Option<T>) {
        if given.is_some() {
            *place = given;
        }
    }
    pull.opened_at = opened_at;
    replace(&mut pull.reference, facts.reference);
    replace(&mut pull.sha, sha);
    pull.branch = facts.base_ref.unwrap_or(std::mem::take(&mut pull.branch));
    replace(&mut pull.head_ref, facts.head_ref);
    replace(&mut pull.title, facts.title);
    replace(&mut pull.author.email, facts.author_email);
    replace(&mut pull.author.username, facts.author_username);
    pull.bot = facts.bot_authored.unwrap_or(pull.bot);
    pull.first_commit_told |= facts.first_commit_at.is_some();
    replace(&mut pull.first_commit_at, facts.first_commit_at);
    replace(&mut pull.merged_at, facts.merged_at);
    replace(&mut pull.closed_at, facts.closed_at);
}

async fn put_pull(
    tx: &mut Tx,
    ou: OuId,
    repo: RepoId,
    number: i64,
    pull: &mut Pull,
    now: Timestamp,
) -> Result<()> {
    let whose = whose(tx, ou, &pull.author, pull.opened_at).await?;
    let row = tx
        .one(
            "INSERT INTO delivery_changes (id, ou_id, repo_id, kind, number, reference_id, sha, branch, line, head_ref, \
             title, author_email, author_username, bot_authored, person_id, team_id, opened_at, first_commit_at, \
             first_commit_told, landed_at, closed_at, created_at, updated_at) \
             VALUES ($1, $2, $3, 'pull', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
             $20, $21, $21) ON CONFLICT (repo_id, number) DO UPDATE SET reference_id = excluded.reference_id, \
             sha = excluded.sha, branch = excluded.branch, line = excluded.line, head_ref = excluded.head_ref, \
             title = excluded.title, author_email = excluded.author_email, \
             author_username = excluded.author_username, bot_authored = excluded.bot_authored, \
             person_id = excluded.person_id, team_id = excluded.team_id, opened_at = excluded.opened_at, \
             first_commit_at = excluded.first_commit_at, first_commit_told = excluded.first_commit_told, \
             landed_at = excluded.landed_at, closed_at = excluded.closed_at, updated_at = excluded.updated_at \
             RETURNING id",
            args![
                pull.id,
                ou,
                repo,
                number,
                pull.reference.clone(),
                pull.sha.as_ref().map(Sha::as_str),
                &pull.branch,
                &pull.line,
                pull.head_ref.clone(),
                pull.title.clone(),
                pull.author.email.as_ref().map(|email| email.to_lowercase()),
                pull.author.username.as_ref().map(|name| name.to_lowercase()),
                pull.bot,
                whose.person,
                whose.team,
                pull.opened_at,
                pull.first_commit_at,
                pull.first_commit_told,
                pull.merged_at,
                pull.closed_at,
                now,
            ],
        )
        .await?;
    pull.id = row.id(0)?;
    Ok(())
}

async fn put_members(tx: &mut Tx, repo: RepoId, pull: ChangeId, members: &[Sha]) -> Result<()> {
    tx.exec("DELETE FROM delivery_pull_commits WHERE change_id = $1", args![pull]).await?;
    for sha in members {
        let sql = "INSERT INTO delivery_pull_commits (change_id, repo_id, sha) VALUES ($1, $2, $3)";
        tx.exec(sql, args![pull, repo, sha.as_str()]).await?;
    }
    Ok(())
}

/// The merge commit of a pull request and the commits in it.
async fn listed_shas(tx: &mut Tx, pull: &Pull) -> Result<Vec<Sha>> {
    let rows = tx.all("SELECT sha FROM delivery_pull_commits WHERE change_id = $1", args![pull.id]).await?;
    let mut shas = rows.iter().map(|row| Ok(Sha::kept(row.text(0)?))).collect::<Result<Vec<_>>>()?;
    shas.extend(pull.sha.clone());
    Ok(shas)
}

/// Known commits of a merged pull request are not separate changes. Those that no longer belong to it become separate
/// changes again, unless they belong to another one. `held` is what belonged to it before.
async fn join_commits(tx: &mut Tx, repo: RepoId, pull: &Pull, held: Vec<Sha>, now: Timestamp) -> Result<()> {
    let mut shas = listed_shas(tx, pull).await?;
    shas.extend(held);
    shas.sort();
    shas.dedup();
    for sha in &shas {
        let (from, until) = sha.range();
        let sql = "SELECT id, sha, part_of FROM delivery_changes \
                   WHERE repo_id = $1 AND kind = 'commit' AND sha >= $2 AND sha < $3";
        for row in &tx.all(sql, args![repo, from, until]).await? {
            let commit = Sha::kept(row.text(1)?);
            if !commit.matches(sha) {
                continue;
            }
            let (id, old): (ChangeId, Option<ChangeId>) = (row.id(0)?, row.id_opt(2)?);
            let part_of = part_of(&pulls_of(tx, repo, &commit).await?);
            if part_of != old {
                tx.exec("UPDATE delivery_changes SET part_of = $2 WHERE id = $1", args![id, part_of]).await?;
                attribute_change(tx, id, now).await?;
            }
        }
    }
    Ok(())
}

/// If no client reported it, the first commit of a pull request is the earliest of its known commits.
async fn first_commit(tx: &mut Tx, pull: ChangeId) -> Result<()> {
    tx.exec(
        concat!(
            "UPDATE delivery_changes SET first_commit_at = (SELECT min(c.landed_at) FROM delivery_pull_commits p \
             JOIN delivery_changes c ON c.repo_id = p.repo_id AND c.kind = 'commit' AND ",
            same!("p.sha", "c.sha"),
            " WHERE p.change_id = $1) WHERE id = $1 AND first_commit_told = 0"
        ),
        args![pull],
    )
    .await
    .map(drop)
}

/// Records commits on a branch [default: the default branch]. Pushing the same commits again changes nothing.
pub async fn commits_push(
    plane: &Delivery,
    ctx: &OpCtx,
    repository: String,
    branch: Option<String>,
    commits: Input<Vec<CommitFacts>>,
) -> Result<u64> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let commits = commits.parsed(|commits, faults| {
        text::check(faults, "repository", &repository, text::NAME);
        text::check_opt(faults, "branch", branch.as_deref(), text::NAME);
        check_commits(commits, plane.estate().now(), faults)
    })?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    let (count, found) = plane
        .estate()
        .change_told_alone(ctx, move |tx| {
            Box::pin(async move {
                let mut names = Names::new(&inner, ou);
                let repo = names.repo(tx, &repository).await?;
                attribution::lock_repository(tx, ou, repo).await?;
                let now = inner.estate().now();
                let line = match branch.as_deref() {
                    None => String::new(),
                    Some(branch) => attribution::line_in(tx, repo, branch).await?,
                };
                let branch = Branch { ou, repo, name: branch.unwrap_or_default(), line };
                let mut pulls = BTreeSet::new();
                for commit in &commits {
                    pulls.extend(push(tx, &branch, commit, now).await?);
                }
                // Once for all the commits, because there may be thousands.
                for pull in pulls {
                    first_commit(tx, pull).await?;
                    attribute_change(tx, pull, now).await?;
                }
                let count = commits.len() as u64;
                let act = OwnedAct::new("recorded", nouns::DELIVERY, repo.0, format!("{count} commits"));
                Ok(((count, names.found), Some(act)))
            })
        })
        .await?;
    plane.known().remember(found);
    Ok(count)
}

#[derive(Clone)]
struct Checked {
    sha: Sha,
    facts: CommitFacts,
}

fn check_commits(commits: Vec<CommitFacts>, now: Timestamp, faults: &mut Faults) -> Vec<Checked> {
    if commits.is_empty() || commits.len() > MAX_COMMITS {
        faults.push("commits", "range", format!("must have 1 to {MAX_COMMITS} commits"));
    }
    let checked = commits.into_iter().take(MAX_COMMITS).enumerate().filter_map(|(at, facts)| {
        let place = format!("commits.{at}");
        text::check_past(faults, &format!("{place}.committed_at"), Some(facts.committed_at), now);
        text::check_opt(faults, &format!("{place}.author_email"), facts.author_email.as_deref(), text::NAME);
        for (nth, parent) in facts.parents.iter().enumerate() {
            faults.take(Sha::parse(&format!("{place}.parents.{nth}"), parent));
        }
        let sha = faults.take(Sha::parse(&format!("{place}.sha"), &facts.sha))?;
        Some(Checked { sha, facts })
    });
    checked.collect()
}

struct Branch {
    ou: OuId,
    repo: RepoId,
    name: String,
    line: String,
}

/// Returns the pull requests that the commit belongs to, which the caller still has to attribute.
async fn push(tx: &mut Tx, branch: &Branch, commit: &Checked, now: Timestamp) -> Result<Vec<ChangeId>> {
    let facts = &commit.facts;
    let author = Author { email: facts.author_email.clone(), username: None };
    let whose = whose(tx, branch.ou, &author, facts.committed_at).await?;
    let pulls = pulls_of(tx, branch.repo, &commit.sha).await?;
    // It may already be stored under another name of the same line: with no branch, or with that of the default branch.
    let sql = "SELECT branch FROM delivery_changes \
               WHERE repo_id = $1 AND sha = $2 AND kind = 'commit' AND line = $3 LIMIT 1";
    let known = tx.opt(sql, args![branch.repo, commit.sha.as_str(), &branch.line]).await?;
    let name = known.map_or_else(|| Ok(branch.name.clone()), |row| row.text(0))?;
    // The first line of the message is the title.
    let title = facts.message.as_ref().map(|message| {
        message.lines().next().unwrap_or_default().chars().take(text::LONG).collect::<String>()
    });
    let parents = serde_json::Value::from(facts.parents.clone()).to_string();
    let id = ChangeId(next_in(tx, ChangeId::KIND).await?);
    let row = tx
        .one(
            "INSERT INTO delivery_changes (id, ou_id, repo_id, kind, sha, branch, line, title, author_email, \
             bot_authored, person_id, team_id, opened_at, first_commit_at, first_commit_told, landed_at, parents, \
             part_of, created_at, updated_at) \
             VALUES ($1, $2, $3, 'commit', $4, $5, $6, $7, $8, 0, $9, $10, $11, $11, 1, $11, $12, $13, $14, $14) \
             ON CONFLICT (repo_id, branch, sha) WHERE kind = 'commit' DO UPDATE SET title = excluded.title, \
             author_email = excluded.author_email, person_id = excluded.person_id, team_id = excluded.team_id, \
             opened_at = excluded.opened_at, first_commit_at = excluded.first_commit_at, \
             landed_at = excluded.landed_at, parents = excluded.parents, part_of = excluded.part_of, \
             updated_at = excluded.updated_at RETURNING id",
            args![
                id,
                branch.ou,
                branch.repo,
                commit.sha.as_str(),
                name,
                &branch.line,
                title,
                facts.author_email.as_ref().map(|email| email.to_lowercase()),
                whose.person,
                whose.team,
                facts.committed_at,
                parents,
                part_of(&pulls),
                now,
            ],
        )
        .await?;
    let id: ChangeId = row.id(0)?;
    attribute_change(tx, id, now).await?;
    let mut touched = Touched::default();
    touched.note(tx, id).await?;
    attribution::reattribute(tx, branch.ou, branch.repo, touched, now).await?;
    Ok(pulls.into_iter().map(|pull| pull.id).collect())
}

/// A pull request that a commit belongs to.
struct Holder {
    id: ChangeId,
    number: i64,
    merged_at: Option<i64>,
}

/// The pull requests that a commit belongs to, in the order in which they were merged.
async fn pulls_of(tx: &mut Tx, repo: RepoId, sha: &Sha) -> Result<Vec<Holder>> {
    let (from, until) = sha.range();
    let rows = tx
        .all(
            "SELECT c.id, c.number, c.landed_at, p.sha FROM delivery_pull_commits p \
             JOIN delivery_changes c ON c.id = p.change_id \
             WHERE p.repo_id = $1 AND p.sha >= $2 AND p.sha < $3 \
             UNION SELECT c.id, c.number, c.landed_at, c.sha FROM delivery_changes c \
             WHERE c.repo_id = $1 AND c.kind = 'pull' AND c.sha >= $2 AND c.sha < $3",
            args![repo, from, until],
        )
        .await?;
    let mut found: Vec<Holder> = Vec::new();
    for row in &rows {
        let id: ChangeId = row.id(0)?;
        if Sha::kept(row.text(3)?).matches(sha) && found.iter().all(|known| known.id != id) {
            found.push(Holder { id, number: row.int(1)?, merged_at: row.int_opt(2)? });
        }
    }
    found.sort_by_key(|pull| (pull.merged_at.is_none(), pull.merged_at, pull.number));
    Ok(found)
}

/// A commit of a merged pull request is not a separate change.
fn part_of(pulls: &[Holder]) -> Option<ChangeId> {
    pulls.first().filter(|pull| pull.merged_at.is_some()).map(|pull| pull.id)
}

/// Sets which services a pull request belongs to. `replace` removes the earlier ones; without any services it belongs
/// to all of them again.
pub async fn pull_services_set(
    plane: &Delivery,
    ctx: &OpCtx,
    pull: PullRef,
    services: Input<Vec<ServiceName>>,
    replace: bool,
) -> Result<()> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let services = services.checked(|services, faults| {
        if let PullRef::Number { repository, number } = &pull {
            check_number(repository, "pull_number", *number, faults);
        }
        ServiceName::check_list("services", services, faults);
    })?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    let found = plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let mut names = Names::new(&inner, ou);
                let mut ids = Vec::new();
                for service in &services {
                    ids.push(names.service(tx, service).await?);
                }
                let binding = match &pull {
                    PullRef::Number { repository, number } => {
                        Binding::Number(names.repo(tx, repository).await?, *number)
                    }
                    PullRef::GitHub(id) => Binding::GitHub(*id),
                };
                let change = alone_with_bound(tx, ou, binding).await?;
                bind(tx, ou, binding, change, &ids, replace).await?;
                if let Some(change) = change {
                    attribute_change(tx, change, inner.estate().now()).await?;
                }
                let act = OwnedAct {
                    action: "updated",
                    noun: nouns::DELIVERY,
                    noun_id: None,
                    detail: "services of a pull request".to_owned(),
                };
                Ok((names.found, Some(act)))
            })
        })
        .await?;
    plane.known().remember(found);
    Ok(())
}

#[derive(Clone, Copy)]
enum Binding {
    Number(RepoId, i64),
    GitHub(i64),
}

async fn bind(
    tx: &mut Tx,
    ou: OuId,
    to: Binding,
    change: Option<ChangeId>,
    services: &[ServiceId],
    replace: bool,
) -> Result<()> {
    let (repo, number, github) = match to {
        Binding::Number(repo, number) => (Some(repo), Some(number), None),
        Binding::GitHub(id) => (None, None, Some(id)),
    };
    if replace {
        tx.exec(
            "DELETE FROM delivery_pull_services WHERE (repo_id = $1 AND number = $2) \
             OR (ou_id = $3 AND github_pull_id = $4) OR change_id = $5",
            args![repo, number, ou, github, change],
        )
        .await?;
    }
    for service in services {
        let id = PullServiceId(next_in(tx, PullServiceId::KIND).await?);
        tx.exec(
            "INSERT INTO delivery_pull_services (id, ou_id, repo_id, number, github_pull_id, change_id, service_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            args![id, ou, repo, number, github, change, *service],
        )
        .await?;
    }
    Ok(())
}

/// The bound pull request, if it is known, once no other transaction can attribute or create it.
async fn alone_with_bound(tx: &mut Tx, ou: OuId, to: Binding) -> Result<Option<ChangeId>> {
    if let Binding::Number(repo, _) = to {
        attribution::lock_repository(tx, ou, repo).await?;
        return Ok(bound_change(tx, ou, to).await?.map(|(change, _)| change));
    }
    // Only the pull request itself says which repository it is in, and it may be recorded while this waits.
    let mut bound = bound_change(tx, ou, to).await?;
    loop {
        match bound {
            Some((_, repo)) => attribution::lock_repository(tx, ou, repo).await?,
            None => attribution::lock_repositories(tx, ou, &[None]).await?,
        }
        let again = bound_change(tx, ou, to).await?;
        if again == bound {
            return Ok(bound.map(|(change, _)| change));
        }
        bound = again;
    }
}

async fn bound_change(tx: &mut Tx, ou: OuId, to: Binding) -> Result<Option<(ChangeId, RepoId)>> {
    let row = match to {
        Binding::Number(repo, number) => {
            let sql = "SELECT id, repo_id FROM delivery_changes WHERE repo_id = $1 AND number = $2";
            tx.opt(sql, args![repo, number]).await?
        }
        Binding::GitHub(id) => {
            let sql = "SELECT id, repo_id FROM delivery_changes \
                       WHERE ou_id = $1 AND reference_id = $2 AND kind = 'pull' ORDER BY id LIMIT 1";
            tx.opt(sql, args![ou, id.to_string()]).await?
        }
    };
    row.map(|row| Ok((row.id(0)?, row.id(1)?))).transpose()
}

/// Links services that were reported for a pull request before it was known.
async fn link_services(tx: &mut Tx, ou: OuId, repo: RepoId, number: i64, pull: &Pull) -> Result<()> {
    let github = pull.reference.as_deref().and_then(|reference| reference.parse::<i64>().ok());
    tx.exec(
        "UPDATE delivery_pull_services SET change_id = $1 WHERE (repo_id = $2 AND number = $3) \
         OR (ou_id = $4 AND github_pull_id = $5)",
        args![pull.id, repo, number, ou, github],
    )
    .await
    .map(drop)
}
