//! Many rows from PostgreSQL: the server's JSON against `psql`'s CSV, alternately.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Bench, Sizes};
use crate::measure::process;
use crate::measure::report::{Report, median};
use crate::measure::server::{Access, Server};

const RATIO: f64 = 2.5;
const CPU_PER_MILLION: f64 = 2.5;
const MEMORY: f64 = 150.0;

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::new(&bench.programs, &bench.directory, "transfer", None);
    server.start(&mut bench.databases)?;
    // The baseline for "above idle": this process has had no request yet.
    server.stop()?;
    server.launch()?;
    std::thread::sleep(sizes.settle);
    let idle = process::memory(server.pid()?)?.resident;
    let access = bench.postgres.access(&server)?;
    for (table, rows, pairs) in
        [("bench", sizes.rows, sizes.pairs), ("bench_large", sizes.many_rows, sizes.many_pairs)]
    {
        eprintln!("bench: creating a table of {rows} rows");
        bench.postgres.make_table(table, rows)?;
        let query = format!("SELECT * FROM {table}");
        bench.postgres.time_copy(&query)?; // loads the table into memory
        let mut taken = Taken::default();
        for _ in 0..pairs {
            taken.psql.push(bench.postgres.time_copy(&query)?);
            taken.add(&server, &access, &query, rows, idle)?;
        }
        taken.tell(rows, pairs, report);
        bench.postgres.run("postgres", &format!("DROP TABLE {table}"))?;
    }
    server.stop()
}

#[derive(Default)]
struct Taken {
    psql: Vec<f64>,
    server: Vec<f64>,
    /// From the POST to the end of the execution; the rest is reading the data.
    executing: Vec<f64>,
    cpu: Vec<f64>,
    cpu_executing: Vec<f64>,
    /// MiB above idle.
    memory: Vec<f64>,
    bytes: u64,
}

impl Taken {
    fn add(&mut self, server: &Server, access: &Access, query: &str, rows: u64, idle: f64) -> Result<()> {
        let pid = server.pid()?;
        process::forget_peak(pid)?;
        let before = process::cpu_seconds(pid)?;
        let mut client = access.client(server)?;
        let begun = Instant::now();
        let shown = access.submit(&mut client, query, true)?;
        let id = access.complete(&mut client, shown)?;
        self.executing.push(begun.elapsed().as_secs_f64());
        self.cpu_executing.push(process::cpu_seconds(pid)? - before);
        let data = access.data(&mut client, &id)?;
        self.server.push(begun.elapsed().as_secs_f64());
        self.cpu.push(process::cpu_seconds(pid)? - before);
        self.memory.push(process::peak(pid)? - idle);
        self.bytes = data.length;
        let count = format!("\"row_count\":{rows},");
        ensure!(data.body.contains(&count), "the result does not contain {count}: {}", data.body);
        Ok(())
    }

    fn tell(&self, rows: u64, pairs: usize, report: &mut Report) {
        let what = format!("{rows} rows");
        let (psql, server) = (median(&self.psql), median(&self.server));
        let ratio = server / psql;
        report.judge(
            format!("{what}: wall time over psql's COPY, medians of {pairs} pairs"),
            format!("{ratio:.2} ({server:.2} s / {psql:.2} s)"),
            format!("at most {RATIO} (aim 1.5)"),
            ratio <= RATIO,
        );
        let (cpu, most) = (median(&self.cpu), CPU_PER_MILLION * rows as f64 / 1e6);
        report.judge(
            format!("{what}: server CPU"),
            format!("{cpu:.2} s"),
            format!("at most {most} s"),
            cpu <= most,
        );
        let memory = self.memory.iter().copied().fold(0.0, f64::max);
        report.judge(
            format!("{what}: peak memory above idle"),
            format!("{memory:.0} MiB"),
            format!("at most {MEMORY} MB"),
            memory * 1.048_576 <= MEMORY,
        );
        let (wall, cpu) = (median(&self.executing), median(&self.cpu_executing));
        report.note(
            format!("{what}: of which until the execution is completed"),
            format!("{wall:.2} s, {cpu:.2} s CPU"),
        );
        report.note(format!("{what}: JSON"), format!("{:.1} MB", self.bytes as f64 / 1e6));
    }
}
