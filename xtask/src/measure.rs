//! What `bench` and `hostile` share: a running release build of the server, a client, and figures.

pub mod build;
pub mod http;
pub mod machine;
pub mod process;
pub mod report;
pub mod server;
