"""btrfs send, which compares two subvolumes in its own way, names what our changes name."""

import os
import re
import struct
import subprocess
from pathlib import Path

from tests.backends.btrfs_volumes import World
from tests.edits import BLOCKS

PATH_ATTRIBUTES = (15, 16, 17)  # BTRFS_SEND_A_PATH, PATH_TO, PATH_LINK
SUBVOLUME_COMMANDS = (1, 2)  # BTRFS_SEND_C_SUBVOL, SNAPSHOT


def test_send_names_the_same_paths(btrfs_mount: Path) -> None:
    world = World(btrfs_mount)

    def write(tree: Path) -> None:
        for name in ("written", "same", "mode", "gone", "renamed", "linked", "xattr", "times"):
            (tree / name).write_bytes(BLOCKS)
        (tree / "directory/below").mkdir(parents=True)
        (tree / "directory/untouched").touch()

    image = world.image(write)
    container = world.clone(image)
    tree = world.tree(container)
    (tree / "written").write_bytes(b"edited")
    same = (tree / "same").stat()
    (tree / "same").write_bytes(b"\xaa" * len(BLOCKS))
    os.utime(tree / "same", ns=(same.st_atime_ns, same.st_mtime_ns))
    (tree / "mode").chmod(0o600)
    (tree / "gone").unlink()
    (tree / "renamed").rename(tree / "directory/name")
    os.link(tree / "linked", tree / "directory/below/link")
    os.setxattr(tree / "xattr", "user.x", b"1")
    os.utime(tree / "times", ns=(1, 1))
    (tree / "new").mkdir()
    os.mkfifo(tree / "new/fifo")
    committed = world.commit(container)
    told = {path for path, _ in world.changes(image, committed)}
    assert told == sent(world.tree(image), world.tree(committed))


def sent(base: Path, volume: Path) -> set[bytes]:
    """The paths in the stream of btrfs send (linux: fs/btrfs/send.h), but for passing names."""
    command = ["btrfs", "send", "--quiet", "--no-data", "-p", str(base), str(volume)]
    stream = subprocess.run(command, check=True, capture_output=True).stdout
    found, position = set(), len(b"btrfs-stream\0") + 4
    while position < len(stream):
        length, kind, _ = struct.unpack_from("<IHI", stream, position)
        position += 10
        end = position + length
        while position < end:
            attribute, size = struct.unpack_from("<HH", stream, position)
            if kind not in SUBVOLUME_COMMANDS and attribute in PATH_ATTRIBUTES:
                found.add(stream[position + 4 :][:size])
            position += 4 + size
    return {path for path in found if not re.fullmatch(rb"o\d+-\d+-\d+", path)}
