//! Lists without pages, streamed while they are read.

use http::StatusCode;
use landreeve_http::{Document, Items, Outcome};

/// `{"ok":true,"NAME":[…]}`
pub async fn listed(name: &str, items: Items) -> Outcome {
    let document = Document::default().text(&format!("{{\"ok\":true,\"{name}\":")).array([items]).text("}");
    document.respond(StatusCode::OK, "application/json").await
}
