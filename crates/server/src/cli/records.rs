//! `landreeve backup browse` and `landreeve backup query`: what is in a backup.

use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::tz::TimeZone;
use landreeve_core::source::{
    ByteStream, CancellationToken, EncodeOptions, QueryStream, ResultCodec as _, ResultFormat,
};
use landreeve_drivers::Codec;
use landreeve_protection::records::{BackupTable, RecordQuery, backup_tables, record_query};
use serde_json::{Value, json};

use super::backups::Which;
use super::{Session, uuid_of};
use crate::output::{self, Format};

/// More rows than this are printed as CSV only, because the other formats need all of them at once.
const MAX_ROWS: u64 = 10_000;

#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    which: Which,
    /// A SELECT in PostgreSQL's SQL; tables are named as `backup browse` shows them
    sql: String,
    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: u64,
}

pub async fn browse(which: Which) -> anyhow::Result<()> {
    let uuid = uuid_of("backup", &which.backup)?;
    let session = Session::open(&which.place).await?;
    let found = backup_tables(&session.opened.protection, &session.ctx, uuid).await;
    session.close().await;
    let rows = found?.iter().flat_map(rows).collect();
    output::listing(which.format, &["schema", "table", "rows", "column", "type", "nullable", "key"], rows);
    Ok(())
}

/// One for each column.
fn rows(table: &BackupTable) -> Vec<Vec<Value>> {
    let row = |column: &landreeve_protection::records::BackupColumn| {
        vec![
            json!(table.schema),
            json!(table.name),
            json!(table.rows),
            json!(column.name),
            json!(column.data_type),
            json!(column.nullable),
            json!(column.is_key),
        ]
    };
    table.columns.iter().map(row).collect()
}

pub async fn query(args: QueryArgs) -> anyhow::Result<()> {
    let format = args.which.format;
    let asked = RecordQuery {
        backup: uuid_of("backup", &args.which.backup)?,
        sql: args.sql,
        time_limit: Duration::from_secs(args.time_limit),
        max_rows: (format != Format::Csv).then_some(MAX_ROWS),
    };
    let session = Session::open(&args.which.place).await?;
    let (plane, ctx) = (session.opened.protection.clone(), session.ctx.clone());
    let shown = async {
        let stream = record_query(&plane, &ctx, asked, CancellationToken::new()).await?;
        show(stream, format).await
    };
    let shown = shown.await;
    session.close().await;
    shown
}

async fn show(stream: QueryStream, format: Format) -> anyhow::Result<()> {
    let schema = stream.schema.clone();
    let wanted = if format == Format::Csv { ResultFormat::Csv } else { ResultFormat::Json };
    let mut encoded = encode(stream, wanted)?;
    if format == Format::Csv {
        while let Some(bytes) = encoded.try_next().await? {
            output::bytes(&bytes)?;
        }
        return Ok(());
    }
    let all: Vec<_> = encoded.try_collect().await?;
    let rows: Vec<Vec<Value>> = serde_json::from_slice(&all.concat())?;
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    output::listing(format, &columns, rows);
    Ok(())
}

/// The rows in a format, as they come.
fn encode(stream: QueryStream, format: ResultFormat) -> anyhow::Result<ByteStream> {
    let mut writer = Codec.writer(&stream.schema)?;
    let ends = stream.batches.map(Some).chain(stream::iter([None]));
    let kept = ends.map(move |next| match next {
        Some(Ok(batch)) => writer.write(&batch),
        Some(Err(error)) if error.code.as_deref() == Some("too_many_rows") => {
            let message = format!("{}; as --format csv it has no limit", error.message);
            Err(std::io::Error::other(message))
        }
        Some(Err(error)) => Err(std::io::Error::other(error.message)),
        None => writer.finish(),
    });
    let options = EncodeOptions {
        format,
        envelope: None,
        time_zone: TimeZone::UTC,
        row_count: None,
        most_rows: None,
        csv_separator: b',',
        integers_as_strings: false,
    };
    Ok(Codec.encode(Box::pin(kept), options))
}
