//! Plans views against the columns of what they name, without reading anything.
//!
//! Planning is recursive, so it has a thread with a stack of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use arrow_schema::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::Analyzer;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::Statement;
use landreeve_core::source::{CancellationToken, SourceError};
use landreeve_core::table::{PlannedView, TableName, ViewPlanner};

use super::{Writer, columns, located, prepare, rows, session, stars};
use crate::bounds::Bounds;
use crate::error::{stopped, translate};
use crate::threads::STACK;
use crate::{names, subqueries};

/// A planner on a thread of its own, which ends when this is dropped.
pub struct Planner(Option<Thread>);

struct Thread {
    questions: Sender<Question>,
    answers: Receiver<Answer>,
}

struct Question {
    sql: String,
    schema: String,
    /// `None`: only the names are wanted.
    columns: Option<Vec<(TableName, SchemaRef)>>,
}

enum Answer {
    Names(Result<Vec<TableName>, SourceError>),
    Planned(Result<PlannedView, SourceError>),
}

impl Planner {
    /// `max_value`: the maximum size of a value that a function returns.
    pub fn new(max_value: usize) -> Planner {
        let (questions, asked) = channel::<Question>();
        let (answer, answers) = channel();
        let work = move || {
            let mut views = Views::new(max_value);
            while let Ok(question) = asked.recv() {
                // An error here means that the planner was dropped.
                if answer.send(views.answer(question)).is_err() {
                    return;
                }
            }
        };
        let started =
            std::thread::Builder::new().name("landreeve-views".to_owned()).stack_size(STACK).spawn(work);
        Planner(started.is_ok().then_some(Thread { questions, answers }))
    }

    fn ask(&mut self, question: Question) -> Result<Answer, SourceError> {
        let thread = self.0.as_ref().ok_or_else(stopped)?;
        thread.questions.send(question).map_err(|_| stopped())?;
        thread.answers.recv().map_err(|_| stopped())
    }
}

impl ViewPlanner for Planner {
    fn names(&mut self, sql: &str, schema: &str) -> Result<Vec<TableName>, SourceError> {
        let question = Question { sql: sql.to_owned(), schema: schema.to_owned(), columns: None };
        match self.ask(question)? {
            Answer::Names(names) => names,
            Answer::Planned(_) => Err(stopped()),
        }
    }

    fn plan(
        &mut self,
        sql: &str,
        schema: &str,
        columns: &[(TableName, SchemaRef)],
    ) -> Result<PlannedView, SourceError> {
        let columns = Some(columns.to_vec());
        match self.ask(Question { sql: sql.to_owned(), schema: schema.to_owned(), columns })? {
            Answer::Planned(planned) => planned,
            Answer::Names(_) => Err(stopped()),
        }
    }
}

/// The state of a planner.
struct Views {
    context: Result<Context, SourceError>,
    /// The last text whose names were asked for: it is planned next.
    last: Option<(String, Statement)>,
}

impl Views {
    fn new(max_value: usize) -> Views {
        Views { context: Context::new(max_value).map_err(|error| translate(&error)), last: None }
    }

    fn answer(&mut self, question: Question) -> Answer {
        let Question { sql, schema, columns } = question;
        match columns {
            None => Answer::Names(self.names(sql, &schema)),
            Some(columns) => Answer::Planned(self.plan(sql, schema, columns)),
        }
    }

    fn names(&mut self, sql: String, schema: &str) -> Result<Vec<TableName>, SourceError> {
        let statement = prepare(&sql, Writer::View, &[])?;
        let named = names::named(&statement, schema);
        self.last = Some((sql, statement));
        Ok(named)
    }

    fn plan(
        &mut self,
        sql: String,
        schema: String,
        columns: Vec<(TableName, SchemaRef)>,
    ) -> Result<PlannedView, SourceError> {
        let statement = match self.last.take() {
            Some((known, statement)) if known == sql => statement,
            _ => prepare(&sql, Writer::View, &[])?,
        };
        let context = self.context.as_mut().map_err(|error| error.clone())?;
        context.schema = schema;
        context.tables = columns
            .into_iter()
            .map(|(name, schema)| (name, Arc::new(LogicalTableSource::new(schema)) as Arc<dyn TableSource>))
            .collect();
        let mut plan = |statement| context.plan(statement).map_err(|error| located(&sql, &error));
        let planned = plan(statement.clone())?;
        subqueries::check(&planned)?;
        let text = stars::spell_out(&sql, &statement, &mut plan)?;
        let analyzed = context.analyze(planned).map_err(|error| located(&sql, &error))?;
        let schema = columns::stored(analyzed.schema())?;
        Ok(PlannedView { sql: text, schema })
    }
}

/// What the names in a view refer to.
struct Context {
    schema: String,
    tables: HashMap<TableName, Arc<dyn TableSource>>,
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    windows: HashMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
    analyzer: Analyzer,
}

impl Context {
    fn new(max_value: usize) -> Result<Context> {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        // Only constants are computed while planning, and they have a limit of their own.
        let bounds = Bounds::new(max_value, &pool, CancellationToken::new());
        let mut options = ConfigOptions::new();
        session::configure(&mut options);
        let mut analyzer = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]);
        for rewrite in session::rewrites(&bounds)? {
            analyzer.add_function_rewrite(rewrite);
        }
        let mut scalars = HashMap::new();
        for function in session::scalar_functions(&bounds) {
            for alias in function.aliases() {
                scalars.insert(alias.clone(), Arc::clone(&function));
            }
            scalars.insert(function.name().to_owned(), function);
        }
        let aggregates = session::aggregate_functions(&bounds).into_iter();
        let windows = session::window_functions().into_iter();
        Ok(Context {
            schema: String::new(),
            tables: HashMap::new(),
            scalars,
            aggregates: aggregates.map(|function| (function.name().to_owned(), function)).collect(),
            windows: windows.map(|function| (function.name().to_owned(), function)).collect(),
            planners: session::expr_planners(),
            options,
            analyzer,
        })
    }

    fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        let options = ParserOptions::from(&self.options.sql_parser);
        rows::align(SqlToRel::new_with_options(self, options).sql_statement_to_plan(statement)?)
    }

    /// Finds faults of types, and the types that the columns have in the end.
    fn analyze(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        self.analyzer.execute_and_check(plan, &self.options, |_, _| {})
    }
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let schema = name.schema().unwrap_or(&self.schema);
        let full = TableName::new(schema, name.table());
        match self.tables.get(&full) {
            Some(table) => Ok(Arc::clone(table)),
            None => plan_err!("View '{name}' not found"),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
