//! Tests of the logged rows, the commits and the settings of SQLite.

use std::time::Duration;

use super::*;
use crate::action::ActionKind;
use crate::config::{Config, DatabaseConfig};
use crate::simulation::{Simulation, Summary};

/// A change of the database parameters.
type Change = fn(&mut DatabaseConfig);

fn logged(config: &Config, database: DatabaseConfig) -> (Summary, Reader) {
    let path = database.path.clone();
    let config = Config { database: Some(database), ..config.clone() };
    let mut simulation = Simulation::new(&config).unwrap();
    simulation.run(|_| {}).unwrap();
    (simulation.finish().unwrap(), Reader::open(&path).unwrap())
}

fn short() -> Config {
    Config { steps: 60, ..Config::default() }
}

/// Returns the rows of all tables in a form that can be compared.
fn contents(reader: &Reader) -> Vec<String> {
    let mut all = Vec::new();
    for table in TABLES.iter().filter(|&&table| table != "simulations") {
        let sql = format!("SELECT * FROM {table}");
        let mut statement = reader.connection().prepare(&sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..columns).map(|i| row.get_ref(i).unwrap()).collect();
            all.push(format!("{table} {values:?}"));
        }
    }
    all
}

#[test]
fn rows_agree_with_counters() {
    let folder = tempfile::tempdir().unwrap();
    let (summary, reader) =
        logged(&Config::default(), DatabaseConfig::new(folder.path().join("run.db")));
    let totals = summary.totals;
    let rows = |table| reader.queries().rows(table).unwrap();
    assert_eq!(reader.queries().faults().unwrap(), Vec::<String>::new());
    assert_eq!(reader.queries().steps().unwrap(), summary.steps);
    assert_eq!(rows("agent_actions"), totals.tried.iter().sum::<u64>());
    assert_eq!(rows("resource_states"), summary.steps * 20);
    assert_eq!(rows("agents"), 30 + totals.births);
    assert_eq!(
        rows("interactions"),
        totals.succeeded(ActionKind::Share)
            + totals.succeeded(ActionKind::Attack)
            + totals.succeeded(ActionKind::Reproduce)
    );
    assert_eq!(rows("reproduction_events"), totals.tried(ActionKind::Reproduce));
    let written: u64 = TABLES.iter().map(|table| rows(table)).sum();
    assert_eq!(written - 1, totals.rows_written);
    for &kind in ActionKind::ALL {
        let (tried, _) = reader.queries().actions(kind.name(), 0, summary.steps).unwrap();
        assert_eq!(tried, totals.tried(kind), "{kind}");
    }
    let count =
        |sql: &str| -> i64 { reader.connection().query_row(sql, (), |row| row.get(0)).unwrap() };
    assert_eq!(
        count("SELECT count(*) FROM agents WHERE death_step IS NOT NULL"),
        totals.deaths as i64
    );
    assert_eq!(count("SELECT sum(living) FROM simulation_steps"), rows("agent_states") as i64);
    assert_eq!(reader.queries().population(summary.steps - 1).unwrap().0, summary.living);
    assert!(reader.queries().history(0).unwrap().0 > 0);
}

#[test]
fn logged_rewards_sum_to_the_totals_of_the_agents() {
    let folder = tempfile::tempdir().unwrap();
    let (_, reader) = logged(&short(), DatabaseConfig::new(folder.path().join("run.db")));
    let difference: f64 = reader
        .connection()
        .query_row(
            "SELECT max(abs(total - logged)) FROM (
                 SELECT s.total_reward AS total,
                        (SELECT sum(reward) FROM agent_actions a WHERE a.agent_id = s.agent_id) AS logged
                 FROM agent_states s WHERE s.step = 59)",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert!(difference < 1e-3, "{difference}");
}

#[test]
fn all_settings_give_the_same_contents() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, reader) = logged(&short(), DatabaseConfig::new(folder.path().join("plain.db")));
    let expected = contents(&reader);
    assert!(expected.len() > 3000);
    let changes: [(&str, Change); 7] = [
        ("thread", |c| c.writer_thread = true),
        ("memory", |c| c.in_memory = true),
        ("single", |c| {
            c.batch_rows = 1;
            c.flush_every_steps = 1;
        }),
        ("spill", |c| c.buffer_size = 7),
        ("interval", |c| c.flush_interval = Some(Duration::ZERO)),
        ("performance", |c| c.profile = PragmaProfile::Performance),
        ("thread and spill", |c| {
            c.writer_thread = true;
            c.buffer_size = 11;
            c.profile = PragmaProfile::Memory;
        }),
    ];
    for (name, change) in changes {
        let mut database = DatabaseConfig::new(folder.path().join(format!("{name}.db")));
        change(&mut database);
        let (summary, reader) = logged(&short(), database);
        assert_eq!(summary, plain, "{name}");
        assert!(contents(&reader) == expected, "{name}");
        assert_eq!(reader.queries().faults().unwrap(), Vec::<String>::new(), "{name}");
        assert!(!folder.path().join(format!("{name}.db.partial")).exists(), "{name}");
    }
}

#[test]
fn flush_settings_determine_the_number_of_commits() {
    let folder = tempfile::tempdir().unwrap();
    let commits = |name: &str, change: fn(&mut DatabaseConfig)| {
        let mut config = DatabaseConfig::new(folder.path().join(name));
        config.buffer_size = 1_000_000;
        change(&mut config);
        let run = RunRow { seed: 1, parameters: String::new(), steps: 100 };
        let mut writer = Writer::create(&config, &run).unwrap();
        let mut batch = Batch::default();
        for step in 0..100u64 {
            batch.steps.push(StepRow { step, ..StepRow::default() });
            let by_step = (step + 1) % config.flush_every_steps.max(1) == 0;
            if batch.rows() >= config.buffer_size || by_step {
                batch.commit = true;
                writer.write(&batch).unwrap();
                batch.clear();
            }
        }
        (writer.commits(), writer.rows())
    };
    assert_eq!(commits("a.db", |c| c.flush_every_steps = 1), (100, 100));
    assert_eq!(commits("b.db", |c| c.flush_every_steps = 25), (4, 100));
    assert_eq!(
        commits("c.db", |c| {
            c.buffer_size = 10;
            c.flush_every_steps = 50;
        }),
        (10, 100)
    );
}

#[test]
fn profiles_apply_their_settings() {
    let folder = tempfile::tempdir().unwrap();
    let expected = [
        (PragmaProfile::Balanced, 4096, "wal"),
        (PragmaProfile::Performance, 8192, "memory"),
        (PragmaProfile::Safety, 4096, "wal"),
        (PragmaProfile::Memory, 4096, "memory"),
    ];
    for (profile, page, journal) in expected {
        let path = folder.path().join(format!("{profile}.db"));
        let connection = rusqlite::Connection::open(path).unwrap();
        profile.apply(&connection).unwrap();
        let pragma = |name: &str| -> String {
            connection
                .pragma_query_value(None, name, |row| {
                    row.get::<_, rusqlite::types::Value>(0).map(|value| match value {
                        rusqlite::types::Value::Integer(number) => number.to_string(),
                        rusqlite::types::Value::Text(text) => text,
                        other => format!("{other:?}"),
                    })
                })
                .unwrap()
        };
        assert_eq!(pragma("page_size"), page.to_string(), "{profile}");
        assert_eq!(pragma("journal_mode"), journal, "{profile}");
        assert_eq!(pragma("foreign_keys"), "1", "{profile}");
    }
}

#[test]
fn finished_tables_are_indexed_on_step_and_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (_, reader) = logged(&short(), DatabaseConfig::new(folder.path().join("run.db")));
    let plan = |sql: &str| -> String {
        let sql = format!("EXPLAIN QUERY PLAN {sql}");
        let mut statement = reader.connection().prepare(&sql).unwrap();
        let lines = statement.query_map((), |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let by = [
        ("agent_states", "agent_id"),
        ("resource_states", "resource_id"),
        ("agent_actions", "agent_id"),
        ("interactions", "source_id"),
        ("interactions", "target_id"),
        ("reproduction_events", "parent_id"),
        ("health_incidents", "agent_id"),
    ];
    for (table, column) in by {
        for key in [column, "step"] {
            let plan = plan(&format!("SELECT count(*) FROM {table} WHERE {key} = 3"));
            assert!(plan.contains(&format!("({key}=?)")), "{table} {key}: {plan}");
        }
    }
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.db");
    std::fs::write(&path, "not a database").unwrap();
    let config = Config { database: Some(DatabaseConfig::new(&path)), ..short() };
    let error = Simulation::new(&config).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: already exists; remove it or name another path", path.display())
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
}

#[test]
fn a_missing_folder_gives_an_error_with_the_path() {
    let config = Config { database: Some(DatabaseConfig::new("/nonexistent/run.db")), ..short() };
    let error = Simulation::new(&config).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/run.db: cannot create"), "{error}");
}

#[test]
fn a_scene_writes_and_reads_the_requested_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut reads = Vec::new();
    for &profile in PragmaProfile::ALL {
        let mut config = DatabaseConfig::new(folder.path().join(format!("{profile}.db")));
        config.profile = profile;
        config.buffer_size = 100;
        let mut scene = DatabaseScene::new(&config, 50, 1).unwrap();
        assert_eq!(scene.write(1000).unwrap(), 1000);
        assert_eq!(scene.commits(), Some(10), "{profile}");
        let during = scene.read(20).unwrap();
        assert!(during.rows > 500, "{profile}: {during:?}");
        let (rows, path) = (scene.rows(), config.path.clone());
        assert_eq!(scene.finish().unwrap(), rows);
        let reader = Reader::open(&path).unwrap();
        reads.push((during, read(reader.queries(), 30, 1).unwrap()));
        assert!(reads[0].1.rows > 200);
    }
    assert!(reads.iter().all(|read| *read == reads[0]));
}
