# Sees when a module defines the step function, before Python 3.12. Tracing would show it, but costs
# time in every call. Instead, the module's code is compiled again with a call of `defined` after
# each statement that may define the function, and runs in place of the original. `steps.py` follows.
import sys

FIRST = NAME.partition(".")[0]

# Stands for the function `defined` until the code is compiled.
HOOK = "simprof's defined"

# Opcodes of CPython 3.9 to 3.11.
STORE_NAME = 90
CALLS = (131, 141, 142, 161, 171)

# Flags of `compile`.
ONLY_AST = 0x400


def observed(code, source):
    """Returns the code of a module with a call of `defined` after each statement that may define the function, or None if
    the text is not that of the code. Line numbers stay the same, and functions keep their code."""
    with_hooks = without_warnings(compile_with_hooks, source, code.co_filename)
    if with_hooks is None or not is_same_program(code, with_hooks):
        return None
    originals = iter(inner_code(code))
    constants = [next(originals) if is_code(constant) else constant for constant in with_hooks.co_consts]
    constants = [defined if constant == HOOK else constant for constant in constants]
    return with_hooks.replace(co_consts=tuple(constants))


def defined():
    """Runs in the module after a statement that may have defined the function."""
    replace(sys._getframe(1).f_globals)


def compile_with_hooks(source, file):
    tree = compile(source, file, "exec", ONLY_AST, True)
    add_hooks(tree.body, file)
    return compile(tree, file, "exec", 0, True)


def without_warnings(function, *arguments):
    """Calls a function without showing warnings, which the interpreter has shown already. Returns None if it fails."""
    warnings = sys.modules["_warnings"]
    ignore = ("ignore", None, Warning, None, 0)
    warnings.filters.insert(0, ignore)
    warnings._filters_mutated()
    try:
        return function(*arguments)
    except Exception:
        return None
    finally:
        warnings.filters.remove(ignore)
        warnings._filters_mutated()


def add_hooks(statements, file):
    """Adds calls after statements of a module, also to those in blocks."""
    for position in reversed(range(len(statements))):
        statement = statements[position]
        if hasattr(statement, "name"):
            # The code of functions and classes is taken from the original, so their statements need not be compiled.
            del statement.body[1:]
        else:
            for block in blocks(statement):
                add_hooks(block, file)
        if may_define(statement):
            statements.insert(position + 1, hook_at(statement, file))


def blocks(statement):
    """Returns the lists of statements in a statement."""
    parts = [statement, *getattr(statement, "handlers", ()), *getattr(statement, "cases", ())]
    for part in parts:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(part, field, None)
            if isinstance(block, list):
                yield block


def may_define(statement):
    """Whether a statement binds FIRST: as a function, class, import or variable."""
    if hasattr(statement, "name"):
        return statement.name == FIRST
    if type(statement).__name__ in ("Import", "ImportFrom"):
        names = [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
        return FIRST in names or "*" in names
    targets = [*getattr(statement, "targets", ()), getattr(statement, "target", None)]
    return any(getattr(target, "id", None) == FIRST for target in targets)


def hook_at(statement, file):
    """Returns a statement that calls HOOK in the line of another statement."""
    call = compile(repr(HOOK) + "()", file, "exec", ONLY_AST, True).body[0]
    for node in (call, call.value, call.value.func):
        for place in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            setattr(node, place, getattr(statement, place))
    return call


def is_same_program(code, other):
    """Whether the code of a module has the same names, constants, functions and classes as another, apart from HOOK."""
    return code.co_names == other.co_names and described_constants(code) == described_constants(other)


def described_constants(code):
    """Returns the constants of a module's code, with name and line in place of inner code."""
    constants = [constant for constant in code.co_consts if constant != HOOK]
    return [(each.co_name, each.co_firstlineno) if is_code(each) else (type(each), each) for each in constants]


def inner_code(code):
    """Returns the code of the functions and classes that a module defines."""
    return [constant for constant in code.co_consts if is_code(constant)]


def is_code(constant):
    return hasattr(constant, "co_code")


def may_call_during_import(code):
    """Whether the code of a module calls anything after it has bound FIRST. Otherwise nothing calls the function before the
    module has been executed."""
    if FIRST not in code.co_names:
        return False
    index = code.co_names.index(FIRST) & 255
    text = code.co_code
    for at in range(0, len(text), 2):
        if text[at] == STORE_NAME and text[at + 1] == index:
            return any(operation in CALLS for operation in text[at + 2 :: 2])
    return False


def source_of(code, names):
    """Returns the text that the code of a main module was compiled from, or None."""
    if code.co_filename == "<string>":
        return command_text()
    get_data = getattr(names.get("__loader__"), "get_data", None)
    try:
        if get_data is not None:
            return get_data(code.co_filename)
        with open(code.co_filename, "rb") as file:
            return file.read()
    except OSError:
        return None


def command_text():
    """Returns the argument of the option `-c`."""
    with open("/proc/self/cmdline", "rb") as file:
        arguments = file.read().split(b"\0")
    for option, text in zip(arguments[1:], arguments[2:]):
        if option.startswith(b"-") and not option.startswith(b"--") and option.endswith(b"c"):
            return text
    return None


# The module that the program starts with: a process that `multiprocessing` spawned imports it again
# under another name.
IS_SPAWNED = "--multiprocessing-fork" in getattr(sys, "argv", ())
MAIN = "__mp_main__" if IS_SPAWNED else "__main__"


def main_code(code, names):
    """Runs before the code of each module with the module's global names, until it returns something else than None. A
    code object runs instead of the module's."""
    if names.get("__name__") != MAIN:
        return None
    if not is_named_module(names) or FIRST not in code.co_names:
        return False
    source = source_of(code, names)
    instead = None if source is None else observed(code, source)
    if instead is None:
        note("trouble", f"`{names['__name__']}` is not compiled from a text that simprof can read; define {NAME} in another module")
        return False
    return instead


class Finder:
    """Finds the named module with the other finders, and replaces its function when the module has defined it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != MODULE:
            return None
        for finder in sys.meta_path:
            find = None if finder is Finder else getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec is not None:
                sys.meta_path.remove(Finder)
                await_execution(spec)
                return spec
        return None


def await_execution(spec):
    loader = spec.loader

    def exec_module(module):
        del loader.exec_module
        loader.exec_module(module)
        replace(vars(module))

    def get_code(name):
        del loader.get_code
        code = loader.get_code(name)
        if code is None or not may_call_during_import(code):
            return code
        source = source_of(code, {"__loader__": loader})
        return source and observed(code, source) or code

    try:
        if hasattr(loader, "exec_module"):
            loader.exec_module = exec_module
            if hasattr(loader, "get_data") and hasattr(loader, "get_code"):
                loader.get_code = get_code
    except (AttributeError, TypeError):
        note("trouble", f"{MODULE} is loaded by {type(loader).__name__}, which simprof does not support")


def may_be_main():
    """Whether the named module may be the main module, judging by the command line."""
    arguments = getattr(sys, "argv", None) or ["-m"]
    return MODULE == "__main__" or arguments[0] == "-m" or IS_SPAWNED or stem(arguments[0]) == MODULE


def wait_for_definition():
    if MODULE in sys.modules and MODULE != "__main__":
        return replace(vars(sys.modules[MODULE]))
    if MODULE != "__main__":
        sys.meta_path.insert(0, Finder)
    if may_be_main():
        before_modules(main_code)
    return None
