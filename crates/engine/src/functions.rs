//! Functions that DataFusion lacks or that have a different meaning in PostgreSQL.

use std::hash::Hash;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef, Int32Array, TimestampMicrosecondArray};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// What `x AT TIME ZONE zone` becomes: an instant becomes the local time in that zone, without a zone; a local time
/// becomes its instant in that zone.
pub const AT_TIME_ZONE: &str = "at_time_zone";
/// PostgreSQL's `date_trunc` with three arguments, for units below a day.
const DATE_TRUNC_IN: &str = "date_trunc_in";

pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(AtTimeZone { signature: Signature::any(2, Volatility::Immutable) })),
        Arc::new(ScalarUDF::from(Strpos::new())),
        Arc::new(ScalarUDF::from(DateTruncIn { signature: Signature::any(3, Volatility::Immutable) })),
    ]
}

/// The place of a text in another, counted in characters from 1. DataFusion compares them at every place, which takes
/// the product of their lengths.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Strpos {
    signature: Signature,
    aliases: Vec<String>,
}

impl Strpos {
    fn new() -> Strpos {
        let aliases = ["instr", "position"].map(str::to_owned).to_vec();
        Strpos { signature: Signature::string(2, Volatility::Immutable), aliases }
    }
}

impl ScalarUDFImpl for Strpos {
    fn name(&self) -> &str {
        "strpos"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = arrays(&args)?;
        let [texts, parts] = arrays.as_slice() else { return plan_err!("strpos needs two texts") };
        let (texts, parts) = (cast(texts, &DataType::Utf8View)?, cast(parts, &DataType::Utf8View)?);
        let places = texts.as_string_view().iter().zip(parts.as_string_view()).map(|(text, part)| {
            let (text, part) = (text?, part?);
            let before = memchr::memmem::find(text.as_bytes(), part.as_bytes()).and_then(|at| text.get(..at));
            Some(before.map_or(0, |before| i32::try_from(before.chars().count()).unwrap_or(i32::MAX - 1) + 1))
        });
        Ok(ColumnarValue::Array(Arc::new(places.collect::<Int32Array>())))
    }
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

const fn wall() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn zone_named(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| exec_datafusion_err!("{name:?} is not a time zone"))
}

/// The offset of the zone at an instant, in microseconds.
fn offset_at(zone: &TimeZone, micros: i64) -> Result<i64> {
    let at =
        Timestamp::from_microsecond(micros).map_err(|_| exec_datafusion_err!("a time is out of range"))?;
    Ok(i64::from(zone.to_offset(at).seconds()) * 1_000_000)
}

/// The instant of the local time `micros` in the zone. If there are two, the first; if there is none, the one without
/// the clock change.
fn from_wall(zone: &TimeZone, micros: i64) -> Result<i64> {
    let out_of_range = || exec_datafusion_err!("a time is out of range");
    let at = Timestamp::from_microsecond(micros).map_err(|_| out_of_range())?;
    let wall = TimeZone::UTC.to_datetime(at);
    let offset = match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
    };
    Ok(micros - i64::from(offset.seconds()) * 1_000_000)
}

/// Applies a function to the time and zone of each row.
fn by_row(
    times: &ArrayRef,
    zones: &ArrayRef,
    mut apply: impl FnMut(&TimeZone, i64) -> Result<i64>,
) -> Result<TimestampMicrosecondArray> {
    let zones = cast(zones, &DataType::Utf8)?;
    let (times, zones) = (times.as_primitive::<TimestampMicrosecondType>(), zones.as_string::<i32>());
    let mut last: Option<(String, TimeZone)> = None;
    let mut values = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if times.is_null(row) || zones.is_null(row) {
            values.push(None);
            continue;
        }
        let name = zones.value(row);
        let zone = match &last {
            Some((known, zone)) if known == name => zone,
            _ => &last.insert((name.to_owned(), zone_named(name)?)).1,
        };
        values.push(Some(apply(zone, times.value(row))?));
    }
    Ok(TimestampMicrosecondArray::from(values))
}

fn arrays(args: &ScalarFunctionArgs) -> Result<Vec<ArrayRef>> {
    ColumnarValue::values_to_arrays(&args.args)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtTimeZone {
    signature: Signature,
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        AT_TIME_ZONE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(DataType::Timestamp(_, Some(_))) => Ok(wall()),
            // Text is read as an instant, as in PostgreSQL.
            Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => Ok(wall()),
            Some(DataType::Timestamp(_, None) | DataType::Date32 | DataType::Null) => Ok(instant()),
            _ => plan_err!("AT TIME ZONE needs a timestamp"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = arrays(&args)?;
        let [times, zones] = arrays.as_slice() else { return plan_err!("AT TIME ZONE needs two arguments") };
        let aware = self.return_type(&[times.data_type().clone()])? == wall();
        let made: ArrayRef = if aware {
            let times = cast(times, &instant())?;
            Arc::new(by_row(&times, zones, |zone, at| Ok(at + offset_at(zone, at)?))?)
        } else {
            let times = cast(times, &wall())?;
            Arc::new(by_row(&times, zones, from_wall)?.with_timezone("UTC"))
        };
        Ok(ColumnarValue::Array(made))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTruncIn {
    signature: Signature,
}

impl ScalarUDFImpl for DateTruncIn {
    fn name(&self) -> &str {
        DATE_TRUNC_IN
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = arrays(&args)?;
        let [units, times, zones] = arrays.as_slice() else {
            return plan_err!("{DATE_TRUNC_IN} needs a unit, a timestamp and a time zone");
        };
        let units = cast(units, &DataType::Utf8)?;
        let unit = if units.is_empty() || units.is_null(0) { "" } else { units.as_string::<i32>().value(0) };
        let length = match unit {
            "second" => 1_000_000,
            "minute" => 60_000_000,
            "hour" => 3_600_000_000,
            _ if units.is_empty() => 1,
            other => {
                return Err(DataFusionError::Execution(format!("{other:?} is not second, minute or hour")));
            }
        };
        let times = cast(times, &instant())?;
        let cut = by_row(&times, zones, |zone, at| {
            let offset = offset_at(zone, at)?;
            Ok((at + offset).div_euclid(length) * length - offset)
        })?;
        Ok(ColumnarValue::Array(Arc::new(cut.with_timezone("UTC"))))
    }
}
