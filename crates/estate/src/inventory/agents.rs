//! Agents: a dialect's outbound connectors. They are stored and listed; none can connect yet.

use jiff::Timestamp;
use landreeve_core::ids::{AgentId, DatasourceId, OuId};
use landreeve_core::{Error, Result};

use crate::args;
use crate::store::{Conn, Row, Tx};

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

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.ou_id, o.path, a.public_key, a.name, a.enabled, a.created_at, a.updated_at \
             FROM agents a JOIN ous o ON o.id = a.ou_id ",
            $rest
        )
    };
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

pub async fn list(conn: &mut Conn, path: &str) -> Result<Vec<Agent>> {
    let rows = conn
        .all(
            select!("WHERE o.path >= $1 AND o.path < $2 ORDER BY a.id"),
            args![path, crate::identity::ous::below(path)],
        )
        .await?;
    let links = conn
        .all("SELECT agent_id, datasource_id FROM datasource_agents ORDER BY datasource_id", args![])
        .await?;
    let mut agents = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    for link in &links {
        let id: AgentId = link.id(0)?;
        if let Some(agent) = agents.iter_mut().find(|agent| agent.id == id) {
            agent.datasources.push(link.id(1)?);
        }
    }
    Ok(agents)
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
