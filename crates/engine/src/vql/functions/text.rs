//! Functions on texts. Positions count characters.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Int32Array};
use arrow_schema::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

use super::{Definition, Rows, is_text, like, never, shown, wrong};

pub const ALL: &[Definition] = &[
    Definition {
        name: super::CONCAT,
        coerce: |types| texts(super::CONCAT, types, 2),
        returns: text_type,
        invoke: concat,
        is_same: never,
    },
    Definition {
        name: super::INSTR,
        coerce: |types| texts(super::INSTR, types, 2),
        returns: |_| Ok(DataType::Int32),
        invoke: instr,
        is_same: never,
    },
    Definition {
        name: super::LIKE_PATTERN,
        coerce: |types| texts(super::LIKE_PATTERN, types, 2),
        returns: text_type,
        invoke: like_pattern,
        is_same: never,
    },
    Definition {
        name: super::SUBSTR,
        coerce: |types| sliced(super::SUBSTR, types),
        returns: text_type,
        invoke: substr,
        is_same: never,
    },
    Definition {
        name: super::SUBSTRING,
        coerce: |types| sliced(super::SUBSTRING, types),
        returns: text_type,
        invoke: substring,
        is_same: never,
    },
    Definition {
        name: super::TEXT,
        coerce: |types| texts(super::TEXT, types, 1),
        returns: text_type,
        invoke: text,
        is_same: is_text,
    },
];

fn text_type(_: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(DataType::Utf8)
}

fn texts(name: &str, types: &[DataType], count: usize) -> Result<Vec<DataType>> {
    if types.len() != count {
        return Err(wrong(format!("{} needs {count} texts", shown(name))));
    }
    Ok(vec![DataType::Utf8; count])
}

fn sliced(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let whole = |kind: &DataType| kind.is_integer() || *kind == DataType::Null;
    match types {
        [_, positions @ ..] if matches!(positions.len(), 1 | 2) && positions.iter().all(whole) => {
            let mut kinds = vec![DataType::Utf8];
            kinds.extend(positions.iter().map(|_| DataType::Int64));
            Ok(kinds)
        }
        _ => Err(wrong(format!("{} needs a text and whole numbers", shown(name)))),
    }
}

/// Makes a text for each row.
fn each(rows: &Rows, mut make: impl FnMut(usize, &mut StringBuilder) -> Option<()>) -> Result<ColumnarValue> {
    let mut made = StringBuilder::new();
    for row in 0..rows.len() {
        if make(row, &mut made).is_none() {
            made.append_null();
        }
    }
    rows.result(Arc::new(made.finish()))
}

/// NULL if either is NULL.
fn concat(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    each(&rows, |row, made| {
        let (left, right) = (rows.text(0, row)?, rows.text(1, row)?);
        std::fmt::Write::write_str(made, left).ok()?;
        made.append_value(right);
        Some(())
    })
}

fn text(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    args.args.first().cloned().ok_or_else(|| wrong("TEXT needs one argument"))
}

/// Counted from 0; -1 if it is not there.
fn instr(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let place = |row| {
        let (text, part) = (rows.text(0, row)?, rows.text(1, row)?);
        let before = memchr::memmem::find(text.as_bytes(), part.as_bytes()).and_then(|at| text.get(..at));
        Some(before.map_or(-1, |before| i32::try_from(before.chars().count()).unwrap_or(i32::MAX)))
    };
    let places: ArrayRef = Arc::new((0..rows.len()).map(place).collect::<Int32Array>());
    rows.result(places)
}

fn like_pattern(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    each(&rows, |row, made| {
        let (pattern, escape) = (rows.text(0, row)?, rows.text(1, row)?);
        let escape = escape.chars().next().unwrap_or(like::DEFAULT_ESCAPE);
        made.append_value(like::with_backslash(pattern, escape));
        Some(())
    })
}

/// The characters from one place up to another, counted from 0; only what is there.
fn slice(text: &str, from: i64, to: i64) -> &str {
    let (from, to) = (from.max(0), to.max(0));
    let length = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let offset = |text: &str, characters: usize| {
        // Every character has at least one byte.
        if characters >= text.len() && text.is_ascii() {
            return text.len();
        }
        text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
    };
    let rest = text.get(offset(text, from)..).unwrap_or_default();
    rest.get(..offset(rest, length)).unwrap_or_default()
}

/// From a place counted from 1, with a length.
fn substr(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    each(&rows, |row, made| {
        let text = rows.text(0, row)?;
        let from = rows.long(1, row)?.saturating_sub(1);
        let to = if rows.has(2) { from.saturating_add(rows.long(2, row)?) } else { i64::MAX };
        made.append_value(slice(text, from, to));
        Some(())
    })
}

/// From a place counted from 0 up to another one, which is not included.
fn substring(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    each(&rows, |row, made| {
        let text = rows.text(0, row)?;
        let from = rows.long(1, row)?;
        let to = if rows.has(2) { rows.long(2, row)? } else { i64::MAX };
        made.append_value(slice(text, from, to));
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use super::slice;

    #[test]
    fn slices_are_cut_at_the_ends() {
        for (from, to, expected) in [
            (0, 2, "äb"),
            (1, 3, "bc"),
            (-5, 1, "ä"),
            (2, 100, "cd"),
            (4, 9, ""),
            (3, 1, ""),
            (i64::MIN, i64::MAX, "äbcd"),
            (i64::MAX, i64::MAX, ""),
        ] {
            assert_eq!(slice("äbcd", from, to), expected, "{from} {to}");
        }
    }
}
