//! Numbered pages: the request's parameters, and the envelope around the items.

use landreeve_core::error::Faults;
use landreeve_core::{Error, Fault, Page, Result};
use landreeve_http::extract::Query;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::link::{Base, Link};

pub struct ListQuery {
    pub page: Page,
    number: u64,
    /// As requested, for the links to the other pages.
    limit: Option<u32>,
    filter: Map<String, Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ListBody<T> {
    #[serde(rename = "_embedded")]
    embedded: Items<T>,
    #[serde(rename = "_links")]
    links: PageLinks,
    current_count: usize,
    /// JSON as a string.
    filter_applied: String,
    limit: u64,
    /// The page number, starting at "1".
    start: String,
    total_count: u64,
    total_pages_count: u64,
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
}

impl ListQuery {
    pub fn parse(query: &Query, limit: u32) -> Result<ListQuery> {
        ListQuery::read(query, &["limit", "start", "filter"], limit)
    }

    /// For lists without pages.
    pub fn parse_filter_only(query: &Query) -> Result<ListQuery> {
        ListQuery::read(query, &["filter"], Page::MAX_LIMIT)
    }

    fn read(query: &Query, known: &[&str], default: u32) -> Result<ListQuery> {
        let mut faults = Faults::default();
        query.unknown(known).into_iter().for_each(|fault| faults.add(fault));
        let most = i64::from(Page::MAX_LIMIT);
        let limit = faults.take(query.int("limit", 1..=most)).flatten();
        let limit = limit.and_then(|limit| u32::try_from(limit).ok());
        let number =
            faults.take(query.int("start", 1..=i64::MAX / most)).flatten().unwrap_or(1).unsigned_abs();
        let filter = faults.take(filter(query.text("filter"))).unwrap_or_default();
        faults.finish()?;
        let size = limit.unwrap_or(default);
        let page = Page { offset: (number - 1) * u64::from(size), limit: size };
        Ok(ListQuery { page, number, limit, filter })
    }

    /// Rejects every filter that is not one of these.
    pub fn filters(&self, known: &[&str]) -> Result<&Map<String, Value>> {
        let mut faults = Faults::default();
        for name in self.filter.keys().filter(|name| !known.contains(&name.as_str())) {
            faults.push(format!("filter.{name}"), "not_available", "is not supported on this server yet");
        }
        faults.finish().map(|()| &self.filter)
    }

    pub fn no_filter(&self) -> Result<()> {
        self.filters(&[]).map(drop)
    }

    pub fn body<T>(&self, base: &Base, path: &str, items: Vec<T>, total: u64) -> ListBody<T> {
        let pages = total.div_ceil(u64::from(self.page.limit));
        let number = self.number;
        let link = |page: u64| base.get(&self.href(path, page));
        ListBody {
            current_count: items.len(),
            embedded: Items { items },
            links: PageLinks {
                own: link(number),
                first: link(1),
                last: link(pages.max(1)),
                next: (number < pages).then(|| link(number + 1)),
                previous: (number > 1 && pages > 0).then(|| link((number - 1).min(pages))),
            },
            filter_applied: Value::Object(self.filter.clone()).to_string(),
            limit: u64::from(self.page.limit),
            start: number.to_string(),
            total_count: total,
            total_pages_count: pages,
        }
    }

    fn href(&self, path: &str, page: u64) -> String {
        let mut href = format!("{path}?start={page}");
        if let Some(limit) = self.limit {
            href += &format!("&limit={limit}");
        }
        if !self.filter.is_empty() {
            let filter = Value::Object(self.filter.clone()).to_string();
            href += &format!("&filter={}", encoded(&filter));
        }
        href
    }
}

/// For the query of a URL.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl<T> ListBody<T> {
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
            },
            filter_applied: "{}".to_owned(),
            limit: count as u64,
            start: "1".to_owned(),
            total_count: count as u64,
            total_pages_count: 1,
        }
    }
}

pub fn filter(text: Option<&str>) -> Result<Map<String, Value>, Fault> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(Map::new()) };
    let wrong =
        |_| Fault::new("filter", "format", "must be a JSON object such as {\"status\":{\"$eq\":\"queued\"}}");
    serde_json::from_str(text).map_err(wrong)
}

/// The values that a filter on one field lists: `{"$eq": "a"}`, `{"$in": ["a", "b"]}`.
pub fn words(field: &str, condition: &Value) -> Result<Vec<String>> {
    let wrong = || {
        let message = "must be an object with $eq and a string, or with $in and a list of strings";
        Error::fault(format!("filter.{field}"), "format", message)
    };
    let condition = condition.as_object().filter(|condition| condition.len() == 1).ok_or_else(wrong)?;
    let values = match (condition.get("$eq"), condition.get("$in")) {
        (Some(value), None) => vec![value],
        (None, Some(Value::Array(values))) if !values.is_empty() => values.iter().collect(),
        _ => return Err(wrong()),
    };
    values.into_iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}
