"""Calls `burn` from every kind of stack, and prints the callers that Python reports."""

import asyncio
import contextlib
import ctypes
import functools
import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref

native = ctypes.CDLL(None)


class Shared(ctypes.Structure):
    _fields_ = [("path", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p), ("address", ctypes.c_void_p)]


def evaluations():
    """Returns the number of calls of the native evaluation function on the stack of this thread."""
    addresses = (ctypes.c_void_p * 100000)()
    count = native.backtrace(addresses, 100000)
    found = Shared()
    names = []
    for address in addresses[:count]:
        if native.dladdr(ctypes.c_void_p(address), ctypes.byref(found)):
            names.append(found.name)
    return names.count(b"_PyEval_EvalFrameDefault")


def report(tag, frame):
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append(f"{getattr(code, 'co_qualname', code.co_name)}|{code.co_filename}|{frame.f_lineno}")
        frame = frame.f_back
    # Before 3.11 this function and the one above are native calls too.
    entries = evaluations() - (2 if sys.version_info < (3, 11) else 0)
    os.write(1, f"STACK\t{os.getpid()}\t{tag}\t{entries}\t{';'.join(frames)}\n".encode())


def burn(tag):
    report(tag, sys._getframe(1))
    end = time.thread_time() + 0.02
    n = 0
    while time.thread_time() < end:
        for i in range(50):
            n += i
    return n


def nested():
    def middle():
        def inner():
            burn("nested")

        inner()

    middle()


def recursion(n):
    if n == 0:
        burn("recursion")
    else:
        recursion(n - 1)


def deep():
    """Recurses beyond the number of frames that are recorded, in a thread with enough native stack."""
    sys.setrecursionlimit(20000)
    before = threading.stack_size(128 << 20)
    for depth in [1500, 2020, 2060, 3000, 12000]:
        one = threading.Thread(target=recursion, args=(depth,))
        one.start()
        one.join()
    threading.stack_size(before)


def numbers():
    yield 1
    burn("generator")
    yield 2


def delegating():
    yield from numbers()


def generators():
    for _ in delegating():
        pass
    one = numbers()
    next(one)
    next(one)
    sum(burn("genexpr") for _ in range(1))


async def leaf():
    await asyncio.sleep(0)
    burn("coroutine")


async def stream():
    await leaf()
    burn("asyncgen")
    yield 1


async def coroutines():
    await asyncio.gather(leaf())
    async for _ in stream():
        await leaf()
    [await leaf() for _ in range(1)]


class Thing:
    def __init__(self, tag):
        self.value = burn(tag)

    def __getattr__(self, name):
        burn("getattr")
        return name

    @property
    def computed(self):
        return burn("property")

    def __lt__(self, other):
        burn("comparison")
        return False

    def __del__(self):
        burn("del")


def classes():
    thing = Thing("init")
    thing.anything
    thing.computed
    sorted([thing, thing])
    weak = weakref.ref(thing, lambda _: burn("weakref"))
    del thing
    gc.collect()

    class Inner:
        value = burn("class body")


def exceptions():
    try:
        try:
            raise ValueError
        except ValueError:
            burn("except")
            raise KeyError
        finally:
            burn("finally")
    except KeyError:
        pass
    with manager():
        burn("with")


@contextlib.contextmanager
def manager():
    burn("enter")
    yield
    burn("exit")


def callbacks():
    sorted([2, 1], key=lambda value: burn("key"))
    list(map(lambda value: burn("map"), [1]))
    functools.reduce(lambda a, b: burn("reduce"), [1, 2])
    re.sub("a", lambda match: str(burn("sub")), "a")
    functools.partial(burn)("partial")
    [burn("comprehension") for _ in range(1)]
    {i: burn("comprehension of a dict") for i in range(1)}
    exec(compile("def f():\n\n    burn('exec')\nf()", "<made>", "exec"), {"burn": burn})
    back = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: burn("foreign") and 0)
    back()
    (lambda: burn("lambda"))()
    burn(
        "lines",
    ) if (
        True
    ) else None


def threads():
    def work(tag):
        burn(tag)

    some = [threading.Thread(target=work, args=("thread",)) for _ in range(2)]
    for one in some:
        one.start()
    for one in some:
        one.join()


def signals():
    signal.signal(signal.SIGALRM, lambda number, frame: burn("handler"))
    signal.raise_signal(signal.SIGALRM)
    signal.signal(signal.SIGTRAP, lambda number, frame: burn("own trap"))
    signal.raise_signal(signal.SIGTRAP)
    os.kill(os.getpid(), signal.SIGTRAP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    burn("blocked")
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        os.execv("/nonexistent", ["nonexistent"])
    except OSError:
        burn("exec failed")


def traced():
    sys.setprofile(lambda frame, event, argument: None)
    burn("profiled")
    sys.setprofile(None)
    sys.settrace(lambda frame, event, argument: None)
    burn("traced")
    sys.settrace(None)


IN_ANOTHER = """
def work():
    n = 0
    for i in range(600000):
        n += i * i % 7
    return n
def other():
    return work()
other()
"""
NESTED = """
try:
    import _interpreters
except ImportError:
    import _xxsubinterpreters as _interpreters
def nesting():
    two = _interpreters.create()
    _interpreters.run_string(two, INNER)
    _interpreters.destroy(two)
nesting()
"""


def interpreters():
    try:
        import _interpreters
    except ImportError:
        try:
            import _xxsubinterpreters as _interpreters
        except ImportError:
            return
    one = _interpreters.create()
    _interpreters.run_string(one, IN_ANOTHER)
    _interpreters.run_string(one, NESTED.replace("INNER", repr(IN_ANOTHER)))
    _interpreters.destroy(one)


def switching():
    try:
        import greenlet
    except ImportError:
        return

    def ping():
        burn("greenlet")
        main.switch()
        burn("greenlet again")

    main = greenlet.getcurrent()
    one = greenlet.greenlet(ping)
    one.switch()
    burn("between greenlets")
    one.switch()


def child(tag):
    burn(tag)


def processes():
    pid = os.fork()
    if pid == 0:
        burn("fork")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    for method in ["fork", "spawn"]:
        one = multiprocessing.get_context(method).Process(target=child, args=(method + "ed",))
        one.start()
        one.join()
        assert one.exitcode == 0
    subprocess.run([sys.executable, __file__, "subprocess"], check=True)
    subprocess.run([sys.executable, __file__, "preexec"], check=True, preexec_fn=lambda: None)
    subprocess.run(["/bin/sh", "-c", 'exec "$0" "$1" shell', sys.executable, __file__], check=True)
    os.execv(sys.executable, [sys.executable, __file__, "execed"])


def main():
    if len(sys.argv) > 1:
        return burn(sys.argv[1])
    nested()
    recursion(300)
    generators()
    asyncio.run(coroutines())
    classes()
    exceptions()
    callbacks()
    threads()
    signals()
    traced()
    switching()
    interpreters()
    one = threading.Thread(target=interpreters)
    one.start()
    one.join()
    deep()
    processes()


if __name__ == "__main__":
    main()
