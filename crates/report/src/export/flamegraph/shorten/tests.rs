use proptest::prelude::*;

use super::*;
use crate::testing::{Sketch, profile};

const BOOTSTRAP: &str = "<frozen importlib._bootstrap>";
const EXTERNAL: &str = "<frozen importlib._bootstrap_external>";

/// The frames by which an import statement of CPython reaches the module, without the module. Before 3.11, code objects had
/// no qualified names.
fn machinery(has_qualified_names: bool) -> String {
    let loader = if has_qualified_names { "_LoaderBasics.exec_module" } else { "exec_module" };
    [
        format!("p:importlib._bootstrap._find_and_load%{BOOTSTRAP}"),
        format!("p:importlib._bootstrap._find_and_load_unlocked%{BOOTSTRAP}"),
        format!("p:importlib._bootstrap._load_unlocked%{BOOTSTRAP}"),
        format!("p:importlib._bootstrap_external.{loader}%{EXTERNAL}"),
        format!("p:importlib._bootstrap._call_with_frames_removed%{BOOTSTRAP}"),
    ]
    .join(" > ")
}

fn module(name: &str, path: &str) -> String {
    format!("p:{name}.<module>%/l/site-packages/{path}")
}

fn stacks(samples: &[(&str, u64)]) -> Vec<(String, u64)> {
    short_stacks(&profile(samples)).lines.into_iter().collect()
}

fn one(stack: &str) -> String {
    stacks(&[(stack, 1)]).remove(0).0
}

#[test]
fn an_import_is_one_frame() {
    let numpy = module("numpy", "numpy/__init__.py");
    let core = module("numpy._core", "numpy/_core/__init__.py");
    let json = module("json", "json/__init__.py");
    let fromlist = format!("p:importlib._bootstrap._handle_fromlist%{BOOTSTRAP}");
    let import_module = "p:importlib.import_module%/lib/python3.12/importlib/__init__.py";
    let exec = "builtin_exec~/usr/bin/python3.11 > +builtin_exec_impl~/usr/bin/python3.11";
    let old = "p:importlib._bootstrap._gcd_import%/lib/python3.9/importlib/_bootstrap.py";
    let read = format!("p:importlib._bootstrap_external.SourceLoader.get_code%{EXTERNAL}");
    for has_qualified_names in [true, false] {
        let import = machinery(has_qualified_names);
        for (stack, expected) in [
            (format!("p:sim.<module> > {import} > {numpy}"), "sim.<module> (sim.rs);import numpy"),
            // Modules of one package, and what the interpreter runs in between.
            (
                format!("{import} > {numpy} > {fromlist} > {import} > {exec} > {core} > malloc"),
                "import numpy;malloc",
            ),
            (
                format!("{import} > {exec} > {numpy} > {exec} > {import} > {json}"),
                "import numpy;import json",
            ),
            (format!("{import_module} > {old} > {import} > {numpy}"), "import numpy"),
            // The module is not known yet.
            (format!("p:sim.<module> > {fromlist}"), "sim.<module> (sim.rs);imports"),
            (format!("{import} > {read} > k:vfs_read"), "imports;vfs_read"),
            (
                format!("{import} > {numpy} > {import} > {read} > k:vfs_read"),
                "import numpy;vfs_read",
            ),
            // The program's own code keeps its frames.
            (
                format!("{import} > {numpy} > p:sim.table%/w/sim.py > p:sim.fill%/w/sim.py"),
                "import numpy;sim.table (sim.py);sim.fill (sim.py)",
            ),
            // Reading a resource of a package is no import.
            (
                format!("p:sim.read%/w/sim.py > p:FileLoader.get_data%{EXTERNAL} > k:vfs_read"),
                "sim.read (sim.py);FileLoader.get_data (<frozen importlib._bootstrap_external>);vfs_read",
            ),
        ] {
            assert_eq!(one(&stack), expected, "{stack}");
        }
    }
}

#[test]
fn an_import_has_the_colour_of_its_module() {
    let stack = format!("{} > {}", machinery(true), module("numpy", "numpy/__init__.py"));
    let short = short_stacks(&profile(&[(&stack, 1)]));
    assert_eq!(&*short.like["import numpy"], "numpy.<module> (__init__.py)");
}

#[test]
fn deep_recursion_is_one_frame_at_any_depth() {
    let walk = |depth: usize| format!("main > {} > leaf", vec!["walk"; depth].join(" > "));
    let found = stacks(&[(&walk(950), 5), (&walk(3), 2), (&walk(1), 1), ("main > f > f > f", 4)]);
    let expected = [
        ("main;f;f;f".to_owned(), 4),
        ("main;walk (recursive, up to 950 deep);leaf".to_owned(), 8),
    ];
    assert_eq!(found, expected);
    let short = short_stacks(&profile(&[(&walk(950), 5)]));
    assert_eq!(&*short.like["walk (recursive, up to 950 deep)"], "walk");
}

#[test]
fn functions_that_call_each_other_are_one_frame() {
    let pair = |times: usize| vec!["even > odd"; times].join(" > ");
    let deep = format!("main > {} > even > leaf", pair(100));
    let found = stacks(&[(&deep, 5), (&format!("main > {} > leaf", pair(2)), 2), ("odd > x", 1)]);
    let label = "even, odd (recursive, up to 201 deep)";
    let expected = [(format!("{label};x"), 1), (format!("main;{label};leaf"), 7)];
    assert_eq!(found, expected);
    // Two of `a, b` are no recursion yet, and neither are functions that only come twice.
    assert_eq!(one("a > b > a > b > c"), "a;b;a;b;c");
    let three = ["visit", "visit_list", "walk"].map(|name| name.to_owned());
    let stack: Vec<String> = three.iter().cycle().take(31).cloned().collect();
    let short = short_stacks(&Sketch::new().stack(&stack, 1).finish());
    let label = "visit, visit_list and 1 more (recursive, up to 31 deep)";
    assert_eq!(short.lines.keys().collect::<Vec<_>>(), [label]);
    assert_eq!(&*short.like[label], "visit");
}

#[test]
fn the_middle_of_a_deep_stack_is_omitted() {
    let frames = |count: usize| -> Vec<String> { (0..count).map(|at| format!("f{at}")).collect() };
    let depth = |count: usize| {
        let profile = Sketch::new().stack(&frames(count), 1).finish();
        let (stack, _) = short_stacks(&profile).lines.into_iter().next().expect("a stack");
        let ends = (stack.starts_with("f0;"), stack.ends_with(&format!(";f{}", count - 1)));
        assert_eq!(ends, (true, true), "{stack}");
        (stack.split(';').count(), stack.contains(OMITTED))
    };
    assert_eq!(depth(AT_ROOT + AT_LEAF), (AT_ROOT + AT_LEAF, false));
    assert_eq!(depth(2000), (AT_ROOT + AT_LEAF + 1, true));
}

proptest! {
    #[test]
    fn weight_is_kept(
        samples in prop::collection::vec((prop::collection::vec("[a-c]", 0..20), 0_u64..1000), 0..30)
    ) {
        let mut sketch = Sketch::new();
        for (stack, weight) in &samples {
            sketch = sketch.stack(stack, *weight);
        }
        let profile = sketch.finish();
        let sum: u64 = short_stacks(&profile).lines.values().sum();
        prop_assert_eq!(sum, profile.total_weight());
    }
}
