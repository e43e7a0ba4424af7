//! Where rows of the inventory say what their visibility depends on.

use crate::identity::Place;

/// Of `datasources d`. A built-in datasource is in every unit.
pub const DATASOURCES: Place =
    Place { unit: "d.ou_id", named: Some("d.id IN ($$)"), everywhere: Some("d.builtin IS NOT NULL") };

/// Of `agents a`. An agent is seen where its unit is, and with any datasource that uses it.
pub const AGENTS: Place = Place::named(
    "a.ou_id",
    "EXISTS (SELECT 1 FROM datasource_agents l WHERE l.agent_id = a.id AND l.datasource_id IN ($$))",
);
