//! Builds the server in release mode.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::server::Programs;

/// Runs cargo without the variables of the `cargo run` that started us.
pub fn cargo(root: &Path, args: &[&str]) -> Command {
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

pub fn run(mut command: Command) -> Result<()> {
    let status = command.status().context("cargo")?;
    ensure!(status.success(), "cargo: {status}");
    Ok(())
}

/// Cargo's target folder.
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |given| root.join(given))
}

/// Builds the server alone.
pub fn server(root: &Path) -> Result<Programs> {
    run(cargo(root, &["build", "--release", "--locked", "-p", "landreeve-server", "--bin", "landreeve"]))?;
    Ok(Programs(target(root).join("release")))
}
