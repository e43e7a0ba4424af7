//! `cargo xtask bench`: measures speed and size of a release build against the project's limits, as described in
//! docs/benchmarks.md. Things that are compared are measured alternately, within one run, on the same machine.

mod build;
mod delivery;
mod latency;
mod load;
mod postgres;
mod promotion;
mod protection;
mod reads;
mod size;
mod stores;
mod transfer;
mod virtual_views;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::databases::Databases;
use crate::measure::machine;
use crate::measure::report::Report;
use crate::measure::server::Programs;
use postgres::Postgres;

/// The context of every part.
struct Bench {
    programs: Programs,
    databases: Databases,
    postgres: Postgres,
    /// Removed with the databases.
    directory: PathBuf,
}

/// How much to measure.
struct Sizes {
    rows: u64,
    pairs: usize,
    many_rows: u64,
    many_pairs: usize,
    /// How long a server gets to become idle after its start.
    settle: Duration,
    executions: usize,
    read_pairs: usize,
    read_time: Duration,
    starts: usize,
    /// Deployments written by the bare loop, deployments of the generated history, and changes waiting for a
    /// deployment.
    bare_rows: usize,
    deployments: usize,
    waiting: usize,
    /// Rows of the two sides of a join, and the views of a script.
    facts: u64,
    groups: u64,
    views: usize,
    /// Of an environment, and of a deployment: a multiple of ten.
    properties: usize,
    tasks: usize,
    /// Rows of the table that is backed up: about 2 GB.
    protected: u64,
    /// In the catalogue whose pages are read.
    backups: u64,
}

const FULL: Sizes = Sizes {
    rows: 1_000_000,
    pairs: 5,
    many_rows: 10_000_000,
    many_pairs: 2,
    settle: Duration::from_secs(10),
    executions: 300,
    read_pairs: 3,
    read_time: Duration::from_secs(8),
    starts: 10,
    bare_rows: 32_000,
    deployments: 1_000_000,
    waiting: 100_000,
    facts: 1_000_000,
    groups: 100_000,
    views: 1_000,
    properties: 100_000,
    tasks: 500,
    protected: 12_000_000,
    backups: 100_000,
};

const QUICK: Sizes = Sizes {
    rows: 100_000,
    pairs: 2,
    many_rows: 300_000,
    many_pairs: 1,
    settle: Duration::from_secs(2),
    executions: 30,
    read_pairs: 1,
    read_time: Duration::from_secs(1),
    starts: 3,
    bare_rows: 3_200,
    deployments: 50_000,
    waiting: 10_000,
    facts: 100_000,
    groups: 10_000,
    views: 200,
    properties: 10_000,
    tasks: 100,
    protected: 500_000,
    backups: 10_000,
};

type Part = fn(&mut Bench, &Sizes, &mut Report) -> Result<()>;

const PARTS: [(&str, Part); 9] = [
    ("transfer", transfer::measure),
    ("latency", latency::measure),
    ("reads", reads::measure),
    ("stores", stores::measure),
    ("size", size::measure),
    ("delivery", delivery::measure),
    ("virtual", virtual_views::measure),
    ("promotion", promotion::measure),
    ("protection", protection::measure),
];

#[derive(Debug, Default, PartialEq)]
struct Options {
    build: bool,
    parts: Vec<String>,
    quick: bool,
    markdown: Option<PathBuf>,
    programs: Option<PathBuf>,
    target_dir: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut path = || args.next().map(PathBuf::from).with_context(|| format!("{arg} needs a path"));
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--markdown" => options.markdown = Some(path()?),
                "--programs" => options.programs = Some(path()?),
                "--target-dir" => options.target_dir = Some(path()?),
                "build" => options.build = true,
                part if PARTS.iter().any(|(name, _)| *name == part) => options.parts.push(part.to_owned()),
                other => bail!(
                    "unknown argument `{other}`; the parts are transfer, latency, reads, stores, size, delivery, virtual, promotion, protection, build"
                ),
            }
        }
        if options.build && (!options.parts.is_empty() || options.quick || options.programs.is_some()) {
            bail!("`bench build` takes no other part, and only --target-dir and --markdown");
        }
        if !options.build && options.target_dir.is_some() {
            bail!("--target-dir is for `bench build`");
        }
        Ok(options)
    }
}

/// Exit status 1 also means that a limit was not met.
pub fn command(args: &[String]) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    let root = crate::root()?;
    let mut report = Report::new("bench");
    report.facts = machine::facts(&root);
    let outcome = if options.build {
        build::clean(&root, options.target_dir.as_deref(), &mut report)
    } else {
        measure(&options, &root, &mut report)
    };
    println!("{}", report.table());
    if let Some(file) = &options.markdown {
        fs::write(file, report.markdown()).with_context(|| format!("{}", file.display()))?;
    }
    outcome?;
    Ok(if report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(options: &Options, root: &Path, report: &mut Report) -> Result<()> {
    let programs = match &options.programs {
        Some(given) => Programs::given(given)?,
        None => build::programs(root)?,
    };
    eprintln!("bench: starting the databases");
    let wants_virtual = options.parts.is_empty() || options.parts.iter().any(|part| part == "virtual");
    let databases = if wants_virtual { Databases::start_two()? } else { Databases::start_postgres()? };
    let postgres = Postgres::prepare(&databases)?;
    report.facts.push(("PostgreSQL", postgres.run("postgres", "SHOW server_version")?));
    let directory = databases.directory().join("bench");
    fs::create_dir(&directory)?;
    if let Some(kind) = machine::filesystem(&directory) {
        if kind == "tmpfs" {
            eprintln!(
                "bench: {} is in memory, where durable writes cost nothing; set TMPDIR",
                directory.display()
            );
        }
        report.facts.push(("file system of the data", kind));
    }
    let mut bench = Bench { programs, databases, postgres, directory };
    let sizes = if options.quick { QUICK } else { FULL };
    if options.quick {
        report.facts.push(("sizes", "--quick: do not quote".to_owned()));
    }
    for (name, part) in PARTS {
        if options.parts.is_empty() || options.parts.iter().any(|wanted| wanted == name) {
            eprintln!("bench: {name}");
            part(&mut bench, &sizes, report).with_context(|| name.to_owned())?;
        }
    }
    bench.databases.stop()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn parses_and_refuses_options() {
        let options = parse(&["reads", "--quick", "size", "--markdown", "a.md"]).unwrap();
        assert_eq!(options.parts, ["reads", "size"]);
        assert!(options.quick && options.markdown == Some("a.md".into()));
        assert!(parse(&["build", "--target-dir", "x"]).unwrap().build);
        for refused in [&["build", "reads"][..], &["--target-dir", "x"], &["speed"], &["--markdown"]] {
            assert!(parse(refused).is_err(), "{refused:?}");
        }
    }
}
