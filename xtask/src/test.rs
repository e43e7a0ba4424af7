//! `cargo xtask test`: the workspace's tests, with database servers of their own.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::databases::Databases;

/// Set by whoever keeps servers running (`databases --detach`): then none are started.
const GIVEN: [&str; 3] =
    ["LANDREEVE_TEST_POSTGRES", "LANDREEVE_TEST_MARIADB", "LANDREEVE_TEST_MARIADB_NO_ZONES"];

pub fn command(args: &[String]) -> Result<ExitCode> {
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    if GIVEN.iter().all(|name| std::env::var_os(name).is_some()) {
        eprintln!("xtask: using the databases named by the environment (LANDREEVE_TEST_*)");
        return run(args, &[]);
    }
    eprintln!("xtask: starting databases for the tests");
    let databases = Databases::start(false)?;
    let outcome = run(args, databases.exports());
    // Dropped on any earlier way out, the databases are stopped by their guard as well.
    databases.stop()?;
    outcome
}

fn run(args: &[String], variables: &[(&'static str, String)]) -> Result<ExitCode> {
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
    // `cargo run`, which started us, describes xtask in these; the tests' build must not see it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            tests.env_remove(name);
        }
    }
    tests.args(args).envs(variables.iter().map(|(name, value)| (name, value)));
    let status = tests.status().context("cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    })
}
