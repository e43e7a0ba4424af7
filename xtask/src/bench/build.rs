//! Builds the programs that are measured, and times a clean build.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::measure::report::Report;
use crate::measure::server::Programs;
use crate::measure::{build, process};

const LIMIT_MINUTES: f64 = 22.0;

/// What is measured besides the server, and the packages that it is in.
const EXAMPLES: [&str; 7] = ["commit", "load", "run_lists", "speed", "plan", "bare", "history"];
const PACKAGES: [&str; 5] =
    ["landreeve-server", "landreeve-estate", "landreeve-drivers", "landreeve-engine", "landreeve-http"];

/// Builds everything in release mode, together: alone, the examples would need the libraries with other features.
pub fn programs(root: &Path) -> Result<Programs> {
    eprintln!("bench: building the server and the examples in release mode");
    let mut build = build::cargo(root, &["build", "--release", "--locked", "--bin", "landreeve"]);
    build.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    build.args(EXAMPLES.iter().flat_map(|example| ["--example", example]));
    build::run(build)?;
    Ok(Programs(build::target(root).join("release")))
}

/// Times a clean build of the server, without downloads.
pub fn clean(root: &Path, given: Option<&Path>, report: &mut Report) -> Result<()> {
    let folder = match given {
        Some(given) => {
            ensure!(!given.exists(), "{} exists: a clean build needs a new folder", given.display());
            given.to_owned()
        }
        None => {
            let ours = build::target(root).join("bench-build");
            if ours.exists() {
                std::fs::remove_dir_all(&ours)?;
            }
            ours
        }
    };
    build::run(build::cargo(root, &["fetch", "--locked"]))?;
    let mut build = build::cargo(
        root,
        &["build", "--release", "--locked", "-p", "landreeve-server", "--bin", "landreeve"],
    );
    build.env("CARGO_TARGET_DIR", &folder);
    let (before, begun) = (process::cpu_seconds_of_children()?, Instant::now());
    build::run(build)?;
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
