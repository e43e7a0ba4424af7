//! The plane's behaviour: every case on both metadata stores, with the real SQL engine. The test sets the clock;
//! nothing here sleeps or retries.

/// Instantiates each case on SQLite and on PostgreSQL, each with its own database.
macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let world = crate::support::World::sqlite().await;
                super::$name(&world).await;
                world.kit.remove().await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let world = crate::support::World::postgres().await;
                super::$name(&world).await;
                world.kit.remove().await;
            })*
        }
    };
}

#[cfg(test)]
mod attribution;
#[cfg(test)]
mod attribution_model;
#[cfg(test)]
mod custom_data;
#[cfg(test)]
mod deployments;
#[cfg(test)]
mod events;
#[cfg(test)]
mod incidents;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod people;
#[cfg(test)]
mod pipelines;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
