# Input for `simprof analyze`: every kind of call that a tracer records, in known numbers.
import functools
import re
import threading

from agents.flock import Flock

TINY = 100000


def tiny(n):
    return n


def many():
    for n in range(TINY):
        tiny(n)


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def counter(n):
    for value in range(n):
        yield value


@functools.lru_cache(maxsize=None)
def decorated(n):
    return n


def größe_名(n):
    return n


def hostile():
    """Runs code whose file and function names contain terminal commands and special characters of tables."""
    space = {}
    source = "def innocent(n):\n    return n\n"
    exec(compile(source, "\x1b[31m|<b>\n;x.py", "exec"), space)
    function = space["innocent"]
    code = function.__code__
    if hasattr(code, "replace"):
        function.__code__ = code.replace(co_name="\x1b]0;owned\x07\x9b2J\nrow  2  3\u202e\ud800")
    for n in range(7):
        function(n)


def in_a_thread():
    for n in range(50):
        fib(3)


def main():
    many()
    fib(22)
    even(30)
    assert sum(counter(500)) == 124750
    assert [decorated(1) for _ in range(5)]
    for n in range(3):
        größe_名(n)
    sorted(range(2000, 0, -1), key=lambda value: -value)
    re.compile("(a|b)+c{2,3}")
    Flock(20).step()
    hostile()
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()


main()
