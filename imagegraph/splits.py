"""What is kept of the archives that layers came in or go out as, beside their volumes.

<root>/splits/<layer>.json.gz   tar-split: all that the tar holds beside its file bodies
<root>/splits/<layer>.tar.zst   the tar itself, where it cannot be rebuilt from that
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO

from backends.errors import from_os_error
from backends.layout import sync_directory

DIRECTORY = "splits"
SPLIT, TAR = ".json.gz", ".tar.zst"
_PART = ".part"


def path(root: str, layer: str, suffix: str) -> str:
    return f"{root}/{DIRECTORY}/{layer}{suffix}"


def kept(root: str, layer: str) -> str | None:
    """The file from which the layer's tar can be had again; None where there is none."""
    for suffix in (TAR, SPLIT):
        if os.path.exists(found := path(root, layer, suffix)):
            return found
    return None


@contextlib.contextmanager
def written(root: str, layer: str, suffix: str) -> Iterator[BinaryIO]:
    """A file that takes its name, durably, when the context ends well. Raises BackendError."""
    final = path(root, layer, suffix)
    fresh = f"{final}.{os.urandom(8).hex()}{_PART}"
    try:
        os.makedirs(os.path.dirname(final), mode=0o700, exist_ok=True)
        with open(fresh, "x+b") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            yield part
            part.flush()
            os.fsync(part.fileno())
            os.rename(fresh, final)
        sync_directory(os.path.dirname(final))
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        if isinstance(error, OSError):
            raise from_os_error(error, f"write {final}") from error
        raise


def drop(root: str, layer: str) -> None:
    """Remove what is kept of the layer; success if nothing is."""
    for suffix in (SPLIT, TAR):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path(root, layer, suffix))


def strays(root: str, known: Callable[[], Collection[str]]) -> list[str]:
    """Names of the files there that belong to none of the layers that are `known` afterwards.

    And of those that a process had begun when it died.
    """
    try:
        names = os.listdir(f"{root}/{DIRECTORY}")
    except FileNotFoundError:
        return []
    layers = known()
    return sorted(
        name
        for name in names
        if name.partition(".")[0] not in layers or (name.endswith(_PART) and _is_dead(root, name))
    )


def _is_dead(root: str, name: str) -> bool:
    """Whether nobody writes to the file any more."""
    try:
        with open(f"{root}/{DIRECTORY}/{name}", "rb") as part:
            fcntl.flock(part, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def remove(root: str, name: str) -> None:
    """Remove one of the `strays`."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{root}/{DIRECTORY}/{name}")
