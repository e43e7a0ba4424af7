//! Leases of servers, by a clock that the test moves, on both metadata stores.

use std::net::IpAddr;
use std::time::Duration;

use landreeve_core::source::CancellationToken;
use landreeve_core::{ErrorKind, OpCtx, OpKind};
use landreeve_estate::ops::{self, Network, Origin, sign_in};
use landreeve_estate::schedules;
use landreeve_promotion::PromotionOptions;
use landreeve_promotion::clusters::{ClusterFacts, cluster_create};
use landreeve_promotion::environments::{EnvironmentFacts, environment_create};
use landreeve_promotion::ids::ClusterId;
use landreeve_promotion::leases::{LeaseState, POLL, Released, lease_counts, lease_release, lease_states};
use landreeve_promotion::servers::{
    Server, ServerFacts, ServerType, server_create, server_delete, server_update,
};
use landreeve_testkit::{Kit, follow};

use crate::support::{World, on_both};

const DAY: u64 = 86_400;
const PORT: u16 = 9_999;

on_both! {
    a_lease_follows_its_server
    only_enabled_engines_of_this_store_have_leases
    an_address_is_released_in_every_unit
    only_trusted_networks_are_let_in
    ended_leases_are_deleted_after_90_days
    the_servers_are_polled_every_minute
}

async fn cluster_of(world: &World, ctx: &OpCtx, name: &str) -> ClusterId {
    let facts = EnvironmentFacts { name: name.to_owned(), ..EnvironmentFacts::default() };
    let environment = environment_create(&world.plane, ctx, facts.into()).await.unwrap();
    let facts = ClusterFacts {
        environment: Some(environment.id),
        name: name.to_owned(),
        enabled: true,
        ..ClusterFacts::default()
    };
    cluster_create(&world.plane, ctx, facts.into()).await.unwrap().id
}

fn embedded(name: &str, cluster: ClusterId, enabled: bool) -> ServerFacts {
    ServerFacts {
        cluster: Some(cluster),
        name: name.to_owned(),
        host: "embedded".to_owned(),
        port: Some(PORT),
        enabled,
        use_default_license_alias: true,
        ..ServerFacts::default()
    }
}

async fn made(world: &World, ctx: &OpCtx, facts: ServerFacts) -> Server {
    server_create(&world.plane, ctx, facts.into()).await.unwrap()
}

async fn poll(world: &World) {
    follow(&world.kit.estate, "promotion", POLL).await;
}

async fn state(world: &World, server: &Server) -> LeaseState {
    let leases = lease_states(&world.plane, std::slice::from_ref(server)).await.unwrap();
    leases.get(&server.id).copied().unwrap_or(LeaseState::Free)
}

fn let_in(world: &World, address: Option<&str>) -> landreeve_core::Result<OpCtx> {
    let estate = &world.kit.estate;
    let address = address.map(|address| address.parse::<IpAddr>().unwrap());
    let origin = Origin { request_id: estate.uuid(), address, kind: OpKind::Background };
    sign_in::by_network(estate, &[Network::parse("127.0.0.0/8").unwrap()], origin)
}

async fn release(world: &World, host: &str, port: u16) -> Released {
    let ctx = let_in(world, Some("127.0.0.1")).unwrap();
    lease_release(&world.plane, &ctx, host, port).await.unwrap()
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Poll,
    /// Seconds.
    Wait(u64),
    Enable(bool),
    Release(Released),
}

async fn a_lease_follows_its_server(world: World) -> Kit {
    use LeaseState::{Active, Free, Grace, Inactive};
    use Step::{Enable, Poll, Release, Wait};

    let cluster = cluster_of(&world, &world.ctx, "E").await;
    let server = made(&world, &world.ctx, embedded("dev", cluster, true)).await;
    assert_eq!(state(&world, &server).await, Free);
    for (index, (step, expected)) in [
        (Release(Released::Idle), Free),
        (Poll, Active),
        (Wait(60), Active),
        (Poll, Active),
        // The renewal is overdue two minutes after the last one.
        (Enable(false), Active),
        (Wait(120), Active),
        (Poll, Active),
        (Wait(1), Active),
        (Poll, Grace),
        (Poll, Grace),
        (Enable(true), Grace),
        (Poll, Active),
        // The lease ends after five days.
        (Enable(false), Active),
        (Wait(5 * DAY - 1), Active),
        (Poll, Grace),
        (Wait(1), Grace),
        (Poll, Inactive),
        (Poll, Inactive),
        (Release(Released::Idle), Inactive),
        // A server that is back has another one.
        (Enable(true), Inactive),
        (Poll, Active),
        (Release(Released::Ended(1)), Inactive),
        (Release(Released::Idle), Inactive),
        (Poll, Active),
        // From grace too.
        (Enable(false), Active),
        (Wait(DAY), Active),
        (Poll, Grace),
        (Release(Released::Ended(1)), Inactive),
        (Enable(true), Inactive),
        (Poll, Active),
        // There was no poll for six days: the lease has ended, although the server is there again.
        (Wait(6 * DAY), Active),
        (Poll, Active),
    ]
    .into_iter()
    .enumerate()
    {
        match step {
            Poll => poll(&world).await,
            Wait(seconds) => world.kit.clock.advance(Duration::from_secs(seconds)),
            Enable(enabled) => {
                let facts = embedded("dev", cluster, enabled);
                server_update(&world.plane, &world.ctx, server.id, facts.into()).await.unwrap();
            }
            Release(outcome) => assert_eq!(release(&world, "embedded", PORT).await, outcome, "{index}"),
        }
        assert_eq!(state(&world, &server).await, expected, "{index}: {step:?}");
    }
    let rows = world.kit.rows("SELECT end_reason, state FROM promotion_leases ORDER BY number").await;
    let ended = |reason: &str| vec![reason.to_owned(), "inactive".to_owned()];
    let expected = [
        ended("grace_period_exceeded"),
        ended("secure_shutdown"),
        ended("secure_shutdown"),
        ended("grace_period_exceeded"),
        vec!["NULL".to_owned(), "active".to_owned()],
    ];
    assert_eq!(rows, expected);
    let exceeded = "SELECT ended_at - renewed_at FROM promotion_leases WHERE number = 4";
    assert_eq!(world.kit.number(exceeded).await, 5 * 86_400_000_000);
    server_delete(&world.plane, &world.ctx, server.id).await.unwrap();
    assert_eq!(world.kit.number("SELECT count(*) FROM promotion_leases").await, 0);
    world.kit
}

async fn only_enabled_engines_of_this_store_have_leases(world: World) -> Kit {
    let cluster = cluster_of(&world, &world.ctx, "E").await;
    let remote = ServerFacts { host: "vdp.example.com".to_owned(), ..embedded("remote", cluster, true) };
    let scheduler = ServerFacts { kind: ServerType::Scheduler, ..embedded("scheduler", cluster, true) };
    let all = [
        made(&world, &world.ctx, embedded("on", cluster, true)).await,
        made(&world, &world.ctx, embedded("off", cluster, false)).await,
        made(&world, &world.ctx, remote).await,
        made(&world, &world.ctx, scheduler).await,
    ];
    poll(&world).await;
    let leases = lease_states(&world.plane, &all).await.unwrap();
    assert_eq!(leases.into_iter().collect::<Vec<_>>(), [(all[0].id, LeaseState::Active)]);
    assert!(lease_states(&world.plane, &[]).await.unwrap().is_empty());
    let counts: Vec<_> = lease_counts(&world.plane).await.unwrap().into_iter().collect();
    assert_eq!(counts, LeaseState::ALL.into_iter().zip([3, 1, 0, 0]).collect::<Vec<_>>());
    world.kit
}

async fn an_address_is_released_in_every_unit(world: World) -> Kit {
    let estate = &world.kit.estate;
    let unit = world.kit.ou("Research").await;
    let there = sign_in::operator_in(estate, unit.uuid).await.unwrap();
    let (here, elsewhere) =
        (cluster_of(&world, &world.ctx, "E").await, cluster_of(&world, &there, "E").await);
    let servers = [
        made(&world, &world.ctx, embedded("one", here, true)).await,
        made(&world, &there, embedded("two", elsewhere, true)).await,
    ];
    let other = ServerFacts { port: Some(PORT + 1), ..embedded("other", here, true) };
    let other = made(&world, &world.ctx, other).await;
    let remote = ServerFacts { host: "vdp.example.com".to_owned(), ..embedded("remote", here, true) };
    made(&world, &world.ctx, remote).await;
    poll(&world).await;
    for (host, port, outcome) in [
        ("embedded", 1, Released::Unknown),
        ("Embedded", PORT, Released::Unknown),
        ("embedded ", PORT, Released::Unknown),
        ("%", PORT, Released::Unknown),
        ("", PORT, Released::Unknown),
        ("vdp.example.com", PORT, Released::Idle),
        ("embedded", PORT, Released::Ended(2)),
        ("embedded", PORT, Released::Idle),
    ] {
        assert_eq!(release(&world, host, port).await, outcome, "{host}:{port}");
    }
    for server in &servers {
        assert_eq!(state(&world, server).await, LeaseState::Inactive);
    }
    assert_eq!(state(&world, &other).await, LeaseState::Active);
    let events = "SELECT detail, address, actor_kind FROM audit_events WHERE action = 'released' ORDER BY id";
    let event =
        |name: &str| vec![format!("lease of server {name}"), "127.0.0.1".to_owned(), "system".to_owned()];
    assert_eq!(world.kit.rows(events).await, [event("one"), event("two")]);
    let units = "SELECT count(DISTINCT ou_id) FROM audit_events WHERE action = 'released'";
    assert_eq!(world.kit.number(units).await, 2, "each event is in the unit of its server");
    world.kit
}

async fn only_trusted_networks_are_let_in(world: World) -> Kit {
    let ctx = let_in(&world, Some("127.8.8.8")).unwrap();
    let error = environment_create(&world.plane, &ctx, EnvironmentFacts::default().into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden, "it has no permissions");
    for address in [Some("10.0.0.1"), Some("::1"), None] {
        let error = let_in(&world, address).map(drop).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Forbidden, "{address:?}");
    }
    ops::audit::write_counted(&world.kit.estate, true).await.unwrap();
    let counted = "SELECT count(*) FROM audit_events WHERE detail = 'untrusted_network: 1 requests'";
    assert_eq!(world.kit.number(counted).await, 3);
    world.kit
}

async fn ended_leases_are_deleted_after_90_days(world: World) -> Kit {
    let cluster = cluster_of(&world, &world.ctx, "E").await;
    let server = made(&world, &world.ctx, embedded("dev", cluster, true)).await;
    poll(&world).await;
    assert_eq!(release(&world, "embedded", PORT).await, Released::Ended(1));
    let facts = embedded("dev", cluster, false);
    server_update(&world.plane, &world.ctx, server.id, facts.into()).await.unwrap();
    for (seconds, expected) in [(90 * DAY, LeaseState::Inactive), (1, LeaseState::Free)] {
        world.kit.clock.advance(Duration::from_secs(seconds));
        poll(&world).await;
        assert_eq!(state(&world, &server).await, expected);
    }
    assert_eq!(world.kit.number("SELECT count(*) FROM promotion_leases").await, 0);
    world.kit
}

async fn the_servers_are_polled_every_minute(world: World) -> Kit {
    let estate = world.kit.estate.clone();
    let cluster = cluster_of(&world, &world.ctx, "E").await;
    let server = made(&world, &world.ctx, embedded("dev", cluster, true)).await;
    world.kit.start_planes().await;
    schedules::ensure(&estate).await.unwrap();
    let schedule = schedules::get(&mut estate.store().read().await.unwrap(), "promotion", POLL).await;
    let next = schedule.unwrap().unwrap().next_at.unwrap();
    assert_eq!(next.to_string(), "2026-01-15T12:01:00Z");
    let stop = CancellationToken::new();
    let following = tokio::spawn(schedules::run(estate.clone(), stop.clone()));
    world.kit.clock.advance(Duration::from_secs(60));
    world.kit.wake_schedules();
    let active = async {
        while state(&world, &server).await != LeaseState::Active {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), active).await.unwrap();
    stop.cancel();
    following.await.unwrap();
    world.kit
}

/// The lease of the schedules and the lock on the due one keep nodes apart; a slow node may still be at it.
#[tokio::test]
async fn two_nodes_that_poll_together_open_one_lease_for_each_server() {
    let world = World::postgres().await;
    let cluster = cluster_of(&world, &world.ctx, "E").await;
    for number in 0..20 {
        made(&world, &world.ctx, embedded(&format!("s{number}"), cluster, true)).await;
    }
    let files = landreeve_testkit::files();
    let engine = world.kit.engine();
    let (plane, _) = landreeve_promotion::plane(engine, files, true, Vec::new(), PromotionOptions::default());
    let other = world.kit.beside(vec![plane]).await;
    tokio::join!(poll(&world), follow(&other, "promotion", POLL));
    assert_eq!(world.kit.number("SELECT count(*) FROM promotion_leases").await, 20);
    other.store().close().await;
    world.kit.remove().await;
}
