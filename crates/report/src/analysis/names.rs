//! What a demangled name says about where a function belongs.

/// Roots of names that belong to a language's own library.
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

/// True where `root` is the first segment of the path of a language's own library.
pub(crate) fn is_language_root(root: &str) -> bool {
    LANGUAGE_ROOTS.contains(&root)
}

/// The path that a Rust or C++ function belongs to, without generic arguments, parameters, return
/// type and thunk prefixes: `<sim::grid::Grid<T> as core::clone::Clone>::clone` is `sim`, `grid`,
/// `Grid`; `void ns::work<int>(int)` is `ns`, `work`.
///
/// Of an implementation `<Type as Trait>` the type is taken, or the trait where the type has no
/// path or one of the language's library. A name without `::` is one segment.
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

/// The name from where its path begins, generics and all: what a pattern such as `sim::*` is held
/// against besides the whole name.
pub(crate) fn from_path(name: &str) -> &str {
    let name = without_sigils(without_thunk(name).trim_start_matches('<'));
    &name[path_begin(name)..]
}

/// The name of the function that a closure or lambda was written in; the name itself for others.
pub(crate) fn enclosing(name: &str) -> &str {
    let end = ["::{closure", "::{{closure", "::{lambda", "::'lambda", ".<locals>."]
        .iter()
        .filter_map(|mark| name.find(mark))
        .min();
    &name[..end.unwrap_or(name.len())]
}

/// The module in the name of a Python function: as many of its first parts as are the last ones of its file's path, `sim.model` of
/// `sim.model.Model.step` in `/w/sim/model.py` and in `/w/sim/model/__init__.py`. Where the file tells nothing, what stands before
/// the last part that can be a class or a function.
pub(crate) fn python_module<'a>(name: &'a str, file: Option<&str>) -> &'a str {
    let path = file.map(python_path).unwrap_or_default();
    let is_of_path = |module: &&str| {
        let parts: Vec<&str> = module.split('.').collect();
        path.ends_with(&parts)
    };
    let longest = name.match_indices('.').map(|(at, _)| &name[..at]).rfind(is_of_path);
    longest.unwrap_or_else(|| python_module_by_name(name))
}

/// The parts of a source path that a module's name can be made of.
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

/// The last part of a path, or the path itself.
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

/// What stands between the angle brackets that a name begins with.
fn qualified_self(name: &str) -> Option<&str> {
    let inner = name.strip_prefix('<')?;
    let end = outside(inner).find(|&(_, depth, byte)| depth < 0 && byte == b'>')?.0;
    Some(&inner[..end])
}

/// Bytes of `text` with their positions and the depth of brackets after them; an arrow is no bracket.
fn outside(text: &str) -> impl Iterator<Item = (usize, i32, u8)> + '_ {
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
    let at = outside(text)
        .find(|&(at, depth, _)| {
            depth == 0 && text.as_bytes()[at..].starts_with(separator.as_bytes())
        })?
        .0;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// Where the path begins in a name that may open with a return type.
fn path_begin(name: &str) -> usize {
    let head = head_end(name);
    outside(&name[..head])
        .filter(|&(_, depth, byte)| depth == 0 && byte == b' ')
        .map(|(at, ..)| at + 1)
        .last()
        .unwrap_or(0)
}

/// Where parameters, an `operator` or an ` as ` end what can be a path.
fn head_end(name: &str) -> usize {
    let parameters = outside(name)
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

/// `Grid<T>` is `Grid`, and `sim[1f2e]` (a crate with its hash) is `sim`.
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
    fn patterns_meet_the_path_of_an_implementation() {
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
