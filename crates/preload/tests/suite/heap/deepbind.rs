//! Libraries that look up the allocator past the hooks, or that have another root.

use std::path::{Path, PathBuf};

use simprof_preload::heap::format::Kind;
use simprof_testkit::program;

use crate::heap::programs::{compiled, source};
use crate::heap::recorder::{Event, Options, Recording, program as command, record};

const RTLD_LAZY: i32 = 1;
const RTLD_NOW: i32 = 2;
const RTLD_DEEPBIND: i32 = 8;

fn plugin(name: &str, options: &[&str]) -> PathBuf {
    let options = [&["-shared", "-fPIC", "-O1", "-fno-builtin"], options].concat();
    program::compile(&source("deep_plugin.c"), name, &options)
}

fn opened(library: &Path, how: &str) -> Recording {
    let path = compiled("deep.c", &["-O1", "-fno-builtin", "-ldl"]);
    let recording = record(command(&path).arg(library).arg(how), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(0), "{how}: {:?}", recording.output);
    recording.check();
    recording
}

/// Every allocation and every end on either side is recorded, whatever the linker did with the tables.
#[test]
fn allocations_of_deeply_bound_libraries_are_recorded() {
    let libraries = [
        plugin("deep_plugin.so", &[]),
        plugin("deep_plugin_now.so", &["-Wl,-z,relro,-z,now"]),
        plugin("deep_plugin_lazy.so", &["-Wl,-z,lazy,-z,norelro"]),
        plugin("deep_plugin_no_plt.so", &["-fno-plt", "-Wl,-z,relro,-z,now"]),
    ];
    for library in &libraries {
        for flags in [RTLD_NOW, RTLD_LAZY].map(|flags| flags | RTLD_DEEPBIND) {
            let recording = opened(library, &flags.to_string());
            for size in [2000, 3000, 4000, 5000, 6000, 7000] {
                for kind in [Kind::Alloc, Kind::Free] {
                    let is_it = |event: &&Event| (event.kind, event.size) == (kind, size);
                    let count = recording.events.iter().filter(is_it).count();
                    assert_eq!(count, 100, "{library:?} {flags} {size} {kind:?}");
                }
            }
        }
    }
}

/// A namespace has an allocator of its own, to which the hooks must not pass anything.
#[test]
fn a_library_in_another_namespace_runs_unchanged() {
    let recording = opened(&plugin("deep_plugin.so", &[]), "new");
    assert_eq!(recording.totals(|event| event.size == 2000).allocated_count, 100.0);
    assert_eq!(recording.totals(|event| event.size == 3000).allocated_count, 0.0);
}

/// The path of a library in another root is the one that is valid outside, also once the process has ended.
#[test]
fn a_library_in_another_root_is_named_from_outside() {
    if !simprof_testkit::is_root() {
        return;
    }
    let library = plugin("deep_plugin.so", &[]);
    let library = library.canonicalize().expect("it exists");
    let path = compiled("jailed.c", &["-O1", "-fno-builtin", "-ldl"]);
    let root = library.parent().expect("a folder");
    let recording = record(command(&path).arg(root), Options::EXACT);
    assert_eq!(recording.output.status.code(), Some(0), "{:?}", recording.output);
    let event = recording.events.iter().find(|event| event.size == 3000).expect("it allocates");
    let leaf = recording.memory.stack(event.node).into_iter().next().expect("a frame");
    assert_eq!(Path::new(&leaf.module), library);
}
