"""Layers and root filesystems as tar archives: an archive into a tree, and a tree into an archive.

`apply` writes a tar, compressed or not, into a tree, and `apply_layer` a layer over its parent,
where names can be whiteouts (see oci.whiteouts). A child process that has chrooted into the tree
does the writing (see oci.sandbox), so a hostile archive reaches nothing outside; the parent feeds
it, and meanwhile unpacks what is compressed and computes the digest. `make` writes a tree as one
flat archive that depends on nothing but the tree: the same tree gives the same bytes.

What is compressed, and every layer, is bounded by what is free where the tree is (see
compression.within_room).

All keep owners as numbers, modes, times to the nanosecond, hard links, devices, and every
extended attribute, ACLs and capabilities among them. An attribute that the filesystem
refuses, security.selinux too, is an error and never left out. Names are bytes.
"""

import errno
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import BinaryIO, NamedTuple

from oci import compression
from oci.extract import Extraction
from oci.pack import pack
from oci.sandbox import run_inside
from oci.tar import Reader
from oci.whiteouts import LayerExtraction

Progress = Callable[[int], None]
"""Told how many bytes have gone by since it was last called."""

_PIECE = 1 << 20


class Applied(NamedTuple):
    """What an archive held: its entries, and the bytes of its regular files.

    A hard link adds nothing; each of several entries with one name does.
    """

    entries: int
    size: int


class AppliedLayer(NamedTuple):
    """What a layer held, and what it is.

    `diff_id` is the digest ("sha256:" and 64 hex digits) and `length` the size in bytes of the
    whole stream, unpacked. `faithful` is False where the archive might not be rebuilt from
    its tar-split record and the tree, because something in it replaced or hid a file of it.
    """

    entries: int
    size: int
    diff_id: str
    length: int
    faithful: bool


def apply(
    source: BinaryIO,
    tree: str,
    *,
    extraction: Callable[[], Extraction] = Extraction,
    kept: Iterable[int] = (),
    progress: Progress | None = None,
) -> Applied:
    """Write the archive that `source` gives, from where it stands, into the directory `tree`.

    `source` may be a file, a pipe or any binary stream, and is read to its end. `progress` hears
    of the bytes taken from it. The tree's root gets what the archive says of "./"; an entry that
    is there already is replaced, a directory by a directory only in its metadata. When it fails,
    what was written until then is left in the tree. `extraction` makes what writes the entries;
    descriptors that `tree` or it has need of are `kept`.

    Raises ArchiveError, NoSpace, NotSupported (an attribute or a time that the filesystem cannot
    store), Unavailable (a user other than root, and an owner or device that only root can make)
    and BackendError; an OSError is the source's.
    """
    tell = progress or _say_nothing
    head, fd = _begin(source)

    def feed(pipe: int) -> None:
        if compression.sniff(head) != compression.PLAIN:
            _send_all(pipe, compression.within_room(_pieces(head, source, tell), tree))
        elif fd < 0:
            _send_all(pipe, _pieces(head, source, tell))
        elif _send_all(pipe, (head,)):
            tell(len(head))
            if not _splice(fd, pipe, tell):
                _send_all(pipe, _pieces(b"", source, tell))

    def unpack(pipe: int) -> str:
        with io.FileIO(pipe, closefd=False) as archive:
            count, size = extraction().run(Reader(archive))
        return f"{count} {size}"

    entries, size = run_inside(tree, unpack, feed, kept).split()
    return Applied(int(entries), int(size))


def apply_layer(
    source: BinaryIO, tree: str, *, split: int | None = None, progress: Progress | None = None
) -> AppliedLayer:
    """Apply the layer that `source` gives to the directory `tree`, a clone of the parent layer.

    As `apply` does it, but that whiteouts hide what the parent has and leave no file. The
    directory in which something was made or hidden keeps the time of that, unless the layer has
    an entry for it. The tar-split record of the archive goes to the descriptor `split`, and there
    must be room for the layer on its filesystem, too: a pool in a file takes its blocks from there.
    """
    import hashlib

    if split is not None:
        from oci.tarsplit import Writer
    kept = () if split is None else (split,)
    digest = hashlib.sha256()
    length = 0

    def feed(pipe: int) -> None:
        head, _ = _begin(source)
        pieces = _pieces(head, source, progress or _say_nothing)
        _send_all(pipe, seen(compression.within_room(pieces, tree, *kept)))

    def seen(pieces: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal length
        for piece in pieces:
            digest.update(piece)
            length += len(piece)
            yield piece

    def unpack(pipe: int) -> str:
        extraction = LayerExtraction()
        record = None if split is None else Writer(split)
        with io.FileIO(pipe, closefd=False) as archive:
            count, size = extraction.run(Reader(archive, record))
        if record is not None:
            record.close()
        return f"{count} {size} {extraction.faithful:d}"

    entries, size, faithful = map(int, run_inside(tree, unpack, feed, kept).split())
    return AppliedLayer(entries, size, f"sha256:{digest.hexdigest()}", length, bool(faithful))


def make(
    tree: str,
    out: BinaryIO,
    *,
    without: Collection[bytes] = (),
    progress: Progress | None = None,
) -> list[bytes]:
    """Write the directory `tree` to `out` as one archive; returns its sockets, which no tar holds.

    Entries come in byte order of their paths, which end in a slash where they are directories,
    after the root as "./". A file with several
    names has its body under the first. Only names, metadata and contents count, so equal trees
    give equal bytes. The tree may be hostile: no link is followed, no fifo or device is opened.
    Entries `without` are left out; of a directory that is one, all that is in it has to be one.
    `progress` hears of the bytes written.

    Raises TreeChanged when an entry changes while it is read and BackendError when one cannot
    be read; an OSError is that of `out`.
    """
    tell = progress or _say_nothing

    def write(piece: bytes) -> None:
        out.write(piece)
        tell(len(piece))

    return pack(tree, write, without=without)


def _begin(source: BinaryIO) -> tuple[bytes, int]:
    """The first bytes of `source`, and the descriptor from which the others can be had, or -1."""
    head = source.read(compression.MAGIC_SIZE)
    while 0 < len(head) < compression.MAGIC_SIZE and (more := source.read(1)):
        head += more
    raw: object = source
    if isinstance(source, io.BufferedReader):
        head += source.read(len(source.peek()))
        raw = source.raw
    return head, raw.fileno() if isinstance(raw, io.FileIO) else -1


def _pieces(head: bytes, source: BinaryIO, tell: Progress) -> Iterator[bytes]:
    """The unpacked stream of `head` and what else `source` gives."""
    tell(len(head))
    read = _counted(source.read, tell)
    kind = compression.sniff(head)
    if kind != compression.PLAIN:
        yield from compression.pieces(kind, compression.prefixed(head, read))
        return
    yield head
    while piece := read(_PIECE):
        yield piece


def _splice(fd: int, pipe: int, tell: Progress) -> bool:
    """Move all of `fd` into the pipe without copying it; False if the kernel cannot from there."""
    while True:
        try:
            count = os.splice(fd, pipe, _PIECE)
        except BrokenPipeError:
            return True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        if not count:
            return True
        tell(count)


def _send_all(pipe: int, pieces: Iterable[bytes]) -> bool:
    """Write the pieces to the pipe; False when its reader has gone."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            try:
                view = view[os.write(pipe, view) :]
            except BrokenPipeError:
                return False
    return True


def _counted(read: Callable[[int], bytes], tell: Progress) -> Callable[[int], bytes]:
    def counted(size: int) -> bytes:
        data = read(size)
        tell(len(data))
        return data

    return counted


def _say_nothing(count: int) -> None:
    """The progress that nobody asked for."""
