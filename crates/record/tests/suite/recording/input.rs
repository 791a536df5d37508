//! Standard input of targets.

use std::fs;

use simprof_record::{Cancel, Launch, Outcome, RecordError, launch};

use crate::support::{Fixture, record};

/// Each process reads the file from its beginning, whatever bytes are in it.
#[test]
fn every_process_reads_the_whole_input() {
    let folder = Fixture::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    fs::write(folder.path("input"), &bytes).expect("written");
    let plan = Launch { input: Some(folder.path("input")), ..folder.plan(&["cat"]) };
    for _ in 0..2 {
        assert_eq!(record(&plan).outcome, Outcome::Exited(0));
        assert!(fs::read(folder.path("stdout.log")).expect("a log") == bytes);
    }
}

#[test]
fn without_a_file_the_input_is_empty() {
    let folder = Fixture::new();
    assert_eq!(folder.run(&["cat"]).outcome, Outcome::Exited(0));
    assert_eq!(fs::read(folder.path("stdout.log")).expect("a log"), b"");
}

#[test]
fn an_input_that_cannot_be_read_is_named() {
    let folder = Fixture::new();
    let plan = Launch { input: Some(folder.path("none")), ..folder.plan(&["cat"]) };
    let error = launch(&plan, &Cancel::new()).expect_err("there is no such file");
    assert!(matches!(&error, RecordError::Input { path, .. } if path.ends_with("none")), "{error}");
}
