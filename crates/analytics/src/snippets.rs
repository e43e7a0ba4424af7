//! SQL snippets: a name and the text that replaces it. A change that would create a cycle is rejected.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::error::Faults;
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_core::{Action, Error, Input, OpCtx, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where, taken};

use crate::ids::SnippetId;
use crate::lang::{self, Snippets};
use crate::rows::{act, check_datasource, lock};
use crate::{Analytics, nouns};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    pub id: SnippetId,
    pub ou: OuId,
    pub ou_path: String,
    pub details: SnippetDetails,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub row_version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnippetDetails {
    /// Unique within its unit.
    pub name: String,
    pub description: String,
    pub sql: String,
    /// Only tells editors whose names to offer.
    pub datasource: Option<DatasourceId>,
}

const MAX_BYTES: usize = 256 * 1_024;

impl SnippetDetails {
    /// Every fault that can be found without a lookup.
    pub fn check(&self, faults: &mut Faults) {
        if self.name.is_empty() {
            faults.push("name", "required", "is required");
        } else if !lang::is_name(&self.name) || self.name.len() > 128 {
            faults.push(
                "name",
                "format",
                "must consist of letters, digits and _, and not start with a digit",
            );
        }
        if self.sql.len() > MAX_BYTES {
            faults.push("sql", "too_large", format!("must have at most {MAX_BYTES} bytes"));
        }
        if self.sql.contains('\0') {
            faults.push("sql", "format", "must not contain U+0000");
        }
    }

    /// Detecting a cycle needs the other snippets of the unit.
    fn check_among(&self, others: &[Snippet]) -> Result<()> {
        let mut snippets = texts(others);
        snippets.custom.insert(self.name.clone(), self.sql.clone());
        // Expanding the snippet itself finds every cycle through it.
        lang::analyse(&format!("[{}]", self.name), SqlDialect::Postgres, &snippets).map(drop).map_err(
            |error| {
                Error::invalid(
                    error
                        .faults
                        .into_iter()
                        .map(|fault| landreeve_core::Fault { field: "sql".to_owned(), ..fault })
                        .collect(),
                )
            },
        )
    }
}

macro_rules! columns {
    () => {
        "s.id, s.ou_id, o.path, s.name, s.description, s.body, s.datasource_id, s.created_at, s.updated_at, \
         s.row_version"
    };
}

macro_rules! from {
    () => {
        "snippets s JOIN ous o ON o.id = s.ou_id"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM ", from!(), " ", $rest)
    };
}

const LISTING: Listing = Listing {
    columns: columns!(),
    from: from!(),
    order: "s.name, s.id",
    size: Some("length(s.body) + length(s.description)"),
};

fn from_row(row: &Row) -> Result<Snippet> {
    Ok(Snippet {
        id: row.id(0)?,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        details: SnippetDetails {
            name: row.text(3)?,
            description: row.text(4)?,
            sql: row.text(5)?,
            datasource: row.id_opt(6)?,
        },
        created_at: row.time(7)?,
        updated_at: row.time(8)?,
        row_version: row.int(9)?,
    })
}

/// The snippets of one unit: SQL resolves names only within its own unit.
pub(crate) async fn of_unit(conn: &mut Conn, ou: OuId) -> Result<Vec<Snippet>> {
    conn.all(select!("WHERE s.ou_id = $1 ORDER BY s.name"), args![ou]).await?.iter().map(from_row).collect()
}

pub(crate) fn texts(snippets: &[Snippet]) -> Snippets {
    let custom: BTreeMap<String, String> =
        snippets.iter().map(|snippet| (snippet.details.name.clone(), snippet.details.sql.clone())).collect();
    Snippets { custom, builtin: BTreeMap::new() }
}

/// The sort key of the snippet list: name, then id.
pub type SnippetKey = (String, SnippetId);

/// The page of snippets after this key, limited to the ids in `only` if given.
pub async fn snippet_list(
    plane: &Analytics,
    ctx: &OpCtx,
    only: Option<&[SnippetId]>,
    after: Option<SnippetKey>,
) -> Result<Part<Snippet, SnippetKey>> {
    plane.estate().require_some(ctx, nouns::SNIPPET, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(nouns::SNIPPET, Action::VIEW))
        .narrow(&mut wanted, &Place::named("s.ou_id", "s.id IN ($$)"))?;
    if let Some(only) = only {
        wanted.and_ids("s.id", only.iter().map(|id| id.0));
    }
    if let Some((name, id)) = after {
        wanted.and_after("s.name, s.id", args![name, id]);
    }
    let key = |snippet: &Snippet| (snippet.details.name.clone(), snippet.id);
    wanted.page(&mut conn, &LISTING, from_row, key).await
}

pub async fn snippet_get(plane: &Analytics, ctx: &OpCtx, id: SnippetId) -> Result<Snippet> {
    let found = find(&mut plane.estate().store().read().await?, id).await?;
    let found = found.ok_or_else(|| Error::not_found("snippet"))?;
    plane.estate().require(ctx, nouns::SNIPPET, Action::VIEW, &found.ou_path, id.0).await?;
    Ok(found)
}

async fn find(conn: &mut Conn, id: SnippetId) -> Result<Option<Snippet>> {
    conn.opt(select!("WHERE s.id = $1"), args![id]).await?.as_ref().map(from_row).transpose()
}

/// For each of these, in order: the snippets that its text uses directly.
pub async fn snippets_use(plane: &Analytics, snippets: &[Snippet]) -> Result<Vec<Vec<SnippetId>>> {
    let mut conn = plane.estate().store().read().await?;
    let mut units: BTreeMap<OuId, (Vec<Snippet>, Snippets)> = BTreeMap::new();
    for ou in snippets.iter().map(|snippet| snippet.ou).collect::<BTreeSet<_>>() {
        let unit = of_unit(&mut conn, ou).await?;
        let known = texts(&unit);
        units.insert(ou, (unit, known));
    }
    let mut all = Vec::with_capacity(snippets.len());
    for snippet in snippets {
        let Some((unit, known)) = units.get(&snippet.ou) else { continue };
        let usage = lang::analyse(&snippet.details.sql, SqlDialect::Postgres, known);
        let named = usage.map(|usage| usage.direct_snippets).unwrap_or_default();
        all.push(
            unit.iter().filter(|other| named.contains(&other.details.name)).map(|other| other.id).collect(),
        );
    }
    Ok(all)
}

/// Changes to a unit's snippets are serialized: two changes that are valid separately could create a cycle together.
const LOCK_UNIT: &str = "SELECT 1 FROM ous WHERE id = $1 FOR UPDATE";

pub async fn snippet_create(
    plane: &Analytics,
    ctx: &OpCtx,
    details: impl Into<Input<SnippetDetails>>,
) -> Result<Snippet> {
    let estate = plane.estate();
    estate.require_here(ctx, nouns::SNIPPET, Action::MANAGE).await?;
    let details = details.into().checked(SnippetDetails::check)?;
    let (id, now) = (estate.next::<SnippetId>(SnippetId::KIND).await?, estate.now());
    let snippet = Snippet {
        id,
        ou: ctx.authority().ou(),
        ou_path: ctx.authority().ou_path().to_owned(),
        details,
        created_at: now,
        updated_at: now,
        row_version: 1,
    };
    let (copy, caller) = (snippet.clone(), ctx.clone());
    plane
        .change(ctx, act("created", nouns::SNIPPET, id.0, &snippet.details.name), move |tx| {
            Box::pin(async move {
                lock(tx, LOCK_UNIT, copy.ou.0).await?;
                copy.details.check_among(&of_unit(tx, copy.ou).await?)?;
                check_datasource(tx, &caller, copy.details.datasource).await?;
                insert(tx, &copy).await
            })
        })
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(snippet)
}

async fn insert(tx: &mut Tx, snippet: &Snippet) -> Result<()> {
    tx.exec(
        "INSERT INTO snippets (id, ou_id, name, description, body, datasource_id, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        args![
            snippet.id,
            snippet.ou,
            &snippet.details.name,
            &snippet.details.description,
            &snippet.details.sql,
            snippet.details.datasource,
            snippet.created_at,
        ],
    )
    .await
    .map(drop)
}

pub async fn snippet_update(
    plane: &Analytics,
    ctx: &OpCtx,
    id: SnippetId,
    change: Input<impl FnOnce(&mut SnippetDetails)>,
) -> Result<Snippet> {
    let estate = plane.estate();
    let before = snippet_get(plane, ctx, id).await?;
    estate.require(ctx, nouns::SNIPPET, Action::MANAGE, &before.ou_path, id.0).await?;
    let mut after = before.clone();
    change.parsed(|change, faults| {
        change(&mut after.details);
        after.details.check(faults);
    })?;
    after.updated_at = estate.now();
    let (caller, copy, known) = (ctx.clone(), after.clone(), before.details.datasource);
    plane
        .change(ctx, act("updated", nouns::SNIPPET, id.0, &before.details.name), move |tx| {
            Box::pin(async move {
                lock(tx, LOCK_UNIT, copy.ou.0).await?;
                let mut others = of_unit(tx, copy.ou).await?;
                others.retain(|other| other.id != id);
                let details = &copy.details;
                details.check_among(&others)?;
                if details.datasource != known {
                    check_datasource(tx, &caller, details.datasource).await?;
                }
                tx.update_row(
                    "snippet",
                    "UPDATE snippets SET name = $2, description = $3, body = $4, datasource_id = $5, \
                     updated_at = $6, row_version = row_version + 1 WHERE id = $1 AND row_version = $7",
                    args![
                        id,
                        &details.name,
                        &details.description,
                        &details.sql,
                        details.datasource,
                        copy.updated_at,
                        copy.row_version,
                    ],
                )
                .await
            })
        })
        .await
        .map_err(|error| taken(error, "name"))?;
    after.row_version += 1;
    Ok(after)
}

pub async fn snippet_delete(plane: &Analytics, ctx: &OpCtx, id: SnippetId) -> Result<()> {
    let found = snippet_get(plane, ctx, id).await?;
    plane.estate().require(ctx, nouns::SNIPPET, Action::MANAGE, &found.ou_path, id.0).await?;
    plane
        .change(ctx, act("deleted", nouns::SNIPPET, id.0, &found.details.name), move |tx| {
            Box::pin(async move { tx.exec("DELETE FROM snippets WHERE id = $1", args![id]).await.map(drop) })
        })
        .await
}
