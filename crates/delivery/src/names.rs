//! Repositories, services and targets by name: found, or added if they are new. They are never removed, so a name that
//! was found once is cached. Attributes that can change, on any node, are not cached.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Error, Result};
use landreeve_estate::args;
use landreeve_estate::store::{Tx, next_in};

use crate::ids::{RepoId, ServiceId, TargetId};
use crate::{Delivery, text};

/// How many names of each kind are cached.
const REMEMBERED: usize = 16_384;

/// Maximum number of services in one request.
const MAX_SERVICES: usize = 1_000;

/// A service in a request: an identifier, optionally with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    pub identifier: String,
    pub name: Option<String>,
}

impl ServiceName {
    pub fn check(&self, field: &str, faults: &mut Faults) {
        text::check(faults, field, &self.identifier, text::NAME);
        text::check_opt(faults, &format!("{field}.name"), self.name.as_deref(), text::NAME);
    }

    pub fn check_list(field: &str, all: &[ServiceName], faults: &mut Faults) {
        if all.len() > MAX_SERVICES {
            faults.push(field, "range", format!("must have at most {MAX_SERVICES} services"));
        }
        for (at, service) in all.iter().enumerate() {
            service.check(&format!("{field}.{at}"), faults);
        }
    }
}

/// Unit and identifier.
type ServiceKey = (OuId, String);

#[derive(Default)]
pub struct Known {
    repos: Memory<(OuId, String), RepoId>,
    services: Memory<ServiceKey, ServiceId>,
    targets: Memory<(RepoId, ServiceId, String), TargetId>,
}

struct Memory<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Memory<K, V> {
        Memory(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Copy> Memory<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn put(&self, key: K, value: V) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= REMEMBERED {
            map.clear();
        }
        map.insert(key, value);
    }
}

/// Names that a transaction found or added; cached after the commit.
#[derive(Default)]
pub struct Found {
    repos: Vec<((OuId, String), RepoId)>,
    services: Vec<(ServiceKey, ServiceId)>,
    targets: Vec<((RepoId, ServiceId, String), TargetId)>,
}

impl Known {
    pub fn remember(&self, found: Found) {
        found.repos.into_iter().for_each(|(key, id)| self.repos.put(key, id));
        found.services.into_iter().for_each(|(key, id)| self.services.put(key, id));
        found.targets.into_iter().for_each(|(key, id)| self.targets.put(key, id));
    }
}

/// Names used in one transaction.
pub struct Names<'a> {
    plane: &'a Delivery,
    ou: OuId,
    now: Timestamp,
    pub found: Found,
}

impl<'a> Names<'a> {
    pub fn new(plane: &'a Delivery, ou: OuId) -> Names<'a> {
        Names { plane, ou, now: plane.estate().now(), found: Found::default() }
    }

    /// The repository of that name. With strict repositories, an unknown one is an error.
    pub async fn repo(&mut self, tx: &mut Tx, name: &str) -> Result<RepoId> {
        self.find_repo(tx, name, self.plane.options().strict_repositories).await
    }

    /// The same, for requests about the repository itself.
    pub async fn repo_always(&mut self, tx: &mut Tx, name: &str) -> Result<RepoId> {
        self.find_repo(tx, name, false).await
    }

    async fn find_repo(&mut self, tx: &mut Tx, name: &str, strict: bool) -> Result<RepoId> {
        let key = (self.ou, name.to_lowercase());
        if let Some(id) = self.plane.known().repos.get(&key) {
            return Ok(id);
        }
        let sql = "SELECT id FROM delivery_repos WHERE ou_id = $1 AND match_name = $2";
        let id = match tx.opt(sql, args![self.ou, &key.1]).await? {
            Some(row) => row.id(0)?,
            None if strict => return Err(unknown_repo(name)),
            None => {
                let id = next_in(tx, RepoId::KIND).await?;
                // Another node may have just added it.
                let sql = "INSERT INTO delivery_repos (id, ou_id, name, match_name, created_at) \
                           VALUES ($1, $2, $3, $4, $5) ON CONFLICT (ou_id, match_name) \
                           DO UPDATE SET match_name = excluded.match_name RETURNING id";
                tx.one(sql, args![id, self.ou, name, &key.1, self.now]).await?.id(0)?
            }
        };
        self.found.repos.push((key, id));
        Ok(id)
    }

    pub async fn service(&mut self, tx: &mut Tx, named: &ServiceName) -> Result<ServiceId> {
        let key = (self.ou, named.identifier.clone());
        let id = match self.plane.known().services.get(&key) {
            Some(id) => id,
            None => self.find_service(tx, key, named).await?,
        };
        if let Some(name) = &named.name {
            let sql = "UPDATE delivery_services SET name = $2 WHERE id = $1 AND name <> $2";
            tx.exec_later(sql, args![id, name]).await?;
        }
        Ok(id)
    }

    async fn find_service(&mut self, tx: &mut Tx, key: ServiceKey, named: &ServiceName) -> Result<ServiceId> {
        let sql = "SELECT id FROM delivery_services WHERE ou_id = $1 AND identifier = $2";
        let id = match tx.opt(sql, args![self.ou, &named.identifier]).await? {
            Some(row) => row.id(0)?,
            None => {
                let id = next_in(tx, ServiceId::KIND).await?;
                let name = named.name.as_ref().unwrap_or(&named.identifier);
                let sql = "INSERT INTO delivery_services (id, ou_id, identifier, name, created_at) \
                           VALUES ($1, $2, $3, $4, $5) ON CONFLICT (ou_id, identifier) \
                           DO UPDATE SET identifier = excluded.identifier RETURNING id";
                tx.one(sql, args![id, self.ou, &named.identifier, name, self.now]).await?.id(0)?
            }
        };
        self.found.services.push((key, id));
        Ok(id)
    }

    pub async fn target(
        &mut self,
        tx: &mut Tx,
        repo: RepoId,
        service: ServiceId,
        environment: &str,
    ) -> Result<TargetId> {
        let key = (repo, service, environment.to_owned());
        if let Some(id) = self.plane.known().targets.get(&key) {
            return Ok(id);
        }
        let sql =
            "SELECT id FROM delivery_targets WHERE repo_id = $1 AND service_id = $2 AND environment = $3";
        let id = match tx.opt(sql, args![repo, service, environment]).await? {
            Some(row) => row.id(0)?,
            None => {
                let id = next_in(tx, TargetId::KIND).await?;
                let sql = "INSERT INTO delivery_targets (id, repo_id, service_id, environment) \
                           VALUES ($1, $2, $3, $4) ON CONFLICT (repo_id, service_id, environment) \
                           DO UPDATE SET environment = excluded.environment RETURNING id";
                tx.one(sql, args![id, repo, service, environment]).await?.id(0)?
            }
        };
        self.found.targets.push((key, id));
        Ok(id)
    }
}

pub fn unknown_repo(name: &str) -> Error {
    let fault = landreeve_core::Fault::new("repository", "unknown", format!("{name:?} is unknown"));
    let message = format!(
        "unknown repository {name:?}; unknown repositories are not added ([delivery] strict_repositories)"
    );
    Error { faults: vec![fault], ..Error::not_found("repository").saying(message) }
}
