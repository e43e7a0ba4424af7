//! Starts a PostgreSQL for the tests.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::guard::{Guard, Started};
use super::process::{self, Account};
use super::{Site, make_home};

/// In the configuration file and not on the command line, so that a test or a benchmark can change them with
/// `ALTER SYSTEM`. Durability is off, because the tests' data is discarded.
const SETTINGS: &str = "
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_connections = 300
shared_buffers = 128MB
listen_addresses = '127.0.0.1'
timezone = 'UTC'
log_timezone = 'UTC'
";

/// Starts the server and returns the URL of its first database.
pub fn start(site: &Site, bin: &Path, guard: &mut Guard) -> Result<String> {
    let account = Account::first_of(&["postgres", "nobody"])?; // tidy: allow word: a Unix account
    let home = make_home(&site.base, "postgres", &account)?;
    let (data, log) = (home.join("data"), home.join("log"));
    let password = process::random_hex()?;
    let password_file = home.join("password");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&password_file)?
        .write_all(format!("{password}\n").as_bytes())?;
    account.own(&password_file)?;
    process::run(
        account
            .command(&bin.join("initdb"), &home)
            .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8"])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(format!("--pgdata={}", data.display())),
    )?;
    fs::remove_file(&password_file)?;

    let mut settings = OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
    writeln!(settings, "{SETTINGS}unix_socket_directories = '{}'", home.display())?;
    if let Some(certificate) = &site.certificate {
        let (certificate, key) = certificate.install(&home, &account)?;
        writeln!(settings, "ssl = on\nssl_cert_file = '{}'", certificate.display())?;
        writeln!(settings, "ssl_key_file = '{}'", key.display())?;
    }

    process::with_retries(|port| {
        let output = File::create(&log)?;
        let mut server = account
            .command(&bin.join("postgres"), &home)
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        // SIGINT is PostgreSQL's "fast" shutdown: it does not wait for clients.
        guard.tell(Started::server(&server, "INT")?)?;
        let port_text = port.to_string();
        process::await_answer(&mut server, &log, || {
            let mut probe = Command::new(bin.join("psql"));
            probe.args(["-X", "-h", "127.0.0.1", "-p", &port_text, "-U", "postgres", "-c", "SELECT 1"]);
            probe.env("PGPASSWORD", &password).env("PGCONNECT_TIMEOUT", "5");
            probe
        })?;
        Ok(format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres"))
    })
}
