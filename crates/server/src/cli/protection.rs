//! `landreeve repository …`: where backups are kept.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use landreeve_core::Input;
use landreeve_core::vault::CheckDepth;
use landreeve_estate::ops::sign_in;
use landreeve_estate::runs::Role;
use landreeve_protection::repositories::{
    NewRepository, Origin, Repository, repository_add, repository_key, repository_list, repository_move,
};
use serde_json::json;

use super::runs::{Ended, follow, watch};
use super::{Place, Session, promotion, read_password};
use crate::control::{self, Ask};
use crate::orders::Order;
use crate::output::{self, Format};
use crate::signals::Interrupts;

#[derive(Debug, Subcommand)]
pub enum RepositoryCommand {
    /// Make a repository in an empty place
    #[command(after_help = "Example:\n  landreeve repository add offsite --url /mnt/backup/landreeve")]
    Add {
        #[command(flatten)]
        new: New,
        /// Read its password from standard input, instead of choosing one of 256 random bits
        #[arg(long)]
        password_stdin: bool,
    },
    /// Use a repository that exists
    #[command(
        after_help = "Example:\n  landreeve repository attach offsite --url /mnt/backup/landreeve --password-stdin"
    )]
    Attach {
        #[command(flatten)]
        new: New,
        /// Read its password from standard input
        #[arg(long, required = true)]
        password_stdin: bool,
    },
    /// Note that a repository is in another place now, where it was moved to
    #[command(after_help = "Example:\n  landreeve repository move offsite --url /mnt/new/landreeve")]
    Move {
        #[command(flatten)]
        place: Place,
        /// Name of the repository
        name: String,
        /// Where it is now
        #[arg(long)]
        url: String,
    },
    /// List the repositories
    #[command(after_help = "Example:\n  landreeve repository list --format json")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Check that a repository has everything that its backups need
    #[command(after_help = "Example:\n  landreeve repository check default --read-data")]
    Check {
        #[command(flatten)]
        place: Place,
        /// Name of the repository
        name: String,
        /// Read every byte as well
        #[arg(long)]
        read_data: bool,
    },
    /// Delete data that no backup needs any more; what has just become unused is deleted after 23 hours
    #[command(after_help = "Example:\n  landreeve repository prune default")]
    Prune {
        #[command(flatten)]
        place: Place,
        /// Name of the repository
        name: String,
    },
    /// Print the password that opens a repository, to be kept in a safe place
    #[command(after_help = "Example:\n  landreeve repository key default")]
    Key {
        #[command(flatten)]
        place: Place,
        /// Name of the repository
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct New {
    #[command(flatten)]
    place: Place,
    /// Name of the repository
    name: String,
    /// Where it is: the absolute path of a folder, rest:https://USER:PASSWORD@HOST/PATH, or s3://KEY:SECRET@BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    url: String,
    /// Never delete anything in it
    #[arg(long)]
    append_only: bool,
    /// All nodes of the estate reach the same folder at this path
    #[arg(long)]
    shared: bool,
}

pub async fn repository(command: RepositoryCommand) -> anyhow::Result<()> {
    match command {
        RepositoryCommand::Add { new, password_stdin } => add(new, password_stdin, Origin::New).await,
        RepositoryCommand::Attach { new, .. } => add(new, true, Origin::Existing).await,
        RepositoryCommand::Move { place, name, url } => {
            let session = Session::open(&place).await?;
            let (plane, ctx) = (session.opened.protection.clone(), session.ctx.clone());
            let moved = repository_move(&plane, &ctx, &name, &url).await;
            let moved = promotion::finish(session, moved).await?;
            output::say(&format!("the repository {} is in {}", moved.name, moved.address));
            Ok(())
        }
        RepositoryCommand::List { place, format } => {
            let session = Session::open(&place).await?;
            let listed = repository_list(&session.opened.protection, &session.ctx).await;
            session.close().await;
            let rows = listed?.iter().map(row).collect();
            output::listing(format, &COLUMNS, rows);
            Ok(())
        }
        RepositoryCommand::Check { place, name, read_data } => {
            let done = match read_data {
                true => "the repository is intact: every byte was read",
                false => "the repository has everything that its backups need",
            };
            work(&place, Order::CheckRepository { repository: name, read_data }, done).await
        }
        RepositoryCommand::Prune { place, name } => {
            work(&place, Order::PruneRepository { repository: name }, "pruned").await
        }
        RepositoryCommand::Key { place, name } => {
            let session = Session::open(&place).await?;
            let key = repository_key(&session.opened.protection, &session.ctx, &name).await;
            session.close().await;
            output::say(key?.reveal());
            Ok(())
        }
    }
}

async fn add(new: New, password_stdin: bool, origin: Origin) -> anyhow::Result<()> {
    let session = Session::open(&new.place).await?;
    let read = if password_stdin { read_password().map(Some) } else { Ok(None) };
    let password = match read {
        Ok(password) => password,
        Err(error) => {
            session.close().await;
            return Err(error);
        }
    };
    let wanted = NewRepository {
        name: new.name,
        url: new.url,
        append_only: new.append_only,
        shared: new.shared,
        password,
    };
    let plane = session.opened.protection.clone();
    let ctx = session.ctx.clone();
    let made = repository_add(&plane, &ctx, Input::of(wanted), origin).await;
    let made = promotion::finish(session, made).await?;
    let done = if origin == Origin::New { "made" } else { "attached" };
    output::say(&format!("{done} repository {} in {}", made.name, made.address));
    if origin == Origin::New && !password_stdin {
        output::tell(&format!(
            "Without its password nothing in it can be read, not even by this server after a restore elsewhere. Print it \
             with `landreeve repository key {}` and keep it in a safe place.",
            made.name
        ));
    }
    Ok(())
}

const COLUMNS: [&str; 8] = [
    "name",
    "url",
    "repository_id",
    "append_only",
    "shared",
    "checked_timestamp",
    "read_data",
    "pruned_timestamp",
];

fn row(repository: &Repository) -> Vec<serde_json::Value> {
    vec![
        json!(repository.name),
        json!(repository.address.to_string()),
        json!(repository.repository_id),
        json!(repository.append_only),
        json!(repository.shared),
        json!(repository.checked.map(|(at, _)| at.to_string())),
        json!(repository.checked.map(|(_, depth)| depth == CheckDepth::Data)),
        json!(repository.pruned_at.map(|at| at.to_string())),
    ]
}

/// Carries an order out: by the server on this data directory, if one is running; otherwise by this process.
pub(super) async fn carry_out(place: &Place, order: Order) -> anyhow::Result<Ended> {
    let mut interrupts = Interrupts::new()?;
    if let Some(control) = control::connect(&place.data_dir).await {
        let ended = follow(control, &Ask::Protect { order }, false, &mut interrupts).await?;
        return ended.context("the server did not return a run");
    }
    let opened = crate::open::open(place, Some(2)).await?;
    let _lock = crate::open::lock(&place.data_dir, false)?;
    opened.estate.start_runs(Role::Command).await?;
    let ctx = sign_in::operator(&opened.estate);
    let ended = match order.start(&opened.protection, &ctx).await {
        Ok(run) => watch(&opened.estate, &ctx, run, &mut interrupts).await,
        Err(error) => Err(error.into()),
    };
    opened.close(Duration::from_secs(1)).await;
    ended
}

async fn work(place: &Place, order: Order, done: &str) -> anyhow::Result<()> {
    let ended = carry_out(place, order).await?;
    ended.succeeded()?;
    output::say(&format!("{done} (run {})", ended.id));
    Ok(())
}
