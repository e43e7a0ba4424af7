use std::io::Write as _;

use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use futures_util::StreamExt as _;
use landreeve_core::source::Permit;

use super::*;

const DELIMITED: TextFormat =
    TextFormat::Delimited { delimiter: b',', end_of_line: b'\n', header: true, latin1: false };

fn table(
    content: &[u8],
    format: TextFormat,
    columns: &[(&str, DataType)],
    skip_faults: bool,
) -> Arc<dyn Table> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let fields: Vec<Field> =
        columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
    let text_fields = columns.iter().enumerate();
    TextReader { bounds: Bounds { max_value_bytes: 100_000, max_row_bytes: 200_000 } }.table(TextSource {
        file: Arc::new(file),
        name: "a.csv".to_owned(),
        format,
        schema: Arc::new(Schema::new(fields)),
        fields: text_fields
            .map(|(position, (name, _))| TextField { name: (*name).to_owned(), position })
            .collect(),
        width: columns.len(),
        skip_faults,
    })
}

async fn rows(
    table: &Arc<dyn Table>,
    columns: Vec<usize>,
    limit: Option<u64>,
) -> Result<Vec<String>, String> {
    let scan = Scan {
        columns,
        conditions: Vec::new(),
        filters: Vec::new(),
        limit,
        batch_rows: 2,
        partition: 0,
        permit: Permit::default(),
        cancel: CancellationToken::new(),
    };
    let mut stream = table.scan(scan);
    let mut found = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| error.message)?;
        for row in 0..batch.num_rows() {
            let cell = |column: &arrow_array::ArrayRef| {
                let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
                match column.data_type() {
                    _ if column.is_null(row) => "-".to_owned(),
                    DataType::Timestamp(_, Some(_)) => {
                        let column = arrow_cast::cast(column, &plain).unwrap();
                        format!("{}Z", array_value_to_string(&column, row).unwrap())
                    }
                    _ => array_value_to_string(column, row).unwrap(),
                }
            };
            found.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
        }
    }
    Ok(found)
}

async fn all(
    content: &[u8],
    format: TextFormat,
    columns: &[(&str, DataType)],
) -> Result<Vec<String>, String> {
    let table = table(content, format, columns, false);
    rows(&table, (0..columns.len()).collect(), None).await
}

fn typed() -> Vec<(&'static str, DataType)> {
    vec![
        ("i", DataType::Int32),
        ("l", DataType::Int64),
        ("d", DataType::Decimal128(8, 2)),
        ("f", DataType::Float64),
        ("b", DataType::Boolean),
        ("day", DataType::Date32),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("tz", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("t", DataType::Utf8),
    ]
}

#[tokio::test]
async fn texts_become_typed_columns() {
    let csv = "i,l,d,f,b,day,at,tz,t\n\
        1,-9223372036854775808,1.5,2.5e1,true,2026-01-31,2026-01-31 12:30:00,2026-01-31T12:30:00+02:00,\"a \"\"b\"\",\nc\"\n\
        ,,,,,,,,\n";
    let expected = vec![
        "1|-9223372036854775808|1.50|25.0|true|2026-01-31|2026-01-31T12:30:00|2026-01-31T10:30:00Z|a \"b\",\nc".to_owned(),
        "-|-|-|-|-|-|-|-|".to_owned(),
    ];
    assert_eq!(all(csv.as_bytes(), DELIMITED, &typed()).await.unwrap(), expected);
    let json = r#"[{"i": 1, "l": -9223372036854775808, "d": 1.50, "f": "25", "b": true, "day": "2026-01-31",
        "at": "2026-01-31 12:30:00", "tz": "2026-01-31T12:30:00+02:00", "t": "a \"b\",\nc", "more": [1, "}"]}, {"t": ""}]"#;
    assert_eq!(all(json.as_bytes(), TextFormat::Json, &typed()).await.unwrap(), expected);
}

/// Either the value has everything that the text says, or there is an error.
#[tokio::test]
async fn no_offset_or_time_is_dropped() {
    let timestamp = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    for (text, day, at, tz) in [
        ("2026-01-31", Some("2026-01-31"), Some("2026-01-31T00:00:00"), None),
        ("2026-01-31 12:30:00", None, Some("2026-01-31T12:30:00"), None),
        ("2026-01-31T00:00:00Z", None, Some("2026-01-31T00:00:00"), Some("2026-01-31T00:00:00Z")),
        ("2026-01-31 00:30:00+02:00", None, Some("2026-01-30T22:30:00"), Some("2026-01-30T22:30:00Z")),
        ("2026-01-31T23:30:00-0100", None, Some("2026-02-01T00:30:00"), Some("2026-02-01T00:30:00Z")),
        ("12:30:00+02:00", None, None, None),
        ("2026-01-31T12:30:00+02:00[Europe/Berlin]", None, None, None),
    ] {
        for (kind, expected) in [(DataType::Date32, day), (timestamp(None), at), (timestamp(Some("UTC")), tz)]
        {
            let column = [("a", kind.clone())];
            let json = format!("[{{\"a\": {text:?}}}]");
            for (content, format) in [(format!("a\n{text}\n"), DELIMITED), (json, TextFormat::Json)] {
                let found = all(content.as_bytes(), format, &column).await;
                match expected {
                    Some(value) => assert_eq!(found.as_deref(), Ok(&[value.to_owned()][..]), "{text} {kind}"),
                    None => assert!(found.is_err_and(|error| error.contains(" is no ")), "{text} {kind}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_ends_inside_quotes_is_cut_off() {
    let columns = [("a", DataType::Int32), ("b", DataType::Utf8)];
    for content in ["a,b\n1,x\n2,\"un", "a,b\n1,x\n2,\"un\n", "a,b\n1,x\n2,\""] {
        let error = all(content.as_bytes(), DELIMITED, &columns).await.unwrap_err();
        assert!(error.contains("row 3: the file ends inside quotes"), "{content:?}: {error}");
    }
    for content in ["a,b\n1,x\n2,\"un\"", "a,b\n1,x\n2,\"un\"\n\n", "a,b\n1,x\n2,un"] {
        assert_eq!(
            all(content.as_bytes(), DELIMITED, &columns).await.unwrap(),
            ["1|x", "2|un"],
            "{content:?}"
        );
    }
}

#[tokio::test]
async fn forms_of_delimited_text() {
    let columns = [("a", DataType::Int32), ("b", DataType::Utf8)];
    let format = |delimiter, end_of_line, header, latin1| TextFormat::Delimited {
        delimiter,
        end_of_line,
        header,
        latin1,
    };
    for (content, format, expected) in [
        (b"b;a\r\nx;1\r\n".as_slice(), format(b';', b'\n', true, false), vec!["1|x"]),
        (b"1\tx\n2\ty", format(b'\t', b'\n', false, false), vec!["1|x", "2|y"]),
        (b"1,x\r2,y\r", format(b',', b'\r', false, false), vec!["1|x", "2|y"]),
        (b"1,\xe4\n", format(b',', b'\n', false, true), vec!["1|\u{e4}"]),
        ("\u{feff}a,b\n1,ä\n".as_bytes(), DELIMITED, vec!["1|ä"]),
        (b"a,b\n", DELIMITED, vec![]),
        (b"", DELIMITED, vec![]),
    ] {
        assert_eq!(
            all(content, format, &columns).await.unwrap(),
            expected,
            "{:?}",
            String::from_utf8_lossy(content)
        );
    }
}

#[tokio::test]
async fn a_fault_names_file_row_and_column() {
    let columns = [("a", DataType::Int32), ("b", DataType::Utf8)];
    let long = format!("a,b\n1,\"{}", "x".repeat(300_000));
    let value = format!("a,b\n1,{}\n", "x".repeat(150_000));
    for (content, format, message) in [
        (b"a,b\n1,x,y\n".as_slice(), DELIMITED, "file a.csv: row 2: has 3 fields instead of 2"),
        (b"a,b\n1,x\nz,y\n", DELIMITED, "file a.csv: row 3: column a: \"z\" is no int"),
        (b"a\n1\n", DELIMITED, "file a.csv: the header has no column b"),
        (b"a,b\n1,\xff\n", DELIMITED, "file a.csv: row 2: column b: the text is not UTF-8"),
        (long.as_bytes(), DELIMITED, "a row has more than 200000 bytes"),
        (value.as_bytes(), DELIMITED, "a value has 150000 bytes; at most 100000 are allowed"),
        (b"[{\"a\": 1}, {\"a\": \"x\"}]", TextFormat::Json, "file a.csv: row 2: column a: \"x\" is no int"),
        (b"[{\"a\": 1}", TextFormat::Json, "the array does not end"),
        (b"{\"a\": ", TextFormat::Json, "the file ends inside an object"),
        (b"{\"a\": 1,}", TextFormat::Json, "row 1: it is no JSON object"),
        (b"1", TextFormat::Json, "neither an array of objects nor one object a line"),
        (b"[{\"a\": 1}] {}", TextFormat::Json, "neither an array of objects nor one object a line"),
    ] {
        let fault = all(content, format, &columns).await.unwrap_err();
        assert!(fault.contains(message), "{fault} instead of {message}");
    }
}

#[tokio::test]
async fn rows_with_faults_can_be_left_out() {
    let columns = [("a", DataType::Int32), ("b", DataType::Utf8)];
    let content = b"a,b\n1,x\nz,y\n2\n3,w\n";
    let table = table(content, DELIMITED, &columns, true);
    assert_eq!(rows(&table, vec![0, 1], None).await.unwrap(), ["1|x", "3|w"]);
}

#[tokio::test]
async fn a_scan_reads_the_columns_and_rows_that_it_wants() {
    let columns = [("a", DataType::Int32), ("b", DataType::Utf8)];
    let content = b"a,b\n1,x\n2,y\n3,z\nbad,w\n";
    let table = table(content, DELIMITED, &columns, false);
    assert_eq!(
        rows(&table, vec![1], None).await.unwrap(),
        ["x", "y", "z", "w"],
        "only the wanted columns are read"
    );
    assert_eq!(rows(&table, vec![0], Some(2)).await.unwrap(), ["1", "2"]);
    assert_eq!(
        rows(&table, vec![], None).await.unwrap(),
        ["", "", "", ""],
        "rows are counted without columns"
    );
}
