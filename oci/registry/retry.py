"""When to try again, and when to give up."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from oci.registry.errors import Passing, RegistryError

ATTEMPTS = 6
"""How often something is tried in a row without getting on."""

PATIENCE = 60.0
"""The longest that a registry may ask to wait, in seconds; asked for more, we give up."""

_FIRST, _LONGEST = 0.5, 10.0

_Result = TypeVar("_Result")


class Clock(NamedTuple):
    """Where time comes from, in seconds. `sleep` may raise, to end what waits."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Patience:
    """How often one thing failed in a row; the pauses double, and are not the same for all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0

    def renew(self) -> None:
        """It got on: count anew."""
        self._failures = 0

    def bear(self, error: RegistryError) -> None:
        """Wait until the next attempt; raises `error` where there should be none."""
        self._failures += 1
        wait = (error.wait if isinstance(error, Passing) else None) or 0
        if self._failures >= ATTEMPTS or wait > PATIENCE:
            raise error
        pause = min(_FIRST * 2 ** (self._failures - 1), _LONGEST) * random.uniform(0.5, 1)
        self._clock.sleep(max(pause, wait))


def tried(attempt: Callable[[], _Result], clock: Clock) -> _Result:
    """What `attempt` returns, tried again while it raises Passing."""
    patience = Patience(clock)
    while True:
        try:
            return attempt()
        except Passing as error:
            patience.bear(error)
