//! How much memory statements and downloads can use together, and each of them, and that it is given back.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use landreeve_drivers::Bounds;
use landreeve_estate::budget::Budget;
use landreeve_estate::results::BATCH_BYTES;

use crate::config::Config;

/// What an engine's statement allocates besides its pool: batches on their way, buffers of the libraries.
const ENGINE_BESIDE: usize = 64 * 1024 * 1024;
/// If the system does not say how much memory there is.
const UNKNOWN: u64 = 4 * 1024 * 1024 * 1024;

/// The allocator's settings, where they differ from its own.
const SETTINGS: [(&str, &str); 2] = [
    // For how many milliseconds it keeps free memory, instead of a second: under load there is always something that
    // was freed in the last second.
    ("MIMALLOC_PURGE_DELAY", "50"),
    // After how many slow allocations a thread looks for what other threads have freed, instead of 10,000: a long value
    // that one thread received and another freed would stay until then.
    ("MIMALLOC_GENERIC_COLLECT", "20"),
];

/// Starts the program again, in the same process, with the allocator's settings, which it reads when it is loaded. If that
/// is not possible, or the operator has set one of them, this one continues.
pub fn start_with_settings() {
    if SETTINGS.iter().any(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(called) = arguments.next() {
        again.arg0(called);
    }
    // It returns only if it could not be started.
    let _ = again.args(arguments).envs(SETTINGS).exec();
}

/// The allocator returns free memory to the system only when something else is freed, or a thread ends. So a thread ends now
/// and then: otherwise a server with nothing to do keeps what a large statement used.
pub fn give_back() {
    // If it cannot be started, the next one will do.
    let _ = std::thread::Builder::new().name("give-back".to_owned()).stack_size(64 * 1024).spawn(|| ());
}

pub fn bounds(config: &Config) -> Bounds {
    Bounds { max_value_bytes: config.sources.max_value_bytes, max_row_bytes: config.sources.max_row_bytes }
}

pub fn budget(config: &Config) -> Budget {
    let total = match config.limits.memory_bytes {
        0 => available() / 2,
        bytes => bytes,
    };
    let statement = bounds(config)
        .statement_bytes(BATCH_BYTES)
        .max(config.engine.memory_bytes.saturating_add(ENGINE_BESIDE));
    Budget::new(total, statement as u64)
}

/// The memory of this machine, or what its control group allows if that is less.
fn available() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    // Without a limit the file says `max`, or a number larger than any machine.
    let limits = limits.filter_map(|text| text.trim().parse::<u64>().ok());
    limits.chain(machine).min().unwrap_or(UNKNOWN)
}

fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files that may limit the group of a process and the groups above it, in both versions of control groups.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_says() {
        assert_eq!(of_machine("MemFree: 1 kB\nMemTotal:       24595456 kB\n"), Some(24_595_456 * 1024));
        assert_eq!(of_machine("MemFree: 1 kB"), None);
        assert_eq!(
            limit_files("12:cpu,memory:/a\n5:cpuset:/b\n0::/user/x.scope\n"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/user/x.scope/memory.max",
                "/sys/fs/cgroup/user/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(limit_files("0::/"), ["/sys/fs/cgroup/memory.max"]);
        assert!(available() > 0);
    }

    #[test]
    fn a_statement_reserves_what_it_may_need() {
        let config = Config::load(None).unwrap();
        let budget = budget(&config);
        assert!(budget.bytes() >= 3 * 134_217_728);
        let _statement = budget.try_for_run().unwrap();
        assert!(budget.reserved() >= 3 * 134_217_728 && budget.reserved() < 5 * 134_217_728);
    }
}
