"""The directories that the backends on plain paths share, and the records beside the volumes.

<base>/layers/<id>  containers/<id>  volumes/<id>
<base>/staging/<id>                    being made; a claim says by a living process
<base>/removing/<name>                 half-removed
<base>/records/<kind>-<id>             what the layer above wrote of the volume
<base>/quarantine/<kind>-<id>          put aside by a repair
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from backends.base import CONTAINERS, LAYERS, STAGING, VOLUMES, Volume
from backends.claims import Claims

REMOVING = "removing"
QUARANTINE = "quarantine"
RECORDS = "records"
DIRECTORIES = (
    STAGING,
    LAYERS,
    CONTAINERS,
    VOLUMES,
    REMOVING,
    QUARANTINE,
    RECORDS,
)

INLINE = 2000
"""Bytes of a file that btrfs keeps in its metadata; the mount option max_inline is 2048."""


class Layout(Claims):
    """Paths below `base`; makes and removes records, and claims what is in `staging`."""

    def __init__(self, base: str) -> None:
        super().__init__(f"{base}/{STAGING}")
        self.base = base

    def make(self) -> None:
        """Make the directories that are not there yet. Raises OSError."""
        for name in DIRECTORIES:
            os.makedirs(f"{self.base}/{name}", mode=0o700, exist_ok=True)

    def require_volumes(self) -> None:
        """Have the directory of data volumes, which pools that are older than those lack.

        Raises FileNotFoundError where there is no pool.
        """
        if not os.path.isdir(f"{self.base}/{VOLUMES}"):
            os.stat(f"{self.base}/{STAGING}")
            os.makedirs(f"{self.base}/{VOLUMES}", mode=0o700, exist_ok=True)
            sync_directory(self.base)

    def path(self, volume: Volume) -> str:
        return f"{self.base}/{volume.kind}/{volume.id}"

    def removing(self, volume: Volume) -> str:
        """A fresh path under `removing` for the volume."""
        return f"{self.base}/{REMOVING}/{volume.kind}-{volume.id}-{os.urandom(4).hex()}"

    def quarantined(self, volume: Volume) -> str:
        """A fresh path under `quarantine` for the volume."""
        path = f"{self.base}/{QUARANTINE}/{volume.kind}-{volume.id}"
        return f"{path}-{os.urandom(4).hex()}" if os.path.lexists(path) else path

    @contextlib.contextmanager
    def working(self, name: str) -> Iterator[str]:
        """Hold `staging/<name>` while the context lasts; gives its path."""
        with self.claimed(name):
            yield f"{self.base}/{STAGING}/{name}"

    @contextlib.contextmanager
    def unowned(self) -> Iterator[list[str]]:
        """What in `staging` and `removing` nobody works on, nor begins to while this lasts."""
        found = [f"{REMOVING}/{name}" for name in sorted(os.listdir(f"{self.base}/{REMOVING}"))]
        with self.alone() as unclaimed:
            staging = sorted(os.listdir(f"{self.base}/{STAGING}")) if unclaimed else []
            yield [f"{STAGING}/{name}" for name in staging] + found

    def is_being_removed(self, name: str) -> bool:
        """Whether what `unowned` gave is in `removing` and under a living process, or gone."""
        if not name.startswith(f"{REMOVING}/"):
            return False
        try:
            with locked(f"{self.base}/{name}", wait=False):
                return False
        except (BlockingIOError, FileNotFoundError):
            return True
        except NotADirectoryError:
            return False

    def _record(self, volume: Volume) -> str:
        # Not kind/id: who has a record open does not use the volume.
        return f"{self.base}/{RECORDS}/{volume.kind}-{volume.id}"

    def add_record(self, volume: Volume, record: bytes, *, durable: bool = True) -> None:
        """Write the record of a volume that is about to be made. Raises FileExistsError.

        If not `durable` on return, it is with the next transaction of a btrfs, such as a snapshot
        is: content so small becomes metadata the moment that writing back begins.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._record(volume), flags, 0o600)
        with open(descriptor, "wb") as file:
            file.write(record)
            file.flush()
            if durable or len(record) > INLINE:
                os.fsync(descriptor)
            else:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def replace_record(self, volume: Volume, record: bytes) -> None:
        """Put another record in place of the volume's, atomically and durably.

        Raises FileNotFoundError if the volume went away meanwhile.
        """
        path = self._record(volume)
        with self.working(f"record-{os.urandom(8).hex()}") as fresh:
            try:
                with open(fresh, "xb") as file:
                    file.write(record)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(fresh, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(fresh)
                raise
        sync_directory(os.path.dirname(path))
        # Whoever removes a volume drops its record last, so either they see ours or we see that.
        try:
            os.lstat(self.path(volume))
        except FileNotFoundError:
            self.drop_record(volume)
            raise

    def record(self, volume: Volume) -> bytes | None:
        """The volume's record, None if there is none."""
        try:
            with open(self._record(volume), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def drop_record(self, volume: Volume) -> None:
        """Remove the volume's record; success if there is none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._record(volume))

    def found(self) -> Iterator[Volume]:
        """Every name under `layers`, `containers` and `volumes`, whatever it is."""
        for kind in (LAYERS, CONTAINERS, VOLUMES):
            try:
                names = sorted(os.listdir(f"{self.base}/{kind}"))
            except FileNotFoundError:
                if kind != VOLUMES:
                    raise
                continue
            for name in names:
                yield Volume(kind, name)


@contextlib.contextmanager
def locked(directory: str, *, wait: bool = True) -> Iterator[None]:
    """An exclusive flock on the directory, kept when it is renamed.

    Raises BlockingIOError if another process has it and we do not `wait`.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Have the names in the directory on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
