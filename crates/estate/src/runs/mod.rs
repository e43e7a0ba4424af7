//! The durable run engine: everything that takes time is a run.
//!
//! `record` is a run as it is stored, `queue` the statements that change its state, `recover` the leases of nodes and
//! the recovery of lost runs, `pools` the workers and how they are shared, `engine` the node that claims and recovers,
//! `execute` one run from claim to end, `job` what its executor sees, `log` its log, `list` the lists of runs.
//!
//! A run can have children, in its unit or below, and accepts new ones until it ends or is cancelled. Cancelling it
//! also cancels everything below it in the same transaction; if it ends in another way, its children continue. The
//! records of a family are deleted from the leaves up: a child is kept no longer than its parent, and a parent is kept
//! as long as it has children, so that no record refers to a deleted one.
//!
//! This module does not know what any kind of run does: the server registers the executors.

pub mod claim;
mod engine;
mod execute;
mod job;
mod kind;
pub mod list;
pub mod log;
mod pools;
mod probe;
pub mod queue;
mod record;
pub mod recover;

pub use engine::{AuthorityOf, Engine, Executors, Role, RunOptions, Ticket};
pub use job::{Done, Executor, Failure, Job, Outcome, StopReason};
pub use kind::{KindSpec, OnDrain, Retry};
pub use landreeve_core::PoolName;
pub use list::RunFilter;
pub use probe::{PROBE, Probe, ProbeInput};
pub use record::{Lane, NewRun, Run, RunError};
