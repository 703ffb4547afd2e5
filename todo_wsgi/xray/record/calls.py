"""The application's function calls, as a tree.

`CallRecorder.handle` is a profile function (`sys.setprofile`): Python calls it at each call and
return in this thread, but not for calls within the profile function itself. An exception there
would surface in the application, so it is caught.
"""

import concurrent.futures
import functools
import inspect
import opcode
import sys
from collections import deque
from collections.abc import Callable, Mapping
from traceback import walk_tb
from types import CodeType, FrameType, FunctionType, WrapperDescriptorType
from typing import Any, NamedTuple

from todo_wsgi.xray.record.shared import SharedData
from todo_wsgi.xray.record.source import (
    Line,
    is_application,
    is_template,
    is_xray,
    line_in,
    line_of,
)
from todo_wsgi.xray.record.trace import Call, Failure, Trace, harmless
from todo_wsgi.xray.record.values import cut, describe, describe_all, describe_error

Watchers = Mapping[CodeType, Callable[[Trace, FrameType], None]]

MAX_ALIKE = 3  # calls of one function by the same caller that are shown; the rest are counted
MAX_DEPTH = 40  # levels of nested calls that are shown
MAX_KNOWN = 20  # exceptions handled at the same time
MAX_FAILURES = 20  # exceptions that are shown
MAX_VARIABLES = 20  # shown of the frame that raised or propagated an exception

# Comprehensions have their own frames in Python 3.11, but not from 3.12 on. Treat both alike:
_PART_OF_CALLER = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
# Futures pass results between threads: they are no step of a request, and may serve others.
_FUTURES = inspect.getfile(concurrent.futures.Future)
_YIELDS = {"YIELD_VALUE", "RESUME"}  # from Python 3.13 on, the instruction after the yield
_RETURNS = {"RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", *_YIELDS}
_RESUMED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_FLOW = (StopIteration, GeneratorExit)  # not errors: they end a generator


class _Frame(NamedTuple):
    """A running frame, and the call that it is or belongs to."""

    identity: int
    call: Call
    is_shown: bool  # otherwise it is a part of its caller


class CallRecorder:
    """Builds the call tree of one trace. A watcher runs when the function with its code does."""

    def __init__(self, trace: Trace, watchers: Watchers) -> None:
        self._trace = trace
        self._watchers = watchers
        self._shared = SharedData()
        self._stack = [_Frame(0, trace.calls, is_shown=True)]
        self._generators: dict[int, Call] = {}
        self._raised: list[Call] = []  # raised an exception that is still unknown
        # The known exceptions; one that is already being handled is not the application's.
        self._known: deque[tuple[BaseException | None, Failure | None]] = deque(maxlen=MAX_KNOWN)
        self._known.append((sys.exception(), None))

    @harmless
    def handle(self, frame: FrameType, event: str, arg: Any) -> None:
        """Record one event; see `sys.setprofile` in the Python documentation."""
        if event == "call":
            self._enter(frame)
        elif event == "return":
            self._leave(frame, arg)

    def _enter(self, frame: FrameType) -> None:
        error = sys.exception()
        if error is not None and not any(error is known for known, _ in self._known):
            # An exception becomes visible only now, while it is being handled.
            self.add_failure(error, left_application=False)
        if watch := self._watchers.get(frame.f_code):
            watch(self._trace, frame)
        caller = self._stack[-1]
        call = None
        if not caller.call.is_rest:
            call = self._generators.get(id(frame)) or self._new_call(frame, caller)
        if call and frame.f_code.co_flags & _RESUMED:
            self._generators[id(frame)] = call
        self._trace.call = call or caller.call
        self._stack.append(_Frame(id(frame), self._trace.call, call is not None))

    def _new_call(self, frame: FrameType, caller: _Frame) -> Call | None:
        """Return the call of this frame, or None if it is only a part of its caller."""
        code, parent = frame.f_code, caller.call
        is_library = is_template(frame) or _is_library(code)
        if is_library is None or parent.depth == MAX_DEPTH:
            return None
        # Record only those library calls that the application makes itself.
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
            name = f"{frame.f_globals.get('__name__', 'template')}.{name}"
        else:
            self._shared.look_at(frame)
        call = Call(
            name, Line.first(code), line_of(frame.f_back), is_library, len(alike) == MAX_ALIKE
        )
        call.depth = parent.depth + 1
        alike.append(call)
        call.arguments = self._arguments(frame)
        parent.children.append(call)
        return call

    def _arguments(self, frame: FrameType) -> list[tuple[str, str]]:
        code, values = frame.f_code, frame.f_locals
        count = code.co_argcount + code.co_kwonlyargcount
        count += sum(bool(code.co_flags & f) for f in (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS))
        names = [name for name in code.co_varnames[:count] if name not in ("self", "cls")]
        for name in names:
            self._trace.secrets.add(name, values.get(name))
        # The environ has a part of its own.
        return [(n, "{…}" if n == "environ" else describe(values.get(n))) for n in names]

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
        is_generator = id(frame) in self._generators
        # The profile function also gets None when a function raises.
        if result is None or is_generator:
            instruction = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
            if instruction not in _YIELDS:
                self._generators.pop(id(frame), None)
            if result is None and instruction not in _RETURNS:
                call.result = None
                self._raised.append(call)
                return
        self._trace.secrets.add(call.name, result)
        kind = "a coroutine" if frame.f_code.co_flags & inspect.CO_COROUTINE else "a generator"
        call.result = kind if is_generator else describe(result)

    def add_failure(self, error: BaseException, *, left_application: bool) -> None:
        """Record an exception: its innermost line of the application, or else of a library."""
        for known, failure in self._known:
            if known is error and failure:  # it was raised again
                failure.left_application = left_application
                return
        self._known.append((error, None))
        entries = [(*entry, entry[0].f_code) for entry in walk_tb(error.__traceback__)]
        entries = [entry for entry in entries if not is_xray(entry[2].co_filename)]
        ours = [entry for entry in entries if is_application(entry[2].co_filename)]
        is_flow = isinstance(error, _FLOW) or not ours
        if not left_application and (is_flow or len(self._trace.failures) == MAX_FAILURES):
            return
        arguments = BaseException.args.__get__(error)  # type: ignore[attr-defined]
        text, kind = describe_error(error), type(error).__qualname__
        failure = Failure(text, kind, _message(error, arguments), left_application)
        beginnings = [Line.first(code) for *_, code in ours]
        for call in self._raised:
            if call.line in beginnings:
                call.error = text
        self._raised.clear()
        variables: list[tuple[str, object]] = []
        if entries:
            frame, number, code = (ours or entries)[-1]
            failure.line, failure.function = line_in(frame, number), code.co_qualname
            if ours and not is_template(frame):
                variables = list(frame.f_locals.items())[:MAX_VARIABLES]
        else:
            failure.line = _beginning(error)
        failure.values = describe_all(variables)
        for name, value in [*variables, ("", arguments)]:
            self._trace.secrets.add(name, value)
        self._trace.failures.append(failure)
        self._known.append((error, failure))

    def end(self) -> None:
        """Note which data changed. Release the exceptions, which keep frames and variables."""
        self._trace.changed_globals = self._shared.changed()
        self._known.clear()


@functools.cache
def _is_library(code: CodeType) -> bool | None:
    """Return whether it is a public function of a library; None for a mere part of its caller."""
    file, name = code.co_filename, code.co_name
    if name in _PART_OF_CALLER or is_xray(file) or file == _FUTURES:
        return None
    if is_application(file):
        return False
    return None if name.startswith(("_", "<")) else True


def _message(error: BaseException, arguments: tuple[object, ...]) -> str:
    """Return the text of an exception, without running code of the application."""
    is_builtin = type(type(error).__str__) is WrapperDescriptorType
    is_plain = is_builtin and {*map(type, arguments)} <= {str, int}
    return cut(str(error)) if is_plain else ", ".join(map(describe, arguments))


def _beginning(error: BaseException) -> Line | None:
    """Return where the application begins, which could not even be called."""
    for frame, _ in walk_tb(error.__traceback__):
        app = frame.f_locals.get("app")  # of the x-ray
        if type(app) is FunctionType:
            return Line.first(app.__code__)
    return None
