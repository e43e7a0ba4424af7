//! Stores the properties of one request in one transaction.
//!
//! What a value becomes depends on its name and on what is stored: a secret keeps its text as long as its value stays the
//! same, and a value beside its `.ENCRYPTED` or `.ALGORITHM` is a ciphertext of another program. Does not belong here: what
//! is wrong with a request, and who may send it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use landreeve_core::{Error, OpCtx, Result};
use landreeve_estate::ops::{self, OwnedAct};
use landreeve_estate::secrets::{SealKey, Sealed};
use landreeve_estate::store::{Arg, Row, Tx, Where, next_in};
use landreeve_estate::{Estate, args};

use super::name::TAILS;
use super::secret::{self, Opened};
use super::{Kind, MAX_PROPERTIES, NewProperty, Parent, Property, context, lock};
use crate::ids::PropertyId;

/// How many properties are read with one statement: values can be large.
const CHUNK: usize = 100;
/// A request with more properties does not share its transaction with short writes.
const FEW: usize = 500;

pub(super) struct Put {
    estate: Estate,
    parent: Parent,
    wanted: Vec<NewProperty>,
    /// What encrypted texts contain, by position.
    opened: BTreeMap<usize, Opened>,
    /// For those that do not exist.
    ids: Vec<PropertyId>,
    fingerprint: String,
    now: Timestamp,
}

/// A property that exists.
struct Stored {
    id: PropertyId,
    kind: Kind,
    value: String,
    sealed: Option<Vec<u8>>,
    undefined: bool,
}

/// One property of a request, and what there is to know about it.
struct One<'a> {
    new: &'a NewProperty,
    old: Option<&'a Stored>,
    opened: Option<&'a Opened>,
    is_ciphertext: bool,
}

/// What is to be stored: what kind of value, what is shown of it, and the sealed value of a secret that is not the stored one.
type State = (Kind, String, Option<Sealed>);

/// What remains the same for all properties of a transaction.
struct Work {
    ids: std::vec::IntoIter<PropertyId>,
    /// The key of texts, once it was needed.
    key: Option<SealKey>,
    inserted: bool,
}

impl Put {
    /// Reserves ids, which a transaction cannot do.
    pub async fn prepare(
        estate: &Estate,
        parent: Parent,
        wanted: Vec<NewProperty>,
        opened: BTreeMap<usize, Opened>,
    ) -> Result<Arc<Put>> {
        let names: Vec<String> = wanted.iter().map(|new| new.name.clone()).collect();
        let known = {
            let mut conn = estate.store().read().await?;
            let mut filter = Where::new(conn.dialect());
            parent.narrow(&mut filter);
            filter.and_texts("p.name", &names)?;
            filter.count(&mut conn, "promotion_properties p").await?
        };
        let missing = wanted.len().saturating_sub(usize::try_from(known).unwrap_or(usize::MAX));
        let mut ids = Vec::with_capacity(missing);
        for _ in 0..missing {
            ids.push(estate.next(PropertyId::KIND).await?);
        }
        Ok(Arc::new(Put {
            estate: estate.clone(),
            parent,
            wanted,
            opened,
            ids,
            fingerprint: estate.sealed_with(),
            now: estate.now(),
        }))
    }

    pub async fn execute(self: Arc<Put>, ctx: &OpCtx, act: OwnedAct) -> Result<Vec<Property>> {
        let estate = self.estate.clone();
        if self.wanted.len() <= FEW {
            return estate.change(ctx, act, move |tx| Box::pin(async move { self.all_in(tx).await })).await;
        }
        estate
            .change_told_alone(ctx, move |tx| {
                Box::pin(async move { Ok((self.all_in(tx).await?, Some(act))) })
            })
            .await
    }

    async fn all_in(&self, tx: &mut Tx) -> Result<Vec<Property>> {
        ops::secrets::still_sealed_with(tx, &self.fingerprint).await?;
        lock(tx, self.parent).await?;
        let given: HashMap<&str, &str> =
            self.wanted.iter().map(|new| (new.name.as_str(), new.value.as_str())).collect();
        let mut work = Work { ids: self.ids.clone().into_iter(), key: None, inserted: false };
        let mut done = Vec::with_capacity(self.wanted.len());
        for (number, chunk) in self.wanted.chunks(CHUNK).enumerate() {
            let stored = self.stored(tx, chunk).await?;
            let tails = self.stored_tails(tx, chunk).await?;
            for (at, new) in chunk.iter().enumerate() {
                let is_ciphertext = TAILS.iter().any(|tail| {
                    let sibling = format!("{}{tail}", new.name);
                    let given = given.get(sibling.as_str());
                    given.map_or_else(|| tails.contains(&sibling), |value| !value.is_empty())
                });
                let opened = self.opened.get(&(number * CHUNK + at));
                let one = One { new, old: stored.get(&new.name), opened, is_ciphertext };
                done.push(self.one_in(tx, &mut work, &one).await?);
            }
        }
        if work.inserted {
            self.check_count(tx).await?;
        }
        Ok(done)
    }

    async fn one_in(&self, tx: &mut Tx, work: &mut Work, one: &One<'_>) -> Result<Property> {
        let id = match one.old {
            Some(old) => old.id,
            None => match work.ids.next() {
                Some(id) => id,
                // Another request has deleted one since the ids were reserved.
                None => PropertyId(next_in(tx, PropertyId::KIND).await?),
            },
        };
        let (kind, value, sealed) = self.state(tx, work, id, one).await?;
        let new = one.new;
        let shown =
            Property { id, parent: self.parent, name: new.name.clone(), value, undefined: new.undefined };
        let same = |old: &Stored| {
            let is_shown = (&old.value, old.undefined) == (&shown.value, shown.undefined);
            (kind == Kind::Secret && sealed.is_none()) || (old.kind == kind && is_shown)
        };
        if one.old.is_some_and(same) {
            return Ok(shown);
        }
        if one.old.is_some() {
            self.update(tx, &shown, kind, sealed).await?;
        } else {
            work.inserted = true;
            self.insert(tx, &shown, kind, sealed).await?;
        }
        Ok(shown)
    }

    async fn state(&self, tx: &mut Tx, work: &mut Work, id: PropertyId, one: &One<'_>) -> Result<State> {
        let One { new, old, opened, is_ciphertext } = one;
        // An empty value says that there is none.
        if new.value.is_empty() || !self.parent.is_secret(&new.name) {
            return Ok((Kind::Plain, new.value.clone(), None));
        }
        if *is_ciphertext && opened.is_none() {
            return Ok((Kind::Ciphertext, new.value.clone(), None));
        }
        let clear = opened.map_or(new.value.as_str(), |opened| opened.clear.reveal());
        if let Some(old) = old
            && let (Kind::Secret, Some(known)) = (old.kind, &old.sealed)
            && self.estate.unseal(&context(id), known)?.as_slice() == clear.as_bytes()
        {
            return Ok((Kind::Secret, old.value.clone(), None));
        }
        let text = if opened.is_some_and(|opened| opened.parent == self.parent) {
            new.value.clone()
        } else {
            let key = self.key(tx, work).await?;
            secret::text(&key, &**self.estate.random(), self.parent, &new.name, clear)?
        };
        Ok((Kind::Secret, text, Some(self.estate.seal(&context(id), clear.as_bytes())?)))
    }

    async fn key(&self, tx: &mut Tx, work: &mut Work) -> Result<SealKey> {
        if let Some(known) = &work.key {
            return Ok(known.clone());
        }
        let key = secret::key_in(&self.estate, tx).await?;
        work.key = Some(key.clone());
        Ok(key)
    }

    /// What is stored under the names of these properties.
    async fn stored(&self, tx: &mut Tx, wanted: &[NewProperty]) -> Result<HashMap<String, Stored>> {
        let names: Vec<String> = wanted.iter().map(|new| new.name.clone()).collect();
        let mut filter = Where::new(tx.dialect());
        self.parent.narrow(&mut filter);
        filter.and_texts("p.name", &names)?;
        let (condition, args) = filter.into_parts();
        let sql = format!(
            "SELECT p.name, p.id, p.kind, p.value, p.value_sealed, p.undefined FROM promotion_properties p \
             WHERE {condition}"
        );
        let rows = tx.select(sql, args).await?;
        let stored = |row: &Row| {
            let stored = Stored {
                id: row.id(1)?,
                kind: row.word(2, Kind::parse)?,
                value: row.text(3)?,
                sealed: row.bytes_opt(4)?,
                undefined: row.flag(5)?,
            };
            Ok((row.text(0)?, stored))
        };
        rows.iter().map(stored).collect()
    }

    /// The names that are stored and say that one of these secrets is encrypted.
    async fn stored_tails(&self, tx: &mut Tx, wanted: &[NewProperty]) -> Result<BTreeSet<String>> {
        let secrets = wanted.iter().filter(|new| self.parent.is_secret(&new.name));
        let names: Vec<String> =
            secrets.flat_map(|new| TAILS.map(|tail| format!("{}{tail}", new.name))).collect();
        if names.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut filter = Where::new(tx.dialect());
        self.parent.narrow(&mut filter);
        filter.and_texts("p.name", &names)?;
        filter.and("p.value <> ''");
        let (condition, args) = filter.into_parts();
        let sql = format!("SELECT p.name FROM promotion_properties p WHERE {condition}");
        tx.select(sql, args).await?.iter().map(|row| row.text(0)).collect()
    }

    async fn insert(
        &self,
        tx: &mut Tx,
        property: &Property,
        kind: Kind,
        sealed: Option<Sealed>,
    ) -> Result<()> {
        let (environment, cluster) = match self.parent {
            Parent::Environment(id) => (Some(id), None),
            Parent::Cluster(id) => (None, Some(id)),
        };
        let parts = self.parent.parts(&property.name);
        tx.exec_later(
            "INSERT INTO promotion_properties (id, environment_id, cluster_id, name, kind, value, value_sealed, undefined, \
             database_name, element_type, element_type_name, element_name, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            args![
                property.id,
                environment,
                cluster,
                &property.name,
                kind.as_str(),
                &property.value,
                sealed.map_or(Arg::Bytes(None), Arg::from),
                property.undefined,
                parts.database_name,
                parts.element_type,
                parts.element_type_name,
                parts.element_name,
                self.now,
            ],
        )
        .await
    }

    async fn update(
        &self,
        tx: &mut Tx,
        property: &Property,
        kind: Kind,
        sealed: Option<Sealed>,
    ) -> Result<()> {
        tx.exec_later(
            "UPDATE promotion_properties SET kind = $2, value = $3, value_sealed = $4, undefined = $5, updated_at = $6, \
             row_version = row_version + 1 WHERE id = $1",
            args![
                property.id,
                kind.as_str(),
                &property.value,
                sealed.map_or(Arg::Bytes(None), Arg::from),
                property.undefined,
                self.now,
            ],
        )
        .await
    }

    async fn check_count(&self, tx: &mut Tx) -> Result<()> {
        let mut filter = Where::new(tx.dialect());
        self.parent.narrow(&mut filter);
        if filter.count(tx, "promotion_properties p").await? <= MAX_PROPERTIES {
            return Ok(());
        }
        let message = format!("there can be at most {MAX_PROPERTIES} properties; delete some first");
        Err(Error::fault("", "limit", message))
    }
}
