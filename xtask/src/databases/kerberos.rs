//! Starts a Kerberos KDC for the tests, with a realm, a service and some users.
//!
//! Everything is in one folder: `krb5.conf` for clients and servers, `service.keytab` with the keys of `HTTP/localhost`, and
//! `users.keytab` with the keys of the users.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::guard::{Guard, Started};
use super::install::KerberosBinaries;
use super::process::{self, Account};
use super::{Site, make_home};

const REALM: &str = "EXAMPLE.COM";
const SERVICE: &str = "HTTP/localhost";
/// `other/admin` is not a user, because of the slash.
const USERS: [&str; 4] = ["alice", "bob", "carol", "other/admin"];

/// Starts the server and returns the path of `krb5.conf`.
pub fn start(site: &Site, binaries: &KerberosBinaries, guard: &mut Guard) -> Result<String> {
    let account = Account::first_of(&["nobody"])?; // tidy: allow word: a Unix account
    let home = make_home(&site.base, "kerberos", &account)?;
    let kdc = Kdc { account, home, binaries };
    // The port is chosen later, and the programs that make the database do not connect.
    kdc.write_configuration(0)?;
    process::run(
        kdc.command(&binaries.kdb5_util)
            .args(["create", "-s", "-r", REALM, "-P"])
            .arg(process::random_hex()?),
    )?;
    for principal in USERS.into_iter().chain([SERVICE]) {
        kdc.admin(&format!("addprinc -randkey {principal}"))?;
    }
    kdc.admin(&format!("ktadd -k {} {SERVICE}", kdc.home.join("service.keytab").display()))?;
    kdc.admin(&format!("ktadd -k {} {}", kdc.home.join("users.keytab").display(), USERS.join(" ")))?;
    process::with_retries(|port| kdc.serve(port, guard))?;
    Ok(kdc.home.join("krb5.conf").display().to_string())
}

struct Kdc<'a> {
    account: Account,
    home: PathBuf,
    binaries: &'a KerberosBinaries,
}

impl Kdc<'_> {
    fn command(&self, program: &Path) -> Command {
        let mut command = self.account.command(program, &self.home);
        command.env("KRB5_CONFIG", self.home.join("krb5.conf"));
        command.env("KRB5_KDC_PROFILE", self.home.join("kdc.conf"));
        command
    }

    /// Runs a command of the administrator on the database. The program's status says nothing about the command.
    fn admin(&self, query: &str) -> Result<()> {
        let output = self.command(&self.binaries.kadmin_local).args(["-r", REALM, "-q", query]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || !(text.contains(" created.") || text.contains(" added to keytab")) {
            bail!("kadmin.local: {query}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn write_configuration(&self, port: u16) -> Result<()> {
        let home = self.home.display();
        // Clients ask no name server, and use TCP, which either connects or fails immediately.
        let clients = format!(
            "[libdefaults]\n\
             default_realm = {REALM}\n\
             dns_lookup_realm = false\n\
             dns_lookup_kdc = false\n\
             dns_canonicalize_hostname = false\n\
             rdns = false\n\
             udp_preference_limit = 1\n\
             [realms]\n\
             {REALM} = {{\n kdc = 127.0.0.1:{port}\n}}\n\
             [domain_realm]\n\
             localhost = {REALM}\n"
        );
        let server = format!(
            "[kdcdefaults]\n\
             kdc_listen = 127.0.0.1:{port}\n\
             kdc_tcp_listen = 127.0.0.1:{port}\n\
             [realms]\n\
             {REALM} = {{\n\
             database_name = {home}/principal\n\
             key_stash_file = {home}/stash\n\
             acl_file = {home}/acl\n\
             }}\n\
             [logging]\n\
             kdc = STDERR\n\
             default = STDERR\n"
        );
        for (name, text) in [("krb5.conf", clients), ("kdc.conf", server)] {
            let path = self.home.join(name);
            fs::write(&path, text)?;
            self.account.own(&path)?;
        }
        Ok(())
    }

    fn serve(&self, port: u16, guard: &mut Guard) -> Result<()> {
        self.write_configuration(port)?;
        let log = self.home.join("log");
        let output = File::create(&log)?;
        let mut server = self
            .command(&self.binaries.krb5kdc)
            .args(["-n", "-r", REALM])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("krb5kdc")?;
        guard.tell(Started::server(&server, "TERM")?)?;
        process::await_answer(&mut server, &log, || {
            let mut probe = self.command(&self.binaries.kinit);
            probe.arg("-k").arg("-t").arg(self.home.join("users.keytab"));
            probe.arg("-c").arg(self.home.join("probe")).arg(USERS[0]).stdout(Stdio::null());
            probe
        })
    }
}
