//! The durable run engine: everything that takes time is a run.
//!
//! `record` is a run as it is kept, `queue` the statements that move it along its states, `recover` the leases of nodes
//! and what becomes of what they lost, `pools` the workers and who has how many, `engine` the node that claims and
//! recovers, `execute` one run from claim to end, `job` what its executor sees, `log` what it says, `list` how runs are
//! found.
//!
//! A run may have children, in its unit or below. It takes them as long as it goes on. Cancelling it cancels everything
//! below it in the same transaction; one that ends otherwise leaves its children to themselves. A family's records go
//! from the leaves up: a child is kept no longer than its parent, and a parent stays while a child of it is there, so
//! that no record names one that is gone.
//!
//! What must not enter: what any kind of run does; executors are registered by the server.

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
