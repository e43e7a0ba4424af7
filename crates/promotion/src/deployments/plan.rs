//! What a deployment does, in which order: groups of what is out of service together, and a task for each step.
//!
//! Computes only. Does not belong here: rows, scripts, nodes.

use crate::clusters::Cluster;
use crate::configuration::{Configuration, DeploymentType, Strategy};
use crate::ids::{ClusterId, ServerId};
use crate::servers::{Server, ServerType};

/// A cluster of the environment with the servers that are deployed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub id: ClusterId,
    pub name: String,
    pub enabled: bool,
    pub servers: Vec<Spot>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub id: ServerId,
    pub name: String,
    pub enabled: bool,
}

impl Place {
    /// Deployments go to it.
    pub fn is_enabled(&self) -> bool {
        self.enabled && self.servers.iter().any(|server| server.enabled)
    }

    pub fn enabled_servers(&self) -> impl Iterator<Item = &Spot> {
        self.servers.iter().filter(|server| self.enabled && server.enabled)
    }
}

/// In their order, without servers of other types.
pub fn places(topology: &[(Cluster, Vec<Server>)]) -> Vec<Place> {
    let spot = |server: &Server| Spot { id: server.id, name: server.name.clone(), enabled: server.enabled };
    let place = |(cluster, servers): &(Cluster, Vec<Server>)| Place {
        id: cluster.id,
        name: cluster.name.clone(),
        enabled: cluster.enabled,
        servers: servers.iter().filter(|server| server.kind == ServerType::Vdp).map(spot).collect(),
    };
    topology.iter().map(place).collect()
}

/// What is taken out of service as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Cluster(ClusterId),
    Server(ServerId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Out,
    Back,
}

/// What a task is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Says that a cluster or server is disabled.
    Disabled,
    Script(Unit, Direction),
    /// A revision, by its position, on a server.
    Vql(ServerId, usize),
    /// Commits what a server has.
    Backup(ServerId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTask {
    pub step: Step,
    pub name: String,
    pub cluster: (ClusterId, String),
    pub server: Option<(ServerId, String)>,
}

pub const VQL: &str = "VQL";
pub const SCRIPT_SERVER: &str = "SCRIPT_SERVER";
pub const SCRIPT_CLUSTER: &str = "SCRIPT_CLUSTER";
pub const BACKUP: &str = "BACKUP";
pub const ROLLBACK: &str = "ROLLBACK";
pub const RECOVERY: &str = "RECOVERY";

impl PlannedTask {
    /// The type of the task.
    pub fn kind(&self) -> &'static str {
        match (&self.step, &self.server) {
            (Step::Disabled, Some(_)) => "SERVER_DEPLOYMENT",
            (Step::Disabled, None) => "CLUSTER_DEPLOYMENT",
            (Step::Script(Unit::Server(_), _), _) => SCRIPT_SERVER,
            (Step::Script(Unit::Cluster(_), _), _) => SCRIPT_CLUSTER,
            (Step::Vql(..), _) => VQL,
            (Step::Backup(_), _) => BACKUP,
        }
    }
}

/// A server that is deployed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub cluster: ClusterId,
    pub id: ServerId,
    pub name: String,
}

/// What is out of service at the same time, with its servers. Without scripts there are no units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub units: Vec<Unit>,
    pub targets: Vec<Target>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub groups: Vec<Group>,
    pub tasks: Vec<PlannedTask>,
}

impl Plan {
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.groups.iter().flat_map(|group| &group.targets)
    }
}

/// What the plan follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// Servers are taken out of service before they change.
    pub no_downtime: bool,
    pub clusters: Strategy,
    pub servers: Strategy,
    /// What the first server has is committed at the end.
    pub backup: bool,
}

impl How {
    pub fn of(configuration: &Configuration) -> How {
        How {
            no_downtime: configuration.deployment_type == DeploymentType::NoDowntime,
            clusters: configuration.cluster_strategy,
            servers: configuration.server_strategy,
            backup: configuration.backup_enabled,
        }
    }
}

/// Which of the scripts are used: the environment's one cluster has its servers taken out, several are taken out whole.
pub fn takes_out_clusters(places: &[Place]) -> bool {
    places.iter().filter(|place| place.is_enabled()).count() > 1
}

pub fn plan(places: &[Place], how: How, revisions: &[String]) -> Plan {
    let mut tasks = markers(places);
    let targets: Vec<(&Place, Target)> = places.iter().flat_map(targets_of).collect();
    let whole = takes_out_clusters(places);
    let mut units: Vec<Unit> = Vec::new();
    for (place, target) in &targets {
        let unit = if whole { Unit::Cluster(place.id) } else { Unit::Server(target.id) };
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    let strategy = if whole { how.clusters } else { how.servers };
    let split = if how.no_downtime { split(&units, strategy) } else { vec![Vec::new()] };
    let mut groups = Vec::new();
    for units in split {
        let in_group = |target: &Target| {
            !how.no_downtime
                || units.contains(&Unit::Cluster(target.cluster))
                || units.contains(&Unit::Server(target.id))
        };
        let members: Vec<&(&Place, Target)> = targets.iter().filter(|(_, target)| in_group(target)).collect();
        tasks.extend(units.iter().filter_map(|unit| script(*unit, Direction::Out, &members)));
        for (place, target) in &members {
            let vql = |(at, name): (usize, &String)| PlannedTask {
                step: Step::Vql(target.id, at),
                name: format!("Revision {name} VQL deployment"),
                cluster: (place.id, place.name.clone()),
                server: Some((target.id, target.name.clone())),
            };
            tasks.extend(revisions.iter().enumerate().map(vql));
        }
        tasks.extend(units.iter().filter_map(|unit| script(*unit, Direction::Back, &members)));
        let targets = members.into_iter().map(|(_, target)| target.clone()).collect();
        groups.push(Group { units, targets });
    }
    if let (true, Some((place, target))) = (how.backup, targets.first()) {
        tasks.push(PlannedTask {
            step: Step::Backup(target.id),
            name: format!("Backup of {}", target.name),
            cluster: (place.id, place.name.clone()),
            server: Some((target.id, target.name.clone())),
        });
    }
    Plan { groups, tasks }
}

fn targets_of(place: &Place) -> impl Iterator<Item = (&Place, Target)> {
    place
        .enabled_servers()
        .map(move |server| (place, Target { cluster: place.id, id: server.id, name: server.name.clone() }))
}

/// The first half is rounded down, but has at least one.
fn split(units: &[Unit], strategy: Strategy) -> Vec<Vec<Unit>> {
    match strategy {
        Strategy::OneByOne => units.iter().map(|unit| vec![*unit]).collect(),
        Strategy::Half => {
            let first = (units.len() / 2).max(1).min(units.len());
            let (first, rest) = units.split_at(first);
            [first, rest].into_iter().filter(|half| !half.is_empty()).map(<[Unit]>::to_vec).collect()
        }
    }
}

/// A disabled cluster has one marker, and each disabled server of an enabled cluster.
fn markers(places: &[Place]) -> Vec<PlannedTask> {
    let mut tasks = Vec::new();
    for place in places {
        let cluster = (place.id, place.name.clone());
        if !place.enabled {
            let name = format!("Cluster {} is disabled", place.name);
            tasks.push(PlannedTask { step: Step::Disabled, name, cluster, server: None });
            continue;
        }
        for server in place.servers.iter().filter(|server| !server.enabled) {
            tasks.push(PlannedTask {
                step: Step::Disabled,
                name: format!("Server {} is disabled", server.name),
                cluster: cluster.clone(),
                server: Some((server.id, server.name.clone())),
            });
        }
    }
    tasks
}

fn script(unit: Unit, direction: Direction, members: &[&(&Place, Target)]) -> Option<PlannedTask> {
    let word = match direction {
        Direction::Out => "Disable",
        Direction::Back => "Enable",
    };
    let of_unit = |target: &Target| match unit {
        Unit::Cluster(id) => target.cluster == id,
        Unit::Server(id) => target.id == id,
    };
    let (place, target) = members.iter().find(|(_, target)| of_unit(target))?;
    let cluster = (place.id, place.name.clone());
    let step = Step::Script(unit, direction);
    Some(match unit {
        Unit::Cluster(_) => {
            PlannedTask { step, name: format!("{word} cluster {}", place.name), cluster, server: None }
        }
        Unit::Server(_) => PlannedTask {
            step,
            name: format!("{word} server {}", target.name),
            cluster,
            server: Some((target.id, target.name.clone())),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::configuration::Strategy;

    /// Clusters with the flags of their servers.
    fn made(shape: &[(bool, Vec<bool>)]) -> Vec<Place> {
        let mut next = 0;
        let mut place = |(at, (enabled, servers)): (usize, &(bool, Vec<bool>))| Place {
            id: ClusterId(i64::try_from(at).unwrap()),
            name: format!("c{at}"),
            enabled: *enabled,
            servers: servers
                .iter()
                .map(|enabled| {
                    next += 1;
                    Spot { id: ServerId(next), name: format!("s{next}"), enabled: *enabled }
                })
                .collect(),
        };
        shape.iter().enumerate().map(&mut place).collect()
    }

    fn how(no_downtime: bool, strategy: Strategy) -> How {
        How { no_downtime, clusters: strategy, servers: strategy, backup: false }
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.tasks.iter().map(|task| task.name.as_str()).collect()
    }

    #[test]
    fn all_revisions_of_a_server_come_before_the_next_server() {
        let places = made(&[(true, vec![true, false]), (false, vec![true]), (true, vec![true])]);
        let plan = plan(&places, how(false, Strategy::Half), &["a".to_owned(), "b".to_owned()]);
        let kinds: Vec<_> = plan.tasks.iter().map(PlannedTask::kind).collect();
        assert_eq!(kinds, ["SERVER_DEPLOYMENT", "CLUSTER_DEPLOYMENT", "VQL", "VQL", "VQL", "VQL"]);
        assert_eq!(
            names(&plan),
            [
                "Server s2 is disabled",
                "Cluster c1 is disabled",
                "Revision a VQL deployment",
                "Revision b VQL deployment",
                "Revision a VQL deployment",
                "Revision b VQL deployment",
            ]
        );
        let servers: Vec<_> = plan.targets().map(|target| target.id.0).collect();
        assert_eq!(servers, [1, 4]);
    }

    #[test]
    fn one_cluster_has_its_servers_taken_out_and_several_are_taken_out_whole() {
        let one = made(&[(true, vec![true, true, true])]);
        let revisions = ["r".to_owned()];
        assert_eq!(
            names(&plan(&one, how(true, Strategy::Half), &revisions)),
            [
                "Disable server s1",
                "Revision r VQL deployment",
                "Enable server s1",
                "Disable server s2",
                "Disable server s3",
                "Revision r VQL deployment",
                "Revision r VQL deployment",
                "Enable server s2",
                "Enable server s3",
            ]
        );
        let two = made(&[(true, vec![true, true]), (true, vec![true])]);
        assert_eq!(
            names(&plan(&two, how(true, Strategy::OneByOne), &revisions)),
            [
                "Disable cluster c0",
                "Revision r VQL deployment",
                "Revision r VQL deployment",
                "Enable cluster c0",
                "Disable cluster c1",
                "Revision r VQL deployment",
                "Enable cluster c1",
            ]
        );
    }

    #[test]
    fn the_backup_is_of_the_first_enabled_server_and_comes_last() {
        let places = made(&[(false, vec![true]), (true, vec![false, true, true])]);
        let how = How { backup: true, ..how(true, Strategy::Half) };
        let plan = plan(&places, how, &["r".to_owned()]);
        let last = plan.tasks.last().unwrap();
        assert_eq!((last.kind(), last.name.as_str()), (BACKUP, "Backup of s3"));
        assert_eq!(plan.tasks.iter().filter(|task| task.kind() == BACKUP).count(), 1);
        let nothing = made(&[(true, vec![false])]);
        assert!(super::plan(&nothing, how, &[]).tasks.iter().all(|task| task.kind() != BACKUP));
    }

    proptest! {
        #[test]
        fn every_enabled_server_is_in_one_group(
            shape in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<bool>(), 0..5)), 0..5),
            no_downtime in any::<bool>(),
            half in any::<bool>(),
        ) {
            let places = made(&shape);
            let strategy = if half { Strategy::Half } else { Strategy::OneByOne };
            let plan = plan(&places, how(no_downtime, strategy), &["r".to_owned()]);
            let expected: Vec<i64> =
                places.iter().flat_map(Place::enabled_servers).map(|server| server.id.0).collect();
            let found: Vec<i64> = plan.targets().map(|target| target.id.0).collect();
            prop_assert_eq!(&found, &expected, "in the order of the catalog");
            if no_downtime {
                let units: usize = plan.groups.iter().map(|group| group.units.len()).sum();
                for (at, group) in plan.groups.iter().enumerate() {
                    let most = match strategy {
                        Strategy::OneByOne => 1,
                        Strategy::Half if at == 0 => (units / 2).max(1),
                        Strategy::Half => units - units / 2,
                    };
                    prop_assert!(!group.units.is_empty() && group.units.len() <= most);
                }
            }
        }
    }
}
