//! Builds the programs that are measured, and times a clean build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::process;
use super::report::Report;
use super::server::Programs;

const LIMIT_MINUTES: f64 = 22.0;

/// Runs cargo without the variables of the `cargo run` that started us.
fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.current_dir(root).args(args);
    command
}

fn run(mut command: Command) -> Result<()> {
    let status = command.status().context("cargo")?;
    ensure!(status.success(), "cargo: {status}");
    Ok(())
}

/// Cargo's target folder.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |given| root.join(given))
}

/// Builds everything in release mode. The server is built separately, so that it does not get the examples' features.
pub fn programs(root: &Path) -> Result<Programs> {
    eprintln!("bench: building the server and the examples in release mode");
    run(cargo(root, &["build", "--release", "--locked", "-p", "landreeve-server", "--bin", "landreeve"]))?;
    for (package, example) in [
        ("landreeve-estate", "commit"),
        ("landreeve-estate", "load"),
        ("landreeve-estate", "run_lists"),
        ("landreeve-drivers", "speed"),
        ("landreeve-http", "bare"),
        ("landreeve-server", "history"),
    ] {
        run(cargo(root, &["build", "--release", "--locked", "-p", package, "--example", example]))?;
    }
    Ok(Programs(target(root).join("release")))
}

/// Times a clean build of the server, without downloads.
pub fn clean(root: &Path, given: Option<&Path>, report: &mut Report) -> Result<()> {
    let folder = match given {
        Some(given) => {
            ensure!(!given.exists(), "{} exists: a clean build needs a new folder", given.display());
            given.to_owned()
        }
        None => {
            let ours = target(root).join("bench-build");
            if ours.exists() {
                std::fs::remove_dir_all(&ours)?;
            }
            ours
        }
    };
    run(cargo(root, &["fetch", "--locked"]))?;
    let mut build =
        cargo(root, &["build", "--release", "--locked", "-p", "landreeve-server", "--bin", "landreeve"]);
    build.env("CARGO_TARGET_DIR", &folder);
    let (before, begun) = (process::cpu_seconds_of_children()?, Instant::now());
    run(build)?;
    let wall = begun.elapsed().as_secs_f64() / 60.0;
    let cpu = (process::cpu_seconds_of_children()? - before) / 60.0;
    report.judge(
        "clean release build of the server",
        format!("{wall:.1} min ({cpu:.1} CPU-minutes)"),
        format!("at most {LIMIT_MINUTES} min on two cores"),
        wall <= LIMIT_MINUTES,
    );
    Ok(())
}
