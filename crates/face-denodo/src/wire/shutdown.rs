//! The parameters and the response of `externalShutdown`.

use landreeve_core::error::{Faults, codes};
use landreeve_core::{Error, Fault, Result};
use landreeve_http::extract::Query;
use landreeve_promotion::leases::Released;
use serde::Serialize;
use utoipa::ToSchema;

/// The only product whose servers hold leases.
const PRODUCT: &str = "VDP";

/// Which server has stopped.
pub struct ShutdownQuery {
    pub host: String,
    pub port: u16,
    product: String,
}

impl ShutdownQuery {
    /// Parameters that it does not know are ignored, as clients of later versions send more. An empty one counts as absent.
    pub fn parse(query: &Query) -> Result<ShutdownQuery> {
        let text = |name: &str| query.text(name).filter(|text| !text.is_empty());
        let mut faults = Faults::default();
        let host = match (text("nodeIp"), text("hostDomainName")) {
            (Some(host), None) | (None, Some(host)) => host,
            (None, None) => {
                faults.push("nodeIp", codes::REQUIRED, "or hostDomainName is required");
                ""
            }
            (Some(_), Some(_)) => {
                faults.push("hostDomainName", "exclusive", "cannot be combined with nodeIp");
                ""
            }
        };
        let port = faults.take(query.int("port", 1..=65_535));
        if port == Some(None) {
            faults.add(Fault::required("port"));
        }
        let product = text("product").unwrap_or_default();
        if product.is_empty() {
            faults.add(Fault::required("product"));
        }
        faults.finish()?;
        let port = u16::try_from(port.flatten().unwrap_or(0)).map_err(Error::internal)?;
        Ok(ShutdownQuery { host: host.to_owned(), port, product: product.to_owned() })
    }

    pub fn is_known_product(&self) -> bool {
        self.product == PRODUCT
    }
}

/// What became of the lease.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShutdownBody {
    /// `OK` if a lease was released, otherwise `ERROR`.
    #[schema(pattern = "^(OK|ERROR)$")]
    result: &'static str,
    message: String,
}

impl ShutdownBody {
    pub fn unknown_product(query: &ShutdownQuery) -> ShutdownBody {
        let message = format!("unknown product {:?}; only {PRODUCT} is supported", query.product);
        ShutdownBody { result: "ERROR", message }
    }

    pub fn new(query: &ShutdownQuery, released: Released) -> ShutdownBody {
        let ShutdownQuery { host, port, .. } = query;
        let (result, message) = match released {
            Released::Unknown => (
                "ERROR",
                format!("no {PRODUCT} server is registered with the host {host} and the port {port}"),
            ),
            Released::Idle => ("ERROR", format!("the {PRODUCT} server {host}:{port} holds no license")),
            Released::Ended(1) => {
                ("OK", format!("released the license of the {PRODUCT} server {host}:{port}"))
            }
            Released::Ended(count) => {
                ("OK", format!("released the licenses of {count} {PRODUCT} servers at {host}:{port}"))
            }
        };
        ShutdownBody { result, message }
    }
}
