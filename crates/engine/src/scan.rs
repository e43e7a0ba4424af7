//! One read of a plane's table as a leaf of a plan.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs,
};
use futures_util::StreamExt as _;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{Connections, SourceError};
use landreeve_core::table::{Scan, Table};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::AbortOnDrop;
use crate::admission::{Admission, read_ahead};
use crate::error::{carried, stopped};

/// The parts of a read, with what the planner may know about it.
#[derive(Debug)]
pub struct ScanExec {
    parts: Arc<dyn ExecutionPlan>,
    /// To which datasource each part has a connection, and how many that may have.
    connections: Option<(DatasourceId, usize)>,
    rows: Option<usize>,
}

impl ScanExec {
    pub fn new(read: &Read, scan: &Scan, schema: &SchemaRef) -> Result<ScanExec> {
        let part = |partition| -> Arc<dyn PartitionStream> {
            let scan = Scan { partition, ..scan.clone() };
            Arc::new(Part { read: read.clone(), schema: Arc::clone(schema), scan })
        };
        let parts: Vec<_> = (0..read.table.partitions(scan).max(1)).map(part).collect();
        let limit = scan.limit.and_then(|limit| usize::try_from(limit).ok());
        let parts = StreamingTableExec::try_new(Arc::clone(schema), parts, None, None, false, limit)?;
        Ok(ScanExec {
            parts: Arc::new(parts),
            connections: read.table.connections(),
            rows: expected(&*read.table, scan),
        })
    }

    fn over(&self, parts: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(ScanExec { parts, connections: self.connections, rows: self.rows })
    }
}

/// The connections that a plan needs.
pub fn connections(plan: &Arc<dyn ExecutionPlan>) -> Result<BTreeMap<DatasourceId, Connections>> {
    let mut wanted: BTreeMap<DatasourceId, Connections> = BTreeMap::new();
    plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<ScanExec>()
            && let Some((datasource, limit)) = scan.connections
        {
            let needed = wanted.entry(datasource).or_insert(Connections { wanted: 0, limit });
            needed.wanted += scan.properties().output_partitioning().partition_count();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(wanted)
}

/// How many rows to expect. Of a condition no more is known than that it leaves out most rows.
fn expected(table: &dyn Table, scan: &Scan) -> Option<usize> {
    let rows = usize::try_from(table.row_count()?).unwrap_or(usize::MAX);
    let conditions = scan.conditions.len() + scan.filters.len();
    let left = (0..conditions).fold(rows, |rows, _| rows.div_ceil(5));
    let limit = scan.limit.and_then(|limit| usize::try_from(limit).ok());
    Some(limit.map_or(left, |limit| left.min(limit)))
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt_as(format, f)
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.parts.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
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
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no inputs") }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.parts.execute(partition, context)
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut known = Statistics::new_unknown(&self.schema());
        if let (Some(rows), None) = (self.rows, args.partition()) {
            known.num_rows = Precision::Inexact(rows);
        }
        Ok(Arc::new(known))
    }

    fn fetch(&self) -> Option<usize> {
        self.parts.fetch()
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        self.parts.with_fetch(limit).map(|parts| self.over(parts))
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let swapped = self.parts.try_swapping_with_projection(projection)?;
        Ok(swapped.map(|parts| self.over(parts)))
    }
}

/// What a statement reads from a table, and how.
#[derive(Clone)]
pub struct Read {
    pub table: Arc<dyn Table>,
    /// Where the table's reads run: the threads that own its connections.
    pub sources: Handle,
    pub admission: Admission,
}

/// One part of a read.
struct Part {
    read: Read,
    schema: SchemaRef,
    scan: Scan,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.scan)
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // `None` is the end; if it is missing, the read was interrupted.
        let (sender, receiver) = mpsc::channel::<Result<Option<RecordBatch>, SourceError>>(2);
        let (table, mut scan) = (Arc::clone(&self.read.table), self.scan.clone());
        let datasource = table.connections().map(|(datasource, _)| datasource);
        let turns = datasource.and_then(|datasource| self.read.admission.turns(datasource));
        let short = turns.as_ref().is_some_and(|turns| turns.short());
        // The reader may stop before the statement ends.
        scan.cancel = scan.cancel.child_token();
        let cancel = scan.cancel.clone().drop_guard();
        let task = self.read.sources.spawn(async move {
            if let Some(turns) = turns {
                match turns.take().await {
                    Ok(permit) => scan.permit = permit,
                    // The reader may be gone.
                    Err(error) => return drop(sender.send(Err(error)).await),
                }
            }
            let mut batches = table.scan(scan);
            while let Some(batch) = batches.next().await {
                if sender.send(batch.map(Some)).await.is_err() {
                    return;
                }
            }
            // The reader may be gone.
            let _ = sender.send(Ok(None)).await;
        });
        let state = (receiver, (AbortOnDrop(task), cancel));
        let stream = futures_util::stream::unfold(state, |(mut receiver, guards)| async move {
            let next = receiver.recv().await.unwrap_or_else(|| Err(stopped()));
            Some((next.transpose()?.map_err(carried), (receiver, guards)))
        });
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream));
        if short { read_ahead(stream, &context) } else { stream }
    }
}
