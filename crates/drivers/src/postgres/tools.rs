//! Runs the programs of PostgreSQL that write and read definitions.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use landreeve_core::source::{ConnectSpec, SourceError, SourceErrorKind};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::relay::{PORT, Relay};
use crate::errors;
use crate::feed::Watch;
use crate::net::Network;

/// How much of what a program complains about is kept, in bytes.
const COMPLAINTS: u64 = 16 * 1024;

/// The program's version, as `15.4`.
pub(super) async fn version(program: &Path, setting: &str, watch: &Watch) -> Result<String, SourceError> {
    let run = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        watch.or_stop(async { run.await.map_err(|error| not_started(program, setting, &error)) }).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
    found.map(str::to_owned).ok_or_else(|| {
        errors::unsupported(format!("{} does not tell its version; see [tools] {setting}", program.display()))
    })
}

/// An error if the program is older than the server.
pub(super) fn check_version(setting: &str, program: &str, server: &str) -> Result<(), SourceError> {
    let major = |version: &str| version.split(['.', ' ']).next().and_then(|part| part.parse::<u32>().ok());
    if major(program) >= major(server) {
        return Ok(());
    }
    Err(errors::unsupported(format!(
        "{setting} has version {program}, which is older than the server's {server}; install a newer one and set [tools] {setting}"
    )))
}

fn not_started(program: &Path, setting: &str, error: &std::io::Error) -> SourceError {
    let program = program.display();
    errors::unsupported(format!(
        "{program} cannot be started ({error}); install it, or set [tools] {setting}"
    ))
}

/// What a program prints that needs no database, up to so many bytes.
pub(super) async fn output(
    (path, setting): (&Path, &str),
    arguments: Vec<OsString>,
    scratch: &Path,
    max_bytes: usize,
    watch: &Watch,
) -> Result<String, SourceError> {
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| not_started(path, setting, &error))?;
    let mut printed = Vec::new();
    let work = async {
        let lost = |error: std::io::Error| errors::lost(format!("{setting} was lost: {error}"));
        if let Some(stdout) = child.stdout.take() {
            stdout.take(max_bytes as u64 + 1).read_to_end(&mut printed).await.map_err(lost)?;
        }
        if printed.len() > max_bytes {
            return Err(errors::unsupported(format!("{setting} prints more than {max_bytes} bytes")));
        }
        child.wait().await.map_err(lost)
    };
    let ended = watch.or_stop(work).await?;
    if !ended.success() {
        return Err(SourceError::new(SourceErrorKind::Query, format!("{setting} failed ({ended})")));
    }
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

/// Runs a program on the database of `spec` to its end.
pub(super) async fn run(
    program: (&Path, &str),
    arguments: Vec<OsString>,
    (relay, spec): (&Relay, &ConnectSpec),
    scratch: &Path,
    watch: &Watch,
) -> Result<(), SourceError> {
    let (path, setting) = program;
    let network = Network::of(&spec.target)?;
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("PGHOST", relay.folder())
        .env("PGPORT", PORT)
        .env("PGUSER", &network.username)
        .env("PGDATABASE", &network.database)
        .env("PGPASSFILE", relay.password_file())
        .env("PGCLIENTENCODING", "UTF8")
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| not_started(path, setting, &error))?;
    let mut complaints = Vec::new();
    let work = async {
        if let Some(stderr) = child.stderr.take() {
            let mut kept = stderr.take(COMPLAINTS);
            let _ = kept.read_to_end(&mut complaints).await;
            // The rest is read, so that the program is not stopped by it.
            let _ = tokio::io::copy(&mut kept.into_inner(), &mut tokio::io::sink()).await;
        }
        child.wait().await.map_err(|error| errors::lost(format!("{setting} was lost: {error}")))
    };
    let ended = watch.or_stop(work).await;
    if ended.is_err() {
        let _ = child.kill().await;
    }
    let ended = ended?;
    if ended.success() {
        return Ok(());
    }
    let text = errors::words(String::from_utf8_lossy(&complaints).trim());
    Err(SourceError::new(SourceErrorKind::Query, format!("{setting} failed ({ended}): {text}")))
}
