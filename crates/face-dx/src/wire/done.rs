//! The body of a response without data.

use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    ok: bool,
}

impl Done {
    pub fn ok() -> Done {
        Done { ok: true }
    }
}
