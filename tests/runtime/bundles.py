"""Containers that are run by a runtime alone, from the configuration that is computed for them."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runtime.mounts import Bind
from runtime.process import process
from runtime.spec import init_binds, spec
from runtime.users import resolve
from tests.conftest import require

RUNTIMES = ("crun", "runc")
PARENT = f"/cowshed-tests-{os.getpid()}"
"""The cgroup below which those of the containers are."""

PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nalice:x:1000:\naudio:x:29:alice\nvideo:x:44:\n"
# The files of the system are mounted into a tree that has none of its own.
USR = Bind("/usr", "/usr", True, ())
PYTHON = os.path.realpath(sys.executable)
CGROUPS = Path("/sys/fs/cgroup")


def tree(path: Path) -> Path:
    """A root that has users, and everything else from the host's /usr."""
    for name in ("dev", "etc", "proc", "sys", "sbin", "tmp", "usr", "home/alice"):
        (path / name).mkdir(parents=True)
    # Not /sbin: a runtime makes the mount point of an init there.
    for name in ("bin", "lib", "lib64"):
        (path / name).symlink_to(f"usr/{name}")
    (path / "etc/passwd").write_text(PASSWD)
    (path / "etc/group").write_text(GROUP)
    (path / "tmp").chmod(0o1777)
    shutil.copy(Path(__file__).with_name("probe.py"), path / "probe.py")
    return path


class Ran(NamedTuple):
    """How a container ended, and the last of its configuration."""

    status: int
    output: str
    errors: str
    document: dict[str, Any]


class Runner:
    """A runtime with a state of its own."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory
        self._command = [name, "--root", str(directory / "state")]
        if name == "crun" and _mixed():
            # crun takes no host that has controllers in both versions.
            hide = 'umount /sys/fs/cgroup/unified && exec "$@"'
            self._command = ["unshare", "--mount", "sh", "-c", hide, "-", *self._command]

    def run(
        self,
        host: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        *command: str,
        binds: tuple[Bind, ...] = (),
        cgroup: bool = True,
        terminal: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Ran:
        """Run a container to its end, with the options as Docker's API has them."""
        host, config = host or {}, config or {}
        number = len(list(self._directory.iterdir()))
        name = f"{self.name}-{os.getpid()}-{number}"
        bundle = self._directory / name
        bundle.mkdir()
        root = tree(bundle / "rootfs")
        descriptor = os.open(root, os.O_PATH)
        identity = resolve(descriptor, config.get("User", ""), host.get("GroupAdd", ()))
        os.close(descriptor)
        group = f"{PARENT}/{name}" if cgroup else None
        document = spec(
            hostname="cow",
            tree=str(root),
            host=host,
            binds=[USR, *binds, *init_binds(host)],
            process=process(
                config,
                host,
                identity,
                hostname="cow",
                cgroup=group,
                terminal=terminal,
                size=size,
                command=command or None,
            ),
            cgroup=group,
        )
        (bundle / "config.json").write_text(json.dumps(document))
        options = ["--cgroup-manager=disabled"] if not cgroup else []
        line = [*self._command, *options, "run", "--bundle", str(bundle), name]
        done = _on_terminal(line) if terminal else _in_pipes(line)
        return Ran(*done, document)

    def probed(self, host: dict[str, Any] | None = None, *files: str, **more: Any) -> Any:
        """What a process in such a container finds."""
        config = more.pop("config", {})
        ran = self.run(host, config, PYTHON, "/probe.py", *files, **more)
        assert ran.status == 0, ran.errors
        return json.loads(ran.output)


def _in_pipes(command: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def _on_terminal(command: list[str]) -> tuple[int, str, str]:
    """All that is written comes as output."""
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as child:
        os.close(slave)
        output = b""
        # Linux ends the reading of a terminal that nobody has open with EIO.
        with contextlib.suppress(OSError):
            while piece := os.read(master, 1 << 16):
                output += piece
        os.close(master)
    return child.returncode, output.decode(), output.decode()


def _mixed() -> bool:
    controllers = CGROUPS / "unified/cgroup.controllers"
    return controllers.exists() and controllers.read_text().strip() != ""


@contextlib.contextmanager
def runner(name: str, directory: Path) -> Iterator[Runner]:
    """The runtime, which leaves nothing but in the directory; skips where it cannot run."""
    require("root")
    require(name)
    if not PYTHON.startswith("/usr/"):
        pytest.skip(f"the tests look from inside with a Python of /usr, and it is {PYTHON}")
    yield Runner(name, directory)
    for group in [*CGROUPS.glob(f"*{PARENT}"), *CGROUPS.glob(PARENT.lstrip("/"))]:
        group.rmdir()
