//! Functions of allocators, known by their names.

/// What an allocator's function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Allocates,
    Frees,
}

/// What a function of this name does, where it is an allocator's.
pub fn deed(name: &str) -> Option<Deed> {
    const ALLOCATE: [&str; 42] = [
        "malloc",
        "calloc",
        "realloc",
        "reallocarray",
        "memalign",
        "aligned_alloc",
        "posix_memalign",
        "_int_malloc",
        "_int_realloc",
        "_int_memalign",
        "sysmalloc",
        "malloc_consolidate",
        "__libc_malloc",
        "__libc_calloc",
        "__libc_realloc",
        "__rust_alloc",
        "__rust_alloc_zeroed",
        "__rust_realloc",
        "__rdl_alloc",
        "__rdl_alloc_zeroed",
        "__rdl_realloc",
        "_Znwm",
        "_Znam",
        "PyObject_Malloc",
        "_PyObject_Malloc",
        "PyObject_Calloc",
        "_PyObject_Calloc",
        "PyObject_Realloc",
        "_PyObject_Realloc",
        "PyMem_Calloc",
        "PyMem_Realloc",
        "PyMem_RawCalloc",
        "PyMem_RawRealloc",
        "_PyMem_RawMalloc",
        "_PyMem_RawCalloc",
        "arena_map_get",
        "new_arena",
        "PyMem_Malloc",
        "PyMem_RawMalloc",
        "pymalloc_alloc",
        "mi_malloc",
        "tcache_malloc",
    ];
    const FREE: [&str; 13] = [
        "free",
        "cfree",
        "_int_free",
        "_int_free_chunk",
        "_int_free_merge_chunk",
        "__libc_free",
        "__rust_dealloc",
        "__rdl_dealloc",
        "_ZdlPv",
        "PyObject_Free",
        "_PyObject_Free",
        "PyMem_RawFree",
        "mi_free",
    ];
    let base = name.split(['.', '@', '(']).next().unwrap_or(name);
    let base = base.trim_start_matches("__GI_").trim_start_matches("__rustc::");
    if ALLOCATE.contains(&base) || base.starts_with("operator new") {
        Some(Deed::Allocates)
    } else if FREE.contains(&base) || base.starts_with("operator delete") {
        Some(Deed::Frees)
    } else {
        None
    }
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
        ] {
            assert_eq!(deed(name), expected, "{name}");
        }
    }
}
