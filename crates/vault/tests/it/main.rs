//! Repositories in every storage, compared with restic where its opinion counts.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod failures;
mod restic;
mod s3;
mod support;
mod upkeep;
