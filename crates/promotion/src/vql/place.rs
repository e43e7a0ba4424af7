//! Where something is in a script, and what is wrong there.

use std::fmt;

/// Line and column (in characters), both starting at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// A fault of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.place.line, self.place.column, self.message)
    }
}

/// Finds the lines of a text.
#[derive(Debug, Clone)]
pub struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub fn of(text: &str) -> Lines {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Lines { starts: [0].into_iter().chain(breaks).collect() }
    }

    /// The place of a byte of the text.
    pub fn place(&self, text: &str, at: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = text.get(start..at).unwrap_or_default().trim_start_matches('\u{feff}');
        let column = before.chars().count() + 1;
        Place {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "\u{feff}a\näöü x\n";
        let lines = Lines::of(text);
        let place = |part: &str| {
            let Place { line, column } = lines.place(text, text.find(part).unwrap());
            (line, column)
        };
        assert_eq!((place("a"), place("ä"), place("x")), ((1, 1), (2, 1), (2, 5)));
        assert_eq!(lines.place(text, text.len()), Place { line: 3, column: 1 });
    }
}
