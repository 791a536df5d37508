//! Functions of allocators, known by their names.

use simprof_model::{Function, Profile};

use crate::analysis::interpreter_modules;

/// What an allocator's function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Allocates,
    Frees,
}

/// Names of functions that allocate, of C libraries, Rust and Python.
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
/// Names of functions that free.
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
/// What many libraries name by the same word, most with a beginning of their own.
const COMMON: [(&str, Deed); 20] = [
    ("malloc", Deed::Allocates),
    ("calloc", Deed::Allocates),
    ("realloc", Deed::Allocates),
    ("reallocarray", Deed::Allocates),
    ("memalign", Deed::Allocates),
    ("aligned_alloc", Deed::Allocates),
    ("posix_memalign", Deed::Allocates),
    ("valloc", Deed::Allocates),
    ("pvalloc", Deed::Allocates),
    ("zalloc", Deed::Allocates),
    ("mallocx", Deed::Allocates),
    ("rallocx", Deed::Allocates),
    ("new", Deed::Allocates),
    ("newarray", Deed::Allocates),
    ("free", Deed::Frees),
    ("free_sized", Deed::Frees),
    ("dallocx", Deed::Frees),
    ("sdallocx", Deed::Frees),
    ("delete", Deed::Frees),
    ("deletearray", Deed::Frees),
];
/// Words of [`COMMON`] that are an allocator's only after the beginning of a library.
const OWNED: [&str; 5] = ["zalloc", "new", "newarray", "delete", "deletearray"];
/// How jemalloc, its Rust crates, tcmalloc and mimalloc begin their names.
const LIBRARIES: [&str; 4] = ["je_", "_rjem_", "tc_", "mi_"];
/// Functions of the interpreter that only its own module makes an allocator's.
const OF_INTERPRETER: [&str; 2] = ["arena_map_get", "new_arena"];

/// What a function of this name does, where it is an allocator's.
pub fn deed(name: &str) -> Option<Deed> {
    let base = name.split(['.', '@', '(']).next().unwrap_or(name);
    let base = base.trim_start_matches("__GI_").trim_start_matches("__rustc::");
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| base.starts_with(prefix));
    if ALLOCATE.contains(&base) || begins(&["operator new", "_Znw", "_Zna"]) {
        Some(Deed::Allocates)
    } else if FREE.contains(&base) || begins(&["operator delete", "_Zdl", "_Zda"]) {
        Some(Deed::Frees)
    } else {
        common(base)
    }
}

/// What a function does whose name is one that many libraries have.
fn common(name: &str) -> Option<Deed> {
    let owned = LIBRARIES.iter().find_map(|library| name.strip_prefix(library));
    let word = owned.unwrap_or(name);
    let (_, deed) = COMMON.iter().find(|(known, _)| *known == word)?;
    (owned.is_some() || !OWNED.contains(&word)).then_some(*deed)
}

/// What each function of a profile does, by position in its table.
pub fn deeds(profile: &Profile) -> Vec<Option<Deed>> {
    let interpreters = interpreter_modules(profile);
    let of = |function: &Function| {
        let name = profile.string(function.name);
        let is_inside = || function.module.is_some_and(|id| interpreters[id.index()]);
        let arena = || OF_INTERPRETER.contains(&name) && is_inside();
        deed(name).or_else(|| arena().then_some(Deed::Allocates))
    };
    profile.functions.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_allocators_are_known_by_name() {
        for (name, expected) in [
            ("malloc", Some(Deed::Allocates)),
            ("__GI___libc_malloc", Some(Deed::Allocates)),
            ("operator new(unsigned long)", Some(Deed::Allocates)),
            ("__rustc::__rust_alloc", Some(Deed::Allocates)),
            ("operator delete(void*)", Some(Deed::Frees)),
            ("_int_free.part.0", Some(Deed::Frees)),
            ("sim::malloc_pool", None),
            ("freeze", None),
            ("__rg_alloc", Some(Deed::Allocates)),
            ("__rg_dealloc", Some(Deed::Frees)),
            ("PyMem_Free", Some(Deed::Frees)),
            ("je_malloc", Some(Deed::Allocates)),
            ("_rjem_sdallocx", Some(Deed::Frees)),
            ("tc_newarray", Some(Deed::Allocates)),
            ("tc_free", Some(Deed::Frees)),
            ("mi_zalloc", Some(Deed::Allocates)),
            ("mi_free", Some(Deed::Frees)),
            ("valloc", Some(Deed::Allocates)),
            ("pvalloc", Some(Deed::Allocates)),
            ("_ZdaPv", Some(Deed::Frees)),
            ("new", None),
            ("delete", None),
            ("new_arena", None),
        ] {
            assert_eq!(deed(name), expected, "{name}");
        }
    }

    #[test]
    fn arenas_are_pythons_in_its_own_module_alone() {
        let stack = "main > new_arena > new_arena~/opt/lib/libpython3.11.so.1.0";
        let profile = crate::testing::profile(&[(stack, 1)]);
        assert_eq!(deeds(&profile), [None, None, Some(Deed::Allocates)]);
    }
}
