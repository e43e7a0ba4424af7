//! Turns events into delivery data: a finished promotion is a deployment, a failing monitor is an incident.

use jiff::Timestamp;
use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, ErrorKind, Given, Result};
use landreeve_estate::events::{Delivered, Event, Promoted, Subscriber};
use landreeve_estate::ops;

use crate::Delivery;
use crate::deployments::{DeploymentFacts, deployment_by_event};
use crate::incidents::{IncidentFacts, upsert};
use crate::metadata::Metadata;
use crate::names::ServiceName;
use crate::text::RESERVED_PREFIX;

/// Receives events and records them as delivery data. Recording an event twice changes nothing.
pub struct Hear(pub Delivery);

impl Subscriber for Hear {
    fn name(&self) -> &'static str {
        "delivery"
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let heard = match &event.event {
                Event::DeploymentFinished {
                    deployment,
                    service,
                    environment,
                    success,
                    finished_at,
                    details,
                } => {
                    let facts = DeploymentFacts {
                        deployed_at: Some(*finished_at),
                        service: Some(ServiceName { identifier: service.clone(), name: None }),
                        environment: Some(environment.clone()),
                        success: Some(*success),
                        source_name: Some("Landreeve".to_owned()),
                        metadata: details.as_ref().map(metadata).transpose()?,
                        ..DeploymentFacts::default()
                    };
                    self.deployment(event, reference(*deployment, service, details.as_ref()), facts).await
                }
                Event::MonitorChanged { monitor, name, service, failing, at } => {
                    self.monitor(event, *monitor, name, service.as_deref(), *failing, *at).await
                }
                Event::RunFinished { .. } | Event::DatasourceChanged { .. } => Ok(()),
            };
            heard.or_else(|error| step_over(event, error))
        })
    }
}

/// A promotion changes several virtual databases, and each of them is a service with a deployment of its own. Before there
/// were details, there was one deployment for all.
fn reference(deployment: i64, service: &str, details: Option<&Promoted>) -> String {
    match details {
        Some(_) => format!("{RESERVED_PREFIX}promotion:{deployment}:{service}"),
        None => format!("{RESERVED_PREFIX}promotion:{deployment}"),
    }
}

fn metadata(details: &Promoted) -> Result<Metadata> {
    Metadata::new(serde_json::to_value(details).map_err(Error::internal)?)
}

/// An event that can never be recorded must not block the ones after it.
fn step_over(event: &Delivered, error: Error) -> Result<()> {
    match error.kind {
        ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::NotFound => {
            tracing::warn!(event = event.id.0, %error, "could not record an event as delivery data");
            Ok(())
        }
        _ => Err(error),
    }
}

impl Hear {
    async fn deployment(&self, event: &Delivered, reference: String, facts: DeploymentFacts) -> Result<()> {
        let ctx = ops::sign_in::system_in(self.0.estate(), event.ou).await?;
        deployment_by_event(&self.0, &ctx, reference, facts).await.map(drop)
    }

    /// A failing monitor opens an incident; its recovery resolves the open one.
    async fn monitor(
        &self,
        event: &Delivered,
        monitor: i64,
        name: &str,
        service: Option<&str>,
        failing: bool,
        at: Timestamp,
    ) -> Result<()> {
        let estate = self.0.estate();
        let ctx = ops::sign_in::system_in(estate, event.ou).await?;
        let open = crate::incidents::open_of_monitor(estate, event.ou, monitor).await?;
        match (failing, open) {
            (true, None) => {
                let services =
                    service.map(|service| vec![ServiceName { identifier: service.to_owned(), name: None }]);
                let facts = IncidentFacts {
                    started_at: Some(at),
                    name: Given::Value(format!("{name} is failing")),
                    services: services.map_or(Given::Absent, Given::Value),
                    ..IncidentFacts::default()
                };
                // The reference contains the event's number, so that the same event finds its incident again.
                upsert(
                    &self.0,
                    &ctx,
                    format!("{RESERVED_PREFIX}monitor:{monitor}:{}", event.id),
                    facts.into(),
                )
                .await
                .map(drop)
            }
            (false, Some((reference, started_at))) => {
                let facts = IncidentFacts {
                    resolved_at: Given::Value(at.max(started_at)),
                    ..IncidentFacts::default()
                };
                upsert(&self.0, &ctx, reference, facts.into()).await.map(drop)
            }
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }
}
