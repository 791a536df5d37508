//! Records one command and prints what was observed: the crate by itself, for trials and tests.
//!
//! `record-one FOLDER COMMAND...` writes the logs to FOLDER. `record-one --guardian` is a guardian.

use std::path::Path;
use std::process::ExitCode;

use simprof_record::{Cancel, Guardian, Launch, launch};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, [])) if word == "--guardian" => simprof_record::guardian::main(),
        Some((folder, argv)) if !argv.is_empty() => record(Path::new(folder), argv),
        _ => {
            eprintln!("usage: record-one FOLDER COMMAND...");
            ExitCode::from(2)
        }
    }
}

fn record(folder: &Path, argv: &[String]) -> ExitCode {
    let plan = Launch {
        argv: argv.to_vec(),
        directory: None,
        environment: Default::default(),
        stdout: folder.join("stdout.log"),
        stderr: folder.join("stderr.log"),
        timeout: None,
        resources: Some(std::time::Duration::from_millis(50)),
        sampling: None,
        guardian: Guardian {
            exe: "/proc/self/exe".into(),
            arguments: vec!["--guardian".to_owned()],
        },
        preload: Default::default(),
        marks: true,
        step_pattern: None,
    };
    match launch(&plan, &Cancel::new()) {
        Ok(recording) => {
            println!("{recording:#?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("record-one: {error}");
            ExitCode::FAILURE
        }
    }
}
