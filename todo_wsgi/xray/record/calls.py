"""The application's function calls, as a tree, and its exceptions.

`CallRecorder.handle` is a profile function (`sys.setprofile`): Python calls it at each call and
return in this thread, but not for calls within the profile function itself.
"""

import inspect
import opcode
import sys
from collections.abc import Callable, Mapping
from traceback import walk_tb
from types import CodeType, FrameType, FunctionType, TracebackType, WrapperDescriptorType
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
from todo_wsgi.xray.record.values import cut, describe, describe_error

Watchers = Mapping[CodeType, Callable[[Trace, FrameType], None]]

MAX_ALIKE = 3  # calls of one function by the same caller that are shown; the rest are counted
MAX_DEPTH = 40  # levels of nested calls that are shown
MAX_FAILURES = 20  # exceptions that are shown, and those of which the objects are kept
MAX_VARIABLES = 20  # shown of the frame that raised or propagated an exception

# Comprehensions have their own frames in Python 3.11, but not from 3.12 on. Treat both alike:
_PART_OF_CALLER = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
_YIELDS = {"YIELD_VALUE", "RESUME"}  # from Python 3.13 on, the instruction after the yield
_RETURNS = {"RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", *_YIELDS}
_RESUMED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_FLOW = (StopIteration, GeneratorExit)  # not errors: they end a generator
_KNOWN = {"environ": "{…}", "start_response": "…"}  # arguments that other parts show


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
        # Exceptions by identity, the last handled one at the end; their tracebacks and records.
        self._seen: dict[int, tuple[BaseException, TracebackType | None, Failure | None]] = {}
        self._before = sys.exception()  # is not the application's

    @harmless
    def handle(self, frame: FrameType, event: str, arg: Any) -> None:
        """Record one event; see `sys.setprofile` in the Python documentation."""
        if event == "call":
            self._enter(frame)
        elif event == "return":
            self._leave(frame, arg)

    def _enter(self, frame: FrameType) -> None:
        error = sys.exception()
        if error is not None and error is not self._before and not isinstance(error, _FLOW):
            self.look_at(error)  # it becomes visible only now, while it is being handled
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
        is_part = code.co_name in _PART_OF_CALLER or is_xray(code.co_filename)
        if is_part or parent.depth == MAX_DEPTH:
            return None
        is_library = is_template(frame) or not is_application(code.co_filename)
        if is_library and (parent.is_library or not caller.is_shown):
            return None  # show only the calls that the application makes itself
        name = code.co_qualname
        if is_library:
            name = f"{frame.f_globals.get('__name__', 'template')}.{name}"
            if any(part.startswith(("_", "<")) for part in name.split(".")):
                return None  # it means nothing to the application
        line = Line.first(code)
        alike = [call for call in parent.calls if call.line == line]
        if len(alike) > MAX_ALIKE:
            alike[-1].count += 1
            return alike[-1]
        if not self._trace.takes_event():
            return None
        if not is_library:
            self._shared.look_at(frame)
        name = name.replace("<locals>.", "")
        call = Call(name, line, line_of(frame.f_back), is_library, len(alike) == MAX_ALIKE)
        call.depth = parent.depth + 1
        parent.children.append(call)
        arguments, *more, values = inspect.getargvalues(frame)
        for name in [*arguments, *filter(None, more)]:
            if name not in ("self", "cls"):
                self._trace.secrets.add(name, values.get(name))
                call.arguments.append((name, _KNOWN.get(name) or describe(values.get(name))))
        return call

    def _leave(self, frame: FrameType, result: object) -> None:
        if not any(running.identity == id(frame) for running in reversed(self._stack)):
            return  # the call began before the recording
        while (running := self._stack.pop()).identity != id(frame):
            pass  # it ended while the recording was off
        self._trace.call = self._stack[-1].call
        if not running.is_shown:
            return
        call, is_generator = running.call, id(frame) in self._generators
        instruction = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
        if instruction not in _YIELDS:
            self._generators.pop(id(frame), None)
        # The profile function also gets None when a function raises.
        if result is None and instruction not in _RETURNS:
            call.result = None
            self._raised.append(call)
            return
        self._trace.secrets.add(call.name, result)
        kind = "a coroutine" if frame.f_code.co_flags & inspect.CO_COROUTINE else "a generator"
        call.result = kind if is_generator else describe(result)

    def look_at(self, error: BaseException, *, left_application: bool = False) -> None:
        """Record an exception if it got to a line of the application, or left the application.

        Its traceback grows with each frame that it leaves. So look at it again.
        """
        _, traceback, failure = self._seen.pop(id(error), (error, None, None))
        if traceback is not error.__traceback__ or left_application:
            failure = self._follow(error, failure, left_application)
        self._seen[id(error)] = error, error.__traceback__, failure
        if len(self._seen) > MAX_FAILURES:
            del self._seen[next(iter(self._seen))]

    def _follow(self, error: BaseException, failure: Failure | None, left: bool) -> Failure | None:
        entries = _entries(error)
        begun = [Line.first(frame.f_code) for frame, _ in entries]
        for call in self._raised:
            if call.line in begun:
                call.error = describe_error(error)
        self._raised.clear()
        has_room = len(self._trace.failures) < MAX_FAILURES
        if left or (has_room and any(is_application(line.file) for line in begun)):
            failure = failure or self._add_failure(error)
        if failure:
            failure.left_application |= left
        if failure and begun:
            module = entries[0][0].f_globals.get("__name__", "")
            failure.catcher = "" if is_application(begun[0].file) else module.partition(".")[0]
        return failure

    def _add_failure(self, error: BaseException) -> Failure:
        entries = _entries(error)
        ours = [entry for entry in entries if is_application(entry[0].f_code.co_filename)]
        arguments = BaseException.args.__get__(error)  # type: ignore[attr-defined]
        kind, message = type(error).__qualname__, _message(error, arguments)
        failure = Failure(describe_error(error), kind, message, left_application=False)
        variables: list[tuple[str, object]] = []
        if entries:
            frame, number = (ours or entries)[-1]
            failure.line, failure.function = line_in(frame, number), frame.f_code.co_qualname
            if ours and not is_template(frame):
                variables = list(frame.f_locals.items())[:MAX_VARIABLES]
        else:  # the application could not even be called
            app = next(walk_tb(error.__traceback__))[0].f_locals.get("app")  # of the x-ray
            failure.line = Line.first(app.__code__) if type(app) is FunctionType else None
        failure.values = [(name, _KNOWN.get(name) or describe(value)) for name, value in variables]
        for name, value in [*variables, ("", arguments)]:
            self._trace.secrets.add(name, value)
        self._trace.failures.append(failure)
        return failure

    def end(self) -> None:
        """Complete the trace. Release the exceptions, which keep frames and variables."""
        self._trace.changed_globals = self._shared.changed()
        seen = [error for error, *_ in self._seen.values() if _entries(error)]
        for error in seen:
            self.look_at(error)  # it may have been caught since
        if seen and self._trace.code >= 500 and not self._trace.failures:
            self._add_failure(seen[-1])  # of a library alone
        self._seen.clear()


def _entries(error: BaseException) -> list[tuple[FrameType, int]]:
    """Return the frames and line numbers of a traceback, without those of the x-ray."""
    entries = walk_tb(error.__traceback__)
    return [entry for entry in entries if not is_xray(entry[0].f_code.co_filename)]


def _message(error: BaseException, arguments: tuple[object, ...]) -> str:
    """Return the text of an exception, without running code of the application."""
    is_builtin = type(type(error).__str__) is WrapperDescriptorType
    is_plain = is_builtin and {*map(type, arguments)} <= {str, int}
    return cut(str(error)) if is_plain else ", ".join(map(describe, arguments))
