//! How each dialect writes strings, names, comments, numbers and parameters.

use crate::datasource::SqlDialect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// In a plain string a backslash escapes the next character.
    pub backslash: bool,
    pub escape_strings: EscapeStrings,
    /// `\N` is NULL: a word of two characters, whatever follows.
    pub backslash_null: bool,
    /// `"…"` is a string; otherwise it is a name.
    pub double_quoted_texts: bool,
    /// `` `…` `` is a name.
    pub backtick_names: bool,
    /// `[…]` is a name.
    pub bracket_names: bool,
    /// `U&"…"` is a name.
    pub unicode_names: bool,
    /// `$tag$…$tag$` is a string.
    pub dollar_quotes: bool,
    pub dashes: Dashes,
    /// `#` starts a comment.
    pub hash_comments: bool,
    pub nested_comments: bool,
    /// `/*! … */` and `/*M! … */` are code, not comments.
    pub code_comments: bool,
    /// A carriage return also ends a line comment.
    pub return_ends_line: bool,
    pub numbers: Numbers,
    pub dollar: Dollar,
    pub variables: Variables,
    /// A word is certain to be a name only right after a dot; a keyword after `. ` is still a keyword.
    pub names_touch_point: bool,
    /// U+FEFF between tokens is whitespace.
    pub mark_is_blank: bool,
}

/// `E'…'`, in which a backslash is an escape whatever `Rules::backslash` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapeStrings {
    None,
    /// Each is a string by itself.
    Single,
    /// A quote after a line break continues it, and backslashes are still escapes.
    Continued,
}

/// When `--` starts a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dashes {
    Always,
    /// Only before whitespace, a control character (U+0000 to U+001F, U+007F) or the end: `5--1` is 6.
    BeforeBlank,
}

/// How letters right after a number are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// As a separate word: `1into` is a number and a keyword.
    EndBeforeWord,
    /// `1into` is a name, because names can start with digits; `1e0into` and `1.into` are a number and a keyword.
    /// `1.e` without digits after it is a broken number (see `Token::closed`).
    CanBeginNames,
    /// As part of the number, which is an error.
    TakeWord,
}

/// What `$` starts where it is not a dollar quote. Inside a word it is always part of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dollar {
    /// `$1`
    Number,
    /// `$1`, `$name`
    NumberOrName,
    /// A word
    Word,
    /// `${name}`, with anything but a brace in the name
    Property,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    None,
    /// `@name`, `@'any name'`, `@@setting`, and `?` as a parameter
    Session,
    /// `?1`, `:name`, `@name`, `$name`, `#name`, with `::name` and `(text)` after the name
    Bound,
}

const POSTGRES: Rules = Rules {
    backslash: false,
    escape_strings: EscapeStrings::Continued,
    backslash_null: false,
    double_quoted_texts: false,
    backtick_names: false,
    bracket_names: false,
    unicode_names: true,
    dollar_quotes: true,
    dashes: Dashes::Always,
    hash_comments: false,
    nested_comments: true,
    code_comments: false,
    return_ends_line: true,
    numbers: Numbers::EndBeforeWord,
    dollar: Dollar::Number,
    variables: Variables::None,
    names_touch_point: false,
    mark_is_blank: false,
};

/// The rules of a dialect. They assume `standard_conforming_strings` on for PostgreSQL, and neither `ANSI_QUOTES` nor
/// `NO_BACKSLASH_ESCAPES` for MySQL: the drivers set up their sessions that way.
pub const fn rules(dialect: SqlDialect) -> Rules {
    match dialect {
        SqlDialect::Postgres => POSTGRES,
        // Amazon's documentation of LIKE doubles the backslash in literals ('%start\\_%'): it is an escape in plain
        // strings, as in PostgreSQL 8.0, from which Redshift is derived.
        SqlDialect::Redshift => Rules { backslash: true, unicode_names: false, ..POSTGRES },
        // Its grammar ends a comment at the first `*/` and does not join literals.
        SqlDialect::CrateDb => Rules {
            nested_comments: false,
            escape_strings: EscapeStrings::Single,
            unicode_names: false,
            ..POSTGRES
        },
        // The tokenizer of sqlparser with its PostgreSQL dialect.
        SqlDialect::Engine => Rules {
            escape_strings: EscapeStrings::Single,
            unicode_names: false,
            dollar: Dollar::NumberOrName,
            ..POSTGRES
        },
        SqlDialect::MySql => Rules {
            backslash: true,
            escape_strings: EscapeStrings::None,
            backslash_null: true,
            double_quoted_texts: true,
            backtick_names: true,
            unicode_names: false,
            dollar_quotes: false,
            dashes: Dashes::BeforeBlank,
            hash_comments: true,
            nested_comments: false,
            code_comments: true,
            return_ends_line: false,
            numbers: Numbers::CanBeginNames,
            dollar: Dollar::Word,
            variables: Variables::Session,
            names_touch_point: true,
            ..POSTGRES
        },
        SqlDialect::Sqlite => Rules {
            escape_strings: EscapeStrings::None,
            backtick_names: true,
            bracket_names: true,
            unicode_names: false,
            dollar_quotes: false,
            nested_comments: false,
            return_ends_line: false,
            numbers: Numbers::TakeWord,
            variables: Variables::Bound,
            mark_is_blank: true,
            ..POSTGRES
        },
    }
}

/// Denodo's VQL. Properties (`${name}`) are parameters.
pub const VQL: Rules = Rules {
    escape_strings: EscapeStrings::None,
    backtick_names: true,
    unicode_names: false,
    dollar_quotes: false,
    hash_comments: true,
    nested_comments: false,
    dollar: Dollar::Property,
    mark_is_blank: true,
    ..POSTGRES
};
