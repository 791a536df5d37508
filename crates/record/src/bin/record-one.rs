//! Records one command and prints the result. This runs the crate without simprof's command line, for experiments and tests.
//!
//! - `record-one FOLDER COMMAND...` writes the logs of the command to FOLDER and prints the recording.
//! - `record-one --heap BYTES FOLDER COMMAND...` records allocations too, with one sample in BYTES on average, and prints the heap
//!   profile as JSON.
//! - `record-one --guardian` runs as guardian.

use std::path::Path;
use std::process::ExitCode;

use simprof_record::heap::HeapSampling;
use simprof_record::{Cancel, Guardian, Launch, launch};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, [])) if word == "--guardian" => simprof_record::guardian::main(),
        Some((word, [bytes, folder, argv @ ..])) if word == "--heap" && !argv.is_empty() => {
            let Ok(interval_bytes) = bytes.parse() else { return usage() };
            let heap = HeapSampling { interval_bytes, ..HeapSampling::default() };
            record(Path::new(folder), argv, Some(heap))
        }
        Some((folder, argv)) if !argv.is_empty() => record(Path::new(folder), argv, None),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: record-one [--heap BYTES] FOLDER COMMAND...");
    ExitCode::from(2)
}

fn record(folder: &Path, argv: &[String], heap: Option<HeapSampling>) -> ExitCode {
    let plan = Launch {
        argv: argv.to_vec(),
        directory: None,
        input: None,
        keep_output: u64::MAX,
        environment: Default::default(),
        stdout: folder.join("stdout.log"),
        stderr: folder.join("stderr.log"),
        timeout: None,
        resources: Some(std::time::Duration::from_millis(50)),
        sampling: None,
        heap,
        guardian: Guardian {
            exe: "/proc/self/exe".into(),
            arguments: vec!["--guardian".to_owned()],
        },
        preload: Default::default(),
        marks: true,
        step_pattern: None,
        terminal: false,
    };
    match launch(&plan, &Cancel::new()) {
        Ok(mut recording) => {
            match recording.heap.take() {
                Some(heap) => {
                    let profile = simprof_record::heap::symbolise(heap);
                    let text = serde_json::to_string(&profile);
                    println!("{}", text.expect("heap profiles can be serialised"));
                }
                None => println!("{recording:#?}"),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("record-one: {error}");
            ExitCode::FAILURE
        }
    }
}
