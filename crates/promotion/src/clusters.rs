//! Clusters: groups of an environment's servers, which are deployed to in order.

use landreeve_core::error::Faults;
use landreeve_core::{Action, Error, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Row, Tx, taken};

use crate::environments::{self, Environment};
use crate::ids::{ClusterId, EnvironmentId};
use crate::nouns::ENVIRONMENT;
use crate::plane::Promotion;
use crate::{nodes, servers, text};

/// Of one environment.
pub(crate) const MAX_CLUSTERS: i64 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub id: ClusterId,
    pub environment: EnvironmentId,
    pub name: String,
    pub description: Option<String>,
    pub enabled: bool,
    /// From 1, without gaps.
    pub position: i64,
    pub row_version: i64,
}

/// What a caller states about a cluster: all of it, when it is created and when it is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Required.
    pub environment: Option<EnvironmentId>,
    pub name: String,
    pub description: Option<String>,
    pub enabled: bool,
}

fn check(facts: &ClusterFacts, faults: &mut Faults) {
    if facts.environment.is_none() {
        faults.push("environment", "required", "is required");
    }
    text::name(faults, "name", &facts.name);
    text::at_most(faults, "description", facts.description.as_deref(), text::LONG);
}

const COLUMNS: &str = "c.id, c.environment_id, c.name, c.description, c.enabled, c.position, c.row_version";

pub(crate) fn from_row(row: &Row) -> Result<Cluster> {
    Ok(Cluster {
        id: row.id(0)?,
        environment: row.id(1)?,
        name: row.text(2)?,
        description: row.text_opt(3)?,
        enabled: row.flag(4)?,
        position: row.int(5)?,
        row_version: row.int(6)?,
    })
}

/// The clusters of an environment, in their order. Without a check of permissions.
pub(crate) async fn of_environment(conn: &mut Conn, environment: EnvironmentId) -> Result<Vec<Cluster>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM promotion_clusters c WHERE c.environment_id = $1 ORDER BY c.position, c.id"
    );
    conn.select(sql, args![environment]).await?.iter().map(from_row).collect()
}

/// Without a check of permissions.
pub(crate) async fn find(conn: &mut Conn, id: ClusterId) -> Result<Option<Cluster>> {
    let sql = format!("SELECT {COLUMNS} FROM promotion_clusters c WHERE c.id = $1");
    conn.select(sql, args![id]).await?.first().map(from_row).transpose()
}

/// The cluster and its environment, if the caller may do this to that.
pub(crate) async fn seen(
    plane: &Promotion,
    ctx: &OpCtx,
    id: ClusterId,
    action: Action,
) -> Result<(Cluster, Environment)> {
    plane.estate().require_some(ctx, ENVIRONMENT, action).await?;
    let unknown = || Error::not_found("cluster");
    let (cluster, environment) = {
        let mut conn = plane.estate().store().read().await?;
        let cluster = find(&mut conn, id).await?.ok_or_else(unknown)?;
        let environment = environments::find(&mut conn, cluster.environment).await?.ok_or_else(unknown)?;
        (cluster, environment)
    };
    environments::require(plane, ctx, &environment, action, "cluster").await?;
    Ok((cluster, environment))
}

/// The clusters of an environment, in their order.
pub async fn cluster_list(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: EnvironmentId,
) -> Result<Vec<Cluster>> {
    environments::seen(plane, ctx, environment, Action::VIEW).await?;
    of_environment(&mut plane.estate().store().read().await?, environment).await
}

pub async fn cluster_get(plane: &Promotion, ctx: &OpCtx, id: ClusterId) -> Result<Cluster> {
    seen(plane, ctx, id, Action::VIEW).await.map(|(cluster, _)| cluster)
}

/// Creates a cluster at the end of its environment.
pub async fn cluster_create(plane: &Promotion, ctx: &OpCtx, facts: Input<ClusterFacts>) -> Result<Cluster> {
    let estate = plane.estate();
    estate.require_some(ctx, ENVIRONMENT, Action::MANAGE).await?;
    let Some(environment) = facts.value().environment else { return Err(incomplete(facts)) };
    environments::seen(plane, ctx, environment, Action::MANAGE).await?;
    let facts = facts.checked(check)?;
    let (id, now) = (estate.next::<ClusterId>(ClusterId::KIND).await?, estate.now());
    let act = OwnedAct::new("created", ENVIRONMENT, environment.0, format!("cluster {}", facts.name));
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                environments::lock(tx, environment).await?;
                let made = Cluster {
                    id,
                    environment,
                    name: facts.name,
                    description: facts.description,
                    enabled: facts.enabled,
                    position: next_position(tx, environment).await?,
                    row_version: 1,
                };
                tx.exec(
                    "INSERT INTO promotion_clusters (id, environment_id, name, description, enabled, position, \
                     created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    args![
                        id,
                        environment,
                        &made.name,
                        made.description.clone(),
                        made.enabled,
                        made.position,
                        now
                    ],
                )
                .await?;
                Ok(made)
            })
        })
        .await
        .map_err(|error| taken(error, "name"))
}

/// Why facts without an environment are refused.
fn incomplete(facts: Input<ClusterFacts>) -> Error {
    let required = || Error::fault("environment", "required", "is required");
    facts.checked(check).err().unwrap_or_else(required)
}

/// The position after the last cluster of the environment, which is locked.
async fn next_position(tx: &mut Tx, environment: EnvironmentId) -> Result<i64> {
    let row = tx
        .one(
            "SELECT count(*), COALESCE(max(position), 0) FROM promotion_clusters WHERE environment_id = $1",
            args![environment],
        )
        .await?;
    if row.int(0)? >= MAX_CLUSTERS {
        let message = format!("an environment can have at most {MAX_CLUSTERS} clusters");
        return Err(Error::fault("", "limit", message));
    }
    Ok(row.int(1)? + 1)
}

/// Closes the gap that a cluster leaves behind.
async fn close_up(tx: &mut Tx, environment: EnvironmentId, position: i64) -> Result<()> {
    tx.exec(
        "UPDATE promotion_clusters SET position = position - 1, row_version = row_version + 1 \
         WHERE environment_id = $1 AND position > $2",
        args![environment, position],
    )
    .await
    .map(drop)
}

/// Replaces what is known of a cluster. In another environment of the same unit, it is the last one.
pub async fn cluster_update(
    plane: &Promotion,
    ctx: &OpCtx,
    id: ClusterId,
    facts: Input<ClusterFacts>,
) -> Result<Cluster> {
    let (before, environment) = seen(plane, ctx, id, Action::MANAGE).await?;
    let Some(target) = facts.value().environment else { return Err(incomplete(facts)) };
    let mut elsewhere = false;
    if target != environment.id {
        let target = environments::seen(plane, ctx, target, Action::MANAGE).await?;
        elsewhere = target.ou != environment.ou;
    }
    let facts = facts.checked(|facts, faults| {
        check(facts, faults);
        if elsewhere {
            faults.push("environment", "unit", "must be an environment of the same organizational unit");
        }
    })?;
    let act = OwnedAct::new("updated", ENVIRONMENT, target.0, format!("cluster {}", facts.name));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let position = if target == before.environment {
                    environments::lock(tx, target).await?;
                    before.position
                } else {
                    leave(tx, before.environment, target).await?;
                    next_position(tx, target).await?
                };
                let after = Cluster {
                    id,
                    environment: target,
                    name: facts.name,
                    description: facts.description,
                    enabled: facts.enabled,
                    position,
                    row_version: before.row_version + 1,
                };
                write(tx, &after, before.row_version).await?;
                if target != before.environment {
                    close_up(tx, before.environment, before.position).await?;
                }
                Ok(after)
            })
        })
        .await
        .map_err(|error| taken(error, "name"))
}

/// Locks two environments, of which one gives something to the other while no deployment works in either.
pub(crate) async fn leave(tx: &mut Tx, from: EnvironmentId, to: EnvironmentId) -> Result<()> {
    // Always in the same order, so that two changes do not wait for each other.
    environments::not_deploying(tx, from.min(to)).await?;
    environments::not_deploying(tx, from.max(to)).await
}

async fn write(tx: &mut Tx, after: &Cluster, read: i64) -> Result<()> {
    tx.update_row(
        "cluster",
        "UPDATE promotion_clusters SET environment_id = $3, name = $4, description = $5, enabled = $6, position = $7, \
         row_version = row_version + 1 WHERE id = $1 AND row_version = $2",
        args![
            after.id,
            read,
            after.environment,
            &after.name,
            after.description.clone(),
            after.enabled,
            after.position,
        ],
    )
    .await
}

/// Deletes a cluster with its servers, also the nodes that were made with them.
pub async fn cluster_delete(plane: &Promotion, ctx: &OpCtx, id: ClusterId) -> Result<()> {
    let (cluster, environment) = seen(plane, ctx, id, Action::MANAGE).await?;
    let (ou, ids) = (environment.ou, plane.estate().hash_ids().clone());
    let environment = environment.id;
    let act = OwnedAct::new("deleted", ENVIRONMENT, environment.0, format!("cluster {}", cluster.name));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                environments::not_deploying(tx, environment).await?;
                let sql = "SELECT position FROM promotion_clusters WHERE id = $1 AND environment_id = $2";
                let row = tx.opt(sql, args![id, environment]).await?;
                let position = row.ok_or_else(|| Error::not_found("cluster"))?.int(0)?;
                let made = servers::nodes_made_in_cluster(tx, id).await?;
                tx.exec("DELETE FROM promotion_clusters WHERE id = $1", args![id]).await?;
                close_up(tx, environment, position).await?;
                nodes::delete_made(tx, &ids, ou, &made).await
            })
        })
        .await
}
