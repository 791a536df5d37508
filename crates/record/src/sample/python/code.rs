//! Names and lines of Python frames, from their code objects.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use simprof_model::{Frame, FrameId, Function, FunctionId, FunctionKind, ProfileBuilder, StringId};
use simprof_preload::format;

use super::line_table;
use super::module_name;
use super::scopes::Scopes;
use crate::preload::{Code, Node, Tree};
use crate::source;

/// The function name of frames that could not be read.
const UNREADABLE: &str = "unreadable";
/// The function name that stands for the frames in the middle of a very deep stack.
const LEFT_OUT: &str = "[frames left out]";
/// Longer source files are not read for qualified names, bytes.
const LONGEST_SOURCE: u64 = 16 << 20;

/// Converts nodes of a tree to Python frames of a profile, each at first use.
pub struct PythonFrames<'a> {
    tree: &'a Tree,
    directory: &'a Path,
    functions: HashMap<u32, FunctionId>,
    /// By code object and instruction.
    frames: HashMap<(u32, Option<u32>), FrameId>,
    modules: HashMap<String, String>,
    packages: HashMap<PathBuf, bool>,
    sources: HashMap<String, Option<Scopes>>,
}

impl<'a> PythonFrames<'a> {
    /// Converts nodes of `tree`. Relative paths start at `directory`.
    pub fn new(tree: &'a Tree, directory: &'a Path) -> Self {
        Self {
            tree,
            directory,
            functions: HashMap::new(),
            frames: HashMap::new(),
            modules: HashMap::new(),
            packages: HashMap::new(),
            sources: HashMap::new(),
        }
    }

    /// Returns the frame of a node, and adds it to the profile if it is new.
    pub fn frame(&mut self, node: &Node, builder: &mut ProfileBuilder) -> FrameId {
        let key = (node.code, node.instruction);
        if let Some(&frame) = self.frames.get(&key) {
            return frame;
        }
        let frame = match self.tree.codes.get(&node.code) {
            Some(code) => {
                let function = self.function(node.code, code, builder);
                let file = intern_path(self.path(&code.file), builder);
                let line = line_of(code, node.instruction);
                builder.frame(Frame { function, line, file, address: 0, inlined: false })
            }
            None if node.code == format::LEFT_OUT => placeholder(LEFT_OUT, builder),
            None => unreadable(builder),
        };
        self.frames.insert(key, frame);
        frame
    }

    fn function(&mut self, number: u32, code: &Code, builder: &mut ProfileBuilder) -> FunctionId {
        if let Some(&function) = self.functions.get(&number) {
            return function;
        }
        let path = self.path(&code.file);
        let module = self.module(&path);
        let name = self.qualified(code, &path);
        let name = match module.as_str() {
            "" => builder.string(&name),
            module => builder.string(&format!("{module}.{name}")),
        };
        let file = intern_path(path, builder);
        let line = (code.first_line > 0).then_some(code.first_line);
        let kind = FunctionKind::Python;
        let function = builder.function(Function { name, module: None, file, line, kind });
        self.functions.insert(number, function);
        function
    }

    /// Returns the path of a file so that other programs find it. The interpreter may know it relative to its directory.
    fn path(&self, file: &str) -> String {
        if file.is_empty() || file.starts_with(['<', '/']) {
            return file.to_owned();
        }
        let path = self.directory.join(file);
        if source::exists(&path) { path.to_string_lossy().into_owned() } else { file.to_owned() }
    }

    fn module(&mut self, path: &str) -> String {
        if let Some(module) = self.modules.get(path) {
            return module.clone();
        }
        let packages = &mut self.packages;
        let mut is_package = |folder: &Path| {
            if let Some(&known) = packages.get(folder) {
                return known;
            }
            let known = source::is_package(folder);
            packages.insert(folder.to_owned(), known);
            known
        };
        let module = module_name::for_file(path, &mut is_package);
        self.modules.insert(path.to_owned(), module.clone());
        module
    }

    /// Returns the qualified name, from the interpreter or from the source file. If both do not have it, returns the bare name.
    fn qualified(&mut self, code: &Code, path: &str) -> String {
        if code.qualified || code.name == "<module>" {
            return code.name.clone();
        }
        let scopes = self.sources.entry(path.to_owned()).or_insert_with(|| read_scopes(path));
        let found =
            scopes.as_ref().and_then(|scopes| scopes.qualified(&code.name, code.first_line));
        found.unwrap_or_else(|| code.name.clone())
    }
}

/// Returns the frame that stands for one that could not be read.
pub fn unreadable(builder: &mut ProfileBuilder) -> FrameId {
    placeholder(UNREADABLE, builder)
}

fn placeholder(name: &str, builder: &mut ProfileBuilder) -> FrameId {
    let name = builder.string(name);
    let kind = FunctionKind::Python;
    let function = builder.function(Function { name, module: None, file: None, line: None, kind });
    builder.frame(Frame { function, line: None, file: None, address: 0, inlined: false })
}

fn intern_path(path: String, builder: &mut ProfileBuilder) -> Option<StringId> {
    (!path.is_empty()).then(|| builder.string(&path))
}

/// Returns the executing line.
fn line_of(code: &Code, instruction: Option<u32>) -> Option<u32> {
    let first = (code.first_line > 0).then_some(code.first_line);
    match (instruction, &code.table) {
        (Some(offset), Some(table)) => {
            line_table::line(code.version, table, code.first_line, offset)
        }
        (None, _) => first,
        (Some(_), None) => None,
    }
}

fn read_scopes(path: &str) -> Option<Scopes> {
    let source = source::read(Path::new(path), LONGEST_SOURCE)?;
    Some(Scopes::read(&source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_model::WeightKind;

    fn code(name: &str, file: &str, first_line: u32) -> Code {
        Code {
            name: name.to_owned(),
            qualified: false,
            file: file.to_owned(),
            first_line,
            version: 0x0309_0000,
            table: Some(vec![0, 1, 4, 1]),
        }
    }

    fn node(code: u32, instruction: Option<u32>) -> Node {
        Node { parent: 0, code, instruction, entry: true }
    }

    #[test]
    fn frames_have_qualified_names_from_their_sources() {
        let directory = tempfile::tempdir().expect("a folder");
        let package = directory.path().join("sim");
        std::fs::create_dir(&package).expect("made");
        std::fs::write(package.join("__init__.py"), "").expect("written");
        let source = "class Model:\n    @cached\n    def step(self):\n        pass\n";
        std::fs::write(package.join("model.py"), source).expect("written");
        let path = package.join("model.py").to_string_lossy().into_owned();
        let codes = HashMap::from([
            (1, code("step", &path, 2)),
            (2, code("step", &path, 3)),
            (3, code("step", "sim/model.py", 2)),
            (4, Code { qualified: true, ..code("A.b", "<string>", 1) }),
            (5, code("gone", "/no/such/file.py", 7)),
            (6, code("<module>", "", 1)),
        ]);
        let tree = Tree { nodes: Vec::new(), codes };
        let mut frames = PythonFrames::new(&tree, directory.path());
        let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
        let table = [
            (node(1, Some(0)), "sim.model.Model.step", Some(path.as_str()), Some(3)),
            (node(1, Some(4)), "sim.model.Model.step", Some(&path), Some(4)),
            (node(1, None), "sim.model.Model.step", Some(&path), Some(2)),
            (node(2, None), "sim.model.step", Some(&path), Some(3)),
            (node(3, None), "sim.model.Model.step", Some(&path), Some(2)),
            (node(4, Some(4)), "<string>.A.b", Some("<string>"), Some(3)),
            (node(5, None), "file.gone", Some("/no/such/file.py"), Some(7)),
            (node(6, None), "<module>", None, Some(1)),
            (node(0, None), "unreadable", None, None),
            (node(9, Some(3)), "unreadable", None, None),
            (node(format::LEFT_OUT, None), "[frames left out]", None, None),
        ];
        let ids: Vec<_> = table.iter().map(|(node, ..)| frames.frame(node, &mut builder)).collect();
        let profile = builder.finish();
        for (id, (node, name, file, line)) in ids.into_iter().zip(table) {
            let frame = profile.frame(id);
            assert_eq!(profile.function_name(frame.function), name, "{node:?}");
            assert_eq!(profile.function_file(frame.function), file, "{node:?}");
            assert_eq!(frame.line, line, "{node:?}");
            assert_eq!(profile.function(frame.function).kind, FunctionKind::Python);
        }
    }
}
