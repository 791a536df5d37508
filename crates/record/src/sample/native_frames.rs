//! The native frames of a profile: names, lines and roles of raw frames.

use std::borrow::Cow;
use std::collections::HashMap;

use object::Object;
use object::read::elf::ElfFile64;
use simprof_model::{Frame, FrameId, Function, FunctionKind, ModuleId, ProfileBuilder};

use super::debug_file::hexadecimal;
use super::module::{GENERATED_CODE, ModuleFile, ModuleIndex, PRELOAD_LIBRARY};
use super::python::{self, Role};
use super::raw_stacks::{RawFrame, RawFrameId};
use super::symbol_table;
use super::symbolise::{self, Symbolised};
use super::symbols::Symbols;
use super::trace::Trace;

/// Functions at which a thread starts. A stack that ends in one is complete, even if the unwinder could not tell.
const ROOTS: [&str; 9] = [
    "_start",
    "_dl_start_user",
    "__clone",
    "__clone3",
    "clone",
    "clone3",
    "__clone_internal",
    "start_thread",
    "thread_start",
];

/// A native frame of the profile, with the properties that decide how it is merged with Python frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct NativeFrame {
    pub frame: FrameId,
    pub role: Role,
    /// Whether its module contains the Python interpreter.
    pub in_interpreter: bool,
    /// Whether its module is the preload library.
    pub in_preload: bool,
}

/// The frames that one raw frame stands for: a function and those that are inlined there.
#[derive(Debug, Clone)]
pub(super) struct Expansion {
    /// Innermost first, never empty.
    pub frames: Vec<NativeFrame>,
    /// Whether the function has a symbol.
    pub named: bool,
    /// Whether the outermost function is one at which a thread starts.
    pub is_root: bool,
}

/// Expands the raw frames of one trace, each at first use, so that the profile's tables hold only what its stacks refer to.
pub(super) struct NativeFrames<'a> {
    trace: &'a Trace,
    symbols: &'a Symbols,
    /// By [`RawFrameId`].
    expansions: Vec<Option<Expansion>>,
    modules: HashMap<ModuleIndex, UserModule>,
}

/// A module outside the kernel.
#[derive(Debug, Clone, Copy)]
struct UserModule {
    kind: ModuleKind,
    /// Its entry in the profile, once there is one.
    id: Option<ModuleId>,
}

/// How a module is related to Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModuleKind {
    /// It contains the interpreter.
    Interpreter,
    /// It is the preload library.
    Preload,
    /// It is code that a runtime generated and named.
    Generated,
    Other,
}

impl<'a> NativeFrames<'a> {
    /// Starts without any expanded frame. `symbols` must cover the trace.
    pub fn new(trace: &'a Trace, symbols: &'a Symbols) -> Self {
        let expansions = vec![None; trace.stacks.frames().len()];
        Self { trace, symbols, expansions, modules: HashMap::new() }
    }

    /// Returns the expansion of a raw frame, and adds its frames to the profile if they are new.
    pub fn expand(&mut self, id: RawFrameId, builder: &mut ProfileBuilder) -> &Expansion {
        let index = id.0 as usize;
        if self.expansions[index].is_none() {
            self.expansions[index] = Some(self.expanded(id, builder));
        }
        self.get(id)
    }

    /// Returns the expansion of a raw frame that has been expanded before.
    pub fn get(&self, id: RawFrameId) -> &Expansion {
        self.expansions[id.0 as usize].as_ref().expect("frames of stacks are expanded first")
    }

    /// Returns whether the outermost function at a raw frame belongs to the program, rather than to the interpreter.
    pub fn is_program(&mut self, id: RawFrameId) -> bool {
        let raw = self.raw(id);
        let kind = self.module(raw.module).kind;
        let symbolised = self.symbolised(raw);
        let outermost = symbolised.locations.last().expect("never empty");
        kind != ModuleKind::Interpreter
            && kind.role(&outermost.function.name, symbolised.named) == Role::Work
    }

    fn raw(&self, id: RawFrameId) -> RawFrame {
        self.trace.stacks.frames()[id.0 as usize]
    }

    fn symbolised(&self, raw: RawFrame) -> Cow<'a, Symbolised> {
        if let Some(name) = self.trace.generated.name(raw) {
            let locations = vec![symbolise::name_only(name.to_owned())];
            return Cow::Owned(Symbolised { locations, named: true });
        }
        if raw.module != ModuleIndex::KERNEL {
            let file = self.trace.modules.get(raw.module);
            return Cow::Borrowed(self.symbols.at(file, raw.address));
        }
        let symbol = self.symbols.kernel.at(raw.address);
        let name = match symbol {
            Some(symbol) => symbol.name.to_owned(),
            None => format!("[kernel]+{:#x}", raw.address),
        };
        let locations = vec![symbolise::name_only(name)];
        Cow::Owned(Symbolised { locations, named: symbol.is_some() })
    }

    fn module(&mut self, index: ModuleIndex) -> &mut UserModule {
        let trace = self.trace;
        self.modules.entry(index).or_insert_with(|| {
            // Roles are used only to merge native frames with Python frames.
            let kind = match &trace.python {
                Some(_) => ModuleKind::for_module(trace.modules.get(index)),
                None => ModuleKind::Other,
            };
            UserModule { kind, id: None }
        })
    }

    fn module_id(&mut self, raw: RawFrame, builder: &mut ProfileBuilder) -> ModuleId {
        if raw.module == ModuleIndex::KERNEL {
            let symbol = self.symbols.kernel.at(raw.address);
            return builder.module(symbol.map_or("[kernel]", |symbol| symbol.module), None);
        }
        let file = self.trace.modules.get(raw.module);
        let module = self.module(raw.module);
        *module.id.get_or_insert_with(|| builder.module(&file.path, build_id(file)))
    }

    fn expanded(&mut self, id: RawFrameId, builder: &mut ProfileBuilder) -> Expansion {
        let raw = self.raw(id);
        let symbolised = self.symbolised(raw);
        let module_kind = self.module(raw.module).kind;
        let (kind, address) = match (raw.module, symbolised.named) {
            (ModuleIndex::KERNEL, _) => {
                (FunctionKind::Kernel, raw.address.wrapping_sub(self.symbols.kernel.base()))
            }
            (_, true) => (FunctionKind::Native, raw.address),
            (_, false) => (FunctionKind::Unsymbolised, raw.address),
        };
        let role = |name: &str| module_kind.role(name, symbolised.named);
        let (outermost, inlined) = symbolised.locations.split_last().expect("never empty");
        let in_evaluation = role(&outermost.function.name) == Role::Evaluation;
        let mut frames = Vec::with_capacity(symbolised.locations.len());
        // Add the outermost frame first, as stacks are built, so that the profile's tables are in order of first use.
        for (depth, location) in symbolised.locations.iter().enumerate().rev() {
            let name = builder.string(&location.function.name);
            let module = Some(self.module_id(raw, builder));
            let file = location.function.file.as_ref().map(|file| builder.string(file));
            let line = location.function.line;
            let function = builder.function(Function { name, module, file, line, kind });
            let inlined = depth != inlined.len();
            let file = location.file.as_ref().map(|file| builder.string(file));
            let frame = Frame { function, line: location.line, file, address, inlined };
            frames.push(NativeFrame {
                frame: builder.frame(frame),
                role: match role(&location.function.name) {
                    _ if inlined && in_evaluation => Role::Instruction,
                    role => role,
                },
                in_interpreter: module_kind == ModuleKind::Interpreter,
                in_preload: module_kind == ModuleKind::Preload,
            });
        }
        frames.reverse();
        let is_root = ROOTS.contains(&outermost.function.name.as_str());
        Expansion { frames, named: symbolised.named, is_root }
    }
}

impl ModuleKind {
    fn for_module(module: &ModuleFile) -> Self {
        match &module.image {
            _ if module.path == PRELOAD_LIBRARY => Self::Preload,
            _ if module.path == GENERATED_CODE => Self::Generated,
            Some(image) if symbol_table::defines(image.bytes(), python::is_evaluation) => {
                Self::Interpreter
            }
            _ => Self::Other,
        }
    }

    /// Returns the role of a function of such a module.
    fn role(self, function: &str, named: bool) -> Role {
        match self {
            Self::Preload => python::preload_role(function),
            // The interpreter's own entry for each Python function, which is on the stack as a Python frame already.
            Self::Generated if function.starts_with("py::") => Role::Internal,
            // Treated as internal, since `module+0xoffset` in the interpreter is of no use in a report.
            Self::Interpreter if !named => Role::Internal,
            _ => python::role(function, self == Self::Interpreter),
        }
    }
}

/// Returns the build id of a module in hexadecimal; `None` if it has none or could not be opened.
pub(super) fn build_id(module: &ModuleFile) -> Option<String> {
    let image = module.image.as_ref()?;
    let elf = ElfFile64::<object::Endianness>::parse(&**image.bytes()).ok()?;
    Some(hexadecimal(elf.build_id().ok()??))
}
