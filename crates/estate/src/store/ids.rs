//! New integers, reserved in blocks in the table `sequences`. A block lost in a crash leaves a gap, which is fine.

use std::collections::HashMap;
use std::ops::Range;

use landreeve_core::ids::{BoxFuture, ID_BOUND};
use landreeve_core::{Error, IdKind, Ids, Result};
use tokio::sync::Mutex;

use super::{Store, Tx};
use crate::args;

/// The size of the first block in a process. Each block is twice as large as the previous one, because everyone waits
/// for a commit while a block is reserved.
const SMALLEST: i64 = 64;
const LARGEST: i64 = 4_096;
/// The first id of every sequence: 1 is for rows created by a migration or the first start (the root, `admin`).
const FIRST: i64 = 2;

pub struct StoreIds {
    store: Store,
    blocks: Mutex<HashMap<&'static str, Block>>,
}

struct Block {
    ids: Range<i64>,
    /// Size of the next block.
    next: i64,
}

impl StoreIds {
    pub fn new(store: Store) -> StoreIds {
        StoreIds { store, blocks: Mutex::new(HashMap::new()) }
    }

    async fn take(&self, kind: IdKind) -> Result<i64> {
        super::mark::outside("a new id")?;
        // An async lock: the first to find the block empty reserves the next one while the others wait.
        let mut blocks = self.blocks.lock().await;
        let block = blocks.entry(kind.0).or_insert(Block { ids: 0..0, next: SMALLEST });
        if let Some(id) = block.ids.next() {
            return Ok(id);
        }
        let (name, count) = (kind.0, block.next);
        block.ids = self.store.write(move |tx| Box::pin(reserve(tx, name, count))).await?;
        block.next = (2 * count).min(LARGEST);
        block.ids.next().ok_or_else(|| Error::internal(format!("the ids of kind {name} are used up")))
    }
}

async fn reserve(tx: &mut Tx, kind: &'static str, count: i64) -> Result<Range<i64>> {
    let row = tx
        .one(
            "INSERT INTO sequences (kind, next) VALUES ($1, $2) \
             ON CONFLICT (kind) DO UPDATE SET next = sequences.next + $3 RETURNING next",
            args![kind, FIRST + count, count],
        )
        .await?;
    let end = row.int(0)?;
    if end >= ID_BOUND {
        return Err(Error::internal(format!("the ids of kind {kind} are used up")));
    }
    Ok(end - count..end)
}

/// One id within the transaction itself, for rows that a transaction finds missing, where no block can be reserved.
pub async fn next_in(tx: &mut Tx, kind: IdKind) -> Result<i64> {
    let row = tx
        .one(
            "INSERT INTO sequences (kind, next) VALUES ($1, $2) \
             ON CONFLICT (kind) DO UPDATE SET next = sequences.next + 1 RETURNING next",
            args![kind.0, FIRST + 1],
        )
        .await?;
    let id = row.int(0)? - 1;
    if id >= ID_BOUND {
        return Err(Error::internal(format!("the ids of kind {} are used up", kind.0)));
    }
    Ok(id)
}

impl Ids for StoreIds {
    fn next(&self, kind: IdKind) -> BoxFuture<'_, Result<i64>> {
        Box::pin(self.take(kind))
    }
}
