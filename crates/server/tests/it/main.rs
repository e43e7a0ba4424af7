//! The one end-to-end test binary: a real server process, spoken to over HTTP and by the command line, on real
//! databases. `cargo xtask test` starts those.

mod analytics;
mod command_line;
mod crash;
mod life;
mod support;
