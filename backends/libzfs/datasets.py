"""Filesystems and volumes: ZFSDataset."""

import errno
from collections.abc import Collection, Generator, Mapping
from typing import TYPE_CHECKING, Any

from backends.libzfs import mounts, run, streams
from backends.libzfs.crypto import Encryption
from backends.libzfs.diff import DiffRecord
from backends.libzfs.enums import DatasetType, Error, SendFlag
from backends.libzfs.errors import ZFSException
from backends.libzfs.listing import FILESYSTEMS, Batch, names_below
from backends.libzfs.names import check, check_snapshot_part
from backends.libzfs.objects import ZFSResource
from backends.libzfs.run import options
from backends.libzfs.snapshots import plain

if TYPE_CHECKING:
    from backends.libzfs.snapshots import ZFSBookmark, ZFSSnapshot


class ZFSDataset(Encryption, ZFSResource):
    """A filesystem or volume.

    `children`, `snapshots`, `bookmarks` and their recursive forms are generators: one command
    when the first element is asked for, and one more for the properties of all of them when the
    first property is.
    """

    def asdict(
        self, recursive: bool = True, snapshots: bool = False, snapshots_recursive: bool = False
    ) -> dict[str, Any]:
        """The dataset in plain types, with its children and, if asked for, its snapshots: a
        command for the names of each, one for their properties, one for holds."""
        points = mounts.points()
        found = self._alone(points)
        if recursive:
            family = {self._name: found | {"children": []}}
            for child in self.children_recursive:
                family[child.name] = child._alone(points) | {"children": []}
                family[child.name.rpartition("/")[0]]["children"].append(family[child.name])
            found = family[self._name]
        if snapshots:
            found["snapshots"] = plain(self.snapshots, points)
        if snapshots_recursive:
            found["snapshots_recursive"] = plain(self.snapshots_recursive, points)
        return found

    def _alone(self, points: Mapping[str, str]) -> dict[str, Any]:
        root = self.encryption_root
        return super().asdict() | {
            "mountpoint": points.get(self._name),
            "encrypted": self.encrypted,
            "encryption_root": root.name if root else None,
            "key_loaded": self.key_loaded,
        }

    def _below(self, types: str, depth: int | None) -> Generator[Any]:
        batch = Batch([self._name], types, depth)
        for name, kind in names_below([self._name], types, depth):
            if name != self._name:
                yield self.root._object(name, kind, batch)

    @property
    def children(self) -> "Generator[ZFSDataset]":
        """The filesystems and volumes directly below."""
        return self._below(FILESYSTEMS, 1)

    @property
    def children_recursive(self) -> "Generator[ZFSDataset]":
        """All filesystems and volumes below, each before its own children."""
        return self._below(FILESYSTEMS, None)

    @property
    def snapshots(self) -> "Generator[ZFSSnapshot]":
        """The dataset's snapshots, oldest first."""
        return self._below("snapshot", 1)

    @property
    def snapshots_recursive(self) -> "Generator[ZFSSnapshot]":
        """The snapshots of the dataset and of all datasets below."""
        return self._below("snapshot", None)

    @property
    def bookmarks(self) -> "Generator[ZFSBookmark]":
        """The dataset's bookmarks."""
        return self._below("bookmark", 1)

    @property
    def dependents(self) -> "Generator[ZFSDataset | ZFSSnapshot]":
        """What would have to be destroyed before it, in that order."""
        return self.get_dependents(False)

    @property
    def mountpoint(self) -> str | None:
        """Where it is mounted in this process's namespace; None if it is not."""
        return mounts.mountpoint(self._name)

    def delete_snapshots(self, snapshots_spec: Mapping[str, Any]) -> list[str]:
        """Destroy several snapshots in one command; returns the names of those destroyed.

        `snapshots_spec` is {"all": bool, "snapshots": [name or {"start": name, "end": name}],
        "recursive": bool}. All go, or, where one is held or cloned, none.
        Raises ZFSException with ENOENT for a start or end that is not there.
        """
        parts = ["%"] if snapshots_spec["all"] else []
        bounds = []
        for spec in snapshots_spec["snapshots"]:
            if isinstance(spec, str):
                parts += [check_snapshot_part(spec, "destroy snapshot")] if spec else []
            elif spec.get("start") or spec.get("end"):
                ends = [spec.get("start") or "", spec.get("end") or ""]
                bounds += [check_snapshot_part(end, "destroy snapshot") for end in ends if end]
                parts.append("%".join(ends))
        self._require_snapshots(bounds)
        if not parts:
            return []
        recursive = ["-r"] if snapshots_spec.get("recursive", False) else []
        argv = ["zfs", "destroy", "-pv", *recursive, f"{self._name}@{','.join(parts)}"]
        try:
            return _destroyed(run.run(argv))
        except ZFSException as error:
            if error.code != Error.NOENT:
                raise
            return []

    def _require_snapshots(self, names: list[str]) -> None:
        if not names:
            return
        there = {name for name, _ in names_below([self._name], "snapshot", 1)}
        missing = [name for name in names if f"{self._name}@{name}" not in there]
        if missing:
            raise ZFSException(
                errno.ENOENT, f"{', '.join(missing)} snapshot(s) could not be located"
            )

    def destroy_snapshot(self, name: str, defer: bool = True) -> None:
        """Destroy the snapshots called `name` of the dataset and of all datasets below."""
        check_snapshot_part(name, "destroy snapshot")
        option = ["-d"] if defer else []
        run.run(["zfs", "destroy", "-r", *option, f"{self._name}@{name}"])

    def mount(self) -> None:
        """Mount it where its mountpoint property says; nothing if it is mounted, is a volume, or
        has no mount point of its own (legacy, none, canmount=off)."""
        if self.type is not DatasetType.FILESYSTEM or self.mountpoint is not None:
            return
        rows = self._rows()
        if rows["mountpoint"].raw in ("legacy", "none") or rows["canmount"].raw == "off":
            return
        run.run(["zfs", "mount", self._name])
        self._forget()

    def mount_recursive(
        self,
        ignore_errors: bool = False,
        skip_unloaded_keys: bool = True,
        force_mount: bool = False,
    ) -> None:
        """Mount it and all below, parents first, as far as canmount is on or `force_mount` is set;
        what is below a dataset without its key is left out."""
        skipped: list[str] = []
        for dataset in (self, *self.children_recursive):
            if dataset.type is not DatasetType.FILESYSTEM:
                continue
            if any(dataset.name.startswith(f"{name}/") for name in skipped):
                continue
            if skip_unloaded_keys and dataset.encrypted and not dataset.key_loaded:
                skipped.append(dataset.name)
            elif dataset._rows()["canmount"].raw == "on" or force_mount:
                try:
                    dataset.mount()
                except ZFSException:
                    if not ignore_errors:
                        raise

    def umount(self, force: bool = False) -> None:
        """Unmount it and all that is mounted below; nothing if nothing is."""
        option = ["-f"] if force else []
        for name, point, _ in mounts.below(self._name):
            if mounts.mountpoint(name) is None:
                continue  # went with the one before
            try:
                run.run(["zfs", "unmount", *option, name])
            except ZFSException:
                # `zfs unmount` leaves legacy mounts and mounted snapshots to umount(8).
                if mounts.mountpoint(name) is None:
                    continue
                run.run(["umount", *option, "--", point])
        self._forget()

    def umount_recursive(self, force: bool = False) -> None:
        """Unmount it and all below."""
        if self.type is DatasetType.FILESYSTEM:
            self.umount(force)

    def send(
        self,
        fd: int,
        fromname: str | None = None,
        toname: str | None = None,
        flags: Collection[SendFlag] | None = None,
    ) -> None:
        """Write a stream of the snapshot `toname` to the file descriptor; see streams.send."""
        if not isinstance(toname, str):
            raise ValueError("toname argument is required")
        chosen = flags if isinstance(flags, set | frozenset) else set()
        origin = ""
        if SendFlag.FROMORIGIN in chosen and not fromname:
            origin = self._rows()["origin"].raw if "origin" in self._rows() else ""
        streams.send(self._name, fd, toname, fromname, chosen, origin)

    def receive(
        self,
        fd: int,
        force: bool = False,
        nomount: bool = False,
        resumable: bool = False,
        props: Mapping[str, object] | None = None,
        limitds: Mapping[str, object] | None = None,
    ) -> None:
        """Read a stream from the file descriptor into this dataset; see ZFS.receive."""
        self.root.receive(self._name, fd, force, nomount, resumable, props, limitds)
        self._forget()

    def promote(self) -> None:
        """Make the dataset that this clone came from a clone of this one."""
        run.run(["zfs", "promote", self._name])
        self._forget()

    def snapshot(
        self, name: str, fsopts: Mapping[str, object] | None = None, recursive: bool = False
    ) -> None:
        """Take the snapshot `name` ("pool/data@monday"), atomically with all below if recursive."""
        check(name, "create snapshot", DatasetType.SNAPSHOT)
        option = ["-r"] if recursive else []
        run.run(["zfs", "snapshot", *option, *options(fsopts), name])

    def diff(self, fromsnap: str, tosnap: str | None = None) -> Generator[DiffRecord]:
        """What has changed from the snapshot `fromsnap` to the snapshot `tosnap`, or to now.

        Names may be whole or begin with `@`. The command runs when the first record is asked for
        and is ended with the generator. The dataset must be mounted.
        """
        names = [self._snapshot_name(fromsnap)]
        names.append(self._name if tosnap is None else self._snapshot_name(tosnap))
        for line in run.stream(["zfs", "diff", "-FHt", *names]):
            yield DiffRecord(line)

    def _snapshot_name(self, name: str) -> str:
        whole = self._name + name if name.startswith("@") else name
        return check(whole, "diff")


def _destroyed(output: str) -> list[str]:
    """The names in what `zfs destroy -pv` printed."""
    fields = (line.partition("\t") for line in output.split("\n"))
    return [name for verb, _, name in fields if verb == "destroy"]
