//! Figures: medians, and the table for the terminal and in Markdown.

use std::fmt::Write as _;

/// One measure and, where the project sets one, its limit.
pub struct Row {
    measure: String,
    result: String,
    limit: String,
    met: Option<bool>,
}

pub struct Report {
    /// The command, for progress on standard error.
    command: &'static str,
    /// Where and on what it was measured.
    pub facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(command: &'static str) -> Self {
        Self { command, facts: Vec::new(), rows: Vec::new() }
    }

    /// Adds a figure without a limit.
    pub fn note(&mut self, measure: impl Into<String>, result: impl Into<String>) {
        let row = Row { measure: measure.into(), result: result.into(), limit: String::new(), met: None };
        self.add(row);
    }

    pub fn judge(
        &mut self,
        measure: impl Into<String>,
        result: impl Into<String>,
        limit: impl Into<String>,
        met: bool,
    ) {
        self.add(Row { measure: measure.into(), result: result.into(), limit: limit.into(), met: Some(met) });
    }

    fn add(&mut self, row: Row) {
        // Printed immediately: a run takes minutes, and figures measured before an error are still worth knowing.
        let verdict = row.verdict();
        let limit =
            if row.limit.is_empty() { String::new() } else { format!(" (limit {}: {verdict})", row.limit) };
        eprintln!("{}: {}: {}{limit}", self.command, row.measure, row.result);
        self.rows.push(row);
    }

    pub fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    pub fn table(&self) -> String {
        let head = ["measure", "result", "limit", "met"];
        let rows: Vec<[&str; 4]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let mut text = String::new();
        for (name, value) in &self.facts {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{name}: {value}");
        }
        for [measure, result, limit, met] in rows {
            let [a, b, c] = widths;
            let _ = writeln!(text, "{measure:a$}  {result:>b$}  {limit:>c$}  {met}");
        }
        text
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(text, "- {name}: {value}");
        }
        text.push_str("\n| measure | result | limit | met |\n| --- | --- | --- | --- |\n");
        for [measure, result, limit, met] in self.rows.iter().map(Row::cells) {
            let _ = writeln!(text, "| {measure} | {result} | {limit} | {met} |");
        }
        text
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.met {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        }
    }

    fn cells(&self) -> [&str; 4] {
        [&self.measure, &self.result, &self.limit, self.verdict()]
    }
}

/// The value below which half of the values lie; 0 if there are none.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// Interpolates between two values.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = percent / 100.0 * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Milliseconds: median and 99th percentile.
pub fn spread(values: &[f64]) -> String {
    format!("{:.2} ms, p99 {:.2} ms", median(values), percentile(values, 99.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    #[test]
    fn percentiles() {
        assert!(is(median(&[]), 0.0));
        assert!(is(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(is(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        let hundred: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!(is(percentile(&hundred, 99.0), 99.0));
        assert!(is(percentile(&[1.0], 99.0), 1.0));
    }

    #[test]
    fn table_marks_missed_limits() {
        let mut report = Report::new("bench");
        report.note("a", "1");
        assert!(report.all_met());
        report.judge("b", "2", "at most 1", false);
        assert!(!report.all_met());
        assert!(report.table().contains("b             2  at most 1  NO"), "{}", report.table());
        assert!(report.markdown().contains("| b | 2 | at most 1 | NO |"));
    }
}
