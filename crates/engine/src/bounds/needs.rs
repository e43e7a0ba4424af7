//! How much a call of a function needs, estimated from its arguments before it is called.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, PrimitiveArray, StringViewArray};
use arrow_cast::cast;
use arrow_schema::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

use super::sizes::Sizes;

/// Of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Size of the value. Some estimates are higher than the actual size, none is lower.
    pub bytes: u64,
    /// Bytes read or compared.
    pub steps: u64,
    /// Size that the value has at least, if that is known.
    pub at_least: u64,
}

impl Need {
    /// For a function that reads its arguments once.
    fn of(bytes: u64, read: u64) -> Need {
        Need { bytes, steps: read.saturating_add(bytes), at_least: 0 }
    }

    /// The size is exact.
    fn exactly(bytes: u64, read: u64) -> Need {
        Need { at_least: bytes, ..Need::of(bytes, read) }
    }
}

/// The arguments of a call.
pub struct Arguments<'a> {
    values: &'a [ColumnarValue],
    sizes: Vec<Sizes>,
    pub rows: usize,
}

/// One argument as texts or numbers; a constant is the same in every row.
pub struct Values<T> {
    array: T,
    constant: bool,
}

impl<T> Values<T> {
    fn at(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }
}

impl Values<StringViewArray> {
    /// NULL is empty.
    pub fn row(&self, row: usize) -> &str {
        let at = self.at(row);
        if self.array.is_valid(at) { self.array.value(at) } else { "" }
    }
}

impl Values<PrimitiveArray<Int64Type>> {
    /// NULL and negative numbers are zero.
    pub fn row(&self, row: usize) -> u64 {
        let at = self.at(row);
        if self.array.is_valid(at) { u64::try_from(self.array.value(at)).unwrap_or(0) } else { 0 }
    }
}

impl<'a> Arguments<'a> {
    pub fn new(values: &'a [ColumnarValue], rows: usize) -> Result<Arguments<'a>> {
        let sizes = values.iter().map(Sizes::of_argument).collect::<Result<_>>()?;
        Ok(Arguments { values, sizes, rows })
    }

    pub fn size(&self, argument: usize, row: usize) -> u64 {
        self.sizes.get(argument).map_or(0, |sizes| sizes.row(row))
    }

    pub fn total(&self, row: usize) -> u64 {
        self.sizes.iter().map(|sizes| sizes.row(row)).sum()
    }

    fn array(&self, argument: usize, kind: &DataType) -> Result<(ArrayRef, bool)> {
        Ok(match self.values.get(argument) {
            Some(ColumnarValue::Array(array)) => (cast(array, kind)?, false),
            Some(ColumnarValue::Scalar(value)) => (cast(&value.to_array()?, kind)?, true),
            None => (arrow_array::new_null_array(kind, 1), true),
        })
    }

    pub fn texts(&self, argument: usize) -> Result<Values<StringViewArray>> {
        let (array, constant) = self.array(argument, &DataType::Utf8View)?;
        Ok(Values { array: array.as_string_view().clone(), constant })
    }

    pub fn numbers(&self, argument: usize) -> Result<Values<PrimitiveArray<Int64Type>>> {
        let (array, constant) = self.array(argument, &DataType::Int64)?;
        Ok(Values { array: array.as_primitive::<Int64Type>().clone(), constant })
    }

    pub fn count(&self) -> usize {
        self.values.len()
    }

    fn each(&self, need: impl Fn(usize) -> Need) -> Vec<Need> {
        (0..self.rows).map(need).collect()
    }
}

pub type Estimate = fn(&Arguments<'_>) -> Result<Vec<Need>>;

/// At most this many times the size of the arguments.
pub fn times<const N: u64>(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::of(args.total(row).saturating_mul(N), args.total(row))))
}

/// A value of a fixed size, found by reading the arguments once.
pub fn fixed(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::of(16, args.total(row))))
}

/// The sum of the arguments.
pub fn sum(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::exactly(args.total(row), args.total(row))))
}

/// Every element of one list is compared with every element of the other.
pub fn pairs(args: &Arguments<'_>) -> Result<Vec<Need>> {
    let steps = |row| args.size(0, row).saturating_mul(args.size(1, row).max(1));
    Ok(args.each(|row| Need { bytes: args.total(row).saturating_mul(8), steps: steps(row), at_least: 0 }))
}

pub fn concat_ws(args: &Arguments<'_>) -> Result<Vec<Need>> {
    let gaps = args.count().saturating_sub(2) as u64;
    Ok(args.each(|row| {
        Need::of(args.total(row).saturating_add(args.size(0, row).saturating_mul(gaps)), args.total(row))
    }))
}

pub fn repeat(args: &Arguments<'_>) -> Result<Vec<Need>> {
    let numbers = args.numbers(1)?;
    Ok(args.each(|row| Need::exactly(args.size(0, row).saturating_mul(numbers.row(row)), 0)))
}

/// The number of characters is given; each has up to four bytes.
pub fn pad(args: &Arguments<'_>) -> Result<Vec<Need>> {
    let numbers = args.numbers(1)?;
    Ok(args.each(|row| {
        let characters = numbers.row(row);
        let need = Need::of(characters.saturating_mul(4), args.total(row));
        // Without text to pad with, the result is no longer than the argument.
        let grows = args.count() < 3 || args.size(2, row) > 0;
        if grows {
            Need { at_least: characters, ..need }
        } else {
            Need::of(args.size(0, row), args.total(row))
        }
    }))
}

pub fn replace(args: &Arguments<'_>) -> Result<Vec<Need>> {
    let (texts, from) = (args.texts(0)?, args.texts(1)?);
    Ok(args.each(|row| {
        let (text, from) = (texts.row(row), from.row(row));
        let found = if from.is_empty() {
            text.len() as u64 + 1
        } else {
            memchr::memmem::find_iter(text.as_bytes(), from.as_bytes()).count() as u64
        };
        let added = args.size(2, row).saturating_mul(found);
        let removed = (from.len() as u64).saturating_mul(found);
        Need::of((text.len() as u64).saturating_add(added).saturating_sub(removed), text.len() as u64)
    }))
}

/// `format` with values of at most 32 bytes for each of its characters.
pub fn format(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::of(args.size(1, row).saturating_mul(32).saturating_add(64), args.total(row))))
}

/// A list of as many texts as there are bytes, each with its place in the list.
pub fn split(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::of(args.size(0, row).saturating_mul(21).saturating_add(32), args.total(row))))
}

/// The elements as text, with text between them.
pub fn join(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| {
        let between = args.size(1, row).saturating_add(args.size(2, row)).saturating_mul(args.size(0, row));
        let elements = args.size(0, row).saturating_mul(24);
        Need::of(elements.saturating_add(between), args.size(0, row))
    }))
}

/// Maximum length of a regular expression: parsing one takes a hundred times as much memory.
const MAX_EXPRESSION: usize = 16 * 1_024;

/// What a state of a compiled expression takes, and what making it costs.
const COMPILED_BYTES: u64 = 128;
const COMPILED_STEPS: u64 = 1_024;

/// What a regular expression costs: for each byte of the text at most as many steps as the expression has states.
fn matching(args: &Arguments<'_>, bytes: impl Fn(usize, &str) -> u64) -> Result<Vec<Need>> {
    let expressions = args.texts(1)?;
    let mut last: Option<(String, u64)> = None;
    let mut needs = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        let expression = expressions.row(row);
        let known = last.as_ref().filter(|(known, _)| known == expression).map(|(_, states)| *states);
        let states = known.unwrap_or_else(|| states(expression));
        let mut need = Need {
            bytes: bytes(row, expression),
            steps: args.size(0, row).saturating_add(1).saturating_mul(states),
            at_least: 0,
        };
        if known.is_none() {
            // The function compiles it, and keeps it for the rows of the call.
            need.bytes = need.bytes.saturating_add(states.saturating_mul(COMPILED_BYTES));
            need.steps = need.steps.saturating_add(states.saturating_mul(COMPILED_STEPS));
            last = Some((expression.to_owned(), states));
        }
        needs.push(need);
    }
    Ok(needs)
}

/// An upper bound for what an expression is compiled to, without compiling it: repetitions multiply.
fn states(expression: &str) -> u64 {
    if expression.len() > MAX_EXPRESSION {
        return u64::MAX;
    }
    let Ok(parsed) = regex_syntax::ParserBuilder::new().nest_limit(100).build().parse(expression) else {
        // The function reports the error.
        return expression.len() as u64;
    };
    weight(&parsed)
}

fn weight(part: &regex_syntax::hir::Hir) -> u64 {
    use regex_syntax::hir::HirKind;
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(text) => text.0.len() as u64,
        // A class matches a byte at a time, with a few states for each of the byte sequences in it; they run once.
        HirKind::Class(_) => 4,
        HirKind::Repetition(repeated) => {
            let most = u64::from(repeated.max.unwrap_or(repeated.min).max(repeated.min).max(1));
            weight(&repeated.sub).saturating_mul(most).saturating_add(1)
        }
        HirKind::Capture(group) => weight(&group.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(weight).fold(1, u64::saturating_add)
        }
    }
}

pub fn regexp(args: &Arguments<'_>) -> Result<Vec<Need>> {
    matching(args, |_, _| 16)
}

/// The matched groups, each no longer than the text.
pub fn regexp_match(args: &Arguments<'_>) -> Result<Vec<Need>> {
    matching(args, |row, expression| {
        let groups = expression.matches('(').count() as u64 + 1;
        args.size(0, row).saturating_mul(groups).saturating_add(groups * 16)
    })
}

/// Matches do not overlap, so each reference to a group adds at most the whole text.
pub fn regexp_replace(args: &Arguments<'_>) -> Result<Vec<Need>> {
    let (texts, expressions) = (args.texts(0)?, args.texts(1)?);
    let (replacements, flags) = (args.texts(2)?, args.texts(3)?);
    matching(args, |row, _| {
        let (text, with) = (texts.row(row).len() as u64, replacements.row(row));
        let references = with.matches(['\\', '$']).count() as u64;
        let every = flags.row(row).contains('g');
        let matches = if !every {
            1
        } else if text.saturating_mul(with.len() as u64) < 65_536 {
            text + 1
        } else {
            found(expressions.row(row), texts.row(row))
        };
        text.saturating_mul(1 + references).saturating_add(matches.saturating_mul(with.len() as u64))
    })
}

/// How often an expression matches.
fn found(expression: &str, text: &str) -> u64 {
    regex::Regex::new(expression).map_or(0, |regex| regex.find_iter(text).count() as u64)
}

pub fn like(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| {
        let steps = args.size(0, row).saturating_add(1).saturating_mul(args.size(1, row).max(1));
        Need { bytes: 1, steps, at_least: 0 }
    }))
}

/// A text of at most 128 characters.
pub fn short(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::of(128, args.total(row))))
}

/// A date in a pattern: at most eight bytes for each of its characters.
pub fn pattern(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::of(args.size(0, row).saturating_mul(8).saturating_add(64), args.total(row))))
}

/// A number in a text without its exponent, which can stand for 400 digits.
pub fn number(args: &Arguments<'_>) -> Result<Vec<Need>> {
    Ok(args.each(|row| Need::of(args.total(row).saturating_add(512), args.total(row))))
}
