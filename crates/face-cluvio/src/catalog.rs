//! The reference of both servers: what the annotations of the handlers cannot say once for all.

use landreeve_http::openapi::Reference;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, Info, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::error::Errors;
use crate::media::JSON_API;

const VERSION: &str = "2024-06-01";

pub fn api(document: OpenApi) -> Reference {
    let description = "Datasources, executions, dashboards, reports, filters and SQL snippets. \
        Make a key with `landreeve key create --api cluvio` and send it as `Authorization: Api SECRET`. \
        The statements in the examples run on the built-in sample source.";
    finish(
        "Cluvio API: API server",
        description,
        "ApiKey",
        "`Api SECRET`, with the secret of a key",
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
        document,
    )
}

fn finish(title: &str, description: &str, scheme: &str, form: &str, mut document: OpenApi) -> Reference {
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
    for (path, item) in &mut document.paths.paths {
        let named = path.contains('{');
        distinguish(item);
        for operation in operations(item) {
            refuse(operation, named);
        }
    }
    Reference {
        title: title.to_owned(),
        page: "docs",
        document: "openapi.json",
        assets: "docs-assets",
        openapi: document,
    }
}

/// One handler for PUT and PATCH would be two operations of one name.
fn distinguish(item: &mut PathItem) {
    if let (Some(_), Some(patch)) = (&item.put, &mut item.patch)
        && let Some(id) = &mut patch.operation_id
    {
        id.push_str("ByPatch");
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// The errors that every operation can answer with.
fn refuse(operation: &mut Operation, named: bool) {
    let mut statuses = vec![("401", "No credential, or one that does not hold."), ("403", "Not permitted.")];
    if named {
        statuses.push(("404", "There is no such thing."));
    }
    if operation.request_body.is_some() {
        statuses.push(("422", "What is wrong, with a pointer to each place."));
    }
    for (status, description) in statuses {
        let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(Errors::name()))));
        let response = ResponseBuilder::new().description(description).content(JSON_API, content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
    }
}
