# Counts every call, with the interpreter's own tracer, and tells what it counted at the end of each process. Run
# before the program's own first line, with FOLDER (where the counts go) set.
#
# A program that is started, and all that is forked from it, tell in one file, by a descriptor that is kept open: the end of
# a process may have another user or another root, or have lost the descriptor, but seldom both. The file has records, each
# appended at once: `begun`, and one of `counts` and `yielded` for each process that was begun.
import _lsprof
import _signal
import _thread
import atexit
import marshal
import posix
import sys

# From 3.12 on a tracer sees all threads, but takes their calls for those of one: the counts are right, the times not.
ONE_FOR_ALL = sys.version_info >= (3, 12)

tracers = {}
counts = {}
lock = _thread.allocate_lock()
state = {"begun": 0, "mixed": False, "yielded": False, "finishing": False, "signal": None}


class Told:
    """The file of this program."""

    def __init__(self):
        flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        # A process that replaces its program is another program by the same number.
        for program in range(10000):
            self.path = f"{FOLDER}/calls-{posix.getpid()}-{program}"
            try:
                descriptor = posix.open(self.path, flags, 0o600)
                break
            except FileExistsError:
                pass
        self.descriptor = out_of_the_way(descriptor)
        self.identity = identity(self.descriptor)

    def append(self, what, content=b""):
        record = f"{what} {posix.getpid()} {len(content)}\n".encode() + content
        if identity(self.descriptor) == self.identity:
            return write_all(self.descriptor, record)
        # The program has closed what it did not know.
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


def out_of_the_way(descriptor):
    """Moves a descriptor to a high number, so that the program's own get those that they always have."""
    for high in range(min(posix.sysconf("SC_OPEN_MAX"), 1000) - 1, descriptor, -1):
        if identity(high) is None:
            posix.dup2(descriptor, high, False)
            posix.close(descriptor)
            return high
    return descriptor


told = Told()


def begin():
    """Names this process as one that owes its counts."""
    told.append("begun")
    state["begun"] = posix.getpid()
    state["mixed"] = False


def is_helper():
    """Whether this is a process of multiprocessing's own, which runs nothing of the program but may fork what does. It
    outlives the program by an instant or is killed then, and would be held for lost."""
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
    """A function as pstats names it."""
    if isinstance(code, str):
        return ("~", 0, code)
    return (code.co_filename, code.co_firstlineno, code.co_name)


def collect(tracer):
    """Adds what a tracer has counted to the counts of this process."""
    entries = [entry for entry in tracer.getstats() if is_theirs(entry.code)]
    for entry in entries:
        add(counts.setdefault(label(entry.code), [0, 0, 0.0, 0.0, {}]), entry)
    for entry in entries:
        for called in entry.calls or ():
            if is_theirs(called.code):
                callers = counts.setdefault(label(called.code), [0, 0, 0.0, 0.0, {}])[4]
                add(callers.setdefault(label(entry.code), [0, 0, 0.0, 0.0]), called)


def add(sums, entry):
    """Primitive calls, all calls, own time, time with what it called."""
    sums[0] += entry.callcount - entry.reccallcount
    sums[1] += entry.callcount
    sums[2] += entry.inlinetime
    sums[3] += entry.totaltime


def is_theirs(code):
    """Whether a function is the program's and not one of this text."""
    if isinstance(code, str):
        return "_lsprof.Profiler" not in code
    return code.co_filename != "<simprof>"


def finish():
    """Tells the counts of this process, once."""
    if state["begun"] != posix.getpid():
        return
    state["begun"] = 0
    state["finishing"] = True
    try:
        tell_counts()
    except Exception:
        pass  # The program has nothing to do with it, and simprof misses the counts.
    finally:
        state["finishing"] = False
        if state["signal"] is not None:
            end_by(state["signal"])


def tell_counts():
    own = tracers.get(_thread.get_ident())
    if not ONE_FOR_ALL and own is not None and sys.getprofile() is not own:
        state["yielded"] = True
    for tracer in list(tracers.values()):
        if ONE_FOR_ALL or tracer is own:
            tracer.disable()
        with lock:
            collect(tracer)
    if state["yielded"]:
        return told.append("yielded")
    with lock:
        written = marshal.dumps({key: written_form(value) for key, value in counts.items()}, 2)
    return told.append("mixed" if state["mixed"] else "counts", written)


def give_way():
    """There can be one profiler only, and the program wants its own."""
    for tracer in tracers.values():
        tracer.disable()
    tracers.clear()
    state["yielded"] = True
    if state["begun"] == posix.getpid():
        state["begun"] = 0
        told.append("yielded")


def give_way_when_asked():
    """From 3.12 on whoever profiles takes a tool by its number first, and fails where that is taken."""
    use = sys.monitoring.use_tool_id

    def use_tool_id(tool_id, name, /):
        if tool_id == sys.monitoring.PROFILER_ID:
            sys.monitoring.use_tool_id = use
            give_way()
        return use(tool_id, name)

    sys.monitoring.use_tool_id = use_tool_id


def written_form(sums):
    """As cProfile writes it: of callers, all calls come before the primitive ones."""
    callers = {caller: (of[1], of[0], of[2], of[3]) for caller, of in sums[4].items()}
    return (sums[0], sums[1], sums[2], sums[3], callers)


def forked():
    """A child counts from nothing: what was counted before is its parent's to tell."""
    global lock
    lock = _thread.allocate_lock()
    own = tracers.get(_thread.get_ident()) or next(iter(tracers.values()), None)
    tracers.clear()
    counts.clear()
    if own is not None:
        own.clear()
        tracers[_thread.get_ident()] = own
    try:
        begin()
        if state["yielded"]:
            give_way()
    except OSError:
        pass
    end_well_when_terminated()


def end_well_when_terminated():
    """Pools of processes end their workers by a signal whose default is to end at once, counts and all."""
    try:
        if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
            _signal.signal(_signal.SIGTERM, terminated)
    except ValueError:
        pass  # Another thread than the main one may not, and its process is then said to be lost.


def terminated(signal, frame):
    if state["finishing"]:
        state["signal"] = signal
    else:
        finish()
        end_by(signal)


def end_by(signal):
    _signal.signal(signal, _signal.SIG_DFL)
    posix.kill(posix.getpid(), signal)


def follow_threads():
    """Has each thread traced from its begin on."""
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
    """Only notes that there are others beside the main thread."""
    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        start = getattr(_thread, name, None)
        if start is not None:

            def noticed(*args, start=start, **kwargs):
                state["mixed"] = True
                return start(*args, **kwargs)

            hook(name, noticed)


def hook(name, function):
    """Puts a function in the place of one that begins a thread, also where it has been imported already."""
    setattr(_thread, name, function)
    threading = sys.modules.get("threading")
    if threading is not None and hasattr(threading, f"_{name}"):
        setattr(threading, f"_{name}", function)


def hook_exit():
    """Processes that are forked by multiprocessing end without any clean-up but this."""
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
if ONE_FOR_ALL:
    notice_threads()
else:
    follow_threads()
hook_exit()
posix.register_at_fork(after_in_child=forked)
atexit.register(finish)
if "--multiprocessing-fork" in (getattr(sys, "argv", None) or ()):
    end_well_when_terminated()
try:
    trace_thread()
    if ONE_FOR_ALL:
        give_way_when_asked()
except ValueError:
    give_way()  # Somebody has come before.
