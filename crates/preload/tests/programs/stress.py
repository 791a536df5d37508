"""Runs code that is difficult to sample for a given number of seconds, and checks its results."""

import asyncio
import ctypes
import faulthandler
import gc
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

SECONDS = float(sys.argv[1])
END = time.monotonic() + SECONDS
counts = {}


def counted(function):
    def call():
        random.seed(threading.get_ident() ^ time.monotonic_ns())
        while time.monotonic() < END:
            function()
            counts[function.__name__] = counts.get(function.__name__, 0) + 1

    call.__name__ = function.__name__
    return call


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@counted
def recursion():
    assert fib(15) == 610

    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(700) == 700


@counted
def generators():
    def numbers(n):
        for i in range(n):
            yield i

    def outer(n):
        yield from numbers(n)
        yield from (i * i for i in numbers(n))

    assert sum(outer(500)) == sum(range(500)) + sum(i * i for i in range(500))
    pending = [numbers(10) for _ in range(50)]
    for one in pending:
        next(one)
    del pending


@counted
def coroutines():
    async def leaf(n):
        await asyncio.sleep(0)
        return n

    async def stream(n):
        for i in range(n):
            yield await leaf(i)

    async def main():
        results = await asyncio.gather(*(leaf(i) for i in range(30)))
        return sum(results) + sum([i async for i in stream(30)])

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(main()) == 2 * sum(range(30))
    finally:
        loop.close()


@counted
def exceptions():
    def fails(n):
        if n == 0:
            raise ValueError(n)
        try:
            fails(n - 1)
        finally:
            pass

    for n in range(50):
        try:
            fails(n)
        except ValueError as error:
            assert error.args == (0,)


@counted
def callbacks():
    class Item:
        def __init__(self, value):
            self.value = value

        def __lt__(self, other):
            return self.value < other.value

    values = [random.random() for _ in range(300)]
    assert sorted(values, key=lambda value: -value) == sorted(values)[::-1]
    assert [item.value for item in sorted(map(Item, values))] == sorted(values)
    assert re.sub("a", lambda match: "b", "a" * 300) == "b" * 300


Comparison = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
libc = ctypes.CDLL(None)


@counted
def foreign():
    array = (ctypes.c_int * 50)(*[random.randrange(1000) for _ in range(50)])
    libc.qsort(array, 50, ctypes.sizeof(ctypes.c_int), Comparison(lambda a, b: a[0] - b[0]))
    assert list(array) == sorted(array)


@counted
def temporary_code():
    for i in range(20):
        scope = {}
        text = f"def f(n):\n" + "    n += 1\n" * (i % 5) + f"    return n + {i}\nclass C:\n    def g(self): return f(1)\n"
        exec(compile(text, f"<temporary {i}>", "exec"), scope)
        assert scope["C"]().g() == 1 + i % 5 + i
        del scope
    gc.collect(0)


@counted
def modules():
    with tempfile.TemporaryDirectory() as folder:
        name = f"stressed_{threading.get_ident()}_{time.monotonic_ns()}"
        with open(os.path.join(folder, name + ".py"), "w") as file:
            file.write("def f(n):\n    return sum(i for i in range(n))\nvalue = f(1000)\n")
        sys.path.insert(0, folder)
        try:
            module = __import__(name)
            assert module.value == 499500
            del sys.modules[name]
        finally:
            sys.path.remove(folder)
    gc.collect(0)


@counted
def threads():
    results = []
    some = [threading.Thread(target=lambda: results.append(fib(10))) for _ in range(8)]
    for thread in some:
        thread.start()
    for thread in some:
        thread.join()
    assert results == [55] * 8


@counted
def masks():
    everything = range(1, signal.NSIG) if sys.version_info < (3, 8) else signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    now = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGTRAP in now and signal.SIGTRAP not in before, (now, before)
    fib(12)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert signal.SIGTRAP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def tracing():
    seen = []
    sys.settrace(lambda frame, event, argument: seen.append(event))
    fib(8)
    sys.settrace(None)
    assert seen


traps = 0


def trapped(number, frame):
    global traps
    traps += 1
    fib(5)


def own_trap():
    """Must run in the main thread, where Python runs signal handlers."""
    before = traps
    signal.raise_signal(signal.SIGTRAP)
    os.kill(os.getpid(), signal.SIGTRAP)
    deadline = time.monotonic() + 30
    while traps < before + 1:
        assert time.monotonic() < deadline, "the handler is called"
    assert signal.getsignal(signal.SIGTRAP) is trapped


def forks():
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if fib(12) == 144 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def fork_exec():
    child = os.fork()
    if child == 0:
        try:
            fib(12)
            os.execv(sys.executable, [sys.executable, "-S", "-c", "sum(i for i in range(30000))"])
        finally:
            os._exit(2)
    status = os.waitpid(child, 0)[1]
    assert status == 0, status


def spawns():
    subprocess.run(["/bin/true"], check=True)
    subprocess.run(["/bin/true"], check=True, preexec_fn=lambda: None)
    output = subprocess.run([sys.executable, "-S", "-c", "print(sum(i for i in range(10000)))"], capture_output=True, check=True)
    assert output.stdout == b"49995000\n", output


def failed_exec():
    for _ in range(5):
        try:
            os.execv("/nonexistent/program", ["program"])
        except FileNotFoundError:
            pass
        fib(10)


def interpreters():
    try:
        import _interpreters
    except ImportError:
        try:
            import _xxsubinterpreters as _interpreters
        except ImportError:
            return
    one = _interpreters.create()
    _interpreters.run_string(one, "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nassert f(12) == 144")
    _interpreters.destroy(one)


def greenlets():
    try:
        import greenlet
    except ImportError:
        return

    def ping(n):
        def nest(depth):
            if depth:
                return nest(depth - 1)
            return sum(main.switch(i) or 0 for i in range(n))

        return nest(10)

    main = greenlet.getcurrent()
    some = [greenlet.greenlet(ping) for _ in range(5)]
    for one in some:
        one.switch(20)
    while any(not one.dead for one in some):
        for one in some:
            if not one.dead:
                one.switch(1)
        fib(5)


def arrays():
    try:
        import numpy
    except ImportError:
        return
    a = numpy.random.default_rng(1).random((120, 120))
    assert abs(numpy.linalg.det(a @ numpy.linalg.inv(a)) - 1) < 1e-6
    numpy.apply_along_axis(lambda row: row.sum(), 0, a)


alarms = 0


def alarmed(number, frame):
    global alarms
    alarms += 1
    [i for i in range(30)]


def in_main():
    signal.signal(signal.SIGALRM, alarmed)
    signal.signal(signal.SIGTRAP, trapped)
    steps = [own_trap, forks, fork_exec, spawns, failed_exec, interpreters, greenlets, arrays, tracing]
    steps += [lambda: faulthandler.dump_traceback(null)]
    with open(os.devnull, "w") as null:
        while time.monotonic() < END:
            step = random.choice(steps)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            if step not in (interpreters,):
                step()
            signal.setitimer(signal.ITIMER_REAL, 0)
            step()
            counts[step.__name__] = counts.get(step.__name__, 0) + 1


def spin():
    while True:
        fib(12)


def main():
    sys.setswitchinterval(0.0002)
    work = [recursion, generators, coroutines, exceptions, callbacks, foreign, temporary_code, modules, threads, masks]
    failures = []
    threading.excepthook = lambda failure: failures.append(failure.exc_value)
    some = [threading.Thread(target=function) for function in work]
    for thread in some:
        thread.start()
    in_main()
    for thread in some:
        thread.join()
    assert not failures, failures
    # They run until the interpreter is no more.
    for _ in range(4):
        threading.Thread(target=spin, daemon=True).start()
    time.sleep(0.02)
    print("done", alarms > 0, sorted(counts.items()))


main()
