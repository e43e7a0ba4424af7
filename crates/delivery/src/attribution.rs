//! Attributes each change to the deployment that delivered it.
//!
//! Within a target (a service deployed from a repository into an environment), a change belongs to the first successful
//! deployment, by deployment time, that covers it. A deployment covers either the changes on one line of development
//! that landed up to its position, or only the commits that it lists. The result depends only on the facts, whatever
//! the order in which they arrive: `attribute_deployment` computes it for a deployment, `attribute_change` for a
//! change, `reattribute` for the deployments whose hashes match a change's commits. A deployment that has matched
//! nothing within `RETRY_WINDOW` is no longer considered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::{Category, Error, ErrorKind, Result, clock};
use landreeve_estate::args;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Outcome, Retry};
use landreeve_estate::store::{Conn, Dialect, Tx, next_in};

use crate::deployment::{Deployment, Place, deployments};
use crate::ids::{ChangeId, DeploymentId, RepoId, ServiceId, TargetId};
use crate::sha::{Sha, like};
use crate::{Delivery, moving};

/// How long attribution is retried: changes may be reported later than their deployment.
pub const RETRY_WINDOW: Duration = Duration::from_secs(3 * 86_400);
/// Clocks differ: how long after its deployment a change may have landed, in microseconds.
const SKEW: i64 = 86_400_000_000;

/// The line of a branch. The default branch is always the empty one, whatever its name.
pub fn line(branch: &str, default_branch: Option<&str>) -> String {
    let default = match default_branch {
        Some(default) => branch == default,
        None => matches!(branch, "main" | "master"),
    };
    if default { String::new() } else { branch.to_owned() }
}

pub async fn line_in(conn: &mut Conn, repo: RepoId, branch: &str) -> Result<String> {
    let row = conn.one("SELECT default_branch FROM delivery_repos WHERE id = $1", args![repo]).await?;
    Ok(line(branch, row.text_opt(0)?.as_deref()))
}

/// Finds a deployment's place. `None`: not yet, because the commit is unknown or there is no repository. An ambiguous
/// short hash is an error.
pub async fn place(conn: &mut Conn, deployment: &Deployment) -> Result<Option<Place>> {
    let Some(repo) = deployment.repo.filter(|_| deployment.listed.is_empty()) else { return Ok(None) };
    let line = match &deployment.integration_branch {
        Some(branch) => Some(line_in(conn, repo, branch).await?),
        None => None,
    };
    let deployed = deployment.deployed_at.as_microsecond();
    let Some(sha) = &deployment.commit_sha else {
        return Ok(Some(Place { line: line.unwrap_or_default(), position: deployed }));
    };
    let found = by_sha(conn, repo, ("commit_sha", sha), line.as_deref()).await?;
    Ok(found.and_then(|found| {
        let landed = found.landed_at?;
        // A change that landed long after the deployment cannot be in it, whatever the hash says.
        Some(Place { line: line.unwrap_or(found.line), position: landed.min(deployed.saturating_add(SKEW)) })
    }))
}

/// An ambiguous hash matches nothing until more is known; in a request it is an error.
pub fn unclear_is_none<T: Default>(result: Result<T>) -> Result<T> {
    result.or_else(|error| match error.kind {
        ErrorKind::Invalid => Ok(T::default()),
        _ => Err(error),
    })
}

/// A change that a hash matches.
#[derive(Debug, Clone)]
struct Named {
    id: ChangeId,
    line: String,
    landed_at: Option<i64>,
    /// The hash is the change's own, not that of a commit in it.
    own: bool,
}

/// Every change that a hash may match, and the commits it may be.
async fn all_by_sha(conn: &mut Conn, repo: RepoId, sha: &Sha) -> Result<(Vec<Named>, Vec<Sha>)> {
    let (from, until) = sha.range();
    let rows = conn
        .all(
            "SELECT c.id, c.sha, c.line, c.landed_at, CAST(1 AS BIGINT) FROM delivery_changes c \
             WHERE c.repo_id = $1 AND c.sha >= $2 AND c.sha < $3 AND c.part_of IS NULL \
             UNION ALL \
             SELECT c.id, p.sha, c.line, c.landed_at, CAST(0 AS BIGINT) FROM delivery_pull_commits p \
             JOIN delivery_changes c ON c.id = p.change_id WHERE p.repo_id = $1 AND p.sha >= $2 AND p.sha < $3",
            args![repo, from, until],
        )
        .await?;
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for row in &rows {
        let commit = Sha::kept(row.text(1)?);
        if commit.matches(sha) {
            known.push(commit);
            let (id, line, landed_at) = (row.id(0)?, row.text(2)?, row.int_opt(3)?);
            found.push(Named { id, line, landed_at, own: row.flag(4)? });
        }
    }
    Ok((found, known))
}

/// Two of the commits that a hash may be, if it is ambiguous.
pub async fn unclear(conn: &mut Conn, repo: RepoId, sha: &Sha) -> Result<Option<(Sha, Sha)>> {
    Ok(several(all_by_sha(conn, repo, sha).await?.1))
}

/// Two of these hashes that are different commits.
pub fn several(mut known: Vec<Sha>) -> Option<(Sha, Sha)> {
    known.sort();
    let mut commits: Vec<Sha> = Vec::new();
    for sha in known {
        match commits.iter_mut().find(|other| other.matches(&sha)) {
            Some(other) if other.as_str().len() < sha.as_str().len() => *other = sha,
            Some(_) => {}
            None => commits.push(sha),
        }
    }
    let mut commits = commits.into_iter();
    commits.next().zip(commits.next())
}

/// Rejects an ambiguous hash.
fn only_one(field: &str, known: Vec<Sha>) -> Result<()> {
    let Some((first, second)) = several(known) else { return Ok(()) };
    let message =
        format!("is ambiguous: it matches {} and {}; send more digits", first.as_str(), second.as_str());
    Err(Error::fault(field, "ambiguous", message))
}

/// The change that a commit is, or is in. In order of preference: landed changes, changes on the wanted line, the
/// commit itself rather than a change that contains it, the default branch, the change that landed first.
async fn by_sha(
    conn: &mut Conn,
    repo: RepoId,
    (field, sha): (&str, &Sha),
    wanted: Option<&str>,
) -> Result<Option<Named>> {
    let (found, known) = all_by_sha(conn, repo, sha).await?;
    only_one(field, known)?;
    Ok(found.into_iter().min_by(|left, right| rank(left, wanted).cmp(&rank(right, wanted))))
}

fn rank<'a>(named: &'a Named, wanted: Option<&str>) -> impl Ord + use<'a> {
    let elsewhere = wanted.is_some_and(|wanted| named.line != wanted);
    let line = (!named.line.is_empty(), named.landed_at, named.line.as_str());
    (named.landed_at.is_none(), elsewhere, !named.own, line, named.id)
}

/// Inserts attributions. If several deployments cover a change, the earliest one gets it.
macro_rules! attribute {
    ($rest:literal) => {
        concat!(
            "INSERT INTO delivery_change_deployments (change_id, target_id, deployment_id, ou_id, service_id, \
             deployed_at, opened_at, first_commit_at, landed_at, team_id) \
             SELECT c.id, $1, $2, c.ou_id, $3, $4, c.opened_at, c.first_commit_at, c.landed_at, c.team_id \
             FROM delivery_changes c WHERE ",
            $rest,
            " AND c.part_of IS NULL AND c.landed_at IS NOT NULL \
             AND (NOT EXISTS (SELECT 1 FROM delivery_pull_services s WHERE s.change_id = c.id) \
             OR EXISTS (SELECT 1 FROM delivery_pull_services s WHERE s.change_id = c.id AND s.service_id = $3)) \
             ON CONFLICT (change_id, target_id) DO UPDATE SET deployment_id = excluded.deployment_id, \
             deployed_at = excluded.deployed_at \
             WHERE excluded.deployed_at < delivery_change_deployments.deployed_at \
             OR (excluded.deployed_at = delivery_change_deployments.deployed_at \
             AND excluded.deployment_id < delivery_change_deployments.deployment_id)"
        )
    };
}

/// Attributes everything that a stored deployment covers to it. An ambiguous listed hash is an error.
pub async fn attribute_deployment(tx: &mut Tx, deployment: &Deployment, now: Timestamp) -> Result<()> {
    if !deployment.success {
        return Ok(());
    }
    let mut matched = deployment.commit_sha.is_some() && deployment.place.is_some();
    if let (Some(place), Some(target)) = (&deployment.place, deployment.target) {
        matched |= attribute_up_to(tx, deployment, target, place, now).await? > 0;
    }
    for sha in &deployment.listed {
        for (change, repo) in listed_changes(tx, deployment, sha).await? {
            matched |= attribute_listed(tx, change, repo, deployment).await?;
        }
    }
    if matched {
        set_attributed(tx, deployment.id, now).await?;
        set_team(tx, deployment.id).await?;
    }
    Ok(())
}

async fn set_attributed(tx: &mut Tx, deployment: DeploymentId, now: Timestamp) -> Result<()> {
    let sql = "UPDATE delivery_deployments SET attributed_at = $2 WHERE id = $1 AND attributed_at IS NULL";
    tx.exec(sql, args![deployment, now]).await.map(drop)
}

async fn attribute_up_to(
    tx: &mut Tx,
    deployment: &Deployment,
    target: TargetId,
    place: &Place,
    now: Timestamp,
) -> Result<u64> {
    let low = covered_before(tx, deployment, target, place, now).await?;
    let superseded = superseded(tx, deployment, target, place, low).await?;
    let brought = tx
        .exec(
            attribute!("c.repo_id = $5 AND c.line = $6 AND c.landed_at > $7 AND c.landed_at <= $8"),
            args![
                target,
                deployment.id,
                deployment.service,
                deployment.deployed_at,
                deployment.repo,
                &place.line,
                low,
                place.position
            ],
        )
        .await?;
    for older in superseded {
        set_team(tx, older).await?;
    }
    Ok(brought)
}

/// How far earlier deployments reach on the line: what landed up to there belongs to one of them.
pub async fn covered_before(
    conn: &mut Conn,
    deployment: &Deployment,
    target: TargetId,
    place: &Place,
    now: Timestamp,
) -> Result<i64> {
    let before = conn
        .opt(
            "SELECT position FROM delivery_deployments WHERE target_id = $1 AND line = $2 AND success = 1 \
             AND position IS NOT NULL AND (deployed_at < $3 OR (deployed_at = $3 AND id < $4)) \
             AND (attributed_at IS NOT NULL OR attribute_until > $5) ORDER BY position DESC LIMIT 1",
            args![target, &place.line, deployment.deployed_at, deployment.id, now],
        )
        .await?;
    before.map_or(Ok(i64::MIN), |row| row.int(0))
}

/// Later deployments that have changes this one is about to take. Empty if this is the latest deployment.
async fn superseded(
    tx: &mut Tx,
    deployment: &Deployment,
    target: TargetId,
    place: &Place,
    low: i64,
) -> Result<Vec<DeploymentId>> {
    let later = tx
        .opt(
            "SELECT id FROM delivery_deployments WHERE target_id = $1 \
             AND (deployed_at > $2 OR (deployed_at = $2 AND id > $3)) LIMIT 1",
            args![target, deployment.deployed_at, deployment.id],
        )
        .await?;
    if later.is_none() {
        return Ok(Vec::new());
    }
    let rows = tx
        .all(
            "SELECT DISTINCT a.deployment_id FROM delivery_changes c \
             JOIN delivery_change_deployments a ON a.change_id = c.id AND a.target_id = $1 \
             WHERE c.repo_id = $2 AND c.line = $3 AND c.landed_at > $4 AND c.landed_at <= $5",
            args![target, deployment.repo, &place.line, low, place.position],
        )
        .await?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// The changes that a listed hash matches: the one in the deployment's repository or, without a repository, the pull
/// requests of the unit with that merge commit.
async fn listed_changes(
    conn: &mut Conn,
    deployment: &Deployment,
    sha: &Sha,
) -> Result<Vec<(ChangeId, RepoId)>> {
    const FIELD: &str = "merge_commit_shas";
    if let Some(repo) = deployment.repo {
        let named = by_sha(conn, repo, (FIELD, sha), None).await?;
        return Ok(named.into_iter().map(|named| (named.id, repo)).collect());
    }
    let (from, until) = sha.range();
    // The plus keeps SQLite from reading the whole unit: it assumes that an equality is more selective than a range.
    let sql = "SELECT id, repo_id, sha FROM delivery_changes \
               WHERE kind = 'pull' AND sha >= $1 AND sha < $2 AND +ou_id = $3";
    let rows = conn.all(sql, args![from, until, deployment.ou]).await?;
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for row in &rows {
        let commit = Sha::kept(row.text(2)?);
        if commit.matches(sha) {
            known.push(commit);
            found.push((row.id(0)?, row.id(1)?));
        }
    }
    only_one(FIELD, known)?;
    Ok(found)
}

/// Attributes a change to a deployment that lists it, unless an earlier deployment has it.
async fn attribute_listed(
    tx: &mut Tx,
    change: ChangeId,
    repo: RepoId,
    deployment: &Deployment,
) -> Result<bool> {
    let target = target_in(tx, repo, deployment.service, &deployment.environment).await?;
    let sql = "SELECT deployment_id FROM delivery_change_deployments WHERE change_id = $1 AND target_id = $2";
    let older: Option<DeploymentId> =
        tx.opt(sql, args![change, target]).await?.map(|row| row.id(0)).transpose()?;
    let brought = attribute_one(tx, change, target, deployment).await? > 0;
    if let Some(older) = older.filter(|_| brought) {
        set_team(tx, older).await?;
    }
    Ok(brought)
}

async fn attribute_one(
    tx: &mut Tx,
    change: ChangeId,
    target: TargetId,
    deployment: &Deployment,
) -> Result<u64> {
    tx.exec(
        attribute!("c.id = $5"),
        args![target, deployment.id, deployment.service, deployment.deployed_at, change],
    )
    .await
}

async fn target_in(tx: &mut Tx, repo: RepoId, service: ServiceId, environment: &str) -> Result<TargetId> {
    let sql = "SELECT id FROM delivery_targets WHERE repo_id = $1 AND service_id = $2 AND environment = $3";
    if let Some(row) = tx.opt(sql, args![repo, service, environment]).await? {
        return row.id(0);
    }
    let id = TargetId(next_in(tx, TargetId::KIND).await?);
    let sql = "INSERT INTO delivery_targets (id, repo_id, service_id, environment) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (repo_id, service_id, environment) DO UPDATE SET environment = excluded.environment \
               RETURNING id";
    tx.one(sql, args![id, repo, service, environment]).await?.id(0)
}

/// A deployment belongs to the team of its newest change.
async fn set_team(tx: &mut Tx, deployment: DeploymentId) -> Result<()> {
    tx.exec(
        "UPDATE delivery_deployments SET team_id = (SELECT c.team_id FROM delivery_change_deployments c \
         WHERE c.deployment_id = $1 AND c.team_id IS NOT NULL ORDER BY c.landed_at DESC, c.change_id DESC LIMIT 1) \
         WHERE id = $1",
        args![deployment],
    )
    .await
    .map(drop)
}

/// Takes all changes from a modified deployment and attributes each to the next deployment that covers it.
pub async fn unassign(tx: &mut Tx, deployment: DeploymentId, now: Timestamp) -> Result<()> {
    let sql = "SELECT change_id FROM delivery_change_deployments WHERE deployment_id = $1";
    let held = tx.all(sql, args![deployment]).await?;
    tx.exec("DELETE FROM delivery_change_deployments WHERE deployment_id = $1", args![deployment]).await?;
    tx.exec("UPDATE delivery_deployments SET team_id = NULL WHERE id = $1", args![deployment]).await?;
    for row in &held {
        attribute_change(tx, row.id(0)?, now).await?;
    }
    Ok(())
}

/// Attributes a change to the deployments that cover it, after the change or its services have changed.
pub async fn attribute_change(tx: &mut Tx, change: ChangeId, now: Timestamp) -> Result<()> {
    let sql = "SELECT repo_id, ou_id, line, landed_at, part_of FROM delivery_changes WHERE id = $1";
    let row = tx.one(sql, args![change]).await?;
    let (repo, ou, line): (RepoId, OuId, String) = (row.id(0)?, row.id(1)?, row.text(2)?);
    let mut touched = holders(tx, change).await?;
    if !touched.is_empty() {
        tx.exec("DELETE FROM delivery_change_deployments WHERE change_id = $1", args![change]).await?;
    }
    if let (Some(landed), None) = (row.int_opt(3)?, row.int_opt(4)?) {
        for deployment in covering(tx, repo, &line, landed, now).await? {
            if let Some(target) = deployment.target {
                attribute_one(tx, change, target, &deployment).await?;
            }
        }
        for deployment in listing(tx, ou, repo, change, now).await? {
            let target = target_in(tx, repo, deployment.service, &deployment.environment).await?;
            attribute_one(tx, change, target, &deployment).await?;
        }
        for deployment in holders(tx, change).await? {
            set_attributed(tx, deployment, now).await?;
            touched.insert(deployment);
        }
    }
    for deployment in touched {
        set_team(tx, deployment).await?;
    }
    Ok(())
}

/// The deployments of a change, one for each target.
async fn holders(tx: &mut Tx, change: ChangeId) -> Result<BTreeSet<DeploymentId>> {
    let sql = "SELECT deployment_id FROM delivery_change_deployments WHERE change_id = $1";
    tx.all(sql, args![change]).await?.iter().map(|row| row.id(0)).collect()
}

/// For each target of the repository, the first deployment that covers the line up to there.
async fn covering(
    tx: &mut Tx,
    repo: RepoId,
    line: &str,
    landed: i64,
    now: Timestamp,
) -> Result<Vec<Deployment>> {
    let targets = tx.all("SELECT id FROM delivery_targets WHERE repo_id = $1", args![repo]).await?;
    let mut found = Vec::new();
    for target in &targets {
        let first = tx
            .opt(
                deployments!(
                    "WHERE d.target_id = $1 AND d.line = $2 AND d.success = 1 AND d.position >= $3 \
                     AND d.deployed_at >= $4 AND (d.attributed_at IS NOT NULL OR d.attribute_until > $5) \
                     ORDER BY d.deployed_at, d.id LIMIT 1"
                ),
                args![target.int(0)?, line, landed, landed.saturating_sub(SKEW), now],
            )
            .await?;
        found.extend(first.map(|row| Deployment::from_row(&row)).transpose()?);
    }
    Ok(found)
}

/// Every deployment that lists the change, by its own hash or by that of a commit in it.
async fn listing(
    tx: &mut Tx,
    ou: OuId,
    repo: RepoId,
    change: ChangeId,
    now: Timestamp,
) -> Result<Vec<Deployment>> {
    let rows = tx
        .all(
            concat!(
                deployments!(
                    "WHERE d.ou_id = $2 AND d.success = 1 AND (d.repo_id IS NULL OR d.repo_id = $3) \
                     AND (d.attributed_at IS NOT NULL OR d.attribute_until > $4) AND d.id IN ("
                ),
                "SELECT s.deployment_id FROM delivery_changes c JOIN delivery_deployment_shas s ON ",
                like!("c.sha", "s.sha"),
                " WHERE c.id = $1 UNION \
                 SELECT s.deployment_id FROM delivery_pull_commits p JOIN delivery_deployment_shas s ON ",
                like!("p.sha", "s.sha"),
                " WHERE p.change_id = $1)"
            ),
            args![change, ou, repo, now],
        )
        .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let hashes = hashes(tx, change).await?;
    let mut found = Vec::new();
    for row in &rows {
        let deployment = Deployment::from_row(row)?;
        for sha in deployment.listed.iter().filter(|sha| hashes.hold(sha)) {
            let named = unclear_is_none(listed_changes(tx, &deployment, sha).await)?;
            if named.iter().any(|(named, _)| *named == change) {
                found.push(deployment);
                break;
            }
        }
    }
    Ok(found)
}

/// The hashes of a change and of the commits in it, by their range prefix.
struct Hashes(BTreeMap<String, Vec<Sha>>);

impl Hashes {
    fn hold(&self, sha: &Sha) -> bool {
        self.0.get(&sha.range().0).is_some_and(|all| all.iter().any(|ours| ours.matches(sha)))
    }
}

async fn hashes(conn: &mut Conn, change: ChangeId) -> Result<Hashes> {
    let sql = "SELECT sha FROM delivery_changes WHERE id = $1 AND sha IS NOT NULL \
               UNION SELECT sha FROM delivery_pull_commits WHERE change_id = $1";
    let mut hashes: BTreeMap<String, Vec<Sha>> = BTreeMap::new();
    for row in &conn.all(sql, args![change]).await? {
        let sha = Sha::kept(row.text(0)?);
        hashes.entry(sha.range().0).or_default().push(sha);
    }
    Ok(Hashes(hashes))
}

/// The deployments that depend on the hashes of a change: those of its commits, and those with listed hashes that may
/// match. Call `note` before a change is written, if it exists, and after; then call `reattribute`.
#[derive(Debug, Default)]
pub struct Touched {
    deployments: BTreeSet<DeploymentId>,
    listed: BTreeSet<Sha>,
}

impl Touched {
    pub async fn note(&mut self, tx: &mut Tx, change: ChangeId) -> Result<()> {
        let rows = tx
            .all(
                concat!(
                    "SELECT d.id FROM delivery_changes c JOIN delivery_deployments d ON d.repo_id = c.repo_id AND ",
                    like!("c.sha", "d.commit_sha"),
                    " WHERE c.id = $1 UNION SELECT d.id FROM delivery_pull_commits p \
                     JOIN delivery_deployments d ON d.repo_id = p.repo_id AND ",
                    like!("p.sha", "d.commit_sha"),
                    " WHERE p.change_id = $1"
                ),
                args![change],
            )
            .await?;
        for row in &rows {
            self.deployments.insert(row.id(0)?);
        }
        let rows = tx
            .all(
                concat!(
                    "SELECT s.sha FROM delivery_changes c JOIN delivery_deployment_shas s ON ",
                    like!("c.sha", "s.sha"),
                    " WHERE c.id = $1 UNION SELECT s.sha FROM delivery_pull_commits p \
                     JOIN delivery_deployment_shas s ON ",
                    like!("p.sha", "s.sha"),
                    " WHERE p.change_id = $1"
                ),
                args![change],
            )
            .await?;
        for row in &rows {
            self.listed.insert(Sha::kept(row.text(0)?));
        }
        Ok(())
    }
}

/// Recomputes the places of deployments of these commits, and whose the listed hashes are.
pub async fn reattribute(
    tx: &mut Tx,
    ou: OuId,
    repo: RepoId,
    touched: Touched,
    now: Timestamp,
) -> Result<()> {
    for id in touched.deployments {
        let row = tx
            .opt(
                deployments!(
                    "WHERE d.id = $1 AND d.success = 1 AND (d.attributed_at IS NOT NULL OR d.attribute_until > $2)"
                ),
                args![id, now],
            )
            .await?;
        let Some(mut deployment) = row.map(|row| Deployment::from_row(&row)).transpose()? else { continue };
        let place = unclear_is_none(place(tx, &deployment).await)?;
        if place != deployment.place {
            deployment.place = place;
            set_place(tx, &deployment).await?;
            unassign(tx, id, now).await?;
            attribute_if_clear(tx, deployment, now).await?;
        }
    }
    let mut changes: BTreeSet<ChangeId> = BTreeSet::new();
    for sha in &touched.listed {
        changes.extend(all_by_sha(tx, repo, sha).await?.0.iter().map(|named| named.id));
        let (from, until) = sha.range();
        let sql =
            "SELECT id FROM delivery_changes WHERE kind = 'pull' AND sha >= $1 AND sha < $2 AND +ou_id = $3";
        for row in &tx.all(sql, args![from, until, ou]).await? {
            changes.insert(row.id(0)?);
        }
    }
    for change in changes {
        attribute_change(tx, change, now).await?;
    }
    Ok(())
}

async fn set_place(tx: &mut Tx, deployment: &Deployment) -> Result<()> {
    let (line, position) = match &deployment.place {
        Some(place) => (Some(place.line.as_str()), Some(place.position)),
        None => (None, None),
    };
    let sql = "UPDATE delivery_deployments SET line = $2, position = $3 WHERE id = $1";
    tx.exec(sql, args![deployment.id, line, position]).await.map(drop)
}

/// Attributes again what a deployment covers.
async fn retry(tx: &mut Tx, mut deployment: Deployment, now: Timestamp) -> Result<()> {
    if deployment.place.is_none() {
        deployment.place = unclear_is_none(place(tx, &deployment).await)?;
        if deployment.place.is_some() {
            set_place(tx, &deployment).await?;
        }
    }
    attribute_if_clear(tx, deployment, now).await
}

/// Attributes what is unambiguous; ambiguous listed hashes have to wait.
pub async fn attribute_if_clear(tx: &mut Tx, mut deployment: Deployment, now: Timestamp) -> Result<()> {
    let mut clear = Vec::new();
    for sha in std::mem::take(&mut deployment.listed) {
        if !unclear_is_none(listed_changes(tx, &deployment, &sha).await)?.is_empty() {
            clear.push(sha);
        }
    }
    deployment.listed = clear;
    attribute_deployment(tx, &deployment, now).await
}

/// On PostgreSQL, waits for other transactions that attribute in the same repository: two that do not see each other's
/// rows would each leave work to the other. SQLite has only one writer.
pub async fn lock_repository(tx: &mut Tx, ou: OuId, repo: RepoId) -> Result<()> {
    lock_repositories(tx, ou, &[Some(repo)]).await
}

/// The same, for a deployment of these repositories; without one, it may cover changes in any repository.
pub async fn lock_repositories(tx: &mut Tx, ou: OuId, repos: &[Option<RepoId>]) -> Result<()> {
    if tx.dialect() != Dialect::Postgres {
        return Ok(());
    }
    if repos.contains(&None) {
        lock_unit(tx, ou).await?;
    } else {
        tx.all("SELECT id FROM ous WHERE id = $1 FOR SHARE", args![ou]).await?;
    }
    // In numerical order, to avoid deadlocks.
    let repos: BTreeSet<RepoId> = repos.iter().copied().flatten().collect();
    for repo in repos {
        tx.all("SELECT id FROM delivery_repos WHERE id = $1 FOR NO KEY UPDATE", args![repo]).await?;
    }
    Ok(())
}

/// The same, for work on changes in every repository of the unit, such as updating their authors.
pub async fn lock_unit(tx: &mut Tx, ou: OuId) -> Result<()> {
    if tx.dialect() == Dialect::Postgres {
        tx.all("SELECT id FROM ous WHERE id = $1 FOR NO KEY UPDATE", args![ou]).await?;
    }
    Ok(())
}

/// Attributes a batch of a repository's deployments, after one in order of their time. Returns the last of them.
pub async fn attribute_some(
    tx: &mut Tx,
    repo: RepoId,
    (time, id): (Timestamp, DeploymentId),
    count: i64,
    now: Timestamp,
) -> Result<Option<(Timestamp, DeploymentId)>> {
    // Includes those that list commits of this repository without naming it.
    let rows = tx
        .all(
            deployments!(
                "WHERE (d.repo_id = $1 OR (d.repo_id IS NULL AND d.merge_commit_shas IS NOT NULL \
                 AND d.ou_id = (SELECT ou_id FROM delivery_repos WHERE id = $1))) \
                 AND (d.attributed_at IS NOT NULL OR d.attribute_until > $2) \
                 AND (d.deployed_at > $3 OR (d.deployed_at = $3 AND d.id > $4)) ORDER BY d.deployed_at, d.id LIMIT $5"
            ),
            args![repo, now, time, id, count],
        )
        .await?;
    let mut last = None;
    for row in &rows {
        let deployment = Deployment::from_row(row)?;
        last = Some((deployment.deployed_at, deployment.id));
        retry(tx, deployment, now).await?;
    }
    Ok(last)
}

pub fn retry_window_start(now: Timestamp) -> Timestamp {
    clock::from_micros(now.as_microsecond() + i64::try_from(RETRY_WINDOW.as_micros()).unwrap_or(i64::MAX))
}

pub const ATTRIBUTION: KindSpec = KindSpec {
    retry: Retry { attempts: 3, backoff: Duration::from_secs(30) },
    time_limit: Some(Duration::from_secs(3_600)),
    ..KindSpec::new("attribution", Category::System)
};

/// Executes runs of kind `attribution`: attributes the deployments of the last days again.
pub struct RetryAttribution(pub Delivery);

/// Retries for the whole `RETRY_WINDOW`.
pub const EVERY_QUARTER: &str = "*/15 * * * *";

/// How many deployments are processed at the same time.
const MAX_PER_RUN: i64 = 50;

impl Executor for RetryAttribution {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let estate = self.0.estate();
            moving::move_all(&self.0).await?;
            let mut after = 0_i64;
            loop {
                if job.token().is_cancelled() {
                    return Err(Failure::cancelled());
                }
                let now = estate.now();
                let waiting = waiting(&mut estate.store().read().await?, after, now).await?;
                let Some(last) = waiting.last() else { return Ok(Done::default()) };
                after = last.id.0;
                // Each in a separate transaction: on PostgreSQL each waits only for its own repository.
                let retries = waiting
                    .into_iter()
                    .map(|waits| estate.store().write(move |tx| Box::pin(retry_one(tx, waits, now))));
                try_join_all(retries).await?;
            }
        })
    }
}

/// Some deployments that have not matched anything yet, after a given id.
async fn waiting(conn: &mut Conn, after: i64, now: Timestamp) -> Result<Vec<Deployment>> {
    let rows = conn
        .all(
            deployments!(
                "WHERE d.attributed_at IS NULL AND d.attribute_until > $1 AND d.id > $2 AND d.success = 1 \
                 AND (d.repo_id IS NOT NULL OR d.merge_commit_shas IS NOT NULL) ORDER BY d.id LIMIT $3"
            ),
            args![now, after, MAX_PER_RUN],
        )
        .await?;
    rows.iter().map(Deployment::from_row).collect()
}

async fn retry_one(tx: &mut Tx, waits: Deployment, now: Timestamp) -> Result<()> {
    lock_repositories(tx, waits.ou, &[waits.repo]).await?;
    // It may have changed since it was selected.
    let row = tx.opt(deployments!("WHERE d.id = $1 AND d.attributed_at IS NULL"), args![waits.id]).await?;
    match row {
        Some(row) => retry(tx, Deployment::from_row(&row)?, now).await,
        None => Ok(()),
    }
}
