//! Tests that a run killed at any time leaves a valid database with complete steps only.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use simprof_simulation::database::{PragmaProfile, Reader, TABLES};
use simprof_simulation::{Config, DatabaseConfig, Simulation, StepEvent};

/// Environment variables that pass the parameters of the run to the child process.
const DATABASE: &str = "SIMULATION_TEST_DATABASE";
const SETTINGS: &str = "SIMULATION_TEST_SETTINGS";

/// The parameters of one killed run.
#[derive(Debug, Clone, Copy)]
struct Case {
    profile: PragmaProfile,
    in_memory: bool,
    writer_thread: bool,
    buffer_size: usize,
    flush_every_steps: u64,
    /// The child is killed after it has reported more than this many steps.
    kill_after: u64,
}

impl Case {
    fn settings(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.profile,
            self.in_memory,
            self.writer_thread,
            self.buffer_size,
            self.flush_every_steps
        )
    }

    /// Returns whether the database is written at its final path.
    fn is_in_place(&self) -> bool {
        let staged = [PragmaProfile::Performance, PragmaProfile::Memory];
        !self.in_memory && !staged.contains(&self.profile)
    }
}

/// The child process of the other tests: runs the simulation until it is killed. As an ordinary test it does nothing.
#[test]
fn child() {
    let (Ok(path), Ok(settings)) = (std::env::var(DATABASE), std::env::var(SETTINGS)) else {
        return;
    };
    let settings: Vec<&str> = settings.split(' ').collect();
    let mut database = DatabaseConfig::new(path);
    database.profile = settings[0].parse().unwrap();
    database.in_memory = settings[1].parse().unwrap();
    database.writer_thread = settings[2].parse().unwrap();
    database.buffer_size = settings[3].parse().unwrap();
    database.flush_every_steps = settings[4].parse().unwrap();
    let config =
        Config { steps: u64::MAX, observe: false, database: Some(database), ..Config::default() };
    let mut simulation = Simulation::new(&config).unwrap();
    let mut out = std::io::stdout().lock();
    simulation
        .run(|event| {
            if let StepEvent::End(report) = event {
                let rows = report.counters.rows_written;
                writeln!(out, "step {} {rows}", report.step).unwrap();
            }
        })
        .unwrap();
}

/// Starts a child process, kills it after some steps and returns the number of rows that it reported for each step.
fn run_and_kill(path: &Path, case: &Case) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed_runs::child", "--nocapture"])
        .env(DATABASE, path)
        .env(SETTINGS, case.settings())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut rows = Vec::new();
    let mut killed = false;
    for line in lines.map_while(Result::ok) {
        let Some((_, step)) = line.split_once("step ") else {
            continue;
        };
        // The last line may be incomplete.
        if let Some(Ok(count)) = step.split(' ').nth(1).map(str::parse) {
            rows.push(count);
        }
        if rows.len() as u64 > case.kill_after && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(killed, "the child ended before it was killed");
    child.wait().unwrap();
    rows
}

fn count(reader: &Reader, sql: &str) -> u64 {
    let count: i64 = reader.connection().query_row(sql, (), |row| row.get(0)).unwrap();
    count as u64
}

/// Checks that a database contains the first steps of the run, each with all its rows. Returns the number of steps.
fn complete_steps(reader: &Reader, case: &Case) -> u64 {
    assert_eq!(reader.queries().faults().unwrap(), Vec::<String>::new(), "{case:?}");
    assert_eq!(reader.queries().rows("simulations").unwrap(), 1, "{case:?}");
    let steps = reader.queries().steps().unwrap();
    if steps > 0 {
        assert_eq!(count(reader, "SELECT max(step) FROM simulation_steps"), steps - 1);
    }
    for table in &TABLES[2..] {
        let later = format!("SELECT count(*) FROM {table} WHERE step >= {steps}");
        assert_eq!(count(reader, &later), 0, "{case:?}: {table}");
    }
    let incomplete = "SELECT count(*) FROM simulation_steps s WHERE
        s.living <> (SELECT count(*) FROM agent_states a WHERE a.step = s.step)
        OR s.actions <> (SELECT count(*) FROM agent_actions a WHERE a.step = s.step)
        OR s.births <> (SELECT count(*) FROM agents a WHERE a.birth_step = s.step AND a.generation > 0)
        OR s.deaths <> (SELECT count(*) FROM agents a WHERE a.death_step = s.step)
        OR 20 <> (SELECT count(*) FROM resource_states r WHERE r.step = s.step)";
    assert_eq!(count(reader, incomplete), 0, "{case:?}");
    steps
}

fn check(case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killed.db");
    let reported = run_and_kill(&path, case);
    let reader = Reader::open(&path).unwrap();
    let steps = complete_steps(&reader, case);
    if !case.is_in_place() {
        assert_eq!(steps, 0, "{case:?}");
        return;
    }
    // With a writer thread, the queue may contain a few batches when the child is killed.
    let batches = if case.writer_thread { 6 } else { 1 };
    let lost = case.flush_every_steps * batches;
    assert!(steps + lost >= reported.len() as u64, "{case:?}: {steps} of {}", reported.len());
    let rows: u64 = TABLES[1..].iter().map(|table| reader.queries().rows(table).unwrap()).sum();
    let expected: u64 = reported.iter().take(steps as usize).sum();
    if steps <= reported.len() as u64 && steps > 0 {
        assert_eq!(rows, expected, "{case:?}");
    }
}

fn cases(profile: PragmaProfile) -> Vec<Case> {
    let default = Case {
        profile,
        in_memory: false,
        writer_thread: false,
        buffer_size: 10_000,
        flush_every_steps: 10,
        kill_after: 1,
    };
    let settings = [
        default,
        Case { flush_every_steps: 1, ..default },
        Case { buffer_size: 13, ..default },
        Case { writer_thread: true, ..default },
        Case { writer_thread: true, buffer_size: 50, flush_every_steps: 3, ..default },
    ];
    let steps = [0, 7, 40, 111];
    let killed_at = |case: Case| steps.map(|kill_after| Case { kill_after, ..case });
    settings.into_iter().flat_map(killed_at).collect()
}

#[test]
fn balanced_keeps_complete_steps() {
    cases(PragmaProfile::Balanced).iter().for_each(check);
}

#[test]
fn safety_keeps_complete_steps() {
    cases(PragmaProfile::Safety).iter().for_each(check);
}

#[test]
fn performance_keeps_a_valid_database_without_steps() {
    cases(PragmaProfile::Performance).iter().for_each(check);
}

#[test]
fn memory_keeps_a_valid_database_without_steps() {
    cases(PragmaProfile::Memory).iter().for_each(check);
}

#[test]
fn in_memory_keeps_a_valid_database_without_steps() {
    for case in cases(PragmaProfile::Balanced) {
        check(&Case { in_memory: true, ..case });
    }
}

#[test]
fn a_new_run_can_use_the_path_of_a_killed_run_after_its_file_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killed.db");
    let case = Case { kill_after: 30, ..cases(PragmaProfile::Performance)[0] };
    run_and_kill(&path, &case);
    std::fs::remove_file(&path).unwrap();
    let mut database = DatabaseConfig::new(&path);
    database.profile = PragmaProfile::Performance;
    let config = Config { steps: 5, database: Some(database), ..Config::default() };
    let mut simulation = Simulation::new(&config).unwrap();
    simulation.run(|_| {}).unwrap();
    simulation.finish().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(complete_steps(&reader, &case), 5);
}
