//! Recognises functions of allocators by their names.

use simprof_model::{Function, Profile};

use crate::analysis::interpreter_modules;

/// What a function of an allocator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocatorRole {
    Allocates,
    Frees,
}

/// Functions of C libraries, Rust and Python that allocate.
const ALLOCATE: [&str; 39] = [
    "_int_malloc",
    "_int_memalign",
    "_int_realloc",
    "_mi_malloc_generic",
    "sysmalloc",
    "malloc_consolidate",
    "tcache_malloc",
    "__libc_malloc",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_memalign",
    "__rust_alloc",
    "__rust_alloc_zeroed",
    "__rust_realloc",
    "__rdl_alloc",
    "__rdl_alloc_zeroed",
    "__rdl_realloc",
    "__rg_alloc",
    "__rg_alloc_zeroed",
    "__rg_realloc",
    "PyObject_Malloc",
    "_PyObject_Malloc",
    "PyObject_Calloc",
    "_PyObject_Calloc",
    "PyObject_Realloc",
    "_PyObject_Realloc",
    "PyMem_Malloc",
    "PyMem_Calloc",
    "PyMem_Realloc",
    "_PyMem_Malloc",
    "_PyMem_Calloc",
    "_PyMem_Realloc",
    "PyMem_RawMalloc",
    "PyMem_RawCalloc",
    "PyMem_RawRealloc",
    "_PyMem_RawMalloc",
    "_PyMem_RawCalloc",
    "_PyMem_RawRealloc",
    "pymalloc_alloc",
];
/// Functions that free.
const FREE: [&str; 17] = [
    "cfree",
    "_int_free",
    "_int_free_chunk",
    "_int_free_merge_chunk",
    "__libc_free",
    "__rust_dealloc",
    "__rdl_dealloc",
    "__rg_dealloc",
    "PyObject_Free",
    "_PyObject_Free",
    "PyMem_Free",
    "_PyMem_Free",
    "PyMem_RawFree",
    "_PyMem_RawFree",
    "pymalloc_free",
    "mi_free_size",
    "_mi_free_generic",
];
/// Names that many allocator libraries share, most of them after a prefix of the library.
const COMMON: [(&str, AllocatorRole); 20] = [
    ("malloc", AllocatorRole::Allocates),
    ("calloc", AllocatorRole::Allocates),
    ("realloc", AllocatorRole::Allocates),
    ("reallocarray", AllocatorRole::Allocates),
    ("memalign", AllocatorRole::Allocates),
    ("aligned_alloc", AllocatorRole::Allocates),
    ("posix_memalign", AllocatorRole::Allocates),
    ("valloc", AllocatorRole::Allocates),
    ("pvalloc", AllocatorRole::Allocates),
    ("zalloc", AllocatorRole::Allocates),
    ("mallocx", AllocatorRole::Allocates),
    ("rallocx", AllocatorRole::Allocates),
    ("new", AllocatorRole::Allocates),
    ("newarray", AllocatorRole::Allocates),
    ("free", AllocatorRole::Frees),
    ("free_sized", AllocatorRole::Frees),
    ("dallocx", AllocatorRole::Frees),
    ("sdallocx", AllocatorRole::Frees),
    ("delete", AllocatorRole::Frees),
    ("deletearray", AllocatorRole::Frees),
];
/// Names of [`COMMON`] that belong to an allocator only after a library's prefix.
const ONLY_PREFIXED: [&str; 5] = ["zalloc", "new", "newarray", "delete", "deletearray"];
/// Prefixes of jemalloc, its Rust crates, tcmalloc and mimalloc.
const LIBRARIES: [&str; 4] = ["je_", "_rjem_", "tc_", "mi_"];
/// Functions that allocate if they are in the interpreter's own module.
const INTERPRETER_ONLY: [&str; 2] = ["arena_map_get", "new_arena"];

/// Returns the role of a function with this name, or `None` if it is not an allocator's.
pub fn allocator_role(name: &str) -> Option<AllocatorRole> {
    let base = name.split(['.', '@', '(']).next().unwrap_or(name);
    let base = base.trim_start_matches("__GI_").trim_start_matches("__rustc::");
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| base.starts_with(prefix));
    if ALLOCATE.contains(&base) || begins(&["operator new", "_Znw", "_Zna"]) {
        Some(AllocatorRole::Allocates)
    } else if FREE.contains(&base) || begins(&["operator delete", "_Zdl", "_Zda"]) {
        Some(AllocatorRole::Frees)
    } else {
        common(base)
    }
}

/// Returns the role of a function whose name many libraries share.
fn common(name: &str) -> Option<AllocatorRole> {
    let without_prefix = LIBRARIES.iter().find_map(|library| name.strip_prefix(library));
    let base = without_prefix.unwrap_or(name);
    let (_, role) = COMMON.iter().find(|(known, _)| *known == base)?;
    (without_prefix.is_some() || !ONLY_PREFIXED.contains(&base)).then_some(*role)
}

/// Returns the role of each function of a profile, indexed as its table.
pub fn allocator_roles(profile: &Profile) -> Vec<Option<AllocatorRole>> {
    let interpreters = interpreter_modules(profile);
    let role = |function: &Function| {
        let name = profile.string(function.name);
        let is_inside = || function.module.is_some_and(|id| interpreters[id.index()]);
        let is_arena = || INTERPRETER_ONLY.contains(&name) && is_inside();
        allocator_role(name).or_else(|| is_arena().then_some(AllocatorRole::Allocates))
    };
    profile.functions.iter().map(role).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_allocators_are_recognised_by_name() {
        for (name, expected) in [
            ("malloc", Some(AllocatorRole::Allocates)),
            ("__GI___libc_malloc", Some(AllocatorRole::Allocates)),
            ("operator new(unsigned long)", Some(AllocatorRole::Allocates)),
            ("__rustc::__rust_alloc", Some(AllocatorRole::Allocates)),
            ("operator delete(void*)", Some(AllocatorRole::Frees)),
            ("_int_free.part.0", Some(AllocatorRole::Frees)),
            ("sim::malloc_pool", None),
            ("freeze", None),
            ("__rg_alloc", Some(AllocatorRole::Allocates)),
            ("__rg_dealloc", Some(AllocatorRole::Frees)),
            ("PyMem_Free", Some(AllocatorRole::Frees)),
            ("je_malloc", Some(AllocatorRole::Allocates)),
            ("_rjem_sdallocx", Some(AllocatorRole::Frees)),
            ("tc_newarray", Some(AllocatorRole::Allocates)),
            ("tc_free", Some(AllocatorRole::Frees)),
            ("mi_zalloc", Some(AllocatorRole::Allocates)),
            ("mi_free", Some(AllocatorRole::Frees)),
            ("valloc", Some(AllocatorRole::Allocates)),
            ("pvalloc", Some(AllocatorRole::Allocates)),
            ("_ZdaPv", Some(AllocatorRole::Frees)),
            ("new", None),
            ("delete", None),
            ("new_arena", None),
        ] {
            assert_eq!(allocator_role(name), expected, "{name}");
        }
    }

    #[test]
    fn arena_functions_count_only_in_the_interpreters_module() {
        let stack = "main > new_arena > new_arena~/opt/lib/libpython3.11.so.1.0";
        let profile = crate::testing::profile(&[(stack, 1)]);
        assert_eq!(allocator_roles(&profile), [None, None, Some(AllocatorRole::Allocates)]);
    }
}
