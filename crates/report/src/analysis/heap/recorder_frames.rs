//! Removes the recorder's own frames from the stacks of allocations.

use simprof_model::{Function, HeapProfile, Profile, StackId};

use super::allocators::allocator_role;

/// File name of the preload library that records allocations.
const LIBRARY: &str = "libsimprof_heap.so";
/// Prefix of its functions' names.
const CRATE: &str = "simprof_heap::";

/// Returns the same allocations with stacks that end where the target allocates: the leaf frames of the recording library
/// are removed. The functions that the library replaces, such as `malloc`, stay.
pub fn charged_to_target(mut profile: HeapProfile) -> HeapProfile {
    let tables = &profile.tables;
    let is_recorder: Vec<bool> =
        tables.functions.iter().map(|function| is_recorder(tables, function)).collect();
    let parent = |id: &StackId| tables.stacks[id.index()].parent;
    for site in &mut profile.sites {
        site.stack = std::iter::successors(site.stack, parent).find(|id| {
            let frame = tables.frame(tables.stacks[id.index()].frame);
            !is_recorder[frame.function.index()]
        });
    }
    profile
}

fn is_recorder(tables: &Profile, function: &Function) -> bool {
    let name = tables.string(function.name);
    let path = function.module.map(|id| tables.string(tables.modules[id.index()].path));
    let file = path.map(|path| path.rsplit('/').next().unwrap_or(path));
    let is_of_library = file == Some(LIBRARY) || name.trim_start_matches('<').starts_with(CRATE);
    is_of_library && allocator_role(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::heap_lines;
    use crate::export::{HeapView, heap_view};
    use crate::testing::heap;

    #[test]
    fn recorder_frames_are_charged_to_their_caller() {
        let profile = charged_to_target(heap(&[
            ("main@1 > s::f@10 > simprof_heap::heap::python::malloc_seen@7", 3),
            ("main@1 > s::f@11 > inner~/tmp/x/libsimprof_heap.so > <simprof_heap::A>::b@8", 2),
            ("main@1 > s::f@12 > malloc~/tmp/x/libsimprof_heap.so", 1),
        ]));
        let lines = heap_lines(&profile);
        let found: Vec<_> = lines.iter().map(|l| (l.function.as_str(), l.line)).collect();
        assert_eq!(found, [("s::f", Some(10)), ("s::f", Some(11)), ("s::f", Some(12))]);
        assert!(lines[0].via.is_empty() && lines[2].via == ["malloc"], "{lines:?}");
        let view = heap_view(&profile, HeapView::Allocated);
        let leaf = |at: usize| {
            let leaf = view.frames_from_leaf(view.samples[at].stack).next().expect("a leaf");
            view.function_name(view.frame(leaf).function)
        };
        assert_eq!([leaf(0), leaf(1), leaf(2)], ["s::f", "s::f", "malloc"]);
    }
}
