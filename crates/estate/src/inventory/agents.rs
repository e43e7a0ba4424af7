//! Agents: a dialect's outbound connectors. They are stored and listed; none can connect yet.

use jiff::Timestamp;
use landreeve_core::ids::{AgentId, DatasourceId, OuId};
use landreeve_core::{Error, Part, Result};

use super::places::{AGENTS, DATASOURCES};
use crate::args;
use crate::identity::Visibility;
use crate::store::{Conn, Listing, Row, Tx, Where};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    pub ou: OuId,
    pub ou_path: String,
    /// Base64url of an X25519 public key; faces identify the agent by it.
    pub public_key: String,
    pub name: String,
    pub enabled: bool,
    pub datasources: Vec<DatasourceId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

const LISTING: Listing = Listing {
    columns: "a.id, a.ou_id, o.path, a.public_key, a.name, a.enabled, a.created_at, a.updated_at",
    from: "agents a JOIN ous o ON o.id = a.ou_id",
    order: "a.id",
    size: None,
};

/// Limits a list of agents.
#[derive(Debug, Clone, Default)]
pub struct AgentFilter {
    pub ids: Option<Vec<AgentId>>,
    pub public_keys: Option<Vec<String>>,
    /// Only agents that a visible datasource uses.
    pub used: bool,
}

fn from_row(row: &Row) -> Result<Agent> {
    Ok(Agent {
        id: row.id(0)?,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        public_key: row.text(3)?,
        name: row.text(4)?,
        enabled: row.flag(5)?,
        datasources: Vec::new(),
        created_at: row.time(6)?,
        updated_at: row.time(7)?,
    })
}

pub async fn list(
    conn: &mut Conn,
    visibility: &Visibility,
    asked: &AgentFilter,
    after: Option<AgentId>,
) -> Result<Part<Agent, AgentId>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &AGENTS)?;
    if let Some(ids) = &asked.ids {
        wanted.and_ids("a.id", ids.iter().map(|id| id.0));
    }
    if let Some(keys) = &asked.public_keys {
        wanted.and_texts("a.public_key", keys)?;
    }
    if asked.used {
        let visible = visibility.condition(&mut wanted, &DATASOURCES)?;
        wanted.and(&format!(
            "EXISTS (SELECT 1 FROM datasource_agents x JOIN datasources d ON d.id = x.datasource_id \
             WHERE x.agent_id = a.id AND {visible})"
        ));
    }
    if let Some(after) = after {
        wanted.and_after("a.id", args![after]);
    }
    let mut part = wanted.page(conn, &LISTING, from_row, |agent| agent.id).await?;
    let mut links = Where::new(conn.dialect());
    links.and_ids("agent_id", part.items.iter().map(|agent| agent.id.0));
    let (condition, values) = links.into_parts();
    let sql = format!(
        "SELECT agent_id, datasource_id FROM datasource_agents WHERE {condition} ORDER BY datasource_id"
    );
    for link in conn.select(sql, values).await? {
        let id: AgentId = link.id(0)?;
        if let Some(agent) = part.items.iter_mut().find(|agent| agent.id == id) {
            agent.datasources.push(link.id(1)?);
        }
    }
    Ok(part)
}

pub async fn insert(tx: &mut Tx, agent: &Agent) -> Result<()> {
    tx.exec(
        "INSERT INTO agents (id, ou_id, public_key, name, enabled, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
        args![agent.id, agent.ou, &agent.public_key, &agent.name, agent.enabled, agent.created_at],
    )
    .await
    .map(drop)
}

/// `known` is when it was last changed, as far as the caller knows.
pub async fn update(tx: &mut Tx, agent: &Agent, known: Timestamp) -> Result<()> {
    let changed = tx
        .exec(
            "UPDATE agents SET name = $2, enabled = $3, updated_at = $4 WHERE id = $1 AND updated_at = $5",
            args![agent.id, &agent.name, agent.enabled, agent.updated_at, known],
        )
        .await?;
    if changed == 0 {
        return Err(Error::conflict("changed", "the agent was changed at the same time; try again"));
    }
    Ok(())
}
