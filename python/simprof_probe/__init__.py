"""Step marks for simprof: show the profiler where each step of a simulation begins and ends.

There are three ways to mark steps; one of them is enough::

    import simprof_probe

    for tick in range(1000):            # 1. a call at the beginning of each step
        simprof_probe.step(population=len(agents))
        model.advance()
    simprof_probe.end()                 #    (without this call the last step is not recorded)

    for tick in range(1000):            # 2. a block
        with simprof_probe.step() as step:
            model.advance()
            step.population = len(agents)

    class Model:
        @simprof_probe.step             # 3. a function whose calls are the steps
        def advance(self): ...

If the program does not run under simprof, none of this has an effect: a call costs some tens of nanoseconds, a
decorated function nothing. This file needs only Python 3.9, and may be copied into a project. The module
`simprof_probe.bench` measures an operation for phase 2.
"""

import functools
import inspect
import itertools
import os
from _thread import get_ident

__all__ = ["end", "is_recorded", "step", "step_begin", "step_end"]


def _is_profiled():
    """Return whether the program was started with simprof's variables, perhaps without seeing them.

    If another program started it with a cleared environment, simprof's library removed them again.
    """
    if "SIMPROF_MARKS" in os.environ:
        return True
    try:
        with open("/proc/self/environ", "rb") as started_with:
            return b"SIMPROF_MARKS=" in started_with.read()
    except OSError:
        return False


def _recorders():
    """Return the functions of the library that simprof loads into the program, in the library's order.

    None if the program does not run under simprof.
    """
    if not _is_profiled():
        return None
    try:
        import ctypes

        make = ctypes.PyDLL(None).simprof_python_function
        make.argtypes = [ctypes.c_uint32]
        make.restype = ctypes.py_object
        return [make(position) for position in range(4)]
    except (ImportError, AttributeError, OSError, ValueError):
        return None


_recorded = _recorders()
if _recorded is not None:
    _mark_begin, _mark_end, _mark_boundary, _mark_end_with_population = _recorded


def is_recorded():
    """Return whether marks are recorded. False if the program does not run under simprof."""
    return _recorded is not None


class _UnrecordedStep:
    """The result of `step` if nothing is recorded."""

    population = property(lambda self: None, lambda self, value: None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None


_UNRECORDED_STEP = _UnrecordedStep()


class _Step:
    """A step that has begun."""

    __slots__ = ("index", "population")

    def __init__(self, index, population):
        self.index = index
        self.population = population

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if _open.get(get_ident()) is self:
            end()


_fresh = itertools.count().__next__
# The step that each thread is in, if `step()` began it.
_open = {}
# How deeply each thread is nested in decorated functions.
_inside = {}


def _forget():
    _open.clear()
    _inside.clear()


def _step(index=None, *, population=None):
    if callable(index):
        return _marking_steps(index)
    thread = get_ident()
    before = _open.get(thread)
    if before is not None and before.population is not None:
        _mark_end_with_population(before.index, before.population)
    if index is None:
        index = _fresh()
    _open[thread] = opened = _Step(index, population)
    _mark_boundary(index)
    return opened


def _end(population=None):
    opened = _open.pop(get_ident(), None)
    if opened is not None:
        _step_end(opened.index, opened.population if population is None else population)


def _step_end(index, population=None):
    if population is None:
        _mark_end(index)
    else:
        _mark_end_with_population(index, population)


def _enter():
    """Begin a step, unless a decorated function has already begun one in this thread."""
    thread = get_ident()
    inside = _inside.get(thread)
    if inside is None:
        index = _fresh()
        _inside[thread] = [index, 0]
        _mark_begin(index)
    else:
        inside[1] += 1


def _leave():
    thread = get_ident()
    inside = _inside.get(thread)
    if inside is None:
        return
    if inside[1]:
        inside[1] -= 1
    else:
        _mark_end(inside[0])
        del _inside[thread]


def _marking_steps(function):
    """Return a function that does the same as `function` and marks its calls as steps."""
    if inspect.iscoroutinefunction(function):

        async def marking(*args, **kwargs):
            _enter()
            try:
                return await function(*args, **kwargs)
            finally:
                _leave()

    elif inspect.isgeneratorfunction(function):

        def marking(*args, **kwargs):
            _enter()
            try:
                return (yield from function(*args, **kwargs))
            finally:
                _leave()

    else:

        def marking(*args, **kwargs):
            _enter()
            try:
                return function(*args, **kwargs)
            finally:
                _leave()

    return functools.wraps(function)(marking)


if _recorded is not None:
    os.register_at_fork(after_in_child=_forget)


def step(index=None, *, population=None):
    """End the step that this thread began with this function before, and begin the next one.

    `index` is the number of the step; by default steps are counted from 0. `population` is the number of live agents,
    or another measure of the model's size, in the step that begins. In a `with` statement the step ends with the
    block, and `population` may be set on the object that `step` returns. Steps begun this way do not nest.

    Used as a decorator, it makes each call of a function a step: of nested calls only the outermost, and of a
    coroutine or a generator everything from its start to its end.
    """
    return _UNRECORDED_STEP if index is None or not callable(index) else index


def end(population=None):
    """End the step that this thread began last with `step()`."""


def step_begin(index):
    """Begin the step with this index. `step_end` must end it in the same thread."""


def step_end(index, population=None):
    """End the step with this index."""


if _recorded is not None:
    for _recording, _plain in ((_step, step), (_end, end), (_step_end, step_end)):
        _recording.__name__, _recording.__qualname__ = _plain.__name__, _plain.__qualname__
        _recording.__doc__ = _plain.__doc__
    step, end, step_begin, step_end = _step, _end, _mark_begin, _step_end
