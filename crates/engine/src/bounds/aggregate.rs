//! Aggregates that collect their values, which are checked before they are added.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ReversedUDAF, Signature};

use super::sizes::{Sizes, all};
use super::{Bounds, Reserved};

/// Aggregates whose value contains all the values in a group.
const COLLECTING: [&str; 2] = ["array_agg", "string_agg"];

/// The aggregates, those that collect within the statement's bounds.
pub fn bounded(all: Vec<Arc<AggregateUDF>>, bounds: &Arc<Bounds>) -> Vec<Arc<AggregateUDF>> {
    let bound = |function: Arc<AggregateUDF>| {
        if !COLLECTING.contains(&function.name()) {
            return function;
        }
        Arc::new(AggregateUDF::from(Bounded { inner: function, bounds: Arc::clone(bounds) }))
    };
    all.into_iter().map(bound).collect()
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<AggregateUDF>,
    bounds: Arc<Bounds>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Bounded) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Bounded {
    fn collecting(&self, inner: Box<dyn Accumulator>, distinct: bool) -> Box<dyn Accumulator> {
        let (name, bounds) = (self.name().to_owned(), Arc::clone(&self.bounds));
        Box::new(Collecting { name, inner, bounds, distinct, collected: 0, returned: Vec::new() })
    }
}

impl AggregateUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field(&self, args: &[FieldRef]) -> Result<FieldRef> {
        self.inner.inner().return_field(args)
    }

    fn is_nullable(&self) -> bool {
        self.inner.inner().is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let distinct = args.is_distinct;
        Ok(self.collecting(self.inner.inner().accumulator(args)?, distinct))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let distinct = args.is_distinct;
        Ok(self.collecting(self.inner.inner().create_sliding_accumulator(args)?, distinct))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.inner().state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.inner().order_sensitivity()
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = self.inner.as_ref().clone().with_beneficial_ordering(beneficial)?;
        Ok(inner.map(|inner| {
            let bounded = Bounded { inner: Arc::new(inner), bounds: Arc::clone(&self.bounds) };
            Arc::new(bounded) as Arc<dyn AggregateUDFImpl>
        }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.inner().reverse_expr() {
            ReversedUDAF::Reversed(inner) => {
                let bounded = Bounded { inner, bounds: Arc::clone(&self.bounds) };
                ReversedUDAF::Reversed(Arc::new(AggregateUDF::from(bounded)))
            }
            other => other,
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        self.inner.inner().default_value(kind)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.inner().supports_null_handling_clause()
    }
}

#[derive(Debug)]
struct Collecting {
    name: String,
    inner: Box<dyn Accumulator>,
    bounds: Arc<Bounds>,
    distinct: bool,
    /// Size of the values so far.
    collected: u64,
    /// Values that were returned: a window asks for one for each row.
    returned: Vec<Reserved>,
}

fn sum(values: &[ArrayRef]) -> u64 {
    let rows = values.first().map_or(0, |values| values.len());
    match all(values) {
        Sizes::Same(size) => size.saturating_mul(rows as u64),
        Sizes::Each(sizes) => sizes.into_iter().fold(0, u64::saturating_add),
    }
}

impl Collecting {
    /// Checks before values are added. Equal values may be kept once, which is known only afterwards.
    fn add(&mut self, values: &[ArrayRef]) -> Result<Option<Reserved>> {
        self.bounds.look()?;
        let more = sum(values);
        if self.distinct {
            return self.bounds.reserve(&self.name, more).map(Some);
        }
        self.collected = self.collected.saturating_add(more);
        self.bounds.value(&self.name, self.collected)?;
        Ok(None)
    }
}

impl Accumulator for Collecting {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let _reserved = self.add(values)?;
        self.inner.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let _reserved = self.add(states)?;
        self.inner.merge_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.inner.evaluate()?;
        let size = Sizes::of(&value.to_array()?).row(0);
        self.bounds.value(&self.name, size)?;
        self.returned.push(self.bounds.reserve(&self.name, size)?);
        Ok(value)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if !self.distinct {
            self.collected = self.collected.saturating_sub(sum(values));
        }
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}
