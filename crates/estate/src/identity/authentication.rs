//! How a credential becomes an `OpCtx`. The caches here are dropped with the epoch, so that no response relies on
//! outdated authority.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use landreeve_core::error::codes;
use landreeve_core::ids::{GroupId, KeyId, OuId, UserId};
use landreeve_core::tickets::REFUSED;
use landreeve_core::{Actor, Authority, Error, Grant, Moment, Noun, OpCtx, OpKind, Random, Result, Secret};
use sha2::Sha256;
use uuid::Uuid;

use super::grants::{self, Subject};
use super::keys::{self, Api};
use super::password::{self, Gate};
use super::{groups, ous, users};
use crate::Estate;
use crate::audit::Strangers;
use crate::estate::OwnedAct;
use crate::outbound::Network;
use crate::refusals::Refusals;
use crate::runs::Run;
use crate::runs::queue::Submitter;
use crate::secrets::{secret_digest, secret_hash};
use crate::store::Conn;

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub request_id: Uuid,
    pub address: Option<IpAddr>,
    pub kind: OpKind,
}

/// A caller without the request: the part worth caching.
struct Caller {
    actor: Arc<Actor>,
    authority: Arc<Authority>,
    groups: Arc<[GroupId]>,
}

impl Caller {
    fn ctx(&self, origin: Origin, moment: Moment) -> OpCtx {
        let ctx = OpCtx::new(
            Arc::clone(&self.actor),
            Arc::clone(&self.authority),
            Arc::clone(&self.groups),
            origin.request_id,
            origin.kind,
            origin.address,
        );
        ctx.at(moment)
    }
}

/// A bounded cache for one epoch.
struct Remembered<K, V> {
    epoch: i64,
    entries: HashMap<K, V>,
}

const REMEMBERED: usize = 4_096;

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    fn new() -> Remembered<K, V> {
        Remembered { epoch: 0, entries: HashMap::new() }
    }

    /// The cached value may be newer than the requested epoch.
    fn get(&mut self, epoch: i64, key: &K) -> Option<V> {
        if self.epoch < epoch {
            self.entries.clear();
            self.epoch = epoch;
        }
        self.entries.get(key).cloned()
    }

    /// Caches a value that was loaded while `epoch` was current; drops values loaded before a change.
    fn put(&mut self, epoch: i64, key: K, value: V) {
        if self.epoch == epoch {
            if self.entries.len() >= REMEMBERED {
                self.entries.clear();
            }
            self.entries.insert(key, value);
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum RememberedCaller {
    /// With the digest of its secret.
    Key(Api, [u8; 32]),
    User(UserId, Option<Uuid>),
    /// A user or key whose run executes in a unit.
    UserRun(UserId, OuId),
    KeyRun(KeyId, OuId),
}

pub struct Authentication {
    gate: Gate,
    callers: Mutex<Remembered<RememberedCaller, Arc<Caller>>>,
    /// Recently verified passwords, under a hash keyed for this process.
    passwords: Mutex<Remembered<[u8; 32], (UserId, Timestamp)>>,
    password_key: [u8; 32],
    /// Users whose ticket was recently accepted, by name.
    principals: Mutex<Remembered<String, (UserId, Timestamp)>>,
    strangers: Strangers,
    refusals: Refusals,
}

/// How long a verified password, or the user of a ticket, is cached, in microseconds.
const PASSWORD_REMEMBERED: i64 = 60_000_000;

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Authentication {
    pub fn new(cores: usize, random: &dyn Random) -> Authentication {
        let mut password_key = [0_u8; 32];
        random.fill(&mut password_key);
        Authentication {
            gate: Gate::new(cores),
            callers: Mutex::new(Remembered::new()),
            passwords: Mutex::new(Remembered::new()),
            password_key,
            principals: Mutex::new(Remembered::new()),
            strangers: Strangers::default(),
            refusals: Refusals::default(),
        }
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    pub fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn stranger(&self, origin: Origin, code: &'static str, message: &str) -> Error {
        self.strangers.count(origin.address, code);
        Error::unauthenticated(code, message)
    }

    fn password_digest(&self, name: &str, password: &Secret) -> [u8; 32] {
        // A key of any length is accepted, so this cannot fail; an empty digest would match nothing stored.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.password_key) else { return [0; 32] };
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(password.reveal().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Counts and rejects a request without a credential.
pub fn no_credential(estate: &Estate, origin: Origin) -> Error {
    estate.authentication().stranger(origin, codes::NOT_AUTHED, "a credential is required")
}

/// Counts and rejects a credential of the wrong scheme or form.
pub fn bad_credential(estate: &Estate, origin: Origin, message: &str) -> Error {
    estate.authentication().stranger(origin, codes::INVALID_AUTH, message)
}

/// Lets a request without a credential in because of the address that it comes from. It has no permissions.
pub fn by_network(estate: &Estate, trusted: &[Network], origin: Origin) -> Result<OpCtx> {
    if origin.address.is_none_or(|address| !trusted.iter().any(|network| network.trusts(address))) {
        estate.authentication().strangers().count(origin.address, "untrusted_network");
        return Err(Error::forbidden("requests from this address are not allowed"));
    }
    Ok(powerless(origin, OuId::ROOT, "/1/"))
}

/// The server's work in one unit for a request that was let in by its network.
pub fn for_network(ctx: &OpCtx, ou: &super::Ou) -> OpCtx {
    let origin = Origin { request_id: ctx.request_id(), address: ctx.address(), kind: ctx.kind() };
    powerless(origin, ou.id, &ou.path)
}

/// A caller without an identity or permissions.
pub fn powerless(origin: Origin, ou: OuId, path: &str) -> OpCtx {
    let authority = Authority::new(Vec::new(), ou, path);
    OpCtx::new(
        Arc::new(Actor::System),
        Arc::new(authority),
        Arc::new([]),
        origin.request_id,
        origin.kind,
        origin.address,
    )
}

pub async fn by_key(
    estate: &Estate,
    api: Api,
    secret: &str,
    ou: Option<Uuid>,
    origin: Origin,
) -> Result<OpCtx> {
    let authentication = estate.authentication();
    let moment = estate.moment().await?;
    let epoch = moment.epoch;
    let remembered = RememberedCaller::Key(api, secret_digest(secret));
    let known = locked(&authentication.callers).get(epoch, &remembered);
    if let (Some(caller), None) = (&known, ou) {
        return Ok(caller.ctx(origin, moment));
    }
    let mut conn = estate.store().read().await?;
    let key = keys::by_secret_hash(&mut conn, &secret_hash(secret)).await?.filter(|key| key.api == api);
    let Some(key) = key else {
        return Err(authentication.stranger(origin, codes::INVALID_AUTH, "unknown key"));
    };
    if !key.enabled {
        return Err(authentication.stranger(origin, codes::INVALID_AUTH, "the key is disabled"));
    }
    let caller = key_caller(estate, &mut conn, key, ou, origin).await?;
    if ou.is_none() {
        locked(&authentication.callers).put(epoch, remembered, Arc::clone(&caller));
    }
    Ok(caller.ctx(origin, moment))
}

/// A key's caller: with the key's own grants, or as its user.
async fn key_caller(
    estate: &Estate,
    conn: &mut Conn,
    key: keys::Key,
    ou: Option<Uuid>,
    origin: Origin,
) -> Result<Arc<Caller>> {
    let authentication = estate.authentication();
    let Some(user) = key.user else {
        let path = path_of(conn, key.ou).await?;
        let held = grants::of(conn, Subject::Key(key.id)).await?;
        let grants = held.into_iter().map(|(grant, _)| grant).collect();
        return Ok(Arc::new(Caller {
            actor: Arc::new(Actor::Key { id: key.id, name: key.name, user: None }),
            authority: Arc::new(Authority::new(grants, key.ou, path)),
            groups: Arc::new([]),
        }));
    };
    let user = users::get(conn, user).await?.filter(|user| user.enabled);
    let Some(user) = user else {
        return Err(authentication.stranger(
            origin,
            codes::ACCOUNT_INACTIVE,
            "the user of this key is disabled",
        ));
    };
    let actor = Actor::Key { id: key.id, name: key.name, user: Some(user.id) };
    let unit = match ou {
        Some(ou) => Some(ou),
        None => unit_of(conn, key.ou).await?,
    };
    let caller = user_caller(conn, &user, actor, unit).await?;
    // The key's unit limits which unit a request can name, and what its user may do with it.
    let path = path_of(conn, key.ou).await?;
    if !caller.authority.ou_path().starts_with(&path) {
        return Err(Error::forbidden("the key is not valid in this organizational unit"));
    }
    Ok(limited(&caller, &path))
}

/// A user who acts with a key of the unit at this path: nothing is granted outside of it.
fn limited(caller: &Caller, path: &str) -> Arc<Caller> {
    let Caller { actor, authority, groups } = caller;
    let authority = Arc::new(Authority::clone(authority).within(path));
    Arc::new(Caller { actor: Arc::clone(actor), authority, groups: Arc::clone(groups) })
}

/// The unit that a user's key was created for, unless it is the root, which means "wherever the user is".
async fn unit_of(conn: &mut Conn, ou: OuId) -> Result<Option<Uuid>> {
    if ou == OuId::ROOT {
        return Ok(None);
    }
    Ok(ous::get(conn, ou).await?.map(|ou| ou.uuid))
}

async fn path_of(conn: &mut Conn, ou: OuId) -> Result<String> {
    let ou = ous::get(conn, ou)
        .await?
        .ok_or_else(|| Error::internal("a key refers to a unit that does not exist"))?;
    Ok(ou.path)
}

/// Checks a name and password. `ou` is the unit that the request names.
pub async fn by_password(
    estate: &Estate,
    name: &str,
    password: Secret,
    ou: Option<Uuid>,
    origin: Origin,
) -> Result<OpCtx> {
    // The same for an unknown name, a wrong password and a locked user, so as not to reveal which names exist.
    const WRONG: &str = "The user name or password is incorrect";
    let authentication = estate.authentication();
    let moment = estate.moment().await?;
    let epoch = moment.epoch;
    let now = estate.now();
    let digest = authentication.password_digest(name, &password);
    let remembered = locked(&authentication.passwords).get(epoch, &digest);
    if let Some((user, until)) = remembered
        && now < until
    {
        return user_at(estate, user, ou, origin, moment).await;
    }
    let row = users::for_sign_in(&mut estate.store().read().await?, name).await?;
    let Some(row) = row.filter(|row| row.user.enabled) else {
        // Do the same work as for a known name, so that the time does not reveal names.
        authentication.gate.verify(password, password::DUMMY_HASH.to_owned()).await?;
        return Err(authentication.stranger(origin, codes::INVALID_AUTH, WRONG));
    };
    if row.locked_until.is_some_and(|until| until > now) {
        return Err(authentication.stranger(origin, "locked", WRONG));
    }
    let id = row.user.id;
    let right = match row.password_hash {
        Some(hash) => authentication.gate.verify(password, hash).await?,
        // Do the same work as for a user with a password.
        None => {
            authentication.gate.verify(password, password::DUMMY_HASH.to_owned()).await?;
            false
        }
    };
    // Other requests may have locked the user while this one waited at the gate.
    let row = users::for_sign_in(&mut estate.store().read().await?, name).await?;
    if row.is_none_or(|row| row.locked_until.is_some_and(|until| until > now)) {
        return Err(authentication.stranger(origin, "locked", WRONG));
    }
    if !right {
        estate
            .store()
            .write(move |tx| Box::pin(async move { users::failed(tx, id, now, &users::LOCK).await }))
            .await?;
        return Err(authentication.stranger(origin, codes::INVALID_AUTH, WRONG));
    }
    estate.store().write(move |tx| Box::pin(async move { users::signed_in(tx, id, now).await })).await?;
    let until = landreeve_core::clock::from_micros(now.as_microsecond() + PASSWORD_REMEMBERED);
    locked(&authentication.passwords).put(epoch, digest, (id, until));
    by_user(estate, id, ou, origin).await
}

/// For a user whose name a Kerberos ticket has proven. A lock after wrong passwords does not apply, because anyone who knows
/// the name can cause it. One event a minute is written for a user, so that a client that sends a ticket with every request
/// does not fill the audit trail.
pub async fn by_principal(estate: &Estate, name: &str, origin: Origin) -> Result<OpCtx> {
    let authentication = estate.authentication();
    let moment = estate.moment().await?;
    let epoch = moment.epoch;
    let now = estate.now();
    let remembered = locked(&authentication.principals).get(epoch, &name.to_owned());
    if let Some((user, until)) = remembered
        && now < until
    {
        return user_at(estate, user, None, origin, moment).await;
    }
    let row = users::for_sign_in(&mut estate.store().read().await?, name).await?;
    let Some(user) = row.map(|row| row.user).filter(|user| user.enabled) else {
        return Err(authentication.stranger(origin, codes::INVALID_AUTH, REFUSED));
    };
    let id = user.id;
    let ctx = user_at(estate, id, None, origin, moment).await?;
    let act = OwnedAct::new("signed_in", Noun::USER, id.0, "Kerberos");
    estate.change(&ctx, act, move |tx| Box::pin(async move { users::proven(tx, id, now).await })).await?;
    let until = landreeve_core::clock::from_micros(now.as_microsecond() + PASSWORD_REMEMBERED);
    locked(&authentication.principals).put(epoch, name.to_owned(), (id, until));
    Ok(ctx)
}

/// For a user who has already been authenticated by password, session or token.
pub async fn by_user(estate: &Estate, id: UserId, ou: Option<Uuid>, origin: Origin) -> Result<OpCtx> {
    user_at(estate, id, ou, origin, estate.moment().await?).await
}

async fn user_at(
    estate: &Estate,
    id: UserId,
    ou: Option<Uuid>,
    origin: Origin,
    moment: Moment,
) -> Result<OpCtx> {
    let authentication = estate.authentication();
    let epoch = moment.epoch;
    let remembered = RememberedCaller::User(id, ou);
    let known = locked(&authentication.callers).get(epoch, &remembered);
    if let Some(caller) = known {
        return Ok(caller.ctx(origin, moment));
    }
    let mut conn = estate.store().read().await?;
    let user = users::get(&mut conn, id).await?.filter(|user| user.enabled);
    let Some(user) = user else {
        return Err(authentication.stranger(origin, codes::ACCOUNT_INACTIVE, "the user is disabled"));
    };
    let actor = Actor::User { id, name: user.name.clone() };
    let caller = user_caller(&mut conn, &user, actor, ou).await?;
    locked(&authentication.callers).put(epoch, remembered, Arc::clone(&caller));
    Ok(caller.ctx(origin, moment))
}

async fn user_caller(
    conn: &mut Conn,
    user: &users::User,
    actor: Actor,
    ou: Option<Uuid>,
) -> Result<Arc<Caller>> {
    let held = Held::of(conn, user).await?;
    let unit = match ou {
        Some(uuid) => ous::by_uuid(conn, uuid).await?.filter(|unit| reaches(&held.grants, &unit.path)),
        None => ous::get(conn, held.first).await?,
    };
    let unit =
        unit.ok_or_else(|| Error::forbidden("the user is not assigned to this organizational unit"))?;
    Ok(held.caller(actor, unit))
}

/// A user's grants, direct and through groups.
struct Held {
    groups: Vec<GroupId>,
    grants: Vec<Grant>,
    /// The unit of the first grant.
    first: OuId,
}

impl Held {
    async fn of(conn: &mut Conn, user: &users::User) -> Result<Held> {
        let groups = groups::of_user(conn, user.id).await?;
        let held = grants::of_user(conn, user.id, &groups).await?;
        let first = held.iter().find_map(|(_, ou)| *ou).unwrap_or(OuId::ROOT);
        Ok(Held { groups, grants: held.into_iter().map(|(grant, _)| grant).collect(), first })
    }

    fn caller(self, actor: Actor, unit: super::Ou) -> Arc<Caller> {
        let authority = Authority::new(self.grants, unit.id, unit.path);
        Arc::new(Caller {
            actor: Arc::new(actor),
            authority: Arc::new(authority),
            groups: self.groups.into(),
        })
    }
}

fn reaches(grants: &[Grant], path: &str) -> bool {
    grants.iter().any(|grant| match &grant.scope {
        landreeve_core::Scope::Subtree(root) => path.starts_with(root.as_str()),
        landreeve_core::Scope::Resources(_) => false,
    })
}

/// The current authority of a run's submitter in the run's unit, with which the run executes.
pub async fn by_run(estate: &Estate, run: &Run) -> Result<OpCtx> {
    Ok(submitter_of(estate, run).await?.without_moment())
}

async fn submitter_of(estate: &Estate, run: &Run) -> Result<OpCtx> {
    let origin = Origin { request_id: run.uuid, address: None, kind: OpKind::Background };
    match (run.actor_kind.as_str(), run.actor_id) {
        ("user", Some(id)) => {
            by_submitter(estate, RememberedCaller::UserRun(UserId(id), run.ou), origin).await
        }
        ("key", Some(id)) => by_submitter(estate, RememberedCaller::KeyRun(KeyId(id), run.ou), origin).await,
        ("operator", None) => Ok(operator_in(run.uuid, &unit(estate, run.ou).await?)),
        ("system", None) => Ok(system_in(run.uuid, &unit(estate, run.ou).await?)),
        (kind, _) => {
            Err(Error::internal(format!("a run was submitted by an unknown kind of caller: {kind}")))
        }
    }
}

async fn unit(estate: &Estate, ou: OuId) -> Result<super::Ou> {
    unit_at(&mut estate.store().read().await?, ou).await
}

async fn by_submitter(estate: &Estate, who: RememberedCaller, origin: Origin) -> Result<OpCtx> {
    let authentication = estate.authentication();
    let moment = estate.moment().await?;
    let known = locked(&authentication.callers).get(moment.epoch, &who);
    if let Some(caller) = known {
        return Ok(caller.ctx(origin, moment));
    }
    let mut conn = estate.store().read().await?;
    let caller = match &who {
        RememberedCaller::UserRun(id, ou) => user_in(&mut conn, *id, None, *ou).await?,
        RememberedCaller::KeyRun(id, ou) => key_in(&mut conn, *id, *ou).await?,
        RememberedCaller::Key(..) | RememberedCaller::User(..) => {
            return Err(Error::internal("not the submitter of a run"));
        }
    };
    locked(&authentication.callers).put(moment.epoch, who, Arc::clone(&caller));
    Ok(caller.ctx(origin, moment))
}

/// A user in a unit, with whatever grants they have: including one on a single resource, or none in this unit.
async fn user_in(conn: &mut Conn, id: UserId, key: Option<keys::Key>, ou: OuId) -> Result<Arc<Caller>> {
    let user = users::get(conn, id).await?.filter(|user| user.enabled);
    let user = user.ok_or_else(|| Error::forbidden("the user is disabled or deleted"))?;
    let actor = match key {
        Some(key) => Actor::Key { id: key.id, name: key.name, user: Some(user.id) },
        None => Actor::User { id, name: user.name.clone() },
    };
    let held = Held::of(conn, &user).await?;
    Ok(held.caller(actor, unit_at(conn, ou).await?))
}

async fn key_in(conn: &mut Conn, id: KeyId, ou: OuId) -> Result<Arc<Caller>> {
    let key = keys::get(conn, id).await?.filter(|key| key.enabled);
    let key = key.ok_or_else(|| Error::forbidden("the key is disabled or deleted"))?;
    let unit = unit_at(conn, ou).await?;
    // The key's unit limits where it can be used.
    let path = path_of(conn, key.ou).await?;
    if !unit.path.starts_with(&path) {
        return Err(Error::forbidden("the key is not valid in this organizational unit"));
    }
    if let Some(user) = key.user {
        let caller = user_in(conn, user, Some(key), ou).await?;
        return Ok(limited(&caller, &path));
    }
    let held = grants::of(conn, Subject::Key(key.id)).await?;
    let grants = held.into_iter().map(|(grant, _)| grant).collect();
    Ok(Arc::new(Caller {
        actor: Arc::new(Actor::Key { id: key.id, name: key.name, user: None }),
        authority: Arc::new(Authority::new(grants, unit.id, unit.path)),
        groups: Arc::new([]),
    }))
}

async fn unit_at(conn: &mut Conn, ou: OuId) -> Result<super::Ou> {
    ous::get(conn, ou).await?.ok_or_else(|| Error::not_found("organizational unit"))
}

/// The machine's operator: anyone who can read the data directory.
pub fn operator(request_id: Uuid) -> OpCtx {
    fixed(Actor::Operator, request_id, OpKind::CommandLine)
}

/// The server's own work.
pub fn system(request_id: Uuid) -> OpCtx {
    fixed(Actor::System, request_id, OpKind::Background)
}

pub fn system_in(request_id: Uuid, ou: &super::Ou) -> OpCtx {
    fixed_in(Actor::System, request_id, OpKind::Background, ou)
}

/// The owner of a schedule, as the submitter of its runs. It has no permissions; those of a run are looked up when it
/// starts.
pub fn scheduled(request_id: Uuid, owner: &Submitter, ou: &super::Ou) -> OpCtx {
    let name = owner.name.clone();
    let actor = match (owner.kind, owner.id) {
        ("user", Some(id)) => Actor::User { id: UserId(id), name },
        ("key", Some(id)) => Actor::Key { id: KeyId(id), name, user: None },
        ("operator", _) => return operator_in(request_id, ou),
        _ => return system_in(request_id, ou),
    };
    let authority = Authority::new(Vec::new(), ou.id, ou.path.clone());
    OpCtx::new(Arc::new(actor), Arc::new(authority), Arc::new([]), request_id, OpKind::Background, None)
}

pub fn operator_in(request_id: Uuid, ou: &super::Ou) -> OpCtx {
    fixed_in(Actor::Operator, request_id, OpKind::CommandLine, ou)
}

fn fixed_in(actor: Actor, request_id: Uuid, kind: OpKind, ou: &super::Ou) -> OpCtx {
    let authority = Authority::operator_in(ou.id, ou.path.clone());
    OpCtx::new(Arc::new(actor), Arc::new(authority), Arc::new([]), request_id, kind, None)
}

fn fixed(actor: Actor, request_id: Uuid, kind: OpKind) -> OpCtx {
    OpCtx::new(Arc::new(actor), Arc::new(Authority::operator()), Arc::new([]), request_id, kind, None)
}
