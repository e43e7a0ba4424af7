//! Who is inside a write. A closure that waited for anything but its own statements would hold up every other write,
//! so that it fails at once: what the store is asked for from inside one is refused, and a closure that waits while no
//! statement of its own is under way is ended.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, Result};

thread_local! {
    /// The closure that this thread is inside, by the name of its type.
    static INSIDE: Cell<Option<&'static str>> = const { Cell::new(None) };
    /// A statement of it waits for the database.
    static WAITING: Cell<bool> = const { Cell::new(false) };
}

/// Refuses what must not be asked for inside a write.
pub fn outside(what: &str) -> Result<()> {
    match INSIDE.get() {
        None => Ok(()),
        Some(closure) => Err(refused(closure, &format!("asks for {what}"))),
    }
}

/// A statement of this closure did not have its answer yet.
pub fn statement_waits() {
    WAITING.set(true);
}

fn refused(closure: &'static str, what: &str) -> Error {
    Error::internal(format!("the write {closure} {what}: a write may wait for its own statements only"))
}

/// The future of a closure.
pub struct Marked<'t, T> {
    pub closure: &'static str,
    pub work: BoxFuture<'t, Result<T>>,
}

/// Puts back what was there, however the closure ends.
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
