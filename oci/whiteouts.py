"""Applying a layer: an archive that also says what to hide of the layers below it, by whiteouts.

The tree is a clone of the parent layer. A whiteout hides what lower layers brought and never what
this one brings, whichever comes first in the archive (OCI image-spec 1.1, layer.md, "Whiteouts").
So it is known which names this layer has made in which directory. A directory is known by its
inode, because one can have many paths, of any length, through symbolic links.

A whiteout makes nothing, not even the directory that it stands in. Names that begin with
`.wh..wh.` belong to aufs and are passed over with all below them, as Docker does; the opaque
whiteout is the exception.
"""

import os
import stat

from oci.deferred import Identity, identity
from oci.errors import ArchiveError, named
from oci.extract import Extraction
from oci.paths import ABSENT, change_directory
from oci.tar import Reader
from oci.tarheader import Entry

_WHITEOUT = b".wh."
_AUFS = b".wh..wh."
_OPAQUE = b".wh..wh..opq"

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_FARTHEST = 16
"""How many directories of a path are looked at for a link, before one is taken to be there."""

_LONGEST = 4000
"""How long a path may be that is looked at for links; below PATH_MAX (4096)."""


class LayerExtraction(Extraction):
    """One layer on its way into the tree at "/".

    `faithful` says whether every file whose body the archive holds is there under its name in
    the end, links in its path followed. It can be False where that is so after all, but not True
    where it is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faithful = True
        self._names: set[bytes] = set()
        # What was made in a directory; all directories above it are here, too.
        self._made: dict[Identity, set[bytes]] = {identity(os.stat(b"/")): set()}
        # Directories in which nothing is left of lower layers.
        self._clean: set[Identity] = set()
        self._through_link = False
        self._linkless: set[bytes] = set()

    def _place(self, parents: list[bytes], name: bytes, entry: Entry, reader: Reader) -> None:
        if _WHITEOUT in entry.path:
            if any(part.startswith(_AUFS) for part in parents):
                return
            if any(part.startswith(_WHITEOUT) for part in parents):
                raise ArchiveError(f"{named(entry.path)}: nothing can be below a whiteout")
            if name == _OPAQUE or (name.startswith(_WHITEOUT) and not name.startswith(_AUFS)):
                self._apply_whiteout(parents, name, entry)
            if name.startswith(_WHITEOUT):
                return
        super()._place(parents, name, entry, reader)
        self._names.add(name)

    def _enter(self, parent: bytes) -> None:
        super()._enter(parent)
        inode = identity(os.stat(b"."))
        if inode not in self._made:
            self._made[inode] = set()
            self._know_all_above()
        self._names = self._made[inode]
        if not self._through_link:
            self._through_link = self._has_link(parent)

    def _know_all_above(self) -> None:
        here = os.open(b"..", _DIRECTORY)
        while (inode := identity(os.fstat(here))) not in self._made:
            self._made[inode] = set()
            above = os.open(b"..", _DIRECTORY, dir_fd=here)
            os.close(here)
            here = above
        os.close(here)

    def _has_link(self, parent: bytes) -> bool:
        """Whether a directory of this path may be a symbolic link."""
        if len(parent) > _LONGEST:
            return True
        path = parent
        for _ in range(_FARTHEST):
            if not path or path in self._linkless:
                self._linkless.add(parent)
                return False
            if stat.S_ISLNK(os.lstat(b"/" + path).st_mode):
                return True
            path = path.rpartition(b"/")[0]
        return True

    def _begin(self, made: os.stat_result) -> None:
        super()._begin(made)
        self._made.pop(identity(made), None)

    def _remove(self, name: bytes) -> None:
        status = os.lstat(name)
        if stat.S_ISDIR(status.st_mode):
            self.faithful &= identity(status) not in self._made
        else:
            self.faithful &= name not in self._names
        self._remove_what_leads_nowhere(name, status)

    def _remove_what_leads_nowhere(self, name: bytes, status: os.stat_result) -> None:
        """Remove what no file of this layer has the name of, or lies in."""
        if stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
            self.faithful &= not self._through_link
        super()._remove(name)

    def _apply_whiteout(self, parents: list[bytes], whiteout: bytes, entry: Entry) -> None:
        hidden = whiteout.removeprefix(_WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise ArchiveError(f"{named(entry.path)}: a whiteout of nothing that can be there")
        self._entered = None
        try:
            change_directory(b"/" + b"/".join(parents))
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            return
        here = identity(os.stat(b"."))
        if whiteout != _OPAQUE:
            self._hide([hidden], here)
        elif here not in self._clean:
            self._clean.add(here)
            self._hide(os.listdir(b"."), here)

    def _hide(self, names: list[bytes], here: Identity) -> None:
        """Remove these names from the working directory `here`, and all that is below them.

        What this layer made stays. A directory of a lower layer that stays because this one made
        something below it becomes one that was made for that.
        """
        own = self._made.get(here, set())
        above: list[tuple[list[bytes], set[bytes]]] = []
        while names or above:
            if not names:
                names, own = above.pop()
                os.chdir(b"..")
                continue
            name = names.pop()
            try:
                status = os.lstat(name)
            except FileNotFoundError:
                continue
            inode = identity(status)
            if stat.S_ISDIR(status.st_mode) and (name in own or inode in self._made):
                if name not in own:
                    self._make_plain(name)
                if inode not in self._clean:
                    self._clean.add(inode)
                    above.append((names, own))
                    os.chdir(name)
                    names, own = os.listdir(b"."), self._made.get(inode, set())
            elif name not in own:
                self._remove_what_leads_nowhere(name, status)

    def _make_plain(self, directory: bytes) -> None:
        """Give a directory what one has that is missing from the archive (see _make_parents)."""
        for attribute in os.listxattr(directory, follow_symlinks=False):
            if attribute != "security.selinux":
                os.removexattr(directory, attribute, follow_symlinks=False)
        if self._uid == 0:
            os.lchown(directory, 0, 0)
        os.chmod(directory, 0o755)
