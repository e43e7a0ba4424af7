//! Chores of the repository: the test databases, the test run and the checks of its architecture.
//!
//! `cargo xtask` alone lists them. This program is never shipped, so it may print, read the environment and
//! wait on the wall clock, which the product's crates may not.
#![expect(clippy::print_stdout, reason = "a command line tool speaks on standard output")]
#![expect(clippy::print_stderr, reason = "progress and faults go to standard error")]
#![expect(clippy::disallowed_methods, reason = "no clock port here: it waits for real servers to start")]

mod databases;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  databases [--keep]        start PostgreSQL and two MariaDB servers of our own, print `export` lines for the
                            tests, and keep them until Ctrl-C, SIGTERM or the end of standard input;
                            --keep leaves their directories (data and logs) behind
  databases --detach FILE   start them, write the `export` lines to FILE (`source` it) and return
  databases --stop FILE     stop what `--detach FILE` started
  test [-- ARGS…]           run every test with such databases (or with those that LANDREEVE_TEST_* name);
                            ARGS go to `cargo nextest run`
  tidy                      check the rules of the architecture and list every violation
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match command.as_str() {
        "databases" => databases::command(rest),
        "test" => test::command(rest),
        "tidy" => tidy::command(rest),
        databases::GUARD => databases::guard(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: there is no command `{other}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
