//! Reaching a datasource through its driver: the checked connection, and the run that reads its schema.

use std::time::Duration;

use landreeve_core::datasource::{DatabaseType, Grade};
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::source::{ConnectSpec, SourceError, SourceErrorKind, Target, TlsMode};
use landreeve_core::{Error, ErrorKind, Noun, Result, RunKind, RunState, Secret};
use std::sync::Arc;

use super::datasources::{self, ConnectionMode, Datasource};
use crate::Estate;
use crate::estate::OwnedAct;
use crate::events::{DatasourceChange, Delivered, Event, Subscriber};
use crate::ops;
use crate::runs::{Done, Executor, Failure, Job, Outcome};

const CONNECT: Duration = Duration::from_secs(10);

/// What a driver needs to connect; every address and path in it is checked. `reach` is what is seen through a built-in
/// source of this server's own tables: subtrees of units.
pub async fn connect_spec(estate: &Estate, datasource: &Datasource, reach: &[String]) -> Result<ConnectSpec> {
    let details = &datasource.details;
    if details.database_type.grade() == Grade::NoDriver {
        let message = format!("there is no driver for {} yet", details.database_type.as_str());
        return Err(Error::conflict("no_driver", message));
    }
    if details.mode != ConnectionMode::Direct {
        let message = format!("connecting by {} is not possible yet; use direct", details.mode.as_str());
        return Err(Error::conflict("no_such_connection_mode", message));
    }
    let target = if details.database_type == DatabaseType::Delivery {
        Target::Estate { subtrees: reach.to_vec() }
    } else if details.database_type == DatabaseType::Sqlite {
        let name = details.database.as_deref().unwrap_or_default();
        let path = match datasource.builtin {
            Some(_) => estate.outbound().own_file(name),
            None => estate.outbound().sqlite_file(name, details.operator_file)?,
        };
        Target::File(path)
    } else {
        let host = details.host.clone().unwrap_or_default();
        let port = details.port.or(details.database_type.default_port()).unwrap_or_default();
        Target::Network {
            addresses: estate.outbound().resolve(&host, port).await?,
            host,
            port,
            username: details.username.clone().unwrap_or_default(),
            password: details.password.clone().unwrap_or_else(|| Secret::new("")),
            database: details.database.clone().unwrap_or_default(),
        }
    };
    let zone = details.data_time_zone.as_deref().unwrap_or("UTC");
    Ok(ConnectSpec {
        datasource: datasource.id,
        version: datasource.version,
        database_type: details.database_type,
        target,
        tls: match (details.require_tls, details.verify_tls) {
            (_, true) => TlsMode::Verify,
            (true, false) => TlsMode::Require,
            (false, false) => TlsMode::Prefer,
        },
        time_zone: jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC),
        max_connections: usize::try_from(details.max_concurrent).unwrap_or(1),
        connect_timeout: CONNECT,
    })
}

/// What went wrong in a database, as the end of a run.
pub fn source_failure(error: &SourceError, limit: Option<Duration>) -> Failure {
    let kind = match error.kind {
        SourceErrorKind::Cancelled => return Failure::cancelled(),
        SourceErrorKind::TimedOut => return Failure::timed_out(limit.unwrap_or_default()),
        SourceErrorKind::Connect | SourceErrorKind::Lost => ErrorKind::Unavailable,
        SourceErrorKind::Query | SourceErrorKind::NotReadOnly | SourceErrorKind::Unsupported => {
            ErrorKind::Invalid
        }
    };
    let word = match error.kind {
        SourceErrorKind::Connect => "connect",
        SourceErrorKind::Lost => "connection_lost",
        SourceErrorKind::NotReadOnly => "not_read_only",
        SourceErrorKind::Unsupported => "unsupported",
        _ => "sql_error",
    };
    let mut failure = Failure::new(kind, word, error.message.clone());
    if error.code.is_some() || error.position.is_some() {
        let detail = serde_json::json!({ "version": 1, "code": error.code, "position": error.position });
        failure.error.detail = Some(detail.to_string());
    }
    failure
}

/// The run kind `schema_refresh`: asks the driver what a datasource holds, and keeps the answer.
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
            // What a source of ours holds is the same for every reader, but for its rows.
            let spec = connect_spec(estate, &datasource, &[]).await?;
            let driver = estate.driver(spec.database_type)?;
            job.report(10, "connecting");
            let info = driver.test(&spec, job.token()).await.map_err(|error| source_failure(&error, None))?;
            job.report(30, "reading the schema");
            let catalog = driver
                .introspect(&spec, datasource.details.row_counts, job.token())
                .await
                .map_err(|error| source_failure(&error, None))?;
            let now = estate.now();
            // Whoever asked for it is in the event of the run's submission.
            let ctx = ops::sign_in::system(estate);
            let act = OwnedAct::new("schema_read", Noun::Datasource, id.0, format!("run {}", job.run.id.0));
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

/// Reads the schema of a datasource that was added or reconnected, and lets go of old connections.
pub struct OnChange {
    pub estate: Estate,
    pub forget: Arc<dyn Fn(DatabaseType, DatasourceId) + Send + Sync>,
}

impl OnChange {
    /// A built-in source that was only just added: the run that makes its file comes first.
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
                // The built-in source can be read once its file is there.
                Event::RunFinished {
                    kind: RunKind::SampleData,
                    state: RunState::Succeeded,
                    noun_id: Some(id),
                    ..
                } => (DatasourceId(id), DatasourceChange::Reconnected),
                Event::RunFinished { .. }
                | Event::DeploymentFinished { .. }
                | Event::MonitorChanged { .. } => return Ok(()),
            };
            for database_type in DatabaseType::ALL {
                if database_type.grade() != Grade::NoDriver {
                    (self.forget)(database_type, datasource);
                }
            }
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
