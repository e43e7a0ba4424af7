//! Everything that must be in order before something is deployed: what the environment allows, and whether every property
//! of the revisions has a value that may be used there. All of it is found together.

use std::collections::{BTreeMap, BTreeSet};

use landreeve_core::{Action, Error, Fault, OpCtx, Permission, Result};

use super::plan::{self, Place};
use super::{drift, scripts, secrets};
use crate::access;
use crate::apply::Script;
use crate::clusters::Cluster;
use crate::configuration::{self, Configuration, DeploymentType};
use crate::environments::Environment;
use crate::plane::Promotion;
use crate::properties::{self, Value};
use crate::revisions::{self, Revision, RevisionText};
use crate::servers::{self, Server, ServerType};
use crate::vql::ast::{Definition, Statement};
use crate::vql::properties::Properties;
use crate::vql::{self, script};

/// What stands for a secret where it must not be seen.
pub const MASK: &str = "***";

/// The code of faults of servers whose node cannot be reached whatever its state is.
pub(super) const UNREADY: &str = "unready";

/// Whether the properties of revisions are in order for an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    pub environment: Environment,
    /// Only revisions with a problem.
    pub problems: Vec<RevisionProblems>,
    /// Properties without a value, with the value where the revision comes from as the caller may see it.
    pub missing: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionProblems {
    pub revision: String,
    pub missing: Vec<String>,
    /// Values that cannot be used, and secrets in wrong places; each a sentence.
    pub faults: Vec<String>,
}

impl Validation {
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What a deployment needs, and what is wrong with it.
pub(crate) struct Checked {
    pub environment: Environment,
    pub configuration: Configuration,
    pub places: Vec<Place>,
    pub scripts: Vec<Script>,
    /// The values of all properties.
    pub properties: Properties,
    /// Values that must not be seen.
    pub secrets: Vec<String>,
    /// The virtual databases that the scripts name.
    pub services: BTreeSet<String>,
    pub validation: Validation,
    /// Everything but properties.
    pub faults: Vec<Fault>,
}

/// Maximum number of problems of one revision that are reported.
const MAX_PROBLEMS: usize = 100;

/// Checks revisions for an environment. Permissions were checked by the use case.
pub(crate) async fn check(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: Environment,
    revisions: &[Revision],
) -> Result<Checked> {
    let (configuration, topology) = {
        let mut conn = plane.estate().store().read().await?;
        let configuration = configuration::load(&mut conn, environment.id).await?;
        (configuration, servers::topology(&mut conn, environment.id).await?)
    };
    let places = plan::places(&topology);
    let mut faults = allowed(&configuration, &places);
    faults.extend(supported(plane, &configuration, &topology));
    faults.extend(scripts_ready(plane, &configuration, &places).await?);
    if configuration.refuse_on_drift {
        faults.extend(drifted(plane, ctx, &places).await?);
    }
    let mut texts = Vec::with_capacity(revisions.len());
    for revision in revisions {
        texts.push((revision.name.clone(), revisions::text(plane, revision.id).await?));
    }
    let sees = may_see_values(ctx, &environment);
    let filled = fill(plane, &environment, texts).await?;
    let Filled { scripts, properties, secrets, services, problems, missing } = filled;
    let missing = missing.into_iter().map(|(name, value)| {
        let hidden = !sees && properties::is_secret(&name) && !value.is_empty();
        (name, if hidden { MASK.to_owned() } else { value })
    });
    let validation = Validation { environment: environment.clone(), problems, missing: missing.collect() };
    Ok(Checked {
        environment,
        configuration,
        places,
        scripts,
        properties,
        secrets,
        services,
        validation,
        faults,
    })
}

/// Managers of deployments there also manage the properties.
fn may_see_values(ctx: &OpCtx, environment: &Environment) -> bool {
    let manage = Permission::new(environment.scenario().noun(), Action::MANAGE);
    ctx.authority().allows(manage, &environment.ou_path, environment.id.0)
}

fn fault(code: &'static str, message: impl Into<String>) -> Fault {
    Fault::new("", code, message)
}

/// What the configuration says about deployments.
fn allowed(configuration: &Configuration, places: &[Place]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !configuration.deployments_enabled {
        faults.push(fault("disabled", "deployments to this environment are disabled in its configuration"));
    }
    let enabled = places.iter().filter(|place| place.is_enabled()).count();
    if enabled == 0 {
        let message = "the environment has no enabled cluster with an enabled server to deploy to";
        faults.push(fault("no_server", message));
    }
    if let Some(configured) = configuration.configured_clusters
        && u32::try_from(enabled) != Ok(configured)
    {
        let message = format!(
            "the deployment configuration is for {configured} clusters, but {enabled} are enabled; save it again"
        );
        faults.push(fault("clusters_changed", message));
    }
    faults
}

/// What this program cannot do, or not as it is configured, and servers that it cannot sign in to, by name.
fn supported(
    plane: &Promotion,
    configuration: &Configuration,
    topology: &[(Cluster, Vec<Server>)],
) -> Vec<Fault> {
    let mut faults = Vec::new();
    if configuration.backup_enabled && plane.repository().is_none() {
        let message = "backupEnabled needs a repository: set [promotion] git_repository";
        faults.push(fault("no_repository", message));
    }
    let enabled = topology.iter().filter(|(cluster, _)| cluster.enabled);
    let servers = enabled.flat_map(|(_, servers)| servers);
    for server in servers.filter(|server| server.enabled && server.kind == ServerType::Vdp) {
        if server.use_kerberos {
            let message = format!("the server {} has useKerberos, which is not supported", server.name);
            faults.push(fault("kerberos", message));
        }
        faults.extend(access::unready(plane, server).map(|message| fault(UNREADY, message)));
    }
    faults
}

/// The scripts of the pair that is used, and a value for each of their variables.
async fn scripts_ready(
    plane: &Promotion,
    configuration: &Configuration,
    places: &[Place],
) -> Result<Vec<Fault>> {
    if configuration.deployment_type != DeploymentType::NoDowntime {
        return Ok(Vec::new());
    }
    let pair = scripts::pair(configuration, plan::takes_out_clusters(places));
    let mut faults = Vec::new();
    for (what, script) in pair {
        match script {
            None => {
                let message = format!("the deployment configuration has no script to {what}");
                faults.push(fault("no_script", message));
            }
            Some(script) => {
                if let Err(reason) = scripts::find(plane, &script.file) {
                    let message = format!("the script {:?} to {what} {reason}", script.file);
                    faults.push(fault("script", message));
                }
            }
        }
    }
    faults.extend(scripts::without_values(plane, configuration, places).await?);
    Ok(faults)
}

async fn drifted(plane: &Promotion, ctx: &OpCtx, places: &[Place]) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for server in places.iter().flat_map(Place::enabled_servers) {
        let found = drift::of_server(plane, ctx, server.id, &server.name).await?;
        if found.state == drift::DriftState::Drifted {
            let message = format!(
                "the server {} was changed since it was last deployed to, and refuseOnDrift is set",
                server.name
            );
            faults.push(fault("drifted", message));
        }
    }
    Ok(faults)
}

struct Filled {
    scripts: Vec<Script>,
    properties: Properties,
    secrets: Vec<String>,
    services: BTreeSet<String>,
    problems: Vec<RevisionProblems>,
    missing: BTreeMap<String, String>,
}

/// Reads the values of all properties once, and checks how they are used.
async fn fill(
    plane: &Promotion,
    environment: &Environment,
    texts: Vec<(String, RevisionText)>,
) -> Result<Filled> {
    // The texts may be many megabytes.
    let (texts, names) = blocking(move || {
        let each: Vec<BTreeSet<String>> =
            texts.iter().map(|(_, text)| script::property_names(&text.vql)).collect();
        (texts, each)
    })
    .await?;
    let all: BTreeSet<String> = names.iter().flatten().cloned().collect();
    let values = properties::values_of(plane, environment.id, &all).await?;
    blocking(move || filled(texts, &names, &values)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

fn filled(
    texts: Vec<(String, RevisionText)>,
    names: &[BTreeSet<String>],
    values: &BTreeMap<String, Value>,
) -> Filled {
    let mut found = Filled {
        scripts: Vec::with_capacity(texts.len()),
        properties: Properties::new(),
        secrets: Vec::new(),
        services: BTreeSet::new(),
        problems: Vec::new(),
        missing: BTreeMap::new(),
    };
    for (name, value) in values {
        match value {
            Value::Plain(text) => drop(found.properties.insert(name.clone(), text.clone())),
            Value::Secret(secret) => {
                found.properties.insert(name.clone(), secret.reveal().to_owned());
                if !secret.is_empty() {
                    found.secrets.push(secret.reveal().to_owned());
                }
            }
            Value::Ciphertext(_) | Value::Undefined => {}
        }
    }
    for ((revision, text), names) in texts.into_iter().zip(names) {
        let mut problems =
            RevisionProblems { revision: revision.clone(), missing: Vec::new(), faults: Vec::new() };
        for name in names.iter().filter(|name| !found.properties.contains_key(*name)) {
            if let Some(Value::Ciphertext(_)) = values.get(name) {
                problems.faults.push(format!(
                    "the value of {name} was encrypted by another program and cannot be opened here; set the value \
                     itself"
                ));
            } else {
                problems.missing.push(name.clone());
                let source = text.properties.get(name).cloned().unwrap_or_default();
                found.missing.insert(name.clone(), source);
            }
        }
        let secret = |name: &str| {
            properties::is_secret(name)
                || matches!(values.get(name), Some(Value::Secret(_) | Value::Ciphertext(_)))
        };
        problems.faults.extend(secrets::misuses(&text.vql, secret).iter().map(ToString::to_string));
        if problems.missing.is_empty() && problems.faults.is_empty() {
            match script::pieces(&text.vql, &found.properties) {
                Ok(pieces) => found.services.extend(pieces.iter().filter_map(service)),
                Err(faults) => problems.faults.extend(faults.iter().map(ToString::to_string)),
            }
        }
        problems.faults.truncate(MAX_PROBLEMS);
        if !problems.missing.is_empty() || !problems.faults.is_empty() {
            found.problems.push(problems);
        }
        found.scripts.push(Script { name: revision, text: text.vql });
    }
    found
}

/// The virtual database that a statement names.
fn service(piece: &script::Piece) -> Option<String> {
    match vql::statement(piece).ok()? {
        Statement::Connect { database } => Some(database),
        Statement::AlterDatabase { name, .. } => Some(name),
        Statement::Create { name, definition: Definition::Database(_), .. } => Some(name.name),
        Statement::Create { name, .. } | Statement::Keep { name, .. } => name.database,
        Statement::Drop(drop) if drop.target == vql::ast::Target::Database => Some(drop.name.name),
        Statement::Drop(drop) => drop.name.database,
        _ => None,
    }
}

/// A text without the values of secrets.
pub(crate) fn masked(text: &str, secrets: &[String]) -> String {
    // A value of one or two characters is in every text. In a literal its quotes are doubled.
    let known = secrets.iter().filter(|secret| secret.len() >= 3);
    let mut forms: Vec<String> =
        known.flat_map(|secret| [secret.replace('\'', "''"), secret.clone()]).collect();
    // One that is a part of another would leave the rest of it.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), MASK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_masked() {
        let secrets = ["abc", "abcdef", "it's", "xy"].map(str::to_owned);
        for (text, shown) in
            [("1abcdef2", "1***2"), ("abc", "***"), ("'it''s' it's", "'***' ***"), ("xy", "xy")]
        {
            assert_eq!(masked(text, &secrets), shown);
        }
    }
}
