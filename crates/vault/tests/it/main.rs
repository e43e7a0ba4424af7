//! Repositories in folders, compared with restic where its opinion counts.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod failures;
mod restic;
mod support;
mod upkeep;
