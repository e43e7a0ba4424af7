//! A separate estate for each test, and what tests need in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::ids::{OuId, ScheduleId};
use landreeve_core::source::{CancellationToken, Drivers};
use landreeve_core::{OpCtx, OpKind, Permission, RunKind, RunState, Secret};
use landreeve_estate::ops::keys::{NewKey, NewKeyGrant, key_create};
use landreeve_estate::ops::users::{NewUser, first_user, user_create};
use landreeve_estate::ops::{Api, GrantTarget, Key, NewGrant, Origin, Ou, Run, User, ous, runs, sign_in};
use landreeve_estate::outbound::Outbound;
use landreeve_estate::random::SeededRandom;
use landreeve_estate::runs::{Executor, NewRun, PROBE, Probe, RunOptions};
use landreeve_estate::schedules::{Due, Schedule, Timing};
use landreeve_estate::store::{Arg, Notice};
use landreeve_estate::{Estate, EstateOptions, Plane, args, events, schedules};

use crate::delivery::delivery_plane_in;
use crate::site::{MockClock, Site};

/// The password of every user created here.
pub const PASSWORD: &str = "correct horse";

pub struct Kit {
    pub estate: Estate,
    pub clock: Arc<MockClock>,
    site: Site,
}

impl Kit {
    /// On SQLite. Nothing is executed: runs stay in the state they are given.
    pub async fn new() -> Kit {
        Kit::at(Site::sqlite()).await
    }

    /// On PostgreSQL, in a new database; `remove` drops it.
    pub async fn postgres() -> Kit {
        Kit::at(Site::postgres().await).await
    }

    pub async fn remove(&self) {
        self.site.remove().await;
    }

    async fn at(site: Site) -> Kit {
        // So that times with and without fractional seconds differ.
        site.clock.advance(Duration::from_millis(500));
        let estate = Kit::open(&site, Vec::new(), None).await;
        first_user(&estate, "admin", Secret::new(PASSWORD)).await.unwrap().expect("an empty store");
        Kit { estate, clock: Arc::clone(&site.clock), site }
    }

    /// The same estate, opened by a program that also has these planes.
    pub async fn reopen(self, planes: Vec<Plane>) -> Kit {
        self.estate.store().close().await;
        let estate = Kit::open(&self.site, planes, None).await;
        Kit { estate, ..self }
    }

    /// The same, with drivers for databases.
    pub async fn reopen_with(self, planes: Vec<Plane>, drivers: Arc<dyn Drivers>) -> Kit {
        self.estate.store().close().await;
        let estate = Kit::open(&self.site, planes, Some(drivers)).await;
        Kit { estate, ..self }
    }

    /// The same store, opened by another process with these planes.
    pub async fn beside(&self, planes: Vec<Plane>) -> Estate {
        Kit::open(&self.site, planes, None).await
    }

    async fn open(site: &Site, more: Vec<Plane>, drivers: Option<Arc<dyn Drivers>>) -> Estate {
        let mut planes = vec![delivery_plane_in(&site.dir)];
        planes.extend(more);
        let own = site.with_planes(planes);
        let options = EstateOptions {
            drivers: drivers.unwrap_or_else(|| Arc::clone(&own.drivers)),
            random: Arc::new(SeededRandom::new(7)),
            outbound: Outbound::new(Vec::new(), vec![site.dir.path().join("files")], site.data(), Vec::new()),
            runs: RunOptions { short: 2, long: 2, ..RunOptions::default() },
            ..own
        };
        Estate::open(options).await.unwrap()
    }

    pub(crate) fn dir(&self) -> &tempfile::TempDir {
        &self.site.dir
    }

    /// Starts executing the runs of every plane of the estate.
    pub async fn start_planes(&self) {
        let store = self.estate.store().clone();
        tokio::spawn(async move { store.listen(Default::default()).await });
        self.estate.start_runs(role(&self.estate)).await.unwrap();
    }

    /// Makes the scheduler check the clock again.
    pub fn wake_schedules(&self) {
        self.estate.store().notices().tell(Notice::Schedule);
    }

    /// A path in the kit's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.site.dir.path().join(name)
    }

    pub async fn exec(&self, sql: &'static str, args: Vec<Arg>) -> u64 {
        self.estate.store().write(move |tx| Box::pin(async move { tx.exec(sql, args).await })).await.unwrap()
    }

    /// The number that a query returns.
    pub async fn number(&self, sql: &'static str) -> i64 {
        self.estate.store().read().await.unwrap().one(sql, args![]).await.unwrap().int(0).unwrap()
    }

    /// The number that a query returns, once it returns one; repeats the query whenever a run changes.
    pub async fn until_run(&self, sql: &'static str) -> i64 {
        let mut changes = self.estate.store().notices().runs();
        let found = async {
            loop {
                let row = self.estate.store().read().await.unwrap().opt(sql, args![]).await.unwrap();
                if let Some(row) = row {
                    return row.int(0).unwrap();
                }
                let _ = changes.recv().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect("the run did not come")
    }

    /// Starts executing probes.
    pub async fn start(&self) {
        self.start_with([]).await;
    }

    /// Starts executing probes and runs of these kinds.
    pub async fn start_with(&self, others: impl IntoIterator<Item = (RunKind, Arc<dyn Executor>)>) {
        let probe = (PROBE.kind, Arc::new(Probe) as Arc<dyn Executor>);
        let executors: HashMap<_, _> = others.into_iter().chain([probe]).collect();
        let store = self.estate.store().clone();
        tokio::spawn(async move { store.listen(Default::default()).await });
        self.estate.start_runs_with(executors, role(&self.estate)).await.unwrap();
    }

    /// The rows of a SELECT on the store; every column must be text, and NULL is returned as such.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        use futures_util::TryStreamExt as _;
        let width = sql[..sql.to_lowercase().find(" from ").unwrap()].matches(',').count() + 1;
        let mut conn = self.estate.store().read().await.unwrap();
        let rows: Vec<_> = conn.rows(sql.to_owned(), Vec::new()).unwrap().try_collect().await.unwrap();
        let cell = |row: &landreeve_estate::store::Row, at| {
            row.text_opt(at).ok().flatten().unwrap_or_else(|| "NULL".to_owned())
        };
        rows.iter().map(|row| (0..width).map(|at| cell(row, at)).collect()).collect()
    }

    pub fn operator(&self) -> OpCtx {
        sign_in::operator(&self.estate)
    }

    /// A user with these permissions in the root unit.
    pub async fn user(&self, name: &str, permissions: &[Permission]) -> User {
        self.user_in(OuId::ROOT, name, permissions).await
    }

    pub async fn user_in(&self, ou: OuId, name: &str, permissions: &[Permission]) -> User {
        let grant = |held: &Permission| NewGrant::Permission(*held, GrantTarget::Subtree(ou));
        let new = NewUser {
            name: name.to_owned(),
            email: format!("{name}@example.com"),
            full_name: format!("{name} person"),
            password: Some(Secret::new(PASSWORD)),
            grants: permissions.iter().map(grant).collect(),
        };
        user_create(&self.estate, &self.operator(), new).await.unwrap()
    }

    /// Such a user, signed in.
    pub async fn person(&self, name: &str, permissions: &[Permission]) -> OpCtx {
        self.user(name, permissions).await;
        let origin = Origin { request_id: self.estate.uuid(), address: None, kind: OpKind::CommandLine };
        sign_in::by_password(&self.estate, name, Secret::new(PASSWORD), None, origin).await.unwrap()
    }

    /// A key with these permissions, in the root unit.
    pub async fn key(&self, api: Api, permissions: &[Permission]) -> (Key, String) {
        self.key_in(api, permissions, None).await
    }

    pub async fn key_in(&self, api: Api, permissions: &[Permission], ou: Option<&Ou>) -> (Key, String) {
        let grant = |held: &Permission| NewKeyGrant { permission: *held, resources: Vec::new() };
        let new = NewKey {
            api,
            name: "ci".to_owned(),
            ou: ou.map(|ou| ou.uuid),
            user: None,
            grants: permissions.iter().map(grant).collect(),
            labels: Vec::new(),
        };
        let (key, secret) = key_create(&self.estate, &self.operator(), new).await.unwrap();
        (key, secret.reveal().to_owned())
    }

    /// A key that acts as the user.
    pub async fn user_key(&self, api: Api, user: &User) -> (Key, String) {
        let new = NewKey {
            api,
            name: format!("token of {}", user.name),
            ou: None,
            user: Some(user.id),
            grants: Vec::new(),
            labels: Vec::new(),
        };
        let (key, secret) = key_create(&self.estate, &self.operator(), new).await.unwrap();
        (key, secret.reveal().to_owned())
    }

    /// A unit below the root.
    pub async fn ou(&self, name: &str) -> Ou {
        ous::ou_create(&self.estate, &self.operator(), None, name.to_owned(), String::new()).await.unwrap()
    }

    /// A probe that the operator submitted, in the root unit.
    pub async fn probe(&self) -> Run {
        runs::probe_submit(&self.estate, &self.operator(), Duration::ZERO, false).await.unwrap()
    }

    /// A probe that takes a minute.
    pub async fn long_probe(&self) -> Run {
        runs::probe_submit(&self.estate, &self.operator(), Duration::from_secs(60), false).await.unwrap()
    }

    /// A run of a registered kind.
    pub async fn run_of(&self, kind: RunKind, ou: OuId) -> Run {
        let spec = self.estate.registry().kind(kind).unwrap();
        runs::submit(&self.estate, &self.operator(), NewRun::new(spec, ou, "{}")).await.unwrap()
    }

    /// A probe in a given state, as if a node had executed it: it started 1 s after its submission and ended 191.362 s
    /// later.
    pub async fn probe_in(&self, state: RunState) -> Run {
        let run = self.probe().await;
        self.put(&run, state).await;
        self.run(&run).await
    }

    pub async fn put(&self, run: &Run, state: RunState) {
        let (id, submitted) = (run.id, run.submitted_at.as_microsecond());
        let started = (state != RunState::Queued).then_some(submitted + 1_000_000);
        let finished = state.is_final().then_some(submitted + 192_362_000);
        let failed =
            matches!(state, RunState::Failed | RunState::TimedOut | RunState::Lost | RunState::Cancelled);
        let message = failed.then_some("the probe failed as requested");
        let progress = if state == RunState::Succeeded { 100 } else { 40_i64 };
        let values = args![
            id,
            state.as_str(),
            started,
            finished,
            message.map(|_| "invalid"),
            message.map(|_| "told_to_fail"),
            message,
            progress,
        ];
        let written = self.estate.store().write(move |tx| {
            Box::pin(async move {
                tx.exec(
                    "UPDATE runs SET state = $2, started_at = $3, finished_at = $4, error_kind = $5, \
                     error_code = $6, error_message = $7, progress = $8, progress_note = 'as it was told', \
                     attempt = 1 WHERE id = $1",
                    values,
                )
                .await
                .map(drop)
            })
        });
        written.await.unwrap();
    }

    /// Follows schedules and tells how runs end, until the test ends.
    pub async fn follow_schedules(&self) {
        let estate = &self.estate;
        events::register(estate, &estate.subscribers()).await.unwrap();
        tokio::spawn(schedules::run(estate.clone(), CancellationToken::new()));
        tokio::spawn(events::dispatch(estate.clone(), estate.subscribers(), CancellationToken::new()));
    }

    pub async fn run(&self, run: &Run) -> Run {
        runs::run_get(&self.estate, &self.operator(), runs::RunRef::Id(run.id), &[]).await.unwrap()
    }

    /// Waits until the run has ended and returns it.
    pub async fn ended(&self, run: &Run) -> Run {
        let which = runs::RunRef::Id(run.id);
        let bound = Duration::from_secs(30);
        let run = runs::run_wait(&self.estate, &self.operator(), which, &[], bound).await.unwrap();
        assert!(run.state.is_final(), "still {:?}", run.state);
        run
    }
}

/// On SQLite a test has one node at a time; on PostgreSQL, several.
/// Handles a schedule that a plane has in every estate, as if it were due now.
pub async fn follow(estate: &Estate, plane: &str, name: &str) {
    let parts = estate.planes().iter().find(|parts| parts.name == plane).expect("the plane");
    let fixed = parts.schedules.iter().find(|fixed| fixed.name == name).expect("the schedule");
    let follower = Arc::clone(parts.follower.as_ref().expect("a follower"));
    let timing = Timing::Cron { expression: fixed.cron.to_owned(), zone: "UTC".to_owned() };
    let schedule = Schedule {
        body: fixed.body.clone(),
        ..Schedule::of_system(ScheduleId(1), parts.name, fixed.name, timing)
    };
    let now = estate.now();
    let due = Due { schedule, at: now, now };
    estate
        .store()
        .write(move |tx| Box::pin(async move { follower.due(tx, &due).await.map(drop) }))
        .await
        .unwrap();
}

fn role(estate: &Estate) -> landreeve_estate::runs::Role {
    use landreeve_estate::store::Dialect;
    let home = (estate.store().dialect() == Dialect::Sqlite).then(|| "here".to_owned());
    landreeve_estate::runs::Role::Node { home }
}
