//! What a request says beside its path: pages, filters, order, embedded resources. And the envelopes around the items of a
//! list, with numbered pages or with tokens.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan as _};
use landreeve_core::error::Faults;
use landreeve_core::{Error, Fault, Page, Result};
use landreeve_http::cursor::Cursor;
use landreeve_http::extract::Query;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::filter::{Conditions, Rule};
use super::link::{Base, Link};

/// What the parameters of an operation can be.
#[derive(Debug, Clone, Copy)]
pub struct Parameters {
    pub pages: Pages,
    /// `None`: there is no filter.
    pub filter: Option<&'static [Rule]>,
    /// The fields that it can be sorted by.
    pub sort: &'static [&'static str],
    /// What can be embedded.
    pub embed: &'static [&'static str],
    /// Whether it takes `lookback_days`.
    pub lookback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    None,
    /// With so many items by default.
    Numbered(u32),
    Tokens(u32),
}

impl Parameters {
    pub const NONE: Parameters =
        Parameters { pages: Pages::None, filter: None, sort: &[], embed: &[], lookback: false };

    /// Of an operation that starts a task.
    pub const TASK: Parameters = Parameters { embed: &["read-task"], ..Parameters::NONE };

    pub const fn numbered(limit: u32, filter: &'static [Rule]) -> Parameters {
        Parameters { pages: Pages::Numbered(limit), filter: Some(filter), ..Parameters::NONE }
    }

    pub const fn tokens(limit: u32, filter: &'static [Rule]) -> Parameters {
        Parameters { pages: Pages::Tokens(limit), filter: Some(filter), ..Parameters::NONE }
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.pages != Pages::None {
            // Clients send the count of a page that they have seen; it has no effect.
            names.extend(["limit", "start", "current_count"]);
        }
        names.extend(self.filter.map(|_| "filter"));
        names.extend((!self.sort.is_empty()).then_some("sort"));
        names.extend((!self.embed.is_empty()).then_some("embed"));
        names.extend(self.lookback.then_some("lookback_days"));
        names
    }
}

/// What a request asks for.
pub struct Asked {
    pub page: Page,
    number: u64,
    /// For pages with tokens.
    token: Option<String>,
    /// As requested, for the links to the other pages.
    limit: Option<u32>,
    filter: Map<String, Value>,
    pub conditions: Conditions,
    /// Field, and whether it descends.
    sort: Option<(&'static str, bool)>,
    pub embed: Option<&'static str>,
    lookback_days: Option<i64>,
}

/// Longest period for `lookback_days`.
const MAX_LOOKBACK: i64 = 3_650;

impl Asked {
    pub fn parse(query: &Query, parameters: &Parameters) -> Result<Asked> {
        let mut faults = Faults::default();
        query.unknown(&parameters.names()).into_iter().for_each(|fault| faults.add(fault));
        let most = i64::from(Page::MAX_LIMIT);
        let limit = match parameters.pages {
            Pages::None => None,
            _ => faults.take(query.int("limit", 1..=most)).flatten(),
        };
        let limit = limit.and_then(|limit| u32::try_from(limit).ok());
        let number = match parameters.pages {
            Pages::Numbered(_) => faults.take(query.int("start", 1..=i64::MAX / most)).flatten(),
            _ => None,
        };
        let token = query.text("start").filter(|text| !text.is_empty()).map(str::to_owned);
        let filter = parameters.filter.and_then(|_| faults.take(filter(query.text("filter"))));
        let filter = filter.unwrap_or_default();
        let conditions = Conditions::parse(&filter, parameters.filter.unwrap_or_default(), &mut faults);
        let sort = faults.take(sort(query.text("sort"), parameters.sort)).flatten();
        let embed = faults.take(embed(query.text("embed"), parameters.embed)).flatten();
        let lookback = match parameters.lookback {
            true => faults.take(query.int("lookback_days", 1..=MAX_LOOKBACK)).flatten(),
            false => None,
        };
        faults.finish()?;
        let size = match parameters.pages {
            Pages::None => Page::MAX_LIMIT,
            Pages::Numbered(default) | Pages::Tokens(default) => limit.unwrap_or(default),
        };
        let number = number.unwrap_or(1).unsigned_abs();
        let page = Page { offset: (number - 1) * u64::from(size), limit: size };
        Ok(Asked { page, number, token, limit, filter, conditions, sort, embed, lookback_days: lookback })
    }

    pub fn embeds(&self, operation: &str) -> bool {
        self.embed == Some(operation)
    }

    /// Field, and whether it descends.
    pub fn sort(&self) -> Option<(&'static str, bool)> {
        self.sort
    }

    /// The beginning of the period that the caller looks back to.
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_sub((self.lookback_days? * 24).hours()).ok()
    }

    /// Where the page begins, for a list with tokens.
    pub fn after(&self, path: &str) -> Result<Option<Cursor>> {
        let Some(token) = &self.token else { return Ok(None) };
        let cursor = Cursor::decode(&self.list(path), "start", token);
        cursor.map(Some).map_err(|fault| Error::invalid(vec![fault]))
    }

    /// What a token is for.
    fn list(&self, path: &str) -> String {
        format!("{path} {}", Value::Object(self.filter.clone()))
    }

    pub fn body<T>(&self, base: &Base, path: &str, items: Vec<T>, total: u64) -> ListBody<T> {
        let pages = total.div_ceil(u64::from(self.page.limit));
        let number = self.number;
        let link = |page: u64| base.get(&self.href(path, Some(&page.to_string())));
        ListBody {
            current_count: items.len(),
            embedded: Items { items },
            links: PageLinks {
                own: link(number),
                first: link(1),
                last: link(pages.max(1)),
                next: (number < pages).then(|| link(number + 1)),
                previous: (number > 1 && pages > 0).then(|| link((number - 1).min(pages))),
                operations: BTreeMap::new(),
            },
            filter_applied: Value::Object(self.filter.clone()).to_string(),
            sort_applied: None,
            limit: u64::from(self.page.limit),
            start: number.to_string(),
            total_count: total,
            total_pages_count: pages,
        }
    }

    /// The same, with the order that was applied: what was asked for, or this.
    pub fn sorted<T>(
        &self,
        base: &Base,
        path: &str,
        items: Vec<T>,
        (total, default): (u64, &str),
    ) -> ListBody<T> {
        let sort = self.sort.map_or_else(|| default.to_owned(), sort_text);
        ListBody { sort_applied: Some(sort), ..self.body(base, path, items, total) }
    }

    /// `next`: where the next page begins, if there is one.
    pub fn token_body<T>(
        &self,
        base: &Base,
        path: &str,
        items: Vec<T>,
        next: Option<Cursor>,
    ) -> TokenListBody<T> {
        let next = next.map(|cursor| cursor.encode(&self.list(path)));
        let start = self.token.clone().unwrap_or_default();
        TokenListBody {
            current_count: items.len(),
            embedded: Items { items },
            links: TokenLinks {
                own: base.get(&self.href(path, self.token.as_deref())),
                first: base.get(&self.href(path, None)),
                next: next.map(|token| base.get(&self.href(path, Some(&token)))),
                operations: BTreeMap::new(),
            },
            filter_applied: Value::Object(self.filter.clone()).to_string(),
            limit: u64::from(self.page.limit),
            start,
        }
    }

    fn href(&self, path: &str, start: Option<&str>) -> String {
        let mut parts = Vec::new();
        parts.extend(start.map(|start| format!("start={start}")));
        parts.extend(self.limit.map(|limit| format!("limit={limit}")));
        if !self.filter.is_empty() {
            let filter = Value::Object(self.filter.clone()).to_string();
            parts.push(format!("filter={}", utf8_percent_encode(&filter, NON_ALPHANUMERIC)));
        }
        parts.extend(self.sort.map(|sort| format!("sort={}", sort_text(sort))));
        parts.extend(self.embed.map(|embed| format!("embed={embed}")));
        parts.extend(self.lookback_days.map(|days| format!("lookback_days={days}")));
        if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
    }
}

/// The address of a list with a filter, for links to it.
pub fn filtered(path: &str, field: &str, value: &str) -> String {
    let filter = serde_json::json!({ field: { "$eq": value } }).to_string();
    format!("{path}?filter={}", utf8_percent_encode(&filter, NON_ALPHANUMERIC))
}

fn sort_text((field, descends): (&'static str, bool)) -> String {
    format!("{}{field}", if descends { "-" } else { "" })
}

fn sort(text: Option<&str>, known: &'static [&'static str]) -> Result<Option<(&'static str, bool)>, Fault> {
    let text = if known.is_empty() { None } else { text.map(str::trim).filter(|text| !text.is_empty()) };
    let Some(text) = text else { return Ok(None) };
    let (field, descends) = text.strip_prefix('-').map_or((text, false), |field| (field, true));
    let found = known.iter().copied().find(|known| *known == field).map(|field| (field, descends));
    let wrong = || {
        Fault::new(
            "sort",
            "enum",
            format!("must be one of {}, with a minus to turn the order", known.join(", ")),
        )
    };
    found.ok_or_else(wrong).map(Some)
}

fn embed(text: Option<&str>, known: &'static [&'static str]) -> Result<Option<&'static str>, Fault> {
    let text = if known.is_empty() { None } else { text.map(str::trim).filter(|text| !text.is_empty()) };
    let Some(text) = text else { return Ok(None) };
    let found = known.iter().copied().find(|known| *known == text);
    found.ok_or_else(|| Fault::new("embed", "enum", format!("must be one of {}", known.join(", ")))).map(Some)
}

fn filter(text: Option<&str>) -> Result<Map<String, Value>, Fault> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(Map::new()) };
    let wrong = |_| {
        Fault::new("filter", "format", "must be a JSON object such as {\"status\":{\"$in\":[\"queued\"]}}")
    };
    serde_json::from_str(text).map_err(wrong)
}

/// A list with numbered pages.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListBody<T> {
    #[serde(rename = "_embedded")]
    embedded: Items<T>,
    #[serde(rename = "_links")]
    links: PageLinks,
    current_count: usize,
    /// JSON as a string.
    filter_applied: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sort_applied: Option<String>,
    limit: u64,
    /// The page number, starting at "1".
    start: String,
    total_count: u64,
    total_pages_count: u64,
}

/// A list whose pages have tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenListBody<T> {
    #[serde(rename = "_embedded")]
    embedded: Items<T>,
    #[serde(rename = "_links")]
    links: TokenLinks,
    current_count: usize,
    /// JSON as a string.
    filter_applied: String,
    limit: u64,
    /// The token of this page. Empty for the first.
    start: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PageLinks {
    #[serde(rename = "_self")]
    own: Link,
    #[serde(rename = "_first")]
    first: Link,
    #[serde(rename = "_last")]
    last: Link,
    #[serde(rename = "_next", skip_serializing_if = "Option::is_none")]
    next: Option<Link>,
    #[serde(rename = "_prev", skip_serializing_if = "Option::is_none")]
    previous: Option<Link>,
    /// Operations that this caller may do here.
    #[serde(flatten)]
    operations: BTreeMap<&'static str, Link>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TokenLinks {
    #[serde(rename = "_self")]
    own: Link,
    #[serde(rename = "_first")]
    first: Link,
    #[serde(rename = "_next", skip_serializing_if = "Option::is_none")]
    next: Option<Link>,
    /// Operations that this caller may do here.
    #[serde(flatten)]
    operations: BTreeMap<&'static str, Link>,
}

impl<T> TokenListBody<T> {
    /// Adds a link to an operation of this face if `may`.
    #[must_use]
    pub fn and(
        mut self,
        may: bool,
        operation: &'static str,
        link: impl FnOnce() -> Link,
    ) -> TokenListBody<T> {
        if may {
            self.links.operations.insert(operation, link());
        }
        self
    }
}

impl<T> ListBody<T> {
    /// Adds a link to an operation of this face if `may`.
    #[must_use]
    pub fn and(mut self, may: bool, operation: &'static str, link: impl FnOnce() -> Link) -> ListBody<T> {
        if may {
            self.links.operations.insert(operation, link());
        }
        self
    }

    /// A list without pages.
    pub fn whole(base: &Base, path: &str, items: Vec<T>) -> ListBody<T> {
        let count = items.len();
        ListBody {
            current_count: count,
            embedded: Items { items },
            links: PageLinks {
                own: base.get(path),
                first: base.get(path),
                last: base.get(path),
                next: None,
                previous: None,
                operations: BTreeMap::new(),
            },
            filter_applied: "{}".to_owned(),
            sort_applied: None,
            limit: count as u64,
            start: "1".to_owned(),
            total_count: count as u64,
            total_pages_count: 1,
        }
    }
}
