//! The HTML pages. All text from outside is escaped here.

use landreeve_http::openapi::escape;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;\
background:#f3f5f7;color:#1c2127}\
main{background:#fff;border:1px solid #d5dae0;border-radius:10px;padding:2rem;width:min(22rem,calc(100vw - 4rem))}\
h1{font-size:1.35rem;margin:0 0 .25rem}p{margin:.25rem 0 1rem;color:#57606a}\
label{display:block;margin:.75rem 0 .25rem;font-weight:600}\
input{box-sizing:border-box;width:100%;padding:.55rem;font:inherit;border:1px solid #8c959f;border-radius:6px}\
button{margin-top:1.25rem;width:100%;padding:.6rem;font:inherit;font-weight:600;border:0;border-radius:6px;\
background:#0b5cad;color:#fff;cursor:pointer}\
.error{color:#b42318;margin:.75rem 0 0}a{color:#0b5cad}footer{margin-top:1.5rem;border-top:1px solid #d5dae0;\
padding-top:1rem}\
@media(prefers-color-scheme:dark){body{background:#0f1317;color:#e4e8ec}main{background:#171c22;border-color:#39424c}\
p{color:#9aa4af}footer{border-color:#39424c}a{color:#7db8f0}.error{color:#ff8a80}}";

const CATALOG: &str = "<footer><a href=\"/docs\">Server REST API Catalog</a></footer>";

fn frame(body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Landreeve</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head>\
         <body><main>{body}{CATALOG}</main></body></html>"
    )
}

pub fn sign_in(problem: Option<&str>) -> String {
    let problem = problem
        .map(|text| format!("<p class=\"error\" role=\"alert\">{}</p>", escape(text)))
        .unwrap_or_default();
    frame(&format!(
        "<h1>Landreeve</h1><p>Sign in to the estate.</p>\
         <form method=\"post\" action=\"/sign-in\">\
         <label for=\"name\">User name</label><input id=\"name\" name=\"name\" autocomplete=\"username\" required autofocus>\
         <label for=\"password\">Password</label><input id=\"password\" name=\"password\" type=\"password\" \
         autocomplete=\"current-password\" required>{problem}<button>Sign in</button></form>"
    ))
}

pub fn signed_in(name: &str) -> String {
    frame(&format!(
        "<h1>Landreeve</h1><p>Signed in as {}.</p>\
         <form method=\"post\" action=\"/sign-out\"><button>Sign out</button></form>",
        escape(name)
    ))
}

pub fn problem(message: &str) -> String {
    frame(&format!("<h1>Something went wrong</h1><p>{}</p><p><a href=\"/\">Back</a></p>", escape(message)))
}
