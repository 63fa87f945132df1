"""Two trees for tests, the layer between them, and the slow and plain way to apply it."""

import io
import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path

from backends.changes import Compared, walk
from backends.copy import copy_tree
from oci import changeset, tarsplit
from tests.conftest import require
from tests.trees import Entry, fill

LONGEST = "n" * 255
"""A name to which no filesystem lets anybody add ".wh."."""

Trees = tuple[Path, Path]


def make_two(directory: Path) -> Trees:
    """A tree with one of everything, and its copy, to be changed."""
    require("root")
    before, after = directory / "before", directory / "after"
    before.mkdir()
    fill(before)
    (before / LONGEST).touch()
    after.mkdir()
    copy_tree(str(before), str(after))
    return before, after


def edit(after: Path) -> None:
    """One of every kind of change."""
    (after / "etc/passwd").write_text("other\n")
    (after / "bin/self").unlink()
    (after / "bin/self").write_text("a file in the place of a link")
    shutil.rmtree(after / "home")
    (after / "home").write_text("a file in the place of a directory")
    (after / "etc/absolute").unlink()
    (after / "etc/absolute/deep/er").mkdir(parents=True)
    (after / "etc/absolute/deep/er/file").touch()
    os.link(after / "bin/sh", after / "zsh")
    (after / "var/fifo").unlink()
    (after / "var/socket").unlink()
    (after / LONGEST).unlink()
    os.mknod(after / "var/disk.2", 0o600 | stat.S_IFBLK, os.makedev(8, 1))
    (after / "var/empty").chmod(0o700)
    os.removexattr(after / "var/empty", "trusted.note")
    os.setxattr(after / "etc/passwd", "user.new", b"\0=\n%")
    (after / "\udcff a name").touch()


def layer_of(before: Path | None, after: Path, recorder: tarsplit.Writer | None = None) -> bytes:
    pieces: list[bytes] = []
    base = None if before is None else str(before)
    compared = Compared(base, str(after), walk(base, str(after)))
    changeset.make(compared, pieces.append, recorder)
    return b"".join(pieces)


def replayed(before: Path | None, after: Path) -> bytes:
    """The layer, made again from its record and the newer tree."""
    out: list[bytes] = []
    with tempfile.TemporaryFile() as record:
        writer = tarsplit.Writer(record.fileno())
        layer_of(before, after, writer)
        writer.close()
        record.seek(0)
        tarsplit.rebuild(record, str(after), lambda piece: out.append(bytes(piece)))
    return b"".join(out)


def listed(archive: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(member.name, member.type) for member in tar]


def without_sockets(tree: dict[bytes, Entry]) -> dict[bytes, Entry]:
    return {path: entry for path, entry in tree.items() if not stat.S_ISSOCK(entry.mode)}


def apply_slowly(archive: bytes, tree: Path) -> None:
    """What the image-spec says of applying a layer, with nothing of ours."""
    times: dict[bytes, int] = {}
    top = os.fsencode(tree)
    with tarfile.open(
        fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for member in tar:
            path = os.path.join(top, os.fsencode(member.name))
            above, name = os.path.split(path)
            if name.startswith(b".wh."):
                assert (member.type, member.size, member.mode) == (tarfile.REGTYPE, 0, 0)
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
                assert not member.pax_headers.keys() - {"path"}
                _clear(os.path.join(above, name.removeprefix(b".wh.")))
                continue
            if not (member.isdir() and os.path.isdir(path) and not os.path.islink(path)):
                _clear(path)
                _make(tar, member, path, top)
            if member.islnk():
                continue
            _set(member, path)
            times[path] = _nanoseconds(member)
    for path, time in times.items():
        os.utime(path, ns=(time, time), follow_symlinks=False)


def _clear(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, path: bytes, top: bytes) -> None:
    kinds = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK}
    if member.isdir():
        os.mkdir(path)
    elif member.isreg():
        body = tar.extractfile(member)
        assert body is not None
        with body, open(path, "xb") as file:
            shutil.copyfileobj(body, file)
    elif member.islnk():
        os.link(os.path.join(top, os.fsencode(member.linkname)), path, follow_symlinks=False)
    elif member.issym():
        os.symlink(os.fsencode(member.linkname), path)
    else:
        device = os.makedev(member.devmajor, member.devminor)
        os.mknod(path, 0o600 | kinds.get(member.type, stat.S_IFIFO), device)


def _set(member: tarfile.TarInfo, path: bytes) -> None:
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    prefix = "SCHILY.xattr."
    wanted = {
        key.removeprefix(prefix): os.fsencode(value)
        for key, value in member.pax_headers.items()
        if key.startswith(prefix)
    }
    for name in set(os.listxattr(path, follow_symlinks=False)) - wanted.keys():
        os.removexattr(path, name, follow_symlinks=False)
    for name, value in wanted.items():
        os.setxattr(path, name, value, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode)


def _nanoseconds(member: tarfile.TarInfo) -> int:
    seconds, _, fraction = member.pax_headers.get("mtime", str(int(member.mtime))).partition(".")
    sign = -1 if seconds.startswith("-") else 1
    return int(seconds) * 1_000_000_000 + sign * int(fraction.ljust(9, "0"))
