//! The estate's settings.

use landreeve_core::{Action, ErrorKind, Noun, Permission};
use landreeve_estate::ops::settings::{NAMES, settings_get, settings_update};
use landreeve_estate::ops::sign_in::operator;
use landreeve_estate::ops::{CsvSeparator, Settings, WeekStart};

use crate::support::{Site, caller};

conformance![
    settings_change_together_or_not_at_all,
    concurrent_changes_are_all_kept,
    settings_need_their_permission
];

fn changes(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn settings_change_together_or_not_at_all(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    assert_eq!(settings_get(&estate, &ctx).await.unwrap(), Settings::default());
    let wrong = changes(&[
        ("week_start", "sunday"),
        ("time_zone", "Europe/Atlantis"),
        ("csv_separator", "pipe"),
        ("audit_days", "0"),
        ("color", "red"),
    ]);
    let error = settings_update(&estate, &ctx, wrong).await.unwrap_err();
    let faults: Vec<(&str, &str)> =
        error.faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        faults,
        [
            ("time_zone", "time_zone"),
            ("csv_separator", "enum"),
            ("audit_days", "range"),
            ("color", "unknown")
        ]
    );
    for name in NAMES {
        assert!(error.faults[3].message.contains(name), "it lists the settings");
    }
    assert_eq!(settings_get(&estate, &ctx).await.unwrap(), Settings::default(), "all or none");
    let right = changes(&[
        ("week_start", "sunday"),
        ("time_zone", "Europe/Berlin"),
        ("csv_separator", "tab"),
        ("audit_days", "36500"),
    ]);
    let settings = settings_update(&estate, &ctx, right).await.unwrap();
    assert_eq!(settings.week_start, WeekStart::Sunday);
    assert_eq!((settings.csv_separator, settings.audit_days), (CsvSeparator::Tab, 36_500));
    assert_eq!(settings_get(&estate, &ctx).await.unwrap(), settings);
    estate.store().close().await;
    let again = site.open().await;
    assert_eq!(again.settings().await.unwrap(), settings);
}

async fn concurrent_changes_are_all_kept(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    for (zone, days) in
        [("Europe/Berlin", "30"), ("Asia/Tokyo", "60"), ("UTC", "90"), ("Europe/Paris", "120")]
    {
        let (one, two, three) = tokio::join!(
            settings_update(&estate, &ctx, changes(&[("time_zone", zone)])),
            settings_update(&estate, &ctx, changes(&[("audit_days", days)])),
            settings_update(&estate, &ctx, changes(&[("csv_separator", "semicolon")])),
        );
        for changed in [one, two, three] {
            changed.unwrap();
        }
        let now = settings_get(&estate, &ctx).await.unwrap();
        assert_eq!((now.time_zone.as_str(), now.audit_days.to_string().as_str()), (zone, days));
        assert_eq!(now.csv_separator, CsvSeparator::Semicolon);
        settings_update(&estate, &ctx, changes(&[("csv_separator", "comma")])).await.unwrap();
    }
}

async fn settings_need_their_permission(site: &Site) {
    let estate = site.open().await;
    let ctx = caller(&estate, None, &[Permission::new(Noun::SETTING, Action::VIEW)]).await;
    settings_get(&estate, &ctx).await.unwrap();
    let refused = settings_update(&estate, &ctx, changes(&[("week_start", "sunday")])).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Forbidden);
    let ctx = caller(&estate, None, &[]).await;
    assert_eq!(settings_get(&estate, &ctx).await.unwrap_err().kind, ErrorKind::Forbidden);
}
