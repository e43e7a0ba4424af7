//! `landreeve datasource …` and `landreeve query`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use futures_util::StreamExt as _;
use landreeve_analytics::executions::{self, Data, NewExecution, Wanted};
use landreeve_analytics::lang::InputParameters;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{DatasourceId, RunId};
use landreeve_core::source::ResultFormat;
use landreeve_core::{Input, RunState, Secret, page};
use landreeve_estate::ops::datasources::Seen;
use landreeve_estate::ops::runs::RunRef;
use landreeve_estate::ops::{Datasource, DatasourceDetails, DatasourceFilter, Login, datasources};
use landreeve_estate::runs::Role;
use serde_json::{Value, json};

use super::{Place, Session, read_password, runs};
use crate::control::{self, Ask};
use crate::output::{self, Format};
use crate::signals::Interrupts;
use crate::{Usage, open};

#[derive(Debug, Subcommand)]
pub enum DatasourceCommand {
    /// Add a datasource and print its id
    #[command(
        after_help = "Examples:\n  landreeve datasource add Shop --type postgres --host db.example.com --username reader --database shop --password-stdin\n  landreeve datasource add Ledger --type sqlite --database ledger.db"
    )]
    Add(Add),
    /// Change a datasource; what is not given stays as it is
    #[command(
        after_help = "Examples:\n  landreeve datasource set Shop --host db2.example.com\n  landreeve datasource set Shop --write-user owner --write-password-stdin"
    )]
    Set(Set),
    /// Remove a datasource; the database itself and its backups stay
    #[command(after_help = "Example:\n  landreeve datasource remove \"shop 2026-11-30 20:25\" --yes")]
    Remove {
        #[command(flatten)]
        place: Place,
        /// Name or id of the datasource
        datasource: String,
        /// Remove it; otherwise only say what would be removed
        #[arg(long)]
        yes: bool,
    },
    /// List the datasources
    #[command(after_help = "Example:\n  landreeve datasource list")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Test the connection to a datasource
    #[command(after_help = "Example:\n  landreeve datasource test Shop")]
    Test {
        #[command(flatten)]
        place: Place,
        /// Name or id of the datasource
        datasource: String,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    #[command(flatten)]
    place: Place,
    /// Name of the datasource
    name: String,
    /// Type of the database: postgres, mysql, mariadb, sqlite, redshift, cratedb, virtual or backup
    #[arg(long = "type", value_name = "TYPE")]
    database_type: String,
    /// Host of the database, or node of a virtual database [default: none, or local]
    #[arg(long)]
    host: Option<String>,
    /// Port of the database [default: the usual port of its type]
    #[arg(long)]
    port: Option<u16>,
    /// Connect as this database user [default: none]
    #[arg(long)]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    writer: Writer,
    /// Name of the database, or path of the SQLite file [default: none]
    #[arg(long = "database", value_name = "NAME")]
    name_of_database: Option<String>,
    /// Interpret times without a zone in this time zone
    #[arg(long, default_value = "UTC")]
    time_zone: String,
    /// Refuse to connect without TLS
    #[arg(long)]
    require_ssl: bool,
    /// Verify the certificate of the database server
    #[arg(long)]
    verify_ssl: bool,
}

#[derive(Debug, Args)]
struct Writer {
    /// Write as this database user: restores do [default: the one that reads]
    #[arg(long, value_name = "NAME")]
    write_user: Option<String>,
    /// Read the password of --write-user from standard input, after the one of --password-stdin
    #[arg(long, requires = "write_user")]
    write_password_stdin: bool,
}

#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    place: Place,
    /// Name or id of the datasource
    datasource: String,
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// Host of the database
    #[arg(long)]
    host: Option<String>,
    /// Port of the database
    #[arg(long)]
    port: Option<u16>,
    /// Connect as this database user
    #[arg(long)]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    writer: Writer,
    /// Write as the user that reads
    #[arg(long, conflicts_with = "write_user")]
    no_write_user: bool,
    /// Name of the database, or path of the SQLite file
    #[arg(long = "database", value_name = "NAME")]
    name_of_database: Option<String>,
    /// Interpret times without a zone in this time zone
    #[arg(long)]
    time_zone: Option<String>,
    /// Refuse to connect without TLS
    #[arg(long, value_name = "BOOL")]
    require_ssl: Option<bool>,
    /// Verify the certificate of the database server
    #[arg(long, value_name = "BOOL")]
    verify_ssl: Option<bool>,
    /// Whether it can be used
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
}

pub async fn datasource(command: DatasourceCommand) -> anyhow::Result<()> {
    match command {
        DatasourceCommand::Add(args) => add(args).await,
        DatasourceCommand::Set(args) => set(args).await,
        DatasourceCommand::Remove { place, datasource, yes } => remove(&place, &datasource, yes).await,
        DatasourceCommand::List { place, format } => list(&place, format).await,
        DatasourceCommand::Test { place, datasource } => {
            let session = Session::open(&place).await?;
            let found = find(&session, &datasource).await?;
            let tested = datasources::datasource_test(&session.opened.estate, &session.ctx, found.id).await;
            session.close().await;
            match tested? {
                Ok(info) => {
                    output::say(&format!("ok: {}", info.version));
                    Ok(())
                }
                Err(message) => anyhow::bail!(message),
            }
        }
    }
}

async fn add(args: Add) -> anyhow::Result<()> {
    let session = Session::open(&args.place).await?;
    let types = session.opened.estate.registry().declarable_types();
    let Some(database_type) = DatabaseType::find(&types, &args.database_type) else {
        session.close().await;
        let names = types.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
        let message = format!("--type: unknown database type {:?}; use one of {names}", args.database_type);
        return Err(Usage(message).into());
    };
    let password = if args.password_stdin { Some(read_password()?) } else { None };
    let writer = writer(args.writer)?;
    let database = database(args.name_of_database, database_type)?;
    let details = DatasourceDetails {
        name: args.name,
        database_type,
        host: args.host,
        port: args.port,
        username: args.username,
        password,
        writer,
        database,
        data_time_zone: Some(args.time_zone),
        require_tls: args.require_ssl,
        verify_tls: args.verify_ssl,
        ..DatasourceDetails::default()
    };
    let made =
        datasources::datasource_create(&session.opened.estate, &session.ctx, details, Vec::new()).await;
    let shown = made.map(|made| session.opened.estate.hash_ids().encode_grouped(made.id));
    session.changed().await?;
    output::say(&shown?);
    Ok(())
}

fn writer(args: Writer) -> anyhow::Result<Option<Login>> {
    let Some(username) = args.write_user else { return Ok(None) };
    let password = if args.write_password_stdin { read_password()? } else { Secret::new("") };
    Ok(Some(Login { username, password }))
}

fn database(given: Option<String>, database_type: DatabaseType) -> anyhow::Result<Option<String>> {
    match (given, database_type) {
        // Relative to the command's working directory, not to the server's folders.
        (Some(path), DatabaseType::Sqlite) => {
            let found = std::fs::canonicalize(&path)
                .with_context(|| format!("could not find the SQLite file {path:?}"))?;
            Ok(Some(found.to_string_lossy().into_owned()))
        }
        (name, _) => Ok(name),
    }
}

async fn set(args: Set) -> anyhow::Result<()> {
    let session = Session::open(&args.place).await?;
    let found = find(&session, &args.datasource).await?;
    let password = if args.password_stdin { Some(read_password()?) } else { None };
    let writer = writer(args.writer)?;
    let database = database(args.name_of_database, found.details.database_type)?;
    let change = move |details: &mut DatasourceDetails| {
        set_some(&mut details.name, args.name);
        details.host = args.host.or(details.host.take());
        details.port = args.port.or(details.port);
        details.username = args.username.or(details.username.take());
        details.password = password.or(details.password.take());
        details.writer = if args.no_write_user { None } else { writer.or(details.writer.take()) };
        details.database = database.or(details.database.take());
        details.data_time_zone = args.time_zone.or(details.data_time_zone.take());
        set_some(&mut details.require_tls, args.require_ssl);
        set_some(&mut details.verify_tls, args.verify_ssl);
        set_some(&mut details.enabled, args.enabled);
    };
    let estate = &session.opened.estate;
    let changed =
        datasources::datasource_update(estate, &session.ctx, found.id, Input::of(change), None).await;
    session.changed().await?;
    changed?;
    Ok(())
}

async fn remove(place: &Place, name: &str, yes: bool) -> anyhow::Result<()> {
    let session = Session::open(place).await?;
    let found = find(&session, name).await?;
    let id = session.opened.estate.hash_ids().encode_grouped(found.id);
    let what = format!("the datasource {} ({id})", found.details.name);
    if !yes {
        session.close().await;
        output::say(&format!("would remove {what}"));
        output::tell("Nothing was removed; add --yes to remove it.");
        return Ok(());
    }
    let removed = datasources::datasource_delete(&session.opened.estate, &session.ctx, found.id).await;
    session.changed().await?;
    removed?;
    output::say(&format!("removed {what}"));
    Ok(())
}

fn set_some<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

async fn list(place: &Place, format: Format) -> anyhow::Result<()> {
    let session = Session::open(place).await?;
    let all = all(&session).await?;
    let ids = session.opened.estate.hash_ids().clone();
    session.close().await;
    let rows = all.into_iter().map(|seen| {
        let datasource = &seen.datasource;
        vec![
            json!(ids.encode_grouped(datasource.id)),
            json!(datasource.details.name),
            json!(datasource.details.database_type.as_str()),
            json!(datasource.details.host),
            json!(datasource.details.database),
            json!(datasource.details.enabled),
            json!(datasource.schema_updated_at.map(|at| at.to_string())),
        ]
    });
    output::listing(
        format,
        &["id", "name", "type", "host", "database", "enabled", "schema_read"],
        rows.collect(),
    );
    Ok(())
}

/// Every datasource, without its credentials.
async fn all(session: &Session) -> landreeve_core::Result<Vec<Seen>> {
    let asked = DatasourceFilter::default();
    page::collect(|after| {
        datasources::datasource_list(&session.opened.estate, &session.ctx, &asked, false, after)
    })
    .await
}

/// Finds a datasource by name, or by the id that listings and the API show.
pub(super) async fn find(session: &Session, wanted: &str) -> anyhow::Result<Datasource> {
    let all = all(session).await?;
    let id = session.opened.estate.hash_ids().decode_grouped::<DatasourceId>(wanted);
    let found: Vec<_> = all
        .iter()
        .filter(|seen| Some(seen.datasource.id) == id || seen.datasource.details.name == wanted)
        .collect();
    match found.as_slice() {
        [one] => Ok(Datasource::clone(&one.datasource)),
        [] => anyhow::bail!("no datasource {wanted:?}; list them with `landreeve datasource list`"),
        many => anyhow::bail!("{} datasources are named {wanted:?}; use the id", many.len()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QueryFormat {
    Table,
    Csv,
    Json,
    Parquet,
}

#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    place: Place,
    /// SQL statement to run; it must be read-only
    sql: String,
    /// Name or id of the datasource to query
    #[arg(long, short, default_value = "Cluvio Sample Data")]
    datasource: String,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: QueryFormat,
    /// Write the output to this file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub async fn query(args: QueryArgs) -> anyhow::Result<()> {
    if args.format == QueryFormat::Table && args.output.is_some() {
        return Err(Usage("--output needs --format csv, json or parquet".to_owned()).into());
    }
    if args.format == QueryFormat::Parquet
        && args.output.is_none()
        && std::io::IsTerminal::is_terminal(&std::io::stdout())
    {
        return Err(Usage("Parquet is binary; write it to a file with --output".to_owned()).into());
    }
    let mut interrupts = Interrupts::new()?;
    let control = control::connect(&args.place.data_dir).await;
    let workers = if control.is_some() { 0 } else { 2 };
    let opened = open::open(&args.place, Some(workers)).await?;
    let session = Session { ctx: landreeve_estate::ops::sign_in::operator(&opened.estate), opened };
    let done = execute(&session, control, &args, &mut interrupts).await;
    session.opened.close(Duration::from_secs(1)).await;
    done
}

async fn execute(
    session: &Session,
    control: Option<control::Control>,
    args: &QueryArgs,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let datasource = find(session, &args.datasource).await?;
    let ended = match control {
        Some(control) => {
            let ask = Ask::Query { datasource: datasource.id.0, sql: args.sql.clone() };
            runs::follow(control, &ask, false, interrupts)
                .await?
                .context("the server did not return a run")?
        }
        None => {
            let _lock = open::lock(&args.place.data_dir, false)?;
            session.opened.estate.start_runs(Role::Command).await?;
            let plane = &session.opened.analytics;
            let asked = NewExecution { sql: args.sql.clone(), inputs: InputParameters::default() };
            let run = executions::execution_run(plane, &session.ctx, datasource.id, asked).await?;
            runs::watch(&session.opened.estate, &session.ctx, run.run, interrupts).await?
        }
    };
    if ended.state != RunState::Succeeded {
        anyhow::bail!(ended.error.unwrap_or_else(|| format!("the query ended {}", ended.state.as_str())));
    }
    tokio::select! {
        printed = print(session, RunRef::Id(RunId(ended.id)), args) => printed,
        () = interrupts.next() => anyhow::bail!("interrupted"),
    }
}

/// A table can have this many rows, because it is held in memory to align its columns.
const TABLE_ROWS: usize = 1_000;

async fn print(session: &Session, which: RunRef, args: &QueryArgs) -> anyhow::Result<()> {
    let plane = &session.opened.analytics;
    let grant = executions::execution_data(plane, &session.ctx, which)
        .await?
        .context("the query returned no data")?;
    let Data::Rows { kept, facts } = executions::data_open(plane, &grant.key).await? else {
        anyhow::bail!("the query did not return rows");
    };
    let format = match args.format {
        QueryFormat::Table | QueryFormat::Json => ResultFormat::Json,
        QueryFormat::Csv => ResultFormat::Csv,
        QueryFormat::Parquet => ResultFormat::Parquet,
    };
    if args.format == QueryFormat::Table {
        anyhow::ensure!(
            facts.rows <= TABLE_ROWS as u64,
            "{} rows are too many for a table (at most {TABLE_ROWS}); add LIMIT, or use --format csv, json or parquet",
            facts.rows
        );
    }
    let envelope = Some(landreeve_face_cluvio::rows_document(&facts));
    let wanted = Wanted { format, envelope, integers_as_strings: false, most_rows: None };
    let mut stream = executions::rows_encode(plane, kept, &facts, wanted).await?;
    let mut whole = Vec::new();
    let mut file = args.output.as_ref().map(std::fs::File::create).transpose()?;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        match (&mut file, args.format) {
            (_, QueryFormat::Table) => whole.extend_from_slice(&chunk),
            (Some(file), _) => file.write_all(&chunk)?,
            (None, _) => output::bytes(&chunk)?,
        }
    }
    if args.format == QueryFormat::Table {
        table(&whole)?;
    }
    Ok(())
}

fn table(json: &[u8]) -> anyhow::Result<()> {
    let document: Value = serde_json::from_slice(json)?;
    let columns = document["columns"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    let rows = document["rows"].as_array().cloned().unwrap_or_default();
    let count = rows.len();
    let rows = rows.into_iter().filter_map(|row| match row {
        Value::Array(values) => Some(values),
        _ => None,
    });
    output::listing(Format::Table, &names, rows.collect());
    output::tell(&format!("({count} {})", if count == 1 { "row" } else { "rows" }));
    Ok(())
}
