//! The size of values as text and lists, not of the buffers behind them: a thousand values can share one buffer, but
//! not what a function makes of them.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, OffsetSizeTrait};
use arrow_schema::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

/// The size of each row's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    Same(u64),
    Each(Vec<u64>),
}

impl Sizes {
    pub fn row(&self, row: usize) -> u64 {
        match self {
            Sizes::Same(size) => *size,
            Sizes::Each(sizes) => sizes.get(row).copied().unwrap_or(0),
        }
    }

    pub fn largest(&self) -> u64 {
        match self {
            Sizes::Same(size) => *size,
            Sizes::Each(sizes) => sizes.iter().copied().max().unwrap_or(0),
        }
    }

    /// Of an argument: a constant has the same size in every row.
    pub fn of_argument(argument: &ColumnarValue) -> Result<Sizes> {
        Ok(match argument {
            ColumnarValue::Array(array) => Sizes::of(array),
            ColumnarValue::Scalar(value) => Sizes::Same(Sizes::of(&value.to_array()?).row(0)),
        })
    }

    pub fn of(array: &ArrayRef) -> Sizes {
        match array.data_type() {
            DataType::Utf8 => lengths(array.as_string::<i32>().offsets()),
            DataType::LargeUtf8 => lengths(array.as_string::<i64>().offsets()),
            DataType::Binary => lengths(array.as_binary::<i32>().offsets()),
            DataType::LargeBinary => lengths(array.as_binary::<i64>().offsets()),
            DataType::Utf8View => views(array.as_string_view().views()),
            DataType::BinaryView => views(array.as_binary_view().views()),
            DataType::List(_) => sums(array.as_list::<i32>().offsets(), array.as_list::<i32>().values()),
            DataType::LargeList(_) => sums(array.as_list::<i64>().offsets(), array.as_list::<i64>().values()),
            DataType::Map(..) => {
                let map = array.as_map();
                let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
                sums(map.offsets(), &entries)
            }
            DataType::FixedSizeList(_, length) => {
                let length = usize::try_from(*length).unwrap_or(0);
                let inner = Sizes::of(array.as_fixed_size_list().values());
                let row = |row: usize| (row * length..(row + 1) * length).map(|at| inner.row(at)).sum();
                Sizes::Each((0..array.len()).map(row).collect())
            }
            DataType::Struct(_) => all(array.as_struct().columns()),
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                if dictionary.values().is_empty() {
                    // Every key is NULL.
                    return Sizes::Same(0);
                }
                let inner = Sizes::of(dictionary.values());
                let keys = dictionary.normalized_keys();
                Sizes::Each(keys.into_iter().map(|key| inner.row(key)).collect())
            }
            DataType::Union(..) => {
                let union = array.as_union();
                let row = |row: usize| Sizes::of(&union.value(row)).row(0) + 1;
                Sizes::Each((0..array.len()).map(row).collect())
            }
            // Their rows can overlap; none is larger than all of them.
            DataType::ListView(_) | DataType::LargeListView(_) | DataType::RunEndEncoded(..) => {
                Sizes::Same(array.get_array_memory_size() as u64)
            }
            other => Sizes::Same(other.primitive_width().unwrap_or(1) as u64),
        }
    }
}

fn lengths<O: OffsetSizeTrait>(offsets: &[O]) -> Sizes {
    let pairs = offsets.iter().zip(offsets.iter().skip(1));
    Sizes::Each(pairs.map(|(start, end)| (*end - *start).as_usize() as u64).collect())
}

/// The length is the first part of a view.
fn views(views: &[u128]) -> Sizes {
    Sizes::Each(views.iter().map(|view| (*view & u128::from(u32::MAX)) as u64).collect())
}

/// Every element counts at least one byte, even NULL.
fn sums<O: OffsetSizeTrait>(offsets: &[O], values: &ArrayRef) -> Sizes {
    let inner = Sizes::of(values);
    let pairs = offsets.iter().zip(offsets.iter().skip(1));
    let sum = |(start, end): (&O, &O)| match &inner {
        Sizes::Same(size) => (*end - *start).as_usize() as u64 * (*size).max(1),
        Sizes::Each(_) => (start.as_usize()..end.as_usize()).map(|at| inner.row(at).max(1)).sum(),
    };
    Sizes::Each(pairs.map(sum).collect())
}

/// The size of each row over all these columns.
pub fn all(columns: &[ArrayRef]) -> Sizes {
    let rows = columns.first().map_or(0, |column| column.len());
    let sizes: Vec<Sizes> = columns.iter().map(Sizes::of).collect();
    let same = sizes.iter().try_fold(0, |sum, sizes| match sizes {
        Sizes::Same(size) => Some(sum + size),
        Sizes::Each(_) => None,
    });
    match same {
        Some(size) => Sizes::Same(size),
        None => Sizes::Each((0..rows).map(|row| sizes.iter().map(|sizes| sizes.row(row)).sum()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, StringBuilder, StringViewBuilder};
    use arrow_array::{DictionaryArray, Int64Array, StringArray, StructArray, types::Int32Type};
    use arrow_schema::{DataType, Field};

    use super::*;

    #[test]
    fn values_have_their_size_wherever_they_are() {
        let long = "x".repeat(100);
        let mut views = StringViewBuilder::new();
        views.append_value(&long);
        views.append_value("short");
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("ab"), None, Some("")]);
        lists.append_value([Some(long.as_str())]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["abc", "d"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let dictionary: DictionaryArray<Int32Type> = vec!["abc", "d"].into_iter().collect();
        let nulls: DictionaryArray<Int32Type> = vec![None::<&str>, None].into_iter().collect();
        let fields = [("t", DataType::Utf8, &texts), ("n", DataType::Int64, &numbers)];
        let columns =
            fields.map(|(name, kind, array)| (Arc::new(Field::new(name, kind, true)), array.clone()));
        let cases: [(ArrayRef, Sizes); 8] = [
            (texts.clone(), Sizes::Each(vec![3, 1])),
            (texts.slice(1, 1), Sizes::Each(vec![1])),
            (Arc::new(views.finish()), Sizes::Each(vec![100, 5])),
            (Arc::new(lists.finish()), Sizes::Each(vec![4, 100])),
            (numbers.clone(), Sizes::Same(8)),
            (Arc::new(dictionary), Sizes::Each(vec![3, 1])),
            (Arc::new(nulls), Sizes::Same(0)),
            (Arc::new(StructArray::from(columns.to_vec())), Sizes::Each(vec![11, 9])),
        ];
        for (array, sizes) in cases {
            assert_eq!(Sizes::of(&array), sizes, "{}", array.data_type());
        }
    }
}
