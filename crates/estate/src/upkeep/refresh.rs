//! Reading the schema of a datasource: the run that does it, and the subscriber that submits it.

use std::time::Duration;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::source::SourceError;
use landreeve_core::{Category, Error, ErrorKind, Noun, Result, RunKind, RunState};

use crate::estate::OwnedAct;
use crate::events::{DatasourceChange, Delivered, Event, Subscriber};
use crate::inventory::connect::{connect_spec, source_failure};
use crate::inventory::datasources;
use crate::runs::{Done, Executor, Failure, Job, KindSpec, Outcome, Retry};
use crate::{Estate, ops};

const DAY: Duration = Duration::from_secs(86_400);

/// The run kind that creates the file of the built-in sample source. The server provides its executor.
pub const SAMPLE_DATA: RunKind = RunKind::new("sample_data");

pub const SCHEMA_REFRESH: KindSpec = KindSpec {
    retry: Retry { attempts: 3, backoff: Duration::from_secs(30) },
    time_limit: Some(Duration::from_secs(600)),
    reserves_memory: true,
    keep_record: DAY,
    keep_data: DAY,
    ..KindSpec::new("schema_refresh", Category::System)
};

/// The run kind `schema_refresh`: reads the schema through the driver and stores it.
pub struct SchemaRefresh(pub Estate);

impl Executor for SchemaRefresh {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let estate = &self.0;
            let id = job.run.noun.as_ref().map(|(_, id)| DatasourceId(*id));
            let id = id.ok_or_else(|| Error::internal("a schema refresh without a datasource"))?;
            let found = datasources::get(&mut estate.store().read().await?, &estate.seal_key(), id).await?;
            let datasource = found.ok_or_else(|| Error::not_found("datasource"))?;
            if !datasource.details.enabled {
                return Err(Failure::new(ErrorKind::Conflict, "disabled", "the datasource is disabled"));
            }
            // The schema of built-in sources is the same for every reader; only the rows differ.
            let mut spec = connect_spec(estate.outbound(), datasource.endpoint(), &[]).await?;
            let driver = estate.driver(spec.database_type)?;
            let failed = |error: SourceError| source_failure(&error, SCHEMA_REFRESH.time_limit);
            job.report(5, "waiting for a connection");
            let limit = SCHEMA_REFRESH.time_limit.unwrap_or(DAY);
            estate.connections().admit(&mut spec, limit, &job.token()).await.map_err(failed)?;
            job.report(10, "connecting");
            let info = driver.test(&spec, job.token()).await.map_err(failed)?;
            job.report(30, "reading the schema");
            let catalog =
                driver.introspect(&spec, datasource.details.row_counts, job.token()).await.map_err(failed)?;
            let now = estate.now();
            // The audit event of the run's submission says who requested it.
            let ctx = ops::sign_in::system(estate);
            let act = OwnedAct::new("schema_read", Noun::DATASOURCE, id.0, format!("run {}", job.run.id.0));
            estate
                .change(&ctx, act, move |tx| {
                    Box::pin(async move {
                        datasources::set_schema(tx, id, &catalog, info.zone, now).await?;
                        tx.bump_epoch().await
                    })
                })
                .await?;
            Ok(Done::default())
        })
    }
}

/// Submits a schema refresh for a datasource that was added or reconnected, and closes old connections.
pub struct OnChange {
    pub estate: Estate,
}

impl OnChange {
    /// For a built-in source that was just added: the run that creates its file comes first.
    async fn awaits_its_file(&self, id: DatasourceId, change: DatasourceChange) -> Result<bool> {
        let file = self.estate.datasource(id, None).await?.is_some_and(|found| {
            found.builtin.is_some() && found.details.database_type == DatabaseType::Sqlite
        });
        Ok(file && change == DatasourceChange::Created)
    }
}

impl Subscriber for OnChange {
    fn name(&self) -> &'static str {
        "inventory"
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (datasource, change) = match event.event {
                Event::DatasourceChanged { datasource, change } => (datasource, change),
                // The built-in source can be read once its file exists.
                Event::RunFinished {
                    kind: SAMPLE_DATA,
                    state: RunState::Succeeded,
                    noun_id: Some(id),
                    ..
                } => (DatasourceId(id), DatasourceChange::Reconnected),
                Event::RunFinished { .. }
                | Event::DeploymentFinished { .. }
                | Event::MonitorChanged { .. } => return Ok(()),
            };
            self.estate.forget_connections(datasource);
            let fresh = matches!(change, DatasourceChange::Created | DatasourceChange::Reconnected);
            if fresh && !self.awaits_its_file(datasource, change).await? {
                let key = format!("event:{}", event.id);
                match ops::datasources::refresh_by_system(&self.estate, datasource, Some(key)).await {
                    Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Conflict) => {}
                    other => drop(other?),
                }
            }
            Ok(())
        })
    }
}
