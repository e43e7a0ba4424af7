//! The analytics plane: what it takes to ask a database a question with parameters and to share the answer.
//!
//! No HTTP, no wire JSON and no vendor's name enters here; faces translate, this crate decides.

pub mod lang;
