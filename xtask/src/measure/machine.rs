//! The machine that a measurement ran on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The facts that the figures depend on.
pub fn facts(root: &Path) -> Vec<(&'static str, String)> {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(root).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let line = |path: &str, label: &str| {
        let text = fs::read_to_string(path).ok()?;
        let found =
            text.lines().find_map(|line| line.strip_prefix(label))?.trim_start_matches([':', ' ', '\t']);
        Some(found.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = line("/proc/cpuinfo", "model name").unwrap_or_default();
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let facts = [
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC", "-d", &format!("@{seconds}")])),
        ("commit", said("git", &["describe", "--always", "--dirty"])),
        ("processors", Some(format!("{cores} x {cpu}"))),
        ("memory", line("/proc/meminfo", "MemTotal")),
        ("kernel", said("uname", &["-sr"])),
        ("compiler", said("rustc", &["--version"])),
        ("load average at the start", line("/proc/loadavg", "")),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The type of the file system of a directory.
pub fn filesystem(directory: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?.to_owned()))
    });
    let holding = mounts.filter(|(place, _)| directory.starts_with(place));
    holding.max_by_key(|(place, _)| place.components().count()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_file_system() {
        assert!(filesystem(Path::new("/proc/self")).is_some());
    }
}
