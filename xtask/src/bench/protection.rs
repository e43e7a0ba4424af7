//! Backups of a large PostgreSQL table that hardly compresses, against `pg_dump | restic`, and restores against
//! `restic | pg_restore`. How long one row takes to be found, by a command and through the API. What a second backup adds
//! to a repository, after changes of four kinds. Pages of the list of many backups.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Bench, Sizes};
use crate::measure::http::Client;
use crate::measure::process;
use crate::measure::report::{Report, median};
use crate::measure::server::Server;

const BACKUP_RATIO: f64 = 0.7;
const RESTORE_RATIO: f64 = 0.8;
const MEMORY: f64 = 500.0;
const LOOK_UPS: u64 = 9;
const LOOK_UP_SECONDS: f64 = 2.0;
/// The same with the repository open.
const PREVIEW_SECONDS: f64 = 0.5;
const PAGE_MILLISECONDS: f64 = 50.0;
/// Backups on a page.
const PAGE: u64 = 100;
const DATABASE: &str = "protected";
/// The password of restic's own repository.
const PASSWORD: &str = "bench";

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::new(&bench.programs, &bench.directory, "protection", None);
    server.start(&mut bench.databases)?;
    eprintln!("bench: creating a table of {} rows", sizes.protected);
    bench.postgres.create_database(DATABASE)?;
    make_table(bench, sizes.protected)?;
    let size: f64 = bench.postgres.run(DATABASE, "SELECT pg_table_size('t')")?.parse()?;
    report.note("protected table".to_owned(), format!("{} rows, {:.0} MB", sizes.protected, size / 1e6));
    let port = bench.postgres.port.to_string();
    let add = ["datasource", "add", DATABASE, "--type", "postgres", "--host", "127.0.0.1", "--port", &port];
    let add = [&add[..], &["--database", DATABASE, "--username", "postgres", "--password-stdin"]].concat();
    server.command_with_input(&add, &format!("{}\n", bench.postgres.password))?;
    let peers = Peers { bench, repository: bench.directory.join("restic") };
    peers.init()?;
    process::forget_peak(server.pid()?)?;
    let peer = peers.back_up()?;
    let first = back_up(&server)?;
    judge_backup(report, "the first backup", &first, peer);
    let unchanged = back_up(&server)?;
    judge_backup(report, "a backup of what is unchanged", &unchanged, peers.back_up()?);
    added(report, "nothing changed", &first, &unchanged, 0.2);
    look_up(&server, report, &first, sizes.protected)?;
    let authorization = clumio_key(&server)?;
    preview(&mut Client::connect(server.address()?, &authorization)?, report, &first, sizes.protected)?;
    for (what, sql, most) in changes(sizes.protected) {
        bench.postgres.run(DATABASE, &sql)?;
        let changed = back_up(&server)?;
        added(report, what, &first, &changed, most);
    }
    let memory = process::peak(server.pid()?)? * 1.048_576;
    report.judge(
        "the server's memory while it backs up".to_owned(),
        format!("{memory:.0} MB"),
        format!("at most {MEMORY} MB"),
        memory <= MEMORY,
    );
    process::forget_peak(server.pid()?)?;
    let peer = peers.restore()?;
    let begun = Instant::now();
    server.command(&["restore", &first.id, "--database", "restored"])?;
    let taken = begun.elapsed().as_secs_f64();
    report.judge(
        "restoring it, over `restic dump | pg_restore`".to_owned(),
        format!("{:.2} ({taken:.1} s / {peer:.1} s)", taken / peer),
        format!("at most {RESTORE_RATIO}"),
        taken <= RESTORE_RATIO * peer,
    );
    let memory = process::peak(server.pid()?)? * 1.048_576;
    report.judge(
        "the server's memory while it restores".to_owned(),
        format!("{memory:.0} MB"),
        format!("at most {MEMORY} MB"),
        memory <= MEMORY,
    );
    for name in [DATABASE, "restored", "restored_by_peers"] {
        bench.postgres.run("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"))?;
    }
    server.stop()?;
    let count = sizes.backups.to_string();
    bench.programs.figures("history", &["backups", &server.store_file(), &count])?;
    server.launch()?;
    pages(&mut Client::connect(server.address()?, &authorization)?, report, sizes.backups)?;
    server.stop()
}

/// Creates a token of the administrator for the Clumio API; returns the header `Authorization`.
fn clumio_key(server: &Server) -> Result<String> {
    server.command(&["user", "create", "bench", "--role", "Administrator"])?;
    let key = server.command(&["key", "create", "--api", "clumio", "--user", "bench"])?;
    Ok(format!("Bearer {key}"))
}

/// Reads single rows from a backup through the API, whose server has the repository open after the first.
fn preview(client: &mut Client, report: &mut Report, backup: &Backup, rows: u64) -> Result<()> {
    let mut taken = Vec::new();
    for at in 0..=LOOK_UPS {
        let id = rows * (2 * at + 1) / (2 * LOOK_UPS + 3);
        let body = format!(
            r#"{{"source":{{"backup_id":"{}","database_name":"{DATABASE}"}},"target":{{"preview":true,"query_statement":"SELECT * FROM t WHERE id = {id}"}}}}"#,
            backup.id
        );
        let begun = Instant::now();
        let found = client.post("/clumio/restores/aws/rds-resources/records", &body)?.expect(200)?;
        taken.push(begun.elapsed().as_secs_f64());
        ensure!(found.body.contains(&format!("\"{id}\"")), "row {id}: {}", found.body);
    }
    taken.remove(0);
    let median = median(&taken);
    report.judge(
        "one row by its key through the API, the repository open: median".to_owned(),
        format!("{median:.3} s"),
        format!("at most {PREVIEW_SECONDS} s"),
        median <= PREVIEW_SECONDS,
    );
    Ok(())
}

/// First, middle and last pages of lists with each filter.
fn pages(client: &mut Client, report: &mut Report, count: u64) -> Result<()> {
    let asset = "00000000-0000-4000-8000-000000000007";
    let filters = [
        ("no filter", "{}".to_owned()),
        ("one database", format!(r#"{{"resource_id":{{"$eq":"{asset}"}}}}"#)),
        ("half of the time", r#"{"start_timestamp":{"$gt":"2025-06-01T00:00:00Z"}}"#.to_owned()),
        (
            "one database, half of the time",
            format!(
                r#"{{"resource_id":{{"$eq":"{asset}"}},"start_timestamp":{{"$lte":"2025-06-01T00:00:00Z"}}}}"#
            ),
        ),
    ];
    let mut slowest = (0.0, String::new());
    for (what, filter) in filters {
        let filter = filter.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        let path = |start: u64| {
            format!("/clumio/backups/aws/rds-resources?limit={PAGE}&start={start}&filter={filter}")
        };
        let pages: u64 = client.get(&path(1))?.expect(200)?.field("total_pages_count")?.parse()?;
        ensure!(pages > 1 && pages <= count / PAGE + 1, "{pages} pages: {what}");
        for start in [1, pages / 2, pages] {
            let mut taken = Vec::new();
            for _ in 0..LOOK_UPS {
                let begun = Instant::now();
                client.get(&path(start))?.expect(200)?;
                taken.push(begun.elapsed().as_secs_f64() * 1_000.0);
            }
            let taken = median(&taken);
            if taken > slowest.0 {
                slowest = (taken, format!("{what}, page {start} of {pages}"));
            }
        }
    }
    report.judge(
        format!("a page of {PAGE} of {count} backups, the slowest of 12"),
        format!("{:.1} ms ({})", slowest.0, slowest.1),
        format!("at most {PAGE_MILLISECONDS} ms"),
        slowest.0 <= PAGE_MILLISECONDS,
    );
    Ok(())
}

/// Reads single rows from a backup, each with a command of its own.
fn look_up(server: &Server, report: &mut Report, backup: &Backup, rows: u64) -> Result<()> {
    let mut taken = Vec::new();
    for at in 1..=LOOK_UPS {
        let id = rows * at / (LOOK_UPS + 1);
        let begun = Instant::now();
        let sql = format!("SELECT * FROM t WHERE id = {id}");
        let found = server.command(&["backup", "query", &backup.id, &sql, "--format", "csv"])?;
        taken.push(begun.elapsed().as_secs_f64());
        ensure!(found.lines().count() == 2 && found.contains(&format!("\n{id},")), "row {id}: {found}");
    }
    let median = median(&taken);
    report.judge(
        "one row by its key, a command each: median".to_owned(),
        format!("{median:.2} s"),
        format!("at most {LOOK_UP_SECONDS} s"),
        median <= LOOK_UP_SECONDS,
    );
    Ok(())
}

fn make_table(bench: &Bench, rows: u64) -> Result<()> {
    let columns =
        "id bigint PRIMARY KEY, u uuid, t text, b bytea, f float8, at timestamptz, n numeric(12, 2)";
    bench.postgres.run(DATABASE, &format!("CREATE TABLE t ({columns})"))?;
    let values = VALUES.join(", ");
    let fill = format!("INSERT INTO t SELECT i, {values} FROM generate_series(1, {rows}) AS i");
    bench.postgres.run(DATABASE, &fill)?;
    bench.postgres.run(DATABASE, "VACUUM (FREEZE, ANALYZE) t")?;
    bench.postgres.run("postgres", "CHECKPOINT").map(drop)
}

/// Everything but the key.
const VALUES: [&str; 6] = [
    "gen_random_uuid()",
    "md5(random()::text)",
    "sha256(int8send((random() * 1e18)::int8))",
    "random()",
    "timestamptz '2020-01-01' + random() * interval '5 years'",
    "(random() * 1e9)::numeric(12, 2)",
];

/// What is changed before a backup, and how much of the first one that may add, in per cent.
fn changes(rows: u64) -> [(&'static str, String, f64); 3] {
    let (percent, values) = (rows / 100, VALUES.join(", "));
    let names = ["u", "t", "b", "f", "at", "n"].into_iter().zip(VALUES);
    let set = names.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");
    let range = format!("UPDATE t SET {set} WHERE id BETWEEN {} AND {}", rows / 3, rows / 3 + percent - 1);
    let deleted = format!("DELETE FROM t WHERE id BETWEEN {} AND {}", rows / 2, rows / 2 + percent / 2 - 1);
    let appended = format!(
        "INSERT INTO t SELECT i, {values} FROM generate_series({}, {}) AS i",
        rows + 1,
        rows + percent / 2
    );
    let moved = format!("{deleted}; {appended}");
    let column = "UPDATE t SET f = random() WHERE random() < 0.01".to_owned();
    [
        ("1 % of the rows in one range changed", range, 4.0),
        ("0.5 % deleted in a range, 0.5 % appended", moved, 5.0),
        ("one column of 1 % of the rows changed at random", column, 15.0),
    ]
}

struct Backup {
    id: String,
    seconds: f64,
    added: f64,
}

fn back_up(server: &Server) -> Result<Backup> {
    let begun = Instant::now();
    let text = server.command(&["backup", "run", DATABASE, "--format", "csv"])?;
    let seconds = begun.elapsed().as_secs_f64();
    let (names, values) = text.split_once('\n').context("no backup")?;
    let value = |wanted: &str| {
        let found = names.split(',').zip(values.split(',')).find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.to_owned()).with_context(|| wanted.to_owned())
    };
    Ok(Backup { id: value("id")?, seconds, added: value("bytes_added")?.parse()? })
}

fn judge_backup(report: &mut Report, what: &str, own: &Backup, peer: f64) {
    let ratio = own.seconds / peer;
    report.judge(
        format!("{what}, over `pg_dump -Fc -Z1 | restic backup`"),
        format!("{ratio:.2} ({:.1} s / {peer:.1} s)", own.seconds),
        format!("at most {BACKUP_RATIO}"),
        ratio <= BACKUP_RATIO,
    );
}

fn added(report: &mut Report, what: &str, first: &Backup, next: &Backup, most: f64) {
    let percent = next.added / first.added * 100.0;
    report.judge(
        format!("bytes added, of the first backup's: {what}"),
        format!(
            "{percent:.2} % ({:.1} of {:.1} MB, {:.1} s)",
            next.added / 1e6,
            first.added / 1e6,
            next.seconds
        ),
        format!("at most {most} %"),
        percent <= most,
    );
}

/// The programs that do the same.
struct Peers<'a> {
    bench: &'a Bench,
    repository: std::path::PathBuf,
}

impl Peers<'_> {
    fn init(&self) -> Result<()> {
        self.shell("restic init -q").map(drop)
    }

    fn back_up(&self) -> Result<f64> {
        self.shell("pg_dump -Fc -Z1 | restic backup -q --stdin --stdin-filename dump")
    }

    fn restore(&self) -> Result<f64> {
        self.bench.postgres.create_database("restored_by_peers")?;
        self.shell("restic dump -q latest dump | pg_restore -d restored_by_peers")
    }

    /// Seconds that it takes.
    fn shell(&self, line: &str) -> Result<f64> {
        let begun = Instant::now();
        let postgres = &self.bench.postgres;
        let status = Command::new("bash")
            .args(["-o", "pipefail", "-c", line])
            .env("RESTIC_REPOSITORY", repository(&self.repository))
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", postgres.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", &postgres.password)
            .env("PGDATABASE", DATABASE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("bash")?;
        ensure!(status.success(), "{line}: {status}");
        Ok(begun.elapsed().as_secs_f64())
    }
}

fn repository(folder: &Path) -> String {
    folder.to_string_lossy().into_owned()
}
