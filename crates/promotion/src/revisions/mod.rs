//! Revisions: scripts that are kept to be deployed, each with the values that its properties had where it comes from.
//!
//! Here they are listed, read and deleted; `create` makes them. Does not belong here: deploying a revision.

mod create;

use std::collections::BTreeMap;

use jiff::Timestamp;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, OpCtx, Page, PageOf, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::runs::queue::Submitter;
use landreeve_estate::store::{Conn, Row, Tx, Where};

use crate::ids::{EnvironmentId, RevisionId};
use crate::nouns::REVISION;
use crate::plane::Promotion;
use crate::scenario::Scenario;
use crate::stored::{StoredFlags, StoredSourceValues};
use crate::vql::properties::Properties;

pub use create::{
    FromServer, MAX_DESCRIPTION, MAX_ELEMENTS, MAX_NAME, MAX_REVISIONS, MAX_VQL_BYTES, NewRevision,
    ServerRef, revision_from_server, revision_upload,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub id: RevisionId,
    pub ou: OuId,
    pub ou_path: String,
    pub name: String,
    pub description: Option<String>,
    pub kind: RevisionType,
    pub replace: ReplaceMode,
    /// SHA-256 of the script.
    pub content_hash: String,
    /// Size of the script.
    pub bytes: i64,
    pub flags: Flags,
    /// Who may use it without managing revisions, as in `runs.submitter`.
    pub owner: String,
    pub created_by: String,
    pub created_at: Timestamp,
    pub modified_by: String,
    pub modified_at: Timestamp,
    pub row_version: i64,
}

/// Where the script comes from, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionType {
    /// Made from a server: creates its elements.
    Insert,
    /// Made from a server: drops its elements.
    Delete,
    /// Uploaded.
    Vql,
}

impl RevisionType {
    pub const ALL: [RevisionType; 3] = [RevisionType::Insert, RevisionType::Delete, RevisionType::Vql];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            RevisionType::Insert => "INSERT",
            RevisionType::Delete => "DELETE",
            RevisionType::Vql => "VQL",
        }
    }

    pub fn parse(text: &str) -> Option<RevisionType> {
        RevisionType::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// What a script made from a server does with an element that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplaceMode {
    /// The statement fails.
    DoNotReplace,
    #[default]
    Replace,
    /// Drops it first, with everything that depends on it.
    DropBefore,
}

impl ReplaceMode {
    pub const ALL: [ReplaceMode; 3] =
        [ReplaceMode::DoNotReplace, ReplaceMode::Replace, ReplaceMode::DropBefore];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReplaceMode::DoNotReplace => "do_not_replace",
            ReplaceMode::Replace => "replace",
            ReplaceMode::DropBefore => "drop_before",
        }
    }

    pub fn parse(text: &str) -> Option<ReplaceMode> {
        ReplaceMode::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// What a revision includes. Kept for clients; without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    pub jars: bool,
    pub statistics: bool,
    pub i18n: bool,
    pub server_properties: bool,
    pub web_container_properties: bool,
    pub jdbc_wrapper_properties: bool,
    pub dependencies: bool,
    /// Whether it is about the default database of its server.
    pub default_database: bool,
}

impl Default for Flags {
    fn default() -> Flags {
        Flags {
            jars: false,
            statistics: false,
            i18n: false,
            server_properties: false,
            web_container_properties: false,
            jdbc_wrapper_properties: true,
            dependencies: false,
            default_database: true,
        }
    }
}

/// What is deployed.
pub(crate) struct RevisionText {
    pub vql: String,
    /// The values where the script comes from; may be empty.
    pub properties: Properties,
}

/// An environment to which a revision was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedOn {
    pub environment: EnvironmentId,
    pub name: String,
    pub description: Option<String>,
    pub minimum_update_mandatory: bool,
}

/// What the script of a revision is encrypted for.
pub(crate) const SCRIPT: &str = "promotion_revision";
/// What the values of its properties are encrypted for.
pub(crate) const VALUES: &str = "promotion_revision_properties";

const COLUMNS: &str = "r.id, r.ou_id, o.path, r.name, r.description, r.type, r.replace_mode, r.content_hash, r.bytes, \
     r.flags, r.owner, r.created_by, r.created_at, r.modified_by, r.modified_at, r.row_version";
const FROM: &str = "promotion_revisions r JOIN ous o ON o.id = r.ou_id";
const PLACE: Place = Place::named("r.ou_id", "r.id IN ($$)");

fn from_row(row: &Row) -> Result<Revision> {
    Ok(Revision {
        id: row.id(0)?,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        name: row.text(3)?,
        description: row.text_opt(4)?,
        kind: row.word(5, RevisionType::parse)?,
        replace: row.word(6, ReplaceMode::parse)?,
        content_hash: row.text(7)?,
        bytes: row.int(8)?,
        flags: row.json::<StoredFlags>(9)?.into_flags()?,
        owner: row.text(10)?,
        created_by: row.text(11)?,
        created_at: row.time(12)?,
        modified_by: row.text(13)?,
        modified_at: row.time(14)?,
        row_version: row.int(15)?,
    })
}

/// The caller, as the owner of a revision.
fn owner_of(ctx: &OpCtx) -> String {
    Submitter::from(ctx.actor()).key()
}

/// Whether the caller owns the revision and may use revisions in its unit.
fn is_own(ctx: &OpCtx, revision: &Revision) -> bool {
    let usable = Permission::new(REVISION, Action::USE);
    revision.owner == owner_of(ctx) && ctx.authority().allows(usable, &revision.ou_path, revision.id.0)
}

/// A page of the revisions that the caller may see, newest first.
pub async fn revision_list(plane: &Promotion, ctx: &OpCtx, page: Page) -> Result<PageOf<Revision>> {
    let (view, usable) = (Permission::new(REVISION, Action::VIEW), Permission::new(REVISION, Action::USE));
    if !ctx.authority().allows_some(view) {
        plane.estate().require_some(ctx, REVISION, Action::USE).await?;
    }
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    let visible = Visibility::of(ctx, view).condition(&mut wanted, &PLACE)?;
    let own = Visibility::of(ctx, usable).condition(&mut wanted, &PLACE)?;
    let owner = wanted.bind(owner_of(ctx));
    wanted.and(&format!("({visible} OR (r.owner = {owner} AND {own}))"));
    let total = wanted.count(&mut conn, FROM).await?;
    let limit = wanted.bind(page.limit);
    let offset = wanted.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
    let (condition, args) = wanted.into_parts();
    let sql = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE {condition} ORDER BY r.created_at DESC, r.id DESC LIMIT {limit} OFFSET {offset}"
    );
    let rows = conn.select(sql, args).await?;
    let items = rows.iter().map(from_row).collect::<Result<_>>()?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

/// A revision. Checks no permission.
pub(crate) async fn find(conn: &mut Conn, id: RevisionId) -> Result<Option<Revision>> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE r.id = $1");
    conn.select(sql, args![id]).await?.first().map(from_row).transpose()
}

/// A revision in or below the caller's unit.
async fn in_subtree(plane: &Promotion, ctx: &OpCtx, id: RevisionId) -> Result<Revision> {
    let found = find(&mut plane.estate().store().read().await?, id).await?;
    let found = found.filter(|found| found.ou_path.starts_with(ctx.authority().ou_path()));
    found.ok_or_else(|| Error::not_found("revision"))
}

pub async fn revision_get(plane: &Promotion, ctx: &OpCtx, id: RevisionId) -> Result<Revision> {
    if is_to_approve(plane, ctx, id).await?
        && let Some(revision) = find(&mut plane.estate().store().read().await?, id).await?
    {
        return Ok(revision);
    }
    let revision = in_subtree(plane, ctx, id).await?;
    if !is_own(ctx, &revision) {
        plane.estate().require(ctx, REVISION, Action::VIEW, &revision.ou_path, id.0).await?;
    }
    Ok(revision)
}

/// Whether the revision, which may be of a unit above, is part of a deployment that waits for an approval which the caller
/// may give.
pub(crate) async fn is_to_approve(plane: &Promotion, ctx: &OpCtx, id: RevisionId) -> Result<bool> {
    let sql = "SELECT DISTINCT d.scenario, d.environment_id, o.path FROM promotion_deployment_revisions p \
               JOIN promotion_deployments d ON d.id = p.deployment_id JOIN runs r ON r.id = d.id \
               JOIN ous o ON o.id = d.ou_id \
               WHERE p.revision_id = $1 AND d.state = 'in_progress' AND r.state = 'held'";
    for row in plane.estate().store().read().await?.all(sql, args![id]).await? {
        let (scenario, path) = (row.word(0, Scenario::parse)?, row.text(2)?);
        let approve = Permission::new(scenario.noun(), Action::USE);
        if path.starts_with(ctx.authority().ou_path()) && ctx.authority().allows(approve, &path, row.int(1)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A revision and its script.
pub async fn revision_text(plane: &Promotion, ctx: &OpCtx, id: RevisionId) -> Result<(Revision, String)> {
    let revision = revision_get(plane, ctx, id).await?;
    Ok((revision, text(plane, id).await?.vql))
}

/// What is deployed. Checks no permission.
pub(crate) async fn text(plane: &Promotion, id: RevisionId) -> Result<RevisionText> {
    let sql = "SELECT vql_sealed, properties_sealed FROM promotion_revision_texts WHERE revision_id = $1";
    let row = plane.estate().store().read().await?.opt(sql, args![id]).await?;
    let row = row.ok_or_else(|| Error::not_found("revision"))?;
    let (script, values) = (row.bytes(0)?, row.bytes_opt(1)?);
    let estate = plane.estate().clone();
    // Many megabytes are decrypted.
    let open = move || {
        let plain = estate.unseal(&format!("{SCRIPT}:{id}"), &script)?;
        let vql = std::str::from_utf8(&plain).map_err(Error::internal)?.to_owned();
        let properties = match values {
            Some(values) => {
                let plain = estate.unseal(&format!("{VALUES}:{id}"), &values)?;
                serde_json::from_slice::<StoredSourceValues>(&plain)
                    .map_err(Error::internal)?
                    .into_values()?
            }
            None => Properties::new(),
        };
        Ok(RevisionText { vql, properties })
    };
    tokio::task::spawn_blocking(open).await.map_err(Error::internal)?
}

/// The environments, in or below the caller's unit, to which these revisions were deployed, by id.
pub async fn deployed_on(
    plane: &Promotion,
    ctx: &OpCtx,
    ids: &[RevisionId],
) -> Result<BTreeMap<RevisionId, Vec<DeployedOn>>> {
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    wanted.and_ids("d.revision_id", ids.iter().map(|id| id.0));
    Visibility::below(ctx).narrow(&mut wanted, &Place::of_unit("e.ou_id"))?;
    let (condition, args) = wanted.into_parts();
    let sql = format!(
        "SELECT d.revision_id, e.id, e.name, e.description, e.minimum_update_mandatory \
         FROM promotion_revision_environments d JOIN promotion_environments e ON e.id = d.environment_id \
         WHERE {condition} ORDER BY d.revision_id, e.id"
    );
    let mut found: BTreeMap<RevisionId, Vec<DeployedOn>> = BTreeMap::new();
    for row in conn.select(sql, args).await? {
        let deployed = DeployedOn {
            environment: row.id(1)?,
            name: row.text(2)?,
            description: row.text_opt(3)?,
            minimum_update_mandatory: row.flag(4)?,
        };
        found.entry(row.id(0)?).or_default().push(deployed);
    }
    Ok(found)
}

/// Deletes a revision that was never deployed.
pub async fn revision_delete(plane: &Promotion, ctx: &OpCtx, id: RevisionId) -> Result<()> {
    let estate = plane.estate();
    let revision = in_subtree(plane, ctx, id).await?;
    if !is_own(ctx, &revision) {
        estate.require(ctx, REVISION, Action::MANAGE, &revision.ou_path, id.0).await?;
    }
    let act = OwnedAct::new("deleted", REVISION, id.0, revision.name);
    estate.change(ctx, act, move |tx| Box::pin(async move { delete(tx, id).await })).await
}

async fn delete(tx: &mut Tx, id: RevisionId) -> Result<()> {
    // A deployment that is submitted meanwhile waits, and then does not find it.
    let lock = tx.dialect().pick(
        "SELECT id FROM promotion_revisions WHERE id = $1",
        "SELECT id FROM promotion_revisions WHERE id = $1 FOR UPDATE",
    );
    if tx.opt(lock, args![id]).await?.is_none() {
        return Err(Error::not_found("revision"));
    }
    let deployed = "SELECT revision_id FROM promotion_revision_environments WHERE revision_id = $1 LIMIT 1";
    if tx.opt(deployed, args![id]).await?.is_some() {
        return Err(Error::conflict("deployed", "the revision was deployed, so it is kept"));
    }
    let deploying = "SELECT r.revision_id FROM promotion_deployment_revisions r \
         JOIN promotion_deployments d ON d.id = r.deployment_id \
         WHERE r.revision_id = $1 AND d.state = 'in_progress' LIMIT 1";
    if tx.opt(deploying, args![id]).await?.is_some() {
        return Err(Error::conflict("deploying", "the revision is being deployed"));
    }
    tx.exec("DELETE FROM promotion_revisions WHERE id = $1", args![id]).await.map(drop)
}
