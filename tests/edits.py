"""Edits of a tree for property tests: whatever may happen to one, as small steps on paths.

A step is (operation, path, path); one that cannot happen to the tree as it is, or on its
filesystem, does not.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import strategies as st

from backends import flags
from backends.copy import FICLONE
from tests.trees import posix_acl

Step = tuple[str, bytes, bytes]
Script = list[Step]

LOW = bytes(sorted({*range(1, 128)} - {ord("/")}))
HIGH = bytes(range(128, 256))
"""With `LOW`, every byte that a name may have."""
LONG = b"n" * 255

DIRECTORIES = (b"a", b"a.b", b"a/b", b"a-", HIGH, b"a/b/c")
FILES = (
    b"f", b"\xff", b"a/f", b"a/g", b"a.b/f", b"a/b/f", b"a/b/g", b"a/" + LOW, HIGH + b"/" + LONG,
    b"a/b/c/f", b"a-/f",
)  # fmt: skip
BLOCKS = b"\x55" * 8192
"""Content that a filesystem can share: whole blocks, and more than it keeps in its metadata."""

FIDEDUPERANGE = 0xC0189436  # linux/fs.h: _IOWR(0x94, 54, struct file_dedupe_range)
DEDUPE = struct.Struct("=QQHHIqQQiI")  # file_dedupe_range with one file_dedupe_range_info
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16  # linux/falloc.h
_EXCHANGE, _WHITEOUT = 2, 4  # linux/fs.h: RENAME_EXCHANGE, RENAME_WHITEOUT
_AT_FDCWD = -100
_NODUMP, _COMPRESSED = 0x40, 0x4  # linux/fs.h: FS_NODUMP_FL, FS_COMPR_FL
_libc = ctypes.CDLL(None, use_errno=True)


def make(top: Path) -> None:
    """Every directory and file that a script may name, so that most of its steps do something."""
    root = os.fsencode(top)
    for directory in DIRECTORIES:
        os.makedirs(os.path.join(root, directory))
    for number, path in enumerate(FILES[:-1]):
        with open(os.path.join(root, path), "xb") as file:
            file.write(BLOCKS if number % 2 else b"some content")
            os.setxattr(file.fileno(), "user.x", b"1")
    os.link(os.path.join(root, b"a/f"), os.path.join(root, FILES[-1]))


def perform(top: Path, script: Script) -> None:
    """Do all steps of a script to the tree."""
    for step in script:
        do(top, step)


def do(top: Path, step: Step) -> None:
    """Do one step to the tree, if that is possible."""
    operation, first, second = step
    one, other = (os.path.join(os.fsencode(top), path) for path in (first, second))
    with contextlib.suppress(OSError, ValueError):
        (STEPS | SUBVOLUME_STEPS)[operation](one, other)


def _require_regular(path: bytes) -> None:
    """Refuse what an open would block on or, with a device, reach out of the tree."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError


@contextlib.contextmanager
def _opened(path: bytes) -> Iterator[int]:
    _require_regular(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "the call failed")


def _write(path: bytes, other: bytes, mode: str = "wb") -> None:
    _require_regular(path)
    with open(path, mode) as file:
        file.write(other[-10:])


def _blocks(path: bytes, other: bytes) -> None:
    _require_regular(path)
    with open(path, "wb") as file:
        file.write(BLOCKS)


def _forge(path: bytes, other: bytes) -> None:
    """Change the content and leave size and modification time as they were."""
    with _opened(path) as file:
        status = os.fstat(file)
        os.pwrite(file, other[-status.st_size :][: status.st_size] if status.st_size else b"", 0)
        os.truncate(file, status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _map(path: bytes, other: bytes) -> None:
    """Write through a memory map, which nobody synchronizes."""
    with _opened(path) as file, mmap.mmap(file, 0) as mapped:
        mapped[-1:] = other[-1:]


def _fallocate(path: bytes, other: bytes, mode: int, offset: int) -> None:
    with _opened(path) as file:
        _checked(_libc.fallocate(file, mode, ctypes.c_long(offset), ctypes.c_long(5000)))


def _reflink(path: bytes, other: bytes) -> None:
    with _opened(path) as file, _opened(other) as source:
        fcntl.ioctl(file, FICLONE, source)


def _dedupe(path: bytes, other: bytes) -> None:
    """Have two files share their first blocks, if these are equal."""
    with _opened(path) as file, _opened(other) as source:
        length = os.fstat(source).st_size & ~4095
        fcntl.ioctl(source, FIDEDUPERANGE, DEDUPE.pack(0, length, 1, 0, 0, file, 0, 0, 0, 0))


def _set_flag(path: bytes, other: bytes) -> None:
    """Turn a flag over that forbids nothing."""
    flag = _NODUMP if len(other) % 2 else _COMPRESSED
    with _opened(path) as file:
        on = flags.change(file, on=flag) & flag
        flags.change(file, off=on)


def _clear(path: bytes) -> bytes:
    """The path, where no file is any more."""
    if os.path.lexists(path) and not os.path.isdir(path):
        os.unlink(path)
    return path


def _link(path: bytes, other: bytes) -> None:
    if path != other and os.path.lexists(path):
        os.link(path, _clear(other), follow_symlinks=False)


def _make_nocow(path: bytes, other: bytes) -> None:
    """A new file that is written in place; only an empty one can become that."""
    with open(_clear(path), "xb") as file:
        flags.change(file.fileno(), on=flags.NO_COW)
        file.write(BLOCKS)


def _make_unnamed(path: bytes, other: bytes) -> None:
    """A file that is written before it has a name."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        file = os.open(b".", os.O_TMPFILE | os.O_RDWR, dir_fd=directory)
        try:
            os.write(file, other)
            source = f"/proc/self/fd/{file}"
            os.link(source, _clear(path), src_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(file)
    finally:
        os.close(directory)


def _sneak(path: bytes, other: bytes) -> None:
    """Change what a directory holds and leave its modification time as it was."""
    above = os.path.dirname(path)
    status = os.stat(above)
    _remove(path, other) if os.path.lexists(path) else _write(path, other)
    os.utime(above, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove(path: bytes, other: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _turn(path: bytes, other: bytes) -> None:
    """A directory in place of a file, or a file in place of a directory."""
    was_directory = os.path.isdir(path)
    _remove(path, other)
    _write(path, other) if was_directory else os.mkdir(path)


def _shift(path: bytes, other: bytes) -> None:
    """Move an entry down into a directory that is new, under the name that it has."""
    above = os.path.join(os.path.dirname(path), b"new" + os.path.basename(other)[:9])
    os.mkdir(above)
    os.rename(path, os.path.join(above, os.path.basename(path)))


def _swap(path: bytes, other: bytes) -> None:
    aside = path + b".aside"
    os.rename(path, aside)
    try:
        os.rename(other, path)
    finally:
        os.rename(aside, other)


def _invert(path: bytes, other: bytes) -> None:
    """Have a directory and the one that it is in change places."""
    above = os.path.dirname(path)
    aside = above + b".aside"
    os.rename(path, aside)
    try:
        os.rename(above, os.path.join(aside, os.path.basename(path)))
    finally:
        os.rename(aside, path if os.path.isdir(above) else above)


def _rename(path: bytes, other: bytes, how: int) -> None:
    _checked(_libc.renameat2(_AT_FDCWD, path, _AT_FDCWD, other, how))


def _exchange(path: bytes, other: bytes) -> None:
    # Where a nested subvolume was, there is inode 2 in a snapshot. Linux (seen on 6.18) makes the
    # whole btrfs read-only when that is exchanged.
    if all(os.lstat(each).st_ino != 2 for each in (path, other)):
        _rename(path, other, _EXCHANGE)


def _read(path: bytes, other: bytes) -> None:
    if os.path.isdir(path):
        os.listdir(path)
    else:
        _require_regular(path)
        Path(os.fsdecode(path)).read_bytes()


def _set_acl(path: bytes, other: bytes, kind: str = "access") -> None:
    user = (0x02, 5, len(other))
    acl = posix_acl((0x01, 7, -1), user, (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
    os.setxattr(path, f"system.posix_acl_{kind}", acl, follow_symlinks=False)


def _drop(path: bytes, name: str) -> None:
    os.removexattr(path, name, follow_symlinks=False)


def _make_device(path: bytes, other: bytes) -> None:
    os.mknod(_clear(path), 0o20600, os.makedev(240, len(other)))


def _make_subvolume(path: bytes, other: bytes) -> None:
    import btrfsutil

    btrfsutil.create_subvolume(path)


def _drop_subvolume(path: bytes, other: bytes) -> None:
    import btrfsutil

    if os.path.isdir(path):
        btrfsutil.delete_subvolume(path)


def _fsync(path: bytes, other: bytes) -> None:
    if not os.path.isdir(path):
        _require_regular(path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


STEPS: dict[str, Callable[[bytes, bytes], None]] = {
    "write": _write,
    "append": lambda path, other: _write(path, other, "ab"),
    "blocks": _blocks,
    "forge": _forge,
    "map": _map,
    "mkdir": lambda path, other: os.makedirs(path),
    "remove": _remove,
    "turn": _turn,
    "sneak": _sneak,
    "rename": os.rename,
    "shift": _shift,
    "swap": _swap,
    "exchange": _exchange,
    "whiteout": lambda path, other: _rename(path, other, _WHITEOUT),
    "invert": _invert,
    "link": _link,
    "unnamed": _make_unnamed,
    "symlink": lambda path, other: os.symlink(os.path.basename(other), _clear(path)),
    "fifo": lambda path, other: os.mkfifo(_clear(path)),
    "socket": lambda path, other: os.mknod(_clear(path), 0o600 | stat.S_IFSOCK),
    "device": _make_device,
    "chmod": lambda path, other: os.chmod(path, 0o700 + len(other) % 64),
    "chown": lambda path, other: os.lchown(path, len(other), len(path) % 5),
    "xattr": lambda path, other: os.setxattr(path, "user.x", other[-3:], follow_symlinks=False),
    "drop_xattr": lambda path, other: _drop(path, "user.x"),
    "acl": _set_acl,
    "drop_acl": lambda path, other: _drop(path, "system.posix_acl_access"),
    "default_acl": lambda path, other: _set_acl(path, other, "default"),
    "utime": lambda path, other: os.utime(path, ns=(1, len(other)), follow_symlinks=False),
    "truncate": lambda path, other: os.truncate(path, len(other) % 100),
    "extend": lambda path, other: os.truncate(path, 10000),
    "punch": lambda path, other: _fallocate(path, other, _PUNCH_HOLE | _KEEP_SIZE, 0),
    "zero": lambda path, other: _fallocate(path, other, _ZERO_RANGE, 100),
    "reserve": lambda path, other: _fallocate(path, other, _KEEP_SIZE, 0),
    "allocate": lambda path, other: _fallocate(path, other, 0, 4096),
    "reflink": _reflink,
    "dedupe": _dedupe,
    "flag": _set_flag,
    "nocow": _make_nocow,
    "read": _read,
    "fsync": _fsync,
}

SUBVOLUME_STEPS: dict[str, Callable[[bytes, bytes], None]] = {
    "subvolume": _make_subvolume,
    "drop_subvolume": _drop_subvolume,
}

PATHS = st.sampled_from(DIRECTORIES + FILES)
STEP = st.tuples(st.sampled_from(tuple(STEPS)), PATHS, PATHS)
BTRFS_STEP = st.tuples(st.sampled_from((*STEPS, *SUBVOLUME_STEPS)), PATHS, PATHS)
MAKING = st.lists(STEP, min_size=15, max_size=60)
EDIT = st.lists(STEP, min_size=4, max_size=30)
BTRFS_MAKING = st.lists(BTRFS_STEP, min_size=15, max_size=60)
BTRFS_EDIT = st.lists(BTRFS_STEP, min_size=4, max_size=30)
