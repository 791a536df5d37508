"""Step marks for simprof: tells the profiler where each step of a simulation begins and ends.

Three ways, of which one is enough::

    import simprof_probe

    for tick in range(1000):            # 1. a call at the begin of each step
        simprof_probe.step(population=len(agents))
        model.advance()
    simprof_probe.end()                 #    (without this the last step is left out)

    for tick in range(1000):            # 2. a block
        with simprof_probe.step() as step:
            model.advance()
            step.population = len(agents)

    class Model:
        @simprof_probe.step             # 3. a function whose calls are the steps
        def advance(self): ...

Where the program does not run under simprof, none of this does anything: a call costs some tens of nanoseconds, a
decorated function nothing. This file needs nothing but Python 3.9, and may be copied into a project.
"""

import functools
import inspect
import itertools
import os
from _thread import get_ident

__all__ = ["end", "is_recorded", "step", "step_begin", "step_end"]

# The functions of the library that simprof loads into the program, in its order.
_BEGIN, _END, _BOUNDARY, _END_WITH_POPULATION = range(4)


def _recorders():
    """The library's functions; none where the program does not run under simprof."""
    if "SIMPROF_MARKS" not in os.environ:
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
    """Whether marks are recorded: false where the program does not run under simprof."""
    return _recorded is not None


class _Nothing:
    """What `step` returns where nothing is recorded."""

    population = property(lambda self: None, lambda self, value: None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None


_NOTHING = _Nothing()


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
# The step that each thread is in, where it was begun by `step()`.
_open = {}
# How deep each thread is in decorated functions.
_inside = {}


def _forget():
    _open.clear()
    _inside.clear()


def _step(index=None, *, population=None):
    if callable(index):
        return _counted(index)
    thread = get_ident()
    before = _open.get(thread)
    if before is not None and before.population is not None:
        _mark_end_with_population(before.index, before.population)
    if index is None:
        index = _fresh()
    _open[thread] = begun = _Step(index, population)
    _mark_boundary(index)
    return begun


def _end(population=None):
    begun = _open.pop(get_ident(), None)
    if begun is not None:
        _step_end(begun.index, begun.population if population is None else population)


def _step_end(index, population=None):
    if population is None:
        _mark_end(index)
    else:
        _mark_end_with_population(index, population)


def _enter():
    """Begins a step, unless this thread is in one that a decorated function began."""
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


def _counted(function):
    """Does what `function` does, and counts its calls as steps."""
    if inspect.iscoroutinefunction(function):

        async def counted(*args, **kwargs):
            _enter()
            try:
                return await function(*args, **kwargs)
            finally:
                _leave()

    elif inspect.isgeneratorfunction(function):

        def counted(*args, **kwargs):
            _enter()
            try:
                return (yield from function(*args, **kwargs))
            finally:
                _leave()

    else:

        def counted(*args, **kwargs):
            _enter()
            try:
                return function(*args, **kwargs)
            finally:
                _leave()

    return functools.wraps(function)(counted)


if _recorded is not None:
    os.register_at_fork(after_in_child=_forget)


def step(index=None, *, population=None):
    """Ends the step that this thread began by this function before, and begins the next.

    `index` is the step's number, counted from 0 where it is left out; `population` how many agents live, or whatever
    else measures the size of the model in the step that begins. In a `with` statement the step ends with the block, and
    `population` may be set on what `step` returns. Steps begun this way do not nest.

    As a decorator it makes each call of a function a step: of nested calls the outermost, of a coroutine or a
    generator all from its start to its end.
    """
    return _NOTHING if index is None or not callable(index) else index


def end(population=None):
    """Ends the step that this thread began last by `step()`."""


def step_begin(index):
    """Begins the step with this number, which `step_end` ends in the same thread."""


def step_end(index, population=None):
    """Ends the step with this number."""


if _recorded is not None:
    for _ours, _of in ((_step, step), (_end, end), (_step_end, step_end)):
        _ours.__name__, _ours.__qualname__, _ours.__doc__ = _of.__name__, _of.__qualname__, _of.__doc__
    step, end, step_begin, step_end = _step, _end, _mark_begin, _step_end
