//! The options of drop-downs: given, stored by an earlier query, or queried now. Drop-downs can depend on one another,
//! so finding options and expanding a statement call each other here, and only here.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use futures_util::StreamExt as _;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{Query, SourceError};
use landreeve_core::{Error, Input, OpCtx, Result};
use landreeve_estate::results::{BATCH_BYTES, BATCH_ROWS};
use landreeve_estate::{args, ops};
use tokio::time::Instant;

use crate::filters::{self, Choice, ControlKind, Filter, OptionSource};
use crate::ids::FilterId;
use crate::lang::{Expanded, InputParameters, Scalar};
use crate::parameters::{self, Statement};
use crate::rows::act;
use crate::stored::StoredOptions;
use crate::{Analytics, nouns};

/// A request for options: the variables whose options are being found, and a deadline. Drop-downs can depend on one
/// another; one that depends on itself is an error, and all of them share the deadline.
pub(crate) struct Asking {
    variables: Vec<String>,
    until: Instant,
}

const TOGETHER: Duration = Duration::from_secs(15);

impl Default for Asking {
    fn default() -> Asking {
        Asking { variables: Vec::new(), until: Instant::now() + TOGETHER }
    }
}

impl Asking {
    pub fn begin(&mut self, name: &str) -> Result<()> {
        if self.variables.iter().any(|known| known == name) {
            let message = format!("the options of {name} depend on themselves");
            return Err(Error::fault(format!("parameters.filters.{name}"), "cycle", message));
        }
        self.variables.push(name.to_owned());
        Ok(())
    }

    pub fn end(&mut self) {
        self.variables.pop();
    }

    /// Time limit of the next query.
    pub fn time_left(&self) -> Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Asking::too_late()) } else { Ok(left) }
    }

    pub fn too_late() -> Error {
        let message = format!(
            "cannot read the options: together with the options they depend on, they took more than {} seconds",
            TOGETHER.as_secs()
        );
        Error::fault("query", "options", message)
    }
}

/// Expands a statement with the options of its drop-downs. `asking` are the variables whose options are being found.
pub(crate) async fn expand(
    plane: &Analytics,
    ctx: &OpCtx,
    statement: Statement<'_>,
    asking: &mut Asking,
) -> Result<Expanded> {
    let prepared = parameters::prepare(plane, ctx, statement).await?;
    let mut definitions = BTreeMap::new();
    for filter in &prepared.filters {
        let name = filter.details.variable.clone();
        let from_sql =
            matches!(filter.details.source, OptionSource::StaticSql(..) | OptionSource::DynamicSql(..));
        let mut inputs = prepared.inputs().filters.iter();
        let chosen = inputs.any(|(known, values)| *known == name && !values.is_empty());
        // Query the database for options only if there is a value to check.
        let found = if filter.details.control == ControlKind::Dropdown && from_sql && chosen {
            asking.begin(&name)?;
            let found = Box::pin(options(plane, ctx, filter, prepared.inputs(), asking)).await?;
            asking.end();
            Some(found)
        } else {
            None
        };
        definitions.insert(name, filter.details.definition(found.as_deref()));
    }
    prepared.expand(definitions)
}

/// The options of a drop-down, given the values of other filters.
pub async fn filter_options(
    plane: &Analytics,
    ctx: &OpCtx,
    id: FilterId,
    inputs: Input<InputParameters>,
) -> Result<Vec<Choice>> {
    let filter = filters::filter_get(plane, ctx, id).await?;
    let inputs = inputs.valid()?;
    if filter.details.control != ControlKind::Dropdown {
        return Err(Error::conflict("no_options", "only drop-down filters have options"));
    }
    let mut asking = Asking::default();
    asking.begin(&filter.details.variable)?;
    options(plane, ctx, &filter, &inputs, &mut asking).await
}

async fn options(
    plane: &Analytics,
    ctx: &OpCtx,
    filter: &Filter,
    inputs: &InputParameters,
    asking: &mut Asking,
) -> Result<Vec<Choice>> {
    match &filter.details.source {
        OptionSource::None => Ok(Vec::new()),
        OptionSource::Manual(choices) => Ok(choices.clone()),
        OptionSource::StaticSql(datasource, sql) => {
            // Options are data: they require the permission to query their datasource.
            let source = ops::datasources::datasource_for_use(plane.estate(), ctx, *datasource).await?;
            let own = ops::datasources::differs_by_caller(&source);
            if !own && let Some(known) = kept_options(plane, filter).await? {
                return Ok(known);
            }
            let found = choices(plane, ctx, *datasource, sql.clone(), asking).await?;
            if !own {
                keep_options(plane, ctx, filter, &found).await?;
            }
            Ok(found)
        }
        OptionSource::DynamicSql(datasource, sql) => {
            let source = ops::datasources::datasource_for_use(plane.estate(), ctx, *datasource).await?;
            let statement = Statement { sql, datasource: &source, ou: filter.ou, dashboard: None, inputs };
            let expanded = expand(plane, ctx, statement, asking).await?;
            choices(plane, ctx, *datasource, expanded.sql, asking).await
        }
    }
}

/// Also `None` if the filter has changed since it was read: options of another query are not valid.
async fn kept_options(plane: &Analytics, filter: &Filter) -> Result<Option<Vec<Choice>>> {
    let mut conn = plane.estate().store().read().await?;
    let row = conn
        .opt(
            "SELECT o.options FROM filter_options o JOIN filters f ON f.id = o.filter_id \
             WHERE f.id = $1 AND f.row_version = $2 AND o.filter_version = $2",
            args![filter.id, filter.row_version],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let stored: StoredOptions = row.json(0)?;
    Ok(Some(stored.options.into_iter().map(|(value, label)| (value.into(), label)).collect()))
}

/// Stores the options from a filter's query, if that is still the filter's query.
async fn keep_options(plane: &Analytics, ctx: &OpCtx, filter: &Filter, found: &[Choice]) -> Result<()> {
    let options = found.iter().map(|(value, label)| (value.into(), label.clone())).collect();
    let text = serde_json::to_string(&StoredOptions { version: 1, options }).map_err(Error::internal)?;
    let (id, known, now) = (filter.id, filter.row_version, plane.estate().now());
    let told = act("options_read", nouns::FILTER, id.0, &filter.details.variable);
    plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                // A concurrent change of the filter would not see these options and so not delete them: they carry the
                // version of the filter that they belong to.
                let kept = tx.exec(
                    "INSERT INTO filter_options (filter_id, options, read_at, filter_version) SELECT $1, $2, $3, $4 \
                     WHERE EXISTS (SELECT 1 FROM filters WHERE id = $1 AND row_version = $4) \
                     ON CONFLICT (filter_id) DO UPDATE SET options = excluded.options, read_at = excluded.read_at, \
                     filter_version = excluded.filter_version",
                    args![id, text, now, known],
                )
                .await?;
                Ok(((), (kept > 0).then_some(told)))
            })
        })
        .await
}

/// Maximum number and total size of a drop-down's options.
const MAX_CHOICES: usize = 10_000;
const MAX_CHOICES_BYTES: usize = 4 * 1_024 * 1_024;

/// The first two columns of a query as options: value and label. Limited in time, number and size.
async fn choices(
    plane: &Analytics,
    ctx: &OpCtx,
    datasource: DatasourceId,
    sql: String,
    asking: &Asking,
) -> Result<Vec<Choice>> {
    let limit = asking.time_left()?;
    tokio::time::timeout(limit, read_choices(plane, ctx, datasource, sql, limit))
        .await
        .unwrap_or_else(|_| Err(Asking::too_late()))
}

async fn read_choices(
    plane: &Analytics,
    ctx: &OpCtx,
    datasource: DatasourceId,
    sql: String,
    limit: Duration,
) -> Result<Vec<Choice>> {
    let failed = |error: SourceError| {
        Error::fault("query", "options", format!("cannot read the options: {}", error.message))
    };
    let query = Query {
        sql,
        time_limit: limit,
        batch_rows: BATCH_ROWS,
        batch_bytes: BATCH_BYTES,
        decimals: Vec::new(),
    };
    ops::datasources::datasource_query(plane.estate(), ctx, datasource, query, async |stream| {
        let mut stream = stream.map_err(failed)?;
        let mut taken = Taken::default();
        while let Some(batch) = stream.batches.next().await {
            taken.take(&batch.map_err(failed)?)?;
        }
        Ok(taken.found)
    })
    .await
}

/// The options so far, and the size of their values and labels in bytes.
#[derive(Default)]
struct Taken {
    found: Vec<Choice>,
    bytes: usize,
}

impl Taken {
    fn push(&mut self, value: Scalar, label: Option<String>) -> Result<()> {
        self.bytes += size_of_scalar(&value) + label.as_ref().map_or(0, String::len);
        self.found.push((value, label));
        let message = if self.found.len() > MAX_CHOICES {
            format!("returns more than {MAX_CHOICES} options; narrow it down")
        } else if self.bytes > MAX_CHOICES_BYTES {
            "returns more than 4 MiB of options; narrow it down".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::fault("query", "options", message))
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns();
        let Some(values) = columns.first() else { return Ok(()) };
        let labels = columns.get(1);
        for row in 0..batch.num_rows() {
            if values.is_null(row) {
                continue;
            }
            let value = scalar(values, row)?;
            let label = match labels {
                Some(labels) if !labels.is_null(row) => Some(text_of(&scalar(labels, row)?)),
                _ => None,
            };
            self.push(value, label)?;
        }
        Ok(())
    }
}

const fn size_of_scalar(scalar: &Scalar) -> usize {
    match scalar {
        Scalar::Text(text) | Scalar::Number(text) => text.len(),
        Scalar::Boolean(_) => 1,
    }
}

fn text_of(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Text(text) | Scalar::Number(text) => text.clone(),
        Scalar::Boolean(value) => value.to_string(),
    }
}

fn scalar(array: &arrow_array::ArrayRef, row: usize) -> Result<Scalar> {
    use arrow_array::types::{
        Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, UInt64Type,
    };
    use arrow_schema::DataType;
    Ok(match array.data_type() {
        DataType::Utf8 => Scalar::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Boolean => Scalar::Boolean(array.as_boolean().value(row)),
        DataType::Int16 => Scalar::Number(array.as_primitive::<Int16Type>().value(row).to_string()),
        DataType::Int32 => Scalar::Number(array.as_primitive::<Int32Type>().value(row).to_string()),
        DataType::Int64 => Scalar::Number(array.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::UInt64 => Scalar::Number(array.as_primitive::<UInt64Type>().value(row).to_string()),
        DataType::Float32 => Scalar::Number(array.as_primitive::<Float32Type>().value(row).to_string()),
        DataType::Float64 => Scalar::Number(array.as_primitive::<Float64Type>().value(row).to_string()),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(i64::from(days)));
            Scalar::Text(
                date.map_err(|_| Error::fault("query", "options", "returns a date out of range"))?
                    .to_string(),
            )
        }
        other => {
            let message = format!("returns values of type {other}; cast the column to text");
            return Err(Error::fault("query", "options", message));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_limited_in_bytes() {
        let mut taken = Taken::default();
        let half = "x".repeat(MAX_CHOICES_BYTES / 2);
        taken.push(Scalar::Text(half.clone()), None).unwrap();
        taken.push(Scalar::Boolean(true), Some(half[1..].to_owned())).unwrap();
        let error = taken.push(Scalar::Number("1".to_owned()), None).unwrap_err();
        assert_eq!(error.faults[0].message, "returns more than 4 MiB of options; narrow it down");
    }

    #[test]
    fn options_are_limited_in_number() {
        let mut taken = Taken::default();
        for _ in 0..MAX_CHOICES {
            taken.push(Scalar::Boolean(true), None).unwrap();
        }
        let error = taken.push(Scalar::Boolean(true), None).unwrap_err();
        assert_eq!(error.faults[0].message, "returns more than 10000 options; narrow it down");
    }
}
