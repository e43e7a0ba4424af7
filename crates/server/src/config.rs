//! Configuration: defaults from `config.default.toml`, then the file, then the command line. No other module reads the
//! environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::Value;
use landreeve_core::Secret;
use landreeve_estate::outbound::Network;
use landreeve_estate::plane::SettingsSection;
use landreeve_http::site::PublicUrl;
use landreeve_http::{Limits, Proxies};
use landreeve_kerberos::{OpenError, Realms};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub const DEFAULTS: &str = include_str!("../config.default.toml");

#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    pub server: Server,
    pub store: StoreSection,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default)]
    pub listeners: BTreeMap<String, OwnListener>,
    pub limits: LimitsSection,
    pub secrets: Secrets,
    pub blobs: BlobsSection,
    pub outbound: OutboundSection,
    pub sources: Sources,
    pub tools: ToolsSection,
    pub runs: Runs,
    pub engine: EngineSection,
    pub faces: Faces,
    pub license_manager: LicenseManager,
    pub kerberos: Kerberos,
    pub log: Log,
    /// The sections of planes; `planes::check` rejects those of no plane.
    #[serde(flatten)]
    pub planes: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Faces {
    pub clumio: Clumio,
    pub dx: Dx,
    pub clover: Clover,
    pub solution_manager: SolutionManager,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clumio {
    pub requests_per_second: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clover {
    pub csrf: bool,
    pub csrf_on_get: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolutionManager {
    pub later_states: bool,
    pub bare_deployment_id: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LicenseManager {
    pub trusted_networks: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: String,
    pub plain_http: bool,
    pub public_url: String,
    pub trusted_proxies: Vec<String>,
    pub node_name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    pub database: String,
    pub statement_seconds: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnListener {
    pub listen: String,
    #[serde(default)]
    pub public_url: String,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSection {
    pub connections: usize,
    pub header_bytes: usize,
    pub body_bytes: usize,
    pub header_seconds: u64,
    pub drain_seconds: u64,
    /// 0: half of what this machine or control group has.
    pub memory_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolsSection {
    pub pg_dump: PathBuf,
    pub pg_restore: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    pub key_file: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobsSection {
    pub url: String,
    pub shared: bool,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    pub secret_access_key: Option<Secret>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundSection {
    pub deny: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    pub file_roots: Vec<PathBuf>,
    /// The former name, which is still read.
    #[serde(default)]
    pub sqlite_roots: Vec<PathBuf>,
    pub ca_file: String,
    pub max_value_bytes: usize,
    pub max_row_bytes: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    pub pools: Pools,
    pub share_percent: u32,
    pub max_waiting: u32,
    pub lease_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {
    pub short: usize,
    pub long: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSection {
    pub memory_bytes: usize,
    pub spill_bytes: u64,
    pub max_value_bytes: usize,
    pub statements: usize,
    pub pushdown: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dx {
    pub requests_per_minute: u32,
    pub polls_per_run: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kerberos {
    /// Empty: tickets are not accepted.
    pub keytab: PathBuf,
    pub realms: BTreeMap<String, String>,
}

impl Kerberos {
    /// `None` if it is not configured.
    pub fn realms(&self) -> Result<Option<Realms>, OpenError> {
        if self.keytab.as_os_str().is_empty() { Ok(None) } else { Realms::new(self.realms.clone()).map(Some) }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
}

fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::new))
}

/// The dialects that can have a separate listener, by the last part of their base path.
pub const OWN_LISTENERS: [&str; 7] =
    ["cluvio", "cluvio-data", "dx", "solution-manager", "license-manager", "clover", "clumio"];

impl Config {
    pub fn load(file: Option<&Path>) -> anyhow::Result<Config> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            // figment treats a missing file as an empty one.
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("could not read the configuration {}", file.display()))?;
            figment = figment.merge(Toml::string(&text));
        }
        let config: Config = figment.extract().context("the configuration is not valid")?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        for name in self.listeners.keys() {
            let known = OWN_LISTENERS.contains(&name.as_str());
            anyhow::ensure!(
                known,
                "[listeners.{name}]: unknown dialect; use one of {}",
                OWN_LISTENERS.join(", ")
            );
        }
        anyhow::ensure!(
            self.tls.certificate.is_some() == self.tls.key.is_some(),
            "[tls] needs both certificate and key"
        );
        anyhow::ensure!(
            self.limits.header_bytes >= Limits::MIN_HEADER_BYTES,
            "[limits] header_bytes must be at least {}",
            Limits::MIN_HEADER_BYTES
        );
        for (name, workers) in [("short", self.runs.pools.short), ("long", self.runs.pools.long)] {
            anyhow::ensure!((1..=10_000).contains(&workers), "[runs.pools] {name} must be from 1 to 10000");
        }
        anyhow::ensure!(
            (1..=100).contains(&self.runs.share_percent),
            "[runs] share_percent must be from 1 to 100"
        );
        anyhow::ensure!(self.runs.max_waiting > 0, "[runs] max_waiting must be at least 1");
        anyhow::ensure!(
            (1..=3_600).contains(&self.runs.lease_seconds),
            "[runs] lease_seconds must be from 1 to 3600"
        );
        anyhow::ensure!(
            (1..=3_600).contains(&self.store.statement_seconds),
            "[store] statement_seconds must be from 1 to 3600"
        );
        anyhow::ensure!(self.limits.connections > 0, "[limits] connections must be at least 1");
        anyhow::ensure!(
            (65_536..=1_073_741_824).contains(&self.sources.max_value_bytes),
            "[sources] max_value_bytes must be from 65536 to 1073741824"
        );
        anyhow::ensure!(
            (self.sources.max_value_bytes..=1_073_741_824).contains(&self.sources.max_row_bytes),
            "[sources] max_row_bytes must be from max_value_bytes to 1073741824"
        );
        anyhow::ensure!(
            self.engine.memory_bytes >= 1_048_576,
            "[engine] memory_bytes must be at least 1048576"
        );
        anyhow::ensure!(
            (65_536..=self.engine.memory_bytes / 8).contains(&self.engine.max_value_bytes),
            "[engine] max_value_bytes must be from 65536 to an eighth of memory_bytes"
        );
        anyhow::ensure!(self.engine.statements > 0, "[engine] statements must be at least 1");
        self.check_kerberos()?;
        let own = self.listeners.iter().map(|(name, own)| (format!("listeners.{name}"), &own.public_url));
        for (section, url) in own.chain([("server".to_owned(), &self.server.public_url)]) {
            anyhow::ensure!(
                url.is_empty() || PublicUrl::parse(url).is_some(),
                "[{section}] public_url must be http:// or https:// with a host and without a path, not {url:?}"
            );
        }
        // A setting without an effect is probably a mistake.
        let blobs = &self.blobs;
        let parts = [blobs.endpoint.is_some(), blobs.region.is_some(), blobs.access_key_id.is_some()];
        let named = parts.contains(&true) || blobs.secret_access_key.is_some();
        anyhow::ensure!(!blobs.url.is_empty() || !named, "[blobs] endpoint, region and keys need a url");
        let bucket = blobs.url.strip_prefix("s3://").unwrap_or_default().trim_end_matches('/');
        anyhow::ensure!(
            blobs.url.is_empty() || !(bucket.is_empty() || bucket.contains('/')),
            "[blobs] url must be s3://BUCKET, without a path"
        );
        self.trusted_networks().context("[license_manager] trusted_networks")?;
        self.proxies().context("[server] trusted_proxies")?;
        anyhow::ensure!(
            self.faces.clumio.requests_per_second <= 1_000_000,
            "[faces.clumio] requests_per_second must be from 0 to 1000000"
        );
        self.networks().map(drop)
    }

    fn check_kerberos(&self) -> anyhow::Result<()> {
        let configured = self.kerberos.realms()?.is_some();
        // A setting without an effect is probably a mistake.
        anyhow::ensure!(configured || self.kerberos.realms.is_empty(), "[kerberos] realms needs a keytab");
        Ok(())
    }

    /// A plane's section over its defaults.
    pub fn section<T: DeserializeOwned>(&self, section: &SettingsSection) -> anyhow::Result<T> {
        let mut figment = Figment::from(Toml::string(section.defaults));
        if let Some(own) = self.planes.get(section.name) {
            figment = figment.merge(Serialized::default(section.name, own));
        }
        figment.extract_inner(section.name).context("the configuration is invalid")
    }

    pub fn networks(&self) -> anyhow::Result<Vec<Network>> {
        self.outbound.deny.iter().map(|text| Network::parse(text).map_err(Into::into)).collect()
    }

    /// The networks whose requests can release leases.
    pub fn trusted_networks(&self) -> landreeve_core::Result<Vec<Network>> {
        self.license_manager.trusted_networks.iter().map(|text| Network::parse(text)).collect()
    }

    /// The proxies whose `X-Forwarded-For` is read.
    pub fn proxies(&self) -> landreeve_core::Result<Proxies> {
        let networks = self.server.trusted_proxies.iter().map(|text| Network::parse(text));
        let networks = networks.collect::<landreeve_core::Result<Vec<_>>>()?;
        if networks.is_empty() {
            return Ok(Proxies::default());
        }
        Ok(Proxies::new(move |address| networks.iter().any(|network| network.trusts(address))))
    }

    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            connections: self.limits.connections,
            header_bytes: self.limits.header_bytes,
            header_time: Duration::from_secs(self.limits.header_seconds),
            drain_time: Duration::from_secs(self.limits.drain_seconds),
            body: landreeve_http::BodyLimits { bytes: self.limits.body_bytes, ..default.body },
            ..default
        }
    }
}

/// The environment variables that the server reads, all in one place.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub admin_password: Option<Secret>,
    pub key_file: Option<PathBuf>,
}

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here and nowhere else")]
    pub fn read() -> Environment {
        let text = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Environment {
            admin_password: text("LANDREEVE_ADMIN_PASSWORD").map(Secret::new),
            key_file: text("LANDREEVE_KEY_FILE").map(PathBuf::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_file_matches_the_defaults_in_code() {
        let config = Config::load(None).unwrap();
        assert_eq!(config.limits(), Limits::default());
        assert_eq!(config.server.listen, "127.0.0.1:8700");
    }

    #[test]
    fn kerberos_needs_a_keytab_and_realms() {
        assert!(Config::load(None).unwrap().kerberos.realms().unwrap().is_none());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landreeve.toml");
        let text = "[kerberos]\nkeytab = '/etc/krb5.keytab'\n[kerberos.realms]\n'EXAMPLE.COM' = ''\n'LAB' = '{user}.lab'";
        std::fs::write(&file, text).unwrap();
        let realms = Config::load(Some(&file)).unwrap().kerberos.realms().unwrap().unwrap();
        for (principal, user) in
            [("alice@EXAMPLE.COM", Some("alice")), ("alice@LAB", Some("alice.lab")), ("alice@X", None)]
        {
            assert_eq!(realms.user(principal).as_deref(), user, "{principal}");
        }
    }

    #[test]
    fn rejects_unknown_names_and_bad_values() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landreeve.toml");
        for wrong in [
            "[server]\nlisten_on = 'x'",
            "[listeners.nosuch]\nlisten = '127.0.0.1:1'",
            "[outbound]\ndeny = ['nonsense']",
            "[license_manager]\ntrusted_networks = ['127.0.0.1', 'nonsense']",
            "[license_manager]\ntrusted_networks = ['10.0.0.0/33']",
            "[license_manager]\ntrusted_networks = '10.0.0.0/8'",
            "[license_manager]\nnetworks = []",
            "[tls]\nkey = 'k.pem'",
            "[runs]\nworkers = 4",
            "[runs.pools]\nshort = 0",
            "[runs]\nshare_percent = 101",
            "[runs]\nmax_waiting = 0",
            "[runs]\nlease_seconds = 0",
            "[sources]\nmax_value_bytes = 1",
            "[sources]\nmax_row_bytes = 1000000",
            "[limits]\nmemory_bytes = -1",
            "[engine]\nmemory_bytes = 1",
            "[engine]\nmax_value_bytes = 1000",
            "[engine]\nmax_value_bytes = 100000000",
            "[engine]\nstatements = 0",
            "[store]\nstatement_seconds = 0",
            "[server]\npublic_url = 'ftp://data.example.com'",
            "[server]\ntrusted_proxies = ['10.0.0.0/33']",
            "[server]\ntrusted_proxies = '10.0.0.1'",
            "[faces.clumio]\nrequests_per_second = -1",
            "[faces.clumio]\nrequests_per_second = 1000001",
            "[server]\npublic_url = 'data.example.com'",
            "[listeners.clover]\nlisten = '127.0.0.1:1'\npublic_url = 'https://h/path'",
            "[blobs]\nendpoint = 'https://s3.example.com'",
            "[blobs]\nurl = 's3://bucket/folder'",
            "[blobs]\nurl = 'bucket'",
            "[kerberos]\nkeytab = '/etc/krb5.keytab'",
            "[kerberos]\nkeytab = '/etc/krb5.keytab'\nrealms = { 'EXAMPLE.COM' = 'alice' }",
            "[kerberos.realms]\n'EXAMPLE.COM' = ''",
            "not toml",
        ] {
            std::fs::write(&file, wrong).unwrap();
            assert!(Config::load(Some(&file)).is_err(), "{wrong}");
        }
        assert!(Config::load(Some(&folder.path().join("missing.toml"))).is_err());
    }

    #[test]
    fn leases_are_released_from_this_machine_by_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("landreeve.toml");
        for (text, trusted, not) in [
            ("", &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"][..], &["10.0.0.1", "::2"][..]),
            ("[license_manager]\ntrusted_networks = ['10.0.0.0/8']", &["10.0.0.1"][..], &["127.0.0.1"][..]),
            ("[license_manager]\ntrusted_networks = []", &[][..], &["127.0.0.1", "::1"][..]),
        ] {
            std::fs::write(&file, text).unwrap();
            let networks = Config::load(Some(&file)).unwrap().trusted_networks().unwrap();
            let is_trusted =
                |address: &&str| networks.iter().any(|network| network.trusts(address.parse().unwrap()));
            assert!(trusted.iter().all(is_trusted), "{text}");
            assert!(!not.iter().any(is_trusted), "{text}");
        }
    }
}
