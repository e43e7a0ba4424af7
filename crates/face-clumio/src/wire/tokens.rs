//! Pages with tokens: the other kind of list in this dialect, without a total.

use landreeve_core::error::Faults;
use landreeve_core::{Error, Result};
use landreeve_http::extract::Query;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::link::{Base, Link};
use super::list::{encoded, filter};

pub struct TokenQuery {
    start: String,
    pub filter: Map<String, Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList<T> {
    #[serde(rename = "_embedded")]
    embedded: Items<T>,
    #[serde(rename = "_links")]
    links: TokenLinks,
    current_count: usize,
    /// JSON as a string.
    filter_applied: String,
    limit: usize,
    /// The token of this page; empty: the first.
    start: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TokenLinks {
    #[serde(rename = "_self")]
    own: Link,
    #[serde(rename = "_first")]
    first: Link,
    #[serde(rename = "_next", skip_serializing_if = "Option::is_none")]
    next: Option<Link>,
}

impl TokenQuery {
    pub fn parse(query: &Query) -> Result<TokenQuery> {
        let mut faults = Faults::default();
        query.unknown(&["start", "filter", "embed", "limit"]).into_iter().for_each(|fault| faults.add(fault));
        let filter = faults.take(filter(query.text("filter"))).unwrap_or_default();
        faults.finish()?;
        Ok(TokenQuery { start: query.text("start").unwrap_or_default().to_owned(), filter })
    }

    /// The id after which the page begins.
    pub fn after<I: From<i64>>(&self) -> Result<Option<I>> {
        if self.start.is_empty() {
            return Ok(None);
        }
        let id = self.start.parse::<i64>();
        let id = id.map_err(|_| Error::fault("start", "format", "is not a token of this list"))?;
        Ok(Some(I::from(id)))
    }

    pub fn body<T>(&self, base: &Base, path: &str, items: Vec<T>, next: Option<i64>) -> TokenList<T> {
        let link = |start: &str| base.get(&self.href(path, start));
        TokenList {
            current_count: items.len(),
            links: TokenLinks {
                own: link(&self.start),
                first: link(""),
                next: next.map(|id| link(&id.to_string())),
            },
            filter_applied: Value::Object(self.filter.clone()).to_string(),
            limit: items.len(),
            start: self.start.clone(),
            embedded: Items { items },
        }
    }

    fn href(&self, path: &str, start: &str) -> String {
        let mut href = format!("{path}?start={start}");
        if !self.filter.is_empty() {
            href += &format!("&filter={}", encoded(&Value::Object(self.filter.clone()).to_string()));
        }
        href
    }
}
