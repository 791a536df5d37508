//! Parses demangled function names into paths, modules and enclosing functions.

/// First path segments of functions in a language's own library.
const LANGUAGE_ROOTS: [&str; 9] = [
    "std",
    "core",
    "alloc",
    "compiler_builtins",
    "__gnu_cxx",
    "__cxxabiv1",
    "std_detect",
    "panic_unwind",
    "proc_macro",
];

/// Whether `root` is the first path segment of a language's own library.
pub(crate) fn is_language_root(root: &str) -> bool {
    LANGUAGE_ROOTS.contains(&root)
}

/// Returns the path of a Rust or C++ function, without generic arguments, parameters, return type and thunk prefixes:
/// `<sim::grid::Grid<T> as core::clone::Clone>::clone` is `sim`, `grid`, `Grid`; `void ns::work<int>(int)` is `ns`,
/// `work`.
///
/// For an implementation `<Type as Trait>` it is the path of the type, or that of the trait if the type has no path or is
/// from the language's library. A name without `::` is one segment.
pub(crate) fn path(name: &str) -> Vec<&str> {
    let name = without_thunk(name);
    let Some(inner) = qualified_self(name) else { return plain_path(name) };
    let Some((type_name, trait_name)) = split_once_outside(inner, " as ") else {
        return path(without_sigils(inner));
    };
    let of_type = path(without_sigils(type_name));
    let of_trait = path(trait_name);
    let is_foreign = of_type.len() < 2 || is_language_root(of_type[0]);
    if is_foreign && of_trait.len() > 1 && (of_type.len() < 2 || !is_language_root(of_trait[0])) {
        of_trait
    } else {
        of_type
    }
}

/// Returns the name from the beginning of its path, with generics: patterns such as `sim::*` are matched against it as
/// well as against the whole name.
pub(crate) fn from_path(name: &str) -> &str {
    let name = without_sigils(without_thunk(name).trim_start_matches('<'));
    &name[path_begin(name)..]
}

/// Returns the name of the function that encloses a closure or lambda; for other functions the name itself.
pub(crate) fn enclosing(name: &str) -> &str {
    let end = ["::{closure", "::{{closure", "::{lambda", "::'lambda", ".<locals>."]
        .iter()
        .filter_map(|mark| name.find(mark))
        .min();
    &name[..end.unwrap_or(name.len())]
}

/// Returns the module in the name of a Python function: its longest prefix that the file's path ends with. For
/// `sim.model.Model.step` in `/w/sim/model.py` or `/w/sim/model/__init__.py` it is `sim.model`. If no prefix matches the
/// path, it is the part before the first capitalised part, or before the last part.
pub(crate) fn python_module<'a>(name: &'a str, file: Option<&str>) -> &'a str {
    let path = file.map(python_path).unwrap_or_default();
    let is_of_path = |module: &&str| {
        let parts: Vec<&str> = module.split('.').collect();
        path.ends_with(&parts)
    };
    let longest = name.match_indices('.').map(|(at, _)| &name[..at]).rfind(is_of_path);
    longest.unwrap_or_else(|| python_module_by_name(name))
}

/// Returns the parts of a source path that a module name can consist of.
fn python_path(file: &str) -> Vec<&str> {
    let frozen = file.strip_prefix("<frozen ").and_then(|file| file.strip_suffix('>'));
    let file = frozen.unwrap_or(file);
    let file = file.strip_suffix(".py").unwrap_or(file);
    let file = file.strip_suffix("/__init__").unwrap_or(file);
    file.split(['/', '.']).collect()
}

fn python_module_by_name(name: &str) -> &str {
    let name = enclosing(name);
    let class = name.split('.').position(|part| part.starts_with(|c: char| c.is_uppercase()));
    let parts = class.unwrap_or_else(|| name.split('.').count() - 1).max(1);
    match name.match_indices('.').nth(parts - 1) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

/// Returns the last part of a path, or the path itself if that is empty.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

fn without_thunk(name: &str) -> &str {
    ["non-virtual thunk to ", "virtual thunk to ", "guard variable for "]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

fn without_sigils(mut name: &str) -> &str {
    const SIGILS: [&str; 9] = ["&", "*", "[", "mut ", "const ", "dyn ", "impl ", "(", "unsafe "];
    while let Some(rest) = SIGILS.iter().find_map(|sigil| name.strip_prefix(sigil)) {
        if name.starts_with("(anonymous namespace)") {
            break;
        }
        name = rest.trim_start();
    }
    name
}

/// Returns the text within the angle brackets that a name begins with.
fn qualified_self(name: &str) -> Option<&str> {
    let inner = name.strip_prefix('<')?;
    let end = bracket_depths(inner).find(|&(_, depth, byte)| depth < 0 && byte == b'>')?.0;
    Some(&inner[..end])
}

/// Iterates over the bytes of `text` with their positions and the bracket depth after each. The `>` of an arrow `->` is
/// not a bracket.
fn bracket_depths(text: &str) -> impl Iterator<Item = (usize, i32, u8)> + '_ {
    let bytes = text.as_bytes();
    let mut depth = 0;
    bytes.iter().enumerate().map(move |(at, &byte)| {
        let is_arrow = byte == b'>' && at > 0 && bytes[at - 1] == b'-';
        match byte {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            b'>' | b')' | b']' | b'}' if !is_arrow => depth -= 1,
            _ => {}
        }
        (at, depth, byte)
    })
}

fn split_once_outside<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let at = bracket_depths(text)
        .find(|&(at, depth, _)| {
            depth == 0 && text.as_bytes()[at..].starts_with(separator.as_bytes())
        })?
        .0;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// Returns where the path begins in a name that may start with a return type.
fn path_begin(name: &str) -> usize {
    let head = head_end(name);
    bracket_depths(&name[..head])
        .filter(|&(_, depth, byte)| depth == 0 && byte == b' ')
        .map(|(at, ..)| at + 1)
        .last()
        .unwrap_or(0)
}

/// Returns where the path ends: at the parameters, at `operator` or at ` as `.
fn head_end(name: &str) -> usize {
    let parameters = bracket_depths(name)
        .find(|&(at, depth, byte)| {
            byte == b'(' && depth == 1 && !name[at..].starts_with("(anonymous namespace)")
        })
        .map(|(at, ..)| at);
    let operator = name.find("operator").filter(|&at| at == 0 || name[..at].ends_with("::"));
    let conversion = name.find(" as ");
    [parameters, operator, conversion].into_iter().flatten().min().unwrap_or(name.len())
}

fn plain_path(name: &str) -> Vec<&str> {
    let head = &name[..head_end(name)];
    let mut rest = &head[path_begin(head)..];
    let mut segments = Vec::new();
    while let Some((segment, tail)) = split_once_outside(rest, "::") {
        segments.push(without_arguments(segment));
        rest = tail;
    }
    segments.push(without_arguments(rest));
    segments.retain(|segment| !segment.is_empty());
    if segments.is_empty() {
        segments.push(name);
    }
    segments
}

/// Removes generic arguments and crate hashes: `Grid<T>` becomes `Grid`, `sim[1f2e]` becomes `sim`.
fn without_arguments(segment: &str) -> &str {
    let end = segment.find(['<', '[']).unwrap_or(segment.len());
    segment[..end].trim_end_matches("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_functions() {
        for (name, expected) in [
            ("main", "main"),
            ("sim::step", "sim/step"),
            ("sim::grid::Grid<T>::nearby", "sim/grid/Grid/nearby"),
            ("<sim::grid::Grid<T> as core::clone::Clone>::clone", "sim/grid/Grid"),
            ("<&mut sim::Agent as core::fmt::Debug>::fmt", "sim/Agent"),
            ("<f64 as sim::units::Metres>::metres", "sim/units/Metres"),
            ("<alloc::vec::Vec<T> as sim::Sum>::sum", "sim/Sum"),
            ("<alloc::vec::Vec<T> as core::iter::Extend<sim::A>>::extend", "alloc/vec/Vec"),
            ("<F as core::ops::function::FnOnce<A>>::call_once", "core/ops/function/FnOnce"),
            ("<dyn sim::Rule>::apply", "sim/Rule"),
            ("<sim::Agent>::act", "sim/Agent"),
            ("sim[5f3a]::run::{closure#0}", "sim/run/{closure#0}"),
            ("core::slice::sort::<sim::A, fn(sim::A) -> bool>::run", "core/slice/sort/run"),
            ("ns::Class::method(int) const", "ns/Class/method"),
            ("void ns::work<std::vector<int>>(int, char const*)", "ns/work"),
            ("(anonymous namespace)::helper(int)", "(anonymous namespace)/helper"),
            ("std::ostream& ns::operator<<(std::ostream&, ns::A const&)", "ns"),
            ("virtual thunk to ns::A::run()", "ns/A/run"),
            ("operator new(unsigned long)", "operator new(unsigned long)"),
            ("", ""),
            ("<", "<"),
            ("a>b::c", "a>b::c"),
        ] {
            let expected: Vec<&str> =
                if expected.is_empty() { vec![""] } else { expected.split('/').collect() };
            assert_eq!(path(name), expected, "{name}");
        }
    }

    #[test]
    fn patterns_are_matched_from_the_path_of_an_implementation() {
        assert_eq!(from_path("<sim::Agent as X>::act"), "sim::Agent as X>::act");
        assert_eq!(from_path("<&mut sim::Agent>::act"), "sim::Agent>::act");
        assert_eq!(from_path("void ns::work<int>(int)"), "ns::work<int>(int)");
        assert_eq!(from_path("plain"), "plain");
    }

    #[test]
    fn modules_of_python_functions() {
        for (name, file, expected) in [
            ("sim.model.Model.step", Some("/w/sim/model.py"), "sim.model"),
            ("sim.model.Model.step", Some("/w/sim/model/__init__.py"), "sim.model"),
            ("space.agents.walk.<locals>.turn", Some("/w/space/agents.py"), "space.agents"),
            ("run.<module>", Some("run.py"), "run"),
            ("run.main", Some("/w/tools/run.py"), "run"),
            (
                "importlib._bootstrap._find",
                Some("<frozen importlib._bootstrap>"),
                "importlib._bootstrap",
            ),
            ("sim.sim.step", Some("/w/sim/sim.py"), "sim.sim"),
            ("sim.Model.step", None, "sim"),
            ("sim.Model.step", Some("<string>"), "sim"),
            ("sim.helpers.run.<locals>.inner", None, "sim.helpers"),
            ("main", None, "main"),
        ] {
            assert_eq!(python_module(name, file), expected, "{name} in {file:?}");
        }
    }

    #[test]
    fn closures_belong_to_the_function_around_them() {
        assert_eq!(enclosing("sim::step::{closure#0}::{closure#1}"), "sim::step");
        assert_eq!(enclosing("sim::step::{{closure}}"), "sim::step");
        assert_eq!(enclosing("ns::f(int)::{lambda(int)#1}::operator()(int) const"), "ns::f(int)");
        assert_eq!(enclosing("sim.step.<locals>.<lambda>"), "sim.step");
        assert_eq!(enclosing("sim::step"), "sim::step");
    }
}
