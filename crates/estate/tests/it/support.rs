//! Shared by the cases: a site (one empty database), estates opened on it, a clock set by the test, drivers that answer
//! immediately, and an executor that waits until it is released.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use landreeve_core::datasource::{DatabaseType, Grade};
use landreeve_core::ids::{BoxFuture, DatasourceId, RunId};
use landreeve_core::schema::{Catalog, ColumnInfo, SchemaInfo, TableInfo, TableKind};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Drivers, Query, QueryStream, ServerInfo, SessionZone,
    SourceError, SourceErrorKind,
};
use landreeve_core::{
    Action, Category, Error, ErrorKind, Noun, OpCtx, OpKind, Permission, PoolName, Result, RunKind, Secret,
    page,
};

use landreeve_estate::ops::datasources::{Seen, agent_list, datasource_list};
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_estate::ops::{Agent, AgentFilter, Api, DatasourceFilter, Key, Origin, Run, sign_in};
use landreeve_estate::outbound::{Network, Outbound};
use landreeve_estate::plane::Plane;
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{
    Done, Executor, Failure, Job, KindSpec, NewRun, OnDrain, Outcome, PROBE, Probe, Retry, Role, RunOptions,
};
use landreeve_estate::store::{Arg, Row};
use landreeve_estate::units::{Changing, ORGANIZATIONAL_UNIT_UPDATE};
use landreeve_estate::upkeep::{PURGE, Purge, SCHEMA_REFRESH, SchemaRefresh};
use landreeve_estate::{Estate, EstateOptions, args};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

pub use crate::site::{MockClock, Site, postgres_url};

/// How long anything may take before a case gives up.
pub const BOUND: Duration = Duration::from_secs(30);

impl Site {
    pub fn options(&self) -> EstateOptions {
        let denied = vec![Network::parse("169.254.0.0/16").unwrap()];
        EstateOptions {
            outbound: Outbound::new(denied, vec![self.data().join("files")], self.data(), Vec::new()),
            drivers: Arc::new(FakeDrivers::default()),
            ..self.with_planes(vec![Plane { kinds: KINDS.to_vec(), ..Plane::new("test") }])
        }
    }

    /// An estate whose engine has not been started.
    pub async fn open(&self) -> Estate {
        Estate::open(self.options()).await.unwrap()
    }

    pub fn with_workers(&self, short: usize) -> EstateOptions {
        EstateOptions { runs: RunOptions { short, ..RunOptions::default() }, ..self.options() }
    }

    /// An estate with a running engine: `Query` goes through a gate, `Probe` and `Purge` run as usual.
    pub async fn node(&self, workers: usize) -> Node {
        self.node_with(self.with_workers(workers)).await
    }

    pub async fn node_with(&self, options: EstateOptions) -> Node {
        self.node_at(options, Gate::new()).await
    }

    /// A node whose runs of the kind `Query` go through this gate.
    pub async fn node_at(&self, options: EstateOptions, gate: Gate) -> Node {
        self.start(options, gate, None).await
    }

    /// A command that executes what it submits itself.
    pub async fn command(&self, workers: usize) -> Node {
        let runs = RunOptions { every_pool: Some(workers), ..RunOptions::default() };
        let options = EstateOptions { runs, ..self.options() };
        self.start(options, Gate::new(), Some(Role::Command)).await
    }

    async fn start(&self, options: EstateOptions, gate: Gate, as_role: Option<Role>) -> Node {
        let estate = Estate::open(options).await.unwrap();
        let through_gate = KINDS.map(|kind| (kind.kind, Arc::new(gate.clone()) as Arc<dyn Executor>));
        gate.work_in(&estate);
        let executors: HashMap<RunKind, Arc<dyn Executor>> = through_gate
            .into_iter()
            .chain([
                (PROBE.kind, Arc::new(Probe) as Arc<dyn Executor>),
                (PURGE.kind, Arc::new(Purge(estate.clone()))),
                (SCHEMA_REFRESH.kind, Arc::new(SchemaRefresh(estate.clone()))),
                (ORGANIZATIONAL_UNIT_UPDATE.kind, Arc::new(Changing(estate.clone()))),
            ])
            .collect();
        let stop = CancellationToken::new();
        let (store, listening) = (estate.store().clone(), stop.clone());
        tokio::spawn(async move { store.listen(listening).await });
        let role = as_role.unwrap_or_else(|| role(&estate));
        estate.start_runs_with(executors, role).await.unwrap();
        Node { ctx: sign_in::operator(&estate), estate, gate, stop }
    }
}

/// An estate that executes runs.
pub struct Node {
    pub estate: Estate,
    pub ctx: OpCtx,
    pub gate: Gate,
    pub stop: CancellationToken,
}

impl Node {
    pub async fn submit(&self, new: NewRun) -> Run {
        landreeve_estate::ops::runs::submit(&self.estate, &self.ctx, new).await.unwrap()
    }

    pub async fn get(&self, id: RunId) -> Run {
        get_run(&self.estate, id).await
    }

    /// The run once it has ended.
    pub async fn end(&self, id: RunId) -> Run {
        let run = run_wait(&self.estate, &self.ctx, RunRef::Id(id), &[], BOUND).await.unwrap();
        assert!(run.state.is_final(), "still {:?} after {BOUND:?}", run.state);
        run
    }

    /// The run, once it is as wanted.
    pub async fn until(&self, id: RunId, wanted: impl Fn(&Run) -> bool) -> Run {
        let mut changes = self.estate.store().notices().runs();
        let found = async {
            loop {
                let run = self.get(id).await;
                if wanted(&run) {
                    return run;
                }
                let _ = changes.recv().await;
            }
        };
        tokio::time::timeout(BOUND, found).await.expect("the run did not become as wanted")
    }

    /// Waits until the query returns this number; checks again whenever a run changes, and soon: no notice tells of new runs.
    pub async fn until_number(&self, sql: &'static str, wanted: i64) {
        let mut changes = self.estate.store().notices().runs();
        let found = async {
            while number(&self.estate, sql).await != wanted {
                let _ = tokio::time::timeout(Duration::from_millis(20), changes.recv()).await;
            }
        };
        tokio::time::timeout(BOUND, found).await.expect("the number was not reached");
    }

    pub async fn purge(&self) -> Run {
        let run = self.submit(NewRun::new(&PURGE, landreeve_core::ids::OuId::ROOT, "{}")).await;
        self.end(run.id).await
    }
}

pub async fn get_run(estate: &Estate, id: RunId) -> Run {
    let mut conn = estate.store().read().await.unwrap();
    landreeve_estate::runs::queue::get(&mut conn, id).await.unwrap().expect("the run is there")
}

/// The kind whose runs go through a gate.
pub const QUERY: KindSpec = KindSpec { reserves_memory: true, ..KindSpec::new("query", Category::Query) };
/// The same in the pool for long runs.
pub const LONG: KindSpec = KindSpec { pool: PoolName::LONG, ..KindSpec::new("long", Category::Job) };
/// The same with a short grace.
pub const HASTY: KindSpec =
    KindSpec { grace: Duration::from_millis(200), ..KindSpec::new("hasty", Category::Job) };
/// One that is claimed again after a crash.
pub const CLEANER: KindSpec = KindSpec { cleans_up: true, ..KindSpec::new("cleaner", Category::Backup) };
/// One that goes back to the queue when its server stops.
pub const REQUEUED: KindSpec =
    KindSpec { on_drain: OnDrain::Requeue, ..KindSpec::new("requeued", Category::Restore) };
/// One with three attempts.
pub const RETRIED: KindSpec = KindSpec {
    retry: Retry { attempts: 3, backoff: Duration::from_secs(60) },
    ..KindSpec::new("retried", Category::Job)
};
/// One that goes back to the queue, with a short grace.
pub const STUBBORN: KindSpec = KindSpec {
    on_drain: OnDrain::Requeue,
    grace: Duration::from_millis(200),
    ..KindSpec::new("stubborn", Category::Job)
};
pub const KINDS: [KindSpec; 7] = [QUERY, LONG, HASTY, CLEANER, REQUEUED, RETRIED, STUBBORN];

/// A run of this kind in the root unit.
pub fn of(kind: &KindSpec, input: &str) -> NewRun {
    NewRun::new(kind, landreeve_core::ids::OuId::ROOT, input)
}

pub fn query(input: &str) -> NewRun {
    NewRun::new(&QUERY, landreeve_core::ids::OuId::ROOT, input)
}

/// Executes runs of the kind `Query`: the input says what each does.
#[derive(Clone)]
pub struct Gate(Arc<Inside>);

struct Inside {
    /// Each start of a run, in order.
    begun: watch::Sender<Vec<RunId>>,
    ended: watch::Sender<usize>,
    open: Semaphore,
    /// Lets blocked threads continue.
    threads: (Mutex<usize>, Condvar),
    estate: OnceLock<Estate>,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    pub fn new() -> Gate {
        Gate(Arc::new(Inside {
            begun: watch::channel(Vec::new()).0,
            ended: watch::channel(0).0,
            open: Semaphore::new(0),
            threads: (Mutex::new(0), Condvar::new()),
            estate: OnceLock::new(),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }))
    }

    /// Where parents submit their children: the first estate that uses the gate.
    fn work_in(&self, estate: &Estate) {
        let _ = self.0.estate.set(estate.clone());
    }

    /// Lets this many blocked threads end.
    pub fn release_threads(&self, count: usize) {
        *self.0.threads.0.lock().unwrap() += count;
        self.0.threads.1.notify_all();
    }

    fn block(&self) {
        let mut allowed = self.0.threads.0.lock().unwrap();
        while *allowed == 0 {
            allowed = self.0.threads.1.wait(allowed).unwrap();
        }
        *allowed -= 1;
    }

    /// Lets this many waiting runs end.
    pub fn open(&self, runs: usize) {
        self.0.open.add_permits(runs);
    }

    pub fn begun(&self) -> Vec<RunId> {
        self.0.begun.borrow().clone()
    }

    /// Waits until this many runs have started.
    pub async fn until_begun(&self, count: usize) -> Vec<RunId> {
        let mut begun = self.0.begun.subscribe();
        let found = tokio::time::timeout(BOUND, begun.wait_for(|begun| begun.len() >= count)).await;
        found.expect("the runs did not start").unwrap().clone()
    }

    /// Waits until this many runs have come out.
    pub async fn until_ended(&self, count: usize) {
        let mut ended = self.0.ended.subscribe();
        let found = tokio::time::timeout(BOUND, ended.wait_for(|ended| *ended >= count)).await;
        found.expect("the runs did not end").unwrap();
    }

    /// Maximum number of runs that were inside at the same time.
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }
}

impl Executor for Gate {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let inside = self.0.inside.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.most.fetch_max(inside, Ordering::SeqCst);
            self.0.begun.send_modify(|begun| begun.push(job.run.id));
            let outcome = self.work(job).await;
            self.0.inside.fetch_sub(1, Ordering::SeqCst);
            self.0.ended.send_modify(|count| *count += 1);
            outcome
        })
    }
}

impl Gate {
    async fn work(&self, job: &Job) -> Outcome {
        match job.run.input.as_str() {
            "wait" => {
                tokio::select! {
                    () = job.cancelled() => return Err(Failure::cancelled()),
                    permit = self.0.open.acquire() => permit.unwrap().forget(),
                }
                Ok(Done::default())
            }
            "report" => {
                job.report(42, "almost half");
                job.cancelled().await;
                Err(Failure::cancelled())
            }
            "yield" => {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                Ok(Done::default())
            }
            "ignore" => std::future::pending().await,
            "thread" => {
                let gate = self.clone();
                job.blocking(move |_| gate.block()).await?;
                Ok(Done::default())
            }
            // It ends, but its thread does not.
            "leave" => {
                let gate = self.clone();
                tokio::select! {
                    biased;
                    ended = job.blocking(move |_| gate.block()) => ended?,
                    () = std::future::ready(()) => {}
                }
                Ok(Done::default())
            }
            // What an executor should never do: the task itself blocks.
            "block" => {
                self.block();
                Ok(Done::default())
            }
            "parent" | "patient parent" => {
                let estate = self.0.estate.get().unwrap();
                let work = if job.run.input == "parent" { "yield" } else { "wait" };
                for _ in 0..3 {
                    let child = NewRun { parent: Some(job.run.id), ou: job.run.ou, ..query(work) };
                    landreeve_estate::ops::runs::submit(estate, job.ctx(), child).await?;
                }
                job.children_ended().await?;
                if job.token().is_cancelled() { Err(Failure::cancelled()) } else { Ok(Done::default()) }
            }
            "log" => {
                for line in 0..3 {
                    job.log(Level::Info, format!("line {line}")).await;
                }
                Err(Failure::new(ErrorKind::Invalid, "told", "failed after its log"))
            }
            "flood" => {
                for line in 0..600 {
                    job.log(Level::Debug, format!("{line} {}", "x".repeat(60_000))).await;
                }
                Ok(Done::default())
            }
            "again" => Err(Failure::new(ErrorKind::Unavailable, "away", "the database is away").again()),
            "again when cancelled" | "cleanup" | "slow cleanup" if job.is_cleanup() => {
                // Long enough for a report and for a heartbeat that sees the earlier cancel.
                let slow = job.run.input == "slow cleanup";
                let stopped =
                    slow && tokio::time::timeout(Duration::from_secs(1), job.cancelled()).await.is_ok();
                let asked = job.run.cancel_requested;
                let done = Done { output: Some(format!("{asked}")), ..Done::default() };
                if stopped { Err(Failure::cancelled()) } else { Ok(done) }
            }
            "again when cancelled" => {
                job.cancelled().await;
                Err(Failure::new(ErrorKind::Unavailable, "away", "the database is away").again())
            }
            "cleanup" | "slow cleanup" => {
                job.cancelled().await;
                Err(Failure::cancelled())
            }
            "why" => {
                job.cancelled().await;
                Ok(Done { output: Some(format!("{:?}", job.stop_reason().unwrap())), ..Done::default() })
            }
            "who" => {
                let authority = job.ctx().authority();
                let may = authority.allows_here(Permission::new(Noun::DATASOURCE, Action::USE));
                Ok(Done { output: Some(format!("{} {may}", job.ctx().actor().name())), ..Done::default() })
            }
            "panic" => panic!("told to panic"),
            "nul" => Ok(Done { output: Some("\0".to_owned()), ..Done::default() }),
            "small" => Ok(Done { result: Some(b"small".to_vec()), ..Done::default() }),
            blob if blob.starts_with("blob:") => {
                Ok(Done { result_blob: Some(blob["blob:".len()..].to_owned()), ..Done::default() })
            }
            "internal" => Err(Error::internal("the secret cause").into()),
            _ => Ok(Done::default()),
        }
    }
}

/// Drivers that answer immediately, only for the estate's own tests.
#[derive(Default)]
pub struct FakeDrivers(Arc<FakeDriver>);

#[derive(Default)]
pub struct FakeDriver {
    pub tested: Mutex<Vec<ConnectSpec>>,
}

impl Drivers for FakeDrivers {
    fn driver(&self, database_type: DatabaseType) -> Option<Arc<dyn Driver>> {
        (database_type.grade() != Grade::NoDriver).then(|| Arc::clone(&self.0) as Arc<dyn Driver>)
    }
}

impl Driver for FakeDriver {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        Box::pin(async move {
            self.tested.lock().unwrap().push(spec.clone());
            Ok(ServerInfo { version: "fake 1".to_owned(), zone: SessionZone::UtcForLackOfZoneTables })
        })
    }

    fn introspect<'a>(
        &'a self,
        _: &'a ConnectSpec,
        _: bool,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<Catalog, SourceError>> {
        Box::pin(async { Ok(catalog()) })
    }

    fn query<'a>(
        &'a self,
        _: &'a ConnectSpec,
        _: Query,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async { Err(SourceError::new(SourceErrorKind::Unsupported, "a fake holds no rows")) })
    }

    fn forget(&self, _: DatasourceId) {}
}

pub fn catalog() -> Catalog {
    let column = ColumnInfo { name: "id".into(), data_type: "bigint".into(), nullable: false, position: 1 };
    let table = TableInfo {
        name: "t".into(),
        kind: TableKind::Table,
        row_count: Some(3),
        row_count_exact: true,
        columns: vec![column],
    };
    Catalog {
        server_version: "fake 1".into(),
        default_schema: Some("main".into()),
        schemas: vec![SchemaInfo { name: "main".into(), tables: vec![table] }],
    }
}

pub fn origin() -> Origin {
    Origin {
        request_id: Uuid::from_u128(0x1234),
        address: Some("192.0.2.7".parse().unwrap()),
        kind: OpKind::Cluvio,
    }
}

pub async fn rows(estate: &Estate, sql: &'static str, args: Vec<Arg>) -> Vec<Row> {
    estate.store().read().await.unwrap().all(sql, args).await.unwrap()
}

/// The single number that a query returns.
pub async fn number(estate: &Estate, sql: &'static str) -> i64 {
    rows(estate, sql, args![]).await[0].int(0).unwrap()
}

pub async fn exec(estate: &Estate, sql: &'static str, args: Vec<Arg>) -> u64 {
    estate.store().write(move |tx| Box::pin(async move { tx.exec(sql, args).await })).await.unwrap()
}

/// A key with these permissions in the unit (the root when `None`), and its secret.
pub async fn key_with(estate: &Estate, ou: Option<Uuid>, permissions: &[Permission]) -> (Key, Secret) {
    use landreeve_estate::ops::keys::{NewKey, NewKeyGrant, key_create};
    let grants = permissions
        .iter()
        .map(|permission| NewKeyGrant { permission: *permission, resources: Vec::new() })
        .collect();
    let new = NewKey { api: Api::Analytics, name: "key".into(), ou, user: None, grants, labels: Vec::new() };
    key_create(estate, &sign_in::operator(estate), new).await.unwrap()
}

/// A caller with these permissions in the unit.
pub async fn caller(estate: &Estate, ou: Option<Uuid>, permissions: &[Permission]) -> OpCtx {
    let (_, secret) = key_with(estate, ou, permissions).await;
    sign_in::by_key(estate, Api::Analytics, secret.reveal(), None, origin()).await.unwrap()
}

/// Every datasource that the caller can see, with the credentials that the caller is allowed to see.
pub async fn all_datasources(estate: &Estate, ctx: &OpCtx) -> Result<Vec<Seen>> {
    let asked = DatasourceFilter::default();
    page::collect(|after| datasource_list(estate, ctx, &asked, true, after)).await
}

pub async fn all_agents(estate: &Estate, ctx: &OpCtx) -> Result<Vec<Agent>> {
    let asked = AgentFilter::default();
    page::collect(|after| agent_list(estate, ctx, &asked, after)).await
}

/// On SQLite a test has one node at a time; on PostgreSQL it has several.
fn role(estate: &Estate) -> Role {
    use landreeve_estate::store::Dialect;
    let home = (estate.store().dialect() == Dialect::Sqlite).then(|| "here".to_owned());
    Role::Node { home }
}
