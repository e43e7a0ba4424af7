//! JSON documents with lists of any length: written page by page as the client reads, never fully in memory.
//!
//! The first page of every list is read before the status line is sent, so that a missing permission or an unavailable
//! store is reported like any other error. If a list fails later, the connection is closed, so that the client never
//! gets a truncated but valid document. If all lists end with their first pages, the document is sent whole, with its
//! length.

use std::future::ready;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use landreeve_core::{Error, Part, Result};
use serde::Serialize;

use crate::failure::Outcome;

/// The items of one list, read page by page.
pub struct Items(BoxStream<'static, Result<Page>>);

/// The items of a page as JSON, with commas between them.
struct Page {
    json: Vec<u8>,
    last: bool,
}

impl Page {
    fn of<T: Serialize>(items: &[T], last: bool) -> Result<Page> {
        let mut json = Vec::new();
        for item in items {
            if !json.is_empty() {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, item).map_err(Error::internal)?;
        }
        Ok(Page { json, last })
    }
}

impl Items {
    /// `read` returns the part of the list after a key, or the first part without a key.
    pub fn pages<T, K, F, P>(read: F) -> Items
    where
        F: FnMut(Option<K>) -> P + Send + 'static,
        P: Future<Output = Result<Part<T, K>>> + Send + 'static,
        T: Serialize + Send + Sync,
        K: Send + 'static,
    {
        let pages = stream::try_unfold((read, Some(None)), |(mut read, place)| async move {
            let Some(after) = place else { return Ok(None) };
            let part = read(after).await?;
            let page = Page::of(&part.items, part.next.is_none())?;
            Ok(Some((page, (read, part.next.map(Some)))))
        });
        Items(pages.boxed())
    }

    pub fn one(item: &impl Serialize) -> Items {
        Items(stream::once(ready(Page::of(std::slice::from_ref(item), true))).boxed())
    }
}

enum Piece {
    Text(Vec<u8>),
    Array(Vec<Items>),
}

/// Room for a typical resource, so that the text is rarely moved while it grows.
const TYPICAL: usize = 2_048;

/// A piece whose first pages have been read: their text, and what remains to be read.
struct Begun {
    text: Vec<u8>,
    rest: Option<Rest>,
}

struct Rest {
    /// Whether the array already has an item.
    filled: bool,
    lists: Vec<Items>,
}

/// A document under construction: text and arrays.
#[derive(Default)]
pub struct Document {
    pieces: Vec<Piece>,
    /// The text after the last piece.
    end: Vec<u8>,
}

impl Document {
    /// Adds JSON text unchanged.
    #[must_use]
    pub fn text(mut self, text: &str) -> Document {
        self.end.extend_from_slice(text.as_bytes());
        self
    }

    /// Adds a value as JSON.
    pub fn value(mut self, value: &impl Serialize) -> Result<Document> {
        self.end.reserve(TYPICAL);
        serde_json::to_writer(&mut self.end, value).map_err(Error::internal)?;
        Ok(self)
    }

    /// Adds one array with the items of these lists, in order.
    #[must_use]
    pub fn array(mut self, lists: impl IntoIterator<Item = Items>) -> Document {
        self.pieces.push(Piece::Text(std::mem::take(&mut self.end)));
        self.pieces.push(Piece::Array(lists.into_iter().collect()));
        self
    }

    pub async fn respond(self, status: StatusCode, content_type: &'static str) -> Outcome<Response> {
        let mut begun = Vec::with_capacity(self.pieces.len() + 1);
        for piece in self.pieces.into_iter().chain([Piece::Text(self.end)]) {
            begun.push(match piece {
                Piece::Text(text) => Begun { text, rest: None },
                Piece::Array(lists) => begin(lists).await?,
            });
        }
        let body = if begun.iter().all(|piece| piece.rest.is_none()) {
            Body::from(joined(begun))
        } else {
            Body::from_stream(until_failed(stream::iter(begun).flat_map(written)))
        };
        Ok((status, [(CONTENT_TYPE, content_type)], body).into_response())
    }
}

/// The text of all pieces; a single one is not copied.
fn joined(begun: Vec<Begun>) -> Vec<u8> {
    let mut texts = begun.into_iter().map(|piece| piece.text);
    let mut whole = texts.next().unwrap_or_default();
    texts.for_each(|text| whole.extend_from_slice(&text));
    whole
}

/// Reads the first page of each list.
async fn begin(lists: Vec<Items>) -> Result<Begun> {
    let mut text = vec![b'['];
    let mut rest = Rest { filled: false, lists: Vec::new() };
    for mut list in lists {
        let first = list.0.try_next().await?;
        let Some(first) = first else { continue };
        // If an earlier list has more pages, this page has to wait for them.
        if rest.lists.is_empty() {
            append(&mut text, &mut rest.filled, &first.json);
            if !first.last {
                rest.lists.push(list);
            }
        } else {
            rest.lists.push(Items(stream::once(ready(Ok(first))).chain(list.0).boxed()));
        }
    }
    if rest.lists.is_empty() {
        text.push(b']');
        return Ok(Begun { text, rest: None });
    }
    Ok(Begun { text, rest: Some(rest) })
}

/// Ends the stream after an error, because anything that follows could make the document look complete.
fn until_failed(
    pieces: impl Stream<Item = Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    pieces.scan(false, |failed, piece| {
        let piece = (!*failed).then_some(piece);
        *failed = matches!(piece, Some(Err(_)));
        ready(piece)
    })
}

fn append(text: &mut Vec<u8>, filled: &mut bool, json: &[u8]) {
    if json.is_empty() {
        return;
    }
    if *filled {
        text.push(b',');
    }
    *filled = true;
    text.extend_from_slice(json);
}

fn written(begun: Begun) -> BoxStream<'static, Result<Bytes>> {
    let head = stream::once(ready(Ok(Bytes::from(begun.text))));
    let Some(Rest { mut filled, lists }) = begun.rest else { return head.boxed() };
    let pages = stream::iter(lists).flat_map(|list| list.0);
    let pages = pages.map(move |page| {
        let page = page.inspect_err(|error| {
            tracing::error!(cause = %error, "could not read the next page of a list; the connection was closed");
        })?;
        let mut text = Vec::with_capacity(page.json.len() + 1);
        append(&mut text, &mut filled, &page.json);
        Ok(Bytes::from(text))
    });
    head.chain(pages).chain(stream::once(ready(Ok(Bytes::from_static(b"]"))))).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;

    use super::*;

    /// The numbers below `end`, ten per page. `read` counts the pages that were read.
    fn numbers(end: usize, read: &Arc<AtomicUsize>) -> Items {
        let read = Arc::clone(read);
        Items::pages(move |after: Option<usize>| {
            read.fetch_add(1, Ordering::SeqCst);
            let from = after.map_or(0, |last| last + 1);
            let items: Vec<usize> = (from..end.min(from + 10)).collect();
            let next = items.last().copied().filter(|last| last + 1 < end);
            ready(Ok(Part { items, next }))
        })
    }

    async fn answer(document: Document) -> Response {
        document.respond(StatusCode::OK, "application/json").await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn whole(numbers: impl Iterator<Item = usize>) -> String {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
    }

    #[tokio::test]
    async fn short_documents_have_a_length() {
        let read = Arc::default();
        let document = Document::default().text("{\"a\":").array([numbers(0, &read)]).text(",\"b\":");
        let document = document.array([numbers(3, &read), Items::one(&"x")]).text("}");
        let response = answer(document).await;
        assert!(http_body::Body::size_hint(response.body()).exact().is_some());
        assert_eq!(text(response).await, "{\"a\":[],\"b\":[0,1,2,\"x\"]}");
    }

    #[tokio::test]
    async fn an_array_can_have_several_lists() {
        for lengths in [[25, 0, 7], [0, 31, 11], [10, 20, 30], [1, 0, 12]] {
            let read = Arc::default();
            let response = answer(Document::default().array(lengths.map(|end| numbers(end, &read)))).await;
            let wanted = lengths.iter().flat_map(|end| 0..*end);
            assert_eq!(text(response).await, format!("[{}]", whole(wanted)), "{lengths:?}");
        }
    }

    #[tokio::test]
    async fn reads_pages_as_the_client_reads() {
        let read = Arc::default();
        let mut body = answer(Document::default().array([numbers(1_000, &read)])).await.into_body();
        assert_eq!(read.load(Ordering::SeqCst), 1);
        for page in 1..=5 {
            assert!(body.frame().await.unwrap().unwrap().data_ref().unwrap().len() < 100);
            assert!(read.load(Ordering::SeqCst) <= page + 1);
        }
    }

    #[tokio::test]
    async fn a_failure_on_the_first_page_is_an_error_response() {
        let fails = Items::pages(|_: Option<i64>| {
            ready(Err::<Part<i64, i64>, _>(Error::unavailable("store", "is away")))
        });
        let read = Arc::default();
        let document = Document::default().array([numbers(50, &read)]).array([fails]);
        let failed = document.respond(StatusCode::OK, "application/json").await.unwrap_err();
        assert_eq!(failed.0.code, "store");
    }

    #[tokio::test]
    async fn a_later_failure_breaks_off_the_body() {
        let fails = Items::pages(|after: Option<i64>| {
            ready(match after {
                None => Ok(Part { items: vec![1], next: Some(1) }),
                Some(_) => Err(Error::unavailable("store", "is away")),
            })
        });
        let response = answer(Document::default().array([fails]).text("}")).await;
        let pieces: Vec<_> = stream::StreamExt::collect(response.into_body().into_data_stream()).await;
        assert!(pieces.last().unwrap().is_err(), "the body continued after the error");
    }
}
