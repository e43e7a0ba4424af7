//! `landreeve settings …`, `secrets …`, `audit …`, `doctor` and `config check`.

use std::fs;

use clap::Subcommand;
use landreeve_core::Page;
use landreeve_core::vault::Address;
use landreeve_estate::ops;
use landreeve_estate::ops::general::GeneralChange;
use landreeve_estate::random::OsRandom;
use landreeve_estate::secrets::SealKey;
use landreeve_protection::repositories::{Repository, repository_list};
use serde_json::json;

use super::{Place, Session};
use crate::config::Config;
use crate::output::{self, Format};
use crate::{Usage, control, open, sample};

#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// List the settings with their values
    #[command(after_help = "Example:\n  landreeve settings list")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Set the addresses and networks from which the Clumio API can be reached
    #[command(after_help = "Example:\n  landreeve settings allowlist 192.0.2.0/24 2001:db8::/32")]
    Allowlist {
        #[command(flatten)]
        place: Place,
        /// Addresses and networks; `0.0.0.0/0 ::/0` are all
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
    /// Set one or more settings
    #[command(after_help = "Example:\n  landreeve settings set week_start=sunday time_zone=Europe/Berlin")]
    Set {
        #[command(flatten)]
        place: Place,
        /// Set NAME to VALUE
        #[arg(required = true, value_name = "NAME=VALUE")]
        changes: Vec<String>,
    },
}

pub async fn settings(command: SettingsCommand) -> anyhow::Result<()> {
    match command {
        SettingsCommand::List { place, format } => {
            let session = Session::open(&place).await?;
            let settings = ops::settings::settings_get(&session.opened.estate, &session.ctx).await?;
            session.close().await;
            let rows = ops::settings::NAMES.iter().map(|name| vec![json!(name), json!(settings.get(name))]);
            output::listing(format, &["name", "value"], rows.collect());
            Ok(())
        }
        SettingsCommand::Allowlist { place, networks } => {
            let session = Session::open(&place).await?;
            let change = GeneralChange { allowlist: Some(networks), ..GeneralChange::default() };
            ops::general::general_update(&session.opened.estate, &session.ctx, change).await?;
            session.changed().await
        }
        SettingsCommand::Set { place, changes } => {
            let pairs = changes.iter().map(|change| {
                let (name, value) =
                    change.split_once('=').ok_or_else(|| Usage(format!("{change:?} is not NAME=VALUE")))?;
                Ok((name.to_owned(), value.to_owned()))
            });
            let pairs = pairs.collect::<Result<Vec<_>, Usage>>()?;
            let session = Session::open(&place).await?;
            ops::settings::settings_update(&session.opened.estate, &session.ctx, pairs).await?;
            session.changed().await
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List the newest events
    #[command(after_help = "Example:\n  landreeve audit list --limit 200 --format csv")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        /// Number of events to list, newest first, at most 1,000
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

pub async fn audit(command: AuditCommand) -> anyhow::Result<()> {
    let AuditCommand::List { place, format, limit } = command;
    let session = Session::open(&place).await?;
    let page = ops::audit::audit_list(&session.opened.estate, &session.ctx, Page::first(limit)).await?;
    session.close().await;
    let rows = page.items.into_iter().map(|event| {
        vec![
            json!(event.at.to_string()),
            json!(event.actor_kind),
            json!(event.actor_name),
            json!(event.face),
            json!(event.address),
            json!(event.action),
            json!(event.noun),
            json!(event.noun_id),
            json!(event.outcome),
            json!(event.detail),
        ]
    });
    let columns = ["at", "by", "name", "through", "address", "action", "noun", "id", "outcome", "detail"];
    output::listing(format, &columns, rows.collect());
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Re-encrypt all secrets with a new key; stop the server first
    #[command(after_help = "Example:\n  landreeve secrets rotate")]
    Rotate {
        #[command(flatten)]
        place: Place,
    },
}

pub async fn secrets(command: SecretsCommand) -> anyhow::Result<()> {
    let SecretsCommand::Rotate { place } = command;
    open::require(&place, &Config::load(place.config.as_deref())?).await?;
    anyhow::ensure!(
        control::connect(&place.data_dir).await.is_none(),
        "stop the server on this data directory first; it is still using the old key"
    );
    // Prevents a server from starting while the key changes.
    let _lock = open::lock(&place.data_dir, true)?;
    let session = Session::open(&place).await?;
    let (estate, home) = (&session.opened.estate, session.opened.home());
    let others = ops::secrets::nodes_running(estate, &session.ctx, &home).await?;
    if !others.is_empty() {
        session.close().await;
        anyhow::bail!(
            "another node ({}) was running within the last minute and uses the old key. Stop every node, rotate, and \
             copy the new key file to each of them",
            others.join(", ")
        );
    }
    let key_file = session.opened.key_file.clone();
    let next = key_file.with_extension("key.next");
    // Named after its fingerprint, so that old keys do not overwrite each other.
    let old = key_file.with_extension(format!("key.{}", SealKey::read(&key_file)?.fingerprint()));
    let key = SealKey::generate(&OsRandom);
    // Written before the store needs it: after a crash, one of the two files contains the right key.
    let _ = fs::remove_file(&next);
    key.write_new(&next)?;
    let rotated = ops::secrets::rotate(&session.opened.estate, &session.ctx, key).await;
    session.close().await;
    let count = rotated?;
    fs::rename(&key_file, &old)?;
    fs::rename(&next, &key_file)?;
    output::say(&format!("re-encrypted {count} secrets"));
    output::tell(&format!(
        "The new key is {}. The old key is {}: keep it as long as you have backups that need it.",
        key_file.display(),
        old.display()
    ));
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check that the configuration is valid
    #[command(after_help = "Example:\n  landreeve config check --config landreeve.toml")]
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// Print the default configuration, with comments
    #[command(after_help = "Example:\n  landreeve config default")]
    Default(super::PlaceArgs),
}

pub async fn config(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { place } => {
            let config = Config::load(place.config.as_deref())?;
            crate::planes::planes(&config, &place.data_dir, None)?;
            output::say("the configuration is valid");
            Ok(())
        }
        ConfigCommand::Default(place) => {
            output::say(&crate::planes::default_settings(&place.place.data_dir)?);
            Ok(())
        }
    }
}

/// Checks everything a server needs and prints one line for each check.
pub async fn doctor(place: Place) -> anyhow::Result<()> {
    let config = Config::load(place.config.as_deref())?;
    let mut wrong = 0;
    let mut check = |name: &str, result: Result<String, String>| match result {
        Ok(fine) => output::say(&format!("ok     {name}: {fine}")),
        Err(why) => {
            wrong += 1;
            output::say(&format!("wrong  {name}: {why}"));
        }
    };
    check(
        "configuration",
        Ok(place.config.as_ref().map_or("defaults".to_owned(), |path| path.display().to_string())),
    );
    if let Err(absent) = open::require(&place, &config).await {
        check("store", Err(format!("{absent:#}")));
        anyhow::bail!("{wrong} of the checks failed");
    }
    let running = control::connect(&place.data_dir).await.is_some();
    check("server", Ok(if running { "running" } else { "not running" }.to_owned()));
    match Session::open(&place).await {
        Err(error) => check("store", Err(format!("{error:#}"))),
        Ok(session) => {
            let opened = &session.opened;
            check("store", Ok(format!("{}, estate {}", opened.store_name(), opened.estate.store_id())));
            check(
                "store file",
                match ops::backup::store_check(&opened.estate, &session.ctx).await {
                    Ok(problems) if problems.is_empty() => Ok("intact".to_owned()),
                    Ok(problems) => Err(format!("damaged: {}; restore a backup", problems.join("; "))),
                    Err(error) => Err(error.message),
                },
            );
            check("key file", Ok(format!("{} decrypts the store", opened.key_file.display())));
            let probe = opened.estate.blobs().put("doctor/probe", "probe".into()).await;
            let cleared = opened.estate.blobs().delete("doctor/probe").await;
            check("blobs", probe.and(cleared).map(|()| "writable".to_owned()).map_err(|error| error.message));
            for (name, word) in repositories(&session).await {
                check(&format!("repository {name}"), word);
            }
            let made = opened.data_dir.join(sample::FILE).exists();
            check(
                "sample",
                Ok(if made { "created" } else { "will be created at the next start" }.to_owned()),
            );
            session.close().await;
        }
    }
    anyhow::ensure!(wrong == 0, "{wrong} of the checks failed");
    Ok(())
}

/// What a failure of the estate's disk would do to each repository.
async fn repositories(session: &Session) -> Vec<(String, Result<String, String>)> {
    use std::os::unix::fs::MetadataExt as _;
    let opened = &session.opened;
    let all = match repository_list(&opened.protection, &session.ctx).await {
        Ok(all) => all,
        Err(error) => return vec![("list".to_owned(), Err(error.message))],
    };
    let disk = fs::metadata(&opened.data_dir).map(|found| found.dev()).ok();
    let word = |repository: &Repository| match &repository.address {
        Address::Folder(folder) => match fs::metadata(folder) {
            Err(error) => Err(format!("{} cannot be read: {error}", folder.display())),
            Ok(found) if Some(found.dev()) == disk => Ok(format!(
                "{} is on the same disk as the estate, which a failure of that disk would take with it",
                folder.display()
            )),
            Ok(_) => Ok(format!("{} is on another disk than the estate", folder.display())),
        },
        address => Ok(format!("{address} is elsewhere")),
    };
    all.iter().map(|repository| (repository.name.clone(), word(repository))).collect()
}
