//! The only place that writes to standard output and standard error. Listings go out as an aligned table, JSON or CSV;
//! machine formats are alone on standard output.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
}

/// Set when something could not be written to standard output: the command has not done all of its work.
static FAILED: AtomicBool = AtomicBool::new(false);

/// A line on standard output. A reader that has gone away ends nothing else; any other failure is the command's own.
pub fn say(line: &str) {
    let written = writeln!(std::io::stdout().lock(), "{line}").and_then(|()| std::io::stdout().flush());
    if let Err(error) = quiet_pipe(written) {
        FAILED.store(true, Ordering::Relaxed);
        complain(&format!("standard output cannot be written: {error}"));
    }
}

/// Could everything be written?
pub fn all_written() -> bool {
    !FAILED.load(Ordering::Relaxed)
}

/// Whoever reads may have seen enough.
fn quiet_pipe(written: std::io::Result<()>) -> std::io::Result<()> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A line on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "landreeve: {line}");
}

/// A line on standard error that is no complaint.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

pub fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    quiet_pipe(std::io::stdout().lock().write_all(bytes))
}

pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Rows of one listing: column names, then a value for each.
pub fn listing(format: Format, columns: &[&str], rows: Vec<Vec<Value>>) {
    match format {
        Format::Table => {
            let mut table = comfy_table::Table::new();
            table.load_preset(comfy_table::presets::NOTHING);
            table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
            table.set_header(columns);
            for row in &rows {
                table.add_row(row.iter().map(|value| printable(&text(value))));
            }
            say(table.trim_fmt().as_str());
        }
        Format::Json => {
            let objects: Vec<Value> = rows
                .into_iter()
                .map(|row| {
                    let pairs = columns.iter().map(|column| (*column).to_owned()).zip(row);
                    Value::Object(pairs.collect::<Map<_, _>>())
                })
                .collect();
            say(&serde_json::to_string_pretty(&objects).unwrap_or_default());
        }
        Format::Csv => {
            say(&columns.join(","));
            for row in &rows {
                say(&row.iter().map(|value| csv_field(&text(value))).collect::<Vec<_>>().join(","));
            }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What a table shows is not obeyed by the terminal.
fn printable(text: &str) -> String {
    if !text.contains(|c: char| c.is_control()) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
