//! Datasource agents on the wire.

use landreeve_core::hashid::HashIds;
use landreeve_core::{Input, Result, Secret};
use landreeve_estate::ops::Agent;
use landreeve_estate::ops::datasources::AgentChange;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, ToMany, datasources};
use crate::input::{Names, document};

pub const KIND: &str = datasources::AGENTS;
pub const NAMES: Names = Names(&["datasources"]);

#[derive(Debug, Serialize, ToSchema)]
pub struct DatasourceAgent {
    /// The agent's public key.
    #[schema(read_only, example = "lZ21oPaLUNWJbEifEhiFTaPIWlqaaZL3jxMA7L3h5Qg")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "datasource_agents")]
    pub kind: &'static str,
    pub attributes: AgentAttributes,
    #[schema(read_only)]
    pub relationships: AgentRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AgentRelationships {
    pub datasources: ToMany,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AgentAttributes {
    #[schema(read_only)]
    pub agent_id: String,
    #[schema(min_length = 1, max_length = 255, example = "Office")]
    pub name: String,
    #[schema(read_only)]
    pub version: Option<String>,
    #[schema(read_only)]
    pub address: Option<String>,
    #[schema(read_only)]
    pub connected: bool,
    #[schema(read_only)]
    pub active_queries: u32,
    pub enabled: bool,
    #[schema(read_only)]
    pub created_at: Time,
    #[schema(read_only)]
    pub updated_at: Time,
    /// Only in the response that creates the agent; it is not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub secret_key: Option<String>,
}

const READ_ONLY: [&str; 8] = [
    "agent_id",
    "version",
    "address",
    "connected",
    "active_queries",
    "created_at",
    "updated_at",
    "secret_key",
];

/// Agents cannot connect yet, so what a connected one would report is empty.
pub fn render(agent: &Agent, ids: &HashIds, secret: Option<&Secret>) -> DatasourceAgent {
    DatasourceAgent {
        id: agent.public_key.clone(),
        kind: KIND,
        attributes: AgentAttributes {
            agent_id: agent.public_key.clone(),
            name: agent.name.clone(),
            version: None,
            address: None,
            connected: false,
            active_queries: 0,
            enabled: agent.enabled,
            created_at: Time(agent.created_at),
            updated_at: Time(agent.updated_at),
            secret_key: secret.map(|secret| secret.reveal().to_owned()),
        },
        relationships: AgentRelationships {
            datasources: ToMany::to(ids, datasources::KIND, agent.datasources.iter().copied()),
        },
    }
}

/// `id` is the one in the path; `None` if the agent is being created.
pub fn read(body: &[u8], id: Option<&str>) -> Result<Input<AgentChange>> {
    let creating = id.is_none();
    let read = document(
        body,
        KIND,
        id,
        |fields| {
            fields.ignore(&READ_ONLY);
            let cleared = fields.raw("name").map_or(creating, serde_json::Value::is_null);
            if cleared {
                fields.fault("name", "required", "is required");
            }
            let name = fields.optional("name", |field| field.text(1..=255)).value();
            // Clearing restores the default: enabled.
            let enabled = fields.optional("enabled", |field| field.bool()).change();
            AgentChange { name, enabled: enabled.map(|enabled| enabled.unwrap_or(true)) }
        },
        |fields| fields.ignore(&["datasources"]),
    )?;
    Ok(read.map(|(change, ()), _| change).named(|field| NAMES.pointer(field)))
}
