//! Step two: finds the parameters and snippets in a text, as typed values that borrow from it.
//!
//! Anything that does not match the grammar is text and is left unchanged. The only lookup here is whether a snippet
//! has a name, because that decides whether `[name]` is a snippet.

use landreeve_core::datasource::SqlDialect;

use super::lexer::{Kind, Token, is_name, lex};

/// Parameters inside a parameter's expression are recognized down to this depth; below it they are text.
const MAX_NESTING: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node<'a> {
    Text(&'a str),
    Param(Param<'a>),
    Snippet(Call<'a>),
}

/// `{…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param<'a> {
    /// The source text, for messages.
    pub source: &'a str,
    pub form: Form<'a>,
    /// The tokens before and after it (`None` at the ends), which decide whether parentheses are needed.
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form<'a> {
    /// `{[expr]=variable.selector}`
    Condition { expr: Expr<'a>, variable: &'a str, selector: Option<Selector<'a>> },
    /// `{[expr]:transform}`
    Transformation { expr: Expr<'a>, transform: &'a str, selector: Option<&'a str> },
    /// `{variable.selector}`
    Value { variable: &'a str, selector: Selector<'a> },
    /// `{variable}`, the older form of a plain value.
    Legacy { variable: &'a str },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector<'a> {
    Start,
    End,
    Next,
    Previous,
    Unknown(&'a str),
}

impl<'a> Selector<'a> {
    fn new(name: &'a str) -> Selector<'a> {
        match name {
            "start" => Selector::Start,
            "end" => Selector::End,
            "next" => Selector::Next,
            "previous" => Selector::Previous,
            other => Selector::Unknown(other),
        }
    }

    pub const fn as_str(self) -> &'a str {
        match self {
            Selector::Start => "start",
            Selector::End => "end",
            Selector::Next => "next",
            Selector::Previous => "previous",
            Selector::Unknown(name) => name,
        }
    }
}

/// SQL inside a parameter, which can contain more parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr<'a> {
    pub nodes: Vec<Node<'a>>,
    /// Whether it is a column name, possibly qualified, which never needs parentheses.
    pub column: bool,
}

/// `[name]` or `[name(a, b)]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'a> {
    pub source: &'a str,
    pub name: &'a str,
    /// `None` if there are no parentheses. Each argument is SQL.
    pub args: Option<Vec<&'a str>>,
}

pub fn parse<'a>(sql: &'a str, dialect: SqlDialect, is_snippet: &dyn Fn(&str) -> bool) -> Vec<Node<'a>> {
    let tokens = lex(sql, dialect);
    let partners = partners(&tokens);
    let parser = Parser { sql, tokens: &tokens, partners: &partners, is_snippet };
    parser.nodes(0, tokens.len(), 0)
}

/// For each opening bracket, the position of its closing one, in one pass; `None` if the text in between is not
/// balanced.
fn partners(tokens: &[Token<'_>]) -> Vec<Option<usize>> {
    let mut partners = vec![None; tokens.len()];
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut count = [0_usize; 3];
    // Brackets opened before this stray closing bracket contain it, so they are not balanced.
    let mut stray = None;
    for (place, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Punct) {
        if let Some(kind) = ["(", "[", "{"].iter().position(|&text| text == token.text) {
            open.push((kind, place));
            count[kind] += 1;
        } else if let Some(kind) = [")", "]", "}"].iter().position(|&text| text == token.text) {
            if count[kind] == 0 {
                stray = Some(place);
                continue;
            }
            let mut balanced = true;
            while let Some((opened, at)) = open.pop() {
                count[opened] -= 1;
                if opened == kind {
                    if balanced && stray.is_none_or(|stray| stray < at) {
                        partners[at] = Some(place);
                    }
                    break;
                }
                balanced = false;
            }
        }
    }
    partners
}

struct Parser<'a, 't> {
    sql: &'a str,
    tokens: &'t [Token<'a>],
    partners: &'t [Option<usize>],
    is_snippet: &'t dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a, '_> {
    fn nodes(&self, from: usize, to: usize, depth: usize) -> Vec<Node<'a>> {
        let mut nodes = Vec::new();
        let mut text_from = from;
        let mut at = from;
        while at < to {
            let found = match self.tokens.get(at) {
                Some(token) if token.is("{") && depth < MAX_NESTING => {
                    self.param(at, to, depth).map(|(param, end)| (Node::Param(param), end))
                }
                Some(token) if token.is("[") => {
                    self.call(at, to).map(|(call, end)| (Node::Snippet(call), end))
                }
                _ => None,
            };
            if let Some((node, end)) = found {
                self.push_text(&mut nodes, text_from, at);
                nodes.push(node);
                text_from = end;
                at = end;
            } else {
                at += 1;
            }
        }
        self.push_text(&mut nodes, text_from, to);
        nodes
    }

    /// The text of the tokens from `from` up to, but not including, `to`.
    fn source(&self, from: usize, to: usize) -> &'a str {
        let begin = self.tokens.get(from).map_or(self.sql.len(), |token| token.at);
        let end = self.tokens.get(to).map_or(self.sql.len(), |token| token.at);
        self.sql.get(begin..end).unwrap_or_default()
    }

    fn push_text(&self, nodes: &mut Vec<Node<'a>>, from: usize, to: usize) {
        if from < to {
            nodes.push(Node::Text(self.source(from, to)));
        }
    }

    fn skip_space(&self, at: usize) -> usize {
        at + usize::from(self.tokens.get(at).is_some_and(|token| token.kind == Kind::Space))
    }

    fn is(&self, at: usize, punct: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(punct))
    }

    fn name(&self, at: usize) -> Option<&'a str> {
        let token = self.tokens.get(at)?;
        (token.kind == Kind::Word && is_name(token.text)).then_some(token.text)
    }

    /// The parameter that starts at `{`, and the position after it.
    fn param(&self, open: usize, to: usize, depth: usize) -> Option<(Param<'a>, usize)> {
        let begin = self.skip_space(open + 1);
        let (form, close) = if self.is(begin, "[") {
            let bracket_end = (*self.partners.get(begin)?)?;
            let operator = self.skip_space(bracket_end + 1);
            let (name, selector, close) = self.operation(operator)?;
            let expr = self.bracket(begin, bracket_end, depth)?;
            (self.operated(operator, expr, name, selector), close)
        } else {
            let path_end = self.path(begin)?;
            let next = self.skip_space(path_end);
            if self.is(next, "}") {
                (self.plain(begin, path_end)?, next)
            } else {
                let (name, selector, close) = self.operation(next)?;
                let nodes = vec![Node::Text(self.source(begin, path_end))];
                (self.operated(next, Expr { nodes, column: true }, name, selector), close)
            }
        };
        if close >= to {
            return None;
        }
        let code = |token: &&Token<'a>| !token.kind.is_blank();
        let param = Param {
            source: self.source(open, close + 1),
            form,
            before: self.tokens.get(..open)?.iter().rev().find(code).map(|token| token.text),
            after: self.tokens.get(close + 1..)?.iter().find(code).map(|token| token.text),
        };
        Some((param, close + 1))
    }

    fn operated(
        &self,
        operator: usize,
        expr: Expr<'a>,
        name: &'a str,
        selector: Option<&'a str>,
    ) -> Form<'a> {
        if self.is(operator, "=") {
            Form::Condition { expr, variable: name, selector: selector.map(Selector::new) }
        } else {
            Form::Transformation { expr, transform: name, selector }
        }
    }

    /// `= name.selector }` or `: name.selector }`: the name, the selector and the position of the brace.
    fn operation(&self, operator: usize) -> Option<(&'a str, Option<&'a str>, usize)> {
        if !self.is(operator, "=") && !self.is(operator, ":") {
            return None;
        }
        let at = self.skip_space(operator + 1);
        let name = self.name(at)?;
        let (selector, after) =
            if self.is(at + 1, ".") { (Some(self.name(at + 2)?), at + 3) } else { (None, at + 1) };
        let close = self.skip_space(after);
        self.is(close, "}").then_some((name, selector, close))
    }

    /// The position after a column name, each part of which can be quoted.
    fn path(&self, mut at: usize) -> Option<usize> {
        loop {
            if !matches!(self.tokens.get(at)?.kind, Kind::Word | Kind::QuotedName) {
                return None;
            }
            if !self.is(at + 1, ".") {
                return Some(at + 1);
            }
            at += 2;
        }
    }

    /// `name` or `name.selector`; a longer path is not a parameter.
    fn plain(&self, from: usize, to: usize) -> Option<Form<'a>> {
        let variable = self.name(from)?;
        match to - from {
            1 => Some(Form::Legacy { variable }),
            3 => Some(Form::Value { variable, selector: Selector::new(self.name(from + 2)?) }),
            _ => None,
        }
    }

    /// The expression in a parameter's brackets. If all of it is a snippet's name, it is that snippet.
    fn bracket(&self, open: usize, close: usize, depth: usize) -> Option<Expr<'a>> {
        if let Some((call, end)) = self.call(open, close + 1)
            && end == close + 1
        {
            let source = call.source.get(1..call.source.len() - 1)?;
            let nodes = vec![Node::Snippet(Call { source, ..call })];
            return Some(Expr { nodes, column: false });
        }
        let from = self.skip_space(open + 1);
        let mut to = close;
        while to > from && self.tokens.get(to - 1).is_some_and(|token| token.kind == Kind::Space) {
            to -= 1;
        }
        if from >= to {
            return None;
        }
        let column = self.path(from) == Some(to);
        Some(Expr { nodes: self.nodes(from, to, depth + 1), column })
    }

    /// The snippet that starts at `[`, and the position after it.
    fn call(&self, open: usize, to: usize) -> Option<(Call<'a>, usize)> {
        let name = self.name(open + 1).filter(|name| (self.is_snippet)(name))?;
        let (args, close) = if self.is(open + 2, "(") {
            let end = (*self.partners.get(open + 2)?)?;
            (Some(self.args(open + 3, end)), end + 1)
        } else {
            (None, open + 2)
        };
        if close >= to || !self.is(close, "]") {
            return None;
        }
        Some((Call { source: self.source(open, close + 1), name, args }, close + 1))
    }

    /// The text between commas that are not inside nested brackets.
    fn args(&self, from: usize, to: usize) -> Vec<&'a str> {
        let mut args = Vec::new();
        let mut begin = from;
        let mut at = from;
        while at < to {
            if self.is(at, ",") {
                args.push(self.source(begin, at).trim());
                begin = at + 1;
            }
            at = match self.partners.get(at) {
                Some(Some(end)) if *end < to => *end + 1,
                _ => at + 1,
            };
        }
        let last = self.source(begin, to).trim();
        if !args.is_empty() || !last.is_empty() {
            args.push(last);
        }
        args
    }
}
