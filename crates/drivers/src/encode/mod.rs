//! stub
pub struct Codec;
