"""Trees for tests, and a slow and plain reading of them to check the fast ones against."""

import hashlib
import os
import socket
import stat
import struct
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ODD_NAMES = (b"a", b"a.b", b"\xff\xfe", b"b", b"a-b", b"new\nline", b"a b")


class Entry(NamedTuple):
    """All of an entry that makes it what it is, as DESIGN.md defines a Change."""

    mode: int
    owner: tuple[int, int]
    size: int | None
    mtime: int
    device: int | None
    target: bytes | None
    xattrs: tuple[tuple[str, bytes], ...]
    content: str | None
    names: frozenset[bytes]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


def entries(root: str | Path) -> dict[bytes, Entry]:
    """Every entry of the tree by its relative path; the root is b""."""
    top = os.fsencode(root)
    paths = [b""]
    for directory, directories, files in os.walk(top):
        inside = os.path.relpath(directory, top)
        for name in directories + files:
            paths.append(name if inside == b"." else inside + b"/" + name)
    names: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for path in paths:
        status = os.lstat(os.path.join(top, path))
        names[status.st_dev, status.st_ino].add(path)
    return {path: _entry(os.path.join(top, path), names) for path in paths}


def _entry(path: bytes, names: dict[tuple[int, int], set[bytes]]) -> Entry:
    status = os.lstat(path)
    mode = status.st_mode
    content = None
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    return Entry(
        mode,
        (status.st_uid, status.st_gid),
        None if stat.S_ISDIR(mode) else status.st_size,
        status.st_mtime_ns,
        status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else None,
        os.readlink(path) if stat.S_ISLNK(mode) else None,
        tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
        content,
        frozenset() if stat.S_ISDIR(mode) else frozenset(names[status.st_dev, status.st_ino]),
    )


def difference(
    base: dict[bytes, Entry] | None, volume: dict[bytes, Entry]
) -> list[tuple[bytes, str]]:
    """What walk must say of two trees, by the letter of DESIGN.md."""
    if base is None:
        return [(path, "added") for path in sorted(volume) if path]
    found = []
    for path in sorted({*base, *volume}):
        if path not in base:
            found.append((path, "added"))
        elif path not in volume:
            parent = path.rpartition(b"/")[0]
            if parent in volume and volume[parent].is_directory:
                found.append((path, "deleted"))
        elif base[path] != volume[path]:
            found.append((path, "modified"))
    return found


def fill(root: str | Path) -> None:
    """Fill the directory with one of everything; devices and foreign owners if we are root."""
    top = Path(root)
    for directory in ("etc", "bin", "var/empty", "var/run", "home/user"):
        (top / directory).mkdir(parents=True)
    (top / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (top / "etc/empty").touch()
    (top / "bin/sh").write_bytes(b"\x7fELF" + bytes(range(256)) * 300)
    (top / "bin/sh").chmod(0o4755)
    os.link(top / "bin/sh", top / "bin/bash")
    os.link(top / "bin/sh", top / "var/another name")
    (top / "bin/self").symlink_to("../../nowhere/../" + "x" * 200)
    os.link(top / "bin/self", top / "etc/linked link", follow_symlinks=False)
    (top / "etc/absolute").symlink_to("/etc")
    os.mkfifo(top / "var/fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as unix:
        # The name is bound through the directory's descriptor, for a socket's path is short.
        directory = os.open(top / "var", os.O_RDONLY)
        unix.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    for name in ODD_NAMES:
        Path(os.fsdecode(os.fsencode(top / "home/user") + b"/" + name)).write_bytes(name)
    with (top / "home/user/sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
        file.truncate(16 << 20)
    os.setxattr(top / "etc/passwd", "user.note", b"\x00binary\xff")
    if os.geteuid() == 0:
        _fill_as_root(top)
    for number, path in enumerate(sorted(top.rglob("*"), key=lambda path: -len(path.parts))):
        time = 1_600_000_000_123_456_789 + number * 1_000_000_007
        os.utime(path, ns=(time, time), follow_symlinks=False)
    os.utime(top, ns=(1, 1))


def _fill_as_root(top: Path) -> None:
    os.mknod(top / "var/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top / "var/disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70000))
    os.chown(top / "home/user", 1000, 100)
    os.chown(top / "bin/self", 1000, 1001, follow_symlinks=False)
    os.chown(top / "var/fifo", 4_000_000_000, 65534)
    (top / "var/empty").chmod(0o3777)
    # security.capability is struct vfs_cap_data, linux/capability.h: cap_net_raw+ep, version 2.
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(top / "bin/sh", "security.capability", capability)
    os.setxattr(top / "var/empty", "trusted.note", b"directory")
    os.setxattr(top / "bin/self", "trusted.note", b"link", follow_symlinks=False)
    os.setxattr(top / "var/fifo", "trusted.note", b"fifo", follow_symlinks=False)
    acl = posix_acl((0x01, 7, -1), (0x02, 5, 1000), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
    os.setxattr(top / "etc/empty", "system.posix_acl_access", acl)
    os.setxattr(top / "home/user", "system.posix_acl_default", acl)


def posix_acl(*rules: tuple[int, int, int]) -> bytes:
    """The value of system.posix_acl_*: tag, permissions and id (linux/posix_acl_xattr.h)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *rule) for rule in rules)
