//! Third-party tools of the tests. Each is installed once, with pinned versions, in a folder outside the repository. What cannot
//! be installed is skipped, and listed at the end of the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

const MOTO: &str = "moto[server]==5.2.1";

pub fn cache(name: &str) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/landreeve-tools").join(name))
}

/// Installs into one folder per set of versions; the folder is complete once it has its marker.
pub fn install(folder: &Path, steps: &mut [Command]) -> Result<()> {
    let marker = folder.join("complete");
    if marker.exists() {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for step in steps {
        let output = step.stdin(Stdio::null()).output().context("could not install it")?;
        if !output.status.success() {
            bail!("could not install it: {}", last_line(&output));
        }
    }
    fs::write(marker, "")?;
    Ok(())
}

/// Installs packages for Python. Returns the folder of their programs.
pub fn python(cache: &Path, packages: &[&str]) -> Result<PathBuf> {
    let folder = cache.join(packages.join("+").replace("==", "-").replace(['[', ']'], "-"));
    let bin = folder.join("venv/bin");
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(folder.join("venv"));
    let mut fill = Command::new(bin.join("pip"));
    fill.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages);
    install(&folder, &mut [make, fill])?;
    Ok(bin)
}

/// A Python that has moto, the S3 server of the tests: the machine's, or one of ours.
pub fn moto() -> Result<PathBuf> {
    let mut import = Command::new("python3");
    import.args(["-c", "import moto.server"]).stdin(Stdio::null());
    if import.output().is_ok_and(|output| output.status.success()) {
        return Ok(PathBuf::from("python3"));
    }
    Ok(python(&cache("moto")?, &[MOTO])?.join("python3"))
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim().to_owned()
}
