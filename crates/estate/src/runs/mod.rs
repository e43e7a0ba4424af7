//! The durable run engine: everything that takes time is a run.
//!
//! `record` is a run as it is kept, `queue` the statements that move it along its states, `engine` the node that
//! claims, executes, reports, cancels and recovers.
//!
//! A run may have children, in its unit or below. It takes them as long as it goes on. Cancelling it cancels everything
//! below it in the same transaction; one that ends otherwise leaves its children to themselves. A family's records go
//! from the leaves up: a child is kept no longer than its parent, and a parent stays while a child of it is there, so
//! that no record names one that is gone.
//!
//! What must not enter: what any kind of run does; executors are registered by the server.

mod engine;
mod probe;
mod purge;
pub mod queue;
mod record;

pub use engine::{Done, Engine, Executor, Failure, Job, Outcome, Role, Ticket};
pub use probe::{Probe, ProbeInput};
pub use purge::Purge;
pub use record::{Lane, NewRun, Run, RunError};
