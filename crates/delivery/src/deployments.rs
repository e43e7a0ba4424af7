//! Deployments: recording and updating them, and explaining their changes.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, ErrorKind, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Row, Tx};

use crate::attribution;
use crate::deployment::{Deployment, deployment_columns, deployments};
use crate::ids::{ChangeId, DeploymentId, RepoId, ServiceId, TargetId};
use crate::metadata::Metadata;
use crate::names::{Names, ServiceName};
use crate::sha::Sha;
use crate::{Delivery, explain, nouns, text};

/// The environment of a deployment that does not name one.
pub const PRODUCTION: &str = "production";
/// Maximum number of hashes that a deployment can list.
const MAX_SHAS: usize = 10_000;

/// What a client says about a deployment. `None` means left out.
#[derive(Debug, Clone, Default)]
pub struct DeploymentFacts {
    pub deployed_at: Option<Timestamp>,
    pub service: Option<ServiceName>,
    pub repository: Option<String>,
    pub commit_sha: Option<String>,
    pub merge_commit_shas: Option<Vec<String>>,
    pub integration_branch: Option<String>,
    pub environment: Option<String>,
    pub success: Option<bool>,
    pub source_url: Option<String>,
    pub source_name: Option<String>,
    pub metadata: Option<Metadata>,
}

/// The given hashes, parsed.
#[derive(Debug, Clone)]
struct Commits {
    deployed: Option<Sha>,
    listed: Option<Vec<Sha>>,
}

fn check(facts: &DeploymentFacts, now: Timestamp, faults: &mut Faults) -> Commits {
    if let Some(at) = facts.deployed_at {
        text::check_past(faults, "deployed_at", Some(at), now);
        if at.as_microsecond() < 0 {
            faults.push("deployed_at", "range", "must not be before 1970");
        }
    }
    if let Some(service) = &facts.service {
        service.check("service", faults);
    }
    text::check_opt(faults, "repository", facts.repository.as_deref(), text::NAME);
    text::check_opt(faults, "environment", facts.environment.as_deref(), text::NAME);
    text::check_opt(faults, "integration_branch", facts.integration_branch.as_deref(), text::NAME);
    text::check_opt(faults, "source_url", facts.source_url.as_deref(), text::LONG);
    text::check_opt(faults, "source_name", facts.source_name.as_deref(), text::NAME);
    let deployed = facts.commit_sha.as_deref().and_then(|sha| faults.take(Sha::parse("commit_sha", sha)));
    let listed = facts.merge_commit_shas.as_ref();
    let listed = listed.map(|all| Sha::parse_list("merge_commit_shas", all, MAX_SHAS, faults));
    if facts.commit_sha.is_some() && listed.as_ref().is_some_and(|listed| !listed.is_empty()) {
        let message =
            "and merge_commit_shas exclude each other: send the commit that was deployed, or the list";
        faults.push("commit_sha", "exclusive", message);
    }
    Commits { deployed, listed }
}

/// Records a deployment. Sending the same one again succeeds; a different one with its reference is an error with the
/// code `reference_id_taken`.
pub async fn deployment_create(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: Option<String>,
    facts: Input<DeploymentFacts>,
) -> Result<DeploymentId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let (facts, commits) = facts.parsed(|facts, faults| {
        require_new(&facts, faults);
        text::refuse_own(faults, reference.as_deref().unwrap_or_default());
        checked(plane, reference.as_deref(), facts, faults)
    })?;
    let reference = reference.unwrap_or_else(|| plane.estate().uuid().to_string());
    write(plane, ctx, Write { reference, facts, commits, create: true, update: false, origin: API }).await
}

/// Updates a deployment that a client recorded.
pub async fn deployment_update(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: Input<DeploymentFacts>,
) -> Result<DeploymentId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let (facts, commits) = facts.parsed(|facts, faults| checked(plane, Some(&reference), facts, faults))?;
    write(plane, ctx, Write { reference, facts, commits, create: false, update: true, origin: API }).await
}

/// Updates a deployment, or records it if its reference is new.
pub async fn deployment_upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: Input<DeploymentFacts>,
) -> Result<DeploymentId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let facts = facts.noted(|faults| text::refuse_own(faults, &reference));
    let (facts, commits) = facts.parsed(|facts, faults| checked(plane, Some(&reference), facts, faults))?;
    write(plane, ctx, Write { reference, facts, commits, create: true, update: true, origin: API }).await
}

/// Records a deployment from an event.
pub(crate) async fn deployment_by_event(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: DeploymentFacts,
) -> Result<DeploymentId> {
    let facts = Input::from(facts);
    let (facts, commits) = facts.parsed(|facts, faults| checked(plane, Some(&reference), facts, faults))?;
    write(plane, ctx, Write { reference, facts, commits, create: true, update: false, origin: EVENT }).await
}

const API: &str = "api";
const EVENT: &str = "promotion";

fn checked(
    plane: &Delivery,
    reference: Option<&str>,
    facts: DeploymentFacts,
    faults: &mut Faults,
) -> (DeploymentFacts, Commits) {
    if let Some(reference) = reference {
        text::check(faults, "reference_id", reference, text::NAME);
    }
    let commits = check(&facts, plane.estate().now(), faults);
    (facts, commits)
}

fn require_new(facts: &DeploymentFacts, faults: &mut Faults) {
    if facts.deployed_at.is_none() {
        faults.push("deployed_at", "required", "is required");
    }
    if facts.service.is_none() {
        faults.push("service", "required", "is required");
    }
}

#[derive(Clone)]
struct Write {
    reference: String,
    facts: DeploymentFacts,
    commits: Commits,
    create: bool,
    update: bool,
    origin: &'static str,
}

async fn write(plane: &Delivery, ctx: &OpCtx, write: Write) -> Result<DeploymentId> {
    let id = plane.estate().next::<DeploymentId>(DeploymentId::KIND).await?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    let (id, found) = plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let mut names = Names::new(&inner, ou);
                let (id, act) = write_in(&inner, tx, &mut names, ou, id, write).await?;
                Ok(((id, names.found), act))
            })
        })
        .await?;
    plane.known().remember(found);
    Ok(id)
}

async fn write_in(
    plane: &Delivery,
    tx: &mut Tx,
    names: &mut Names<'_>,
    ou: OuId,
    id: DeploymentId,
    write: Write,
) -> Result<(DeploymentId, Option<OwnedAct>)> {
    let now = plane.estate().now();
    // Look for an existing deployment only if the insert is rejected.
    if write.update
        && let Some(old) = load(tx, ou, &write.reference).await?
    {
        return update(tx, names, old, write, now).await;
    }
    if !write.create {
        let message = format!("no deployment has the reference {:?}", write.reference);
        return Err(Error::not_found("deployment").saying(message));
    }
    let mut faults = Faults::default();
    require_new(&write.facts, &mut faults);
    faults.finish()?;
    let mut new = new_one(tx, names, (id, ou), &write).await?;
    if new.repo.is_some() || !new.listed.is_empty() {
        attribution::lock_repositories(tx, ou, &[new.repo]).await?;
    }
    let unclear = match attribution::place(tx, &new).await {
        Ok(place) => {
            new.place = place;
            None
        }
        // A deployment can be sent again even if its hash has become ambiguous since.
        Err(error) if error.kind == ErrorKind::Invalid => Some(error),
        Err(error) => return Err(error),
    };
    if unclear.is_none() && insert(tx, &new, &write.reference, now).await? {
        if new.repo.is_some() || !new.listed.is_empty() {
            attribution::attribute_deployment(tx, &new, now).await?;
        }
        let act = OwnedAct::new("recorded", nouns::DELIVERY, id.0, format!("deployment {}", write.reference));
        return Ok((id, Some(act)));
    }
    let Some(old) = load(tx, ou, &write.reference).await? else {
        return Err(unclear.unwrap_or_else(|| Error::internal("a reference appeared and then disappeared")));
    };
    if write.update {
        // Another node has just recorded it.
        return update(tx, names, old, write, now).await;
    }
    if old.has_values_of(&new) {
        return Ok((old.id, None));
    }
    let message = format!(
        "is taken by a deployment with other values: {}. Send the same values, use another reference, or update it.",
        old.differences(&new).join(", ")
    );
    let fault = landreeve_core::Fault::new("reference_id", "taken", message.clone());
    let error = Error::conflict("reference_id_taken", format!("reference_id {message}"));
    Err(Error { faults: vec![fault], ..error })
}

async fn new_one(
    tx: &mut Tx,
    names: &mut Names<'_>,
    (id, ou): (DeploymentId, OuId),
    write: &Write,
) -> Result<Deployment> {
    let facts = &write.facts;
    let (Some(deployed_at), Some(service)) = (facts.deployed_at, &facts.service) else {
        return Err(Error::internal("a deployment without required values"));
    };
    let service = names.service(tx, service).await?;
    let repo = match &facts.repository {
        Some(name) => Some(names.repo(tx, name).await?),
        None => None,
    };
    let environment = facts.environment.clone().unwrap_or_else(|| PRODUCTION.to_owned());
    Ok(Deployment {
        id,
        ou,
        origin: write.origin.to_owned(),
        service,
        repo,
        target: target(tx, names, repo, service, &environment).await?,
        environment,
        deployed_at,
        success: facts.success.unwrap_or(true),
        commit_sha: write.commits.deployed.clone(),
        listed: write.commits.listed.clone().unwrap_or_default(),
        integration_branch: facts.integration_branch.clone(),
        place: None,
        attributed: false,
        source_url: facts.source_url.clone(),
        source_name: facts.source_name.clone(),
        metadata: facts.metadata.clone(),
    })
}

async fn target(
    tx: &mut Tx,
    names: &mut Names<'_>,
    repo: Option<RepoId>,
    service: ServiceId,
    environment: &str,
) -> Result<Option<TargetId>> {
    match repo {
        Some(repo) => names.target(tx, repo, service, environment).await.map(Some),
        None => Ok(None),
    }
}

/// Returns `false` if the reference already exists.
async fn insert(tx: &mut Tx, new: &Deployment, reference: &str, now: Timestamp) -> Result<bool> {
    let inserted = tx
        .exec_one(
            "INSERT INTO delivery_deployments (id, ou_id, reference_id, origin, service_id, repo_id, target_id, \
             environment, deployed_at, success, commit_sha, merge_commit_shas, integration_branch, source_url, \
             source_name, metadata, line, position, attribute_until, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $20) \
             ON CONFLICT (ou_id, reference_id) DO NOTHING",
            args![
                new.id,
                new.ou,
                reference,
                &new.origin,
                new.service,
                new.repo,
                new.target,
                &new.environment,
                new.deployed_at,
                new.success,
                new.commit_sha.as_ref().map(Sha::as_str),
                listed_json(&new.listed),
                new.integration_branch.clone(),
                new.source_url.clone(),
                new.source_name.clone(),
                new.metadata.as_ref().map(Metadata::as_json),
                new.place.as_ref().map(|place| place.line.clone()),
                new.place.as_ref().map(|place| place.position),
                attribution::retry_window_start(now),
                now,
            ],
        )
        .await?;
    if !inserted {
        return Ok(false);
    }
    put_parts(tx, new).await?;
    Ok(true)
}

fn listed_json(listed: &[Sha]) -> Option<String> {
    let listed: Vec<&str> = listed.iter().map(Sha::as_str).collect();
    (!listed.is_empty()).then(|| serde_json::Value::from(listed).to_string())
}

/// The deployment's rows in other tables.
async fn put_parts(tx: &mut Tx, deployment: &Deployment) -> Result<()> {
    for sha in &deployment.listed {
        let sql = "INSERT INTO delivery_deployment_shas (deployment_id, sha) VALUES ($1, $2)";
        tx.exec_later(sql, args![deployment.id, sha.as_str()]).await?;
    }
    for (key, value) in deployment.metadata.iter().flat_map(Metadata::flat) {
        let sql = "INSERT INTO delivery_deployment_metadata (deployment_id, ou_id, key, value) \
                   VALUES ($1, $2, $3, $4)";
        tx.exec_later(sql, args![deployment.id, deployment.ou, key, value]).await?;
    }
    Ok(())
}

async fn update(
    tx: &mut Tx,
    names: &mut Names<'_>,
    mut old: Deployment,
    write: Write,
    now: Timestamp,
) -> Result<(DeploymentId, Option<OwnedAct>)> {
    if old.origin != API {
        let message = "was recorded by the server and cannot be changed";
        return Err(Error::conflict("deployment_not_editable", format!("the deployment {message}")));
    }
    let (old, mut new) = loop {
        let new = patched(tx, names, &old, &write).await?;
        if new.has_values_of(&old) {
            return Ok((old.id, None));
        }
        // The update returns changes of the old repository and takes changes of the new one.
        attribution::lock_repositories(tx, old.ou, &[old.repo, new.repo]).await?;
        let again = load(tx, old.ou, &write.reference).await?;
        let again = again.ok_or_else(|| Error::internal("a reference appeared and then disappeared"))?;
        if again.has_values_of(&old) {
            break (again, new);
        }
        // Another request changed it while this one waited.
        old = again;
    };
    // Accept values that were accepted before, even if their hash has become ambiguous since.
    let named = new.names_commits_of(&old);
    let place = attribution::place(tx, &new).await;
    new.place = if named { attribution::unclear_is_none(place)? } else { place? };
    for table in [
        "DELETE FROM delivery_deployment_shas WHERE deployment_id = $1",
        "DELETE FROM delivery_deployment_metadata WHERE deployment_id = $1",
    ] {
        tx.exec(table, args![old.id]).await?;
    }
    set(tx, &new, now).await?;
    put_parts(tx, &new).await?;
    // Attribute it again, unless nothing that affects attribution has changed.
    if !new.covers_like(&old) || !old.attributed {
        let sql = "UPDATE delivery_deployments SET attributed_at = NULL WHERE id = $1";
        tx.exec(sql, args![old.id]).await?;
        attribution::unassign(tx, old.id, now).await?;
        if named {
            attribution::attribute_if_clear(tx, new, now).await?;
        } else {
            attribution::attribute_deployment(tx, &new, now).await?;
        }
    }
    let act = OwnedAct::new("updated", nouns::DELIVERY, old.id.0, format!("deployment {}", write.reference));
    Ok((old.id, Some(act)))
}

/// Replaces the stored values with the given ones. A commit and a list of commits exclude each other.
async fn patched(tx: &mut Tx, names: &mut Names<'_>, old: &Deployment, write: &Write) -> Result<Deployment> {
    let facts = &write.facts;
    let mut new = old.clone();
    if let Some(service) = &facts.service {
        new.service = names.service(tx, service).await?;
    }
    if let Some(name) = &facts.repository {
        new.repo = Some(names.repo(tx, name).await?);
    }
    if let Some(sha) = &write.commits.deployed {
        new.commit_sha = Some(sha.clone());
        new.listed.clear();
    }
    if let Some(listed) = &write.commits.listed {
        new.listed.clone_from(listed);
        if !listed.is_empty() {
            new.commit_sha = None;
        }
    }
    new.deployed_at = facts.deployed_at.unwrap_or(new.deployed_at);
    new.success = facts.success.unwrap_or(new.success);
    if let Some(environment) = &facts.environment {
        new.environment.clone_from(environment);
    }
    let replace = |place: &mut Option<String>, given: &Option<String>| {
        if given.is_some() {
            place.clone_from(given);
        }
    };
    replace(&mut new.integration_branch, &facts.integration_branch);
    replace(&mut new.source_url, &facts.source_url);
    replace(&mut new.source_name, &facts.source_name);
    if facts.metadata.is_some() {
        new.metadata.clone_from(&facts.metadata);
    }
    new.target = target(tx, names, new.repo, new.service, &new.environment).await?;
    Ok(new)
}

async fn set(tx: &mut Tx, deployment: &Deployment, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE delivery_deployments SET service_id = $2, repo_id = $3, target_id = $4, environment = $5, \
         deployed_at = $6, success = $7, commit_sha = $8, merge_commit_shas = $9, integration_branch = $10, \
         source_url = $11, source_name = $12, metadata = $13, line = $14, position = $15, attribute_until = $16, \
         updated_at = $17 WHERE id = $1",
        args![
            deployment.id,
            deployment.service,
            deployment.repo,
            deployment.target,
            &deployment.environment,
            deployment.deployed_at,
            deployment.success,
            deployment.commit_sha.as_ref().map(Sha::as_str),
            listed_json(&deployment.listed),
            deployment.integration_branch.clone(),
            deployment.source_url.clone(),
            deployment.source_name.clone(),
            deployment.metadata.as_ref().map(Metadata::as_json),
            deployment.place.as_ref().map(|place| place.line.clone()),
            deployment.place.as_ref().map(|place| place.position),
            attribution::retry_window_start(now),
            now,
        ],
    )
    .await
    .map(drop)
}

async fn load(conn: &mut Conn, ou: OuId, reference: &str) -> Result<Option<Deployment>> {
    let sql = deployments!("WHERE d.ou_id = $1 AND d.reference_id = $2");
    conn.opt(sql, args![ou, reference]).await?.as_ref().map(Deployment::from_row).transpose()
}

/// The changes of a deployment, or why there are none.
#[derive(Debug, Clone)]
pub struct DeploymentInfo {
    pub id: DeploymentId,
    pub reference: String,
    pub service: String,
    pub service_name: String,
    pub repository: Option<String>,
    pub environment: String,
    pub deployed_at: Timestamp,
    pub success: bool,
    pub commit_sha: Option<String>,
    pub merge_commit_shas: Vec<String>,
    pub integration_branch: Option<String>,
    pub source_url: Option<String>,
    pub source_name: Option<String>,
    pub metadata: Option<serde_json::Value>,
    pub attributed_at: Option<Timestamp>,
    /// A sentence: how the changes were found, or what is missing.
    pub attribution: String,
    /// Newest first, at most 100.
    pub changes: Vec<BroughtChange>,
    pub change_count: u64,
}

#[derive(Debug, Clone)]
pub struct BroughtChange {
    pub id: ChangeId,
    pub kind: String,
    pub number: Option<i64>,
    pub sha: Option<String>,
    pub title: Option<String>,
    pub landed_at: Timestamp,
}

pub async fn deployment_info(plane: &Delivery, ctx: &OpCtx, reference: &str) -> Result<DeploymentInfo> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let mut conn = plane.estate().store().read().await?;
    let row = conn
        .opt(
            concat!(
                "SELECT ",
                deployment_columns!(),
                ", s.identifier, s.name, r.name, d.attributed_at, d.attribute_until \
                 FROM delivery_deployments d JOIN delivery_services s ON s.id = d.service_id \
                 LEFT JOIN delivery_repos r ON r.id = d.repo_id WHERE d.ou_id = $1 AND d.reference_id = $2"
            ),
            args![ctx.authority().ou(), reference],
        )
        .await?;
    let row = row.ok_or_else(|| {
        let message = format!("no deployment has the reference {reference:?}");
        Error::not_found("deployment").saying(message)
    })?;
    let now = plane.estate().now();
    let deployment = Deployment::from_row(&row)?;
    let (changes, change_count) = brought(&mut conn, deployment.id).await?;
    let (attributed_at, waits) = (row.time_opt(21)?, row.time(22)? > now);
    let found = explain::Found { count: change_count, attributed: attributed_at.is_some(), waits, now };
    Ok(DeploymentInfo {
        id: deployment.id,
        reference: reference.to_owned(),
        service: row.text(18)?,
        service_name: row.text(19)?,
        repository: row.text_opt(20)?,
        attributed_at,
        attribution: explain::sentence(&mut conn, &deployment, found).await?,
        source_url: deployment.source_url,
        source_name: deployment.source_name,
        metadata: deployment.metadata.map(|metadata| metadata.value()),
        environment: deployment.environment,
        deployed_at: deployment.deployed_at,
        success: deployment.success,
        commit_sha: deployment.commit_sha.map(|sha| sha.as_str().to_owned()),
        merge_commit_shas: deployment.listed.iter().map(|sha| sha.as_str().to_owned()).collect(),
        integration_branch: deployment.integration_branch,
        changes,
        change_count,
    })
}

/// Maximum number of changes shown.
const SHOWN: i64 = 100;

async fn brought(conn: &mut Conn, id: DeploymentId) -> Result<(Vec<BroughtChange>, u64)> {
    let sql = "SELECT count(*) FROM delivery_change_deployments WHERE deployment_id = $1";
    let count = conn.one(sql, args![id]).await?.int(0)?;
    let rows = conn
        .all(
            "SELECT c.id, c.kind, c.number, c.sha, c.title, c.landed_at FROM delivery_change_deployments a \
             JOIN delivery_changes c ON c.id = a.change_id WHERE a.deployment_id = $1 \
             ORDER BY c.landed_at DESC, c.id DESC LIMIT $2",
            args![id, SHOWN],
        )
        .await?;
    let change = |row: &Row| {
        Ok(BroughtChange {
            id: row.id(0)?,
            kind: row.text(1)?,
            number: row.int_opt(2)?,
            sha: row.text_opt(3)?,
            title: row.text_opt(4)?,
            landed_at: row.time(5)?,
        })
    };
    Ok((rows.iter().map(change).collect::<Result<_>>()?, count.unsigned_abs()))
}
