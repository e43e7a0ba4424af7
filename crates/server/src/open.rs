//! Opens the estate: data directory, key file, store, blobs, drivers, executors. The server and commands that work on
//! the store directly share this code.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use landreeve_analytics::Analytics;
use landreeve_core::SystemClock;
use landreeve_core::error::codes;
use landreeve_delivery::Delivery;
use landreeve_drivers::{DriverOptions, DriverSet};
use landreeve_estate::blobs::{Blobs, S3};
use landreeve_estate::outbound::Outbound;
use landreeve_estate::outbound::http::OutboundHttp;
use landreeve_estate::program::Scratch;
use landreeve_estate::random::OsRandom;
use landreeve_estate::runs::RunOptions;
use landreeve_estate::secrets::SealKey;
use landreeve_estate::store::{Location, Migrations, StoreOptions};
use landreeve_estate::{Estate, EstateOptions, ops};
use landreeve_promotion::Promotion;
use landreeve_protection::Protection;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::cli::Place;
use crate::config::{Config, Environment};
use crate::memory;
use crate::output;
use crate::planes;
use crate::sources::Sources;

/// The opened estate and everything around it.
pub struct Opened {
    pub estate: Estate,
    pub analytics: Analytics,
    pub delivery: Delivery,
    pub promotion: Promotion,
    pub protection: Protection,
    pub drivers: Arc<Sources>,
    pub config: Config,
    pub data_dir: PathBuf,
    pub key_file: PathBuf,
}

/// What `serve` records in the data directory, so that a command can find the store with `--data-dir` alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    /// Without the password.
    database: String,
}

/// The lock on the data directory: exclusive for the server, shared for commands that execute runs. The system releases
/// it however the process ends.
pub struct DataLock(#[expect(dead_code, reason = "held, never read")] fs::File);

pub fn lock_file(data_dir: &Path) -> PathBuf {
    data_dir.join("lock")
}

pub fn lock(data_dir: &Path, exclusive: bool) -> anyhow::Result<DataLock> {
    use rustix::fs::FlockOperation::{NonBlockingLockExclusive, NonBlockingLockShared};
    let path = lock_file(data_dir);
    let file = fs::File::options().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
    let operation = if exclusive { NonBlockingLockExclusive } else { NonBlockingLockShared };
    rustix::fs::flock(&file, operation).map_err(|_| {
        anyhow::anyhow!("another server is running on the data directory {}", data_dir.display())
    })?;
    Ok(DataLock(file))
}

/// Only one process at a time creates the key and the store, or migrates the store: two that start in an empty
/// directory would each create a key. Others wait as long as that takes.
async fn opening(data_dir: &Path) -> anyhow::Result<fs::File> {
    let path = data_dir.to_path_buf();
    let locked = tokio::task::spawn_blocking(move || {
        let folder = fs::File::open(&path)?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
        Ok::<_, std::io::Error>(folder)
    });
    locked.await?.with_context(|| format!("could not lock the data directory {}", data_dir.display()))
}

pub fn make_data_dir(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("could not create the data directory {}", path.display()))
}

/// Copies a file with mode 0600, whatever the mode of the original.
pub fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut from = fs::File::open(from)?;
    let mut to = fs::File::options().create_new(true).write(true).mode(0o600).open(to)?;
    std::io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Where the metadata is: the command line, the configuration and the server's record are tried in this order; the
/// default is a file in the data directory.
pub fn location(place: &Place, config: &Config, data_dir: &Path) -> anyhow::Result<Location> {
    if let Some(database) = &place.store {
        return Ok(Location::parse(database));
    }
    if !config.store.database.is_empty() {
        return Ok(Location::parse(&config.store.database));
    }
    if let Ok(text) = fs::read_to_string(data_dir.join("estate.toml")) {
        let recorded: Recorded = toml::from_str(&text).context("DATA-DIR/estate.toml is damaged")?;
        return Ok(match Location::parse(&recorded.database) {
            // Relative to the data directory, so that a copy of it has its own store.
            Location::Sqlite(path) => Location::Sqlite(data_dir.join(path)),
            postgres @ Location::Postgres(_) => postgres,
        });
    }
    Ok(Location::Sqlite(data_dir.join("estate.db")))
}

/// Fails if there is no estate. Only `serve`, `quickstart` and `estate restore` create one.
pub async fn require(place: &Place, config: &Config) -> anyhow::Result<()> {
    let location = location(place, config, &place.data_dir)?;
    if landreeve_estate::store::exists(&location).await? {
        return Ok(());
    }
    let store = match &location {
        Location::Sqlite(path) => path.display().to_string(),
        Location::Postgres(url) => without_password(url),
    };
    anyhow::bail!(
        "there is no estate in {} (no store at {store}); set --data-dir (or LANDREEVE_DATA_DIR) and --store, or create \
         an estate with `landreeve serve`",
        place.data_dir.display()
    )
}

/// Records the database's address, without its password.
pub fn record_location(location: &Location, data_dir: &Path) -> anyhow::Result<()> {
    let database = match location {
        Location::Sqlite(path) => {
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let folder = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
            path.strip_prefix(&folder).unwrap_or(&path).to_string_lossy().into_owned()
        }
        Location::Postgres(url) => without_password(url),
    };
    let text = toml::to_string(&Recorded { database }).context("estate.toml")?;
    let (next, path) = (data_dir.join("estate.toml.next"), data_dir.join("estate.toml"));
    let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).context("DATA-DIR/estate.toml.next")?;
    fs::rename(next, path).context("could not write DATA-DIR/estate.toml")
}

fn without_password(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    // Fails for an address without a host, which has no password there.
    let _ = url.set_password(None);
    if url.query().is_some() {
        let kept: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| name != "password").collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
    }
    url.to_string()
}

/// A store that the server recorded and that is missing must not be replaced by an empty one.
fn not_lost(location: &Location, data_dir: &Path) -> anyhow::Result<()> {
    let record = data_dir.join("estate.toml");
    if let Location::Sqlite(path) = location {
        anyhow::ensure!(
            path.exists() || !record.exists(),
            "the store {} is missing. Restore a backup, or remove {} to start with an empty estate",
            path.display(),
            record.display()
        );
    }
    Ok(())
}

/// Opens everything. Commands pass `workers` (0 if they execute no runs themselves) and never create an estate.
pub async fn open(place: &Place, workers: Option<usize>) -> anyhow::Result<Opened> {
    let config = Config::load(place.config.as_deref())?;
    let environment = Environment::read();
    let data_dir = place.data_dir.clone();
    let location = location(place, &config, &data_dir)?;
    let create = workers.is_none();
    if !create {
        require(place, &config).await?;
        // Checked before the data directory is created, so that a mistyped name leaves nothing behind.
        let key_file = key_path(&config, &environment, &data_dir);
        anyhow::ensure!(
            key_file.exists(),
            "the key file {} is missing; it is needed to decrypt secrets in the store. Set the data directory with \
             --data-dir, or the key file with LANDREEVE_KEY_FILE",
            key_file.display()
        );
    }
    // Another place can be named for a new estate.
    if place.store.is_none() && config.store.database.is_empty() {
        not_lost(&location, &data_dir)?;
    }
    make_data_dir(&data_dir)?;
    let making = opening(&data_dir).await?;
    let (seal, key_file, fresh) = seal_key(&config, &environment, &location, &data_dir)?;
    let roots = file_roots(&config, &data_dir)?;
    let mut own_files = vec![key_file.clone()];
    if let Location::Sqlite(path) = &location {
        own_files.push(path.clone());
    }
    let outbound = Outbound::new(config.networks()?, roots, data_dir.clone(), own_files);
    let drivers = Arc::new(Sources::new(drivers(&config)?));
    make_data_dir(&planes::spill_dir(&data_dir))?;
    let http = Arc::new(OutboundHttp::new(outbound.clone()));
    let (planes, slots) = planes::planes(&config, &data_dir, Some(http))?;
    let options = EstateOptions {
        location,
        planes,
        seal,
        clock: Arc::new(SystemClock),
        random: Arc::new(OsRandom),
        blobs: blobs(&config, &data_dir)?,
        outbound,
        drivers: Arc::clone(&drivers) as Arc<dyn landreeve_core::source::Drivers>,
        runs: RunOptions {
            short: config.runs.pools.short,
            long: config.runs.pools.long,
            every_pool: workers,
            share: config.runs.share_percent,
            max_waiting: config.runs.max_waiting,
            lease: Duration::from_secs(config.runs.lease_seconds),
            node_name: config.server.node_name.clone(),
            memory: memory::budget(&config),
        },
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        store: StoreOptions { statement_limit: Duration::from_secs(config.store.statement_seconds) },
    };
    let opened = Estate::open(options).await;
    if let (Err(error), true) = (&opened, fresh)
        && error.code == codes::WRONG_KEY
    {
        // The store already existed, so the key that was just created is not its key.
        let _ = fs::remove_file(&key_file);
    }
    drop(making);
    let estate = opened?;
    if fresh {
        output::tell(&format!(
            "Created the encryption key {}. It encrypts the passwords that Landreeve stores. Copy it to a safe place: \
             without it they cannot be decrypted, not even from a backup.",
            key_file.display()
        ));
    }
    let (analytics, delivery) = (slots.analytics.get()?, slots.delivery.get()?);
    let (promotion, protection) = (slots.promotion.get()?, slots.protection.get()?);
    // They are opened once; a second driver would be the same.
    let _ = drivers.catalogs.set(Arc::new(planes::driver(&estate, slots.engine)));
    Ok(Opened { estate, analytics, delivery, promotion, protection, drivers, config, data_dir, key_file })
}

/// Ends the programs that a killed server had started, and removes temporary data that it left on disk. The caller has
/// locked the data directory.
pub fn clear_left_behind(data_dir: &Path) -> anyhow::Result<()> {
    let scratch_dir = planes::scratch_dir(data_dir);
    Scratch::clear(&scratch_dir).with_context(|| format!("could not empty {}", scratch_dir.display()))?;
    let spill_dir = planes::spill_dir(data_dir);
    if spill_dir.exists() {
        fs::remove_dir_all(&spill_dir).with_context(|| format!("could not empty {}", spill_dir.display()))?;
    }
    Ok(())
}

/// Removes uploads that a kill interrupted. In a folder shared by several nodes, uploads of the last day may be
/// running.
pub async fn clear_uploads(opened: &Opened) -> anyhow::Result<()> {
    const DAY: i64 = 86_400_000_000;
    let now = opened.estate.now().as_microsecond();
    // File times may come from another machine's clock, slightly ahead of ours.
    let before = if opened.config.blobs.shared { now - DAY } else { now + DAY };
    let removed =
        opened.estate.blobs().remove_interrupted(landreeve_core::clock::from_micros(before)).await?;
    if removed > 0 {
        tracing::info!(removed, "removed interrupted uploads");
    }
    Ok(())
}

/// Restores a backup's metadata to this place's store: a file that does not exist yet, or an empty PostgreSQL database.
pub async fn restore_store(place: &Place, config: &Config, copy: &Path) -> anyhow::Result<()> {
    let data_dir = &place.data_dir;
    let location = location(place, config, data_dir)?;
    match &location {
        Location::Sqlite(path) => {
            anyhow::ensure!(
                !path.exists(),
                "{} already exists; a restore does not replace a store",
                path.display()
            );
            copy_private(copy, path).with_context(|| format!("could not write {}", path.display()))?;
            let problems = ops::backup::file_check(path).await?;
            anyhow::ensure!(
                problems.is_empty(),
                "the restored store {} is damaged: {}",
                path.display(),
                problems.join("; ")
            );
        }
        Location::Postgres(url) => {
            // The copy may be migrated to this program's schema on the way; the backup is not changed.
            let working = data_dir.join("restore");
            make_data_dir(&working)?;
            let file = working.join("estate.db");
            let copied =
                copy_private(copy, &file).with_context(|| format!("could not write {}", file.display()));
            let restored = match copied {
                Ok(()) => {
                    let migrations = Migrations::of(&planes::planes(config, data_dir, None)?.0);
                    ops::backup::store_restore(&file, &migrations, url).await.map_err(Into::into)
                }
                Err(error) => Err(error),
            };
            fs::remove_dir_all(&working)
                .with_context(|| format!("could not remove {}", working.display()))?;
            restored?;
        }
    }
    record_location(&location, data_dir)
}

fn key_path(config: &Config, environment: &Environment, data_dir: &Path) -> PathBuf {
    let configured = (!config.secrets.key_file.is_empty()).then(|| PathBuf::from(&config.secrets.key_file));
    environment.key_file.clone().or(configured).unwrap_or_else(|| data_dir.join("seal.key"))
}

/// The key that encrypts secrets. It is created only with a new store; a store without its key is an error.
fn seal_key(
    config: &Config,
    environment: &Environment,
    location: &Location,
    data_dir: &Path,
) -> anyhow::Result<(SealKey, PathBuf, bool)> {
    let path = key_path(config, environment, data_dir);
    if path.exists() {
        return Ok((SealKey::read(&path)?, path, false));
    }
    if let Location::Sqlite(database) = location {
        anyhow::ensure!(
            !database.exists(),
            "the key file {} is missing; it is needed to decrypt the store {}. Put the key file back, or set \
             LANDREEVE_KEY_FILE",
            path.display(),
            database.display()
        );
    }
    let key = SealKey::generate(&OsRandom);
    key.write_new(&path)?;
    Ok((key, path, true))
}

fn file_roots(config: &Config, data_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let roots: Vec<PathBuf> =
        config.sources.file_roots.iter().chain(&config.sources.sqlite_roots).cloned().collect();
    if !roots.is_empty() {
        return Ok(roots);
    }
    let files = data_dir.join("files");
    make_data_dir(&files)?;
    Ok(vec![files])
}

fn drivers(config: &Config) -> anyhow::Result<DriverSet> {
    let ca_pem = match config.sources.ca_file.as_str() {
        "" => None,
        path => Some(fs::read(path).with_context(|| format!("could not read [sources] ca_file {path}"))?),
    };
    DriverSet::new(DriverOptions { ca_pem, bounds: memory::bounds(config), ..DriverOptions::default() })
        .context("[sources] ca_file")
}

pub fn blobs(config: &Config, data_dir: &Path) -> anyhow::Result<Blobs> {
    let section = &config.blobs;
    if section.url.is_empty() {
        return Ok(Blobs::local(&data_dir.join("blobs"))?);
    }
    let bucket = section.url.strip_prefix("s3://").context("[blobs] url must start with s3://")?;
    Ok(Blobs::s3(&S3 {
        bucket: bucket.trim_end_matches('/').to_owned(),
        endpoint: section.endpoint.clone(),
        region: section.region.clone(),
        access_key_id: section.access_key_id.clone(),
        secret_access_key: section.secret_access_key.clone(),
    })?)
}

impl Opened {
    pub fn store_name(&self) -> &'static str {
        self.estate.store().dialect().pick("SQLite", "PostgreSQL")
    }

    /// This machine's data directory, which only one server at a time can use.
    pub fn home(&self) -> String {
        let path = fs::canonicalize(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), path.display())
    }

    pub async fn close(self, grace: Duration) {
        self.estate.runs().stop(grace).await;
        self.drivers.set.close().await;
        self.estate.store().close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn the_recorded_address_has_no_password() {
        assert_eq!(without_password("postgres://u:p%40@h:5432/db?x=1"), "postgres://u@h:5432/db?x=1");
        assert_eq!(without_password("postgres://h/db"), "postgres://h/db");
        assert_eq!(
            without_password("postgres:///db?user=u&password=p&host=/run"),
            "postgres:///db?user=u&host=%2Frun"
        );
        assert_eq!(without_password("postgres://u:a@b@h/db"), "postgres://u@h/db");
    }
}
