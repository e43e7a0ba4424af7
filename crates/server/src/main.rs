//! The binary `landreeve`: command line, configuration, wiring and life cycle. It contains no business rules: every
//! command calls the same use case as the faces.

mod cli;
mod config;
mod control;
mod logs;
mod memory;
mod open;
mod orders;
mod output;
mod planes;
mod quickstart;
mod sample;
mod serve;
mod signals;
mod sources;
mod watch;
mod web;

use std::process::ExitCode;

use clap::Parser as _;

/// Requests allocate on one thread and free on another, where the C library's allocator makes threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An error in how the command was called, such as a flag that makes no sense: exit status 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    // Whatever the folder's mode and the umask are, only our user can access what this process creates: the store and
    // SQLite's files next to it, the key, blobs, spilled rows, backups, sockets.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    if let Err(error) = dotenvy::from_read(landreeve_drivers::LIBRARY_SETTINGS.as_bytes()) {
        output::complain(&format!("could not set up the libraries: {error}"));
        return ExitCode::FAILURE;
    }
    let cli = cli::Cli::parse();
    if cli.is_server() {
        memory::start_with_settings();
    }
    let made = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // A thread keeps memory for its next allocations, and all of it while it has nothing to do.
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build();
    let runtime = match made {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("could not start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli::run(cli));
    // Blocking tasks (such as a SQLite statement that ignores its cancel) must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match ended {
        Ok(()) if output::all_written() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) if error.is::<Usage>() => {
            output::complain(&error.to_string());
            ExitCode::from(2)
        }
        Err(error) => {
            output::complain(&describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// The message, and every error in the request on a separate line.
fn describe(error: &anyhow::Error) -> String {
    let Some(known) = error.downcast_ref::<landreeve_core::Error>() else { return format!("{error:#}") };
    match known.faults.as_slice() {
        [] | [_] => known.message.clone(),
        many => many.iter().fold(known.message.clone(), |text, fault| {
            format!("{text}\n  {} {}", fault.field, fault.message)
        }),
    }
}
