//! The reference of both servers: what applies to many operations and so cannot be in the handlers' annotations.

pub mod requests;

use landreeve_http::openapi::{Reference, Refusal, When, example, fill, follow, refuse};
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Info, OpenApi};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::error::Errors;
use crate::media::JSON_API;

const VERSION: &str = "2024-06-01";

/// The error responses of the API server.
const API: [Refusal; 11] = [
    Refusal(400, When::Always, "The body is not JSON, or `include` names an unknown relationship."),
    Refusal(401, When::Caller, "The credential is missing or invalid."),
    Refusal(403, When::Caller, "You do not have permission."),
    Refusal(404, When::Named, "Not found."),
    Refusal(406, When::Answer, "`Accept` allows none of the response's formats."),
    Refusal(409, When::Change, "The resource already exists, or was changed at the same time."),
    Refusal(413, When::Body, "The body is too large."),
    Refusal(415, When::Body, "The media type of the body is not supported."),
    Refusal(422, When::Input, "The request is invalid; each error has a pointer to its place."),
    Refusal(429, When::Change, "Too many requests are waiting; try again after `Retry-After` seconds."),
    Refusal(503, When::Caller, "The store, a database or a node is unavailable."),
];

/// The error responses of the data server.
const DATA: [Refusal; 6] = [
    Refusal(401, When::Caller, "The token is missing or invalid."),
    Refusal(403, When::Caller, "The token is for another data key."),
    Refusal(404, When::Named, "The data does not exist or has been deleted."),
    Refusal(406, When::Answer, "`Accept` allows none of the data's formats."),
    Refusal(422, When::Input, "The query parameters are invalid."),
    Refusal(503, When::Caller, "The store, or the storage for results, is unavailable."),
];

/// Stands for the id of an existing datasource in the annotations.
const PLACEHOLDER: &str = "8qxn-y9ex-65vd";

/// `sample` is the id of the built-in sample source in this dialect's form.
pub fn api(mut document: OpenApi, sample: Option<&str>) -> Reference {
    if let Some(sample) = sample {
        // The built-in source cannot be updated or deleted, so those examples are for the user's own datasources.
        let concerned = |method: &HttpMethod, path: &str| {
            path.starts_with("/datasources/{id}") && matches!(method, HttpMethod::Get | HttpMethod::Post)
        };
        example(&mut document, "id", sample, concerned);
        fill(&mut document, PLACEHOLDER, sample);
    }
    let then = ["getExecution", "getExecutionData", "cancelExecution"];
    follow(&mut document, "runExecution", "execution_id", "/data/id", &then);

    let description = "Datasources, executions, dashboards, reports, filters and SQL snippets. \
        Create a key with `landreeve key create --api cluvio` and send it as `Authorization: Api SECRET`. \
        The statements in the examples run on the built-in sample source; host, database and password in the example of a \
        datasource are placeholders.";
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
    let description = "The data of executions and the schemas of datasources. The API server issues the data key and \
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
