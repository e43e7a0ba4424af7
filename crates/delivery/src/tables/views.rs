//! Our views on the tables, in the engine's SQL.

/// Name and SELECT.
pub const VIEWS: &[(&str, &str)] = &[("dora_daily", DORA_DAILY)];

/// A row for each day (UTC), service and repository with activity in production.
const DORA_DAILY: &str = "\
SELECT day, service, repository, \
       sum(deployments) AS deployments, sum(failed_deployments) AS failed_deployments, \
       sum(changes) AS changes, max(lead_time_seconds) AS lead_time_seconds, \
       sum(incidents) AS incidents, max(recovery_seconds) AS recovery_seconds \
FROM ( \
  SELECT date_trunc('day', deployed_at) AS day, service, repository, \
         count(*) AS deployments, count(*) FILTER (WHERE failed) AS failed_deployments, \
         0 AS changes, CAST(NULL AS DOUBLE) AS lead_time_seconds, 0 AS incidents, CAST(NULL AS DOUBLE) AS recovery_seconds \
  FROM dora_deployments WHERE environment = 'production' AND success GROUP BY 1, 2, 3 \
  UNION ALL \
  SELECT date_trunc('day', deployed_at), service, repository, 0, 0, \
         count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY lead_time_seconds), 0, CAST(NULL AS DOUBLE) \
  FROM dora_changes WHERE environment = 'production' GROUP BY 1, 2, 3 \
  UNION ALL \
  SELECT date_trunc('day', started_at), service, repository, 0, 0, 0, CAST(NULL AS DOUBLE), \
         count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY recovery_seconds) \
  FROM dora_incidents GROUP BY 1, 2, 3 \
) AS parts GROUP BY day, service, repository";
