//! The tables and their columns. They have the names of the Data Cloud's documented schema, as far as the plane has the
//! facts; times are `timestamptz`, durations are in seconds.

use crate::sha::same;

/// How a column's value is stored and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Float,
    Text,
    Bool,
    /// Microseconds in the store.
    Instant,
    /// An id, shown as the API shows it.
    SourceId,
    /// A JSON document.
    Json,
    /// A JSON array of strings, shown as a list.
    Texts,
}

#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    /// An expression over the definition's `from`.
    pub sql: &'static str,
    pub kind: Kind,
}

#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub from: &'static str,
    /// The column that holds the row's unit.
    pub ou: &'static str,
    pub columns: &'static [Column],
}

const fn int(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::Int }
}

const fn float(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::Float }
}

const fn text(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::Text }
}

const fn bool(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::Bool }
}

const fn instant(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::Instant }
}

const fn source_id(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::SourceId }
}

const fn json(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::Json }
}

const fn texts(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql, kind: Kind::Texts }
}

/// The deployment that an incident `i` on a service `x` counts against: the last one of the service before it.
macro_rules! deployment_before {
    () => {
        "(SELECT p.id FROM delivery_deployments p WHERE p.service_id = x.service_id \
         AND p.environment = 'production' AND p.success = 1 AND p.deployed_at <= i.started_at \
         ORDER BY p.deployed_at DESC, p.id DESC LIMIT 1)"
    };
}

/// Left joins, even for rows that always exist: if none of their columns is selected, both databases can skip such a
/// join.
pub const TABLES: &[Definition] = &[
    Definition {
        name: "deployments",
        from: "delivery_deployments d LEFT JOIN delivery_services s ON s.id = d.service_id \
               LEFT JOIN delivery_repos r ON r.id = d.repo_id",
        ou: "d.ou_id",
        columns: &[
            int("id", "d.id"),
            text("reference_id", "d.reference_id"),
            int("service_id", "d.service_id"),
            int("deployment_service_id", "d.service_id"),
            text("service", "s.name"),
            text("repository", "r.name"),
            text("commit_sha", "d.commit_sha"),
            texts("merge_commit_shas", "d.merge_commit_shas"),
            text("environment", "d.environment"),
            instant("deployed_at", "d.deployed_at"),
            bool("success", "d.success"),
            text("source_url", "d.source_url"),
            text("source_name", "d.source_name"),
            text("integration_branch", "d.integration_branch"),
            instant("attributed_at", "d.attributed_at"),
        ],
    },
    Definition {
        name: "deployment_services",
        from: "delivery_services s",
        ou: "s.ou_id",
        columns: &[
            int("id", "s.id"),
            text("name", "s.name"),
            text("identifier", "s.identifier"),
            int(
                "latest_deployment_id",
                "(SELECT d.id FROM delivery_deployments d WHERE d.service_id = s.id \
                 ORDER BY d.deployed_at DESC, d.id DESC LIMIT 1)",
            ),
        ],
    },
    Definition {
        name: "deployment_metadata",
        from: "delivery_deployment_metadata m",
        ou: "m.ou_id",
        columns: &[int("deployment_id", "m.deployment_id"), text("key", "m.key"), text("value", "m.value")],
    },
    Definition {
        name: "pull_requests",
        from: "(SELECT * FROM delivery_changes WHERE kind = 'pull') c LEFT JOIN delivery_repos r ON r.id = c.repo_id",
        ou: "c.ou_id",
        columns: &[
            int("id", "c.id"),
            text("external_id", "c.reference_id"),
            text("repository", "r.name"),
            int("repo_id", "c.repo_id"),
            int("number", "c.number"),
            text("title", "c.title"),
            text("base_ref", "c.branch"),
            text("head_ref", "c.head_ref"),
            bool("bot_authored", "c.bot_authored"),
            instant("first_commit_at", "c.first_commit_at"),
            instant("created", "c.opened_at"),
            instant("merged", "c.landed_at"),
            instant("closed", "c.closed_at"),
            text("merge_commit_sha", "c.sha"),
            int("dx_user_id", "c.person_id"),
            int("dx_team_id", "c.team_id"),
            int(
                "dx_versioned_team_member_id",
                "(SELECT m.id FROM delivery_memberships m WHERE m.person_id = c.person_id \
                 AND m.from_at <= c.opened_at AND (m.until_at IS NULL OR m.until_at > c.opened_at) \
                 ORDER BY m.from_at DESC, m.id DESC LIMIT 1)",
            ),
            int("open_to_merge", "(c.landed_at - c.opened_at) / 1000000"),
        ],
    },
    Definition {
        name: "commits",
        from: "(SELECT * FROM delivery_changes WHERE kind = 'commit') c LEFT JOIN delivery_repos r ON r.id = c.repo_id",
        ou: "c.ou_id",
        columns: &[
            int("id", "c.id"),
            text("repository", "r.name"),
            int("repo_id", "c.repo_id"),
            text("sha", "c.sha"),
            text("branch", "c.branch"),
            text("title", "c.title"),
            text("author_email", "c.author_email"),
            instant("committed_at", "c.landed_at"),
            texts("parents", "c.parents"),
            int("pull_id", "c.part_of"),
            int("dx_user_id", "c.person_id"),
            int("dx_team_id", "c.team_id"),
        ],
    },
    Definition {
        name: "pull_deployments",
        from: "delivery_change_deployments a JOIN delivery_changes c ON c.id = a.change_id AND c.kind = 'pull' \
               LEFT JOIN delivery_targets t ON t.id = a.target_id LEFT JOIN delivery_services s ON s.id = a.service_id",
        ou: "a.ou_id",
        columns: &[
            int("pull_id", "a.change_id"),
            int("deployment_id", "a.deployment_id"),
            text("environment", "t.environment"),
            text("service", "s.name"),
            instant("deployed_at", "a.deployed_at"),
            int("merge_to_deploy", "(a.deployed_at - a.landed_at) / 1000000"),
            int("open_to_deploy", "(a.deployed_at - a.opened_at) / 1000000"),
        ],
    },
    Definition {
        name: "pull_request_services",
        from: "delivery_pull_services p LEFT JOIN delivery_changes c ON c.id = p.change_id",
        ou: "p.ou_id",
        columns: &[
            int("id", "p.id"),
            int("pull_request_id", "p.change_id"),
            int("deployment_service_id", "p.service_id"),
            int("source_table_repo_id", "p.repo_id"),
            int("pull_source_id", "p.github_pull_id"),
            int("pull_number", "p.number"),
            text("merge_commit_sha", "c.sha"),
        ],
    },
    Definition {
        name: "incidents",
        from: "delivery_incidents i",
        ou: "i.ou_id",
        columns: &[
            int("id", "i.id"),
            text("reference_id", "i.reference_id"),
            text("name", "i.name"),
            text("priority", "i.priority"),
            text("source_url", "i.source_url"),
            instant("started_at", "i.started_at"),
            instant("resolved_at", "i.resolved_at"),
        ],
    },
    Definition {
        name: "incident_services",
        from: "delivery_incident_services x LEFT JOIN delivery_services s ON s.id = x.service_id",
        ou: "x.ou_id",
        columns: &[
            int("incident_id", "x.incident_id"),
            text("service", "s.name"),
            text("identifier", "s.identifier"),
            int("deployment_service_id", "x.service_id"),
        ],
    },
    Definition {
        name: "incident_metadata",
        from: "delivery_incident_metadata m",
        ou: "m.ou_id",
        columns: &[int("incident_id", "m.incident_id"), text("key", "m.key"), text("value", "m.value")],
    },
    Definition {
        name: "pipeline_runs",
        from: "delivery_pipeline_runs p LEFT JOIN delivery_repos r ON r.id = p.repo_id \
               LEFT JOIN delivery_identifiers u ON u.ou_id = p.ou_id AND u.kind = 'email' AND u.value = p.email \
               LEFT JOIN delivery_identifiers g ON g.ou_id = p.ou_id AND g.kind = 'github_username' \
               AND g.value = p.github_username \
               LEFT JOIN delivery_identifiers l ON l.ou_id = p.ou_id AND l.kind = 'gitlab_username' \
               AND l.value = p.gitlab_username",
        ou: "p.ou_id",
        columns: &[
            int("id", "p.id"),
            text("reference_id", "p.reference_id"),
            text("pipeline_source", "p.source"),
            text("name", "p.name"),
            text("status", "p.status"),
            instant("started_at", "p.started_at"),
            instant("finished_at", "p.finished_at"),
            instant("updated_at", "p.updated_at"),
            int("duration", "(p.finished_at - p.started_at) / 1000000"),
            text("repository", "r.name"),
            text("commit_sha", "p.commit_sha"),
            text("head_branch", "p.head_branch"),
            int("pr_number", "p.pr_number"),
            int(
                "pull_id",
                concat!(
                    "COALESCE((SELECT c.id FROM delivery_changes c WHERE c.repo_id = p.repo_id \
                     AND c.number = p.pr_number), \
                     (SELECT min(c.id) FROM delivery_changes c WHERE c.repo_id = p.repo_id AND c.kind = 'pull' AND ",
                    same!("p.commit_sha", "c.sha"),
                    "), (SELECT min(k.change_id) FROM delivery_pull_commits k WHERE k.repo_id = p.repo_id AND ",
                    same!("p.commit_sha", "k.sha"),
                    "))"
                ),
            ),
            int("dx_user_id", "COALESCE(u.person_id, g.person_id, l.person_id)"),
            text("email", "p.email"),
            text("github_username", "p.github_username"),
            text("gitlab_username", "p.gitlab_username"),
            text("source_url", "p.source_url"),
        ],
    },
    Definition {
        name: "custom_data",
        from: "delivery_custom_data c",
        ou: "c.ou_id",
        columns: &[
            int("id", "c.id"),
            text("reference", "c.reference"),
            text("key", "c.key"),
            json("value", "c.value"),
            instant("timestamp", "c.at"),
        ],
    },
    Definition {
        name: "repos",
        from: "delivery_repos r",
        ou: "r.ou_id",
        columns: &[
            int("id", "r.id"),
            text("name", "r.name"),
            text("default_branch", "r.default_branch"),
            text("source", "r.source"),
            text("external_id", "r.external_id"),
        ],
    },
    Definition {
        name: "dx_users",
        from: "delivery_people p",
        ou: "p.ou_id",
        columns: &[
            int("id", "p.id"),
            source_id("source_id", "p.id"),
            text("name", "p.name"),
            text("email", "p.email"),
            int(
                "team_id",
                "(SELECT m.team_id FROM delivery_memberships m WHERE m.person_id = p.id AND m.until_at IS NULL \
                 ORDER BY m.from_at DESC, m.id DESC LIMIT 1)",
            ),
            text("github_username", "p.github_username"),
            text("additional_github_username", "p.additional_github_username"),
            text("gitlab_username", "p.gitlab_username"),
            text("start_date", "p.start_date"),
            text("ai_light_adoption_date", "p.ai_light_adoption_date"),
            text("ai_moderate_adoption_date", "p.ai_moderate_adoption_date"),
            text("ai_heavy_adoption_date", "p.ai_heavy_adoption_date"),
            instant("deleted_at", "p.deleted_at"),
        ],
    },
    Definition {
        name: "dx_user_identifiers",
        from: "delivery_identifiers i",
        ou: "i.ou_id",
        columns: &[int("user_id", "i.person_id"), text("kind", "i.kind"), text("value", "i.value")],
    },
    Definition {
        name: "dx_teams",
        from: "delivery_teams t LEFT JOIN delivery_teams w ON w.id = t.parent_id \
               LEFT JOIN delivery_people p ON p.id = t.lead_id \
               LEFT JOIN (WITH RECURSIVE above (id, label) AS \
               (SELECT id, CAST('ALL' AS TEXT) FROM delivery_teams WHERE parent_id IS NULL UNION ALL \
               SELECT k.id, a.label || ' » ' || n.name FROM above a JOIN delivery_teams n ON n.id = a.id \
               JOIN delivery_teams k ON k.parent_id = n.id) SELECT * FROM above) u ON u.id = t.id",
        ou: "t.ou_id",
        columns: &[
            int("id", "t.id"),
            source_id("source_id", "t.id"),
            text("reference_id", "t.reference_id"),
            text("name", "t.name"),
            int("parent_id", "t.parent_id"),
            source_id("source_parent_id", "t.parent_id"),
            text("parent_name", "w.name"),
            text("flattened_parent", "u.label"),
            int("manager_id", "t.lead_id"),
            source_id("source_manager_id", "t.lead_id"),
            text("manager_email", "p.email"),
            bool(
                "parent",
                "CAST(CASE WHEN EXISTS (SELECT 1 FROM delivery_teams k WHERE k.parent_id = t.id \
                 AND k.deleted_at IS NULL) THEN 1 ELSE 0 END AS BIGINT)",
            ),
            int(
                "contributors",
                "(SELECT count(*) FROM delivery_memberships m WHERE m.team_id = t.id AND m.until_at IS NULL)",
            ),
            instant("deleted_at", "t.deleted_at"),
        ],
    },
    Definition {
        name: "dx_team_hierarchies",
        from: "(WITH RECURSIVE closure (ancestor_id, descendant_id, generations, ou_id) AS \
               (SELECT id, id, CAST(0 AS BIGINT), ou_id FROM delivery_teams UNION ALL \
               SELECT c.ancestor_id, t.id, c.generations + 1, t.ou_id FROM closure c \
               JOIN delivery_teams t ON t.parent_id = c.descendant_id) SELECT * FROM closure) h",
        ou: "h.ou_id",
        columns: &[
            int("ancestor_id", "h.ancestor_id"),
            int("descendant_id", "h.descendant_id"),
            int("generations", "h.generations"),
        ],
    },
    Definition {
        name: "dx_versioned_team_members",
        from: "delivery_memberships m",
        ou: "m.ou_id",
        columns: &[
            int("id", "m.id"),
            int("user_id", "m.person_id"),
            int("team_id", "m.team_id"),
            instant("from_at", "m.from_at"),
            instant("until_at", "m.until_at"),
        ],
    },
    Definition {
        name: "dora_deployments",
        from: concat!(
            "delivery_deployments d LEFT JOIN delivery_services s ON s.id = d.service_id \
             LEFT JOIN delivery_repos r ON r.id = d.repo_id LEFT JOIN delivery_teams t ON t.id = d.team_id \
             LEFT JOIN (SELECT ",
            deployment_before!(),
            " AS deployment_id, count(*) AS incidents FROM delivery_incidents i \
             JOIN delivery_incident_services x ON x.incident_id = i.id GROUP BY 1) f ON f.deployment_id = d.id"
        ),
        ou: "d.ou_id",
        columns: &[
            int("deployment_id", "d.id"),
            text("reference_id", "d.reference_id"),
            instant("deployed_at", "d.deployed_at"),
            text("service", "s.identifier"),
            text("repository", "r.name"),
            text("environment", "d.environment"),
            text("team", "t.name"),
            int("team_id", "d.team_id"),
            bool("success", "d.success"),
            bool("failed", "CAST(CASE WHEN f.incidents > 0 THEN 1 ELSE 0 END AS BIGINT)"),
            int("incidents", "COALESCE(f.incidents, 0)"),
        ],
    },
    Definition {
        name: "dora_changes",
        from: "delivery_change_deployments a LEFT JOIN delivery_targets x ON x.id = a.target_id \
               LEFT JOIN delivery_services s ON s.id = a.service_id LEFT JOIN delivery_repos r ON r.id = x.repo_id \
               LEFT JOIN delivery_teams t ON t.id = a.team_id",
        ou: "a.ou_id",
        columns: &[
            int("change_id", "a.change_id"),
            int("deployment_id", "a.deployment_id"),
            instant("deployed_at", "a.deployed_at"),
            instant("first_commit_at", "a.first_commit_at"),
            instant("opened_at", "a.opened_at"),
            instant("merged_at", "a.landed_at"),
            float(
                "lead_time_seconds",
                "(a.deployed_at - COALESCE(a.first_commit_at, a.opened_at)) / 1000000.0",
            ),
            text("service", "s.identifier"),
            text("repository", "r.name"),
            text("environment", "x.environment"),
            text("team", "t.name"),
            int("team_id", "a.team_id"),
        ],
    },
    Definition {
        name: "dora_incidents",
        from: concat!(
            "delivery_incidents i LEFT JOIN delivery_incident_services x ON x.incident_id = i.id \
             LEFT JOIN delivery_services s ON s.id = x.service_id LEFT JOIN delivery_deployments d ON d.id = ",
            deployment_before!(),
            " LEFT JOIN delivery_repos r ON r.id = d.repo_id LEFT JOIN delivery_teams t ON t.id = d.team_id"
        ),
        ou: "i.ou_id",
        columns: &[
            int("incident_id", "i.id"),
            text("reference_id", "i.reference_id"),
            text("name", "i.name"),
            text("priority", "i.priority"),
            instant("started_at", "i.started_at"),
            instant("resolved_at", "i.resolved_at"),
            text("service", "s.identifier"),
            text("repository", "r.name"),
            text("environment", "d.environment"),
            text("team", "t.name"),
            int("team_id", "d.team_id"),
            int("deployment_id", "d.id"),
            instant("deployed_at", "d.deployed_at"),
            float("recovery_seconds", "(i.resolved_at - d.deployed_at) / 1000000.0"),
            float("resolution_seconds", "(i.resolved_at - i.started_at) / 1000000.0"),
        ],
    },
];
