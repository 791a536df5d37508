//! Builds this crate twice more, as the shared libraries that are loaded into targets, so that the profiler
//! can embed them.
//!
//! The libraries have no dependencies and do not use Rust's standard library, so a single call of the
//! compiler builds each.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src");
    // The format of step marks, which the library shares with the crate that other programs link.
    for file in ["append.rs", "format.rs"] {
        println!("cargo:rerun-if-changed=../probe/src/{file}");
    }
    println!("cargo:rustc-check-cfg=cfg(simprof_preloaded)");
    println!("cargo:rustc-check-cfg=cfg(simprof_heap)");
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    assert!(architecture == "x86_64", "simprof supports x86-64 only, not {architecture}");
    build("simprof_preload", &[]);
    build("simprof_heap", &["--cfg", "simprof_heap"]);
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo does not set {name}"))
}

fn library(name: &str) -> PathBuf {
    Path::new(&variable("OUT_DIR")).join(format!("lib{name}.so"))
}

/// Compiles `libNAME.so`.
fn build(name: &str, configuration: &[&str]) {
    let library = library(name);
    let status = Command::new(variable("RUSTC"))
        .args(["--crate-name", name, "--crate-type", "cdylib", "--edition", "2024"])
        .args(["--cfg", "simprof_preloaded", "--target", &variable("TARGET")])
        .args(configuration)
        .args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=3",
            "-C",
            "codegen-units=1",
            "-C",
            // Keep the names of functions.
            "strip=debuginfo",
        ])
        // Before glibc 2.34 `dlsym` is in a library of its own, which a target may not have loaded.
        .args(["-C", "link-arg=-ldl"])
        .arg("-o")
        .arg(&library)
        .arg("src/lib.rs")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("cannot compile the library that is loaded into targets: {status}"),
        Err(error) => panic!("cannot run the compiler: {error}"),
    }
}
