//! The API reference of a dialect, as an OpenAPI document and as an interactive page, and the catalog of all
//! references. Everything is built into the program: no login, no other server.
//!
//! Descriptions of operations belong next to the handlers, in the faces, not here.

mod complete;
mod operations;

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, StatusCode};
use landreeve_core::{Error, Result};
use serde_json::Value;
use utoipa::openapi::{OpenApi, Server};
use utoipa_swagger_ui::Config;

pub use operations::{Refusal, When, example, fill, follow, refuse, require};

/// Allows scripts and data from this server only. The interactive page uses inline styles and icons from data URLs.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";
const INDEX_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The bundled assets that the page needs.
const ASSETS: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
const START: &str = "start.js";

/// One dialect's API reference. The three names are path segments next to each other, so that the page can use relative
/// URLs wherever the router is mounted.
pub struct Reference {
    pub title: String,
    /// Such as `docs` or `docs.html`.
    pub page: &'static str,
    /// Such as `openapi.json`.
    pub document: &'static str,
    /// Such as `docs-assets`.
    pub assets: &'static str,
    /// If it lists no servers, it gets one: the directory of the document.
    pub openapi: OpenApi,
}

impl Reference {
    /// Routes for the page, its assets and the document. Merge them into the face's router, or mount them next to it.
    pub fn routes(self) -> Result<Router> {
        self.routes_with(|_| {})
    }

    /// Like `routes`, with changes that annotations cannot express: `change` gets the document before it is served.
    pub fn routes_with(self, change: impl FnOnce(&mut Value)) -> Result<Router> {
        let mut openapi = self.openapi;
        if openapi.servers.as_ref().is_none_or(Vec::is_empty) {
            openapi.servers = Some(vec![Server::new(".")]);
        }
        let mut document = serde_json::to_value(&openapi).map_err(Error::internal)?;
        change(&mut document);
        complete::complete(&mut document);
        let document = Bytes::from(document.to_string());
        let page = Bytes::from(page(&self.title, self.assets, self.document));
        let start = Bytes::from(start(self.document)?);
        let config = Arc::new(Config::default());
        let router = Router::new()
            .route(&format!("/{}", self.page), get(move || async move { html(page, PAGE_POLICY) }))
            .route(
                &format!("/{}", self.document),
                get(move || async move { file(document, "application/json", "no-cache") }),
            )
            .route(
                &format!("/{}/{{name}}", self.assets),
                get(move |Path(name): Path<String>| async move { asset(&name, start, config) }),
            );
        Ok(router)
    }
}

fn asset(name: &str, start: Bytes, config: Arc<Config<'_>>) -> Response {
    if name == START {
        return file(start, "text/javascript; charset=utf-8", "no-cache");
    }
    let known = ASSETS.contains(&name).then(|| utoipa_swagger_ui::serve(name, config).ok().flatten());
    match known.flatten() {
        // Only for a day, because the name does not change with the version.
        Some(found) => {
            file(Bytes::from(found.bytes.into_owned()), &found.content_type, "public, max-age=86400")
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn page(title: &str, assets: &str, document: &str) -> String {
    let (title, assets, document) = (escape(title), escape(assets), escape(document));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <link rel=\"icon\" type=\"image/png\" href=\"./{assets}/favicon-32x32.png\">\n\
         <link rel=\"stylesheet\" href=\"./{assets}/swagger-ui.css\">\n</head>\n<body>\n\
         <noscript><p>{title}. This page needs JavaScript; you can also read the document itself: \
         <a href=\"./{document}\">{document}</a>.</p></noscript>\n<div id=\"swagger-ui\"></div>\n\
         <script src=\"./{assets}/swagger-ui-bundle.js\"></script>\n\
         <script src=\"./{assets}/{START}\"></script>\n</body>\n</html>\n"
    )
}

/// `validatorUrl: null` keeps the page from sending documents to an external service.
fn start(document: &str) -> Result<String> {
    let url = serde_json::to_string(&format!("./{document}")).map_err(Error::internal)?;
    Ok(format!(
        "window.ui = SwaggerUIBundle({{\n  url: {url},\n  dom_id: \"#swagger-ui\",\n  deepLinking: true,\n  \
         validatorUrl: null,\n  docExpansion: \"list\",\n  displayRequestDuration: true,\n  \
         defaultModelsExpandDepth: 0,\n  presets: [SwaggerUIBundle.presets.apis],\n  layout: \"BaseLayout\"\n}});\n"
    ))
}

/// An entry of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    pub title: String,
    pub description: String,
    /// URL of the interactive page.
    pub page: String,
    /// URL of the OpenAPI document.
    pub document: String,
}

/// `/docs`: a plain page that lists the references, and works without JavaScript.
pub fn catalog(title: &str, entries: &[CatalogEntry]) -> Router {
    let page = Bytes::from(catalog_page(title, entries));
    Router::new().route("/docs", get(move || async move { html(page, INDEX_POLICY) }))
}

fn catalog_page(title: &str, entries: &[CatalogEntry]) -> String {
    const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;\
         color:#1c2127;background:#fff}h1{font-size:1.6rem}li{list-style:none;border-top:1px solid #d5dae0;\
         padding:1rem 0}ul{padding:0}h2{font-size:1.1rem;margin:0}p{margin:.25rem 0}a{color:#0b5cad}\
         @media(prefers-color-scheme:dark){body{color:#e4e8ec;background:#15191e}li{border-color:#39424c}\
         a{color:#7db8f0}}";
    let mut items = String::new();
    for entry in entries {
        let (page, document) = (escape(&entry.page), escape(&entry.document));
        items += &format!(
            "<li><h2><a href=\"{page}\">{}</a></h2>\n<p>{}</p>\n\
             <p><a href=\"{page}\">{page}</a> · <a href=\"{document}\">OpenAPI document</a></p></li>\n",
            escape(&entry.title),
            escape(&entry.description),
        );
    }
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<ul>\n{items}</ul>\n</body>\n</html>\n"
    )
}

fn html(page: Bytes, policy: &'static str) -> Response {
    let mut response = file(page, "text/html; charset=utf-8", "no-cache");
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, http::HeaderValue::from_static(policy));
    headers.insert(http::header::X_FRAME_OPTIONS, http::HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, http::HeaderValue::from_static("no-referrer"));
    response
}

fn file(bytes: Bytes, content_type: &str, cache: &'static str) -> Response {
    let headers: [(HeaderName, &str); 3] =
        [(CONTENT_TYPE, content_type), (CACHE_CONTROL, cache), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, bytes).into_response()
}

/// Escapes text between tags and inside double quotes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt as _;
    use utoipa::openapi::{Info, Paths};

    fn router() -> Router {
        let reference = Reference {
            title: "Data & <things>".into(),
            page: "docs.html",
            document: "openapi.json",
            assets: "docs-assets",
            openapi: OpenApi::new(Info::new("t", "1"), Paths::new()),
        };
        let entry = CatalogEntry {
            title: "Data & things".into(),
            description: "Queries".into(),
            page: "/x/docs.html".into(),
            document: "/x/openapi.json".into(),
        };
        Router::new().nest("/x", reference.routes().unwrap()).merge(catalog("All", &[entry]))
    }

    async fn fetch(path: &str) -> (StatusCode, http::HeaderMap, Bytes) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (parts, body) = router().oneshot(request).await.unwrap().into_parts();
        (parts.status, parts.headers, to_bytes(body, 10_000_000).await.unwrap())
    }

    #[tokio::test]
    async fn serves_the_page_and_all_its_assets() {
        let (status, headers, page) = fetch("/x/docs.html").await;
        assert_eq!(status, StatusCode::OK);
        assert!(headers[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        let page = String::from_utf8(page.to_vec()).unwrap();
        assert!(page.contains("Data &amp; &lt;things&gt;") && !page.contains("http"));
        let parts = page.split("=\"./").skip(1).map(|rest| rest.split('"').next().unwrap());
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        assert_eq!(parts.len(), 5);
        for part in parts {
            let (status, _, bytes) = fetch(&format!("/x/{part}")).await;
            assert!(status == StatusCode::OK && !bytes.is_empty(), "{part}");
        }
        assert_eq!(fetch("/x/docs-assets/index.html").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn document_lists_its_own_directory_as_server() {
        let (_, headers, document) = fetch("/x/openapi.json").await;
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["servers"][0]["url"], ".");
    }

    #[tokio::test]
    async fn catalog_lists_every_reference() {
        let (_, _, page) = fetch("/docs").await;
        let page = String::from_utf8(page.to_vec()).unwrap();
        assert!(page.contains("href=\"/x/docs.html\"") && page.contains("href=\"/x/openapi.json\""));
        assert!(page.contains("Data &amp; things") && !page.contains("<script"));
    }
}
