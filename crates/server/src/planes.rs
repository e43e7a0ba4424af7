//! The planes of this program: the one list of them, their settings, and the engine that runs SQL over their tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use landreeve_analytics::Analytics;
use landreeve_core::outbound::HttpClient;
use landreeve_core::snapshot::Tools;
use landreeve_core::source::TextFiles;
use landreeve_core::table::SqlEngine;
use landreeve_delivery::Delivery;
use landreeve_drivers::{Codec, TextReader};
use landreeve_engine::{Engine, EngineDriver, EngineOptions};
use landreeve_estate::Estate;
use landreeve_estate::plane::{Plane, Slot};
use landreeve_face_denodo::remote::Remote as RemoteServers;
use landreeve_promotion::access::RemoteNodes;
use landreeve_promotion::{Promotion, PromotionOptions};
use landreeve_protection::{Protection, ProtectionOptions};
use landreeve_vault::{Remote, Repositories};
use tokio::runtime::Handle;

use crate::config::{self, Config, ToolsSection};

/// The slots that are filled with the planes' handles, for the faces.
pub struct Slots {
    pub analytics: Slot<Analytics>,
    pub delivery: Slot<Delivery>,
    pub promotion: Slot<Promotion>,
    pub protection: Slot<Protection>,
    pub engine: Arc<dyn SqlEngine>,
}

/// Lists the planes, each with its section of the configuration. Does not create anything yet. Without `http` the planes
/// reach no other server.
pub fn planes(
    config: &Config,
    data_dir: &Path,
    http: Option<Arc<dyn HttpClient>>,
) -> anyhow::Result<(Vec<Plane>, Slots)> {
    let engine = engine(config, data_dir);
    let (analytics_plane, analytics) = landreeve_analytics::plane(
        Arc::new(Codec),
        config.section(&landreeve_analytics::SETTINGS)?,
        landreeve_face_cluvio::BUILTIN_SNIPPETS,
    );
    let (delivery_plane, delivery) = landreeve_delivery::plane(
        Arc::clone(&engine),
        Arc::new(Codec),
        config.section(&landreeve_delivery::SETTINGS)?,
    );
    let (promotion_plane, promotion) = landreeve_promotion::plane(
        Arc::clone(&engine),
        files(config),
        config.engine.pushdown,
        landreeve_face_denodo::permissions::roles(),
        promotion_options(config, data_dir, http.clone())?,
    );
    let (protection_plane, protection) = landreeve_protection::plane(
        Arc::clone(&engine),
        Arc::new(Codec),
        Arc::new(repositories(http)),
        protection_options(config, data_dir)?,
    );
    let planes = vec![
        analytics_plane,
        delivery_plane,
        promotion_plane,
        protection_plane,
        crate::sample::plane(data_dir),
    ];
    check(config, &planes)?;
    Ok((planes, Slots { analytics, delivery, promotion, protection, engine }))
}

/// What keeps backups.
fn repositories(http: Option<Arc<dyn HttpClient>>) -> Repositories {
    let remote = http.zip(Handle::try_current().ok());
    Repositories { remote: remote.map(|(http, runtime)| Remote { http, runtime }), ..Repositories::default() }
}

fn protection_options(config: &Config, data_dir: &Path) -> anyhow::Result<ProtectionOptions> {
    let mut options: ProtectionOptions = config.section(&landreeve_protection::SETTINGS)?;
    // Programs that work in the scratch folder are told the paths of their files.
    let data_dir = std::path::absolute(data_dir)?;
    options.scratch_dir = scratch_dir(&data_dir);
    options.default_folder = data_dir.join("repository");
    options.files_dir = data_dir.join("files");
    let ToolsSection { pg_dump, pg_restore } = config.tools.clone();
    options.tools = Tools { pg_dump, pg_restore };
    anyhow::ensure!(
        (65_536..=1_073_741_824).contains(&options.max_value_bytes),
        "[protection] max_value_bytes must be from 65536 to 1073741824"
    );
    anyhow::ensure!((1..=16).contains(&options.readers.get()), "[protection] readers must be from 1 to 16");
    anyhow::ensure!(
        (1..=86_400).contains(&options.lock_timeout_seconds),
        "[protection] lock_timeout_seconds must be from 1 to 86400"
    );
    Ok(options)
}

/// Where the programs of the operator work, and snapshots are staged.
pub fn scratch_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("scratch")
}

fn promotion_options(
    config: &Config,
    data_dir: &Path,
    http: Option<Arc<dyn HttpClient>>,
) -> anyhow::Result<PromotionOptions> {
    let mut options: PromotionOptions = config.section(&landreeve_promotion::SETTINGS)?;
    if options.scripts_dir.as_os_str().is_empty() {
        options.scripts_dir = data_dir.join("scripts");
    }
    options.scratch_dir = scratch_dir(data_dir);
    let authorities = authorities(&options.ca_file).context("[promotion] ca_file")?;
    options.remote = http.map(|http| Arc::new(RemoteServers::new(http, authorities)) as Arc<dyn RemoteNodes>);
    Ok(options)
}

/// The certificates in a file, if there is one.
fn authorities(file: &Path) -> anyhow::Result<Vec<String>> {
    if file.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let place = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("could not read {place}"))?;
    anyhow::ensure!(
        text.contains("-----BEGIN CERTIFICATE-----"),
        "{place} does not contain a certificate in PEM"
    );
    Ok(vec![text])
}

/// Rejects sections that no plane reads.
fn check(config: &Config, planes: &[Plane]) -> anyhow::Result<()> {
    let known = |name: &str| planes.iter().filter_map(|plane| plane.settings).any(|own| own.name == name);
    for name in config.planes.keys() {
        anyhow::ensure!(known(name), "the configuration is invalid: unknown section [{name}]");
    }
    Ok(())
}

/// Every setting with its default, as a commented file.
pub fn default_settings(data_dir: &Path) -> anyhow::Result<String> {
    let (planes, _) = planes(&Config::load(None)?, data_dir, None)?;
    let sections =
        planes.iter().filter_map(|plane| plane.settings).map(|section| section.defaults.trim_end());
    let all: Vec<&str> = [config::DEFAULTS.trim_end()].into_iter().chain(sections).collect();
    Ok(all.join("\n\n"))
}

/// The driver for the tables that planes offer.
pub fn driver(estate: &Estate, engine: Arc<dyn SqlEngine>) -> EngineDriver {
    let catalogs = estate.planes().iter().flat_map(|plane| plane.catalogs.iter());
    let catalogs = catalogs.map(|(name, catalog)| (name.as_str().to_owned(), Arc::clone(catalog))).collect();
    EngineDriver { engine, catalogs }
}

/// Where statements spill data that does not fit into memory.
pub fn spill_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("spill")
}

/// What reads files of rows.
fn files(config: &Config) -> Arc<dyn TextFiles> {
    Arc::new(TextReader { bounds: crate::memory::bounds(config) })
}

fn engine(config: &Config, data_dir: &Path) -> Arc<dyn SqlEngine> {
    Arc::new(Engine::new(EngineOptions {
        memory_bytes: config.engine.memory_bytes,
        max_value_bytes: config.engine.max_value_bytes,
        spill_dir: spill_dir(data_dir),
        spill_bytes: config.engine.spill_bytes,
        statements: config.engine.statements,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_unknown_sections_and_bad_values_of_planes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landreeve.toml");
        for (text, part) in [
            ("[nonsense]\nx = 1", "nonsense"),
            ("[delivery]\nquery_seconds = 0", "query_seconds"),
            ("[delivery]\nmax_rows = -1", "max_rows"),
            ("[delivery]\nmost_rows = 7", "most_rows"),
            ("[analytics]\nquery_seconds = 'soon'", "query_seconds"),
            ("analytics = 3", "analytics"),
            ("[promotion]\nscript_timeout_seconds = 0", "script_timeout_seconds"),
            ("[promotion]\nmax_vql_bytes = -1", "max_vql_bytes"),
            ("[promotion]\nscript_dir = '/x'", "script_dir"),
            ("[promotion]\nca_file = '/no/such/file.pem'", "[promotion] ca_file"),
            ("[promotion]\nremote = true", "remote"),
            ("[protection]\nworkers = 0", "workers"),
            ("[protection]\nworker = 2", "worker"),
            ("[protection]\nrecord_workers = 0", "record_workers"),
            ("[protection]\nreaders = 17", "readers"),
            ("[protection]\nrow_order = 'random'", "row_order"),
            ("[protection]\nmax_value_bytes = 1", "max_value_bytes"),
            ("[protection]\nlock_timeout_seconds = 0", "lock_timeout_seconds"),
            ("[protection]\nscratch_dir = '/x'", "scratch_dir"),
        ] {
            fs::write(&file, text).unwrap();
            let config = Config::load(Some(&file)).unwrap();
            let error =
                planes(&config, folder.path(), None).err().unwrap_or_else(|| panic!("{text} is accepted"));
            assert!(format!("{error:#}").contains(part), "{text}: {error:#}");
        }
    }

    #[test]
    fn a_section_overrides_single_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landreeve.toml");
        fs::write(&file, "[delivery]\nmax_rows = 7").unwrap();
        let config = Config::load(Some(&file)).unwrap();
        let options: landreeve_delivery::DeliveryOptions =
            config.section(&landreeve_delivery::SETTINGS).unwrap();
        assert_eq!((options.max_rows.get(), options.query_seconds.get()), (7, 120));
    }

    #[test]
    fn scripts_are_in_the_data_directory_by_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landreeve.toml");
        for (text, scripts) in [
            ("", folder.path().join("scripts")),
            ("[promotion]\nscripts_dir = '/x/y'", PathBuf::from("/x/y")),
        ] {
            fs::write(&file, text).unwrap();
            let config = Config::load(Some(&file)).unwrap();
            let options = promotion_options(&config, folder.path(), None).unwrap();
            assert_eq!(options.scripts_dir, scripts, "{text}");
            assert_eq!((options.max_vql_bytes, options.script_timeout().as_secs()), (33_554_432, 60));
        }
    }

    #[test]
    fn backups_have_absolute_paths_whatever_the_data_directory() {
        for data_dir in ["landreeve-data", "./a/../b", "/srv/data"] {
            let options = protection_options(&Config::load(None).unwrap(), Path::new(data_dir)).unwrap();
            assert!(options.scratch_dir.is_absolute() && options.default_folder.is_absolute(), "{data_dir}");
        }
    }

    #[test]
    fn the_printed_defaults_are_a_valid_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let text = default_settings(folder.path()).unwrap();
        let file = folder.path().join("landreeve.toml");
        fs::write(&file, &text).unwrap();
        planes(&Config::load(Some(&file)).unwrap(), folder.path(), None).unwrap();
        assert!(["[delivery]", "[promotion]", "[server]"].iter().all(|section| text.contains(section)));
    }
}
