"""What datasets, snapshots and bookmarks have in common: ZFSObject and ZFSResource."""

from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from backends.libzfs import run
from backends.libzfs.enums import DatasetType, Error, UserquotaProp
from backends.libzfs.errors import ZFSException, absent_is_success
from backends.libzfs.listing import TYPE_NAMES, Batch, Rows, dependents, get
from backends.libzfs.mounts import mountpoint
from backends.libzfs.names import check
from backends.libzfs.properties import ZFSPropertyDict
from backends.libzfs.values import serialize_zfs_prop

if TYPE_CHECKING:
    from backends.libzfs.datasets import ZFSDataset
    from backends.libzfs.pools import ZFSPool
    from backends.libzfs.snapshots import ZFSSnapshot
    from backends.libzfs.zfs import ZFS


class ZFSObject:
    """A dataset, snapshot or bookmark by name.

    Made by a listing or a look-up, never by the user. Its properties are read when first asked
    for, together with those of everything else in the same listing, and kept until it changes
    something itself.
    """

    root: "ZFS"
    _name: str
    _kind: DatasetType | None
    _batch: Batch | None
    _known: Rows | None

    def __init__(self) -> None:
        raise RuntimeError("ZFSObject cannot be instantiated by the user")

    @classmethod
    def _of(
        cls,
        root: "ZFS",
        name: str,
        kind: DatasetType | None = None,
        batch: Batch | None = None,
        rows: Rows | None = None,
    ) -> Self:
        self = cls.__new__(cls)
        self.root = root
        self._name = name
        self._kind = kind
        self._batch = batch
        self._known = rows
        return self

    def _rows(self) -> Rows:
        """The properties as `zfs get` printed them. Raises ZFSException(NOENT)."""
        if self._known is None and self._batch is not None:
            self._known = self._batch.rows(self._name)
            self._batch = None
        if self._known is None:
            self._known = get([self._name])[self._name]
        return self._known

    def _forget(self) -> None:
        """The properties may have changed: read them again when they are next asked for."""
        self._known = None
        self._batch = None

    def __str__(self) -> str:
        return f"<libzfs.{type(self).__name__} name '{self.name}' type '{self.type.name}'>"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._name == getattr(other, "_name", None)

    def __hash__(self) -> int:
        return hash((type(self), self._name))

    def asdict(self) -> dict[str, Any]:
        """The object and its properties in plain types."""
        return {
            "id": self.name,
            "name": self.name,
            "pool": self.pool.name,
            "type": self.type.name,
            "properties": {name: each.asdict() for name, each in self.properties.items()},
        }

    @property
    def name(self) -> str:
        """The full name."""
        return self._name

    @property
    def pool(self) -> "ZFSPool":
        """The pool that holds it."""
        return self.root._pool(self._name.split("/")[0].split("@")[0].split("#")[0])

    @property
    def type(self) -> DatasetType:
        """What it is."""
        if self._kind is None:
            self._kind = TYPE_NAMES[self._rows()["type"].raw]
        return self._kind

    @property
    def properties(self) -> ZFSPropertyDict:
        """All properties, by name."""
        return ZFSPropertyDict(self)

    def rename(
        self,
        new_name: str,
        nounmount: bool = False,
        forceunmount: bool = False,
        recursive: bool = False,
    ) -> None:
        """`zfs rename`; `recursive` renames the snapshot in all datasets below. This object keeps
        its old name, as a handle does."""
        flags = [
            *(["-u"] if nounmount else []),
            *(["-f"] if forceunmount else []),
            *(["-r"] if recursive else []),
        ]
        target = f"{self._name.partition('@')[0]}{new_name}" if new_name[:1] == "@" else new_name
        check(target, "rename to")
        run.run(["zfs", "rename", *flags, self._name, target])

    def delete(self, defer: bool = False) -> None:
        """Destroy it, and nothing else: raises ZFSException, EXISTS or BUSY, while it is mounted
        or something depends on it. Gone already is success. `defer` is for snapshots."""
        if defer and self.type is not DatasetType.SNAPSHOT:
            raise ZFSException(
                Error.BADTYPE, f"cannot destroy '{self._name}': only snapshots can be deferred"
            )
        if "@" not in self._name and "#" not in self._name and mountpoint(self._name):
            # The command would unmount it first; libzfs leaves that to the caller.
            raise ZFSException(Error.BUSY, f"cannot destroy '{self._name}': dataset is busy")
        with absent_is_success():
            run.run(["zfs", "destroy", *(["-d"] if defer else []), self._name])
        self._forget()

    def get_send_space(self, fromname: str | None = None) -> int:
        """How many bytes a plain stream of it would have, from `fromname` if given."""
        origin = ["-i", fromname] if fromname else []
        output = run.run(["zfs", "send", "-nP", *origin, self._name])
        for line in output.splitlines():
            label, _, size = line.partition("\t")
            if label == "size":
                return int(size)
        raise ZFSException(Error.FAULT, f"Cannot obtain space estimate: {self._name}")


class ZFSResource(ZFSObject):
    """What can have dependents: a dataset or a snapshot."""

    def get_dependents(
        self, allow_recursion: bool = False
    ) -> "Generator[ZFSDataset | ZFSSnapshot]":
        """What would have to go before it: snapshots, clones, children, in an order in which they
        can be destroyed. `allow_recursion` is accepted; a circle cannot arise here."""
        for name, kind in dependents(self._name):
            yield self.root._object(name, kind)

    def update_properties(self, all_properties: Mapping[str, Mapping[str, Any]]) -> None:
        """Set or inherit several properties: {name: {"value" or "parsed": x}} or
        {name: {"source": "INHERIT"}}. All that are set, are set by one command."""
        settings, inherited, malformed = [], [], []
        for name, details in all_properties.items():
            if details.get("source") == "INHERIT":
                inherited.append((name, bool(details.get("recursive", False))))
            elif "value" in details:
                settings.append(f"{name}={details['value']}")
            elif "parsed" in details:
                settings.append(f"{name}={serialize_zfs_prop(name, details['parsed'])}")
            else:
                malformed.append(name)
        for name, recursive in inherited:
            option = ["-r"] if recursive else []
            run.run(["zfs", "inherit", *option, name, self._name])
        if malformed:
            raise ZFSException(
                Error.BADPROP, f"Malformed values provided for {', '.join(malformed)!r}"
            )
        if settings:
            run.run(["zfs", "set", *settings, self._name])
        self._forget()

    def userspace(
        self, quota_props: Iterable[UserquotaProp]
    ) -> dict[UserquotaProp, list[dict[str, Any]]]:
        """Space, objects and quotas of users, groups and projects, by what was asked for.

        Each entry has `domain` (empty on POSIX), `rid` (the uid, gid or project id), `space`
        (bytes or objects) and `default_quota` (0: no command prints it).
        """
        wanted = list(quota_props)
        printed = {command: self._space_of(command) for command in {_where(x)[0] for x in wanted}}
        return {each: _entries(printed[_where(each)[0]], _where(each)[1]) for each in wanted}

    def _space_of(self, command: str) -> list[dict[str, str]]:
        """The rows that `zfs userspace`, `groupspace` or `projectspace` prints."""
        columns = ["name", "used", "quota", "objused", "objquota"]
        numeric = [] if command == "projectspace" else ["-n"]
        argv = ["zfs", command, "-Hp", *numeric, "-o", ",".join(columns), self._name]
        lines = run.run(argv).splitlines()
        return [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]


# An entry that has only one of usage and quota is printed with 0 for the other.
_NO_SPACE = ("-", "none", "0")


def _where(wanted: UserquotaProp) -> tuple[str, str]:
    """The command and its column that print it: USEROBJUSED is objused of `zfs userspace`."""
    name = wanted.name.lower()
    who = next(who for who in ("user", "group", "project") if name.startswith(who))
    return f"{who}space", name.removeprefix(who)


def _entries(table: list[dict[str, str]], column: str) -> list[dict[str, Any]]:
    return [
        {"domain": "", "rid": int(row["name"]), "space": int(row[column]), "default_quota": 0}
        for row in table
        if row[column] not in _NO_SPACE
    ]
