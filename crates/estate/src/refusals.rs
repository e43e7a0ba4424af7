//! Denied requests of known callers on their way to the audit trail: the first is an event immediately, repetitions
//! within a minute are only counted. A caller with many different denials shares one line for those beyond a limit, so
//! that a caller cannot fill the trail, or this memory, by requesting what they are not allowed to have.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::Timestamp;
use landreeve_core::OpCtx;

use crate::estate::OwnedAct;

/// How long repetitions are only counted, in microseconds.
const WINDOW: i64 = 60_000_000;
/// How many different denials of a caller get their own event within that time.
const MAX_PER_CALLER: usize = 32;
const MAX_REMEMBERED: usize = 1_024;

#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Refusal, Seen>>);

/// A caller, a reason and an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Refusal {
    caller: Caller,
    /// `None`: all other denials of that caller.
    what: Option<(String, Option<i64>, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Caller(&'static str, Option<i64>, &'static str);

#[derive(Debug)]
struct Seen {
    since: Timestamp,
    /// Not yet written.
    counted: u64,
    ctx: OpCtx,
    act: OwnedAct,
}

impl Seen {
    fn is_over(&self, now: Timestamp) -> bool {
        // A clock that was set back also ends the minute.
        !(0..WINDOW).contains(&(now.as_microsecond() - self.since.as_microsecond()))
    }
}

impl Refusals {
    /// The event to write now, unless this denial is only counted.
    pub fn note(&self, ctx: &OpCtx, act: OwnedAct, now: Timestamp) -> Option<OwnedAct> {
        let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = key(&seen, ctx, &act);
        let first = Seen { since: now, counted: 0, ctx: ctx.clone(), act: act.clone() };
        let Some(known) = seen.get_mut(&key) else {
            seen.insert(key, first);
            return Some(act);
        };
        if !known.is_over(now) {
            known.counted += 1;
            return None;
        }
        let counted = known.counted;
        *known = first;
        let detail = if counted == 0 { act.detail } else { format!("{}; {counted} more before", act.detail) };
        Some(OwnedAct { detail, ..act })
    }

    /// The counts that have not been written: those of past minutes, or all of them.
    pub fn take(&self, now: Timestamp, all: bool) -> Vec<(OpCtx, OwnedAct)> {
        let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let over = seen.extract_if(|_, seen| all || seen.is_over(now));
        let counted = over.filter(|(_, seen)| seen.counted > 0).map(|(key, seen)| {
            let what = if key.what.is_some() { seen.act.detail } else { "of several kinds".to_owned() };
            let noun_id = seen.act.noun_id.filter(|_| key.what.is_some());
            let detail = format!("{what}; {} more", seen.counted);
            (seen.ctx, OwnedAct { detail, noun_id, ..seen.act })
        });
        counted.collect()
    }
}

fn key(seen: &HashMap<Refusal, Seen>, ctx: &OpCtx, act: &OwnedAct) -> Refusal {
    let caller = Caller(ctx.actor().kind(), ctx.actor().id(), ctx.kind().as_str());
    let what = (act.noun.as_str().to_owned(), act.noun_id, act.detail.clone());
    let own = Refusal { caller, what: Some(what) };
    if seen.contains_key(&own) {
        return own;
    }
    let of_caller = || seen.keys().filter(|known| known.caller == caller).count();
    if seen.len() < MAX_REMEMBERED && of_caller() < MAX_PER_CALLER {
        return own;
    }
    let rest = Refusal { caller, what: None };
    // Every caller has one line for the rest; callers beyond the limit share one.
    if seen.contains_key(&rest) || seen.len() < 2 * MAX_REMEMBERED {
        return rest;
    }
    Refusal { caller: Caller("any", None, "any"), what: None }
}
