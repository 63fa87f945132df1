"""Vdevs: the devices a pool is made of, and those it is to be made of."""

import re
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Self

from backends.libzfs import run
from backends.libzfs.enums import Error, VDevAuxState
from backends.libzfs.errors import (
    ZFSException,
    ZFSVdevStatsException,
    from_stderr,
    not_available,
)
from backends.libzfs.status import Node

if TYPE_CHECKING:
    from backends.libzfs.pools import ZFSPool
    from backends.libzfs.zfs import ZFS

TYPES = ("root", "disk", "file", "raidz1", "raidz2", "raidz3", "mirror", "draid")
LEAVES = ("disk", "file")
_IO = ("null", "read", "write", "free", "claim", "trim")

Counters = dict[str, str]


def read_counters(pool: str) -> dict[str, Counters]:
    """The vdev properties of all vdevs of a pool, by guid (OpenZFS 2.2).

    Raises NotImplementedError before 2.2.
    """
    run.needs((2, 2), "the I/O counters of vdevs")
    argv = ["zpool", "get", "-Hp", "-o", "name,property,value", "all", pool, "all-vdevs"]
    found: dict[str, Counters] = {}
    # Spares and caches have none of these: the command says so of each on stderr, and goes on.
    done = run.attempt(argv)
    if done.status and not done.stdout:
        raise from_stderr(argv, done.stderr, done.status)
    for line in done.stdout.split("\n")[:-1]:
        name, separator, rest = line.partition("\t")
        key, _, value = rest.partition("\t")
        if separator and key:
            found.setdefault(name, {})[key] = value
    return {counters.get("guid", name): counters for name, counters in found.items()}


class ZFSVdevStats:
    """Counters of a vdev. Sizes and counts come from the status that found the vdev; what that
    does not print is asked for once for the whole pool."""

    def __init__(self, vdev: "ZFSVdev", node: Node) -> None:
        self.vdev = vdev
        self._node = node

    def asdict(self) -> dict[str, Any]:
        """All counters; None for those that this OpenZFS does not print."""
        names = ["read_errors", "write_errors", "checksum_errors", "ops", "bytes", "size"]
        names += ["allocated", "fragmentation", "self_healed"]
        names += ["configured_ashift", "logical_ashift", "physical_ashift"]
        found: dict[str, Any] = {"timestamp": None}
        for name in names:
            try:
                found[name] = getattr(self, name)
            except NotImplementedError:
                found[name] = None
        return found

    def _counter(self, name: str) -> int:
        counters = self.vdev._counters()
        text = counters.get(name, "-").removesuffix("%")
        if not text.isdigit():
            raise not_available(f"{name} of a vdev", "`zpool get` does not print it here")
        return int(text)

    @property
    def nvlist(self) -> NoReturn:
        """Not to be had."""
        raise not_available("nvlist of a vdev's counters", "the commands print no raw nvlist")

    @property
    def timestamp(self) -> NoReturn:
        """Not to be had."""
        raise not_available("timestamp of a vdev's counters", "no command prints it")

    @property
    def read_errors(self) -> int:
        """Failed reads."""
        return self._node.errors[0]

    @property
    def write_errors(self) -> int:
        """Failed writes."""
        return self._node.errors[1]

    @property
    def checksum_errors(self) -> int:
        """Checksums that did not fit."""
        return self._node.errors[2]

    @property
    def size(self) -> int:
        """Bytes of space that a top-level vdev gives the pool; 0 for its parts, as in libzfs."""
        return self._space("total_space", "size")

    @property
    def allocated(self) -> int:
        """Bytes of it in use."""
        return self._space("alloc_space", "allocated")

    def _space(self, key: str, counter: str) -> int:
        if run.version() >= (2, 3):
            return self._node.numbers.get(key, 0)
        return self._counter(counter)

    @property
    def self_healed(self) -> int:
        """Bytes repaired. JSON leaves the number out where it is 0."""
        run.needs((2, 3), "self_healed of a vdev")
        return self._node.numbers.get("self_healed", 0)

    @property
    def fragmentation(self) -> int:
        """Percent of free space in fragments."""
        return self._counter("fragmentation")

    @property
    def ops(self) -> list[int]:
        """I/O operations since the import, in the order of ZIOType."""
        return [self._counter(f"{kind}_ops") for kind in _IO]

    @property
    def bytes(self) -> list[int]:
        """Bytes moved since the import, in the order of ZIOType."""
        return [self._counter(f"{kind}_bytes") for kind in _IO]

    @property
    def configured_ashift(self) -> int:
        """The power of two of the block size that is used."""
        return self._counter("ashift")

    @property
    def logical_ashift(self) -> NoReturn:
        """Not to be had."""
        raise not_available("logical_ashift of a vdev", "no command prints it")

    @property
    def physical_ashift(self) -> int:
        """The power of two of the device's own block size, where it differs from the one used."""
        if "physical_ashift" in self._node.numbers:
            return self._node.numbers["physical_ashift"]
        raise not_available("physical_ashift of a vdev", "no command prints it")


class ZFSVdev:
    """A vdev of a pool, or, made by the user, one that a pool shall be made of.

    `ZFSVdev(zfs, "file")` has a `path`, the others have `children`.
    """

    root: "ZFS"
    zpool: "ZFSPool | None"
    parent: "ZFSVdev | None"
    group: str | None
    _node: Node | None
    _path: str | None
    _made_of: "list[ZFSVdev]"
    _type: str

    def __init__(self, root: "ZFS", typ: str, pool: "ZFSPool | None" = None) -> None:
        self.root = root
        self.zpool = pool
        self.parent = None
        self.group = None
        self._node = None
        self._path = None
        self._made_of = []
        self.type = typ

    @classmethod
    def _of(
        cls, pool: "ZFSPool", node: Node, group: str | None, parent: "ZFSVdev | None" = None
    ) -> Self:
        self = cls.__new__(cls)
        self.root, self.zpool = pool.root, pool
        self.parent, self.group = parent, group
        self._node = node
        self._path = node.path
        self._made_of = []
        self._type = _type_of(node)
        return self

    def __str__(self) -> str:
        if self.path:
            return f"<libzfs.ZFSVdev type '{self.type}', path '{self.path}'>"
        return f"<libzfs.ZFSVdev type '{self.type}'>"

    __repr__ = __str__

    def _found(self) -> Node:
        if self._node is None:
            raise ValueError("the vdev is not part of a pool yet")
        return self._node

    def _pool(self) -> "ZFSPool":
        if self.zpool is None:
            raise ValueError("the vdev is not part of a pool yet")
        return self.zpool

    def _counters(self) -> Counters:
        return self._pool()._vdev_counters().get(str(self.guid), {})

    def asdict(self, recursive: bool = True) -> dict[str, Any]:
        """The vdev in plain types, with its children."""
        found: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "path": self.path,
            "guid": str(self.guid),
            "status": self.status,
            "stats": self.stats.asdict(),
        }
        if recursive:
            found["children"] = [child.asdict() for child in self.children]
        return found

    @property
    def type(self) -> str:
        """disk, file, mirror, raidz1, raidz2, raidz3, draid, root, replacing, spare, ..."""
        return self._type

    @type.setter
    def type(self, value: str) -> None:
        if value not in TYPES:
            raise ValueError("Invalid vdev type")
        self._type = value

    @property
    def path(self) -> str | None:
        """The device or file; None for what is made of others."""
        return self._path

    @path.setter
    def path(self, value: str) -> None:
        self._path = value

    @property
    def guid(self) -> int | None:
        """The number by which the pool knows it; None before it is part of one."""
        return self._node.guid if self._node else None

    @property
    def name(self) -> str:
        """Its name in the pool: "mirror-0", "sda", "/images/disk0"."""
        return self._found().name

    @property
    def status(self) -> str:
        """ONLINE, DEGRADED, FAULTED, OFFLINE, REMOVED or UNAVAIL."""
        return self._found().state

    @property
    def size(self) -> int:
        """Bytes of the device that can be allocated (OpenZFS 2.2)."""
        text = self._counters().get("asize", "-")
        if not text.isdigit():
            raise not_available("size of this vdev", "`zpool get asize` prints none")
        return int(text)

    @property
    def stats(self) -> ZFSVdevStats:
        """Its counters. Raises ZFSVdevStatsException before it is part of a pool."""
        if self._node is None:
            raise ZFSVdevStatsException(Error.NOENT)
        return ZFSVdevStats(self, self._node)

    @property
    def children(self) -> "Generator[ZFSVdev]":
        """What it is made of."""
        if self._node is None:
            yield from self._made_of
            return
        for node in self._node.children:
            yield ZFSVdev._of(self._pool(), node, self.group, self)

    @children.setter
    def children(self, value: "Iterable[ZFSVdev]") -> None:
        self._made_of = list(value)

    def add_child_vdev(self, vdev: "ZFSVdev") -> None:
        """Put one more vdev into what this one is to be made of."""
        self._made_of.append(vdev)

    @property
    def disks(self) -> list[str]:
        """The paths of all disks in it; files do not count, nor what is away or offline."""
        if self._node is not None and self.status in ("UNAVAIL", "OFFLINE"):
            return []
        if self.type == "disk":
            return [self.path] if self.path else []
        if self.type == "file":
            return []
        return [disk for child in self.children for disk in child.disks]

    def set_ashift(self, value: int) -> NoReturn:
        """Not to be had: give `ashift` to ZFS.create; what is added later has the pool's."""
        raise not_available("set_ashift", "zpool create takes one for the whole pool")

    def set_whole_disk(self, value: bool) -> NoReturn:
        """Not to be had: the commands find out."""
        raise not_available("set_whole_disk", "the commands find out by themselves")

    def _change(self, *argv: str) -> None:
        run.run(["zpool", *argv])
        self._pool()._forget()

    def _device(self) -> str:
        return self.path or str(self.guid)

    def attach(self, vdev: "ZFSVdev") -> None:
        """Make a mirror of it, or a wider mirror or raidz, with one more device."""
        if self.type == "mirror":
            target = next(self.children)._device()
        elif self.type in ("raidz1", "raidz2", "raidz3"):
            target = self.name
        elif self.type in LEAVES:
            target = self._device()
        else:
            raise ZFSException(Error.NOTSUP, "Can attach disks to mirrors and stripes only")
        # -f: libzfs does not look at what the new device holds.
        self._change("attach", "-f", self._pool().name, target, vdev._device())

    def replace(self, vdev: "ZFSVdev") -> None:
        """Put another device in its place."""
        if self.type == "file":
            raise ZFSException(Error.NOTSUP, "Can replace disks only")
        self._change("replace", "-f", self._pool().name, self._device(), vdev._device())

    def detach(self) -> None:
        """Take it out of its mirror."""
        if self.type not in LEAVES:
            raise ZFSException(Error.NOTSUP, "Cannot detach virtual vdevs")
        if self.parent is None:
            raise ZFSException(Error.NOTSUP, "Cannot detach root-level vdevs")
        if self.parent.type not in ("replacing", "mirror", "spare"):
            raise ZFSException(
                Error.NOTSUP, "Can detach disks from mirrors, replacing and spares only"
            )
        self._change("detach", self._pool().name, self._device())

    def remove(self) -> None:
        """Take it out of the pool, its data moved to the others."""
        self._change("remove", self._pool().name, self._device())

    def _leaf(self, doing: str) -> str:
        if self.type not in LEAVES:
            raise ZFSException(Error.NOTSUP, f"Can make disks {doing} only")
        return self._device()

    def offline(self, temporary: bool = False) -> None:
        """Stop using it; `temporary`: until the next import."""
        option = ["-t"] if temporary else []
        self._change("offline", *option, self._pool().name, self._leaf("offline"))

    def online(self, expand: bool = False) -> None:
        """Use it again; `expand`: with the room it has gained."""
        option = ["-e"] if expand else []
        self._change("online", *option, self._pool().name, self._leaf("online"))

    def fault(self, aux: int) -> None:
        """Treat it as broken. Only VDevAuxState.EXTERNAL can be given as the reason."""
        if VDevAuxState(int(aux)) is not VDevAuxState.EXTERNAL:
            raise not_available("fault for that reason", "`zpool offline -f` gives EXTERNAL only")
        self._change("offline", "-tf", self._pool().name, self._device())

    def degrade(self, aux: int) -> NoReturn:
        """Not to be had."""
        raise not_available("degrade", "no command of `zpool` does it")


def _type_of(node: Node) -> str:
    if node.type == "raidz":
        parity = re.match(r"raidz(\d)", node.name)
        return f"raidz{parity[1]}" if parity else "raidz1"
    return node.type
