//! SUM that does not wrap. The sum of integers is a `long`, that of decimals a decimal with ten digits more; a sum that
//! does not fit is an error. Partial sums have 128 bits, so the order of the rows does not matter.

use std::collections::HashSet;
use std::mem::size_of;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, BooleanArray, Decimal128Array, Int64Array};
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::{failed, number, wrong};

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Sum {
    signature: Signature,
}

impl Sum {
    pub fn new() -> Sum {
        Sum { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The number of digits after the point of an exact sum; `None` for doubles, which DataFusion's own SUM adds.
fn scale(result: &DataType) -> Option<i8> {
    match result {
        DataType::Int64 => Some(0),
        DataType::Decimal128(_, scale) => Some(*scale),
        _ => None,
    }
}

const fn state_type(scale: i8) -> DataType {
    DataType::Decimal128(38, scale)
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        super::SUM
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [kind] = types else { return Err(wrong("SUM needs one number")) };
        Ok(vec![match number(super::SUM, kind)? {
            DataType::Int32 => DataType::Int64,
            other => other,
        }])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [kind] = types else { return Err(wrong("SUM needs one number")) };
        Ok(match number(super::SUM, kind)? {
            DataType::Int32 => DataType::Int64,
            DataType::Decimal128(precision, scale) => {
                DataType::Decimal128(precision.saturating_add(10).min(38), scale)
            }
            other => other,
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match scale(args.return_type()) {
            None => sum_udaf().inner().accumulator(args),
            Some(_) if args.is_distinct => {
                Ok(Box::new(DistinctSum { values: HashSet::new(), result: args.return_type().clone() }))
            }
            Some(_) => Ok(Box::new(ExactSum::new(args.return_type()))),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match scale(args.return_type()) {
            None => sum_udaf().inner().create_sliding_accumulator(args),
            Some(_) => self.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let Some(scale) = scale(args.return_type()) else { return sum_udaf().inner().state_fields(args) };
        let name = format!("{}[sum]", args.name);
        let kind = state_type(scale);
        Ok(vec![Arc::new(if args.is_distinct {
            Field::new_list(name, Field::new_list_field(kind, true), true)
        } else {
            Field::new(name, kind, true)
        })])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match scale(args.return_type()) {
            None => sum_udaf().inner().create_groups_accumulator(args),
            Some(_) => Ok(Box::new(GroupSums { sums: Vec::new(), result: args.return_type().clone() })),
        }
    }
}

fn overflow() -> datafusion::common::DataFusionError {
    failed("overflow in SUM: the sum is larger than its type")
}

/// The exact value of each row: integers, decimals, or partial sums.
fn each(array: &ArrayRef, mut add: impl FnMut(usize, i128) -> Result<()>) -> Result<()> {
    if let Some(values) = array.as_primitive_opt::<Int64Type>() {
        return values.iter().enumerate().try_for_each(|(row, value)| match value {
            Some(value) => add(row, i128::from(value)),
            None => Ok(()),
        });
    }
    let values = array.as_primitive_opt::<Decimal128Type>().ok_or_else(|| failed("SUM needs a number"))?;
    values.iter().enumerate().try_for_each(|(row, value)| match value {
        Some(value) => add(row, value),
        None => Ok(()),
    })
}

fn results(sums: Vec<Option<i128>>, result: &DataType) -> Result<ArrayRef> {
    match result {
        DataType::Decimal128(precision, scale) => {
            let array = Decimal128Array::from(sums).with_precision_and_scale(*precision, *scale)?;
            array.validate_decimal_precision(*precision).map_err(|_| overflow())?;
            Ok(Arc::new(array))
        }
        _ => {
            let narrow = |sum: Option<i128>| sum.map(i64::try_from).transpose().map_err(|_| overflow());
            Ok(Arc::new(sums.into_iter().map(narrow).collect::<Result<Int64Array>>()?))
        }
    }
}

fn states(sums: Vec<Option<i128>>, result: &DataType) -> Result<ArrayRef> {
    let array = Decimal128Array::from(sums);
    Ok(Arc::new(array.with_precision_and_scale(38, scale(result).unwrap_or(0))?))
}

fn add(sum: &mut Option<i128>, value: i128) -> Result<()> {
    *sum = Some(sum.unwrap_or(0).checked_add(value).ok_or_else(overflow)?);
    Ok(())
}

#[derive(Debug)]
struct ExactSum {
    sum: i128,
    /// How many values are in it. Without any, the sum is NULL.
    count: u64,
    result: DataType,
}

impl ExactSum {
    fn new(result: &DataType) -> ExactSum {
        ExactSum { sum: 0, count: 0, result: result.clone() }
    }

    fn value(&self) -> Option<i128> {
        (self.count > 0).then_some(self.sum)
    }
}

impl Accumulator for ExactSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        each(values, |_, value| {
            self.sum = self.sum.checked_add(value).ok_or_else(overflow)?;
            self.count += 1;
            Ok(())
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        each(values, |_, value| {
            self.sum = self.sum.checked_sub(value).ok_or_else(overflow)?;
            self.count = self.count.saturating_sub(1);
            Ok(())
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&results(vec![self.value()], &self.result)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&states(vec![self.value()], &self.result)?, 0)?])
    }

    fn size(&self) -> usize {
        size_of::<ExactSum>()
    }
}

#[derive(Debug)]
struct DistinctSum {
    values: HashSet<i128>,
    result: DataType,
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        each(values, |_, value| {
            self.values.insert(value);
            Ok(())
        })
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states.first().and_then(|states| states.as_list_opt::<i32>()) else {
            return Ok(());
        };
        lists.iter().flatten().try_for_each(|list| self.update_batch(&[list]))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = None;
        self.values.iter().try_for_each(|value| add(&mut sum, *value))?;
        ScalarValue::try_from_array(&results(vec![sum], &self.result)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let scale = scale(&self.result).unwrap_or(0);
        let values: Vec<_> =
            self.values.iter().map(|value| ScalarValue::Decimal128(Some(*value), 38, scale)).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &state_type(scale)))])
    }

    fn size(&self) -> usize {
        size_of::<DistinctSum>() + self.values.capacity() * 2 * size_of::<i128>()
    }
}

#[derive(Debug)]
struct GroupSums {
    sums: Vec<Option<i128>>,
    result: DataType,
}

impl GroupsAccumulator for GroupSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.sums.resize(total_num_groups, None);
        let Some(values) = values.first() else { return Ok(()) };
        each(values, |row, value| {
            let counts = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            match group_indices.get(row).and_then(|group| self.sums.get_mut(*group)) {
                Some(sum) if counts => add(sum, value),
                _ => Ok(()),
            }
        })
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        results(emit_to.take_needed(&mut self.sums), &self.result)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![states(emit_to.take_needed(&mut self.sums), &self.result)?])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let Some(values) = values.first() else { return Ok(Vec::new()) };
        let mut sums = vec![None; values.len()];
        each(values, |row, value| {
            let counts = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let Some(sum) = sums.get_mut(row).filter(|_| counts) {
                *sum = Some(value);
            }
            Ok(())
        })?;
        Ok(vec![states(sums, &self.result)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Option<i128>>()
    }
}
