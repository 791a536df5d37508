# Counts every call with the interpreter's own tracer, and writes the counts at the end of each
# process. Runs before the first line of the program. FOLDER is where the counts are written.
#
# A program and all processes forked from it write to one file, through a descriptor that stays
# open. At its end a process may have changed the user or the root, or have closed the descriptor,
# but rarely both. The file has records, each appended by one write: `begun`, and one of `counts`,
# `mixed` and `yielded`, for each process.
import _lsprof
import _signal
import _thread
import atexit
import marshal
import posix
import sys

# From 3.12 on, a tracer sees all threads but treats their calls as those of one: counts are
# correct, times are not.
ONE_TRACER_FOR_ALL = sys.version_info >= (3, 12)

tracers = {}
counts = {}
lock = _thread.allocate_lock()
state = {"begun": 0, "mixed": False, "yielded": False, "finishing": False, "signal": None}


class CountsFile:
    """The file of records of this program."""

    def __init__(self):
        flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        # After an exec, another program has the same process ID, so the name has a second number.
        for program in range(10000):
            self.path = f"{FOLDER}/calls-{posix.getpid()}-{program}"
            try:
                descriptor = posix.open(self.path, flags, 0o600)
                break
            except FileExistsError:
                pass
        self.descriptor = to_high_number(descriptor)
        self.identity = identity(self.descriptor)

    def append(self, kind, content=b""):
        record = f"{kind} {posix.getpid()} {len(content)}\n".encode() + content
        if identity(self.descriptor) == self.identity:
            return write_all(self.descriptor, record)
        # The program has closed the descriptor, which it does not know.
        descriptor = posix.open(self.path, posix.O_WRONLY | posix.O_APPEND | posix.O_CLOEXEC)
        try:
            return write_all(descriptor, record)
        finally:
            posix.close(descriptor)


def identity(descriptor):
    try:
        status = posix.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def to_high_number(descriptor):
    """Moves a descriptor to a high number, so that the program's own descriptors get the same numbers as without
    simprof."""
    for high in range(min(posix.sysconf("SC_OPEN_MAX"), 1000) - 1, descriptor, -1):
        if identity(high) is None:
            posix.dup2(descriptor, high, False)
            posix.close(descriptor)
            return high
    return descriptor


counts_file = CountsFile()


def begin():
    """Records that this process will write its counts."""
    counts_file.append("begun")
    state["begun"] = posix.getpid()
    state["mixed"] = False


def is_helper():
    """Whether this is a helper process of multiprocessing. It runs no code of the program, but may fork processes that
    do. It outlives the program for a moment or is killed, and would count as lost."""
    try:
        descriptor = posix.open("/proc/self/cmdline", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    arguments = posix.read(descriptor, 1 << 16).split(b"\0")
    posix.close(descriptor)
    modules = (b"resource_tracker", b"semaphore_tracker", b"forkserver")
    helpers = tuple(b"from multiprocessing." + module + b" import main;" for module in modules)
    return any(argument.startswith(helpers) for argument in arguments)


def trace_thread():
    tracer = _lsprof.Profiler()
    tracer.enable()
    tracers[_thread.get_ident()] = tracer
    return tracer


def label(code):
    """Returns the key that pstats uses for a function."""
    if isinstance(code, str):
        return ("~", 0, code)
    return (code.co_filename, code.co_firstlineno, code.co_name)


def collect(tracer):
    """Adds the counts of a tracer to the counts of this process."""
    entries = [entry for entry in tracer.getstats() if is_of_program(entry.code)]
    for entry in entries:
        add(counts.setdefault(label(entry.code), [0, 0, 0.0, 0.0, {}]), entry)
    for entry in entries:
        for called in entry.calls or ():
            if is_of_program(called.code):
                callers = counts.setdefault(label(called.code), [0, 0, 0.0, 0.0, {}])[4]
                add(callers.setdefault(label(entry.code), [0, 0, 0.0, 0.0]), called)


def add(sums, entry):
    """Adds primitive calls, all calls, self time and total time."""
    sums[0] += entry.callcount - entry.reccallcount
    sums[1] += entry.callcount
    sums[2] += entry.inlinetime
    sums[3] += entry.totaltime


def is_of_program(code):
    """Whether a function belongs to the program, not to this script."""
    if isinstance(code, str):
        return "_lsprof.Profiler" not in code
    return code.co_filename != "<simprof>"


def finish():
    """Writes the counts of this process, once."""
    if state["begun"] != posix.getpid():
        return
    # Before the next line, or a signal between the two would end the process without its counts.
    state["finishing"] = True
    state["begun"] = 0
    try:
        write_counts()
    except Exception:
        pass  # The program must not fail because of this. simprof reports that the counts are missing.
    finally:
        state["finishing"] = False
        if state["signal"] is not None:
            end_by_signal(state["signal"])


def write_counts():
    own = tracers.get(_thread.get_ident())
    if not ONE_TRACER_FOR_ALL and own is not None and sys.getprofile() is not own:
        state["yielded"] = True
    for tracer in list(tracers.values()):
        if ONE_TRACER_FOR_ALL or tracer is own:
            tracer.disable()
        with lock:
            collect(tracer)
    if state["yielded"]:
        return counts_file.append("yielded")
    with lock:
        written = marshal.dumps({key: written_form(value) for key, value in counts.items()}, 2)
    return counts_file.append("mixed" if state["mixed"] else "counts", written)


def yield_profiler():
    """Stops counting, because the interpreter supports one profiler only and the program uses its own."""
    for tracer in tracers.values():
        tracer.disable()
    tracers.clear()
    state["yielded"] = True
    if state["begun"] == posix.getpid():
        state["begun"] = 0
        counts_file.append("yielded")


def yield_on_request():
    """From 3.12 on, a profiler first claims a tool ID, and fails if it is taken."""
    use = sys.monitoring.use_tool_id

    def use_tool_id(tool_id, name, /):
        if tool_id == sys.monitoring.PROFILER_ID:
            sys.monitoring.use_tool_id = use
            yield_profiler()
        return use(tool_id, name)

    sys.monitoring.use_tool_id = use_tool_id


def written_form(sums):
    """Returns the sums in cProfile's order: for callers, all calls come before the primitive ones."""
    callers = {caller: (counts[1], counts[0], counts[2], counts[3]) for caller, counts in sums[4].items()}
    return (sums[0], sums[1], sums[2], sums[3], callers)


def forked():
    """Restarts the counts in a forked child. Its parent writes the earlier ones."""
    global lock
    lock = _thread.allocate_lock()
    own = tracers.get(_thread.get_ident()) or next(iter(tracers.values()), None)
    tracers.clear()
    counts.clear()
    if own is not None:
        own.clear()
        tracers[_thread.get_ident()] = own
    # Before the process is recorded as begun: a pool may end a worker that has only just started.
    write_counts_on_sigterm()
    try:
        begin()
        if state["yielded"]:
            yield_profiler()
    except OSError:
        pass


def write_counts_on_sigterm():
    """Writes the counts on SIGTERM, with which process pools end their workers. Its default action would lose the
    counts."""
    try:
        if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
            _signal.signal(_signal.SIGTERM, terminated)
    except ValueError:
        pass  # Only the main thread may set a handler. The process is then reported as lost.


def terminated(signal, frame):
    if state["finishing"]:
        state["signal"] = signal
    else:
        finish()
        end_by_signal(signal)


def end_by_signal(signal):
    _signal.signal(signal, _signal.SIG_DFL)
    posix.kill(posix.getpid(), signal)


def follow_threads():
    """Traces each thread from its start."""
    start = _thread.start_new_thread

    def start_new_thread(function, args, kwargs={}):
        def run(*args, **kwargs):
            tracer = trace_thread()
            try:
                return function(*args, **kwargs)
            finally:
                if sys.getprofile() is not tracer:
                    state["yielded"] = True
                tracer.disable()
                tracers.pop(_thread.get_ident(), None)
                if state["begun"] == posix.getpid():
                    with lock:
                        collect(tracer)

        return start(run, args, kwargs)

    hook("start_new_thread", start_new_thread)
    hook("start_new", start_new_thread)


def notice_threads():
    """Only records whether there are threads besides the main one."""
    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        start = getattr(_thread, name, None)
        if start is not None:

            def noticed(*args, start=start, **kwargs):
                state["mixed"] = True
                return start(*args, **kwargs)

            hook(name, noticed)


def hook(name, function):
    """Replaces a function that starts threads, also where `threading` has already imported it."""
    setattr(_thread, name, function)
    threading = sys.modules.get("threading")
    if threading is not None and hasattr(threading, f"_{name}"):
        setattr(threading, f"_{name}", function)


def hook_exit():
    """Writes the counts before `_exit`. Processes forked by multiprocessing end with it and run no other clean-up."""
    leave = posix._exit

    def _exit(status):
        try:
            finish()
        finally:
            leave(status)

    posix._exit = _exit
    if "os" in sys.modules:
        sys.modules["os"]._exit = _exit


if not is_helper():
    begin()
if ONE_TRACER_FOR_ALL:
    notice_threads()
else:
    follow_threads()
hook_exit()
posix.register_at_fork(after_in_child=forked)
atexit.register(finish)
if "--multiprocessing-fork" in (getattr(sys, "argv", None) or ()):
    write_counts_on_sigterm()
try:
    trace_thread()
    if ONE_TRACER_FOR_ALL:
        yield_on_request()
except ValueError:
    yield_profiler()  # Another profiler is already active.
