//! Explains in a sentence how the changes of a deployment were found, or why there are none.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landreeve_core::Result;
use landreeve_estate::args;
use landreeve_estate::store::{Conn, Row};

use crate::attribution;
use crate::deployment::{Deployment, Place};
use crate::ids::{RepoId, TargetId};
use crate::sha::{Sha, same};

/// What else is known about the deployment.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Number of changes attributed to it.
    pub count: u64,
    pub attributed: bool,
    /// The search for changes has not ended.
    pub waits: bool,
    pub now: Timestamp,
}

pub async fn sentence(conn: &mut Conn, deployment: &Deployment, found: Found) -> Result<String> {
    if !deployment.success {
        return Ok("The deployment failed, so it has no changes.".to_owned());
    }
    if !deployment.listed.is_empty() {
        return listed(conn, deployment, found).await;
    }
    let Some(repo) = deployment.repo else {
        return Ok("The deployment has neither a repository nor merge commits, so no changes can be found."
            .to_owned());
    };
    match &deployment.place {
        Some(place) => placed(conn, deployment, place, found).await,
        None => unplaced(conn, deployment, repo, found).await,
    }
}

/// What was not found, and whether the search goes on.
fn unknown(what: &str, waits: bool) -> String {
    if waits {
        format!("{what} is known yet. {}", until(waits))
    } else {
        format!("{what} was known in time. {}", until(waits))
    }
}

fn until(waits: bool) -> &'static str {
    if waits {
        "The server keeps looking for three days after the deployment was recorded."
    } else {
        "Three days have passed, so the server has stopped looking; update the deployment to search again."
    }
}

fn more_digits(sha: &Sha, (one, other): &(Sha, Sha)) -> String {
    let (sha, one, other) = (sha.as_str(), one.as_str(), other.as_str());
    format!("{sha} is ambiguous: it matches {one} and {other}. Update the deployment with more digits.")
}

async fn unplaced(conn: &mut Conn, deployment: &Deployment, repo: RepoId, found: Found) -> Result<String> {
    if let Some(sha) = &deployment.commit_sha
        && let Some(two) = attribution::unclear(conn, repo, sha).await?
    {
        return Ok(more_digits(sha, &two));
    }
    let sha = deployment.commit_sha.as_ref().map_or("", Sha::as_str);
    let what = format!("No merged pull request or pushed commit {sha} in the repository");
    Ok(unknown(&what, found.waits))
}

async fn placed(conn: &mut Conn, deployment: &Deployment, place: &Place, found: Found) -> Result<String> {
    let line = match place.line.as_str() {
        "" => "the default branch".to_owned(),
        line => format!("the branch {line:?}"),
    };
    let up_to = match &deployment.commit_sha {
        Some(sha) => format!("up to the commit {}", sha.as_str()),
        None => "up to the time of the deployment".to_owned(),
    };
    if found.count > 0 {
        return Ok(format!("{} changes on {line} {up_to} that were not deployed before.", found.count));
    }
    let elsewhere = match deployment.target {
        Some(target) => bound_elsewhere(conn, deployment, target, place, found.now).await?,
        None => 0,
    };
    let why = match elsewhere {
        0 if found.attributed => format!("Everything on {line} {up_to} had already been deployed."),
        0 => format!("There was nothing left to deploy on {line} {up_to}."),
        1 => format!("The only change left to deploy on {line} {up_to} belongs to other services."),
        many => {
            format!("The {many} changes left to deploy on {line} {up_to} belong to other services.")
        }
    };
    Ok(if found.attributed { why } else { format!("{why} {}", until(found.waits)) })
}

/// Whether the change `c` belongs to services other than $3.
macro_rules! elsewhere {
    () => {
        "EXISTS (SELECT 1 FROM delivery_pull_services s WHERE s.change_id = c.id) AND NOT EXISTS \
         (SELECT 1 FROM delivery_pull_services s WHERE s.change_id = c.id AND s.service_id = $3)"
    };
}

/// How many changes the deployment would have if they did not belong to other services.
async fn bound_elsewhere(
    conn: &mut Conn,
    deployment: &Deployment,
    target: TargetId,
    place: &Place,
    now: Timestamp,
) -> Result<i64> {
    let low = attribution::covered_before(conn, deployment, target, place, now).await?;
    let row = conn
        .one(
            concat!(
                "SELECT count(*) FROM delivery_changes c WHERE c.repo_id = $1 AND c.line = $2 \
                 AND c.landed_at > $4 AND c.landed_at <= $5 AND c.part_of IS NULL AND ",
                elsewhere!()
            ),
            args![deployment.repo, &place.line, deployment.service, low, place.position],
        )
        .await?;
    row.int(0)
}

/// Selects, for each hash in a deployment's list and each commit that it may be: whether its change belongs to other
/// services, and whether it is attributed to a deployment of the same service to the same environment.
macro_rules! listed {
    ($commit:literal, $from:expr) => {
        concat!(
            "SELECT l.sha, ",
            $commit,
            ", CAST(CASE WHEN c.landed_at IS NOT NULL AND ",
            elsewhere!(),
            " THEN 1 ELSE 0 END AS BIGINT), CAST(CASE WHEN EXISTS (SELECT 1 FROM delivery_change_deployments a \
             JOIN delivery_targets t ON t.id = a.target_id WHERE a.change_id = c.id AND t.service_id = $3 \
             AND t.environment = $4) THEN 1 ELSE 0 END AS BIGINT) FROM delivery_deployment_shas l JOIN ",
            $from,
            " WHERE l.deployment_id = $1"
        )
    };
}

async fn listed(conn: &mut Conn, deployment: &Deployment, found: Found) -> Result<String> {
    let scope = deployment.repo.map_or(deployment.ou.0, |repo| repo.0);
    let sql = match deployment.repo {
        Some(_) => concat!(
            listed!(
                "c.sha",
                concat!(
                    "delivery_changes c ON c.repo_id = $2 AND c.part_of IS NULL AND ",
                    same!("l.sha", "c.sha")
                )
            ),
            " UNION ALL ",
            listed!(
                "p.sha",
                concat!(
                    "delivery_pull_commits p ON p.repo_id = $2 AND ",
                    same!("l.sha", "p.sha"),
                    " JOIN delivery_changes c ON c.id = p.change_id"
                )
            )
        ),
        None => listed!(
            "c.sha",
            concat!("delivery_changes c ON c.kind = 'pull' AND +c.ou_id = $2 AND ", same!("l.sha", "c.sha"))
        ),
    };
    let rows =
        conn.all(sql, args![deployment.id, scope, deployment.service, &deployment.environment]).await?;
    let mut by_hash: BTreeMap<Sha, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        by_hash.entry(Sha::kept(row.text(0)?)).or_default().push(row);
    }
    let (mut elsewhere, mut before, mut unclear) = (false, false, None);
    for (sha, rows) in by_hash {
        let commits = rows.iter().map(|row| Ok(Sha::kept(row.text(1)?))).collect::<Result<_>>()?;
        if let Some(two) = attribution::several(commits) {
            unclear = unclear.or(Some(more_digits(&sha, &two)));
            continue;
        }
        for row in rows {
            elsewhere |= row.flag(2)?;
            before |= row.flag(3)?;
        }
    }
    let why = match (found.count, before, elsewhere) {
        (1.., _, _) => format!("{} changes whose commits the deployment lists.", found.count),
        (0, true, false) => "The commits that the deployment lists had already been deployed.".to_owned(),
        (0, false, true) => "The commits that the deployment lists belong to other services.".to_owned(),
        (0, true, true) => {
            "The commits that the deployment lists had already been deployed or belong to other services."
                .to_owned()
        }
        // Every listed hash is ambiguous.
        (0, false, false) if unclear.is_some() => String::new(),
        (0, false, false) => unknown("None of the commits that the deployment lists", found.waits),
    };
    Ok([why].into_iter().filter(|why| !why.is_empty()).chain(unclear).collect::<Vec<_>>().join(" "))
}
