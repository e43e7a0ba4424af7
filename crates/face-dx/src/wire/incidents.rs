//! Incidents on the wire.

use serde_json::Value;
use utoipa::ToSchema;

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct IncidentArguments {
    reference_id: String,
    /// Seconds or milliseconds since 1970, or ISO 8601. Required for a new incident.
    started_at: Option<Value>,
    name: Option<String>,
    /// `p1` and so on.
    priority: Option<String>,
    source_url: Option<String>,
    /// Null if not resolved.
    resolved_at: Option<Value>,
    /// Strings, or `{identifier, name}`. Replaces all services; required by `incidents.sync`.
    services: Option<Vec<Value>>,
    /// Replaces all metadata; null and an empty object delete it.
    metadata: Option<Value>,
}
