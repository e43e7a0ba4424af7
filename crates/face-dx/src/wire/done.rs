//! The body of a method that has nothing else to say.

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
