//! Incidents on the wire.

use serde_json::Value;
use utoipa::ToSchema;

#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body that is read with all its faults")]
pub struct IncidentArguments {
    reference_id: String,
    /// Seconds or milliseconds since 1970, or ISO 8601. Required of a new incident.
    started_at: Option<Value>,
    name: Option<String>,
    /// `p1` and so on.
    priority: Option<String>,
    source_url: Option<String>,
    /// Null: not resolved.
    resolved_at: Option<Value>,
    /// Texts, or `{identifier, name}`. They take the place of all that were there; `incidents.sync` needs them.
    services: Option<Vec<Value>>,
    /// Takes the place of all that was there; null and an empty object delete it.
    metadata: Option<Value>,
}
