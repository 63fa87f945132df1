"""Snapshots and bookmarks: ZFSSnapshot, ZFSBookmark."""

import re
import time
from collections.abc import Collection, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from backends.libzfs import mounts, run
from backends.libzfs.enums import DatasetType, Error, SendFlag
from backends.libzfs.errors import (
    ZFSException,
    absent_is_success,
    also_oserror,
    from_stderr,
    not_available,
)
from backends.libzfs.names import check, check_snapshot_part
from backends.libzfs.objects import ZFSObject, ZFSResource
from backends.libzfs.run import options

if TYPE_CHECKING:
    from backends.libzfs.datasets import ZFSDataset

_TIME = re.compile(r"\t(\d+|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [ \d]\d:\d\d \d{4})\Z")


# What of names is given to one command: half of what Linux takes (2 MiB with the environment).
_MAX_NAMES = 1 << 20


def holds(names: Iterable[str], absent_ok: bool = False) -> dict[str, dict[str, int]]:
    """The holds of snapshots: {snapshot: {tag: when it was put, in seconds since the epoch}}.

    One command for each MiB of names. OpenZFS 2.1 prints no seconds: there a time is that of its
    minute. `absent_ok`: a snapshot that does not exist has no holds, else that raises NOENT.
    """
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for part in run.parts(found, _MAX_NAMES):
        argv = ["zfs", "holds", "-Hp" if run.version() >= (2, 2) else "-H", *part]
        _read_holds(run.run(argv, absent_ok=absent_ok), found)
    return found


def _read_holds(output: str, found: dict[str, dict[str, int]]) -> None:
    rows: list[str] = []
    for line in output.split("\n")[:-1]:
        # A tag may hold tabs and newlines: a row ends with a time, and the next begins with a name.
        begins = line.partition("\t")[0] in found and (not rows or _TIME.search(rows[-1]))
        if begins:
            rows.append(line)
        else:
            rows[-1] += f"\n{line}"
    for row in rows:
        name, _, rest = row.partition("\t")
        tag, _, when = rest.rpartition("\t")
        found[name][tag] = int(when) if when.isdigit() else _minute(when)


def _minute(text: str) -> int:
    return int(time.mktime(time.strptime(" ".join(text.split()), "%a %b %d %H:%M %Y")))


class ZFSSnapshot(ZFSResource):
    """A snapshot."""

    def asdict(self) -> dict[str, Any]:
        """The snapshot in plain types."""
        (found,) = plain([self], mounts.points())
        return found

    def _alone(self, tags: Mapping[str, int], point: str | None) -> dict[str, Any]:
        return super().asdict() | {
            "holds": dict(tags),
            "dataset": self._name.partition("@")[0],
            "snapshot_name": self.snapshot_name,
            "mountpoint": point,
        }

    @property
    def snapshot_name(self) -> str:
        """What follows the `@`."""
        return self._name.partition("@")[2]

    @property
    def parent(self) -> "ZFSDataset":
        """The dataset."""
        return self.root._dataset(self._name.partition("@")[0])

    @property
    def holds(self) -> dict[str, int]:
        """Its holds: tag -> when it was put, in seconds since the epoch."""
        return holds([self._name])[self._name]

    @property
    def mountpoint(self) -> str | None:
        """Where it is mounted in this process's namespace; None if it is not."""
        return mounts.mountpoint(self._name)

    @property
    def dependents(self) -> "Generator[ZFSDataset | ZFSSnapshot]":
        """Its clones and what depends on them, in an order in which they can be destroyed."""
        return self.get_dependents(True)

    def rollback(self, force: bool = False) -> None:
        """Make the dataset what it was; destroys all newer snapshots and bookmarks *and their
        clones*, as libzfs does. `force` unmounts clones that are in use."""
        run.run(["zfs", "rollback", "-R", *(["-f"] if force else []), self._name])

    def bookmark(self, name: str) -> None:
        """Make the bookmark `name` (without the dataset) of this snapshot."""
        check_snapshot_part(name, "create bookmark")
        with also_oserror():
            run.run(["zfs", "bookmark", self._name, f"{self._name.partition('@')[0]}#{name}"])

    def clone(self, name: str, opts: Mapping[str, object] | None = None) -> None:
        """Make the dataset `name` a clone of this snapshot. It is left unmounted, as by libzfs."""
        check(name, "create", DatasetType.FILESYSTEM, DatasetType.VOLUME)
        create_unmounted(["zfs", "clone", *options(opts), self._name, name], name)

    def hold(self, tag: str, recursive: bool = False) -> None:
        """Put a hold: the snapshot cannot be destroyed. `recursive`: on the snapshots of the same
        name below too. Raises ZFSException, HOLD if the tag is there."""
        run.run(["zfs", "hold", *(["-r"] if recursive else []), "--", tag, self._name])

    def release(self, tag: str, recursive: bool = False) -> None:
        """Take a hold off. Raises ZFSException, RELE if there is none."""
        run.run(["zfs", "release", *(["-r"] if recursive else []), "--", tag, self._name])

    def delete(  # type: ignore[override]  # py-libzfs has its arguments in this order
        self, recursive: bool = False, defer: bool = False, recursive_children: bool = False
    ) -> None:
        """Destroy the snapshot. Raises ZFSException, EXISTS while it has clones.

        `recursive`: the snapshots of the same name below too. `recursive_children`: its clones
        and all that depends on them too, mounted or not. `defer`: as soon as clones and holds go.
        """
        option = ["-d"] if defer else []
        if recursive_children:
            run.run(["zfs", "destroy", "-Rf", self._name])
        elif recursive:
            run.run(["zfs", "destroy", "-r", *option, self._name])
        else:
            with absent_is_success():
                run.run(["zfs", "destroy", *option, self._name])
        self._forget()

    def send(
        self, fd: int, fromname: str | None = None, flags: Collection[SendFlag] | None = None
    ) -> None:
        """Write a stream of it to the file descriptor, from the snapshot `fromname` if given."""
        self.parent.send(fd, fromname=fromname, toname=self.snapshot_name, flags=flags)

    def get_send_progress(self, fd: int) -> NoReturn:
        """Not to be had: the kernel answers only an ioctl that names the descriptor."""
        raise not_available("get_send_progress", "no command asks the kernel for it")


class ZFSBookmark(ZFSObject):
    """A bookmark: what remains of a snapshot, to send from."""

    def asdict(self) -> dict[str, Any]:
        """The bookmark in plain types."""
        found = super().asdict()
        found["dataset"] = self._name.partition("#")[0]
        found["bookmark_name"] = self.bookmark_name
        return found

    @property
    def parent(self) -> "ZFSDataset":
        """The dataset."""
        return self.root._dataset(self._name.partition("#")[0])

    @property
    def bookmark_name(self) -> str:
        """What follows the `#`."""
        return self._name.partition("#")[2]


def plain(snapshots: Iterable[ZFSSnapshot], points: Mapping[str, str]) -> list[dict[str, Any]]:
    """Snapshots in plain types; `points` says what is mounted where."""
    listed = list(snapshots)
    tags = holds(each.name for each in listed)
    return [each._alone(tags[each.name], points.get(each.name)) for each in listed]


def create_unmounted(argv: list[str], name: str, feed: bytes | None = None) -> None:
    """Run a command that makes the dataset `name`, and undo what it does beyond that.

    libzfs makes datasets and mounts nothing. The command mounts what has a mount point, and
    fails, with the dataset made, where it cannot.
    """
    done = run.attempt(argv, feed=feed)
    if done.status and "successfully created, but" not in done.stderr:
        raise from_stderr(argv, done.stderr, done.status)
    if mounts.mountpoint(name) is not None:
        run.run(["zfs", "unmount", name])


def require_snapshot(name: str) -> str:
    """`name`, if it can be one of a snapshot. Raises ZFSException(NOENT)."""
    if "@" not in name:
        raise ZFSException(Error.NOENT, f"Snapshot {name} not found")
    return name
