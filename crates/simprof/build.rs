//! Compresses the debug information of the command, which is kept only for the reference simulation.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // At -O2 the linker compresses harder.
    println!("cargo:rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib,-O2");
}
