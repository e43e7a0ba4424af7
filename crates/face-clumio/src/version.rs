//! Reads the requested version of a resource from the `Accept` header.

use http::HeaderMap;
use http::header::ACCEPT;
use landreeve_core::{Error, Result};
use landreeve_http::negotiate::accepted;

/// A resource and its versions, newest first.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: &'static str,
    pub versions: &'static [u32],
}

pub const USERS: Resource = Resource { name: "users", versions: &[2, 1] };
/// Operations that only one version has.
pub const USERS_V1: Resource = Resource { name: "users", versions: &[1] };
pub const USERS_V2: Resource = Resource { name: "users", versions: &[2] };
pub const ROLES: Resource = Resource { name: "roles", versions: &[1] };
pub const TASKS: Resource = Resource { name: "tasks", versions: &[1] };
pub const ENVIRONMENTS: Resource = Resource { name: "aws-environments", versions: &[1] };
pub const RESOURCES: Resource = Resource { name: "aws-rds-resources", versions: &[1] };
pub const BACKUPS: Resource = Resource { name: "backup-aws-rds-resources", versions: &[1] };
pub const DATABASES: Resource = Resource { name: "backup-aws-rds-resource-databases", versions: &[1] };
pub const TABLES: Resource = Resource { name: "backup-aws-rds-resource-database-tables", versions: &[1] };
pub const RESTORES: Resource = Resource { name: "restored-aws-rds-resources", versions: &[1] };
pub const RECORDS: Resource = Resource { name: "aws-rds-resource-restored-records", versions: &[1] };
pub const INDIVIDUAL_ALERTS: Resource = Resource { name: "individual-alerts", versions: &[1] };
pub const ORGANIZATIONAL_UNITS: Resource = Resource { name: "organizational-units", versions: &[2, 1] };
pub const AUDIT_TRAILS: Resource = Resource { name: "audit-trails", versions: &[1] };
pub const GENERAL_SETTINGS: Resource = Resource { name: "general-settings", versions: &[2] };
pub const CONSOLIDATED_ALERTS: Resource = Resource { name: "consolidated-alerts", versions: &[1] };
pub const POLICY_ASSIGNMENTS: Resource = Resource { name: "policy-assignments", versions: &[1] };
pub const POLICY_DEFINITIONS: Resource = Resource { name: "policy-definitions", versions: &[1] };
pub const ALL: [&Resource; 17] = [
    &AUDIT_TRAILS,
    &ENVIRONMENTS,
    &RESOURCES,
    &RECORDS,
    &TABLES,
    &DATABASES,
    &BACKUPS,
    &CONSOLIDATED_ALERTS,
    &GENERAL_SETTINGS,
    &INDIVIDUAL_ALERTS,
    &ORGANIZATIONAL_UNITS,
    &POLICY_ASSIGNMENTS,
    &POLICY_DEFINITIONS,
    &RESTORES,
    &ROLES,
    &TASKS,
    &USERS,
];

const PREFIX: &str = "application/api.clumio.";
const SUFFIX: &str = "+json";
/// Media types that accept any version.
const ANY: [&str; 3] = ["*/*", "application/*", "application/json"];

impl Resource {
    pub fn newest(&self) -> u32 {
        self.versions.first().copied().unwrap_or(1)
    }

    /// The media type of responses in this version.
    pub fn media_type(&self, version: u32) -> String {
        format!("{PREFIX}{}=v{version}{SUFFIX}", self.name)
    }

    /// The requested version: the resource's own entry, otherwise the wildcard, otherwise the newest.
    pub fn version(&self, headers: &HeaderMap) -> Result<u32> {
        let ranges = accepted(headers);
        if let Some(range) = ranges.iter().find(|range| range.essence.starts_with(PREFIX)) {
            return self.named(&range.essence).ok_or_else(|| self.unknown(Some(range.essence.as_str())));
        }
        let empty = headers.get_all(ACCEPT).iter().all(|value| value.as_bytes().trim_ascii().is_empty());
        if empty || ranges.iter().any(|range| ANY.contains(&range.essence.as_str())) {
            return Ok(self.newest());
        }
        Err(self.unknown(None))
    }

    /// `application/api.clumio.*=v2&users=v1+json`
    fn named(&self, essence: &str) -> Option<u32> {
        let (mut own, mut wildcard) = (None, None);
        // The dialect's own examples escape the star.
        let essence = essence.replace("\\*", "*");
        for entry in essence.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split('&') {
            let (name, version) = entry.split_once("=v")?;
            let version: u32 = version.parse().ok()?;
            match name {
                "*" => wildcard = Some(version),
                name if name == self.name => own = Some(version),
                name if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {}
                _ => return None,
            }
        }
        match (own, wildcard) {
            (Some(version), _) => self.versions.contains(&version).then_some(version),
            // The resource's newest version up to this one, if any resource has this version.
            (None, Some(version)) => {
                let known = ALL.iter().any(|resource| resource.versions.contains(&version));
                self.versions.iter().copied().find(|own| known && *own <= version)
            }
            (None, None) => Some(self.newest()),
        }
    }

    fn unknown(&self, asked: Option<&str>) -> Error {
        let asked = asked.map(|asked| format!(": {asked}")).unwrap_or_default();
        let offered: Vec<_> = self.versions.iter().map(|version| self.media_type(*version)).collect();
        let message =
            format!("does not match any version of {}{asked}; use {}", self.name, offered.join(" or "));
        Error::fault("Accept", "version", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn asked(resource: &Resource, accept: &str) -> Option<u32> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        resource.version(&headers).ok()
    }

    #[test]
    fn reads_versions_as_documented() {
        assert_eq!(USERS.version(&HeaderMap::new()).unwrap(), 2);
        for (accept, users, tasks) in [
            ("", Some(2), Some(1)),
            ("*/*", Some(2), Some(1)),
            ("application/json", Some(2), Some(1)),
            ("text/html, */*;q=0.8", Some(2), Some(1)),
            ("application/api.clumio.users=v1+json", Some(1), Some(1)),
            ("Application/Api.Clumio.Users=V2+JSON", Some(2), Some(1)),
            ("application/api.clumio.*=v1+json", Some(1), Some(1)),
            ("application/api.clumio.*=v2+json", Some(2), Some(1)),
            (r"application/api.clumio.\*=v1+json", Some(1), Some(1)),
            (r"application/api.clumio.\users=v1+json", None, None),
            ("application/api.clumio.*=v2&users=v1&tasks=v1+json", Some(1), Some(1)),
            ("application/api.clumio.*=v2&users=v3&tasks=v1+json", None, Some(1)),
            ("application/api.clumio.*=v1, */*", None, None),
            ("application/api.clumio.*=v3+json", None, None),
            ("application/api.clumio.*=v0+json", None, None),
            ("application/api.clumio.users+json", None, None),
            ("application/api.clumio.+json", None, None),
            ("application/api.clumio.a b=v1+json", None, None),
            ("application/api.clumio.users=v99999999999+json", None, None),
            ("text/html", None, None),
            ("nonsense", None, None),
        ] {
            assert_eq!((asked(&USERS, accept), asked(&TASKS, accept)), (users, tasks), "{accept}");
        }
    }
}
