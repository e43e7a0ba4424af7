//! The datasource inventory: declare, list, update, delete, test, refresh; and agents.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use landreeve_core::datasource::{CatalogType, DatabaseType, Grade};
use landreeve_core::error::Faults;
use landreeve_core::ids::{AgentId, DatasourceId, OuId, ScheduleId};
use landreeve_core::schema::Catalog;
use landreeve_core::source::{CancellationToken, Query, QueryStream, ServerInfo, SourceError};
use landreeve_core::{
    Action, Error, ErrorKind, Fault, Input, Noun, OpCtx, Part, Permission, Result, Secret, clock,
};

use super::scheduled;
use crate::estate::OwnedAct;
use crate::events::{self, DatasourceChange, Event};
use crate::identity::Visibility;
use crate::inventory::connect::connect_spec;
use crate::inventory::{
    Agent, AgentFilter, ConnectionMode, Datasource, DatasourceDetails, DatasourceFilter, agents, datasources,
};
use crate::runs::{Lane, NewRun, Run, queue};
use crate::schedules::{self, Schedule, Timing};
use crate::store::{Conn, Tx};
use crate::upkeep::SCHEMA_REFRESH;
use crate::{Estate, bootstrap, builtin};

const VIEW: Permission = Permission::new(Noun::DATASOURCE, Action::VIEW);
const TEST_LIMIT: Duration = Duration::from_secs(20);
/// When schemas are read every night, in the estate's time zone.
const NIGHTLY: &str = "23 2 * * *";

/// A datasource as visible to the caller.
#[derive(Debug, Clone)]
pub struct Seen {
    pub datasource: Arc<Datasource>,
    /// Whether its credentials may be shown to this caller.
    pub credentials: bool,
}

fn sees(ctx: &OpCtx, datasource: &Datasource, action: Action) -> bool {
    // A built-in source is in every unit, including the caller's.
    let path = if datasource.builtin.is_some() { ctx.authority().ou_path() } else { &datasource.ou_path };
    let permission = Permission::new(Noun::DATASOURCE, action);
    ctx.authority().allows(permission, path, datasource.id.0)
}

/// The source of this server's own tables shows each caller only the rows of their units, so a result must not be
/// cached for others.
pub fn differs_by_caller(datasource: &Datasource) -> bool {
    matches!(datasource.details.database_type, DatabaseType::Catalog(_))
}

/// What the caller sees through a source that differs by caller. Empty for other sources.
pub fn reach(ctx: &OpCtx, datasource: &Datasource) -> Vec<String> {
    if !differs_by_caller(datasource) {
        return Vec::new();
    }
    let permission = Permission::new(Noun::DATASOURCE, Action::USE);
    ctx.authority().reach(permission, datasource.id.0)
}

async fn require(estate: &Estate, ctx: &OpCtx, datasource: &Datasource, action: Action) -> Result<()> {
    let path = if datasource.builtin.is_some() { ctx.authority().ou_path() } else { &datasource.ou_path };
    estate.require(ctx, Noun::DATASOURCE, action, path, datasource.id.0).await
}

/// The row, from this epoch's cache or from the store.
pub async fn load(estate: &Estate, id: DatasourceId) -> Result<Arc<Datasource>> {
    estate.datasource(id, None).await?.ok_or_else(|| Error::not_found("datasource"))
}

/// The same, for a request that has already checked the epoch.
async fn load_for(estate: &Estate, ctx: &OpCtx, id: DatasourceId) -> Result<Arc<Datasource>> {
    estate.datasource(id, ctx.moment()).await?.ok_or_else(|| Error::not_found("datasource"))
}

/// The page of datasources after this id. With `credentials`, includes those credentials that the caller may see.
pub async fn datasource_list(
    estate: &Estate,
    ctx: &OpCtx,
    asked: &DatasourceFilter,
    credentials: bool,
    after: Option<DatasourceId>,
) -> Result<Part<Seen, DatasourceId>> {
    estate.require_some(ctx, Noun::DATASOURCE, Action::VIEW).await?;
    let visibility = Visibility::of(ctx, VIEW);
    let opens = |datasource: &Datasource| credentials && sees(ctx, datasource, Action::MANAGE);
    let seal = estate.seal_key();
    let mut conn = estate.store().read().await?;
    let part = datasources::list(&mut conn, &visibility, asked, after, &seal, opens).await?;
    let seen = |datasource| Seen { credentials: opens(&datasource), datasource: Arc::new(datasource) };
    Ok(part.with(|all| all.into_iter().map(seen).collect()))
}

pub async fn datasource_get(estate: &Estate, ctx: &OpCtx, id: DatasourceId) -> Result<Seen> {
    let datasource = load_for(estate, ctx, id).await?;
    require(estate, ctx, &datasource, Action::VIEW).await?;
    Ok(Seen { credentials: sees(ctx, &datasource, Action::MANAGE), datasource })
}

/// For a query: the caller has permission to use it, and it is enabled.
pub async fn datasource_for_use(estate: &Estate, ctx: &OpCtx, id: DatasourceId) -> Result<Arc<Datasource>> {
    let datasource = load_for(estate, ctx, id).await?;
    require(estate, ctx, &datasource, Action::USE).await?;
    if !datasource.details.enabled {
        return Err(Error::fault("datasource", "disabled", "is disabled; enable it to run queries on it"));
    }
    if datasource.details.database_type.grade() == Grade::NoDriver {
        let message = format!(
            "is of type {}, for which there is no driver yet",
            datasource.details.database_type.as_str()
        );
        return Err(Error::fault("datasource", "no_driver", message));
    }
    Ok(datasource)
}

/// Whether the caller sees this datasource or can use it, for a row of a plane that refers to it. Checked in the
/// transaction that writes the row.
pub async fn datasource_visible(tx: &mut Tx, ctx: &OpCtx, id: DatasourceId) -> Result<bool> {
    let Some((path, builtin)) = datasources::place(tx, id).await? else { return Ok(false) };
    // A built-in source is in every unit, including the caller's.
    let path = if builtin { ctx.authority().ou_path() } else { &path };
    let allows = |action| ctx.authority().allows(Permission::new(Noun::DATASOURCE, action), path, id.0);
    Ok(allows(Action::VIEW) || allows(Action::USE))
}

/// The types of those that still exist, visible or not, for a plane that analyses SQL for them.
pub async fn database_types(
    conn: &mut Conn,
    ids: &BTreeSet<DatasourceId>,
) -> Result<BTreeMap<DatasourceId, DatabaseType>> {
    datasources::types(conn, ids).await
}

/// Runs a statement as the caller without a run, for a request, and reads its result with `read`. It ends when the
/// datasource is disabled or deleted, as a run does.
pub async fn datasource_query<T>(
    estate: &Estate,
    ctx: &OpCtx,
    id: DatasourceId,
    query: Query,
    read: impl AsyncFnOnce(Result<QueryStream, SourceError>) -> Result<T>,
) -> Result<T> {
    let datasource = datasource_for_use(estate, ctx, id).await?;
    let spec = connect_spec(estate.outbound(), datasource.endpoint(), &reach(ctx, &datasource)).await?;
    let memory = estate.memory().for_statement().await?;
    let driver = estate.driver(spec.database_type)?;
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let reading = async {
        let stream = estate.connections().query(&*driver, spec, query, cancel).await;
        read(stream.map(|stream| memory.hold(stream))).await
    };
    tokio::select! {
        read = reading => read,
        why = unusable(estate, id) => Err(why),
    }
}

/// How often a statement that is not a run looks whether its datasource can still be used.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until the datasource is disabled or deleted.
async fn unusable(estate: &Estate, id: DatasourceId) -> Error {
    loop {
        tokio::time::sleep(LOOK).await;
        match estate.datasource(id, None).await {
            Ok(Some(datasource)) if !datasource.details.enabled => {
                return Error::conflict("disabled", "the datasource was disabled");
            }
            Ok(None) => return Error::not_found("datasource"),
            // If the store cannot be read now, the statement goes on until its own limit.
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Checks the details, and what only the server can know: which agents exist, which files may be opened.
async fn check(
    estate: &Estate,
    ctx: &OpCtx,
    asked: Input<DatasourceDetails>,
    linked: &[AgentId],
) -> Result<DatasourceDetails> {
    let (details, mut faults) = (asked.value(), Faults::default());
    details.check(&mut faults);
    if let DatabaseType::Catalog(catalog) = details.database_type
        && estate.registry().catalog(catalog).is_none_or(|known| known.builtin)
    {
        faults.push("database_type", "enum", "is built in and already exists in every unit");
    }
    if matches!(details.database_type, DatabaseType::Catalog(_))
        && details.database.as_deref().is_none_or(str::is_empty)
    {
        faults.push("database", "required", "is required: which of its databases");
    }
    if matches!(details.database_type, DatabaseType::Catalog(_)) {
        let given = [
            ("port", details.port.is_some()),
            ("username", details.username.as_deref().is_some_and(|name| !name.is_empty())),
            ("password", details.password.as_ref().is_some_and(|secret| !secret.reveal().is_empty())),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            faults.push(field, "not_used", "has no effect on a database of this server; leave it out");
        }
    }
    let file = details.database.as_deref().filter(|name| !name.is_empty());
    if let (DatabaseType::Sqlite, ConnectionMode::Direct, Some(name)) =
        (details.database_type, details.mode, file)
    {
        collect(&mut faults, estate.outbound().sqlite_file(name, details.operator_file).map(drop))?;
    }
    if !linked.is_empty() {
        let asked = AgentFilter { ids: Some(linked.to_vec()), ..AgentFilter::default() };
        let mut conn = estate.store().read().await?;
        let mut known = BTreeSet::new();
        let mut after = None;
        loop {
            let part = agents::list(&mut conn, &Visibility::below(ctx), &asked, after).await?;
            known.extend(part.items.iter().map(|agent| agent.id));
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        for (index, agent) in linked.iter().enumerate() {
            if !known.contains(agent) {
                faults.push(format!("agents.{index}"), "unknown", "is not an agent of this unit");
            }
        }
    }
    asked.settled(faults)
}

/// Asks the plane whose tables a datasource has.
async fn may_declare(estate: &Estate, ctx: &OpCtx, details: &DatasourceDetails) -> Result<()> {
    let DatabaseType::Catalog(wanted) = details.database_type else { return Ok(()) };
    let mut known = estate.planes().iter().flat_map(|plane| plane.catalogs.iter());
    match known.find(|(name, _)| *name == wanted) {
        Some((_, catalog)) => catalog.may_declare(ctx, details.database.as_deref()).await,
        None => Ok(()),
    }
}

/// Collects faults of a check, and returns other errors.
fn collect(faults: &mut Faults, checked: Result<()>) -> Result<()> {
    match checked {
        Err(error) if error.kind == ErrorKind::Invalid => {
            error.faults.into_iter().for_each(|fault| faults.add(fault));
            Ok(())
        }
        other => other,
    }
}

pub async fn datasource_create(
    estate: &Estate,
    ctx: &OpCtx,
    details: impl Into<Input<DatasourceDetails>>,
    linked: Vec<AgentId>,
) -> Result<Datasource> {
    estate.require_here(ctx, Noun::DATASOURCE, Action::MANAGE).await?;
    let operator_file = ctx.authority().is_operator();
    let details = details.into().map(|details, _| DatasourceDetails { operator_file, ..details });
    let details = check(estate, ctx, details, &linked).await?;
    may_declare(estate, ctx, &details).await?;
    let here = (ctx.authority().ou(), ctx.authority().ou_path());
    create(estate, ctx, here, details, linked, None).await
}

/// A datasource that a plane has made for the caller, in a unit where the plane has checked that they may.
pub async fn datasource_made(
    estate: &Estate,
    ctx: &OpCtx,
    unit: (OuId, &str),
    details: DatasourceDetails,
) -> Result<Datasource> {
    let details = check(estate, ctx, Input::of(details), &[]).await?;
    create(estate, ctx, unit, details, Vec::new(), None).await
}

async fn create(
    estate: &Estate,
    ctx: &OpCtx,
    (ou, ou_path): (OuId, &str),
    details: DatasourceDetails,
    linked: Vec<AgentId>,
    builtin: Option<&str>,
) -> Result<Datasource> {
    let (id, now) = (estate.next::<DatasourceId>(DatasourceId::KIND).await?, estate.now());
    let fingerprint = estate.seal_key().fingerprint();
    let sealed = datasources::seal_secrets(&estate.seal_key(), &**estate.random(), id, &details)?;
    let schedule = nightly(estate, ou, id, &details).await?;
    let name = details.name.clone();
    let datasource = Datasource {
        id,
        uuid: estate.uuid(),
        ou,
        ou_path: ou_path.to_owned(),
        details,
        builtin: builtin.map(str::to_owned),
        version: 1,
        agents: linked,
        server_version: None,
        default_schema: None,
        session_zone: landreeve_core::source::SessionZone::AsAsked,
        total_rows: None,
        total_rows_exact: None,
        schema_updated_at: None,
        created_at: now,
        updated_at: now,
        row_version: 1,
    };
    let copy = datasource.clone();
    estate
        .change(ctx, OwnedAct::new("created", Noun::DATASOURCE, id.0, name), move |tx| {
            Box::pin(async move {
                bootstrap::still_sealed_with(tx, &fingerprint).await?;
                datasources::insert(tx, &copy, sealed).await?;
                put_schedule(tx, &copy, schedule, now).await?;
                tell(tx, &copy, DatasourceChange::Created, now).await
            })
        })
        .await?;
    Ok(datasource)
}

/// The datasources of a unit whose tables a plane offers under this type.
pub async fn of_catalog(tx: &mut Tx, ou: OuId, catalog: CatalogType) -> Result<Vec<datasources::OfCatalog>> {
    datasources::of_catalog(tx, ou, catalog.as_str()).await
}

/// Those of a unit with this name, or with this id. Names can repeat.
pub async fn named(
    estate: &Estate,
    ctx: &OpCtx,
    name: &str,
    id: Option<DatasourceId>,
) -> Result<Vec<DatasourceId>> {
    datasources::named(&mut estate.store().read().await?, ctx.authority().ou(), name, id).await
}

/// Records that these datasources reach something else from now on, so that their schemas are read again.
pub async fn reconnected(
    tx: &mut Tx,
    ou: OuId,
    ids: impl IntoIterator<Item = DatasourceId>,
    now: Timestamp,
) -> Result<()> {
    let mut any = false;
    for datasource in ids {
        datasources::reconnect(tx, datasource).await?;
        let change = DatasourceChange::Reconnected;
        events::append(tx, ou, &Event::DatasourceChanged { datasource, change }, now).await?;
        any = true;
    }
    if any { tx.bump_epoch().await } else { Ok(()) }
}

async fn tell(tx: &mut Tx, datasource: &Datasource, change: DatasourceChange, now: Timestamp) -> Result<()> {
    events::append(tx, datasource.ou, &Event::DatasourceChanged { datasource: datasource.id, change }, now)
        .await?;
    tx.bump_epoch().await
}

/// Prefix of the names of schedules that read schemas.
pub(super) const SCHEDULES: &str = "schema:";

fn schedule_name(id: DatasourceId) -> String {
    format!("{SCHEDULES}{id}")
}

async fn nightly(
    estate: &Estate,
    ou: OuId,
    id: DatasourceId,
    details: &DatasourceDetails,
) -> Result<Option<Schedule>> {
    let usable = details.enabled && details.mode == ConnectionMode::Direct;
    if !details.nightly_schema || !usable || details.database_type.grade() == Grade::NoDriver {
        return Ok(None);
    }
    let zone = estate.settings().await?.time_zone;
    let next_at = Some(schedules::next_time(NIGHTLY, &zone, estate.now())?);
    let number = estate.next::<ScheduleId>(ScheduleId::KIND).await?;
    let timing = Timing::Cron { expression: NIGHTLY.to_owned(), zone };
    Ok(Some(Schedule {
        ou,
        noun: Some((Noun::DATASOURCE, id.0)),
        body: scheduled::body(&SCHEMA_REFRESH, r#"{"version":1}"#)?,
        next_at,
        ..Schedule::of_system(number, builtin::PLANE, schedule_name(id), timing)
    }))
}

async fn put_schedule(
    tx: &mut Tx,
    datasource: &Datasource,
    schedule: Option<Schedule>,
    now: Timestamp,
) -> Result<()> {
    match schedule {
        Some(schedule) => schedules::put(tx, &schedule, now).await,
        None => schedules::remove(tx, builtin::PLANE, &schedule_name(datasource.id)).await,
    }
}

/// An id that grants on named datasources never have.
const NO_DATASOURCE: i64 = 0;

/// Whether a datasource becomes another of this server's own databases.
fn reaches_elsewhere(before: &DatasourceDetails, after: &DatasourceDetails) -> bool {
    let place = |details: &DatasourceDetails| {
        (details.database_type, details.host.clone().unwrap_or_default(), details.database.clone())
    };
    matches!(after.database_type, DatabaseType::Catalog(_)) && place(before) != place(after)
}

/// Updates a datasource. The function changes the existing details; the result is validated as a whole.
pub async fn datasource_update(
    estate: &Estate,
    ctx: &OpCtx,
    id: DatasourceId,
    change: Input<impl FnOnce(&mut DatasourceDetails)>,
    linked: Option<Vec<AgentId>>,
) -> Result<Datasource> {
    let before = load(estate, id).await?;
    require(estate, ctx, &before, Action::MANAGE).await?;
    if before.builtin.is_some() {
        return Err(Error::conflict("builtin", "the built-in source cannot be changed"));
    }
    let mut after = Datasource::clone(&before);
    let details = change.map(|change, _| {
        let mut details = before.details.clone();
        change(&mut details);
        let same_file = details.database == before.details.database;
        let known = before.details.operator_file;
        details.operator_file = if same_file { known } else { ctx.authority().is_operator() };
        details
    });
    if let Some(linked) = linked {
        after.agents = linked;
    }
    after.details = check(estate, ctx, details, &after.agents).await?;
    if reaches_elsewhere(&before.details, &after.details) {
        // Not by a caller who manages only this datasource: it needs no credentials to reach what others have.
        estate.require(ctx, Noun::DATASOURCE, Action::MANAGE, &before.ou_path, NO_DATASOURCE).await?;
        may_declare(estate, ctx, &after.details).await?;
    }
    let now = estate.now();
    after.updated_at = now;
    let same = after.details.connects_like(&before.details);
    after.version = before.version + i64::from(!same);
    let told = if same { DatasourceChange::Updated } else { DatasourceChange::Reconnected };
    let fingerprint = estate.seal_key().fingerprint();
    let sealed = datasources::seal_secrets(&estate.seal_key(), &**estate.random(), id, &after.details)?;
    let schedule = nightly(estate, after.ou, id, &after.details).await?;
    let (copy, disabled) = (after.clone(), before.details.enabled && !after.details.enabled);
    estate
        .change(
            ctx,
            OwnedAct::new("updated", Noun::DATASOURCE, id.0, after.details.name.clone()),
            move |tx| {
                Box::pin(async move {
                    bootstrap::still_sealed_with(tx, &fingerprint).await?;
                    datasources::update(tx, &copy, sealed).await?;
                    put_schedule(tx, &copy, schedule, now).await?;
                    if disabled {
                        let about = (Noun::DATASOURCE, copy.id.0);
                        queue::cancel_about(tx, about, "its datasource was disabled", now).await?;
                    }
                    tell(tx, &copy, told, now).await
                })
            },
        )
        .await?;
    after.row_version += 1;
    Ok(after)
}

pub async fn datasource_delete(estate: &Estate, ctx: &OpCtx, id: DatasourceId) -> Result<()> {
    let datasource = load(estate, id).await?;
    require(estate, ctx, &datasource, Action::MANAGE).await?;
    if datasource.builtin.is_some() {
        return Err(Error::conflict("builtin", "the built-in source cannot be deleted"));
    }
    let now = estate.now();
    estate
        .change(
            ctx,
            OwnedAct::new("deleted", Noun::DATASOURCE, id.0, datasource.details.name.clone()),
            move |tx| {
                Box::pin(async move {
                    schedules::remove(tx, builtin::PLANE, &schedule_name(id)).await?;
                    datasources::delete(tx, id).await?;
                    queue::cancel_about(tx, (Noun::DATASOURCE, id.0), "its datasource was deleted", now)
                        .await?;
                    tell(tx, &datasource, DatasourceChange::Deleted, now).await
                })
            },
        )
        .await
}

/// Connects and runs a minimal query. The outer error is ours, the inner one is the database's.
pub async fn datasource_test(
    estate: &Estate,
    ctx: &OpCtx,
    id: DatasourceId,
) -> Result<Result<ServerInfo, String>> {
    let datasource = load(estate, id).await?;
    require(estate, ctx, &datasource, Action::MANAGE).await?;
    test(estate, &datasource).await
}

async fn test(estate: &Estate, datasource: &Datasource) -> Result<Result<ServerInfo, String>> {
    let spec = match connect_spec(estate.outbound(), datasource.endpoint(), &[]).await {
        Ok(spec) => spec,
        // An unreachable address is a result of the test.
        Err(error) if error.kind == ErrorKind::Internal => return Err(error),
        Err(error) => return Ok(Err(error.message)),
    };
    let driver = estate.driver(spec.database_type)?;
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let tested = tokio::time::timeout(TEST_LIMIT, driver.test(&spec, cancel)).await;
    Ok(match tested {
        Ok(result) => result.map_err(|error: SourceError| error.message),
        Err(_) => Err(format!("the database did not respond within {} seconds", TEST_LIMIT.as_secs())),
    })
}

/// Reads the schema again, as a run.
pub async fn datasource_refresh(estate: &Estate, ctx: &OpCtx, id: DatasourceId) -> Result<Run> {
    let datasource = load(estate, id).await?;
    require(estate, ctx, &datasource, Action::MANAGE).await?;
    super::runs::submit(estate, ctx, refresh_run(&datasource)).await
}

/// The same, for the server itself. With a key, a second call returns the first run.
pub async fn refresh_by_system(estate: &Estate, id: DatasourceId, key: Option<String>) -> Result<Run> {
    let datasource = load(estate, id).await?;
    if !datasource.details.enabled || datasource.details.mode != ConnectionMode::Direct {
        return Err(Error::conflict("disabled", "the datasource is disabled or does not connect directly"));
    }
    if datasource.details.database_type.grade() == Grade::NoDriver {
        return Err(Error::conflict("no_driver", "there is no driver for this datasource"));
    }
    let ctx = super::sign_in::system(estate);
    super::runs::submit(estate, &ctx, NewRun { idempotency_key: key, ..refresh_run(&datasource) }).await
}

fn refresh_run(datasource: &Datasource) -> NewRun {
    NewRun {
        noun: Some((Noun::DATASOURCE, datasource.id.0)),
        lane: Some(Lane { name: format!("schema:{}", datasource.id), limit: 1 }),
        ..NewRun::new(&SCHEMA_REFRESH, datasource.ou, r#"{"version":1}"#)
    }
}

/// The schema from the last refresh, and its time. `None` if it was never read.
pub async fn datasource_schema(
    estate: &Estate,
    ctx: &OpCtx,
    id: DatasourceId,
) -> Result<Option<(Catalog, Timestamp)>> {
    let datasource = load(estate, id).await?;
    require(estate, ctx, &datasource, Action::VIEW).await?;
    datasources::schema(&mut estate.store().read().await?, id).await
}

/// The same, for the bearer of a signed token.
pub async fn schema_by_token(estate: &Estate, id: DatasourceId) -> Result<Option<(Catalog, Timestamp)>> {
    datasources::schema(&mut estate.store().read().await?, id).await
}

/// How many rows each table had when the schema was read, by schema and name, for a plane that plans joins.
pub async fn row_counts(estate: &Estate, id: DatasourceId) -> Result<RowCounts> {
    let found = datasources::schema(&mut estate.store().read().await?, id).await?;
    let schemas = found.into_iter().flat_map(|(catalog, _)| catalog.schemas);
    let counts = schemas.flat_map(|schema| {
        let counted = schema.tables.into_iter().filter_map(|table| Some((table.name, table.row_count?)));
        let counted: Vec<(String, u64)> = counted.collect();
        counted.into_iter().map(move |(table, rows)| ((schema.name.clone(), table), rows))
    });
    Ok(counts.collect())
}

/// Numbers of rows, by schema and table.
pub type RowCounts = HashMap<(String, String), u64>;

/// Creates a source of the server, unless it exists. `file` is the path of a SQLite file in the data directory.
pub async fn ensure_builtin(
    estate: &Estate,
    ctx: &OpCtx,
    word: &str,
    name: &str,
    database_type: DatabaseType,
    file: Option<&str>,
) -> Result<DatasourceId> {
    if let Some(found) = builtin(estate, word).await? {
        return Ok(found);
    }
    let details = DatasourceDetails {
        name: name.to_owned(),
        database_type,
        database: file.map(str::to_owned),
        data_time_zone: Some("UTC".to_owned()),
        nightly_schema: false,
        ..DatasourceDetails::default()
    };
    let here = (ctx.authority().ou(), ctx.authority().ou_path());
    match create(estate, ctx, here, details, Vec::new(), Some(word)).await {
        Ok(made) => Ok(made.id),
        // Another node was faster.
        Err(error) if crate::store::is_taken(&error) => builtin(estate, word).await?.ok_or(error),
        Err(error) => Err(error),
    }
}

async fn builtin(estate: &Estate, word: &str) -> Result<Option<DatasourceId>> {
    datasources::builtin(&mut estate.store().read().await?, word).await
}

/// The page of agents after this id.
pub async fn agent_list(
    estate: &Estate,
    ctx: &OpCtx,
    asked: &AgentFilter,
    after: Option<AgentId>,
) -> Result<Part<Agent, AgentId>> {
    estate.require_some(ctx, Noun::DATASOURCE, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    agents::list(&mut conn, &Visibility::of(ctx, VIEW), asked, after).await
}

pub async fn agent_get(estate: &Estate, ctx: &OpCtx, public_key: &str) -> Result<Agent> {
    let asked = AgentFilter { public_keys: Some(vec![public_key.to_owned()]), ..AgentFilter::default() };
    let found = agent_list(estate, ctx, &asked, None).await?.items.into_iter().next();
    found.ok_or_else(|| Error::not_found("agent"))
}

/// The values to set on an agent. A new agent must have a name, and is enabled by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentChange {
    pub name: Option<String>,
    pub enabled: Option<bool>,
}

/// Creates an agent and its key pair. The private key is shown once and not stored.
pub async fn agent_create(
    estate: &Estate,
    ctx: &OpCtx,
    new: impl Into<Input<AgentChange>>,
) -> Result<(Agent, Secret)> {
    estate.require_here(ctx, Noun::DATASOURCE, Action::MANAGE).await?;
    let new = new.into().checked(|new, faults| match &new.name {
        Some(name) => check_agent_name(name, faults),
        None => faults.add(Fault::required("name")),
    })?;
    let (name, enabled) = (new.name.unwrap_or_default(), new.enabled.unwrap_or(true));
    let mut seed = [0_u8; 32];
    estate.random().fill(&mut seed);
    let secret = x25519_dalek::StaticSecret::from(seed);
    let public = x25519_dalek::PublicKey::from(&secret);
    let (id, now) = (estate.next::<AgentId>(AgentId::KIND).await?, estate.now());
    let agent = Agent {
        id,
        ou: ctx.authority().ou(),
        ou_path: ctx.authority().ou_path().to_owned(),
        public_key: URL_SAFE_NO_PAD.encode(public.as_bytes()),
        name: name.clone(),
        enabled,
        datasources: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    let copy = agent.clone();
    estate
        .change(ctx, OwnedAct::new("created", Noun::DATASOURCE, id.0, format!("agent {name}")), move |tx| {
            Box::pin(async move { agents::insert(tx, &copy).await })
        })
        .await?;
    Ok((agent, Secret::new(URL_SAFE_NO_PAD.encode(secret.to_bytes()))))
}

fn check_agent_name(name: &str, faults: &mut Faults) {
    if name.trim().is_empty() || name.chars().count() > 255 {
        faults.push("name", "length", "must have 1 to 255 characters");
    }
}

/// Needs the permission to manage every datasource that uses the agent.
pub async fn agent_update(
    estate: &Estate,
    ctx: &OpCtx,
    public_key: &str,
    change: impl Into<Input<AgentChange>>,
) -> Result<Agent> {
    let mut agent = agent_get(estate, ctx, public_key).await?;
    estate.require_some(ctx, Noun::DATASOURCE, Action::MANAGE).await?;
    if agent.datasources.is_empty() {
        estate.require_here(ctx, Noun::DATASOURCE, Action::MANAGE).await?;
    }
    for id in &agent.datasources {
        let datasource = load(estate, *id).await?;
        require(estate, ctx, &datasource, Action::MANAGE).await?;
    }
    let change = change.into().checked(|change, faults| {
        change.name.iter().for_each(|name| check_agent_name(name, faults));
    })?;
    agent.name = change.name.unwrap_or(agent.name);
    agent.enabled = change.enabled.unwrap_or(agent.enabled);
    let known = agent.updated_at;
    // Later than before, whatever the clock says, so that simultaneous changes can be told apart.
    let next = clock::from_micros(known.as_microsecond() + 1);
    agent.updated_at = estate.now().max(next);
    let copy = agent.clone();
    let detail = format!("agent {}", agent.name);
    estate
        .change(ctx, OwnedAct::new("updated", Noun::DATASOURCE, agent.id.0, detail), move |tx| {
            Box::pin(async move { agents::update(tx, &copy, known).await })
        })
        .await?;
    Ok(agent)
}
