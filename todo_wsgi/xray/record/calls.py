"""The application's function calls, as a tree.

`CallRecorder.handle` is a profile function (`sys.setprofile`): Python calls it at each call and
return in this thread, but not for calls within the profile function itself. An exception there
would surface in the application, so it is caught.
"""

import concurrent.futures
import dis
import functools
import inspect
import opcode
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from todo_wsgi.xray.record.source import Line, is_application, is_xray, line_of
from todo_wsgi.xray.record.trace import Call, Failure, Trace, note_failure
from todo_wsgi.xray.record.values import describe, describe_all, describe_error

Watchers = Mapping[CodeType, Callable[[Trace, FrameType], None]]

MAX_ALIKE = 3  # calls of one function by the same caller that are shown; the rest are counted
MAX_DEPTH = 40  # levels of nested calls that are shown
MAX_KNOWN = 10  # exceptions handled at the same time
MAX_FAILURES = 20  # exceptions that are shown
MAX_VARIABLES = 20  # shown of the frame that raised or propagated an exception

# Comprehensions have their own frames in Python 3.11, but not from 3.12 on. Treat both alike:
_PART_OF_CALLER = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
# Futures pass results between threads: they are no step of a request, and may serve others.
_FUTURES = inspect.getfile(concurrent.futures.Future)
_YIELDS = {"YIELD_VALUE", "RESUME"}  # from Python 3.13 on, the instruction after the yield
_RETURNS = {"RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", *_YIELDS}
_FLOW = (StopIteration, GeneratorExit)  # not errors: they end a generator


class _Kind(Enum):
    OURS = "the application's"
    LIBRARY = "a library's public function"
    INNER = "a part of its caller"


@functools.cache
def _kind_of(code: CodeType) -> _Kind:
    file, name = code.co_filename, code.co_name
    if name in _PART_OF_CALLER or is_xray(file) or file == _FUTURES:
        return _Kind.INNER
    if is_application(file):
        return _Kind.OURS
    return _Kind.INNER if name.startswith(("_", "<")) else _Kind.LIBRARY


class _Frame(NamedTuple):
    """A running frame, and the call that it is or belongs to."""

    identity: int
    call: Call
    is_shown: bool  # otherwise it is a part of its caller
    began: float


class CallRecorder:
    """Builds the call tree of one trace. A watcher runs when the function with its code does."""

    def __init__(self, trace: Trace, watchers: Watchers) -> None:
        self._trace = trace
        self._watchers = watchers
        self._stack = [_Frame(0, trace.calls, is_shown=True, began=trace.began)]
        self._generators: dict[int, Call] = {}
        self._raised: list[Call] = []  # raised an exception that is still unknown
        # The known exceptions; one that is already being handled is not the application's.
        self._failures: deque[tuple[BaseException, Failure]] = deque(maxlen=MAX_KNOWN)
        self._known = deque([sys.exception()], maxlen=MAX_KNOWN)

    def handle(self, frame: FrameType, event: str, arg: Any) -> None:
        """Record one event; see `sys.setprofile` in the Python documentation."""
        try:
            if event == "call":
                self._enter(frame)
            elif event == "return":
                self._leave(frame, arg)
        except Exception as error:
            note_failure(error)

    def _enter(self, frame: FrameType) -> None:
        error = sys.exception()
        if error is not None and not any(error is known for known in self._known):
            # An exception becomes visible only now, while it is being handled.
            self.add_failure(error, left_application=False)
        if watch := self._watchers.get(frame.f_code):
            watch(self._trace, frame)
        caller = self._stack[-1]
        call = None
        if not caller.call.is_rest:
            call = self._generators.get(id(frame)) or self._new_call(frame, caller)
        if call and frame.f_code.co_flags & inspect.CO_GENERATOR:  # it will be resumed
            self._generators[id(frame)] = call
        self._trace.call = call or caller.call
        running = _Frame(id(frame), self._trace.call, call is not None, time.perf_counter())
        self._stack.append(running)

    def _new_call(self, frame: FrameType, caller: _Frame) -> Call | None:
        """Return the call of this frame, or None if it is only a part of its caller."""
        code, parent = frame.f_code, caller.call
        kind = _kind_of(code)
        if kind is _Kind.INNER or parent.depth == MAX_DEPTH:
            return None
        # Record only those library calls that the application makes itself.
        is_library = kind is _Kind.LIBRARY
        if is_library and (parent.is_library or not caller.is_shown):
            return None
        alike = parent.alike.setdefault(code, [])
        if len(alike) > MAX_ALIKE:
            alike[-1].count += 1
            return alike[-1]
        if not self._trace.takes_event():
            return None
        name = code.co_qualname.replace("<locals>.", "")
        if is_library:
            name = f"{frame.f_globals.get('__name__')}.{name}"
        line = Line(code.co_filename, code.co_firstlineno)
        call = Call(name, line, line_of(frame.f_back), is_library, len(alike) == MAX_ALIKE)
        call.depth = parent.depth + 1
        alike.append(call)
        # The environ has a part of its own.
        call.arguments = [
            (name, "{…}" if name == "environ" else describe(value))
            for name, value in self._arguments(frame)
        ]
        parent.children.append(call)
        if not is_library:
            for variable in _globals_written(code):
                self._trace.written_globals.setdefault(variable, line)
        return call

    def _arguments(self, frame: FrameType) -> list[tuple[str, object]]:
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount
        count += bool(code.co_flags & inspect.CO_VARARGS)
        count += bool(code.co_flags & inspect.CO_VARKEYWORDS)
        values = frame.f_locals
        names = [name for name in code.co_varnames[:count] if name not in ("self", "cls")]
        for name in names:
            self._trace.secrets.add(name, values.get(name))
        return [(name, values.get(name)) for name in names]

    def _leave(self, frame: FrameType, result: object) -> None:
        for index in range(len(self._stack) - 1, 0, -1):
            if self._stack[index].identity == id(frame):
                break
        else:  # the call began before the recording
            return
        running = self._stack[index]
        del self._stack[index:]  # frames above it may have ended while recording was off
        self._trace.call = self._stack[-1].call
        if not running.is_shown:
            return
        call = running.call
        call.seconds += time.perf_counter() - running.began
        is_generator = id(frame) in self._generators
        # The profile function also gets None when a function raises.
        if result is None or is_generator:
            instruction = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
            if is_generator and instruction in _YIELDS:
                call.yields += 1
            elif is_generator:
                del self._generators[id(frame)]
            if result is None and instruction not in _RETURNS:
                call.result = None
                self._raised.append(call)
                return
        self._trace.secrets.add(call.name, result)
        values = "1 value" if call.yields == 1 else f"{call.yields} values"
        call.result = f"yielded {values}" if is_generator else describe(result)

    def add_failure(self, error: BaseException, *, left_application: bool) -> None:
        """Record an exception, with the variables of the innermost application frame."""
        for known, failure in self._failures:
            if known is error:  # it was raised again
                failure.left_application = left_application
                return
        self._known.append(error)
        if len(self._trace.failures) == MAX_FAILURES and not left_application:
            return
        left = [tb for tb in _entries(error.__traceback__) if is_application(_file_of(tb))]
        if not left or isinstance(error, _FLOW):
            return
        codes = [tb.tb_frame.f_code for tb in left]
        lines = [Line(code.co_filename, code.co_firstlineno) for code in codes]
        for call in self._raised:
            if call.line in lines:
                call.error = describe_error(error)
        self._raised.clear()
        self._trace.secrets.add("", error.args)
        frame = left[-1].tb_frame
        variables = list(frame.f_locals.items())[:MAX_VARIABLES]
        for name, value in variables:
            self._trace.secrets.add(name, value)
        failure = Failure(
            describe_error(error),
            Line(frame.f_code.co_filename, left[-1].tb_lineno),
            frame.f_code.co_qualname,
            describe_all(variables),
            left_application,
        )
        self._trace.failures.append(failure)
        self._failures.append((error, failure))

    def forget(self) -> None:
        """Release the exceptions, which keep frames and their variables alive."""
        self._known.clear()
        self._failures.clear()


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    """Yield the traceback entries of an exception, the innermost last."""
    while traceback:
        yield traceback
        traceback = traceback.tb_next


def _file_of(entry: TracebackType) -> str:
    return entry.tb_frame.f_code.co_filename


@functools.cache
def _globals_written(code: CodeType) -> tuple[str, ...]:
    """Return the names of the global variables that the function assigns."""
    steps = dis.get_instructions(code)
    return tuple(step.argval for step in steps if step.opname == "STORE_GLOBAL")
