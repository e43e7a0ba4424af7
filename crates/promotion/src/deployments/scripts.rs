//! The scripts of the operator that take clusters and servers out of service and back.
//!
//! Which file, which arguments, and what became of it. How a program is run is the estate's business.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landreeve_core::source::CancellationToken;
use landreeve_core::{ErrorKind, Fault, Result};
use landreeve_estate::program::{self, Program, Scratch, Stop};

use super::plan::{Direction, Place, Unit, takes_out_clusters};
use crate::configuration::{self, Argument, Configuration, Script};
use crate::ids::ClusterId;
use crate::plane::Promotion;

/// In bytes.
const MAX_OUTPUT: usize = 64 * 1_024;

/// What became of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub succeeded: bool,
    /// For the task: what the script wrote, and how it ended.
    pub output: String,
}

/// The script for a step, if the configuration has one.
pub fn of_step(configuration: &Configuration, unit: Unit, direction: Direction) -> Option<&Script> {
    let scripts = &configuration.scripts;
    match (unit, direction) {
        (Unit::Server(_), Direction::Out) => scripts.disable_server.as_ref(),
        (Unit::Server(_), Direction::Back) => scripts.enable_server.as_ref(),
        (Unit::Cluster(_), Direction::Out) => scripts.disable_cluster.as_ref(),
        (Unit::Cluster(_), Direction::Back) => scripts.enable_cluster.as_ref(),
    }
}

/// The two scripts that are used, each with what it does.
pub fn pair(configuration: &Configuration, clusters: bool) -> [(&'static str, Option<&Script>); 2] {
    let scripts = &configuration.scripts;
    if clusters {
        return [
            ("disable a cluster", scripts.disable_cluster.as_ref()),
            ("enable a cluster", scripts.enable_cluster.as_ref()),
        ];
    }
    [
        ("disable a server", scripts.disable_server.as_ref()),
        ("enable a server", scripts.enable_server.as_ref()),
    ]
}

/// The file of a script, or why it is refused.
pub fn find(plane: &Promotion, file: &str) -> std::result::Result<PathBuf, String> {
    program::checked(&plane.options().scripts_dir, file)
}

/// The values of the variables of a cluster, or of a server in it.
pub async fn variables(
    plane: &Promotion,
    cluster: ClusterId,
    unit: Unit,
) -> Result<BTreeMap<String, String>> {
    let mut conn = plane.estate().store().read().await?;
    let server = match unit {
        Unit::Server(id) => Some(id),
        Unit::Cluster(_) => None,
    };
    configuration::variables_of(&mut conn, cluster, server).await
}

/// A fault for each variable of the scripts that a cluster or server has no value for.
pub async fn without_values(
    plane: &Promotion,
    configuration: &Configuration,
    places: &[Place],
) -> Result<Vec<Fault>> {
    let whole = takes_out_clusters(places);
    let mut used: Vec<&str> = Vec::new();
    for (_, script) in pair(configuration, whole) {
        for argument in script.into_iter().flat_map(|script| &script.arguments) {
            if let Argument::Variable(name) = argument
                && !used.contains(&name.as_str())
            {
                used.push(name);
            }
        }
    }
    let mut faults = Vec::new();
    if used.is_empty() {
        return Ok(faults);
    }
    for place in places.iter().filter(|place| place.is_enabled()) {
        let units: Vec<(Unit, String)> = if whole {
            vec![(Unit::Cluster(place.id), format!("cluster {}", place.name))]
        } else {
            let servers = place.enabled_servers();
            servers.map(|server| (Unit::Server(server.id), format!("server {}", server.name))).collect()
        };
        for (unit, name) in units {
            let values = variables(plane, place.id, unit).await?;
            for variable in used.iter().filter(|variable| !values.contains_key(**variable)) {
                let message =
                    format!("the {name} has no value for the variable {variable}, which a script uses");
                faults.push(Fault::new("", "no_variable", message));
            }
        }
    }
    Ok(faults)
}

/// Runs a script for a cluster or server. Everything that goes wrong is in the output; an error is of the store.
pub async fn run(plane: &Promotion, script: &Script, variables: &BTreeMap<String, String>) -> Result<Ran> {
    let failed = |output: String| Ok(Ran { succeeded: false, output });
    let path = match find(plane, &script.file) {
        Ok(path) => path,
        Err(reason) => return failed(format!(" - the script {:?} {reason}", script.file)),
    };
    let mut arguments = Vec::with_capacity(script.arguments.len());
    for argument in &script.arguments {
        match argument {
            Argument::Literal(text) => arguments.push(text.clone()),
            Argument::Variable(name) => match variables.get(name) {
                Some(value) => arguments.push(value.clone()),
                None => return failed(format!(" - the variable {name} has no value")),
            },
        }
    }
    let scratch = Scratch::new(&plane.options().scratch_dir, plane.estate().uuid())?;
    let limit = plane.options().script_timeout();
    let program = Program {
        path,
        arguments,
        variables: Vec::new(),
        folder: scratch.path(),
        note: Some(scratch.note()),
        time_limit: limit,
        max_output: MAX_OUTPUT,
    };
    // A cancelled deployment stops when the script has ended: a server must not be left between in and out.
    let ended = match program::run(&program, &CancellationToken::new()).await {
        Ok(ended) => ended,
        Err(error) if error.kind == ErrorKind::Conflict => {
            return failed(format!(" - {}", error.message));
        }
        Err(error) => return Err(error),
    };
    let how = match ended.stop {
        Stop::Exited(Some(code)) => format!(" - {} ended with {code}", script.file),
        Stop::Exited(None) => format!(" - {} was ended by a signal", script.file),
        Stop::TimedOut => {
            format!(" - {} was killed after its time limit of {} seconds", script.file, limit.as_secs())
        }
        Stop::Cancelled => format!(" - {} was killed", script.file),
    };
    let mut output = ended.output.trim_end().to_owned();
    if ended.cut {
        output.push_str("\n - more output was discarded");
    }
    let output = if output.is_empty() { how } else { format!("{output}\n{how}") };
    Ok(Ran { succeeded: ended.succeeded(), output })
}
