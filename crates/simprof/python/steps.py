# Marks the calls of one function as steps. Run before the program's own first line, with these names set:
# MODULE and NAME (the function), FOLDER (where notes go), mark_begin and mark_end (take a step's number).
# It imports nothing that the interpreter has not imported by itself.
import _thread
import atexit
import posix
import sys

CLASS, _, LAST = NAME.rpartition(".")
FIRST = NAME.partition(".")[0]


def counter():
    """What is called at the begin and the end of each call: the outermost of a thread is a step."""
    steps = {}
    fresh = iter(range(1 << 62)).__next__
    thread_id = _thread.get_ident

    def enter():
        thread = thread_id()
        step = steps.get(thread)
        if step is None:
            number = fresh()
            steps[thread] = [number, 0]
            mark_begin(number)
        else:
            step[1] += 1

    def leave():
        thread = thread_id()
        step = steps.get(thread)
        if step is None:
            return
        if step[1]:
            step[1] -= 1
        else:
            mark_end(step[0])
            del steps[thread]

    # A child that is forked within a step is not in it.
    posix.register_at_fork(after_in_child=steps.clear)
    return enter, leave, fresh


enter, leave, fresh = counter()


def is_named_module(names):
    """Whether a module, by its global names, is the one that was named."""
    module = names.get("__name__")
    if module == MODULE:
        return True
    if module not in ("__main__", "__mp_main__"):
        return False
    spec = names.get("__spec__")
    return MODULE in ("__main__", stem(names.get("__file__")), getattr(spec, "name", None))


def stem(path):
    """The name of a script without its folder and its ending."""
    return path.rpartition("/")[2].partition(".")[0] if isinstance(path, str) else None


def named_class(found):
    """Whether a class is the one that was named."""
    module = sys.modules.get(found.__module__)
    return found.__qualname__ == CLASS and module is not None and is_named_module(vars(module))


# From 3.12 on the interpreter itself tells of calls, of all functions once and of the one that was named always.


def monitor():
    monitoring = sys.monitoring
    events = monitoring.events
    tool = next((tool for tool in (4, 3, 5, 1, 0) if monitoring.get_tool(tool) is None), None)
    if tool is None:
        return note("trouble", "all of sys.monitoring's tools are taken")
    target = None

    def search(code, offset):
        nonlocal target
        if code.co_name != LAST:
            return monitoring.DISABLE
        if is_named(code, sys._getframe(1)):
            target = code
            monitoring.register_callback(tool, events.PY_START, start)
            monitoring.set_local_events(tool, code, events.PY_START | events.PY_RETURN)
            # What an exception ends cannot be followed for one function alone.
            monitoring.set_events(tool, events.PY_UNWIND)
            enter()
        return None

    def start(code, offset):
        enter()

    def end(code, offset, value):
        leave()

    def unwind(code, offset, exception):
        if code is target:
            leave()

    monitoring.use_tool_id(tool, "simprof")
    monitoring.register_callback(tool, events.PY_START, search)
    monitoring.register_callback(tool, events.PY_RETURN, end)
    monitoring.register_callback(tool, events.PY_UNWIND, unwind)
    monitoring.set_events(tool, events.PY_START)


def is_named(code, frame):
    """Whether the function that begins is the one that was named, or what the named class inherits by that name."""
    if code.co_qualname == NAME and is_named_module(frame.f_globals):
        return True
    if not CLASS or not code.co_argcount:
        return False
    this = frame.f_locals.get(code.co_varnames[0])
    classes = (this if isinstance(this, type) else type(this)).__mro__
    return any(named_class(found) and code_of(getattr(found, LAST, None)) is code for found in classes)


def code_of(function):
    """The code of a function beneath its decorators."""
    function = getattr(function, "__func__", function)
    for _ in range(100):
        if not hasattr(function, "__wrapped__"):
            break
        function = function.__wrapped__
    return getattr(function, "__code__", None)


# Before 3.12 the function is replaced, as soon as it is defined.


def counted(function):
    """A function that does what `function` does, and counts its calls."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & 0x200:
        return None
    if flags & 0x80:

        async def step(*args, **kwargs):
            enter()
            try:
                return await function(*args, **kwargs)
            finally:
                leave()

    elif flags & 0x20:

        def step(*args, **kwargs):
            enter()
            try:
                return (yield from function(*args, **kwargs))
            finally:
                leave()

    else:

        def step(*args, **kwargs):
            enter()
            try:
                return function(*args, **kwargs)
            finally:
                leave()

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        if hasattr(function, name):
            setattr(step, name, getattr(function, name))
    step.__dict__.update(getattr(function, "__dict__", {}))
    step.__wrapped__ = function
    return step


def replace(names):
    """Replaces the named function, where these global names lead to it; whether there is nothing more to wait for."""
    if FIRST not in names:
        return False
    owner, path = None, NAME.split(".")
    found = names[FIRST]
    for name in path[1:]:
        owner, found = found, static_attribute(found, name)
        if found is None:
            return True
    step = replacement(found, owner)
    if step is None:
        note("trouble", f"{NAME} is {type(found).__name__}, whose calls cannot be seen")
    elif owner is None:
        names[FIRST] = step
    else:
        type.__setattr__(owner, LAST, step)
    note_found()
    return True


def static_attribute(owner, name):
    """What a class holds by a name, itself or by inheritance, as it is there."""
    if not isinstance(owner, type):
        return None
    return next((vars(found)[name] for found in owner.__mro__ if name in vars(found)), None)


def replacement(found, owner):
    """What to put in the place of a function or method."""
    if isinstance(found, (staticmethod, classmethod)):
        step = counted(found.__func__)
        return None if step is None else type(found)(step)
    if isinstance(found, (type, property)) or not callable(found):
        return None
    if owner is not None and not hasattr(type(found), "__get__"):
        return None
    return counted(found)


class Finder:
    """Finds the named module as others do, and has its function replaced once it has been executed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != MODULE:
            return None
        for finder in sys.meta_path:
            find = None if finder is Finder else getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec is not None:
                sys.meta_path.remove(Finder)
                await_execution(spec.loader)
                return spec
        return None


def await_execution(loader):
    def exec_module(module):
        del loader.exec_module
        loader.exec_module(module)
        replace(vars(module))

    try:
        hasattr(loader, "exec_module") and setattr(loader, "exec_module", exec_module)
    except (AttributeError, TypeError):
        note("trouble", f"{MODULE} is loaded by {type(loader).__name__}, which cannot be followed")


def trace(frame, event, argument):
    """Looks for the begin of the program's own module."""
    if event == "call" and frame.f_code.co_name == "<module>" and is_main(frame):
        if FIRST in frame.f_code.co_names:
            return trace_main
        sys.settrace(None)
    return None


def trace_main(frame, event, argument):
    """Follows the program's own module from line to line until the function is defined."""
    if replace(frame.f_globals) or event == "return":
        sys.settrace(None)
        frame.f_trace = None
        return None
    return trace_main


def is_main(frame):
    names = frame.f_globals
    return names.get("__name__") in ("__main__", "__mp_main__") and is_named_module(names)


def may_be_main():
    """Whether the named module may be the program itself, as far as the command line tells."""
    arguments = getattr(sys, "argv", None) or ["-m"]
    program = arguments[0]
    if MODULE == "__main__" or program == "-m" or "--multiprocessing-fork" in arguments:
        return True
    return stem(program) == MODULE


def wait_for_definition():
    if MODULE in sys.modules and MODULE != "__main__":
        return replace(vars(sys.modules[MODULE]))
    if MODULE != "__main__":
        sys.meta_path.insert(0, Finder)
    if may_be_main() and sys.gettrace() is None:
        sys.settrace(trace)
        frame = sys._getframe()
        while frame is not None:
            frame.f_trace = trace(frame, "call", None)
            frame = frame.f_back
    return None


# What the profiler is told where no step was seen.

notes = []


def note(what, text):
    notes.append((what, text))


def note_found():
    note("found", NAME)


def tell():
    """Writes why there are no steps, and what the named module has instead."""
    if fresh() > 0:
        return
    modules = [module for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    modules = [module for module in modules if is_named_module(vars(module))]
    for module in modules:
        note("module", module.__name__)
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and getattr(value, "__module__", None) == module.__name__:
                for method in dir(value):
                    if not method.startswith("__") and callable(getattr(value, method, None)):
                        note("has", f"{name}.{method}")
            elif callable(value) and not isinstance(value, type):
                note("has", name)
        if replaceable(vars(module)):
            note_found()
    if not modules:
        for module in list(sys.modules):
            note("loaded", module)
    text = "".join(f"{what} {text}\n" for what, text in notes[:2000])
    write(f"steps-{posix.getpid()}", text.encode(errors="replace"))


def replaceable(names):
    """Whether global names lead to something callable by the name."""
    found = names.get(FIRST)
    for name in NAME.split(".")[1:]:
        found = getattr(found, name, None)
    return callable(found)


atexit.register(tell)
if sys.version_info >= (3, 12):
    monitor()
else:
    wait_for_definition()
