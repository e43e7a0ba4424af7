//! Files of rows as tables: delimited text and JSON.
//!
//! `delimited` and `objects` read one row after the other, `values` reads texts as columns, `input` the bytes of a file.
//! Every fault names file, row and column. Does not belong here: which files may be opened.

mod delimited;
mod input;
mod objects;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use landreeve_core::source::{
    CancellationToken, SourceError, SourceErrorKind, TextField, TextFiles, TextFormat, TextSource,
};
use landreeve_core::table::{Applies, BatchStream, Condition, Scan, Table};
use tokio::sync::mpsc;

use self::delimited::Records;
use self::input::Input;
use self::objects::Objects;
use self::values::{Rows, Value};
use crate::{Bounds, errors};

/// Maximum size of a batch.
const BATCH_BYTES: usize = 4 * 1_024 * 1_024;

/// Reads files of rows within these bounds.
#[derive(Debug, Clone, Copy)]
pub struct TextReader {
    pub bounds: Bounds,
}

impl TextFiles for TextReader {
    fn table(&self, source: TextSource) -> Arc<dyn Table> {
        Arc::new(TextTable { source, bounds: self.bounds })
    }
}

struct TextTable {
    source: TextSource,
    bounds: Bounds,
}

impl Table for TextTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.source.schema)
    }

    /// Reading a row costs more than comparing it.
    fn applies(&self, _: &Condition) -> Applies {
        Applies::No
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let (sender, receiver) = mpsc::channel(2);
        let (source, bounds) = (self.source.clone(), self.bounds);
        // Ends when it has read the file, was cancelled, or nothing receives its batches any more.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&source, &scan, bounds, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|batch| (batch, receiver))
        }))
    }
}

type Sender = mpsc::Sender<Result<RecordBatch, SourceError>>;

/// A fault of a file.
struct Faults<'a> {
    source: &'a TextSource,
}

impl Faults<'_> {
    fn of_file(&self, why: impl std::fmt::Display) -> SourceError {
        let error = SourceError::new(SourceErrorKind::Query, format!("file {}: {why}", self.source.name));
        SourceError { code: Some("bad_file".to_owned()), ..error }
    }

    fn of_row(&self, row: u64, why: impl std::fmt::Display) -> SourceError {
        self.of_file(format!("row {row}: {why}"))
    }
}

fn read(source: &TextSource, scan: &Scan, bounds: Bounds, sender: &Sender) -> Result<(), SourceError> {
    let faults = Faults { source };
    let schema = source.schema.project(&scan.columns).map_err(|error| faults.of_file(error))?;
    let rows = Rows::new(&Arc::new(schema)).map_err(|why| faults.of_file(why))?;
    let fields = scan.columns.iter().filter_map(|column| source.fields.get(*column)).cloned().collect();
    let mut out = Out { rows, scan, sender, left: scan.limit, cancel: scan.cancel.clone() };
    let input = Input::new(Arc::clone(&source.file));
    match source.format {
        TextFormat::Delimited { delimiter, end_of_line, header, latin1 } => {
            let records = Records::new(input, delimiter, end_of_line, latin1, bounds);
            delimited(records, header, fields, &faults, &mut out)
        }
        TextFormat::Json => objects(Objects::new(input, bounds), &fields, &faults, &mut out),
    }
}

fn delimited(
    mut records: Records,
    header: bool,
    fields: Vec<TextField>,
    faults: &Faults<'_>,
    out: &mut Out<'_>,
) -> Result<(), SourceError> {
    let mut positions: Vec<usize> = fields.iter().map(|field| field.position).collect();
    let mut width = faults.source.width;
    if header {
        if !records.next().map_err(|why| faults.of_file(why))? {
            return out.flush(faults);
        }
        width = records.width();
        let mut names = HashMap::new();
        for at in 0..width {
            let name = records.field(at).map_err(|why| faults.of_row(1, why))?.trim().to_owned();
            names.entry(name).or_insert(at);
        }
        for (position, field) in positions.iter_mut().zip(&fields) {
            *position = *names
                .get(&field.name)
                .ok_or_else(|| faults.of_file(format!("the header has no column {}", field.name)))?;
        }
    }
    while records.next().map_err(|why| faults.of_row(records.number + 1, why))? {
        let row = || -> Result<Vec<Value>, String> {
            if records.width() != width {
                return Err(format!("has {} fields instead of {width}", records.width()));
            }
            let one = |((position, field), column): ((&usize, &TextField), &values::Column)| {
                let text = records.field(*position);
                let value = text.and_then(|text| values::read(column, &text));
                value.map_err(|why| format!("column {}: {why}", field.name))
            };
            positions.iter().zip(&fields).zip(&out.rows.columns).map(one).collect()
        };
        match row() {
            Ok(values) => {
                if !out.push(values, faults)? {
                    return Ok(());
                }
            }
            Err(_) if faults.source.skip_faults => {}
            Err(why) => return Err(faults.of_row(records.number, why)),
        }
    }
    out.flush(faults)
}

fn objects(
    mut objects: Objects,
    fields: &[TextField],
    faults: &Faults<'_>,
    out: &mut Out<'_>,
) -> Result<(), SourceError> {
    while objects.next().map_err(|why| faults.of_row(objects.number.max(1), why))? {
        let row = || -> Result<Vec<Value>, String> {
            let members = objects.members()?;
            let one = |(field, column): (&TextField, &values::Column)| {
                let value = match members.get(&field.name) {
                    Some(json) => member(column, json.get()),
                    None => Ok(Value::Null),
                };
                value.map_err(|why| format!("column {}: {why}", field.name))
            };
            fields.iter().zip(&out.rows.columns).map(one).collect()
        };
        match row() {
            Ok(values) => {
                if !out.push(values, faults)? {
                    return Ok(());
                }
            }
            Err(_) if faults.source.skip_faults => {}
            Err(why) => return Err(faults.of_row(objects.number, why)),
        }
    }
    out.flush(faults)
}

/// A member of an object; one that is no text, number or boolean is its JSON in a column of texts.
fn member(column: &values::Column, json: &str) -> Result<Value, String> {
    match json.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
            values::read(column, &text)
        }
        _ if json == "null" => Ok(Value::Null),
        _ => values::read(column, json),
    }
}

/// Sends what was read in batches.
struct Out<'a> {
    rows: Rows,
    scan: &'a Scan,
    sender: &'a Sender,
    /// How many rows are still wanted.
    left: Option<u64>,
    cancel: CancellationToken,
}

impl Out<'_> {
    /// `false`: no more rows are wanted.
    fn push(&mut self, values: Vec<Value>, faults: &Faults<'_>) -> Result<bool, SourceError> {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                self.flush(faults)?;
                return Ok(false);
            }
            *left -= 1;
        }
        self.rows.push(values);
        if self.rows.is_full(self.scan.batch_rows.max(1), BATCH_BYTES) {
            return self.send(faults);
        }
        Ok(true)
    }

    fn send(&mut self, faults: &Faults<'_>) -> Result<bool, SourceError> {
        if self.cancel.is_cancelled() {
            return Err(errors::cancelled());
        }
        let batch = self.rows.take().map_err(|why| faults.of_file(why))?;
        Ok(self.sender.blocking_send(Ok(batch)).is_ok())
    }

    fn flush(&mut self, faults: &Faults<'_>) -> Result<(), SourceError> {
        if !self.rows.is_empty() {
            self.send(faults)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
