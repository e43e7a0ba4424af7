//! Finds the programs of the database servers and of Kerberos, or installs them from Debian's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::process::is_root;

/// Tests use curl to send requests, as a pipeline would, also with a Kerberos ticket, and restic to judge repositories.
const PACKAGES: [&str; 7] =
    ["postgresql", "mariadb-server", "curl", "krb5-kdc", "krb5-admin-server", "krb5-user", "restic"];

/// Where the programs are.
pub struct Binaries {
    /// The directory of `postgres`, `initdb` and `psql` of one version.
    pub postgres: PathBuf,
    pub mariadb: MariadbBinaries,
    pub kerberos: KerberosBinaries,
}

pub struct KerberosBinaries {
    pub krb5kdc: PathBuf,
    pub kdb5_util: PathBuf,
    pub kadmin_local: PathBuf,
    pub kinit: PathBuf,
}

pub struct MariadbBinaries {
    pub server: PathBuf,
    pub install_db: PathBuf,
    pub client: PathBuf,
    pub tzinfo_to_sql: PathBuf,
}

pub fn find_or_install() -> Result<Binaries> {
    let missing = match find() {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    let wanted = PACKAGES.join(" ");
    let Some(apt) = in_path(&["apt-get"]) else {
        bail!(
            "not found: {missing}; install PostgreSQL, MariaDB, MIT Kerberos, curl and restic (on Debian: {wanted})"
        );
    };
    if !is_root() {
        bail!("not found: {missing}; run `apt-get install --no-install-recommends {wanted}` as root");
    }
    eprintln!("xtask: not found: {missing}; installing {wanted}");
    if install(&apt).is_err() {
        // A fresh machine or container has no package lists yet.
        apt_get(&apt, &["update"])?;
        install(&apt)?;
    }
    find().map_err(|missing| anyhow::anyhow!("not found even after installing {wanted}: {missing}"))
}

fn install(apt: &Path) -> Result<()> {
    let words = ["install", "-y", "--no-install-recommends"];
    apt_get(apt, &words.into_iter().chain(PACKAGES).collect::<Vec<_>>())
}

fn apt_get(apt: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new(apt);
    // RUNLEVEL=1 keeps the packages from starting their servers.
    command.args(args).envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")]);
    // Its output must not mix with the `export` lines on standard output.
    let output = command.output().context("apt-get")?;
    if !output.status.success() {
        bail!("apt-get {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn find() -> Result<Binaries, &'static str> {
    in_path(&["curl"]).ok_or("curl")?;
    in_path(&["restic"]).ok_or("restic")?;
    Ok(Binaries {
        postgres: find_postgres().ok_or("postgres with initdb and psql")?,
        mariadb: MariadbBinaries {
            server: in_path(&["mariadbd"]).ok_or("mariadbd")?,
            install_db: in_path(&["mariadb-install-db"]).ok_or("mariadb-install-db")?,
            client: in_path(&["mariadb"]).ok_or("mariadb")?,
            tzinfo_to_sql: in_path(&["mariadb-tzinfo-to-sql", "mysql_tzinfo_to_sql"])
                .ok_or("mariadb-tzinfo-to-sql")?,
        },
        kerberos: KerberosBinaries {
            krb5kdc: in_path(&["krb5kdc"]).ok_or("krb5kdc")?,
            kdb5_util: in_path(&["kdb5_util"]).ok_or("kdb5_util")?,
            kadmin_local: in_path(&["kadmin.local"]).ok_or("kadmin.local")?,
            kinit: in_path(&["kinit"]).ok_or("kinit")?,
        },
    })
}

/// Debian installs each version in a separate directory outside `PATH`; the newest wins.
fn find_postgres() -> Option<PathBuf> {
    let mut homes: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    homes.sort();
    let debian = homes.into_iter().rev().map(|(_, bin)| bin);
    let complete = |bin: &PathBuf| ["postgres", "initdb", "psql"].iter().all(|name| bin.join(name).exists());
    debian.chain(in_path(&["postgres"]).and_then(|found| Some(found.parent()?.to_owned()))).find(complete)
}

/// The first of `names` in `PATH` or in the system directories, which a normal user's `PATH` may lack.
pub fn in_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from);
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(system).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
}
