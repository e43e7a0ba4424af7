//! A listener on a free port, driven with raw bytes, because the tests send what good clients never send.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test helpers fail like tests")]

mod face;
mod listener;
mod support;
mod tls;
