//! A plane as one value: everything that the server, the command line, backup, key rotation and the faces' lists must
//! know about it. Planes are not listed anywhere else.
//!
//! Does not belong here: the name of a plane.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use landreeve_core::datasource::{CatalogType, DatabaseType};
use landreeve_core::ids::{self, BoxFuture, DatasourceId, OuId, RoleId, RunId};
use landreeve_core::table::Catalog;
use landreeve_core::{Action, Category, Error, IdKind, Noun, Permission, Result, RunKind, hashid};
use uuid::Uuid;

use crate::Estate;
use crate::events::Subscriber;
use crate::identity::Ou;
use crate::runs::{Executor, KindSpec, PoolName};
use crate::schedules::{FixedSchedule, Follower};
use crate::secrets::SealedColumn;
use crate::store::{MigrationSet, Tx};

/// A database type that a plane adds.
#[derive(Debug, Clone, Copy)]
pub struct CatalogSpec {
    pub database_type: CatalogType,
    /// Every unit has one from the start, and users cannot add others.
    pub builtin: bool,
}

/// A plane's section of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct SettingsSection {
    pub name: &'static str,
    /// The whole section as TOML, with a comment and the default of every setting.
    pub defaults: &'static str,
}

/// Deletes a plane's rows about deleted runs, in the transaction that deletes them.
pub type PurgeHook = for<'t> fn(&'t mut Tx, &'t [RunId]) -> BoxFuture<'t, Result<()>>;

/// A datasource that is moving to another unit.
#[derive(Debug, Clone)]
pub struct MovedDatasource {
    pub id: DatasourceId,
    pub uuid: Uuid,
    pub name: String,
    pub to: Ou,
}

/// What a plane does in the transaction in which units change.
#[derive(Clone, Copy)]
pub struct UnitHooks {
    /// A datasource moves. An error refuses it.
    pub moved: for<'t> fn(&'t mut Tx, &'t MovedDatasource) -> BoxFuture<'t, Result<()>>,
    /// A unit is about to be deleted. What is left of things that are gone moves to its parent; the rest keeps the unit
    /// from being deleted.
    pub vacated: for<'t> fn(&'t mut Tx, OuId, OuId) -> BoxFuture<'t, Result<()>>,
}

/// Called once the estate is open, before anything executes.
pub type OpenPlane = Box<dyn FnOnce(&Estate) -> Result<PlaneParts> + Send>;

pub struct Plane {
    /// Also the component of its migrations.
    pub name: &'static str,
    pub migrations: MigrationSet,
    /// The kinds of its typed ids, where they are declared: `KINDS`.
    pub ids: &'static [IdKind],
    pub kinds: Vec<KindSpec>,
    /// Its own pools, with their workers.
    pub pools: Vec<(PoolName, usize)>,
    pub nouns: Vec<NounSpec>,
    /// Its own roles, or those of the dialects that show it.
    pub roles: Vec<RoleSpec>,
    /// Every column in its tables that holds encrypted values.
    pub sealed: Vec<SealedColumn>,
    /// Types of database that its tables appear as; `PlaneParts::catalogs` has the tables.
    pub catalogs: Vec<CatalogSpec>,
    pub settings: Option<SettingsSection>,
    pub purge: Option<PurgeHook>,
    pub units: Option<UnitHooks>,
    pub open: OpenPlane,
}

impl Plane {
    /// A plane that is still empty.
    pub fn new(name: &'static str) -> Plane {
        Plane {
            name,
            migrations: MigrationSet { component: name, sqlite: &[], postgres: &[] },
            ids: &[],
            kinds: Vec::new(),
            pools: Vec::new(),
            nouns: Vec::new(),
            roles: Vec::new(),
            sealed: Vec::new(),
            catalogs: Vec::new(),
            settings: None,
            purge: None,
            units: None,
            open: Box::new(|_| Ok(PlaneParts::default())),
        }
    }
}

/// The parts of a plane that need the open estate.
#[derive(Default)]
pub struct PlaneParts {
    /// The plane's name; filled in when it is opened.
    pub name: &'static str,
    /// One for each of its kinds.
    pub executors: Vec<(RunKind, Arc<dyn Executor>)>,
    pub subscribers: Vec<Arc<dyn Subscriber>>,
    /// The follower for due schedules of the plane.
    pub follower: Option<Arc<dyn Follower>>,
    /// Schedules that every estate has.
    pub schedules: Vec<FixedSchedule>,
    /// Its tables for SQL, one catalog for each type of database that it brings.
    pub catalogs: Vec<(CatalogType, Arc<dyn Catalog>)>,
}

#[derive(Debug, Clone, Copy)]
pub struct NounSpec {
    pub noun: Noun,
    /// Created and viewed by users: analysts can manage it and viewers can view it.
    pub content: bool,
    /// Its actions besides viewing, using and managing.
    pub actions: &'static [Action],
}

impl NounSpec {
    /// Only for administrators.
    pub const fn administrative(noun: Noun) -> NounSpec {
        NounSpec { noun, content: false, actions: &[] }
    }

    pub const fn content(noun: Noun) -> NounSpec {
        NounSpec { noun, content: true, actions: &[] }
    }
}

/// A built-in role: defined in code and written to every store at each start.
#[derive(Debug, Clone)]
pub struct RoleSpec {
    /// Identifies the role forever.
    pub uuid: Uuid,
    /// Its id in a new store; `None` means the next free one.
    pub id: Option<RoleId>,
    pub name: &'static str,
    pub description: &'static str,
    pub permissions: RolePermissions,
}

#[derive(Debug, Clone)]
pub enum RolePermissions {
    /// Managing every noun of every plane except these.
    ManageAllBut(&'static [Noun]),
    /// This action on every content noun of every plane.
    Content(Action),
    These(Vec<Permission>),
}

/// What the planes of this program registered.
pub struct Registry {
    kinds: HashMap<RunKind, KindSpec>,
    nouns: Vec<NounSpec>,
    roles: Vec<RoleSpec>,
    sealed: Vec<SealedColumn>,
    catalogs: Vec<CatalogSpec>,
    purges: Vec<PurgeHook>,
    units: Vec<UnitHooks>,
    pools: Vec<(PoolName, usize)>,
}

/// Kinds with the same tag would have the same hash-ids.
fn distinct_ids(planes: &[Plane]) -> Result<()> {
    let mut tags = HashMap::new();
    for kind in planes.iter().map(|plane| plane.ids).chain([ids::KINDS]).flatten() {
        if let Some(other) = tags.insert(hashid::tag(*kind), kind.0) {
            return Err(Error::internal(format!(
                "the ids of {} and {other} would be the same; rename one of them",
                kind.0
            )));
        }
    }
    Ok(())
}

impl Registry {
    /// Two planes that register the same name are a bug in the program.
    pub fn new(planes: &[Plane]) -> Result<Registry> {
        let mut registry = Registry {
            kinds: HashMap::new(),
            nouns: Vec::new(),
            roles: Vec::new(),
            sealed: Vec::new(),
            catalogs: Vec::new(),
            purges: Vec::new(),
            units: Vec::new(),
            pools: Vec::new(),
        };
        let twice =
            |what: &str, name: &str| Error::internal(format!("two planes register the {what} {name}"));
        distinct_ids(planes)?;
        for plane in planes {
            for kind in &plane.kinds {
                if registry.kinds.insert(kind.kind, *kind).is_some() {
                    return Err(twice("run kind", kind.kind.as_str()));
                }
            }
            for noun in &plane.nouns {
                if registry.nouns.iter().any(|known| known.noun == noun.noun) {
                    return Err(twice("noun", noun.noun.as_str()));
                }
                registry.nouns.push(*noun);
            }
            for role in &plane.roles {
                if registry.roles.iter().any(|known| known.uuid == role.uuid || known.name == role.name) {
                    return Err(twice("role", role.name));
                }
                registry.roles.push(role.clone());
            }
            for (pool, workers) in &plane.pools {
                if registry.pools.iter().any(|(known, _)| known == pool) {
                    return Err(twice("pool", pool.as_str()));
                }
                registry.pools.push((*pool, *workers));
            }
            for catalog in &plane.catalogs {
                let name = catalog.database_type.as_str();
                let known = DatabaseType::find(&DatabaseType::ALL, name).is_some();
                if known || registry.catalog(catalog.database_type).is_some() {
                    return Err(twice("database type", name));
                }
                registry.catalogs.push(*catalog);
            }
            registry.sealed.extend(&plane.sealed);
            registry.purges.extend(plane.purge);
            registry.units.extend(plane.units);
        }
        for kind in registry.kinds.values() {
            if !registry.pools.iter().any(|(pool, _)| *pool == kind.pool) {
                let (kind, pool) = (kind.kind, kind.pool.as_str());
                return Err(Error::internal(format!("the run kind {kind} uses an unknown pool: {pool}")));
            }
        }
        Ok(registry)
    }

    pub fn kind(&self, kind: RunKind) -> Option<&KindSpec> {
        self.kinds.get(&kind)
    }

    pub fn kinds(&self) -> impl Iterator<Item = &KindSpec> {
        self.kinds.values()
    }

    /// A kind that no plane of this program registers counts as maintenance of a former plane.
    pub fn category(&self, kind: RunKind) -> Category {
        self.kinds.get(&kind).map_or(Category::System, |kind| kind.category)
    }

    pub fn pools(&self) -> &[(PoolName, usize)] {
        &self.pools
    }

    pub fn sealed(&self) -> &[SealedColumn] {
        &self.sealed
    }

    pub fn catalog(&self, database_type: CatalogType) -> Option<&CatalogSpec> {
        self.catalogs.iter().find(|catalog| catalog.database_type == database_type)
    }

    /// The database types of which users can declare datasources.
    pub fn declarable_types(&self) -> Vec<DatabaseType> {
        let builtin = |known: &DatabaseType| {
            self.catalogs.iter().any(|own| own.builtin && *known == DatabaseType::Catalog(own.database_type))
        };
        self.database_types().into_iter().filter(|known| !builtin(known)).collect()
    }

    /// Every database type that a datasource can have here.
    pub fn database_types(&self) -> Vec<DatabaseType> {
        let brought = self.catalogs.iter().map(|catalog| DatabaseType::Catalog(catalog.database_type));
        DatabaseType::ALL.into_iter().chain(brought).collect()
    }

    pub fn purges(&self) -> &[PurgeHook] {
        &self.purges
    }

    pub fn unit_hooks(&self) -> &[UnitHooks] {
        &self.units
    }

    /// Every permission.
    pub fn permissions(&self) -> Vec<Permission> {
        let of = |noun: &NounSpec| {
            let actions = Action::SHARED.into_iter().chain(noun.actions.iter().copied());
            actions.map(|action| Permission::new(noun.noun, action)).collect::<Vec<_>>()
        };
        self.nouns.iter().flat_map(of).collect()
    }

    /// The roles with their permissions expanded.
    pub fn roles(&self) -> Vec<(RoleSpec, Vec<Permission>)> {
        let spelled = |role: &RoleSpec| match &role.permissions {
            RolePermissions::ManageAllBut(left_out) => self
                .nouns
                .iter()
                .filter(|noun| !left_out.contains(&noun.noun))
                .map(|noun| Permission::new(noun.noun, Action::MANAGE))
                .collect(),
            RolePermissions::Content(action) => self
                .nouns
                .iter()
                .filter(|noun| noun.content)
                .map(|noun| Permission::new(noun.noun, *action))
                .collect(),
            RolePermissions::These(permissions) => permissions.clone(),
        };
        self.roles.iter().map(|role| (role.clone(), spelled(role))).collect()
    }
}

/// Where to find the handle of a plane once the estate is open.
pub struct Slot<T>(Arc<OnceLock<T>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Slot<T> {
        Slot(Arc::clone(&self.0))
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot(Arc::new(OnceLock::new()))
    }
}

impl<T: Clone> Slot<T> {
    /// The first value is kept: a plane is opened once.
    pub fn fill(&self, handle: T) {
        let _ = self.0.set(handle);
    }

    pub fn get(&self) -> Result<T> {
        self.0.get().cloned().ok_or_else(|| Error::internal("a plane was used before the estate was open"))
    }
}
