//! The parameters for listing executions.

use landreeve_core::error::Faults;
use landreeve_core::{Fault, Page, Result, RunState};
use landreeve_http::extract::Query;

use super::executions::status;

/// Documented, but not supported as filters yet.
const LATER: [&str; 2] = ["sandboxCode", "jobFile"];
const PAGE_SIZE: u32 = 50;

pub struct ListQuery {
    pub page: Page,
    pub states: Vec<RunState>,
}

impl ListQuery {
    pub fn parse(query: &Query) -> Result<ListQuery> {
        let mut faults = Faults::default();
        let known: Vec<&str> = ["pageSize", "startIndex", "status"].into_iter().chain(LATER).collect();
        query.unknown(&known).into_iter().for_each(|fault| faults.add(fault));
        for name in LATER.into_iter().filter(|name| query.text(name).is_some_and(|text| !text.is_empty())) {
            faults.push(name, "not_available", "is not supported on this server yet");
        }
        let offset = faults.take(query.int("startIndex", 0..=i64::MAX)).flatten().unwrap_or(0);
        let limit = faults.take(query.int("pageSize", 1..=i64::from(Page::MAX_LIMIT))).flatten();
        let limit = limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(PAGE_SIZE);
        let states = faults.take(states(query.text("status"))).unwrap_or_default();
        faults.finish()?;
        Ok(ListQuery { page: Page { offset: offset.unsigned_abs(), limit }, states })
    }
}

fn states(asked: Option<&str>) -> Result<Vec<RunState>, Fault> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return Ok(Vec::new()) };
    let states: Vec<_> = RunState::ALL.into_iter().filter(|state| status(*state) == asked).collect();
    if !states.is_empty() {
        return Ok(states);
    }
    let mut words: Vec<_> = RunState::ALL.into_iter().map(status).collect();
    words.sort_unstable();
    words.dedup();
    Err(Fault::new("status", "enum", format!("must be one of {}", words.join(", "))))
}
