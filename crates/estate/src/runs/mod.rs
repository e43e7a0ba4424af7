//! The durable run engine: everything that takes time is a run.
//!
//! `record` is a run as it is kept, `queue` the statements that move it along its states, `engine` the node that
//! claims, executes, reports, cancels and recovers. What must not enter: what any kind of run does; executors are
//! registered by the server.

mod engine;
mod probe;
mod purge;
pub mod queue;
mod record;

pub use engine::{Done, Engine, Executor, Failure, Job, Outcome, Role, Ticket};
pub use probe::{Probe, ProbeInput};
pub use purge::Purge;
pub use record::{Lane, NewRun, Run, RunError};
