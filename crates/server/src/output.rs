//! All output to standard output and standard error. Listings are printed as an aligned table, JSON or CSV; with the
//! machine formats, nothing else goes to standard output.

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

/// The formats of an answer that is no listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Table,
    Json,
}

/// Set if writing to standard output failed, so that the command does not report success.
static FAILED: AtomicBool = AtomicBool::new(false);

/// `1 object`, `2 objects`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Prints a statement as it was and as it is, like the lines of a diff.
pub fn differences(before: Option<&str>, after: Option<&str>, indent: &str) {
    for (sign, text) in [('-', before), ('+', after)] {
        text.iter().flat_map(|text| text.lines()).for_each(|line| say(&format!("{indent}{sign} {line}")));
    }
}

/// Prints a line on standard output. A closed pipe is ignored; any other failure fails the command.
pub fn say(line: &str) {
    let written = writeln!(std::io::stdout().lock(), "{line}").and_then(|()| std::io::stdout().flush());
    if let Err(error) = quiet_pipe(written) {
        FAILED.store(true, Ordering::Relaxed);
        complain(&format!("could not write to standard output: {error}"));
    }
}

/// Whether everything has been written.
pub fn all_written() -> bool {
    !FAILED.load(Ordering::Relaxed)
}

/// A closed pipe is not an error: the reader may have seen enough.
fn quiet_pipe(written: std::io::Result<()>) -> std::io::Result<()> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints an error on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "landreeve: {line}");
}

/// Prints a notice on standard error.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

pub fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    quiet_pipe(std::io::stdout().lock().write_all(bytes))
}

pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a listing: column names, and rows with one value per column.
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

/// Escapes control characters, so that a value in a table cannot control the terminal.
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
