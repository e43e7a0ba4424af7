//! How to request part of a list, and what is returned.

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
