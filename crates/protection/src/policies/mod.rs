//! Policies: what databases are backed up by themselves, how often, when, and how long that is kept.
//!
//! `model` is what a policy says, `timing` when a backup is due, `times` for a
//! whole policy, `following` makes it, `changing` carries changes out.

mod changing;
pub(crate) mod following;
pub mod model;
pub(crate) mod stored;
mod times;
mod timing;

use std::sync::Arc;

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_core::{Action, Error, Input, OpCtx, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::{Datasource, OwnedAct, datasources, runs};
use landreeve_estate::runs::{NewRun, Run};
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where};
use uuid::Uuid;

pub use changing::{CHANGE, Changing, Unlocker};
use model::{NewOperation, NewPolicy, Operation, Rules};
use stored::{StoredChange, StoredOperations};
pub use times::Times;

use crate::assets::datasource_of;
use crate::ids::PolicyId;
use crate::nouns::POLICY;
use crate::plane::Protection;
use crate::repositories;

/// Maximum number of assignments in one request.
pub const MAX_ITEMS: usize = 100;
/// Maximum number of policies.
const MAX_POLICIES: i64 = 10_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub id: PolicyId,
    pub uuid: Uuid,
    pub ou: OuId,
    pub ou_uuid: Uuid,
    pub ou_path: String,
    pub name: String,
    pub enabled: bool,
    pub lock: Lock,
    pub operations: Vec<NewOperation>,
    /// Of each operation.
    pub times: Vec<Times>,
    /// How many databases have it.
    pub assigned: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a run is about to do to a policy. Nothing else is done meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Unlocked,
    Updating,
    Deleting,
}

impl Lock {
    pub fn as_str(self) -> &'static str {
        match self {
            Lock::Unlocked => "unlocked",
            Lock::Updating => "updating",
            Lock::Deleting => "deleting",
        }
    }

    fn parse(text: &str) -> Option<Lock> {
        [Lock::Unlocked, Lock::Updating, Lock::Deleting].into_iter().find(|known| known.as_str() == text)
    }
}

const COLUMNS: &str = "p.id, p.uuid, p.ou_id, o.uuid, o.path, p.name, p.enabled, p.lock_status, p.body, \
                       (SELECT count(*) FROM policy_assignments a WHERE a.policy_id = p.id), p.created_at, p.updated_at";
const FROM: &str = "policies p JOIN ous o ON o.id = p.ou_id";
const LISTING: Listing =
    Listing { columns: COLUMNS, from: FROM, order: "p.id", size: Some("length(p.body)") };
const PLACE: Place = Place::named("p.ou_id", "p.id IN ($$)");

fn from_row(row: &Row) -> Result<Policy> {
    Ok(Policy {
        id: row.id(0)?,
        uuid: row.uuid(1)?,
        ou: row.id(2)?,
        ou_uuid: row.uuid(3)?,
        ou_path: row.text(4)?,
        name: row.text(5)?,
        enabled: row.flag(6)?,
        lock: row.word(7, Lock::parse)?,
        operations: StoredOperations::parse(&row.text(8)?)?,
        times: Vec::new(),
        assigned: row.int(9)?,
        created_at: row.time(10)?,
        updated_at: row.time(11)?,
    })
}

/// Limits a list of policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFilter {
    pub name: Option<String>,
    /// What the name begins with.
    pub prefix: Option<String>,
    pub enabled: Option<bool>,
    /// It has an operation of one of these types.
    pub kinds: Vec<String>,
    pub uuids: Option<Vec<Uuid>>,
}

impl PolicyFilter {
    fn narrow(&self, wanted: &mut Where) -> Result<()> {
        if let Some(uuids) = &self.uuids {
            let uuids: Vec<String> = uuids.iter().map(Uuid::to_string).collect();
            wanted.and_texts("p.uuid", &uuids)?;
        }
        if let Some(name) = &self.name {
            wanted.and_value("p.name = $$", name);
        }
        if let Some(prefix) = &self.prefix {
            wanted.and_value("substr(p.name, 1, length($$)) = $$", prefix);
        }
        if let Some(enabled) = self.enabled {
            wanted.and_value("p.enabled = $$", enabled);
        }
        if !self.kinds.is_empty() {
            // As the operations are stored; none of the known types contains another one with its quotes.
            let has = |kind: &String| {
                let place = wanted.bind(format!("\"kind\":{}", serde_json::Value::String(kind.clone())));
                format!("replace(p.body, {place}, '') <> p.body")
            };
            let any: Vec<String> = self.kinds.iter().map(has).collect();
            wanted.and(&format!("({})", any.join(" OR ")));
        }
        Ok(())
    }
}

/// The page of policies after this one, in order of creation.
pub async fn policy_list(
    plane: &Protection,
    ctx: &OpCtx,
    filter: &PolicyFilter,
    after: Option<PolicyId>,
) -> Result<Part<Policy, PolicyId>> {
    let estate = plane.estate();
    estate.require_some(ctx, POLICY, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(POLICY, Action::VIEW)).narrow(&mut wanted, &PLACE)?;
    filter.narrow(&mut wanted)?;
    if let Some(after) = after {
        wanted.and_value("p.id > $$", after);
    }
    let mut part = wanted.page(&mut conn, &LISTING, from_row, |policy| policy.id).await?;
    times::fill(&mut conn, &mut part.items, estate.now()).await?;
    Ok(part)
}

pub async fn policy_get(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Policy> {
    allowed(plane, ctx, uuid, Action::VIEW).await
}

/// The policy, if the caller may do this to it.
async fn allowed(plane: &Protection, ctx: &OpCtx, uuid: Uuid, action: Action) -> Result<Policy> {
    let found = find(&mut plane.estate().store().read().await?, uuid).await?;
    let policy =
        found.ok_or_else(|| Error::not_found("policy").saying(format!("there is no policy {uuid}")))?;
    plane.estate().require(ctx, POLICY, action, &policy.ou_path, policy.id.0).await?;
    let mut policy = [policy];
    let mut conn = plane.estate().store().read().await?;
    times::fill(&mut conn, &mut policy, plane.estate().now()).await?;
    let [policy] = policy;
    Ok(policy)
}

async fn find(conn: &mut Conn, uuid: Uuid) -> Result<Option<Policy>> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE p.uuid = $1");
    conn.select(sql, args![uuid.to_string()]).await?.first().map(from_row).transpose()
}

/// The policy that each of these databases has.
pub async fn policies_of(
    plane: &Protection,
    datasources: &[DatasourceId],
) -> Result<Vec<(DatasourceId, Uuid, Timestamp)>> {
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    wanted.and_ids("a.datasource_id", datasources.iter().map(|id| id.0));
    let (condition, args) = wanted.into_parts();
    let sql = format!(
        "SELECT a.datasource_id, p.uuid, a.assigned_at FROM policy_assignments a \
         JOIN policies p ON p.id = a.policy_id WHERE {condition} ORDER BY 1"
    );
    let rows = conn.select(sql, args).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.uuid(1)?, row.time(2)?))).collect()
}

/// Checks what a caller states, and that its repositories exist.
async fn checked(plane: &Protection, new: Input<NewPolicy>) -> Result<NewPolicy> {
    let mut faults = Faults::default();
    let rules = Rules::parse(new.value(), &mut faults);
    let mut conn = plane.estate().store().read().await?;
    for (at, operation) in rules.operations.iter().enumerate() {
        let Some(name) = operation.repository.as_deref().filter(|name| *name != repositories::DEFAULT) else {
            continue;
        };
        let known = repositories::named(&mut conn, name).await?;
        if known.is_none_or(|found| found.repository_id.is_none()) {
            let field = format!("operations.{at}.backup_aws_region");
            faults.push(field, "unknown", format!("there is no repository called {name}"));
        }
    }
    drop(conn);
    new.settled(faults)
}

/// Makes a policy in the caller's unit.
pub async fn policy_create(
    plane: &Protection,
    ctx: &OpCtx,
    new: impl Into<Input<NewPolicy>>,
) -> Result<Policy> {
    let estate = plane.estate();
    estate.require_here(ctx, POLICY, Action::MANAGE).await?;
    let new = checked(plane, new.into()).await?;
    let (id, uuid, now) = (estate.next::<PolicyId>(PolicyId::KIND).await?, estate.uuid(), estate.now());
    let body = StoredOperations::new(&new.operations).as_json()?;
    let (ou, name) = (ctx.authority().ou(), new.name.trim().to_owned());
    estate
        .change(ctx, OwnedAct::new("created", POLICY, id.0, name.clone()), move |tx| {
            Box::pin(async move {
                let count = tx.one("SELECT count(*) FROM policies", args![]).await?.int(0)?;
                if count >= MAX_POLICIES {
                    let message = format!("there are {MAX_POLICIES} policies, which is the most");
                    return Err(Error::conflict("too_many", message));
                }
                let sql = "INSERT INTO policies (id, uuid, ou_id, name, enabled, lock_status, body, created_at, \
                           updated_at) VALUES ($1, $2, $3, $4, $5, 'unlocked', $6, $7, $7)";
                let args = args![id, uuid.to_string(), ou, name, new.enabled, body, now];
                tx.exec(sql, args).await.map(drop)
            })
        })
        .await?;
    policy_get(plane, ctx, uuid).await
}

/// Starts to replace what a policy says. It is locked until that has been done.
pub async fn policy_update(
    plane: &Protection,
    ctx: &OpCtx,
    uuid: Uuid,
    new: impl Into<Input<NewPolicy>>,
) -> Result<(Policy, Run)> {
    let policy = allowed(plane, ctx, uuid, Action::MANAGE).await?;
    let new = checked(plane, new.into()).await?;
    let change = StoredChange::Replace {
        version: 1,
        policy: policy.id.0,
        name: new.name.trim().to_owned(),
        enabled: new.enabled,
        operations: StoredOperations::new(&new.operations),
    };
    let run = start(plane, ctx, &policy, change, Lock::Updating).await?;
    Ok((Policy { lock: Lock::Updating, ..policy }, run))
}

/// Starts to delete a policy. Its databases have none from then on; their backups stay.
pub async fn policy_delete(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Run> {
    let policy = allowed(plane, ctx, uuid, Action::MANAGE).await?;
    let change = StoredChange::Delete { version: 1, policy: policy.id.0 };
    start(plane, ctx, &policy, change, Lock::Deleting).await
}

async fn start(
    plane: &Protection,
    ctx: &OpCtx,
    policy: &Policy,
    change: StoredChange,
    lock: Lock,
) -> Result<Run> {
    let (id, name) = (policy.id, policy.name.clone());
    let new = NewRun { noun: Some((POLICY, id.0)), ..NewRun::new(&CHANGE, policy.ou, change.as_json()?) };
    let locking: runs::WithRun = Arc::new(move |tx, _| Box::pin(take_lock(tx, id, name.clone(), lock)));
    runs::submit_with(plane.estate(), ctx, new, locking).await
}

async fn take_lock(tx: &mut Tx, policy: PolicyId, name: String, lock: Lock) -> Result<()> {
    let sql = "UPDATE policies SET lock_status = $2 WHERE id = $1 AND lock_status = 'unlocked'";
    match tx.exec(sql, args![policy, lock.as_str()]).await? {
        0 => Err(Error::conflict("locked", format!("the policy {name} is being changed; try again"))),
        _ => Ok(()),
    }
}

/// Which policy a database is to have. `None`: none from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The datasource's UUID.
    pub datasource: Uuid,
    pub policy: Option<Uuid>,
}

/// Starts to give databases a policy, or none.
pub async fn policy_assign(plane: &Protection, ctx: &OpCtx, items: Input<Vec<Assignment>>) -> Result<Run> {
    let estate = plane.estate();
    estate.require_some(ctx, POLICY, Action::MANAGE).await?;
    let mut faults = Faults::default();
    if !(1..=MAX_ITEMS).contains(&items.value().len()) {
        faults.push("items", "too_many", format!("must have 1 to {MAX_ITEMS} items"));
    }
    let mut stored = Vec::new();
    for (at, item) in items.value().iter().take(MAX_ITEMS).enumerate() {
        let Some(id) = datasource_of(plane, item.datasource).await? else {
            faults.push(format!("items.{at}.entity.id"), "unknown", "is not the id of a resource");
            continue;
        };
        let datasource = datasources::load(estate, id).await?;
        estate.require(ctx, POLICY, Action::MANAGE, &datasource.ou_path, id.0).await?;
        let Some(uuid) = item.policy else {
            stored.push((id.0, None));
            continue;
        };
        let policy = match allowed(plane, ctx, uuid, Action::VIEW).await {
            Ok(policy) => policy,
            Err(_) => {
                faults.push(format!("items.{at}.policy_id"), "unknown", format!("there is no policy {uuid}"));
                continue;
            }
        };
        if let Some((field, code, why)) = refusal(plane, &policy, &datasource) {
            faults.push(format!("items.{at}.{field}"), code, why);
        }
        stored.push((id.0, Some(policy.id.0)));
    }
    let _: Vec<Assignment> = items.settled(faults)?;
    let change = StoredChange::Assign { version: 1, items: stored };
    runs::submit(estate, ctx, NewRun::new(&CHANGE, ctx.authority().ou(), change.as_json()?)).await
}

/// Why a database cannot have a policy.
fn refusal(
    plane: &Protection,
    policy: &Policy,
    datasource: &Datasource,
) -> Option<(&'static str, &'static str, String)> {
    let rules = stored::rules(&policy.name, policy.operations.clone());
    if !rules.is_ok_and(|rules| rules.operations.iter().any(Operation::works)) {
        let message = format!(
            "the policy {} has no operation that works here: {}",
            policy.name,
            model::WORKING.join(", ")
        );
        return Some(("policy_id", "not_supported", message));
    }
    if !datasource.ou_path.starts_with(policy.ou_path.as_str()) {
        return Some(("policy_id", "other_unit", "belongs to another organizational unit".to_owned()));
    }
    if policy.lock != Lock::Unlocked {
        return Some(("policy_id", "locked", format!("the policy {} is being changed", policy.name)));
    }
    let error = crate::backing_up::check_supported(plane, datasource).err()?;
    Some(("entity.id", "not_supported", error.message))
}
