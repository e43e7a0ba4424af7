//! The body of the response to a sign-in.

use landreeve_core::OpCtx;
use serde::Serialize;
use utoipa::ToSchema;

use crate::permissions::roles;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginBody {
    user_name: String,
    promotion_admin: bool,
    admin: bool,
    jmxadmin: bool,
}

impl From<&OpCtx> for LoginBody {
    fn from(ctx: &OpCtx) -> LoginBody {
        let roles = roles(ctx.authority());
        LoginBody {
            user_name: ctx.actor().name().to_owned(),
            promotion_admin: roles.promotion_admin,
            admin: roles.admin,
            jmxadmin: roles.jmx_admin,
        }
    }
}
