//! Lists of runs: filters, order and pages.
//!
//! Each statement has only the conditions that the filter needs, so that the index for that filter can be used. Values
//! are bound.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Page, PageOf, Result, RunKind, RunState};

use super::record::{self, Run};
use crate::identity::{Place, Visibility, ous};
use crate::run_columns;
use crate::store::{Arg, Conn, Where};

/// Limits a list of runs. A field that is `None` or empty does not limit it.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub kinds: Vec<RunKind>,
    pub states: Vec<RunState>,
    pub family: Option<FamilyFilter>,
    /// `user:3`, `key:7`, `operator`, `system`.
    pub submitter: Option<String>,
    /// A noun, and optionally one resource of it.
    pub noun: Option<(String, Option<i64>)>,
    /// Only this unit, without those below it.
    pub ou: Option<OuId>,
    /// From, inclusive, and to, exclusive.
    pub submitted: Range,
    pub finished: Range,
    /// Part of the kind, the submitter's name, the note or the error.
    pub text: Option<String>,
    pub ids: Option<Vec<RunId>>,
    /// What only a plane knows.
    pub narrow: Option<Narrow>,
    pub order: RunOrder,
}

/// Adds a plane's conditions on `runs`.
#[derive(Clone)]
pub struct Narrow(pub Arc<dyn Fn(&mut Where) + Send + Sync>);

impl fmt::Debug for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Narrow")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyFilter {
    TopLevel,
    ChildrenOf(RunId),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

impl Range {
    pub fn new(from: Option<Timestamp>, to: Option<Timestamp>) -> Range {
        Range { from, to }
    }

    fn is_open(self) -> bool {
        self == Range::default()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunOrder {
    /// By submission time. Ids grow with it, except for runs submitted at the same moment.
    #[default]
    Newest,
    Oldest,
    /// Only runs that have ended, by the time they ended.
    LastFinished,
}

/// The run after which a page starts, for lists without a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    pub id: RunId,
    /// When that run was submitted or ended, depending on the order.
    pub at: Timestamp,
}

/// Maximum number of units that are read one by one, newest first in each.
const MAX_UNIONS: usize = 16;

/// Which units a list reads one by one, to use the index on units. Does not affect which runs are visible.
enum Units {
    /// All units together.
    All,
    These(Vec<OuId>),
}

const PLACE: Place = Place::named("runs.ou_id", "runs.id IN ($$)");

fn conditions(conn: &Conn, visibility: &Visibility, filter: &RunFilter) -> Result<Where> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &PLACE)?;
    wanted.and_any("runs.kind", filter.kinds.iter().map(|kind| Arg::from(kind.as_str())));
    wanted.and_any("runs.state", filter.states.iter().map(|state| Arg::from(state.as_str())));
    match filter.family {
        None => {}
        Some(FamilyFilter::TopLevel) => wanted.and("runs.parent_id IS NULL"),
        Some(FamilyFilter::ChildrenOf(parent)) => wanted.and_value("runs.parent_id = $$", parent),
    }
    if let Some(submitter) = &filter.submitter {
        wanted.and_value("runs.submitter = $$", submitter);
    }
    if let Some((noun, id)) = &filter.noun {
        wanted.and_value("runs.noun = $$", noun);
        if let Some(id) = id {
            wanted.and_value("runs.noun_id = $$", *id);
        }
    }
    for (column, range) in [("runs.submitted_at", filter.submitted), ("runs.finished_at", filter.finished)] {
        if let Some(from) = range.from {
            wanted.and_value(&format!("{column} >= $$"), from);
        }
        if let Some(to) = range.to {
            wanted.and_value(&format!("{column} < $$"), to);
        }
    }
    if filter.order == RunOrder::LastFinished {
        wanted.and("runs.finished_at IS NOT NULL");
    }
    if let Some(text) = &filter.text {
        let pattern = format!(
            "%{}%",
            text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
        );
        wanted.and_value(
            "lower(runs.kind || ' ' || runs.actor_name || ' ' || runs.progress_note || ' ' || \
             COALESCE(runs.error_message, '')) LIKE $$ ESCAPE '\\'",
            pattern,
        );
    }
    if let Some(ids) = &filter.ids {
        wanted.and_ids("runs.id", ids.iter().map(|id| id.0));
    }
    if let Some(Narrow(narrow)) = &filter.narrow {
        narrow(&mut wanted);
    }
    Ok(wanted)
}

/// The column that orders the list: not the id, because ids come in blocks. With a range of end times, this is the
/// range's column, so that its index can be used.
fn ordered_by(filter: &RunFilter) -> &'static str {
    match filter.order {
        RunOrder::LastFinished => "runs.finished_at",
        _ if !filter.finished.is_open() => "runs.finished_at",
        _ => "runs.submitted_at",
    }
}

fn direction(filter: &RunFilter) -> &'static str {
    if filter.order == RunOrder::Oldest { "ASC" } else { "DESC" }
}

async fn units(conn: &mut Conn, visibility: &Visibility, filter: &RunFilter) -> Result<Units> {
    if let Some(ou) = filter.ou {
        return Ok(Units::These(vec![ou]));
    }
    if visibility.path() == "/1/" {
        return Ok(Units::All);
    }
    let few = ous::ids_below(conn, visibility.path(), MAX_UNIONS + 1).await?;
    Ok(if few.len() > MAX_UNIONS { Units::All } else { Units::These(few) })
}

/// A page with the exact total.
pub async fn list(
    conn: &mut Conn,
    visibility: &Visibility,
    filter: &RunFilter,
    page: Page,
) -> Result<PageOf<Run>> {
    let units = units(conn, visibility, filter).await?;
    let wanted = conditions(conn, visibility, filter)?;
    let total = count(conn, &wanted, &units).await?;
    let offset = i64::try_from(page.offset).unwrap_or(i64::MAX);
    let items = select(conn, filter, wanted, &units, i64::from(page.limit), offset).await?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

/// The runs after a given one, without the total.
pub async fn list_after(
    conn: &mut Conn,
    visibility: &Visibility,
    filter: &RunFilter,
    after: Option<After>,
    limit: u32,
) -> Result<Vec<Run>> {
    let units = units(conn, visibility, filter).await?;
    let mut wanted = conditions(conn, visibility, filter)?;
    if let Some(after) = after {
        let compare = if filter.order == RunOrder::Oldest { ">" } else { "<" };
        let (column, at) = (ordered_by(filter), wanted.bind(after.at));
        wanted.and_value(&format!("({column}, runs.id) {compare} ({at}, $$)"), after.id);
    }
    select(conn, filter, wanted, &units, i64::from(limit), 0).await
}

fn in_units(wanted: &Where, units: &[OuId]) -> String {
    let condition = wanted.sql();
    match units {
        [] => format!("{condition} AND 1 = 0"),
        [one] => format!("{condition} AND runs.ou_id = {one}"),
        many => {
            let list = many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("{condition} AND runs.ou_id IN ({list})")
        }
    }
}

async fn count(conn: &mut Conn, wanted: &Where, units: &Units) -> Result<u64> {
    let condition = match units {
        Units::All => wanted.sql().to_owned(),
        Units::These(units) => in_units(wanted, units),
    };
    let sql = format!("SELECT count(*) FROM runs WHERE {condition}");
    let rows = conn.select(sql, wanted.args().to_vec()).await?;
    rows.first().map_or(Ok(0), |row| row.int(0).map(i64::unsigned_abs))
}

async fn select(
    conn: &mut Conn,
    filter: &RunFilter,
    mut wanted: Where,
    units: &Units,
    limit: i64,
    offset: i64,
) -> Result<Vec<Run>> {
    let (column, direction) = (ordered_by(filter), direction(filter));
    let order = format!("ORDER BY {column} {direction}, runs.id {direction}");
    let first = wanted.bind(limit.saturating_add(offset));
    let (limited, skipped) = (wanted.bind(limit), wanted.bind(offset));
    let ids = match units {
        Units::All => {
            format!("SELECT runs.id FROM runs WHERE {} {order} LIMIT {first}", wanted.sql())
        }
        // Reads each unit's newest runs from the index, so that only a few are sorted.
        Units::These(units) if (2..=MAX_UNIONS).contains(&units.len()) && column == "runs.submitted_at" => {
            let each = units.iter().map(|unit| {
                let condition = in_units(&wanted, &[*unit]);
                format!("SELECT id FROM (SELECT runs.id FROM runs WHERE {condition} {order} LIMIT {first}) u{unit}")
            });
            each.collect::<Vec<_>>().join(" UNION ALL ")
        }
        Units::These(units) => {
            format!("SELECT runs.id FROM runs WHERE {} {order} LIMIT {first}", in_units(&wanted, units))
        }
    };
    let columns = run_columns!();
    let sql = format!(
        "SELECT {columns} FROM runs WHERE runs.id IN ({ids}) {order} LIMIT {limited} OFFSET {skipped}"
    );
    let rows = conn.select(sql, wanted.into_parts().1).await?;
    rows.iter().map(record::from_row).collect()
}
