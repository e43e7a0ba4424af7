//! The handle that the plane's use cases use.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::snapshot::{RowOrder, SnapshotOptions, Tools};
use landreeve_core::source::ResultCodec;
use landreeve_core::table::SqlEngine;
use landreeve_core::vault::Vault;
use landreeve_core::{Error, PoolName, Result};
use landreeve_estate::plane::{CatalogSpec, Plane, PlaneParts, SettingsSection, Slot};
use landreeve_estate::secrets::SealedColumn;
use landreeve_estate::store::MigrationSet;
use landreeve_estate::{Estate, sealed_column};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::alerts::Raiser;
use crate::backing_up::{BACK_UP, BackingUp};
use crate::estate_backup::{BackingUpEstate, ESTATE_BACK_UP};
use crate::nouns;
use crate::policies::following::Following;
use crate::policies::{self, Changing, Unlocker};
use crate::records::restoring::{RECORD_RESTORE, RestoringRecords};
use crate::records::{self, BackupCatalog, OpenBackups};
use crate::restoring::{self, Restoring, Verifying};
use crate::units;
use crate::upkeep::{self, Pruner, Verifier};

/// The plane's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: NAME,
    sqlite: &[
        include_str!("../migrations/sqlite/0001_repositories.sql"),
        include_str!("../migrations/sqlite/0002_backups.sql"),
        include_str!("../migrations/sqlite/0003_policies.sql"),
        include_str!("../migrations/sqlite/0004_alert_groups.sql"),
        include_str!("../migrations/sqlite/0005_backup_lists.sql"),
    ],
    postgres: &[
        include_str!("../migrations/postgres/0001_repositories.sql"),
        include_str!("../migrations/postgres/0002_backups.sql"),
        include_str!("../migrations/postgres/0003_policies.sql"),
        include_str!("../migrations/postgres/0004_alert_groups.sql"),
        include_str!("../migrations/postgres/0005_backup_lists.sql"),
    ],
};

/// The workers of everything that reads or writes repositories.
pub const POOL: PoolName = PoolName::new("protection");

/// The workers of restored records, which wait for no backup.
pub const RECORDS: PoolName = PoolName::new("records");

/// The workers of changes, which wait for no backup.
pub const CHANGES: PoolName = PoolName::new("policies");

/// The plane's name.
pub(crate) const NAME: &str = "protection";

/// Every column with encrypted values.
const SEALED: [SealedColumn; 2] = [
    sealed_column!("repositories", "id", "password_sealed", "repository"),
    sealed_column!("repositories", "id", "login_sealed", "repository_login"),
];

pub const SETTINGS: SettingsSection =
    SettingsSection { name: "protection", defaults: include_str!("../settings.default.toml") };

/// The plane's section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtectionOptions {
    pub workers: NonZeroUsize,
    /// Restored records.
    pub record_workers: NonZeroUsize,
    /// How many tables of a database a backup reads at the same time.
    pub readers: NonZeroUsize,
    /// In which order the rows of a PostgreSQL table are read.
    pub row_order: RowOrderOption,
    /// Where snapshots are staged.
    #[serde(skip)]
    pub scratch_dir: PathBuf,
    /// The files of the data directory, which belong to the estate.
    #[serde(skip)]
    pub files_dir: PathBuf,
    /// Where the repository `default` is made.
    #[serde(skip)]
    pub default_folder: PathBuf,
    /// A larger value is an error of its backup.
    pub max_value_bytes: usize,
    /// How long a backup waits for a table that another session has locked.
    pub lock_timeout_seconds: u64,
    /// Restored rows that are larger than this fail their run.
    pub max_result_bytes: u64,
    #[serde(skip)]
    pub tools: Tools,
}

/// As the configuration has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOrderOption {
    Key,
    Physical,
}

impl Default for ProtectionOptions {
    fn default() -> ProtectionOptions {
        let own = std::env::temp_dir().join(format!("landreeve-{}", std::process::id()));
        ProtectionOptions {
            workers: const { NonZeroUsize::new(2).unwrap() },
            record_workers: const { NonZeroUsize::new(2).unwrap() },
            readers: const { NonZeroUsize::new(2).unwrap() },
            row_order: RowOrderOption::Key,
            scratch_dir: own.join("scratch"),
            files_dir: own.join("files"),
            default_folder: own.join("repository"),
            max_value_bytes: 256 * 1024 * 1024,
            lock_timeout_seconds: 60,
            max_result_bytes: 10 * 1_024 * 1_024 * 1_024,
            tools: Tools::default(),
        }
    }
}

/// The plane, and where to find its handle once the estate is open.
pub fn plane(
    engine: Arc<dyn SqlEngine>,
    codec: Arc<dyn ResultCodec>,
    vault: Arc<dyn Vault>,
    options: ProtectionOptions,
) -> (Plane, Slot<Protection>) {
    let slot = Slot::default();
    let filled = slot.clone();
    let plane = Plane {
        migrations: MIGRATIONS,
        ids: crate::ids::KINDS,
        kinds: vec![
            BACK_UP,
            ESTATE_BACK_UP,
            restoring::VERIFY,
            restoring::RESTORE_RUN,
            RECORD_RESTORE,
            upkeep::VERIFY,
            upkeep::PRUNE,
            policies::CHANGE,
        ],
        pools: vec![(POOL, options.workers.get()), (RECORDS, options.record_workers.get()), (CHANGES, 1)],
        nouns: nouns::SPECS.to_vec(),
        roles: nouns::roles(),
        sealed: SEALED.to_vec(),
        catalogs: vec![CatalogSpec { database_type: records::DATABASE_TYPE, builtin: false }],
        settings: Some(SETTINGS),
        units: Some(units::HOOKS),
        open: Box::new(move |estate| {
            let plane = Protection {
                estate: estate.clone(),
                engine,
                codec,
                vault,
                options: Arc::new(options),
                making: Arc::new(Semaphore::new(1)),
                staging: Arc::new(Semaphore::new(2)),
                open_backups: Arc::default(),
            };
            filled.fill(plane.clone());
            Ok(PlaneParts {
                executors: vec![
                    (BACK_UP.kind, Arc::new(BackingUp(plane.clone()))),
                    (ESTATE_BACK_UP.kind, Arc::new(BackingUpEstate(plane.clone()))),
                    (restoring::VERIFY.kind, Arc::new(Verifying(plane.clone()))),
                    (restoring::RESTORE_RUN.kind, Arc::new(Restoring(plane.clone()))),
                    (RECORD_RESTORE.kind, Arc::new(RestoringRecords(plane.clone()))),
                    (upkeep::VERIFY.kind, Arc::new(Verifier(plane.clone()))),
                    (upkeep::PRUNE.kind, Arc::new(Pruner(plane.clone()))),
                    (policies::CHANGE.kind, Arc::new(Changing(plane.clone()))),
                ],
                subscribers: vec![Arc::new(Raiser(plane.clone())), Arc::new(Unlocker(plane.clone()))],
                follower: Some(Arc::new(Following(plane.clone()))),
                schedules: vec![upkeep::daily_prune()?],
                catalogs: vec![(records::DATABASE_TYPE, Arc::new(BackupCatalog::new(plane)))],
                ..PlaneParts::default()
            })
        }),
        ..Plane::new(NAME)
    };
    (plane, slot)
}

#[derive(Clone)]
pub struct Protection {
    estate: Estate,
    vault: Arc<dyn Vault>,
    options: Arc<ProtectionOptions>,
    /// One at a time makes the repository `default`.
    making: Arc<Semaphore>,
    /// So many copy files of backups out of their repositories.
    staging: Arc<Semaphore>,
    engine: Arc<dyn SqlEngine>,
    codec: Arc<dyn ResultCodec>,
    open_backups: Arc<OpenBackups>,
}

impl Protection {
    pub fn estate(&self) -> &Estate {
        &self.estate
    }

    /// Does work on a repository where a thread may wait. For what takes long there are runs.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Vault) -> T + Send + 'static,
    ) -> Result<T> {
        let vault = self.vault();
        tokio::task::spawn_blocking(move || work(&*vault)).await.map_err(Error::internal)
    }

    pub(crate) fn options(&self) -> &ProtectionOptions {
        &self.options
    }

    /// For a snapshot whose files are staged there.
    pub(crate) fn snapshot_options(&self, scratch: PathBuf, readers: usize) -> SnapshotOptions {
        SnapshotOptions {
            scratch,
            readers,
            row_order: match self.options.row_order {
                RowOrderOption::Key => RowOrder::Key,
                RowOrderOption::Physical => RowOrder::Physical,
            },
            lock_timeout: Duration::from_secs(self.options.lock_timeout_seconds),
            max_value_bytes: self.options.max_value_bytes,
            tools: self.options.tools.clone(),
        }
    }

    pub(crate) fn engine(&self) -> &dyn SqlEngine {
        &*self.engine
    }

    pub(crate) fn codec(&self) -> &dyn ResultCodec {
        &*self.codec
    }

    pub(crate) fn open_backups(&self) -> &OpenBackups {
        &self.open_backups
    }

    pub(crate) fn staging(&self) -> &Semaphore {
        &self.staging
    }

    pub(crate) fn making(&self) -> &Semaphore {
        &self.making
    }

    pub(crate) fn vault(&self) -> Arc<dyn Vault> {
        Arc::clone(&self.vault)
    }
}
