//! The parameters for listing deployments and for their progress.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::UserId;
use landreeve_core::{Error, ErrorKind, Fault, OpCtx, Page, Result, RunState};
use landreeve_estate::ops::users::user_by_name;
use landreeve_estate::ops::{Estate, RunFilter};
use landreeve_http::extract::Query;

use super::deployments::{ERROR, IN_PROGRESS, OK, state};
use super::time;
use crate::deployments::KINDS;

/// Documented, but not supported as filters yet.
const LATER: [&str; 4] = ["environmentId", "description", "startDeploymentTime", "endDeploymentTime"];

/// An id that no user has. An unknown user name gets it, so that the list is empty.
const NO_USER: UserId = UserId(0);

pub struct ListQuery {
    pub page: Page,
    states: Vec<RunState>,
    user: Option<String>,
}

impl ListQuery {
    pub fn parse(query: &Query) -> Result<ListQuery> {
        let mut faults = Faults::default();
        let known: Vec<&str> = ["start", "count", "status", "user"].into_iter().chain(LATER).collect();
        query.unknown(&known).into_iter().for_each(|fault| faults.add(fault));
        for name in LATER.into_iter().filter(|name| query.text(name).is_some_and(|text| !text.is_empty())) {
            faults.push(name, "not_available", "is not supported on this server yet");
        }
        let start = faults.take(query.int("start", 0..=i64::MAX)).flatten().unwrap_or(0);
        let count = faults.take(query.int("count", 1..=i64::from(Page::MAX_LIMIT))).flatten().unwrap_or(10);
        let states = faults.take(states(query.text("status"))).unwrap_or_default();
        faults.finish()?;
        let page = Page { offset: start.unsigned_abs(), limit: u32::try_from(count).unwrap_or(10) };
        let user = query.text("user").filter(|user| !user.is_empty()).map(str::to_owned);
        Ok(ListQuery { page, states, user })
    }

    /// Converts it to the estate's filter.
    pub async fn filter(&self, estate: &Estate, ctx: &OpCtx) -> Result<RunFilter> {
        let user = match &self.user {
            None => None,
            Some(name) if name == ctx.actor().name() => ctx.actor().user(),
            Some(name) => match user_by_name(estate, ctx, name).await {
                Ok(user) => Some(user.id),
                Err(error) if error.kind == ErrorKind::NotFound => Some(NO_USER),
                Err(error) => return Err(error),
            },
        };
        let (kinds, states) = (KINDS.to_vec(), self.states.clone());
        let submitter = user.map(|id: UserId| format!("user:{id}"));
        Ok(RunFilter { kinds, states, submitter, ..RunFilter::default() })
    }
}

fn states(status: Option<&str>) -> Result<Vec<RunState>, Fault> {
    let Some(status) = status.filter(|status| !status.is_empty()) else { return Ok(Vec::new()) };
    if ![OK, ERROR, IN_PROGRESS].contains(&status) {
        return Err(Fault::new("status", "enum", format!("must be one of {OK}, {ERROR}, {IN_PROGRESS}")));
    }
    Ok(RunState::ALL.into_iter().filter(|known| state(*known, false) == status).collect())
}

/// Only tasks that have changed since this time are shown.
pub fn last_update(query: &Query) -> Result<Option<Timestamp>> {
    let Some(text) = query.text("lastUpdate").filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || Error::fault("lastUpdate", "format", "must be a date such as 2017-11-07T16:50:32+0100");
    time::parse(text).map(Some).ok_or_else(wrong)
}
