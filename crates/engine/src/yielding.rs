//! Makes plans yield their thread, so that even a cross join stops when it is cancelled.
//!
//! Joins return batch after batch without ever waiting, and between two batches compare one batch of one side with all
//! of the other. So a join's output counts against the task's budget, and its input comes in small pieces, with a yield
//! before each.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures_util::StreamExt as _;

use crate::bounds::wide;

/// How many rows of one side are compared with the whole other side between two yields.
const ROWS: usize = 128;

/// `memory` is what an operator may need for a batch of repeated rows.
pub fn make_yielding(plan: Arc<dyn ExecutionPlan>, memory: usize) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let lists = node.downcast_ref::<UnnestExec>().map(|unnest| {
            unnest.list_column_indices().iter().map(|list| list.index_in_input_schema).collect::<Vec<_>>()
        });
        if !node.name().ends_with("JoinExec") && lists.is_none() {
            return Ok(Transformed::no(node));
        }
        let compares_all = node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>();
        let children = node.children().into_iter().map(|child| {
            let child = Arc::clone(child);
            match &lists {
                Some(lists) => wide::unnested(child, lists.clone(), memory),
                None if compares_all => Piecemeal::over(wide::joined(child, memory)),
                None => wide::joined(child, memory),
            }
        });
        let children = children.collect();
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        let node = wide::small(node.replace_children(children, options)?);
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// Returns its input's rows a few at a time, and yields its thread before each piece.
#[derive(Debug)]
struct Piecemeal {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Piecemeal {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let properties = Arc::clone(input.properties());
        Arc::new(Piecemeal { input, properties })
    }
}

impl DisplayAs for Piecemeal {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Piecemeal")
    }
}

impl ExecutionPlan for Piecemeal {
    fn name(&self) -> &'static str {
        "Piecemeal"
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
            Some(child) => Ok(Piecemeal::over(child)),
            None => internal_err!("the plan has no input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.input.schema();
        let input = self.input.execute(partition, context)?;
        let pieces = input.flat_map(|batch| {
            let pieces: Vec<Result<RecordBatch>> = match batch {
                Err(error) => vec![Err(error)],
                Ok(batch) => {
                    let starts = (0..batch.num_rows().max(1)).step_by(ROWS);
                    starts
                        .map(|start| Ok(batch.slice(start, ROWS.min(batch.num_rows().saturating_sub(start)))))
                        .collect()
                }
            };
            futures_util::stream::iter(pieces)
        });
        let paused = pieces.then(|piece| async {
            tokio::task::yield_now().await;
            piece
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, paused)))
    }
}
