//! Logs go to standard error: as text on a terminal, otherwise as JSON. `json` and `text` format a line, `buffer` collects lines
//! and writes them. What to log is decided where it happens, through `tracing`, not here.

mod buffer;
mod json;
mod text;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use buffer::Buffer;

/// Changes the level while the server runs, and flushes the buffer when it is dropped.
pub struct Level {
    handle: reload::Handle<EnvFilter, Registry>,
    buffer: Option<Buffer>,
}

impl Level {
    pub fn set(&self, level: &str) -> anyhow::Result<()> {
        self.handle.reload(filter(level)?).context("could not change the log level")
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        if let Some(buffer) = &self.buffer {
            buffer.end();
        }
    }
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| format!("[log] level: {level:?} is not a log level or filter"))
}

pub fn start(level: &str) -> anyhow::Result<Level> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        let lines = fmt::layer().event_format(text::Lines::default()).with_writer(std::io::stderr);
        registry.with(lines).try_init().context("logging is already started")?;
        return Ok(Level { handle, buffer: None });
    }
    let buffer = Buffer::start(std::io::stderr()).context("could not start the log writer")?;
    let lines = fmt::layer().event_format(json::Lines);
    registry.with(lines.with_writer(buffer.clone())).try_init().context("logging is already started")?;
    Ok(Level { handle, buffer: Some(buffer) })
}
