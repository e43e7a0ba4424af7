//! Joins and UNNEST repeat their input's rows, and a value that is not shared is copied each time. So their output
//! comes in small batches, and a row that could not be repeated for a whole batch is an error.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::StreamExt as _;

use super::sizes::{Sizes, all};
use super::too_large;

/// Maximum number of rows in a batch of joined rows.
pub const JOINED_ROWS: usize = 1_024;

/// What is done with a plan's rows.
#[derive(Debug, Clone)]
enum Way {
    /// The output comes in batches of at most so many rows as [`JOINED_ROWS`].
    Small,
    /// Rows must be no longer than this in columns whose values are copied.
    Width(u64),
    /// Rows come in pieces that need at most this when these columns are unnested.
    Pieces { lists: Vec<usize>, memory: u64 },
}

#[derive(Debug)]
pub struct Wide {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    way: Way,
}

/// A join whose output comes in small batches.
pub fn small(join: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Wide::over(join, Way::Small)
}

/// An input of a join whose output may need `memory` for a batch. The input itself if its rows have a fixed width.
pub fn joined(input: Arc<dyn ExecutionPlan>, memory: usize) -> Arc<dyn ExecutionPlan> {
    if copied(&input.schema()).next().is_none() {
        return input;
    }
    Wide::over(input, Way::Width((memory / JOINED_ROWS) as u64))
}

/// The input of an UNNEST of these columns whose output may need `memory` for a batch.
pub fn unnested(input: Arc<dyn ExecutionPlan>, lists: Vec<usize>, memory: usize) -> Arc<dyn ExecutionPlan> {
    Wide::over(input, Way::Pieces { lists, memory: memory as u64 })
}

/// The columns whose values are copied when a row is repeated; views only point to them.
fn copied(schema: &Schema) -> impl Iterator<Item = usize> {
    let columns = schema.fields().iter().enumerate();
    let views = |kind: &DataType| matches!(kind, DataType::Utf8View | DataType::BinaryView);
    let copies = move |kind: &DataType| !views(kind) && kind.primitive_width().is_none();
    columns.filter(move |(_, field)| copies(field.data_type())).map(|(at, _)| at)
}

fn too_long(bytes: u64, max: u64) -> DataFusionError {
    too_large(format!("a row of {bytes} bytes is too long for a join or UNNEST; the limit is {max}"))
}

/// The sizes of the rows in these columns.
fn widths(batch: &RecordBatch, columns: impl Iterator<Item = usize>) -> Sizes {
    let columns: Vec<ArrayRef> = columns.map(|column| Arc::clone(batch.column(column))).collect();
    all(&columns)
}

fn check(batch: &RecordBatch, max: u64) -> Result<()> {
    let widest = widths(batch, copied(&batch.schema())).largest();
    if widest <= max { Ok(()) } else { Err(too_long(widest, max)) }
}

/// Each row is repeated for each element of its lists, whose number is at most their size.
fn pieces(batch: &RecordBatch, lists: &[usize], memory: u64) -> Result<Vec<RecordBatch>> {
    let repeated = widths(batch, (0..batch.num_columns()).filter(|column| !lists.contains(column)));
    let unnested = widths(batch, lists.iter().copied());
    let (mut start, mut sum, mut pieces) = (0, 0_u64, Vec::new());
    for row in 0..batch.num_rows() {
        let need = unnested.row(row).saturating_mul(repeated.row(row).saturating_add(16));
        if need > memory {
            return Err(too_long(repeated.row(row), memory / unnested.row(row).max(1)));
        }
        if sum.saturating_add(need) > memory / 4 && row > start {
            pieces.push(batch.slice(start, row - start));
            (start, sum) = (row, 0);
        }
        sum = sum.saturating_add(need);
    }
    pieces.push(batch.slice(start, batch.num_rows() - start));
    Ok(pieces)
}

impl Wide {
    fn over(input: Arc<dyn ExecutionPlan>, way: Way) -> Arc<dyn ExecutionPlan> {
        let properties = Arc::clone(input.properties());
        Arc::new(Wide { input, properties, way })
    }
}

impl DisplayAs for Wide {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wide")
    }
}

impl ExecutionPlan for Wide {
    fn name(&self) -> &'static str {
        "Wide"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.into_iter().next() {
            Some(child) => Ok(Wide::over(child, self.way.clone())),
            None => internal_err!("the plan has no input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.input.schema();
        let stream = match self.way.clone() {
            Way::Small => return self.input.execute(partition, Arc::new(with_small_batches(&context))),
            Way::Width(max) => {
                let input = self.input.execute(partition, context)?;
                input.map(move |batch| batch.and_then(|batch| check(&batch, max).map(|()| batch))).boxed()
            }
            Way::Pieces { lists, memory } => {
                let input = self.input.execute(partition, context)?;
                let split = move |batch: Result<RecordBatch>| match batch
                    .and_then(|batch| pieces(&batch, &lists, memory))
                {
                    Ok(pieces) => pieces.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                };
                input.flat_map(move |batch| futures_util::stream::iter(split(batch))).boxed()
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

fn with_small_batches(context: &TaskContext) -> TaskContext {
    let config = context.session_config().clone();
    let rows = config.batch_size().min(JOINED_ROWS);
    TaskContext::new(
        context.task_id(),
        context.session_id(),
        config.with_batch_size(rows),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    )
}
