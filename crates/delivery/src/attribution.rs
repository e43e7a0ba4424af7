//! Which deployment a change went out with.
//!
//! Within a target (a service deployed from a repository into an environment) a change belongs to the first successful
//! deployment, by the time it was deployed, that covers it. A deployment covers either the changes of one line of
//! development that landed up to its position, or just the commits that it lists. That is a function of the facts
//! alone, whatever the order in which they arrive: `bring` applies it for a deployment, `settle` for a change.

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, ChangeId, DeploymentId, OuId, RepoId, ScheduleId, ServiceId, TargetId};
use landreeve_core::{Error, Result, RunKind, clock};
use landreeve_estate::args;
use landreeve_estate::runs::{Done, Executor, Failure, Job, Outcome};
use landreeve_estate::schedules::{self, Schedule};
use landreeve_estate::store::{Conn, Row, Tx, next_in};

use crate::Delivery;
use crate::sha::Sha;

macro_rules! subject {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.ou_id, d.service_id, d.repo_id, d.target_id, d.environment, d.deployed_at, d.success, \
             d.commit_sha, d.merge_commit_shas, d.integration_branch, d.line, d.position FROM delivery_deployments d ",
            $rest
        )
    };
}

/// How long an attribution is tried again: changes may be told of later than their deployment.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3 * 86_400);
/// Clocks differ: so much later than its deployment a change may have landed, in microseconds.
const SKEW: i64 = 86_400_000_000;

/// What attribution needs to know of a deployment.
#[derive(Debug, Clone)]
pub struct Subject {
    pub id: DeploymentId,
    pub ou: OuId,
    pub service: ServiceId,
    pub repo: Option<RepoId>,
    pub target: Option<TargetId>,
    pub environment: String,
    pub deployed_at: Timestamp,
    pub success: bool,
    pub commit_sha: Option<Sha>,
    pub listed: Vec<Sha>,
    pub integration_branch: Option<String>,
    pub place: Option<Place>,
}

/// Changes of this line that landed up to here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub line: String,
    /// Microseconds since 1970.
    pub position: i64,
}

/// The line of a branch: the default branch is the empty one, however it is called.
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

/// Finds where a deployment stands. `None`: not yet, because the commit is not known or there is no repository. A short
/// hash that may be several commits is an error.
pub async fn place(conn: &mut Conn, subject: &Subject) -> Result<Option<Place>> {
    let Some(repo) = subject.repo.filter(|_| subject.listed.is_empty()) else { return Ok(None) };
    let line = match &subject.integration_branch {
        Some(branch) => Some(line_in(conn, repo, branch).await?),
        None => None,
    };
    let deployed = subject.deployed_at.as_microsecond();
    let Some(sha) = &subject.commit_sha else {
        return Ok(Some(Place { line: line.unwrap_or_default(), position: deployed }));
    };
    let found = by_sha(conn, repo, sha, line.as_deref()).await?;
    Ok(found.and_then(|found| {
        let landed = found.landed_at?;
        // A change that landed long after the deployment cannot be in it, whatever its hash says.
        Some(Place { line: line.unwrap_or(found.line), position: landed.min(deployed.saturating_add(SKEW)) })
    }))
}

/// A change that a hash names.
#[derive(Debug, Clone)]
struct Named {
    id: ChangeId,
    line: String,
    landed_at: Option<i64>,
}

/// The change that a commit is, or is in: of several lines the wanted one, else the default branch.
async fn by_sha(conn: &mut Conn, repo: RepoId, sha: &Sha, wanted: Option<&str>) -> Result<Option<Named>> {
    let (from, until) = sha.range();
    let rows = conn
        .all(
            "SELECT COALESCE(w.id, c.id), c.sha, COALESCE(w.line, c.line), \
             CASE WHEN w.id IS NULL THEN c.landed_at ELSE w.landed_at END, c.part_of \
             FROM delivery_changes c LEFT JOIN delivery_changes w ON w.id = c.part_of \
             WHERE c.repo_id = $1 AND c.sha >= $2 AND c.sha < $3 \
             UNION ALL \
             SELECT c.id, p.sha, c.line, c.landed_at, c.id FROM delivery_pull_commits p \
             JOIN delivery_changes c ON c.id = p.change_id WHERE p.repo_id = $1 AND p.sha >= $2 AND p.sha < $3",
            args![repo, from, until],
        )
        .await?;
    let mut commits: Vec<Sha> = Vec::new();
    let mut found: Vec<(bool, bool, Named)> = Vec::new();
    for row in &rows {
        let known = Sha::kept(row.text(1)?);
        if !known.matches(sha) {
            continue;
        }
        match commits.iter_mut().find(|other| other.matches(&known)) {
            Some(other) if other.as_str().len() < known.as_str().len() => *other = known,
            Some(_) => {}
            None => commits.push(known),
        }
        let named = Named { id: row.id(0)?, line: row.text(2)?, landed_at: row.int_opt(3)? };
        let elsewhere = named.line != wanted.unwrap_or_default();
        found.push((named.landed_at.is_none(), elsewhere, named));
    }
    if let [first, second, ..] = commits.as_slice() {
        let message = format!("may be {} or {}: send more digits", first.as_str(), second.as_str());
        return Err(Error::fault("commit_sha", "ambiguous", message));
    }
    // What has landed goes first, then the line that is wanted.
    found.sort_by_key(|(open, elsewhere, named)| (*open, *elsewhere, named.id));
    Ok(found.into_iter().next().map(|(_, _, named)| named))
}

/// Inserts attributions. Of those deployments that may have a change, the first by its time has it.
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

/// Attributes to a deployment, which has its row already, everything that it covers. `false`: nothing matched yet.
pub async fn bring(tx: &mut Tx, subject: &Subject, now: Timestamp) -> Result<bool> {
    if !subject.success {
        return Ok(false);
    }
    let mut matched = subject.commit_sha.is_some() && subject.place.is_some();
    if let (Some(place), Some(target)) = (&subject.place, subject.target) {
        matched |= bring_up_to(tx, subject, target, place).await? > 0;
    }
    for sha in &subject.listed {
        matched |= bring_listed(tx, subject, sha).await?;
    }
    if matched {
        tx.exec(
            "UPDATE delivery_deployments SET attributed_at = COALESCE(attributed_at, $2) WHERE id = $1",
            args![subject.id, now],
        )
        .await?;
        set_team(tx, subject.id).await?;
    }
    Ok(matched)
}

async fn bring_up_to(tx: &mut Tx, subject: &Subject, target: TargetId, place: &Place) -> Result<u64> {
    // Everything up to the position of a deployment before this one belongs to that or to an earlier one.
    let before = tx
        .opt(
            "SELECT position FROM delivery_deployments WHERE target_id = $1 AND line = $2 AND success = 1 \
             AND position IS NOT NULL AND (deployed_at < $3 OR (deployed_at = $3 AND id < $4)) \
             ORDER BY position DESC LIMIT 1",
            args![target, &place.line, subject.deployed_at, subject.id],
        )
        .await?;
    let low = match before {
        Some(row) => row.int(0)?,
        None => i64::MIN,
    };
    tx.exec(
        attribute!("c.repo_id = $5 AND c.line = $6 AND c.landed_at > $7 AND c.landed_at <= $8"),
        args![
            target,
            subject.id,
            subject.service,
            subject.deployed_at,
            subject.repo,
            &place.line,
            low,
            place.position
        ],
    )
    .await
}

/// The changes that one listed hash names, in any repository of the unit when none is given.
async fn bring_listed(tx: &mut Tx, subject: &Subject, sha: &Sha) -> Result<bool> {
    let mut matched = false;
    let changes: Vec<(ChangeId, RepoId)> = match subject.repo {
        Some(repo) => {
            let named = by_sha(tx, repo, sha, None).await?;
            named.into_iter().map(|named| (named.id, repo)).collect()
        }
        None => {
            let (from, until) = sha.range();
            let sql = "SELECT id, repo_id, sha FROM delivery_changes \
                       WHERE kind = 'pull' AND sha >= $1 AND sha < $2 AND ou_id = $3";
            let rows = tx.all(sql, args![from, until, subject.ou]).await?;
            let mut found = Vec::new();
            for row in &rows {
                if Sha::kept(row.text(2)?).matches(sha) {
                    found.push((row.id(0)?, row.id(1)?));
                }
            }
            found
        }
    };
    for (change, repo) in changes {
        let target = target_in(tx, repo, subject.service, &subject.environment).await?;
        matched |= attribute_one(tx, change, target, subject).await? > 0;
    }
    Ok(matched)
}

async fn attribute_one(tx: &mut Tx, change: ChangeId, target: TargetId, subject: &Subject) -> Result<u64> {
    tx.exec(attribute!("c.id = $5"), args![target, subject.id, subject.service, subject.deployed_at, change])
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

/// A deployment is its newest change's team's.
async fn set_team(tx: &mut Tx, deployment: DeploymentId) -> Result<()> {
    tx.exec(
        "UPDATE delivery_deployments SET team_id = (SELECT c.team_id FROM delivery_change_deployments c \
         WHERE c.deployment_id = $1 AND c.team_id IS NOT NULL ORDER BY c.landed_at DESC LIMIT 1) WHERE id = $1",
        args![deployment],
    )
    .await
    .map(drop)
}

/// Takes everything from a deployment that changed, and gives it to whoever is next.
pub async fn release(tx: &mut Tx, deployment: DeploymentId, now: Timestamp) -> Result<()> {
    let sql = "SELECT change_id FROM delivery_change_deployments WHERE deployment_id = $1";
    let held = tx.all(sql, args![deployment]).await?;
    tx.exec("DELETE FROM delivery_change_deployments WHERE deployment_id = $1", args![deployment]).await?;
    tx.exec(
        "UPDATE delivery_deployments SET attributed_at = NULL, team_id = NULL WHERE id = $1",
        args![deployment],
    )
    .await?;
    for row in &held {
        settle(tx, row.id(0)?, now).await?;
    }
    Ok(())
}

/// Gives a change to the deployments that cover it, after the change or what it belongs to has changed.
pub async fn settle(tx: &mut Tx, change: ChangeId, now: Timestamp) -> Result<()> {
    let sql = "SELECT repo_id, ou_id, sha, line, landed_at, part_of FROM delivery_changes WHERE id = $1";
    let row = tx.one(sql, args![change]).await?;
    let (repo, ou): (RepoId, OuId) = (row.id(0)?, row.id(1)?);
    let before = tx
        .all("SELECT deployment_id FROM delivery_change_deployments WHERE change_id = $1", args![change])
        .await?;
    tx.exec("DELETE FROM delivery_change_deployments WHERE change_id = $1", args![change]).await?;
    let mut touched = before.iter().map(|row| row.id(0)).collect::<Result<Vec<DeploymentId>>>()?;
    if let (Some(landed), None) = (row.int_opt(4)?, row.int_opt(5)?) {
        let line = row.text(3)?;
        for subject in covering(tx, repo, &line, landed).await? {
            touched.push(subject.id);
            if let Some(target) = subject.target {
                attribute_one(tx, change, target, &subject).await?;
            }
        }
        if let Some(sha) = row.text_opt(2)?.map(Sha::kept) {
            for subject in listing(tx, ou, repo, &sha).await? {
                touched.push(subject.id);
                let target = target_in(tx, repo, subject.service, &subject.environment).await?;
                attribute_one(tx, change, target, &subject).await?;
            }
        }
        for deployment in &touched {
            let sql =
                "UPDATE delivery_deployments SET attributed_at = $2 WHERE id = $1 AND attributed_at IS NULL";
            tx.exec(sql, args![*deployment, now]).await?;
        }
    }
    for deployment in touched {
        set_team(tx, deployment).await?;
    }
    Ok(())
}

/// Of each target of the repository, the first deployment that covers the line up to there.
async fn covering(tx: &mut Tx, repo: RepoId, line: &str, landed: i64) -> Result<Vec<Subject>> {
    let targets = tx.all("SELECT id FROM delivery_targets WHERE repo_id = $1", args![repo]).await?;
    let mut found = Vec::new();
    for target in &targets {
        let first = tx
            .opt(
                subject!(
                    "WHERE d.target_id = $1 AND d.line = $2 AND d.success = 1 AND d.position >= $3 \
                     AND d.deployed_at >= $4 ORDER BY d.deployed_at, d.id LIMIT 1"
                ),
                args![target.int(0)?, line, landed, landed.saturating_sub(SKEW)],
            )
            .await?;
        found.extend(first.as_ref().map(subject_of).transpose()?);
    }
    Ok(found)
}

/// Every deployment that lists the commit.
async fn listing(tx: &mut Tx, ou: OuId, repo: RepoId, sha: &Sha) -> Result<Vec<Subject>> {
    let (from, until) = sha.range();
    let rows = tx
        .all(
            subject!(
                "JOIN delivery_deployment_shas s ON s.deployment_id = d.id WHERE s.sha >= $1 AND s.sha < $2 \
                 AND d.ou_id = $3 AND d.success = 1 AND (d.repo_id IS NULL OR d.repo_id = $4)"
            ),
            args![from, until, ou, repo],
        )
        .await?;
    let mut found = rows.iter().map(subject_of).collect::<Result<Vec<_>>>()?;
    found.retain(|subject| subject.listed.iter().any(|listed| listed.matches(sha)));
    Ok(found)
}

/// Deployments of the repository that wait for their commit, now that others have arrived.
pub async fn retry_waiting(tx: &mut Tx, repo: RepoId, now: Timestamp) -> Result<()> {
    let rows = tx
        .all(
            subject!(
                "WHERE d.repo_id = $1 AND d.attributed_at IS NULL AND d.attribute_until > $2 \
                 AND d.commit_sha IS NOT NULL AND d.success = 1 ORDER BY d.deployed_at, d.id"
            ),
            args![repo, now],
        )
        .await?;
    for row in &rows {
        retry(tx, subject_of(row)?, now).await?;
    }
    Ok(())
}

/// Looks again for what a deployment covers.
async fn retry(tx: &mut Tx, mut subject: Subject, now: Timestamp) -> Result<()> {
    if subject.place.is_none() {
        // A hash that has become ambiguous waits on.
        subject.place = place(tx, &subject).await.or_else(|error| match error.kind {
            landreeve_core::ErrorKind::Invalid => Ok(None),
            _ => Err(error),
        })?;
        if let Some(place) = &subject.place {
            let sql = "UPDATE delivery_deployments SET line = $2, position = $3 WHERE id = $1";
            tx.exec(sql, args![subject.id, &place.line, place.position]).await?;
        }
    }
    bring(tx, &subject, now).await.map(drop)
}

pub fn subject_of(row: &Row) -> Result<Subject> {
    let listed: Vec<String> = match row.text_opt(9)? {
        Some(json) => serde_json::from_str(&json).map_err(Error::internal)?,
        None => Vec::new(),
    };
    let place = row.text_opt(11)?.zip(row.int_opt(12)?);
    Ok(Subject {
        id: row.id(0)?,
        ou: row.id(1)?,
        service: row.id(2)?,
        repo: row.id_opt(3)?,
        target: row.id_opt(4)?,
        environment: row.text(5)?,
        deployed_at: row.time(6)?,
        success: row.flag(7)?,
        commit_sha: row.text_opt(8)?.map(Sha::kept),
        listed: listed.into_iter().map(Sha::kept).collect(),
        integration_branch: row.text_opt(10)?,
        place: place.map(|(line, position)| Place { line, position }),
    })
}

/// The default branch is another one: lines are named anew, and everything of the repository is attributed anew.
pub async fn move_lines(tx: &mut Tx, repo: RepoId, now: Timestamp) -> Result<()> {
    let sql = "SELECT default_branch FROM delivery_repos WHERE id = $1";
    let default = tx.one(sql, args![repo]).await?.text_opt(0)?;
    let sql = "SELECT DISTINCT branch FROM delivery_changes WHERE repo_id = $1";
    for row in &tx.all(sql, args![repo]).await? {
        let branch = row.text(0)?;
        // Commits that came without a branch are on the default branch, whichever it is.
        let moved = if branch.is_empty() { branch.clone() } else { line(&branch, default.as_deref()) };
        let sql = "UPDATE delivery_changes SET line = $3 WHERE repo_id = $1 AND branch = $2";
        tx.exec(sql, args![repo, branch, moved]).await?;
    }
    tx.exec(
        "DELETE FROM delivery_change_deployments WHERE target_id IN \
         (SELECT id FROM delivery_targets WHERE repo_id = $1)",
        args![repo],
    )
    .await?;
    // A commit that was told of with and without the name of the branch is on one line twice now.
    tx.exec(
        "DELETE FROM delivery_changes WHERE repo_id = $1 AND kind = 'commit' AND line = '' AND EXISTS \
         (SELECT 1 FROM delivery_changes o WHERE o.repo_id = $1 AND o.kind = 'commit' AND o.line = '' \
         AND o.sha = delivery_changes.sha AND o.id < delivery_changes.id)",
        args![repo],
    )
    .await?;
    tx.exec(
        "UPDATE delivery_deployments SET line = NULL, position = NULL, attributed_at = NULL, team_id = NULL \
         WHERE repo_id = $1",
        args![repo],
    )
    .await?;
    let rows = tx.all(subject!("WHERE d.repo_id = $1 ORDER BY d.deployed_at, d.id"), args![repo]).await?;
    for row in &rows {
        retry(tx, subject_of(row)?, now).await?;
    }
    // Deployments that list commits of this repository without naming it.
    let rows = tx
        .all(
            subject!(
                "WHERE d.repo_id IS NULL AND d.merge_commit_shas IS NOT NULL \
                 AND d.ou_id = (SELECT ou_id FROM delivery_repos WHERE id = $1) ORDER BY d.deployed_at, d.id"
            ),
            args![repo],
        )
        .await?;
    for row in &rows {
        retry(tx, subject_of(row)?, now).await?;
    }
    Ok(())
}

pub fn patience_from(now: Timestamp) -> Timestamp {
    clock::from_micros(now.as_microsecond() + i64::try_from(PATIENCE.as_micros()).unwrap_or(i64::MAX))
}

/// Executes runs of kind `attribution`: looks again for what deployments of the last days brought.
pub struct RetryAttribution(pub Delivery);

/// The schedule that looks again, for as long as `PATIENCE` lasts.
pub async fn schedule(plane: &Delivery) -> Result<()> {
    const EVERY_QUARTER: &str = "*/15 * * * *";
    let estate = plane.estate();
    let schedule = Schedule {
        id: estate.next(ScheduleId::KIND).await?,
        name: "attribution".to_owned(),
        run_kind: RunKind::Attribution,
        cron: EVERY_QUARTER.to_owned(),
        time_zone: "UTC".to_owned(),
        input: r#"{"version":1}"#.to_owned(),
        noun: None,
        ou: OuId::ROOT,
        next_at: schedules::next_time(EVERY_QUARTER, "UTC", estate.now())?,
    };
    estate.store().write(move |tx| Box::pin(async move { schedules::put(tx, &schedule).await })).await
}

/// How many deployments are looked at in one transaction.
const AT_ONCE: i64 = 50;

impl Executor for RetryAttribution {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let estate = self.0.estate();
            let mut after = 0_i64;
            loop {
                if job.token().is_cancelled() {
                    return Err(Failure::cancelled());
                }
                let now = estate.now();
                let next = estate.store().write(move |tx| Box::pin(retry_some(tx, after, now))).await?;
                let Some(next) = next else { return Ok(Done::default()) };
                after = next;
            }
        })
    }
}

/// One transaction's worth. Gives the last deployment looked at, or `None` when there are no more.
async fn retry_some(tx: &mut Tx, after: i64, now: Timestamp) -> Result<Option<i64>> {
    let rows = tx
        .all(
            subject!(
                "WHERE d.attributed_at IS NULL AND d.attribute_until > $1 AND d.id > $2 AND d.success = 1 \
                 AND (d.repo_id IS NOT NULL OR d.merge_commit_shas IS NOT NULL) ORDER BY d.id LIMIT $3"
            ),
            args![now, after, AT_ONCE],
        )
        .await?;
    let mut last = None;
    for row in &rows {
        let subject = subject_of(row)?;
        last = Some(subject.id.0);
        retry(tx, subject, now).await?;
    }
    Ok(last)
}
