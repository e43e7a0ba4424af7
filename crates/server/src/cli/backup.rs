//! `landreeve estate backup|restore|verify`. Backups have the same format for both stores and can be restored into
//! either: the metadata as a SQLite file, the blobs and the files of the data directory as folders.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use landreeve_estate::blobs::Blobs;
use landreeve_estate::ops;

use super::{Place, Session};
use crate::config::Config;
use crate::{open, output};

#[derive(Debug, Subcommand)]
pub enum EstateCommand {
    /// Back up the store, blobs and files to a new folder; the server can keep running
    #[command(after_help = "Example:\n  landreeve estate backup /backups/monday")]
    Backup {
        #[command(flatten)]
        place: Place,
        /// Folder to write the backup to; it must not exist
        #[arg(value_name = "FOLDER")]
        target: PathBuf,
        /// Include the encryption key; anyone with such a backup can decrypt every password in it
        #[arg(long)]
        with_key: bool,
    },
    /// Restore a backup into a new data directory and, with --store, into an empty PostgreSQL database
    #[command(
        after_help = "Example:\n  landreeve estate restore /backups/monday --data-dir /var/lib/landreeve"
    )]
    Restore {
        #[command(flatten)]
        place: Place,
        /// Folder of the backup
        #[arg(value_name = "FOLDER")]
        source: PathBuf,
    },
    /// Verify a backup: check that no file is missing or changed and that the store in it is intact
    #[command(after_help = "Example:\n  landreeve estate verify /backups/monday")]
    Verify {
        #[command(flatten)]
        place: super::PlaceArgs,
        /// Folder of the backup
        #[arg(value_name = "FOLDER")]
        source: PathBuf,
    },
}

pub async fn run(command: EstateCommand) -> anyhow::Result<()> {
    match command {
        EstateCommand::Backup { place, target, with_key } => backup(&place, &target, with_key).await,
        EstateCommand::Restore { place, source } => restore(&place, &source).await,
        EstateCommand::Verify { source, .. } => {
            let files = verify(&source).await?;
            output::say(&format!("{} is intact: {files} files", source.display()));
            Ok(())
        }
    }
}

/// The contents of a backup's folder.
const STORE: &str = "estate.db";
const BLOBS: &str = "blobs";
const FILES: &str = "files";
const KEY: &str = "seal.key";

async fn backup(place: &Place, target: &Path, with_key: bool) -> anyhow::Result<()> {
    anyhow::ensure!(!target.exists(), "{} already exists; choose a new folder", target.display());
    let session = Session::open(place).await?;
    let opened = &session.opened;
    open::make_data_dir(target)?;
    if fs::canonicalize(target)?.starts_with(fs::canonicalize(&opened.data_dir)?) {
        fs::remove_dir(target)?;
        session.close().await;
        anyhow::bail!("{} is inside the data directory; choose a folder outside", target.display());
    }
    let copied = async {
        // The store first: a blob that it names and that is gone by the time we copy was past its retention.
        ops::backup::store_copy(&opened.estate, &session.ctx, &target.join(STORE)).await?;
        let blobs = Blobs::local(&target.join(BLOBS))?;
        ops::backup::blobs_copy(&opened.estate, &session.ctx, &blobs).await?;
        copy_tree(&opened.data_dir.join(FILES), &target.join(FILES))?;
        if with_key {
            copy_file(&opened.key_file, &target.join(KEY))?;
        }
        ops::backup::manifest_write(target).await?;
        anyhow::Ok(())
    }
    .await;
    let key_file = session.opened.key_file.clone();
    session.close().await;
    copied.with_context(|| format!("the backup {} is incomplete; remove it", target.display()))?;
    output::say(&format!("backed up to {}", target.display()));
    if !with_key {
        output::tell(&format!(
            "The backup does not include the key {}. Keep a copy of it elsewhere.",
            key_file.display()
        ));
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    open::copy_private(from, to).with_context(|| format!("could not copy {}", from.display()))
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
            match open::copy_private(&entry.path(), &next) {
                // Removed while we were copying.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// Returns the number of files in the backup, or an error that says what is wrong with it.
async fn verify(source: &Path) -> anyhow::Result<usize> {
    let (files, mut problems) = ops::backup::manifest_check(source, source, &[]).await?;
    if problems.is_empty() {
        problems = ops::backup::file_check(&source.join(STORE)).await?;
    }
    whole(&format!("the backup {}", source.display()), &problems)?;
    Ok(files)
}

fn whole(what: &str, problems: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(problems.is_empty(), "{what} is damaged:\n  {}", problems.join("\n  "));
    Ok(())
}

async fn restore(place: &Place, source: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        source.join(STORE).is_file(),
        "{} does not contain a backup of an estate",
        source.display()
    );
    verify(source).await?;
    let config = Config::load(place.config.as_deref())?;
    let target = &place.data_dir;
    let empty = !target.exists() || fs::read_dir(target)?.next().is_none();
    anyhow::ensure!(empty, "{} is not empty; restore into a new data directory", target.display());
    open::make_data_dir(target)?;
    let restored = fill(place, &config, source).await;
    restored.with_context(|| format!("the restore is incomplete; remove {}", target.display()))?;
    if !source.join(KEY).exists() {
        output::tell(
            "The backup does not include the key. Copy the estate's key file into the data directory as seal.key (mode 600).",
        );
    }
    output::say(&format!("restored to {}", target.display()));
    Ok(())
}

/// Restores the store last: until it exists, nothing refers to the rest.
async fn fill(place: &Place, config: &Config, source: &Path) -> anyhow::Result<()> {
    let target = &place.data_dir;
    let blobs = open::blobs(config, target)?;
    if source.join(BLOBS).is_dir() {
        Blobs::local(&source.join(BLOBS))?.copy_all(&blobs).await?;
    }
    copy_tree(&source.join(FILES), &target.join(FILES))?;
    let key = source.join(KEY);
    if key.exists() {
        copy_file(&key, &target.join(KEY))?;
    }
    // Reads back what was written, before anything refers to it.
    let (_, mut problems) = ops::backup::manifest_check(source, target, &[FILES, KEY]).await?;
    problems.extend(ops::backup::manifest_check_blobs(source, BLOBS, &blobs).await?);
    whole("the restored data", &problems)?;
    open::restore_store(place, config, &source.join(STORE)).await
}
