//! The handle that the plane's use cases use.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::Result;
use landreeve_core::datasource::CatalogType;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::TextFiles;
use landreeve_core::table::SqlEngine;
use landreeve_estate::memory::PerEpoch;
use landreeve_estate::ops::datasources::RowCounts;
use landreeve_estate::plane::{CatalogSpec, Plane, PlaneParts, RoleSpec, SettingsSection, Slot};
use landreeve_estate::secrets::SealedColumn;
use landreeve_estate::store::MigrationSet;
use landreeve_estate::{Estate, ops, sealed_column};
use serde::Deserialize;

use crate::access::RemoteNodes;
use crate::deployments::{self, Closer, DEPLOYMENT, Deployer};
use crate::git::Repository;
use crate::leases::Poller;
use crate::nouns;
use crate::scan::kinds::Known;
use crate::tables::VirtualCatalog;
use crate::versions::Memory;

/// The plane's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "promotion",
    sqlite: &[
        include_str!("../migrations/sqlite/0001_virtual.sql"),
        include_str!("../migrations/sqlite/0002_promotion.sql"),
        include_str!("../migrations/sqlite/0003_leases.sql"),
        include_str!("../migrations/sqlite/0004_hashes.sql"),
    ],
    postgres: &[
        include_str!("../migrations/postgres/0001_virtual.sql"),
        include_str!("../migrations/postgres/0002_promotion.sql"),
        include_str!("../migrations/postgres/0003_leases.sql"),
        include_str!("../migrations/postgres/0004_hashes.sql"),
    ],
};

/// The type of a datasource that is a virtual database.
pub const DATABASE_TYPE: CatalogType = CatalogType::new("virtual");

/// Every column with encrypted values.
const SEALED: [SealedColumn; 6] = [
    sealed_column!("virtual_datasources", "id", "password_sealed", "virtual_datasource"),
    sealed_column!("promotion_servers", "id", "password_sealed", "promotion_server"),
    sealed_column!("promotion_properties", "id", "value_sealed", "promotion_property"),
    sealed_column!("promotion_keys", "id", "key_sealed", "promotion_key"),
    sealed_column!("promotion_revision_texts", "revision_id", "vql_sealed", "promotion_revision"),
    sealed_column!(
        "promotion_revision_texts",
        "revision_id",
        "properties_sealed",
        "promotion_revision_properties"
    ),
];

/// The plane, and where to find its handle once the estate is open. `roles` are those of the dialect that shows it.
pub fn plane(
    engine: Arc<dyn SqlEngine>,
    files: Arc<dyn TextFiles>,
    pushdown: bool,
    roles: Vec<RoleSpec>,
    options: PromotionOptions,
) -> (Plane, Slot<Promotion>) {
    let slot = Slot::default();
    let filled = slot.clone();
    let plane = Plane {
        migrations: MIGRATIONS,
        ids: crate::ids::KINDS,
        kinds: vec![DEPLOYMENT],
        nouns: nouns::SPECS.to_vec(),
        roles,
        sealed: SEALED.to_vec(),
        catalogs: vec![CatalogSpec { database_type: DATABASE_TYPE, builtin: false }],
        settings: Some(SETTINGS),
        purge: Some(deployments::purge),
        open: Box::new(move |estate| {
            let plane = Promotion::new(estate.clone(), engine, files, pushdown, options);
            filled.fill(plane.clone());
            let catalog = Arc::new(VirtualCatalog::new(plane.clone()));
            Ok(PlaneParts {
                executors: vec![(DEPLOYMENT.kind, Arc::new(Deployer(plane.clone())))],
                subscribers: vec![Arc::new(Closer(plane.clone()))],
                catalogs: vec![(DATABASE_TYPE, catalog)],
                follower: Some(Arc::new(Poller::new(plane))),
                schedules: vec![Poller::schedule()],
                ..PlaneParts::default()
            })
        }),
        ..Plane::new("promotion")
    };
    (plane, slot)
}

pub const SETTINGS: SettingsSection =
    SettingsSection { name: "promotion", defaults: include_str!("../settings.default.toml") };

/// The plane's section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromotionOptions {
    /// Maximum size of the text of a revision.
    pub max_vql_bytes: usize,
    /// Where the scripts of deployments are. Empty in the configuration means a folder of the data directory, which the
    /// server fills in.
    pub scripts_dir: PathBuf,
    /// Where scripts work; the server fills it in. No other process uses it.
    #[serde(skip)]
    pub scratch_dir: PathBuf,
    pub script_timeout_seconds: NonZeroU64,
    /// CA certificates in PEM, trusted for servers on other machines besides the built-in ones. Empty: none.
    pub ca_file: PathBuf,
    /// Reaches the nodes of servers on other machines; the server fills it in, with the certificates.
    #[serde(skip)]
    pub remote: Option<Arc<dyn RemoteNodes>>,
    /// Where backups are committed. Empty: nowhere.
    pub git_repository: PathBuf,
}

impl PromotionOptions {
    pub fn script_timeout(&self) -> Duration {
        Duration::from_secs(self.script_timeout_seconds.get())
    }
}

impl Default for PromotionOptions {
    fn default() -> PromotionOptions {
        PromotionOptions {
            max_vql_bytes: 32 * 1_024 * 1_024,
            scripts_dir: PathBuf::new(),
            scratch_dir: std::env::temp_dir().join(format!("landreeve-{}", std::process::id())),
            script_timeout_seconds: const { NonZeroU64::new(60).unwrap() },
            ca_file: PathBuf::new(),
            remote: None,
            git_repository: PathBuf::new(),
        }
    }
}

/// Of how many datasources the numbers of rows are cached.
const COUNTED: usize = 256;

#[derive(Clone)]
pub struct Promotion {
    estate: Estate,
    engine: Arc<dyn SqlEngine>,
    files: Arc<dyn TextFiles>,
    memory: Arc<Memory>,
    /// Of the datasources that were read last.
    row_counts: Arc<PerEpoch<DatasourceId, Arc<RowCounts>>>,
    kinds: Arc<Known>,
    /// Whether conditions and limits are sent to sources.
    pushdown: bool,
    options: Arc<PromotionOptions>,
    repository: Option<Arc<Repository>>,
}

impl Promotion {
    pub fn new(
        estate: Estate,
        engine: Arc<dyn SqlEngine>,
        files: Arc<dyn TextFiles>,
        pushdown: bool,
        options: PromotionOptions,
    ) -> Promotion {
        let row_counts = Arc::new(PerEpoch::new(COUNTED));
        let repository = Repository::new(&options.git_repository).map(Arc::new);
        Promotion {
            estate,
            engine,
            files,
            memory: Arc::default(),
            row_counts,
            kinds: Arc::default(),
            pushdown,
            options: Arc::new(options),
            repository,
        }
    }

    pub fn options(&self) -> &PromotionOptions {
        &self.options
    }

    /// Where backups are committed, if that is configured.
    pub(crate) fn repository(&self) -> Option<&Repository> {
        self.repository.as_deref()
    }

    pub fn estate(&self) -> &Estate {
        &self.estate
    }

    pub(crate) fn remote(&self) -> Option<&dyn RemoteNodes> {
        self.options.remote.as_deref()
    }

    pub(crate) fn engine(&self) -> &dyn SqlEngine {
        &*self.engine
    }

    pub(crate) fn files(&self) -> &dyn TextFiles {
        &*self.files
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What is known of the columns of sources.
    pub(crate) fn kinds(&self) -> &Known {
        &self.kinds
    }

    pub(crate) async fn row_counts(&self, id: DatasourceId) -> Result<Arc<RowCounts>> {
        let epoch = self.estate.epoch().await?;
        if let Some(known) = self.row_counts.get(epoch, &id) {
            return Ok(known);
        }
        let counts = Arc::new(ops::datasources::row_counts(&self.estate, id).await?);
        self.row_counts.put(epoch, id, Arc::clone(&counts));
        Ok(counts)
    }

    pub(crate) const fn pushdown(&self) -> bool {
        self.pushdown
    }
}
