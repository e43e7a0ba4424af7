//! CPU time and memory of a process, from the kernel.

use std::fs;

use anyhow::{Context as _, Result};

/// Ticks per second in `/proc/…/stat`; the same on every Linux.
const TICKS: f64 = 100.0;

/// In MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// Like `resident`, with shared pages counted in part.
    pub proportional: f64,
}

/// CPU seconds that a process has used, in user mode and in the kernel.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    sum_of_ticks(&stat, [11, 12])
}

/// CPU seconds of all our children that have ended and were waited for, and of their children.
pub fn cpu_seconds_of_children() -> Result<f64> {
    sum_of_ticks(&fs::read_to_string("/proc/self/stat")?, [13, 14])
}

fn sum_of_ticks(stat: &str, places: [usize; 2]) -> Result<f64> {
    // The second field is the program's name in brackets, which may itself contain brackets and spaces.
    let (_, rest) = stat.rsplit_once(')').context("/proc/…/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let mut ticks = 0;
    for place in places {
        ticks += fields.get(place).context("/proc/…/stat is short")?.parse::<u32>()?;
    }
    Ok(f64::from(ticks) / TICKS)
}

pub fn memory(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Memory { resident: mebibytes(&text, "Rss:")?, proportional: mebibytes(&text, "Pss:")? })
}

/// Peak resident memory since the start or the last `forget_peak`, in MiB.
pub fn peak(pid: u32) -> Result<f64> {
    mebibytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmHWM:")
}

/// The size of the address space, in KiB.
pub fn address_space(pid: u32) -> Result<u64> {
    kibibytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmSize:")
}

pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("clear_refs")
}

fn mebibytes(text: &str, label: &str) -> Result<f64> {
    Ok(kibibytes(text, label)? as f64 / 1024.0)
}

fn kibibytes(text: &str, label: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(label));
    let value = value.with_context(|| format!("the kernel does not say {label}"))?;
    Ok(value.trim().trim_end_matches("kB").trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ticks_after_any_program_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 30 20 0 0";
        assert!((sum_of_ticks(stat, [11, 12]).unwrap() - 3.0).abs() < 1e-9);
        assert!((sum_of_ticks(stat, [13, 14]).unwrap() - 0.5).abs() < 1e-9);
        assert!(sum_of_ticks("7 (a) S 1", [11, 12]).is_err());
    }

    #[test]
    fn reads_memory() {
        let pid = std::process::id();
        let memory = memory(pid).unwrap();
        assert!(memory.resident > 0.5 && memory.proportional <= memory.resident);
        assert!(peak(pid).unwrap() > 0.5);
        assert!((mebibytes("VmHWM:\t    2048 kB\n", "VmHWM:").unwrap() - 2.0).abs() < 1e-9);
    }
}
