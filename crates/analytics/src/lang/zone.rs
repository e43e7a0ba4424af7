//! Time zones by name, from the compiled-in database, and the clock changes that a server without one needs.

use std::fmt;
use std::sync::LazyLock;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, civil};

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A zone with a name that every database knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    pub fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// Finds a zone of the IANA database. Its name gets the database's spelling.
    pub fn find(name: &str) -> Option<Zone> {
        let rules = DATABASE.get(name).ok().filter(|zone| !zone.is_unknown())?;
        Some(Zone { name: rules.iana_name()?.to_owned(), rules })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn rules(&self) -> &TimeZone {
        &self.rules
    }

    /// The local time in the zone.
    pub fn wall(&self, instant: Timestamp) -> civil::DateTime {
        self.rules.to_datetime(instant)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

/// How far one zone is ahead of another, as a list of changes in local time of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shifts {
    /// Before the first change.
    pub first: i64,
    /// From this local time on, this many seconds.
    pub changes: Vec<(civil::DateTime, i64)>,
}

/// More changes than this would make an unusable statement; two hundred years of daylight saving time have fewer.
const MAX_CHANGES: usize = 512;

/// Every change of either zone between the two times, which may be the same. `None`: there are too many.
pub fn shifts(from: &Zone, to: &Zone, begin: Timestamp, end: Timestamp) -> Option<Shifts> {
    let day = SignedDuration::from_hours(24);
    // One more day on each side, for neighbours in the other zone and values slightly outside the range.
    let begin = begin.checked_sub(day).unwrap_or(Timestamp::MIN);
    let end = end.checked_add(day).unwrap_or(Timestamp::MAX);
    let mut instants = Vec::new();
    for zone in [from, to] {
        let inside = zone.rules.following(begin).map(|change| change.timestamp());
        instants.extend(inside.take_while(|at| *at <= end).take(MAX_CHANGES + 1));
    }
    instants.sort_unstable();
    instants.dedup();
    if instants.len() > MAX_CHANGES {
        return None;
    }
    let ahead = |at: Timestamp| seconds(to.rules.to_offset(at)) - seconds(from.rules.to_offset(at));
    let first = ahead(begin);
    let mut last = first;
    let mut changes = Vec::new();
    for at in instants {
        let shift = ahead(at);
        if shift != last {
            changes.push((wall_of_change(from, at), shift));
            last = shift;
        }
    }
    Some(Shifts { first, changes })
}

/// Whether a zone's clocks never change.
pub fn is_fixed(zone: &Zone) -> bool {
    zone.rules.following(Timestamp::MIN).next().is_none()
}

fn seconds(offset: Offset) -> i64 {
    i64::from(offset.seconds())
}

/// The local time from which a change applies. A repeated hour means the first one, and a skipped hour is read with the
/// old offset: in both cases the border is the later of the two local times.
fn wall_of_change(zone: &Zone, at: Timestamp) -> civil::DateTime {
    let before = at.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(at);
    let old = zone.rules.to_offset(before);
    let new = zone.rules.to_offset(at);
    old.to_datetime(at).max(new.to_datetime(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::find(name).unwrap()
    }

    #[test]
    fn names_have_the_spelling_of_the_database() {
        assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
        assert_eq!(zone("UTC").name(), "UTC");
        assert!(Zone::find("Europe/Atlantis").is_none());
        assert!(Zone::find("Etc/Unknown").is_none());
        assert!(Zone::find("").is_none());
        assert!(is_fixed(&zone("UTC")) && is_fixed(&zone("Etc/GMT+5")) && !is_fixed(&zone("Europe/Berlin")));
    }

    #[test]
    fn finds_both_changes_of_berlin_in_2024() {
        let year = |from: &str, to: &str| {
            let at = |text: &str| text.parse::<Timestamp>().unwrap();
            shifts(&zone(from), &zone(to), at("2024-01-01T00:00:00Z"), at("2024-12-31T00:00:00Z")).unwrap()
        };
        let wall = |text: &str| text.parse::<civil::DateTime>().unwrap();
        assert_eq!(
            year("UTC", "Europe/Berlin"),
            Shifts {
                first: 3600,
                changes: vec![(wall("2024-03-31T01:00:00"), 7200), (wall("2024-10-27T01:00:00"), 3600)]
            }
        );
        assert_eq!(
            year("Europe/Berlin", "UTC"),
            Shifts {
                first: -3600,
                changes: vec![(wall("2024-03-31T03:00:00"), -7200), (wall("2024-10-27T03:00:00"), -3600)]
            }
        );
        // Both change at the same instant, so nothing changes between them.
        assert_eq!(year("Europe/Berlin", "Europe/London"), Shifts { first: -3600, changes: vec![] });
        assert_eq!(year("Europe/Berlin", "America/New_York").changes.len(), 4);
    }

    #[test]
    fn rejects_too_many_changes() {
        let far = "9000-01-01T00:00:00Z".parse().unwrap();
        assert!(shifts(&Zone::utc(), &zone("Europe/Berlin"), Timestamp::UNIX_EPOCH, far).is_none());
    }
}
