//! The time zone of a dashboard: its rule, and what the parameter language gets from it.

use crate::lang::{Zone, ZoneChoice};

/// The zone of the dashboard's times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ZoneConfig {
    pub rule: ZoneRule,
    pub fixed: Option<String>,
    pub allowed: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZoneRule {
    /// The data's zone.
    #[default]
    Disabled,
    Organization,
    Fixed,
    UserSelectable,
}

impl ZoneRule {
    pub const ALL: [ZoneRule; 4] =
        [ZoneRule::Disabled, ZoneRule::Organization, ZoneRule::Fixed, ZoneRule::UserSelectable];

    pub const fn as_str(self) -> &'static str {
        match self {
            ZoneRule::Disabled => "disabled",
            ZoneRule::Organization => "organization",
            ZoneRule::Fixed => "fixed",
            ZoneRule::UserSelectable => "user_selectable",
        }
    }

    pub fn parse(text: &str) -> Option<ZoneRule> {
        ZoneRule::ALL.into_iter().find(|rule| rule.as_str() == text)
    }
}

impl ZoneConfig {
    /// The zone of the dashboard, and the zones that a viewer can choose instead.
    pub(crate) fn resolve(&self, organization: &str) -> (Option<Zone>, ZoneChoice) {
        let fixed = || self.fixed.as_deref().and_then(Zone::find);
        match self.rule {
            ZoneRule::Disabled => (None, ZoneChoice::Fixed),
            ZoneRule::Organization => (Zone::find(organization), ZoneChoice::Fixed),
            ZoneRule::Fixed => (fixed(), ZoneChoice::Fixed),
            ZoneRule::UserSelectable if self.allowed.is_empty() => (fixed(), ZoneChoice::Any),
            ZoneRule::UserSelectable => {
                let allowed = self.allowed.iter().filter_map(|name| Zone::find(name)).collect();
                (fixed(), ZoneChoice::OneOf(allowed))
            }
        }
    }
}
