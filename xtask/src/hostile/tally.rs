//! What the bombs did: one row each, and the limits over all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::bombs::Bomb;
use super::caller::Ending;
use super::functions;
use super::probe::{Latency, over_time};
use crate::measure::report::Report;

/// The median of other callers, as a multiple of the idle server's.
const SLOWER: f64 = 3.0;
/// The median of a shorter bomb is of too few probes to be judged alone.
const LONG: f64 = 1.0;
/// Words in the errors of the engine's limits.
const LIMITS: [&str; 2] = ["[engine]", "would take too long"];
/// One MiB in MB.
pub const MB: f64 = 1.048_576;
const HEAD: [&str; 6] = ["bomb", "outcome", "s", "RSS growth", "RSS after", "`select 1`: median, p95"];

/// One bomb. Memory is in MiB.
#[derive(Default)]
pub struct Row {
    pub name: String,
    outcome: String,
    seconds: f64,
    /// Peak resident memory above that before the bomb.
    pub growth: f64,
    pub after: f64,
    /// Whether more was kept than allowed.
    pub kept: bool,
    pub died: bool,
    pub failures: Vec<String>,
    /// Milliseconds of the other caller's statements.
    pub times: Vec<f64>,
    /// Whether a statement succeeded, or reached a limit.
    ran: bool,
}

impl Row {
    pub fn new(bomb: &Bomb, endings: &[Ending], took: Duration) -> Self {
        let failed = |ending: &Ending| match ending {
            Ending::Failed(why) => Some(why.clone()),
            _ => None,
        };
        Self {
            // Some are whole statements.
            name: bomb.name.chars().take(90).collect(),
            outcome: outcome(endings),
            seconds: took.as_secs_f64(),
            failures: endings.iter().filter_map(failed).collect(),
            ran: endings.iter().any(ran),
            ..Self::default()
        }
    }

    fn latency(&self) -> Latency {
        over_time(&self.times)
    }

    fn is_long(&self) -> bool {
        self.seconds >= LONG && !self.times.is_empty()
    }

    fn cells(&self) -> [String; 6] {
        let latency = self.latency();
        let outcome = match self.failures.first() {
            Some(why) => format!("FAILED: {why}"),
            None => self.outcome.clone(),
        };
        let kept = if self.kept { " KEPT" } else { "" };
        let dash = || "-".to_owned();
        [
            self.name.clone(),
            one_line(&outcome),
            format!("{:.1}", self.seconds),
            format!("{:.0} MB", self.growth * MB),
            if self.died { dash() } else { format!("{:.0} MB{kept}", self.after * MB) },
            if self.times.is_empty() {
                dash()
            } else {
                format!("{:.1}, {:.1} ms", latency.median, latency.p95)
            },
        ]
    }

    /// For progress.
    pub fn line(&self) -> String {
        let [name, outcome, seconds, growth, after, latency] = self.cells();
        format!("{name}: {outcome}; {seconds} s, grew by {growth}, then {after}; select 1: {latency}")
    }
}

/// Whether the statement got as far as its function, as opposed to one with arguments of the wrong type.
fn ran(ending: &Ending) -> bool {
    match ending {
        Ending::Succeeded | Ending::Cancelled => true,
        Ending::Refused { message, .. } => LIMITS.iter().any(|words| message.contains(words)),
        Ending::Failed(_) => false,
    }
}

/// The error of a single statement; otherwise how many ended in each way, and the last error of a limit.
fn outcome(endings: &[Ending]) -> String {
    let word = |ending: &Ending| match ending {
        Ending::Succeeded => "succeeded",
        Ending::Refused { .. } => "refused",
        Ending::Cancelled => "cancelled",
        Ending::Failed(_) => "failed",
    };
    if let [Ending::Refused { code, message }] = endings {
        return format!("refused: {code}: {message:.100}");
    }
    if let [ending] = endings {
        return word(ending).to_owned();
    }
    let mut counts = BTreeMap::new();
    for ending in endings {
        *counts.entry(word(ending)).or_insert(0) += 1;
    }
    let last = endings.iter().rev().find_map(|ending| match ending {
        Ending::Refused { code, message } if ran(ending) => Some(format!(", {code}: {message:.80}")),
        _ => None,
    });
    let counts: Vec<String> =
        counts.into_iter().rev().map(|(word, count)| format!("{count} {word}")).collect();
    counts.join(", ") + &last.unwrap_or_default()
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(240).collect()
}

/// All rows.
#[derive(Default)]
pub struct Tally {
    rows: Vec<Row>,
    /// Of the server before the bombs.
    pub idle: Latency,
    functions: usize,
    not_run: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, bomb: &Bomb, row: Row) {
        if let Some(name) = bomb.function() {
            self.functions += 1;
            if !row.ran && functions::can_be_called(name) {
                self.not_run.push(name.to_owned());
            }
        }
        self.rows.push(row);
    }

    pub fn judge(&self, report: &mut Report) {
        let count = |test: fn(&Row) -> bool| self.rows.iter().filter(|row| test(row)).count();
        let names = |test: fn(&Row) -> bool| {
            let names: Vec<&str> =
                self.rows.iter().filter(|row| test(row)).map(|row| row.name.as_str()).collect();
            names.first().map(|first| format!(" (the first: {first})")).unwrap_or_default()
        };
        report.note("bombs", format!("{}, functions among them: {}", self.rows.len(), self.functions));
        if self.functions > 0 {
            let missing = self.not_run.join(", ");
            let result = format!("{} {missing}", self.not_run.len());
            report.judge("functions of which no call ran", result.trim(), "none", self.not_run.is_empty());
        }
        let died = count(|row| row.died);
        report.judge(
            "bombs that ended the server",
            format!("{died}{}", names(|row| row.died)),
            "none",
            died == 0,
        );
        let failed = count(|row| !row.failures.is_empty());
        report.judge(
            "bombs without a result or a clear error",
            format!("{failed}{}", names(|row| !row.failures.is_empty())),
            "none",
            failed == 0,
        );
        let kept = count(|row| row.kept);
        let largest = self.rows.iter().map(|row| row.after).fold(0.0, f64::max) * MB;
        report.judge(
            "bombs after which resident memory was not within 100 MB of that before them in 60 s",
            format!("{kept}{} (most: {largest:.0} MB resident)", names(|row| row.kept)),
            "none",
            kept == 0,
        );
        let growth = self.rows.iter().map(|row| row.growth).fold(0.0, f64::max) * MB;
        report.note("the largest growth of resident memory", format!("{growth:.0} MB"));
        self.judge_latency(report);
    }

    fn judge_latency(&self, report: &mut Report) {
        let limit = SLOWER * self.idle.median;
        let Latency { median, p95 } = self.idle;
        report.note(
            "another caller's `select 1` on the idle server",
            format!("{median:.2} ms, p95 {p95:.2} ms"),
        );
        let times: Vec<f64> = self.rows.iter().flat_map(|row| row.times.iter().copied()).collect();
        let all = over_time(&times);
        report.judge(
            "the same during all bombs, median over time",
            format!("{:.2} ms, p95 {:.2} ms", all.median, all.p95),
            format!("at most {limit:.2} ms"),
            all.median <= limit,
        );
        let long = || self.rows.iter().filter(|row| row.is_long());
        let Some(worst) = long().max_by(|a, b| a.latency().median.total_cmp(&b.latency().median)) else {
            return;
        };
        report.judge(
            "the worst median of a bomb of at least a second",
            format!("{:.2} ms ({})", worst.latency().median, worst.name),
            format!("at most {limit:.2} ms"),
            worst.latency().median <= limit,
        );
        if let Some(worst) = long().max_by(|a, b| a.latency().p95.total_cmp(&b.latency().p95)) {
            report.note(
                "the worst p95 of such a bomb",
                format!("{:.2} ms ({})", worst.latency().p95, worst.name),
            );
        }
    }

    pub fn table(&self) -> String {
        let head = HEAD.map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let widths: [usize; 6] =
            std::array::from_fn(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0));
        let mut text = String::new();
        for [name, outcome, seconds, growth, after, latency] in rows {
            let [a, _, c, d, e, f] = widths;
            // Writing to a String cannot fail. The longest column comes last.
            let _ = writeln!(
                text,
                "{name:a$}  {seconds:>c$}  {growth:>d$}  {after:>e$}  {latency:>f$}  {outcome}"
            );
        }
        text
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", HEAD.join(" | "), " --- |".repeat(HEAD.len()));
        for row in &self.rows {
            let cells = row.cells().map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::bombs::Action;
    use super::super::caller::Target;
    use super::*;

    fn refused(message: &str) -> Ending {
        Ending::Refused { code: "c".to_owned(), message: message.to_owned() }
    }

    fn row(name: &str, endings: &[Ending]) -> (Bomb, Row) {
        let bomb = Bomb::new(name, Action::Sequence(Target::Sqlite, Vec::new()));
        let row = Row::new(&bomb, endings, Duration::from_secs(2));
        (bomb, row)
    }

    fn verdicts(rows: Vec<(Bomb, Row)>) -> (bool, String) {
        let mut tally = Tally { idle: Latency { median: 2.0, p95: 3.0 }, ..Tally::default() };
        for (bomb, row) in rows {
            tally.add(&bomb, row);
        }
        let mut report = Report::new("hostile");
        tally.judge(&mut report);
        (report.all_met(), report.table())
    }

    #[test]
    fn outcomes() {
        assert_eq!(outcome(&[Ending::Succeeded]), "succeeded");
        assert_eq!(outcome(&[refused("too\nlong")]), "refused: c: too\nlong");
        assert_eq!(outcome(&[Ending::Succeeded, refused("m")]), "1 succeeded, 1 refused");
        let limited = refused("f would take too long");
        assert_eq!(
            outcome(&[Ending::Succeeded, limited]),
            "1 succeeded, 1 refused, c: f would take too long"
        );
        assert!(row("a", &[Ending::Failed("x".to_owned())]).1.line().starts_with("a: FAILED: x; 2.0 s"));
    }

    #[test]
    fn a_good_run_meets_all_limits() {
        let (bomb, mut good) = row("function abs", &[Ending::Succeeded, refused("no such function")]);
        good.times = vec![2.0, 5.9];
        let limited = row("function repeat", &[refused("… ([engine] max_value_bytes)")]);
        let excluded = row("function text_like", &[refused("not found")]);
        let (met, table) = verdicts(vec![(bomb, good), limited, excluded]);
        assert!(met, "{table}");
    }

    #[test]
    fn each_limit_can_be_missed() {
        let changes: [fn(&mut Row); 4] = [
            |row| row.died = true,
            |row| row.kept = true,
            |row| row.failures.push("500".to_owned()),
            |row| row.times = vec![6.1; 10],
        ];
        for change in changes {
            let (bomb, mut bad) = row("a", &[Ending::Succeeded]);
            change(&mut bad);
            let (met, table) = verdicts(vec![(bomb, bad)]);
            assert!(!met, "{table}");
        }
        assert!(!verdicts(vec![row("function abs", &[refused("no such function")])]).0);
    }
}
