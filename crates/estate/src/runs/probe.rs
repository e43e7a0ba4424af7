//! The run kind `probe`: waits, reports progress, and fails on request. For testing the engine from every face.

use std::time::Duration;

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Category, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::job::{Done, Executor, Failure, Job, Outcome};
use super::kind::KindSpec;
use super::log::Level;

pub const PROBE: KindSpec = KindSpec::new("probe", Category::System);

/// What a probe is asked to do; stored with the run as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeInput {
    /// 1. A new format gets a new number.
    pub version: u32,
    /// Up to `MAX_MILLIS`.
    pub millis: u64,
    pub fail: bool,
}

pub const MAX_MILLIS: u64 = 3_600_000;

impl ProbeInput {
    pub fn new(wait: Duration, fail: bool) -> Result<ProbeInput> {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if millis > MAX_MILLIS {
            return Err(Error::fault("seconds", "range", "must be from 0 to 3600"));
        }
        Ok(ProbeInput { version: 1, millis, fail })
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }
}

pub struct Probe;

impl Executor for Probe {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let input: ProbeInput = serde_json::from_str(&job.run.input).map_err(Error::internal)?;
            let step = Duration::from_millis((input.millis / 100).max(1).min(input.millis));
            let mut waited = Duration::ZERO;
            let total = Duration::from_millis(input.millis);
            while waited < total {
                tokio::select! {
                    () = job.cancelled() => return Err(Failure::cancelled()),
                    () = tokio::time::sleep(step) => {}
                }
                waited += step;
                let percent = (waited.as_millis() * 100 / total.as_millis().max(1)).min(100);
                job.report(u8::try_from(percent).unwrap_or(100), "waiting as requested");
            }
            if input.fail {
                job.log(Level::Error, "failing as requested").await;
                return Err(Failure::new(
                    ErrorKind::Invalid,
                    "told_to_fail",
                    "the probe failed as requested",
                ));
            }
            Ok(Done::default())
        })
    }
}
