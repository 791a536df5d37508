//! Builds this crate a second time, as the shared library that is loaded into targets, so that the profiler carries it
//! within itself.
//!
//! The library has no dependencies and does without Rust's standard library, so one call of the compiler makes it.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src");
    // The step marks' format, which the library shares with the crate that other programs link.
    for file in ["append.rs", "format.rs"] {
        println!("cargo:rerun-if-changed=../probe/src/{file}");
    }
    println!("cargo:rustc-check-cfg=cfg(simprof_preloaded)");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let library = Path::new(&variable("OUT_DIR")).join("libsimprof_preload.so");
    let status = Command::new(variable("RUSTC"))
        .args(["--crate-name", "simprof_preload", "--crate-type", "cdylib", "--edition", "2024"])
        .args(["--cfg", "simprof_preloaded", "--target", &variable("TARGET")])
        .args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=3",
            "-C",
            "codegen-units=1",
            "-C",
            "strip=none",
        ])
        // Where `dlsym` is not in the C library itself (glibc before 2.34), a target may not have loaded it.
        .args(["-C", "link-arg=-ldl"])
        .arg("-o")
        .arg(&library)
        .arg("src/lib.rs")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("the library that is loaded into targets does not compile: {status}"),
        Err(error) => panic!("cannot run the compiler: {error}"),
    }
}
