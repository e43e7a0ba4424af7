//! The command line. Commands only parse their arguments and call a use case or another module of this crate.

mod backup;
mod backups;
mod data;
mod delivery;
mod estate;
mod identity;
mod keys;
mod policies;
mod promotion;
mod protection;
mod records;
mod runs;
#[cfg(test)]
mod tests;
mod vql;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use landreeve_core::{Error, OpCtx};
use landreeve_estate::ops;
use uuid::Uuid;

pub(crate) use keys::scope_grants;

use crate::open::{self, Opened};
use crate::{control, quickstart, serve};

#[derive(Debug, Parser)]
#[command(name = "landreeve", version, about = "Manage a company's data estate: one server, five APIs")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Whether it runs until it is stopped.
    pub fn is_server(&self) -> bool {
        matches!(self.command, Command::Quickstart(_) | Command::Serve(_))
    }
}

// Where the estate is. Every command takes these options. (Not a doc comment, which would become every command's help.)
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Read the configuration from this TOML file [default: built-in defaults]
    #[arg(long, global = true, value_name = "FILE", env = "LANDREEVE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data directory
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "landreeve-data",
        env = "LANDREEVE_DATA_DIR"
    )]
    pub data_dir: PathBuf,
    /// Metadata store: a path, sqlite://PATH or postgres://… [default: the one that `serve` recorded in the data
    /// directory, otherwise estate.db in it]
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub place: Place,
    /// Listen on this address; port 0 picks a free port [default: 127.0.0.1:8700]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Allow addresses other than loopback without TLS
    #[arg(long)]
    pub plain_http: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a server with a sample estate and print its address, keys and commands to copy
    #[command(after_help = "Example:\n  landreeve quickstart")]
    Quickstart(ServeArgs),
    /// Start the server
    #[command(
        after_help = "Examples:\n  landreeve serve --data-dir /var/lib/landreeve\n  landreeve serve --store postgres://landreeve@db.example.com/estate"
    )]
    Serve(ServeArgs),
    /// Manage API keys
    #[command(after_help = "Example:\n  landreeve key list")]
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Manage users
    #[command(after_help = "Example:\n  landreeve user list")]
    #[command(subcommand)]
    User(identity::UserCommand),
    /// Manage groups of users
    #[command(after_help = "Example:\n  landreeve group list")]
    #[command(subcommand)]
    Group(identity::GroupCommand),
    /// Manage organizational units
    #[command(after_help = "Example:\n  landreeve ou list")]
    #[command(subcommand)]
    Ou(identity::OuCommand),
    /// Manage datasources
    #[command(after_help = "Example:\n  landreeve datasource list")]
    #[command(subcommand)]
    Datasource(data::DatasourceCommand),
    /// Run a query on a datasource and print its rows
    #[command(
        after_help = "Examples:\n  landreeve query 'select count(*) from orders'\n  landreeve query --datasource Shop --format csv --output orders.csv 'select * from orders'"
    )]
    Query(data::QueryArgs),
    /// Show and cancel runs, such as queries and schema refreshes
    #[command(after_help = "Example:\n  landreeve run list")]
    #[command(subcommand)]
    Run(runs::RunCommand),
    /// Show the DORA metrics of the delivery data
    #[command(after_help = "Example:\n  landreeve dora --from 2026-01-01 --to 2026-02-01 --service checkout")]
    Dora(delivery::DoraArgs),
    /// Record and show deployments
    #[command(after_help = "Example:\n  landreeve deploys show 2026-01-15.1")]
    #[command(subcommand)]
    Deploys(delivery::DeploysCommand),
    /// Define virtual databases: views over several databases and files
    #[command(after_help = "Example:\n  landreeve vql run sales.vql")]
    #[command(subcommand)]
    Vql(vql::VqlCommand),
    /// Manage revisions: VQL scripts that are deployed to environments
    #[command(after_help = "Example:\n  landreeve revision list")]
    #[command(subcommand)]
    Revision(promotion::revisions::RevisionCommand),
    /// Manage the values that scripts take from the environment they are deployed to
    #[command(after_help = "Example:\n  landreeve property list production")]
    #[command(subcommand)]
    Property(promotion::properties::PropertyCommand),
    /// Manage environments, which revisions of virtual databases are deployed to
    #[command(after_help = "Example:\n  landreeve env list")]
    #[command(subcommand)]
    Env(promotion::EnvCommand),
    /// Manage the clusters of environments
    #[command(after_help = "Example:\n  landreeve cluster list --env Development")]
    #[command(subcommand)]
    Cluster(promotion::ClusterCommand),
    /// Manage the servers of environments
    #[command(after_help = "Example:\n  landreeve server list --env Development")]
    #[command(subcommand)]
    Server(promotion::ServerCommand),
    /// Deploy revisions to environments
    #[command(after_help = "Example:\n  landreeve promotion list")]
    #[command(subcommand)]
    Promotion(promotion::deployments::PromotionCommand),
    /// Compare the servers of an environment with what was deployed to them
    #[command(after_help = "Example:\n  landreeve drift production")]
    Drift(promotion::deployments::DriftArgs),
    /// Manage repositories: where backups are kept
    #[command(after_help = "Example:\n  landreeve repository list")]
    #[command(subcommand)]
    Repository(protection::RepositoryCommand),
    /// Back up databases to a repository
    #[command(after_help = "Example:\n  landreeve backup run shop")]
    #[command(subcommand)]
    Backup(backups::BackupCommand),
    /// Restore a backup into a new database
    Restore(backups::RestoreArgs),
    /// Manage policies: backups that are made by themselves
    #[command(after_help = "Example:\n  landreeve policy list")]
    #[command(subcommand)]
    Policy(policies::PolicyCommand),
    /// Manage alerts: what went wrong with backups
    #[command(after_help = "Example:\n  landreeve alert list")]
    #[command(subcommand)]
    Alert(policies::AlertCommand),
    /// Manage saved queries over delivery data that are read with a token
    #[command(after_help = "Example:\n  landreeve feed list")]
    #[command(subcommand)]
    Feed(delivery::FeedCommand),
    /// Show and change the settings of the estate
    #[command(after_help = "Example:\n  landreeve settings list")]
    #[command(subcommand)]
    Settings(estate::SettingsCommand),
    /// Manage the key that encrypts secrets
    #[command(after_help = "Example:\n  landreeve secrets rotate")]
    #[command(subcommand)]
    Secrets(estate::SecretsCommand),
    /// Back up the estate, or restore a backup
    #[command(after_help = "Example:\n  landreeve estate backup /backups/monday")]
    #[command(subcommand)]
    Estate(backup::EstateCommand),
    /// Show the audit trail: who did what, from where, and what was refused
    #[command(after_help = "Example:\n  landreeve audit list")]
    #[command(subcommand)]
    Audit(estate::AuditCommand),
    /// Check the configuration, store, key and blobs, and report problems
    #[command(after_help = "Example:\n  landreeve doctor")]
    Doctor(PlaceArgs),
    /// Check the configuration, or print the defaults
    #[command(after_help = "Example:\n  landreeve config check --config landreeve.toml")]
    #[command(subcommand)]
    Config(estate::ConfigCommand),
}

/// The UUID that a user gave of something.
pub fn uuid_of(what: &'static str, text: &str) -> landreeve_core::Result<Uuid> {
    let wrong = || Error::not_found(what).saying(format!("{text:?} is not the id of a {what}"));
    text.parse().map_err(|_| wrong())
}

#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    #[command(flatten)]
    pub place: Place,
}

pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Quickstart(args) => quickstart::quickstart(args).await,
        Command::Serve(args) => serve::serve(args).await,
        Command::Key(command) => keys::run(command).await,
        Command::User(command) => identity::user(command).await,
        Command::Group(command) => identity::group(command).await,
        Command::Ou(command) => identity::ou(command).await,
        Command::Datasource(command) => data::datasource(command).await,
        Command::Query(args) => data::query(args).await,
        Command::Run(command) => runs::run(command).await,
        Command::Dora(args) => delivery::dora(args).await,
        Command::Deploys(command) => delivery::deploys(command).await,
        Command::Feed(command) => delivery::feed(command).await,
        Command::Vql(command) => vql::run(command).await,
        Command::Revision(command) => promotion::revisions::run(command).await,
        Command::Property(command) => promotion::properties::run(command).await,
        Command::Env(command) => promotion::env(command).await,
        Command::Cluster(command) => promotion::cluster(command).await,
        Command::Server(command) => promotion::server(command).await,
        Command::Promotion(command) => promotion::deployments::run(command).await,
        Command::Drift(args) => promotion::deployments::drift(args).await,
        Command::Repository(command) => protection::repository(command).await,
        Command::Backup(command) => backups::run(command).await,
        Command::Restore(args) => backups::restore(args).await,
        Command::Policy(command) => policies::policy(command).await,
        Command::Alert(command) => policies::alert(command).await,
        Command::Settings(command) => estate::settings(command).await,
        Command::Secrets(command) => estate::secrets(command).await,
        Command::Estate(command) => backup::run(command).await,
        Command::Audit(command) => estate::audit(command).await,
        Command::Doctor(args) => estate::doctor(args.place).await,
        Command::Config(command) => estate::config(command).await,
    }
}

/// The store, opened for one command with the operator's permissions.
pub(crate) struct Session {
    pub opened: Opened,
    pub ctx: OpCtx,
}

impl Session {
    /// For commands that execute no runs themselves.
    pub async fn open(place: &Place) -> anyhow::Result<Session> {
        let opened = open::open(place, Some(0)).await?;
        let ctx = ops::sign_in::operator(&opened.estate);
        Ok(Session { opened, ctx })
    }

    /// Closes the store. A server on this data directory is notified before the command returns, so that its caches are
    /// never older than the acknowledgement.
    pub async fn changed(self) -> anyhow::Result<()> {
        let data_dir = self.opened.data_dir.clone();
        self.close().await;
        if let Some(mut control) = control::connect(&data_dir).await {
            control.ask(&control::Ask::Changed).await?;
        }
        Ok(())
    }

    pub async fn close(self) {
        self.opened.close(std::time::Duration::ZERO).await;
    }
}

/// Reads a password from standard input: one line, without the newline.
pub(crate) fn read_password() -> anyhow::Result<landreeve_core::Secret> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let text = line.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!text.is_empty(), "no password on standard input");
    Ok(landreeve_core::Secret::new(text))
}
