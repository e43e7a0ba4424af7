//! Virtual databases with the real engine, on both metadata stores.

mod execute;
mod nodes;
mod support;
