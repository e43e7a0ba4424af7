//! The handle that use cases use. It only holds the parts together; each part has its own module.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use jiff::Timestamp;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::load::Loader;
use landreeve_core::snapshot::Snapshots;
use landreeve_core::source::{Driver, Drivers};
use landreeve_core::{Action, Clock, Error, IdKind, Ids, Moment, Noun, OpCtx, Random, Result, RunKind};
use uuid::Uuid;

use crate::audit::{self, Act};
use crate::blobs::Blobs;
use crate::bootstrap::{self, Facts};
use crate::budget::Budget;
use crate::events::Subscriber;
use crate::identity::authentication::{self, Authentication};
use crate::inventory::permits::ConnectionLimits;
use crate::inventory::{Datasource, datasources};
use crate::memory::PerEpoch;
use crate::ops::general;
use crate::outbound::Outbound;
use crate::plane::{Plane, PlaneParts, Registry};
use crate::runs::{AuthorityOf, Engine, Executor, Executors, Role, RunOptions};
use crate::secrets::{SealKey, Sealed};
use crate::store::{Location, Migrations, Sharing, Store, StoreIds, StoreOptions, Tx};
use crate::{args, builtin, settings};

/// How many datasources are cached.
const DATASOURCES: usize = 4_096;

#[derive(Clone)]
pub struct Estate {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    ids: Arc<dyn Ids>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    seal: RwLock<SealKey>,
    facts: Facts,
    authentication: Authentication,
    parts: Parts,
}

/// Needed by only some use cases.
struct Parts {
    runs: Engine,
    blobs: Blobs,
    outbound: Outbound,
    drivers: Arc<dyn Drivers>,
    connections: ConnectionLimits,
    /// Datasources of the current epoch.
    datasources: PerEpoch<DatasourceId, Arc<Datasource>>,
    settings: PerEpoch<(), settings::Settings>,
    general: PerEpoch<(), Arc<general::Known>>,
    registry: Arc<Registry>,
    planes: OnceLock<Vec<PlaneParts>>,
    subscribers: Mutex<BTreeSet<&'static str>>,
}

pub struct EstateOptions {
    pub location: Location,
    /// The planes of this program; the estate adds its own.
    pub planes: Vec<Plane>,
    pub seal: SealKey,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub blobs: Blobs,
    pub outbound: Outbound,
    pub drivers: Arc<dyn Drivers>,
    pub store: StoreOptions,
    pub runs: RunOptions,
    /// Maximum number of concurrent password verifications.
    pub cores: usize,
}

impl Estate {
    /// Opens the store, migrates it to this program's schema, and initializes it if it is new.
    pub async fn open(options: EstateOptions) -> Result<Estate> {
        let mut planes = options.planes;
        planes.insert(0, builtin::plane(options.runs.short, options.runs.long));
        let registry = Arc::new(Registry::new(&planes)?);
        let store = Store::open_with(&options.location, &Migrations::of(&planes), &options.store).await?;
        let facts =
            bootstrap::facts(&store, &options.seal, &*options.clock, Arc::clone(&options.random)).await?;
        bootstrap::reconcile_roles(&store, registry.roles()).await?;
        let ids: Arc<dyn Ids> = Arc::new(StoreIds::new(store.clone()));
        let runs = Engine::new(
            store.clone(),
            Arc::clone(&ids),
            Arc::clone(&options.clock),
            Arc::clone(&registry),
            options.runs,
        );
        let authentication = Authentication::new(options.cores, &*options.random);
        let parts = Parts {
            runs,
            blobs: options.blobs,
            outbound: options.outbound,
            drivers: options.drivers,
            connections: ConnectionLimits::default(),
            datasources: PerEpoch::new(DATASOURCES),
            settings: PerEpoch::new(1),
            general: PerEpoch::new(1),
            registry,
            planes: OnceLock::new(),
            subscribers: Mutex::new(BTreeSet::new()),
        };
        let inner = Inner {
            store,
            ids,
            clock: options.clock,
            random: options.random,
            seal: RwLock::new(options.seal),
            facts,
            authentication,
            parts,
        };
        let estate = Estate { inner: Arc::new(inner) };
        let opened = planes
            .into_iter()
            .map(|plane| (plane.open)(&estate).map(|parts| PlaneParts { name: plane.name, ..parts }));
        let opened = opened.collect::<Result<Vec<_>>>()?;
        // The first and only time: the cell was created above.
        let _ = estate.inner.parts.planes.set(opened);
        Ok(estate)
    }

    /// What the planes of this program registered.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.parts.registry
    }

    /// The parts of the planes in their listed order, the estate's own first.
    pub fn planes(&self) -> &[PlaneParts] {
        self.inner.parts.planes.get().map_or(&[], Vec::as_slice)
    }

    /// All subscribers to events.
    pub fn subscribers(&self) -> Vec<Arc<dyn Subscriber>> {
        self.planes().iter().flat_map(|plane| plane.subscribers.iter().cloned()).collect()
    }

    /// The subscribers that this program delivers events to: events that they all consumed can be deleted.
    pub(crate) fn note_subscribers(&self, names: &[&'static str]) {
        let mut known = self.inner.parts.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(names);
    }

    /// The same, as `,inventory,delivery,`.
    pub(crate) fn known_subscribers(&self) -> String {
        let known = self.inner.parts.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().fold(String::from(","), |text, name| text + name + ",")
    }

    /// Starts to execute runs in this process.
    pub async fn start_runs(&self, role: Role) -> Result<()> {
        let executors = self.planes().iter().flat_map(|plane| plane.executors.iter().cloned()).collect();
        self.start_runs_with(executors, role).await
    }

    /// The same with the given executors, for tests.
    pub async fn start_runs_with(
        &self,
        by_kind: HashMap<RunKind, Arc<dyn Executor>>,
        role: Role,
    ) -> Result<()> {
        let estate = self.clone();
        let authority: AuthorityOf = Arc::new(move |run| {
            let estate = estate.clone();
            Box::pin(async move { authentication::by_run(&estate, run).await })
        });
        self.runs().start(Executors { by_kind, authority }, role).await
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    pub fn random(&self) -> &Arc<dyn Random> {
        &self.inner.random
    }

    pub fn uuid(&self) -> Uuid {
        landreeve_core::random::uuid(&*self.inner.random)
    }

    pub fn runs(&self) -> &Engine {
        &self.inner.parts.runs
    }

    /// The memory that statements and downloads share.
    pub fn memory(&self) -> &Budget {
        &self.runs().options().memory
    }

    pub fn blobs(&self) -> &Blobs {
        &self.inner.parts.blobs
    }

    pub fn outbound(&self) -> &Outbound {
        &self.inner.parts.outbound
    }

    /// How many connections datasources have, for everything that connects to one.
    pub fn connections(&self) -> &ConnectionLimits {
        &self.inner.parts.connections
    }

    /// The keyed bijection that faces use to show integers.
    pub fn hash_ids(&self) -> &HashIds {
        &self.inner.facts.hash_ids
    }

    pub fn store_id(&self) -> Uuid {
        self.inner.facts.store_id
    }

    pub(crate) fn authentication(&self) -> &Authentication {
        &self.inner.authentication
    }

    pub fn ids(&self) -> &Arc<dyn Ids> {
        &self.inner.ids
    }

    pub async fn next<I: From<i64>>(&self, kind: IdKind) -> Result<I> {
        self.inner.ids.next(kind).await.map(I::from)
    }

    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Sealed> {
        self.seal_key().seal(&*self.inner.random, context, plain)
    }

    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        self.seal_key().open(context, sealed)
    }

    /// Which key `seal` uses now; `ops::secrets::still_sealed_with` checks it in the transaction that stores what was
    /// sealed.
    pub fn sealed_with(&self) -> String {
        self.seal_key().fingerprint()
    }

    pub(crate) fn seal_key(&self) -> SealKey {
        self.inner.seal.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_seal_key(&self, key: SealKey) {
        *self.inner.seal.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// The current version of identity, grants and datasources. Values cached under another version are not used.
    pub async fn epoch(&self) -> Result<i64> {
        self.store().epoch().await
    }

    /// The same, with what this process had been notified of before the read.
    pub(crate) async fn moment(&self) -> Result<Moment> {
        let heard = self.store().notices().epoch();
        Ok(Moment { epoch: self.epoch().await?, heard })
    }

    /// The version for a request: as of its start, unless this process knows of a later change.
    pub async fn epoch_for(&self, ctx: &OpCtx) -> Result<i64> {
        self.epoch_at(ctx.moment()).await
    }

    async fn epoch_at(&self, moment: Option<Moment>) -> Result<i64> {
        match moment {
            Some(moment) if moment.heard == self.store().notices().epoch() => Ok(moment.epoch),
            _ => self.epoch().await,
        }
    }

    /// A datasource, from this epoch's cache or from the store. The use case checks whether the caller may see it.
    pub(crate) async fn datasource(
        &self,
        id: DatasourceId,
        moment: Option<Moment>,
    ) -> Result<Option<Arc<Datasource>>> {
        let epoch = self.epoch_at(moment).await?;
        let memory = &self.inner.parts.datasources;
        if let Some(known) = memory.get(epoch, &id) {
            return Ok(Some(known));
        }
        let found =
            datasources::get(&mut self.store().read().await?, &self.seal_key(), id).await?.map(Arc::new);
        if let Some(found) = &found {
            memory.put(epoch, id, Arc::clone(found));
        }
        Ok(found)
    }

    pub fn driver(&self, database_type: DatabaseType) -> Result<Arc<dyn Driver>> {
        self.inner.parts.drivers.driver(database_type).ok_or_else(|| {
            Error::conflict("no_driver", format!("there is no driver for {} yet", database_type.as_str()))
        })
    }

    pub fn snapshots(&self, database_type: DatabaseType) -> Result<Arc<dyn Snapshots>> {
        self.inner.parts.drivers.snapshots(database_type).ok_or_else(|| {
            let message = format!("databases of type {} cannot be backed up yet", database_type.as_str());
            Error::conflict("no_backup", message)
        })
    }

    pub fn loader(&self, database_type: DatabaseType) -> Result<Arc<dyn Loader>> {
        self.inner.parts.drivers.loader(database_type).ok_or_else(|| {
            let message = format!("databases of type {} cannot be restored yet", database_type.as_str());
            Error::conflict("no_restore", message)
        })
    }

    /// Closes a datasource's idle connections, whatever its current or former type.
    pub fn forget_connections(&self, datasource: DatasourceId) {
        for database_type in self.registry().database_types() {
            if let Some(driver) = self.inner.parts.drivers.driver(database_type) {
                driver.forget(datasource);
            }
        }
    }

    /// Whether the store answers.
    pub async fn check_store(&self) -> Result<()> {
        self.store().read().await?.one("SELECT count(*) FROM epochs", args![]).await.map(drop)
    }

    /// The settings, from this epoch's cache or from the store: a change of a setting is a new epoch.
    pub async fn settings(&self) -> Result<settings::Settings> {
        let (epoch, memory) = (self.epoch().await?, &self.inner.parts.settings);
        if let Some(known) = memory.get(epoch, &()) {
            return Ok(known);
        }
        let found = settings::read(&mut self.store().read().await?).await?;
        memory.put(epoch, (), found.clone());
        Ok(found)
    }

    /// The settings of the protection API, like the others.
    pub(crate) async fn general(&self) -> Result<Arc<general::Known>> {
        self.general_at(self.epoch().await?).await
    }

    /// The same, for a request that has already checked the epoch.
    pub(crate) async fn general_for(&self, ctx: &OpCtx) -> Result<Arc<general::Known>> {
        self.general_at(self.epoch_for(ctx).await?).await
    }

    async fn general_at(&self, epoch: i64) -> Result<Arc<general::Known>> {
        let memory = &self.inner.parts.general;
        if let Some(known) = memory.get(epoch, &()) {
            return Ok(known);
        }
        let found = general::load(&mut self.store().read().await?).await?;
        memory.put(epoch, (), Arc::clone(&found));
        Ok(found)
    }

    /// A write with its audit event, in one transaction.
    pub async fn change<T, F>(&self, ctx: &OpCtx, act: OwnedAct, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let closure = std::any::type_name::<F>();
        self.change_as(closure, Sharing::All, ctx, |tx| {
            Box::pin(async move { Ok((work(tx).await?, Some(act))) })
        })
        .await
    }

    /// The same for a write that only knows at its end what it did; `None` means that nothing changed and nothing is
    /// audited.
    pub async fn change_told<T, F>(&self, ctx: &OpCtx, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<(T, Option<OwnedAct>)>>
            + Clone
            + Send
            + 'static,
    {
        self.change_as(std::any::type_name::<F>(), Sharing::All, ctx, work).await
    }

    /// The same for a write that takes a long time: see `Store::write_alone`.
    pub async fn change_told_alone<T, F>(&self, ctx: &OpCtx, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<(T, Option<OwnedAct>)>>
            + Clone
            + Send
            + 'static,
    {
        self.change_as(std::any::type_name::<F>(), Sharing::Alone, ctx, work).await
    }

    async fn change_as<T, F>(
        &self,
        closure: &'static str,
        sharing: Sharing,
        ctx: &OpCtx,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<(T, Option<OwnedAct>)>>
            + Clone
            + Send
            + 'static,
    {
        let id = audit::next_id(&**self.ids()).await?;
        let (ctx, now) = (ctx.clone(), self.now());
        self.store()
            .write_as(closure, sharing, move |tx| {
                Box::pin(async move {
                    let (value, act) = work(tx).await?;
                    if let Some(act) = act {
                        audit::record(tx, id, now, &ctx, act.as_act()).await?;
                    }
                    Ok(value)
                })
            })
            .await
    }

    /// The only way to check a permission on an existing resource. A denial becomes an audit event.
    pub async fn require(&self, ctx: &OpCtx, noun: Noun, action: Action, path: &str, id: i64) -> Result<()> {
        match ctx.require(noun, action, path, id) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(ctx, noun, Some(id), error).await),
        }
    }

    /// The same, for what does not exist yet or belongs to the caller's unit.
    pub async fn require_here(&self, ctx: &OpCtx, noun: Noun, action: Action) -> Result<()> {
        match ctx.require_here(noun, action) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(ctx, noun, None, error).await),
        }
    }

    /// The same, for what belongs to the whole estate.
    pub async fn require_everywhere(&self, ctx: &OpCtx, noun: Noun, action: Action) -> Result<()> {
        match ctx.require_everywhere(noun, action) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(ctx, noun, None, error).await),
        }
    }

    /// The same for lists, which then show what the caller can see.
    pub async fn require_some(&self, ctx: &OpCtx, noun: Noun, action: Action) -> Result<()> {
        match ctx.require_some(noun, action) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(ctx, noun, None, error).await),
        }
    }

    pub(crate) async fn refused(&self, ctx: &OpCtx, noun: Noun, noun_id: Option<i64>, error: Error) -> Error {
        let act = OwnedAct { action: "refused", noun, noun_id, detail: error.message.clone() };
        let Some(act) = self.authentication().refusals().note(ctx, act, self.now()) else { return error };
        let written = self.change(ctx, act, |_| Box::pin(async { Ok(()) })).await;
        if let Err(cause) = written {
            // The request is denied whether or not that could be recorded.
            tracing::warn!(%cause, "could not write a denied request to the audit trail");
        }
        error
    }
}

/// An owned `audit::Act`, to be moved into a write.
#[derive(Debug, Clone)]
pub struct OwnedAct {
    pub action: &'static str,
    pub noun: Noun,
    pub noun_id: Option<i64>,
    pub detail: String,
}

impl OwnedAct {
    pub fn new(action: &'static str, noun: Noun, noun_id: i64, detail: impl Into<String>) -> OwnedAct {
        OwnedAct { action, noun, noun_id: Some(noun_id), detail: detail.into() }
    }

    pub(crate) fn as_act(&self) -> Act<'_> {
        Act { action: self.action, noun: self.noun, noun_id: self.noun_id, detail: &self.detail }
    }
}
