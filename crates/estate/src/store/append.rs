//! Rows for a table that nothing else in the transaction reads. On PostgreSQL the rows of all its closures are added with
//! one statement at its end.

use bytes::BytesMut;
use landreeve_core::{Error, Result};
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::conn::Arg;

/// The statements that add one row, and many; their parameters are the same columns.
pub struct Append {
    /// `INSERT INTO … VALUES ($1, …)`
    pub one: &'static str,
    /// `INSERT INTO … SELECT * FROM unnest($1, …)`
    pub many: &'static str,
}

/// The values of one column, in the order of the rows.
#[derive(Debug)]
pub(super) enum Column {
    Ints(Vec<Option<i64>>),
    Floats(Vec<Option<f64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn starting_with(value: Arg) -> Column {
        match value {
            Arg::Int(value) => Column::Ints(vec![value]),
            Arg::Float(value) => Column::Floats(vec![value]),
            Arg::Text(value) => Column::Texts(vec![value]),
            Arg::Bytes(value) => Column::Bytes(vec![value]),
            Arg::Sealed(value) => Column::Bytes(vec![Some(value)]),
        }
    }

    fn push(&mut self, value: Arg) -> Result<()> {
        match (self, value) {
            (Column::Ints(column), Arg::Int(value)) => column.push(value),
            (Column::Floats(column), Arg::Float(value)) => column.push(value),
            (Column::Texts(column), Arg::Text(value)) => column.push(value),
            (Column::Bytes(column), Arg::Bytes(value)) => column.push(value),
            (Column::Bytes(column), Arg::Sealed(value)) => column.push(Some(value)),
            (column, value) => {
                return Err(Error::internal(format!("{value:?} among {column:?}")));
            }
        }
        Ok(())
    }

    pub fn postgres_type(&self) -> Type {
        match self {
            Column::Ints(_) => Type::INT8_ARRAY,
            Column::Floats(_) => Type::FLOAT8_ARRAY,
            Column::Texts(_) => Type::TEXT_ARRAY,
            Column::Bytes(_) => Type::BYTEA_ARRAY,
        }
    }
}

/// Turns rows into columns.
pub(super) fn columns(rows: impl IntoIterator<Item = Vec<Arg>>) -> Result<Vec<Column>> {
    let mut rows = rows.into_iter();
    let first = rows.next().unwrap_or_default();
    let mut columns: Vec<Column> = first.into_iter().map(Column::starting_with).collect();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value)?;
        }
    }
    Ok(columns)
}

type Failure = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Column {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match self {
            Column::Ints(values) => values.to_sql(kind, out),
            Column::Floats(values) => values.to_sql(kind, out),
            Column::Texts(values) => values.to_sql(kind, out),
            Column::Bytes(values) => values.to_sql(kind, out),
        }
    }

    // We know the types: the statement was prepared with them.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.to_sql(kind, out)
    }
}
