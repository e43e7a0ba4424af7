//! `cargo xtask test`: runs the workspace's tests on database servers that it starts.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use crate::databases::Databases;
use crate::{documents, tools};

/// If these are set (by `databases --detach`), no servers are started.
const GIVEN: [&str; 4] = [
    "LANDREEVE_TEST_POSTGRES",
    "LANDREEVE_TEST_MARIADB",
    "LANDREEVE_TEST_MARIADB_NO_ZONES",
    "LANDREEVE_TEST_KRB5_CONFIG",
];

/// If this is set, it is a Python that has moto; the tests of S3 repositories start it.
const MOTO: &str = "LANDREEVE_TEST_MOTO";

pub fn command(args: &[String]) -> Result<ExitCode> {
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    with_databases(args, &[])
}

/// The kill campaign: the same test as in every run, with many more kills.
pub fn faults(args: &[String]) -> Result<ExitCode> {
    let kills = args.first().map_or("200", String::as_str);
    kills.parse::<u32>().with_context(|| format!("{kills:?} is not a number of kills"))?;
    let only = ["--profile", "faults", "--package", "landreeve-server", "-E", "test(faults::)"];
    with_databases(&only.map(str::to_owned), &[("LANDREEVE_TEST_KILLS", kills.to_owned())])
}

fn with_databases(args: &[String], more: &[(&'static str, String)]) -> Result<ExitCode> {
    if GIVEN.iter().all(|name| std::env::var_os(name).is_some()) {
        eprintln!("xtask: using the databases set in the environment (LANDREEVE_TEST_*)");
        return run(args, more);
    }
    eprintln!("xtask: starting databases for the tests");
    let databases = Databases::start(false)?;
    let variables = [databases.exports(), more].concat();
    let outcome = run(args, &variables);
    // On any earlier return the databases are dropped, and their guard stops them too.
    databases.stop()?;
    outcome
}

fn run(args: &[String], variables: &[(&'static str, String)]) -> Result<ExitCode> {
    // Use the program from the tests' build; a separate build would have other features.
    let built = tests(&["--no-run"], args)?.status().context("cargo")?;
    if !built.success() {
        return Ok(exit_code(built));
    }
    let own = std::env::current_exe()?;
    let mut skipped = documents::check(&own.with_file_name("landreeve"))?;
    let mut tests = tests(&[], args)?;
    if std::env::var_os(MOTO).is_none() {
        match tools::moto() {
            Ok(python) => drop(tests.env(MOTO, python)),
            Err(error) => skipped.push(format!("the tests of S3 repositories: moto: {error:#}")),
        }
    }
    tests.envs(variables.iter().map(|(name, value)| (name, value)));
    if skipped.is_empty() {
        return Ok(exit_code(tests.status().context("cargo")?));
    }
    closing_with(&mut tests, &skipped)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    if status.success() {
        return ExitCode::SUCCESS;
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn tests(first: &[&str], args: &[String]) -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let has_nextest = Command::new(&cargo)
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut tests = Command::new(&cargo);
    if has_nextest {
        tests.args(["nextest", "run", "--workspace"]);
    } else {
        eprintln!("xtask: cargo-nextest is not installed: falling back to `cargo test`");
        tests.args(["test", "--workspace", "--lib", "--bins", "--tests"]);
    }
    // `cargo run`, which started us, sets these for xtask; the tests' build must not see them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            tests.env_remove(name);
        }
    }
    tests.args(first).args(args);
    Ok(tests)
}

/// Runs the tests and prints what was skipped before their summary, which stays last.
fn closing_with(tests: &mut Command, skipped: &[String]) -> Result<ExitCode> {
    let mut child = tests.stderr(Stdio::piped()).spawn().context("cargo")?;
    let lines = BufReader::new(child.stderr.take().context("could not read the tests' output")?).lines();
    let mut told = false;
    for line in lines {
        let line = line?;
        if !told && line.trim_start().starts_with("Summary [") {
            told = true;
            tell(skipped);
        }
        eprintln!("{line}");
    }
    if !told {
        tell(skipped);
    }
    Ok(exit_code(child.wait()?))
}

fn tell(skipped: &[String]) {
    for what in skipped {
        eprintln!("xtask: SKIPPED {what}");
    }
}
