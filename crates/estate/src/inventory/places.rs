//! The columns that the visibility of inventory rows depends on.

use crate::identity::Place;

/// For `datasources d`. A built-in datasource exists in every unit.
pub const DATASOURCES: Place =
    Place { unit: "d.ou_id", named: Some("d.id IN ($$)"), everywhere: Some("d.builtin IS NOT NULL") };

/// For `agents a`. An agent is visible in its unit, and with any datasource that uses it.
pub const AGENTS: Place = Place::named(
    "a.ou_id",
    "EXISTS (SELECT 1 FROM datasource_agents l WHERE l.agent_id = a.id AND l.datasource_id IN ($$))",
);
