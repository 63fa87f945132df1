"""A container's process, from the bundle that is made for it to the bundle's end.

A container is started under a lock of its own, so that of several only one starts it. What an
earlier run left is ended first, and what a start that fails has made is undone.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backends.base import VOLUMES, Volume
from backends.errors import from_os_error
from imagegraph import config as configs
from imagegraph import mount_points, running, volumes
from imagegraph.model import Container
from imagegraph.store import Store
from runtime import binds, cgroups, hostfiles, users
from runtime import engine as engines
from runtime.attach import Attachment
from runtime.engine import NAMES, Engine
from runtime.errors import RunError, Running
from runtime.monitor import Monitor, Session, wait
from runtime.namespaces import let_go, private_mounts
from runtime.process import process
from runtime.spec import init_binds, spec

ROOTFS = "rootfs"
ATTENDED = "attended"
"""Its lock says that somebody is there for the container's end."""

# Python, cowshed, what they and a runtime load, and where conmon has a socket for a moment.
_PROGRAMS = (
    *(sys.executable, sys.prefix, sys.base_prefix, __file__),
    *(
        "/usr/bin",
        "/usr/sbin",
        "/usr/lib",
        "/lib",
        "/bin",
        "/etc",
        "/run",
        os.environ.get("TMPDIR", "/tmp"),
    ),
)

_PATIENCE = 10.0
"""Seconds for conmon to see that the process it watches has ended."""


@contextlib.contextmanager
def locked(id: str, *, make: bool = False) -> Iterator[str]:
    """The container's bundle, in which nobody else starts or ends anything meanwhile.

    Raises FileNotFoundError where there is none, unless it is to be made.
    """
    path = running.bundle(id)
    while True:
        if make:
            os.makedirs(path, mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    yield path
                    return
        finally:
            os.close(descriptor)


def merged(store: Store, container: Container) -> dict[str, Any]:
    """The image's inner config with the container's own laid over it. Raises RunError."""
    image = store.graph.image(container.image)
    if image is None:
        raise RunError(f"container {container.name} or its image was removed meanwhile")
    inner = configs.load(image.config).get("config") or {}
    return configs.overlaid(inner, container.options.get("Config", {}))


def start(
    store: Store,
    container: Container,
    *,
    attach: bool = False,
    once: bool = False,
    size: tuple[int, int] | None = None,
    afterwards: Sequence[str] = (),
) -> Attachment | None:
    """Start the container's process; returns once it runs.

    `attach`: returns a connection to its streams that misses nothing. `once`: its stdin, if it has
    one that is no terminal, ends when who is attached leaves. `size`: columns and lines of its
    terminal. `afterwards`: a command for when it has ended. Raises RunError, BackendError; nothing
    is left behind then.
    """
    config, host = merged(store, container), container.options.get("HostConfig", {})
    kept = running.kept(store.root, container.id)
    with locked(container.id, make=True) as bundle:
        if running.process(container.id) is not None:
            raise Running(f"container {container.name} is running already")
        _clear(container.id)
        engine = engines.find(host.get("Runtime"))
        os.makedirs(kept, mode=0o700, exist_ok=True)
        for name in (running.STARTED, running.EXIT):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{kept}/{name}")
        attachment = None
        try:
            attached = _prepare(store, container, config, host, bundle, size)
            terminal, stdin = bool(config.get("Tty")), bool(config.get("OpenStdin"))
            session = Session(
                bundle=bundle,
                id=container.id,
                engine=engine,
                terminal=terminal,
                stdin=stdin,
                keep_open=stdin and (terminal or not once),
                kept=kept,
                afterwards=afterwards,
            )
            with _monitored(store, container, session, attached) as monitor:
                monitor.pid()
            attachment = Attachment(bundle) if attach else None
            engine("start", container.id)
            with open(f"{kept}/{running.STARTED}", "w"):
                pass
        except BaseException as error:
            if attachment is not None:
                attachment.close()
            end(container.id)
            if isinstance(error, OSError):
                raise from_os_error(error, f"start container {container.name}") from error
            raise
    return attachment


def _prepare(
    store: Store,
    container: Container,
    config: Mapping[str, Any],
    host: Mapping[str, Any],
    bundle: str,
    size: tuple[int, int] | None,
) -> Sequence[volumes.Attachment]:
    """Make all that the runtime needs, but for what is mounted; returns the data volumes."""
    wanted = binds.of_the_host(host)
    attached = volumes.ensure(store, container, config)
    name = hostfiles.hostname(container.id, config, host)
    files = hostfiles.contents(name, host)
    read_only = bool(host.get("ReadonlyRootfs"))
    found = binds.binds(bundle, wanted, attached, files, read_only=read_only)
    found += [(bind, "file") for bind in init_binds(host)]
    points = binds.points(found, host)
    with store.open_tree(container) as path:
        tree = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            identity = users.resolve(tree, config.get("User") or "", host.get("GroupAdd", ()))
            for each in attached:
                if each.copy:
                    volumes.fill(store, each.volume, tree, each.target)
            modes = {path: mode for path, mode in binds.temporary(host).items() if mode is not None}
            places = mount_points.prepare(store, container, tree, points, modes)
        finally:
            os.close(tree)
    real = dict(zip((path for path, _ in points), places, strict=True))
    for path in binds.FILESYSTEMS:
        # Before the container has its root, crun and runc follow links in it to the host's files.
        if real[path] != path:
            raise RunError(f"{path} is a link in container {container.name}: remove it there")
    placed = [bind._replace(target=real.get(bind.target, bind.target)) for bind, _ in found]
    group = cgroups.group(container.id)
    document = spec(
        hostname=name,
        tree=f"{bundle}/{ROOTFS}",
        host=host,
        binds=placed,
        process=process(
            config,
            host,
            identity,
            terminal=bool(config.get("Tty")),
            size=size,
            hostname=name,
            cgroup=group,
        ),
        cgroup=group,
    )
    _write(bundle, document, files, len(attached))
    return attached


def _write(bundle: str, document: Mapping[str, Any], files: Mapping[str, str], points: int) -> None:
    for path, text in files.items():
        with open(binds.host_file(bundle, path), "w", errors="surrogateescape") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
    for point in (f"{bundle}/{ROOTFS}", *_volume_points(bundle, points)):
        os.mkdir(point, 0o700)
    with open(f"{bundle}/config.json", "w") as file:
        json.dump(document, file)


def _volume_points(bundle: str, count: int) -> list[str]:
    return [binds.volume_point(bundle, number) for number in range(count)]


def _monitored(
    store: Store,
    container: Container,
    session: Session,
    attached: Sequence[volumes.Attachment],
) -> Monitor:
    """A monitor that has the container's volumes mounted, where nobody else sees them."""
    sources = [each.source for each in binds.of_the_host(container.options.get("HostConfig", {}))]
    with private_mounts(), cgroups.presentable():
        store.backend.mount(store.volume(container), f"{session.bundle}/{ROOTFS}")
        for number, each in enumerate(attached):
            point = binds.volume_point(session.bundle, number)
            store.backend.mount(Volume(VOLUMES, each.volume.id), point)
        let_go(
            (session.bundle, f"{store.root}/pool", *sources),
            (store.root, session.engine.path, engines.monitor(), *_PROGRAMS),
        )
        return Monitor(session)


@contextlib.contextmanager
def attended(store: Store, container: Container) -> Iterator[str]:
    """Be there for the container's end while this lasts; gives the file whose lock says so."""
    kept = running.kept(store.root, container.id)
    os.makedirs(kept, mode=0o700, exist_ok=True)
    path = f"{kept}/{ATTENDED}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield path
    finally:
        os.close(descriptor)


def is_attended(store: Store, id: str) -> bool:
    """Whether somebody is there for the container's end."""
    try:
        descriptor = os.open(f"{running.kept(store.root, id)}/{ATTENDED}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def made_by(id: str) -> Engine | None:
    """The runtime that has the container, or had it and was not told that it ended."""
    for name in NAMES:
        if os.path.exists(f"{running.VOLATILE}/{name}/{id}"):
            return engines.find(name)
    return None


def end(id: str) -> None:
    """End what there is of the container's run: its processes, cgroup and bundle.

    For who has it locked, and lets go of it then. Raises RunError, OSError.
    """
    _clear(id)
    with contextlib.suppress(OSError):
        os.rmdir(running.bundle(id))


def _clear(id: str) -> None:
    bundle = running.bundle(id)
    engine = made_by(id)
    if engine is not None:
        engine("delete", "--force", id)
    wait(bundle, id, _PATIENCE)
    _empty(bundle)


def _empty(directory: str) -> None:
    """Remove all but what is a mount point, here or elsewhere: that has contents of its own."""
    with os.scandir(directory) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                if entry.name.startswith("exec-"):
                    _empty(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
