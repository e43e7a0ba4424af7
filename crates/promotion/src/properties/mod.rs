//! Properties: the values that scripts take from the environment they are deployed to, and those of a cluster's Scheduler.
//!
//! `name` reads names, `secret` is how secret values are shown, `put` stores what a request sends. Does not belong here: the
//! use of values in scripts (`vql::script`), the form of files (`vql::properties`).
//!
//! *Invariant: a secret leaves this module only as its `lr1:` text, or to a deployment (`values_of`).* It is sealed in
//! `value_sealed`; `value` has the text that is shown.

mod name;
mod put;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use landreeve_core::error::Faults;
use landreeve_core::{Action, Error, ErrorKind, Input, OpCtx, Part, Result, Secret};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where};

pub use name::{PropertyName, is_scheduler_secret, is_secret};

use crate::environments::{self, Environment};
use crate::ids::{ClusterId, EnvironmentId, PropertyId};
use crate::plane::Promotion;
use name::Parts;
use put::Put;
use secret::Opened;

/// Maximum number of properties in one request.
pub const MAX_IN_REQUEST: usize = 10_000;
/// Maximum number of properties of an environment or cluster.
pub const MAX_PROPERTIES: u64 = 100_000;
/// In characters.
pub const MAX_NAME: usize = 500;
/// A name and its element must fit into an entry of an index, which PostgreSQL limits to 2,700 bytes.
pub const MAX_NAME_BYTES: usize = 1_200;
/// In bytes.
pub const MAX_VALUE: usize = 64 * 1_024;
/// A text for a secret is longer than the secret: by a third, and its header.
const MAX_TEXT: usize = MAX_VALUE / 3 * 4 + 128;

/// What has properties: an environment those for VQL, a cluster those for a Scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    Environment(EnvironmentId),
    Cluster(ClusterId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentKind {
    Environment,
    Cluster,
}

impl Parent {
    pub const fn kind(self) -> ParentKind {
        match self {
            Parent::Environment(_) => ParentKind::Environment,
            Parent::Cluster(_) => ParentKind::Cluster,
        }
    }

    /// The number of the environment or cluster.
    pub const fn id(self) -> i64 {
        match self {
            Parent::Environment(id) => id.0,
            Parent::Cluster(id) => id.0,
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Parent::Environment(_) => "environment",
            Parent::Cluster(_) => "cluster",
        }
    }

    fn narrow(self, filter: &mut Where) {
        match self {
            Parent::Environment(id) => filter.and_value("p.environment_id = $$", id),
            Parent::Cluster(id) => filter.and_value("p.cluster_id = $$", id),
        }
    }

    fn is_secret(self, name: &str) -> bool {
        match self {
            Parent::Environment(_) => is_secret(name),
            Parent::Cluster(_) => is_scheduler_secret(name),
        }
    }

    fn parts(self, name: &str) -> Parts {
        match self {
            Parent::Environment(_) => Parts::of_engine(name),
            Parent::Cluster(_) => Parts::of_scheduler(name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub id: PropertyId,
    pub parent: Parent,
    pub name: String,
    /// As it is shown: a secret as its `lr1:` text.
    pub value: String,
    /// A placeholder, which deployments refuse.
    pub undefined: bool,
}

/// A property as a request sends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewProperty {
    pub name: String,
    pub value: String,
    pub undefined: bool,
}

/// Without the value, which can be a secret.
impl fmt::Debug for NewProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewProperty").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a list is limited to. The name excludes everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyFilter {
    pub name: Option<String>,
    /// The database; for a Scheduler, the project.
    pub database: Option<String>,
    pub element_type: Option<String>,
    pub element_type_name: Option<String>,
    pub element_name: Option<String>,
}

impl PropertyFilter {
    /// The text U+0000 is in no name.
    fn matches_nothing(&self) -> bool {
        [&self.name, &self.database, &self.element_type, &self.element_type_name, &self.element_name]
            .into_iter()
            .flatten()
            .any(|text| text.contains('\0'))
    }

    fn narrow(&self, filter: &mut Where) {
        if let Some(name) = &self.name {
            filter.and_value("p.name = $$", name);
            return;
        }
        if let Some(database) = &self.database {
            filter.and_value("p.database_name = $$", database);
        }
        if let Some(text) = &self.element_type {
            filter.and_value("p.element_type = $$", name::element_type(text));
        }
        if let Some(text) = &self.element_type_name {
            filter.and_value("p.element_type_name = $$", name::element_type_name(text));
        }
        if let Some(element) = &self.element_name {
            filter.and_value("p.element_name = $$", element);
        }
    }
}

/// The value of a property for a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Plain(String),
    Secret(Secret),
    /// Encrypted by another program, so that it cannot be opened.
    Ciphertext(String),
    Undefined,
}

/// What kind of value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Secret,
    Ciphertext,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Plain, Kind::Secret, Kind::Ciphertext];

    const fn as_str(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Secret => "secret",
            Kind::Ciphertext => "ciphertext",
        }
    }

    fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// What a secret is sealed for.
fn context(id: PropertyId) -> String {
    format!("promotion_property:{id}")
}

const LISTING: Listing = Listing {
    columns: "p.id, p.environment_id, p.cluster_id, p.name, p.value, p.undefined",
    from: "promotion_properties p",
    order: "p.name",
    size: Some("length(p.name) + length(p.value)"),
};

fn from_row(row: &Row) -> Result<Property> {
    let parent = match row.id_opt(1)? {
        Some(id) => Parent::Environment(id),
        None => Parent::Cluster(row.id(2)?),
    };
    Ok(Property { id: row.id(0)?, parent, name: row.text(3)?, value: row.text(4)?, undefined: row.flag(5)? })
}

/// The environment, if the caller may read and change the properties of this parent there.
async fn authorized(plane: &Promotion, ctx: &OpCtx, parent: Parent) -> Result<Environment> {
    let environment = match parent {
        Parent::Environment(id) => id,
        Parent::Cluster(id) => {
            let mut conn = plane.estate().store().read().await?;
            let found =
                conn.opt("SELECT environment_id FROM promotion_clusters WHERE id = $1", args![id]).await?;
            found.ok_or_else(|| Error::not_found(parent.noun()))?.id(0)?
        }
    };
    let found = environments::for_promotion(plane, ctx, environment, Action::MANAGE).await;
    found.map_err(|error| called(error, parent.noun()))
}

/// What the caller asked for is not found, whatever it belongs to.
fn called(error: Error, noun: &'static str) -> Error {
    if error.kind == ErrorKind::NotFound { Error::not_found(noun) } else { error }
}

/// The properties after this name, in the order of names.
pub async fn property_list(
    plane: &Promotion,
    ctx: &OpCtx,
    parent: Parent,
    filter: &PropertyFilter,
    after: Option<String>,
) -> Result<Part<Property, String>> {
    authorized(plane, ctx, parent).await?;
    if filter.matches_nothing() {
        return Ok(Part { items: Vec::new(), next: None });
    }
    let mut conn = plane.estate().store().read().await?;
    let mut rows = Where::new(conn.dialect());
    parent.narrow(&mut rows);
    filter.narrow(&mut rows);
    if let Some(name) = after {
        rows.and_after("p.name", args![name]);
    }
    rows.page(&mut conn, &LISTING, from_row, |property| property.name.clone()).await
}

/// Creates properties, and changes those that exist: all, or none. Returns them in the order of the request.
pub async fn property_put(
    plane: &Promotion,
    ctx: &OpCtx,
    parent: Parent,
    wanted: Input<Vec<NewProperty>>,
) -> Result<Vec<Property>> {
    let environment = authorized(plane, ctx, parent).await?;
    let mut faults = Faults::default();
    check(wanted.value(), &mut faults);
    let opened = opened(plane, ctx, parent, wanted.value(), &mut faults).await?;
    let wanted = wanted.settled(faults)?;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let detail = match wanted.len() {
        1 => format!("1 property of {}", environment.name),
        count => format!("{count} properties of {}", environment.name),
    };
    let act = OwnedAct::new("changed", environment.scenario().noun(), environment.id.0, detail);
    Put::prepare(plane.estate(), parent, wanted, opened).await?.execute(ctx, act).await
}

/// Everything that is wrong with a request by itself.
fn check(wanted: &[NewProperty], faults: &mut Faults) {
    if wanted.len() > MAX_IN_REQUEST {
        let message = format!("a request can have at most {MAX_IN_REQUEST} properties, has {}", wanted.len());
        faults.push("", "length", message);
        return;
    }
    let mut seen = BTreeSet::new();
    for (at, new) in wanted.iter().enumerate() {
        let characters = new.name.chars().count();
        let name = if new.name.is_empty() {
            Some(("length", "must not be empty".to_owned()))
        } else if characters > MAX_NAME {
            Some(("length", format!("must have at most {MAX_NAME} characters, has {characters}")))
        } else if new.name.len() > MAX_NAME_BYTES {
            Some(("length", format!("must have at most {MAX_NAME_BYTES} bytes, has {}", new.name.len())))
        } else if new.name.chars().any(char::is_control) {
            Some(("character", "must not contain control characters".to_owned()))
        } else if !seen.insert(new.name.as_str()) {
            Some(("duplicate", "is given twice".to_owned()))
        } else {
            None
        };
        if let Some((code, message)) = name {
            faults.push(format!("{at}.name"), code, message);
        }
        let most = if new.value.starts_with(secret::PREFIX) { MAX_TEXT } else { MAX_VALUE };
        let value = if new.undefined && !new.value.is_empty() {
            Some(("undefined", "must be empty if undefined is true".to_owned()))
        } else if new.value.len() > most {
            Some(("length", format!("must have at most {most} bytes, has {}", new.value.len())))
        } else if new.value.contains('\0') {
            Some(("character", "must not contain the character U+0000".to_owned()))
        } else {
            None
        };
        if let Some((code, message)) = value {
            faults.push(format!("{at}.value"), code, message);
        }
    }
}

/// What the encrypted texts in a request contain, by position. One for another environment is accepted from a caller who
/// manages the properties there too; every other one must have been made for exactly this name.
async fn opened(
    plane: &Promotion,
    ctx: &OpCtx,
    parent: Parent,
    wanted: &[NewProperty],
    faults: &mut Faults,
) -> Result<BTreeMap<usize, Opened>> {
    let mut found = BTreeMap::new();
    let texts: Vec<(usize, &NewProperty)> =
        wanted.iter().enumerate().filter(|(_, new)| new.value.starts_with(secret::PREFIX)).collect();
    if texts.is_empty() || wanted.len() > MAX_IN_REQUEST {
        return Ok(found);
    }
    let estate = plane.estate();
    let key = secret::key(estate, &mut estate.store().read().await?).await?;
    let mut manages = BTreeMap::from([(parent, true)]);
    for (at, new) in texts {
        let key = key.as_ref().filter(|_| parent.is_secret(&new.name));
        let Some(opened) = key.and_then(|key| secret::open(key, &new.name, &new.value)) else {
            let message = "is an encrypted value that was not made for this property, or is damaged";
            faults.push(format!("{at}.value"), "encrypted", message);
            continue;
        };
        let allowed = match manages.get(&opened.parent) {
            Some(known) => *known,
            None => {
                let allowed = may_manage(plane, ctx, opened.parent).await?;
                manages.insert(opened.parent, allowed);
                allowed
            }
        };
        if allowed {
            found.insert(at, opened);
        } else {
            let message = "was encrypted for another environment, in which you do not manage properties";
            faults.push(format!("{at}.value"), "encrypted", message);
        }
    }
    Ok(found)
}

async fn may_manage(plane: &Promotion, ctx: &OpCtx, parent: Parent) -> Result<bool> {
    match authorized(plane, ctx, parent).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind, ErrorKind::Forbidden | ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes a property of an environment, or of a cluster.
pub async fn property_delete(plane: &Promotion, ctx: &OpCtx, id: PropertyId, kind: ParentKind) -> Result<()> {
    let estate = plane.estate();
    let row = find(&mut estate.store().read().await?, id).await?;
    let found =
        row.filter(|found| found.parent.kind() == kind).ok_or_else(|| Error::not_found("property"))?;
    let environment =
        authorized(plane, ctx, found.parent).await.map_err(|error| called(error, "property"))?;
    let detail = format!("the property {} of {}", found.name, environment.name);
    let act = OwnedAct::new("deleted", environment.scenario().noun(), environment.id.0, detail);
    let parent = found.parent;
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                lock(tx, parent).await?;
                let gone = tx.exec("DELETE FROM promotion_properties WHERE id = $1", args![id]).await? == 0;
                if gone { Err(Error::not_found("property")) } else { Ok(()) }
            })
        })
        .await
}

async fn find(conn: &mut Conn, id: PropertyId) -> Result<Option<Property>> {
    let sql = "SELECT p.id, p.environment_id, p.cluster_id, p.name, p.value, p.undefined \
        FROM promotion_properties p WHERE p.id = $1";
    conn.opt(sql, args![id]).await?.as_ref().map(from_row).transpose()
}

/// Changes to the properties of one parent wait for each other, because each depends on what is stored.
async fn lock(tx: &mut Tx, parent: Parent) -> Result<()> {
    let (sqlite, postgres) = match parent {
        Parent::Environment(_) => (
            "SELECT id FROM promotion_environments WHERE id = $1",
            "SELECT id FROM promotion_environments WHERE id = $1 FOR NO KEY UPDATE",
        ),
        Parent::Cluster(_) => (
            "SELECT id FROM promotion_clusters WHERE id = $1",
            "SELECT id FROM promotion_clusters WHERE id = $1 FOR NO KEY UPDATE",
        ),
    };
    let sql = tx.dialect().pick(sqlite, postgres);
    let found = tx.opt(sql, args![parent.id()]).await?;
    found.map(drop).ok_or_else(|| Error::not_found(parent.noun()))
}

/// How many values a deployment reads with one statement.
const CHUNK: usize = 200;

/// The values of these names for a deployment, with secrets in clear. Names without a property are missing.
pub(crate) async fn values_of(
    plane: &Promotion,
    environment: EnvironmentId,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, Value>> {
    let estate = plane.estate();
    let mut conn = estate.store().read().await?;
    let mut values = BTreeMap::new();
    let names: Vec<String> = names.iter().cloned().collect();
    for chunk in names.chunks(CHUNK) {
        let mut filter = Where::new(conn.dialect());
        Parent::Environment(environment).narrow(&mut filter);
        filter.and_texts("p.name", chunk)?;
        let (condition, args) = filter.into_parts();
        let sql = format!(
            "SELECT p.id, p.name, p.kind, p.value, p.value_sealed, p.undefined FROM promotion_properties p \
             WHERE {condition}"
        );
        for row in conn.select(sql, args).await? {
            let value = match row.word(2, Kind::parse)? {
                _ if row.flag(5)? => Value::Undefined,
                Kind::Plain => Value::Plain(row.text(3)?),
                Kind::Ciphertext => Value::Ciphertext(row.text(3)?),
                Kind::Secret => {
                    let clear = estate.unseal(&context(row.id(0)?), &row.bytes(4)?)?;
                    let clear =
                        std::str::from_utf8(&clear).map_err(|_| Error::internal("a secret is not text"))?;
                    Value::Secret(Secret::new(clear))
                }
            };
            values.insert(row.text(1)?, value);
        }
    }
    Ok(values)
}
