//! Another caller, which runs `select 1` all the time and measures how long it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::measure::http::Client;
use crate::measure::process;
use crate::measure::server::Access;

/// Between two probes.
const PAUSE: Duration = Duration::from_millis(25);
/// How long to wait for the end of the last probe.
const LAST: Duration = Duration::from_secs(60);

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    pub median: f64,
    pub p95: f64,
}

struct Sample {
    begun: Instant,
    ended: Instant,
    error: Option<String>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    samples: Mutex<Vec<Sample>>,
    /// The peak of the server's resident memory when it was last read, in MiB.
    peak: Mutex<f64>,
}

pub struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What was measured between two moments.
#[derive(Default)]
pub struct Measured {
    /// Milliseconds of each probe.
    pub times: Vec<f64>,
    pub errors: Vec<String>,
}

impl Probe {
    /// `access` has a key and a datasource that nothing else uses; `pid` is the server.
    pub fn start(address: String, access: Access, pid: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut client = None;
            while !seen.stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let error = one(&mut client, &address, &access).err();
                if error.is_some() {
                    client = None;
                }
                let error = error.map(|error| format!("{error:#}"));
                let sample = Sample { begun, ended: Instant::now(), error };
                seen.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                if let Ok(peak) = process::peak(pid) {
                    *seen.peak.lock().unwrap_or_else(PoisonError::into_inner) = peak;
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// The probes that ran, in part at least, between two moments. Waits for the last of them.
    pub fn between(&self, from: Instant, to: Instant) -> Measured {
        let begun = Instant::now();
        loop {
            let samples = self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner);
            let complete = samples.last().is_some_and(|last| last.ended >= to);
            if complete || begun.elapsed() > LAST {
                let inside = samples.iter().filter(|sample| sample.begun < to && sample.ended > from);
                let mut measured = Measured::default();
                for sample in inside {
                    let took = sample.ended.saturating_duration_since(sample.begun);
                    measured.times.push(took.as_secs_f64() * 1_000.0);
                    measured.errors.extend(sample.error.clone());
                }
                if !complete {
                    measured.errors.push(format!("no response within {} s", LAST.as_secs()));
                }
                return measured;
            }
            drop(samples);
            std::thread::sleep(PAUSE);
        }
    }

    /// In MiB; known even when the server is gone.
    pub fn last_peak(&self) -> f64 {
        *self.shared.peak.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has reported its errors as samples.
            let _ = thread.join();
        }
    }
}

/// Submits the statement, waits for its end and reads the result.
fn one(client: &mut Option<Client>, address: &str, access: &Access) -> Result<()> {
    if client.is_none() {
        *client = Some(Client::connect(address, &access.authorization)?);
    }
    let client = client.as_mut().context("no connection")?;
    let shown = access.submit(client, "select 1", true)?;
    let id = access.complete(client, shown)?;
    access.data(client, &id).map(drop)
}

/// Median and 95th percentile over time: each probe counts for the time that it covers, including the pause after it. So
/// one that waits for seconds weighs as much as the hundreds that would have run meanwhile.
pub fn over_time(times: &[f64]) -> Latency {
    let pause = PAUSE.as_secs_f64() * 1_000.0;
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let whole: f64 = sorted.iter().map(|time| time + pause).sum();
    let at = |share: f64| {
        let mut passed = 0.0;
        let found = sorted.iter().find(|time| {
            passed += **time + pause;
            passed >= whole * share
        });
        found.or(sorted.last()).copied().unwrap_or_default()
    };
    Latency { median: at(0.5), p95: at(0.95) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_probes_have_the_usual_percentiles() {
        assert_eq!(over_time(&[]), Latency::default());
        assert_eq!(over_time(&[2.0; 9]), Latency { median: 2.0, p95: 2.0 });
        assert_eq!(over_time(&[3.0, 1.0, 2.0]).median, 2.0);
    }

    #[test]
    fn a_long_wait_counts_for_its_time() {
        // 40 short probes take about a second; one takes ten.
        let mut times = vec![2.0; 40];
        times.push(10_000.0);
        assert_eq!(over_time(&times), Latency { median: 10_000.0, p95: 10_000.0 });
        // A tenth of a second among five does not change the median.
        let mut times = vec![2.0; 200];
        times.push(100.0);
        assert_eq!(over_time(&times), Latency { median: 2.0, p95: 2.0 });
    }
}
