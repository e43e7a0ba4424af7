//! Incidents on the wire.

use serde_json::Value;
use utoipa::ToSchema;

use super::{ServiceArgument, TimeArgument};

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct IncidentArguments {
    #[schema(min_length = 1, max_length = 255)]
    reference_id: String,
    /// Seconds or milliseconds since 1970, or ISO 8601. Required for a new incident.
    started_at: Option<TimeArgument>,
    #[schema(max_length = 4096)]
    name: Option<String>,
    /// `p1` and so on.
    #[schema(max_length = 255)]
    priority: Option<String>,
    #[schema(max_length = 4096)]
    source_url: Option<String>,
    /// Null if not resolved.
    resolved_at: Option<TimeArgument>,
    /// Strings, or `{identifier, name}`. Replaces all services; required by `incidents.sync`.
    #[schema(max_items = 1000)]
    services: Option<Vec<ServiceArgument>>,
    /// Replaces all metadata; null and an empty object delete it.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}
