//! The run kind `sample_data`: makes the built-in sample source, TPC-H at scale 0.01 in a SQLite file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::{Error, Noun, Result, RunKind};
use landreeve_drivers::sample;
use landreeve_estate::Estate;
use landreeve_estate::ops;
use landreeve_estate::runs::{Done, Executor, Failure, Job, NewRun, Outcome};

/// Where the file is, below the data directory.
pub const FILE: &str = "sample/tpch.db";
const WORD: &str = "sample";
const NAME: &str = "Cluvio Sample Data";

pub struct SampleMaker {
    pub data_dir: PathBuf,
}

impl Executor for SampleMaker {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let path = self.data_dir.join(FILE);
            if path.exists() {
                return Ok(Done::default());
            }
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(Error::internal)?;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&stop);
            let mut work = tokio::task::spawn_blocking(move || {
                sample::write_sample(&path, &mut |_| !seen.load(Ordering::Relaxed))
                    .map_err(|error| error.to_string())
            });
            let written = tokio::select! {
                written = &mut work => written,
                () = job.cancelled() => {
                    stop.store(true, Ordering::Relaxed);
                    let _ = work.await;
                    return Err(Failure::cancelled());
                }
            };
            written.map_err(Error::internal)?.map_err(|why| {
                Error::unavailable("sample", format!("the sample source cannot be made: {why}"))
            })?;
            Ok(Done::default())
        })
    }
}

/// Adds the sample source, and makes its file in the background when it is not there yet.
pub async fn ensure(estate: &Estate, data_dir: &std::path::Path) -> Result<DatasourceId> {
    let ctx = ops::sign_in::system(estate);
    let id =
        ops::datasources::ensure_builtin(estate, &ctx, WORD, NAME, DatabaseType::Sqlite, Some(FILE)).await?;
    if !data_dir.join(FILE).exists() {
        let run = NewRun {
            noun: Some((Noun::Datasource, id.0)),
            max_attempts: 3,
            ..NewRun::new(RunKind::SampleData, landreeve_core::ids::OuId::ROOT, r#"{"version":1}"#)
        };
        ops::runs::submit(estate, &ctx, run).await?;
    }
    Ok(id)
}
