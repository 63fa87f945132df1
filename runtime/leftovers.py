"""What is left of containers' runs where cowshed, conmon or the runtime was killed."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from backends.errors import CowshedError
from imagegraph import running
from imagegraph.model import Container, Problem
from imagegraph.store import Store
from runtime.monitor import watched
from runtime.starting import end, is_attended, made_by
from runtime.stopping import ended, finish, kill_all, resume


def leftovers(store: Store, *, repair: bool = False) -> list[Problem]:
    """All of it, and with `repair` its end; what somebody is at work on is none. Raises OSError."""
    # The runs are read before the graph: what is started meanwhile has its row already.
    kept = running.runs(store.root)
    known = store.graph.known("containers")
    containers = {container.id: container for container in store.graph.containers()}
    found = []
    # One that is being made or removed is none of ours.
    for id in sorted({*containers, *(run for run in kept if run not in known)}):
        with _unlocked(id) as is_unlocked:
            looked = _look(store, id, containers.get(id)) if is_unlocked else None
        if looked is None:
            continue
        what, remedy, mend = looked
        is_done = False
        if repair:
            try:
                mend()
                is_done = True
            except CowshedError as error:
                remedy = str(error)
        found.append(Problem(f"runs/{id}", what, remedy, is_done))
    return found


Found = tuple[str, str, Callable[[], object]]
"""What is wrong, what would mend it, and what does."""


def _look(store: Store, id: str, container: Container | None) -> Found | None:
    if container is None:
        return (
            "the run of a container that is gone",
            "end it",
            lambda: _forget(store, id),
        )
    state = running.state(store.root, id)
    is_watched = _is_watched(id)
    if state.lives and state.started is None:
        return (
            "it was being started by a process that died",
            "end it",
            lambda: _end(store, container),
        )
    if state.lives and not is_watched:
        return (
            "it runs, but its monitor died: what it prints and how it ends is lost",
            "end it",
            lambda: _end(store, container),
        )
    if state.status == "paused":
        return "frozen by a process that died", "let it go on", lambda: resume(container)
    if state.lives or is_watched or is_attended(store, id):
        return None
    if state.status == "exited" and container.options.get("HostConfig", {}).get("AutoRemove"):
        return (
            "it ended and was to be removed then (--rm)",
            "remove it",
            lambda: ended(store, container),
        )
    if made_by(id) is not None or _has_contents(running.bundle(id)):
        return "left by a run that has ended", "remove it", lambda: finish(container)
    return None


def _end(store: Store, container: Container) -> None:
    kill_all(store, container)
    ended(store, container)


def _forget(store: Store, id: str) -> None:
    if os.path.isdir(running.bundle(id)):
        end(id)
    running.forget(store.root, id)


def _is_watched(id: str) -> bool:
    descriptor = watched(running.bundle(id), id)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _has_contents(directory: str) -> bool:
    try:
        return bool(os.listdir(directory))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _unlocked(id: str) -> Iterator[bool]:
    """Whether nobody is starting or ending the container just now."""
    try:
        descriptor = os.open(running.bundle(id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
