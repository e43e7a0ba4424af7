//! Starts a MariaDB for the tests, with or without time zone tables.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::guard::{Guard, Started};
use super::install::MariadbBinaries;
use super::process::{self, Account};
use super::{Site, make_home};

const USER: &str = "landreeve";
const ZONES: &str = "/usr/share/zoneinfo";

const SETTINGS: [&str; 9] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
    "--max-connections=300",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
];

/// A running server.
pub struct Server {
    port: u16,
    password: String,
}

fn account() -> Result<Account> {
    Account::first_of(&["mysql", "nobody"]) // tidy: allow word: a Unix account
}

/// Creates an empty data directory, of which each server gets a copy (creating one takes seconds).
pub fn make_data(site: &Site, binaries: &MariadbBinaries) -> Result<PathBuf> {
    let account = account()?;
    let home = make_home(&site.base, "mariadb-template", &account)?;
    process::run(
        account
            .command(&binaries.install_db, &home)
            // root can sign in over the socket only; our own user is created at the first start.
            .args(["--no-defaults", "--auth-root-authentication-method=socket", "--skip-test-db"])
            .args(["--skip-name-resolve", "--innodb-log-file-size=32M", "--innodb-doublewrite=0"])
            .arg(format!("--datadir={}", home.join("data").display())),
    )?;
    Ok(home)
}

/// Starts a server named `name` on a copy of `template`'s data directory.
pub fn start(
    site: &Site,
    binaries: &MariadbBinaries,
    template: &Path,
    name: &str,
    guard: &mut Guard,
) -> Result<Server> {
    let account = account()?;
    let home = make_home(&site.base, name, &account)?;
    let (data, log) = (home.join("data"), home.join("log"));
    process::run(account.command(Path::new("cp"), &home).arg("-a").arg(template.join("data")).arg(&data))?;
    let password = process::random_hex()?;
    // The server reads this before it accepts connections, so that it is never without a password.
    let first = home.join("first.sql");
    fs::write(
        &first,
        format!(
            "CREATE OR REPLACE USER '{USER}'@'%' IDENTIFIED BY '{password}';\n\
             GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        ),
    )?;
    account.own(&first)?;
    let tls: Vec<String> = match &site.certificate {
        None => Vec::new(),
        Some(certificate) => {
            let (certificate, key) = certificate.install(&home, &account)?;
            vec![format!("--ssl-cert={}", certificate.display()), format!("--ssl-key={}", key.display())]
        }
    };
    process::with_retries(|port| {
        let output = File::create(&log)?;
        let mut child = account
            .command(&binaries.server, &home)
            .arg("--no-defaults")
            .args(SETTINGS)
            .args(&tls)
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--init-file={}", first.display()))
            .arg(format!("--socket={}", home.join("socket").display()))
            .arg(format!("--pid-file={}", home.join("pid").display()))
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        guard.tell(Started::server(&child, "TERM")?)?;
        let server = Server { port, password: password.clone() };
        process::await_answer(&mut child, &log, || {
            let mut probe = server.client(binaries);
            probe.args(["-e", "SELECT 1"]);
            probe
        })?;
        Ok(server)
    })
}

impl Server {
    pub fn url(&self) -> String {
        format!("mysql://{USER}:{}@127.0.0.1:{}/", self.password, self.port)
    }

    fn client(&self, binaries: &MariadbBinaries) -> Command {
        let mut client = Command::new(&binaries.client);
        client.args(["--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-u", USER, "-P"]);
        client.arg(self.port.to_string()).env("MYSQL_PWD", &self.password);
        client
    }

    /// Fills the tables that `CONVERT_TZ` and `SET time_zone = 'Europe/Berlin'` need.
    pub fn load_zones(&self, binaries: &MariadbBinaries) -> Result<()> {
        if !Path::new(ZONES).is_dir() {
            bail!("{ZONES} does not exist; install tzdata");
        }
        let mut dump = Command::new(&binaries.tzinfo_to_sql)
            .arg(ZONES)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // it warns about every file that is not a time zone
            .spawn()?;
        let sql = dump.stdout.take().context("no output")?;
        process::run(self.client(binaries).arg("mysql").stdin(sql))?;
        if !dump.wait()?.success() {
            bail!("{} failed", binaries.tzinfo_to_sql.display());
        }
        Ok(())
    }
}
