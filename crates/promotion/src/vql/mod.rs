//! The language: scripts, statements and their text. Knows no node, no store and no database.
//!
//! `script` splits a script and fills in the values of `properties`; `parse` reads one statement into the types of `ast`;
//! `print` writes objects as statements again. Does not belong here: the SELECT of a view, which is its author's text and
//! is read by the engine.

pub mod ast;
mod cursor;
pub mod masked;
mod parse;
pub mod place;
pub mod print;
pub mod properties;
pub mod script;

pub use parse::statement;
