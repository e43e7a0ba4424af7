//! What a policy says, checked.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use landreeve_core::error::Faults;
use serde_json::Value;

use crate::keep::Keep;

/// Operations that make a backup here. They make the same one, so their goals count together.
pub const WORKING: [&str; 2] = ["aws_rds_resource_granular_backup", "aws_rds_resource_rolling_backup"];

/// Every documented type of operation (Clumio's policies). Those that do not work are kept.
const KINDS: [&str; 26] = [
    "aws_ebs_volume_backup",
    "aws_ebs_volume_snapshot",
    "aws_ec2_instance_backup",
    "aws_ec2_instance_snapshot",
    "ec2_mssql_database_backup",
    "ec2_mssql_log_backup",
    "aws_rds_resource_aws_snapshot",
    "aws_rds_resource_rolling_backup",
    "aws_rds_resource_granular_backup",
    "aws_rds_config_sync",
    "aws_dynamodb_table_backup",
    "aws_dynamodb_table_snapshot",
    "aws_dynamodb_table_pitr",
    "protection_group_backup",
    "aws_s3_continuous_backup",
    "aws_s3_backtrack",
    "aws_iceberg_table_backup",
    "gcp_protection_group_backup",
    "microsoft365_mailbox_backup",
    "microsoft365_onedrive_backup",
    "microsoft365_share_point_backup",
    "microsoft365_teams_backup",
    "oracle_database_backup",
    "oracle_log_backup",
    "vmware_vm_backup",
    "mssql_database_backup",
];

const MAX_NAME: usize = 255;
const MAX_OPERATIONS: usize = 20;
const MAX_SLAS: usize = 20;
/// Bytes of settings that are kept without effect.
const MAX_SETTINGS: usize = 8 * 1024;

#[derive(Debug, Clone)]
pub struct Rules {
    pub name: String,
    pub operations: Vec<Operation>,
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub kind: String,
    /// `None`: at any time.
    pub window: Option<Window>,
    pub zone: TimeZone,
    pub slas: Vec<Sla>,
    /// Name of the repository. `None`: `default`.
    pub repository: Option<String>,
    /// Kept, without effect.
    pub settings: Value,
}

impl Operation {
    pub fn works(&self) -> bool {
        WORKING.contains(&self.kind.as_str())
    }
}

/// When backups may run, in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub opens: Time,
    /// `None`: a backup is never cut off.
    pub closes: Option<Time>,
}

/// A goal: how often, and for how long what is made is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sla {
    pub frequency: Frequency,
    pub retention: Keep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frequency {
    /// Never by itself. Its retention is that of backups on demand.
    OnDemand,
    Every {
        count: i64,
        unit: Unit,
        /// For weeks: on which days, Sunday being 0. None: a week after the last.
        weekdays: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    /// With the greatest number of each: a hundred years.
    const ALL: [(Unit, &str, i64); 6] = [
        (Unit::Minute, "minutes", 52_596_000),
        (Unit::Hour, "hours", 876_600),
        (Unit::Day, "days", 36_525),
        (Unit::Week, "weeks", 5_218),
        (Unit::Month, "months", 1_200),
        (Unit::Year, "years", 100),
    ];

    pub fn as_str(self) -> &'static str {
        Unit::ALL.into_iter().find(|(unit, ..)| *unit == self).map_or("days", |known| known.1)
    }
}

/// What a caller states about a policy, with the names of the API.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewPolicy {
    pub name: String,
    /// Whether it makes backups.
    pub enabled: bool,
    pub operations: Vec<NewOperation>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewOperation {
    pub kind: String,
    /// `immediate` or `window`.
    pub action: String,
    /// `hh:mm` of its beginning and its end, which may be empty.
    pub window: Option<(String, String)>,
    /// Name of a time zone. `None`: UTC.
    pub zone: Option<String>,
    pub slas: Vec<NewSla>,
    pub repository: Option<String>,
    pub settings: Value,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewSla {
    /// Unit and value.
    pub retention: (String, i64),
    pub frequency: (String, i64),
    pub offsets: Vec<i64>,
}

impl Rules {
    /// Collects every fault. What comes back is complete if there was none.
    pub fn parse(new: &NewPolicy, faults: &mut Faults) -> Rules {
        if !(1..=MAX_NAME).contains(&new.name.trim().chars().count()) {
            faults.push("name", "length", format!("must have 1 to {MAX_NAME} characters"));
        }
        match new.operations.len() {
            0 => faults.push("operations", "required", "must have at least one operation"),
            count if count > MAX_OPERATIONS => {
                faults.push(
                    "operations",
                    "too_many",
                    format!("must have at most {MAX_OPERATIONS} operations"),
                );
            }
            _ => {}
        }
        let operations = new.operations.iter().take(MAX_OPERATIONS).enumerate();
        let operations = operations.map(|(at, new)| operation(&format!("operations.{at}"), new, faults));
        Rules { operations: operations.collect(), name: new.name.trim().to_owned() }
    }
}

fn operation(at: &str, new: &NewOperation, faults: &mut Faults) -> Operation {
    if !KINDS.contains(&new.kind.as_str()) && new.kind != "mssql_log_backup" {
        faults.push(format!("{at}.type"), "enum", format!("{:?} is not a type of operation", new.kind));
    }
    let zone = match new.zone.as_deref().filter(|zone| !zone.is_empty()) {
        Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
            faults.push(format!("{at}.timezone"), "time_zone", format!("{name:?} is not a time zone"));
            TimeZone::UTC
        }),
        None => TimeZone::UTC,
    };
    let window = match new.action.as_str() {
        "immediate" => None,
        "window" => window(&format!("{at}.backup_window_tz"), new.window.as_ref(), faults),
        _ => {
            faults.push(format!("{at}.action_setting"), "enum", "must be immediate or window");
            None
        }
    };
    match new.slas.len() {
        0 => faults.push(format!("{at}.slas"), "required", "must have at least one SLA"),
        count if count > MAX_SLAS => {
            faults.push(format!("{at}.slas"), "too_many", format!("must have at most {MAX_SLAS} SLAs"));
        }
        _ => {}
    }
    if new.settings.to_string().len() > MAX_SETTINGS {
        faults.push(
            format!("{at}.advanced_settings"),
            "length",
            format!("is longer than {MAX_SETTINGS} bytes"),
        );
    }
    let slas = new.slas.iter().take(MAX_SLAS).enumerate();
    let slas = slas.filter_map(|(index, new)| sla(&format!("{at}.slas.{index}"), new, faults));
    Operation {
        slas: slas.collect(),
        kind: new.kind.clone(),
        window,
        zone,
        repository: new.repository.clone().filter(|name| !name.is_empty()),
        settings: new.settings.clone(),
    }
}

fn window(at: &str, given: Option<&(String, String)>, faults: &mut Faults) -> Option<Window> {
    let Some((opens, closes)) = given else {
        faults.push(at, "required", "is required if action_setting is window");
        return None;
    };
    let mut time = |name: &str, text: &str| {
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts = text.split_once(':').filter(|(hour, minute)| digits(hour) && digits(minute));
        let time =
            parts.and_then(|(hour, minute)| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok());
        if time.is_none() {
            faults.push(format!("{at}.{name}"), "format", "must be a time such as 02:30");
        }
        time
    };
    let opens = time("start_time", opens);
    let closes = if closes.is_empty() { None } else { Some(time("end_time", closes)) };
    let window = Window { opens: opens?, closes: closes.map_or(Some(None), |time| time.map(Some))? };
    if window.closes == Some(window.opens) {
        faults.push(format!("{at}.end_time"), "empty", "must differ from start_time");
    }
    Some(window)
}

fn sla(at: &str, new: &NewSla, faults: &mut Faults) -> Option<Sla> {
    let (unit, value) = &new.retention;
    let retention = Keep::of(unit, *value).map_err(|message| {
        faults.push(format!("{at}.retention_duration"), "range", message);
    });
    let frequency = frequency(&format!("{at}.rpo_frequency"), new, faults);
    Some(Sla { retention: retention.ok()?, frequency: frequency? })
}

fn frequency(at: &str, new: &NewSla, faults: &mut Faults) -> Option<Frequency> {
    let (unit, value) = &new.frequency;
    if unit == "on_demand" {
        return Some(Frequency::OnDemand);
    }
    // Both are in use.
    let unit = if unit == "weekly" { "weeks" } else { unit };
    let Some((unit, name, most)) = Unit::ALL.into_iter().find(|known| known.1 == unit) else {
        let known: Vec<&str> = Unit::ALL.iter().map(|known| known.1).collect();
        faults.push(format!("{at}.unit"), "enum", format!("must be one of {}, on_demand", known.join(", ")));
        return None;
    };
    if !(1..=most).contains(value) {
        faults.push(format!("{at}.value"), "range", format!("must be from 1 to {most} {name}"));
        return None;
    }
    let mut weekdays: Vec<u8> = new.offsets.iter().filter_map(|day| u8::try_from(*day).ok()).collect();
    if weekdays.iter().any(|day| *day > 6) || weekdays.len() < new.offsets.len() {
        faults.push(format!("{at}.offsets"), "range", "must be days of the week, from 0 (Sunday) to 6");
        return None;
    }
    if !weekdays.is_empty() && unit != Unit::Week {
        faults.push(format!("{at}.offsets"), "not_used", "can only be given for weeks");
        return None;
    }
    weekdays.sort_unstable();
    weekdays.dedup();
    Some(Frequency::Every { count: *value, unit, weekdays })
}
