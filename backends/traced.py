"""A backend that tells each of its operations and how long it took, for whoever watches."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from backends.base import Backend, Volume

Report = Callable[[str], None]
"""Is given one line for each operation, when it has ended."""


class Traced:
    """Every operation of the backend that it stands before; the contract is Backend's."""

    def __init__(self, backend: Backend, report: Report) -> None:
        self._backend = backend
        self._report = report

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if name == "location" or not callable(found):
            return found

        def operation(*arguments: Any, **options: Any) -> Any:
            said = f"{self._backend.name} {name}{_words(arguments)}"
            start = time.perf_counter_ns()
            try:
                result = found(*arguments, **options)
            except BaseException:
                self._report(f"{said}: failed after {_milliseconds(start)}")
                raise
            if isinstance(result, Iterator):
                return self._iterated(said, result)
            if isinstance(result, AbstractContextManager):
                return self._entered(said, result)
            self._report(f"{said}: {_milliseconds(start)}")
            return result

        return operation

    def _iterated(self, said: str, result: Iterator[Any]) -> Iterator[Any]:
        count, spent, start = 0, 0, time.perf_counter_ns()
        for item in result:
            # What the consumer does between two items is not the backend's time.
            spent += time.perf_counter_ns() - start
            count += 1
            yield item
            start = time.perf_counter_ns()
        self._report(f"{said}: {count} items, {_milliseconds(start - spent)}")

    @contextmanager
    def _entered(self, said: str, result: AbstractContextManager[Any]) -> Iterator[Any]:
        start = time.perf_counter_ns()
        with result as value:
            self._report(f"{said}: {_milliseconds(start)}")
            yield value


def _milliseconds(start: int) -> str:
    return f"{(time.perf_counter_ns() - start) / 1e6:.1f} ms"


def _words(arguments: tuple[Any, ...]) -> str:
    shown = [
        f"{argument.kind}/{argument.id[:12]}" if isinstance(argument, Volume) else str(argument)
        for argument in arguments
        if isinstance(argument, Volume | int | str)
    ]
    return f" {' '.join(shown)}" if shown else ""


def traced(backend: Backend, report: Report) -> Backend:
    """The backend, telling `report` of each operation, and of what it says itself."""
    backend.note = report
    return cast(Backend, Traced(backend, report))
