-- The last deployment of a service before a moment is one step into the index when the index has the whole order.
DROP INDEX delivery_deployments_service;
CREATE INDEX delivery_deployments_service ON delivery_deployments (service_id, environment, deployed_at, id);
