//! The run kind `sample_data`: creates the built-in sample source, TPC-H at scale 0.01 in a SQLite file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::{Category, Error, Noun, Result};
use landreeve_drivers::sample::{self, SampleError};
use landreeve_estate::Estate;
use landreeve_estate::ops;
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_estate::plane::{Plane, PlaneParts};
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, NewRun, Outcome, Retry, Run};
use landreeve_estate::upkeep::SAMPLE_DATA;
use tokio_util::sync::CancellationToken;

/// Path of the file, relative to the data directory.
pub const FILE: &str = "sample/tpch.db";
const WORD: &str = "sample";
const WAIT: Duration = Duration::from_secs(60);
const NAME: &str = "Cluvio Sample Data";

/// Only one task at a time in this process: the run's executor and this node's own check can coincide.
static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const MAKE: KindSpec = KindSpec {
    retry: Retry { attempts: 3, backoff: Duration::from_secs(5) },
    ..KindSpec::new(SAMPLE_DATA.as_str(), Category::System)
};

/// The plane with the kind of run that creates the file.
pub fn plane(data_dir: &Path) -> Plane {
    let data_dir = data_dir.to_path_buf();
    Plane {
        kinds: vec![MAKE],
        open: Box::new(move |_| {
            let executors: Vec<(_, Arc<dyn Executor>)> =
                vec![(MAKE.kind, Arc::new(SampleMaker { data_dir }))];
            Ok(PlaneParts { executors, ..PlaneParts::default() })
        }),
        ..Plane::new("sample")
    }
}

struct SampleMaker {
    data_dir: PathBuf,
}

impl Executor for SampleMaker {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            match make(&self.data_dir, job.token()).await? {
                true => Ok(Done::default()),
                false => Err(Failure::cancelled()),
            }
        })
    }
}

/// Creates the file if it does not exist. `false`: stopped before it was complete.
async fn make(data_dir: &Path, stop: CancellationToken) -> Result<bool> {
    let _one = MAKING.lock().await;
    let path = data_dir.join(FILE);
    if path.exists() {
        return Ok(true);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::internal)?;
    }
    let work =
        tokio::task::spawn_blocking(move || sample::write_sample(&path, &mut |_| !stop.is_cancelled()));
    match work.await.map_err(Error::internal)? {
        Ok(()) => Ok(true),
        Err(SampleError::Stopped) => Ok(false),
        Err(why) => Err(Error::unavailable("sample", format!("could not create the sample source: {why}"))),
    }
}

/// The sample source; added if the estate has none.
pub async fn source(estate: &Estate) -> Result<DatasourceId> {
    let ctx = ops::sign_in::system(estate);
    ops::datasources::ensure_builtin(estate, &ctx, WORD, NAME, DatabaseType::Sqlite, Some(FILE)).await
}

/// Creates the source's file in the background if it does not exist yet.
pub async fn ensure(estate: &Estate, id: DatasourceId, data_dir: &Path) -> Result<Option<Run>> {
    if data_dir.join(FILE).exists() {
        return Ok(None);
    }
    let ctx = ops::sign_in::system(estate);
    let run = NewRun {
        noun: Some((Noun::DATASOURCE, id.0)),
        ..NewRun::new(&MAKE, landreeve_core::ids::OuId::ROOT, r#"{"version":1}"#)
    };
    ops::runs::submit(estate, &ctx, run).await.map(Some)
}

/// Each node has its own data directory, and another node may have executed the run. So once the run has ended, this
/// node creates its own file if it has none.
pub async fn ensure_here(estate: Estate, data_dir: PathBuf, run: Run, stop: CancellationToken) {
    let ctx = ops::sign_in::system(&estate);
    let mut ended = run.state.is_final();
    while !ended {
        let waited = tokio::select! {
            () = stop.cancelled() => return,
            waited = run_wait(&estate, &ctx, RunRef::Id(run.id), &[], WAIT) => waited,
        };
        match waited {
            Ok(run) => ended = run.state.is_final(),
            Err(error) => {
                tracing::warn!(%error, "could not check whether the sample source exists");
                return;
            }
        }
    }
    if let Err(error) = make(&data_dir, stop).await {
        tracing::warn!(%error, "could not create the sample source on this node");
    }
}
