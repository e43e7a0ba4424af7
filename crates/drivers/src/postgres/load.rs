//! Makes databases and fills them, for restores.

use std::collections::BTreeMap;
use std::ffi::OsString;

use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use landreeve_core::ids::BoxFuture;
use landreeve_core::load::{Definitions, Loader, Rows, Stage};
use landreeve_core::source::{CancellationToken, ConnectSpec, SourceError, Target};
use postgres_types::Type;

use super::connect::{Connector, Session, query_error};
use super::introspect::{get, rows};
use super::relay::Relay;
use super::snapshot::{SETTINGS, identifier};
use super::{Postgres, SNAPSHOT_LIMIT, binary, chosen, copy, tools};
use crate::errors;
use crate::feed::{self, Watch};

/// Sent at a time.
const CHUNK: usize = 256 * 1024;

/// The server has no database of that name.
const NO_DATABASE: &str = "3D000";

/// Everything that a user may have made in a database.
const MADE: &str = "
    SELECT (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%')
         + (SELECT count(*) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname NOT IN ('pg_catalog', 'information_schema'))
         + (SELECT count(*) FROM pg_catalog.pg_namespace n
             WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'public') AND n.nspname NOT LIKE 'pg\\_t%')
         + (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)";

impl Loader for Postgres {
    fn create<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        name: &'a str,
        settings: &'a BTreeMap<String, String>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        let (connector, spec) = (self.connector.clone(), spec.clone());
        let (name, settings) = (name.to_owned(), settings.clone());
        Box::pin(feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
            watch.or_stop(create(&connector, &spec, &name, &settings)).await
        }))
    }

    fn define<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        definitions: &'a Definitions,
        stage: Stage,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        let (connector, spec, definitions) = (self.connector.clone(), spec.clone(), definitions.clone());
        Box::pin(feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
            define(&connector, &spec, &definitions, stage, &watch).await
        }))
    }

    fn load<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        (schema, table): (&'a str, &'a str),
        columns: &'a [String],
        rows: Rows,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<u64, SourceError>> {
        let (connector, spec) = (self.connector.clone(), spec.clone());
        let names: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
        let place = format!("{}.{}", identifier(schema), identifier(table));
        let names = names.join(", ");
        Box::pin(feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
            let session = watch.or_stop(connector.connect(&spec)).await?;
            let done = tokio::select! {
                biased;
                stop = watch.stopped() => Err(stop.error()),
                done = load(&session, (&place, &names), rows) => done,
            };
            if done.is_err() {
                session.cancel().await;
            }
            session.discard().await;
            done.map_err(|error| SourceError {
                message: format!("table {place}: {}", error.message),
                ..error
            })
        }))
    }
}

async fn create(
    connector: &Connector,
    spec: &ConnectSpec,
    name: &str,
    settings: &BTreeMap<String, String>,
) -> Result<(), SourceError> {
    let session = on_server(connector, spec).await?;
    let known = "SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = $1";
    let known = session.client.query_typed(known, &[(&name, Type::TEXT)]).await;
    let known = known.map_err(|error| query_error(&error, 0))?;
    let Some(known) = known.first() else {
        let sql = creation(name, settings);
        return session.client.batch_execute(&sql).await.map_err(|error| query_error(&error, 0));
    };
    if get(known, 0)? {
        return Err(not_empty(format!("the database {name} is a template; restore into a new one")));
    }
    let session = connector.connect(&inside(spec, name)).await?;
    let made: i64 = match rows(&session, MADE).await?.first() {
        Some(row) => get(row, 0)?,
        None => 1,
    };
    if made > 0 {
        return Err(not_empty(format!("the database {name} is not empty; restore into a new one")));
    }
    Ok(())
}

/// A session in the datasource's database or, if that is gone, in one that every server has.
async fn on_server(connector: &Connector, spec: &ConnectSpec) -> Result<Session, SourceError> {
    match connector.connect(spec).await {
        Err(error) if error.code.as_deref() == Some(NO_DATABASE) => {
            connector.connect(&inside(spec, "postgres")).await
        }
        other => other,
    }
}

fn not_empty(message: String) -> SourceError {
    SourceError { code: Some("not_empty".to_owned()), ..errors::unsupported(message) }
}

fn creation(name: &str, settings: &BTreeMap<String, String>) -> String {
    let value = |setting: &str| settings.get(setting).map(|value| value.replace('\'', "''"));
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", identifier(name));
    let provider = settings.get("locale_provider").map(String::as_str);
    let (provider, locale) = match provider {
        Some("i") => (Some("icu"), "ICU_LOCALE"),
        Some("b") => (Some("builtin"), "BUILTIN_LOCALE"),
        _ => (None, ""),
    };
    if let Some(provider) = provider {
        sql.push_str(&format!(" LOCALE_PROVIDER {provider}"));
    }
    let locale = provider.map(|_| ("locale", locale));
    let rules = provider.map(|_| ("icu_rules", "ICU_RULES"));
    let words = [("encoding", "ENCODING"), ("lc_collate", "LC_COLLATE"), ("lc_ctype", "LC_CTYPE")];
    for (setting, word) in words.into_iter().chain(locale).chain(rules) {
        if let Some(value) = value(setting) {
            sql.push_str(&format!(" {word} '{value}'"));
        }
    }
    sql
}

/// The same server with another database.
fn inside(spec: &ConnectSpec, name: &str) -> ConnectSpec {
    let mut spec = spec.clone();
    if let Target::Network { database, .. } = &mut spec.target {
        name.clone_into(database);
    }
    spec
}

async fn define(
    connector: &Connector,
    spec: &ConnectSpec,
    definitions: &Definitions,
    stage: Stage,
    watch: &Watch,
) -> Result<Vec<String>, SourceError> {
    let program = &definitions.tools.pg_restore;
    let mut arguments: Vec<OsString> = vec!["--exit-on-error".into(), "--no-password".into()];
    arguments.extend(match stage {
        Stage::BeforeRows => vec!["--section=pre-data".into()],
        Stage::AfterRows => vec!["--section=data".into(), "--section=post-data".into()],
    });
    if !definitions.owners {
        arguments.extend(["--no-owner".into(), "--no-privileges".into()]);
    }
    let mut left_out = Vec::new();
    if let Some(only) = &definitions.only {
        let (file, scratch) = (&definitions.file, &definitions.scratch);
        let (list, unable) = chosen::list(program, file, scratch, only, watch).await?;
        arguments.push(format!("--use-list={}", list.display()).into());
        left_out = if stage == Stage::BeforeRows { unable } else { left_out };
    }
    if let Target::Network { database, .. } = &spec.target {
        // A name with `=` in it would be a connection string.
        arguments.push(
            format!("--dbname=dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'")).into(),
        );
    }
    arguments.push((&definitions.file).into());
    let name = definitions.scratch.parent().and_then(|parent| parent.file_name()).unwrap_or_default();
    let name: String = name.to_string_lossy().chars().take(13).collect();
    let name = format!("{}-{name}", std::process::id());
    let relay = Relay::open(connector, spec, &name, &definitions.scratch).await?;
    tools::run((program, "pg_restore"), arguments, (&relay, spec), &definitions.scratch, watch).await?;
    Ok(left_out)
}

async fn load(session: &Session, (place, columns): (&str, &str), mut rows: Rows) -> Result<u64, SourceError> {
    let client = &session.client;
    let failed = |error: tokio_postgres::Error| query_error(&error, 0);
    // As when the values were written as text.
    client.batch_execute(SETTINGS).await.map_err(failed)?;
    let known = client.prepare(&format!("SELECT {columns} FROM {place}")).await.map_err(failed)?;
    let types: Vec<Type> = known.columns().iter().map(|column| column.type_().clone()).collect();
    let mut next = rows.try_next().await?;
    let is_binary = next.as_ref().is_some_and(|batch| binary::has_all(&types, batch));
    let format = if is_binary { "WITH (FORMAT binary)" } else { "" };
    let copy = format!("COPY {place} ({columns}) FROM STDIN {format}");
    let mut sink = Box::pin(client.copy_in::<_, Bytes>(&copy).await.map_err(failed)?);
    let mut chunk = Vec::with_capacity(CHUNK);
    chunk.extend(if is_binary { binary::HEAD } else { &[] });
    while let Some(batch) = next {
        // Long values are written a part of the batch at a time.
        let mut from = 0;
        let step = (batch.num_rows() * CHUNK / batch.get_array_memory_size().max(1)).max(1);
        while from < batch.num_rows() {
            let count = step.min(batch.num_rows() - from);
            let some = batch.slice(from, count);
            match is_binary {
                true => binary::rows(&types, &some, &mut chunk)?,
                false => copy::lines(&some, &mut chunk)?,
            }
            from += count;
            if chunk.len() >= CHUNK {
                sink.send(Bytes::from(std::mem::take(&mut chunk))).await.map_err(failed)?;
            }
        }
        next = rows.try_next().await?;
    }
    chunk.extend(if is_binary { binary::END } else { &[] });
    if !chunk.is_empty() {
        sink.send(Bytes::from(chunk)).await.map_err(failed)?;
    }
    sink.as_mut().finish().await.map_err(failed)
}
