//! Arguments as this dialect takes them: JSON, a form and the query merged, whatever the content type says.

use axum::extract::{FromRequest, Request};
use landreeve_core::error::Faults;
use landreeve_core::{Error, Fault, Result};
use landreeve_http::Failure;
use landreeve_http::body::json_object;
use landreeve_http::extract::{Body, Query};
use landreeve_http::negotiate::{content_type, is_json};
use serde_json::{Map, Value};

/// By name, spaces around it cut off. The body wins over the query, the last of several over the first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arguments(Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Arguments {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Arguments, Failure> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let declared = content_type(request.headers()).is_some_and(|essence| is_json(&essence));
        let Body(body) = Body::from_request(request, state).await?;
        Ok(Arguments::merge(&query, &body, declared)?)
    }
}

impl Arguments {
    fn merge(query: &str, body: &[u8], declared_json: bool) -> Result<Arguments> {
        let mut merged = Arguments::default();
        merged.add_pairs(query);
        let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        if text.starts_with(b"{") || text.starts_with(b"[") || (declared_json && !text.is_empty()) {
            for (name, value) in json_object(body)? {
                merged.0.insert(name.trim().to_owned(), value);
            }
        } else {
            merged.add_pairs(&String::from_utf8_lossy(text));
        }
        Ok(merged)
    }

    fn add_pairs(&mut self, pairs: &str) {
        for (name, value) in Query::parse(pairs).pairs() {
            self.0.insert(name.trim().to_owned(), Value::String(value.to_owned()));
        }
    }

    /// A text that must be there; a number is taken as its digits.
    pub fn text(&self, name: &str, faults: &mut Faults) -> Option<String> {
        match self.0.get(name) {
            None | Some(Value::Null) => faults.take(Err(Fault::required(name))),
            Some(Value::String(text)) if text.trim().is_empty() => faults.take(Err(Fault::required(name))),
            Some(Value::String(text)) => Some(text.trim().to_owned()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(_) => faults.take(Err(Fault::new(name, "type", "must be a string"))),
        }
    }

    /// The one argument of a method that takes one.
    pub fn only(&self, name: &str) -> Result<String> {
        let mut faults = Faults::default();
        let text = self.text(name, &mut faults);
        faults.finish()?;
        text.ok_or_else(|| Error::internal("an argument that is neither there nor missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(query: &str, body: &str, json: bool) -> Result<Arguments> {
        Arguments::merge(query, body.as_bytes(), json)
    }

    #[test]
    fn every_way_to_send_an_argument_is_one() {
        let id = |arguments: Result<Arguments>| arguments.unwrap().only("id").unwrap();
        assert_eq!(id(merged("id=a", "", true)), "a");
        assert_eq!(id(merged("%20id=a", "", false)), "a");
        assert_eq!(id(merged("id=b", "{\"id\": \"a\"}", false)), "a");
        assert_eq!(id(merged("id=b", " id = a ", false)), "a");
        assert_eq!(id(merged("", "\u{feff}{\" id \": 7}", true)), "7");
        assert_eq!(id(merged("id=b&id=a", "other=1", true).or(merged("id=a", "", false))), "a");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(merged("", "{", false).unwrap_err().code, "invalid_json");
        assert_eq!(merged("", "[1]", false).unwrap_err().code, "invalid_json");
        assert_eq!(merged("", "id=1", true).unwrap_err().code, "invalid_json");
        let faults = |body| merged("", body, false).unwrap().only("id").unwrap_err().faults;
        for body in ["", "{\"id\": null}", "id=", "id=+"] {
            assert_eq!(faults(body), [Fault::required("id")], "{body}");
        }
        assert_eq!(faults("{\"id\": {}}")[0].code, "type");
    }
}
