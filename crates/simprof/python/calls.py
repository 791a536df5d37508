# Counts every call, with the interpreter's own tracer, and writes what it counted at the end of each process. Run
# before the program's own first line, with FOLDER (where the counts go) set.
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
state = {"begun": 0, "mixed": False, "finishing": False, "signal": None}


def begin():
    """Names this process as one that owes its counts."""
    process = posix.getpid()
    state["begun"] = process
    state["mixed"] = False
    write(f"calls-{process}.owed", b"")


def trace_thread():
    tracer = _lsprof.Profiler()
    tracers[_thread.get_ident()] = tracer
    tracer.enable()
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
    """Writes the counts of this process, once."""
    process = posix.getpid()
    if state["begun"] != process:
        return
    state["begun"] = 0
    state["finishing"] = True
    try:
        write_counts(process)
    except OSError:
        # The folder is out of reach, after a change of user or of the root: nobody but simprof would miss the counts.
        pass
    finally:
        state["finishing"] = False
        if state["signal"] is not None:
            end_by(state["signal"])


def write_counts(process):
    for tracer in list(tracers.values()):
        if ONE_FOR_ALL or tracer is tracers.get(_thread.get_ident()):
            tracer.disable()
        with lock:
            collect(tracer)
    with lock:
        written = marshal.dumps({key: written_form(value) for key, value in counts.items()}, 2)
    mixed = "mixed" if state["mixed"] else "prof"
    write(f"calls-{process}.{mixed}", written)
    posix.unlink(f"{FOLDER}/calls-{process}.owed")


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
    begin()
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
trace_thread()
