//! Finds functions and lines for the addresses of a module: from debug information, otherwise from symbols, otherwise from
//! function bounds.
//!
//! Three libraries were compared on 20,000 addresses of a Rust release binary. They returned the same names (19,719 named
//! addresses, 81,000 frames): `addr2line` in 165 to 230 ms, `blazesym` in 170 to 180 ms, `wholesym` in 210 ms. `addr2line`
//! was chosen for three reasons:
//!
//! - It is the only one that gives access to a function's entry, and so to its declaration.
//! - It reads bytes, so that files can be opened while the target runs, instead of paths.
//! - Most of its 19 crates are needed for unwinding anyway. `blazesym` adds 15, among them a second version of `gimli`;
//!   `wholesym` about 200, among them an asynchronous runtime and a network client.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::debug_file::{self, Supplementary};
use super::debug_storage::{Elf, Storage, main_section};
use super::dwarf::{self, CodeLocation, DebugInfo, FunctionInfo};
use super::module::{Image, ModuleFile, SharedBytes};
use super::plt::Plt;
use super::split_files::SplitFiles;
use super::symbol_table::{Symbol, SymbolTable};
use super::tight_loops::{self, TightCode};

/// The functions at an address.
#[derive(Debug, Clone)]
pub(super) struct Symbolised {
    /// Innermost first, never empty.
    pub locations: Vec<CodeLocation>,
    /// False if the name is only `module+0xoffset`.
    pub named: bool,
}

/// The symbolised addresses of a module.
#[derive(Debug, Default)]
pub(super) struct ModuleSymbols {
    /// In the order of the addresses.
    pub symbolised: Vec<Symbolised>,
    /// The tight loops that samples fell into.
    pub loops: Vec<TightCode>,
    /// Names of files with debug information of the module that were needed but not found.
    pub missing_files: BTreeSet<String>,
}

/// Symbolises addresses of a module, as its file states them. `leaves` are those at which a sample was taken, with the number of samples.
pub(super) fn addresses(
    module: &ModuleFile,
    addresses: &[u64],
    leaves: &BTreeMap<u64, u64>,
) -> ModuleSymbols {
    let storage = Storage::default();
    let image = module.image.as_ref();
    let opened = image.and_then(|image| Some((image, storage.file(image.bytes().clone())?)));
    let Some((image, file)) = opened else {
        let symbolised = addresses.iter().map(|&address| offset_in(module, address)).collect();
        return ModuleSymbols { symbolised, ..ModuleSymbols::default() };
    };
    let files = DebugFiles::find(&storage, file, Path::new(&module.path));
    let symbols = SymbolTable::read(&files.with_symbols());
    let plt = Plt::read(&files.program);
    let mut info = files.read(&storage);
    let symbolised = addresses
        .iter()
        .map(|&address| match plt.name_at(address, &module.path) {
            Some(name) => Symbolised { locations: vec![name_only(name)], named: true },
            None => symbolised(module, image, info.as_mut(), symbols.at(address), address),
        })
        .collect();
    let loops = info.as_mut().map(|info| {
        let locations = |address| info.locations(address, symbols.at(address));
        tight_loops::find(image, &symbols, leaves, locations)
    });
    let mut missing_files = files.missing;
    missing_files.extend(info.iter().flat_map(|info| info.missing()).map(str::to_owned));
    ModuleSymbols { symbolised, loops: loops.unwrap_or_default(), missing_files }
}

fn symbolised(
    module: &ModuleFile,
    image: &Image,
    info: Option<&mut DebugInfo<'_>>,
    symbol: Option<&Symbol<'_>>,
    address: u64,
) -> Symbolised {
    let locations = info.map(|info| info.locations(address, symbol)).unwrap_or_default();
    if !locations.is_empty() {
        return Symbolised { locations, named: true };
    }
    match symbol {
        Some(symbol) => Symbolised { locations: vec![name_only(symbol.demangled())], named: true },
        None => {
            let function = image.unwind.function_at(address);
            offset_in(module, function.map_or(address, |function| function.start))
        }
    }
}

/// The files with the debug information of a program.
struct DebugFiles<'a> {
    program: Elf<'a>,
    /// A separate debug file.
    separate: Option<Elf<'a>>,
    supplementary: Option<Elf<'a>>,
    /// Paths of the program and of the separate file.
    paths: Vec<PathBuf>,
    /// Files that are needed but were not found.
    missing: BTreeSet<String>,
}

impl<'a> DebugFiles<'a> {
    fn find(storage: &'a Storage, program: Elf<'a>, path: &Path) -> Self {
        let found = if dwarf::is_in(&program) { None } else { debug_file::find(&program, path) };
        let mut paths = vec![path.to_owned()];
        paths.extend(found.as_ref().map(|found| found.path.clone()));
        let separate = found.and_then(|found| storage.file(found.bytes));
        let debug = separate.as_ref().unwrap_or(&program);
        // `strip` leaves the reference in a program without debug information.
        let reference = dwarf::is_in(debug).then(|| Supplementary::of(debug)).flatten();
        let referrer = paths.last().expect("the program has a path");
        let supplementary = reference.as_ref().and_then(|reference| reference.open(referrer));
        let missing = match (&supplementary, reference) {
            (None, Some(reference)) => BTreeSet::from([reference.name.display().to_string()]),
            _ => BTreeSet::new(),
        };
        let supplementary = supplementary.and_then(|bytes| storage.file(bytes));
        Self { program, separate, supplementary, paths, missing }
    }

    /// Returns the file that has the debug information, if any has.
    fn with_debug_information(&self) -> &Elf<'a> {
        self.separate.as_ref().unwrap_or(&self.program)
    }

    fn with_symbols(&self) -> Vec<&Elf<'a>> {
        std::iter::once(&self.program).chain(&self.separate).collect()
    }

    fn read(&self, storage: &'a Storage) -> Option<DebugInfo<'a>> {
        let split = SplitFiles::new(storage, &self.paths);
        DebugInfo::new(storage, self.with_debug_information(), self.supplementary.as_ref(), split)
    }
}

/// Returns the files with debug information of the program at `path` that are missing. `data` is the content of the program.
pub(crate) fn missing_files(data: Vec<u8>, path: &Path) -> BTreeSet<String> {
    let storage = Storage::default();
    let Some(program) = storage.file(SharedBytes::from_vec(data)) else { return BTreeSet::new() };
    let mut files = DebugFiles::find(&storage, program, path);
    let dwarf = storage.dwarf(files.with_debug_information(), main_section);
    let split = SplitFiles::new(&storage, &files.paths);
    files.missing.extend(split.missing_of_all_units(&dwarf));
    files.missing
}

/// Returns the name of an address without a symbol: `module+0xoffset`. Code that belongs to no file has one name, because nothing
/// shows where its functions begin.
fn offset_in(module: &ModuleFile, address: u64) -> Symbolised {
    let name = match module.path.as_str() {
        "[anon]" => "[anonymous code]".to_owned(),
        "[unknown]" => "[unknown code]".to_owned(),
        path => format!("{}+{address:#x}", path.rsplit('/').next().unwrap_or(path)),
    };
    Symbolised { locations: vec![name_only(name)], named: false }
}

/// Returns a location of which only the function's name is known.
pub(super) fn name_only(name: String) -> CodeLocation {
    let function = FunctionInfo { name, ..Default::default() };
    CodeLocation { function: Rc::new(function), file: None, line: None }
}

/// Returns a program and the addresses of its function whose name ends like this.
#[cfg(test)]
pub(super) fn module_with(program: &str, function: &str) -> (ModuleFile, Vec<u64>) {
    let image = Image::parse(SharedBytes::from_vec(std::fs::read(program).expect("built")));
    let image = image.expect("an ELF file");
    let storage = Storage::default();
    let file = storage.file(image.bytes().clone()).expect("an ELF file");
    let addresses: Vec<u64> = SymbolTable::read(&[&file]).range_of(function).collect();
    assert!(!addresses.is_empty(), "{program} has the function");
    let identity = super::module::FileIdentity::default();
    let image = Some(std::sync::Arc::new(image));
    (ModuleFile { path: program.to_owned(), identity, image }, addresses)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use simprof_testkit::{TestFolder, run};

    use super::*;

    /// `inner` is inlined into `middle`, which is inlined into `outer`. The loop is on line 4.
    const SOURCE: &str = "static volatile unsigned long sink = 1;
static inline __attribute__((always_inline)) void inner(unsigned long n) {
    unsigned long x = sink;
    for (unsigned long i = 0; i < n; i++) x = x * 2862933555777941757UL + 3037000493UL;
    sink = x;
}
static inline __attribute__((always_inline)) void middle(unsigned long n) { inner(n); sink++; }
__attribute__((noinline)) void outer(void) { middle(75); sink++; }
int main(void) { outer(); return 0; }
";
    const INLINED: [&str; 3] = ["inner", "middle", "outer"];

    /// Symbolises every address of `outer` in a program.
    fn symbolise_outer(program: &str) -> (ModuleSymbols, BTreeSet<Vec<String>>) {
        let (module, wanted) = module_with(program, "outer");
        let found = addresses(&module, &wanted, &BTreeMap::new());
        let names = found.symbolised.iter().map(|symbolised| {
            symbolised.locations.iter().map(|at| at.function.name.clone()).collect()
        });
        let names = names.collect();
        (found, names)
    }

    #[track_caller]
    fn assert_inlined(program: &str, prefix: &str) {
        let (found, names) = symbolise_outer(program);
        let expected = INLINED.map(|name| format!("{prefix}{name}")).to_vec();
        assert!(names.contains(&expected), "{program}: {names:?}");
        assert!(found.missing_files.is_empty(), "{:?}", found.missing_files);
        for location in found.symbolised.iter().flat_map(|symbolised| &symbolised.locations) {
            if INLINED.iter().any(|name| location.function.name.ends_with(name)) {
                let file = location.function.file.as_deref().expect("it is declared in a file");
                assert!(file.contains("program."), "{program}: {file}");
                assert!(location.function.line.is_some(), "{program}: {names:?}");
            }
        }
    }

    /// Asserts that functions keep their names and are not taken for those of another file, and that the missing file is named.
    #[track_caller]
    fn assert_missing(program: &str, prefix: &str, file: &str) {
        let (found, names) = symbolise_outer(program);
        assert_eq!(names, BTreeSet::from([vec![format!("{prefix}outer")]]), "{program}");
        let missing: Vec<_> = found.missing_files.iter().collect();
        assert!(missing.len() == 1 && missing[0].ends_with(file), "{missing:?}");
        for location in found.symbolised.iter().flat_map(|symbolised| &symbolised.locations) {
            assert_eq!(location.function.file, None, "its file is not known");
        }
        let mut lines = found.symbolised.iter().flat_map(|symbolised| &symbolised.locations);
        assert!(lines.any(|location| location.line.is_some()), "the program itself has the lines");
        assert_eq!(
            missing_files(std::fs::read(program).expect("built"), Path::new(program)),
            found.missing_files
        );
    }

    /// Compiles and links in two steps, in the test's folder. Returns the path of the program.
    fn build(folder: &TestFolder, options: &[&str]) -> String {
        folder.write("program.c", SOURCE);
        let gcc = |arguments: &[&str]| {
            run(Command::new("cc").current_dir(folder.root()).args(arguments));
        };
        gcc(&[&["-O2", "-g", "-c", "program.c", "-o", "program.o"], options].concat());
        gcc(&["program.o", "-o", "program"]);
        folder.text_path("program")
    }

    #[test]
    fn split_debug_information_of_c_is_read() {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let folder = TestFolder::new();
            let program = build(&folder, &[version, "-gsplit-dwarf"]);
            assert_inlined(&program, "");
            let moved = folder.path("program.dwo.moved");
            std::fs::rename(folder.path("program.dwo"), &moved).expect("the compiler wrote it");
            assert_missing(&program, "", "program.dwo");
            // The file of another version of the unit is not used.
            let other = TestFolder::new();
            build(&other, &[version, "-gsplit-dwarf", "-DOTHER", "-O1"]);
            std::fs::copy(other.path("program.dwo"), folder.path("program.dwo")).expect("copied");
            assert_missing(&program, "", "program.dwo");
            std::fs::remove_file(folder.path("program.dwo")).expect("it is ours");
            std::fs::rename(moved, folder.path("program.dwo")).expect("it is ours");
            // The tool that makes packages reads DWARF 4 alone. The packages of Rust programs have DWARF 5.
            if version == "-gdwarf-4" {
                let pack = ["program.dwo", "-o", "program.dwp"];
                run(Command::new("dwp").current_dir(folder.root()).args(pack));
                std::fs::remove_file(folder.path("program.dwo")).expect("it is ours");
                assert_inlined(&program, "");
            }
        }
    }

    #[test]
    fn split_debug_information_of_rust_is_read() {
        let source = "use std::hint::black_box;
#[inline(always)]
fn inner(n: u64) -> u64 { let mut x = black_box(1u64); for i in 0..n { x = x.rotate_left(5) ^ i; } x }
#[inline(always)]
fn middle(n: u64) -> u64 { inner(n) }
#[inline(never)]
fn outer() -> u64 { black_box(middle(1_500)) }
fn main() { println!(\"{}\", outer()); }
";
        for (kind, extension) in [("packed", "dwp"), ("unpacked", "dwo")] {
            let folder = TestFolder::new();
            let file = folder.write("program.rs", source);
            let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let split = format!("split-debuginfo={kind}");
            let mut command = Command::new(rustc);
            command.current_dir(folder.root()).args([
                "-O",
                "-g",
                "-C",
                &split,
                "-C",
                "codegen-units=1",
            ]);
            run(command.arg(&file));
            let program = folder.text_path("program");
            let (found, names) = symbolise_outer(&program);
            assert!(found.missing_files.is_empty(), "{:?}", found.missing_files);
            let expected = ["program::inner", "program::middle", "program::outer"];
            assert!(
                names.iter().any(|names| names.ends_with(&expected.map(str::to_owned))),
                "{names:?}"
            );
            for entry in std::fs::read_dir(folder.root()).expect("it is ours").flatten() {
                if entry.path().extension().is_some_and(|found| found == extension) {
                    std::fs::remove_file(entry.path()).expect("it is ours");
                }
            }
            assert_missing(&program, "program::", ".dwo");
        }
    }

    #[test]
    fn parts_that_debug_files_share_are_read() {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let folder = TestFolder::new();
            let program = build(&folder, &[version]);
            let twin = folder.text_path("twin");
            std::fs::copy(&program, &twin).expect("copied");
            // Partial units within one file.
            run(Command::new("dwz").args([&program, "-o", &folder.text_path("single")]));
            assert_inlined(&folder.text_path("single"), "");
            // A supplementary file, named relative to the file that refers to it.
            let shared = folder.text_path("shared.debug");
            run(Command::new("dwz").args(["-m", &shared, "-M", "shared.debug", &program, &twin]));
            assert_inlined(&program, "");
            // The debug file is in another folder than the program, and the supplementary file is relative to the debug file.
            std::fs::create_dir(folder.path(".debug")).expect("made");
            let debug = folder.text_path(".debug/program.debug");
            run(Command::new("objcopy").arg("--only-keep-debug").args([&program, &debug]));
            let stripped = folder.text_path("stripped");
            let link = format!("--add-gnu-debuglink={debug}");
            run(Command::new("objcopy").args(["--strip-debug", &link, &program, &stripped]));
            std::fs::rename(&shared, folder.path(".debug/shared.debug")).expect("it is ours");
            assert_inlined(&stripped, "");
            std::fs::remove_file(folder.path(".debug/shared.debug")).expect("it is ours");
            let (found, names) = symbolise_outer(&stripped);
            assert_eq!(found.missing_files, BTreeSet::from(["shared.debug".to_owned()]));
            assert!(names.iter().all(|names| names.last().is_some_and(|name| name == "outer")));
        }
    }

    #[test]
    fn without_section_headers_exported_functions_have_names() {
        let folder = TestFolder::new();
        for hash in ["gnu", "sysv"] {
            let file = folder.write("program.c", SOURCE);
            let (program, style) = (folder.text_path(hash), format!("-Wl,--hash-style={hash}"));
            run(Command::new("cc").args(["-O2", "-rdynamic", "-s", &style, "-o", &program, &file]));
            let mut bytes = std::fs::read(&program).expect("built");
            // The fields e_shoff, e_shnum and e_shstrndx.
            bytes[0x28..0x30].fill(0);
            bytes[0x3c..0x40].fill(0);
            std::fs::write(&program, bytes).expect("it is ours");
            let (_, names) = symbolise_outer(&program);
            assert_eq!(names, BTreeSet::from([vec!["outer".to_owned()]]), "{hash}");
        }
    }
}
