"""How a container's process comes to its end, and what is done after it."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator

from backends import mounts
from imagegraph import running
from imagegraph.model import Container
from imagegraph.store import Store
from runtime import cgroups
from runtime.engine import Engine
from runtime.errors import NotRunning, RunError, Running
from runtime.monitor import wait as monitor_ended
from runtime.starting import ROOTFS, attended, end, locked, made_by, merged

GRACE = 10
"""Seconds from the signal that asks to SIGKILL, as with Docker."""

_PATIENCE = 10.0


def number_of(name: str) -> int:
    """The signal of that name, with or without SIG, or number. Raises RunError."""
    if re.fullmatch("[0-9]{1,2}", name) and 1 <= int(name) <= 64:
        return int(name)
    bare = name.upper().removeprefix("SIG")
    if match := re.fullmatch(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?", bare):
        base = signal.SIGRTMIN if match[1] == "RTMIN" else signal.SIGRTMAX
        found = base + int(f"{match[2] or ''}{match[3] or 0}")
        if signal.SIGRTMIN <= found <= signal.SIGRTMAX:
            return found
    elif f"SIG{bare}" in signal.Signals.__members__:
        return signal.Signals[f"SIG{bare}"]
    raise RunError(f"{name!r} is not a signal: write SIGTERM, TERM or 15")


def send(id: str, number: int) -> bool:
    """Send a signal to the container's first process; False if it has none."""
    pid = running.process(id)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            # Between the two looks the number may have become somebody else's.
            if running.process(id) == pid:
                signal.pidfd_send_signal(process, number)
                return True
        finally:
            os.close(process)
    return False


def kill(store: Store, container: Container, number: int) -> None:
    """Send a signal to the process. Raises NotRunning."""
    _require_running(store, container)
    if not send(container.id, number):
        raise NotRunning(f"container {container.name} is not running")


def wait(store: Store, container: Container, timeout: float | None = None) -> int | None:
    """Wait until the process has ended; its exit status, or None after `timeout` seconds.

    0 for a container that never ran.
    """
    if not monitor_ended(running.bundle(container.id), container.id, timeout):
        return None
    state = running.state(store.root, container.id)
    return state.exit_code or 0


def stop(store: Store, container: Container, grace: int | None = None) -> None:
    """Ask the process to end, and kill it after `grace` seconds (-1: never).

    By default the container's own grace, or GRACE; success if it does not run. Raises RunError.
    """
    state = running.state(store.root, container.id)
    if not state.lives:
        return
    config = merged(store, container)
    if grace is None:
        grace = config.get("StopTimeout", GRACE)
    if state.status == "paused":
        resume(container)
    send(container.id, number_of(config.get("StopSignal") or "SIGTERM"))
    if wait(store, container, None if grace < 0 else grace) is None:
        kill_all(store, container)
    finish(container)


def kill_all(store: Store, container: Container) -> None:
    """Kill the process, and all that it started. Raises RunError."""
    engine = made_by(container.id)
    if engine is not None:
        # Not the first process alone: it does not take the others with it in the host's namespace.
        with contextlib.suppress(RunError):
            engine("kill", "--all", container.id, "KILL")
    send(container.id, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE
    wait(store, container, _PATIENCE)
    while running.process(container.id) is not None:
        # Its monitor may have died before it.
        if time.monotonic() > deadline:
            raise RunError(f"container {container.name} does not end, though it was killed")
        time.sleep(0.01)


def finish(container: Container) -> None:
    """Remove what is left of a run, unless the container runs (again)."""
    with contextlib.suppress(FileNotFoundError), locked(container.id):
        if running.process(container.id) is None:
            end(container.id)


def remove(
    store: Store, container: Container, *, force: bool = False, with_volumes: bool = False
) -> list[str]:
    """Remove the container, with `force` though it runs, and perhaps its anonymous volumes.

    Returns what Store.remove_container does, and raises; Running.
    """
    if not running.was_started(container.id):
        return store.remove_container(container, force=force, volumes=with_volumes)
    state = running.state(store.root, container.id)
    if state.lives and not force:
        raise Running(
            f"container {container.name} is {state.status}: cowshed stop {container.name}, or rm -f"
        )
    # What --rm asks for is being done here.
    with attended(store, container), contextlib.ExitStack() as stack:
        if state.lives:
            kill_all(store, container)
        stack.enter_context(locked(container.id, make=True))
        if running.process(container.id) is not None:
            raise Running(f"container {container.name} was started meanwhile")
        end(container.id)
        destroyed = store.remove_container(container, force=force, volumes=with_volumes)
    return destroyed


def ended(store: Store, container: Container) -> None:
    """Do what follows when the process has ended: --rm, or what it leaves."""
    if container.options.get("HostConfig", {}).get("AutoRemove"):
        remove(store, container, with_volumes=True)
    else:
        finish(container)


def leave(container: Container) -> bool:
    """Let go of conmon, which has called this process and waits for it.

    So that conmon and the mounts of its namespace are gone before what comes next. False in the
    process that conmon waits for, which has nothing more to do.
    """
    if os.fork():
        return False
    os.setsid()
    bundle = running.bundle(container.id)
    monitor_ended(bundle, container.id)
    for name in os.listdir(bundle):
        if name == ROOTFS or name.startswith("volume-"):
            with contextlib.suppress(OSError):
                mounts.unmount(f"{bundle}/{name}")
    return True


def running_bundle(store: Store, container: Container) -> str:
    """The bundle of a container that runs. Raises NotRunning."""
    _require_running(store, container)
    return running.bundle(container.id)


@contextlib.contextmanager
def paused(container: Container) -> Iterator[None]:
    """Freeze the container's processes while this lasts, if it has any. Raises RunError."""
    if running.process(container.id) is None:
        yield
        return
    with locked(container.id):
        engine = made_by(container.id)
        if engine is None or running.process(container.id) is None:
            yield
            return
        if not cgroups.version():
            raise RunError(
                f"container {container.name} cannot be frozen, as this host has no control groups"
                " mounted: stop it, or give --no-pause"
            )
        with _thawed_afterwards(engine, container):
            engine("pause", container.id)
            yield


@contextlib.contextmanager
def _thawed_afterwards(engine: Engine, container: Container) -> Iterator[None]:
    """Have the container thawed at the end of this, even if that is the death of this process.

    Another process waits for it, which also has the lock on the bundle as long.
    """
    end, alive = os.pipe()
    guard = os.fork()
    if not guard:
        try:
            # What interrupts the command is not for the guard.
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.close(alive)
            os.read(end, 1)
            _resume(engine, container)
        finally:
            os._exit(0)
    os.close(end)
    try:
        yield
    finally:
        os.close(alive)
        os.waitpid(guard, 0)


def resume(container: Container) -> None:
    """Thaw what somebody froze and did not come to thaw again. Raises RunError."""
    engine = made_by(container.id)
    if engine is not None:
        _resume(engine, container)


def _resume(engine: Engine, container: Container) -> None:
    # It may have been killed meanwhile, and then there is nothing to thaw.
    with contextlib.suppress(RunError):
        engine("resume", container.id)


def _require_running(store: Store, container: Container) -> None:
    if not running.state(store.root, container.id).lives:
        raise NotRunning(f"container {container.name} is not running")
