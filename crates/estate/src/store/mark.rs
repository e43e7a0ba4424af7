//! Detects what happens inside a write. A closure that waits for anything but its own statements would delay every
//! other write, so it fails immediately: requests to the store from inside a closure are rejected, and a closure that
//! waits while none of its statements is running is aborted.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, Result};

thread_local! {
    /// The closure that this thread is inside, by the name of its type.
    static INSIDE: Cell<Option<&'static str>> = const { Cell::new(None) };
    /// One of its statements is waiting for the database.
    static WAITING: Cell<bool> = const { Cell::new(false) };
}

/// Rejects what must not be called inside a write.
pub fn outside(what: &str) -> Result<()> {
    match INSIDE.get() {
        None => Ok(()),
        Some(closure) => Err(refused(closure, &format!("asks for {what}"))),
    }
}

/// A statement of this closure is still waiting for its result.
pub fn statement_waits() {
    WAITING.set(true);
}

fn refused(closure: &'static str, what: &str) -> Error {
    Error::internal(format!("the write {closure} {what}: a write may wait only for its own statements"))
}

/// The future of a closure.
pub struct Marked<'t, T> {
    pub closure: &'static str,
    pub work: BoxFuture<'t, Result<T>>,
}

/// Restores the previous value, however the closure ends.
struct Entered(Option<&'static str>);

impl Drop for Entered {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

impl<T> Future for Marked<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let closure = self.closure;
        let entered = Entered(INSIDE.replace(Some(closure)));
        WAITING.set(false);
        let polled = self.work.as_mut().poll(context);
        drop(entered);
        if polled.is_pending() && !WAITING.get() {
            return Poll::Ready(Err(refused(closure, "waits for something else")));
        }
        polled
    }
}
