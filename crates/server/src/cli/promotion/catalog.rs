//! Environments, clusters and servers.

use clap::{Args, Subcommand};
use landreeve_core::{Error, OpCtx, Result, page};
use landreeve_promotion::Promotion;
use landreeve_promotion::clusters::{Cluster, ClusterFacts, cluster_create, cluster_delete, cluster_list};
use landreeve_promotion::environments::{
    Environment, EnvironmentFacts, environment_create, environment_delete, environment_list,
    environment_named,
};
use landreeve_promotion::servers::{
    EMBEDDED, Server, ServerFacts, server_create, server_delete, server_list, server_named,
};
use serde_json::{Value, json};

use super::{Unit, finish, open};
use crate::cli::read_password;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// List the environments
    #[command(after_help = "Example:\n  landreeve env list")]
    List {
        #[command(flatten)]
        unit: Unit,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Create an environment
    #[command(after_help = "Example:\n  landreeve env create Development --license-alias DEVELOPMENT")]
    Create {
        #[command(flatten)]
        unit: Unit,
        /// Name of the environment
        name: String,
        /// Description of the environment [default: none]
        #[arg(long)]
        description: Option<String>,
        /// DEVELOPMENT, STAGING or PRODUCTION; decides who may deploy [default: none, as for production]
        #[arg(long, value_name = "ALIAS")]
        license_alias: Option<String>,
    },
    /// Delete an environment with its clusters and servers
    #[command(after_help = "Example:\n  landreeve env delete Development")]
    Delete {
        #[command(flatten)]
        unit: Unit,
        /// Name or id of the environment
        name: String,
    },
}

pub async fn env(command: EnvCommand) -> anyhow::Result<()> {
    match command {
        EnvCommand::List { unit, format } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let listed = page::collect(|after| environment_list(&plane, &ctx, after)).await;
            session.close().await;
            let columns = ["id", "name", "scenario", "license_alias", "description"];
            output::listing(format, &columns, listed?.into_iter().map(environment_row).collect());
        }
        EnvCommand::Create { unit, name, description, license_alias } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let facts = EnvironmentFacts { name, description, license_alias, ..EnvironmentFacts::default() };
            let done = environment_create(&plane, &ctx, facts.into()).await;
            let made = finish(session, done).await?;
            output::say(&format!("created the environment {} with the id {}", made.name, made.id));
        }
        EnvCommand::Delete { unit, name } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let done = delete_environment(&plane, &ctx, &name).await;
            let gone = finish(session, done).await?;
            output::say(&format!("deleted the environment {gone}"));
        }
    }
    Ok(())
}

fn environment_row(environment: Environment) -> Vec<Value> {
    vec![
        json!(environment.id.0),
        json!(environment.name),
        json!(environment.scenario().as_str()),
        json!(environment.license_alias),
        json!(environment.description),
    ]
}

async fn delete_environment(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<String> {
    let environment = environment_named(plane, ctx, name).await?;
    environment_delete(plane, ctx, environment.id).await?;
    Ok(environment.name)
}

#[derive(Debug, Args)]
pub struct Inside {
    #[command(flatten)]
    unit: Unit,
    /// Name or id of the environment
    #[arg(long, value_name = "ENVIRONMENT")]
    env: String,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// List the clusters of an environment, in the order of deployments
    #[command(after_help = "Example:\n  landreeve cluster list --env Development")]
    List {
        #[command(flatten)]
        inside: Inside,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Create a cluster at the end of an environment
    #[command(after_help = "Example:\n  landreeve cluster create main --env Development")]
    Create {
        #[command(flatten)]
        inside: Inside,
        /// Name of the cluster
        name: String,
        /// Description of the cluster [default: none]
        #[arg(long)]
        description: Option<String>,
        /// Leave the cluster out of deployments
        #[arg(long)]
        disabled: bool,
    },
    /// Delete a cluster with its servers
    #[command(after_help = "Example:\n  landreeve cluster delete main --env Development")]
    Delete {
        #[command(flatten)]
        inside: Inside,
        /// Name or id of the cluster
        name: String,
    },
}

pub async fn cluster(command: ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::List { inside, format } => {
            let (session, ctx) = open(&inside.unit).await?;
            let plane = session.opened.promotion.clone();
            let listed = clusters(&plane, &ctx, &inside.env).await;
            session.close().await;
            let columns = ["id", "name", "order", "enabled", "description"];
            output::listing(format, &columns, listed?.into_iter().map(cluster_row).collect());
        }
        ClusterCommand::Create { inside, name, description, disabled } => {
            let (session, ctx) = open(&inside.unit).await?;
            let plane = session.opened.promotion.clone();
            let facts = ClusterFacts { environment: None, name, description, enabled: !disabled };
            let done = create_cluster(&plane, &ctx, &inside.env, facts).await;
            let made = finish(session, done).await?;
            output::say(&format!("created the cluster {} with the id {}", made.name, made.id));
        }
        ClusterCommand::Delete { inside, name } => {
            let (session, ctx) = open(&inside.unit).await?;
            let plane = session.opened.promotion.clone();
            let done = delete_cluster(&plane, &ctx, &inside.env, &name).await;
            let gone = finish(session, done).await?;
            output::say(&format!("deleted the cluster {gone}"));
        }
    }
    Ok(())
}

fn cluster_row(cluster: Cluster) -> Vec<Value> {
    vec![
        json!(cluster.id.0),
        json!(cluster.name),
        json!(cluster.position),
        json!(cluster.enabled),
        json!(cluster.description),
    ]
}

/// The clusters of an environment that is named.
async fn clusters(plane: &Promotion, ctx: &OpCtx, environment: &str) -> Result<Vec<Cluster>> {
    let environment = environment_named(plane, ctx, environment).await?;
    cluster_list(plane, ctx, environment.id).await
}

/// One of them, by its name or else by its id.
async fn cluster_named(plane: &Promotion, ctx: &OpCtx, environment: &str, name: &str) -> Result<Cluster> {
    let all = clusters(plane, ctx, environment).await?;
    let mut found = all.into_iter().filter(|one| one.name == name || one.id.to_string() == name);
    match (found.next(), found.next()) {
        (Some(cluster), None) => Ok(cluster),
        (None, _) => Err(Error::not_found("cluster")),
        (Some(_), Some(_)) => {
            let message = format!(
                "{name} is the name of one cluster and the id of another; use the id of the one or the name of the other"
            );
            Err(Error::conflict("ambiguous", message))
        }
    }
}

async fn create_cluster(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: &str,
    facts: ClusterFacts,
) -> Result<Cluster> {
    let environment = environment_named(plane, ctx, environment).await?;
    let facts = ClusterFacts { environment: Some(environment.id), ..facts };
    cluster_create(plane, ctx, facts.into()).await
}

async fn delete_cluster(plane: &Promotion, ctx: &OpCtx, environment: &str, name: &str) -> Result<String> {
    let cluster = cluster_named(plane, ctx, environment, name).await?;
    cluster_delete(plane, ctx, cluster.id).await?;
    Ok(cluster.name)
}

#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// List the servers of an environment, in the order of deployments
    #[command(after_help = "Example:\n  landreeve server list --env Development")]
    List {
        #[command(flatten)]
        inside: Inside,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Create a server at the end of a cluster: a node of this store, or another Landreeve
    #[command(
        after_help = "Examples:\n  landreeve server create dev --env Development --cluster main\n  landreeve server create prod --env Production --cluster main --host vdp.example.com --port 8443 --username promoter --password-stdin"
    )]
    Create(Box<CreateServer>),
    /// Delete a server, and the node that was made with it
    #[command(after_help = "Example:\n  landreeve server delete dev")]
    Delete {
        #[command(flatten)]
        unit: Unit,
        /// Name or id of the server
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct CreateServer {
    #[command(flatten)]
    inside: Inside,
    /// Name of the server
    name: String,
    /// Name or id of the cluster
    #[arg(long)]
    cluster: String,
    /// Description of the server [default: none]
    #[arg(long)]
    description: Option<String>,
    /// Host of another Landreeve; http:// is allowed before a loopback address [default: a node of this store]
    #[arg(long, requires = "port")]
    host: Option<String>,
    /// Port of the host
    #[arg(long, requires = "host")]
    port: Option<u16>,
    /// User to deploy as on the host [default: none]
    #[arg(long)]
    username: Option<String>,
    /// Read the user's password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Leave the server out of deployments
    #[arg(long)]
    disabled: bool,
}

pub async fn server(command: ServerCommand) -> anyhow::Result<()> {
    match command {
        ServerCommand::List { inside, format } => {
            let (session, ctx) = open(&inside.unit).await?;
            let plane = session.opened.promotion.clone();
            let listed = servers(&plane, &ctx, &inside.env).await;
            session.close().await;
            let columns = ["id", "name", "cluster", "host", "port", "username", "enabled"];
            output::listing(format, &columns, listed?);
        }
        ServerCommand::Create(args) => create_server(*args).await?,
        ServerCommand::Delete { unit, name } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let done = delete_server(&plane, &ctx, &name).await;
            let gone = finish(session, done).await?;
            output::say(&format!("deleted the server {gone}"));
        }
    }
    Ok(())
}

async fn servers(plane: &Promotion, ctx: &OpCtx, environment: &str) -> Result<Vec<Vec<Value>>> {
    let environment = environment_named(plane, ctx, environment).await?;
    let clusters = cluster_list(plane, ctx, environment.id).await?;
    let servers = server_list(plane, ctx, environment.id).await?;
    let row = |server: Server| {
        let cluster = clusters.iter().find(|cluster| cluster.id == server.cluster);
        vec![
            json!(server.id.0),
            json!(server.name),
            json!(cluster.map(|cluster| &cluster.name)),
            json!(server.host),
            json!(server.port),
            json!(server.username),
            json!(server.enabled),
        ]
    };
    Ok(servers.into_iter().map(row).collect())
}

async fn create_server(args: CreateServer) -> anyhow::Result<()> {
    let (session, ctx) = open(&args.inside.unit).await?;
    let password = match args.password_stdin.then(read_password).transpose() {
        Ok(password) => password,
        Err(error) => {
            session.close().await;
            return Err(error);
        }
    };
    let plane = session.opened.promotion.clone();
    let facts = ServerFacts {
        name: args.name,
        description: args.description,
        host: args.host.unwrap_or_else(|| EMBEDDED.to_owned()),
        port: args.port,
        username: args.username,
        password,
        enabled: !args.disabled,
        use_default_license_alias: true,
        ..ServerFacts::default()
    };
    let place = (args.inside.env.as_str(), args.cluster.as_str());
    let done = create_in(&plane, &ctx, place, facts).await;
    let made = finish(session, done).await?;
    output::say(&format!("created the server {} with the id {}", made.name, made.id));
    Ok(())
}

/// Creates a server in the cluster of an environment, both named.
async fn create_in(
    plane: &Promotion,
    ctx: &OpCtx,
    (environment, cluster): (&str, &str),
    facts: ServerFacts,
) -> Result<Server> {
    let cluster = cluster_named(plane, ctx, environment, cluster).await?;
    let facts = ServerFacts { cluster: Some(cluster.id), ..facts };
    server_create(plane, ctx, facts.into()).await
}

async fn delete_server(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<String> {
    let server = server_named(plane, ctx, name).await?;
    server_delete(plane, ctx, server.id).await?;
    Ok(server.name)
}
