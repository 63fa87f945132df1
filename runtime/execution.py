"""One more process in a container that runs."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from imagegraph import running
from imagegraph.model import Container
from imagegraph.store import Store
from runtime import cgroups, hostfiles, users
from runtime.attach import Attachment
from runtime.errors import NotRunning
from runtime.monitor import Monitor, Session
from runtime.process import process
from runtime.starting import made_by, merged


class Wanted(NamedTuple):
    """What is to run, and how; what is None is as the container's own process has it."""

    command: Sequence[str]
    env: Sequence[str] = ()
    user: str | None = None
    workdir: str | None = None
    terminal: bool = False
    stdin: bool = False
    privileged: bool = False
    size: tuple[int, int] | None = None


class Executed(NamedTuple):
    """A process that is about to be started: attached to, then started with `go`."""

    attachment: Attachment
    monitor: Monitor

    def go(self) -> int:
        """Start it; returns its number on this host. Raises RunError."""
        self.monitor.go()
        return self.monitor.pid()

    def status(self) -> int | None:
        """Its exit status, once its streams have ended; None if nobody can know it."""
        return self.monitor.status()


@contextlib.contextmanager
def execute(store: Store, container: Container, wanted: Wanted) -> Iterator[Executed]:
    """Have a process made in the container. Raises RunError; leaves nothing behind.

    A process that is still there when this ends goes on.
    """
    state = running.state(store.root, container.id)
    engine = made_by(container.id)
    if state.pid is None or engine is None:
        raise NotRunning(f"container {container.name} is not running: cowshed start it first")
    if state.status == "paused":
        raise NotRunning(f"container {container.name} is paused")
    config, host = merged(store, container), container.options.get("HostConfig", {})
    user = config.get("User") or "" if wanted.user is None else wanted.user
    try:
        tree = os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotRunning(f"container {container.name} has just ended") from error
    try:
        identity = users.resolve(tree, user, host.get("GroupAdd", ()))
    finally:
        os.close(tree)
    document = process(
        config,
        {**host, "Privileged": True} if wanted.privileged else host,
        identity,
        command=wanted.command,
        env=wanted.env,
        terminal=wanted.terminal,
        size=wanted.size,
        workdir=wanted.workdir,
        cgroup=cgroups.group(container.id),
        hostname=hostfiles.hostname(container.id, config, host),
    )
    bundle = f"{running.bundle(container.id)}/exec-{secrets.token_hex(4)}"
    os.mkdir(bundle, 0o700)
    try:
        path = f"{bundle}/process.json"
        with open(path, "w") as file:
            json.dump(document, file)
        session = Session(
            bundle=bundle,
            id=container.id,
            engine=engine,
            terminal=wanted.terminal,
            stdin=wanted.stdin,
            keep_open=False,
            process=path,
        )
        with cgroups.presentable():
            made = Monitor(session)
        with made as monitor:
            monitor.ready()
            with Attachment(bundle) as attachment:
                yield Executed(attachment, monitor)
    finally:
        _clear(bundle)


def _clear(bundle: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(bundle):
            os.unlink(f"{bundle}/{name}")
        os.rmdir(bundle)
