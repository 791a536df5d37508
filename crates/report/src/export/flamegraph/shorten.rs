//! Shortens stacks for a picture: the machinery of imports becomes one frame, recursion becomes one frame, and the middle
//! of very deep stacks is omitted.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use simprof_model::{FrameId, Function, FunctionId, FunctionKind, Profile};

use crate::analysis::{
    ImportRole, UNKNOWN, by_stack, import_role, interpreter_functions, python_module,
};
use crate::export::folded::{folded_name, names};

/// Frames in a row from which a recursion becomes one frame.
const RECURSION: usize = 6;
/// Maximum number of functions that call each other in a recursion that is recognised.
const LONGEST_CYCLE: usize = 8;
/// Frames that are shown at the root and at the leaf of a stack that is deeper than both together.
const AT_ROOT: usize = 70;
const AT_LEAF: usize = 50;
/// The frame instead of the middle of a very deep stack.
pub(super) const OMITTED: &str = "[middle of a deep stack omitted]";
/// The frame of imports whose module is unknown.
const IMPORTS: &str = "imports";
/// Begins the name of the frame of an import.
const IMPORT: &str = "import ";

/// The name of a frame. It is shared, since stacks may be many and deep.
type Name = Rc<str>;

/// The stacks of a picture.
#[derive(Debug, Default)]
pub(super) struct ShortStacks {
    /// The stacks, `root;caller;leaf`, with their weights.
    pub(super) lines: BTreeMap<String, u64>,
    /// For the name of each frame that stands for others, the name of a function whose colour it has.
    pub(super) like: HashMap<Name, Name>,
}

/// Returns the stacks of a profile, shortened. Stacks with the same text are merged.
pub(super) fn short_stacks(profile: &Profile) -> ShortStacks {
    let namer = Namer::new(profile);
    let mut like = HashMap::new();
    let mut stacks: Vec<(Vec<Name>, u64)> = Vec::new();
    for entry in by_stack(profile).into_iter().filter(|entry| entry.weight > 0) {
        let mut frames: Vec<FrameId> = profile.frames_from_leaf(entry.stack).collect();
        frames.reverse();
        stacks.push((namer.names(profile, &frames, &mut like), entry.weight));
    }
    fold_recursion(&mut stacks, &mut like);
    let mut lines = BTreeMap::new();
    for (stack, weight) in stacks {
        *lines.entry(without_middle(&stack).join(";")).or_default() += weight;
    }
    ShortStacks { lines, like }
}

/// What a frame means for imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A function of the import system. `true` if it shows that something is imported.
    Machinery(bool),
    /// The top level of a Python module.
    Module,
    /// The interpreter's native code, which the import system calls.
    Interpreter,
    Other,
}

/// The names and kinds of the functions of a profile, indexed as its table.
struct Namer {
    names: Vec<Name>,
    kinds: Vec<Kind>,
    /// The top-level packages of Python functions.
    packages: Vec<String>,
}

impl Namer {
    fn new(profile: &Profile) -> Self {
        let interpreter = interpreter_functions(profile);
        let kind = |(at, is_interpreter): (usize, bool)| {
            let function = &profile.functions[at];
            match import_role(profile, function) {
                Some(ImportRole::Entry) => Kind::Machinery(true),
                Some(ImportRole::Helper) => Kind::Machinery(false),
                Some(ImportRole::Module) => Kind::Module,
                None if is_interpreter => Kind::Interpreter,
                None => Kind::Other,
            }
        };
        let package = |function: &Function| {
            if function.kind != FunctionKind::Python {
                return String::new();
            }
            let file = function.file.map(|file| profile.string(file));
            let module = python_module(profile.string(function.name), file);
            module.split('.').next().unwrap_or_default().to_owned()
        };
        Self {
            names: names(profile).into_iter().map(Name::from).collect(),
            kinds: interpreter.into_iter().enumerate().map(kind).collect(),
            packages: profile.functions.iter().map(package).collect(),
        }
    }

    /// Returns the names of frames from the root, with each run of the import system as one frame: `import numpy`. An import
    /// of another module of the same package adds no frame.
    fn names(
        &self,
        profile: &Profile,
        frames: &[FrameId],
        like: &mut HashMap<Name, Name>,
    ) -> Vec<Name> {
        let functions: Vec<FunctionId> =
            frames.iter().map(|&frame| profile.frame(frame).function).collect();
        let mut names: Vec<Name> = Vec::new();
        let mut at = 0;
        while at < functions.len() {
            let is_nested = names.last().is_some_and(|name| is_import(name));
            let Some(run) = self.import_run(&functions[at..], is_nested) else {
                names.push(self.names[functions[at].index()].clone());
                at += 1;
                continue;
            };
            let function = functions[at + run.frames - 1];
            let name = match run.has_module {
                true => {
                    let name = format!("{IMPORT}{}", self.packages[function.index()]);
                    Some(Name::from(folded_name(&name)))
                }
                // What the import that called it does.
                false if is_nested => None,
                false => Some(Name::from(IMPORTS)),
            };
            if let Some(name) = name.filter(|name| names.last() != Some(name)) {
                like.entry(name.clone()).or_insert_with(|| self.names[function.index()].clone());
                names.push(name);
            }
            at += run.frames;
        }
        if names.is_empty() {
            names.push(Name::from(UNKNOWN));
        }
        names
    }

    /// Returns how many of the frames, from the first on, import a module. `None` if they do not import. Inside another
    /// import, the first frame may be native code of the interpreter.
    fn import_run(&self, functions: &[FunctionId], is_nested: bool) -> Option<ImportRun> {
        let mut run = ImportRun { frames: 0, has_module: false };
        let mut is_import = false;
        for (at, function) in functions.iter().enumerate() {
            match self.kinds[function.index()] {
                Kind::Machinery(is_entry) => {
                    is_import |= is_entry;
                    run.frames = at + 1;
                }
                Kind::Module if run.frames > 0 => {
                    run = ImportRun { frames: at + 1, has_module: true };
                    break;
                }
                // It counts if the import system follows.
                Kind::Interpreter if run.frames > 0 || is_nested => {}
                _ => break,
            }
        }
        is_import.then_some(run)
    }
}

/// Frames that import a module.
struct ImportRun {
    frames: usize,
    /// Whether the last one is the top level of the module.
    has_module: bool,
}

fn is_import(name: &str) -> bool {
    name == IMPORTS || name.starts_with(IMPORT)
}

/// Replaces the frames of functions that call themselves or each other deeply by one frame, so that stacks of different
/// depths become the same. Its name has the largest depth of all stacks.
fn fold_recursion(stacks: &mut [(Vec<Name>, u64)], like: &mut HashMap<Name, Name>) {
    let groups = recursive_groups(stacks);
    let group_of: HashMap<&str, usize> = groups
        .iter()
        .enumerate()
        .flat_map(|(at, names)| names.iter().map(move |name| (&**name, at)))
        .collect();
    let mut depths = vec![0; groups.len()];
    for (stack, _) in stacks.iter() {
        for run in stack.chunk_by(|a, b| is_same_group(&group_of, a, b)) {
            if let Some(&group) = group_of.get(&*run[0]) {
                depths[group] = run.len().max(depths[group]);
            }
        }
    }
    let labels: Vec<Name> =
        groups.iter().zip(&depths).map(|(names, depth)| recursion_label(names, *depth)).collect();
    for (stack, _) in stacks.iter_mut() {
        stack.dedup_by(|a, b| is_same_group(&group_of, a, b));
        for name in stack.iter_mut() {
            if let Some(&group) = group_of.get(&**name) {
                name.clone_from(&labels[group]);
            }
        }
    }
    like.extend(labels.into_iter().zip(groups.iter().map(|names| names[0].clone())));
}

fn is_same_group(group_of: &HashMap<&str, usize>, a: &str, b: &str) -> bool {
    group_of.get(a).is_some_and(|group| group_of.get(b) == Some(group))
}

/// Returns the functions that call each other deeply in any stack, each in one group.
fn recursive_groups(stacks: &[(Vec<Name>, u64)]) -> Vec<Vec<Name>> {
    let mut groups: Vec<Vec<Name>> = Vec::new();
    for cycle in stacks.iter().flat_map(|(stack, _)| cycles(stack)) {
        let (mut joined, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.iter().any(|name| cycle.contains(name)));
        joined.push(cycle.to_vec());
        let mut names: Vec<Name> = joined.concat();
        names.sort();
        names.dedup();
        groups = apart;
        groups.push(names);
    }
    groups
}

/// Returns one period of every part of a stack that repeats itself: `[even, odd]` of `even, odd, even, odd, even, odd`.
fn cycles(stack: &[Name]) -> Vec<&[Name]> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < stack.len() {
        let rest = &stack[at..];
        let repeats = |&period: &usize| {
            let same = rest.iter().zip(&rest[period..]).take_while(|(a, b)| a == b).count();
            same >= 2 * period && same + period >= RECURSION
        };
        let longest = LONGEST_CYCLE.min(rest.len() - 1);
        let Some(period) = (1..=longest).find(repeats) else {
            at += 1;
            continue;
        };
        let cycle = &rest[..period];
        found.push(cycle);
        at += rest.iter().take_while(|name| cycle.contains(name)).count();
    }
    found
}

fn recursion_label(names: &[Name], depth: usize) -> Name {
    let functions = match names {
        [first, second] => format!("{first}, {second}"),
        [first, second, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second} and {} more", rest.len())
        }
        _ => names.concat(),
    };
    format!("{functions} (recursive, up to {depth} deep)").into()
}

/// Returns a stack, without its middle if it is very deep.
fn without_middle(stack: &[Name]) -> Vec<&str> {
    let all = stack.iter().map(|name| &**name);
    if stack.len() <= AT_ROOT + AT_LEAF {
        return all.collect();
    }
    let leaf = all.clone().skip(stack.len() - AT_LEAF);
    all.take(AT_ROOT).chain([OMITTED]).chain(leaf).collect()
}

#[cfg(test)]
mod tests;
