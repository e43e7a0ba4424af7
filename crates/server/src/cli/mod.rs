//! The command line. An arm only parses and calls; what it calls is a use case or a part of this crate.

mod backup;
mod data;
mod delivery;
mod estate;
mod identity;
mod keys;
mod runs;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use landreeve_core::OpCtx;
use landreeve_estate::ops;

pub(crate) use keys::scope_grants;

use crate::open::{self, Opened};
use crate::{control, quickstart, serve};

#[derive(Debug, Parser)]
#[command(name = "landreeve", version, about = "Keeps a company's data estate: one server, five APIs.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Where the estate is. Every command takes these. (Not a doc comment: it would be every command's help.)
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "landreeve-data")]
    pub data_dir: PathBuf,
    /// Metadata database: a path, sqlite://PATH or postgres://…
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub place: Place,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Allow an address other than loopback without TLS.
    #[arg(long)]
    pub plain_http: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on embedded parts with a sample estate, print addresses, keys and commands, and keep serving.
    Quickstart(ServeArgs),
    /// Start the server.
    Serve(ServeArgs),
    /// Keys of the APIs.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Users.
    #[command(subcommand)]
    User(identity::UserCommand),
    /// Groups of users.
    #[command(subcommand)]
    Group(identity::GroupCommand),
    /// Organizational units.
    #[command(subcommand)]
    Ou(identity::OuCommand),
    /// Datasources.
    #[command(subcommand)]
    Datasource(data::DatasourceCommand),
    /// Run a query on a datasource and print its rows.
    Query(data::QueryArgs),
    /// Runs: everything that takes time.
    #[command(subcommand)]
    Run(runs::RunCommand),
    /// DORA metrics of the delivery data.
    Dora(delivery::DoraArgs),
    /// Deployments.
    #[command(subcommand)]
    Deploys(delivery::DeploysCommand),
    /// Saved queries over delivery data, to be read with a token.
    #[command(subcommand)]
    Feed(delivery::FeedCommand),
    /// Settings of the estate.
    #[command(subcommand)]
    Settings(estate::SettingsCommand),
    /// The key that seals secrets.
    #[command(subcommand)]
    Secrets(estate::SecretsCommand),
    /// Back the estate up, or restore it.
    #[command(subcommand)]
    Estate(backup::EstateCommand),
    /// What was done, by whom, from where; and what was refused.
    #[command(subcommand)]
    Audit(estate::AuditCommand),
    /// Look for what is wrong, and say what to do.
    Doctor(PlaceArgs),
    /// The configuration.
    #[command(subcommand)]
    Config(estate::ConfigCommand),
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
        Command::Settings(command) => estate::settings(command).await,
        Command::Secrets(command) => estate::secrets(command).await,
        Command::Estate(command) => backup::run(command).await,
        Command::Audit(command) => estate::audit(command).await,
        Command::Doctor(args) => estate::doctor(args.place).await,
        Command::Config(command) => estate::config(command).await,
    }
}

/// The store, opened for one command, with the operator's authority.
pub(crate) struct Session {
    pub opened: Opened,
    pub ctx: OpCtx,
}

impl Session {
    /// For a command that executes no run itself.
    pub async fn open(place: &Place) -> anyhow::Result<Session> {
        let opened = open::open(place, Some(0)).await?;
        let ctx = ops::sign_in::operator(&opened.estate);
        Ok(Session { opened, ctx })
    }

    /// Closes the store. A server on this data directory hears of the change before the command answers, so that
    /// nothing it remembers outlives the acknowledgement.
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

/// Reads a password from standard input: one line, without its end.
pub(crate) fn read_password() -> anyhow::Result<landreeve_core::Secret> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let text = line.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!text.is_empty(), "standard input holds no password");
    Ok(landreeve_core::Secret::new(text))
}
