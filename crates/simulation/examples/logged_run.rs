//! Runs the reference simulation with logging and says when each step ends: `logged_run DATABASE key=value...`.
//!
//! The crate's tests kill this program in the middle of a run and look at what is left.

use std::error::Error;
use std::io::Write as _;

use simprof_simulation::database::PragmaProfile;
use simprof_simulation::{Config, DatabaseConfig, Simulation, StepEvent};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name a database")?;
    let mut config = Config::default();
    let mut database = DatabaseConfig::new(path);
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or("give key=value")?;
        set(&mut config, &mut database, key, value)?;
    }
    if database.path.as_os_str() != "-" {
        config.database = Some(database);
    }
    let mut simulation = Simulation::new(&config)?;
    let mut out = std::io::stdout().lock();
    let started = std::time::Instant::now();
    let mut failure = None;
    simulation.run(|event| {
        if let StepEvent::End(report) = event {
            let said = writeln!(out, "step {} {}", report.step, report.counters.rows_written);
            failure = failure.take().or(said.err());
        }
    })?;
    let running = started.elapsed();
    let summary = simulation.finish()?;
    writeln!(out, "{summary:?}")?;
    writeln!(out, "run {running:?}, with finish {:?}", started.elapsed())?;
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

fn set(
    config: &mut Config,
    database: &mut DatabaseConfig,
    key: &str,
    value: &str,
) -> Result<(), Box<dyn Error>> {
    match key {
        "agents" => config.agents = value.parse()?,
        "steps" => config.steps = value.parse()?,
        "side" => {
            config.width = value.parse()?;
            config.height = config.width;
        }
        "seed" => config.seed = value.parse()?,
        "policy" => config.policy = value.parse()?,
        "index" => {
            config.agent_index = value.parse()?;
            config.resource_index = config.agent_index;
        }
        "observe" => config.observe = value.parse()?,
        "storage" => config.observation.storage = value.parse()?,
        "source" => config.observation.source = value.parse()?,
        "resources" => config.resources.count = value.parse()?,
        "batch" => config.flush.batch_size = value.parse()?,
        "profile" => database.profile = value.parse::<PragmaProfile>()?,
        "rows" => database.batch_rows = value.parse()?,
        "buffer" => database.buffer_size = value.parse()?,
        "every" => database.flush_every_steps = value.parse()?,
        "thread" => database.writer_thread = value.parse()?,
        "memory" => database.in_memory = value.parse()?,
        _ => return Err(format!("unknown key {key}").into()),
    }
    Ok(())
}
