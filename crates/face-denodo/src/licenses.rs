//! License aliases: the scenarios of environments. This server needs no license.

use axum::extract::State;
use http::StatusCode;
use landreeve_http::Outcome;
use landreeve_promotion::environments::scenario_list;

use crate::App;
use crate::caller::Caller;
use crate::wire::Answer;
use crate::wire::environments::LicenseBody;
use crate::wire::error::ErrorBody;

/// List the license aliases that an environment can have
///
/// A number can follow an alias, as in `PRODUCTION_1`.
#[utoipa::path(
    get,
    path = "/licenseAlias",
    operation_id = "listLicenseAliases",
    tag = "Environments",
    responses(
        (status = 200, body = Vec<LicenseBody>, example = json!([
            {
                "alias": "DEVELOPMENT", "licenseType": "DEVELOPMENT", "version": "0.1.0", "uniqueLicenseType": true
            }
        ])),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(State(app): State<App>, Caller(ctx): Caller) -> Outcome<Answer<Vec<LicenseBody>>> {
    let scenarios = scenario_list(&app.promotion, &ctx).await?;
    Ok(Answer(StatusCode::OK, scenarios.into_iter().map(LicenseBody::from).collect()))
}
