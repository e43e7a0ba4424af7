//! The reference of both servers: what the annotations of the handlers cannot say once for all.

pub mod requests;

use landreeve_http::openapi::{Reference, Refusal, When, example, fill, follow, refuse};
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Info, OpenApi};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::error::Errors;
use crate::media::JSON_API;

const VERSION: &str = "2024-06-01";

/// What the API server refuses with.
const API: [Refusal; 11] = [
    Refusal(400, When::Always, "The body is no JSON, or `include` names what is not there."),
    Refusal(401, When::Caller, "No credential, or one that does not hold."),
    Refusal(403, When::Caller, "Not permitted."),
    Refusal(404, When::Named, "There is no such thing."),
    Refusal(406, When::Answer, "`Accept` allows none of the forms of the answer."),
    Refusal(409, When::Change, "What is there already, or was changed just now, stands in the way."),
    Refusal(413, When::Body, "The body is too long."),
    Refusal(415, When::Body, "The body is of another media type."),
    Refusal(422, When::Input, "What is wrong, with a pointer to each place."),
    Refusal(429, When::Change, "Too much waits already; `Retry-After` says when to try again."),
    Refusal(503, When::Caller, "The store, a database or a node does not answer now."),
];

/// What the data server refuses with.
const DATA: [Refusal; 6] = [
    Refusal(401, When::Caller, "No token, or one that does not hold."),
    Refusal(403, When::Caller, "The token is for another data key."),
    Refusal(404, When::Named, "There is no such data any more."),
    Refusal(406, When::Answer, "`Accept` allows none of the forms of the data."),
    Refusal(422, When::Input, "What is wrong with the query."),
    Refusal(503, When::Caller, "The store, or where results are kept, does not answer now."),
];

/// What stands in the annotations for the id of a datasource that is there.
const PLACEHOLDER: &str = "8qxn-y9ex-65vd";

/// `sample` is the id of the built-in sample source, as this dialect writes it.
pub fn api(mut document: OpenApi, sample: Option<&str>) -> Reference {
    if let Some(sample) = sample {
        // The built-in source cannot be changed or removed: those are for a datasource of one's own.
        let concerned = |method: &HttpMethod, path: &str| {
            path.starts_with("/datasources/{id}") && matches!(method, HttpMethod::Get | HttpMethod::Post)
        };
        example(&mut document, "id", sample, concerned);
        fill(&mut document, PLACEHOLDER, sample);
    }
    let then = ["getExecution", "getExecutionData", "cancelExecution"];
    follow(&mut document, "runExecution", "execution_id", "/data/id", &then);

    let description = "Datasources, executions, dashboards, reports, filters and SQL snippets. \
        Make a key with `landreeve key create --api cluvio` and send it as `Authorization: Api SECRET`. \
        The statements in the examples run on the built-in sample source.";
    finish(
        "Cluvio API: API server",
        description,
        "ApiKey",
        "`Api SECRET`, with the secret of a key",
        &API,
        document,
    )
}

pub fn data(document: OpenApi) -> Reference {
    let description = "The data of executions and the schemas of datasources. The API server gives out data key and \
        token; send the token as `Authorization: Data TOKEN` within five minutes.";
    finish(
        "Cluvio API: data server",
        description,
        "DataToken",
        "`Data TOKEN`, with a data access token",
        &DATA,
        document,
    )
}

fn finish(
    title: &str,
    description: &str,
    scheme: &str,
    form: &str,
    refusals: &[Refusal],
    mut document: OpenApi,
) -> Reference {
    let mut info = Info::new(title, VERSION);
    info.description = Some(description.to_owned());
    document.info = info;
    let key = ApiKey::Header(ApiKeyValue::with_description("Authorization", form));
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme(scheme, SecurityScheme::ApiKey(key));
    let mut schemas = vec![(Errors::name().into_owned(), Errors::schema())];
    Errors::schemas(&mut schemas);
    components.schemas.extend(schemas);
    document.security = Some(vec![SecurityRequirement::new(scheme, Vec::<String>::new())]);
    refuse(&mut document, JSON_API, &Errors::name(), refusals);
    Reference {
        title: title.to_owned(),
        page: "docs",
        document: "openapi.json",
        assets: "docs-assets",
        openapi: document,
    }
}
