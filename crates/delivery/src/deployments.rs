//! Deployments: record, change, say what one brought.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, ErrorKind, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Row, Tx};

use crate::attribution::{self, Subject};
use crate::ids::{ChangeId, DeploymentId, RepoId, ServiceId};
use crate::metadata::Metadata;
use crate::names::{Names, ServiceName};
use crate::sha::Sha;
use crate::{Delivery, explain, nouns, text};

/// Where a deployment without an environment went.
pub const PRODUCTION: &str = "production";
/// How many hashes a deployment may list.
const MAX_SHAS: usize = 10_000;

/// What somebody says of a deployment. `None` is what was left out.
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

/// The same, checked.
#[derive(Debug, Clone)]
struct Checked {
    facts: DeploymentFacts,
    commit_sha: Option<Sha>,
    listed: Option<Vec<Sha>>,
}

/// A deployment as it is kept.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    service: ServiceId,
    repo: Option<RepoId>,
    environment: String,
    deployed_at: Timestamp,
    success: bool,
    commit_sha: Option<Sha>,
    listed: Vec<Sha>,
    integration_branch: Option<String>,
    source_url: Option<String>,
    source_name: Option<String>,
    metadata: Option<Metadata>,
}

fn check(facts: DeploymentFacts, now: Timestamp, faults: &mut Faults) -> Checked {
    if let Some(at) = facts.deployed_at {
        text::check_past(faults, "deployed_at", Some(at), now);
        if at.as_microsecond() < 0 {
            faults.push("deployed_at", "range", "must not lie before 1970");
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
    let commit_sha = facts.commit_sha.as_deref().and_then(|sha| faults.take(Sha::parse("commit_sha", sha)));
    let listed = facts.merge_commit_shas.as_ref();
    let listed = listed.map(|all| Sha::parse_list("merge_commit_shas", all, MAX_SHAS, faults));
    if facts.commit_sha.is_some() && listed.as_ref().is_some_and(|listed| !listed.is_empty()) {
        let message =
            "and merge_commit_shas exclude each other: send the commit that was deployed, or the list";
        faults.push("commit_sha", "exclusive", message);
    }
    Checked { facts, commit_sha, listed }
}

/// Records a deployment. The same one again is fine; another one under its reference is an error with the code
/// `reference_id_taken`.
pub async fn deployment_create(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: Option<String>,
    facts: Input<DeploymentFacts>,
) -> Result<DeploymentId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let checked = facts.parsed(|facts, faults| {
        require_new(&facts, faults);
        text::refuse_own(faults, reference.as_deref().unwrap_or_default());
        checked(plane, reference.as_deref(), facts, faults)
    })?;
    let reference = reference.unwrap_or_else(|| plane.estate().uuid().to_string());
    write(plane, ctx, Write { reference, checked, create: true, update: false, origin: API }).await
}

/// Changes what is given of a deployment that was recorded through this function's siblings.
pub async fn deployment_update(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: Input<DeploymentFacts>,
) -> Result<DeploymentId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let checked = facts.parsed(|facts, faults| checked(plane, Some(&reference), facts, faults))?;
    write(plane, ctx, Write { reference, checked, create: false, update: true, origin: API }).await
}

/// Changes a deployment, or records it when its reference is new.
pub async fn deployment_upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: Input<DeploymentFacts>,
) -> Result<DeploymentId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let facts = facts.noted(|faults| text::refuse_own(faults, &reference));
    let checked = facts.parsed(|facts, faults| checked(plane, Some(&reference), facts, faults))?;
    write(plane, ctx, Write { reference, checked, create: true, update: true, origin: API }).await
}

/// Records what an event told of.
pub(crate) async fn deployment_by_event(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: DeploymentFacts,
) -> Result<DeploymentId> {
    let facts = Input::from(facts);
    let checked = facts.parsed(|facts, faults| checked(plane, Some(&reference), facts, faults))?;
    write(plane, ctx, Write { reference, checked, create: true, update: false, origin: EVENT }).await
}

const API: &str = "api";
const EVENT: &str = "promotion";

fn checked(
    plane: &Delivery,
    reference: Option<&str>,
    facts: DeploymentFacts,
    faults: &mut Faults,
) -> Checked {
    if let Some(reference) = reference {
        text::check(faults, "reference_id", reference, text::NAME);
    }
    check(facts, plane.estate().now(), faults)
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
    checked: Checked,
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
    // A creation looks for an old one only when its row is refused.
    if write.update
        && let Some(old) = load(tx, ou, &write.reference).await?
    {
        return update(tx, names, old, write, now).await;
    }
    if !write.create {
        let message = format!("there is no deployment with the reference {:?}", write.reference);
        return Err(Error::not_found("deployment").saying(message));
    }
    let mut faults = Faults::default();
    require_new(&write.checked.facts, &mut faults);
    faults.finish()?;
    let kept = new_one(tx, names, &write.checked).await?;
    if kept.repo.is_some() || !kept.listed.is_empty() {
        attribution::lock_repositories(tx, ou, &[kept.repo]).await?;
    }
    let mut subject = subject(names, tx, id, ou, &kept, now).await?;
    let unclear = match attribution::place(tx, &subject).await {
        Ok(place) => {
            subject.place = place;
            None
        }
        // What is there already may be sent again, whatever its hash has come to mean since.
        Err(error) if error.kind == ErrorKind::Invalid => Some(error),
        Err(error) => return Err(error),
    };
    if unclear.is_none() && insert(tx, &subject, &kept, &write, now).await? {
        if subject.repo.is_some() || !subject.listed.is_empty() {
            attribution::attribute_deployment(tx, &subject, now).await?;
        }
        let act = OwnedAct::new("recorded", nouns::DELIVERY, id.0, format!("deployment {}", write.reference));
        return Ok((id, Some(act)));
    }
    let Some(old) = load(tx, ou, &write.reference).await? else {
        return Err(unclear.unwrap_or_else(|| Error::internal("a reference came and went")));
    };
    if write.update {
        // Another node recorded it just now.
        return update(tx, names, old, write, now).await;
    }
    if old.kept == kept {
        return Ok((old.id, None));
    }
    let message = format!(
        "is taken by a deployment with other values: {}. Send the same values, use another reference, or update it.",
        differences(&old.kept, &kept).join(", ")
    );
    let fault = landreeve_core::Fault::new("reference_id", "taken", message.clone());
    let error = Error::conflict("reference_id_taken", format!("reference_id {message}"));
    Err(Error { faults: vec![fault], ..error })
}

/// Which values are not the same, by the names that clients know.
fn differences(old: &Kept, new: &Kept) -> Vec<&'static str> {
    let pairs = [
        ("service", old.service == new.service),
        ("repository", old.repo == new.repo),
        ("environment", old.environment == new.environment),
        ("deployed_at", old.deployed_at == new.deployed_at),
        ("success", old.success == new.success),
        ("commit_sha", old.commit_sha == new.commit_sha),
        ("merge_commit_shas", old.listed == new.listed),
        ("integration_branch", old.integration_branch == new.integration_branch),
        ("source_url", old.source_url == new.source_url),
        ("source_name", old.source_name == new.source_name),
        ("metadata", old.metadata == new.metadata),
    ];
    pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

async fn new_one(tx: &mut Tx, names: &mut Names<'_>, checked: &Checked) -> Result<Kept> {
    let facts = &checked.facts;
    let (Some(deployed_at), Some(service)) = (facts.deployed_at, &facts.service) else {
        return Err(Error::internal("a deployment without what is required"));
    };
    Ok(Kept {
        service: names.service(tx, service).await?,
        repo: match &facts.repository {
            Some(name) => Some(names.repo(tx, name).await?),
            None => None,
        },
        environment: facts.environment.clone().unwrap_or_else(|| PRODUCTION.to_owned()),
        deployed_at,
        success: facts.success.unwrap_or(true),
        commit_sha: checked.commit_sha.clone(),
        listed: checked.listed.clone().unwrap_or_default(),
        integration_branch: facts.integration_branch.clone(),
        source_url: facts.source_url.clone(),
        source_name: facts.source_name.clone(),
        metadata: facts.metadata.clone(),
    })
}

async fn subject(
    names: &mut Names<'_>,
    tx: &mut Tx,
    id: DeploymentId,
    ou: OuId,
    kept: &Kept,
    now: Timestamp,
) -> Result<Subject> {
    let target = match kept.repo {
        Some(repo) => Some(names.target(tx, repo, kept.service, &kept.environment).await?),
        None => None,
    };
    Ok(Subject {
        id,
        ou,
        service: kept.service,
        repo: kept.repo,
        target,
        environment: kept.environment.clone(),
        deployed_at: kept.deployed_at,
        success: kept.success,
        commit_sha: kept.commit_sha.clone(),
        listed: kept.listed.clone(),
        integration_branch: kept.integration_branch.clone(),
        place: None,
        now,
    })
}

/// `false`: there is one of this reference already.
async fn insert(tx: &mut Tx, subject: &Subject, kept: &Kept, write: &Write, now: Timestamp) -> Result<bool> {
    let inserted = tx
        .exec(
            "INSERT INTO delivery_deployments (id, ou_id, reference_id, origin, service_id, repo_id, target_id, \
             environment, deployed_at, success, commit_sha, merge_commit_shas, integration_branch, source_url, \
             source_name, metadata, line, position, attribute_until, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $20) \
             ON CONFLICT (ou_id, reference_id) DO NOTHING",
            args![
                subject.id,
                subject.ou,
                &write.reference,
                write.origin,
                kept.service,
                kept.repo,
                subject.target,
                &kept.environment,
                kept.deployed_at,
                kept.success,
                kept.commit_sha.as_ref().map(Sha::as_str),
                listed_json(&kept.listed),
                kept.integration_branch.clone(),
                kept.source_url.clone(),
                kept.source_name.clone(),
                kept.metadata.as_ref().map(Metadata::as_json),
                subject.place.as_ref().map(|place| place.line.clone()),
                subject.place.as_ref().map(|place| place.position),
                attribution::retry_window_start(now),
                now,
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(false);
    }
    put_parts(tx, subject, kept).await?;
    Ok(true)
}

fn listed_json(listed: &[Sha]) -> Option<String> {
    let listed: Vec<&str> = listed.iter().map(Sha::as_str).collect();
    (!listed.is_empty()).then(|| serde_json::Value::from(listed).to_string())
}

/// The rows beside a deployment's own.
async fn put_parts(tx: &mut Tx, subject: &Subject, kept: &Kept) -> Result<()> {
    for sha in &kept.listed {
        let sql = "INSERT INTO delivery_deployment_shas (deployment_id, sha) VALUES ($1, $2)";
        tx.exec(sql, args![subject.id, sha.as_str()]).await?;
    }
    for (key, value) in kept.metadata.iter().flat_map(Metadata::flat) {
        let sql = "INSERT INTO delivery_deployment_metadata (deployment_id, ou_id, key, value) \
                   VALUES ($1, $2, $3, $4)";
        tx.exec(sql, args![subject.id, subject.ou, key, value]).await?;
    }
    Ok(())
}

async fn update(
    tx: &mut Tx,
    names: &mut Names<'_>,
    mut old: Loaded,
    write: Write,
    now: Timestamp,
) -> Result<(DeploymentId, Option<OwnedAct>)> {
    if old.origin != API {
        let message = "was recorded by the server itself and is not changed from outside";
        return Err(Error::conflict("deployment_not_editable", format!("the deployment {message}")));
    }
    let (old, kept) = loop {
        let kept = patched(tx, names, &old.kept, &write.checked).await?;
        if kept == old.kept {
            return Ok((old.id, None));
        }
        // It gives back changes of the old repository and takes some of the new one.
        attribution::lock_repositories(tx, old.ou, &[old.kept.repo, kept.repo]).await?;
        let again = load(tx, old.ou, &write.reference).await?;
        let again = again.ok_or_else(|| Error::internal("a reference came and went"))?;
        if again.kept == old.kept {
            break (again, kept);
        }
        // Somebody changed it while this waited.
        old = again;
    };
    // What was accepted before is not refused now, only because its hash may be several commits since.
    let brings = (kept.repo, &kept.commit_sha, &kept.listed)
        != (old.kept.repo, &old.kept.commit_sha, &old.kept.listed);
    let mut subject = subject(names, tx, old.id, old.ou, &kept, now).await?;
    let place = attribution::place(tx, &subject).await;
    subject.place = if brings { place? } else { attribution::unclear_is_none(place)? };
    for table in [
        "DELETE FROM delivery_deployment_shas WHERE deployment_id = $1",
        "DELETE FROM delivery_deployment_metadata WHERE deployment_id = $1",
    ] {
        tx.exec(table, args![old.id]).await?;
    }
    set(tx, &subject, &kept, now).await?;
    put_parts(tx, &subject, &kept).await?;
    // What it brought is looked for anew, unless nothing that matters for it has changed.
    let same = Kept { source_url: None, source_name: None, metadata: None, ..kept.clone() }
        == Kept { source_url: None, source_name: None, metadata: None, ..old.kept.clone() };
    if !same || !old.attributed {
        let sql = "UPDATE delivery_deployments SET attributed_at = NULL WHERE id = $1";
        tx.exec(sql, args![old.id]).await?;
        attribution::unassign(tx, old.id, now).await?;
        if brings {
            attribution::attribute_deployment(tx, &subject, now).await?;
        } else {
            attribution::attribute_if_clear(tx, subject, now).await?;
        }
    }
    let act = OwnedAct::new("updated", nouns::DELIVERY, old.id.0, format!("deployment {}", write.reference));
    Ok((old.id, Some(act)))
}

/// What was given takes the place of what was there. A commit and a list of commits exclude each other.
async fn patched(tx: &mut Tx, names: &mut Names<'_>, old: &Kept, checked: &Checked) -> Result<Kept> {
    let facts = &checked.facts;
    let mut kept = old.clone();
    if let Some(service) = &facts.service {
        kept.service = names.service(tx, service).await?;
    }
    if let Some(name) = &facts.repository {
        kept.repo = Some(names.repo(tx, name).await?);
    }
    if let Some(sha) = &checked.commit_sha {
        kept.commit_sha = Some(sha.clone());
        kept.listed.clear();
    }
    if let Some(listed) = &checked.listed {
        kept.listed.clone_from(listed);
        if !listed.is_empty() {
            kept.commit_sha = None;
        }
    }
    kept.deployed_at = facts.deployed_at.unwrap_or(kept.deployed_at);
    kept.success = facts.success.unwrap_or(kept.success);
    if let Some(environment) = &facts.environment {
        kept.environment.clone_from(environment);
    }
    let replace = |place: &mut Option<String>, given: &Option<String>| {
        if given.is_some() {
            place.clone_from(given);
        }
    };
    replace(&mut kept.integration_branch, &facts.integration_branch);
    replace(&mut kept.source_url, &facts.source_url);
    replace(&mut kept.source_name, &facts.source_name);
    if facts.metadata.is_some() {
        kept.metadata.clone_from(&facts.metadata);
    }
    Ok(kept)
}

async fn set(tx: &mut Tx, subject: &Subject, kept: &Kept, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE delivery_deployments SET service_id = $2, repo_id = $3, target_id = $4, environment = $5, \
         deployed_at = $6, success = $7, commit_sha = $8, merge_commit_shas = $9, integration_branch = $10, \
         source_url = $11, source_name = $12, metadata = $13, line = $14, position = $15, attribute_until = $16, \
         updated_at = $17 WHERE id = $1",
        args![
            subject.id,
            kept.service,
            kept.repo,
            subject.target,
            &kept.environment,
            kept.deployed_at,
            kept.success,
            kept.commit_sha.as_ref().map(Sha::as_str),
            listed_json(&kept.listed),
            kept.integration_branch.clone(),
            kept.source_url.clone(),
            kept.source_name.clone(),
            kept.metadata.as_ref().map(Metadata::as_json),
            subject.place.as_ref().map(|place| place.line.clone()),
            subject.place.as_ref().map(|place| place.position),
            attribution::retry_window_start(now),
            now,
        ],
    )
    .await
    .map(drop)
}

struct Loaded {
    id: DeploymentId,
    ou: OuId,
    origin: String,
    attributed: bool,
    kept: Kept,
}

async fn load(conn: &mut Conn, ou: OuId, reference: &str) -> Result<Option<Loaded>> {
    let row = conn
        .opt(
            "SELECT d.id, d.ou_id, d.service_id, d.repo_id, d.target_id, d.environment, d.deployed_at, d.success, \
             d.commit_sha, d.merge_commit_shas, d.integration_branch, d.line, d.position, d.origin, d.source_url, \
             d.source_name, d.metadata, d.attributed_at FROM delivery_deployments d \
             WHERE d.ou_id = $1 AND d.reference_id = $2",
            args![ou, reference],
        )
        .await?;
    row.as_ref().map(loaded).transpose()
}

fn loaded(row: &Row) -> Result<Loaded> {
    let subject = attribution::subject_of(row, Timestamp::UNIX_EPOCH)?;
    let kept = Kept {
        service: subject.service,
        repo: subject.repo,
        environment: subject.environment,
        deployed_at: subject.deployed_at,
        success: subject.success,
        commit_sha: subject.commit_sha,
        listed: subject.listed,
        integration_branch: subject.integration_branch,
        source_url: row.text_opt(14)?,
        source_name: row.text_opt(15)?,
        metadata: row.text_opt(16)?.as_deref().and_then(Metadata::kept),
    };
    let attributed = row.int_opt(17)?.is_some();
    Ok(Loaded { id: subject.id, ou: subject.ou, origin: row.text(13)?, attributed, kept })
}

/// What a deployment matched, or why nothing.
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
    /// The newest first, at most a hundred of them.
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
            "SELECT d.id, d.ou_id, d.service_id, d.repo_id, d.target_id, d.environment, d.deployed_at, d.success, \
             d.commit_sha, d.merge_commit_shas, d.integration_branch, d.line, d.position, s.identifier, s.name, \
             r.name, d.attributed_at, d.attribute_until, d.source_url, d.source_name, d.metadata \
             FROM delivery_deployments d JOIN delivery_services s ON s.id = d.service_id \
             LEFT JOIN delivery_repos r ON r.id = d.repo_id WHERE d.ou_id = $1 AND d.reference_id = $2",
            args![ctx.authority().ou(), reference],
        )
        .await?;
    let row = row.ok_or_else(|| {
        let message = format!("there is no deployment with the reference {reference:?}");
        Error::not_found("deployment").saying(message)
    })?;
    let subject = attribution::subject_of(&row, plane.estate().now())?;
    let (changes, change_count) = brought(&mut conn, subject.id).await?;
    let (attributed_at, waits) = (row.time_opt(16)?, row.time(17)? > plane.estate().now());
    let found = explain::Found { count: change_count, attributed: attributed_at.is_some(), waits };
    Ok(DeploymentInfo {
        id: subject.id,
        reference: reference.to_owned(),
        service: row.text(13)?,
        service_name: row.text(14)?,
        repository: row.text_opt(15)?,
        attributed_at,
        attribution: explain::sentence(&mut conn, &subject, found).await?,
        source_url: row.text_opt(18)?,
        source_name: row.text_opt(19)?,
        metadata: row.text_opt(20)?.as_deref().and_then(Metadata::kept).map(|metadata| metadata.value()),
        environment: subject.environment,
        deployed_at: subject.deployed_at,
        success: subject.success,
        commit_sha: subject.commit_sha.map(|sha| sha.as_str().to_owned()),
        merge_commit_shas: subject.listed.iter().map(|sha| sha.as_str().to_owned()).collect(),
        integration_branch: subject.integration_branch,
        changes,
        change_count,
    })
}

/// How many changes are shown.
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
