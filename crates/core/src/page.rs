//! How to request part of a list, and what is returned.

use crate::Result;

/// A window over an ordered list. Faces convert their cursors and page numbers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub offset: u64,
    pub limit: u32,
}

impl Page {
    pub const MAX_LIMIT: u32 = 1_000;

    pub fn first(limit: u32) -> Page {
        Page { offset: 0, limit: limit.min(Page::MAX_LIMIT) }
    }
}

/// The next items of a list that is read in parts, and the key after which the next part starts. `None` means that
/// there are no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<T, K> {
    pub items: Vec<T>,
    pub next: Option<K>,
}

impl<T, K> Part<T, K> {
    /// Converts the items. `convert` must return as many as it gets.
    pub fn with<U>(self, convert: impl FnOnce(Vec<T>) -> Vec<U>) -> Part<U, K> {
        Part { items: convert(self.items), next: self.next }
    }
}

/// Part of a list, with what a dialect needs to describe the whole list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOf<T> {
    pub items: Vec<T>,
    pub offset: u64,
    pub limit: u32,
    pub total: u64,
}

impl<T> PageOf<T> {
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> PageOf<U> {
        PageOf {
            items: self.items.into_iter().map(convert).collect(),
            offset: self.offset,
            limit: self.limit,
            total: self.total,
        }
    }

    pub fn has_more(&self) -> bool {
        self.offset + (self.items.len() as u64) < self.total
    }
}

/// Reads a whole list, for lists that are short or needed whole. `read` returns the part after a key.
pub async fn collect<T, K, F, P>(mut read: F) -> Result<Vec<T>>
where
    F: FnMut(Option<K>) -> P,
    P: Future<Output = Result<Part<T, K>>>,
{
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let part = read(after).await?;
        all.extend(part.items);
        match part.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}
