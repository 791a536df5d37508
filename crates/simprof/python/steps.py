# Marks the calls of one function as steps. Runs before the first line of the program. These names
# are set: MODULE and NAME (the function), SPAN (how its calls delimit steps: "call", "begin" or
# "end"), FOLDER (where notes are written), mark_begin, mark_end and mark_boundary (take the number
# of a step). It imports only modules that the interpreter has already imported at start-up.
import _thread
import atexit
import posix
import sys

CLASS, _, LAST = NAME.rpartition(".")


IS_MONITORED = sys.version_info >= (3, 12)

# Only calls that are not nested in another call of the function count. Interleaved calls in one
# thread, such as coroutines of several tasks, do not share a stack: each counts.

fresh = iter(range(1 << 62)).__next__


def no_mark(number):
    pass


# What the beginning and the end of a call mark. A boundary ends a step and begins the next one.
mark_call_begin, mark_call_end = {
    "call": (mark_begin, mark_end),
    "begin": (mark_boundary, no_mark),
    "end": (no_mark, mark_boundary),
}[SPAN]


def is_within(frame, code):
    """Whether a frame or one of its callers runs a code object."""
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def is_named_module(names):
    """Whether a module, given by its global names, is MODULE."""
    module = names.get("__name__")
    if module == MODULE:
        return True
    if module not in ("__main__", "__mp_main__"):
        return False
    spec = names.get("__spec__")
    return MODULE in ("__main__", stem(names.get("__file__")), getattr(spec, "name", None))


def stem(path):
    """Returns the name of a script without folder and extension."""
    return path.rpartition("/")[2].partition(".")[0] if isinstance(path, str) else None


def named_class(found):
    """Whether a class is CLASS of MODULE."""
    module = sys.modules.get(found.__module__)
    return found.__qualname__ == CLASS and module is not None and is_named_module(vars(module))


# From 3.12 on, sys.monitoring reports calls: the first call of every function, and all calls of the
# named one. A function that is defined again has other code, which is then watched too.


def monitor():
    monitoring = sys.monitoring
    events = monitoring.events
    tool = next((tool for tool in (4, 3, 5, 1, 0) if monitoring.get_tool(tool) is None), None)
    if tool is None:
        return note("trouble", "all tool IDs of sys.monitoring are in use")
    # Code of the named function, by its identity.
    targets = {}
    steps = {}
    frame_of = sys._getframe

    def start(code, offset):
        frame = frame_of(1)
        if id(code) not in targets:
            # The body of a class is not a function.
            if code.co_name != LAST or not code.co_flags & 1:
                return monitoring.DISABLE
            if not is_named(code, frame):
                # Inherited code may still be called for the named class.
                return monitoring.DISABLE if targets else None
            targets[id(code)] = code
            monitoring.set_local_events(tool, code, events.PY_START | events.PY_RETURN)
            # PY_UNWIND cannot be enabled for a single function.
            monitoring.set_events(tool, events.PY_START | events.PY_UNWIND)
        # A reference keeps the frame object, so that the same call always has the same object.
        if not steps or not is_within(frame.f_back, code):
            steps[frame] = number = fresh()
            mark_call_begin(number)
        return None

    def end(code, offset, value):
        number = steps.pop(frame_of(1), None)
        if number is not None:
            mark_call_end(number)

    def unwind(code, offset, exception):
        if id(code) in targets:
            number = steps.pop(frame_of(1), None)
            if number is not None:
                mark_call_end(number)

    # A child forked during a step is not part of it.
    posix.register_at_fork(after_in_child=steps.clear)
    monitoring.use_tool_id(tool, "simprof")
    monitoring.register_callback(tool, events.PY_START, start)
    monitoring.register_callback(tool, events.PY_RETURN, end)
    monitoring.register_callback(tool, events.PY_UNWIND, unwind)
    monitoring.set_events(tool, events.PY_START)


def is_named(code, frame):
    """Whether the called function is the named one, or the method of that name that the named class inherits."""
    if code.co_qualname == NAME and is_named_module(frame.f_globals):
        return True
    if not CLASS or not code.co_argcount:
        return False
    this = frame.f_locals.get(code.co_varnames[0])
    classes = (this if isinstance(this, type) else type(this)).__mro__
    return any(named_class(found) and code_of(getattr(found, LAST, None)) is code for found in classes)


def code_of(function):
    """Returns the code of a function without its decorators."""
    function = getattr(function, "__func__", function)
    for _ in range(100):
        if not hasattr(function, "__wrapped__"):
            break
        function = function.__wrapped__
    return getattr(function, "__code__", None)


# Before 3.12, the function's code is replaced each time it is defined. If the function is also
# reachable by other names, the reference is replaced instead.

steps = set()
# Functions that restore the original code.
in_place = []


def enter():
    """Begins a step in the caller and returns its number, or None if the call is nested in a step."""
    frame = sys._getframe(1)
    if steps and is_within(frame.f_back, frame.f_code):
        return None
    number = fresh()
    steps.add(number)
    mark_call_begin(number)
    return number


def leave(number):
    if number in steps:
        steps.remove(number)
        mark_call_end(number)


def instead(*args, **kwargs):
    """Template of the code of a counted function. It runs with the function's globals, so its constants are replaced
    by the objects that they name."""
    enter = "simprof's enter"
    run = "simprof's run"
    leave = "simprof's leave"
    number = enter()
    try:
        return run(*args, **kwargs)
    finally:
        leave(number)


def count_in_place(function):
    """Makes a function count its calls. The function object stays the same. During a step it has its original code, so
    recursion inside the step needs no additional stack frames."""
    original = function.__code__
    copy = type(function)(original, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__

    def begin():
        frame = sys._getframe(1)
        if steps and is_within(frame.f_back, frame.f_code):
            return None
        # With several threads the code stays, because calls by another thread would be missed.
        if not _thread._count() and "greenlet" not in sys.modules:
            function.__code__ = original
        number = fresh()
        steps.add(number)
        mark_call_begin(number)
        return number

    def end(number):
        if number is not None:
            leave(number)
            if function.__code__ is original and counting:
                function.__code__ = counting

    def restore():
        """Restores the function. The garbage collector does not follow constants of code objects, so the objects would
        never be freed."""
        nonlocal counting
        function.__code__ = original
        counting = None

    known = {"simprof's enter": begin, "simprof's run": copy, "simprof's leave": end}
    changes = {
        "co_consts": tuple(known.get(constant, constant) for constant in instead.__code__.co_consts),
        "co_freevars": original.co_freevars,
        "co_name": original.co_name,
    }
    if hasattr(original, "co_qualname"):
        changes["co_qualname"] = original.co_qualname
    counting = instead.__code__.replace(**changes)
    function.__code__ = counting
    in_place.append(restore)
    # `inspect.signature` follows `__wrapped__`.
    function.__dict__.setdefault("__wrapped__", copy)
    return function


def counted(function, may_change):
    """Returns a function that calls `function` and counts its calls, or None if that is impossible."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & 0x200:  # An asynchronous generator.
        return None
    if flags & 0x80:  # A coroutine.

        async def step(*args, **kwargs):
            number = enter()
            try:
                return await function(*args, **kwargs)
            finally:
                leave(number)

    elif flags & 0x20:  # A generator.

        def step(*args, **kwargs):
            number = enter()
            try:
                return (yield from function(*args, **kwargs))
            finally:
                leave(number)

    elif may_change and type(function) is type(counted):
        return count_in_place(function)

    else:

        def step(*args, **kwargs):
            number = enter()
            try:
                return function(*args, **kwargs)
            finally:
                leave(number)

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        if hasattr(function, name):
            setattr(step, name, getattr(function, name))
    step.__dict__.update(getattr(function, "__dict__", {}))
    step.__wrapped__ = function
    return step


# The functions that count, so that none is replaced twice.
counted_functions = []


def replace(names):
    """Replaces the named function if these global names lead to it."""
    owner, found = None, names.get(FIRST)
    for name in NAME.split(".")[1:]:
        owner, found = found, static_attribute(found, name)
    if found is None or any(found is known for known in counted_functions):
        return
    note_found()
    step = replacement(found, owner, is_own(found, owner, names))
    if step is None:
        note("trouble", f"{NAME} is {kind_of(found)}")
        return
    counted_functions.append(step)
    if step is found:
        return
    if owner is None:
        names[FIRST] = step
    else:
        type.__setattr__(owner, LAST, step)


def static_attribute(owner, name):
    """Returns an attribute of a class or its bases without invoking descriptors."""
    if not isinstance(owner, type):
        return None
    return next((vars(found)[name] for found in owner.__mro__ if name in vars(found)), None)


def kind_of(found):
    """Describes an object that is not a function, and what to do."""
    if isinstance(found, type):
        return "a class; give the name of a method"
    return f"of the type `{type(found).__name__}`, whose calls cannot be observed; give the name of a function that it calls"


def is_own(found, owner, names):
    """Whether a function is defined where it was named, so that every call of it is a call of the named function."""
    found = getattr(found, "__func__", found)
    return getattr(found, "__globals__", None) is names and (owner is None or LAST in vars(owner))


def replacement(found, owner, may_change):
    """Returns the replacement of a function or method."""
    if isinstance(found, (staticmethod, classmethod)):
        step = counted(found.__func__, may_change)
        return None if step is None else type(found)(step)
    if isinstance(found, (type, property)) or not callable(found):
        return None
    if owner is not None and not hasattr(type(found), "__get__"):
        return None
    return counted(found, may_change)


# Notes for simprof if there was no step.

notes = []


def note(what, text):
    notes.append((what, text))


def note_found():
    note("found", NAME)


def finish():
    """Writes the notes and restores the functions, so that the program's objects are freed as usual."""
    write_notes()
    for restore in in_place:
        restore()
    in_place.clear()
    counted_functions.clear()


def write_notes():
    """Writes why there are no steps, and which names the module has."""
    calls = fresh()
    if calls > 1 or calls == 1 and SPAN == "call":
        return
    try:
        text = explanation() if calls == 0 else "once\n"
        write(f"steps-{posix.getpid()}", text.encode(errors="replace"))
    except OSError:
        pass  # The folder cannot be accessed after a change of the user or the root.


def explanation():
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
        found = named_by(vars(module))
        if isinstance(found, type):
            note("trouble", f"{NAME} is {kind_of(found)}")
        elif callable(found) and (IS_MONITORED or counted_functions):
            note_found()
        elif callable(found):
            note("trouble", f"no statement of the module that simprof could see defines {NAME}; use Python 3.12 or later, or name "
                 "the function and the module that define it")
    if not modules:
        for name, module in list(sys.modules.items()):
            if name == "__main__" or not is_standard(name, module):
                note("loaded", name)
    return "".join(f"{what} {text}\n" for what, text in notes[:2000])


def is_standard(name, module):
    """Whether a module belongs to the standard library: by its name, or in 3.9, which does not list the names, by
    having no file or one beside `os`."""
    if name.partition(".")[0] in getattr(sys, "stdlib_module_names", ()):
        return True
    file = getattr(module, "__file__", None)
    library = (getattr(sys.modules.get("os"), "__file__", None) or "").rpartition("/")[0]
    if not isinstance(file, str):
        return True
    return bool(library) and file.startswith(f"{library}/") and "-packages/" not in file


def named_by(names):
    """Returns the object that NAME leads to from global names, or None."""
    found = names.get(FIRST)
    for name in NAME.split(".")[1:]:
        found = getattr(found, name, None)
    return found


atexit.register(finish)
if IS_MONITORED:
    monitor()
else:
    # A child forked during a step is not part of it.
    posix.register_at_fork(after_in_child=steps.clear)
    wait_for_definition()
