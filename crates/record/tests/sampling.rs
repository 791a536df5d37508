//! Programs whose answer is known, profiled from their start to their end.

mod support;

use support::{compile_c, directory, explain, names, profile, samples_with};

/// Spins in two functions, three times as long in one of them as in the other.
const SPIN: &str = r#"
#include <stdint.h>
#include <stdlib.h>
static volatile uint64_t sink;
__attribute__((noinline)) void heavy(uint64_t n) { for (uint64_t i = 0; i < n; i++) sink += i; }
__attribute__((noinline)) void light(uint64_t n) { for (uint64_t i = 0; i < n; i++) sink += i; }
int main(void) {
    for (int round = 0; round < 200; round++) { heavy(3000000); light(1000000); }
    return 0;
}
"#;

#[test]
fn shares_follow_the_work() {
    let directory = directory();
    let program = compile_c(directory.path(), "spin", SPIN, &["-O2", "-g", "-fomit-frame-pointer"]);
    let Some(profile) = profile(&[&program]) else { return };
    let (heavy, light) =
        (samples_with(&profile, "heavy").len(), samples_with(&profile, "light").len());
    let total = (heavy + light) as f64;
    // Samples of a clock are no rarer in their spread than coin tosses: four standard errors.
    let (share, error) = (heavy as f64 / total, (0.75 * 0.25 / total).sqrt());
    assert!(total > 200.0, "{}", explain(&profile));
    assert!((share - 0.75).abs() < 4.0 * error + 0.02, "{share}: {}", explain(&profile));
    let whole =
        profile.samples.iter().filter(|s| names(&profile, s).last() == Some(&"_start")).count();
    assert!(whole as f64 > 0.95 * profile.samples.len() as f64, "{}", explain(&profile));
}
