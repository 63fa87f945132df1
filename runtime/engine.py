"""crun and runc: which of them a container runs with, and their commands.

Both have the command line of runc(8); neither is asked for anything that only one of them has.
"""

import re
import shutil
import subprocess
from typing import NamedTuple

from imagegraph.running import VOLATILE
from runtime import cgroups
from runtime.errors import RunError

NAMES = ("crun", "runc")

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOW = "install the Debian package crun (or runc)"


class Engine(NamedTuple):
    """An OCI runtime: its name, its program, and the options that come before its commands."""

    name: str
    path: str
    options: tuple[str, ...]

    def __call__(self, *arguments: str) -> None:
        """Run one of its commands. Raises RunError with what it said."""
        command = [self.path, *self.options, *arguments]
        with cgroups.presentable():
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
            )
        if done.returncode:
            raise RunError(f"{self.name} {arguments[0]}: {reason(done.stderr)}")


def find(name: str | None = None) -> Engine:
    """The runtime of that name, or the one that this host is best served by. Raises RunError."""
    if name is not None and name not in NAMES:
        raise RunError(f"there is no runtime {name}: take {' or '.join(NAMES)}")
    names = (name,) if name else NAMES
    for each in names:
        path = shutil.which(each, path=_PATH)
        if path is not None:
            if each == "runc" and not cgroups.version():
                raise RunError(
                    "runc needs control groups, and this host has none mounted: mount them, or"
                    " install the Debian package crun"
                )
            return Engine(each, path, ("--root", f"{VOLATILE}/{each}", *_options(each)))
    raise RunError(
        f"no {' and no '.join(names)} is here: {_HOW if name is None else _package(name)}"
    )


def monitor() -> str:
    """The program conmon, which holds a container's terminal and log. Raises RunError."""
    path = shutil.which("conmon", path=_PATH)
    if path is None:
        raise RunError(f"no conmon is here: {_package('conmon')}")
    return path


def reason(text: str) -> str:
    """What a runtime said on stderr, as one line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return "it failed and did not say why"
    # runc writes its errors as its log: time="..." level=error msg="...".
    logged = re.search(r'level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"', lines[-1])
    return re.sub(r"\\(.)", r"\1", logged[1]) if logged else lines[-1]


def _package(name: str) -> str:
    return f"install the Debian package {name}"


def _options(name: str) -> tuple[str, ...]:
    return ("--cgroup-manager=disabled",) if name == "crun" and not cgroups.version() else ()
