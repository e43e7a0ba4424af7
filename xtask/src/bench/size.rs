//! The server's footprint: idle memory, time until it is ready, size of the program.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Sizes};
use crate::measure::process;
use crate::measure::report::{Report, median};
use crate::measure::server::Server;

const IDLE: f64 = 60.0;
const READY: f64 = 500.0;
/// How long after the start to measure memory.
const AFTER: Duration = Duration::from_secs(10);

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::new(&bench.programs, &bench.directory, "size", None);
    server.start(&mut bench.databases)?;
    server.stop()?;
    let mut times = Vec::new();
    for _ in 0..sizes.starts {
        times.push(server.launch()?.as_secs_f64() * 1000.0);
        // It has printed its address; give it time to start listening for signals too.
        std::thread::sleep(Duration::from_millis(200));
        server.stop()?;
    }
    let (ready, slowest) = (median(&times), times.iter().copied().fold(0.0, f64::max));
    report.judge(
        format!("ready on an existing store, median of {}", sizes.starts),
        format!("{ready:.0} ms, slowest {slowest:.0} ms"),
        format!("at most {READY} ms"),
        ready <= READY,
    );
    server.launch()?;
    std::thread::sleep(AFTER);
    let memory = process::memory(server.pid()?)?;
    server.stop()?;
    report.judge(
        "idle memory 10 s after such a start (resident)",
        format!("{:.1} MiB (proportional: {:.1} MiB)", memory.resident, memory.proportional),
        format!("at most {IDLE} MB"),
        memory.resident * 1.048_576 <= IDLE,
    );
    let size = std::fs::metadata(bench.programs.server())?.len();
    report.note("size of the program", format!("{:.1} MB", size as f64 / 1e6));
    Ok(())
}
