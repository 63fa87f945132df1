"""A layer made from the changes between two trees: what the image-spec calls a changeset.

Sources: OCI image-spec 1.1, layer.md ("Representing Changes", "Whiteouts"); moby's and
containerd's writers for what it leaves open. The layer depends on nothing but the two trees: it
tells no clock and no name of a user, and inode numbers and the order of directories leave no mark.
What stands in it:

- Every entry that was added or modified, whole, as oci.pack writes it. Where its type changed,
  that is all: who applies a layer makes way for an entry of another type.
- For an entry that was deleted, an empty file `.wh.NAME` of mode, owner and time 0.
- Every directory on the way to such an entry, changed or not. To write in a directory changes its
  modification time, which the entry puts right; and overlay2 unpacks a layer where there is
  nothing below it, so what a layer does not say of a directory would be made up there and hide
  what the lower layers say. Docker and containerd write these too.

A layer needs nothing of those below it: every hard link in it leads to a body in it. That takes no
more than what is told, for the names of an inode are part of it: if one of them is among the
changes, all are (see backends.changes). The body comes under the first.

Entries come in byte order of the paths that they are about, with a slash at the end of a
directory's: "a.b", "a/", "a/b". A whiteout has the place of what was deleted, as in Docker's
layers. So nothing is held back but directories whose names begin the names that come before them.
"""

import os
from collections.abc import Callable
from itertools import chain
from stat import S_ISDIR, S_ISSOCK

from backends.changes import DELETED, MODIFIED, Change, Compared
from backends.errors import BackendError
from backends.tree import Cursor, lstat
from oci.errors import named
from oci.pack import Archive, reading
from oci.tar import Recorder
from oci.tarheader import FILE, Entry

_WHITEOUT = b".wh."
_MOST_ATTRIBUTES = 1_000_000
"""Bytes: Go's archive/tar, which most programs read layers with, takes PAX headers up to 1 MiB."""


def make(
    compared: Compared, write: Callable[[bytes], object], recorder: Recorder | None = None
) -> list[bytes]:
    """Write the changes, which are used up, as a layer; returns the sockets, which no tar holds.

    Without changes it is the empty archive, as Docker's; without an older tree the newer one,
    whole, as oci.pack.pack writes it. A socket in the place of something else is a whiteout, so
    that what was there goes. `recorder` takes note of what is written. The newer tree may be
    hostile: no link is followed, no fifo or device is opened, no path is too long.

    Raises BackendError for a name that begins with `.wh.`, for an extended attribute that readers
    of layers would not read as it is, and for what cannot be read; TreeChanged when something
    changes under way; ChangesError from the changes; what `write` and `recorder` raise.
    """
    with reading(b""):
        cursor = Cursor(compared.after)
    with cursor:
        archive = Archive(cursor, write, recorder=recorder, vet=_vet)
        layer = _Layer(cursor, archive)
        whole = [Change(b"", MODIFIED)] if compared.before is None else []
        for path, kind in chain(whole, compared.changes):
            layer.add(path, kind)
        layer.settle(None)
    archive.end()
    return archive.sockets


class _Layer:
    """The entries on their way into the archive, with the cursor where the last one is.

    A directory is written when the cursor enters it. What is below it follows without a break, so
    it is entered once.
    """

    def __init__(self, cursor: Cursor, archive: Archive) -> None:
        self._cursor = cursor
        self._archive = archive
        self._begun = False
        self._here = b""
        self._waiting: list[bytes] = []

    def add(self, path: bytes, kind: str) -> None:
        """Take the next change, in byte order of paths."""
        if b"/" + _WHITEOUT in b"/" + path:
            raise BackendError(
                f"{named(path)}: an image layer cannot hold a name that begins with '.wh.'; "
                "rename or remove it"
            )
        if not self._begun:
            self._begun = True
            self._archive.add(b"", b".", os.fstat(self._cursor.fd))
        if not path:
            return
        self.settle(path)
        name = self._approach(path)
        if kind == DELETED:
            self._delete(name)
            return
        with reading(path):
            status = lstat(name, self._cursor.fd)
        if S_ISDIR(status.st_mode):
            self._waiting.append(path + b"/")
            return
        self._archive.add(path, name, status)
        if kind == MODIFIED and S_ISSOCK(status.st_mode):
            self._delete(name)

    def settle(self, path: bytes | None) -> None:
        """Write the waiting directories that come before `path`; all if it is None.

        Each begins with the name of the one that waits below it.
        """
        while self._waiting and (path is None or self._waiting[-1] < path):
            self._approach(self._waiting.pop())

    def _approach(self, path: bytes) -> bytes:
        """Go to the directory that `path` is in, or is if it ends in a slash; the name there."""
        while not path.startswith(self._here):
            with reading(self._here):
                self._cursor.leave()
            self._here = self._here[: self._here.rfind(b"/", 0, -1) + 1]
        *directories, name = path[len(self._here) :].split(b"/")
        for directory in directories:
            inside = self._here + directory
            with reading(inside):
                self._cursor.enter(directory)
                status = os.fstat(self._cursor.fd)
            self._here = inside + b"/"
            self._archive.add(inside, b".", status)
        return name

    def _delete(self, name: bytes) -> None:
        self._archive.write(Entry(FILE, self._here + _WHITEOUT + name))


def _vet(entry: Entry) -> None:
    """Refuse attributes that would not arrive.

    A PAX keyword cannot hold "=". GNU tar escapes it and "%", which the readers of layers, Go's
    among them, take for the name itself.
    """
    for name in entry.xattrs:
        if b"=" in name or b"%" in name:
            raise BackendError(
                f"{named(entry.path)}: an image layer cannot hold the extended attribute "
                f"{named(name)}, for its name has '=' or '%' in it; remove the attribute"
            )
    if sum(len(name) + len(value) for name, value in entry.xattrs.items()) > _MOST_ATTRIBUTES:
        raise BackendError(
            f"{named(entry.path)}: an image layer cannot hold more than {_MOST_ATTRIBUTES} bytes "
            "of extended attributes on one entry; remove some"
        )
