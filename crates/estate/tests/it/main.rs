//! The estate's behaviour: every case on both metadata stores. The test sets the clock, and runs are awaited through
//! notices; nothing here sleeps or retries.

/// Instantiates each case on SQLite and on PostgreSQL, each with its own database.
macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let site = crate::support::Site::sqlite();
                super::$name(&site).await;
                site.remove().await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let site = crate::support::Site::postgres().await;
                super::$name(&site).await;
                site.remove().await;
            })*
        }
    };
}

/// Shared with the testkit: depending on it would bring the SQL engine into every build of the estate.
#[cfg(test)]
#[path = "../../../testkit/src/relay.rs"]
mod relay;
#[cfg(test)]
#[path = "../../../testkit/src/site.rs"]
mod site;

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod authority;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod events;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod inventory;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod lost_answers;
#[cfg(test)]
mod members;
#[cfg(test)]
mod migrations;
mod outbound_http;
#[cfg(test)]
mod planes;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod results;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod store;
#[cfg(test)]
mod support;
#[cfg(test)]
mod units;
#[cfg(test)]
mod visibility;
#[cfg(test)]
mod wire;
