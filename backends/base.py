"""The backend contract: how layers and containers become volumes of a filesystem.

The life of a volume
--------------------
A *volume* is a tree of files that a backend keeps under a kind and an id:

    staging/<id>      writable, being filled; seen by nobody
    layers/<id>       sealed: read-only for ever
    containers/<id>   writable, a clone of a layer or empty
    volumes/<id>      writable, empty at first: what containers mount and outlives them

An image is imported by filling a staging volume and sealing it:

    backend.create(Volume("staging", id))
    with backend.open(Volume("staging", id)) as tree: ...fill it...
    backend.seal(Volume("staging", id), Volume("layers", id), record)

A container is a clone, and a commit is a sealed snapshot of it:

    backend.create(Volume("containers", c), parent=Volume("layers", id), record=record)
    backend.snapshot(Volume("containers", c), Volume("layers", other), record)

Layers and containers may then be removed in any order; no volume needs the one that it came
from. A name is never reused for something else, so EEXIST is an error and never a reason to
destroy; a volume that is gone already is removed successfully.

Every volume carries a *record*: a few hundred bytes that the layer above wrote, kept beside
the tree and never in it, from which a lost database can be rebuilt. A backend stores it
and gives it back; it never reads it.

A process that dies can leave volumes in `staging` and `removing`; `sweep` ends those that no
living process works on. Nothing there was ever acknowledged to anyone.

`tests/contract` states all of this as behaviour and runs over every backend.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import ClassVar, NamedTuple

from backends.changes import Change, Compared

STAGING = "staging"
LAYERS = "layers"
CONTAINERS = "containers"
VOLUMES = "volumes"


class Volume(NamedTuple):
    """A volume's name: its kind (STAGING, LAYERS, CONTAINERS, VOLUMES) and id (64 hex digits)."""

    kind: str
    id: str

    @property
    def fragment(self) -> str:
        """What every path of the volume has in it, and no other path."""
        return f"{self.kind}/{self.id}"

    def __str__(self) -> str:
        """The name for people, who read no 64 digits."""
        return f"{self.kind}/{self.id[:12]}"


class Usage(NamedTuple):
    """Bytes on disk that a volume refers to, and those that it alone holds; None where unknown."""

    referenced: int | None
    exclusive: int | None


class Space(NamedTuple):
    """Bytes of the filesystem that holds the volumes.

    `pending`: how many removed volumes are still being freed.
    """

    total: int
    free: int
    pending: int


class Found(NamedTuple):
    """A volume met on disk: its record, if it has one, and what is wrong with it, or None."""

    volume: Volume
    record: bytes | None
    problem: str | None


Edit = Callable[[str], None]


class Backend(ABC):
    """Keeps volumes. The module's docstring tells their life; each method says its promises.

    Any number of processes may use one pool at once, each with a Backend of its own.
    Every method raises `Unavailable` when the pool has gone away under it, and `NoSpace` when
    the disk is full; after an error nothing is left of the volume that was to be made.
    """

    name: ClassVar[str]

    note: Callable[[str], None] = staticmethod(lambda text: None)
    """Is told what costs more than it might, and why, a line each; set it to hear of it."""

    @abstractmethod
    def create(self, volume: Volume, parent: Volume | None = None, record: bytes = b"") -> None:
        """Make a writable volume: empty (its root is 0755, 0:0), or a clone of the sealed `parent`.

        O(1) whatever the parent weighs. Of the kind VOLUMES, which has no parent, it is durable on
        return. Raises VolumeExists (nothing is destroyed) and VolumeNotFound for the parent.
        """

    @abstractmethod
    def seal(self, volume: Volume, target: Volume, record: bytes = b"") -> None:
        """Turn the staging `volume` into the sealed `target`.

        On return `target` is read-only and durable (whole after a power cut), and `volume` is
        gone. `target` is never seen half-made. Raises VolumeExists, VolumeNotFound.
        """

    @abstractmethod
    def snapshot(
        self, source: Volume, target: Volume, record: bytes = b"", edit: Edit | None = None
    ) -> list[str]:
        """Make the sealed `target` a copy of a container's volume, which may be in use meanwhile.

        The source stays as it was, and either can be removed in any order afterwards. `edit` gets
        the path of the writable copy before it is sealed. Durable on return; O(1) in the size of
        the image. Returns the paths of nested subvolumes whose contents were copied in.
        Raises VolumeExists, VolumeNotFound.
        """

    @abstractmethod
    def remove(self, volume: Volume, *, force: bool = False) -> list[str]:
        """Remove the volume with anything nested in it; success if it is gone already.

        Raises VolumeBusy, naming process or mount, while anything in any mount namespace
        uses it, and SnapshotsInTheWay, naming them, where others have made snapshots of it that
        would go too; then nothing has changed. With `force` they go; returns their names.
        """

    @abstractmethod
    def require_removable(self, volume: Volume, *, force: bool = False) -> None:
        """Raises what `remove` would raise because of snapshots that others have made."""

    @abstractmethod
    def open(self, volume: Volume) -> AbstractContextManager[str]:
        """The path of the tree while the context lasts; not writable if the volume is sealed.

        Opens nest and run side by side. The path may differ each time. Raises VolumeNotFound.
        """

    @abstractmethod
    def frozen(self, volume: Volume) -> AbstractContextManager[str]:
        """The path of the tree as it is now, which stays so where the filesystem can do that.

        For reading a container that is in use. Raises VolumeNotFound.
        """

    @abstractmethod
    def sync(self, volume: Volume) -> None:
        """Have all that was written to a writable volume on disk. Raises VolumeNotFound."""

    @abstractmethod
    def location(self, volume: Volume) -> str:
        """Where the volume is kept, as the filesystem's own tools name it: a path, a dataset."""

    @abstractmethod
    def mount(self, volume: Volume, point: str) -> None:
        """Mount a writable volume's tree on the directory `point`, in the caller's mount namespace.

        It stays there until it is unmounted. Raises VolumeNotFound.
        """

    @abstractmethod
    def compared(self, volume: Volume, base: Volume | None) -> AbstractContextManager[Compared]:
        """The sealed `base` (None: an empty tree) and `volume`, frozen, and the exact changes.

        In byte order of paths, streaming, at a cost that grows with the changes where the
        filesystem can tell them. A live volume is read as it was when the context began, where the
        filesystem can do that. Raises VolumeNotFound, and ChangesError where a tree cannot be read.
        """

    def changes(self, volume: Volume, base: Volume | None) -> Iterator[Change]:
        """The changes alone of what is `compared`."""
        with self.compared(volume, base) as compared:
            yield from compared.changes

    @abstractmethod
    def usage(self, volume: Volume) -> Usage:
        """What the volume takes on disk, as far as the filesystem keeps count. Never walks."""

    @abstractmethod
    def limit(self, volume: Volume, size: int | None) -> None:
        """Bound what a container may add to its image to `size` bytes; None lifts the bound.

        Raises NotSupported, saying how to get quotas, where there are none.
        """

    @abstractmethod
    def describe(self, volume: Volume, record: bytes) -> None:
        """Replace the volume's record, atomically and durably."""

    @abstractmethod
    def volumes(self) -> Iterator[Found]:
        """Every volume on disk but those in staging; what is broken is told, never raised."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Names under `staging` and `removing` that no living process works on."""

    @abstractmethod
    def sweep(self) -> list[str]:
        """Destroy the leftovers; returns their names."""

    @abstractmethod
    def quarantine(self, volume: Volume) -> str:
        """Put a volume aside, out of every listing, as it is; returns its new path."""

    @abstractmethod
    def space(self) -> Space:
        """The size of the pool's filesystem and what is free in it."""

    @abstractmethod
    def info(self) -> dict[str, str]:
        """What an administrator wants to know of the pool: label -> text, in the order to print."""

    @abstractmethod
    def warnings(self) -> list[str]:
        """What is about to go wrong with the pool, a line each."""
