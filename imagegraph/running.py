"""Whether a container runs, and how it ended: read from the kernel and from what its monitor wrote.

/run/cowshed/<id>/    the bundle, sockets and process numbers of a container that runs; gone with
                      a reboot, and worth nothing where the process is not the container's
<root>/runs/<id>/     what outlives that: when it was started, how it ended, what it printed

What is written there is runtime/'s. A number in a file is believed only if the kernel says that the
process sees the container's volume.
"""

import contextlib
import os
import shutil
from typing import NamedTuple

VOLATILE = "/run/cowshed"

PID = "pid"
STARTED = "started"
EXIT = "exit"
LOG = "log"

LOST = 255
"""The exit status of a container whose end nobody saw, as Docker gives it after a reboot."""

_FREEZERS = (
    ("/sys/fs/cgroup/cowshed/{}/cgroup.freeze", b"1"),
    ("/sys/fs/cgroup/freezer/cowshed/{}/freezer.state", b"FROZEN"),
)


class State(NamedTuple):
    """`status` is created, running, paused or exited; times are nanoseconds since the epoch.

    `pid` is the container's first process while it lives, `exit_code` how it ended last.
    """

    status: str
    pid: int | None = None
    exit_code: int | None = None
    started: int | None = None
    finished: int | None = None

    @property
    def lives(self) -> bool:
        """Whether it has processes."""
        return self.pid is not None


def bundle(id: str) -> str:
    """Where a running container's bundle is."""
    return f"{VOLATILE}/{id}"


def kept(root: str, id: str) -> str:
    """What is kept of a container's runs in the store at `root`."""
    return f"{root}/runs/{id}"


def state(root: str, id: str) -> State:
    """How it is with the container. Raises OSError where that cannot be read."""
    # The process is looked at first: what it wrote before its end is there when it is gone.
    pid = process(id)
    directory = kept(root, id)
    code, finished = _exit(f"{directory}/{EXIT}")
    started = _time(f"{directory}/{STARTED}")
    if pid is not None and started is not None:
        return State("paused" if _frozen(id) else "running", pid, None, started)
    if started is not None:
        return State("exited", None, LOST if code is None else code, started, finished)
    return State("created", pid, code)


def runs(root: str) -> list[str]:
    """The ids of all containers that were started at some time."""
    try:
        return os.listdir(f"{root}/runs")
    except FileNotFoundError:
        return []


def states(root: str) -> dict[str, State]:
    """The states of all containers that were started at some time."""
    return {id: state(root, id) for id in runs(root)}


def process(id: str) -> int | None:
    """The container's first process, if it lives."""
    return living(f"{bundle(id)}/{PID}", id)


def living(path: str, id: str) -> int | None:
    """The process whose number is in the file, if it sees the container's volume."""
    with contextlib.suppress(OSError, ValueError):
        with open(path) as file:
            pid = int(file.read())
        # A zombie's cannot be read.
        with open(f"/proc/{pid}/mountinfo", "rb") as mounts:
            if id.encode() in mounts.read():
                return pid
    return None


def was_started(id: str) -> bool:
    """Whether the container was started since the host was."""
    return os.path.exists(bundle(id))


def forget(root: str, id: str) -> None:
    """Remove what is kept of the runs of a container that is removed."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(kept(root, id))
    # A bundle that still has something in it is runtime/'s to end.
    with contextlib.suppress(OSError):
        os.rmdir(bundle(id))


def _exit(path: str) -> tuple[int | None, int | None]:
    try:
        with open(path) as file:
            return int(file.read()), os.fstat(file.fileno()).st_mtime_ns
    except (FileNotFoundError, ValueError):
        return None, None


def _time(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def _frozen(id: str) -> bool:
    for path, frozen in _FREEZERS:
        with contextlib.suppress(OSError), open(path.format(id), "rb") as file:
            return file.read().strip() == frozen
    return False
