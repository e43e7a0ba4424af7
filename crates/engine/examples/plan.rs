//! `plan FILE` parses and plans views with the SQL engine's own library. Each line of the file is `NAME SELECT`; a view can
//! name the table `base` and views of earlier lines.
#![expect(clippy::expect_used, reason = "a tool that may stop at the first error")]

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use datafusion::datasource::ViewTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;

#[tokio::main]
async fn main() {
    let file = std::env::args().nth(1).expect("a file");
    let text = std::fs::read_to_string(file).expect("the file");
    let context = SessionContext::new();
    let fields = [("id", DataType::Int64), ("n", DataType::Int64), ("t", DataType::Utf8)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    let base = EmptyTable::new(Arc::new(Schema::new(fields.to_vec())));
    context.register_table("base", Arc::new(base)).expect("a table");
    for line in text.lines() {
        let (name, select) = line.split_once(' ').expect("a name and a SELECT");
        let plan = context.state().create_logical_plan(select).await.expect(select);
        let view = ViewTable::new(plan, Some(select.to_owned()));
        context.register_table(name, Arc::new(view)).expect("a view");
    }
}
