//! The server under test: its limit, its callers, and what a bomb does to it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::bombs::{Action, Bomb};
use super::caller::{Caller, Ending, Target};
use super::downloads::{self, Stored};
use super::probe::{self, Latency, Probe};
use super::tally::Row;
use crate::databases::{self, Databases};
use crate::measure::process;
use crate::measure::server::{Access, Programs, Server};

/// Above the address space of the idle server.
const SPACE_KIB: u64 = 2 << 20;
/// How long memory can take to be given back, and to within how many MiB (100 MB).
const GIVEN_BACK: Duration = Duration::from_secs(60);
pub const KEPT: f64 = 100.0 / 1.048_576;
/// How long the server gets to become idle after its start.
const SETTLE: Duration = Duration::from_secs(5);
/// How long latency is measured before the first bomb, and before the next one after a restart.
const IDLE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(2)];
/// Of a slow reader: a quarter of a megabyte per pause.
const SLOW: Duration = Duration::from_millis(200);
/// A process that is about to end has already closed its connections.
const ENDING: Duration = Duration::from_millis(500);

/// So that a client can poll as often as it needs to, and that no bomb fills the disk.
const CONFIGURATION: &str = "[faces.dx]\npolls_per_run = 0\nrequests_per_minute = 0\n\
    [analytics]\nmax_result_bytes = 2147483648\n";

pub struct Subject {
    server: Server,
    databases: Databases,
    caller: Caller,
    /// Another caller's datasource.
    other: Access,
    probe: Option<Probe>,
    idle: Latency,
    /// Resident memory before the bombs, in MiB.
    resident: f64,
    /// In KiB: of the idle server, and the limit.
    space: (u64, u64),
    stored: Option<Stored>,
}

impl Subject {
    pub fn start(programs: &Programs, mut databases: Databases) -> Result<Self> {
        allow_large_values(&databases)?;
        let directory = databases.directory().join("hostile");
        std::fs::create_dir(&directory)?;
        let mut server = Server::new(programs, &directory, "estate", None);
        server.configure(CONFIGURATION)?;
        server.start(&mut databases)?;
        std::thread::sleep(SETTLE);
        let space = limit(server.pid()?)?;
        let (caller, other) = callers(&server, &databases)?;
        let mut subject = Self {
            server,
            databases,
            caller,
            other,
            probe: None,
            idle: Latency::default(),
            resident: 0.0,
            space,
            stored: None,
        };
        subject.idle = subject.warm_up(IDLE[0])?;
        Ok(subject)
    }

    pub fn idle(&self) -> Latency {
        self.idle
    }

    /// Resident memory before the bombs, in MiB.
    pub fn resident(&self) -> f64 {
        self.resident
    }

    pub fn space(&self) -> String {
        let (idle, limit) = self.space;
        format!("{} MiB when idle, limited to {} MiB", idle >> 10, limit >> 10)
    }

    /// Starts the other caller, runs a small statement on each target, and measures the idle server.
    fn warm_up(&mut self, time: Duration) -> Result<Latency> {
        let (address, pid) = (self.server.address()?.to_owned(), self.server.pid()?);
        let probe = Probe::start(address, self.other.clone(), pid);
        for target in [Target::Delivery, Target::Postgres, Target::MariaDb, Target::Sqlite] {
            self.await_success(target)?;
        }
        let begun = Instant::now();
        std::thread::sleep(time);
        let measured = probe.between(begun, Instant::now());
        ensure!(measured.errors.is_empty(), "`select 1`: {:?}", measured.errors);
        self.probe = Some(probe);
        self.resident = process::memory(pid)?.resident;
        Ok(probe::over_time(&measured.times))
    }

    /// A database may still be recovering from the last bomb.
    fn await_success(&self, target: Target) -> Result<()> {
        let begun = Instant::now();
        loop {
            let ending = self.caller.run(target, "select 1", Duration::ZERO);
            if ending == Ending::Succeeded {
                return Ok(());
            }
            ensure!(begun.elapsed() < GIVEN_BACK, "`select 1` on {}: {ending:?}", target.name());
            std::thread::sleep(SETTLE);
        }
    }

    fn restart(&mut self) -> Result<()> {
        self.probe = None;
        self.server.kill();
        self.server.launch()?;
        self.server.watch(&mut self.databases)?;
        std::thread::sleep(SETTLE);
        limit(self.server.pid()?)?;
        self.caller.address = self.server.address()?.to_owned();
        self.warm_up(IDLE[1]).map(drop)
    }

    /// Runs a bomb and waits until the server has given its memory back. After a failure the server is started again.
    pub fn drop_bomb(&mut self, bomb: &Bomb) -> Result<Row> {
        let late = self.death()?;
        if late.is_some() {
            self.restart()?;
        }
        let mut row = self.measure(bomb)?;
        row.failures.extend(late.map(|death| format!("after the previous bomb, {death}")));
        Ok(row)
    }

    fn measure(&mut self, bomb: &Bomb) -> Result<Row> {
        let pid = self.server.pid()?;
        process::forget_peak(pid)?;
        let before = process::memory(pid)?.resident;
        let begun = Instant::now();
        let endings = self.perform(&bomb.action);
        let ended = Instant::now();
        let mut row = Row::new(bomb, &endings, ended - begun);
        if let Action::LargestValue = bomb.action {
            row.name.push_str(
                &self.stored.as_ref().map(|it| format!(": {} MB", it.megabytes)).unwrap_or_default(),
            );
        }
        let death = self.death_after(&row)?;
        let probe = self.probe.as_ref().context("no other caller")?;
        let peak = process::peak(pid).unwrap_or_else(|_| probe.last_peak());
        row.growth = (peak - before).max(0.0);
        if let Some(death) = death {
            row.died = true;
            row.failures.insert(0, death);
            self.restart()?;
            return Ok(row);
        }
        (row.after, row.kept) = self.given_back(pid)?;
        let measured = probe.between(begun, ended);
        row.failures.extend(measured.errors.first().map(|error| format!("another caller: {error}")));
        row.times = measured.times;
        // It may have ended since; then the other caller has failed too.
        let late = self.death_after(&row)?;
        row.died = late.is_some();
        if let Some(death) = late {
            row.failures.insert(0, death);
        }
        // What one bomb leaves behind, such as a statement that goes on, must not count for the next.
        if row.kept || !row.failures.is_empty() {
            self.restart()?;
        }
        Ok(row)
    }

    fn perform(&mut self, action: &Action) -> Vec<Ending> {
        let caller = &self.caller;
        match action {
            Action::Sequence(target, statements) => {
                let mut endings = Vec::new();
                for sql in statements {
                    let mut ending = caller.run(*target, sql, Duration::ZERO);
                    if let Ending::Failed(why) = &mut ending {
                        why.push_str(&format!(" ({sql:.120})"));
                    }
                    endings.push(ending);
                    // The rest cannot run if the server has ended.
                    if matches!(endings.last(), Some(Ending::Failed(_))) && !self.server.is_running() {
                        break;
                    }
                }
                endings
            }
            Action::Concurrent(target, statements) => std::thread::scope(|scope| {
                let threads: Vec<_> = statements
                    .iter()
                    .map(|sql| scope.spawn(move || caller.run(*target, sql, Duration::ZERO)))
                    .collect();
                let ended = |thread: std::thread::ScopedJoinHandle<'_, Ending>| thread.join();
                let panicked = |_| Ending::Failed("the client panicked".to_owned());
                threads.into_iter().map(|thread| ended(thread).unwrap_or_else(panicked)).collect()
            }),
            Action::SlowReader(target, sql) => vec![caller.run(*target, sql, SLOW)],
            Action::LargestValue => {
                let (endings, stored) = downloads::largest_value(caller);
                self.stored = stored;
                endings
            }
            Action::Downloads(format) => downloads::read(caller, self.stored.as_ref(), *format),
        }
    }

    /// How the server ended, if that is why the bomb failed.
    fn death_after(&mut self, row: &Row) -> Result<Option<String>> {
        if row.failures.is_empty() {
            return Ok(None);
        }
        std::thread::sleep(ENDING);
        self.death()
    }

    /// How the server ended, if it has.
    fn death(&mut self) -> Result<Option<String>> {
        let Some(status) = self.server.ended()? else { return Ok(None) };
        let log = std::fs::read_to_string(self.server.log()).unwrap_or_default();
        Ok(Some(format!("the server ended with {status}: {:.160}", last_words(&log))))
    }

    /// Resident memory in MiB once it is near what it was before the bombs, or when the time for that is over, and whether
    /// too much was kept.
    fn given_back(&self, pid: u32) -> Result<(f64, bool)> {
        let begun = Instant::now();
        loop {
            let Ok(memory) = process::memory(pid) else { return Ok((0.0, false)) };
            let kept = memory.resident > self.resident + KEPT;
            if !kept || begun.elapsed() > GIVEN_BACK {
                return Ok((memory.resident, kept));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    pub fn stop(self) -> Result<()> {
        let Self { server, databases, probe, .. } = self;
        drop(probe);
        // Killed, because statements that cannot be cancelled may still be running.
        drop(server);
        databases.stop()
    }
}

/// Why a program ended, from its log: the runtime's own message, not an entry of the log or of a backtrace.
fn last_words(log: &str) -> &str {
    const SIGNS: [&str; 3] = ["memory allocation of", "overflowed its stack", "panicked at"];
    let found = log.lines().rev().find(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    found.or(log.lines().last()).unwrap_or("its log is empty")
}

/// Limits the address space of the process to 2 GiB more than it has; returns both, in KiB.
fn limit(pid: u32) -> Result<(u64, u64)> {
    let idle = process::address_space(pid)?;
    let limit = idle + SPACE_KIB;
    let tool = databases::program(&["prlimit"]).context("`prlimit` is not installed (package util-linux)")?;
    let bytes = limit << 10;
    let status = Command::new(tool)
        .args(["--pid", &pid.to_string(), &format!("--as={bytes}:{bytes}")])
        .status()
        .context("prlimit")?;
    ensure!(status.success(), "prlimit: {status}");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let found = limits.lines().find(|line| line.starts_with("Max address space"));
    if !found.is_some_and(|line| line.contains(&bytes.to_string())) {
        bail!("the limit has no effect: {found:?}");
    }
    Ok((idle, limit))
}

/// MariaDB refuses values above 16 MiB by default.
fn allow_large_values(databases: &Databases) -> Result<()> {
    let address = databases.address("LANDREEVE_TEST_MARIADB")?;
    let client = databases::program(&["mariadb", "mysql"]).context("the client of MariaDB")?;
    let settings = "SET GLOBAL max_allowed_packet = 1073741824, GLOBAL group_concat_max_len = 1073741824";
    let output = Command::new(client)
        .args(["--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-P", &address.port.to_string()])
        .args(["-u", &address.user, "-e", settings])
        .env("MYSQL_PWD", &address.password)
        .output()?;
    ensure!(output.status.success(), "MariaDB: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Creates the keys and datasources of the caller with the bombs, and of the other one.
fn callers(server: &Server, databases: &Databases) -> Result<(Caller, Access)> {
    let scopes = ["--scope", "datacloud:query"];
    let mut arguments = vec!["key", "create", "--api", "dx", "--name", "bombs"];
    arguments.extend(scopes);
    let delivery = format!("Bearer {}", server.command(&arguments)?);
    let (bombs, other) = (server.cluvio_key("bombs")?, server.cluvio_key("other")?);
    let common = r#""data_time_zone":"UTC","update_schema_nightly":false"#;
    let remote = |kind: &str, export: &str, database: &str| -> Result<Access> {
        let databases::Address { user, password, port } = databases.address(export)?;
        server.datasource(
            &bombs,
            &format!(
                r#""name":"Bombs on {kind}","database_type":"{kind}","host":"127.0.0.1","port":{port},"username":"{user}","password":"{password}","database":"{database}",{common}"#
            ),
        )
    };
    // A separate file for the other caller, so that it waits for the server only, not for a database.
    let file = |name: &str, key: &str| -> Result<Access> {
        let path = server.file("files").join(format!("{name}.db"));
        // An empty file is an empty database.
        std::fs::write(&path, "").with_context(|| format!("{}", path.display()))?;
        let path = path.display();
        server.datasource(
            key,
            &format!(r#""name":"{name}","database_type":"sqlite","database":"{path}",{common}"#),
        )
    };
    let caller = Caller {
        address: server.address()?.to_owned(),
        delivery,
        postgres: remote("postgres", "LANDREEVE_TEST_POSTGRES", "postgres")?,
        mariadb: remote("mariadb", "LANDREEVE_TEST_MARIADB", "mysql")?,
        sqlite: file("bombs", &bombs)?,
    };
    Ok((caller, file("other", &other)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_why_a_program_ended() {
        let log =
            "{\"level\":\"INFO\"}\nmemory allocation of 12 bytes failed\n  0: std::backtrace\n  1: main\n";
        assert_eq!(last_words(log), "memory allocation of 12 bytes failed");
        assert_eq!(last_words("a\nb\n"), "b");
        assert_eq!(last_words(""), "its log is empty");
    }
}
