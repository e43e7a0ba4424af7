//! What one statement may use: memory, the size of a value, and time between two looks at its cancel token.
//!
//! DataFusion's operators reserve their memory, but its functions allocate whatever their arguments ask for. So every
//! function that a statement can call is one of [`allowed`], which says how much it needs for each row; [`scalar`] and
//! [`aggregate`] check that before the function is called, and reserve it; [`operators`] turns operators that make text
//! into functions; [`wide`] checks rows before an operator repeats them.

pub mod aggregate;
pub mod allowed;
pub mod needs;
pub mod operators;
pub mod scalar;
pub mod sizes;
pub mod wide;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use arrow_array::Array;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use landreeve_core::source::CancellationToken;

use crate::error::{cancelled, carried, query};

/// Maximum size of a value computed while planning; a larger one is computed when the statement runs, because a plan's
/// values are not counted.
const MAX_PLANNED: u64 = 4 * 1_024;
/// How many bytes or comparisons are processed between two looks at the cancel token: well below a second.
pub const STEPS: u64 = 64 * 1_024 * 1_024;
/// Maximum number of them for one row, which cannot be interrupted.
const MAX_STEPS: u64 = 4 * STEPS;

/// The bounds of one statement.
#[derive(Debug)]
pub struct Bounds {
    max_value: u64,
    /// What functions have made and is still in use.
    reserved: Arc<MemoryReservation>,
    cancel: CancellationToken,
    planning: AtomicBool,
    /// The memory of the last constant result of each call, because a constant is not a buffer that says when it is
    /// dropped.
    constants: Mutex<HashMap<(usize, ThreadId), Reserved>>,
}

impl Bounds {
    pub fn new(max_value: usize, pool: &Arc<dyn MemoryPool>, cancel: CancellationToken) -> Arc<Bounds> {
        let reserved = Arc::new(MemoryConsumer::new("functions").register(pool));
        let (planning, constants) = (AtomicBool::new(true), Mutex::default());
        Arc::new(Bounds { max_value: max_value as u64, reserved, cancel, planning, constants })
    }

    /// From now on, functions are called to run the statement, no longer to plan it.
    pub fn planned(&self) {
        self.planning.store(false, Ordering::Relaxed);
    }

    pub fn max_value(&self) -> u64 {
        self.max_value
    }

    /// Fails if the statement was cancelled.
    pub fn look(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(carried(cancelled()));
        }
        Ok(())
    }

    /// Whether a function may make a value of this size.
    pub fn value(&self, function: &str, bytes: u64) -> Result<()> {
        if self.planning.load(Ordering::Relaxed) && bytes > MAX_PLANNED {
            return Err(too_large(format!(
                "{function} would return a value of {bytes} bytes; the limit is {MAX_PLANNED} here, because the value is \
                 computed before the statement runs; use SELECT instead of VALUES"
            )));
        }
        if bytes > self.max_value {
            let max = self.max_value;
            return Err(too_large(format!(
                "{function} would return a value of {bytes} bytes; the limit is {max} ([engine] max_value_bytes)"
            )));
        }
        Ok(())
    }

    /// Whether a function may work this long on one row.
    pub fn steps(&self, function: &str, steps: u64) -> Result<()> {
        if steps <= MAX_STEPS {
            return Ok(());
        }
        Err(too_large(format!(
            "{function} would take too long for one row; use shorter texts or lists, or a simpler pattern"
        )))
    }

    /// Reserves memory until the returned value is dropped.
    pub fn reserve(&self, function: &str, bytes: u64) -> Result<Reserved> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if i32::try_from(bytes).is_err() || self.reserved.try_grow(bytes).is_err() {
            return Err(too_large(format!(
                "{function} would need {bytes} bytes, more than is left of the statement's memory ([engine] \
                 memory_bytes); select fewer rows or shorter values"
            )));
        }
        Ok(Reserved { reservation: Arc::clone(&self.reserved), bytes })
    }

    /// Counts an array as long as it exists.
    pub fn keep(&self, array: &dyn Array) {
        array.claim(&Claims(Arc::clone(&self.reserved)));
    }

    /// Counts the constant that a call has returned until the same call returns another one. The operator that asked for
    /// it repeats it for each of its rows.
    pub fn keep_constant(&self, function: &str, call: usize, bytes: u64, rows: usize) -> Result<()> {
        let reserved = self.reserve(function, bytes.saturating_mul(rows.max(1) as u64))?;
        let mut constants = self.constants.lock().unwrap_or_else(PoisonError::into_inner);
        constants.insert((call, std::thread::current().id()), reserved);
        Ok(())
    }
}

/// The error of a statement that asks for more than it may use.
fn too_large(message: String) -> DataFusionError {
    carried(query("too_large", message))
}

/// Memory of the statement's pool.
#[derive(Debug)]
pub struct Reserved {
    reservation: Arc<MemoryReservation>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.reservation.shrink(self.bytes);
    }
}

impl arrow_buffer::MemoryReservation for Reserved {
    fn size(&self) -> usize {
        self.bytes
    }

    fn resize(&mut self, bytes: usize) {
        self.reservation.grow(bytes);
        self.reservation.shrink(self.bytes);
        self.bytes = bytes;
    }
}

/// Lets buffers count themselves. What they need was reserved before they were made, so this does not fail.
#[derive(Debug)]
struct Claims(Arc<MemoryReservation>);

impl arrow_buffer::MemoryPool for Claims {
    fn reserve(&self, bytes: usize) -> Box<dyn arrow_buffer::MemoryReservation> {
        self.0.grow(bytes);
        Box::new(Reserved { reservation: Arc::clone(&self.0), bytes })
    }

    fn available(&self) -> isize {
        isize::MAX
    }

    fn used(&self) -> usize {
        self.0.size()
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }
}
