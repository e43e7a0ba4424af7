//! Feeds: saved queries, each read with its own token.

use arrow_cast::display::{ArrayFormatter, FormatOptions};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use landreeve_core::error::{Faults, codes};
use landreeve_core::source::CancellationToken;
use landreeve_core::table::{EngineQuery, Variable};
use landreeve_core::{Action, Error, OpCtx, Part, Result, Secret};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::secrets::{new_secret, secret_hash};
use landreeve_estate::store::{Listing, Row, Where};

use crate::ids::FeedId;
use crate::queries::{ask, query_error, statement};
use crate::{Delivery, nouns, text};

/// Limits of a feed: rows, time and bytes.
pub const MAX_ROWS: usize = 1_000;
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);
const MAX_BYTES: usize = 8 * 1_024 * 1_024;
const MAX_SQL: usize = 64 * 1_024;
const PREFIX: &str = "lrf_";

#[derive(Debug, Clone)]
pub struct Feed {
    pub id: FeedId,
    pub name: String,
    pub sql: String,
    pub created_at: Timestamp,
}

/// The rows of a feed, every value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there are more rows.
    pub truncated: bool,
}

/// Saves a query and returns its token, which is shown only once.
pub async fn feed_create(
    plane: &Delivery,
    ctx: &OpCtx,
    name: String,
    sql: String,
) -> Result<(FeedId, Secret)> {
    let estate = plane.estate();
    estate.require_here(ctx, nouns::FEED, Action::MANAGE).await?;
    let mut faults = Faults::default();
    text::check(&mut faults, "name", &name, text::NAME);
    if sql.trim().is_empty() || sql.len() > MAX_SQL {
        faults.push("sql", "length", format!("must have 1 to {MAX_SQL} bytes"));
    }
    faults.finish()?;
    check_statement(plane, &sql).await?;
    let (id, now) = (estate.next::<FeedId>(FeedId::KIND).await?, estate.now());
    let secret = new_secret(&**estate.random(), PREFIX);
    let (hash, ou) = (secret_hash(&secret), ctx.authority().ou());
    let act = OwnedAct::new("created", nouns::FEED, id.0, name.clone());
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                tx.exec(
                    "INSERT INTO delivery_feeds (id, ou_id, name, token_hash, sql, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6)",
                    args![id, ou, name, hash, sql, now],
                )
                .await
                .map(drop)
            })
        })
        .await
        .map_err(|error| match landreeve_estate::store::is_taken(&error) {
            true => Error::fault("name", "taken", "is already the name of another feed in this unit"),
            false => error,
        })?;
    Ok((id, Secret::new(secret)))
}

/// Rejects a statement that could never run. Its variables get their values later.
async fn check_statement(plane: &Delivery, sql: &str) -> Result<()> {
    let query =
        EngineQuery { query: statement(sql.to_owned(), LIMIT), variables: Vec::new(), max_rows: None };
    match plane.engine().check(&plane.catalog().seen_by(&[]), &query).await {
        Err(error) if error.code.as_deref() != Some(codes::MISSING_VARIABLE) => {
            Err(Error::fault("sql", "sql_error", error.message))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The page of feeds of the caller's unit after this name.
pub async fn feed_list(plane: &Delivery, ctx: &OpCtx, after: Option<String>) -> Result<Part<Feed, String>> {
    const LISTING: Listing = Listing {
        columns: "f.id, f.name, f.sql, f.created_at",
        from: "delivery_feeds f",
        order: "f.name",
        size: Some("length(f.sql)"),
    };
    plane.estate().require_here(ctx, nouns::FEED, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    wanted.and_value("f.ou_id = $$", ctx.authority().ou());
    if let Some(name) = after {
        wanted.and_after("f.name", args![name]);
    }
    let feed = |row: &Row| {
        Ok(Feed { id: row.id(0)?, name: row.text(1)?, sql: row.text(2)?, created_at: row.time(3)? })
    };
    wanted.page(&mut conn, &LISTING, feed, |feed| feed.name.clone()).await
}

pub async fn feed_delete(plane: &Delivery, ctx: &OpCtx, name: String) -> Result<()> {
    plane.estate().require_here(ctx, nouns::FEED, Action::MANAGE).await?;
    let ou = ctx.authority().ou();
    plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM delivery_feeds WHERE ou_id = $1 AND name = $2";
                if tx.exec(sql, args![ou, &name]).await? == 0 {
                    return Err(Error::not_found("feed"));
                }
                let act = OwnedAct { action: "deleted", noun: nouns::FEED, noun_id: None, detail: name };
                Ok(((), Some(act)))
            })
        })
        .await
}

/// Runs a saved query over the data of its unit. `columns` selects columns by name.
pub async fn feed_read(
    plane: &Delivery,
    ctx: &OpCtx,
    token: &str,
    variables: Vec<(String, Variable)>,
    columns: &[String],
) -> Result<FeedRows> {
    plane.estate().require_here(ctx, nouns::FEED, Action::VIEW).await?;
    let row = plane
        .estate()
        .store()
        .read()
        .await?
        .opt(
            "SELECT f.sql, o.path FROM delivery_feeds f JOIN ous o ON o.id = f.ou_id WHERE f.token_hash = $1",
            args![secret_hash(token)],
        )
        .await?;
    let unknown = || Error::not_found("feed").saying("no feed has this token");
    let row = row.ok_or_else(unknown)?;
    let path = row.text(1)?;
    // Callers from other units cannot read it, even with the token.
    if !path.starts_with(ctx.authority().ou_path()) {
        return Err(unknown());
    }
    let query = EngineQuery { query: statement(row.text(0)?, LIMIT), variables, max_rows: None };
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    take(ask(plane, &[path], query, cancel).await?, columns).await
}

async fn take(mut stream: landreeve_core::source::QueryStream, columns: &[String]) -> Result<FeedRows> {
    let names: Vec<String> = stream.schema.fields().iter().map(|field| field.name().clone()).collect();
    let picked = pick(&names, columns)?;
    let columns = picked.iter().map(|at| names[*at].clone()).collect();
    let mut taken = FeedRows { columns, rows: Vec::new(), truncated: false };
    let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));
    let mut bytes = 0;
    while let Some(batch) = stream.batches.next().await {
        let batch = batch.map_err(|error| query_error(&error))?;
        let formatters = picked.iter().map(|at| ArrayFormatter::try_new(batch.column(*at), &options));
        let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
        for row in 0..batch.num_rows() {
            if taken.rows.len() == MAX_ROWS {
                return Ok(FeedRows { truncated: true, ..taken });
            }
            let cell = |(at, formatter): (&usize, &ArrayFormatter<'_>)| {
                batch.column(*at).is_valid(row).then(|| formatter.value(row).to_string())
            };
            let cells: Vec<Option<String>> = picked.iter().zip(&formatters).map(cell).collect();
            bytes += cells.iter().flatten().map(String::len).sum::<usize>();
            if bytes > MAX_BYTES {
                return Err(Error::fault(
                    "sql",
                    "too_large",
                    "returns more than 8 MiB; select fewer columns",
                ));
            }
            taken.rows.push(cells);
        }
    }
    Ok(taken)
}

fn pick(names: &[String], columns: &[String]) -> Result<Vec<usize>> {
    if columns.is_empty() {
        return Ok((0..names.len()).collect());
    }
    let mut faults = Faults::default();
    let picked = columns.iter().filter_map(|column| {
        let at = names.iter().position(|name| name == column);
        if at.is_none() {
            faults.push("columns", "unknown", format!("{column:?} is not a column of the feed"));
        }
        at
    });
    let picked = picked.collect();
    faults.finish()?;
    Ok(picked)
}
