//! A listener on a free port, driven by raw bytes, since what is tested is what good clients never send.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod face;
mod listener;
mod support;
mod tls;
