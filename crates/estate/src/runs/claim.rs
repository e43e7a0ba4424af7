//! How a node takes waiting runs: the submitters in turn, their oldest first, several in one transaction.
//!
//! One statement reads who waits and which of their runs may start, one takes those that were chosen. Another node may
//! take the same in between: the second statement checks again, and the node that came too late looks again.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use landreeve_core::PoolName;
use landreeve_core::Result;
use landreeve_core::ids::RunId;

use super::pools::Holder;
pub use super::pools::Shares;
use super::queue::{Lease, lock_lane, micros};
use super::record::{self, Run};
use crate::store::{Dialect, Notice, Row, Tx, store_now};
use crate::{args, run_columns};

/// Which runs to claim.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub pool: PoolName,
    /// The kinds that this process executes: `,query,probe,`.
    pub kinds: String,
    pub lease: Lease,
    pub family: Family,
}

/// Whose children a process takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Family {
    /// Every run.
    Any,
    /// Only children, of any run: too many parents wait to start more.
    Children,
    /// Only children of these runs (`,7,9,`): a command executes the runs that it submits and their children.
    Of(String),
}

/// Maximum number of submitters that are considered in one turn.
const MAX_TURNS: usize = 64;

/// A waiting run that may start.
struct Candidate {
    id: RunId,
    holder: Holder,
    lane: Option<String>,
    /// Free places in its lane.
    room: i64,
}

/// Claims at most so many runs, each as if those before it already ran: of the submitters that wait, the least recently
/// served is next, with its oldest run that may start.
pub async fn claim(
    tx: &mut Tx,
    wanted: &Wanted,
    shares: Shares,
    most: usize,
    now: Timestamp,
) -> Result<Vec<Run>> {
    let (submitters, mut turns) = in_turn(tx, wanted, &shares, most).await?;
    if turns.is_empty() && submitters >= MAX_TURNS {
        // The runs of all these submitters wait for their lanes. Next are those that have waited longest.
        turns.push_back(oldest(tx, wanted, &shares, most).await?);
    }
    let chosen = choose(turns, shares, most);
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let (most, chosen) = (chosen.len(), with_room(tx, chosen).await?);
    let runs = take(tx, &chosen, wanted.lease, now).await?;
    if runs.len() < most {
        // Another node was faster. Later runs may be able to start: look again.
        tx.notice(Notice::Queue(wanted.pool)).await?;
    }
    Ok(runs)
}

/// Goes round the submitters until nothing more may start.
fn choose(mut turns: VecDeque<VecDeque<Candidate>>, mut shares: Shares, most: usize) -> Vec<Candidate> {
    let mut chosen: Vec<Candidate> = Vec::with_capacity(most);
    let mut taken: HashMap<String, i64> = HashMap::new();
    while let Some(mut waiting) = turns.pop_front() {
        let next = std::iter::from_fn(|| waiting.pop_front()).find(|candidate| {
            let lane = candidate.lane.as_ref();
            lane.is_none_or(|lane| taken.get(lane).is_none_or(|taken| *taken < candidate.room))
                && !shares.is_full(&candidate.holder)
        });
        let Some(next) = next else { continue };
        if let Some(lane) = &next.lane {
            *taken.entry(lane.clone()).or_default() += 1;
        }
        shares.add(&next.holder);
        chosen.push(next);
        if chosen.len() >= most {
            break;
        }
        turns.push_back(waiting);
    }
    chosen
}

/// `submitter || ''` is what the indexes of waiting runs are on, see migration 7. The first part steps from submitter to
/// submitter in the index, however many runs each has waiting.
macro_rules! submitters {
    ($position:literal) => {
        concat!(
            "WITH RECURSIVE s (submitter) AS (SELECT (SELECT r.submitter || '' FROM runs r WHERE r.state = 'queued' \
             AND r.pool = $1 ORDER BY r.submitter || '' LIMIT 1) \
             UNION ALL SELECT (SELECT r.submitter || '' FROM runs r WHERE r.state = 'queued' AND r.pool = $1 \
             AND r.submitter || '' > s.submitter ORDER BY r.submitter || '' LIMIT 1) FROM s \
             WHERE s.submitter IS NOT NULL), \
             turns (submitter, place) AS (SELECT submitter, ",
            $position,
            "($9, ',' || submitter || ',') FROM s WHERE submitter IS NOT NULL ORDER BY 2, 1 LIMIT $10), "
        )
    };
}

/// How many places of each lane are taken.
macro_rules! busy {
    () => {
        "busy (lane, n) AS (SELECT lane, count(*) FROM runs WHERE occupies = 1 AND lane IS NOT NULL GROUP BY lane) "
    };
}

/// The oldest runs that may start. In a lane, those that clean up are first: what comes after them must find what they leave.
macro_rules! startable {
    ($position:literal, $submitter:literal) => {
        concat!(
            "FROM runs r LEFT JOIN busy b ON b.lane = r.lane WHERE r.state = 'queued' AND r.pool = $1",
            $submitter,
            " AND ",
            $position,
            "($2, ',' || r.kind || ',') > 0 AND (r.lane IS NULL OR COALESCE(b.n, 0) < r.lane_limit) \
             AND (r.lane IS NULL OR r.cleans_up = 1 OR NOT EXISTS (SELECT 1 FROM runs a WHERE a.lane = r.lane \
             AND a.state = 'queued' AND a.cleans_up = 1)) \
             AND (r.submitter IN ('system', 'operator') OR (",
            $position,
            "($3, ',' || r.submitter || ',') = 0 AND (r.noun IS NULL OR r.noun <> 'datasource' OR ",
            $position,
            "($4, ',' || r.noun_id || ',') = 0) AND ",
            $position,
            "($5, ',' || r.ou_id || ',') = 0)) AND ($6 = 0 OR r.parent_id IS NOT NULL) AND ($7 = '' OR ",
            $position,
            "($7, ',' || COALESCE(r.parent_id, 0) || ',') > 0) ORDER BY r.submitted_at, r.id LIMIT $8"
        )
    };
}

macro_rules! columns {
    ($run:literal, $submitter:literal) => {
        concat!(
            "SELECT ",
            $run,
            ".id, ",
            $submitter,
            ", ",
            $run,
            ".noun, ",
            $run,
            ".noun_id, ",
            $run,
            ".ou_id, ",
            $run,
            ".lane, ",
            $run,
            ".lane_limit - COALESCE(b.n, 0) "
        )
    };
}

/// The parameters of `startable`.
fn bound(wanted: &Wanted, shares: &Shares, most: usize) -> Vec<crate::store::Arg> {
    let (children, parents) = match &wanted.family {
        Family::Any => (0, ""),
        Family::Children => (1, ""),
        Family::Of(parents) => (1, parents.as_str()),
    };
    let full = shares.full();
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    args![
        wanted.pool.as_str(),
        &wanted.kinds,
        full.submitters,
        full.sources,
        full.units,
        i64::from(children),
        parents,
        most,
    ]
}

/// The waiting runs that may start, by submitter, least recently served first; and how many submitters were considered.
async fn in_turn(
    tx: &mut Tx,
    wanted: &Wanted,
    shares: &Shares,
    most: usize,
) -> Result<(usize, VecDeque<VecDeque<Candidate>>)> {
    let sql = tx.dialect().pick(
        concat!(
            submitters!("instr"),
            busy!(),
            columns!("c", "t.submitter"),
            "FROM turns t LEFT JOIN runs c ON c.id IN (SELECT r.id ",
            startable!("instr", " AND r.submitter || '' = t.submitter"),
            ") LEFT JOIN busy b ON b.lane = c.lane ORDER BY t.place, t.submitter, c.submitted_at, c.id"
        ),
        concat!(
            submitters!("strpos"),
            busy!(),
            columns!("c", "t.submitter"),
            "FROM turns t LEFT JOIN LATERAL (SELECT r.id, r.noun, r.noun_id, r.ou_id, r.lane, r.lane_limit, \
             r.submitted_at ",
            startable!("strpos", " AND r.submitter || '' = t.submitter"),
            ") c ON true LEFT JOIN busy b ON b.lane = c.lane ORDER BY t.place, t.submitter, c.submitted_at, c.id"
        ),
    );
    let mut bound = bound(wanted, shares, most);
    bound.extend(args![shares.turns(), i64::try_from(MAX_TURNS).unwrap_or(i64::MAX)]);
    let rows = tx.all(sql, bound).await?;
    let mut submitters: HashSet<String> = HashSet::new();
    let mut turns: VecDeque<VecDeque<Candidate>> = VecDeque::new();
    for row in &rows {
        let first = submitters.insert(row.text(1)?);
        let Some(candidate) = candidate(row)? else { continue };
        match turns.back_mut().filter(|_| !first) {
            Some(waiting) => waiting.push_back(candidate),
            None => turns.push_back(VecDeque::from([candidate])),
        }
    }
    Ok((submitters.len(), turns))
}

/// The oldest runs that may start, of any submitter.
async fn oldest(tx: &mut Tx, wanted: &Wanted, shares: &Shares, most: usize) -> Result<VecDeque<Candidate>> {
    let sql = tx.dialect().pick(
        concat!("WITH ", busy!(), columns!("r", "r.submitter"), startable!("instr", "")),
        concat!("WITH ", busy!(), columns!("r", "r.submitter"), startable!("strpos", "")),
    );
    let rows = tx.all(sql, bound(wanted, shares, most)).await?;
    rows.iter().filter_map(|row| candidate(row).transpose()).collect()
}

/// `None` for a submitter without a run that may start.
fn candidate(row: &Row) -> Result<Option<Candidate>> {
    let Some(id) = row.id_opt(0)? else { return Ok(None) };
    let source = row.text_opt(2)?.filter(|noun| noun == "datasource").and(row.int_opt(3)?);
    let holder = Holder::new(row.text(1)?, source, row.int(4)?);
    Ok(Some(Candidate { id, holder, lane: row.text_opt(5)?, room: row.int_opt(6)?.unwrap_or(0) }))
}

/// Those whose lanes still have a place for them, once no other node can take one. SQLite has only one writer.
///
/// A statement of its own, and not a part of the UPDATE: see the counts of `queue`.
async fn with_room(tx: &mut Tx, chosen: Vec<Candidate>) -> Result<Vec<Candidate>> {
    let lanes: BTreeSet<&String> = chosen.iter().filter_map(|candidate| candidate.lane.as_ref()).collect();
    if tx.dialect() == Dialect::Sqlite || lanes.is_empty() {
        return Ok(chosen);
    }
    for lane in lanes {
        lock_lane(tx, lane).await?;
    }
    // A count for each lane reads the index of what occupies it in order, and so removes the entries of what no longer does;
    // one for all lanes becomes a bitmap scan, which removes none.
    let sql = "SELECT r.id, r.lane_limit - (SELECT count(*) FROM runs o WHERE o.lane = r.lane AND o.occupies = 1) \
               FROM runs r WHERE r.id = ANY (string_to_array($1, ',')::bigint[])";
    let rows = tx.all(sql, args![ids(&chosen)]).await?;
    let rooms = rows.iter().map(|row| Ok((row.id(0)?, row.int_opt(1)?.unwrap_or(0))));
    let rooms: HashMap<RunId, i64> = rooms.collect::<Result<_>>()?;
    let mut taken: HashMap<String, i64> = HashMap::new();
    let mut has_room = |candidate: &Candidate| {
        let Some(lane) = &candidate.lane else { return true };
        let taken = taken.entry(lane.clone()).or_default();
        *taken += 1;
        rooms.get(&candidate.id).is_some_and(|room| *taken <= *room)
    };
    Ok(chosen.into_iter().filter(|candidate| has_room(candidate)).collect())
}

fn ids(chosen: &[Candidate]) -> String {
    chosen.iter().map(|candidate| candidate.id.0.to_string()).collect::<Vec<_>>().join(",")
}

/// Takes the chosen runs, in their order, if no other node has taken them.
async fn take(tx: &mut Tx, chosen: &[Candidate], lease: Lease, now: Timestamp) -> Result<Vec<Run>> {
    macro_rules! statement {
        ($store:ident, $which:literal) => {
            concat!(
                "UPDATE runs SET state = CASE WHEN cancel_requested = 1 THEN 'cancelling' ELSE 'starting' END, \
                 node_id = $2, lease_until = ",
                store_now!($store "$4"),
                " + $3, attempt = attempt + 1, occupies = 1, started_at = COALESCE(started_at, $4), updated_at = $4 \
                 WHERE ",
                $which,
                " RETURNING ",
                run_columns!()
            )
        };
    }
    // `state || ''` because the planner would read the whole index of waiting runs, with all that no longer wait.
    let sql = tx.dialect().pick(
        statement!(sqlite, "id IN (SELECT value FROM json_each('[' || $1 || ']')) AND state = 'queued'"),
        statement!(
            postgres,
            "id = ANY (ARRAY(SELECT w.id FROM runs w WHERE w.id = ANY (string_to_array($1, ',')::bigint[]) \
             AND w.state || '' = 'queued' FOR UPDATE SKIP LOCKED))"
        ),
    );
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx.all(sql, args![ids(chosen), lease.node, micros(lease.term), now]).await?;
    let mut runs = rows.iter().map(record::from_row).collect::<Result<Vec<Run>>>()?;
    runs.sort_by_key(|run| chosen.iter().position(|candidate| candidate.id == run.id));
    for run in &runs {
        tx.run_changed(run.id).await?;
    }
    Ok(runs)
}
