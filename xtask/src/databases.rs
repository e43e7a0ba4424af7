//! Servers for the tests: one PostgreSQL, two MariaDB instances (with and without time zone tables) and a Kerberos KDC, on
//! free ports of 127.0.0.1, in a temporary directory, with random passwords.
//!
//! A *guard* (this program again, in its own process group) learns over a pipe what was started. When the pipe closes,
//! for whatever reason (exit, Ctrl-C, SIGTERM, SIGKILL), it stops those processes and removes the directory. So nothing
//! outlives the command that started it.

mod guard;
mod install;
mod kerberos;
mod mariadb;
mod postgres;
mod process;
mod tls;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

pub use guard::run as guard;
use guard::{Guard, Started};
use install::Binaries;
pub use install::in_path as program;
use process::Account;

/// The hidden command under which this program starts itself as the guard.
pub const GUARD: &str = "databases-guard";

/// What the modules need to start a server.
struct Site {
    /// The temporary directory for everything in this run.
    base: PathBuf,
    /// `None` if there is no `openssl` command; then the servers run without TLS.
    certificate: Option<tls::Certificate>,
}

/// Servers that run until this value is dropped or released.
pub struct Databases {
    exports: Vec<(&'static str, String)>,
    base: PathBuf,
    guard: Guard,
}

impl Databases {
    /// Finds or installs the servers and starts them all; on an error nothing is left behind.
    pub fn start(keep: bool) -> Result<Self> {
        let binaries = install::find_or_install()?;
        let mut guard = Guard::start()?;
        let base = make_base()?;
        if !keep {
            guard.tell(Started::Directory(base.clone()))?;
        }
        let exports = start_all(base.clone(), &binaries, &mut guard)?;
        Ok(Self { exports, base, guard })
    }

    /// Starts PostgreSQL alone, without TLS, so that nothing else affects the benchmark.
    pub fn start_postgres() -> Result<Self> {
        let binaries = install::find_or_install()?;
        let mut guard = Guard::start()?;
        let base = make_base()?;
        guard.tell(Started::Directory(base.clone()))?;
        let site = Site { base: base.clone(), certificate: None };
        let postgres = postgres::start(&site, &binaries.postgres, &mut guard).context("PostgreSQL")?;
        let psql = binaries.postgres.join("psql").display().to_string();
        let exports = vec![("LANDREEVE_TEST_POSTGRES", postgres), ("LANDREEVE_TEST_PSQL", psql)];
        Ok(Self { exports, base, guard })
    }

    /// The same with a MariaDB.
    pub fn start_two() -> Result<Self> {
        let mut databases = Self::start_postgres()?;
        let binaries = install::find_or_install()?;
        let site = Site { base: databases.base.clone(), certificate: None };
        let template = mariadb::make_data(&site, &binaries.mariadb).context("MariaDB")?;
        let server = mariadb::start(&site, &binaries.mariadb, &template, "mariadb", &mut databases.guard);
        databases.exports.push(("LANDREEVE_TEST_MARIADB", server.context("MariaDB")?.url()));
        let client = binaries.mariadb.client.display().to_string();
        databases.exports.push(("LANDREEVE_TEST_MARIADB_CLIENT", client));
        Ok(databases)
    }

    /// Starts a Kerberos KDC too.
    pub fn add_kerberos(&mut self) -> Result<()> {
        let binaries = install::find_or_install()?;
        let site = Site { base: self.base.clone(), certificate: None };
        let config = kerberos::start(&site, &binaries.kerberos, &mut self.guard).context("Kerberos")?;
        self.exports.push(("LANDREEVE_TEST_KRB5_CONFIG", config));
        Ok(())
    }

    /// A directory that is removed with the servers.
    pub fn directory(&self) -> &Path {
        &self.base
    }

    /// Makes the guard stop another process too, in case this one ends before it can.
    pub fn watch(&mut self, process: &std::process::Child) -> Result<()> {
        self.guard.tell(Started::server(process, "TERM")?)
    }

    /// Environment variables with which the tests find the servers.
    pub fn exports(&self) -> &[(&'static str, String)] {
        &self.exports
    }

    pub fn export(&self, wanted: &str) -> Result<&str> {
        let found = self.exports.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.as_str()).with_context(|| wanted.to_owned())
    }

    /// The parts of an exported URL.
    pub fn address(&self, export: &str) -> Result<Address> {
        Address::parse(self.export(export)?)
    }

    /// Stops the servers and waits until they are gone.
    pub fn stop(self) -> Result<()> {
        self.guard.stop()
    }
}

/// Where a server is, and who may use it.
#[derive(Debug, PartialEq)]
pub struct Address {
    pub user: String,
    pub password: String,
    pub port: u16,
}

impl Address {
    /// Parses `SCHEME://USER:PASSWORD@HOST:PORT/…`.
    fn parse(url: &str) -> Result<Self> {
        let parts = || {
            let (account, place) = url.split_once("://")?.1.split_once('@')?;
            let (user, password) = account.split_once(':')?;
            let port = place.split(['/', ':']).nth(1)?.parse().ok()?;
            Some(Self { user: user.to_owned(), password: password.to_owned(), port })
        };
        parts().context("the address of a database")
    }
}

fn start_all(base: PathBuf, binaries: &Binaries, guard: &mut Guard) -> Result<Vec<(&'static str, String)>> {
    let certificate = tls::generate(&base)?;
    if certificate.is_none() {
        eprintln!("xtask: no `openssl` command: the servers start without TLS");
    }
    let site = Site { base, certificate };
    // PostgreSQL starts while the (slower) MariaDB directories are being created.
    let (postgres, template) = std::thread::scope(|scope| {
        let making = scope.spawn(|| mariadb::make_data(&site, &binaries.mariadb));
        let postgres = postgres::start(&site, &binaries.postgres, guard);
        (postgres, making.join())
    });
    let postgres = postgres.context("PostgreSQL")?;
    let template = template.ok().context("MariaDB: the setup thread panicked")?.context("MariaDB")?;
    let without = mariadb::start(&site, &binaries.mariadb, &template, "mariadb-no-zones", guard);
    let without = without.context("MariaDB without time zone tables")?;
    let with = mariadb::start(&site, &binaries.mariadb, &template, "mariadb", guard).context("MariaDB")?;
    with.load_zones(&binaries.mariadb).context("the time zone tables of MariaDB")?;
    fs::remove_dir_all(&template)?;
    let kerberos = kerberos::start(&site, &binaries.kerberos, guard).context("Kerberos")?;

    let mut exports = vec![
        ("LANDREEVE_TEST_POSTGRES", postgres),
        ("LANDREEVE_TEST_MARIADB", with.url()),
        ("LANDREEVE_TEST_MARIADB_NO_ZONES", without.url()),
        ("LANDREEVE_TEST_PSQL", binaries.postgres.join("psql").display().to_string()),
        ("LANDREEVE_TEST_KRB5_CONFIG", kerberos),
    ];
    if let Some(certificate) = &site.certificate {
        exports.push(("LANDREEVE_TEST_TLS_CA", certificate.authority.display().to_string()));
    }
    Ok(exports)
}

/// `cargo xtask databases …`
pub fn command(args: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        [] => foreground(false)?,
        ["--keep"] => foreground(true)?,
        ["--detach", file] => detach(Path::new(file))?,
        ["--stop", file] => stop(Path::new(file))?,
        _ => bail!("usage: databases [--keep | --detach FILE | --stop FILE]"),
    }
    Ok(ExitCode::SUCCESS)
}

fn foreground(keep: bool) -> Result<()> {
    let databases = Databases::start(keep)?;
    print!("{}", export_lines(databases.exports()));
    std::io::stdout().flush()?;
    eprintln!("xtask: the databases run until Ctrl-C or the end of standard input");
    let mut ignored = [0; 1024];
    while std::io::stdin().read(&mut ignored)? > 0 {}
    databases.stop()
}

fn detach(file: &Path) -> Result<()> {
    // Opened first: if the file could not be written, the servers could not be stopped later.
    let mut out =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).with_context(|| {
            format!("could not create {} (run --stop first if it exists)", file.display())
        })?;
    let written = Databases::start(false).and_then(|databases| {
        let mut text = export_lines(databases.exports());
        for started in databases.guard.started() {
            text.push_str(&format!("# {started}\n"));
        }
        out.write_all(text.as_bytes())?;
        databases.guard.release()
    });
    if written.is_err() {
        fs::remove_file(file)?;
    }
    written
}

fn stop(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let started: Vec<Started> =
        text.lines().filter_map(|line| line.strip_prefix("# ")).map(Started::parse).collect::<Result<_>>()?;
    guard::stop_all(&started)?;
    fs::remove_file(file)?;
    Ok(())
}

fn export_lines(exports: &[(&'static str, String)]) -> String {
    // The values contain no quotes: they are our own paths, hexadecimal passwords and numbers.
    exports.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect()
}

/// Creates a directory that the servers' accounts can access.
fn make_base() -> Result<PathBuf> {
    let wanted = std::env::temp_dir();
    let reachable = !process::is_root()
        || wanted.ancestors().all(|dir| fs::metadata(dir).is_ok_and(|found| found.mode() & 0o001 != 0));
    let parent = if reachable { wanted } else { PathBuf::from("/tmp") };
    let base = parent.join(format!("{}{}", guard::DIRECTORY_PREFIX, &process::random_hex()?[..12]));
    fs::DirBuilder::new().mode(0o755).create(&base).with_context(|| format!("{}", base.display()))?;
    Ok(base)
}

/// Creates a directory in `base` for one server, owned by its account.
fn make_home(base: &Path, name: &str, account: &Account) -> Result<PathBuf> {
    let home = base.join(name);
    fs::DirBuilder::new().mode(0o700).create(&home).with_context(|| format!("{}", home.display()))?;
    account.own(&home)?;
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses() {
        let address = Address { user: "a".to_owned(), password: "b".to_owned(), port: 12 };
        assert_eq!(Address::parse("mysql://a:b@127.0.0.1:12/").unwrap(), address);
        assert_eq!(Address::parse("postgres://a:b@127.0.0.1:12/postgres").unwrap(), address);
        assert!(Address::parse("postgres://127.0.0.1:12/").is_err());
    }
}
