//! The SQL parameter language.
mod lexer;
mod parse;
pub mod range;
pub mod span;
pub mod zone;
