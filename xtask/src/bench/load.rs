//! Generates load over keep-alive connections with `wrk`, which uses one thread for all of them. If it is not
//! installed, the parts of the benchmark use our own clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

pub const CONNECTIONS: usize = 16;

pub struct Wrk(PathBuf);

/// The result of a load: the number of answered requests, and their latency in milliseconds.
#[derive(Debug, PartialEq)]
pub struct Answered {
    pub requests: f64,
    pub median: f64,
    pub p99: f64,
}

impl Wrk {
    pub fn find() -> Option<Wrk> {
        crate::databases::program(&["wrk"]).map(Wrk)
    }

    pub fn get(&self, url: &str, authorization: &str, time: Duration) -> Result<Answered> {
        self.run(time, &["-H", &format!("Authorization: {authorization}"), url])
    }

    /// Sends the requests that the script generates; `arguments` are for its `init`.
    pub fn script(&self, script: &Path, url: &str, arguments: &[&str], time: Duration) -> Result<Answered> {
        let script = script.to_string_lossy();
        self.run(time, &[&["-s", &*script, url, "--"], arguments].concat())
    }

    fn run(&self, time: Duration, arguments: &[&str]) -> Result<Answered> {
        let output = Command::new(&self.0)
            .args(["-t1", "--latency", &format!("-c{CONNECTIONS}"), &format!("-d{}s", time.as_secs().max(1))])
            .args(arguments)
            .output()
            .context("wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let faulty = text.contains("Non-2xx") || text.contains("Socket errors");
        ensure!(output.status.success() && !faulty, "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        read(&text).with_context(|| format!("wrk said {text}"))
    }
}

/// How the report names the load.
pub fn name(wrk: Option<&Wrk>) -> &'static str {
    if wrk.is_some() { "wrk" } else { "own client (wrk is not installed)" }
}

fn read(text: &str) -> Option<Answered> {
    let requests = text.lines().find_map(|line| line.split_once(" requests in "))?.0.trim().parse().ok()?;
    Some(Answered { requests, median: percentile(text, "50%")?, p99: percentile(text, "99%")? })
}

fn percentile(text: &str, which: &str) -> Option<f64> {
    let found = text.lines().find_map(|line| line.trim().strip_prefix(which))?.trim();
    let number = |unit: &str| found.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    let (milli, micro) = (number("ms"), number("us").map(|value| value / 1_000.0));
    milli.or(micro).or_else(|| number("s").map(|value| value * 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_wrk_output() {
        let text = "  Latency Distribution\n     50%  963.00us\n     75%    1.40ms\n     90%    1.91ms\n\
                    \x20    99%    3.22ms\n  59495 requests in 5.00s, 9.59MB read\nRequests/sec:  11898.00\n";
        assert_eq!(read(text), Some(Answered { requests: 59_495.0, median: 0.963, p99: 3.22 }));
        assert_eq!(percentile("99%  1.50s", "99%"), Some(1_500.0));
        assert_eq!(read("nothing"), None);
    }
}
