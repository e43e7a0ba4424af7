//! The body of the response to a sign-in.

use landreeve_core::OpCtx;
use serde::Serialize;
use utoipa::ToSchema;

use crate::permissions::flags;

/// The flags of both generations of the dialect. A list that is null means that there is no limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginBody {
    user_name: String,
    /// Scenarios of the environments whose deployments the user may manage.
    promotion_admin_environments: Option<Vec<String>>,
    /// Scenarios of the environments that the user may deploy to.
    promotion_environments: Option<Vec<String>>,
    promotion: bool,
    promotion_admin: bool,
    solution_manager_admin: bool,
    vdp_admin: bool,
    jmx_admin: bool,
    /// The same as `vdpAdmin`.
    admin: bool,
    /// The same as `jmxAdmin`.
    jmxadmin: bool,
}

impl From<&OpCtx> for LoginBody {
    fn from(ctx: &OpCtx) -> LoginBody {
        let flags = flags(ctx.authority());
        LoginBody {
            user_name: ctx.actor().name().to_owned(),
            promotion_admin_environments: flags.promotion_admin_environments,
            promotion_environments: flags.promotion_environments,
            promotion: flags.promotion,
            promotion_admin: flags.promotion_admin,
            solution_manager_admin: flags.solution_manager_admin,
            vdp_admin: flags.vdp_admin,
            jmx_admin: flags.jmx_admin,
            admin: flags.vdp_admin,
            jmxadmin: flags.jmx_admin,
        }
    }
}
