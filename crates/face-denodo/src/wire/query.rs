//! The parameters for listing deployments and for their progress.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::{Error, Fault, Page, Result};
use landreeve_http::extract::Query;
use landreeve_promotion::deployments::DeploymentFilter;
use landreeve_promotion::ids::EnvironmentId;

use super::deployments::{states, words};
use super::time;
use crate::Options;

const KNOWN: [&str; 9] = [
    "start",
    "count",
    "environmentId",
    "status",
    "description",
    "user",
    "startDeploymentTime",
    "endDeploymentTime",
    "states",
];

pub struct ListQuery {
    pub page: Page,
    pub filter: DeploymentFilter,
    /// With the states of later versions.
    pub later: bool,
}

impl ListQuery {
    pub fn parse(query: &Query, options: &Options) -> Result<ListQuery> {
        let mut faults = Faults::default();
        query.unknown(&KNOWN).into_iter().for_each(|fault| faults.add(fault));
        let start = faults.take(query.int("start", 0..=i64::MAX)).flatten().unwrap_or(0);
        let count = faults.take(query.int("count", 1..=i64::from(Page::MAX_LIMIT))).flatten().unwrap_or(10);
        let environment = faults.take(query.int("environmentId", 0..=i64::MAX)).flatten().map(EnvironmentId);
        let text = |name: &str| query.text(name).filter(|text| !text.is_empty());
        let mut filter = DeploymentFilter {
            environment,
            description: text("description").map(str::to_owned),
            user: text("user").map(str::to_owned),
            ..DeploymentFilter::default()
        };
        let later = faults.take(later(query, options)).unwrap_or_default();
        if let Some(word) = text("status") {
            if !words(true).contains(&word) {
                faults.push("status", "enum", format!("must be one of {}", words(true).join(", ")));
            }
            // A word of later versions says what is wanted, even if answers do not use it.
            (filter.states, filter.run_states) = states(word, later || !words(false).contains(&word));
        }
        filter.submitted = times(query, &mut faults);
        faults.finish()?;
        let page = Page { offset: start.unsigned_abs(), limit: u32::try_from(count).unwrap_or(10) };
        Ok(ListQuery { page, filter, later })
    }
}

/// Both times, or neither.
fn times(query: &Query, faults: &mut Faults) -> Option<(Timestamp, Timestamp)> {
    let [start, end] = ["startDeploymentTime", "endDeploymentTime"].map(|name| {
        let text = query.text(name).filter(|text| !text.is_empty())?;
        Some((name, time::parse(text)))
    });
    let read =
        |given: Option<(&'static str, Option<Timestamp>)>, other: &str, faults: &mut Faults| match given {
            None => {
                faults.push(other, "required", "is required, because the other time is given");
                None
            }
            Some((name, None)) => {
                faults.push(name, "format", WANTED);
                None
            }
            Some((_, time)) => time,
        };
    if start.is_none() && end.is_none() {
        return None;
    }
    let from = read(start, "startDeploymentTime", faults);
    let to = read(end, "endDeploymentTime", faults);
    Some((from?, to?))
}

const WANTED: &str = "must be a date such as 2017-11-07T16:50:32+0100";

/// Whether states are shown that only later versions of the dialect have.
fn later(query: &Query, options: &Options) -> Result<bool, Fault> {
    match query.text("states") {
        None | Some("") => Ok(options.later_states),
        Some("extended") => Ok(true),
        Some(_) => Err(Fault::new("states", "enum", "must be extended")),
    }
}

/// Only tasks that changed at this time or later are shown, and with which states.
pub fn progress(query: &Query, options: &Options) -> Result<(Option<Timestamp>, bool)> {
    let mut faults = Faults::default();
    let mut since = None;
    if let Some(text) = query.text("lastUpdate").filter(|text| !text.is_empty()) {
        since = time::parse(text);
        if since.is_none() {
            faults.push("lastUpdate", "format", WANTED);
        }
    }
    let later = faults.take(later(query, options)).unwrap_or_default();
    faults.finish()?;
    Ok((since, later))
}

/// The environment that a revision is validated for, if there is no body.
pub fn target(query: &Query) -> Result<EnvironmentId> {
    let found = query.int("environmentId", 0..=i64::MAX).map_err(|fault| Error::invalid(vec![fault]))?;
    found.map(EnvironmentId).ok_or_else(|| Error::invalid(vec![Fault::required("environmentId")]))
}
