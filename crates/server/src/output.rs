//! The only place that writes to standard output and standard error. Listings go out as an aligned table, JSON or CSV;
//! machine formats are alone on standard output.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
}

/// A line on standard output. A reader that has gone away ends nothing else.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}").and_then(|()| std::io::stdout().flush());
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
    std::io::stdout().lock().write_all(bytes)
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
                table.add_row(row.iter().map(text));
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

fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
