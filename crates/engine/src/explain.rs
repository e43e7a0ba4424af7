//! EXPLAIN of a statement on a virtual database: what is sent to each source, and how the rest is done here.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use landreeve_core::schema::{LogicalType, describe};
use landreeve_core::sql::{Kind, Scanner, VQL};
use landreeve_core::table::Sent;

/// What the scans of a plan send, in the order in which they are planned.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Sent>>>);

impl Recorder {
    pub fn add(&self, sent: Sent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
    }

    fn all(&self) -> Vec<Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The statement to be explained, with blanks in place of EXPLAIN so that positions stay; `None` for any other statement.
pub fn explained(sql: &str) -> Option<String> {
    let first = Scanner::new(sql, VQL).find(|token| !token.kind.is_blank())?;
    let word = sql.get(first.start..first.end)?;
    if first.kind != Kind::Word || !word.eq_ignore_ascii_case("EXPLAIN") {
        return None;
    }
    Some(format!("{}{}{}", sql.get(..first.start)?, " ".repeat(word.len()), sql.get(first.end..)?))
}

pub fn schema() -> SchemaRef {
    let field = |name: &str| describe(Field::new(name, DataType::Utf8, true), LogicalType::Text, "text");
    Arc::new(Schema::new(["datasource", "sql", "plan"].map(field).to_vec()))
}

/// One row for each statement that is sent, and one for each line of the local plan.
pub fn rows(recorder: &Recorder, plan: &Arc<dyn ExecutionPlan>) -> Result<SendableRecordBatchStream> {
    let sent = recorder.all();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let lines: Vec<&str> = text.lines().collect();
    let none = |count: usize| std::iter::repeat_n(None, count);
    let column = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values));
    let datasources =
        sent.iter().map(|sent| Some(sent.datasource.as_str())).chain(none(lines.len())).collect();
    let statements = sent.iter().map(|sent| Some(sent.sql.as_str())).chain(none(lines.len())).collect();
    let plans = none(sent.len()).chain(lines.iter().map(|line| Some(*line))).collect();
    let batch = RecordBatch::try_new(schema(), vec![column(datasources), column(statements), column(plans)])
        .map_err(|error| DataFusionError::ArrowError(Box::new(error), None))?;
    let stream = futures_util::stream::iter([Ok(batch)]);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_is_explain() {
        assert_eq!(explained("explain select 1").as_deref(), Some("        select 1"));
        assert_eq!(explained(" /* a */ EXPLAIN SELECT 1").as_deref(), Some(" /* a */         SELECT 1"));
        for other in ["select 1", "", "\"explain\" select", "explainer"] {
            assert_eq!(explained(other), None, "{other}");
        }
    }
}
