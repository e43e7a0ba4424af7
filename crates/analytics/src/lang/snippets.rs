//! Snippets are replaced by their text before anything else, so that they can contain parameters and other snippets.
//!
//! `[name]` is replaced by the text verbatim. `[name(a, b)]` replaces `$1` and `$2` in the text's code with the
//! arguments, which are SQL. A line comment at the end of a text or argument is closed with a line break, because
//! otherwise it would swallow what follows. Built-in snippets are values, not text, and are not replaced here.

use landreeve_core::Fault;
use landreeve_core::datasource::SqlDialect;

use super::env::Snippets;
use super::lexer::{Kind, lex};
use super::parse::{Call, Form, Node, parse};

/// Maximum nesting of snippets.
pub const MAX_DEPTH: usize = 10;
/// Maximum snippets and bytes of an expanded statement: ten levels of ten snippets would be ten billion.
const MAX_CALLS: usize = 10_000;
pub const MAX_BYTES: usize = 4 << 20;
/// More would not help the user.
pub const MAX_FAULTS: usize = 100;

#[derive(Debug, Default)]
pub struct Spliced {
    pub sql: String,
    /// In order of first use.
    pub used: Vec<String>,
    /// The snippets that the statement itself names.
    pub direct: Vec<String>,
    pub faults: Vec<Fault>,
}

pub fn splice(sql: &str, dialect: SqlDialect, snippets: &Snippets) -> Spliced {
    let mut splicer =
        Splicer { dialect, snippets, path: Vec::new(), calls: 0, bytes: 0, out: Spliced::default() };
    let text = splicer.text(sql);
    Spliced { sql: text, ..splicer.out }
}

struct Splicer<'s> {
    dialect: SqlDialect,
    snippets: &'s Snippets,
    path: Vec<String>,
    calls: usize,
    bytes: usize,
    out: Spliced,
}

impl Splicer<'_> {
    fn text(&mut self, sql: &str) -> String {
        let snippets = self.snippets;
        let is_custom =
            |name: &str| snippets.custom.contains_key(name) && !snippets.builtin.contains_key(name);
        let nodes = parse(sql, self.dialect, &is_custom);
        let mut calls = Vec::new();
        collect(&nodes, &mut calls);
        let mut text = String::with_capacity(sql.len());
        let mut from = 0;
        for call in calls {
            // The call borrows from `sql`, so the distance is its position.
            let at = call.source.as_ptr() as usize - sql.as_ptr() as usize;
            text.push_str(sql.get(from..at).unwrap_or_default());
            from = at + call.source.len();
            text.push_str(&self.call(call));
        }
        text.push_str(sql.get(from..).unwrap_or_default());
        text
    }

    fn fault(&mut self, code: &'static str, message: String) -> String {
        let fault = Fault::new("sql", code, message);
        if self.out.faults.len() < MAX_FAULTS && !self.out.faults.contains(&fault) {
            self.out.faults.push(fault);
        }
        String::new()
    }

    fn call(&mut self, call: &Call<'_>) -> String {
        let Some(text) = self.snippets.custom.get(call.name) else { return String::new() };
        let name = call.name.to_owned();
        for (list, listed) in [(&mut self.out.used, true), (&mut self.out.direct, self.path.is_empty())] {
            if listed && !list.contains(&name) {
                list.push(name.clone());
            }
        }
        let steps = || [self.path.as_slice(), std::slice::from_ref(&name)].concat().join("] → [");
        if self.path.contains(&name) {
            let message = format!("uses a snippet that includes itself: [{}]", steps());
            return self.fault("cycle", message);
        }
        if self.path.len() >= MAX_DEPTH {
            let message = format!("nests snippets more than {MAX_DEPTH} levels deep: [{}]", steps());
            return self.fault("depth", message);
        }
        self.calls += 1;
        if self.calls > MAX_CALLS || self.bytes > MAX_BYTES {
            let message = format!("expands to more than {MAX_CALLS} snippets or {MAX_BYTES} bytes");
            return self.fault("too_large", message);
        }
        // Arguments belong to the caller and are expanded before they are inserted.
        let mut args = Vec::new();
        for arg in call.args.iter().flatten() {
            let mut arg = self.text(arg);
            close_comment(&mut arg, self.dialect);
            args.push(arg);
        }
        let text = match fill(text, &args, self.dialect) {
            Ok(text) => text,
            Err(wanted) => {
                let arguments = if wanted == 1 { "argument" } else { "arguments" };
                let message = format!("[{name}] takes {wanted} {arguments}, not {}", args.len());
                return self.fault("arguments", message);
            }
        };
        self.path.push(name);
        let mut text = self.text(&text);
        self.path.pop();
        close_comment(&mut text, self.dialect);
        self.bytes = self.bytes.saturating_add(text.len());
        text
    }
}

fn collect<'n, 'a>(nodes: &'n [Node<'a>], calls: &mut Vec<&'n Call<'a>>) {
    for node in nodes {
        match node {
            Node::Snippet(call) => calls.push(call),
            Node::Param(param) => match &param.form {
                Form::Condition { expr, .. } | Form::Transformation { expr, .. } => {
                    collect(&expr.nodes, calls)
                }
                Form::Value { .. } | Form::Legacy { .. } => {}
            },
            Node::Text(_) => {}
        }
    }
}

/// The text with its arguments inserted, or the number of arguments it takes.
fn fill(text: &str, args: &[String], dialect: SqlDialect) -> Result<String, usize> {
    let tokens = lex(text, dialect);
    let place = |text: &str| text.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
    let wanted = tokens
        .iter()
        .filter(|token| token.kind == Kind::Placeholder)
        .filter_map(|token| place(token.text))
        .max()
        .unwrap_or(0);
    if wanted != args.len() {
        return Err(wanted);
    }
    let mut filled = String::with_capacity(text.len());
    for token in &tokens {
        let arg = (token.kind == Kind::Placeholder)
            .then(|| place(token.text))
            .flatten()
            .and_then(|place| args.get(place.checked_sub(1)?));
        match arg {
            Some(arg) => filled.push_str(arg),
            None => filled.push_str(token.text),
        }
        if filled.len() > MAX_BYTES {
            // The finished text is rejected if it is too long; until then it only must not grow further.
            break;
        }
    }
    Ok(filled)
}

/// Closes a line comment that the text leaves open.
pub fn close_comment(text: &mut String, dialect: SqlDialect) {
    if lex(text, dialect).last().is_some_and(|token| token.kind == Kind::LineComment) {
        text.push('\n');
    }
}
