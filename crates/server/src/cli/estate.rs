//! `landreeve settings …`, `secrets …`, `estate …`, `doctor` and `config check`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use landreeve_core::Page;
use landreeve_estate::ops;
use landreeve_estate::random::OsRandom;
use landreeve_estate::secrets::SealKey;
use serde_json::json;

use super::{Place, Session};
use crate::config::Config;
use crate::output::{self, Format};
use crate::{Usage, control, open, sample};

#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Set one or more: NAME=VALUE …
    Set {
        #[command(flatten)]
        place: Place,
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
    /// The newest events.
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        /// How many, newest first; 1,000 at most.
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
    /// Seal everything under a new key. The server must not be running.
    Rotate {
        #[command(flatten)]
        place: Place,
    },
}

pub async fn secrets(command: SecretsCommand) -> anyhow::Result<()> {
    let SecretsCommand::Rotate { place } = command;
    anyhow::ensure!(
        control::connect(&place.data_dir).await.is_none(),
        "stop the server on this data directory first: it holds the old key"
    );
    // No server may start while the key changes.
    let _lock = open::lock(&place.data_dir, true)?;
    let session = Session::open(&place).await?;
    let key_file = session.opened.key_file.clone();
    let next = key_file.with_extension("key.next");
    // Named by its fingerprint: backups of several keys must not lose theirs.
    let old = key_file.with_extension(format!("key.{}", SealKey::read(&key_file)?.fingerprint()));
    let key = SealKey::generate(&OsRandom);
    // On disk before the store needs it: after a crash one of the two files has the key.
    let _ = fs::remove_file(&next);
    key.write_new(&next)?;
    let rotated = ops::secrets::rotate(&session.opened.estate, &session.ctx, key).await;
    session.close().await;
    let count = rotated?;
    fs::rename(&key_file, &old)?;
    fs::rename(&next, &key_file)?;
    output::say(&format!("re-sealed {count} secrets"));
    output::tell(&format!(
        "The new key is {}. The old one is {}: keep it as long as you keep backups that need it.",
        key_file.display(),
        old.display()
    ));
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum EstateCommand {
    /// Copy the store and the blobs into a folder, consistently, while the server may be running.
    Backup {
        #[command(flatten)]
        place: Place,
        target: PathBuf,
        /// Copy the key too. Whoever has that backup can read every password in it.
        #[arg(long)]
        with_key: bool,
    },
    /// Make a data directory from a backup. It must be empty.
    Restore {
        #[command(flatten)]
        place: Place,
        source: PathBuf,
    },
}

pub async fn estate(command: EstateCommand) -> anyhow::Result<()> {
    match command {
        EstateCommand::Backup { place, target, with_key } => backup(&place, &target, with_key).await,
        EstateCommand::Restore { place, source } => restore(&place, &source).await,
    }
}

async fn backup(place: &Place, target: &Path, with_key: bool) -> anyhow::Result<()> {
    anyhow::ensure!(!target.exists(), "{} is there already; name a new folder", target.display());
    let session = Session::open(place).await?;
    let opened = &session.opened;
    open::make_data_dir(target)?;
    let copied = async {
        // The store first: it names blobs, and a blob that is gone by then was past its retention.
        ops::backup::store_copy(&opened.estate, &session.ctx, &target.join("estate.db")).await?;
        copy_tree(&opened.data_dir.join("blobs"), &target.join("blobs"))?;
        copy_tree(&opened.data_dir.join("files"), &target.join("files"))?;
        if with_key {
            copy_private(&opened.key_file, &target.join("seal.key"))?;
        }
        anyhow::Ok(())
    }
    .await;
    let key_file = session.opened.key_file.clone();
    session.close().await;
    copied.with_context(|| format!("the backup {} is not complete; remove it", target.display()))?;
    output::say(&format!("backed up to {}", target.display()));
    if !with_key {
        output::tell(&format!("The key {} is not in it. Keep a copy of it elsewhere.", key_file.display()));
    }
    Ok(())
}

fn copy_private(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    open::make_data_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, next) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &next)?;
        } else if kind.is_file() {
            match fs::copy(entry.path(), &next) {
                // Purged while we were copying.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

async fn restore(place: &Place, source: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(source.join("estate.db").is_file(), "{} holds no backup of an estate", source.display());
    let target = &place.data_dir;
    let empty = !target.exists() || fs::read_dir(target)?.next().is_none();
    anyhow::ensure!(empty, "{} is not empty; restore into a new data directory", target.display());
    copy_tree(source, target)?;
    if !target.join("seal.key").exists() {
        output::tell(
            "The backup has no key. Put the estate's key file into the data directory as seal.key (mode 600).",
        );
    }
    output::say(&format!("restored to {}", target.display()));
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration and say whether it is valid.
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// Print the defaults, with comments.
    Default(super::PlaceArgs),
}

pub async fn config(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { place } => {
            Config::load(place.config.as_deref())?;
            output::say("the configuration is valid");
            Ok(())
        }
        ConfigCommand::Default(_) => {
            output::say(crate::config::DEFAULTS.trim_end());
            Ok(())
        }
    }
}

/// Looks at everything a server needs, and says of each whether it is fine.
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
    if !open::exists(&place, &config)? {
        check(
            "store",
            Err(format!("there is no estate in {}; `landreeve serve` makes one", place.data_dir.display())),
        );
        anyhow::bail!("{wrong} of the checks failed");
    }
    let running = control::connect(&place.data_dir).await.is_some();
    check("server", Ok(if running { "running" } else { "not running" }.to_owned()));
    match Session::open(&place).await {
        Err(error) => check("store", Err(format!("{error:#}"))),
        Ok(session) => {
            let opened = &session.opened;
            check("store", Ok(format!("{}, estate {}", opened.store_name(), opened.estate.store_id())));
            check("key file", Ok(format!("{} opens the store", opened.key_file.display())));
            let probe = opened.estate.blobs().put("doctor/probe", "probe".into()).await;
            let cleared = opened.estate.blobs().delete("doctor/probe").await;
            check(
                "blobs",
                probe.and(cleared).map(|()| "can be written".to_owned()).map_err(|error| error.message),
            );
            let made = opened.data_dir.join(sample::FILE).exists();
            check("sample", Ok(if made { "made" } else { "made by the next start" }.to_owned()));
            session.close().await;
        }
    }
    anyhow::ensure!(wrong == 0, "{wrong} of the checks failed");
    Ok(())
}
