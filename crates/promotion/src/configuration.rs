//! How an environment is deployed to, and the variables of its clusters and servers for the arguments of scripts.

use std::collections::BTreeMap;

use landreeve_core::error::{Faults, codes};
use landreeve_core::{Action, Error, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Tx};

use crate::clusters::{self, MAX_CLUSTERS};
use crate::environments::{self, Environment, for_promotion, require_deploy};
use crate::ids::{ClusterId, EnvironmentId, ServerId};
use crate::plane::Promotion;
use crate::servers::{self, ServerType, topology};
use crate::stored::StoredConfiguration;

/// Bytes of the name of a file.
const MAX_FILE: usize = 255;
/// Of one script.
const MAX_ARGUMENTS: usize = 100;
/// Characters of an argument, and of the value of a variable.
const MAX_VALUE: usize = 4_000;
/// Characters of the name of a variable.
const MAX_NAME: usize = 100;
/// Of one cluster or server.
const MAX_VARIABLES: usize = 100;
/// The variables that every server has.
const PREDEFINED: [&str; 3] = ["name", "host", "port"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentType {
    /// Nothing is taken out of service.
    Simple,
    /// Scripts take servers or clusters out of service and put them back.
    NoDowntime,
}

impl DeploymentType {
    pub const fn as_str(self) -> &'static str {
        match self {
            DeploymentType::Simple => "simple",
            DeploymentType::NoDowntime => "no_downtime",
        }
    }

    pub fn parse(text: &str) -> Option<DeploymentType> {
        [DeploymentType::Simple, DeploymentType::NoDowntime].into_iter().find(|known| known.as_str() == text)
    }
}

/// How many are out of service together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Half,
    OneByOne,
}

impl Strategy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Strategy::Half => "half",
            Strategy::OneByOne => "one_by_one",
        }
    }

    pub fn parse(text: &str) -> Option<Strategy> {
        [Strategy::Half, Strategy::OneByOne].into_iter().find(|known| known.as_str() == text)
    }
}

/// What is rolled back after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackScope {
    /// The first server, if it failed there.
    FirstServer,
    /// Every server that was changed.
    AllTouched,
}

impl RollbackScope {
    pub const fn as_str(self) -> &'static str {
        match self {
            RollbackScope::FirstServer => "first_server",
            RollbackScope::AllTouched => "all_touched",
        }
    }

    pub fn parse(text: &str) -> Option<RollbackScope> {
        [RollbackScope::FirstServer, RollbackScope::AllTouched]
            .into_iter()
            .find(|known| known.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    pub deployments_enabled: bool,
    pub deployment_type: DeploymentType,
    pub cluster_strategy: Strategy,
    pub server_strategy: Strategy,
    /// How many enabled clusters the configuration is for; `None`: as many as there are.
    pub configured_clusters: Option<u32>,
    pub rollback_enabled: bool,
    pub rollback_scope: RollbackScope,
    pub backup_enabled: bool,
    /// Whether a second deployment waits instead of being refused.
    pub queue_deployments: bool,
    /// 0 or 1.
    pub approvals_required: u8,
    pub refuse_on_drift: bool,
    pub scripts: Scripts,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            deployments_enabled: true,
            deployment_type: DeploymentType::Simple,
            cluster_strategy: Strategy::OneByOne,
            server_strategy: Strategy::OneByOne,
            configured_clusters: None,
            rollback_enabled: true,
            rollback_scope: RollbackScope::AllTouched,
            backup_enabled: false,
            queue_deployments: false,
            approvals_required: 0,
            refuse_on_drift: false,
            scripts: Scripts::default(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    pub disable_server: Option<Script>,
    pub enable_server: Option<Script>,
    pub disable_cluster: Option<Script>,
    pub enable_cluster: Option<Script>,
}

impl Scripts {
    /// Those that there are, with their names.
    fn named(&self) -> impl Iterator<Item = (&'static str, &Script)> {
        let all = [
            ("disable_server", &self.disable_server),
            ("enable_server", &self.enable_server),
            ("disable_cluster", &self.disable_cluster),
            ("enable_cluster", &self.enable_cluster),
        ];
        all.into_iter().filter_map(|(name, script)| Some((name, script.as_ref()?)))
    }
}

/// A program that the machine's operator provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The name of a file in the folder of scripts.
    pub file: String,
    pub arguments: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Literal(String),
    /// The name of a variable of the server or its cluster.
    Variable(String),
}

fn check(plane: &Promotion, configuration: &Configuration, faults: &mut Faults) {
    if configuration.backup_enabled && plane.repository().is_none() {
        faults.push("backup_enabled", "unavailable", "must be false: no backup repository is configured");
    }
    if configuration.approvals_required > 1 {
        faults.push("approvals_required", "range", "must be 0 or 1");
    }
    if configuration.configured_clusters.is_some_and(|clusters| i64::from(clusters) > MAX_CLUSTERS) {
        faults.push("configured_clusters", "range", format!("must be between 0 and {MAX_CLUSTERS}"));
    }
    for (name, script) in configuration.scripts.named() {
        check_script(&format!("scripts.{name}"), script, faults);
    }
}

fn check_script(at: &str, script: &Script, faults: &mut Faults) {
    let file = &script.file;
    if file.is_empty() || file.len() > MAX_FILE {
        faults.push(format!("{at}.file"), "length", format!("must have 1 to {MAX_FILE} bytes"));
    } else if file == "." || file == ".." || file.contains(|c: char| c == '/' || c.is_control()) {
        let message = "must be the name of a file in the folder of scripts, without a path";
        faults.push(format!("{at}.file"), "format", message);
    }
    if script.arguments.len() > MAX_ARGUMENTS {
        let message = format!("must have at most {MAX_ARGUMENTS} items");
        faults.push(format!("{at}.arguments"), "length", message);
    }
    for (index, argument) in script.arguments.iter().enumerate().take(MAX_ARGUMENTS) {
        match argument {
            Argument::Literal(text) => check_value(&format!("{at}.arguments.{index}.literal"), text, faults),
            Argument::Variable(name) => check_name(&format!("{at}.arguments.{index}.variable"), name, faults),
        }
    }
}

fn check_value(field: &str, text: &str, faults: &mut Faults) {
    if text.chars().count() > MAX_VALUE {
        faults.push(field, "length", format!("must have at most {MAX_VALUE} characters"));
    } else if text.contains('\0') {
        // No program can get it as an argument.
        faults.push(field, "character", "must not contain the character U+0000");
    }
}

fn check_name(field: &str, name: &str, faults: &mut Faults) {
    if name.is_empty() || name.chars().count() > MAX_NAME {
        faults.push(field, "length", format!("must be a name of 1 to {MAX_NAME} characters"));
    } else if name.chars().any(char::is_control) {
        faults.push(field, "character", "must be a name without control characters");
    }
}

/// The configuration of an environment. Without a check of permissions.
pub(crate) async fn load(conn: &mut Conn, environment: EnvironmentId) -> Result<Configuration> {
    let sql = "SELECT configuration FROM promotion_environments WHERE id = $1";
    let row = conn.opt(sql, args![environment]).await?;
    let row = row.ok_or_else(|| Error::not_found("environment"))?;
    row.json::<StoredConfiguration>(0)?.into_configuration()
}

/// How many clusters are enabled and have an enabled server that is deployed to.
async fn enabled_clusters(conn: &mut Conn, environment: EnvironmentId) -> Result<u32> {
    let clusters = topology(conn, environment).await?;
    let enabled = clusters.iter().filter(|(cluster, servers)| {
        cluster.enabled && servers.iter().any(|server| server.enabled && server.kind == ServerType::Vdp)
    });
    u32::try_from(enabled.count()).map_err(Error::internal)
}

/// The configuration with the number of clusters that it is for.
async fn shown(conn: &mut Conn, environment: EnvironmentId) -> Result<Configuration> {
    let found = load(conn, environment).await?;
    let clusters = match found.configured_clusters {
        Some(clusters) => clusters,
        None => enabled_clusters(conn, environment).await?,
    };
    Ok(Configuration { configured_clusters: Some(clusters), ..found })
}

/// How an environment is deployed to. `configured_clusters` is the actual number if no other was set.
pub async fn configuration_get(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: EnvironmentId,
) -> Result<Configuration> {
    for_promotion(plane, ctx, environment, Action::MANAGE).await?;
    shown(&mut plane.estate().store().read().await?, environment).await
}

/// Replaces how an environment is deployed to.
pub async fn configuration_put(
    plane: &Promotion,
    ctx: &OpCtx,
    id: EnvironmentId,
    configuration: Input<Configuration>,
) -> Result<Configuration> {
    let environment = for_promotion(plane, ctx, id, Action::MANAGE).await?;
    let configuration = configuration.checked(|configuration, faults| check(plane, configuration, faults))?;
    let stored = StoredConfiguration::of(&configuration).as_json()?;
    let detail = format!("deployment configuration of {}", environment.name);
    let act = OwnedAct::new("updated", environment.scenario().noun(), id.0, detail);
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let changed = tx
                    .exec(
                        "UPDATE promotion_environments SET configuration = $2, row_version = row_version + 1 \
                         WHERE id = $1",
                        args![id, stored],
                    )
                    .await?;
                if changed == 0 {
                    return Err(Error::not_found("environment"));
                }
                shown(tx, id).await
            })
        })
        .await
}

/// What has variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariablesOf {
    Cluster(ClusterId),
    Server(ServerId),
}

impl VariablesOf {
    /// Its environment and what it is called, if the caller may change variables there.
    async fn seen(self, plane: &Promotion, ctx: &OpCtx) -> Result<(Environment, String)> {
        let (environment, name) = match self {
            VariablesOf::Cluster(id) => {
                let (cluster, environment) = clusters::seen(plane, ctx, id, Action::VIEW).await?;
                (environment, format!("cluster {}", cluster.name))
            }
            VariablesOf::Server(id) => {
                let (server, _, environment) = servers::seen(plane, ctx, id, Action::VIEW).await?;
                (environment, format!("server {}", server.name))
            }
        };
        require_deploy(plane, ctx, &environment, Action::MANAGE).await?;
        Ok((environment, name))
    }

    /// Those that were set.
    async fn load(self, conn: &mut Conn) -> Result<BTreeMap<String, String>> {
        let rows = match self {
            VariablesOf::Cluster(id) => {
                let sql = "SELECT name, value FROM promotion_cluster_variables WHERE cluster_id = $1";
                conn.all(sql, args![id]).await?
            }
            VariablesOf::Server(id) => {
                let sql = "SELECT name, value FROM promotion_server_variables WHERE server_id = $1";
                conn.all(sql, args![id]).await?
            }
        };
        rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
    }

    async fn replace(self, tx: &mut Tx, variables: BTreeMap<String, String>) -> Result<()> {
        let (delete, insert, id) = match self {
            VariablesOf::Cluster(id) => (
                "DELETE FROM promotion_cluster_variables WHERE cluster_id = $1",
                "INSERT INTO promotion_cluster_variables (cluster_id, name, value) VALUES ($1, $2, $3)",
                id.0,
            ),
            VariablesOf::Server(id) => (
                "DELETE FROM promotion_server_variables WHERE server_id = $1",
                "INSERT INTO promotion_server_variables (server_id, name, value) VALUES ($1, $2, $3)",
                id.0,
            ),
        };
        tx.exec(delete, args![id]).await?;
        for (name, value) in variables {
            tx.exec_later(insert, args![id, name, value]).await?;
        }
        Ok(())
    }
}

/// The variables that were set for a cluster or a server.
pub async fn variables_get(
    plane: &Promotion,
    ctx: &OpCtx,
    of: VariablesOf,
) -> Result<BTreeMap<String, String>> {
    of.seen(plane, ctx).await?;
    of.load(&mut plane.estate().store().read().await?).await
}

/// Replaces the variables of a cluster or a server.
pub async fn variables_put(
    plane: &Promotion,
    ctx: &OpCtx,
    of: VariablesOf,
    variables: Input<BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>> {
    let (environment, name) = of.seen(plane, ctx).await?;
    let variables = variables.checked(|variables, faults| check_variables(of, variables, faults))?;
    let act = OwnedAct::new(
        "updated",
        environment.scenario().noun(),
        environment.id.0,
        format!("variables of the {name}"),
    );
    let (environment, stored) = (environment.id, variables.clone());
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                environments::lock(tx, environment).await?;
                of.replace(tx, stored).await
            })
        })
        .await?;
    Ok(variables)
}

fn check_variables(of: VariablesOf, variables: &BTreeMap<String, String>, faults: &mut Faults) {
    if variables.len() > MAX_VARIABLES {
        faults.push("", "length", format!("there can be at most {MAX_VARIABLES} variables"));
    }
    for (name, value) in variables {
        check_name(name, name, faults);
        check_value(name, value, faults);
        if matches!(of, VariablesOf::Server(_)) && PREDEFINED.contains(&name.as_str()) {
            faults.push(name, codes::TAKEN, "is predefined for every server, and cannot be set");
        }
    }
}

/// The variables of a cluster, or those of a server together with its cluster's; the server's own take precedence, and
/// the predefined ones are among them. Without a check of permissions.
pub(crate) async fn variables_of(
    conn: &mut Conn,
    cluster: ClusterId,
    server: Option<ServerId>,
) -> Result<BTreeMap<String, String>> {
    let mut variables = VariablesOf::Cluster(cluster).load(conn).await?;
    let Some(id) = server else { return Ok(variables) };
    variables.extend(VariablesOf::Server(id).load(conn).await?);
    let server = servers::find(conn, id).await?.ok_or_else(|| Error::not_found("server"))?;
    variables.insert("name".to_owned(), server.name);
    variables.insert("host".to_owned(), server.host);
    let port = server.port.map(|port| port.to_string()).unwrap_or_default();
    variables.insert("port".to_owned(), port);
    Ok(variables)
}
