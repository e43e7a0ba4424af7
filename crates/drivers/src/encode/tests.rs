use std::sync::Arc;

use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    PrimitiveArray, StringArray, UInt64Array,
};
use arrow_schema::{Field, Schema};
use futures_util::TryStreamExt;
use jiff::tz::TimeZone;
use landreeve_core::schema::{LogicalType, describe};
use landreeve_core::source::{Envelope, JsonColumn};
use proptest::prelude::*;

use super::*;

fn batch(columns: Vec<(&str, LogicalType, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, logical, array)| {
            describe(Field::new(*name, array.data_type().clone(), true), *logical, "n")
        })
        .collect();
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns fit")
}

fn options(format: ResultFormat, row_count: usize) -> EncodeOptions {
    EncodeOptions {
        format,
        envelope: None,
        time_zone: TimeZone::get("Europe/Berlin").expect("known"),
        row_count: Some(row_count as u64),
        most_rows: None,
        csv_separator: b',',
        integers_as_strings: false,
    }
}

fn keep(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = Codec.writer(&batches[0].schema()).expect("opens");
    let mut kept = Vec::new();
    for batch in batches {
        kept.extend(writer.write(batch).expect("writes"));
    }
    kept.extend(writer.finish().expect("ends"));
    kept
}

fn encoded(kept: &[u8], piece: usize, options: EncodeOptions) -> io::Result<Vec<Bytes>> {
    let pieces: Vec<io::Result<Bytes>> =
        kept.chunks(piece).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(Codec.encode(Box::pin(stream::iter(pieces)), options).try_collect())
}

fn text(batch: &RecordBatch, options: EncodeOptions) -> String {
    let chunks = encoded(&keep(std::slice::from_ref(batch)), 1000, options).expect("encodes");
    String::from_utf8(chunks.concat()).expect("UTF-8")
}

fn sample() -> RecordBatch {
    batch(vec![
        ("n", LogicalType::Integer, Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), None]))),
        ("u", LogicalType::UnsignedBig, Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("t", LogicalType::Text, Arc::new(StringArray::from(vec!["a\"b\\c\n\u{1}é,", ""]))),
        ("f", LogicalType::Number, Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
        (
            "d",
            LogicalType::Decimal,
            Arc::new(
                Decimal128Array::from(vec![-5, 123_456]).with_precision_and_scale(10, 2).expect("a decimal"),
            ),
        ),
        ("b", LogicalType::Boolean, Arc::new(BooleanArray::from(vec![true, false]))),
        ("day", LogicalType::Date, Arc::new(Date32Array::from(vec![19_800, i32::MAX]))),
        (
            "at",
            LogicalType::Instant,
            Arc::new(
                PrimitiveArray::<TimestampMicrosecondType>::from(vec![0, i64::MIN]).with_timezone("UTC"),
            ),
        ),
        (
            "local",
            LogicalType::DateTime,
            Arc::new(PrimitiveArray::<TimestampMillisecondType>::from(vec![1, 2])),
        ),
        ("j", LogicalType::Json, Arc::new(StringArray::from(vec!["{\"a\": 1e400}", "{"]))),
        ("x", LogicalType::Binary, Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice(), b""]))),
        ("s", LogicalType::Integer, Arc::new(Int32Array::from(vec![1, 2]))),
    ])
}

#[test]
fn json_is_exact() {
    let shown = text(&sample(), options(ResultFormat::Json, 2));
    let rows = concat!(
        r#"[[9007199254740993,"18446744073709551615","a\"b\\c\n\u0001é,",1.5,"-0.05",true,"2024-03-18","#,
        r#""1970-01-01T01:00:00.000000+01:00","1970-01-01T00:00:00.001",{"a": 1e400},"AP8=",1],"#,
        r#"[null,"0","","NaN","1234.56",false,"infinity","-infinity","1970-01-01T00:00:00.002","{","",2]]"#,
    );
    assert_eq!(shown, rows);
    let as_strings = EncodeOptions { integers_as_strings: true, ..options(ResultFormat::Json, 2) };
    let shown = text(&sample(), as_strings);
    assert!(shown.contains(r#"["9007199254740993","#) && shown.contains(r#""AP8=",1]"#), "{shown}");
}

/// The names of the columns and whether their numbers are strings.
#[derive(Debug)]
struct Names;

impl Envelope for Names {
    fn head(&self, columns: &[JsonColumn<'_>], out: &mut Vec<u8>) -> io::Result<()> {
        for JsonColumn { field, quoted } in columns {
            out.extend_from_slice(format!("{}{} ", field.name(), if *quoted { "'" } else { "" }).as_bytes());
        }
        Ok(())
    }

    fn tail(&self) -> &[u8] {
        b" end"
    }
}

#[test]
fn json_is_written_into_the_envelope() {
    let named =
        |options| EncodeOptions { envelope: Some(Arc::new(Names)), integers_as_strings: true, ..options };
    let shown = text(&sample(), named(options(ResultFormat::Json, 2)));
    let rows = text(&sample(), EncodeOptions { envelope: None, ..named(options(ResultFormat::Json, 2)) });
    assert_eq!(shown, format!("n' u' t f d' b day at local j x s {rows} end"));
    let empty = Codec.writer(&sample().schema()).expect("opens").finish().expect("ends");
    let shown = encoded(&empty, 7, named(options(ResultFormat::Json, 0))).expect("encodes").concat();
    assert!(shown.ends_with(b" [] end"));
}

#[test]
fn csv_is_quoted() {
    let shown = text(&sample(), options(ResultFormat::Csv, 2));
    let mut expected = "n,u,t,f,d,b,day,at,local,j,x,s\r\n".to_owned();
    expected
        .push_str("9007199254740993,18446744073709551615,\"a\"\"b\\c\n\u{1}é,\",1.5,-0.05,true,2024-03-18,");
    expected.push_str(
        "1970-01-01T01:00:00.000000+01:00,1970-01-01T00:00:00.001,\"{\"\"a\"\": 1e400}\",AP8=,1\r\n",
    );
    expected.push_str(",0,\"\",NaN,1234.56,false,infinity,-infinity,1970-01-01T00:00:00.002,{,\"\",2\r\n");
    assert_eq!(shown, expected);
}

#[test]
fn an_empty_result_still_has_columns() {
    let empty = sample().slice(0, 0);
    let schema = empty.schema();
    let kept = Codec.writer(&schema).expect("opens").finish().expect("ends");
    let json = encoded(&kept, 7, options(ResultFormat::Json, 0)).expect("encodes").concat();
    assert!(String::from_utf8(json).expect("UTF-8").eq("[]"));
    let csv = encoded(&kept, 7, options(ResultFormat::Csv, 0)).expect("encodes").concat();
    assert_eq!(csv, b"n,u,t,f,d,b,day,at,local,j,x,s\r\n");
}

#[test]
fn a_cut_off_result_is_an_error() {
    let kept = keep(&[sample(), sample()]);
    assert!(encoded(&kept, 100, options(ResultFormat::Json, 4)).is_ok());
    assert!(encoded(&kept, 100, options(ResultFormat::Json, 6)).is_err());
    for cut in [kept.len() / 2, kept.len() * 3 / 4, 3] {
        assert!(encoded(&kept[..cut], 100, options(ResultFormat::Csv, 4)).is_err(), "cut at {cut}");
    }
    assert!(encoded(b"", 100, options(ResultFormat::Json, 0)).is_err());
}

#[test]
fn parquet_and_arrow_round_trip() {
    let seconds = batch(vec![
        (
            "at",
            LogicalType::Instant,
            Arc::new(
                PrimitiveArray::<TimestampSecondType>::from(vec![Some(1), None, Some(i64::MAX)])
                    .with_timezone("UTC"),
            ),
        ),
        ("t", LogicalType::Text, Arc::new(StringArray::from(vec!["a", "b", "c"]))),
    ]);
    let kept = keep(&[seconds.clone(), seconds.clone()]);
    let file = encoded(&kept, 64, options(ResultFormat::Parquet, 6)).expect("encodes").concat();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file))
        .expect("a Parquet file")
        .build()
        .expect("reads");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("reads")).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);
    let first = batches[0].column(0).as_any().downcast_ref::<PrimitiveArray<TimestampMillisecondType>>();
    assert_eq!(first.expect("milliseconds").value(0), 1000);
    let arrow = encoded(&kept, 64, options(ResultFormat::ArrowStream, 6)).expect("encodes").concat();
    let reader = arrow_ipc::reader::StreamReader::try_new(io::Cursor::new(arrow), None).expect("a stream");
    assert_eq!(reader.map(|batch| batch.expect("reads").num_rows()).sum::<usize>(), 6);
}

#[test]
fn chunks_stay_small() {
    let long = "x".repeat(1000);
    let wide = batch(vec![("t", LogicalType::Text, Arc::new(StringArray::from(vec![long.as_str(); 2000])))]);
    let chunks = encoded(&keep(&[wide]), 1 << 20, options(ResultFormat::Json, 2000)).expect("encodes");
    assert!(chunks.len() > 10);
    assert!(chunks.iter().all(|chunk| chunk.len() < 2 * CHUNK));
}

proptest! {
    #[test]
    fn any_text_is_valid_json(values in prop::collection::vec(any::<Option<String>>(), 1..20), name in ".*") {
        let rows = values.len();
        let batch = batch(vec![(name.as_str(), LogicalType::Text, Arc::new(StringArray::from(values.clone())))]);
        let parsed: serde_json::Value = serde_json::from_str(&text(&batch, options(ResultFormat::Json, rows)))
            .expect("JSON");
        for (row, value) in values.into_iter().enumerate() {
            prop_assert_eq!(&parsed[row][0], &serde_json::Value::from(value));
        }
    }

    #[test]
    fn floats_round_trip(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
        let batch = batch(vec![("f", LogicalType::Number, Arc::new(Float64Array::from(vec![value])))]);
        let shown = text(&batch, options(ResultFormat::Csv, 1));
        let back: f64 = shown.lines().nth(1).expect("a row").parse().expect("a number");
        prop_assert_eq!(back.to_bits(), value.to_bits());
    }
}

/// A chunk has at most this many bytes: the largest piece of a value with every byte escaped, after a full chunk.
const LARGEST_CHUNK: usize = CHUNK + 6 * PIECE + 1_000;

#[test]
fn long_values_are_written_in_pieces() {
    let long = |part: &str, length: usize| part.repeat(length / part.len());
    let texts: Vec<String> = vec![
        long("plain", 5 * PIECE),
        long("\u{1}", 3 * PIECE + 1),
        long("é\"\n,", 2 * PIECE),
        String::new(),
        long("x", PIECE),
        long("x", PIECE + 1),
        format!("[{}1]", long("1,", 4 * PIECE)),
    ];
    let bytes: Vec<Vec<u8>> = (0..texts.len()).map(|row| vec![b'A' + 1; PIECE - 1 + row * 70_001]).collect();
    let rows = batch(vec![
        ("t", LogicalType::Text, Arc::new(StringArray::from(texts.clone()))),
        ("n", LogicalType::Integer, Arc::new(Int32Array::from_iter_values(0..7))),
        ("j", LogicalType::Json, Arc::new(StringArray::from(texts.clone()))),
        ("b", LogicalType::Binary, Arc::new(BinaryArray::from_iter_values(&bytes))),
    ]);
    let kept = keep(std::slice::from_ref(&rows));
    let all = |options: EncodeOptions| {
        let chunks = encoded(&kept, 10_000, options.clone()).expect("encodes");
        let at_once = encoded(&kept, kept.len(), options).expect("encodes");
        assert!(chunks.concat() == at_once.concat(), "however the stored bytes arrive");
        let largest = chunks.iter().map(Bytes::len).max().unwrap_or(0);
        assert!(largest <= LARGEST_CHUNK, "a chunk of {largest} bytes");
        String::from_utf8(chunks.concat()).expect("UTF-8")
    };
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let json: serde_json::Value = serde_json::from_str(&all(options(ResultFormat::Json, 7))).expect("JSON");
    for (row, (text, bytes)) in texts.iter().zip(&bytes).enumerate() {
        let (json, number) = (&json[row], serde_json::json!(row));
        assert!(json[0] == *text && json[1] == number && json[3] == base64(bytes), "row {row}");
        match &json[2] {
            serde_json::Value::Array(numbers) => assert_eq!(numbers.len(), text.len() / 2, "row {row}"),
            other => assert!(*other == **text, "row {row}"),
        }
    }
    for separator in [b',', b';', b'B'] {
        let csv = all(EncodeOptions { csv_separator: separator, ..options(ResultFormat::Csv, 7) });
        let field = |value: &str| {
            let special = |c: char| c == char::from(separator) || matches!(c, '"' | '\r' | '\n');
            match value.is_empty() || value.contains(special) {
                true => format!("\"{}\"", value.replace('"', "\"\"")),
                false => value.to_owned(),
            }
        };
        let separated = |fields: [String; 4]| fields.join(&char::from(separator).to_string()) + "\r\n";
        let mut expected = separated(["t", "n", "j", "b"].map(field));
        for (row, (text, bytes)) in texts.iter().zip(&bytes).enumerate() {
            let text = field(text);
            let binary = base64(bytes);
            // A long value is quoted if base64 could contain the separator.
            let quoted = separator == b'B' && bytes.len() > PIECE;
            let binary = if quoted { format!("\"{binary}\"") } else { binary };
            expected += &separated([text.clone(), row.to_string(), text, binary]);
        }
        assert!(csv == expected, "separated by {}", char::from(separator));
    }
}
