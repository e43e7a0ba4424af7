//! Lists of runs: what they are narrowed to, in which order, a page at a time.
//!
//! Each statement is put together from what the filter asks, so that the index of the one thing it asks for can serve
//! it; values are bound.

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Page, PageOf, Result, RunKind, RunState};

use super::record::{self, Run};
use crate::identity::Visibility;
use crate::identity::ous;
use crate::run_columns;
use crate::store::{Arg, Conn, Dialect};

/// What a list of runs is narrowed to. Every field that is `None` or empty leaves things open.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub kinds: Vec<RunKind>,
    pub states: Vec<RunState>,
    pub family: Option<FamilyFilter>,
    /// `user:3`, `key:7`, `operator`, `system`.
    pub submitter: Option<String>,
    /// A noun, and one thing of it.
    pub noun: Option<(String, Option<i64>)>,
    /// This unit, without those below it.
    pub ou: Option<OuId>,
    /// From, inclusive, and to, exclusive.
    pub submitted: Range,
    pub finished: Range,
    /// Part of the kind, the submitter's name, the note or the error.
    pub text: Option<String>,
    pub order: RunOrder,
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
    /// By submission. Ids grow with it, but for runs of the same moment.
    #[default]
    Newest,
    Oldest,
    /// Runs that have ended, by their end.
    LastFinished,
}

/// Where a page begins that is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    pub id: RunId,
    /// When that run was submitted or ended, depending on the order.
    pub at: Timestamp,
}

/// Up to so many units are looked up one by one, newest first in each.
const MAX_UNIONS: usize = 16;

/// A condition with its values, put together piece by piece.
struct Where {
    sql: String,
    args: Vec<Arg>,
}

impl Where {
    fn new() -> Where {
        Where { sql: String::from("1 = 1"), args: Vec::new() }
    }

    /// `$$` stands for the next parameter.
    fn and(&mut self, condition: &str, value: impl Into<Arg>) {
        self.args.push(value.into());
        let place = format!("${}", self.args.len());
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition.replace("$$", &place));
    }

    fn any(&mut self, column: &str, values: impl IntoIterator<Item = Arg>) {
        let mut places = Vec::new();
        for value in values {
            self.args.push(value);
            places.push(format!("${}", self.args.len()));
        }
        if let [one] = places.as_slice() {
            self.sql.push_str(&format!(" AND {column} = {one}"));
        } else if !places.is_empty() {
            self.sql.push_str(&format!(" AND {column} IN ({})", places.join(", ")));
        }
    }
}

/// Which units a list reads.
enum Units {
    /// Whatever unit a run is in.
    All,
    These(Vec<OuId>),
}

fn conditions(filter: &RunFilter) -> Where {
    let mut wanted = Where::new();
    wanted.any("runs.kind", filter.kinds.iter().map(|kind| Arg::from(kind.as_str())));
    wanted.any("runs.state", filter.states.iter().map(|state| Arg::from(state.as_str())));
    match filter.family {
        None => {}
        Some(FamilyFilter::TopLevel) => wanted.sql.push_str(" AND runs.parent_id IS NULL"),
        Some(FamilyFilter::ChildrenOf(parent)) => wanted.and("runs.parent_id = $$", parent),
    }
    if let Some(submitter) = &filter.submitter {
        wanted.and("runs.submitter = $$", submitter);
    }
    if let Some((noun, id)) = &filter.noun {
        wanted.and("runs.noun = $$", noun);
        if let Some(id) = id {
            wanted.and("runs.noun_id = $$", *id);
        }
    }
    for (column, range) in [("runs.submitted_at", filter.submitted), ("runs.finished_at", filter.finished)] {
        if let Some(from) = range.from {
            wanted.and(&format!("{column} >= $$"), from);
        }
        if let Some(to) = range.to {
            wanted.and(&format!("{column} < $$"), to);
        }
    }
    if filter.order == RunOrder::LastFinished {
        wanted.sql.push_str(" AND runs.finished_at IS NOT NULL");
    }
    if let Some(text) = &filter.text {
        let pattern = format!(
            "%{}%",
            text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
        );
        wanted.and(
            "lower(runs.kind || ' ' || runs.actor_name || ' ' || runs.progress_note || ' ' || \
             COALESCE(runs.error_message, '')) LIKE $$ ESCAPE '\\'",
            pattern,
        );
    }
    wanted
}

/// The column that orders the list. A range of times is read from its own index, newest first in it.
fn ordered_by(filter: &RunFilter) -> &'static str {
    match filter.order {
        RunOrder::LastFinished => "runs.finished_at",
        _ if !filter.finished.is_open() => "runs.finished_at",
        _ if !filter.submitted.is_open() => "runs.submitted_at",
        _ => "runs.id",
    }
}

fn direction(filter: &RunFilter) -> &'static str {
    if filter.order == RunOrder::Oldest { "ASC" } else { "DESC" }
}

/// What the caller sees of units other than by the subtree alone is checked row by row.
fn and_seen(wanted: &mut Where, visibility: &Visibility, dialect: Dialect) {
    let Some(roots) = &visibility.roots else { return };
    let position = dialect.pick("instr", "strpos");
    wanted.args.push(Arg::from(roots));
    let roots = wanted.args.len();
    wanted.args.push(Arg::from(&visibility.ids));
    let ids = wanted.args.len();
    wanted.sql.push_str(&format!(
        " AND ({position}(${ids}, ',' || runs.id || ',') > 0 OR EXISTS (SELECT 1 FROM ous o JOIN ous a ON \
         substr(o.path, 1, length(a.path)) = a.path WHERE o.id = runs.ou_id \
         AND {position}(${roots}, ',' || a.path || ',') > 0))"
    ));
}

async fn units(conn: &mut Conn, visibility: &Visibility, filter: &RunFilter) -> Result<Units> {
    let root = visibility.path == "/1/";
    match filter.ou {
        None if root => Ok(Units::All),
        None => {
            Ok(Units::These(ous::subtree(conn, &visibility.path).await?.iter().map(|ou| ou.id).collect()))
        }
        Some(ou) => {
            let found = ous::get(conn, ou).await?.filter(|found| found.path.starts_with(&visibility.path));
            Ok(Units::These(found.iter().map(|ou| ou.id).collect()))
        }
    }
}

/// A page with the exact number of all that match.
pub async fn list(
    conn: &mut Conn,
    dialect: Dialect,
    visibility: &Visibility,
    filter: &RunFilter,
    page: Page,
) -> Result<PageOf<Run>> {
    let units = units(conn, visibility, filter).await?;
    let mut wanted = conditions(filter);
    and_seen(&mut wanted, visibility, dialect);
    let total = count(conn, &wanted, &units).await?;
    let offset = i64::try_from(page.offset).unwrap_or(i64::MAX);
    let items = select(conn, filter, wanted, &units, i64::from(page.limit), offset).await?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

/// The next runs after one that was shown, without counting.
pub async fn list_after(
    conn: &mut Conn,
    dialect: Dialect,
    visibility: &Visibility,
    filter: &RunFilter,
    after: Option<After>,
    limit: u32,
) -> Result<Vec<Run>> {
    let units = units(conn, visibility, filter).await?;
    let mut wanted = conditions(filter);
    and_seen(&mut wanted, visibility, dialect);
    if let Some(after) = after {
        let compare = if filter.order == RunOrder::Oldest { ">" } else { "<" };
        match ordered_by(filter) {
            "runs.id" => wanted.and(&format!("runs.id {compare} $$"), after.id),
            column => {
                wanted.args.push(Arg::from(after.at));
                let at = wanted.args.len();
                wanted.and(&format!("({column}, runs.id) {compare} (${at}, $$)"), after.id);
            }
        }
    }
    select(conn, filter, wanted, &units, i64::from(limit), 0).await
}

fn in_units(wanted: &Where, units: &[OuId]) -> String {
    match units {
        [] => format!("{} AND 1 = 0", wanted.sql),
        [one] => format!("{} AND runs.ou_id = {one}", wanted.sql),
        many => {
            let list = many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("{} AND runs.ou_id IN ({list})", wanted.sql)
        }
    }
}

async fn count(conn: &mut Conn, wanted: &Where, units: &Units) -> Result<u64> {
    let condition = match units {
        Units::All => wanted.sql.clone(),
        Units::These(units) => in_units(wanted, units),
    };
    let sql = format!("SELECT count(*) FROM runs WHERE {condition}");
    let rows: Vec<_> = conn.rows(sql, wanted.args.clone())?.try_collect().await?;
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
    let order = match column {
        "runs.id" => format!("ORDER BY runs.id {direction}"),
        column => format!("ORDER BY {column} {direction}, runs.id {direction}"),
    };
    wanted.args.push(Arg::from(limit.saturating_add(offset)));
    let first = wanted.args.len();
    wanted.args.extend([Arg::from(limit), Arg::from(offset)]);
    let (limited, skipped) = (first + 1, first + 2);
    let ids = match units {
        Units::All => {
            format!("SELECT runs.id FROM runs WHERE {} {order} LIMIT ${first}", wanted.sql)
        }
        // Each unit's newest from its own index; the sort then sees few.
        Units::These(units) if (2..=MAX_UNIONS).contains(&units.len()) && column == "runs.id" => {
            let each = units.iter().map(|unit| {
                let condition = in_units(&wanted, &[*unit]);
                format!("SELECT id FROM (SELECT runs.id FROM runs WHERE {condition} {order} LIMIT ${first}) u{unit}")
            });
            each.collect::<Vec<_>>().join(" UNION ALL ")
        }
        Units::These(units) => {
            format!("SELECT runs.id FROM runs WHERE {} {order} LIMIT ${first}", in_units(&wanted, units))
        }
    };
    let columns = run_columns!();
    let sql = format!(
        "SELECT {columns} FROM runs WHERE runs.id IN ({ids}) {order} LIMIT ${limited} OFFSET ${skipped}"
    );
    let rows: Vec<_> = conn.rows(sql, wanted.args)?.try_collect().await?;
    rows.iter().map(record::from_row).collect()
}
