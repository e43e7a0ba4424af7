-- What was deployed, what was in it, what broke; and who works here. Names that are unique are unique in their unit.

CREATE TABLE delivery_repos (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    -- The name in lower case: what is matched.
    match_name TEXT NOT NULL,
    -- NULL: main or master, whichever is used.
    default_branch TEXT,
    source TEXT,
    external_id TEXT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_repos_name ON delivery_repos (ou_id, match_name);

CREATE TABLE delivery_services (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    identifier TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_services_identifier ON delivery_services (ou_id, identifier);

-- A service deployed from a repository into an environment: within one of these a change is deployed once.
CREATE TABLE delivery_targets (
    id BIGINT PRIMARY KEY,
    repo_id BIGINT NOT NULL REFERENCES delivery_repos (id),
    service_id BIGINT NOT NULL REFERENCES delivery_services (id),
    environment TEXT NOT NULL
);
CREATE UNIQUE INDEX delivery_targets_parts ON delivery_targets (repo_id, service_id, environment);

CREATE TABLE delivery_deployments (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    reference_id TEXT NOT NULL,
    -- 'api', or 'promotion' for one that an event told of.
    origin TEXT NOT NULL,
    service_id BIGINT NOT NULL REFERENCES delivery_services (id),
    repo_id BIGINT REFERENCES delivery_repos (id),
    target_id BIGINT REFERENCES delivery_targets (id),
    environment TEXT NOT NULL,
    deployed_at BIGINT NOT NULL,
    success BIGINT NOT NULL,
    commit_sha TEXT,
    -- A JSON array; each of them is a row of delivery_deployment_shas too.
    merge_commit_shas TEXT,
    integration_branch TEXT,
    source_url TEXT,
    source_name TEXT,
    metadata TEXT,
    -- What it covers: changes of this line (an empty one is the default branch) that landed up to here.
    line TEXT,
    position BIGINT,
    attributed_at BIGINT,
    -- Until when an attribution is tried again.
    attribute_until BIGINT NOT NULL,
    team_id BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_deployments_reference ON delivery_deployments (ou_id, reference_id);
CREATE INDEX delivery_deployments_at ON delivery_deployments (deployed_at);
CREATE INDEX delivery_deployments_service ON delivery_deployments (service_id, environment, deployed_at);
CREATE INDEX delivery_deployments_target ON delivery_deployments (target_id, line, position, deployed_at);
CREATE INDEX delivery_deployments_sha ON delivery_deployments (repo_id, commit_sha);
CREATE INDEX delivery_deployments_pending ON delivery_deployments (repo_id, attribute_until) WHERE attributed_at IS NULL;

CREATE TABLE delivery_deployment_shas (
    deployment_id BIGINT NOT NULL REFERENCES delivery_deployments (id) ON DELETE CASCADE,
    sha TEXT NOT NULL,
    PRIMARY KEY (deployment_id, sha)
);
CREATE INDEX delivery_deployment_shas_sha ON delivery_deployment_shas (sha);

CREATE TABLE delivery_deployment_metadata (
    deployment_id BIGINT NOT NULL REFERENCES delivery_deployments (id) ON DELETE CASCADE,
    ou_id BIGINT NOT NULL,
    -- Nested keys are joined with a dot.
    key TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (deployment_id, key)
);

-- What can be deployed: a pull request, or a commit that came without one.
CREATE TABLE delivery_changes (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    repo_id BIGINT NOT NULL REFERENCES delivery_repos (id),
    -- 'pull' or 'commit'.
    kind TEXT NOT NULL,
    number BIGINT,
    reference_id TEXT,
    -- The merge commit of a pull request; the commit itself.
    sha TEXT,
    -- The branch as it was told, and the line: the same, but empty for the default branch.
    branch TEXT NOT NULL,
    line TEXT NOT NULL,
    head_ref TEXT,
    title TEXT,
    author_email TEXT,
    author_username TEXT,
    bot_authored BIGINT NOT NULL,
    person_id BIGINT,
    team_id BIGINT,
    opened_at BIGINT NOT NULL,
    -- Of a pull request: as it was told, else the first of its commits that is known.
    first_commit_at BIGINT,
    first_commit_told BIGINT NOT NULL,
    -- When it was merged or committed; NULL: it is not there yet.
    landed_at BIGINT,
    closed_at BIGINT,
    -- JSON array: the parents of a commit.
    parents TEXT,
    -- The pull request that a commit belongs to; such a commit is no change of its own.
    part_of BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_changes_number ON delivery_changes (repo_id, number);
CREATE UNIQUE INDEX delivery_changes_commit ON delivery_changes (repo_id, branch, sha) WHERE kind = 'commit';
CREATE INDEX delivery_changes_sha ON delivery_changes (repo_id, sha);
CREATE INDEX delivery_changes_any_sha ON delivery_changes (sha) WHERE kind = 'pull';
CREATE INDEX delivery_changes_landed ON delivery_changes (repo_id, line, landed_at);
CREATE INDEX delivery_changes_email ON delivery_changes (ou_id, author_email);
CREATE INDEX delivery_changes_reference ON delivery_changes (ou_id, reference_id) WHERE reference_id IS NOT NULL;
CREATE INDEX delivery_changes_username ON delivery_changes (ou_id, author_username);
CREATE INDEX delivery_changes_person ON delivery_changes (person_id) WHERE person_id IS NOT NULL;
CREATE INDEX delivery_changes_part_of ON delivery_changes (part_of) WHERE part_of IS NOT NULL;

-- The commits of pull requests, known or not.
CREATE TABLE delivery_pull_commits (
    change_id BIGINT NOT NULL REFERENCES delivery_changes (id) ON DELETE CASCADE,
    repo_id BIGINT NOT NULL,
    sha TEXT NOT NULL,
    PRIMARY KEY (change_id, sha)
);
CREATE INDEX delivery_pull_commits_sha ON delivery_pull_commits (repo_id, sha);

-- Pull requests that belong to some services only. The pull request itself may be told of later.
CREATE TABLE delivery_pull_services (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL,
    -- The repository and number, or GitHub's own id of the pull request.
    repo_id BIGINT,
    number BIGINT,
    github_pull_id BIGINT,
    change_id BIGINT,
    service_id BIGINT NOT NULL REFERENCES delivery_services (id)
);
CREATE UNIQUE INDEX delivery_pull_services_number ON delivery_pull_services (repo_id, number, service_id);
CREATE UNIQUE INDEX delivery_pull_services_github ON delivery_pull_services (ou_id, github_pull_id, service_id);
CREATE INDEX delivery_pull_services_change ON delivery_pull_services (change_id);

-- Which deployment a change went out with. The times of the change are copied, so that metrics read one table.
CREATE TABLE delivery_change_deployments (
    change_id BIGINT NOT NULL REFERENCES delivery_changes (id),
    target_id BIGINT NOT NULL REFERENCES delivery_targets (id),
    deployment_id BIGINT NOT NULL REFERENCES delivery_deployments (id),
    ou_id BIGINT NOT NULL,
    service_id BIGINT NOT NULL,
    deployed_at BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    first_commit_at BIGINT,
    landed_at BIGINT NOT NULL,
    team_id BIGINT,
    PRIMARY KEY (change_id, target_id)
);
CREATE INDEX delivery_change_deployments_deployment ON delivery_change_deployments (deployment_id);
CREATE INDEX delivery_change_deployments_at ON delivery_change_deployments (deployed_at);

CREATE TABLE delivery_incidents (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    reference_id TEXT NOT NULL,
    name TEXT,
    priority TEXT,
    source_url TEXT,
    started_at BIGINT NOT NULL,
    resolved_at BIGINT,
    metadata TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_incidents_reference ON delivery_incidents (ou_id, reference_id);
CREATE INDEX delivery_incidents_started ON delivery_incidents (started_at);

CREATE TABLE delivery_incident_services (
    incident_id BIGINT NOT NULL REFERENCES delivery_incidents (id) ON DELETE CASCADE,
    service_id BIGINT NOT NULL REFERENCES delivery_services (id),
    ou_id BIGINT NOT NULL,
    PRIMARY KEY (incident_id, service_id)
);
CREATE INDEX delivery_incident_services_service ON delivery_incident_services (service_id);

CREATE TABLE delivery_incident_metadata (
    incident_id BIGINT NOT NULL REFERENCES delivery_incidents (id) ON DELETE CASCADE,
    ou_id BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (incident_id, key)
);

CREATE TABLE delivery_pipeline_runs (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    reference_id TEXT NOT NULL,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    -- Of the notification that gave the status: of two with the same rank the earlier one holds.
    status_rank BIGINT NOT NULL,
    status_started_at BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    repo_id BIGINT REFERENCES delivery_repos (id),
    commit_sha TEXT,
    pr_number BIGINT,
    head_branch TEXT,
    source_url TEXT,
    email TEXT,
    github_username TEXT,
    gitlab_username TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_pipeline_runs_reference ON delivery_pipeline_runs (ou_id, source, reference_id);
CREATE INDEX delivery_pipeline_runs_started ON delivery_pipeline_runs (started_at);

CREATE TABLE delivery_custom_data (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    reference TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_custom_data_key ON delivery_custom_data (ou_id, reference, key);

CREATE TABLE delivery_people (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    -- The user of this estate with the same e-mail address, if there is one. Nobody can sign in as a person.
    user_id BIGINT,
    github_username TEXT,
    additional_github_username TEXT,
    gitlab_username TEXT,
    start_date TEXT,
    ai_light_adoption_date TEXT,
    ai_moderate_adoption_date TEXT,
    ai_heavy_adoption_date TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX delivery_people_email ON delivery_people (ou_id, email);

-- Every name by which a person is known, in lower case.
CREATE TABLE delivery_identifiers (
    ou_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    person_id BIGINT NOT NULL REFERENCES delivery_people (id) ON DELETE CASCADE,
    PRIMARY KEY (ou_id, kind, value)
);
CREATE INDEX delivery_identifiers_person ON delivery_identifiers (person_id);

CREATE TABLE delivery_teams (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    reference_id TEXT NOT NULL,
    name TEXT NOT NULL,
    parent_id BIGINT,
    lead_id BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX delivery_teams_reference ON delivery_teams (ou_id, reference_id);

-- Who was in which team, and when: from (0: as long as anybody knows) until (NULL: still).
CREATE TABLE delivery_memberships (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL,
    person_id BIGINT NOT NULL REFERENCES delivery_people (id) ON DELETE CASCADE,
    team_id BIGINT NOT NULL REFERENCES delivery_teams (id) ON DELETE CASCADE,
    from_at BIGINT NOT NULL,
    until_at BIGINT
);
CREATE INDEX delivery_memberships_person ON delivery_memberships (person_id, from_at);
CREATE INDEX delivery_memberships_team ON delivery_memberships (team_id);

CREATE TABLE delivery_team_events (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL,
    team_id BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    from_value TEXT,
    to_value TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX delivery_team_events_ou ON delivery_team_events (ou_id, id);

-- Queries that somebody saved, to be read with a token.
CREATE TABLE delivery_feeds (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    sql TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX delivery_feeds_name ON delivery_feeds (ou_id, name);

-- Roles of estates that are older than this plane.
INSERT INTO role_permissions (role_id, permission)
    SELECT r.role_id, n.noun || ':manage'
    FROM (SELECT DISTINCT role_id FROM role_permissions WHERE permission = 'datasource:manage') r,
        (SELECT 'delivery' AS noun UNION SELECT 'person' UNION SELECT 'team' UNION SELECT 'feed') n;
